//! PostgreSQL: its configuration, the units that run it and see to its roles and databases, and what apps are told of it.
//!
//! Promises that no declared name or value becomes other SQL or another line than the one meant; that its data are in no
//! generation; and that a setting which it can read while it runs, a role or a database restarts nothing.

use crate::error::PlanError;
use crate::plan::{Draft, unit_name};
use crate::runtimes::{Mounts, binds_of_host, postgresql_key};
use crate::unit_file::UnitFile;
use crate::users;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use stead_model::generation::{PostgresqlPart, Role, Unit};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{Name, SettingName, SqlName, UserName};
use stead_model::server::{App, DatabaseUser, Postgresql, Server};

/// The server's unit.
const UNIT: &str = "stead-postgresql.service";
/// The unit that makes roles and databases: what needs one of them comes after it.
pub(crate) const SETUP: &str = "stead-postgresql-setup.service";
/// The names of services that these are.
pub(crate) const NAMES: [&str; 2] = ["postgresql", "postgresql-setup"];
/// Whom the data belong to.
const USER: &str = "stead-postgresql";
/// The configuration's folder, in a generation's.
const FOLDER: &str = "postgresql";
/// What follows from the machine, written when PostgreSQL starts.
const SIZES: &str = "/run/stead/postgresql/sizes.conf";

/// Run by PostgreSQL's own runtime, before it starts, after that, and to reload it.
const PREPARE: &str = include_str!("postgresql/prepare.sh");
const SET_UP: &str = include_str!("postgresql/setup.sh");
const RELOAD: &str = include_str!("postgresql/reload.sh");

/// What an app is told of its database, unless it says so itself; `None`: it has none.
pub(crate) fn of_app(
    server: &Server,
    name: &Name,
    app: &App,
) -> Result<Option<Vec<(&'static str, String)>>, PlanError> {
    let Some(database) = &app.database else { return Ok(None) };
    let Some(postgresql) = &server.postgresql else { return Err(PlanError::NoDatabase { app: name.clone() }) };
    let (port, socket) = (postgresql.port(), layout::POSTGRESQL_SOCKET);
    // libpq's manual, section 34.1.1.2: without a host before the name, the parameter says it.
    let mut url = format!("postgresql://{database}@/{database}?host={socket}");
    let mut told =
        vec![("PGDATABASE", database.to_string()), ("PGHOST", socket.to_owned()), ("PGUSER", database.to_string())];
    if port != Postgresql::PORT {
        url.push_str(&format!("&port={port}"));
        told.push(("PGPORT", port.to_string()));
    }
    told.push(("DATABASE_URL", url));
    Ok(Some(told))
}

/// Adds PostgreSQL, if the server has it.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<Option<PostgresqlPart>, PlanError> {
    let server = draft.server;
    let Some(postgresql) = &server.postgresql else { return Ok(None) };
    draft.reserve(&NAMES)?;
    let settings = settings(postgresql)?;
    let configuration = configuration(&settings);
    let (authentication, map) = (authentication(postgresql), ident_map(server, postgresql));
    let sql = setup_sql(server, postgresql);
    let read = Hash::of_value("postgresql configuration", &(&configuration, &authentication, &map));
    let made = Hash::of(sql.as_bytes());
    let files = [
        ("postgresql.conf", configuration),
        ("pg_hba.conf", authentication),
        ("pg_ident.conf", map),
        ("setup.sql", sql),
        ("prepare.sh", PREPARE.to_owned()),
        ("setup.sh", SET_UP.to_owned()),
        ("reload.sh", RELOAD.to_owned()),
    ];
    let script = postgresql.initial_script.clone().map(|script| ("initial.sql", format!("{script}\n")));
    for (name, text) in files.into_iter().chain(script) {
        draft.files.add(&format!("{FOLDER}/{name}"), text);
    }

    let mut mounts = Mounts::standard();
    mounts.folder(layout::GENERATIONS);
    mounts.folder(&state(postgresql));
    let option = "services.postgresql.version";
    let key = postgresql_key(server, postgresql);
    let runtime = draft.runtimes.add(draft.inputs, "PostgreSQL".to_owned(), option, &key, mounts)?;
    publish(draft, UNIT, server_unit(postgresql, &settings, &runtime)?, read);
    publish(draft, SETUP, setup_unit(postgresql, &runtime)?, made);
    let user: UserName = USER.parse().expect("it is a user's name");
    draft.users.insert(user.clone());
    let port = postgresql.enable_tcp_ip.then(|| postgresql.port());
    Ok(Some(PostgresqlPart { runtime, unit: unit_name(UNIT), version: postgresql.version, user, port }))
}

fn publish(draft: &mut Draft<'_>, name: &str, unit: UnitFile, read: Hash) {
    let (name, text) = (unit_name(name), unit.text());
    let digest = Hash::of(text.as_bytes());
    draft.files.add_unit(&name, text, ["multi-user.target"]);
    draft.units.insert(name, Unit { digest, reload_digest: Some(read), role: Role::Database {}, start: true });
}

/// The folder of its state, data in it.
fn state(postgresql: &Postgresql) -> String {
    format!("{}/{}", layout::POSTGRESQL_DATA, postgresql.version)
}

fn programs(postgresql: &Postgresql) -> String {
    format!("/usr/lib/postgresql/{}/bin", postgresql.version)
}

/// A script of the active generation, as a command.
fn script(name: &str) -> String {
    format!("/bin/sh {}/{FOLDER}/{name}", layout::ACTIVE)
}

fn server_unit(
    postgresql: &Postgresql,
    settings: &[(SettingName, String)],
    runtime: &Hash,
) -> Result<UnitFile, PlanError> {
    // What is read at a start alone makes another unit.
    let at_start: Vec<_> = settings.iter().filter(|(name, _)| name.takes_restart()).collect();
    let digest = Hash::of_value("postgresql at a start", &(at_start, PREPARE));
    let mut unit = UnitFile::new(&format!("PostgreSQL, with what it reads at a start ({})", digest.short()));
    unit.section("Unit").line("Description", format!("Stead PostgreSQL {}", postgresql.version));
    unit.line("After", "network.target").line("StartLimitIntervalSec", 0);
    unit.section("Service").line("Type", "notify").line("User", USER);
    let (programs, state, port) = (programs(postgresql), state(postgresql), postgresql.port());
    unit.line("Environment", "LANG=C.UTF-8");
    unit.line("ExecStartPre", format!("{} {programs} {state} {SIZES}", script("prepare.sh")));
    unit.line("ExecStart", format!("{programs}/postgres -D {}/{FOLDER}", layout::ACTIVE));
    unit.line("ExecReload", format!("{} {programs} {port}", script("reload.sh")));
    // "Fast shutdown": sessions end, and all is written (the manual, section 19.5). That takes as long as there is to write; so
    // does what follows a loss of power.
    unit.line("KillMode", "mixed").line("KillSignal", "SIGINT").line("TimeoutStopSec", "5min");
    unit.line("TimeoutStartSec", "infinity").line("Restart", "always").line("RestartSec", 1);
    // One session that took all of the memory is no reason to stop the others (the manual, section 19.4.4).
    unit.line("OOMPolicy", "continue").line("OOMScoreAdjust", -900);
    unit.line("Environment", "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj");
    unit.line("RuntimeDirectory", layout::POSTGRESQL_SOCKET.trim_start_matches("/run/"));
    // What apps have bound is the folder of when they started.
    unit.line("RuntimeDirectoryMode", "0755").line("RuntimeDirectoryPreserve", "yes");
    // Until version 15, processes of its own tell each other by the network how much they do.
    let has_network = postgresql.enable_tcp_ip || postgresql.version < 15;
    surround(&mut unit, postgresql, runtime, has_network)?;
    Ok(unit)
}

fn setup_unit(postgresql: &Postgresql, runtime: &Hash) -> Result<UnitFile, PlanError> {
    let mut unit = UnitFile::new("what makes roles and databases");
    unit.section("Unit").line("Description", "Stead PostgreSQL: roles and databases");
    unit.line("After", UNIT).line("Requires", UNIT).line("PartOf", UNIT).line("StartLimitIntervalSec", 0);
    unit.section("Service").line("Type", "oneshot").line("RemainAfterExit", "yes").line("User", USER);
    let (programs, state, port) = (programs(postgresql), state(postgresql), postgresql.port());
    let command = format!("{} {programs} {state} {}/{FOLDER} {port}", script("setup.sh"), layout::ACTIVE);
    unit.line("Environment", "LANG=C.UTF-8").line("ExecStart", &command).line("ExecReload", &command);
    surround(&mut unit, postgresql, runtime, false)?;
    Ok(unit)
}

/// Where it runs, and what is taken away from it.
fn surround(unit: &mut UnitFile, postgresql: &Postgresql, runtime: &Hash, has_network: bool) -> Result<(), PlanError> {
    unit.line("StateDirectory", state(postgresql).trim_start_matches("/var/lib/")).line("StateDirectoryMode", "0700");
    // Parent folders, never the pointer itself: a bound pointer would go on leading to the old generation.
    let parents = [layout::GENERATIONS, layout::RUN].map(str::to_owned);
    let binds = parents.into_iter().chain(binds_of_host().filter(|bind| bind != layout::NAMES));
    unit.root(runtime, []).words("BindReadOnlyPaths", binds);
    unit.hardening("services.postgresql", &[])?;
    let families = if has_network { "AF_INET AF_INET6 AF_UNIX" } else { "AF_UNIX" };
    unit.line("RestrictAddressFamilies", families).line("CapabilityBoundingSet", "").line("UMask", "0077");
    Ok(())
}

/// All settings in order; of two with one name the later one counts.
fn settings(postgresql: &Postgresql) -> Result<Vec<(SettingName, String)>, PlanError> {
    let addresses = if postgresql.enable_tcp_ip { "*" } else { "" };
    let own = [
        ("data_directory", format!("{}/data", state(postgresql))),
        ("listen_addresses", addresses.to_owned()),
        ("unix_socket_directories", layout::POSTGRESQL_SOCKET.to_owned()),
        // The journal has the time.
        ("log_line_prefix", "[%p] %q%u@%d ".to_owned()),
    ];
    let own = own.map(|(name, value)| (name.parse().expect("it is a setting's name"), value));
    for (name, value) in &postgresql.settings {
        if value.chars().any(char::is_control) {
            let option = format!("services.postgresql.settings.{name}");
            return Err(PlanError::bad(option, value, "has a line break or control character"));
        }
    }
    let declared = postgresql.settings.iter().map(|(name, value)| (name.clone(), value.clone()));
    Ok(own.into_iter().chain(declared).collect())
}

fn configuration(settings: &[(SettingName, String)]) -> String {
    let mut text = format!("# Made by Stead: services.postgresql.settings.\ninclude_if_exists = '{SIZES}'\n");
    for (name, value) in settings {
        // The manual, section 20.1.1.
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        writeln!(text, "{name} = '{value}'").expect("a string takes any text");
    }
    text
}

/// Who may come in how. The first line that fits is the one that counts, and the first of all is Stead's own.
fn authentication(postgresql: &Postgresql) -> String {
    let declared = postgresql.authentication.trim_end();
    format!(
        "# Made by Stead: services.postgresql.authentication.\nlocal all postgres peer map=stead_owner\n{declared}{}local all all peer map=stead\n",
        if declared.is_empty() { "" } else { "\n" }
    )
}

/// Which user of the server may be which role.
fn ident_map(server: &Server, postgresql: &Postgresql) -> String {
    let mut text = "# Made by Stead: services.postgresql.identMap, and the users of apps.\n".to_owned();
    for user in ["root", USER] {
        writeln!(text, "stead_owner {user} postgres").expect("a string takes any text");
    }
    let declared = postgresql.ident_map.trim_end();
    if !declared.is_empty() {
        text.push_str(&format!("{declared}\n"));
    }
    let pairs: BTreeSet<(UserName, &SqlName)> = guests(server)
        .map(|(name, app, database)| (app.user.clone().unwrap_or_else(|| users::of_app(name)), database))
        .collect();
    for (user, role) in pairs {
        writeln!(text, "stead {user} {role}").expect("a string takes any text");
    }
    // Everybody else is the role of their own name.
    text.push_str("stead /^(.*)$ \\1\n");
    text
}

/// Apps that have a database.
fn guests(server: &Server) -> impl Iterator<Item = (&Name, &App, &SqlName)> {
    server.apps.iter().filter_map(|(name, app)| Some((name, app, app.database.as_ref()?)))
}

/// SQL that makes what is missing, for `psql`. Names are such that they need no quotes; they have some, because a word of
/// SQL may be a name too.
fn setup_sql(server: &Server, postgresql: &Postgresql) -> String {
    let of_apps: BTreeSet<&SqlName> = guests(server).map(|(_, _, database)| database).collect();
    let mut roles: BTreeMap<&SqlName, Option<&DatabaseUser>> = of_apps.iter().map(|name| (*name, None)).collect();
    roles.extend(postgresql.users.iter().map(|(name, user)| (name, Some(user))));
    let databases: BTreeSet<&SqlName> = postgresql.databases.iter().chain(of_apps.iter().copied()).collect();

    let mut sql = "-- Made by Stead: roles and databases that have to be there.\n".to_owned();
    let missing = |what: &str, table: &str, column: &str, name: &SqlName| {
        format!("SELECT '{what}' WHERE NOT EXISTS (SELECT FROM pg_catalog.{table} WHERE {column} = '{name}')\\gexec\n")
    };
    for (name, user) in &roles {
        sql.push_str(&missing(&format!("CREATE ROLE \"{name}\" LOGIN"), "pg_roles", "rolname", name));
        let clauses = user.iter().flat_map(|user| &user.clauses);
        let words: Vec<&str> = clauses
            .map(|(clause, is_on)| match clause.words() {
                (word, _) if *is_on => word,
                (_, word) => word,
            })
            .collect();
        if !words.is_empty() {
            sql.push_str(&format!("ALTER ROLE \"{name}\" {};\n", words.join(" ")));
        }
    }
    for name in databases {
        sql.push_str(&missing(&format!("CREATE DATABASE \"{name}\""), "pg_database", "datname", name));
        let is_owned = of_apps.contains(name) || postgresql.users.get(name).is_some_and(|user| user.owns_database);
        if is_owned {
            sql.push_str(&format!("ALTER DATABASE \"{name}\" OWNER TO \"{name}\";\n"));
        }
    }
    sql
}

#[cfg(test)]
mod tests;
