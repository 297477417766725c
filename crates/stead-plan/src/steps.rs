//! What has to happen to get from one generation to another, in order.
//!
//! This is what `stead plan` shows; that the engine does just that is a test of the engine. Promises: nothing is done to a
//! unit that both generations have with the same content; `steps(g, g)` is empty; what visitors use
//! is stopped only after confirmation, unless an app said that it cannot run twice. Compares two
//! descriptions only: never asks a server anything.
//!
//! Neighbouring steps of one kind may be given to systemd together: it orders them by the units'
//! own `After=` and `Requires=`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use stead_model::certificate::Source;
use stead_model::generation::{Generation, Role, Unit};
use stead_model::name::{Domain, Name, UnitName, UserName};
use stead_model::server::{Listen, Strategy};

/// One change on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// Makes a system user, if it is not there.
    AddUser {
        /// The user.
        user: UserName,
    },
    /// Sets something of the machine itself, or lets it be as it was before Stead.
    Set {
        /// The option.
        setting: String,
        /// What it is in the generation that one comes from; `None`: as before Stead.
        from: Option<String>,
        /// What it will be.
        to: Option<String>,
    },
    /// Makes systemd read the units of the new generation.
    ReloadSystemd,
    /// Starts to listen; systemd holds the socket.
    StartSocket {
        /// The socket unit.
        unit: UnitName,
        /// The addresses.
        listen: Vec<Listen>,
    },
    /// Starts the first instance of an app.
    StartApp {
        /// The new instance.
        unit: UnitName,
        /// The app.
        app: Name,
    },
    /// Starts a new instance of an app next to the old one, which goes on answering.
    StartBeside {
        /// The new instance.
        unit: UnitName,
        /// The app.
        app: Name,
        /// What it replaces.
        old: Vec<UnitName>,
    },
    /// Stops the old instance of an app, then starts the new one: the app cannot run twice.
    Replace {
        /// The new instance.
        unit: UnitName,
        /// The app.
        app: Name,
        /// What is stopped first; never empty.
        old: Vec<UnitName>,
    },
    /// Starts a service or timer that is new.
    Start {
        /// The unit.
        unit: UnitName,
    },
    /// Restarts a service or timer that changed.
    Restart {
        /// The unit.
        unit: UnitName,
    },
    /// Makes a service read its configuration again.
    Reload {
        /// The unit.
        unit: UnitName,
    },
    /// Starts or changes a unit of the database, before anything that may use it is started.
    Database {
        /// The unit.
        unit: UnitName,
        /// What is done to it.
        change: DatabaseChange,
    },
    /// Puts the firewall's rules in force, in the place of those before.
    Guard {
        /// The firewall's unit.
        unit: UnitName,
        /// Whether there is one already, whose rules these replace.
        is_change: bool,
    },
    /// Takes the firewall away: every port is open as it is without one.
    Unguard {
        /// The firewall's unit.
        unit: UnitName,
    },
    /// Starts an nginx instance on the shared sockets, then lets the old one drain.
    StartNginx {
        /// The new instance.
        unit: UnitName,
        /// What it takes over from; `None`: nginx did not run.
        old: Option<UnitName>,
    },
    /// Makes nginx serve another configuration, or reach other instances of the apps.
    ReloadNginx {
        /// The instance.
        unit: UnitName,
        /// Why.
        cause: ReloadCause,
    },
    /// Gets a certificate, if the server does not have it from earlier.
    GetCertificate {
        /// The names that it is for.
        names: Vec<Domain>,
        /// The directory of the authority that is asked.
        directory: String,
    },
    /// Stops listening.
    StopSocket {
        /// The socket unit.
        unit: UnitName,
        /// The addresses.
        listen: Vec<Listen>,
    },
    /// Stops what is not needed any more.
    Stop {
        /// The unit.
        unit: UnitName,
        /// Whether it may first end the work that it has.
        end: End,
    },
}

/// What is done to a unit of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DatabaseChange {
    /// It is new.
    Start,
    /// It reads its configuration, or what has to be there, again.
    Reload,
    /// It is started anew: its programs or a setting that takes it changed.
    Restart,
    /// What makes roles and databases is run again: nobody is connected to it.
    Again,
}

/// Why nginx is reloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReloadCause {
    /// Its configuration changed.
    Configuration,
    /// An app has a new instance.
    Instances,
}

/// How a unit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// It keeps its open connections until they are done or its time is over.
    Drains,
    /// It is stopped.
    Stops,
}

/// What people who use the server notice of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pause {
    /// Nothing.
    None,
    /// What the unit does is not done while it stops and starts: seconds.
    Short,
    /// What the unit did is not done any more.
    Ends,
}

/// When a step happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// First, beside all that runs.
    Beside,
    /// Then: the new generation takes over, on trial.
    Switch,
    /// Last, when the new generation is confirmed.
    AfterConfirmation,
}

impl Step {
    /// What people notice of it.
    pub fn pause(&self) -> Pause {
        match self {
            Step::Replace { .. } | Step::Restart { .. } | Step::Database { change: DatabaseChange::Restart, .. } => {
                Pause::Short
            }
            Step::StopSocket { .. } | Step::Stop { end: End::Stops, .. } => Pause::Ends,
            _ => Pause::None,
        }
    }

    /// When it happens. The list of [`steps`] is sorted by it.
    pub fn moment(&self) -> Moment {
        match self {
            Step::AddUser { .. }
            | Step::ReloadSystemd
            | Step::Guard { is_change: false, .. }
            | Step::Database { .. }
            | Step::StartApp { .. }
            | Step::StartBeside { .. } => Moment::Beside,
            Step::StartSocket { .. }
            | Step::Guard { .. }
            | Step::Unguard { .. }
            | Step::Replace { .. }
            | Step::Start { .. }
            | Step::Restart { .. }
            | Step::Reload { .. }
            | Step::StartNginx { .. }
            | Step::ReloadNginx { .. }
            | Step::Set { .. }
            | Step::GetCertificate { .. } => Moment::Switch,
            Step::StopSocket { .. } | Step::Stop { .. } => Moment::AfterConfirmation,
        }
    }

    /// The unit that it acts on first, if it acts on one.
    pub fn unit(&self) -> Option<&UnitName> {
        match self {
            Step::AddUser { .. } | Step::Set { .. } | Step::ReloadSystemd | Step::GetCertificate { .. } => None,
            Step::StartSocket { unit, .. }
            | Step::Guard { unit, .. }
            | Step::Database { unit, .. }
            | Step::Unguard { unit }
            | Step::StartApp { unit, .. }
            | Step::StartBeside { unit, .. }
            | Step::Replace { unit, .. }
            | Step::Start { unit }
            | Step::Restart { unit }
            | Step::Reload { unit }
            | Step::StartNginx { unit, .. }
            | Step::ReloadNginx { unit, .. }
            | Step::StopSocket { unit, .. }
            | Step::Stop { unit, .. } => Some(unit),
        }
    }
}

/// Everything that leads from one generation to the other, in order.
///
/// A generation that differs only in files that no unit reads, or in nothing, needs no step.
pub fn steps(from: &Generation, to: &Generation) -> Vec<Step> {
    let mut steps: Vec<Step> =
        to.users.difference(&from.users).map(|user| Step::AddUser { user: user.clone() }).collect();
    if !same_units(from, to) {
        steps.push(Step::ReloadSystemd);
    }
    let (replaced, beside): (Vec<Step>, Vec<Step>) =
        new_instances(from, to).into_iter().partition(|step| step.moment() == Moment::Switch);
    // Before anything that the new generation starts: it may listen for anybody.
    let guard = guard(from, to).into_iter();
    steps.extend(guard.clone().filter(|step| step.moment() == Moment::Beside));
    steps.extend(database(from, to));
    steps.extend(beside);
    steps.extend(settings(from, to));
    steps.extend(guard.clone().filter(|step| matches!(step, Step::Guard { is_change: true, .. })));
    steps.extend(replaced);
    steps.extend(changed_services(from, to));
    // The first connection on a socket starts nginx, which has to find every app's upstream.
    steps.extend(new_sockets(from, to));
    steps.extend(nginx(from, to));
    steps.extend(guard.filter(|step| matches!(step, Step::Unguard { .. })));
    steps.extend(certificates(from, to));
    let gone = stopped(from, to, &steps);
    steps.extend(gone);
    steps
}

/// What a step does, in words for people; without a pause that it may cause.
pub fn describe(step: &Step) -> String {
    match step {
        Step::AddUser { user } => format!("add the system user {user}"),
        Step::Set { setting, from, to } => {
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "as before Stead".to_owned());
            format!("set {setting}: {} → {}", word(from), word(to))
        }
        Step::ReloadSystemd => "hand the new units to systemd".to_owned(),
        Step::StartSocket { unit, listen } => format!("listen on {} ({unit})", addresses(listen)),
        Step::StartApp { unit, app } => format!("start {app} ({unit})"),
        Step::StartBeside { unit, app, .. } => format!("start the new {app} beside the old one ({unit})"),
        Step::Replace { unit, app, .. } => format!("stop the old {app}, start the new one ({unit})"),
        Step::Start { unit } => format!("start {unit}"),
        Step::Restart { unit } => format!("restart {unit}"),
        Step::Reload { unit } => format!("reload {unit}"),
        Step::Database { unit, change: DatabaseChange::Start } => format!("start {unit}"),
        Step::Database { unit, change: DatabaseChange::Reload } => format!("reload {unit}"),
        Step::Database { unit, change: DatabaseChange::Again } => format!("see to roles and databases ({unit})"),
        Step::Database { unit, change: DatabaseChange::Restart } => {
            format!("restart the database, which ends its connections ({unit})")
        }
        Step::Guard { unit, is_change: false } => format!("put the firewall in force ({unit})"),
        Step::Guard { unit, is_change: true } => format!("change the firewall's rules, all at once ({unit})"),
        Step::Unguard { unit } => format!("take the firewall away ({unit})"),
        Step::StartNginx { unit, old: None } => format!("start nginx ({unit})"),
        Step::StartNginx { unit, old: Some(_) } => {
            format!("start the new nginx on the same sockets, let the old one drain ({unit})")
        }
        Step::ReloadNginx { cause: ReloadCause::Configuration, .. } => {
            "reload nginx with its new configuration".to_owned()
        }
        Step::ReloadNginx { cause: ReloadCause::Instances, .. } => "point nginx to the new instances".to_owned(),
        Step::GetCertificate { names, directory } => {
            let names: Vec<&str> = names.iter().map(Domain::as_str).collect();
            format!("get the certificate for {}, if it is not there, from {directory}", names.join(", "))
        }
        Step::StopSocket { unit, listen } => format!("stop listening on {} ({unit})", addresses(listen)),
        Step::Stop { unit, end: End::Drains } => format!("let {unit} drain and end"),
        Step::Stop { unit, end: End::Stops } => format!("stop {unit}"),
    }
}

fn addresses(listen: &[Listen]) -> String {
    let all: Vec<String> = listen
        .iter()
        .map(|listen| match listen.address.strip_prefix("unix:") {
            Some(_) => listen.address.clone(),
            None => format!("{}:{}", listen.address, listen.port),
        })
        .collect();
    if all.is_empty() { "a socket of Stead's own".to_owned() } else { all.join(" and ") }
}

fn same_units(one: &Generation, other: &Generation) -> bool {
    let digests = |generation: &Generation| -> Vec<_> {
        generation.units.iter().map(|(name, unit)| (name.clone(), unit.digest)).collect()
    };
    digests(one) == digests(other)
}

/// Settings of the machine that differ.
fn settings(from: &Generation, to: &Generation) -> Vec<Step> {
    let (old, new) = (from.host.settings(), to.host.settings());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = |name: &&String| old.get(*name) != new.get(*name);
    let step = |name: &String| {
        let (from, to) = (old.get(name).cloned(), new.get(name).cloned());
        Step::Set { setting: name.clone(), from, to }
    };
    names.into_iter().filter(differs).map(step).collect()
}

/// Units that activation starts, and whose name and content `other` does not have, or did not start.
fn fresh<'a>(wanted: &'a Generation, other: &'a Generation) -> impl Iterator<Item = (&'a UnitName, &'a Unit)> {
    wanted
        .units
        .iter()
        .filter(|(_, unit)| unit.start)
        .filter(|(name, unit)| other.units.get(*name).is_none_or(|known| known.digest != unit.digest || !known.start))
}

/// The firewall that a generation starts.
fn firewall(generation: &Generation) -> Option<(&UnitName, &Unit)> {
    generation.units.iter().find(|(_, unit)| unit.start && matches!(unit.role, Role::Firewall {}))
}

fn guard(from: &Generation, to: &Generation) -> Option<Step> {
    match (firewall(from), firewall(to)) {
        (None, Some((unit, _))) => Some(Step::Guard { unit: unit.clone(), is_change: false }),
        (Some((_, known)), Some((unit, wanted))) if known != wanted => {
            Some(Step::Guard { unit: unit.clone(), is_change: true })
        }
        (Some((unit, _)), None) => Some(Step::Unguard { unit: unit.clone() }),
        _ => None,
    }
}

/// The server before what needs it.
fn database(from: &Generation, to: &Generation) -> Vec<Step> {
    let units = to.units.iter().rev().filter(|(_, unit)| unit.start && matches!(unit.role, Role::Database {}));
    let serves = |name: &UnitName| to.postgresql.as_ref().is_some_and(|part| part.unit == *name);
    let step = |(name, unit): (&UnitName, &Unit)| {
        let change = match from.units.get(name) {
            Some(known) if known.start && known.digest != unit.digest && serves(name) => DatabaseChange::Restart,
            Some(known) if known.start && known.digest != unit.digest => DatabaseChange::Again,
            Some(known) if known.start && known.reload_digest != unit.reload_digest => DatabaseChange::Reload,
            Some(known) if known.start => return None,
            _ => DatabaseChange::Start,
        };
        Some(Step::Database { unit: name.clone(), change })
    };
    units.filter_map(step).collect()
}

fn new_sockets(from: &Generation, to: &Generation) -> Vec<Step> {
    let new = |(name, _): &(&UnitName, &Unit)| !from.units.contains_key(*name);
    fresh(to, from)
        .filter(new)
        .filter_map(|(name, unit)| match &unit.role {
            Role::Socket { listen } => Some(Step::StartSocket { unit: name.clone(), listen: listen.clone() }),
            _ => None,
        })
        .collect()
}

fn new_instances(from: &Generation, to: &Generation) -> Vec<Step> {
    fresh(to, from)
        .filter_map(|(name, unit)| match &unit.role {
            Role::App { app, strategy, .. } => Some((name.clone(), app, *strategy)),
            _ => None,
        })
        .map(|(unit, app, strategy)| {
            let old = instances_of(from, app).filter(|old| **old != unit).cloned().collect::<Vec<_>>();
            let app = app.clone();
            match (old.is_empty(), strategy) {
                (true, _) => Step::StartApp { unit, app },
                (false, Strategy::Beside) => Step::StartBeside { unit, app, old },
                (false, Strategy::Restart) => Step::Replace { unit, app, old },
            }
        })
        .collect()
}

fn instances_of<'a>(generation: &'a Generation, wanted: &'a Name) -> impl Iterator<Item = &'a UnitName> {
    let of_app = move |unit: &Unit| unit.start && matches!(&unit.role, Role::App { app, .. } if app == wanted);
    generation.units.iter().filter(move |(_, unit)| of_app(unit)).map(|(name, _)| name)
}

/// Services first, then the timers that may start them.
fn changed_services(from: &Generation, to: &Generation) -> Vec<Step> {
    let changed = |timers: bool| {
        to.units
            .iter()
            .filter(move |(_, unit)| {
                unit.start && matches!((&unit.role, timers), (Role::Service {}, false) | (Role::Timer {}, true))
            })
            .filter_map(|(name, unit)| {
                let name = name.clone();
                match from.units.get(&name) {
                    Some(known) if known.start && known.digest != unit.digest => Some(Step::Restart { unit: name }),
                    Some(known) if known.start && known.reload_digest != unit.reload_digest => {
                        Some(Step::Reload { unit: name })
                    }
                    Some(known) if known.start => None,
                    _ => Some(Step::Start { unit: name }),
                }
            })
    };
    changed(false).chain(changed(true)).collect()
}

fn nginx(from: &Generation, to: &Generation) -> Option<Step> {
    let wanted = to.nginx.as_ref()?;
    let unit = wanted.unit.clone();
    let Some(known) = from.nginx.as_ref().filter(|known| known.unit == wanted.unit) else {
        return Some(Step::StartNginx { unit, old: from.nginx.as_ref().map(|known| known.unit.clone()) });
    };
    let has_new_instance = fresh(to, from).any(|(_, unit)| matches!(unit.role, Role::App { port: Some(_), .. }));
    if known.configuration != wanted.configuration {
        Some(Step::ReloadNginx { unit, cause: ReloadCause::Configuration })
    } else if has_new_instance {
        Some(Step::ReloadNginx { unit, cause: ReloadCause::Instances })
    } else {
        None
    }
}

/// Certificates that the other generation does not ask for in the same way.
fn certificates(from: &Generation, to: &Generation) -> Vec<Step> {
    let new = to.certificates.iter().filter(|(name, wanted)| from.certificates.get(*name) != Some(*wanted));
    new.filter_map(|(_, wanted)| match &wanted.source {
        Source::Authority(authority) => {
            Some(Step::GetCertificate { names: wanted.names.clone(), directory: authority.directory.clone() })
        }
        Source::Files(_) => None,
    })
    .collect()
}

/// Timers first, so that nothing is started again; sockets before those who serve them, for the
/// same reason; then everything else that the other generation does not have or does not start.
fn stopped(from: &Generation, to: &Generation, before: &[Step]) -> Vec<Step> {
    let mut handled: BTreeSet<&UnitName> = BTreeSet::new();
    for step in before {
        match step {
            Step::Replace { old, .. } => handled.extend(old),
            Step::StartNginx { old: Some(old), .. } => drop(handled.insert(old)),
            Step::Unguard { unit } => drop(handled.insert(unit)),
            _ => {}
        }
    }
    let stays = |name: &UnitName, unit: &Unit| to.units.get(name).is_some_and(|other| other.start || !unit.start);
    let mut gone: Vec<(u8, Step)> = from
        .units
        .iter()
        .filter(|(name, unit)| !stays(name, unit) && !handled.contains(*name))
        .map(|(name, unit)| stop(name.clone(), unit))
        .collect();
    gone.sort_by_key(|(order, _)| *order);
    gone.into_iter().map(|(_, step)| step).collect()
}

fn stop(unit: UnitName, known: &Unit) -> (u8, Step) {
    match &known.role {
        Role::Timer {} => (0, Step::Stop { unit, end: End::Stops }),
        Role::Socket { listen } => (1, Step::StopSocket { unit, listen: listen.clone() }),
        Role::Nginx {} => (2, Step::Stop { unit, end: End::Drains }),
        Role::App { .. } => (3, Step::Stop { unit, end: End::Drains }),
        Role::Service {} | Role::Database {} | Role::Firewall {} => (4, Step::Stop { unit, end: End::Stops }),
    }
}

#[cfg(test)]
mod tests;
