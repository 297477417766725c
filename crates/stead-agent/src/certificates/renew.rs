//! The two services that look after certificates: before nginx starts, and day by day.

use super::{Error, Occasion, ask, described, ensure, installed, kept, listed, loads, retry, wanted};
use crate::{activation, visitors};
use std::path::Path;
use std::time::{Duration, Instant};
use stead_acme::files::{self, Synced};
use stead_host::run::RunError;
use stead_model::certificate::Source;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::Domain;
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
            Ok(stead_acme::Ensured::Replaced { words: why }) => {
                words.push(format!("{name}: the certificate is broken ({why}), a stand-in is served"));
            }
            Err(source) => failed = Some(Error::Prepare { name: name.clone(), source }),
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(words),
    }
}

/// Renews what is due of the active generation's certificates, takes over files that the operator replaced, and reloads nginx
/// when something changed. What it did is told as it goes.
///
/// # Errors
/// When something is still due afterwards, with the words of who refused it.
pub fn renew(tell: &(dyn Fn(&str) + Sync)) -> Result<(), RenewError> {
    let Some((id, generation)) = active()? else { return Ok(()) };
    let all = &generation.certificates;
    let kept = kept().map_err(Error::from)?;
    let mut failures = Vec::new();
    let outcomes = ask(&kept, &wanted(&kept, all, Occasion::Daily), tell);
    let of_files = || all.values().any(|certificate| matches!(certificate.source, Source::Files(_)));
    let broken = all.keys().any(|name| matches!(kept.look(name), stead_acme::Found::Broken(_)));
    if outcomes.is_empty() && !of_files() && !broken {
        return Ok(());
    }
    // From here on something may change, and what runs must not change meanwhile.
    let guard = lock()?;
    let _ = guard.describe("the renewal of certificates");
    let mut changed: Vec<&Domain> = Vec::new();
    for outcome in &outcomes {
        match installed(&kept, outcome) {
            Ok(details) => {
                tell(&format!("the certificate for {} is there: {}", listed(&outcome.names), described(&details)));
                changed.push(&outcome.name);
            }
            Err(words) => failures.push(format!("no certificate for {}: {words}", listed(&outcome.names))),
        }
    }
    for (name, certificate) in all {
        if let Source::Files(files) = &certificate.source {
            match files::sync(&kept, name, &certificate.names, files) {
                Ok(Synced::Unchanged) => {}
                Ok(Synced::Installed(details)) => {
                    tell(&format!("the files of site {} were replaced: {}", files.site, described(&details)));
                    changed.push(name);
                }
                Err(error) => failures.push(Error::Files { site: files.site.clone(), source: error }.to_string()),
            }
        }
        let ensured =
            ensure(&kept, name, certificate).map_err(|source| Error::Prepare { name: name.clone(), source })?;
        if ensured != stead_acme::Ensured::Kept {
            changed.push(name);
        }
    }
    if !changed.is_empty() {
        reload(id).inspect_err(|error| {
            // What nginx does not load goes, so that it can start again; what was before it is still good.
            if matches!(error, RenewError::Refused(_)) {
                changed.iter().for_each(|name| drop(kept.go_back(name)));
            }
        })?;
    }
    retry(&kept, all);
    drop(guard);
    if failures.is_empty() { Ok(()) } else { Err(RenewError::Due(failures.join("; "))) }
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

/// Has nginx read its certificates again, if it would take them. Another generation may be active by now, which is as good.
fn reload(before: Hash) -> Result<(), RenewError> {
    let Some((_, generation)) = active()? else { return Ok(()) };
    let Some(part) = &generation.nginx else { return Ok(()) };
    loads(&generation).map_err(RenewError::Refused)?;
    let epoch = format!("renewed-{}-{}", jiff::Timestamp::now().as_second(), before.short());
    visitors::reload(&part.unit, &part.configuration, &epoch).map_err(|error| RenewError::Reload(error.to_string()))
}
