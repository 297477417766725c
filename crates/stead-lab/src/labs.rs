//! All labs of one state folder: make, find, list, remove.
//!
//! A lab appears under its name only when it is complete, and disappears at once.

use crate::command::require;
use crate::engine::Bases;
use crate::error::{Error, io_error};
use crate::forward;
use crate::keeper::save;
use crate::lab::{Lab, Status, lock};
use crate::specification::{Engine, Release, Specification};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stead_model::name::Name;

/// What happens while a lab is made or started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The cache has no base system of this release for this engine; building one takes half a minute.
    BuildingBase {
        /// The release.
        release: Release,
    },
    /// The build went on to this step, in mmdebstrap's words.
    BaseStep {
        /// The step.
        text: String,
    },
    /// The base system is in the cache now.
    BaseBuilt {
        /// The release.
        release: Release,
        /// How long it took.
        took: Duration,
    },
    /// The lab's disk is being made.
    Copying,
    /// The lab starts.
    Booting,
    /// A limit could not be set: the lab may use more than a droplet has.
    NotLimited {
        /// Which, and why.
        limit: String,
    },
    /// The lab runs and lets the operator in.
    Ready {
        /// `running` or `degraded`, as systemd says.
        state: String,
        /// How long the boot took.
        took: Duration,
    },
    /// There was nothing to do: the same lab runs already.
    RunsAlready,
    /// Something else that its user should know.
    Note {
        /// What.
        text: String,
    },
    /// The lab is asked to power off.
    ShuttingDown,
    /// A container cannot be booted here: the lab becomes a virtual machine.
    NoContainer {
        /// Why.
        reason: String,
    },
}

/// All labs of one state folder.
#[derive(Debug, Clone)]
pub struct Labs {
    state: PathBuf,
    cache: PathBuf,
    keeper: Program,
    mirror: Option<String>,
}

/// The program that keeps a lab up: called with these words and the lab's folder, it calls [`crate::keeper::run`].
#[derive(Debug, Clone)]
pub(crate) struct Program(Vec<OsString>);

impl Labs {
    /// Labs with their state here, base systems in the cache there, kept up by this program, which
    /// is given the lab's folder as one more word, and calls [`crate::keeper::run`] with it.
    pub fn new(state: PathBuf, cache: PathBuf, keeper: Vec<OsString>) -> Self {
        Self { state, cache, keeper: Program(keeper), mirror: None }
    }

    /// Base systems are built from this mirror instead of this machine's own package sources.
    pub fn with_mirror(self, mirror: Option<String>) -> Self {
        Self { mirror, ..self }
    }

    /// Makes the lab if there is none, starts it if it is off, and returns when it is ready.
    pub fn up(&self, wanted: &Specification, events: &mut dyn FnMut(Event)) -> Result<Lab, Error> {
        require_root()?;
        fs::create_dir_all(&self.state).map_err(io_error("create", &self.state))?;
        let state = fs::canonicalize(&self.state).map_err(io_error("find", &self.state))?;
        let folder = state.join(wanted.name.as_str());
        let _held = lock(&folder.with_extension("lock"))?;
        if !folder.exists() {
            for forward in &wanted.forwards {
                forward::listen(*forward)?;
            }
            self.create(&folder, wanted, events)?;
        }
        let lab = Lab::open(folder, self.keeper.clone())?;
        if let Some(difference) = difference(lab.specification(), wanted) {
            return Err(Error::NameTaken { name: wanted.name.clone(), difference });
        }
        match lab.status() {
            Status::Running => {
                lab.wait_ready()?;
                events(Event::RunsAlready);
            }
            Status::Stopped => lab.start(events)?,
        }
        Ok(lab)
    }

    /// [`Labs::up`], in the engine that the lab of this name has. A new one is a container, or where a
    /// container cannot be started a virtual machine; which one that became is told.
    pub fn up_in_any_engine(&self, wanted: &Specification, events: &mut dyn FnMut(Event)) -> Result<Lab, Error> {
        require_root()?;
        let in_engine = |engine| Specification { engine, ..wanted.clone() };
        let existing = self.list()?.into_iter().find(|lab| *lab.name() == wanted.name);
        if let Some(lab) = existing {
            return self.up(&in_engine(lab.specification().engine), events);
        }
        match self.up(&in_engine(Engine::Container), events) {
            Err(error @ Error::DidNotStart { .. }) => {
                self.down(&wanted.name)?;
                events(Event::NoContainer { reason: error.to_string() });
                self.up(&in_engine(Engine::VirtualMachine), events)
            }
            other => other,
        }
    }

    /// Stops the lab and removes all of it. Base systems stay.
    pub fn down(&self, name: &Name) -> Result<(), Error> {
        require_root()?;
        let lab = self.get(name)?;
        let _held = lab.lock()?;
        if let Some(running) = lab.running() {
            lab.stop(&running)?;
        }
        lab.clean_up()?;
        let removed = self.scratch(name, "removed")?;
        fs::rename(lab.folder(), &removed).map_err(io_error("remove", lab.folder()))?;
        fs::remove_dir_all(&removed).map_err(io_error("remove", &removed))
    }

    /// All labs, by name.
    pub fn list(&self) -> Result<Vec<Lab>, Error> {
        let state = match fs::canonicalize(&self.state) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("find", &self.state)(error)),
        };
        let entries = fs::read_dir(&state).map_err(io_error("read", &state))?;
        let named = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Name>().ok());
        let mut names: Vec<Name> = named.filter(|name| state.join(name.as_str()).join("lab.json").exists()).collect();
        names.sort();
        names.iter().map(|name| Lab::open(state.join(name.as_str()), self.keeper.clone())).collect()
    }

    /// The lab of this name; the error suggests a similar one.
    pub fn get(&self, name: &Name) -> Result<Lab, Error> {
        let mut labs = self.list()?;
        if let Some(found) = labs.iter().position(|lab| lab.name() == name) {
            return Ok(labs.swap_remove(found));
        }
        let known: Vec<Name> = labs.iter().map(|lab| lab.name().clone()).collect();
        let similarity = |other: &Name| strsim::jaro_winkler(other.as_str(), name.as_str());
        let similar = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let suggestion = similar.filter(|other| similarity(other) > 0.8).cloned();
        Err(Error::Unknown { name: name.clone(), suggestion, known })
    }

    fn create(&self, folder: &Path, wanted: &Specification, events: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let machinery = wanted.engine.machinery();
        require("ssh-keygen", "openssh-client")?;
        for (program, package) in machinery.programs() {
            require(program, package)?;
        }
        let bases = Bases { cache: &self.cache, mirror: self.mirror.as_deref() };
        let base = machinery.base(bases, wanted.release, events)?;
        events(Event::Copying);
        let partial = self.scratch(&wanted.name, "partial")?;
        DirBuilder::new().mode(0o700).create(&partial).map_err(io_error("create", &partial))?;
        machinery.make(&base, &partial, wanted)?;
        save(&partial.join("lab.json"), wanted)?;
        fs::rename(&partial, folder).map_err(io_error("create", folder))
    }

    /// A folder that does not exist, beside the labs; left over ones are removed. No lab has a name with a dot.
    fn scratch(&self, name: &Name, purpose: &str) -> Result<PathBuf, Error> {
        let path = self.state.join(format!("{name}.{purpose}"));
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
        Ok(path)
    }
}

impl Program {
    /// The command, in a scope of its own where systemd runs this machine: so that the lab's control
    /// groups are delegated to it, and the end of a login session does not end the lab.
    pub(crate) fn command(&self) -> Command {
        let booted = Path::new("/run/systemd/system").exists(); // sd_booted(3)
        let scope = ["systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--"].map(OsStr::new);
        let scope = if booted { &scope[..] } else { &[] };
        let mut words = scope.iter().copied().chain(self.0.iter().map(OsString::as_os_str));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(self.0.first().map_or(OsStr::new(""), OsString::as_os_str))
    }
}

/// Fails when this process is not root.
pub(crate) fn require_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

fn difference(is: &Specification, wanted: &Specification) -> Option<&'static str> {
    [
        (is.release != wanted.release, "Debian release"),
        (is.cpus != wanted.cpus, "number of CPUs"),
        (is.memory_mib != wanted.memory_mib, "amount of memory"),
        (is.forwards != wanted.forwards, "set of forwarded ports"),
        (is.engine != wanted.engine, "engine"),
    ]
    .into_iter()
    .find_map(|(differs, what)| differs.then_some(what))
}
