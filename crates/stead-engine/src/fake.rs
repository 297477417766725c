//! A server in memory that can fail or crash at any effect, for the tests of the engine.
//!
//! It keeps what a real server would keep (pointers, units and what they were started from, users,
//! ports, upstreams, what nginx has read) and nothing else, so that a test can ask whether the
//! whole of it belongs to one generation.

use crate::effects::{Failure, Login, Patience, Result, Server, UnitState};
use std::collections::{BTreeMap, BTreeSet};
use stead_model::activation::Phase;
use stead_model::generation::{Generation, Role, Unit};
use stead_model::hash::Hash;
use stead_model::hooks::ServerHooks;
use stead_model::host::Host;
use stead_model::name::{Name, Port, UnitName, UserName};
use stead_model::probe::{Answered, Broken, Side, Verdict};
use stead_model::server::Health;

mod samples;

pub(crate) use samples::{generation, guarded, pair, with_database};

/// What happens at the chosen effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The effect does not happen and says so.
    Fail,
    /// The effect happens, and then the process dies: every later effect fails.
    Crash,
    /// The effect happens twice in a row.
    Repeat,
}

/// The unit of a firewall.
const FIREWALL: &str = "stead-firewall.service";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) active: Option<Hash>,
    pub(crate) confirmed: Option<Hash>,
    pub(crate) users: BTreeSet<UserName>,
    /// Units that run, and the digest of the definition they were started from.
    pub(crate) running: BTreeMap<UnitName, Hash>,
    pub(crate) ports: BTreeMap<UnitName, Port>,
    pub(crate) upstreams: BTreeMap<Name, Port>,
    /// The configuration and upstreams that each nginx instance has read.
    pub(crate) nginx: BTreeMap<UnitName, (Hash, BTreeMap<Name, Port>)>,
    /// Files of secrets that are there, in memory.
    pub(crate) secrets: BTreeSet<Hash>,
    /// The machine's own settings: they outlive a boot.
    pub(crate) host: Host,
    /// The rules that the firewall has read.
    pub(crate) rules: Option<Hash>,
    /// What each unit of the database has read.
    pub(crate) databases: BTreeMap<UnitName, Hash>,
}

pub(crate) struct Fake {
    pub(crate) generations: BTreeMap<Hash, Generation>,
    pub(crate) state: State,
    pub(crate) kept: BTreeMap<UnitName, Unit>,
    pub(crate) known: BTreeMap<UnitName, Unit>,
    pub(crate) journal: Vec<Phase>,
    pub(crate) recorded: u32,
    pub(crate) hooks_run: u32,
    pub(crate) unhealthy: BTreeSet<UnitName>,
    pub(crate) broken: BTreeSet<UnitName>,
    /// Generations whose sites answer 503, and what a fake operator says against a candidate.
    pub(crate) broken_sites: BTreeSet<Hash>,
    pub(crate) broken_before: Broken,
    pub(crate) complaint: Option<String>,
    pub(crate) login: Login,
    /// Whether somebody is connected to each instance.
    pub(crate) visited: bool,
    /// Whether the init system would take the activation back by itself.
    pub(crate) armed: bool,
    pub(crate) effects: usize,
    pub(crate) mishap: Option<(usize, Mishap)>,
    pub(crate) crashed: bool,
    pub(crate) users_made: BTreeSet<UserName>,
    /// Every effect by name, for tests that look at the order.
    pub(crate) log: Vec<String>,
}

impl Fake {
    pub(crate) fn new(generations: &[&Generation]) -> Self {
        Self {
            generations: generations.iter().map(|generation| (generation.id(), (*generation).clone())).collect(),
            state: State::default(),
            kept: BTreeMap::new(),
            known: BTreeMap::new(),
            journal: vec![Phase::Staged],
            recorded: 0,
            hooks_run: 0,
            unhealthy: BTreeSet::new(),
            broken: BTreeSet::new(),
            broken_sites: BTreeSet::new(),
            broken_before: Broken::new(),
            complaint: None,
            login: Login::Arrived,
            visited: false,
            armed: false,
            effects: 0,
            mishap: None,
            crashed: false,
            users_made: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    /// One effect: counts it, and decides whether it happens, how often, and whether the process outlives it.
    fn effect<T>(&mut self, name: &str, happen: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        if self.crashed {
            return Err(Failure("the process is dead".into()));
        }
        self.effects += 1;
        self.log.push(name.to_owned());
        match self.mishap {
            Some((at, Mishap::Fail)) if at == self.effects => Err(Failure(format!("{name} failed"))),
            Some((at, Mishap::Crash)) if at == self.effects => {
                let _ = happen(self);
                self.crashed = true;
                Err(Failure("the process is dead".into()))
            }
            Some((at, Mishap::Repeat)) if at == self.effects => {
                happen(self)?;
                happen(self)
            }
            _ => happen(self),
        }
    }

    fn begin(&mut self, unit: &UnitName) -> Result<()> {
        let Some(known) = self.known.get(unit).cloned() else {
            return Err(Failure(format!("Unit {unit} not found")));
        };
        // A unit whose secrets are not there does not start.
        if let Some(generation) = self.state.active.and_then(|id| self.generations.get(&id))
            && generation.units.contains_key(unit)
            && !self.state.secrets.is_superset(&generation.secrets.files.keys().copied().collect())
        {
            return Err(Failure(format!("{unit}: Failed to set up credentials")));
        }
        if self.broken.contains(unit) {
            return Err(Failure(format!("Job for {unit} failed")));
        }
        self.state.running.insert(unit.clone(), known.digest);
        if matches!(known.role, Role::Nginx {}) {
            self.read_configuration(unit)?;
        }
        self.read_rules(unit);
        Ok(())
    }

    fn read_rules(&mut self, unit: &UnitName) {
        let active = self.state.active.and_then(|id| self.generations.get(&id));
        if let Some(Unit { reload_digest: Some(rules), role: Role::Firewall {}, .. }) =
            active.and_then(|active| active.units.get(unit))
        {
            self.state.rules = Some(*rules);
        }
        if let Some(Unit { reload_digest: Some(read), role: Role::Database {}, .. }) =
            active.and_then(|active| active.units.get(unit))
        {
            self.state.databases.insert(unit.clone(), *read);
        }
    }

    fn read_configuration(&mut self, unit: &UnitName) -> Result<()> {
        let active = self.state.active.ok_or(Failure("no configuration".into()))?;
        let generation = self.generations.get(&active).ok_or(Failure("no generation".into()))?;
        let part = generation.nginx.as_ref().ok_or(Failure("no nginx.conf".into()))?;
        self.state.nginx.insert(unit.clone(), (part.configuration, self.state.upstreams.clone()));
        Ok(())
    }

    fn end(&mut self, unit: &UnitName) {
        self.state.running.remove(unit);
        self.state.nginx.remove(unit);
        self.state.databases.remove(unit);
        if unit.as_str() == FIREWALL {
            self.state.rules = None;
        }
    }

    /// The machine loses its power and boots again: what is in memory is gone, the confirmed generation comes up.
    pub(crate) fn reboot(&mut self) {
        self.crashed = false;
        self.mishap = None;
        self.state.active = self.state.confirmed;
        self.state.running.clear();
        self.state.ports.clear();
        self.state.upstreams.clear();
        self.state.nginx.clear();
        self.state.secrets.clear();
        self.state.rules = None;
        self.state.databases.clear();
        self.kept.clear();
        self.known.clear();
        self.armed = false;
        if let Some(generation) = self.state.active.and_then(|id| self.generations.get(&id).cloned()) {
            self.known = generation.units.clone();
            self.state.secrets = generation.secrets.files.keys().copied().collect();
            // Without a setting there is no unit that settles at a boot: only who takes up the activation does.
            if !generation.host.is_empty() {
                self.state.host = generation.host.clone();
            }
            for (name, unit) in &generation.units {
                if let Role::App { app, port: Some(port), .. } = &unit.role {
                    self.state.ports.insert(name.clone(), *port);
                    self.state.upstreams.insert(app.clone(), *port);
                }
            }
            for (name, _) in generation.units.iter().filter(|(_, unit)| unit.start) {
                self.begin(name).unwrap();
            }
        }
    }

    /// The process is started again, on the same running server.
    pub(crate) fn restart_process(&mut self) {
        self.crashed = false;
        self.mishap = None;
    }

    /// What visitors, systemd and the disk see, without what differs from run to run (port numbers).
    pub(crate) fn belongs_to(&self, generation: &Generation) -> std::result::Result<(), String> {
        let id = (!generation.units.is_empty() || self.state.active == Some(generation.id())).then(|| generation.id());
        if self.state.active != id {
            return Err(format!("active is {:?}", self.state.active));
        }
        let wanted: BTreeMap<UnitName, Hash> = generation
            .units
            .iter()
            .filter(|(_, unit)| unit.start)
            .map(|(name, unit)| (name.clone(), unit.digest))
            .collect();
        if self.state.running != wanted {
            return Err(format!("running {:?}, wanted {wanted:?}", self.state.running));
        }
        if self.state.users != generation.users {
            return Err(format!("users {:?}", self.state.users));
        }
        let upstreams: BTreeMap<Name, Port> = generation
            .units
            .iter()
            .filter_map(|(name, unit)| match &unit.role {
                Role::App { app, port: Some(_), .. } => Some((app.clone(), *self.state.ports.get(name)?)),
                _ => None,
            })
            .collect();
        if self.state.upstreams != upstreams {
            return Err(format!("upstreams {:?}, wanted {upstreams:?}", self.state.upstreams));
        }
        let nginx: BTreeMap<UnitName, (Hash, BTreeMap<Name, Port>)> =
            generation.nginx.iter().map(|part| (part.unit.clone(), (part.configuration, upstreams.clone()))).collect();
        // An upstream that no site leads to any more may stay read until the next reload.
        let mut read = self.state.nginx.clone();
        read.values_mut().for_each(|(_, known)| known.retain(|app, _| upstreams.contains_key(app)));
        if read != nginx {
            return Err(format!("nginx {read:?}, wanted {nginx:?}"));
        }
        if !self.state.secrets.is_superset(&generation.secrets.files.keys().copied().collect()) {
            return Err(format!("secrets {:?}", self.state.secrets));
        }
        if self.state.host != generation.host {
            return Err(format!("settings {:?}", self.state.host));
        }
        let rules = generation.units.get(&FIREWALL.parse::<UnitName>().unwrap()).and_then(|unit| unit.reload_digest);
        if self.state.rules != rules {
            return Err(format!("rules {:?}, wanted {rules:?}", self.state.rules));
        }
        let read = |(name, unit): (&UnitName, &Unit)| match unit.role {
            Role::Database {} => Some((name.clone(), unit.reload_digest?)),
            _ => None,
        };
        let databases: BTreeMap<UnitName, Hash> = generation.units.iter().filter_map(read).collect();
        if self.state.databases != databases {
            return Err(format!("databases {:?}, wanted {databases:?}", self.state.databases));
        }
        Ok(())
    }
}

impl Server for Fake {
    fn journal(&mut self, phase: Phase, _: Option<&str>) -> Result<()> {
        self.effect("journal", |fake| {
            fake.journal.push(phase);
            Ok(())
        })
    }

    fn record(&mut self) -> Result<()> {
        self.effect("record", |fake| {
            fake.recorded = 1;
            Ok(())
        })
    }

    fn run_hook(&mut self, _: &ServerHooks) -> Result<()> {
        self.effect("run_hook", |fake| {
            fake.hooks_run = 1;
            Ok(())
        })
    }

    fn let_go(&mut self) -> Result<()> {
        self.effect("let_go", |fake| {
            fake.armed = false;
            Ok(())
        })
    }

    fn arm(&mut self, seconds: u32) -> Result<()> {
        assert!(seconds > 0, "an activation gets time");
        self.effect("arm", |fake| {
            fake.armed = true;
            Ok(())
        })
    }

    fn await_armed(&mut self) -> Result<()> {
        self.effect("await_armed", |fake| match fake.armed {
            true => Ok(()),
            false => Err(Failure("nothing is armed".into())),
        })
    }

    fn tell(&mut self, _: &str) {}

    fn switched(&mut self) {}

    fn make_user(&mut self, user: &UserName) -> Result<()> {
        self.effect("make_user", |fake| {
            if fake.state.users.insert(user.clone()) {
                fake.users_made.insert(user.clone());
            }
            Ok(())
        })
    }

    fn unmake_user(&mut self, user: &UserName) -> Result<()> {
        self.effect("unmake_user", |fake| {
            if fake.users_made.contains(user) {
                fake.state.users.remove(user);
            }
            Ok(())
        })
    }

    fn reveal(&mut self, generation: &Generation, other: &Generation) -> Result<()> {
        self.effect("reveal", |fake| {
            let both = generation.secrets.files.keys().chain(other.secrets.files.keys());
            let stays: BTreeSet<Hash> = both.copied().filter(|id| fake.state.secrets.contains(id)).collect();
            fake.state.secrets = generation.secrets.files.keys().copied().chain(stays).collect();
            Ok(())
        })
    }

    fn settle(&mut self, generation: &Generation) -> Result<()> {
        self.effect("settle", |fake| {
            fake.state.host = generation.host.clone();
            Ok(())
        })
    }

    fn keep_unit(&mut self, generation: &Hash, unit: &UnitName) -> Result<()> {
        self.effect("keep_unit", |fake| {
            let definition = fake.generations[generation].units[unit].clone();
            fake.kept.insert(unit.clone(), definition);
            Ok(())
        })
    }

    fn release_units(&mut self) -> Result<()> {
        self.effect("release_units", |fake| {
            let running = &fake.state.running;
            fake.kept.retain(|unit, _| running.contains_key(unit));
            Ok(())
        })
    }

    fn activate(&mut self, generation: Option<&Hash>) -> Result<()> {
        self.effect("activate", |fake| {
            fake.state.active = generation.copied();
            Ok(())
        })
    }

    fn active(&mut self) -> Option<Hash> {
        self.state.active
    }

    fn confirm(&mut self, generation: &Hash) -> Result<()> {
        self.effect("confirm", |fake| {
            fake.state.confirmed = Some(*generation);
            Ok(())
        })
    }

    fn reload_systemd(&mut self) -> Result<()> {
        self.effect("reload_systemd", |fake| {
            fake.known = fake.kept.clone();
            if let Some(generation) = fake.state.active.and_then(|id| fake.generations.get(&id)) {
                fake.known.extend(generation.units.clone());
            }
            Ok(())
        })
    }

    fn instance_port(&mut self, unit: &UnitName) -> Option<Port> {
        self.state.ports.get(unit).copied()
    }

    fn give_port(&mut self, unit: &UnitName, _: &str, declared: Port) -> Result<Port> {
        self.effect("give_port", |fake| {
            let taken: BTreeSet<Port> =
                fake.state.ports.iter().filter(|(other, _)| *other != unit).map(|(_, port)| *port).collect();
            let port = (declared.number()..).filter_map(Port::new).find(|port| !taken.contains(port)).unwrap();
            fake.state.ports.insert(unit.clone(), port);
            Ok(port)
        })
    }

    fn point_upstream(&mut self, app: &Name, port: Option<Port>, old: Option<Port>) -> Result<()> {
        assert!(port.is_none() || port != old, "an instance is not beside itself");
        self.effect("point_upstream", |fake| {
            match port {
                Some(port) => fake.state.upstreams.insert(app.clone(), port),
                None => fake.state.upstreams.remove(app),
            };
            Ok(())
        })
    }

    fn start(&mut self, units: &[&UnitName]) -> Result<()> {
        self.effect(&told("start", units), |fake| units.iter().try_for_each(|unit| fake.begin(unit)))
    }

    fn stop(&mut self, units: &[&UnitName]) -> Result<()> {
        self.effect(&told("stop", units), |fake| {
            units.iter().for_each(|unit| fake.end(unit));
            Ok(())
        })
    }

    fn drain_nginx(&mut self, unit: &UnitName, _: u32) -> Result<()> {
        self.stop(&[unit])
    }

    fn is_visited(&mut self, unit: &UnitName) -> bool {
        self.visited && self.state.running.contains_key(unit)
    }

    fn drain(&mut self, unit: &UnitName, _: u32) -> Result<()> {
        self.stop(&[unit])
    }

    fn request_stop(&mut self, units: &[&UnitName]) -> Result<()> {
        self.stop(units)
    }

    fn restart(&mut self, units: &[&UnitName]) -> Result<()> {
        self.effect(&told("restart", units), |fake| {
            units.iter().try_for_each(|unit| {
                fake.end(unit);
                fake.begin(unit)
            })
        })
    }

    fn reload(&mut self, units: &[&UnitName]) -> Result<()> {
        self.effect(&told("reload", units), |fake| {
            for unit in units {
                let known = fake.known.get(*unit).map(|unit| unit.digest);
                let known = known.filter(|_| fake.state.running.contains_key(*unit));
                fake.state.running.insert((*unit).clone(), known.ok_or(Failure(format!("{unit} is not active")))?);
                fake.read_rules(unit);
            }
            Ok(())
        })
    }

    fn states(&mut self, units: &[&UnitName]) -> Result<Vec<UnitState>> {
        if self.crashed {
            return Err(Failure("the process is dead".into()));
        }
        let state = |unit: &&UnitName| match self.state.running.contains_key(*unit) {
            true => UnitState::Active { restarts: 0 },
            false => UnitState::Inactive,
        };
        Ok(units.iter().map(state).collect())
    }

    fn last_words(&mut self, unit: &UnitName) -> String {
        format!("last words of {unit}")
    }

    fn await_health(&mut self, unit: &UnitName, _: Option<Port>, _: &Health) -> Result<()> {
        self.effect("await_health", |fake| match fake.unhealthy.contains(unit) {
            true => Err(Failure("answered 500".into())),
            false => Ok(()),
        })
    }

    fn reload_nginx(&mut self, unit: &UnitName, configuration: &Hash) -> Result<()> {
        self.effect(&told("reload_nginx", &[unit]), |fake| {
            fake.read_configuration(unit)?;
            match fake.state.nginx[unit].0 == *configuration {
                true => Ok(()),
                false => Err(Failure("nginx answers with another configuration".into())),
            }
        })
    }

    fn await_nginx(&mut self, configuration: &Hash) -> Result<()> {
        self.effect("await_nginx", |fake| match fake.state.nginx.values().any(|(read, _)| read == configuration) {
            true => Ok(()),
            false => Err(Failure("nginx does not answer".into())),
        })
    }

    fn mark_epoch(&mut self) -> Result<()> {
        self.effect("mark_epoch", |_| Ok(()))
    }

    fn probe(&mut self, generation: &Generation, _: Patience) -> Result<Vec<Answered>> {
        self.effect("probe", |fake| {
            // Whatever generation is asked about, what answers is what nginx has read.
            let served = |id: &Hash| {
                let configuration = fake.generations[id].nginx.as_ref().map(|part| part.configuration);
                fake.state.nginx.values().any(|(read, _)| Some(*read) == configuration)
            };
            let is_broken = fake.state.nginx.is_empty() || fake.broken_sites.iter().any(served);
            let answer = |label: &String| {
                let (verdict, way) = match is_broken {
                    true => (Verdict::Failed, "status 503"),
                    false => (Verdict::Passed, ""),
                };
                let (asked, answer) = ("http://a.example/".to_owned(), way.to_owned());
                Answered { probe: label.clone(), side: Side::Server, asked, verdict, way: way.to_owned(), answer }
                    .compared(&fake.broken_before)
            };
            Ok(generation.probes.keys().map(answer).collect())
        })
    }

    fn certify(&mut self, _: &Generation) -> Result<()> {
        self.effect("certify", |_| Ok(()))
    }

    fn note_broken(&mut self, broken: Broken) -> Result<()> {
        self.effect("note_broken", |fake| {
            fake.broken_before = broken.clone();
            Ok(())
        })
    }

    fn ask_operator(&mut self, _: &Generation, _: Patience) {}

    fn cancelled(&mut self) -> Option<String> {
        self.complaint.clone()
    }

    fn soak(&mut self, _: u32) -> bool {
        false
    }

    fn await_login(&mut self) -> Result<Login> {
        self.effect("await_login", |fake| {
            fake.armed = true;
            Ok(fake.login)
        })
    }
}

fn told(effect: &str, units: &[&UnitName]) -> String {
    units.iter().fold(effect.to_owned(), |text, unit| format!("{text} {unit}"))
}
