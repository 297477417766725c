//! How making, finding or running a lab fails. Each variant names its object and what to do.

use crate::specification::{Forward, Release};
use std::io;
use std::path::{Path, PathBuf};
use stead_model::name::Name;

/// Why the lab is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Containers, network namespaces and control groups need root.
    #[error("labs need root: run the same command with sudo")]
    NotRoot,
    /// A program is not installed.
    #[error("`{program}` is not installed: apt install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// There is a lab of this name, and it is another one.
    #[error(
        "there is a lab `{name}` already, with another {difference}: take another name, or remove it with `lab down {name}`"
    )]
    NameTaken {
        /// The name.
        name: Name,
        /// What differs.
        difference: &'static str,
    },
    /// No lab has this name.
    #[error("there is no lab `{name}`{}", hint(.suggestion.as_ref(), .known))]
    Unknown {
        /// The name.
        name: Name,
        /// A lab with a similar name.
        suggestion: Option<Name>,
        /// All labs.
        known: Vec<Name>,
    },
    /// The lab has to run for this.
    #[error("the lab `{name}` does not run: start it with `lab boot {name}`")]
    NotRunning {
        /// The lab.
        name: Name,
    },
    /// The lab has to be stopped for this.
    #[error("the lab `{name}` runs already")]
    Running {
        /// The lab.
        name: Name,
    },
    /// Something else listens on a port that was to be forwarded.
    #[error("port {} of this machine cannot be forwarded to the lab", .forward.here)]
    PortTaken {
        /// The forward.
        forward: Forward,
        /// What the kernel says.
        source: io::Error,
    },
    /// The base system could not be built.
    #[error("a base system of Debian {release} could not be built; mmdebstrap's last lines:\n{lines}")]
    BaseFailed {
        /// The release.
        release: Release,
        /// The last lines that mmdebstrap wrote.
        lines: String,
    },
    /// The lab was started, but did not come up in time.
    #[error("the lab `{name}` did not boot: {reason}; its last lines (all in {}):\n{lines}", .log.display())]
    DidNotBoot {
        /// The lab.
        name: Name,
        /// What was waited for.
        reason: String,
        /// The last lines of its console or keeper.
        lines: String,
        /// Where all of them are.
        log: PathBuf,
    },
    /// The lab was not even started: its engine, or what it stands on, does not work here.
    #[error("the lab `{name}` did not start: {reason}; the last lines (all in {}):\n{lines}", .log.display())]
    DidNotStart {
        /// The lab.
        name: Name,
        /// What was waited for.
        reason: String,
        /// The last lines of its keeper.
        lines: String,
        /// Where all of them are.
        log: PathBuf,
    },
    /// A limit of a running lab could not be changed.
    #[error("the lab `{name}` has not its new size: {reason}")]
    NotResized {
        /// The lab.
        name: Name,
        /// What the kernel says.
        reason: String,
    },
    /// All addresses of labs are taken.
    #[error("no free address for another lab: is `lab list` that long?")]
    NoAddress,
    /// A program failed.
    #[error("`{command}` failed: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// What it said, or its exit status.
        stderr: String,
    },
    /// The machine refused something.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// The operation, a verb.
        what: &'static str,
        /// Its object.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A state file does not say what this version understands.
    #[error("{} is not a state file of this version", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// For `map_err`: the operation and its object around the kernel's error.
pub(crate) fn io_error(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |source| Error::Io { what, path, source }
}

fn hint(suggestion: Option<&Name>, known: &[Name]) -> String {
    match (suggestion, known) {
        (Some(name), _) => format!(": did you mean `{name}`?"),
        (None, []) => "; there are no labs".to_owned(),
        (None, known) => format!("; there are: {}", known.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")),
    }
}
