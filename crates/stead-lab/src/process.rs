//! A process that can be found again: its id, its start time, and the boot that it belongs to.
//!
//! Promises never to signal a process that only happens to have the same id: the kernel's handle
//! (`pidfd_open(2)`) is opened first, then the identity is compared, then the handle is used.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::{fs, io};

/// The identity of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks from the machine's boot to the process's start (`proc_pid_stat(5)`, field 22).
    started: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    boot: String,
}

impl Process {
    /// The process that has this id now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = started(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { pid, started, boot: boot_id()? })
    }

    /// This process.
    pub(crate) fn current() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// Whether it still runs. A zombie does not.
    pub(crate) fn is_running(&self) -> bool {
        self.handle().is_some()
    }

    /// Whether it started since this machine was booted.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
    }

    /// Kills it, and waits until it is gone, at most this long. Fine when it is gone already.
    pub(crate) fn kill(&self, patience: Duration) -> io::Result<()> {
        let Some(handle) = self.handle() else { return Ok(()) };
        match pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => wait(&handle, patience),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is gone, at most this long.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<()> {
        self.handle().map_or(Ok(()), |handle| wait(&handle, patience))
    }

    /// The kernel's handle, when the process still is the recorded one.
    fn handle(&self) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let same = started(&stat) == Some(self.started) && boot_id().is_ok_and(|boot| boot == self.boot);
        (same && !is_zombie(&stat)).then_some(handle)
    }
}

fn wait(handle: &OwnedFd, patience: Duration) -> io::Result<()> {
    let timeout = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    match poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The fields after the name, which may itself hold spaces and parentheses.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

fn started(stat: &str) -> Option<u64> {
    fields(stat).nth(19)?.parse().ok()
}

fn is_zombie(stat: &str) -> bool {
    matches!(fields(stat).next(), None | Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_recycled_id_is_another_process_and_is_not_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id().cast_signed()).unwrap();
        let recycled = Process { started: process.started - 1, ..process.clone() };
        let other_boot = Process { boot: String::new(), ..process.clone() };
        for stranger in [recycled, other_boot] {
            assert!(!stranger.is_running());
            stranger.kill(Duration::from_secs(1)).unwrap();
        }
        assert!(process.is_running());
        process.kill(Duration::from_secs(5)).unwrap();
        assert!(!process.is_running(), "a zombie does not run");
        child.wait().unwrap();
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) Z 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(started(stat), Some(4242));
        assert!(!is_zombie(stat));
    }
}
