//! A bounded load generator: visitors of a lab's sites, who notice when one request is lost.
//!
//! Requests leave at a fixed rate whether or not earlier ones were answered (an open loop, so that
//! a pause is measured and not waited out), over kept connections, fresh ones, or both in turn;
//! WebSockets stay open beside them. A GET that finds its *kept* connection closed before the first
//! byte of an answer is sent once more on a fresh one, as every browser does (RFC 9110, section
//! 9.2.2); that is counted as `reopened`, not as lost.
//!
//! Promises to end by itself after its time, and never to load an address that is neither loopback
//! nor of the labs' range 10.0.0.0/8. Plain threads; prints nothing.

mod http;
mod tally;
mod web_socket;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

pub use tally::{Ending, Failure, Report};

use http::Visitor;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use tally::Tally;

/// The most that may be asked for: enough to notice everything, too little to harm anyone.
const MAX_RATE: u32 = 2_000;
const MAX_WEB_SOCKETS: usize = 500;
const MAX_LIMIT: Duration = Duration::from_secs(20 * 60);
/// A request without a whole answer after so long is lost.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked, of whom, how often.
#[derive(Debug, Clone)]
pub struct Config {
    /// Asked in turn.
    pub targets: Vec<Target>,
    /// Requests per second, all targets together.
    pub rate: u32,
    /// Over which connections.
    pub connections: Connections,
    /// Opened at the start, all at once, one for each entry; one that closes is opened again.
    pub web_sockets: Vec<Target>,
    /// When it ends unless stopped before.
    pub limit: Duration,
}

/// An address of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Where to connect to.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// Path and query.
    pub path: String,
}

/// How connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// One for many requests.
    Kept,
    /// A new one for each request.
    Fresh,
    /// Kept and fresh in turn.
    Both,
}

/// A running load. Dropping it stops the threads and forgets the result.
#[must_use = "the load ends when this is dropped"]
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Begins.
///
/// # Errors
/// `InvalidInput` when more is asked than is allowed, or of an address that is not ours to load.
pub fn start(config: Config) -> io::Result<Handle> {
    allowed(&config)?;
    let workers = if config.targets.is_empty() { 0 } else { (config.rate / 4).clamp(4, 64) };
    let shared = Arc::new(Shared {
        began: SystemTime::now(),
        started: Instant::now(),
        limit: config.limit,
        stop: AtomicBool::new(false),
        ticket: AtomicU64::new(0),
        tally: Mutex::new(Tally::new(&config.targets)),
        config,
    });
    let spawn = |work: Box<dyn FnOnce(&Shared) + Send>| {
        let shared = Arc::clone(&shared);
        thread::Builder::new().stack_size(256 * 1024).spawn(move || work(&shared))
    };
    let mut threads = Vec::new();
    for _ in 0..workers {
        threads.push(spawn(Box::new(visit))?);
    }
    for target in shared.config.web_sockets.clone() {
        threads.push(spawn(Box::new(move |shared| web_socket::listen(shared, &target)))?);
    }
    Ok(Handle { shared, threads })
}

impl Handle {
    /// When it began: what the times of a report are counted from.
    pub fn began(&self) -> SystemTime {
        self.shared.began
    }

    /// What was seen until now; the load goes on.
    pub fn report(&self) -> Report {
        self.shared.tally().report(self.shared.elapsed())
    }

    /// Waits until every target answered well and every WebSocket is open; `false`: not within `patience`.
    pub fn wait_until_steady(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.shared.tally().steady(self.shared.config.web_sockets.len()) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends the load and tells what was seen. Requests under way are waited for, at most 5 s.
    pub fn stop(mut self) -> Report {
        let end = self.shared.elapsed();
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.tally().failed(end, "load generator", "one of its threads panicked".to_owned());
            }
        }
        self.shared.tally().report(end)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// What the threads have in common.
#[derive(Debug)]
struct Shared {
    began: SystemTime,
    started: Instant,
    limit: Duration,
    stop: AtomicBool,
    /// Number of the next request; its time follows from it.
    ticket: AtomicU64,
    tally: Mutex<Tally>,
    config: Config,
}

impl Shared {
    fn elapsed(&self) -> Duration {
        self.started.elapsed().min(self.limit)
    }

    fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.started.elapsed() >= self.limit
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until then, or until it is over; whether there is still something to do.
    fn sleep_until(&self, when: Duration) -> bool {
        loop {
            if self.over() {
                return false;
            }
            match when.checked_sub(self.started.elapsed()) {
                None | Some(Duration::ZERO) => return true,
                Some(left) => thread::sleep(left.min(Duration::from_millis(50))),
            }
        }
    }
}

/// One worker: takes the next ticket, waits for its time, asks.
fn visit(shared: &Shared) {
    let config = &shared.config;
    let mut visitor = Visitor::new(TIMEOUT);
    loop {
        let ticket = shared.ticket.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_nanos(ticket.saturating_mul(1_000_000_000 / u64::from(config.rate)));
        if !shared.sleep_until(due) {
            return;
        }
        let late = shared.started.elapsed().saturating_sub(due);
        let place = (ticket % config.targets.len() as u64) as usize;
        let round = ticket / config.targets.len() as u64;
        let keep = match config.connections {
            Connections::Kept => true,
            Connections::Fresh => false,
            Connections::Both => round.is_multiple_of(2),
        };
        let began = Instant::now();
        let answer = visitor.get(place, &config.targets[place], keep);
        let (at, took) = (shared.started.elapsed(), began.elapsed());
        let mut tally = shared.tally();
        tally.left(late);
        tally.answered(place, at, took, answer);
    }
}

fn allowed(config: &Config) -> io::Result<()> {
    let refuse = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    if let Some(target) = config.targets.iter().chain(&config.web_sockets).find(|target| !is_ours(target.address.ip()))
    {
        return refuse(format!("{} is neither loopback nor in 10.0.0.0/8: it is not loaded", target.address));
    }
    if config.rate == 0 || config.rate > MAX_RATE {
        return refuse(format!("a rate of {} requests per second is not within 1 to {MAX_RATE}", config.rate));
    }
    if config.web_sockets.len() > MAX_WEB_SOCKETS {
        return refuse(format!("{} WebSockets are more than {MAX_WEB_SOCKETS}", config.web_sockets.len()));
    }
    if config.limit.is_zero() || config.limit > MAX_LIMIT {
        return refuse(format!("{:?} is not within 1 to {} s", config.limit, MAX_LIMIT.as_secs()));
    }
    Ok(())
}

fn is_ours(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.octets()[0] == 10,
        IpAddr::V6(address) => address.is_loopback(),
    }
}
