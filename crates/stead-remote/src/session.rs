//! One `ssh` process, and at its other end one agent that has said hello.
//!
//! Opening a session logs in, finds out what the server is, brings the agent along if it is not
//! there, and waits for its hello. Promises that each way in which this fails has its own error,
//! with what `ssh` said, and that no process is left behind. Changes nothing on the server but for
//! the agent's own file.

use crate::agent::AgentBinary;
use crate::bootstrap::{self, Facts, Place, Present, ReadError};
use crate::counted::{Counted, Counter};
use crate::destination::{CONNECT_TIMEOUT, Destination, Login, Questions};
use crate::frame::{self, Connection, Kind};
use crate::message::{Hello, PROTOCOL};
use crate::trouble::{Trouble, recognise};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Deserialize;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stead_model::hash::Hash;

/// The oldest systemd that units of Stead run under.
pub const OLDEST_SYSTEMD: u32 = 250;
/// Most bytes that are kept of what `ssh` says.
const SAID_LIMIT: usize = 16 << 10;
/// Time that an `ssh` gets to end by itself.
const ENDING: Duration = Duration::from_secs(3);

/// Gets what somebody says, line by line, from another thread.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// How a session is opened.
#[derive(Clone)]
pub struct Options {
    /// Which connection may be used.
    pub login: Login,
    /// Whether somebody can answer questions of `ssh`.
    pub questions: Questions,
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
                Err(stop.explain(destination, agent, status, ssh.words()))
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

/// From the first byte to the agent's hello.
fn greet(line: &mut Line, agent: &AgentBinary, options: &Options) -> Result<(Facts, Hello), Stop> {
    let wait = |line: &mut Line, time: Option<Duration>| {
        line.reader.inner_mut().inner_mut().deadline = time.map(|time| Instant::now() + time);
    };
    // While somebody types a passphrase, nobody counts.
    wait(line, (options.questions == Questions::Nobody).then_some(options.connecting));
    let facts = bootstrap::read_facts(&mut line.reader).map_err(|error| match error {
        ReadError::Line(error) => Stop::before_facts(error),
        other => Stop::Shell(other),
    })?;
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
    if !facts.root {
        return Err(Stop::NoRoot(facts.user.clone()));
    }
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

/// The process and what is known of it.
#[derive(Debug)]
struct Ssh {
    child: Child,
    said: Said,
    sent: Counter,
    received: Counter,
}

impl Ssh {
    fn start(arguments: Vec<std::ffi::OsString>, options: &Options) -> Result<(Self, Line), OpenError> {
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
    fn end(&mut self) -> Option<ExitStatus> {
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
    fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// All that it said. A shared connection's master may hold the pipe open; it is not waited for.
    fn words(&self) -> String {
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
struct Said(Arc<(Mutex<Words>, Condvar)>);

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

    fn text(&self) -> String {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).text.trim().to_owned()
    }
}

/// The process's output, with an end to waiting while there is a deadline.
#[derive(Debug)]
pub struct Patient {
    output: ChildStdout,
    deadline: Option<Instant>,
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

/// Why there is no hello, before what `ssh` said is known.
enum Stop {
    Gone,
    Silent,
    Shell(ReadError),
    NoRoot(String),
    NoSystemd,
    OldSystemd(u32),
    WrongMachine(String),
    OwnAgent(io::Error),
    Ended { had: bool },
    Protocol(u32),
    Altered(Hash),
    Line(frame::Error),
}

impl Stop {
    fn before_facts(error: frame::Error) -> Self {
        match error {
            frame::Error::Closed | frame::Error::Dropped => Stop::Gone,
            other => Self::of(other),
        }
    }

    fn before_hello(error: frame::Error, had: bool) -> Self {
        match error {
            frame::Error::Closed | frame::Error::Dropped | frame::Error::Write(_) => Stop::Ended { had },
            other => Self::of(other),
        }
    }

    fn of(error: frame::Error) -> Self {
        match error {
            frame::Error::Read(error) if error.kind() == io::ErrorKind::TimedOut => Stop::Silent,
            other => Stop::Line(other),
        }
    }

    fn explain(
        self,
        destination: &Destination,
        agent: &AgentBinary,
        status: Option<ExitStatus>,
        said: String,
    ) -> OpenError {
        let host = destination.host().to_owned();
        let code = status.and_then(|status| status.code());
        match self {
            // 255 is ssh's own (ssh(1), EXIT STATUS).
            Stop::Gone if code == Some(255) => OpenError::Ssh { host, trouble: recognise(&said), said },
            Stop::Gone => OpenError::Shell { host, said, code },
            Stop::Silent => OpenError::Silent { host, said },
            Stop::Shell(error) => OpenError::Talk { host, error },
            Stop::NoRoot(user) => OpenError::NoRoot { host, user, said },
            Stop::NoSystemd => OpenError::NoSystemd { host },
            Stop::OldSystemd(found) => OpenError::OldSystemd { host, found },
            Stop::WrongMachine(found) => OpenError::WrongMachine { host, found, wanted: agent.machine.clone() },
            Stop::OwnAgent(error) => OpenError::OwnAgent(error),
            // Without a word, 255 means that the agent was killed by a signal.
            Stop::Ended { .. } if code == Some(255) && recognise(&said) != Trouble::Other => {
                OpenError::Ssh { host, trouble: recognise(&said), said }
            }
            Stop::Ended { had: false } if code == Some(bootstrap::NOT_TAKEN_IN) => OpenError::NotTakenIn { host, said },
            // What was there before could not even start, or fell over: perhaps it is not whole.
            Stop::Ended { had: true } => OpenError::Altered { host, found: None, said },
            Stop::Ended { had: false } => OpenError::NoHello { host, said, code },
            Stop::Protocol(found) => OpenError::Protocol { host, found },
            Stop::Altered(found) => OpenError::Altered { host, found: Some(found), said },
            Stop::Line(error) => OpenError::Line { host, error, said },
        }
    }
}

/// There is no session. Nothing that runs on the server was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no `ssh` on the operator's machine.
    #[error("cannot start ssh")]
    NoSsh(#[source] io::Error),
    /// `ssh` could not connect or log in.
    #[error("cannot log in to {host}: {}{}", trouble.words(), quoted(said))]
    Ssh {
        /// The host.
        host: String,
        /// Why.
        trouble: Trouble,
        /// What `ssh` said.
        said: String,
    },
    /// The host took the connection and then said nothing.
    #[error("{host} accepts connections, but does not answer in time{}", quoted(said))]
    Silent {
        /// The host.
        host: String,
        /// What `ssh` said.
        said: String,
    },
    /// The login worked, but runs no commands.
    #[error("the login on {host} runs no commands{}", quoted(said))]
    Shell {
        /// The host.
        host: String,
        /// What it said.
        said: String,
        /// Its exit status.
        code: Option<i32>,
    },
    /// The login's shell says something else than what it was asked.
    #[error("the login on {host} does not answer as a shell")]
    Talk {
        /// The host.
        host: String,
        /// What came.
        #[source]
        error: ReadError,
    },
    /// The login is not root's, and may not become root without a question.
    #[error("{user} is not root on {host}, and sudo does not allow it without a password{}", quoted(said))]
    NoRoot {
        /// The host.
        host: String,
        /// Who logged in.
        user: String,
        /// What `sudo` said.
        said: String,
    },
    /// The server was not booted by systemd.
    #[error("{host} does not run systemd")]
    NoSystemd {
        /// The host.
        host: String,
    },
    /// systemd is too old.
    #[error("{host} has systemd {found}; {OLDEST_SYSTEMD} or newer is needed (Debian 12, Ubuntu 24.04)")]
    OldSystemd {
        /// The host.
        host: String,
        /// The version there.
        found: u32,
    },
    /// The agent is for another architecture.
    #[error("{host} is {found}, and this program is for {wanted}")]
    WrongMachine {
        /// The host.
        host: String,
        /// What `uname -m` says there.
        found: String,
        /// What the agent is for.
        wanted: String,
    },
    /// The agent's program cannot be read on the operator's machine.
    #[error("cannot read this program's own file to send it")]
    OwnAgent(#[source] io::Error),
    /// The agent's program could not be written on the server.
    #[error("{host} could not take the agent in{}", quoted(said))]
    NotTakenIn {
        /// The host.
        host: String,
        /// What it said.
        said: String,
    },
    /// The agent started, but did not say hello.
    #[error("the agent on {host} ended at once{}", quoted(said))]
    NoHello {
        /// The host.
        host: String,
        /// What it said.
        said: String,
        /// Its exit status.
        code: Option<i32>,
    },
    /// The agent's file on the server is not what it should be, and replacing it did not help.
    #[error("the agent on {host} is altered{}", quoted(said))]
    Altered {
        /// The host.
        host: String,
        /// The hash of the file there, if it could tell.
        found: Option<Hash>,
        /// What it said.
        said: String,
    },
    /// The agent speaks another version of the protocol.
    #[error("the agent on {host} speaks version {found} of the protocol, and this program version {PROTOCOL}")]
    Protocol {
        /// The host.
        host: String,
        /// Its version.
        found: u32,
    },
    /// The line failed, or what came is no hello.
    #[error("the conversation with {host} failed{}", quoted(said))]
    Line {
        /// The host.
        host: String,
        /// How.
        #[source]
        error: frame::Error,
        /// What `ssh` said.
        said: String,
    },
}

impl OpenError {
    /// What the operator can do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            OpenError::NoSsh(_) => Some("install an OpenSSH client"),
            OpenError::Ssh { trouble, .. } => Some(trouble.hint()),
            OpenError::Silent { .. } => Some("try `ssh` to the host by itself; it may be overloaded"),
            OpenError::Shell { .. } | OpenError::Talk { .. } => Some("the login needs an ordinary shell"),
            OpenError::NoRoot { .. } => Some("log in as root, or allow this user `sudo` without a password"),
            OpenError::NotTakenIn { .. } => Some("check the space on the server's disk"),
            _ => None,
        }
    }
}

/// What somebody said, to follow a sentence.
fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
