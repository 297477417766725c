//! The two services that look after certificates: before nginx starts, and day by day.

use super::ask::{ask, settle};
use super::{Error, Occasion, described, ensure, kept, listed, loads, retry, served};
use crate::{activation, visitors};
use jiff::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant};
use stead_acme::attempts::Attempts;
use stead_acme::files::{self, Synced};
use stead_host::run::RunError;
use stead_model::certificate::Source;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_store::{Guard, Store};

/// How long a deploy that is under way is waited for.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Certificates were not renewed, or not all.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// They cannot be read or written.
    #[error(transparent)]
    Kept(#[from] Error),
    /// The active generation cannot be read.
    #[error("the active generation cannot be read: {0}")]
    Store(String),
    /// The server could not be changed.
    #[error(transparent)]
    Lock(#[from] activation::Error),
    /// nginx refuses its configuration now.
    #[error("nginx refuses its configuration, so it goes on with the certificates that it has read")]
    Refused(#[source] RunError),
    /// nginx did not take them.
    #[error("nginx was not reloaded: {0}")]
    Reload(String),
    /// Some are still due.
    #[error("{0}")]
    Due(String),
}

/// The generation that runs.
fn active() -> Result<Option<(Hash, Generation)>, RenewError> {
    let failed = |error: &dyn std::error::Error| RenewError::Store(error.to_string());
    let store = Store::open(Path::new(layout::STATE)).map_err(|error| failed(&error))?;
    let Some(id) = Store::active(Path::new(layout::RUN)).map_err(|error| failed(&error))? else { return Ok(None) };
    let generation = store.generation(&id).map_err(|error| failed(&error))?;
    Ok(generation.map(|generation| (id, generation)))
}

/// Puts a stand-in where nginx could not read a certificate of the active generation, so that one site's never keeps the others
/// from being served. Called before nginx starts. What it did is in the words.
///
/// # Errors
/// When the generation cannot be read, or a stand-in cannot be written.
pub fn ready() -> Result<Vec<String>, RenewError> {
    let Some((_, generation)) = active()? else { return Ok(Vec::new()) };
    let kept = kept().map_err(Error::from)?;
    let mut words = Vec::new();
    let mut failed = None;
    for (name, certificate) in &generation.certificates {
        match ensure(&kept, name, certificate) {
            Ok(stead_acme::Ensured::Kept) => {}
            Ok(stead_acme::Ensured::Made) => {
                words.push(format!("{name}: there is no certificate, a stand-in is served"))
            }
            Ok(stead_acme::Ensured::WentBack { words: why }) => {
                words.push(format!("{name}: the certificate is broken ({why}), the one before is served"));
            }
            Ok(stead_acme::Ensured::Replaced { words: why }) => {
                words.push(format!("{name}: the certificate is broken ({why}), a stand-in is served"));
            }
            Err(source) => failed = Some(Error::Prepare { name: name.clone(), source }),
        }
    }
    // A boot has forgotten when authorities are to be asked again.
    retry(&kept, &generation.certificates);
    match failed {
        Some(error) => Err(error.into()),
        None => {
            served::note(&generation.certificates);
            Ok(words)
        }
    }
}

/// Renews what is due of the active generation's certificates, takes over files that the operator replaced, and has nginx read what it
/// has not read yet. What it did is told as it goes. While a deploy is under way it leaves that alone, and looks later.
///
/// # Errors
/// When something is still due afterwards, with the words of who refused it.
pub fn renew(tell: &(dyn Fn(&str) + Sync)) -> Result<(), RenewError> {
    let Some((_, generation)) = active()? else { return Ok(()) };
    let kept = kept().map_err(Error::from)?;
    let done = match activation::Folder::unfinished() {
        Some(_) => {
            tell("a deploy is under way, which gets what its sites lack");
            Ok(())
        }
        None => renew_now(&kept, &generation, tell),
    };
    retry(&kept, &generation.certificates);
    done
}

fn renew_now(
    kept: &stead_acme::Certificates,
    generation: &Generation,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<(), RenewError> {
    let outcomes = ask(kept, &generation.certificates, Occasion::Daily, tell);
    let has_files = generation.certificates.values().any(|certificate| matches!(certificate.source, Source::Files(_)));
    if outcomes.is_empty() && !has_files && !served::is_unread(kept, &generation.certificates) {
        return Ok(());
    }
    // From here on something may change, and what runs must not change meanwhile. It may have until now.
    let guard = lock()?;
    let _ = guard.describe("the renewal of certificates");
    let Some((id, generation)) = active()? else { return Ok(()) };
    let mut failures = Vec::new();
    for (outcome, settled) in settle(kept, &generation, &outcomes) {
        let names = listed(&outcome.certificate.names);
        match settled {
            Ok(details) => tell(&format!("the certificate for {names} is there: {}", described(&details))),
            Err(words) => failures.push(format!("no certificate for {names}: {words}")),
        }
    }
    failures.extend(take_over_files(kept, &generation, tell));
    if served::is_unread(kept, &generation.certificates) {
        reload(id, &generation)?;
    }
    drop(guard);
    if failures.is_empty() { Ok(()) } else { Err(RenewError::Due(failures.join("; "))) }
}

/// Copies the operator's files that were replaced, as far as nginx loads them. Returns what is wrong with the others, which `status` tells too.
fn take_over_files(
    kept: &stead_acme::Certificates,
    generation: &Generation,
    tell: &(dyn Fn(&str) + Sync),
) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, certificate) in &generation.certificates {
        let Source::Files(files) = &certificate.source else { continue };
        let is_judge = loads(generation).is_ok();
        let result = match files::sync(kept, name, &certificate.names, files) {
            Ok(Synced::Installed(details)) => match loads(generation) {
                Err(error) if is_judge => {
                    let _ = kept.go_back(name);
                    Err(format!("nginx does not load the files of site {}: {error}", files.site))
                }
                _ => {
                    tell(&format!("the files of site {} were replaced: {}", files.site, described(&details)));
                    Ok(())
                }
            },
            Ok(Synced::Unchanged) => Ok(()),
            Err(error) => Err(Error::Files { site: files.site.clone(), source: error }.to_string()),
        };
        let mut attempts = Attempts::load(kept, name);
        match &result {
            Ok(()) if attempts.failures == 0 => {}
            Ok(()) => attempts.succeeded(Timestamp::now()),
            Err(words) => attempts.failed(words, "", None, Timestamp::now()),
        }
        // What cannot be written is told by the journal alone.
        let _ = attempts.save(kept, name);
        failures.extend(result.err());
    }
    failures
}

fn lock() -> Result<Guard, RenewError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match activation::lock() {
            Err(activation::Error::Busy { .. }) if Instant::now() < end => {}
            other => return Ok(other?),
        }
    }
}

/// Has nginx read its certificates again, if it would take them.
fn reload(id: Hash, generation: &Generation) -> Result<(), RenewError> {
    let Some(part) = &generation.nginx else { return Ok(()) };
    loads(generation).map_err(RenewError::Refused)?;
    let epoch = format!("renewed-{}-{}", Timestamp::now().as_second(), id.short());
    visitors::reload(&part.unit, &part.configuration, &epoch).map_err(|error| RenewError::Reload(error.to_string()))?;
    served::note(&generation.certificates);
    Ok(())
}
