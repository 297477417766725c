//! Which certificates are due, what authorities answer, and what is kept of that.
//!
//! Promises that no two processes ask at a time, that a certificate that is kept is one that nginx loads, and that what failed, wherever
//! it failed, is asked for later rather than at once.

use super::{ADVICE_WITHIN, AT_ONCE, Occasion, WITHIN, authority_name, listed, loads, locked};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use stead_acme::attempts::Attempts;
use stead_acme::{Accounts, Details, Found, Issued, Refused, WebRoot, due, obtain, renewal};
use stead_model::certificate::{Authority, Certificate, Certificates, Source};
use stead_model::generation::Generation;
use stead_model::layout;
use stead_model::name::Domain;

/// Who holds its lock (`flock(2)`) asks authorities.
const LOCK: &str = "/run/stead/certificates.lock";

/// What an authority said to one certificate that was due.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its name.
    pub(super) name: Domain,
    /// What was asked for.
    pub(super) certificate: Certificate,
    /// It, or the words of who refused it, and when they want to be asked again.
    asked: Result<Issued, (String, Option<Timestamp>)>,
}

/// A certificate that is due.
struct Wanted<'a> {
    name: &'a Domain,
    certificate: &'a Certificate,
    authority: &'a Authority,
}

/// Does this with each, some at a time.
fn each<T: Sync, R: Send>(all: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..all.len().min(AT_ONCE) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = all.get(index) else { break };
                    let result = act(one);
                    locked(&done).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Asks for the certificates that are due and may be asked for. Keeps none. Whoever asks at the same time is waited for first.
pub(super) fn ask(
    kept: &stead_acme::Certificates,
    all: &Certificates,
    occasion: Occasion,
    tell: &(dyn Fn(&str) + Sync),
) -> Vec<Outcome> {
    // Without the lock two might ask, which is no worse than what the authority answers to that.
    let lock = File::create(LOCK).ok();
    let _held = lock.as_ref().map(|lock| rustix::fs::flock(lock, rustix::fs::FlockOperation::LockExclusive));
    let accounts = Accounts::open(Path::new(layout::ACME));
    let challenges = WebRoot(layout::CHALLENGES.into());
    // An authority that cannot be reached is not tried for each certificate.
    let unreachable: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    each(&wanted(kept, all, occasion), |wanted| {
        let directory = wanted.authority.directory.as_str();
        let known = locked(&unreachable).get(directory).cloned();
        let names = listed(&wanted.certificate.names);
        tell(&format!("asking {} for a certificate for {names}", authority_name(wanted.authority)));
        let before =
            kept.chain(wanted.name).ok().flatten().filter(|_| matches!(kept.look(wanted.name), Found::Issued(_)));
        let asked = match (&accounts, known) {
            (_, Some(words)) => Err((words, None)),
            (Err(error), None) => Err((error.to_string(), None)),
            (Ok(accounts), None) => {
                obtain(wanted.certificate, wanted.authority, accounts, &challenges, before.as_deref(), WITHIN).map_err(
                    |refused| {
                        if matches!(refused, Refused::Unreachable { .. }) {
                            locked(&unreachable).insert(directory.to_owned(), refused.to_string());
                        }
                        (said(&refused), refused.retry_after())
                    },
                )
            }
        };
        Outcome { name: wanted.name.clone(), certificate: wanted.certificate.clone(), asked }
    })
}

/// An authority's refusal, with the option that it is about.
fn said(refused: &Refused) -> String {
    match refused {
        Refused::Account(_) => format!("{refused} (security.acme.defaults.email, or that of the certificate)"),
        Refused::Roots(_) => format!("{refused} (security.acme.defaults.rootCertificates)"),
        _ => refused.to_string(),
    }
}

/// The certificates that have to be asked for now, and may be.
fn wanted<'a>(kept: &stead_acme::Certificates, all: &'a Certificates, occasion: Occasion) -> Vec<Wanted<'a>> {
    let now = Timestamp::now();
    let of_authorities: Vec<Wanted<'a>> = all
        .iter()
        .filter_map(|(name, certificate)| match &certificate.source {
            Source::Authority(authority) => Some(Wanted { name, certificate, authority }),
            Source::Files(_) => None,
        })
        .collect();
    let is_wanted = |wanted: &Wanted<'_>| {
        let found = kept.look(wanted.name);
        let advice = || renewal::window(kept, wanted.name, wanted.authority, now, ADVICE_WITHIN);
        let window = (occasion == Occasion::Daily && matches!(found, Found::Issued(_))).then(advice).flatten();
        let Some(why) = due(&found, wanted.certificate, now, window.as_ref()) else { return false };
        let attempts = Attempts::load(kept, wanted.name);
        match occasion {
            // With somebody waiting, only what the site cannot do without.
            Occasion::Deploy => why.is_lack() && attempts.may_try_by_hand(now),
            Occasion::Daily => attempts.may_try_for(&declaration(wanted.certificate), now),
        }
    };
    let is_wanted = each(&of_authorities, is_wanted);
    of_authorities.into_iter().zip(is_wanted).filter_map(|(wanted, is_it)| is_it.then_some(wanted)).collect()
}

/// What was asked for, to know it from something else.
fn declaration(certificate: &Certificate) -> String {
    serde_json::to_string(certificate).unwrap_or_default()
}

/// Keeps what was issued, one by one, as far as nginx loads it, and remembers what failed. What the generation does not ask for in this way (any
/// more) is left out. Where nginx loads nothing anyway, for a reason of its own, everything is kept.
pub(super) fn settle<'o>(
    kept: &stead_acme::Certificates,
    generation: &Generation,
    outcomes: &'o [Outcome],
) -> Vec<(&'o Outcome, Result<Details, String>)> {
    let is_wanted = |outcome: &&Outcome| generation.certificates.get(&outcome.name) == Some(&outcome.certificate);
    let wanted: Vec<&Outcome> = outcomes.iter().filter(is_wanted).collect();
    let is_judge = wanted.iter().any(|outcome| outcome.asked.is_ok()) && loads(generation).is_ok();
    let one = |outcome: &Outcome| -> Result<Details, (String, Option<Timestamp>)> {
        let issued = outcome.asked.as_ref().map_err(Clone::clone)?;
        let (names, chain, key) = (&outcome.certificate.names, issued.chain.as_bytes(), issued.key.as_bytes());
        let details = kept.install(&outcome.name, names, chain, key).map_err(|error| (error.to_string(), None))?;
        if let (true, Err(error)) = (is_judge, loads(generation)) {
            let _ = kept.go_back(&outcome.name);
            return Err((format!("nginx does not load what was issued: {error}"), None));
        }
        Ok(details)
    };
    let mut settled = Vec::new();
    for outcome in wanted {
        let result = one(outcome);
        let now = Timestamp::now();
        let mut attempts = Attempts::load(kept, &outcome.name);
        match &result {
            Ok(_) => attempts.succeeded(now),
            Err((words, retry_after)) => attempts.failed(words, &declaration(&outcome.certificate), *retry_after, now),
        }
        // What cannot be written is asked for again earlier than it should be.
        let _ = attempts.save(kept, &outcome.name);
        settled.push((outcome, result.map_err(|(words, _)| words)));
    }
    settled
}
