//! Apps: each becomes one instance, `stead-<app>@<digest>.service`, that runs from its own runtime.
//!
//! The unit does not say its own port: that comes from a file in `/run/stead`, because a new
//! instance runs beside the old one on another port. The digest in its name is that of its text,
//! so a changed app is another unit. Promises that the command is there before anything is sent.

mod command;
#[cfg(test)]
mod tests;

use crate::error::PlanError;
use crate::nginx;
use crate::placeholder::{Used, ids, tree_path};
use crate::plan::{Draft, unit_name};
use crate::postgresql;
use crate::probes;
use crate::runtimes::{Mounts, app_key, binds_of_host};
use crate::secrets::Given;
use crate::unit_file::{UnitFile, check_line};
use crate::users;
use std::collections::{BTreeMap, BTreeSet};
use stead_model::generation::{Role, Unit};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{Name, UnitName};
use stead_model::server::{App, Health, HealthCheck, RestartPolicy, Server};
use stead_model::upstream;

/// Adds every app.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<(), PlanError> {
    check(draft.server)?;
    for (name, app) in in_order(draft)? {
        add_one(draft, name, app)?;
    }
    Ok(())
}

fn check(server: &Server) -> Result<(), PlanError> {
    let mut ports: BTreeMap<u16, &Name> = BTreeMap::new();
    for (name, app) in &server.apps {
        let is_of_database = server.postgresql.is_some() && postgresql::NAMES.contains(&name.as_str());
        if is_of_database || ["nginx", nginx::EPOCH].contains(&name.as_str()) {
            return Err(PlanError::Reserved { option: format!("apps.{name}") });
        }
        if server.services.contains_key(name) {
            return Err(PlanError::SameName { name: name.clone() });
        }
        let asks_port = app.health.as_ref().is_some_and(|health| !matches!(health.check, HealthCheck::Command { .. }));
        if asks_port && app.port.is_none() {
            return Err(PlanError::HealthWithoutPort { app: name.clone() });
        }
        let Some(port) = app.port.map(|port| port.number()) else { continue };
        if let Some(first) = ports.insert(port, name) {
            return Err(PlanError::SamePort { first: first.clone(), second: name.clone(), port });
        }
    }
    Ok(())
}

/// Apps after those that they name, because a unit's text has the names of others in it.
fn in_order<'a>(draft: &Draft<'a>) -> Result<Vec<(&'a Name, &'a App)>, PlanError> {
    let named = |app: &'a App| {
        app.after.iter().chain(&app.requires).chain(&app.wants).filter_map(|unit| draft.references.app(unit))
    };
    let mut waiting: BTreeMap<&Name, &App> = draft.server.apps.iter().collect();
    let mut order: Vec<(&Name, &App)> = Vec::new();
    while let Some((name, _)) = waiting.first_key_value() {
        let ready = waiting.iter().find(|(_, app)| named(app).all(|other| !waiting.contains_key(other)));
        let Some((&ready, _)) = ready else { return Err(PlanError::Circle { app: (*name).clone() }) };
        order.extend(waiting.remove_entry(ready));
    }
    Ok(order)
}

fn add_one(draft: &mut Draft<'_>, name: &Name, app: &App) -> Result<(), PlanError> {
    let release = draft.places.release(name, app)?;
    let mut used: Used<'_> = [(release.id, (release.label.clone(), release.tree))].into();
    let exec_option = format!("apps.{name}.exec");
    let exec = draft.places.resolve(&exec_option, &app.exec, &mut used)?;
    let exec = command::absolute(name, app, &release, &exec)?;
    let user = app.user.clone().unwrap_or_else(|| users::of_app(name));
    let runtime = draft.runtimes.add(
        draft.inputs,
        format!("app {name}"),
        &format!("apps.{name}.packages"),
        &app_key(draft.server, app),
        mounts(name, app),
    )?;

    let mut unit = UnitFile::new(&format!("an instance of the app {name}{}", known_by(app)));
    let option = format!("apps.{name}");
    let given = Given { option: &option, environment: &app.environment, credentials: &app.credentials };
    let database = postgresql::of_app(draft.server, name, app)?;
    let needed = given.needed().into_iter().chain(database.as_ref().map(|_| postgresql::SETUP));
    unit_section(draft, &mut unit, name, app, &needed.collect::<Vec<_>>());
    unit.section("Service").line("Type", "exec");
    unit.line("User", &user);
    if app.port.is_some() {
        unit.line("EnvironmentFile", format!("{}/%n.env", layout::INSTANCES));
    }
    let told = database.into_iter().flatten();
    for (variable, value) in defaults(name, app).into_iter().chain(told) {
        if !app.environment.contains_key(variable) {
            unit.environment(&exec_option, variable, &value)?;
        }
    }
    given.write(draft, &mut unit, &mut used)?;
    unit.line("WorkingDirectory", release.path()).line("ExecStart", exec);
    ending(&mut unit, app);
    limits(&mut unit, name, app)?;
    // The folder, which stays: a socket bound by itself would be the one of before PostgreSQL's latest start.
    let socket = app.database.as_ref().map(|_| layout::POSTGRESQL_SOCKET.to_owned());
    unit.root(&runtime, ids(&used).iter().map(tree_path).chain(binds_of_host()).chain(socket));
    unit.hardening(&format!("apps.{name}.unprotected"), &app.unprotected)?;
    unit.line("RestrictAddressFamilies", "AF_INET AF_INET6 AF_NETLINK AF_UNIX").line("UMask", "0027");
    if user.as_str() != "root" {
        unit.line("CapabilityBoundingSet", "");
    }
    if app.state_directory {
        unit.line("StateDirectory", format!("{}/{name}", state_folder())).line("StateDirectoryMode", "0700");
    }

    let digest = Hash::of(unit.text().as_bytes());
    let instance = unit_name(&format!("stead-{name}@{}.service", digest.short()));
    publish(draft, name, app, &instance, unit.text(), digest);
    if user.as_str() != "root" {
        draft.users.insert(user);
    }
    draft.refer(used);
    Ok(())
}

fn publish(draft: &mut Draft<'_>, name: &Name, app: &App, instance: &UnitName, text: String, digest: Hash) {
    draft.references.learn(name, instance);
    draft.files.add_unit(instance, text, ["multi-user.target"]);
    if let Some(port) = app.port {
        draft.files.add(&format!("run/instances/{instance}.env"), format!("{}={port}\n", app.port_variable));
        draft.files.add(&format!("run/upstreams/{name}.conf"), upstream::text(name, port, None));
    }
    let role = Role::App {
        app: name.clone(),
        port: app.port,
        port_variable: app.port_variable.to_string(),
        health: health(draft.server, app),
        strategy: app.strategy,
        drain: app.drain,
    };
    draft.units.insert(instance.clone(), Unit { digest, reload_digest: None, role, start: true });
}

/// The app's health check; one over HTTP asks by the name of the site that leads to the app.
fn health(server: &Server, app: &App) -> Option<Health> {
    let mut health = app.health.clone()?;
    if let HealthCheck::Http { host, .. } = &mut health.check
        && host.is_none()
    {
        *host = probes::host_of_app(server, app);
    }
    Some(health)
}

/// Where the state folders of apps are, as `StateDirectory=` counts: below `/var/lib`.
fn state_folder() -> &'static str {
    layout::SERVICE_STATE.trim_start_matches("/var/lib/")
}

/// A changed port is a changed unit, although the unit gets its port from elsewhere.
fn known_by(app: &App) -> String {
    app.port.map(|port| format!(", known by port {port} ({})", app.port_variable)).unwrap_or_default()
}

fn mounts(name: &Name, app: &App) -> Mounts {
    let mut mounts = Mounts::standard();
    if app.state_directory {
        mounts.folder(&format!("{}/{name}", layout::SERVICE_STATE));
    }
    mounts
}

fn unit_section(draft: &Draft<'_>, unit: &mut UnitFile, name: &Name, app: &App, needed: &[&str]) {
    let named =
        |units: &[UnitName]| -> BTreeSet<String> { units.iter().map(|unit| draft.references.unit(unit)).collect() };
    let mut after = named(&app.after);
    after.insert("network.target".to_owned());
    after.extend(named(&app.requires));
    after.extend(needed.iter().copied().map(str::to_owned));
    let mut wants = named(&app.wants);
    wants.extend(needed.iter().copied().map(str::to_owned));
    unit.section("Unit").line("Description", format!("Stead app {name}"));
    unit.words("After", after).words("Requires", named(&app.requires)).words("Wants", wants);
    // An app that waits for another thing of the server is started again for as long as it takes.
    unit.line("StartLimitIntervalSec", 0);
}

/// Variables that an app has unless it declares them.
fn defaults(name: &Name, app: &App) -> [(&'static str, String); 2] {
    let home = if app.state_directory { format!("{}/{name}", layout::SERVICE_STATE) } else { "/tmp".to_owned() };
    [("HOME", home), ("LANG", "C.UTF-8".to_owned())]
}

fn ending(unit: &mut UnitFile, app: &App) {
    let policy = match app.restart.policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::No => "no",
    };
    unit.line("Restart", policy).line("RestartSec", app.restart.delay);
    unit.line("KillSignal", "SIGTERM").line("TimeoutStopSec", app.stop_timeout);
}

fn limits(unit: &mut UnitFile, name: &Name, app: &App) -> Result<(), PlanError> {
    let amounts = [("MemoryMax", "memoryMax", &app.limits.memory_max), ("CPUQuota", "cpuQuota", &app.limits.cpu_quota)];
    for (key, option, value) in amounts {
        let Some(value) = value else { continue };
        let option = format!("apps.{name}.limits.{option}");
        check_line(&option, value)?;
        if value.is_empty() || !value.chars().all(|c| c.is_ascii_alphanumeric() || c == '%' || c == '.') {
            return Err(PlanError::bad(option, value, "is not an amount, such as `512M` or `50%`"));
        }
        unit.line(key, value);
    }
    let counts = [("TasksMax", app.limits.tasks_max), ("LimitNOFILE", app.limits.open_files)];
    for (key, count) in counts {
        if let Some(count) = count {
            unit.line(key, count);
        }
    }
    Ok(())
}
