//! The `ssh` process, what it says, and how long one waits for it.
//!
//! Promises that the process is ended and waited for whatever happens, and that no other ever is.

use super::{Line, Listener, OpenError, Options};
use crate::counted::{Counted, Counter};
use crate::frame::Connection;
use rustix::event::{PollFd, PollFlags, poll};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes that are kept of what `ssh` says.
const SAID_LIMIT: usize = 16 << 10;
/// Time that an `ssh` gets to end by itself.
const ENDING: Duration = Duration::from_secs(3);

/// The process and what is known of it.
#[derive(Debug)]
pub(super) struct Ssh {
    child: Child,
    pub(super) said: Said,
    pub(super) sent: Counter,
    pub(super) received: Counter,
}

impl Ssh {
    pub(super) fn start(arguments: Vec<OsString>, options: &Options) -> Result<(Self, Line), OpenError> {
        let mut child = Command::new("ssh")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(OpenError::NoSsh)?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for as pipes");
        };
        let (sent, received) = (Counter::default(), Counter::default());
        let patient = Patient { output, deadline: None };
        let line = Connection::new(Counted::new(patient, received.clone()), Counted::new(input, sent.clone()));
        let said = Said::listen(errors, options.said.clone());
        Ok((Self { child, said, sent, received }, line))
    }

    /// Waits until it has ended, and ends it if that takes too long.
    pub(super) fn end(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + ENDING;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                _ => {
                    self.kill();
                    return self.child.wait().ok();
                }
            }
        }
    }

    /// Only ever this own child, which has not been waited for.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// All that it said. A shared connection's master may hold the pipe open; it is not waited for.
    pub(super) fn words(&self) -> String {
        self.said.wait(Duration::from_millis(300));
        self.said.text()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// What `ssh` says on its standard error.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<(Mutex<Words>, Condvar)>);

#[derive(Debug, Default)]
struct Words {
    text: String,
    ended: bool,
}

impl Said {
    fn listen(errors: ChildStderr, tell: Option<Listener>) -> Self {
        let said = Self::default();
        let listener = said.clone();
        std::thread::spawn(move || {
            let mut errors = BufReader::new(errors);
            let mut line = Vec::new();
            while matches!(errors.by_ref().take(4096).read_until(b'\n', &mut line), Ok(count) if count > 0) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\r', '\n']);
                listener.add(text);
                if let Some(tell) = &tell {
                    tell(text);
                }
                line.clear();
            }
            listener.0.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            listener.0.1.notify_all();
        });
        said
    }

    fn add(&self, line: &str) {
        let mut words = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if words.text.len() + line.len() < SAID_LIMIT {
            words.text.push_str(line);
            words.text.push('\n');
        }
    }

    fn wait(&self, time: Duration) {
        let words = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_timeout_while(words, time, |words| !words.ended));
    }

    pub(super) fn text(&self) -> String {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).text.trim().to_owned()
    }
}

/// The process's output, with an end to waiting while there is a deadline.
#[derive(Debug)]
pub struct Patient {
    output: ChildStdout,
    pub(super) deadline: Option<Instant>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.try_into().map_err(io::Error::other)?;
            let mut waited = [PollFd::new(&self.output, PollFlags::IN)];
            if poll(&mut waited, Some(&left))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.output.read(buffer)
    }
}
