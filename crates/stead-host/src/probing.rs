//! The probes of a generation, side by side, from one side of it.
//!
//! The same code asks on the server and on the operator's machine; where a probe's connection goes
//! from there is the caller's to say ([`Route`]). Promises that every probe ends: with as many
//! answers in a row as it needs, with its deadline, or when the caller has enough. A declared probe
//! follows redirects among the server's own sites, a few of them, and never in a circle.
//!
//! Over TLS, the server's own sites may show any certificate (a stand-in serves until an authority has
//! answered), and the answer tells which. Where `certificateDays` is declared, and of other machines, it has
//! to be one that a browser would take.

use crate::probe::{self, Answer, Need, ProbeError, Question};
use crate::run;
use crate::tls::{Demand, Tls, Trust};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stead_model::probe::{Answered, Expected, Probe, Probes, Scheme, Side, Target, Url, Verdict};

/// The most probes that are asked at one time.
const AT_ONCE: usize = 16;
/// The most redirects that are followed.
const REDIRECTS: usize = 5;
/// Time between the first questions.
const FIRST: Duration = Duration::from_millis(50);
/// How long questions come as often as that.
const FIRST_FOR: Duration = Duration::from_secs(5);
/// Time between an answer that passed and the next question.
const BEAT: Duration = Duration::from_millis(10);
/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// Where the connection of a probe goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the first of these that accepts it.
    To(Vec<SocketAddr>),
    /// Nowhere: it cannot be asked from this side, and that is not its fault.
    Not(String),
    /// Nowhere: its name means nothing.
    Unknown(String),
}

/// How long one asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// One question, one answer.
    Once,
    /// As the probe says.
    AsSaid,
    /// As the probe says, but a site's own at least this long.
    AtLeast(Duration),
}

/// Who asks, and how.
pub struct Asking<'a> {
    /// From where.
    pub side: Side,
    /// How long.
    pub patience: Patience,
    /// Where connections go.
    pub route: &'a (dyn Fn(&Probe) -> Route + Sync),
    /// Whether the caller has enough; a probe that failed until then has failed.
    pub is_over: &'a (dyn Fn() -> bool + Sync),
    /// Hears of each probe when it has ended.
    pub tell: &'a (dyn Fn(&Answered) + Sync),
}

/// In which way an answer is wrong, and the words for it.
struct Wrong {
    way: String,
    words: String,
}

/// What all questions of one time have in common.
struct Round<'a> {
    probes: &'a Probes,
    asking: &'a Asking<'a>,
    trust: &'a Trust,
}

/// Asks every probe that is of this side, side by side. The answers are in the order of the labels.
pub fn ask_all(probes: &Probes, asking: &Asking<'_>) -> Vec<Answered> {
    ask_all_of(&Round { probes, asking, trust: &Trust::default() })
}

fn ask_all_of(round: &Round<'_>) -> Vec<Answered> {
    let Round { probes, asking, .. } = round;
    let wanted: Vec<(&String, &Probe)> = probes.iter().filter(|(_, probe)| probe.from.contains(&asking.side)).collect();
    if wanted.iter().any(|(_, probe)| probe.url.scheme() == Scheme::Https) {
        // Not within the time of an answer.
        round.trust.read();
    }
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..wanted.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some((label, probe)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answered = ask(label, probe, round);
                    (asking.tell)(&answered);
                    answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(answered);
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    answers.sort_by(|one, other| one.probe.cmp(&other.probe));
    answers
}

fn ask(label: &str, probe: &Probe, round: &Round<'_>) -> Answered {
    let asking = round.asking;
    let began = Instant::now();
    let route = (asking.route)(probe);
    let answered = |verdict, way: String, answer: String| Answered {
        probe: label.to_owned(),
        side: asking.side,
        asked: asked(probe, &route),
        verdict,
        way,
        answer,
    };
    match &route {
        Route::Not(why) => return answered(Verdict::Skipped, String::new(), why.clone()),
        Route::Unknown(why) => return answered(Verdict::Failed, "unknown name".to_owned(), why.clone()),
        Route::To(_) => {}
    }
    let said = Duration::from_millis(probe.timing.deadline.into());
    let deadline = match asking.patience {
        Patience::AtLeast(least) if probe.is_implicit() => said.max(least),
        _ => said,
    };
    let interval = Duration::from_millis(probe.timing.interval.into());
    let wanted = if asking.patience == Patience::Once { 1 } else { probe.timing.passes };
    let mut passed = 0;
    loop {
        match answer(probe, &route, round) {
            Ok(words) => {
                passed += 1;
                if passed >= wanted {
                    return answered(Verdict::Passed, String::new(), words);
                }
            }
            // Time is over only for what fails: an answer that passes slowly is one that passes.
            Err(wrong) => {
                passed = 0;
                if asking.patience == Patience::Once || began.elapsed() >= deadline || (asking.is_over)() {
                    return answered(Verdict::Failed, wrong.way, wrong.words);
                }
            }
        }
        sleep(match passed {
            1.. => interval.min(BEAT),
            0 if began.elapsed() < FIRST_FOR => interval.min(FIRST),
            0 => interval,
        });
    }
}

/// What is asked where, for people.
fn asked(probe: &Probe, route: &Route) -> String {
    match route {
        Route::To(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{} at {}", probe.url, addresses.join(" or "))
        }
        _ => probe.url.to_string(),
    }
}

/// One question, with the redirects that it leads to, and what is to be thought of the answer.
fn answer(probe: &Probe, route: &Route, round: &Round<'_>) -> Result<String, Wrong> {
    let began = Instant::now();
    let timeout = Duration::from_millis(probe.timing.timeout.into());
    let mut chain = vec![probe.url.clone()];
    let mut route = route.clone();
    let mut demand = demand(probe, probe);
    loop {
        let url = chain.last().unwrap_or(&probe.url);
        let left = timeout.saturating_sub(began.elapsed());
        let tls = (url.scheme() == Scheme::Https).then_some(Tls { name: url.host(), trust: round.trust, demand });
        let host = url.authority();
        let left = left.max(Duration::from_millis(1));
        let question = Question { host: &host, path: url.path(), timeout: left, need: need(probe), tls };
        let answer = get(&route, question).map_err(|error| Wrong {
            way: error.way().to_owned(),
            words: format!("{}{}", words(&error), by_way_of(&chain)),
        })?;
        lasts(probe, &answer)
            .map_err(|wrong| Wrong { words: format!("{}{}", wrong.words, by_way_of(&chain)), ..wrong })?;
        let Some((next, to, wanted)) = follows(probe, &answer, url, round) else {
            return judge(probe, &answer, began.elapsed())
                .map(|words| format!("{words}{}", by_way_of(&chain)))
                .map_err(|wrong| Wrong { words: format!("{}{}", wrong.words, by_way_of(&chain)), ..wrong });
        };
        let is_circle = chain.contains(&next);
        chain.push(next);
        if is_circle {
            let words = format!("it redirects in a circle{}", by_way_of(&chain));
            return Err(Wrong { way: "a circle of redirects".to_owned(), words });
        }
        if chain.len() > REDIRECTS + 1 {
            let words = format!("it redirects more than {REDIRECTS} times{}", by_way_of(&chain));
            return Err(Wrong { way: "too many redirects".to_owned(), words });
        }
        route = to;
        demand = wanted;
    }
}

/// How an answer came about, if there were redirects.
fn by_way_of(chain: &[Url]) -> String {
    let urls: Vec<String> = chain.iter().map(ToString::to_string).collect();
    if chain.len() > 1 { format!(" ({})", urls.join(" → ")) } else { String::new() }
}

fn need(probe: &Probe) -> Need {
    if probe.is_implicit() { Need::Status } else { Need::Whole }
}

/// What the certificate has to be there, for this probe.
fn demand(probe: &Probe, there: &Probe) -> Demand {
    match (days(probe), &there.target) {
        (None, Target::Site { .. } | Target::App { .. }) => Demand::Any,
        (Some(_), _) | (None, Target::Name {}) => Demand::Trusted,
    }
}

/// The days for which certificates have to be valid, if that is declared.
fn days(probe: &Probe) -> Option<u16> {
    match probe.expected {
        Expected::Declared { certificate_days, .. } => certificate_days,
        Expected::Served {} => None,
    }
}

/// Whether the certificate lasts as long as it is to.
fn lasts(probe: &Probe, answer: &Answer) -> Result<(), Wrong> {
    let (Some(wanted), Some(certificate)) = (days(probe), &answer.certificate) else { return Ok(()) };
    let left = certificate.days_left();
    if left >= u64::from(wanted) {
        return Ok(());
    }
    let words = format!("the certificate ends in {left} days, and {wanted} were to be left: {certificate}");
    Err(Wrong { way: "a certificate that ends soon".to_owned(), words })
}

/// Asks at the first address that accepts a connection.
fn get(route: &Route, question: Question<'_>) -> Result<Answer, ProbeError> {
    let mut last = ProbeError::Connect(std::io::Error::other("there is no address"));
    let Route::To(addresses) = route else { return Err(last) };
    let end = Instant::now() + question.timeout;
    for address in addresses {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match probe::get(*address, Question { timeout: left, ..question }) {
            Err(error @ ProbeError::Connect(_)) => last = error,
            other => return other,
        }
    }
    Err(last)
}

/// Where a redirect leads, if it is to be followed: a declared probe that wants no redirect, to a site of this server;
/// and what is demanded of the certificate there.
fn follows(probe: &Probe, answer: &Answer, url: &Url, round: &Round<'_>) -> Option<(Url, Route, Demand)> {
    let Expected::Declared { status, .. } = &probe.expected else { return None };
    let wants_redirect = status.is_some_and(|status| (300..400).contains(&status));
    if wants_redirect || !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let next = url.join(answer.location.as_deref()?)?;
    let is_there = |known: &Probe| known.url.host() == next.host() && known.url.port() == next.port();
    let own = Some(probe).filter(|probe| is_there(probe));
    let site = || round.probes.values().find(|known| matches!(known.target, Target::Site { .. }) && is_there(known));
    let there = own.or_else(site)?;
    match (round.asking.route)(there) {
        Route::To(addresses) => Some((next, Route::To(addresses), demand(probe, there))),
        _ => None,
    }
}

/// Whether an answer is what was expected.
fn judge(probe: &Probe, answer: &Answer, took: Duration) -> Result<String, Wrong> {
    let shown = || {
        let text: String = answer.body.trim().chars().take(SHOWN).collect();
        let to = answer.location.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
        format!("status {}{to}{}{text}", answer.status, if text.is_empty() { "" } else { ": " })
    };
    let wrong_status = || Err(Wrong { way: format!("status {}", answer.status), words: shown() });
    match &probe.expected {
        Expected::Served {} if answer.status < 500 => {}
        Expected::Served {} => return wrong_status(),
        Expected::Declared { status, body, response_time, .. } => {
            let fits = status.map_or((200..400).contains(&answer.status), |status| answer.status == status);
            if !fits {
                return wrong_status();
            }
            if let Some(text) = body.as_ref().filter(|text| !answer.body.contains(text.as_str())) {
                let words = format!("the answer does not contain {text:?}: {}", shown());
                return Err(Wrong { way: "another body".to_owned(), words });
            }
            let most = response_time.map(|time| Duration::from_millis(time.into()));
            if let Some(most) = most.filter(|most| took > *most) {
                let words = format!("the answer took {} ms, more than {} ms", took.as_millis(), most.as_millis());
                return Err(Wrong { way: "a slow answer".to_owned(), words });
            }
        }
    }
    let certificate = answer.certificate.as_ref().map(|certificate| format!(", {}", certificate.told()));
    Ok(format!("status {}{}", answer.status, certificate.unwrap_or_default()))
}

fn words(error: &ProbeError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The addresses of a name, as this machine finds them (`getent(1)`: a static program has no other way to all of the
/// machine's own sources of names), each with this port. Waits as long as the machine's resolver does.
///
/// # Errors
/// With words, when there are none.
pub fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let text = run::run("getent", &["ahosts", name]).unwrap_or_default();
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in text.lines().filter_map(|line| line.split_whitespace().next()?.parse::<IpAddr>().ok()) {
        let address = SocketAddr::new(address, port);
        if !found.contains(&address) {
            found.push(address);
        }
    }
    match found.is_empty() {
        true => Err(format!("the name `{name}` does not resolve there: DNS and /etc/hosts know no address for it")),
        false => Ok(found),
    }
}

#[cfg(test)]
mod secure_tests;
#[cfg(test)]
mod tests;
