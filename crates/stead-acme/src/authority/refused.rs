//! Why an authority did not issue: in its own words, told apart by what can be done about it.
//!
//! Plain data. Words that an authority wrote are kept as they are, but for what a terminal would take as an order.

use super::client::Failure;
use crate::check::Unfit;
use instant_acme::{Error, Identifier, Problem};
use jiff::Timestamp;
use std::fmt::Write as _;

/// There is no certificate, and why.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The authority cannot be reached, or does not answer in time.
    #[error("{directory} cannot be reached: {words}")]
    Unreachable {
        /// Its directory.
        directory: String,
        /// What went wrong.
        words: String,
    },
    /// It was asked too often.
    #[error("the authority was asked too often: {words}")]
    RateLimited {
        /// What it says.
        words: String,
        /// When it may be asked again, where it says so.
        retry_after: Option<Timestamp>,
    },
    /// It did not find that names are this server's.
    #[error("{}", failures(failed))]
    Validation {
        /// The names, and what it says of each.
        failed: Vec<Failed>,
    },
    /// It makes no account: the e-mail address is refused, for instance.
    #[error("the authority refuses the account: {0}")]
    Account(String),
    /// It does not issue for these names, whoever asks.
    #[error("the authority refuses the order: {0}")]
    Order(String),
    /// It did not come to an end in the time that it was given.
    #[error("the authority has not come to an end: {0}")]
    TimedOut(String),
    /// It failed itself, or does not speak ACME.
    #[error("the authority failed: {words}")]
    Failed {
        /// What it says.
        words: String,
        /// When it may be asked again, where it says so.
        retry_after: Option<Timestamp>,
    },
    /// What it issued is not fit to be served.
    #[error("the authority issued a certificate that is not fit: {0}")]
    Unfit(#[from] Unfit),
    /// The certificates that its HTTPS is to be trusted by do not parse.
    #[error("the authority's root certificates cannot be read: {0}")]
    Roots(String),
    /// Something on this server failed.
    #[error("{0}")]
    Here(String),
}

/// A name that was not found to be this server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The name.
    pub name: String,
    /// What the authority says.
    pub words: String,
}

impl Refused {
    /// When the authority may be asked again, where it says so.
    pub fn retry_after(&self) -> Option<Timestamp> {
        match self {
            Refused::RateLimited { retry_after, .. } | Refused::Failed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What was being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Account,
    Order,
}

/// What the library's error means where this was asked for.
pub(super) fn refused(asked: Asked, directory: &str, error: Error) -> Refused {
    let (problem, retry_after) = match error {
        Error::Api(problem) => (problem, None),
        Error::Other(other) => match other.downcast::<Failure>().map(|failure| *failure) {
            Ok(Failure::Problem { problem, retry_after }) => (problem, retry_after),
            Ok(Failure::Status { url, status: 429, retry_after }) => {
                return Refused::RateLimited { words: format!("{url} answered 429"), retry_after };
            }
            Ok(Failure::Status { url, status, retry_after }) => {
                return Refused::Failed { words: format!("{url} answered {status}"), retry_after };
            }
            Ok(Failure::Transport { url, source }) => {
                let words = if url == directory { source.to_string() } else { format!("{url}: {source}") };
                return Refused::Unreachable { directory: directory.to_owned(), words };
            }
            Ok(Failure::OutOfTime) => return Refused::TimedOut("the time for it is over".to_owned()),
            Err(other) => return Refused::Failed { words: other.to_string(), retry_after: None },
        },
        Error::Json(error) => {
            let words = format!("{directory} does not answer as an ACME directory does ({error})");
            return Refused::Failed { words, retry_after: None };
        }
        other => return Refused::Failed { words: other.to_string(), retry_after: None },
    };
    let words = words(&problem);
    if kind(&problem) == "rateLimited" || problem.status == Some(429) {
        return Refused::RateLimited { words, retry_after };
    }
    if kind(&problem) == "serverInternal" || problem.status.is_some_and(|status| status >= 500) {
        return Refused::Failed { words, retry_after };
    }
    match asked {
        Asked::Account => Refused::Account(words),
        Asked::Order if ["userActionRequired", "externalAccountRequired"].contains(&kind(&problem)) => {
            Refused::Account(words)
        }
        Asked::Order => Refused::Order(words),
    }
}

/// Whether the account is not known (any more), or was closed (RFC 8555, sections 6.2 and 7.3.6).
pub(super) fn is_account_gone(error: &Error) -> bool {
    problem(error).is_some_and(|problem| ["accountDoesNotExist", "unauthorized"].contains(&kind(problem)))
}

/// The problem document of an error.
pub(super) fn problem(error: &Error) -> Option<&Problem> {
    match error {
        Error::Api(problem) => Some(problem),
        Error::Other(other) => match other.downcast_ref::<Failure>()? {
            Failure::Problem { problem, .. } => Some(problem),
            _ => None,
        },
        _ => None,
    }
}

/// The last part of a problem's type: `rateLimited`.
pub(super) fn kind(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|kind| kind.strip_prefix("urn:ietf:params:acme:error:")).unwrap_or_default()
}

/// What a problem document says, for a person.
pub(super) fn words(problem: &Problem) -> String {
    let mut words = match (&problem.detail, &problem.r#type) {
        (Some(detail), _) => detail.clone(),
        (None, Some(kind)) => kind.clone(),
        (None, None) => "it gives no reason".to_owned(),
    };
    for part in &problem.subproblems {
        let name = match &part.identifier {
            Some(Identifier::Dns(name)) => name.as_str(),
            _ => "another name",
        };
        // Writing to a string does not fail.
        let _ = write!(words, "; {name}: {}", part.detail.as_deref().unwrap_or("no reason is given"));
    }
    plain(&words)
}

fn failures(failed: &[Failed]) -> String {
    let each: Vec<String> = failed.iter().map(|one| format!("{}: {}", one.name, one.words)).collect();
    each.join("; ")
}

/// Without control characters, and not endless.
fn plain(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect()
}
