//! Certificates of the sites: there before nginx reads them, got from authorities, renewed.
//!
//! What is kept where, and how an authority is spoken to, is `stead-acme`'s; here is when, and that nginx serves what
//! was got. Promises that nginx never reads half a certificate or a key of another one, that an authority which fails fails no
//! deploy, and that nobody is asked while it is too early.

mod ask;
mod renew;
mod served;

use crate::serve::agent_path;
use crate::visitors;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stead_acme::attempts::Attempts;
use stead_acme::{Accounts, Details, Ensured, Found, Refused, due, due_from, files, store};
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
    /// An authority makes no account.
    #[error("security.acme.defaults.email, or security.acme.certs.\"{name}\".email: {words}")]
    Account {
        /// A certificate that would be asked for by it.
        name: Domain,
        /// What the authority says.
        words: String,
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
/// a stand-in. Changes nothing of what nginx serves. Returns the certificates whose files were taken over: nginx has to be asked about them.
///
/// Where going back is more urgent than a file that went bad (`is_rollback`), what was copied before is good enough.
pub(crate) fn prepare(wanted: &Certificates, is_rollback: bool) -> Result<Vec<Domain>, Error> {
    let mut new = Vec::new();
    if wanted.is_empty() {
        return Ok(new);
    }
    link_agent()?;
    let kept = kept()?;
    for (name, certificate) in wanted {
        if let Source::Files(files) = &certificate.source {
            match files::sync(&kept, name, &certificate.names, files) {
                Err(_) if is_rollback && matches!(kept.look(name), Found::Issued(_)) => {}
                Err(source) => {
                    put_back(&new);
                    return Err(Error::Files { site: files.site.clone(), source });
                }
                Ok(files::Synced::Unchanged) => {}
                Ok(files::Synced::Installed(_)) => new.push(name.clone()),
            }
        }
        ensure(&kept, name, certificate).map_err(|source| Error::Prepare { name: name.clone(), source })?;
    }
    if !is_rollback {
        enroll(&kept, wanted).inspect_err(|_| put_back(&new))?;
    }
    Ok(new)
}

/// Makes the accounts by which certificates that are not there will be asked for: an address that an authority refuses is known
/// before anything is switched. An authority that does not answer is another matter.
fn enroll(kept: &stead_acme::Certificates, wanted: &Certificates) -> Result<(), Error> {
    let accounts = Accounts::open(Path::new(layout::ACME))?;
    let mut asked = BTreeSet::new();
    for (name, certificate) in wanted {
        let Source::Authority(authority) = &certificate.source else { continue };
        let is_there = matches!(kept.look(name), Found::Issued(_));
        if is_there || !asked.insert((&authority.directory, &authority.email)) {
            continue;
        }
        if let Err(Refused::Account(words)) = stead_acme::authority::enroll(authority, &accounts, ADVICE_WITHIN) {
            return Err(Error::Account { name: name.clone(), words });
        }
    }
    Ok(())
}

/// Takes back what [`prepare`] took over: nothing of what is refused stays for the next start of nginx.
pub(crate) fn put_back(new: &[Domain]) {
    if let Ok(kept) = kept() {
        // One that nothing was before stays: nothing that runs reads it.
        new.iter().for_each(|name| drop(kept.go_back(name)));
    }
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of the certificates that a deploy found lacking.
#[derive(Default)]
pub(crate) struct Got {
    /// What was installed, in words.
    pub(crate) installed: Vec<String>,
    /// Sites that are served without, and why.
    pub(crate) lacking: Vec<String>,
    /// Whether nginx has to read certificates that it has not read yet.
    pub(crate) is_unread: bool,
}

/// Gets what the sites of a generation that is live lack. Never fails: what an authority refuses is asked for again later, what nginx
/// would not load is taken back, and the words say so.
pub(crate) fn get(generation: &Generation, tell: &(dyn Fn(&str) + Sync)) -> Got {
    let all = &generation.certificates;
    let mut got = Got::default();
    let kept = match kept() {
        Ok(kept) => kept,
        Err(error) => {
            got.lacking.push(error.to_string());
            return got;
        }
    };
    let outcomes = ask::ask(&kept, all, Occasion::Deploy, tell);
    for (outcome, settled) in ask::settle(&kept, generation, &outcomes) {
        let names = listed(&outcome.certificate.names);
        match settled {
            Ok(details) => got.installed.push(format!("the certificate for {names} is there: {}", described(&details))),
            Err(words) => got.lacking.push(without(&kept, &outcome.name, &names, &words)),
        }
    }
    // Those that may not be asked for yet.
    let now = Timestamp::now();
    for (name, certificate) in all {
        let is_told = outcomes.iter().any(|outcome| outcome.name == *name);
        let lacks = due(&kept.look(name), certificate, now, None).is_some_and(|why| why.is_lack());
        if let (false, true, Some(words)) = (is_told, lacks, Attempts::load(&kept, name).words) {
            got.lacking.push(without(&kept, name, &listed(&certificate.names), &words));
        }
    }
    retry(&kept, all);
    got.is_unread = served::is_unread(&kept, all);
    got
}

/// What is said of a site that has no certificate as it should.
fn without(kept: &stead_acme::Certificates, name: &Domain, names: &str, words: &str) -> String {
    let meanwhile = match kept.look(name) {
        Found::Issued(details) if details.not_after < Timestamp::now() => {
            "The site is served with one that has expired"
        }
        Found::Issued(_) => "The site is served with the one that it had",
        _ => "The site is served with a stand-in that browsers warn of",
    };
    format!("no certificate for {names} yet: {words}. {meanwhile}; {}", again(Attempts::load(kept, name).next))
}

/// Gets what the sites of a generation that runs still lack, and has nginx serve it: what was done, and why sites are still without.
pub(crate) fn catch_up(generation: &Generation) -> (Vec<String>, Vec<String>) {
    let all = &generation.certificates;
    let Some(nginx) = generation.nginx.as_ref().filter(|_| !all.is_empty()) else { return Default::default() };
    let mut got = get(generation, &|_| ());
    if got.is_unread {
        let epoch = format!("certified-{}", std::process::id());
        match visitors::reload(&nginx.unit, &nginx.configuration, &epoch) {
            Ok(()) => served::note(all),
            Err(error) => got.lacking.push(format!("nginx does not serve the new certificates yet: {error}")),
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

/// Remembers that nginx has read the certificates of a generation as they are now.
pub(crate) fn note_served(all: &Certificates) {
    served::note(all);
}

/// Has what is due looked at again by a timer of systemd, at the earliest time that makes sense: when an authority that refused may be asked
/// again, or when a certificate that does not live until tomorrow's look has to be renewed.
fn retry(kept: &stead_acme::Certificates, all: &Certificates) {
    const SOONEST: i64 = 60;
    const LATEST: i64 = 86_400;
    let now = Timestamp::now();
    let next = |(name, certificate): (&Domain, &Certificate)| -> Option<i64> {
        let Source::Authority(authority) = &certificate.source else { return None };
        let found = kept.look(name);
        let attempts = Attempts::load(kept, name);
        match (due(&found, certificate, now, None), &found) {
            (Some(_), _) => Some(attempts.next.map_or(0, |next| next.as_second() - now.as_second())),
            (None, Found::Issued(details)) => {
                if attempts.failures > 0 {
                    // What failed is not wanted any more.
                    let _ = Attempts::default().save(kept, name);
                }
                Some(due_from(details, authority.valid_min_days).as_second() - now.as_second())
            }
            (None, _) => None,
        }
    };
    let stopped = systemd::stop_timers(RETRY);
    let Some(seconds) = all.iter().filter_map(next).min().filter(|seconds| *seconds < LATEST && stopped.is_ok()) else {
        return;
    };
    let command = ["systemctl", "start", "--no-block", "stead-certificates-renew.service"];
    // Where systemd refuses, the daily look asks.
    let _ = systemd::start_once_later(RETRY, &command, u32::try_from(seconds.max(SOONEST)).unwrap_or(3600));
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
