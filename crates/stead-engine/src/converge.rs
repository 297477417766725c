//! The actions of the table: forward in careful order, back to the parent from wherever one is.
//!
//! Forward: new instances start beside what runs ([`start`]), then visitors are let over
//! ([`switch`]), then everything is watched ([`prove`]), and after confirmation what was replaced
//! goes ([`retire`]). Back ([`restore`]) assumes nothing about how far forward had come: it brings
//! the server to the parent from any state in between, and verifies it. All are safe to repeat.

use crate::effects::{Failure, Pair, Result, Server, UnitState};
use crate::{database, firewall, proof};
use std::collections::BTreeSet;
use stead_model::generation::{Generation, Role, Unit};
use stead_model::name::{Name, Port, UnitName};
use stead_model::server::{Health, Strategy};

/// Units of `wanted` that `other` does not have under the same name and content.
fn different<'a>(wanted: &'a Generation, other: &'a Generation) -> impl Iterator<Item = (&'a UnitName, &'a Unit)> {
    wanted.units.iter().filter(|(name, unit)| other.units.get(*name).is_none_or(|known| known.digest != unit.digest))
}

/// Units of `one` whose name `other` does not have.
fn missing<'a>(one: &'a Generation, other: &'a Generation) -> Vec<&'a UnitName> {
    one.units.keys().filter(|name| !other.units.contains_key(*name)).collect()
}

/// Units that `one` runs and `other` does not: gone, or no longer to be started.
fn not_wanted<'a>(one: &'a Generation, other: &Generation) -> Vec<&'a UnitName> {
    let runs = |generation: &Generation, name: &UnitName| generation.units.get(name).is_some_and(|unit| unit.start);
    let is_gone = |name: &&UnitName| !other.units.contains_key(*name) || runs(one, name) && !runs(other, name);
    one.units.keys().filter(is_gone).collect()
}

fn same_units(one: &Generation, other: &Generation) -> bool {
    one.units.len() == other.units.len() && different(one, other).next().is_none()
}

/// An app's instance in a generation.
struct Instance<'a> {
    unit: &'a UnitName,
    app: &'a Name,
    port: Option<Port>,
    port_variable: &'a str,
    health: Option<&'a Health>,
    strategy: Strategy,
}

fn instance<'a>(name: &'a UnitName, unit: &'a Unit) -> Option<Instance<'a>> {
    match &unit.role {
        Role::App { app, port, port_variable, health, strategy, drain: _ } if unit.start => {
            Some(Instance { unit: name, app, port: *port, port_variable, health: health.as_ref(), strategy: *strategy })
        }
        _ => None,
    }
}

fn instances(generation: &Generation) -> impl Iterator<Item = Instance<'_>> {
    generation.units.iter().filter_map(|(name, unit)| instance(name, unit))
}

pub(crate) fn running(server: &mut impl Server, unit: &UnitName) -> Result<bool> {
    Ok(matches!(server.states(&[unit])?.first(), Some(UnitState::Active { .. })))
}

/// Starts units of which only the missing ones are started; the error carries a unit's last words.
pub(crate) fn bring_up(server: &mut impl Server, units: &[&UnitName]) -> Result<()> {
    let states = server.states(units)?;
    let down: Vec<&UnitName> = units
        .iter()
        .zip(states)
        .filter(|(_, state)| !matches!(state, UnitState::Active { .. }))
        .map(|(unit, _)| *unit)
        .collect();
    if down.is_empty() {
        return Ok(());
    }
    server.start(&down).map_err(|failure| explain(server, &down, failure))
}

/// Adds the last words of the units that are not up to a failure.
fn explain(server: &mut impl Server, units: &[&UnitName], failure: Failure) -> Failure {
    let Ok(states) = server.states(units) else {
        return failure;
    };
    let culprit = units.iter().zip(states).find(|(_, state)| !matches!(state, UnitState::Active { .. }));
    match culprit {
        Some((unit, _)) => did_not_stay(server, unit, "did not come up", Some(failure)),
        None => failure,
    }
}

pub(crate) fn did_not_stay(server: &mut impl Server, unit: &UnitName, what: &str, cause: Option<Failure>) -> Failure {
    let words = server.last_words(unit);
    let cause = cause.map(|failure| format!(": {failure}")).unwrap_or_default();
    let words = if words.trim().is_empty() {
        "it wrote nothing to its log".to_owned()
    } else {
        format!("its last words:\n{}", words.trim())
    };
    Failure(format!("{unit} {what}{cause}\n{words}"))
}

/// Gives an instance its port unless it runs already, starts it, and waits until it is healthy.
fn bring_up_instance(server: &mut impl Server, instance: &Instance<'_>) -> Result<()> {
    if !running(server, instance.unit)?
        && let Some(declared) = instance.port
    {
        server.give_port(instance.unit, instance.port_variable, declared)?;
    }
    bring_up(server, &[instance.unit])?;
    let port = instance.port.and_then(|_| server.instance_port(instance.unit));
    if let Some(health) = instance.health {
        server
            .await_health(instance.unit, port, health)
            .map_err(|failure| did_not_stay(server, instance.unit, "is not healthy", Some(failure)))?;
    }
    Ok(())
}

/// The most seconds that an activation may take until it is proved: all that its apps may take to become
/// healthy, its soak, its probes, and what units and nginx may take besides.
fn longest(candidate: &Generation) -> u32 {
    const BESIDES: u32 = 600;
    let deadlines = instances(candidate).filter_map(|instance| instance.health).map(|health| health.deadline / 1000);
    let apps = deadlines.fold(BESIDES, u32::saturating_add).saturating_add(soak(candidate, |_| true) / 1000);
    // Each certificate may take a minute, and several are asked for at a time.
    let certificates = u32::try_from(candidate.certificates.len()).unwrap_or(u32::MAX).saturating_mul(60);
    apps.saturating_add(proof::longest(candidate)).saturating_add(certificates)
}

/// For how many milliseconds those units have to stay up: as long as the most careful of their apps says.
fn soak(candidate: &Generation, is_meant: impl Fn(&UnitName) -> bool) -> u32 {
    let serves =
        |unit: &Unit| matches!(unit.role, Role::App { .. } | Role::Service {} | Role::Database {} | Role::Nginx {});
    let of = |unit: &Unit| match &unit.role {
        Role::App { health: Some(health), .. } => health.soak,
        _ => Health::SOAK,
    };
    let meant = candidate.units.iter().filter(|(name, unit)| serves(unit) && is_meant(name));
    meant.map(|(_, unit)| of(unit)).max().unwrap_or(0)
}

/// Makes the candidate's units known, and starts what can run beside the parent's: new instances of
/// apps, each probed. Visitors notice nothing.
pub fn start(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    server.arm(longest(pair.candidate))?;
    proof::look_before(server, pair.parent)?;
    for user in pair.candidate.users.difference(&pair.parent.users) {
        server.make_user(user)?;
    }
    if have_secrets(pair) {
        server.reveal(pair.candidate, pair.parent)?;
    }
    if let Some(parent_id) = &pair.parent_id {
        for unit in missing(pair.parent, pair.candidate) {
            server.keep_unit(parent_id, unit)?;
        }
    }
    server.activate(Some(&pair.candidate_id))?;
    if !same_units(pair.parent, pair.candidate) {
        server.reload_systemd()?;
    }
    firewall::raise(server, pair)?;
    database::change(server, pair.candidate, pair.parent)?;
    for instance in instances(pair.candidate).filter(|instance| instance.strategy == Strategy::Beside) {
        server.tell(&format!("starting {}", instance.unit));
        bring_up_instance(server, &instance)?;
    }
    Ok(())
}

/// Also where both have the same: what was lost is made again, and what neither has goes.
fn have_secrets(pair: Pair<'_>) -> bool {
    !pair.candidate.secrets.is_empty() || !pair.parent.secrets.is_empty()
}

/// Lets visitors over to the candidate: apps that cannot run twice, services, nginx, timers.
pub fn switch(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    server.await_armed()?;
    if pair.candidate.host != pair.parent.host {
        server.settle(pair.candidate)?;
    }
    firewall::change(server, pair.candidate, pair.parent)?;
    for instance in instances(pair.candidate).filter(|instance| instance.strategy == Strategy::Restart) {
        let old: Vec<&UnitName> = instances(pair.parent)
            .filter(|old| old.app == instance.app && old.unit != instance.unit)
            .map(|old| old.unit)
            .collect();
        if !old.is_empty() {
            server.tell(&format!("restarting {}", instance.app));
            server.stop(&old)?;
        }
        bring_up_instance(server, &instance)?;
    }
    change_services(server, pair.candidate, pair.parent)?;
    lead_visitors(server, pair.candidate, pair.parent, Way::Forward)?;
    firewall::lower(server, pair.candidate, pair.parent)
}

/// Brings services under fixed names, and timers, to what `wanted` says; `other` is what may run now.
fn change_services(server: &mut impl Server, wanted: &Generation, other: &Generation) -> Result<()> {
    let is_service = |unit: &Unit| unit.start && matches!(unit.role, Role::Service {} | Role::Timer {});
    let mut restart = Vec::new();
    let mut reload = Vec::new();
    let mut keep_up = Vec::new();
    for (name, unit) in wanted.units.iter().filter(|(_, unit)| is_service(unit)) {
        match other.units.get(name) {
            Some(known) if known.start && known.digest != unit.digest => restart.push(name),
            Some(known) if known.start && known.reload_digest != unit.reload_digest => reload.push(name),
            _ => keep_up.push(name),
        }
    }
    if !restart.is_empty() {
        server.restart(&restart).map_err(|failure| explain(server, &restart, failure))?;
    }
    if !reload.is_empty() {
        server.reload(&reload)?;
    }
    bring_up(server, &keep_up)
}

/// Where an activation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the candidate; what it replaces goes on for a while.
    Forward,
    /// To the parent; nothing of the candidate stays.
    Back,
}

/// Points nginx to the instances of `wanted`, by reload or by a new instance beside the old one.
fn lead_visitors(server: &mut impl Server, wanted: &Generation, other: &Generation, way: Way) -> Result<()> {
    let mut moved = false;
    for instance in instances(wanted) {
        if let Some(port) = instance.port.and_then(|_| server.instance_port(instance.unit)) {
            // What visitors still have of a release that is replaced may name files that only its instance has.
            let replaced = match instance.strategy {
                Strategy::Beside => instances(other).find(|old| old.app == instance.app && old.unit != instance.unit),
                Strategy::Restart => None,
            };
            let old = replaced.filter(|_| way == Way::Forward).and_then(|old| server.instance_port(old.unit));
            server.point_upstream(instance.app, Some(port), old)?;
            moved |= !other.units.contains_key(instance.unit);
        }
    }
    // Sockets come last before nginx: the first connection on one starts nginx, which has to find every upstream.
    let is_socket = |unit: &Unit| matches!(unit.role, Role::Socket { .. });
    let sockets: Vec<&UnitName> =
        wanted.units.iter().filter(|(_, unit)| is_socket(unit)).map(|(name, _)| name).collect();
    let Some(nginx) = &wanted.nginx else { return bring_up(server, &sockets) };
    let unit = &wanted.units.get(&nginx.unit);
    if unit.is_none() || !running(server, &nginx.unit)? {
        server.tell("starting nginx");
        server.mark_epoch()?;
        bring_up(server, &sockets)?;
        bring_up(server, &[&nginx.unit])?;
        server
            .await_nginx(&nginx.configuration)
            .map_err(|failure| did_not_stay(server, &nginx.unit, "does not answer", Some(failure)))?;
    } else if moved || other.nginx.as_ref().is_none_or(|known| known.configuration != nginx.configuration) {
        server
            .reload_nginx(&nginx.unit, &nginx.configuration)
            .map_err(|failure| did_not_stay(server, &nginx.unit, "did not reload", Some(failure)))?;
    }
    if let Some(old) = other.nginx.as_ref().filter(|old| old.unit != nginx.unit) {
        server.drain_nginx(&old.unit, old.drain)?;
        server.await_nginx(&nginx.configuration)?;
    }
    Ok(())
}

/// Watches the candidate for its soak: every unit stays up and does not start again by itself.
pub fn prove(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    if server.active() != Some(pair.candidate_id) {
        return Err(Failure("another generation became active meanwhile".to_owned()));
    }
    let units: Vec<&UnitName> =
        pair.candidate.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name).collect();
    let fresh: BTreeSet<&UnitName> = different(pair.candidate, pair.parent).map(|(name, _)| name).collect();
    let soak = soak(pair.candidate, |name| fresh.contains(name));
    let before = server.states(&units)?;
    let look = |server: &mut _| -> Result<()> {
        let now = Server::states(server, &units)?;
        for ((unit, before), now) in units.iter().zip(&before).zip(now) {
            if let Some(what) = trouble(*before, now, fresh.contains(unit)) {
                return Err(did_not_stay(server, unit, what, None));
            }
        }
        Ok(())
    };
    let patience = proof::patience(pair);
    if !pair.candidate.certificates.is_empty() {
        // An authority may take its time: not while visitors have a site that does not answer. Whatever certificate it shows.
        let mut sites = pair.candidate.clone();
        sites.probes.retain(|_, probe| probe.is_implicit());
        proof::sites(server, &sites, patience).or_else(|failure| look(server).and(Err(failure)))?;
        if let Some(reason) = server.cancelled() {
            return Err(Failure(reason));
        }
        server.certify(pair.candidate)?;
    }
    server.ask_operator(pair.candidate, patience);
    // A unit that went down is the better word for why a site does not answer.
    proof::sites(server, pair.candidate, patience).or_else(|failure| look(server).and(Err(failure)))?;
    loop {
        look(server)?;
        if let Some(reason) = server.cancelled() {
            return Err(Failure(reason));
        }
        if !server.soak(soak) {
            break;
        }
    }
    for instance in instances(pair.candidate).filter(|instance| fresh.contains(instance.unit)) {
        let port = instance.port.and_then(|_| server.instance_port(instance.unit));
        if let Some(health) = instance.health {
            server
                .await_health(instance.unit, port, health)
                .map_err(|failure| did_not_stay(server, instance.unit, "is not healthy any more", Some(failure)))?;
        }
    }
    match fresh.is_empty() {
        true => Ok(()),
        false => proof::sites(server, pair.candidate, patience),
    }
}

/// What is wrong with a unit during the soak. A unit that was not up before the switch either is
/// not the candidate's fault.
fn trouble(before: UnitState, now: UnitState, fresh: bool) -> Option<&'static str> {
    match (before, now) {
        (_, UnitState::Active { restarts }) if fresh && restarts > 0 => {
            Some("ended and was started again during the soak")
        }
        (UnitState::Active { restarts: before }, UnitState::Active { restarts }) if restarts > before => {
            Some("ended and was started again during the soak")
        }
        (_, UnitState::Active { .. }) => None,
        (UnitState::Active { .. }, _) => Some("ended during the soak"),
        (_, _) if fresh => Some("is not running"),
        _ => None,
    }
}

/// Lets go of what the candidate replaced. Old instances of apps end the requests that they have
/// before they are asked to stop; nothing here waits for that.
pub fn retire(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    // One that cannot be let go keeps none of the others.
    let mut done = Vec::new();
    let mut stop = Vec::new();
    for unit in not_wanted(pair.parent, pair.candidate) {
        match &pair.parent.units[unit].role {
            Role::App { drain, .. } => done.push(server.drain(unit, *drain)),
            Role::Nginx {} => {
                let drain = pair.parent.nginx.as_ref().map_or(0, |nginx| nginx.drain);
                done.push(server.drain_nginx(unit, drain));
            }
            _ => stop.push(unit),
        }
    }
    done.push(server.request_stop(&stop));
    let kept: BTreeSet<&Name> = instances(pair.candidate).map(|instance| instance.app).collect();
    for instance in instances(pair.parent).filter(|instance| !kept.contains(instance.app)) {
        done.push(server.point_upstream(instance.app, None, None));
    }
    done.push(server.release_units());
    done.into_iter().collect()
}

/// Takes back what [`start`] did. No visitor has met the candidate, so nothing of what they use is touched: not even
/// nginx is reloaded. Fails where something else happened meanwhile; [`restore`] is for that.
pub fn withdraw(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    if let Some(unit) = maybe_of_candidate(server, pair)? {
        return Err(Failure(format!("{unit} may have started again meanwhile, as the candidate has it")));
    }
    if database::is_changed(pair.parent, pair.candidate) {
        return Err(Failure("the database was changed, and is used by what runs".to_owned()));
    }
    make_parent_active(server, pair)?;
    let kept: BTreeSet<&Name> = instances(pair.parent).map(|instance| instance.app).collect();
    stop_candidate(server, pair, &kept)?;
    leave_parent_alone(server, pair)
}

/// A service under a fixed name that changed, and may have started again by itself while systemd knew it as the candidate's.
fn maybe_of_candidate<'a>(server: &mut impl Server, pair: Pair<'a>) -> Result<Option<&'a UnitName>> {
    let changed: Vec<&UnitName> = different(pair.parent, pair.candidate)
        .filter(|(name, unit)| unit.start && pair.candidate.units.contains_key(*name))
        .map(|(name, _)| name)
        .collect();
    let states = server.states(&changed)?;
    let never_started_again = |state: &UnitState| matches!(state, UnitState::Active { restarts: 0 });
    Ok(changed.into_iter().zip(states).find(|(_, state)| !never_started_again(state)).map(|(unit, _)| unit))
}

/// Brings the server back to the parent, from wherever the activation had come, and verifies it.
pub fn restore(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    let (parent, candidate) = (pair.parent, pair.candidate);
    make_parent_active(server, pair)?;
    if have_secrets(pair) {
        server.reveal(parent, candidate)?;
    }
    if candidate.host != parent.host {
        server.settle(parent)?;
    }
    firewall::change(server, parent, candidate)?;
    database::change(server, parent, candidate)?;
    for instance in instances(parent) {
        if instance.strategy == Strategy::Restart {
            let newer: Vec<&UnitName> = instances(candidate)
                .filter(|new| new.app == instance.app && new.unit != instance.unit)
                .map(|new| new.unit)
                .collect();
            server.stop(&newer)?;
        }
        bring_up_instance(server, &instance)?;
    }
    change_services(server, parent, candidate)?;
    lead_visitors(server, parent, candidate, Way::Back)?;
    let kept: BTreeSet<&Name> = instances(parent).map(|instance| instance.app).collect();
    stop_candidate(server, pair, &kept)?;
    for instance in instances(candidate).filter(|instance| !kept.contains(instance.app)) {
        server.point_upstream(instance.app, None, None)?;
    }
    leave_parent_alone(server, pair)
}

/// Makes the parent active for systemd again. What only the candidate has stays known until it has ended.
fn make_parent_active(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    for unit in missing(pair.candidate, pair.parent) {
        server.keep_unit(&pair.candidate_id, unit)?;
    }
    server.activate(pair.parent_id.as_ref())?;
    if !same_units(pair.parent, pair.candidate) {
        server.reload_systemd()?;
    }
    Ok(())
}

/// Lets go of what was the candidate's alone, and verifies the parent.
fn leave_parent_alone(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    for user in pair.candidate.users.difference(&pair.parent.users) {
        // One whose instance still drains cannot go yet. Nothing of the parent's is any worse for that.
        if let Err(failure) = server.unmake_user(user) {
            server.tell(&failure.0);
        }
    }
    server.release_units()?;
    verify(server, pair.parent, pair.parent_id.as_ref())
}

/// Stops what only the candidate runs. Visitors that have met a new instance of an app which stays keep it until
/// they are done.
fn stop_candidate(server: &mut impl Server, pair: Pair<'_>, kept: &BTreeSet<&Name>) -> Result<()> {
    let mut stop = Vec::new();
    for unit in not_wanted(pair.candidate, pair.parent) {
        match &pair.candidate.units[unit].role {
            Role::App { app, drain, .. } if kept.contains(app) && running(server, unit)? && server.is_visited(unit) => {
                server.drain(unit, *drain)?;
            }
            _ if firewall::is_it(pair.candidate, unit) => {}
            _ => stop.push(unit),
        }
    }
    server.stop(&stop)?;
    firewall::lower(server, pair.parent, pair.candidate)
}

/// Whether the server runs this generation: units up, apps healthy, nginx answering with it, sites as they were before
/// the switch. A failure tells of each what works and what does not.
pub fn verify(server: &mut impl Server, generation: &Generation, id: Option<&stead_model::hash::Hash>) -> Result<()> {
    if server.active().as_ref() != id {
        return Err(Failure("another generation is active".to_owned()));
    }
    let units: Vec<&UnitName> = generation.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name).collect();
    let states = server.states(&units)?;
    let mut report = proof::Report::default();
    for (unit, state) in units.iter().zip(states) {
        match state {
            UnitState::Active { .. } => report.works(format!("{unit} runs")),
            _ => report.fails(did_not_stay(server, unit, "does not run", None)),
        }
    }
    for instance in instances(generation) {
        let port = instance.port.and_then(|_| server.instance_port(instance.unit));
        let Some(health) = instance.health else { continue };
        match server.await_health(instance.unit, port, health) {
            Ok(()) => report.works(format!("{} is healthy", instance.app)),
            Err(failure) => report.fails(Failure(format!("{} is not healthy: {failure}", instance.unit))),
        }
    }
    if let Some(nginx) = &generation.nginx {
        match server.await_nginx(&nginx.configuration) {
            Ok(()) => report.works("nginx answers with this configuration".to_owned()),
            Err(failure) => report.fails(Failure(format!("nginx: {failure}"))),
        }
    }
    report.probes(server, generation)?;
    report.verdict()
}
