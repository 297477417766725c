//! Why there is no session: each reason with what `ssh` said.

use super::OLDEST_SYSTEMD;
use crate::bootstrap::{self, ReadError};
use crate::destination::Destination;
use crate::frame;
use crate::message::PROTOCOL;
use crate::trouble::{Trouble, recognise};
use std::io;
use std::process::ExitStatus;
use stead_model::hash::Hash;

/// Why there is no hello, before what `ssh` said is known.
pub(super) enum Stop {
    Gone,
    Silent,
    Shell(ReadError),
    NoRoot(String),
    NeedsPassword(String),
    WrongPassword(String),
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
    pub(super) fn before_facts(error: frame::Error) -> Self {
        match error {
            frame::Error::Closed | frame::Error::Dropped => Stop::Gone,
            other => Self::of(other),
        }
    }

    pub(super) fn before_hello(error: frame::Error, had: bool) -> Self {
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

    pub(super) fn explain(
        self,
        destination: &Destination,
        wanted: &str,
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
            Stop::NeedsPassword(user) => OpenError::NeedsPassword { host, user, said },
            Stop::WrongPassword(_) if code == Some(255) && recognise(&said) != Trouble::Other => {
                OpenError::Ssh { host, trouble: recognise(&said), said }
            }
            // What comes before is a greeting for people (`lecture` of `sudoers(5)`), and an invitation to try again.
            Stop::WrongPassword(user) => {
                OpenError::WrongPassword { host, user, said: said.lines().last().unwrap_or_default().to_owned() }
            }
            Stop::NoSystemd => OpenError::NoSystemd { host },
            Stop::OldSystemd(found) => OpenError::OldSystemd { host, found },
            Stop::WrongMachine(found) => OpenError::WrongMachine { host, found, wanted: wanted.to_owned() },
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
    /// The login is not root's, and there is no `sudo`.
    #[error("{user} is not root on {host}, and there is no sudo{}", quoted(said))]
    NoRoot {
        /// The host.
        host: String,
        /// Who logged in.
        user: String,
        /// What the shell said.
        said: String,
    },
    /// The login is not root's, `sudo` wants a password, and none was there.
    #[error("{user} is not root on {host}, and sudo wants a password{}", quoted(said))]
    NeedsPassword {
        /// The host.
        host: String,
        /// Who logged in.
        user: String,
        /// What `sudo` said.
        said: String,
    },
    /// `sudo` does not take the password, or does not let this user become root.
    #[error("sudo on {host} does not let {user} become root by this password{}", quoted(said))]
    WrongPassword {
        /// The host.
        host: String,
        /// Who logged in.
        user: String,
        /// The last that `sudo` said.
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
    #[error("the agent on {host} did not begin to speak, or the line dropped{}", quoted(said))]
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
            OpenError::NoRoot { .. } => Some("log in as root, or install sudo there"),
            OpenError::NeedsPassword { .. } => Some(
                "run it at a terminal, which asks for the password; or give this user a line `USER ALL=(ALL) NOPASSWD: ALL` in \
                 /etc/sudoers.d; or log in as root",
            ),
            OpenError::WrongPassword { .. } => Some("run it again with the password that this user has on the server"),
            OpenError::NotTakenIn { .. } => Some("check the space on the server's disk"),
            OpenError::NoSystemd { .. } | OpenError::OldSystemd { .. } => {
                Some("take a server with Debian 12 or newer, or Ubuntu 24.04 or newer")
            }
            OpenError::WrongMachine { .. } => Some("use a `stead` that was built for that machine"),
            OpenError::Protocol { .. } => {
                Some("use the version of `stead` that was last used for this server, or a newer one")
            }
            OpenError::NoHello { .. } => Some("try again; if it stays so, see the log of sshd on the server"),
            _ => None,
        }
    }
}

/// What somebody said, to follow a sentence.
fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
