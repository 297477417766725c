//! Probes of the sites from the operator's machine, while the candidate is on trial.
//!
//! What runs is asked once before anything is switched, so that a site which was out of reach already counts for nothing
//! new. The candidate is asked in a thread while the server watches it; where one fails, the server is told why and goes
//! back at once. A server behind a jump host cannot be asked from here: that is said, and is no failure.

use crate::commands::lab;
use crate::connect::{self, Connected};
use crate::output::Output;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stead_host::probing::{self, Asking, Patience, Route};
use stead_model::probe::{Answered, Broken, Probe, Probes, Side, Target, Verdict};
use stead_model::server::Server;
use stead_remote::destination::Destination;
use stead_remote::way;

/// What of the time for the login is kept for the login itself.
const FOR_LOGIN: Duration = Duration::from_secs(5);

/// The probes of one deploy, as far as this machine knows them.
#[derive(Default)]
pub(crate) struct Probing {
    before: Option<JoinHandle<Before>>,
    known: Option<Before>,
    asked: Option<Asked>,
    answers: BTreeMap<(String, Side), Answered>,
}

/// How the server is reached, and what did not answer before anything was switched.
struct Before {
    reach: Reach,
    broken: Broken,
}

/// The candidate's probes, under way or over.
struct Asked {
    activation: String,
    answers: Receiver<Answered>,
    /// When it has to be over; `None`: not known yet.
    until: Arc<Mutex<Option<Instant>>>,
    thread: Option<JoinHandle<Result<bool, String>>>,
    has_passed: bool,
}

/// Whether the server's ports can be reached from this machine.
#[derive(Debug, Clone)]
enum Reach {
    /// At these addresses.
    At(Vec<IpAddr>),
    /// Not as SSH does it.
    Not(String),
}

impl Reach {
    /// Where SSH finds the server.
    fn of(destination: &Destination) -> Self {
        if let Some(address) = lab::address(destination) {
            return Self::At(vec![address]);
        }
        let way = match way::of(destination) {
            Ok(way) => way,
            Err(error) => return Self::Not(format!("it is not known where SSH finds the server: {error}")),
        };
        if let Some(between) = way.by_way_of {
            return Self::Not(format!("SSH reaches the server by way of `{between}`"));
        }
        match probing::resolve(&way.host, 0) {
            Ok(found) if found.iter().all(|address| address.ip().is_loopback()) => {
                Self::Not(format!("SSH reaches the server at `{}`: through a tunnel, or it is this machine", way.host))
            }
            Ok(found) => Self::At(found.into_iter().map(|address| address.ip()).collect()),
            Err(why) => Self::Not(why),
        }
    }

    fn route(&self, probe: &Probe) -> Route {
        let port = probe.url.port().number();
        match (&probe.target, self) {
            (Target::Site { .. }, Self::Not(why)) => Route::Not(why.clone()),
            (Target::Site { addresses }, Self::At(known)) => {
                let listens = |here: &&IpAddr| {
                    addresses
                        .iter()
                        .any(|there| there == *here || there.is_unspecified() && there.is_ipv4() == here.is_ipv4())
                };
                let to: Vec<SocketAddr> =
                    known.iter().filter(listens).map(|address| SocketAddr::new(*address, port)).collect();
                match to.is_empty() {
                    false => Route::To(to),
                    true => Route::Not(format!(
                        "the site listens on {}, and SSH reaches the server at {}",
                        list(addresses),
                        list(known)
                    )),
                }
            }
            (Target::App { .. }, _) => Route::Not("only the server itself reaches an app's own port".to_owned()),
            (Target::Name {}, _) => match probing::resolve(probe.url.host(), port) {
                Ok(addresses) => Route::To(addresses),
                Err(why) => Route::Unknown(why),
            },
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Connected {
    /// Begins to ask what runs, in a thread: what fails now is not the fault of what comes.
    pub(crate) fn look_from_outside(&mut self, server: &Server) {
        let Ok(active) = self.active_generation(server) else { return };
        let destination = self.destination().clone();
        self.probing.before = Some(std::thread::spawn(move || {
            let reach = Reach::of(&destination);
            let asking = Asking {
                side: Side::Operator,
                patience: Patience::Once,
                route: &|probe| reach.route(probe),
                is_over: &|| false,
                tell: &|_| {},
            };
            let answers = probing::ask_all(&active.probes, &asking);
            let failed = answers.into_iter().filter(Answered::is_failure);
            let broken = failed.map(|answered| (answered.probe, answered.way)).collect();
            Before { reach, broken }
        }));
    }

    /// Begins to ask the candidate of this activation, unless that goes on already.
    pub(crate) fn probe(&mut self, activation: &str, probes: Probes, broken_there: Broken) {
        self.probing.settle();
        if self.probing.asked.as_ref().is_some_and(|asked| asked.activation == activation) {
            return;
        }
        let destination = self.destination().clone();
        let known = self.probing.known.take();
        let (sender, answers) = mpsc::channel();
        let until: Arc<Mutex<Option<Instant>>> = Arc::default();
        let ends = until.clone();
        let id = activation.to_owned();
        let ask = move || {
            let Before { reach, broken } =
                known.unwrap_or_else(|| Before { reach: Reach::of(&destination), broken: broken_there });
            let compared = |answered: &Answered| match probes.get(&answered.probe).is_some_and(Probe::is_implicit) {
                true => answered.clone().compared(&broken),
                false => answered.clone(),
            };
            let end = || *ends.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = Mutex::new(sender);
            let asking = Asking {
                side: Side::Operator,
                patience: Patience::AsSaid,
                route: &|probe| reach.route(probe),
                is_over: &|| end().is_some_and(|end| Instant::now() >= end),
                tell: &|answered| {
                    let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send(compared(answered));
                },
            };
            let answers: Vec<Answered> = probing::ask_all(&probes, &asking).iter().map(compared).collect();
            let failed: Vec<String> =
                answers.iter().filter(|answered| answered.is_failure()).map(ToString::to_string).collect();
            if failed.is_empty() {
                return Ok(true);
            }
            connect::cancel(&destination, &id, &failed.join("\n")).map(|()| false).map_err(|failure| failure.what)
        };
        self.probing.asked = Some(Asked {
            activation: activation.to_owned(),
            answers,
            until,
            thread: Some(std::thread::spawn(ask)),
            has_passed: false,
        });
    }
}

impl Probing {
    /// Waits until it is known what was broken: it must be, before anything is switched.
    pub(crate) fn settle(&mut self) {
        if let Some(before) = self.before.take() {
            self.known = before.join().ok();
        }
    }

    /// A probe has ended, on either side.
    pub(crate) fn heard(&mut self, answered: Answered, output: &Output) {
        let Answered { probe, side, answer, .. } = &answered;
        let first_line = answer.lines().next().unwrap_or_default();
        output.detail(&format!("{probe} {side}: {first_line}"));
        let key = (probe.clone(), *side);
        let is_new = self.answers.get(&key).is_none_or(|known| known.verdict != answered.verdict);
        let is_told = |known: &Answered| known.verdict == Verdict::Skipped && known.answer == *answer;
        match answered.verdict {
            Verdict::FailedBefore if is_new => output.say(&format!(
                "  {probe} does not answer as it should {side}, and did not before either: {first_line}"
            )),
            // One reason is told once, however many sites it keeps from being asked.
            Verdict::Skipped if !self.answers.values().any(is_told) => {
                output.say(&format!("  not probed from here: {answer}"));
            }
            _ => {}
        }
        self.answers.insert(key, answered);
    }

    /// Waits until the candidate has answered this machine. `deadline` is the time in which the server wants its login.
    pub(crate) fn passed(&mut self, deadline: u32, output: &Output) -> bool {
        let Some(mut asked) = self.asked.take() else { return true };
        let time = Duration::from_secs(deadline.into());
        let end = Instant::now() + time.saturating_sub(FOR_LOGIN).max(time / 2);
        asked.until.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        // Ends when the thread has let go of the other end.
        while let Ok(answered) = asked.answers.recv() {
            self.heard(answered, output);
        }
        if let Some(thread) = asked.thread.take() {
            asked.has_passed = match thread.join() {
                Ok(Ok(has_passed)) => has_passed,
                Ok(Err(why)) => {
                    output.say(&format!("  a probe from here failed, and the server could not be told: {why}"));
                    output.say("  the server goes back when its deadline is over");
                    false
                }
                Err(_) => false,
            };
        }
        let has_passed = asked.has_passed;
        self.asked = Some(asked);
        has_passed
    }

    /// Every answer of either side that has arrived, by the probe's label.
    pub(crate) fn answers(&mut self, output: &Output) -> Vec<Answered> {
        if let Some(asked) = self.asked.take() {
            while let Ok(answered) = asked.answers.try_recv() {
                self.heard(answered, output);
            }
            self.asked = Some(asked);
        }
        self.answers.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::probe::{Expected, Timing};

    fn site(addresses: &[&str]) -> Probe {
        Probe {
            url: "http://a.example:8080/".parse().unwrap(),
            target: Target::Site { addresses: addresses.iter().map(|address| address.parse().unwrap()).collect() },
            expected: Expected::Served {},
            from: [Side::Operator].into(),
            timing: Timing { interval: 1, timeout: 1, deadline: 1, passes: 1 },
        }
    }

    fn at(addresses: &[&str]) -> Reach {
        Reach::At(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[test]
    fn a_site_is_asked_at_the_addresses_of_the_server_that_it_listens_on() {
        let both = at(&["192.0.2.7", "2001:db8::7"]);
        let to = |text: &[&str]| Route::To(text.iter().map(|address| address.parse().unwrap()).collect());
        assert_eq!(both.route(&site(&["0.0.0.0", "::"])), to(&["192.0.2.7:8080", "[2001:db8::7]:8080"]));
        assert_eq!(both.route(&site(&["::"])), to(&["[2001:db8::7]:8080"]));
        assert_eq!(both.route(&site(&["192.0.2.7"])), to(&["192.0.2.7:8080"]));
        let mut secure = site(&["0.0.0.0"]);
        secure.url = "https://a.example/".parse().unwrap();
        assert_eq!(both.route(&secure), to(&["192.0.2.7:443"]));
        let elsewhere = both.route(&site(&["10.0.0.1"]));
        assert!(
            matches!(&elsewhere, Route::Not(why) if why.contains("10.0.0.1") && why.contains("192.0.2.7")),
            "{elsewhere:?}"
        );
    }

    #[test]
    fn a_server_behind_a_jump_host_or_a_tunnel_is_not_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(&file, "Host inner\n  ProxyJump jump.example\nHost tunnel\n  HostName 127.0.0.1\nHost plain\n  HostName 192.0.2.7\n").unwrap();
        let reach = |host: &str| {
            let mut destination = Destination::new(host).unwrap();
            destination.config_file = Some(file.clone());
            Reach::of(&destination)
        };
        assert!(matches!(reach("inner"), Reach::Not(why) if why.contains("jump.example")));
        assert!(matches!(reach("tunnel"), Reach::Not(why) if why.contains("127.0.0.1")));
        assert!(matches!(reach("plain"), Reach::At(addresses) if addresses == [IpAddr::from([192, 0, 2, 7])]));
    }
}
