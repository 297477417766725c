//! An activation: one attempt to make a generation live, and how it ended.
//!
//! These are the words of the journal, of `history` and of the protocol. The rules of what follows
//! what are `stead-engine`'s; this file only names things.

use crate::hash::Hash;
use serde::{Deserialize, Serialize};

/// Where an activation stands. Journalled before the actions of the phase begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Everything is on the server, nothing is switched.
    Staged,
    /// The candidate's instances start beside what runs; visitors notice nothing yet.
    Starting,
    /// The candidate is what runs and answers; the next boot comes up in the parent.
    OnTrial,
    /// All probes passed; waiting for the operator's fresh login.
    Proved,
    /// The next boot comes up in the candidate; what it replaced drains.
    Confirmed,
    /// Something failed; the parent is being put back.
    GoingBack,
    /// The parent runs again, and was verified. An end.
    WentBack,
    /// The parent could not be put back or verified. An end that needs a person.
    Stuck,
    /// Confirmed, and everything old is gone or draining by itself. An end.
    Done,
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_end(self) -> bool {
        matches!(self, Phase::WentBack | Phase::Stuck | Phase::Done)
    }
}

/// One ended or running activation, as `history` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Sortable identity: the time it began and four random digits, `20260102T030405Z-1a2b`.
    pub id: String,
    /// What was to become live.
    pub generation: Hash,
    /// What ran before, and what going back goes back to; `None`: nothing of Stead's.
    pub parent: Option<Hash>,
    /// What the operator asked for.
    pub verb: Verb,
    /// Who asked: `user@host` of the operator's machine, as the client says.
    pub by: String,
    /// When it began, seconds since 1970.
    pub began: i64,
    /// When it ended, seconds since 1970.
    #[serde(default)]
    pub ended: Option<i64>,
    /// Where it stands or how it ended.
    pub phase: Phase,
    /// Why it went back or got stuck.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Make a new or kept generation live.
    Deploy,
    /// Make an earlier generation live.
    Rollback,
}
