//! The visitors of a deploy under load: requests over kept and over fresh connections, and WebSockets,
//! and which of these were closed before their time.
//!
//! Kept and fresh connections are counted apart, so that a pause of the ones is not hidden by answers to
//! the others. Visitors come to the sites of a lab only, end by themselves, and print nothing.

use super::server::{APP_SITE, LetsGo, STATIC_SITE, Server};
use crate::run::{Failure, Result, fail};
use std::time::{Duration, Instant, UNIX_EPOCH};
use xtask::load::{self, Config, Connections, Handle, Report, Target};

/// Requests per second over kept connections, and as many over fresh ones; both sites together.
const RATE: u32 = 200;
/// After so long a load ends by itself, whatever became of the command.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long the sites may take until every visitor was answered once.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that was made so long after nginx was told to let go may still be one of the old process's: the new
/// one has to read its configuration, and the old one accepts until it has.
pub(crate) const SETTLED: Duration = Duration::from_secs(1);

/// Visitors on both sites. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Visitors {
    requests: [Handle; 2],
    web_sockets: Vec<Handle>,
    began: Instant,
    spent: Duration,
}

/// What they saw. What they saw by request is of all requests together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) requests_lost: u64,
    pub(crate) longest_pause_ms: f64,
    /// When that pause ended, since 1970.
    pub(crate) longest_pause_at: Duration,
    pub(crate) slowest_ms: f64,
    /// The longest that a request left after its time.
    pub(crate) latest_ms: f64,
    /// WebSockets that were opened, those opened again included.
    pub(crate) web_sockets: u64,
    pub(crate) endings: Vec<Ending>,
    /// Part of one processor that the visitors themselves took.
    pub(crate) own_cpu: f64,
    /// The first failures, in words.
    pub(crate) failures: Vec<String>,
}

/// A WebSocket that was closed, or could not be opened (`opened` is `None`). Times are since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) opened: Option<Duration>,
    pub(crate) ended: Duration,
}

impl Ending {
    /// Whether it was closed before nginx, which was told so at these times to let go of its connections, had to.
    pub(crate) fn is_early(self, lets_go: &[LetsGo], drain: Duration) -> bool {
        let Some(opened) = self.opened else { return true };
        let its_own = lets_go.iter().map(|told| told.at).filter(|at| *at + SETTLED >= opened);
        its_own.min().is_none_or(|told| self.ended < told + drain)
    }
}

impl Visitors {
    /// Comes: first so many WebSockets, then the requests; returns when all were answered once.
    pub(crate) fn come(server: &Server, web_sockets: usize) -> Result<Self> {
        let (began, spent) = (Instant::now(), own_cpu()?);
        let web_sockets = vec![open(server, web_sockets)?];
        let kept = steady(ask(server, Connections::Kept)?)?;
        let fresh = steady(ask(server, Connections::Fresh)?)?;
        Ok(Self { requests: [kept, fresh], web_sockets, began, spent })
    }

    /// So many WebSockets more; returns when they are open.
    pub(crate) fn open_more(&mut self, server: &Server, web_sockets: usize) -> Result {
        self.web_sockets.push(open(server, web_sockets)?);
        Ok(())
    }

    /// The longest pause until now.
    pub(crate) fn longest_pause_ms(&self) -> f64 {
        self.requests.iter().map(|handle| handle.report().longest_pause_ms).fold(0.0, f64::max)
    }

    /// Goes, and tells what was seen.
    pub(crate) fn go(self) -> Result<Seen> {
        let own_cpu = own_cpu()?.saturating_sub(self.spent).as_secs_f64() / self.began.elapsed().as_secs_f64();
        let mut seen = Seen { own_cpu, ..Seen::default() };
        for handle in self.requests.into_iter().chain(self.web_sockets) {
            let began = handle.began().duration_since(UNIX_EPOCH)?;
            seen.add(began, handle.stop());
        }
        Ok(seen)
    }
}

impl Seen {
    /// Adds what one load saw that began then.
    fn add(&mut self, began: Duration, report: Report) {
        let since = |seconds: f64| began + Duration::from_secs_f64(seconds);
        if report.requests > 0 && report.longest_pause_ms > self.longest_pause_ms {
            self.longest_pause_ms = report.longest_pause_ms;
            self.longest_pause_at = since(report.longest_pause_at);
        }
        self.requests += report.requests;
        self.requests_lost += report.lost;
        self.slowest_ms = self.slowest_ms.max(report.slowest_ms);
        self.latest_ms = self.latest_ms.max(report.latest_ms);
        self.web_sockets += report.web_sockets_opened;
        let endings = report.endings.iter();
        self.endings.extend(endings.map(|of| Ending { opened: of.opened.map(since), ended: since(of.ended) }));
        let words = |failure: load::Failure| format!("{:.3} s: {}: {}", failure.at, failure.what, failure.why);
        self.failures.extend(report.failures.into_iter().map(words));
    }
}

fn ask(server: &Server, connections: Connections) -> Result<Handle> {
    let targets = [APP_SITE, STATIC_SITE].map(|host| target(server, host, "/")).to_vec();
    Ok(load::start(Config { targets, rate: RATE, connections, web_sockets: Vec::new(), limit: LIMIT })?)
}

fn open(server: &Server, count: usize) -> Result<Handle> {
    let web_sockets = vec![target(server, APP_SITE, "/ws"); count];
    let config = Config { targets: Vec::new(), rate: RATE, connections: Connections::Fresh, web_sockets, limit: LIMIT };
    steady(load::start(config)?)
}

fn target(server: &Server, host: &str, path: &str) -> Target {
    Target { address: server.http(), host: host.to_owned(), path: path.to_owned() }
}

fn steady(handle: Handle) -> Result<Handle> {
    if handle.wait_until_steady(PATIENCE) {
        return Ok(handle);
    }
    fail(format!("the sites do not answer their visitors steadily: {:?}", handle.stop().failures.first()))
}

/// CPU time of this process, without its children's.
fn own_cpu() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    spent(&stat).ok_or_else(|| Failure("/proc/self/stat does not tell what this process spent".to_owned()))
}

/// The 14th and 15th field of `/proc/PID/stat`, in hundredths of a second (proc(5), `USER_HZ`); the second one, a name
/// in brackets, may hold spaces.
fn spent(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(30);

    fn told(times: &[u64]) -> Vec<LetsGo> {
        times.iter().map(|seconds| LetsGo { at: Duration::from_secs(*seconds), stops: false }).collect()
    }

    fn ending(opened: u64, ended: f64) -> Ending {
        Ending { opened: Some(Duration::from_secs(opened)), ended: Duration::from_secs_f64(ended) }
    }

    #[test]
    fn a_web_socket_that_nobody_told_to_go_was_closed_early() {
        assert!(ending(100, 500.0).is_early(&[], DRAIN));
        assert!(ending(100, 500.0).is_early(&told(&[90]), DRAIN), "told before it was opened: not its process");
        assert!(Ending { opened: None, ended: Duration::from_secs(500) }.is_early(&told(&[110]), DRAIN), "refused");
    }

    #[test]
    fn a_web_socket_has_its_drain_time_from_the_first_time_that_its_own_process_was_told() {
        assert!(ending(100, 139.9).is_early(&told(&[110, 120]), DRAIN));
        assert!(!ending(100, 140.0).is_early(&told(&[120, 110]), DRAIN));
        assert!(ending(115, 149.9).is_early(&told(&[110, 120]), DRAIN), "opened on the candidate");
        assert!(!ending(115, 150.1).is_early(&told(&[110, 120]), DRAIN));
        assert!(!ending(111, 140.1).is_early(&told(&[110, 120]), DRAIN), "still accepted by the old process");
    }

    #[test]
    fn what_a_process_spent_is_read_whatever_its_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 9 9 20 0 12 0 100 1 1";
        assert_eq!(spent(stat), Some(Duration::from_millis(1750)));
        assert_eq!(spent("7 (x) S 1"), None);
        assert!(own_cpu().is_ok());
    }

    #[test]
    fn the_longest_pause_is_that_of_any_load_that_asked() {
        let report = |requests, pause| Report {
            seconds: 1.0,
            requests,
            lost: 0,
            reopened: 0,
            longest_pause_ms: pause,
            longest_pause_at: pause,
            slowest_ms: 2.0,
            median_ms: 1.0,
            latest_ms: 3.0,
            web_sockets_opened: 1,
            web_sockets_closed: 0,
            web_socket_messages: 0,
            longest_silence_ms: 0.0,
            failures: Vec::new(),
            endings: vec![load::Ending { opened: Some(1.5), ended: 2.0 }],
        };
        let mut seen = Seen::default();
        for (requests, pause) in [(10, 20.0), (10, 50.0), (0, 1000.0)] {
            seen.add(Duration::from_secs(100), report(requests, pause));
        }
        assert_eq!((seen.requests, seen.longest_pause_ms, seen.web_sockets), (20, 50.0, 3));
        assert_eq!(seen.longest_pause_at, Duration::from_secs(150));
        assert_eq!(seen.endings[0].opened, Some(Duration::from_secs_f64(101.5)));
    }
}
