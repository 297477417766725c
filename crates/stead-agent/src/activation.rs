//! One activation on disk: its record, its events, and the words between its processes.
//!
//! `activations/<id>/record.json` is the journal: the phase in it is durable before the actions of
//! the phase begin. `events.jsonl` beside it is what whoever follows reads; it may lose its end in a
//! power cut. What an operator tells a running activation (confirm, cancel) is an empty file in
//! `/run/stead`, gone with a reboot, as the activation's trial is. `reserve` holds some of the disk for the journal
//! until the activation has ended.

use crate::server::RealServer;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stead_engine::effects::Pair;
use stead_engine::run::{self, Ended};
use stead_engine::table::Event as TableEvent;
use stead_model::activation::{Phase, Record, Verb};
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::probe::Broken;
use stead_model::{layout, name::UnitName};
use stead_remote::message::{self, Event, Settings};
use stead_store::{Guard, Store};

/// In an activation's folder: a link to the agent that carries it out.
const AGENT: &str = "agent";
/// Bytes that are set aside for the journal: some ten entries, of several blocks each.
const RESERVE: usize = 256 << 10;

/// An activation's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    id: String,
}

/// What is in `record.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Journal {
    /// What `history` shows.
    pub record: Record,
    /// What the operator wanted besides.
    pub settings: Settings,
    /// Users that this activation made, for the way back.
    #[serde(default)]
    pub users_made: Vec<String>,
    /// Which probes of the parent failed before anything was switched, and in which way.
    #[serde(default, skip_serializing_if = "Broken::is_empty")]
    pub broken_before: Broken,
    /// What it took so far.
    #[serde(default)]
    pub usage: message::Usage,
    /// Whether the hook for its end has run.
    #[serde(default)]
    pub hook_ran: bool,
    /// What is worth telling besides how it ended.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Journal {
    /// Of an activation that is about to begin.
    pub fn new(record: Record, settings: Settings) -> Self {
        Self {
            record,
            settings,
            users_made: Vec::new(),
            broken_before: Broken::new(),
            usage: message::Usage::default(),
            hook_ran: false,
            notes: Vec::new(),
        }
    }
}

/// A line of `events.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Line {
    /// Something happened.
    Event(Event),
    /// It is over; nothing follows.
    Ended(Box<message::Ended>),
}

/// An activation could not be carried out or taken up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else changes the server.
    #[error("another deploy is under way{}", holder.as_ref().map(|who| format!(" ({who})")).unwrap_or_default())]
    Busy {
        /// Who, as the lock says.
        holder: Option<String>,
    },
    /// There is no such activation.
    #[error("there is no activation `{0}`")]
    Unknown(String),
    /// Something else runs than what the plan started from.
    #[error("the server runs another generation than the plan started from")]
    Stale,
    /// Its files cannot be read or written.
    #[error("activation `{id}`: cannot {what}")]
    Disk {
        /// The activation.
        id: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The store does not have what it should.
    #[error("generation {0} is not on the server")]
    NoGeneration(Hash),
    /// The store cannot be used.
    #[error("the store cannot be used: {0}")]
    Store(String),
    /// An effect that the engine cannot do without failed.
    #[error(transparent)]
    Engine(#[from] stead_engine::effects::Failure),
}

impl Folder {
    /// The folder of the activation with this id; it need not exist.
    pub fn of(id: &str) -> Result<Self, Error> {
        let plain = !id.is_empty() && id.len() < 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !plain {
            return Err(Error::Unknown(id.to_owned()));
        }
        Ok(Self { path: Path::new(layout::ACTIVATIONS).join(id), id: id.to_owned() })
    }

    /// Every activation on this server, the newest first.
    pub fn all() -> Vec<Self> {
        let names = fs::read_dir(layout::ACTIVATIONS).into_iter().flatten().flatten();
        let folders = names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut ids: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.iter().filter_map(|id| Self::of(id).ok()).collect()
    }

    /// The activation that has not ended.
    pub fn unfinished() -> Option<(Self, Journal)> {
        Self::last().filter(|(_, journal)| !journal.record.phase.is_end())
    }

    /// The activation under way, or else the last one. The order of their names is that of the machine's clock,
    /// which may have been set back since.
    pub fn last() -> Option<(Self, Journal)> {
        let under_way = fs::read_link(layout::UNFINISHED).ok().and_then(|id| Self::of(id.to_str()?).ok());
        let mut folders = under_way.into_iter().chain(Self::all());
        folders.find_map(|folder| folder.read().ok().map(|journal| (folder, journal)))
    }

    /// Begins a new activation, which this agent carries out: its folder and its first journal entry are
    /// durable on return, and so is what makes the next boot take it up if it does not end before.
    pub fn begin(journal: &Journal, agent: &Path) -> Result<Self, Error> {
        let folder = Self::of(&journal.record.id)?;
        fs::create_dir_all(&folder.path).map_err(folder.failed("make its folder"))?;
        symlink(agent, folder.path.join(AGENT)).map_err(folder.failed("name its agent"))?;
        fs::write(folder.reserve(), vec![b'.'; RESERVE]).map_err(folder.failed("set space aside"))?;
        folder.write(journal)?;
        let unfinished = Path::new(layout::UNFINISHED);
        let temporary = unfinished.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let link = symlink(&folder.id, &temporary).and_then(|()| fs::rename(&temporary, unfinished));
        link.map_err(folder.failed("note that it is unfinished"))?;
        sync_folder(Path::new(layout::ACTIVATIONS)).map_err(folder.failed("make its folder durable"))?;
        Ok(folder)
    }

    /// Lets the next boot pass it over: it has ended. Need not be durable, because taking up what has ended does nothing.
    pub fn finish(&self) {
        if self.is_unfinished() {
            let _ = fs::remove_file(layout::UNFINISHED);
            let _ = fs::remove_file(layout::RECOVERING);
        }
    }

    /// Whether the next boot would take it up.
    fn is_unfinished(&self) -> bool {
        fs::read_link(layout::UNFINISHED).is_ok_and(|id| id.as_os_str() == self.id.as_str())
    }

    /// The agent that carries it out. Another version might not understand its journal.
    fn agent(&self) -> PathBuf {
        fs::read_link(self.path.join(AGENT)).unwrap_or_else(|_| crate::serve::agent_path())
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        let id = self.id.clone();
        move |source| Error::Disk { id, what, source }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The journal as it was last written.
    pub fn read(&self) -> Result<Journal, Error> {
        let text = match fs::read(self.path.join("record.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Unknown(self.id.clone())),
            other => other.map_err(self.failed("read its journal"))?,
        };
        serde_json::from_slice(&text).map_err(|error| self.failed("understand its journal")(error.into()))
    }

    /// Space that is set aside while the activation goes on: a disk that fills up meanwhile cannot keep
    /// the journal from saying how it goes on, and ends.
    fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// Writes the journal, durably, by rename.
    pub fn write(&self, journal: &Journal) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let temporary = self.path.join(".record.json.new");
            let mut file = File::create(&temporary)?;
            serde_json::to_writer_pretty(&mut file, journal)?;
            file.sync_all()?;
            fs::rename(&temporary, self.path.join("record.json"))?;
            sync_folder(&self.path)
        };
        if journal.record.phase.is_end() {
            let _ = fs::remove_file(self.reserve());
        }
        let written = match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && fs::remove_file(self.reserve()).is_ok() => {
                write()
            }
            written => written,
        };
        written.map_err(self.failed("write its journal"))
    }

    /// Adds a line to the event log. Not durable; a failure to write it changes nothing else.
    pub fn tell(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).open(self.events());
        let _ = file.and_then(|mut file| file.write_all(&text));
    }

    /// The event log.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    fn word(&self, word: &str) -> PathBuf {
        Path::new(layout::RUN).join("activations").join(format!("{}.{word}", self.id))
    }

    /// Tells the running activation something, `confirm` or `cancel`, and why.
    pub fn say(&self, word: &str, why: &str) -> Result<(), Error> {
        let path = self.word(word);
        let say = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            let temporary = path.with_extension(format!("{word}.new"));
            fs::write(&temporary, why)?;
            fs::rename(&temporary, &path)
        };
        say().map_err(self.failed("be told"))
    }

    /// Why the activation was told this; `None`: it was not.
    pub fn told(&self, word: &str) -> Option<String> {
        fs::read_to_string(self.word(word)).ok()
    }

    /// Whether the activation was told this.
    pub fn was_told(&self, word: &str) -> bool {
        self.word(word).exists()
    }

    /// The transient service that carries it out.
    pub fn unit(&self) -> UnitName {
        let name = format!("stead-activation-{}.service", self.id);
        name.parse().expect("an activation's id is letters, digits and hyphens")
    }

    /// The service that takes it up when it was interrupted.
    fn recovery(&self) -> UnitName {
        let name = format!("stead-recovery-{}.service", self.id);
        name.parse().expect("an activation's id is letters, digits and hyphens")
    }

    /// The name that every timer begins with which takes it back when its time is over.
    pub fn deadline(&self) -> String {
        format!("stead-deadline-{}", self.id)
    }

    /// Starts a transient service that takes up what was interrupted. One that runs already goes on.
    pub fn take_up(&self) -> Result<(), Error> {
        let agent = self.agent().display().to_string();
        let unit = self.recovery();
        let states = stead_host::systemd::states(&[&unit]).unwrap_or_default();
        const LONGEST: u32 = 600;
        match states.get(&unit) {
            Some(state) if !state.is_gone() => Ok(()),
            // After a boot the generator's unit of that name is there.
            Some(state) if state.load == "loaded" => stead_host::systemd::request_start(&[&unit]),
            _ => {
                let command = [agent.as_str(), "agent", "recover", &self.id];
                stead_host::systemd::start_transient(&unit, &command, &[], LONGEST)
            }
        }
        .map_err(|error| self.failed("start its recovery")(io::Error::other(error.to_string())))
    }

    /// Starts the transient service that carries it out; when that ends, however it ends, another
    /// one takes up what it left.
    pub fn start(&self) -> Result<(), Error> {
        let agent = self.agent().display().to_string();
        let (command, after) =
            ([agent.as_str(), "agent", "activate", &self.id], [agent.as_str(), "agent", "recover", &self.id]);
        // Longer than every soak and deadline that an operator can ask for, together.
        const LONGEST: u32 = 4 * 3600;
        stead_host::systemd::start_transient(&self.unit(), &command, &after, LONGEST)
            .map_err(|error| self.failed("start its service")(io::Error::other(error.to_string())))
    }
}

/// The record of an activation that is about to begin.
pub(crate) fn record(generation: Hash, parent: Option<Hash>, verb: Verb, by: String) -> Record {
    let now = jiff::Timestamp::now();
    let mut random = [0; 2];
    let digits = match fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)) {
        Ok(()) => u16::from_le_bytes(random),
        Err(_) => u16::try_from(std::process::id() & 0xffff).unwrap_or(0),
    };
    Record {
        id: format!("{}-{digits:04x}", now.strftime("%Y%m%dT%H%M%SZ")),
        generation,
        parent,
        verb,
        by,
        began: now.as_second(),
        ended: None,
        phase: Phase::Staged,
        reason: None,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Waits up to ten seconds for the lock: a session that just staged may still be letting go of it.
pub fn lock() -> Result<Guard, Error> {
    let path = Path::new(layout::LOCK);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match Store::lock(path) {
            Ok(Some(guard)) => return Ok(guard),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(Error::Busy { holder: stead_store::lock::holder(path) }),
            Err(error) => return Err(Error::Store(error.to_string())),
        }
    }
}

/// Carries out the activation with this id, to its end. Called by its transient service.
///
/// # Errors
/// When it cannot begin, or its journal cannot be written; recovery takes it up then.
pub fn carry_out(id: &str) -> Result<message::Ended, Error> {
    walk(id, false)
}

/// Takes up an activation whose process or machine went down, and tells how it ended. Nothing to do, and to tell,
/// for one that had ended.
///
/// # Errors
/// As [`carry_out`].
pub fn recover(id: &str) -> Result<Option<message::Ended>, Error> {
    let folder = Folder::of(id)?;
    if folder.read()?.record.phase.is_end() && !folder.is_unfinished() {
        return Ok(None);
    }
    walk(id, true).map(Some)
}

/// Ends an activation whose time is over: what carries it out does not do so by itself, so it is killed, and the
/// server goes back. Called by the timer that systemd holds. Nothing to do for one that is confirmed or ended, or
/// goes back already.
///
/// # Errors
/// As [`carry_out`]; systemd tries again then.
pub fn expire(id: &str) -> Result<(), Error> {
    let folder = Folder::of(id)?;
    match folder.read()?.record.phase {
        Phase::Staged | Phase::Starting | Phase::OnTrial | Phase::Proved => {
            let why = "its time was over before it was proved and confirmed, so systemd ended it";
            folder.say("cancel", why)?;
            for unit in [folder.unit(), folder.recovery()] {
                stead_host::systemd::kill(&unit)
                    .map_err(|error| folder.failed("be ended")(io::Error::other(error.to_string())))?;
            }
        }
        Phase::Confirmed | Phase::GoingBack => {}
        Phase::WentBack | Phase::Stuck | Phase::Done => {}
    }
    recover(id).map(drop)
}

fn walk(id: &str, is_recovery: bool) -> Result<message::Ended, Error> {
    let folder = Folder::of(id)?;
    let guard = lock()?;
    let _ = guard.describe(&format!("activation {id}"));
    let journal = folder.read()?;
    let store = Store::open(Path::new(layout::STATE)).map_err(|error| Error::Store(error.to_string()))?;
    let load = |id: &Hash| -> Result<Generation, Error> {
        store.generation(id).map_err(|error| Error::Store(error.to_string()))?.ok_or(Error::NoGeneration(*id))
    };
    let candidate = load(&journal.record.generation)?;
    let parent = match &journal.record.parent {
        Some(parent) => load(parent)?,
        None => Generation::empty(candidate.server.clone()),
    };
    let pair = Pair {
        parent: &parent,
        parent_id: journal.record.parent,
        candidate: &candidate,
        candidate_id: journal.record.generation,
    };
    let active = Store::active(Path::new(layout::RUN)).map_err(|error| Error::Store(error.to_string()))?;
    let phase = journal.record.phase;
    let generation = journal.record.generation;
    let mut server = RealServer::new(&store, &guard, folder.clone(), journal, candidate.server.clone());
    let ended = if is_recovery {
        let confirmed = store.confirmed().map_err(|error| Error::Store(error.to_string()))?;
        run::recover(&mut server, pair, phase, confirmed)?
    } else if active != pair.parent_id {
        return Err(Error::Stale);
    } else {
        run::run(&mut server, pair, phase, TableEvent::Begin)?
    };
    let ended = words(&server, generation, ended);
    folder.tell(&Line::Ended(Box::new(ended.clone())));
    Ok(ended)
}

fn words(server: &RealServer<'_>, generation: Hash, ended: Ended) -> message::Ended {
    let outcome = match ended.phase {
        Phase::Done | Phase::Confirmed => message::Outcome::Confirmed,
        Phase::WentBack => message::Outcome::WentBack,
        _ => message::Outcome::Stuck,
    };
    message::Ended {
        activation: Some(server.folder().id().to_owned()),
        outcome,
        generation: Some(generation),
        active: Store::active(Path::new(layout::RUN)).ok().flatten(),
        reason: ended.reason,
        notes: server.notes(),
        usage: usage(),
    }
}

/// What this process took so far: `getrusage(2)` by way of `/proc/self`.
pub fn usage() -> message::Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the command's name in brackets, which may hold anything, the third field comes first: the
    // 14th to 17th are utime, stime, and those of ended children (`proc_pid_stat(5)`).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = after_name.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok());
    let ticks: u64 = times.sum();
    message::Usage { peak_kib: peak.unwrap_or(0), cpu_ms: ticks * 10 }
}
