//! The keeper: the small process that holds a lab up after the command that started it has ended.
//!
//! It claims the network, sets the limits, boots the lab, boots it again when the lab reboots,
//! forwards ports as long as the lab lives, and tidies up when the lab is off. Everything that
//! others need to find it is in `running.json`, which it alone writes.

use crate::engine::End;
use crate::error::{Error, io_error};
use crate::forward;
use crate::group::{self, Groups};
use crate::identity;
use crate::network::Link;
use crate::process::Process;
use crate::specification::Specification;
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

/// What runs, as the keeper knows it. Stays when the lab is off; believed only after the processes were checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Running {
    /// The keeper.
    pub(crate) keeper: Process,
    /// The lab's first process; killing it is a power cut.
    pub(crate) init: Process,
    /// The index of its network link.
    pub(crate) link: u16,
    /// Its control groups.
    pub(crate) groups: Vec<PathBuf>,
    /// Limits that could not be set, and why.
    pub(crate) unlimited: Vec<String>,
    /// What else its user should know of this boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// How often this keeper booted it.
    pub(crate) boots: u32,
    /// Whether the keeper gave back link and groups: they may be another lab's now.
    pub(crate) released: bool,
}

impl Running {
    /// Its network link.
    pub(crate) fn link(&self) -> Link {
        Link::existing(self.link, self.keeper.pid)
    }
}

/// Keeps the lab in this folder up until it is off. To be called by a process of its own, whose
/// standard error is the lab's log; returns when there is nothing to keep any more.
pub fn run(folder: &Path) -> Result<(), Error> {
    // A session of its own, so that no terminal and no closing of one reaches the lab. Fails for the
    // leader of a process group, which then stays in its session.
    let _ = rustix::process::setsid();
    let specification: Specification = load(&folder.join("lab.json"))?;
    let listeners = specification.forwards.iter().map(|wanted| forward::listen(*wanted));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;

    let state = folder.join("running.json");
    let earlier: Option<Running> = load(&state).ok();
    let link = Link::claim(earlier.map(|earlier| earlier.link))?;
    for (listener, wanted) in listeners.into_iter().zip(&specification.forwards) {
        let to = SocketAddr::from((link.lab(), wanted.lab.number()));
        thread::spawn(move || forward::run(&listener, to));
    }
    let kept = keep(folder, &link);
    // Told before it is done: a keeper killed in between leaks a link, but nobody removes another lab's.
    if let Ok(running) = load::<Running>(&state) {
        save(&state, &Running { released: true, ..running })?;
    }
    link.release();
    kept
}

fn keep(folder: &Path, link: &Link) -> Result<(), Error> {
    let mut groups = Groups::create(&format!("stead-lab-{}", link.index()));
    let cpus = group::allowed_cpus().map_err(io_error("read", "/proc/self/status"))?;
    let mut boots = 0;
    let kept = loop {
        boots += 1;
        // Read for each boot: it may have been resized.
        match load(&folder.join("lab.json")).and_then(|lab| boot_once(folder, &lab, link, &mut groups, &cpus, boots)) {
            Ok(End::Reboot) => {}
            Ok(End::Off) => break Ok(()),
            Err(error) => break Err(error),
        }
        // Another boot finds no firewall rule, socket or process of the one before.
        link.release();
        groups.empty();
        if let Err(error) = link.take() {
            break Err(error);
        }
    };
    groups.remove();
    kept
}

/// One boot, to its end.
fn boot_once(
    folder: &Path,
    specification: &Specification,
    link: &Link,
    groups: &mut Groups,
    cpus: &CpuSet,
    boots: u32,
) -> Result<End, Error> {
    let machinery = specification.engine.machinery();
    identity::write_ssh_files(folder, &machinery.identity(folder), specification, link.lab())?;
    let mut unlimited = groups.missing.clone();
    if machinery.is_limited_from_outside() {
        unlimited.extend(group::limit_memory(&groups.paths(), specification.memory_mib).err());
        let restricted = group::restrict_cpus(cpus, specification.cpus, link.index());
        unlimited.extend(restricted.err().map(|error| format!("CPUs: {error}")));
    }
    machinery.plug(link)?;
    let console = folder.join("console.log");
    groups.enter()?;
    let boot = machinery.start(folder, specification, link, &console);
    groups.leave()?;
    let mut boot = boot?;
    let running = Running {
        keeper: Process::current().map_err(io_error("read", "/proc/self/stat"))?,
        init: machinery.init(&mut boot, &console)?,
        link: link.index(),
        groups: groups.paths(),
        unlimited,
        notes: boot.notes.clone(),
        boots,
        released: false,
    };
    save(&folder.join("running.json"), &running)?;
    machinery.wait(boot, &console)
}

/// Reads a state file.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::State { path: path.to_owned(), source })
}

/// Writes a state file so that readers see the old or the new one, never half of it.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    let text = serde_json::to_vec_pretty(value).expect("state files always serialise");
    fs::write(&partial, text).map_err(io_error("write", &partial))?;
    fs::rename(&partial, path).map_err(io_error("write", path))
}
