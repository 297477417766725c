//! What runs for an operator ends when their connection does.
//!
//! A command that says nothing would never notice that nobody listens any more: it is asked to end
//! (SIGTERM, its whole process group) as soon as the operator's side has closed, and killed when it
//! does not. What left the group on purpose (`setsid(1)`, a unit of systemd's) goes on, as over any SSH.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at whether the command has ended by itself.
const BEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Time that a command gets to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// A running command that does not outlive the operator's connection, nor this value.
pub(super) struct Tether {
    child: Child,
    /// Whether the process group may be signalled: not once its leader was waited for, when its number may be
    /// another's.
    is_ours: Arc<Mutex<bool>>,
    watch: Option<JoinHandle<()>>,
}

impl Tether {
    /// Starts a command in a process group of its own, tied to the operator's `line`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(command: &mut Command, line: impl AsFd) -> io::Result<Self> {
        let line = line.as_fd().try_clone_to_owned()?;
        let child = command.process_group(0).spawn()?;
        let is_ours = Arc::new(Mutex::new(true));
        let watch = pid(&child).map(|group| {
            let is_ours = Arc::clone(&is_ours);
            std::thread::spawn(move || watch(&line, group, &is_ours))
        });
        Ok(Self { child, is_ours, watch })
    }

    /// The command's process, for its pipes.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the command has ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(pid) = pid(&self.child) {
            // It ends, but keeps its number until the line is cut off.
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        }
        *self.is_ours.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.child.wait()
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        if let Some(group) = pid(&self.child) {
            signal(group, Signal::KILL, &self.is_ours);
        }
        let _ = self.wait();
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Signals the group while it is known to be the command's; tells whether it is.
fn signal(group: Pid, signal: Signal, is_ours: &Mutex<bool>) -> bool {
    let is_ours = is_ours.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_ours {
        let _ = kill_process_group(group, signal);
    }
    *is_ours
}

/// Whether the other side of the line has closed.
pub(super) fn is_closed(line: &OwnedFd) -> bool {
    closes_within(line, &Timespec { tv_sec: 0, tv_nsec: 0 })
}

/// What comes over the line is not of interest here, only its end.
fn closes_within(line: &OwnedFd, time: &Timespec) -> bool {
    let mut end = [PollFd::new(line, PollFlags::RDHUP)];
    let said = poll(&mut end, Some(time));
    let closed = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR | PollFlags::NVAL;
    said.is_ok() && end[0].revents().intersects(closed)
}

/// Until the command is over, or the other side of the line has closed; then ends the command.
fn watch(line: &OwnedFd, group: Pid, is_ours: &Mutex<bool>) {
    let is_running = || *is_ours.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let is_over = closes_within(line, &BEAT);
        if !is_running() {
            return;
        }
        if is_over {
            break;
        }
    }
    let end = Instant::now() + GRACE;
    signal(group, Signal::TERM, is_ours);
    while is_running() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(group, Signal::KILL, is_ours);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Stdio;

    /// A line whose other side no child inherits.
    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Reads to the end of what a command and all that it started hold open.
    fn rest(tether: &mut Tether) -> String {
        let mut text = String::new();
        tether.child().stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_silent_command_and_what_it_started_end_with_the_line() {
        let (line, other_side) = pipe();
        let mut tether = Tether::start(&mut shell("sleep 1000 & sleep 1000"), &line).unwrap();
        assert!(!is_closed(&line));
        drop(other_side);
        assert_eq!(rest(&mut tether), "", "both ends of the pipe were closed");
        assert!(is_closed(&line));
        assert!(!tether.wait().unwrap().success());
    }

    #[test]
    fn a_command_that_ignores_the_request_is_killed() {
        let (line, other_side) = pipe();
        let mut tether =
            Tether::start(&mut shell("trap '' TERM; echo up; while :; do sleep 0.1; done"), &line).unwrap();
        let mut said = [0; 3];
        tether.child().stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(said, *b"up\n", "now it ignores the request");
        drop(other_side);
        assert_eq!(rest(&mut tether), "");
        assert!(!tether.wait().unwrap().success());
    }

    #[test]
    fn a_command_ends_by_itself_while_the_line_is_open_also_with_unread_words_on_it() {
        let (line, other_side) = pipe();
        rustix::io::write(&other_side, b"the next request").unwrap();
        let mut tether = Tether::start(&mut shell("echo done; exit 3"), &line).unwrap();
        assert_eq!(rest(&mut tether), "done\n");
        assert_eq!(tether.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn a_command_that_nobody_waits_for_any_more_ends() {
        let (line, _other_side) = pipe();
        let mut tether = Tether::start(&mut shell("exec sleep 1000"), &line).unwrap();
        let mut output = tether.child().stdout.take().unwrap();
        drop(tether);
        assert_eq!(output.read(&mut [0]).unwrap(), 0);
    }
}
