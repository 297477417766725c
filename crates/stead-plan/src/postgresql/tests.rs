//! What a declaration of PostgreSQL becomes, and what of a change restarts it.

use super::*;
use crate::steps::{DatabaseChange, Pause, Step, steps};
use crate::testing::{Fixture, everything, file, is_whole};
use stead_model::server::Clause;

fn plain() -> Postgresql {
    Postgresql {
        version: 15,
        debian: None,
        extensions: Vec::new(),
        databases: BTreeSet::new(),
        users: BTreeMap::new(),
        settings: BTreeMap::new(),
        authentication: String::new(),
        ident_map: String::new(),
        initial_script: None,
        enable_tcp_ip: false,
    }
}

/// Two sites, whose app has the database `tracker`.
fn fixture() -> Fixture {
    let mut fixture = Fixture::two_sites();
    fixture.server.postgresql = Some(plain());
    fixture.app().database = Some("tracker".parse().unwrap());
    fixture.pin(&["coreutils", "dash", "postgresql-15"]);
    fixture
}

fn set(fixture: &mut Fixture, name: &str, value: &str) {
    let postgresql = fixture.server.postgresql.as_mut().unwrap();
    postgresql.settings.insert(name.parse().unwrap(), value.to_owned());
}

/// What is done to the database's units, and what visitors notice.
fn changes(from: &Fixture, to: &Fixture) -> Vec<(String, DatabaseChange, Pause)> {
    let steps = steps(&from.plan().generation, &to.plan().generation);
    let change = |step: &Step| match step {
        Step::Database { unit, change } => Some((unit.to_string(), *change, step.pause())),
        _ => None,
    };
    steps.iter().filter_map(change).collect()
}

#[test]
fn it_becomes_these_files() {
    let mut fixture = fixture();
    let postgresql = fixture.server.postgresql.as_mut().unwrap();
    postgresql.databases = ["stock", "tracker"].map(|name| name.parse().unwrap()).into();
    let clauses = [(Clause::Createdb, true), (Clause::Superuser, false)].into();
    postgresql.users = [
        ("stock".parse().unwrap(), DatabaseUser { owns_database: true, clauses }),
        ("anna".parse().unwrap(), DatabaseUser::default()),
    ]
    .into();
    postgresql.authentication = "host all all 192.0.2.0/24 scram-sha-256".to_owned();
    postgresql.ident_map = "colleagues anna stock".to_owned();
    postgresql.initial_script = Some("CREATE ROLE reader;".to_owned());
    postgresql.enable_tcp_ip = true;
    set(&mut fixture, "work_mem", "16MB");
    set(&mut fixture, "application_name", "it's a \\ test");
    let planned = fixture.plan();
    assert!(is_whole(&planned));
    let all = everything(&planned);
    let is_meant = |file: &&str| {
        let name = file.lines().next().unwrap_or_default();
        (name.contains("postgresql") || name.contains("bill-tracker@"))
            && !name.contains(".sh")
            && !name.contains(" -> ")
    };
    let files: Vec<&str> = all.split("==== ").filter(is_meant).collect();
    insta::assert_snapshot!(files.join("==== "));
    let part = planned.generation.postgresql.unwrap();
    assert_eq!((part.version, part.port), (15, Some(Postgresql::PORT)));
}

#[test]
fn what_postgresql_can_read_while_it_runs_restarts_nothing() {
    let before = fixture();
    assert_eq!(changes(&before, &before), []);
    let (server, setup) = (UNIT.to_owned(), SETUP.to_owned());
    let mut after = before.clone();
    set(&mut after, "work_mem", "16MB");
    assert_eq!(changes(&before, &after), [(server.clone(), DatabaseChange::Reload, Pause::None)]);

    let mut after = before.clone();
    set(&mut after, "max_connections", "50");
    assert_eq!(changes(&before, &after), [(server.clone(), DatabaseChange::Restart, Pause::Short)]);

    let mut after = before.clone();
    after.server.postgresql.as_mut().unwrap().databases = ["stock".parse().unwrap()].into();
    assert_eq!(changes(&before, &after), [(setup.clone(), DatabaseChange::Reload, Pause::None)]);

    // A second app logs in as a user of its own.
    let mut after = before.clone();
    let mut other = after.app().clone();
    (other.port, other.database) = (None, Some("other".parse().unwrap()));
    (other.build, other.health, other.exec) = (None, None, "bin/run".to_owned());
    other.source = "/@stead/inputs/billtracker".to_owned();
    after.server.apps.insert("other".parse().unwrap(), other);
    let reload = [server.clone(), setup.clone()].map(|unit| (unit, DatabaseChange::Reload, Pause::None));
    assert_eq!(changes(&before, &after), reload);

    // A minor version is another runtime.
    let mut after = before.clone();
    let key = "coreutils dash postgresql-15";
    let runtime = after.lock.runtimes.iter_mut().find(|(name, _)| key.split(' ').all(|package| name.contains(package)));
    runtime.unwrap().1.packages[2].sha256 = stead_model::hash::Sha256::of(b"a newer one");
    let restart = [(server, DatabaseChange::Restart, Pause::Short), (setup, DatabaseChange::Again, Pause::None)];
    assert_eq!(changes(&before, &after), restart);
}

#[test]
fn the_database_is_changed_before_the_app_that_needs_it_starts() {
    let mut plain = Fixture::two_sites();
    plain.pin(&["coreutils", "dash", "postgresql-15"]);
    let steps = steps(&plain.plan().generation, &fixture().plan().generation);
    let at = |is_it: &dyn Fn(&Step) -> bool| steps.iter().position(is_it).unwrap();
    let server = at(&|step| matches!(step, Step::Database { unit, .. } if unit.as_str() == UNIT));
    let setup = at(&|step| matches!(step, Step::Database { unit, .. } if unit.as_str() == SETUP));
    let app = at(&|step| matches!(step, Step::StartBeside { .. }));
    assert!(server < setup && setup < app, "{steps:#?}");
}

#[test]
fn an_app_that_says_its_database_itself_is_not_told_another_one() {
    let mut fixture = fixture();
    fixture.app().environment.insert("DATABASE_URL".parse().unwrap(), "postgres:///own".to_owned());
    set(&mut fixture, "port", "5433");
    let unit = file(&fixture.plan(), "units/stead-bill-tracker@", ".service");
    assert!(
        unit.contains("Environment=\"DATABASE_URL=postgres:///own\"\n") && !unit.contains("postgresql://"),
        "{unit}"
    );
    assert!(unit.contains("\"PGPORT=5433\"") && unit.contains("\"PGUSER=tracker\""), "{unit}");
}

#[test]
fn names_of_steads_own_are_refused_and_a_database_needs_postgresql() {
    let mut taken = fixture();
    let app = taken.server.apps.remove("bill-tracker").unwrap();
    taken.server.apps.insert("postgresql".parse().unwrap(), app);
    taken.releases = taken.releases.into_values().map(|tree| ("postgresql".parse().unwrap(), tree)).collect();
    assert_eq!(taken.error(), "apps.postgresql: the name is used by Stead itself");
    let mut none = fixture();
    none.server.postgresql = None;
    assert_eq!(none.error(), "apps.bill-tracker.database: services.postgresql is not enabled");
    let mut broken = fixture();
    set(&mut broken, "application_name", "a\nlisten_addresses = '*'");
    assert!(broken.error().starts_with("services.postgresql.settings.application_name: "), "{}", broken.error());
}

/// Runs [`PREPARE`] where there are data, on a machine with this memory (KiB), control groups and cores; the sizes.
#[expect(clippy::disallowed_types, reason = "planning runs nothing; this test asks the shell that the text is for")]
fn sizes(memory: u64, groups: &[(&str, &str)], cores: u32) -> BTreeMap<String, String> {
    use std::process::Command;
    let mut script = r#"set -eu
        here=$(mktemp -d); trap 'rm -rf "$here"' EXIT; cd "$here"
        write() { mkdir -p "${1%/*}"; printf '%s\n' "$2" >"$1"; }
        write state/data/PG_VERSION 15
        write ./cgroup '4:memory:/a/b
1:name=systemd:/x
0::/system.slice/p.service'
        write ./meminfo "MemFree: 1 kB
MemTotal:  $2 kB"
"#
    .to_owned();
    groups.iter().for_each(|(path, text)| script.push_str(&format!("write groups/{path} {text}\n")));
    script.push_str(
        "CORES=$3 MEMINFO=meminfo CGROUP=cgroup GROUPS_ROOT=groups sh -c \"$1\" sh /none state sizes\ncat sizes\n",
    );
    let (memory, cores) = (memory.to_string(), cores.to_string());
    let output = Command::new("/bin/sh").args(["-c", &script, "sh", PREPARE, &memory, &cores]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn sizes_follow_the_memory_that_there_is_for_it_and_the_cores() {
    let small = sizes(1_000_000, &[], 1);
    let of = |name: &str| small[name].as_str();
    assert_eq!((of("shared_buffers"), of("effective_cache_size"), of("work_mem")), ("125000kB", "500000kB", "4096kB"));
    assert_eq!((of("max_worker_processes"), of("max_parallel_workers_per_gather")), ("8", "0"));

    // A limit of any group above it counts, in both kinds of groups; one that is none does not.
    let unlimited =
        [("system.slice/p.service/memory.max", "max"), ("memory/a/memory.limit_in_bytes", "9223372036854771712")];
    assert_eq!(sizes(8_000_000, &unlimited, 16)["shared_buffers"], "1000000kB");
    let limited = [("system.slice/memory.max", "2147483648")];
    assert_eq!(sizes(8_000_000, &limited, 16)["shared_buffers"], "262144kB");
    let limited = [("memory/a/b/memory.limit_in_bytes", "1073741824")];
    let both = sizes(8_000_000, &limited, 16);
    assert_eq!((both["shared_buffers"].as_str(), both["max_parallel_workers_per_gather"].as_str()), ("131072kB", "4"));
}
