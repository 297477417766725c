//! Certificates of the sites: there before nginx reads them, got from authorities, renewed.
//!
//! What is kept where, and how an authority is spoken to, is `stead-acme`'s; here is when, and that nginx serves what
//! was got. Promises that nginx never reads half a certificate or a key of another one, that an authority which fails fails no
//! deploy, and that nobody is asked while it is too early.

mod renew;

use crate::serve::agent_path;
use crate::visitors;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stead_acme::attempts::Attempts;
use stead_acme::{
    Accounts, Details, Due, Ensured, Found, Issued, Refused, WebRoot, due, files, obtain, renewal, store,
};
use stead_host::run::RunError;
use stead_host::{nginx, systemd, users};
use stead_model::certificate::{Authority, Certificate, Certificates, Source};
use stead_model::generation::Generation;
use stead_model::layout;
use stead_model::name::Domain;

pub use renew::{RenewError, ready, renew};

/// How many certificates are asked for at one time.
const AT_ONCE: usize = 8;
/// What a single one may take. An authority that takes longer is asked again later.
const WITHIN: Duration = Duration::from_secs(60);
/// What asking for advice may take.
const ADVICE_WITHIN: Duration = Duration::from_secs(5);
/// Debian's user for web servers, and its number (base-passwd), where the list of users cannot be read.
const OWNER: (&str, (u32, u32)) = ("www-data", (33, 33));
/// The timer that asks an authority again, besides the daily one.
const RETRY: &str = "stead-certificates-retry";

/// Certificates cannot be brought into a state that nginx can read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They cannot be read or written.
    #[error("certificates cannot be kept")]
    Disk(#[from] stead_acme::disk::Error),
    /// There is no place for one.
    #[error("the certificate `{name}` cannot be prepared")]
    Prepare {
        /// The certificate.
        name: Domain,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// What an operator gave cannot be served.
    #[error("services.nginx.virtualHosts.\"{site}\".sslCertificate: {source}")]
    Files {
        /// The site that names them.
        site: String,
        /// Why.
        source: files::Error,
    },
    /// The link to the agent cannot be made.
    #[error("cannot make the link {}", layout::AGENT)]
    Link(#[from] io::Error),
}

/// The certificates of this server.
fn kept() -> Result<stead_acme::Certificates, stead_acme::disk::Error> {
    let owner = users::ids(OWNER.0).unwrap_or(OWNER.1);
    stead_acme::Certificates::open(Path::new(layout::ACME), Some(owner))
}

/// Makes the units that look after certificates run this agent from now on.
pub(crate) fn link_agent() -> io::Result<()> {
    let agent = agent_path();
    let link = Path::new(layout::AGENT);
    if fs::read_link(link).is_ok_and(|known| known == agent) {
        return Ok(());
    }
    let temporary = link.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(agent, &temporary)?;
    fs::rename(&temporary, link)
}

/// Sees to it that nginx can read every certificate of a generation: with what was got earlier, with the operator's files, or with
/// a stand-in. Changes nothing of what nginx serves.
pub(crate) fn prepare(wanted: &Certificates) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    link_agent()?;
    let kept = kept()?;
    for (name, certificate) in wanted {
        if let Source::Files(files) = &certificate.source {
            match files::sync(&kept, name, &certificate.names, files) {
                // What was copied before the files went bad is still fit.
                Err(_) if matches!(kept.look(name), Found::Issued(_)) => {}
                Err(source) => return Err(Error::Files { site: files.site.clone(), source }),
                Ok(_) => {}
            }
        }
        ensure(&kept, name, certificate).map_err(|source| Error::Prepare { name: name.clone(), source })?;
    }
    Ok(())
}

fn ensure(kept: &stead_acme::Certificates, name: &Domain, certificate: &Certificate) -> Result<Ensured, store::Error> {
    kept.ensure(name, &certificate.names)
}

/// Who wants certificates renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A deploy, with somebody waiting: what sites lack.
    Deploy,
    /// The daily look: all that is due.
    Daily,
}

/// What became of one certificate that was due.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: Domain,
    /// The names that it is for.
    pub(crate) names: Vec<Domain>,
    /// It, or the words of who refused it.
    pub(crate) got: Result<Issued, String>,
    /// When it may be asked for again, if it was refused.
    pub(crate) next: Option<Timestamp>,
}

/// A certificate that is due, and what it takes the place of.
struct Wanted<'a> {
    name: &'a Domain,
    certificate: &'a Certificate,
    authority: &'a Authority,
}

/// The certificates that have to be asked for now, and may be.
fn wanted<'a>(kept: &stead_acme::Certificates, all: &'a Certificates, occasion: Occasion) -> Vec<Wanted<'a>> {
    let now = Timestamp::now();
    let mut found = Vec::new();
    for (name, certificate) in all {
        let Source::Authority(authority) = &certificate.source else { continue };
        let advice = || renewal::window(kept, name, authority, now, ADVICE_WITHIN);
        let window = (occasion == Occasion::Daily).then(advice).flatten();
        let Some(why) = due(&kept.look(name), certificate, now, window.as_ref()) else { continue };
        // With somebody waiting, only what the site cannot do without.
        if occasion == Occasion::Deploy && matches!(why, Due::Days(days) if days >= 0) {
            continue;
        }
        let attempts = Attempts::load(kept, name);
        let may_try = match occasion {
            Occasion::Deploy => attempts.may_try_by_hand(now),
            Occasion::Daily => attempts.may_try_for(&declaration(certificate), now),
        };
        if may_try {
            found.push(Wanted { name, certificate, authority });
        }
    }
    found
}

/// What was asked for, to know it from something else.
fn declaration(certificate: &Certificate) -> String {
    serde_json::to_string(certificate).unwrap_or_default()
}

/// Asks for the certificates that are wanted, several at a time. Installs none.
fn ask(kept: &stead_acme::Certificates, wanted: &[Wanted<'_>], tell: &(dyn Fn(&str) + Sync)) -> Vec<Outcome> {
    let accounts = Accounts::open(Path::new(layout::ACME));
    let challenges = WebRoot(layout::CHALLENGES.into());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    // An authority that does not answer is not waited for again and again.
    let silent: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let told_by = |directory: &str| locked(&silent).get(directory).cloned();
    let one = |wanted: &Wanted<'_>| -> Outcome {
        let names = listed(&wanted.certificate.names);
        tell(&format!("asking {} for a certificate for {names}", authority_name(wanted.authority)));
        let replaces =
            kept.chain(wanted.name).ok().flatten().filter(|_| matches!(kept.look(wanted.name), Found::Issued(_)));
        let directory = wanted.authority.directory.as_str();
        let asked = match (&accounts, told_by(directory)) {
            (_, Some(words)) => Err((words, None)),
            (Ok(accounts), None) => {
                obtain(wanted.certificate, wanted.authority, accounts, &challenges, replaces.as_deref(), WITHIN)
                    .map_err(|refused| {
                        if matches!(refused, Refused::Unreachable { .. } | Refused::TimedOut(_)) {
                            locked(&silent).insert(directory.to_owned(), refused.to_string());
                        }
                        (refused.to_string(), refused.retry_after())
                    })
            }
            (Err(error), None) => Err((error.to_string(), None)),
        };
        let now = Timestamp::now();
        let mut attempts = Attempts::load(kept, wanted.name);
        match &asked {
            Ok(_) => attempts.succeeded(now),
            Err((words, retry_after)) => attempts.failed(words, &declaration(wanted.certificate), *retry_after, now),
        }
        // What cannot be written is asked for again earlier than it should be.
        let _ = attempts.save(kept, wanted.name);
        Outcome {
            name: wanted.name.clone(),
            names: wanted.certificate.names.clone(),
            got: asked.map_err(|(words, _)| words),
            next: attempts.next,
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..wanted.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some(wanted) = wanted.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let outcome = one(wanted);
                    locked(&outcomes).push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|one, other| one.name.cmp(&other.name));
    outcomes
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of the certificates that a deploy found lacking.
pub(crate) struct Got {
    /// What was installed: nginx has to be reloaded.
    pub(crate) installed: Vec<String>,
    /// Sites that are served without, and why.
    pub(crate) lacking: Vec<String>,
}

/// Gets what the sites of a generation that is live lack; nginx has to be reloaded then. Never fails: what an authority refuses is
/// asked for again later, what nginx would not load is taken back, and the words say so.
pub(crate) fn get(generation: &Generation, tell: &(dyn Fn(&str) + Sync)) -> Got {
    let all = &generation.certificates;
    let mut got = Got { installed: Vec::new(), lacking: Vec::new() };
    let kept = match kept() {
        Ok(kept) => kept,
        Err(error) => {
            got.lacking.push(error.to_string());
            return got;
        }
    };
    let wanted = wanted(&kept, all, Occasion::Deploy);
    let mut new = Vec::new();
    for outcome in ask(&kept, &wanted, tell) {
        let names = listed(&outcome.names);
        match installed(&kept, &outcome) {
            Ok(details) => {
                got.installed.push(format!("the certificate for {names} is there: {}", described(&details)));
                new.push(outcome.name);
            }
            Err(words) => got.lacking.push(format!(
                "no certificate for {names} yet: {words}. The site is served with a stand-in that browsers warn of; {}",
                again(outcome.next)
            )),
        }
    }
    if !new.is_empty()
        && let Err(error) = loads(generation)
    {
        new.iter().for_each(|name| drop(kept.go_back(name)));
        got.installed.clear();
        got.lacking.push(format!("the new certificates are put aside, nginx does not load them: {error}"));
    }
    retry(&kept, all);
    // Those that may not be asked for yet.
    let now = Timestamp::now();
    for (name, certificate) in all {
        let is_told = wanted.iter().any(|wanted| wanted.name == name);
        let attempts = Attempts::load(&kept, name);
        let lacks = due(&kept.look(name), certificate, now, None).is_some_and(|why| !matches!(why, Due::Days(_)));
        if let (false, true, Some(words)) = (is_told, lacks, attempts.words) {
            let names = listed(&certificate.names);
            got.lacking.push(format!("no certificate for {names} yet: {words}; {}", again(attempts.next)));
        }
    }
    got
}

/// Gets what the sites of a generation that runs still lack, and has nginx serve it: what was done, and why sites are still without.
pub(crate) fn catch_up(generation: &Generation) -> (Vec<String>, Vec<String>) {
    let all = &generation.certificates;
    let is_lacking = || kept().is_ok_and(|kept| !wanted(&kept, all, Occasion::Deploy).is_empty());
    let (Some(nginx), true) = (&generation.nginx, !all.is_empty() && is_lacking()) else { return Default::default() };
    let mut got = get(generation, &|_| ());
    if !got.installed.is_empty() {
        let epoch = format!("certified-{}", std::process::id());
        if let Err(error) = visitors::reload(&nginx.unit, &nginx.configuration, &epoch) {
            got.lacking.push(format!("nginx does not serve the new certificates yet: {error}"));
        }
    }
    (got.installed, got.lacking)
}

/// Whether nginx would load a generation's configuration with the certificates as they are now.
pub(crate) fn loads(generation: &Generation) -> Result<(), RunError> {
    match &generation.nginx {
        Some(part) => nginx::test(&generation.id(), &part.runtime, &part.binds),
        None => Ok(()),
    }
}

fn installed(kept: &stead_acme::Certificates, outcome: &Outcome) -> Result<Details, String> {
    let issued = outcome.got.as_ref().map_err(Clone::clone)?;
    let installed = kept.install(&outcome.name, &outcome.names, issued.chain.as_bytes(), issued.key.as_bytes());
    installed.map_err(|error| error.to_string())
}

/// Has the authorities that refused asked again, by a timer of systemd, at the earliest time that one of them allows.
fn retry(kept: &stead_acme::Certificates, all: &Certificates) {
    let now = Timestamp::now();
    let next = all.keys().filter_map(|name| Attempts::load(kept, name).next).min();
    let stopped = systemd::stop_timers(RETRY);
    let Some(next) = next.filter(|_| stopped.is_ok()) else { return };
    let seconds = (next.as_second() - now.as_second()).clamp(60, 86_400);
    let command = ["systemctl", "start", "--no-block", "stead-certificates-renew.service"];
    // Where systemd refuses, the daily look asks.
    let _ = systemd::start_once_later(RETRY, &command, u32::try_from(seconds).unwrap_or(86_400));
}

/// An authority, for people: the host of its directory.
fn authority_name(authority: &Authority) -> &str {
    let rest = authority.directory.strip_prefix("https://").unwrap_or(&authority.directory);
    rest.split('/').next().unwrap_or(rest)
}

fn listed(names: &[Domain]) -> String {
    names.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ")
}

fn again(next: Option<Timestamp>) -> String {
    match next {
        Some(next) => format!("the authority is asked again at {}", next.strftime("%Y-%m-%d %H:%M UTC")),
        None => "the authority is asked again tomorrow".to_owned(),
    }
}

fn described(details: &Details) -> String {
    format!("issued by {}, until {}", details.issuer, details.not_after.strftime("%Y-%m-%d"))
}

/// What `status` tells of the certificates of a generation.
pub(crate) fn status(all: &Certificates) -> Vec<stead_remote::message::CertificateStatus> {
    let Ok(kept) = kept() else { return Vec::new() };
    let now = Timestamp::now();
    let one = |(name, certificate): (&Domain, &Certificate)| {
        let found = kept.look(name);
        let attempts = Attempts::load(&kept, name);
        let (state, details) = match &found {
            Found::Missing => ("missing".to_owned(), None),
            Found::Broken(words) => (format!("broken: {words}"), None),
            Found::StandIn(_) => ("stand-in".to_owned(), None),
            Found::Issued(details) if details.not_after < now => ("expired".to_owned(), Some(details)),
            Found::Issued(details) => ("valid".to_owned(), Some(details)),
        };
        stead_remote::message::CertificateStatus {
            name: name.to_string(),
            names: certificate.names.iter().map(ToString::to_string).collect(),
            state,
            issuer: details.map(|details| details.issuer.clone()),
            until: details.map(|details| details.not_after.as_second()),
            failed: attempts.words,
            next: attempts.next.map(Timestamp::as_second),
        }
    };
    all.iter().map(one).collect()
}
