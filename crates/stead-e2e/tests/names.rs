//! PostgreSQL from its packages, and who is who inside services that run.
//!
//! Rows of the design's table "Learned by trying": "PostgreSQL with `PrivateUsers=yes`": app users could not log in
//! by peer; "`/etc/passwd` bound as a file": a user added later was unknown until the restart; "`initdb` in a
//! package tree": it needs `/bin/sh`, which no dependency brings.

use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage, wait};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A server of databases, which anybody may log in to who is a user of the machine by the same name. `initdb` runs
/// other programs by a shell, so that is named.
const DATABASE: &str = r#"
  runtimes.database.packages = ["postgresql-15", "dash"],
  systemd.services.database = {
    runtime = "database",
    wantedBy = ["multi-user.target"],
    serviceConfig = {
      User = "postgres",
      StateDirectory = "database",
      StateDirectoryMode = "0700",
      RuntimeDirectory = "database",
      ExecStartPre = "/bin/sh -c 'test -e /var/lib/database/data/PG_VERSION || @/initdb -D /var/lib/database/data --auth=peer --encoding=UTF8 --locale=C'",
      ExecStart = "@/postgres -D /var/lib/database/data -c listen_addresses= -c unix_socket_directories=/run/database",
    },
  },
"#;

/// A service with a user of its own, from the same packages, that is well when it could log in.
const GUEST: &str = r#"
  systemd.services.guest = {
    runtime = "database",
    wantedBy = ["multi-user.target"],
    after = ["database.service"],
    serviceConfig = {
      Type = "oneshot",
      User = "guest",
      Restart = "on-failure",
      RestartSec = 1,
      BindReadOnlyPaths = "/run/database",
      ExecStart = "@/psql -h /run/database -At -d postgres -c \"select 'logged in as ' || current_user\"",
    },
  },
"#;

/// The service of databases, from inside.
struct Inside<'a>(&'a Stage);

impl Inside<'_> {
    fn property(&self, name: &str) -> String {
        self.0.lab.show("stead-database.service", name)
    }

    /// Runs a command in the service's file system, as a user of the machine.
    fn run(&self, user: &str, command: &str) -> Outcome {
        let process = self.property("MainPID");
        let enter = format!("nsenter --target {process} --mount --root --setuid \"$(id -u {user})\" --setgid 65534");
        self.0.lab.try_run(&format!("{enter} {command}"))
    }

    fn ask(&self, user: &str, question: &str) -> Outcome {
        self.run(user, &format!("{PROGRAMS}/psql -h /run/database -At -d postgres -c '{question}'"))
    }

    /// Whether a user is known there; by the shell alone, because the packages bring no other program for it.
    fn knows(&self, user: &str) -> bool {
        let look =
            format!("/bin/sh -c 'while read -r line; do case $line in {user}:*) exit 7;; esac; done < /etc/passwd'");
        let found = self.run("postgres", &look);
        assert!([0, 7].contains(&found.status), "{found}");
        found.status == 7
    }
}

#[test]
fn postgresql_runs_from_its_packages_and_users_of_later_deploys_log_in_by_peer_without_its_restart() {
    let mut small = Small { has_app: false, extra: DATABASE.replace("@", PROGRAMS), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let inside = Inside(&stage);
    wait::until_is("the database answers its owner", Duration::from_secs(60), "1\n".to_owned(), || {
        inside.ask("postgres", "select 1").stdout
    });
    assert!(inside.ask("postgres", "show server_version_num").well().stdout.starts_with("15"));
    assert_eq!(inside.property("PrivateUsers"), "no");
    let started = inside.property("ExecMainStartTimestampMonotonic");
    inside.ask("postgres", "create role guest login").well();
    assert!(inside.knows("postgres") && !inside.knows("guest"), "nobody of that name yet");

    small.extra += &GUEST.replace("@", PROGRAMS);
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert!(stage.lab.run("journalctl --output=cat --unit=stead-guest").contains("logged in as guest"));
    assert!(inside.knows("guest"));
    let other = inside.run("guest", &format!("{PROGRAMS}/psql -h /run/database -U postgres -d postgres -c 'select 1'"));
    assert!(other.status != 0 && other.stderr.contains("Peer authentication failed"), "{other}");

    // One whom the operator adds by hand is known with the next deploy.
    stage.lab.run("useradd --system visitor");
    assert!(!inside.knows("visitor"));
    small.page = "page two\n".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert!(inside.knows("visitor"));
    assert_eq!(inside.property("ExecMainStartTimestampMonotonic"), started, "never restarted");

    // A boot comes up with all of them.
    stage.lab.cut_and_boot();
    wait::until_is("the database after a boot", Duration::from_secs(60), "1\n".to_owned(), || {
        inside.ask("guest", "select 1").stdout
    });
    assert!(inside.knows("visitor"));
}
