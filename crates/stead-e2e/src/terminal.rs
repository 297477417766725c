//! A command at a terminal, which `script(1)` makes: what it shows there, and what is typed.

use crate::outcome::Outcome;
use crate::wait;
use rustix::termios::{LocalModes, tcgetattr};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A command whose standard input, output and error are a terminal.
#[derive(Debug)]
pub struct Terminal {
    command: String,
    script: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts the command, with its variables.
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<&str> = words.filter_map(OsStr::to_str).collect();
        let command_line = shlex::try_join(words).expect("the words have no zeros");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &format!("exec {command_line}"), "/dev/null"]);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                script.env(name, value);
            }
        }
        let script = script.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut script = script.expect("`script` (of bsdutils) is there");
        let mut output = script.stdout.take().expect("it was asked for");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
            }
        });
        Self { command: command_line, script, shown, reader }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Types a line when the terminal shows this, and does not show what is typed.
    #[track_caller]
    pub fn answer(&mut self, question: &str, line: &str) {
        wait::until(&format!("{question:?} is asked"), PATIENCE, || self.shown().contains(question).then_some(()));
        wait::until("the terminal hides what is typed", PATIENCE, || self.hides().then_some(()));
        let input = self.script.stdin.as_mut().expect("it is kept until the end");
        input.write_all(format!("{line}\n").as_bytes()).and_then(|()| input.flush()).expect("`script` reads");
    }

    /// The terminal is the standard input of the program that `script` has started.
    fn hides(&self) -> bool {
        let id = self.script.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let terminal = children.split_whitespace().find_map(|id| File::open(format!("/proc/{id}/fd/0")).ok());
        let modes = terminal.and_then(|terminal| tcgetattr(terminal).ok());
        modes.is_some_and(|modes| !modes.local_modes.contains(LocalModes::ECHO))
    }

    /// How the command ended; all that was shown is in `stdout`.
    #[track_caller]
    pub fn end(mut self) -> Outcome {
        // The input stays open: its end would be one of the terminal's.
        let status = wait::until("the command ends", PATIENCE, || self.script.try_wait().ok().flatten());
        let _ = self.reader.join();
        let stdout = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Outcome::new(self.command, &Output { status, stdout, stderr: Vec::new() })
    }
}
