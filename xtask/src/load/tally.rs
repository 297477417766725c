//! Adds up what the visitors saw.
//!
//! Promises that every request is counted exactly once, as good or as lost. Times are since the
//! start of the load. Does no input or output.

use super::Target;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Only so many failures are told in words; all are counted.
const MAX_FAILURES: usize = 50;
/// Only so many endings of WebSockets are kept: each of the most that may be open, twenty times.
const MAX_ENDINGS: usize = 10_000;

/// What a load saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// How long it ran.
    pub seconds: f64,
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Of them without a good answer (status 200 to 399) within 5 s.
    pub lost: u64,
    /// Good answers that needed a fresh connection, because the kept one had been closed between requests.
    pub reopened: u64,
    /// Longest time between two good answers of one target, the beginning and the end included.
    pub longest_pause_ms: f64,
    /// When that pause ended, in seconds since the start.
    pub longest_pause_at: f64,
    /// The slowest good answer.
    pub slowest_ms: f64,
    /// Half of the good answers came within this time.
    pub median_ms: f64,
    /// The longest that a request left after its time: the load's own delay, or all its threads waiting for answers.
    pub latest_ms: f64,
    /// WebSockets that were opened, those opened again included.
    pub web_sockets_opened: u64,
    /// WebSockets that the other side ended, and attempts to open one that failed.
    pub web_sockets_closed: u64,
    /// Messages that came over them.
    pub web_socket_messages: u64,
    /// Longest time between two messages of one WebSocket.
    pub longest_silence_ms: f64,
    /// The first failures, in order of time.
    pub failures: Vec<Failure>,
    /// When WebSockets ended: all that `web_sockets_closed` counts, up to ten thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endings: Vec<Ending>,
}

/// A WebSocket that the other side ended, or that could not be opened. Times are in seconds since the start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ending {
    /// When it was opened; `None`: that failed.
    pub opened: Option<f64>,
    /// When it ended.
    pub ended: f64,
}

/// Something that a visitor noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failure {
    /// When, in seconds since the start.
    pub at: f64,
    /// Whose, as `host/path`.
    pub what: String,
    /// What happened.
    pub why: String,
}

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A good answer.
    Good,
    /// A good answer, at the second attempt.
    Reopened,
    /// Refused, reset, cut short, too late, or an error status.
    Lost(String),
}

#[derive(Debug)]
pub(super) struct Tally {
    names: Vec<String>,
    last_good: Vec<Option<Duration>>,
    /// The longest, and when it ended.
    pause: (Duration, Duration),
    slowest: Duration,
    latest: Duration,
    times: Vec<f32>,
    requests: u64,
    lost: u64,
    reopened: u64,
    opened: u64,
    closed: u64,
    /// Of those that were opened.
    ended: u64,
    messages: u64,
    silence: Duration,
    failures: Vec<Failure>,
    endings: Vec<Ending>,
}

impl Tally {
    pub(super) fn new(targets: &[Target]) -> Self {
        Self {
            names: targets.iter().map(|target| format!("{}{}", target.host, target.path)).collect(),
            last_good: vec![None; targets.len()],
            pause: (Duration::ZERO, Duration::ZERO),
            slowest: Duration::ZERO,
            latest: Duration::ZERO,
            times: Vec::new(),
            requests: 0,
            lost: 0,
            reopened: 0,
            opened: 0,
            closed: 0,
            ended: 0,
            messages: 0,
            silence: Duration::ZERO,
            failures: Vec::new(),
            endings: Vec::new(),
        }
    }

    /// A request leaves so long after its time.
    pub(super) fn left(&mut self, late: Duration) {
        self.latest = self.latest.max(late);
    }

    pub(super) fn answered(&mut self, target: usize, at: Duration, took: Duration, answer: Answer) {
        self.requests += 1;
        if let Answer::Lost(why) = answer {
            self.lost += 1;
            let name = self.names[target].clone();
            return self.failed(at, &name, why);
        }
        self.reopened += u64::from(answer == Answer::Reopened);
        self.slowest = self.slowest.max(took);
        self.times.push(took.as_secs_f32() * 1e3);
        self.pause = self.pause.max((at.saturating_sub(self.last_good[target].unwrap_or_default()), at));
        self.last_good[target] = self.last_good[target].max(Some(at));
    }

    pub(super) fn opened(&mut self) {
        self.opened += 1;
    }

    /// A WebSocket ended that was opened then; `None`: it could not be opened.
    pub(super) fn closed(&mut self, opened: Option<Duration>, at: Duration, what: &str, why: String) {
        self.closed += 1;
        self.ended += u64::from(opened.is_some());
        if self.endings.len() < MAX_ENDINGS {
            self.endings.push(Ending { opened: opened.map(|opened| opened.as_secs_f64()), ended: at.as_secs_f64() });
        }
        self.failed(at, what, why);
    }

    pub(super) fn message(&mut self, silence: Duration) {
        self.messages += 1;
        self.silence = self.silence.max(silence);
    }

    pub(super) fn failed(&mut self, at: Duration, what: &str, why: String) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(Failure { at: at.as_secs_f64(), what: what.to_owned(), why });
        }
    }

    pub(super) fn steady(&self, web_sockets: usize) -> bool {
        self.last_good.iter().all(Option::is_some) && self.opened.saturating_sub(self.ended) >= web_sockets as u64
    }

    pub(super) fn report(&self, end: Duration) -> Report {
        let open = self.last_good.iter().map(|last| end.saturating_sub(last.unwrap_or_default())).max();
        let (pause, paused_until) = self.pause.max((open.unwrap_or_default(), end));
        let mut times = self.times.clone();
        times.sort_by(f32::total_cmp);
        Report {
            seconds: end.as_secs_f64(),
            requests: self.requests,
            lost: self.lost,
            reopened: self.reopened,
            longest_pause_ms: milliseconds(pause),
            longest_pause_at: paused_until.as_secs_f64(),
            slowest_ms: milliseconds(self.slowest),
            median_ms: times.get(times.len() / 2).copied().unwrap_or_default().into(),
            latest_ms: milliseconds(self.latest),
            web_sockets_opened: self.opened,
            web_sockets_closed: self.closed,
            web_socket_messages: self.messages,
            longest_silence_ms: milliseconds(self.silence),
            failures: self.failures.clone(),
            endings: self.endings.clone(),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
