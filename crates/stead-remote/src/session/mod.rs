//! One `ssh` process, and at its other end one agent that has said hello.
//!
//! Opening a session logs in, finds out what the server is, brings the agent along if it is not
//! there, and waits for its hello. Promises that each way in which this fails has its own error,
//! with what `ssh` said, and that no process is left behind. Changes nothing on the server but for
//! the agent's own file.

mod error;
mod reading;
mod ssh;

pub use error::OpenError;
pub use reading::{Reading, read_as_root};
pub use ssh::Patient;

use crate::agent::AgentBinary;
use crate::bootstrap::{self, Facts, Place, Present, ReadError, Root};
use crate::counted::Counted;
use crate::destination::{CONNECT_TIMEOUT, Destination, Login, Questions};
use crate::frame::{self, Connection, Kind};
use crate::message::{Hello, PROTOCOL};
use crate::password::Password;
use error::Stop;
use serde::Deserialize;
use ssh::Ssh;
use std::fmt;
use std::process::ChildStdin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The oldest systemd that units of Stead run under.
pub const OLDEST_SYSTEMD: u32 = 250;

/// Gets what somebody says, line by line, from another thread.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// How a session is opened.
#[derive(Clone)]
pub struct Options {
    /// Which connection may be used.
    pub login: Login,
    /// Whether somebody can answer questions of `ssh`.
    pub questions: Questions,
    /// The password, for a login whose `sudo` wants one.
    pub password: Option<Password>,
    /// Where things are on the server.
    pub place: Place,
    /// Time until the login has to say its first word, if nobody can be asked anything meanwhile.
    pub connecting: Duration,
    /// Time that the agent gets to say hello.
    pub patience: Duration,
    /// Gets each line that `ssh` says on its standard error, as it comes.
    pub said: Option<Listener>,
    /// Gets how many bytes of the agent's program are sent, and how many there are.
    pub progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>,
}

impl Options {
    /// Any login, with nobody to ask.
    pub fn new() -> Self {
        Self {
            login: Login::Any,
            questions: Questions::Nobody,
            password: None,
            place: Place::default(),
            connecting: Duration::from_secs(u64::from(CONNECT_TIMEOUT) + 20),
            patience: Duration::from_secs(20),
            said: None,
            progress: None,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Options")
            .field("login", &self.login)
            .field("questions", &self.questions)
            .finish_non_exhaustive()
    }
}

/// A conversation with an agent.
#[derive(Debug)]
pub struct Session {
    ssh: Ssh,
    connection: Line,
    facts: Facts,
    hello: Hello,
}

/// The conversation's two ends.
pub type Line = Connection<Counted<Patient>, Counted<ChildStdin>>;

impl Session {
    /// Logs in, brings the agent along if it is missing or altered, and waits for its hello.
    ///
    /// # Errors
    /// Each failure has its own variant; none of them has changed what runs.
    pub fn open(destination: &Destination, agent: &AgentBinary, options: &Options) -> Result<Self, OpenError> {
        match Self::attempt(destination, agent, options, Present::Use) {
            // A power cut, or somebody, got at the file: once more, with a new one.
            Err(OpenError::Altered { .. }) => Self::attempt(destination, agent, options, Present::Replace),
            result => result,
        }
    }

    fn attempt(
        destination: &Destination,
        agent: &AgentBinary,
        options: &Options,
        present: Present,
    ) -> Result<Self, OpenError> {
        let command = bootstrap::command(&options.place, &agent.hash, present);
        let arguments = destination.arguments(options.login, options.questions, &command);
        let (mut ssh, mut connection) = Ssh::start(arguments, options)?;
        ssh.sent.add(command.len() as u64);
        match greet(&mut connection, agent, options) {
            Ok((facts, hello)) => {
                connection.reader.inner_mut().inner_mut().deadline = None;
                Ok(Self { ssh, connection, facts, hello })
            }
            Err(stop) => {
                drop(connection);
                if matches!(stop, Stop::Silent) {
                    ssh.kill();
                }
                let status = ssh.end();
                Err(stop.explain(destination, &agent.machine, status, ssh.words()))
            }
        }
    }

    /// What the agent said first.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Who logged in, and on what machine. The caller compares it with what was declared.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The conversation.
    pub fn line(&mut self) -> &mut Line {
        &mut self.connection
    }

    /// Bytes that were sent so far: the command, the agent's program, and all that followed.
    pub fn sent(&self) -> u64 {
        self.ssh.sent.bytes()
    }

    /// Bytes that were received so far.
    pub fn received(&self) -> u64 {
        self.ssh.received.bytes()
    }

    /// What `ssh` said on its standard error so far: what it has to say about a line that dropped.
    pub fn said(&self) -> String {
        self.ssh.said.text()
    }

    /// Ends the conversation and waits for `ssh` to end.
    pub fn close(self) {
        let Self { mut ssh, connection, .. } = self;
        drop(connection);
        ssh.end();
    }
}

/// An end to waiting from now on, or none.
fn wait(line: &mut Line, time: Option<Duration>) {
    line.reader.inner_mut().inner_mut().deadline = time.map(|time| Instant::now() + time);
}

/// From the first byte to a script that runs as root.
fn become_root(line: &mut Line, options: &Options) -> Result<Facts, Stop> {
    // While somebody types a passphrase, nobody counts.
    wait(line, (options.questions == Questions::Nobody).then_some(options.connecting));
    let facts = bootstrap::read_facts(&mut line.reader).map_err(|error| match error {
        ReadError::Line(error) => Stop::before_facts(error),
        other => Stop::Shell(other),
    })?;
    match (facts.root, &options.password) {
        (Root::Yes, _) => Ok(facts),
        (Root::No, _) => Err(Stop::NoRoot(facts.user)),
        (Root::WithPassword, None) => Err(Stop::NeedsPassword(facts.user)),
        (Root::WithPassword, Some(password)) => hand_over(line, password, facts.user, options),
    }
}

/// Gives `sudo` its password. Where it is not content, the login ends.
fn hand_over(line: &mut Line, password: &Password, user: String, options: &Options) -> Result<Facts, Stop> {
    wait(line, Some(options.connecting));
    // A login that has ended by now is told by what comes next, or does not.
    let _ = line.writer.unbuffered(&password.lines(bootstrap::MARK));
    match bootstrap::read_facts(&mut line.reader) {
        Ok(facts) if facts.root == Root::Yes => Ok(facts),
        Ok(_) | Err(ReadError::Line(frame::Error::Closed | frame::Error::Dropped)) => Err(Stop::WrongPassword(user)),
        Err(ReadError::Line(error)) => Err(Stop::before_facts(error)),
        Err(other) => Err(Stop::Shell(other)),
    }
}

/// From the first byte to the agent's hello.
fn greet(line: &mut Line, agent: &AgentBinary, options: &Options) -> Result<(Facts, Hello), Stop> {
    let facts = become_root(line, options)?;
    fit(&facts, agent)?;
    if !facts.have {
        upload(line, agent, options)?;
    }
    wait(line, Some(options.patience));
    let hello = read_hello(line).map_err(|error| match error {
        HelloError::Protocol(found) => Stop::Protocol(found),
        HelloError::Line(error) => Stop::before_hello(error, facts.have),
    })?;
    if hello.agent != agent.hash {
        return Err(Stop::Altered(hello.agent));
    }
    Ok((facts, hello))
}

/// Whether the agent can run there, before it is sent.
fn fit(facts: &Facts, agent: &AgentBinary) -> Result<(), Stop> {
    match facts.systemd {
        0 => return Err(Stop::NoSystemd),
        1..OLDEST_SYSTEMD => return Err(Stop::OldSystemd(facts.systemd)),
        _ => {}
    }
    if facts.machine != agent.machine {
        return Err(Stop::WrongMachine(facts.machine.clone()));
    }
    Ok(())
}

fn upload(line: &mut Line, agent: &AgentBinary, options: &Options) -> Result<(), Stop> {
    let packed = agent.packed().map_err(Stop::OwnAgent)?;
    let total = packed.len() as u64;
    let line_error = |error| Stop::before_hello(error, false);
    line.writer.unframed(format!("{total}\n").as_bytes()).map_err(line_error)?;
    let mut done = 0;
    for piece in packed.chunks(64 << 10) {
        line.writer.unframed(piece).and_then(|()| line.writer.flush()).map_err(line_error)?;
        done += piece.len() as u64;
        if let Some(progress) = &options.progress {
            progress(done, total);
        }
    }
    Ok(())
}

enum HelloError {
    Protocol(u32),
    Line(frame::Error),
}

/// The version is read first, so that an agent of another one is refused with words.
fn read_hello(line: &mut Line) -> Result<Hello, HelloError> {
    #[derive(Deserialize)]
    struct Version {
        protocol: u32,
    }
    let frame = line.reader.frame().map_err(HelloError::Line)?;
    if frame.kind != Kind::Message {
        return Err(HelloError::Line(frame::Error::OutOfTurn { expected: "a hello", kind: frame.kind }));
    }
    match frame::read_message::<Version>(&frame.payload) {
        Ok(version) if version.protocol != PROTOCOL => return Err(HelloError::Protocol(version.protocol)),
        _ => {}
    }
    frame::read_message(&frame.payload).map_err(HelloError::Line)
}
