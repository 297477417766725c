//! The package archives behind `update`: `stead-debian`, as a [`DebianResolver`].
//!
//! Promises that all runtimes of an input are resolved from one and the same set of indexes, the
//! one whose dates and hashes were told. Reads no environment: where mirrors are found is given.

use crate::update::{DebianInput, DebianResolver, Failure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use stead_debian::archive::{Contents, Expiry, Fetcher};
use stead_debian::http::Client;
use stead_debian::keyring::{self, DEBIAN_KEYRING, Keyring};
use stead_debian::mirror::{self, Archive};
use stead_debian::reporter::Reporter;
use stead_debian::{archive, resolve};
use stead_model::lock::{LockedPackage, LockedSuite, RuntimeKey};
use stead_model::name::Name;

/// How often indexes are read again that the mirror replaced between two architectures.
const ATTEMPTS: usize = 3;

/// Where mirrors are found, for inputs that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The value of `STEAD_DEBIAN_MIRROR`, if it is set.
    pub variable: Option<String>,
    /// The folder of apt's configuration, normally `/etc/apt`.
    pub apt: PathBuf,
}

impl Mirrors {
    /// The archive of an input: what the project says, else the variable, else apt's sources.
    pub fn archive(&self, mirror: Option<&str>, snapshot: Option<&str>) -> Result<Archive, mirror::Error> {
        let archive = Archive::find(mirror, self.variable.as_deref(), &self.apt)?;
        match snapshot {
            Some(snapshot) => archive.with_snapshot(snapshot),
            None => Ok(archive),
        }
    }
}

/// Reads archives for `update`; lives as long as one `update` does.
pub struct Archives<'a> {
    client: &'a Client,
    mirrors: &'a Mirrors,
    cache: &'a Path,
    now: i64,
    reporter: &'a dyn Reporter,
    read: BTreeMap<(Name, String), Contents>,
}

impl<'a> Archives<'a> {
    /// Reads through `client`, keeps indexes below `cache`, and takes `now` (seconds since 1970) for the time.
    pub fn new(
        client: &'a Client,
        mirrors: &'a Mirrors,
        cache: &'a Path,
        now: i64,
        reporter: &'a dyn Reporter,
    ) -> Self {
        Self { client, mirrors, cache, now, reporter, read: BTreeMap::new() }
    }

    fn fetch(&self, input: DebianInput<'_>, architecture: &str) -> Result<Contents, Error> {
        let archive = self.mirrors.archive(input.mirror, input.snapshot)?;
        let keyring = Keyring::read(archive.keyring.as_deref().unwrap_or(Path::new(DEBIAN_KEYRING)))?;
        let fetcher = Fetcher {
            client: self.client,
            keyring: &keyring,
            cache: self.cache,
            now: self.now,
            expiry: Expiry::Refused,
            reporter: self.reporter,
        };
        Ok(fetcher.fetch(&archive, input.release, architecture)?)
    }

    fn fetch_all(
        &mut self,
        input: DebianInput<'_>,
        architectures: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, LockedSuite>, Error> {
        for _ in 0..ATTEMPTS {
            let mut told: Option<BTreeMap<String, LockedSuite>> = None;
            let mut same = true;
            for architecture in architectures {
                let contents = self.fetch(input, architecture)?;
                same &= told.get_or_insert_with(|| contents.suites.clone()) == &contents.suites;
                self.read.insert((input.name.clone(), (*architecture).to_owned()), contents);
            }
            if let Some(told) = told.filter(|_| same) {
                return Ok(told);
            }
        }
        Err(Error::Restless { input: input.name.clone() })
    }
}

impl DebianResolver for Archives<'_> {
    fn suites(
        &mut self,
        input: DebianInput<'_>,
        architectures: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, LockedSuite>, Failure> {
        Ok(self.fetch_all(input, architectures)?)
    }

    fn resolve(&mut self, input: DebianInput<'_>, key: &RuntimeKey) -> Result<Vec<LockedPackage>, Failure> {
        let Some(contents) = self.read.get(&(input.name.clone(), key.architecture.clone())) else {
            return Err(Error::NotRead { key: key.clone() }.into());
        };
        Ok(resolve::resolve(&contents.index, &key.architecture, &key.packages)?)
    }
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No mirror is known.
    #[error(transparent)]
    Mirror(#[from] mirror::Error),
    /// There are no keys to verify with.
    #[error(transparent)]
    Keyring(#[from] keyring::Error),
    /// The indexes cannot be had, or not be believed.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The indexes changed between two architectures, again and again.
    #[error("the mirror of `{input}` changes while it is read: try again later")]
    Restless {
        /// The Debian input.
        input: Name,
    },
    /// A runtime of an architecture whose indexes were not asked for.
    #[error("the indexes for `{key}` were not read")]
    NotRead {
        /// The runtime.
        key: RuntimeKey,
    },
}
