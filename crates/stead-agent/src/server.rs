//! This machine, as the engine may touch it.
//!
//! Every function is one effect, by way of `stead-host` (systemd, users, probes) and `stead-store`
//! (pointers). What it decides by itself is only how long to wait, and which port is free.

use crate::activation::{Folder, Journal, Line};
use crate::visitors::{self, BEAT, place};
use crate::{certificates, hook, host, probes, secrets, stand_in};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stead_engine::effects::{Failure, Login, Patience, Result, Server, UnitState};
use stead_host::run::RunError;
use stead_host::{generator, ports, probe, systemd, users};
use stead_model::activation::Phase;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::hooks::ServerHooks;
use stead_model::layout;
use stead_model::name::{Name, Port, UnitName, UserName};
use stead_model::probe::{Answered, Broken};
use stead_model::server::{Health, HealthCheck};
use stead_remote::message::Event;
use stead_store::{Guard, Store, switch};

/// What the service that takes an activation back by itself is given beyond the operator's own deadline:
/// the activation does so itself, when it is well.
const GRACE_SECONDS: u32 = 5;
/// The word that notes until the next boot that an activation's hook has run.
const HOOKED: &str = "hooked";
/// Time between the first probes of an instance.
const FIRST_PROBES: Duration = Duration::from_millis(50);
/// Time between two questions to systemd about a unit that is watched: each takes processor time
/// that a starting app on a small server needs itself.
const WATCH: Duration = Duration::from_millis(250);

/// The machine that this runs on, during one activation.
pub struct RealServer<'a> {
    store: &'a Store,
    guard: &'a Guard,
    folder: Folder,
    journal: Journal,
    name: Name,
    began: Instant,
    soak_ends: Option<Instant>,
    epoch: u32,
    armed: Armed,
}

/// What systemd was asked to do when the time is over.
#[derive(Default)]
struct Armed {
    times: u32,
    pending: Option<systemd::Pending>,
}

fn words<E: std::error::Error>(error: E) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failure(text)
}

/// Does this with the live names of units.
fn on_live(units: &[&UnitName], act: impl FnOnce(&[&UnitName]) -> std::result::Result<(), RunError>) -> Result<()> {
    let live = stand_in::all_live(units);
    act(&live.iter().collect::<Vec<_>>()).map_err(words)
}

fn instance_file(unit: &UnitName) -> PathBuf {
    Path::new(layout::INSTANCES).join(format!("{unit}.env"))
}

/// The port of an instance, or of what stands in for it.
pub fn instance_port(unit: &UnitName) -> Option<Port> {
    port_in(&instance_file(&stand_in::live(unit)))
}

/// Ports that instances have been given, this one's aside.
pub(crate) fn given_ports(unit: &UnitName) -> Vec<u16> {
    let own = instance_file(unit);
    let files = fs::read_dir(layout::INSTANCES).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = files.filter(|path| *path != own).filter_map(|path| port_in(&path).map(Port::number));
    others.collect()
}

/// The port in an instance's environment file.
fn port_in(path: &Path) -> Option<Port> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| Port::new(line.split_once('=')?.1.trim_matches('"').parse().ok()?))
}

impl<'a> RealServer<'a> {
    /// This machine, called `name` in the project, for the activation in `folder`. The lock is held for as long.
    pub fn new(store: &'a Store, guard: &'a Guard, folder: Folder, journal: Journal, name: Name) -> Self {
        Self {
            store,
            guard,
            folder,
            journal,
            name,
            began: Instant::now(),
            soak_ends: None,
            epoch: 0,
            armed: Armed::default(),
        }
    }

    /// What is worth telling of an activation besides how it ended.
    pub fn notes(&self) -> Vec<String> {
        self.journal.notes.clone()
    }

    /// The activation's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn event(&self, event: Event) {
        self.folder.tell(&Line::Event(event));
    }

    fn generation(&self, id: &Hash) -> PathBuf {
        Path::new(layout::GENERATIONS).join(id.to_string())
    }

    fn unit_failed(&mut self, unit: &UnitName) -> Option<String> {
        let unit = stand_in::live(unit);
        let states = systemd::states(&[&unit]).ok()?;
        let state = states.get(&unit)?;
        let gone = state.active == "failed" || state.restarts > 0 || state.sub == "auto-restart" || state.is_gone();
        gone.then(|| format!("it ended ({}, status {})", state.result, state.status))
    }
}

impl Server for RealServer<'_> {
    fn journal(&mut self, phase: Phase, reason: Option<&str>) -> Result<()> {
        self.journal.record.phase = phase;
        if let Some(reason) = reason {
            self.journal.record.reason = Some(reason.to_owned());
        }
        if phase.is_end() {
            self.journal.record.ended = Some(jiff::Timestamp::now().as_second());
            self.journal.usage = crate::activation::usage();
        }
        self.folder.write(&self.journal).map_err(words)?;
        self.event(Event::Phase(phase));
        Ok(())
    }

    fn record(&mut self) -> Result<()> {
        let id = format!("\"{}\"", self.journal.record.id);
        let history = Path::new(layout::HISTORY);
        let known = fs::read_to_string(history).unwrap_or_default();
        if known.lines().rev().take(20).any(|line| line.contains(&id)) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(&self.journal.record).map_err(words)?;
        line.push(b'\n');
        let append = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(history)?;
            // A line that a power cut tore is ended, so that it spoils only itself.
            if !known.is_empty() && !known.ends_with('\n') {
                file.write_all(b"\n")?;
            }
            file.write_all(&line)?;
            file.sync_all()
        };
        append().map_err(words)
    }

    fn run_hook(&mut self, hooks: &ServerHooks) -> Result<()> {
        let moment = hook::moment(&self.journal.record);
        if self.journal.hook_ran || self.folder.was_told(HOOKED) || !hooks.commands.contains_key(&moment) {
            return Ok(());
        }
        // In memory: where the disk is full it runs once all the same.
        self.folder.say(HOOKED, "").map_err(words)?;
        self.tell(&format!("running the hook {moment}"));
        if let Err(failed) = hook::run(hooks, moment, &self.name, &self.journal.record) {
            self.tell(&failed);
            self.journal.notes.push(failed);
        }
        self.journal.hook_ran = true;
        if let Err(error) = self.folder.write(&self.journal) {
            self.tell(&words(error).0);
        }
        Ok(())
    }

    fn let_go(&mut self) -> Result<()> {
        self.await_armed()?;
        systemd::stop_timers(&self.folder.deadline()).map_err(words)?;
        self.folder.finish();
        Ok(())
    }

    fn arm(&mut self, seconds: u32) -> Result<()> {
        self.await_armed()?;
        self.armed.times += 1;
        // The operator may have asked for a longer soak than is declared.
        let seconds = seconds.saturating_add(self.journal.settings.soak.unwrap_or(0) / 1000);
        let stem = self.armed_as(self.armed.times);
        let agent = crate::serve::agent_path().display().to_string();
        let command = [agent.as_str(), "agent", "expire", self.folder.id()];
        self.armed.pending = Some(systemd::start_later(&stem, &command, seconds).map_err(words)?);
        Ok(())
    }

    fn await_armed(&mut self) -> Result<()> {
        let Some(pending) = self.armed.pending.take() else { return Ok(()) };
        pending.wait().map_err(words)?;
        // Only now: there is no moment without one.
        match self.armed.times {
            1 => Ok(()),
            times => systemd::stop_timers(&self.armed_as(times - 1)).map_err(words),
        }
    }

    fn tell(&mut self, words: &str) {
        self.event(Event::Note(words.to_owned()));
    }

    fn switched(&mut self) {
        self.event(Event::Live { after: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) });
    }

    fn make_user(&mut self, user: &UserName) -> Result<()> {
        if users::exists(user) {
            return Ok(());
        }
        // Remembered before it is made, so that a crash in between cannot leave one that nobody removes.
        self.journal.users_made.push(user.to_string());
        self.folder.write(&self.journal).map_err(words)?;
        users::make(user).map_err(words)?;
        users::publish().map_err(words)
    }

    fn unmake_user(&mut self, user: &UserName) -> Result<()> {
        if self.journal.users_made.iter().any(|made| made == user.as_str()) {
            users::remove(user).map_err(words)?;
            users::publish().map_err(words)?;
        }
        Ok(())
    }

    fn reveal(&mut self, generation: &Generation, other: &Generation) -> Result<()> {
        secrets::reveal(generation, other).map_err(words)
    }

    fn settle(&mut self, generation: &Generation) -> Result<()> {
        let candidate = self.journal.record.generation;
        host::settle(generation, Some(&candidate)).map_err(words)
    }

    fn keep_unit(&mut self, generation: &Hash, unit: &UnitName) -> Result<()> {
        let keep = || -> std::io::Result<()> {
            fs::create_dir_all(layout::DRAINING)?;
            let link = Path::new(layout::DRAINING).join(unit.as_str());
            let target = self.generation(generation).join("units").join(unit.as_str());
            if fs::read_link(&link).is_ok_and(|known| known == target) {
                return Ok(());
            }
            let temporary = Path::new(layout::DRAINING).join(format!(".{unit}.new"));
            let _ = fs::remove_file(&temporary);
            std::os::unix::fs::symlink(&target, &temporary)?;
            fs::rename(&temporary, &link)
        };
        keep().map_err(words)
    }

    fn release_units(&mut self) -> Result<()> {
        let names = fs::read_dir(layout::DRAINING).into_iter().flatten().flatten();
        let units: Vec<UnitName> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let states = systemd::states(&units.iter().collect::<Vec<_>>()).map_err(words)?;
        let active = fs::read_link(layout::ACTIVE).unwrap_or_default();
        let gone = units.iter().filter(|unit| states.get(*unit).is_some_and(|state| state.active == "failed"));
        systemd::forget_failures(&gone.collect::<Vec<_>>()).map_err(words)?;
        for unit in &units {
            let is_gone = states.get(unit).is_none_or(systemd::UnitState::is_gone);
            let is_of_active = active.join("units").join(unit.as_str()).exists();
            if is_gone || is_of_active {
                let _ = fs::remove_file(Path::new(layout::DRAINING).join(unit.as_str()));
            }
            if is_gone && !is_of_active {
                let _ = fs::remove_file(instance_file(unit));
            }
        }
        stand_in::release().map_err(words)
    }

    fn activate(&mut self, generation: Option<&Hash>) -> Result<()> {
        let run = Path::new(layout::RUN);
        for folder in [layout::RUN, layout::INSTANCES, layout::UPSTREAMS, layout::SOCKETS, layout::DRAINING] {
            fs::create_dir_all(folder).map_err(words)?;
        }
        generator::install().map_err(words)?;
        certificates::link_agent().map_err(words)?;
        users::publish().map_err(words)?;
        match generation {
            Some(id) => switch::activate(self.guard, run, &self.generation(id)).map_err(words),
            None => switch::deactivate(self.guard, run).map_err(words),
        }
    }

    fn active(&mut self) -> Option<Hash> {
        Store::active(Path::new(layout::RUN)).ok().flatten()
    }

    fn confirm(&mut self, generation: &Hash) -> Result<()> {
        let target = self.generation(generation);
        switch::confirm(self.guard, self.store.root(), &target).map_err(words)
    }

    fn reload_systemd(&mut self) -> Result<()> {
        systemd::reload().map_err(words)
    }

    fn instance_port(&mut self, unit: &UnitName) -> Option<Port> {
        instance_port(unit)
    }

    fn give_port(&mut self, unit: &UnitName, variable: &str, declared: Port) -> Result<Port> {
        stand_in::make_way(unit).map_err(words)?;
        let unit = &stand_in::live(unit);
        let taken = given_ports(unit);
        let port = if !taken.contains(&declared.number()) && ports::is_free(declared.number()) {
            declared
        } else {
            let seed =
                u64::from_le_bytes(Hash::of(unit.as_str().as_bytes()).as_bytes()[..8].try_into().unwrap_or_default());
            let free = ports::free_port(seed, &taken).and_then(Port::new);
            free.ok_or_else(|| Failure("no port is free for a new instance".to_owned()))?
        };
        place(&instance_file(unit), &format!("{variable}={port}\n")).map_err(words)?;
        Ok(port)
    }

    fn point_upstream(&mut self, app: &Name, port: Option<Port>, old: Option<Port>) -> Result<()> {
        match port {
            Some(port) => visitors::lead(app, port, old),
            None => visitors::forget(app),
        }
        .map_err(words)
    }

    fn start(&mut self, units: &[&UnitName]) -> Result<()> {
        units.iter().try_for_each(|unit| stand_in::make_way(unit)).map_err(words)?;
        on_live(units, systemd::start)
    }

    fn stop(&mut self, units: &[&UnitName]) -> Result<()> {
        on_live(units, systemd::stop)?;
        // One that had failed would be remembered as failed, and the system as degraded, long after it is gone.
        on_live(units, systemd::forget_failures)
    }

    fn drain_nginx(&mut self, unit: &UnitName, seconds: u32) -> Result<()> {
        systemd::request_stop(&[unit]).map_err(words)?;
        crate::drain::begin(unit, seconds).map_err(words)
    }

    fn is_visited(&mut self, unit: &UnitName) -> bool {
        instance_port(unit).is_some_and(|port| ports::has_connections(port.number()))
    }

    fn drain(&mut self, unit: &UnitName, seconds: u32) -> Result<()> {
        crate::drain::begin(unit, seconds).map_err(words)
    }

    fn request_stop(&mut self, units: &[&UnitName]) -> Result<()> {
        on_live(units, systemd::request_stop)
    }

    fn restart(&mut self, units: &[&UnitName]) -> Result<()> {
        on_live(units, systemd::restart)
    }

    fn reload(&mut self, units: &[&UnitName]) -> Result<()> {
        systemd::reload_units(units).map_err(words)
    }

    fn states(&mut self, units: &[&UnitName]) -> Result<Vec<UnitState>> {
        let live = stand_in::all_live(units);
        let states = systemd::states(&live.iter().collect::<Vec<_>>()).map_err(words)?;
        let state = |unit: &UnitName| match states.get(unit) {
            Some(state) => match state.active.as_str() {
                "active" | "reloading" => UnitState::Active { restarts: state.restarts },
                "activating" => UnitState::Starting,
                "deactivating" => UnitState::Stopping,
                "failed" => UnitState::Failed,
                _ => UnitState::Inactive,
            },
            None => UnitState::Inactive,
        };
        Ok(live.iter().map(state).collect())
    }

    fn last_words(&mut self, unit: &UnitName) -> String {
        systemd::last_words(&stand_in::live(unit), 10, self.journal.record.began).unwrap_or_default()
    }

    fn await_health(&mut self, unit: &UnitName, port: Option<Port>, health: &Health) -> Result<()> {
        let timeout = Duration::from_millis(health.timeout.into());
        let began = Instant::now();
        let end = began + Duration::from_millis(health.deadline.into());
        let mut looked = began;
        let mut passed = 0;
        let mut last = "it was not probed".to_owned();
        loop {
            match ask(&stand_in::live(unit), port, &health.check, timeout) {
                Ok(()) => {
                    passed += 1;
                    if passed >= health.passes {
                        return Ok(());
                    }
                }
                Err(why) => {
                    passed = 0;
                    if looked.elapsed() >= WATCH || Instant::now() >= end {
                        looked = Instant::now();
                        if let Some(ended) = self.unit_failed(unit) {
                            return Err(Failure(ended));
                        }
                    }
                    last = why;
                }
            }
            if Instant::now() >= end {
                return Err(Failure(format!(
                    "not healthy within {} s; the last answer: {last}",
                    health.deadline / 1000
                )));
            }
            let interval = Duration::from_millis(health.interval.into());
            sleep(match passed {
                1.. => interval.min(BEAT),
                0 if began.elapsed() < Duration::from_secs(5) => interval.min(FIRST_PROBES),
                0 => interval,
            });
        }
    }

    fn mark_epoch(&mut self) -> Result<()> {
        self.epoch += 1;
        let epoch = self.mark();
        visitors::mark(&epoch).map_err(words)
    }

    fn reload_nginx(&mut self, unit: &UnitName, configuration: &Hash) -> Result<()> {
        self.epoch += 1;
        visitors::reload(unit, configuration, &self.mark()).map_err(words)
    }

    fn await_nginx(&mut self, configuration: &Hash) -> Result<()> {
        visitors::await_configuration(configuration).map_err(words)
    }

    fn certify(&mut self, candidate: &Generation) -> Result<()> {
        let folder = self.folder.clone();
        let tell = |words: &str| folder.tell(&Line::Event(Event::Note(words.to_owned())));
        let got = certificates::get(candidate, &tell);
        if let (true, Some(nginx)) = (got.is_unread, &candidate.nginx) {
            self.reload_nginx(&nginx.unit, &nginx.configuration)?;
            certificates::note_served(&candidate.certificates);
        }
        got.installed.iter().for_each(|words| self.event(Event::Did(words.clone())));
        for words in got.lacking {
            self.tell(&words);
            self.journal.notes.push(words);
        }
        Ok(())
    }

    fn probe(&mut self, generation: &Generation, patience: Patience) -> Result<Vec<Answered>> {
        Ok(probes::ask(&self.folder, &self.journal, generation, patience))
    }

    fn note_broken(&mut self, broken: Broken) -> Result<()> {
        if self.journal.broken_before != broken {
            self.journal.broken_before = broken;
            self.folder.write(&self.journal).map_err(words)?;
        }
        Ok(())
    }

    fn ask_operator(&mut self, candidate: &Generation, patience: Patience) {
        let probes = probes::of_operator(candidate, patience);
        if probes.is_empty() {
            return;
        }
        let broken = self.journal.broken_before.clone();
        self.event(Event::ProbeFromOutside { activation: self.folder.id().to_owned(), probes, broken });
    }

    fn cancelled(&mut self) -> Option<String> {
        let reason = self.folder.told("cancel")?;
        Some(if reason.trim().is_empty() { "cancelled by the operator".to_owned() } else { reason })
    }

    fn soak(&mut self, declared: u32) -> bool {
        let wanted = Duration::from_millis(self.journal.settings.soak.unwrap_or(declared).into());
        let end = *self.soak_ends.get_or_insert_with(|| Instant::now() + wanted);
        if Instant::now() >= end {
            self.soak_ends = None;
            return false;
        }
        sleep(WATCH.min(wanted));
        true
    }

    fn await_login(&mut self) -> Result<Login> {
        let deadline = self.journal.settings.confirm_deadline;
        let end = Instant::now() + Duration::from_secs(deadline.into());
        self.arm(deadline.saturating_add(GRACE_SECONDS))?;
        self.event(Event::AwaitingLogin { activation: self.folder.id().to_owned(), deadline });
        self.await_armed()?;
        while Instant::now() < end {
            if self.folder.was_told("cancel") {
                return Ok(Login::Cancelled);
            }
            if self.folder.was_told("confirm") {
                return Ok(Login::Arrived);
            }
            sleep(Duration::from_millis(5));
        }
        Ok(Login::DeadlinePassed)
    }
}

impl RealServer<'_> {
    /// The name of the timer that systemd holds.
    fn armed_as(&self, times: u32) -> String {
        format!("{}-{times}", self.folder.deadline())
    }

    fn mark(&self) -> String {
        format!("{}-{}", self.folder.id(), self.epoch)
    }
}

/// One probe of an instance.
fn ask(unit: &UnitName, port: Option<Port>, check: &HealthCheck, timeout: Duration) -> std::result::Result<(), String> {
    let address = |port: Option<Port>| {
        let port = port.ok_or("it has no port to probe")?;
        Ok::<_, String>(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())))
    };
    match check {
        HealthCheck::Tcp {} => probe::tcp(address(port)?, timeout).map_err(|error| words(error).0),
        HealthCheck::Http { path, host, status, body } => {
            let host = host.as_ref().map_or("localhost", |host| host.as_str());
            let answer = probe::http(address(port)?, host, path, timeout).map_err(|error| words(error).0)?;
            let expected = status.map_or((200..400).contains(&answer.status), |status| answer.status == status);
            if !expected {
                let text: String = answer.body.chars().take(200).collect();
                return Err(format!("status {}: {}", answer.status, text.trim()));
            }
            match body {
                Some(text) if !answer.body.contains(text.as_str()) => {
                    Err(format!("the body does not contain {text:?}"))
                }
                _ => Ok(()),
            }
        }
        HealthCheck::Command { command } => crate::inspect::run_beside(unit, command, timeout),
    }
}
