//! A script of the shell on a server, before any agent is there.
//!
//! Becomes root as a session does, and leaves nothing there but what the script itself leaves.

use super::error::Stop;
use super::ssh::Ssh;
use super::{Line, OpenError, Options, become_root};
use crate::bootstrap;
use crate::destination::Destination;
use crate::frame;

/// Most bytes of a line that a script says.
const LINE_LIMIT: usize = 64 << 10;
/// Most lines.
const LINES_LIMIT: usize = 10_000;

/// What a script said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// On its standard output, up to its end or that of the line.
    pub text: String,
    /// On its standard error, and what `ssh` said there.
    pub said: String,
}

/// Logs in, becomes root, and runs this script.
///
/// # Errors
/// Where nobody can log in or become root, as [`super::Session::open`] has it, and where the line drops.
pub fn read_as_root(destination: &Destination, script: &str, options: &Options) -> Result<Reading, OpenError> {
    let arguments = destination.arguments(options.login, options.questions, &bootstrap::shell());
    let (mut ssh, mut line) = Ssh::start(arguments, options)?;
    match converse(&mut line, script, options) {
        Ok(()) => {
            // The script's end.
            let frame::Connection { mut reader, writer } = line;
            drop(writer);
            let mut text = String::new();
            for _ in 0..LINES_LIMIT {
                let Ok(line) = reader.line(LINE_LIMIT) else { break };
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            }
            ssh.end();
            Ok(Reading { text, said: ssh.words() })
        }
        Err(stop) => {
            drop(line);
            if matches!(stop, Stop::Silent) {
                ssh.kill();
            }
            let status = ssh.end();
            Err(stop.explain(destination, "", status, ssh.words()))
        }
    }
}

fn converse(line: &mut Line, script: &str, options: &Options) -> Result<(), Stop> {
    become_root(line, options)?;
    super::wait(line, None);
    let written = line.writer.unframed(script.as_bytes()).and_then(|()| line.writer.flush());
    written.map_err(|error| Stop::before_hello(error, false))
}
