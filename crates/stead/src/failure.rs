//! How a command fails: which exit code, and the words for a tired person.
//!
//! Every failure of a command that has to do with a server ends in three lines: what failed, what
//! the server runs now, and what to do. The codes are the design's; nothing else picks a number.

use std::error::Error;
use std::fmt::Write;
use stead_model::hash::Hash;

/// What a command's end means for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The project or the request is wrong; the server is untouched.
    Request = 1,
    /// Wrong usage; the server is untouched.
    Usage = 2,
    /// Failed before the switch; the server is untouched.
    BeforeSwitch = 3,
    /// Failed after the switch, went back, and verified it.
    WentBack = 4,
    /// Could not go back, or cannot tell: needs a person.
    Stuck = 5,
    /// Somebody else holds the lock, or the plan is stale.
    Busy = 6,
}

/// What the server runs, as far as the command knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// The command did not get as far as to touch a server.
    Untouched,
    /// This generation; `None`: nothing of Stead's.
    Generation(Option<Hash>),
    /// It cannot be told.
    Unknown,
}

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What failed: the first line is the headline, the others are evidence.
    pub(crate) what: String,
    pub(crate) runs: Runs,
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// The project or the request is wrong.
    pub(crate) fn request(what: impl Into<String>) -> Self {
        Self { exit: Exit::Request, what: what.into(), runs: Runs::Untouched, hint: None }
    }

    /// Something failed before the server was touched.
    pub(crate) fn before(what: impl Into<String>) -> Self {
        Self { exit: Exit::BeforeSwitch, what: what.into(), runs: Runs::Untouched, hint: None }
    }

    /// With what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what the server runs.
    pub(crate) fn runs(mut self, runs: Runs) -> Self {
        self.runs = runs;
        self
    }

    /// The words, for people.
    pub(crate) fn words(&self) -> String {
        let mut text = format!("error: {}\n", self.what.trim_end());
        let now = match (self.runs, self.exit) {
            (Runs::Untouched, _) => "nothing was changed on any server".to_owned(),
            (Runs::Generation(Some(id)), Exit::WentBack) => {
                format!("the server is back on generation {} and was verified", id.short())
            }
            (Runs::Generation(None), Exit::WentBack) => {
                "the server is back to before the first deploy, and was verified".to_owned()
            }
            (Runs::Generation(Some(id)), _) => format!("the server runs generation {}", id.short()),
            (Runs::Generation(None), _) => "the server runs nothing of Stead's".to_owned(),
            (Runs::Unknown, _) => "what the server runs cannot be told".to_owned(),
        };
        let _ = writeln!(text, "  now: {now}");
        let hint = self.hint.clone().unwrap_or_else(|| match self.exit {
            Exit::Request | Exit::Usage => "mend it and try again".to_owned(),
            Exit::BeforeSwitch => "try again; it is safe at any time".to_owned(),
            Exit::WentBack => "mend the cause and deploy again; `stead logs` shows more".to_owned(),
            Exit::Stuck => {
                "look at it: `stead status`, `stead logs`; then `stead rollback` or `stead deploy`".to_owned()
            }
            Exit::Busy => "wait until it has ended, or see it with `stead deploy --attach`".to_owned(),
        });
        let _ = writeln!(text, "  do:  {hint}");
        text
    }
}

/// An error with all its causes, one a line where they say something new.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_in_what_runs_and_what_to_do() {
        let failure = Failure::before("the host does not answer").hint("is it on?");
        insta::assert_snapshot!(failure.words(), @r"
        error: the host does not answer
          now: nothing was changed on any server
          do:  is it on?
        ");
    }
}
