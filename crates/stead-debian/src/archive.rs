//! Fetches and verifies what an archive says that it has.
//!
//! `InRelease` is believed when one of the archive's keys signed it, it is the asked suite's, and
//! it is fresh; `Packages.xz` when its size and SHA-256 are those of the believed `InRelease`.
//! Only then anything is parsed or cached. An older index never replaces a newer one of the same
//! address. Writes below `<cache>/indexes` only; a cache that was altered is fetched again.

use crate::http::{self, Client, Conditions};
use crate::index::{self, Index};
use crate::keyring::{self, Keyring};
use crate::mirror::Archive;
use crate::release::{self, Release};
use crate::reporter::Reporter;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use stead_model::hash::{Hash, Sha256};
use stead_model::lock::LockedSuite;

/// No `InRelease` is larger (Debian's are 150 kB).
const LARGEST_RELEASE: u64 = 8 << 20;
/// No `Packages` file is larger when unpacked (bookworm's is 50 MB).
const LARGEST_PACKAGES: u64 = 1 << 30;
/// The form of the reduced indexes in the cache; raise it with every change of [`index::reduce`].
const REDUCED: &str = "reduced-1.zst";

/// Whether an index past its `Valid-Until` is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It is not: the rule.
    Refused,
    /// It is: for an archive that stands still, such as a snapshot.
    Accepted,
}

/// What fetching needs.
#[derive(Clone, Copy)]
pub struct Fetcher<'a> {
    /// Makes the requests.
    pub client: &'a Client,
    /// Whose signature counts.
    pub keyring: &'a Keyring,
    /// The user's cache folder for Stead.
    pub cache: &'a Path,
    /// Seconds since 1970.
    pub now: i64,
    /// What happens past `Valid-Until`.
    pub expiry: Expiry,
    /// Hears about the progress.
    pub reporter: &'a dyn Reporter,
}

/// What an archive has of one release, for one architecture.
#[derive(Debug)]
pub struct Contents {
    /// Each suite's signed index, for the lock.
    pub suites: BTreeMap<String, LockedSuite>,
    /// The packages of all of them.
    pub index: Index,
}

/// What the mirror said about the cached `InRelease`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Validators {
    etag: Option<String>,
    modified: Option<String>,
}

struct Signed {
    bytes: Vec<u8>,
    release: Release,
}

impl Fetcher<'_> {
    /// Everything that `release` (`bookworm`) offers, updates and security included: all suites at
    /// once, from the cache what did not change.
    pub fn fetch(&self, archive: &Archive, release: &str, architecture: &str) -> Result<Contents, Error> {
        let well_formed = |text: &str| {
            !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
                && !text.starts_with('.')
        };
        if !well_formed(release) || !well_formed(architecture) {
            return Err(Error::Name { text: format!("{release}/{architecture}") });
        }
        let folder = self.cache.join("indexes");
        std::fs::create_dir_all(&folder).map_err(|source| Error::Cache { path: folder.clone(), source })?;
        let suites = archive.suites(release);
        let fetched = std::thread::scope(|scope| {
            let threads: Vec<_> = suites
                .iter()
                .map(|(suite, root)| scope.spawn(|| self.suite(&folder, suite, root, architecture)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("fetching a suite does not panic"))
                .collect::<Vec<_>>()
        });
        let mut contents = Contents { suites: BTreeMap::new(), index: Index::new() };
        for ((suite, _), fetched) in suites.into_iter().zip(fetched) {
            let (locked, text) = fetched?;
            contents.index.add(&suite, text);
            contents.suites.insert(suite, locked);
        }
        contents.index = contents.index.finish();
        Ok(contents)
    }

    fn suite(
        &self,
        folder: &Path,
        suite: &str,
        root: &str,
        architecture: &str,
    ) -> Result<(LockedSuite, String), Error> {
        let address = format!("{root}/dists/{suite}");
        self.reporter.started(suite, None);
        let result = self.signed(folder, suite, &address).and_then(|signed| {
            let locked = LockedSuite { date: signed.release.date.clone(), sha256: Sha256::of(&signed.bytes) };
            Ok((locked, self.packages(folder, suite, &address, architecture, &signed.release)?))
        });
        self.reporter.finished(suite);
        result
    }

    /// The believed `InRelease`: the mirror's, or the cached one if that is still it, or newer.
    fn signed(&self, folder: &Path, suite: &str, address: &str) -> Result<Signed, Error> {
        let url = format!("{address}/InRelease");
        let key = Hash::of(url.as_bytes()).to_string();
        let (file, notes) =
            (folder.join(format!("{}.InRelease", &key[..16])), folder.join(format!("{}.json", &key[..16])));
        let cached = std::fs::read(&file).ok().and_then(|bytes| self.believe(suite, &url, bytes).ok());
        let validators: Validators = match &cached {
            Some(_) => {
                std::fs::read(&notes).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
            }
            None => Validators::default(),
        };
        let conditions =
            Conditions { offset: 0, etag: validators.etag.as_deref(), modified: validators.modified.as_deref() };
        let ask = || {
            let answer = self.client.get(&url, conditions)?;
            let validators = Validators { etag: answer.etag.clone(), modified: answer.modified.clone() };
            Ok((answer.status, validators, answer.bytes(LARGEST_RELEASE)?))
        };
        let (status, validators, bytes) =
            self.retrying(suite, ask).map_err(|source| Error::Release { suite: suite.to_owned(), source })?;
        self.reporter.advanced(suite, bytes.len() as u64);
        let cached = match cached {
            Some(cached) if status == 304 => return Ok(cached),
            cached => cached,
        };
        let fresh = self.believe(suite, &url, bytes)?;
        match cached {
            Some(cached) if cached.release.made > fresh.release.made => return Ok(cached),
            Some(cached) if cached.bytes == fresh.bytes => {}
            Some(cached) => {
                write(&file, &fresh.bytes)?;
                forget(folder, &cached.release, &fresh.release);
            }
            None => write(&file, &fresh.bytes)?,
        }
        write(&notes, &serde_json::to_vec(&validators).expect("two optional strings serialise"))?;
        Ok(fresh)
    }

    fn believe(&self, suite: &str, url: &str, bytes: Vec<u8>) -> Result<Signed, Error> {
        let text =
            self.keyring.verify(&bytes, self.now).map_err(|source| Error::Signature { url: url.to_owned(), source })?;
        let unfit = |source| Error::Unfit { url: url.to_owned(), source };
        let release = Release::parse(&text).map_err(unfit)?;
        release.check(suite, self.now, self.expiry).map_err(unfit)?;
        Ok(Signed { bytes, release })
    }

    /// The reduced `Packages` file of a suite.
    fn packages(
        &self,
        folder: &Path,
        suite: &str,
        address: &str,
        architecture: &str,
        release: &Release,
    ) -> Result<String, Error> {
        let path = format!("main/binary-{architecture}/Packages.xz");
        let missing = || Error::Architecture { suite: suite.to_owned(), architecture: architecture.to_owned() };
        let (sha256, size) = release.file(&path).ok_or_else(missing)?;
        let file = folder.join(format!("{sha256}.{REDUCED}"));
        if let Some(text) = read_reduced(&file) {
            return Ok(text);
        }
        let by_hash = format!("{address}/main/binary-{architecture}/by-hash/SHA256/{sha256}");
        let by_name = format!("{address}/{path}");
        self.reporter.started(suite, Some(size));
        let failed = |source| Error::Packages { suite: suite.to_owned(), source };
        let get = |url: &str| self.retrying(suite, || self.client.get_bytes(url, size));
        let (url, bytes) = if release.by_hash {
            match get(&by_hash) {
                Err(http::Error::Status { status: 404, .. }) => (&by_name, get(&by_name).map_err(failed)?),
                other => (&by_hash, other.map_err(failed)?),
            }
        } else {
            (&by_name, get(&by_name).map_err(failed)?)
        };
        self.reporter.advanced(suite, bytes.len() as u64);
        if bytes.len() as u64 != size || Sha256::of(&bytes) != sha256 {
            return Err(Error::Altered { url: url.clone(), expected: sha256, found: Sha256::of(&bytes) });
        }
        let mut text = String::new();
        let decoder = liblzma::read::XzDecoder::new_multi_decoder(bytes.as_slice());
        decoder
            .take(LARGEST_PACKAGES)
            .read_to_string(&mut text)
            .map_err(|source| Error::Unpack { url: url.clone(), source })?;
        let text = index::reduce(&text).map_err(|source| Error::Index { suite: suite.to_owned(), source })?;
        write_reduced(&file, &text)?;
        Ok(text)
    }

    fn retrying<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, http::Error>) -> Result<T, http::Error> {
        let mut tries = 1;
        loop {
            match attempt() {
                Err(error) if tries < error.tries() => {
                    self.reporter.retried(what, &error.to_string());
                    std::thread::sleep(std::time::Duration::from_millis(100 << tries));
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

/// Removes what only the older index referred to. What cannot be removed merely takes room.
fn forget(folder: &Path, older: &Release, newer: &Release) {
    let kept: BTreeSet<Sha256> = newer.package_indexes().collect();
    for sha256 in older.package_indexes().filter(|sha256| !kept.contains(sha256)) {
        drop(std::fs::remove_file(folder.join(format!("{sha256}.{REDUCED}"))));
    }
}

fn read_reduced(file: &Path) -> Option<String> {
    let reader = zstd::Decoder::new(std::fs::File::open(file).ok()?).ok()?;
    let mut text = String::new();
    reader.take(LARGEST_PACKAGES).read_to_string(&mut text).ok()?;
    Some(text)
}

fn write_reduced(file: &Path, text: &str) -> Result<(), Error> {
    let compressed = || -> std::io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
        encoder.include_checksum(true)?;
        encoder.write_all(text.as_bytes())?;
        encoder.finish()
    };
    write(file, &compressed().map_err(|source| Error::Cache { path: file.to_owned(), source })?)
}

/// Writes a file of the cache so that nobody ever sees half of it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Cache { path: path.to_owned(), source };
    let folder = path.parent().expect("a file of the cache is in a folder");
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Why an archive's contents are not known. The program shows the sources too.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the name of a release or an architecture.
    #[error("`{text}` is not a release and an architecture of Debian")]
    Name {
        /// What was given.
        text: String,
    },
    /// `InRelease` did not come.
    #[error("cannot fetch the signed index of {suite}")]
    Release {
        /// The suite.
        suite: String,
        /// Why.
        #[source]
        source: http::Error,
    },
    /// The signature does not hold.
    #[error("{url} is not believed")]
    Signature {
        /// The file.
        url: String,
        /// Why.
        #[source]
        source: keyring::Error,
    },
    /// Signed, but not usable.
    #[error("{url} is not used")]
    Unfit {
        /// The file.
        url: String,
        /// Why.
        #[source]
        source: release::Error,
    },
    /// The suite has no packages for it.
    #[error("{suite} has no packages for the architecture `{architecture}`")]
    Architecture {
        /// The suite.
        suite: String,
        /// Debian's name.
        architecture: String,
    },
    /// The package index did not come.
    #[error("cannot fetch the package index of {suite}")]
    Packages {
        /// The suite.
        suite: String,
        /// Why.
        #[source]
        source: http::Error,
    },
    /// The package index is not the signed one.
    #[error("{url} was altered: the signed index says SHA-256 {expected}, the mirror sent {found}")]
    Altered {
        /// The file.
        url: String,
        /// Signed.
        expected: Sha256,
        /// Sent.
        found: Sha256,
    },
    /// The package index is not xz.
    #[error("cannot unpack {url}")]
    Unpack {
        /// The file.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The package index is not understood.
    #[error("cannot read the package index of {suite}")]
    Index {
        /// The suite.
        suite: String,
        /// Why.
        #[source]
        source: index::Error,
    },
    /// The cache cannot be written.
    #[error("cannot write {}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
