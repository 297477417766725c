//! Answers one operator on standard input and output: the agent's main loop.
//!
//! Says hello unasked, then answers requests in order until the operator's side closes. Whatever an
//! operator's connection does, an activation goes on: it is another process. Before anything else,
//! an activation that was interrupted is taken up.

mod streams;
mod tether;

use crate::activation::{self, Folder, Journal, Line};
use crate::stage;
use crate::{certificates, hook, inspect, leave, visitors};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stead_model::activation::{Phase, Verb};
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::hooks::Moment;
use stead_model::layout;
use stead_model::name::UnitName;
use stead_remote::frame::{self, Connection};
use stead_remote::message::{
    Collected, Damage, Ended, Event, Failed, Failure, Hello, Outcome, PROTOCOL, PlannedFrom, Reply, Request, Settings,
};
use stead_remote::{agent, transfer};
use stead_store::{Guard, Store};

/// The conversation could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke, or the other side does not speak this protocol.
    #[error(transparent)]
    Frame(#[from] frame::Error),
    /// The store cannot be used.
    #[error("the store cannot be opened: {0}")]
    Store(String),
    /// The agent cannot read itself.
    #[error("cannot read the agent's own file")]
    Own(#[source] std::io::Error),
}

struct Session<R, W: Write> {
    connection: Connection<R, W>,
    /// The operator's end of the line, to notice when it closes.
    line: OwnedFd,
    store: Store,
    /// Held from the first change of this session to the moment an activation needs it.
    guard: Option<Guard>,
    /// The two sides are out of step: nothing more can be understood.
    is_over: bool,
}

type Answer = std::result::Result<Reply, Failed>;

fn refused(kind: Failure, what: impl Into<String>) -> Failed {
    Failed { kind, what: what.into(), hint: None }
}

fn busy(running: &stead_remote::message::Running) -> Failed {
    refused(Failure::Busy, format!("another deploy is under way: {} by {}", running.activation, running.by))
}

fn of_store(error: impl std::error::Error + 'static) -> Failed {
    of_stage(stage::Error::store(error))
}

fn of_stage(error: stage::Error) -> Failed {
    let kind = match &error {
        error if error.is_full() => Failure::FullDisk,
        stage::Error::NoFolder { .. }
        | stage::Error::Misunderstood { .. }
        | stage::Error::NoProgram { .. }
        | stage::Error::PortTaken { .. }
        | stage::Error::NoPort { .. }
        | stage::Error::Nginx(_)
        | stage::Error::Certificate(certificates::Error::Files { .. } | certificates::Error::Account { .. }) => {
            Failure::Unfit
        }
        stage::Error::Secret(error) if error.is_of_project() => Failure::Unfit,
        stage::Error::Host(crate::host::Error::Unfit { .. } | crate::host::Error::Setting { .. }) => Failure::Unfit,
        stage::Error::Rules { .. } | stage::Error::Recipe(_) => Failure::Mismatch,
        _ => Failure::Server,
    };
    let hint = error.hint();
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        what = format!("{what}: {error}");
        cause = error.source();
    }
    Failed { kind, what, hint }
}

fn of_activation(error: activation::Error) -> Failed {
    let kind = match &error {
        activation::Error::Busy { .. } => Failure::Busy,
        activation::Error::Stale => Failure::Stale,
        activation::Error::Unknown(_) | activation::Error::NoGeneration(_) => Failure::Unknown,
        _ => Failure::Server,
    };
    refused(kind, error.to_string())
}

/// Answers one operator, until the connection ends.
///
/// # Errors
/// When the conversation breaks in the middle, or cannot begin.
pub fn serve<R: Read + AsFd, W: Write>(input: R, output: W) -> Result<(), Error> {
    let store = Store::open(Path::new(layout::STATE)).map_err(|error| Error::Store(error.to_string()))?;
    fs::create_dir_all(layout::RUN).map_err(Error::Own)?;
    take_up_what_was_interrupted();
    let line = input.as_fd().try_clone_to_owned().map_err(Error::Own)?;
    let mut session = Session { connection: Connection::new(input, output), line, store, guard: None, is_over: false };
    let hello = session.hello()?;
    session.connection.send(&hello)?;
    loop {
        let request = match session.connection.receive::<Request>() {
            Ok(request) => request,
            Err(frame::Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(answer) = session.answer(request)? {
            session.connection.send(&answer.unwrap_or_else(Reply::Failed))?;
        }
        if session.is_over {
            return Ok(());
        }
    }
}

/// An activation whose service does not run any more is taken up before anything else is answered,
/// by a service of its own. It gets a moment; what takes longer is told as running.
fn take_up_what_was_interrupted() {
    const MOMENT: Duration = Duration::from_secs(8);
    let Some((folder, journal)) = Folder::unfinished() else { return };
    // One that has hardly begun is another session's, which is about to start its service.
    let age = jiff::Timestamp::now().as_second() - journal.record.began;
    if journal.record.phase == Phase::Staged && (0..10).contains(&age) {
        return;
    }
    let is_gone = |unit: &UnitName| {
        let states = stead_host::systemd::states(&[unit]).unwrap_or_default();
        states.get(unit).is_none_or(stead_host::systemd::UnitState::is_gone)
    };
    if !is_gone(&folder.unit()) || folder.take_up().is_err() {
        return;
    }
    let end = Instant::now() + MOMENT;
    while Instant::now() < end && folder.read().is_ok_and(|journal| !journal.record.phase.is_end()) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl<R: Read, W: Write> Session<R, W> {
    fn active(&self) -> Option<Hash> {
        Store::active(Path::new(layout::RUN)).ok().flatten()
    }

    fn confirmed(&self) -> Option<Hash> {
        self.store.confirmed().ok().flatten()
    }

    fn generation(&self, id: Option<Hash>) -> Option<Generation> {
        id.and_then(|id| self.store.generation(&id).ok().flatten())
    }

    fn hello(&self) -> Result<Hello, Error> {
        let (active, confirmed) = (self.active(), self.confirmed());
        Ok(Hello {
            protocol: PROTOCOL,
            agent: agent::own_hash().map_err(Error::Own)?,
            machine: inspect::machine(),
            active,
            confirmed,
            running: inspect::running(),
            generations: self.store.generations().unwrap_or_default(),
            pins: inspect::pins(),
            server: active.or(confirmed).and_then(|id| inspect::server_of(&self.store, &id)),
        })
    }

    fn event(&mut self, event: Event) -> Result<(), frame::Error> {
        self.connection.send(&Reply::Event(event))
    }

    fn answer(&mut self, request: Request) -> Result<Option<Answer>, Error> {
        Ok(Some(match request {
            Request::Status {} => {
                Ok(Reply::Status(Box::new(inspect::status(&self.store, self.active(), self.confirmed()))))
            }
            Request::History { limit } => Ok(Reply::History { records: inspect::history(limit) }),
            Request::Describe { generation } => return self.describe(&generation),
            Request::Stage(offer) => self.stage(&offer)?,
            Request::Activate { generation, from, verb, by, settings } => {
                self.activate(generation, from, verb, by, settings)?
            }
            Request::Confirm { activation } => self.confirm(&activation),
            Request::Cancel { activation, reason } => tell(&activation, "cancel", &reason),
            Request::Attach { activation } => self.attach(activation)?,
            Request::Logs { of, lines, follow } => self.logs(of.as_deref(), lines, follow)?,
            Request::Exec { app, command } => self.exec(app, &command)?,
            Request::Gc { dry, keep } => self.collect(dry, keep),
            Request::Verify {} => self.verify(),
            Request::Package { sha256 } => return self.package(sha256),
            Request::Pin { generation, keep } => self.pin(&generation, keep),
            Request::Adopt {} => stead_host::generator::install().map(|_| Reply::Done {}).map_err(of_store),
            Request::Leave { with_data } => self.leave(with_data),
        }))
    }

    fn leave(&mut self, with_data: bool) -> Answer {
        self.hold()?;
        let active = self.active().map(|id| (id, self.generation(Some(id))));
        let Some(guard) = &self.guard else { return Err(refused(Failure::Server, "the lock was lost")) };
        let left = leave::leave(guard, active, with_data);
        left.map(|kept| Reply::Left { kept }).map_err(|error| refused(Failure::Server, error.to_string()))
    }

    /// The lock for this session's changes; taken once.
    fn hold(&mut self) -> Result<(), Failed> {
        if self.guard.is_some() {
            return Ok(());
        }
        if let Some(running) = inspect::running() {
            return Err(busy(&running));
        }
        // Who only lets a drained instance go has the lock for a moment.
        const MOMENT: Duration = Duration::from_millis(500);
        let end = Instant::now() + MOMENT;
        let mut taken = Store::lock(Path::new(layout::LOCK));
        while matches!(taken, Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            taken = Store::lock(Path::new(layout::LOCK));
        }
        match taken {
            Ok(Some(guard)) => {
                // It may have begun while this waited, and its own process not have the lock yet.
                if let Some(running) = inspect::running() {
                    return Err(busy(&running));
                }
                let _ = guard.describe("an operator's session");
                self.guard = Some(guard);
                Ok(())
            }
            Ok(None) => {
                let holder =
                    stead_store::lock::holder(Path::new(layout::LOCK)).unwrap_or_else(|| "somebody else".to_owned());
                Err(refused(Failure::Busy, format!("the server is being changed by {holder}")))
            }
            Err(error) => Err(refused(Failure::Server, error.to_string())),
        }
    }

    fn stage(&mut self, offer: &stead_remote::message::Offer) -> Result<Answer, Error> {
        if let Err(failed) = self.hold() {
            // What follows the offer is not read any more: the conversation ends with the words.
            self.is_over = true;
            return Ok(Err(failed));
        }
        let active = self.active();
        let Some(guard) = self.guard.take() else { return Ok(Err(refused(Failure::Server, "the lock was lost"))) };
        let store = &self.store;
        let received =
            transfer::receive(&mut self.connection, offer, store, &guard, active.as_ref(), &mut |generation| {
                Ok(transfer::lacking_packages(store, generation))
            });
        let generation = match received {
            Ok(generation) => generation,
            Err(transfer::ReceiveError::Refused(failed)) => return Ok(Err(failed)),
            Err(transfer::ReceiveError::Broken(failed)) => {
                self.is_over = true;
                return Ok(Err(failed));
            }
            Err(transfer::ReceiveError::Line(error)) => return Err(error.into()),
        };
        let id = offer.generation;
        let from = self.generation(active);
        let connection = &mut self.connection;
        let mut last = Instant::now();
        let staged = stage::stage(&self.store, &guard, &generation, from.as_ref(), &mut |what, done, total| {
            // A progress event each tenth of a second is plenty; one that cannot be sent is no reason to stop.
            if last.elapsed() > Duration::from_millis(100) {
                last = Instant::now();
                let _ = connection.send(&Reply::Event(Event::Progress { what: what.to_owned(), done, total }));
            }
        });
        self.guard = Some(guard);
        // What runs was altered, and is put back: nginx may still have the altered files open.
        if let (Ok(()), true, Some(nginx)) = (&staged, active == Some(id), from.and_then(|from| from.nginx))
            && let Err(error) =
                visitors::reload(&nginx.unit, &nginx.configuration, &format!("put-back-{}", std::process::id()))
        {
            return Ok(Err(refused(Failure::Server, format!("what was altered is put back, but {error}"))));
        }
        Ok(staged.map(|()| Reply::Staged { generation: id }).map_err(of_stage))
    }

    fn activate(
        &mut self,
        generation: Option<Hash>,
        from: Option<PlannedFrom>,
        verb: Verb,
        by: String,
        settings: Settings,
    ) -> Result<Answer, Error> {
        if let Some(running) = inspect::running() {
            return Ok(Err(busy(&running)));
        }
        let (active, confirmed) = (self.active(), self.confirmed());
        if from.is_some_and(|from| from.active != active) {
            let now = active.map_or("nothing of Stead's".to_owned(), |id| format!("generation {}", id.short()));
            return Ok(Err(refused(
                Failure::Stale,
                format!("the server runs {now} by now, which is not what the plan started from"),
            )));
        }
        let generation = match generation.map_or_else(|| self.before(active), Ok) {
            Ok(generation) => generation,
            Err(failed) => return Ok(Err(failed)),
        };
        if let Err(failed) = self.hold() {
            return Ok(Err(failed));
        }
        let Some(candidate) = self.generation(Some(generation)) else {
            return Ok(Err(refused(
                Failure::Unknown,
                format!("generation {} is not on the server", generation.short()),
            )));
        };
        if let Some(path) = candidate.trees.keys().find_map(|id| self.store.altered(id)) {
            return Ok(Err(Failed {
                kind: Failure::Damaged,
                what: format!("`{}` was altered on the server", path.display()),
                hint: Some(
                    "`stead deploy` of what it belongs to puts it back; `stead verify` names all that is altered"
                        .to_owned(),
                ),
            }));
        }
        if active == Some(generation) && confirmed == Some(generation) && self.all_well(&candidate) {
            // Sites may still be without the certificates that an authority refused earlier.
            let (said, notes) = certificates::catch_up(&candidate);
            said.into_iter().try_for_each(|words| self.event(Event::Did(words)))?;
            return Ok(Ok(Reply::Ended(Box::new(Ended { notes, ..unchanged(generation) }))));
        }
        if verb == Verb::Rollback {
            let from = self.generation(active);
            if let Err(error) = stage::fits(&candidate, from.as_ref(), true) {
                return Ok(Err(of_stage(error)));
            }
        }
        let journal = Journal::new(activation::record(generation, active, verb, by), settings);
        if let Err(what) = hook::run(&candidate.hooks, Moment::BeforeSwitch, &candidate.server, &journal.record) {
            return Ok(Err(refused(Failure::Hook, what)));
        }
        // Whoever went away while the hook ran believes that nothing was switched.
        if tether::is_closed(&self.line) {
            return Err(frame::Error::Closed.into());
        }
        let folder = match Folder::begin(&journal, &agent_path()) {
            Ok(folder) => folder,
            Err(error) => return Ok(Err(of_activation(error))),
        };
        // From here on the activation's own process holds the lock.
        self.guard = None;
        if let Err(error) = folder.start() {
            let _ = activation::recover(folder.id());
            return Ok(Err(of_activation(error)));
        }
        self.event(Event::Began { activation: folder.id().to_owned() })?;
        self.follow(&folder)
    }

    /// What ran before the active generation, by the history. Before the first deploy that was nothing:
    /// the empty generation, which is made here.
    fn before(&mut self, active: Option<Hash>) -> Result<Hash, Failed> {
        let none = || Failed {
            kind: Failure::Refused,
            what: "there is no generation before this one to go back to".to_owned(),
            hint: Some("`stead history` lists what is kept; `stead rollback GENERATION` goes to any of it".to_owned()),
        };
        let records = inspect::history(None);
        let made = records.iter().find(|record| record.phase == Phase::Done && Some(record.generation) == active);
        let made = made.ok_or_else(none)?;
        if let Some(parent) = made.parent {
            return Ok(parent);
        }
        let empty = Generation::empty(self.generation(active).ok_or_else(none)?.server);
        self.hold()?;
        let Some(guard) = &self.guard else { return Err(refused(Failure::Server, "the lock was lost")) };
        self.store.publish(guard, &empty).map_err(of_store)?;
        Ok(empty.id())
    }

    /// Whether everything of a generation that should run does run.
    fn all_well(&self, generation: &Generation) -> bool {
        let units: Vec<_> = generation.units.iter().filter(|(_, unit)| unit.start).map(|(name, _)| name).collect();
        let live = crate::stand_in::all_live(&units);
        let states = stead_host::systemd::states(&live.iter().collect::<Vec<_>>()).unwrap_or_default();
        live.iter().all(|unit| states.get(unit).is_some_and(stead_host::systemd::UnitState::is_active))
    }

    fn confirm(&mut self, id: &str) -> Answer {
        let folder = Folder::of(id).map_err(of_activation)?;
        let journal = folder.read().map_err(of_activation)?;
        match journal.record.phase {
            Phase::Confirmed | Phase::Done => Ok(Reply::Accepted {}),
            phase if phase.is_end() || phase == Phase::GoingBack => {
                Err(refused(Failure::Refused, "it is too late: the server went back already"))
            }
            _ => tell(id, "confirm", ""),
        }
    }

    fn attach(&mut self, id: Option<String>) -> Result<Answer, Error> {
        let folder = match id {
            Some(id) => Folder::of(&id),
            None => {
                Folder::last().map(|(folder, _)| folder).ok_or(activation::Error::Unknown("the last one".to_owned()))
            }
        };
        let folder = match folder.and_then(|folder| folder.read().map(|_| folder)) {
            Ok(folder) => folder,
            Err(error) => return Ok(Err(of_activation(error))),
        };
        self.event(Event::Began { activation: folder.id().to_owned() })?;
        // What has ended is told by its end alone: nothing of it waits for anybody any more.
        if let Some(ended) = ended_already(&folder, self.active()) {
            return Ok(Ok(Reply::Ended(Box::new(ended))));
        }
        self.follow(&folder)
    }

    /// Passes on an activation's events until it has ended.
    fn follow(&mut self, folder: &Folder) -> Result<Answer, Error> {
        let mut position = 0;
        let mut quiet_since = Instant::now();
        loop {
            let mut text = Vec::new();
            if let Ok(mut file) = fs::File::open(folder.events()) {
                let _ = file.seek(std::io::SeekFrom::Start(position));
                let _ = file.read_to_end(&mut text);
            }
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            position += whole as u64;
            for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                quiet_since = Instant::now();
                match serde_json::from_slice::<Line>(line) {
                    Ok(Line::Event(event)) => self.event(event)?,
                    Ok(Line::Ended(mut ended)) => {
                        ended.usage.peak_kib = ended.usage.peak_kib.max(activation::usage().peak_kib);
                        ended.usage.cpu_ms += activation::usage().cpu_ms;
                        return Ok(Ok(Reply::Ended(ended)));
                    }
                    Err(_) => {}
                }
            }
            if whole == 0 {
                if quiet_since.elapsed() > Duration::from_secs(3) {
                    quiet_since = Instant::now();
                    if let Some(ended) = ended_without_words(folder, self.active()) {
                        return Ok(ended);
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn collect(&mut self, dry: bool, keep: u32) -> Answer {
        self.hold()?;
        let mut kept: BTreeSet<Hash> = self.active().into_iter().chain(self.confirmed()).collect();
        let recent = inspect::history(None)
            .into_iter()
            .filter(|record| record.phase == Phase::Done)
            .map(|record| record.generation);
        let mut last: Vec<Hash> = Vec::new();
        for generation in recent {
            if !last.contains(&generation) {
                last.push(generation);
            }
        }
        kept.extend(last.into_iter().take(keep as usize));
        kept.extend(inspect::pins());
        let Some(guard) = &self.guard else { return Err(refused(Failure::Server, "the lock was lost")) };
        let collected = self.store.collect(guard, &kept, dry).map_err(of_store)?;
        Ok(Reply::Collected(Collected {
            generations: collected.generations.len() as u64,
            trees: collected.trees,
            runtimes: collected.runtimes,
            packages: collected.packages,
            objects: collected.objects,
            bytes: collected.bytes + crate::agents::collect(dry),
        }))
    }

    fn verify(&mut self) -> Answer {
        let mut checked = 0;
        let damage = self.store.verify_observed(&mut |bytes| checked += bytes).map_err(of_store)?;
        let damage = damage
            .into_iter()
            .map(|damage| Damage { path: damage.path.display().to_string(), what: damage.what.to_string() });
        Ok(Reply::Verified { damage: damage.collect(), checked })
    }

    fn pin(&mut self, generation: &Hash, keep: bool) -> Answer {
        if self.generation(Some(*generation)).is_none() {
            return Err(refused(Failure::Unknown, format!("generation {} is not on the server", generation.short())));
        }
        // Not while somebody collects, or deploys.
        self.hold()?;
        let pins = Path::new(layout::PINS);
        let path = pins.join(generation.to_string());
        let change = || -> std::io::Result<()> {
            fs::create_dir_all(pins)?;
            match keep {
                true => fs::write(&path, b"")?,
                false => fs::remove_file(&path).or_else(|error| if path.exists() { Err(error) } else { Ok(()) })?,
            }
            fs::File::open(pins)?.sync_all()
        };
        change().map_err(|error| refused(Failure::Server, format!("the pin cannot be written: {error}")))?;
        Ok(Reply::Done {})
    }
}

fn tell(id: &str, word: &str, why: &str) -> Answer {
    let folder = Folder::of(id).map_err(of_activation)?;
    folder.read().map_err(of_activation)?;
    folder.say(word, why).map_err(of_activation)?;
    Ok(Reply::Accepted {})
}

/// The path of this very agent, for the activation's service.
pub(crate) fn agent_path() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

fn unchanged(generation: Hash) -> Ended {
    Ended {
        activation: None,
        outcome: Outcome::Unchanged,
        generation: Some(generation),
        active: Some(generation),
        reason: None,
        notes: Vec::new(),
        usage: activation::usage(),
    }
}

/// How an activation ended whose events say nothing of it: its process was killed, or the machine went down.
fn ended_without_words(folder: &Folder, active: Option<Hash>) -> Option<Answer> {
    let unit = folder.unit();
    let states = stead_host::systemd::states(&[&unit]).ok()?;
    if states.get(&unit).is_some_and(|state| !state.is_gone()) {
        return None;
    }
    let (taken_up, failed) = match activation::recover(folder.id()) {
        Ok(ended) => (ended, None),
        Err(error) => (None, Some(error)),
    };
    // Its journal may not know how it ended, on a full disk.
    let ended = ended_already(folder, active).or(taken_up).or_else(|| {
        let journal = folder.read().ok()?;
        Some(Ended {
            activation: Some(journal.record.id),
            outcome: Outcome::Stuck,
            generation: Some(journal.record.generation),
            active,
            reason: journal.record.reason.or_else(|| failed.map(|error| error.to_string())),
            notes: journal.notes,
            usage: journal.usage,
        })
    })?;
    Some(Ok(Reply::Ended(Box::new(ended))))
}

/// How an activation ended, by its journal; `None`: it has not.
fn ended_already(folder: &Folder, active: Option<Hash>) -> Option<Ended> {
    let journal = folder.read().ok()?;
    let outcome = match journal.record.phase {
        Phase::Done => Outcome::Confirmed,
        Phase::WentBack => Outcome::WentBack,
        Phase::Stuck => Outcome::Stuck,
        _ => return None,
    };
    Some(Ended {
        activation: Some(journal.record.id),
        outcome,
        generation: Some(journal.record.generation),
        active,
        reason: journal.record.reason,
        notes: journal.notes,
        usage: journal.usage,
    })
}
