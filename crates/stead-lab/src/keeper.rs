//! The keeper: the small process that holds a lab up after the command that started it has ended.
//!
//! It claims the network, sets the limits, boots the container, boots it again when the lab reboots,
//! forwards ports as long as the lab lives, and tidies up when the lab is off. Everything that
//! others need to find it is in `running.json`, which it alone writes.

use crate::command::tail;
use crate::error::{Error, io_error};
use crate::group::{self, Groups};
use crate::network::Link;
use crate::process::Process;
use crate::specification::Specification;
use crate::{container, forward};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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
    let kept = keep(folder, &specification, &link);
    // Told before it is done: a keeper killed in between leaks a link, but nobody removes another lab's.
    if let Ok(running) = load::<Running>(&state) {
        save(&state, &Running { released: true, ..running })?;
    }
    link.release();
    kept
}

fn keep(folder: &Path, specification: &Specification, link: &Link) -> Result<(), Error> {
    container::write_ssh_files(folder, specification, link.lab())?;
    let mut groups = Groups::create(&format!("stead-lab-{}", link.index()), specification.memory_mib);
    if let Err(error) = group::restrict_cpus(specification.cpus, link.index()) {
        groups.unlimited.push(format!("CPUs: {error}"));
    }
    let mut boots = 0;
    let kept = loop {
        boots += 1;
        match boot_once(folder, specification, link, &groups, boots) {
            Ok(Some(container::REBOOT)) => {}
            Ok(_) => break Ok(()),
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

/// One boot, to its end; returns systemd-nspawn's exit status.
fn boot_once(
    folder: &Path,
    specification: &Specification,
    link: &Link,
    groups: &Groups,
    boots: u32,
) -> Result<Option<i32>, Error> {
    link.plug()?;
    let console = folder.join("console.log");
    let log = File::options().create(true).append(true).open(&console).map_err(io_error("open", &console))?;
    let errors = log.try_clone().map_err(io_error("open", &console))?;
    groups.enter()?;
    let child = container::boot(folder, specification, link).stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
    groups.leave()?;
    let mut child = child.map_err(io_error("run", "systemd-nspawn"))?;
    let init = find_init(&mut child, &console)?;
    let running = Running {
        keeper: Process::current().map_err(io_error("read", "/proc/self/stat"))?,
        init,
        link: link.index(),
        groups: groups.paths(),
        unlimited: groups.unlimited.clone(),
        boots,
        released: false,
    };
    save(&folder.join("running.json"), &running)?;
    Ok(child.wait().map_err(io_error("wait for", "systemd-nspawn"))?.code())
}

/// The first process of the container that this systemd-nspawn makes: the child that is number 1
/// in a namespace of its own (`NSpid` of `proc_pid_status(5)`).
fn find_init(child: &mut Child, console: &Path) -> Result<Process, Error> {
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let ids = fs::read_to_string(&children).unwrap_or_default();
        for id in ids.split_whitespace().filter_map(|id| id.parse().ok()) {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let numbers: Vec<&str> = inside.unwrap_or_default().split_whitespace().collect();
            if numbers.len() > 1 && numbers.last() == Some(&"1") {
                return Process::of(id).map_err(io_error("read", format!("/proc/{id}/stat")));
            }
        }
        let ended = child.try_wait().map_err(io_error("wait for", "systemd-nspawn"))?;
        if ended.is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(console).unwrap_or_default();
            return Err(Error::Command { command: "systemd-nspawn".to_owned(), stderr: tail(&said, 8) });
        }
        thread::sleep(Duration::from_millis(2));
    }
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
