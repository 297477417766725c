//! PostgreSQL beside apps: ready before them, known to them by their users, changed without losing a row.
//!
//! Real PostgreSQL from Debian's packages, and an app that keeps its visitors in it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage, wait};
use stead_model::name::SettingName;

const UNIT: &str = "stead-postgresql.service";
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const DATA: &str = "/var/lib/stead-state/postgresql";

/// Counts its visitors in its database, and says how many there were, and who it is there.
const APP: &str = r#"import os, psycopg2
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def ask(*questions):
    db = psycopg2.connect(os.environ["DATABASE_URL"])
    with db, db.cursor() as cursor:
        for question in questions:
            cursor.execute(question)
        answer = cursor.fetchone()
    db.close()
    return answer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/add":
            ask("insert into visits default values returning id")
        count, user = ask("select count(*), current_user from visits")
        body = f"{user} {count}".encode()
        self.send_response(503 if "SICK" in os.environ and self.path == "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

# At once, and only once: without the database, the role and its rights the app ends here.
ask("create table if not exists visits (id serial)", "select 1")
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// An app of that program, known by its name and port, with a database of its name.
fn app(name: &str, port: u16, environment: &str) -> String {
    format!(
        r#"
  apps.{name} = {{
    source = inputs.app.path,
    exec = "/usr/bin/python3 -u server.py",
    packages = ["python3", "python3-psycopg2"],
    port = {port},
    database = "{name}",
    environment = {{ {environment} }},
    restart.policy = "no",
    health = {{ path = "/health", deadline = 20 }},
  }},
  services.nginx.virtualHosts."{name}.small".locations."/".proxyPass = "http://127.0.0.1:{port}",
"#
    )
}

/// A server with these options of PostgreSQL, and these apps.
struct Shop {
    stage: Stage,
}

impl Shop {
    fn write(&self, postgresql: &str, apps: &str) {
        let extra = format!("  services.postgresql = {{ enable = true, {postgresql} }},\n{apps}");
        Small { has_app: false, extra, ..Small::default() }.write(&self.stage.project);
        fs::write(self.stage.project.join("app/server.py"), APP).expect("a file can be written");
    }

    /// PostgreSQL's main process: another one, if it was restarted.
    fn process(&self) -> String {
        self.stage.lab.show(UNIT, "MainPID")
    }

    /// Runs one of its programs in its own file system, as a user of the server.
    fn enter(&self, user: &str, command: &str) -> Outcome {
        let enter = "nsenter --target $(systemctl show -P MainPID stead-postgresql) --mount --root";
        self.stage.lab.try_run(&format!("{enter} --setuid $(id -u {user}) --setgid 65534 {PROGRAMS}/{command}"))
    }

    /// Asks the database as its owner.
    fn try_ask(&self, user: &str, question: &str) -> Outcome {
        self.enter(user, &format!("psql -X -h /run/stead/postgresql -U postgres -d postgres -At -c \"{question}\""))
    }

    #[track_caller]
    fn ask(&self, question: &str) -> String {
        self.try_ask("stead-postgresql", question).well().stdout.trim().to_owned()
    }

    #[track_caller]
    fn says(&self, app: &str, path: &str, wanted: &str) {
        let answer = self.stage.get(&format!("{app}.small"), path);
        assert_eq!((answer.status, answer.body.as_str()), (200, wanted));
    }
}

#[test]
fn postgresql_is_ready_before_its_apps_and_no_change_failure_or_power_cut_loses_a_row() {
    let shop = Shop { stage: Stage::new(Machine::bookworm()) };
    let (stage, lab) = (&shop.stage, &shop.stage.lab);
    let first = app("shop", 5000, "");

    // Somebody else's, on the port that is wanted on the network.
    shop.write("enableTCPIP = true", &first);
    lab.run("systemd-run --quiet --unit=foreign systemd-socket-activate --listen=5432 /bin/cat");
    wait::until_is("the foreign server", Duration::from_secs(10), 0, || {
        lab.try_run("ss -Hltn 'sport = 5432' | grep -q .").status
    });
    stage.stead_in_words(&["up"]).exits(3).tells("services.postgresql.enableTCPIP: port 5432 is taken");
    lab.run("systemctl stop foreign");

    // Data of another major version, which nobody may begin without by mistake.
    shop.write("initialScript = \"CREATE ROLE reader;\"", &first);
    lab.run(&format!("mkdir -p {DATA}/14/data && echo 14 >{DATA}/14/data/PG_VERSION"));
    let refused = stage.stead_in_words(&["up"]).exits(3);
    let refused =
        refused.tells("services.postgresql.version: the server has data of PostgreSQL 14").tells("pg_dumpall");
    refused.tells(&format!("mkdir {DATA}/15"));
    assert_eq!(lab.units("stead-postgresql*"), [""; 0]);
    lab.run(&format!("rm -r {DATA}"));

    stage.stead(&["up", "--soak", "0"]).well();
    shop.says("shop", "/", "shop 0");
    shop.says("shop", "/add", "shop 1");
    assert_eq!(shop.ask("select count(*) from pg_roles where rolname = 'reader'"), "1");
    let process = shop.process();
    for unit in [UNIT, "stead-postgresql-setup.service"] {
        lab.run(&format!("systemd-analyze security --no-pager --threshold=15 '{unit}'"));
    }
    let made = "select current_setting('data_checksums'), pg_encoding_to_char(encoding), datcollate from pg_database where datname = 'shop'";
    assert_eq!(shop.ask(made), "on|UTF8|C.UTF-8");
    let sized = "select count(*) from pg_settings where sourcefile ~ 'sizes.conf' and not pending_restart";
    assert_eq!(shop.ask(sized), "7", "all sizes follow the machine");
    assert_eq!(lab.run("ss -Hltn 'sport = 5432'"), "", "nobody listens on the network");
    // Every setting that PostgreSQL reads at a start alone is known as one.
    let at_start = shop.ask("select name from pg_settings where context = 'postmaster'");
    let unknown: BTreeSet<&str> =
        at_start.lines().filter(|name| !name.parse::<SettingName>().expect("it is a name").takes_restart()).collect();
    assert_eq!(unknown, BTreeSet::new());
    // Only root and PostgreSQL itself are its owner.
    let other = shop.try_ask("stead-shop", "select 1");
    assert!(other.status != 0 && other.stderr.contains("Peer authentication failed"), "{other}");

    // Another app, role and setting: nothing is restarted.
    let both = format!("{first}{}", app("stock", 5001, ""));
    let users = "ensureDatabases = [\"extra\"], ensureUsers = [{ name = \"extra\", ensureDBOwnership = true, ensureClauses.createdb = true }], authentication = \"local extra extra trust\",";
    shop.write(&format!("{users} settings.work_mem = \"7MB\""), &both);
    let plan = stage.stead_in_words(&["plan"]).well();
    assert!(plan.stdout.contains("reload stead-postgresql.service") && !plan.stdout.contains("restart"), "{plan}");
    stage.stead(&["up", "--soak", "0"]).well();
    shop.says("stock", "/add", "stock 1");
    shop.says("shop", "/", "shop 1");
    assert_eq!(shop.ask("show work_mem"), "7MB");
    assert_eq!(
        shop.ask("select rolcreatedb, pg_get_userbyid(datdba) from pg_roles, pg_database where rolname = 'extra' and datname = 'extra'"),
        "t|extra"
    );
    let trusted =
        shop.enter("stead-shop", "psql -X -h /run/stead/postgresql -U extra -d extra -At -c 'select current_user'");
    assert_eq!(trusted.well().stdout, "extra\n");
    assert_eq!(shop.process(), process, "never restarted");

    // What PostgreSQL refuses is told before anything is touched.
    let active = || stage.stead(&["status"]).well().text("active");
    let before = active();
    for (setting, words) in [
        ("wrok_mem = \"7MB\"", "services.postgresql.settings.wrok_mem: PostgreSQL refuses it: unrecognized"),
        ("work_mem = \"7 potatoes\"", "services.postgresql.settings.work_mem: PostgreSQL refuses it: invalid value"),
    ] {
        shop.write(&format!("{users} settings.{setting}"), &both);
        stage.stead_in_words(&["up"]).exits(3).tells(words).tells("--> extra.ncl:2:");
    }
    assert_eq!((active(), shop.process()), (before, process.clone()));

    // Other packages, and a setting that is read at a start: a pause that the plan shows.
    let newer = format!("{users} extensions = [\"postgresql-15-ip4r\"], settings.max_connections = 50");
    shop.write(&newer, &both);
    stage.stead(&["update"]).well();
    let plan = stage.stead_in_words(&["plan"]).well();
    assert!(plan.stdout.contains("restart the database, which ends its connections"), "{plan}");
    stage.stead(&["up", "--soak", "0"]).well();
    assert_ne!(shop.process(), process);
    assert_eq!(shop.ask("show max_connections"), "50");
    shop.ask("create extension ip4r");
    shop.says("shop", "/add", "shop 2");

    // A sick app takes everything back but the data.
    shop.write(&newer.replace("50", "60"), &format!("{}{}", app("shop", 5000, "SICK = \"1\""), app("stock", 5001, "")));
    stage.stead(&["up"]).exits(4);
    assert_eq!(shop.ask("show max_connections"), "50");
    shop.says("shop", "/add", "shop 3");

    lab.cut_and_boot();
    wait::until_is("the app after a boot", Duration::from_secs(60), "shop 3".to_owned(), || {
        stead_e2e::http::get(lab.port(80), "shop.small", "/", &[]).map(|answer| answer.body).unwrap_or_default()
    });

    stage.stead(&["rollback"]).well();
    assert_eq!((shop.ask("show max_connections").as_str(), shop.ask("show work_mem").as_str()), ("100", "7MB"));
    shop.says("shop", "/add", "shop 4");
    shop.says("stock", "/", "stock 1");

    // What the refusal of another version says, by hand on the server.
    let dump = lab.run(&format!(
        "nsenter -t $(systemctl show -P MainPID stead-postgresql) -m -r {PROGRAMS}/pg_dumpall -h /run/stead/postgresql -U postgres"
    ));
    assert!(dump.contains("CREATE DATABASE shop") && dump.contains("COPY public.visits"), "{dump}");

    // Without Stead the data stay, and whose they are.
    stage.stead(&["leave", "--yes"]).well();
    lab.run(&format!("test -e {DATA}/15/data/PG_VERSION && id stead-postgresql"));
    assert_eq!(lab.units("stead-*"), [""; 0]);
}
