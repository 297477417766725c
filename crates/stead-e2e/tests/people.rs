//! Who may log in, and how: people and sshd's settings, on a real sshd, there and back.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::listing::Listing;
use stead_e2e::{Small, Stage, wait};

struct People {
    stage: Stage,
    small: Small,
    key: PathBuf,
    public: String,
}

impl People {
    fn new() -> Self {
        let small = Small { has_app: false, ..Small::default() };
        let stage = Stage::with_small(&small, Machine::bookworm());
        let key = stage.lab.folder().join("person");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen can be run").success());
        let public = fs::read_to_string(key.with_extension("pub")).expect("it was made").trim().to_owned();
        Self { stage, small, key, public }
    }

    fn declare(&mut self, extra: &str) {
        self.small.extra = extra.replace("KEY", &self.public);
        self.small.write(&self.stage.project);
    }

    /// What a command says in a new login of this user with the person's key alone; `None`: no login.
    fn login(&self, user: &str, script: &str) -> Option<String> {
        let mut ssh = Command::new("ssh");
        // Without the lab's own configuration, whose key lets root in.
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "IdentitiesOnly=yes"]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-l", user, "-i"])
            .arg(&self.key);
        let address = self.stage.lab.address().to_string();
        let output = ssh.args([&address, script]).stdin(Stdio::null()).output().expect("ssh can be run");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What sshd does by its configuration.
    fn effect(&self, keyword: &str) -> String {
        self.stage.lab.run(&format!("/usr/sbin/sshd -T | grep -i '^{keyword} ' | sort"))
    }

    fn changed(&self, before: &Listing) -> BTreeSet<String> {
        before.changed_by_hand(&Listing::of(&self.stage.lab))
    }
}

const ANNA: &str = r#"
  users.users.anna = {
    description = "Anna Example",
    extraGroups = ["adm", "staff"],
    openssh.authorizedKeys.keys = ["KEY"],
    passwordlessSudo = true,
  },
"#;
const SETTINGS: &str = "services.openssh.settings = { PasswordAuthentication = false, MaxSessions = 7 },";

const OTHERS: &str = r#"
  users.users.berta = {},
  users.users.mara = { openssh.authorizedKeys.keys = ["KEY"], extraGroups = ["adm"] },
  users.users.root.openssh.authorizedKeys.keys = ["KEY"],
"#;

impl People {
    /// Named before anything is touched, with the place.
    fn what_the_server_cannot_have_is_refused(&mut self, before: &Listing) {
        let lab = &self.stage.lab;
        lab.run(
            "cp -p /etc/ssh/sshd_config /root/sshd_config && sed -i '1i MaxAuthTries 3' /etc/ssh/sshd_config &&
            printf 'Match User nobody\\n  X11Forwarding yes\\n' > /etc/ssh/sshd_config.d/own.conf && mkdir /home/paul",
        );
        for (wrong, words) in [
            ("users.users.www-data.extraGroups = [\"adm\"],", "users.users.www-data: is a user of the system"),
            ("users.users.anna.extraGroups = [\"wheel\"],", "there is no group `wheel` on the server"),
            ("users.users.anna.shell = \"/bin/fish\",", "there is no shell /bin/fish"),
            ("users.users.staff = {},", "there is a group of this name"),
            ("users.users.mara.shell = \"/bin/sh\",", "was there before Stead"),
            ("users.users.anna.uid = 1000,", "its number is that of `mara`"),
            ("services.openssh.settings.PermitFun = true,", "Bad configuration option: PermitFun"),
            ("services.openssh.settings.PasswordAuthentication = \"maybe\",", "sshd refuses it"),
            ("services.openssh.settings.MaxAuthTries = 5,", "the first value holds"),
            (
                "services.openssh.settings.X11Forwarding = false,",
                "a `Match` of the server's own configuration sets it too",
            ),
            ("services.openssh.settings.ChallengeResponseAuthentication = false,", "sshd has it by another name"),
            ("users.users.paul = {},", "there is /home/paul on the server"),
            ("system.autoUpgrade = { enable = true, dates = \"at four\" },", "system.autoUpgrade.dates"),
        ] {
            self.declare(wrong);
            self.stage.stead(&["up"]).exits(3).tells(words).tells("--> extra.ncl:");
        }
        self.stage.lab.run(
            "cp -p /root/sshd_config /etc/ssh/sshd_config &&
            rm -r /root/sshd_config /etc/ssh/sshd_config.d/own.conf /home/paul",
        );
        let changed = self.changed(before);
        let own = ["/etc/systemd/system-generators", "/var/lib/stead-acme"];
        assert!(changed.iter().all(|path| own.iter().any(|own| path.starts_with(own))), "{changed:?}");
    }

    fn people_log_in(&mut self) {
        self.declare(&format!("{ANNA} {SETTINGS} {OTHERS}"));
        let plan = self.stage.stead_in_words(&["plan"]).well().stdout;
        for words in [
            "set users.users.anna: as before Stead → Anna Example, in adm, in staff, sudo without a password, 1 key",
            "set services.openssh.settings.PasswordAuthentication: as before Stead → no",
        ] {
            assert!(plan.contains(words), "{words}: {plan}");
        }
        self.stage.stead(&["up"]).well();
        self.all_is_as_declared();
        assert_eq!(self.login("mara", "id -un").as_deref(), Some("mara"));
        assert_eq!(self.login("root", "id -un").as_deref(), Some("root"));
        self.stage.lab.ssh("true").well();
    }

    #[track_caller]
    fn all_is_as_declared(&self) {
        let said = self.login("anna", "id -nG; pwd; sudo -n id -u; getent passwd anna | cut -d: -f5,7");
        assert_eq!(said.as_deref(), Some("anna adm staff\n/home/anna\n0\nAnna Example:/bin/bash"));
        assert_eq!(self.effect("passwordauthentication"), "passwordauthentication no");
        assert_eq!(self.effect("maxsessions"), "maxsessions 7");
        let keys = self.effect("authorizedkeysfile");
        assert!(keys.ends_with("/etc/ssh/authorized_keys.d/%u") && keys.contains(".ssh/authorized_keys"), "{keys}");
    }

    /// A setting that shuts the operator out is taken back, and so is what nobody confirms when the power goes.
    fn a_lockout_is_taken_back(&mut self) {
        let before = Listing::of(&self.stage.lab);
        // Who is made by it goes with it; who goes by it, and was in somebody's group, is there as before.
        self.declare(&format!(
            "{ANNA} users.users.carla = {{ uid = 1700 }}, services.openssh.settings.AllowUsers = [\"anna\"],"
        ));
        self.stage.stead(&["up", "--confirm-deadline", "4"]).exits(4).tells("a fresh login failed");
        self.stage.lab.ssh("true").well();
        self.all_is_as_declared();
        assert_eq!(self.changed(&before), BTreeSet::new());

        // At rest: a power cut in the middle of `useradd` would leave that program's own files behind.
        self.declare(&format!(
            "{ANNA} {SETTINGS} {OTHERS} users.users.carla = {{}}, services.openssh.settings.AllowUsers = [\"anna\"],"
        ));
        let mut trial = self.stage.command(&["up", "--no-confirm", "--confirm-deadline", "60", "--soak", "0"]);
        let mut trial = trial.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("it can be run");
        wait::until("the trial awaits its login", Duration::from_secs(60), || {
            let waits = "grep -qs awaitingLogin $(readlink -f /var/lib/stead/activations/unfinished)/events.jsonl";
            (self.stage.lab.try_run(waits).status == 0).then_some(())
        });
        assert_eq!(self.effect("allowusers"), "allowusers anna");
        self.stage.lab.itself().cut().expect("the lab's power can be cut");
        let _ = trial.kill();
        let _ = trial.wait();
        self.stage.lab.boot();
        wait::until("the operator is let in again", Duration::from_secs(60), || {
            (self.stage.lab.ssh("true").status == 0).then_some(())
        });
        wait::until("the activation has ended", Duration::from_secs(60), || {
            let unfinished = self.stage.lab.try_run("test -L /var/lib/stead/activations/unfinished");
            (unfinished.status != 0).then_some(())
        });
        assert_eq!(self.stage.lab.run("getent passwd carla | wc -l"), "0", "whom the trial made");
        self.all_is_as_declared();
    }

    /// Who is not declared any more is shut out, and going back lets in again. In the end, who has files stays.
    fn people_go_and_come_back(&mut self, before: &Listing) {
        self.login("anna", "echo hers > notes").expect("anna can log in");
        self.stage.lab.run("chage -E 2030-01-01 anna && gpasswd -a mara berta");
        self.declare(SETTINGS);
        self.stage.stead(&["up"]).well();
        let denied = ["anna", "mara", "root"].map(|user| self.login(user, "true"));
        assert_eq!(denied, [const { None }; 3]);
        let seen = self.stage.lab.run(
            "cat /home/anna/notes; id -nG anna; id -nG mara; getent passwd anna berta | cut -d: -f1,7; ls /etc/sudoers.d; \
             ls -d /etc/ssh/authorized_keys.d 2>&1; chage -l anna | grep -i 'account expires'",
        );
        let wanted = "hers\nanna\nmara berta\nanna:/usr/sbin/nologin\nberta:/usr/sbin/nologin\nREADME\n\
             ls: cannot access '/etc/ssh/authorized_keys.d': No such file or directory\nAccount expires\t\t\t\t\t\t: Jan 02, 1970";
        assert_eq!(seen, wanted);
        self.stage.stead(&["rollback"]).well();
        self.all_is_as_declared();
        assert_eq!(self.login("anna", "cat notes").as_deref(), Some("hers"));
        assert!(self.stage.lab.run("chage -l anna").contains("Jan 01, 2030"));

        let left = self.stage.stead(&["leave", "--yes"]).well().json();
        let kept = left["kept"].as_array().expect("a list").iter().filter_map(|kept| kept.as_str()).collect::<Vec<_>>();
        let stays = |name: &str| format!("the user {name}, who cannot log in any more and has files");
        // One has files; of the other's group is somebody else.
        assert_eq!(kept, [stays("anna"), stays("berta")]);
        assert!(self.login("anna", "true").is_none() && self.effect("maxsessions") != "maxsessions 7");
        // The service manager of her sessions ends a while after them.
        wait::until("nothing of hers runs", Duration::from_secs(60), || {
            let remove = "gpasswd -d mara berta; userdel --remove anna && userdel --remove berta";
            (self.stage.lab.try_run(remove).status == 0).then_some(())
        });
        assert_eq!(self.changed(before), BTreeSet::new());

        // Back again, and away with everything.
        self.declare(&format!("{ANNA} {SETTINGS} users.users.berta = {{}},"));
        self.stage.stead(&["up"]).well();
        self.login("anna", "echo again > notes && touch /var/tmp/hers").expect("anna can log in");
        let left = self.stage.stead(&["leave", "--yes", "--with-data"]).well().json();
        assert_eq!(left["kept"], serde_json::json!([stays("anna")]), "a file of hers is somewhere else");
        assert_eq!(self.stage.lab.run("getent passwd anna berta | cut -d: -f1"), "anna");
    }
}

#[test]
fn people_log_in_as_declared_and_go_again() {
    let mut people = People::new();
    people.stage.lab.run("useradd --create-home --password '*' --shell /bin/bash mara && echo mine > /home/mara/notes");
    let before = Listing::of(&people.stage.lab);
    people.what_the_server_cannot_have_is_refused(&before);
    people.people_log_in();
    people.a_lockout_is_taken_back();
    people.people_go_and_come_back(&before);
}
