//! The protocol's words: what the operator's side asks, and what the agent answers.
//!
//! The agent speaks first ([`Hello`]), unasked. Then each [`Request`] is answered by any number of
//! [`Reply::Event`]s and exactly one reply that [ends](Reply::is_final) it. Requests are answered in
//! order; the next one may be sent before the last one is answered. Bulk bytes never travel in these
//! messages: they follow as data frames where a variant says so.
//!
//! Promises that a message which holds anything unknown is refused. Never holds a secret.

use serde::{Deserialize, Serialize};
use stead_model::activation::{Phase, Record, Verb};
use stead_model::hash::{Hash, Sha256};
use stead_model::name::{Name, UnitName};
use stead_model::probe::{Answered, Broken, Probes};

/// The version of everything in this file and of the frames below it. Both sides are the same
/// program nearly always, because the operator's side brings the agent along; where they are not,
/// the conversation ends at [`Hello`] with words.
pub const PROTOCOL: u32 = 3;

/// What the agent says as soon as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL`] of the agent. Its name and type stay the same in every version.
    pub protocol: u32,
    /// BLAKE3 of the agent's own file, which it has read ([`crate::agent::own_hash`]).
    pub agent: Hash,
    /// What it knows about the machine.
    pub machine: Machine,
    /// What runs now; `None`: nothing of Stead's.
    pub active: Option<Hash>,
    /// What the next boot comes up in; `None`: nothing of Stead's.
    pub confirmed: Option<Hash>,
    /// The activation under way, if there is one.
    pub running: Option<Running>,
    /// Generations that are on the server, newest first.
    pub generations: Vec<Hash>,
    /// Those of them that are kept whatever happens, sorted.
    pub pins: Vec<Hash>,
    /// The declared server that the machine is by now: that of what runs, else of what the next boot comes
    /// up in. `None`: nothing of Stead's runs.
    pub server: Option<Name>,
}

/// What the agent knows about its machine. Never part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// Its host name.
    pub hostname: String,
    /// `PRETTY_NAME` of `os-release(5)`.
    pub system: String,
    /// Debian's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Cores that are online.
    pub cores: u32,
    /// Bytes that are free where the store is.
    pub free: u64,
}

/// An activation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Running {
    /// Its id ([`Record::id`]).
    pub activation: String,
    /// What is to become live.
    pub generation: Hash,
    /// Where it stands.
    pub phase: Phase,
    /// Who asked for it.
    pub by: String,
}

/// What the operator's side asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What runs, and how. Answered by [`Reply::Status`].
    Status {},
    /// The last activations. Answered by [`Reply::History`].
    History {
        /// How many at most; `None`: all.
        limit: Option<u32>,
    },
    /// A generation's description. Answered by [`Reply::Description`] and a data stream.
    Describe {
        /// Which one.
        generation: Hash,
    },
    /// Make the server have a generation, without changing what runs. The conversation that follows
    /// is `transfer`'s; its end is [`Reply::Staged`], once the generation is published.
    Stage(Offer),
    /// Make a generation that is on the server live. Answered by events and [`Reply::Ended`]; at once,
    /// with [`Outcome::Unchanged`], when it is what runs and is confirmed already.
    Activate {
        /// Which one; for a rollback, `None` is what ran before the active one, by the history.
        generation: Option<Hash>,
        /// What the plan that the operator saw started from. If something else runs, nothing is done
        /// ([`Failure::Stale`]). `None`: do it whatever runs.
        from: Option<PlannedFrom>,
        /// What the operator asked for.
        verb: Verb,
        /// Who asks: `user@host` of the operator's machine.
        by: String,
        /// What else is wanted.
        settings: Settings,
    },
    /// "The operator can still log in": sent over a fresh login only. Answered by [`Reply::Accepted`].
    Confirm {
        /// The activation that is waiting for it.
        activation: String,
    },
    /// Stop the running activation and go back. Answered by [`Reply::Accepted`].
    Cancel {
        /// The activation that the operator means.
        activation: String,
        /// Why, for people; empty: because the operator wants it.
        reason: String,
    },
    /// Tell how an activation goes on or how it ended: its events from the first one, then [`Reply::Ended`].
    Attach {
        /// Which one; `None`: the running one, or else the last one.
        activation: Option<String>,
    },
    /// Lines of the journal: [`Event::Log`]s, then [`Reply::Done`]. With `follow` it ends with the connection.
    Logs {
        /// The app, service or unit; `None`: everything of Stead's.
        of: Option<String>,
        /// How many past lines.
        lines: u32,
        /// Whether to go on with what comes.
        follow: bool,
    },
    /// Run a command in the surroundings of an app, or (without one) of the server. The client's data
    /// frames up to the end frame are its standard input; the agent's data frames its standard output,
    /// error frames its standard error. Answered by [`Reply::Exited`].
    Exec {
        /// The app; `None`: the server's own surroundings.
        app: Option<Name>,
        /// Program and arguments, never a shell's line.
        command: Vec<String>,
    },
    /// Remove what no kept generation needs. Answered by [`Reply::Collected`].
    Gc {
        /// Only tell what would be removed.
        dry: bool,
        /// How many of the last generations stay (besides confirmed, active and pinned ones).
        keep: u32,
    },
    /// Compare everything with its hash. Answered by [`Reply::Verified`].
    Verify {},
    /// Give a package that the server still has: mirrors drop superseded versions. Answered by
    /// [`Reply::Package`] and a data stream.
    Package {
        /// Which one.
        sha256: Sha256,
    },
    /// Keep a generation whatever happens, or no longer. Answered by [`Reply::Done`].
    Pin {
        /// Which one.
        generation: Hash,
        /// Whether it is to be kept.
        keep: bool,
    },
    /// Make the machine a server of Stead's: the generator is put in its place. Answered by [`Reply::Done`].
    Adopt {},
    /// Take everything of Stead's off the machine, which runs nothing of it any more. Answered by [`Reply::Left`].
    Leave {
        /// Whether data of apps and certificates go as well.
        with_data: bool,
    },
}

/// What a plan started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedFrom {
    /// What ran; `None`: nothing of Stead's.
    pub active: Option<Hash>,
}

/// What the operator wants of an activation besides its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Seconds that the server waits for the fresh login once everything is proved.
    pub confirm_deadline: u32,
    /// Milliseconds for which what was switched has to stay well; `None`: the engine's own.
    pub soak: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { confirm_deadline: 30, soak: None }
    }
}

/// The head of a transfer. What follows is told in `transfer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// The generation's id.
    pub generation: Hash,
    /// A generation that both sides have, with its trees: what descriptions are compressed against.
    pub base: Option<Hash>,
    /// Bytes of the descriptions together, uncompressed.
    pub size: u64,
    /// Objects that come unasked right after the descriptions, by their place among all objects of the
    /// generation (`transfer::objects`).
    pub eager: Ranges,
    /// What the stream of eager objects is compressed against, by their place among all objects of the base.
    pub eager_basis: Ranges,
}

/// Places in a list that both sides know, as ranges: `(first, how many)`, rising, not touching.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(pub Vec<(u32, u32)>);

impl Ranges {
    /// The ranges of these places, which rise.
    pub fn of(places: impl IntoIterator<Item = u32>) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for place in places {
            match ranges.last_mut() {
                Some((first, count)) if *first + *count == place => *count += 1,
                _ => ranges.push((place, 1)),
            }
        }
        Self(ranges)
    }

    /// The places, in a list of `length`; `None`: the ranges do not fit it, or do not rise.
    pub fn places(&self, length: usize) -> Option<Vec<u32>> {
        let mut places = Vec::new();
        let mut free = 0_u64;
        for &(first, count) in &self.0 {
            let end = u64::from(first) + u64::from(count);
            if count == 0 || u64::from(first) < free || end > length as u64 {
                return None;
            }
            places.extend(first..first + count);
            free = end + 1;
        }
        Some(places)
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Reply {
    /// What happens meanwhile. Never the last word.
    Event(Event),
    /// In a transfer: what the server lacks. Never the last word. If there is something in `chunked`, a
    /// data stream follows with the chunks of what the server has in their place.
    Need {
        /// Objects, by their place among all objects of the generation.
        objects: Ranges,
        /// Those of them that replace a large file, and come as what differs from it.
        chunked: Ranges,
        /// Packages, in the order in which they are to come.
        packages: Vec<Sha256>,
    },
    /// The generation is on the server, complete and durable. Final.
    Staged {
        /// Which one.
        generation: Hash,
    },
    /// Final.
    Status(Box<Status>),
    /// Final.
    History {
        /// The newest first.
        records: Vec<Record>,
    },
    /// A zstd data stream with the generation's canonical JSON follows. Final.
    Description {
        /// Bytes of the description, uncompressed.
        size: u64,
    },
    /// A data stream with the package's file follows. Final.
    Package {
        /// Bytes of the file.
        size: u64,
    },
    /// An activation ended. Final.
    Ended(Box<Ended>),
    /// The running activation was told. Final.
    Accepted {},
    /// Nothing more to say. Final.
    Done {},
    /// Nothing of Stead's is on the machine any more, this agent included. Final.
    Left {
        /// What stays: places, and users who own something there.
        kept: Vec<String>,
    },
    /// The command ended. Final.
    Exited {
        /// Its exit status, or 128 and the signal's number.
        code: i32,
    },
    /// Final.
    Collected(Collected),
    /// What is not as it should be; empty: all is well. Final.
    Verified {
        /// Every altered, missing or foreign thing.
        damage: Vec<Damage>,
        /// Bytes of objects and packages that were read and compared.
        checked: u64,
    },
    /// The request was not done. Final.
    Failed(Failed),
}

impl Reply {
    /// Whether this is the last word to a request.
    pub fn is_final(&self) -> bool {
        !matches!(self, Reply::Event(_) | Reply::Need { .. })
    }
}

/// What happens while a request is worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// The activation has this id; told first of all.
    Began {
        /// The id.
        activation: String,
    },
    /// The activation enters a phase.
    Phase(Phase),
    /// Something that takes time goes on: `unpacking`, `receiving`.
    Progress {
        /// What, for people.
        what: String,
        /// How much is done.
        done: u64,
        /// Of how much; 0: unknown.
        total: u64,
    },
    /// A unit is in a new state.
    Unit {
        /// The unit.
        name: UnitName,
        /// The state.
        state: UnitState,
        /// systemd's or a person's word about it (`exit-code`, `signal`).
        detail: Option<String>,
    },
    /// A line of a unit's log.
    Log {
        /// The unit.
        unit: String,
        /// Microseconds since 1970.
        time: u64,
        /// Severity as in `syslog(3)`, 0 to 7.
        priority: u8,
        /// The line, without its end.
        line: String,
    },
    /// How a probe ended.
    Probe(Answered),
    /// The candidate has to answer the operator's machine too, which asks these probes, and cancels with words where
    /// one fails.
    ProbeFromOutside {
        /// The activation on trial.
        activation: String,
        /// What is to be asked.
        probes: Probes,
        /// What failed on the server itself before the switch.
        broken: Broken,
    },
    /// The first answer of the new generation was seen.
    Live {
        /// Milliseconds since the activation began.
        after: u64,
    },
    /// Everything is proved; a fresh login has to confirm.
    AwaitingLogin {
        /// The activation to confirm.
        activation: String,
        /// Seconds left.
        deadline: u32,
    },
    /// A thing worth telling.
    Note(String),
    /// Something was done that is worth a line which stays: a certificate that came.
    Did(String),
}

/// A unit's state, as far as a deploy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnitState {
    /// On its way.
    Starting,
    /// Up.
    Running,
    /// Has read its configuration again.
    Reloaded,
    /// Serves what it has, takes nothing new.
    Draining,
    /// Gone.
    Stopped,
    /// Gone, and should not be.
    Failed,
}

/// What runs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Status {
    /// What runs now.
    pub active: Option<Hash>,
    /// What the next boot comes up in.
    pub confirmed: Option<Hash>,
    /// The activation under way.
    pub running: Option<Running>,
    /// How the last activation ended.
    pub last: Option<Record>,
    /// Every unit of the active generation, and older ones that drain.
    pub units: Vec<UnitStatus>,
    /// Generations on the server, newest first.
    pub generations: Vec<Hash>,
    /// Those of them that are kept whatever happens, sorted.
    pub pins: Vec<Hash>,
    /// Bytes that the store takes.
    pub store_size: u64,
    /// Seconds since boot.
    pub uptime: u64,
    /// The certificates of the active generation's sites.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
}

/// One certificate, as it is on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateStatus {
    /// Its name.
    pub name: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// `valid`, `expired`, `stand-in`, `missing`, or `broken` with words.
    pub state: String,
    /// Who issued it.
    pub issuer: Option<String>,
    /// Until when it is valid: seconds since 1970.
    pub until: Option<i64>,
    /// Why it was not renewed when that was tried last.
    pub failed: Option<String>,
    /// When that is tried again: seconds since 1970.
    pub next: Option<i64>,
}

/// One unit, as systemd sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnitStatus {
    /// The unit.
    pub name: UnitName,
    /// `ActiveState` and `SubState` of systemd, as in `active (running)`.
    pub state: String,
    /// Whether it is as the generation wants it.
    pub well: bool,
    /// Seconds in this state.
    pub since: u64,
    /// Bytes of memory; `None`: not known.
    pub memory: Option<u64>,
    /// How often systemd started it again.
    pub restarts: u32,
    /// The port of this instance.
    pub port: Option<u16>,
}

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ended {
    /// The activation; `None`: none was needed.
    pub activation: Option<String>,
    /// How.
    pub outcome: Outcome,
    /// What was to become live.
    pub generation: Option<Hash>,
    /// What runs now.
    pub active: Option<Hash>,
    /// Why it went back or got stuck, for people: a headline, then the last words of the unit that failed.
    pub reason: Option<String>,
    /// What is worth telling besides: hooks that failed.
    pub notes: Vec<String>,
    /// What it took.
    pub usage: Usage,
}

/// The ends that an activation can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It ran already and is confirmed: nothing was done.
    Unchanged,
    /// It runs and is confirmed.
    Confirmed,
    /// The parent runs again, and was verified.
    WentBack,
    /// Needs a person.
    Stuck,
}

/// What something took on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage {
    /// Highest resident memory of the agent and the activation, KiB.
    pub peak_kib: u64,
    /// Processor time of both, milliseconds.
    pub cpu_ms: u64,
}

/// What garbage collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Collected {
    /// Generations.
    pub generations: u64,
    /// Trees.
    pub trees: u64,
    /// Runtimes.
    pub runtimes: u64,
    /// Package files.
    pub packages: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Damage {
    /// Where.
    pub path: String,
    /// What, for people.
    pub what: String,
}

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failed {
    /// Which kind: decides the exit code.
    pub kind: Failure,
    /// What failed, in one line for people.
    pub what: String,
    /// What to do, if the agent knows.
    pub hint: Option<String>,
}

/// The kinds of failure. None of them has changed what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// Somebody else holds the lock or an activation is under way.
    Busy,
    /// Something else runs than what the plan started from.
    Stale,
    /// No such generation, activation, app or unit.
    Unknown,
    /// The disk is full.
    FullDisk,
    /// What arrived is not what was announced.
    Mismatch,
    /// What both sides should have is missing or altered on the server; `verify` tells more.
    Damaged,
    /// The request does not make sense now (nothing to confirm, nothing to go back to).
    Refused,
    /// The generation does not fit the server: a port that is taken, an executable that does not exist, a
    /// configuration that nginx refuses.
    Unfit,
    /// The hook that runs before the switch failed.
    Hook,
    /// Anything else: reading, writing, running something.
    Server,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_that_do_not_fit_or_rise_are_refused() {
        for ranges in
            [vec![(0, 0)], vec![(9, 2)], vec![(u32::MAX, u32::MAX)], vec![(3, 1), (2, 1)], vec![(1, 1), (2, 1)]]
        {
            assert_eq!(Ranges(ranges.clone()).places(10), None, "{ranges:?}");
        }
    }

    proptest! {
        #[test]
        fn ranges_read_back_as_the_places_that_they_were_made_of(places in proptest::collection::btree_set(0_u32..60, 0..40)) {
            let back = Ranges::of(places.iter().copied()).places(60).map(BTreeSet::from_iter);
            prop_assert_eq!(back, Some(places));
        }
    }
}
