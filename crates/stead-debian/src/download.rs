//! Downloads pinned packages: in parallel, resumable, each checked against its pin.
//!
//! A package is in the folder under its SHA-256 only if it was whole and right when it was put
//! there, and it is checked again whenever it is asked for. What arrived of an interrupted
//! download stays as `.part` and is continued. Order: folder, mirror, snapshot archive.
//! Two processes may share a folder: whoever comes second waits for the first one's file.

use crate::http::{self, Client, Conditions};
use crate::mirror::Archive;
use crate::reporter::Reporter;
use sha2::{Digest, Sha256 as Hasher};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stead_model::hash::Sha256;
use stead_model::lock::LockedPackage;
use stead_model::path::RelativePath;

/// Packages that are downloaded at the same time.
const PARALLEL: usize = 4;
/// Tries at one address after an answer that was wrong, not missing.
const TRIES: u32 = 4;

/// What downloading needs.
#[derive(Clone, Copy)]
pub struct Downloader<'a> {
    /// Makes the requests.
    pub client: &'a Client,
    /// Where the packages come from.
    pub archive: &'a Archive,
    /// Where they are kept, as `<sha256>.deb`.
    pub folder: &'a Path,
    /// Hears about the progress.
    pub reporter: &'a dyn Reporter,
}

/// Where a package is kept in this folder.
pub fn file(folder: &Path, package: &LockedPackage) -> PathBuf {
    folder.join(format!("{}.deb", package.sha256))
}

/// That this file is the pinned package: reads all of it.
pub fn verify(path: &Path, package: &LockedPackage) -> Result<(), Error> {
    let failed = |source| Error::Cache { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size != package.size {
        return Err(Error::Size {
            package: package.name.to_string(),
            place: path.display().to_string(),
            expected: package.size,
            found: size,
        });
    }
    let found = digest(&mut file).map_err(failed)?;
    if found != package.sha256 {
        return Err(Error::Altered {
            package: package.name.to_string(),
            place: path.display().to_string(),
            expected: package.sha256,
            found,
        });
    }
    Ok(())
}

impl Downloader<'_> {
    /// Brings all these packages into the folder; returns where each one is, in their order. The
    /// first failure stops the others, and what they have so far is kept.
    pub fn fetch(&self, packages: &[LockedPackage]) -> Result<Vec<PathBuf>, Error> {
        std::fs::create_dir_all(self.folder).map_err(|source| Error::Cache { path: self.folder.to_owned(), source })?;
        let distinct: BTreeMap<Sha256, &LockedPackage> =
            packages.iter().map(|package| (package.sha256, package)).collect();
        let mut work: Vec<&LockedPackage> = distinct.into_values().collect();
        work.sort_by_key(|package| (std::cmp::Reverse(package.size), package.sha256));
        let (next, stop, failure) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(work.len()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(package) = work.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                        if let Err(error) = self.one(package, &stop) {
                            failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(packages.iter().map(|package| file(self.folder, package)).collect()),
        }
    }

    fn one(&self, package: &LockedPackage, stop: &AtomicBool) -> Result<(), Error> {
        self.reporter.started(package.name.as_str(), Some(package.size));
        let result = self.one_reported(package, stop);
        self.reporter.finished(package.name.as_str());
        result
    }

    fn one_reported(&self, package: &LockedPackage, stop: &AtomicBool) -> Result<(), Error> {
        let path = file(self.folder, package);
        if self.have(&path, package)? {
            return Ok(());
        }
        if package.path.parse::<RelativePath>().is_err() {
            return Err(Error::Place { package: package.name.to_string(), path: package.path.clone() });
        }
        let partial = path.with_extension("deb.part");
        let failed = |source| Error::Cache { path: partial.clone(), source };
        let mut part =
            File::options().read(true).write(true).create(true).truncate(false).open(&partial).map_err(failed)?;
        part.lock().map_err(failed)?;
        if self.have(&path, package)? {
            return Ok(());
        }
        let mut failure = None;
        for url in self.archive.places(&package.suite, &package.path) {
            match self.from(&url, package, &mut part, &partial, stop) {
                Ok(()) => return std::fs::rename(&partial, &path).map_err(failed),
                Err(Error::Fetch { source: http::Error::Status { status: 404 | 410, .. }, .. }) => {}
                Err(error @ (Error::Stopped { .. } | Error::Cache { .. })) => return Err(error),
                Err(error) => {
                    self.reporter.retried(package.name.as_str(), &error.to_string());
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::Gone {
            package: package.name.to_string(),
            version: package.version.clone(),
            snapshot: if self.archive.snapshot.is_some() {
                "nor in the snapshot archive"
            } else {
                "and no snapshot archive is configured"
            },
        }))
    }

    /// Whether it is there already, whole and right. What is wrong is removed.
    fn have(&self, path: &Path, package: &LockedPackage) -> Result<bool, Error> {
        if !path.exists() {
            return Ok(false);
        }
        match verify(path, package) {
            Ok(()) => {
                self.reporter.advanced(package.name.as_str(), package.size);
                Ok(true)
            }
            Err(error @ Error::Cache { .. }) => Err(error),
            Err(error) => {
                self.reporter.retried(package.name.as_str(), &error.to_string());
                std::fs::remove_file(path).map_err(|source| Error::Cache { path: path.to_owned(), source })?;
                Ok(false)
            }
        }
    }

    /// From one address, with as many tries as may help.
    fn from(
        &self,
        url: &str,
        package: &LockedPackage,
        part: &mut File,
        partial: &Path,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let failed = |source| Error::Cache { path: partial.to_owned(), source };
        let mut tries = 1;
        loop {
            let resumed = part.metadata().map_err(failed)?.len() > 0;
            let error = match self.once(url, package, part, partial, stop) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let most = match &error {
                Error::Fetch { source: http::Error::Status { status: 416, .. }, .. } if resumed => TRIES,
                Error::Fetch { source, .. } => source.tries(),
                Error::Short { .. } => TRIES,
                // What was there before may have been another file's beginning.
                Error::Altered { .. } | Error::Size { .. } if resumed => TRIES,
                _ => 1,
            };
            if matches!(
                error,
                Error::Altered { .. }
                    | Error::Size { .. }
                    | Error::Fetch { source: http::Error::Status { status: 416, .. }, .. }
            ) {
                part.set_len(0).map_err(failed)?;
            }
            if tries >= most || stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            self.reporter.retried(package.name.as_str(), &error.to_string());
            std::thread::sleep(std::time::Duration::from_millis(100 << tries));
            tries += 1;
        }
    }

    fn once(
        &self,
        url: &str,
        package: &LockedPackage,
        part: &mut File,
        partial: &Path,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let failed = |source| Error::Cache { path: partial.to_owned(), source };
        let name = || package.name.to_string();
        let wrong_size = |found| Error::Size { package: name(), place: url.to_owned(), expected: package.size, found };
        let mut have = part.metadata().map_err(failed)?.len();
        if have > package.size {
            part.set_len(0).map_err(failed)?;
            have = 0;
        }
        part.rewind().map_err(failed)?;
        let mut hasher = Hasher::new();
        hash(part, &mut hasher).map_err(failed)?;
        if have < package.size {
            let fetch = |source| Error::Fetch { package: name(), source };
            let mut answer =
                self.client.get(url, Conditions { offset: have, ..Conditions::default() }).map_err(fetch)?;
            if answer.status == 200 && have > 0 {
                part.set_len(0).map_err(failed)?;
                hasher = Hasher::new();
                have = 0;
            }
            if let Some(length) = answer.length.filter(|length| have + length != package.size) {
                return Err(wrong_size(have + length));
            }
            self.reporter.advanced(package.name.as_str(), have);
            part.seek(SeekFrom::Start(have)).map_err(failed)?;
            let mut buffer = vec![0; 128 << 10];
            loop {
                let read = answer.read(&mut buffer).map_err(fetch)?;
                if read == 0 {
                    break;
                }
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Stopped { package: name() });
                }
                have += read as u64;
                if have > package.size {
                    return Err(wrong_size(have));
                }
                hasher.update(&buffer[..read]);
                part.write_all(&buffer[..read]).map_err(failed)?;
                self.reporter.advanced(package.name.as_str(), read as u64);
            }
            if have < package.size {
                return Err(Error::Short {
                    package: name(),
                    place: url.to_owned(),
                    expected: package.size,
                    found: have,
                });
            }
        }
        let found = Sha256::from_bytes(hasher.finalize().into());
        if found == package.sha256 {
            Ok(())
        } else {
            Err(Error::Altered { package: name(), place: url.to_owned(), expected: package.sha256, found })
        }
    }
}

fn digest(content: &mut dyn Read) -> std::io::Result<Sha256> {
    let mut hasher = Hasher::new();
    hash(content, &mut hasher)?;
    Ok(Sha256::from_bytes(hasher.finalize().into()))
}

fn hash(content: &mut dyn Read, hasher: &mut Hasher) -> std::io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Why a package is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mirror did not deliver.
    #[error("cannot download the package {package}")]
    Fetch {
        /// The package.
        package: String,
        /// Why.
        #[source]
        source: http::Error,
    },
    /// No place has it any more.
    #[error("{package} {version} is no longer on the mirror, {snapshot}: run `stead update`")]
    Gone {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// What is with the snapshot archive.
        snapshot: &'static str,
    },
    /// Another size than the pin's.
    #[error("{place}: the package {package} has {expected} bytes, but here are {found}")]
    Size {
        /// The package.
        package: String,
        /// Address or file.
        place: String,
        /// Pinned.
        expected: u64,
        /// Announced, sent or kept.
        found: u64,
    },
    /// It ended too early.
    #[error("{place}: the package {package} has {expected} bytes, and only {found} came")]
    Short {
        /// The package.
        package: String,
        /// Address.
        place: String,
        /// Pinned.
        expected: u64,
        /// Came.
        found: u64,
    },
    /// Another content than the pin's.
    #[error("{place}: the package {package} was altered: its SHA-256 is {found}, not {expected}")]
    Altered {
        /// The package.
        package: String,
        /// Address or file.
        place: String,
        /// Pinned.
        expected: Sha256,
        /// Found.
        found: Sha256,
    },
    /// The pin names no place below a mirror.
    #[error("the package {package} is pinned to `{path}`, which is no place on a mirror")]
    Place {
        /// The package.
        package: String,
        /// Pinned.
        path: String,
    },
    /// Another download failed. Never the error that is returned.
    #[error("the download of {package} was stopped")]
    Stopped {
        /// The package.
        package: String,
    },
    /// The folder of packages cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
