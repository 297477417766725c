//! From what was seen in each run to the numbers that are told.
//!
//! Times and bytes are medians with minimum and maximum beside them. What must not happen even once
//! is not a median: lost requests are added up, and the longest pause and the highest memory are those
//! of all runs. Does no input or output.

use serde::Serialize;
use xtask::load::Report;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// The first deploy to a fresh server; packages cached on the operator's machine.
    First,
    /// A deploy of what already runs.
    Unchanged,
    /// One page of the static site changed and pinned.
    Static,
    /// One line of the app changed, pinned and built.
    App,
    /// Back to the generation before; the change that is taken back is that of `Static`.
    Rollback,
    /// Update, build and deploy in one command, after one line of the app changed.
    Up,
}

impl Scenario {
    /// In the order in which they are told.
    pub(crate) const ALL: [Self; 6] = [Self::First, Self::Unchanged, Self::Static, Self::App, Self::Rollback, Self::Up];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Unchanged => "unchanged",
            Self::Static => "static",
            Self::App => "app",
            Self::Rollback => "rollback",
            Self::Up => "up",
        }
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// From the start of the command to the first new answer; to its end when nothing is new.
    pub(crate) seconds: f64,
    pub(crate) confirmed_seconds: f64,
    /// From the start of the command to its end, as a person waits for it.
    pub(crate) whole_seconds: f64,
    pub(crate) bytes_sent: u64,
    /// What rsync sent for the same change.
    pub(crate) rsync_bytes: Option<u64>,
    pub(crate) agent_peak_kib: u64,
    pub(crate) agent_cpu_seconds: f64,
    /// Of the whole server, the visitors' part taken off.
    pub(crate) server_cpu_seconds: Option<f64>,
    /// A bare login, just before.
    pub(crate) ssh_true_seconds: f64,
    /// `stead update` of the changed input, before.
    pub(crate) update_seconds: Option<f64>,
    /// The app's own start-up, just before.
    pub(crate) start_up_seconds: Option<f64>,
    pub(crate) phases: Vec<(String, f64)>,
    pub(crate) load: Report,
}

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Range {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Range {
    /// Of no values, all zero.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
            return Self { median: 0.0, min: 0.0, max: 0.0 };
        };
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Self { median, min: *min, max: *max }
    }
}

/// One entry of `target/bench.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) scenario: &'static str,
    pub(crate) runs: usize,
    pub(crate) seconds: f64,
    pub(crate) seconds_min: f64,
    pub(crate) seconds_max: f64,
    pub(crate) confirmed_seconds: f64,
    pub(crate) confirmed_seconds_min: f64,
    pub(crate) confirmed_seconds_max: f64,
    /// Without the app's own start-up, each run's taken off it, where that was measured.
    pub(crate) seconds_besides_start_up: Option<f64>,
    /// A bare login in the same minutes.
    pub(crate) ssh_true_seconds: f64,
    /// Pinning the change, before; part of `seconds` in `up`.
    pub(crate) update_seconds: Option<f64>,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_sent_min: u64,
    pub(crate) bytes_sent_max: u64,
    pub(crate) rsync_bytes: Option<u64>,
    /// Of all runs together.
    pub(crate) requests: u64,
    /// Of all runs together.
    pub(crate) requests_lost: u64,
    /// Of all runs.
    pub(crate) longest_pause_ms: f64,
    pub(crate) longest_pause_ms_median: f64,
    /// Of all runs.
    pub(crate) agent_peak_kib: u64,
    pub(crate) server_cpu_seconds: Option<f64>,
    pub(crate) server_cpu_seconds_min: Option<f64>,
    pub(crate) server_cpu_seconds_max: Option<f64>,
    /// Of the agent alone, its children included.
    pub(crate) agent_cpu_seconds: f64,
    /// Seconds of each phase, as the program tells them.
    pub(crate) phases: Vec<(String, f64)>,
}

/// Adds up the runs of a scenario; `None` when there was none.
pub(crate) fn summary(scenario: Scenario, samples: &[Sample]) -> Option<Summary> {
    let first = samples.first()?;
    let range = |value: &dyn Fn(&Sample) -> f64| Range::of(&samples.iter().map(value).collect::<Vec<_>>());
    let optional = |value: &dyn Fn(&Sample) -> Option<f64>| {
        let known: Vec<f64> = samples.iter().filter_map(value).collect();
        (!known.is_empty()).then(|| Range::of(&known))
    };
    let seconds = range(&|sample| sample.seconds);
    let confirmed = range(&|sample| sample.confirmed_seconds);
    let bytes = range(&|sample| sample.bytes_sent as f64);
    let cpu = optional(&|sample| sample.server_cpu_seconds);
    let besides = |sample: &Sample| sample.start_up_seconds.map(|start_up| sample.seconds - start_up);
    let phase = |name: &String| {
        let of = |sample: &Sample| sample.phases.iter().find(|(other, _)| other == name).map(|(_, seconds)| *seconds);
        (name.clone(), optional(&of).map_or(0.0, |range| range.median))
    };
    Some(Summary {
        scenario: scenario.name(),
        runs: samples.len(),
        seconds: seconds.median,
        seconds_min: seconds.min,
        seconds_max: seconds.max,
        confirmed_seconds: confirmed.median,
        confirmed_seconds_min: confirmed.min,
        confirmed_seconds_max: confirmed.max,
        seconds_besides_start_up: optional(&besides).map(|range| range.median),
        ssh_true_seconds: range(&|sample| sample.ssh_true_seconds).median,
        update_seconds: optional(&|sample| sample.update_seconds).map(|range| range.median),
        bytes_sent: bytes.median as u64,
        bytes_sent_min: bytes.min as u64,
        bytes_sent_max: bytes.max as u64,
        rsync_bytes: optional(&|sample| sample.rsync_bytes.map(|bytes| bytes as f64)).map(|range| range.median as u64),
        requests: samples.iter().map(|sample| sample.load.requests).sum(),
        requests_lost: samples.iter().map(|sample| sample.load.lost).sum(),
        longest_pause_ms: range(&|sample| sample.load.longest_pause_ms).max,
        longest_pause_ms_median: range(&|sample| sample.load.longest_pause_ms).median,
        agent_peak_kib: samples.iter().map(|sample| sample.agent_peak_kib).max().unwrap_or(0),
        server_cpu_seconds: cpu.map(|range| range.median),
        server_cpu_seconds_min: cpu.map(|range| range.min),
        server_cpu_seconds_max: cpu.map(|range| range.max),
        agent_cpu_seconds: range(&|sample| sample.agent_cpu_seconds).median,
        phases: first.phases.iter().map(|(name, _)| phase(name)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, lost: u64, pause: f64) -> Sample {
        let load = Report {
            seconds: 1.0,
            requests: 10,
            lost,
            reopened: 0,
            longest_pause_ms: pause,
            longest_pause_at: 0.5,
            slowest_ms: 0.0,
            median_ms: 0.0,
            latest_ms: 0.0,
            web_sockets_opened: 0,
            web_sockets_closed: 0,
            web_socket_messages: 0,
            longest_silence_ms: 0.0,
            failures: Vec::new(),
            endings: Vec::new(),
        };
        Sample {
            seconds,
            confirmed_seconds: seconds + 1.0,
            whole_seconds: seconds + 1.0,
            bytes_sent: 100,
            rsync_bytes: None,
            agent_peak_kib: 1000 + lost,
            agent_cpu_seconds: 0.1,
            server_cpu_seconds: None,
            ssh_true_seconds: 0.2,
            update_seconds: None,
            start_up_seconds: None,
            phases: vec![("send".to_owned(), seconds / 2.0)],
            load,
        }
    }

    #[test]
    fn an_even_number_of_values_has_its_median_between_the_middle_ones() {
        assert_eq!(Range::of(&[4.0, 1.0, 3.0, 2.0]), Range { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Range::of(&[5.0, 1.0, 3.0]).median, 3.0);
    }

    #[test]
    fn one_lost_request_in_one_run_is_told() {
        let samples = [sample(1.0, 0, 20.0), sample(9.0, 1, 50.0), sample(2.0, 0, 21.0)];
        let summary = summary(Scenario::App, &samples).unwrap();
        assert_eq!((summary.seconds, summary.seconds_min, summary.seconds_max), (2.0, 1.0, 9.0));
        assert_eq!((summary.requests, summary.requests_lost), (30, 1));
        assert_eq!((summary.longest_pause_ms, summary.longest_pause_ms_median), (50.0, 21.0));
        assert_eq!(summary.agent_peak_kib, 1001);
        assert_eq!(summary.phases, [("send".to_owned(), 1.0)]);
    }

    #[test]
    fn each_run_is_told_without_the_start_up_of_its_own_minutes() {
        let of = |seconds, start_up| Sample { start_up_seconds: Some(start_up), ..sample(seconds, 0, 1.0) };
        let samples = [of(1.0, 0.5), of(3.0, 0.75), of(1.5, 0.25)];
        assert_eq!(summary(Scenario::App, &samples).unwrap().seconds_besides_start_up, Some(1.25));
        assert_eq!(summary(Scenario::Static, &[sample(1.0, 0, 1.0)]).unwrap().seconds_besides_start_up, None);
    }
}
