//! Debian packages on the operator's machine: found in the cache, or downloaded and checked.
//!
//! One folder for all projects, `packages/<sha256>.deb`. Whatever is in it was checked against its
//! hash when it was put there, and is checked again by whoever receives it.

use crate::arguments::Target;
use crate::connect;
use crate::environment;
use crate::failure::{Failure, chain};
use crate::output::{Output, bytes};
use crate::project::Loaded;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use stead_debian::download::{self, Downloader};
use stead_debian::http::{Client, Limits, Proxies};
use stead_debian::mirror::Archive;
use stead_debian::reporter::Reporter;
use stead_model::hash::Sha256;
use stead_model::lock::LockedPackage;
use stead_model::name::Name;

/// Where apt keeps this machine's sources.
const APT: &str = "/etc/apt";

/// The packages of one Debian input.
pub(crate) struct Packages {
    archive: Archive,
    client: Client,
    folder: PathBuf,
}

/// The folder that packages are kept in.
pub(crate) fn folder() -> PathBuf {
    environment::cache().join("packages")
}

/// Where a package is in the cache; it may not be there.
pub(crate) fn place(sha256: Sha256) -> PathBuf {
    folder().join(format!("{sha256}.deb"))
}

/// The client for package archives.
pub(crate) fn client() -> Client {
    Client::new(Limits::default(), Proxies::Environment)
}

/// The archive of a Debian input.
pub(crate) fn archive(mirror: Option<&str>, snapshot: Option<&str>) -> Result<Archive, Failure> {
    let variable = environment::debian_mirror();
    let found = Archive::find(mirror, variable.as_deref(), Path::new(APT));
    let found = found.and_then(|archive| match snapshot {
        Some(snapshot) => archive.with_snapshot(snapshot),
        None => Ok(archive),
    });
    found.map_err(|error| {
        Failure::request(format!("no Debian mirror is known: {}", chain(&error)))
            .hint("set `inputs.debian.mirror` in stead.ncl, or STEAD_DEBIAN_MIRROR")
    })
}

struct Arrived(AtomicU64);

impl Reporter for Arrived {
    fn advanced(&self, _: &str, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Packages {
    /// The packages of this input of the project.
    pub(crate) fn of(project: &Loaded, input: &Name) -> Result<Self, Failure> {
        let declared =
            project.declared.get(input).ok_or_else(|| Failure::request(format!("there is no input `{input}`")))?;
        let archive = archive(declared.mirror.as_deref(), declared.snapshot.as_deref())?;
        Ok(Self { archive, client: client(), folder: folder() })
    }

    /// Brings these packages into the cache: from the mirror, the snapshot archive, or (when both have
    /// dropped a version) from a server of the project that still has it.
    pub(crate) fn fetch(&self, wanted: &[LockedPackage], project: &Loaded, output: &Output) -> Result<(), Failure> {
        for _ in 0..wanted.len() {
            match self.download(wanted, output) {
                Ok(_) => return Ok(()),
                Err(error @ download::Error::Gone { .. }) => {
                    let missing: Vec<&LockedPackage> =
                        wanted.iter().filter(|package| !place(package.sha256).exists()).collect();
                    output.detail("asking the project's servers for superseded packages");
                    if !self.take_from_servers(&missing, project, output) {
                        return Err(Failure::before(chain(&error))
                            .hint("`stead update` moves to what the mirror has now; or name a snapshot archive in `inputs.<name>.snapshot`"));
                    }
                }
                Err(error) => return Err(Failure::before(chain(&error)).hint("try again; what has arrived is kept")),
            }
        }
        self.download(wanted, output).map(drop).map_err(|error| Failure::before(chain(&error)))
    }

    /// Takes what the project's servers still have; tells whether any of it was found.
    fn take_from_servers(&self, missing: &[&LockedPackage], project: &Loaded, output: &Output) -> bool {
        let mut found = false;
        for server in project.servers.values() {
            let begun = connect::begin(server, &Target::default());
            let opened = begun.and_then(|connecting| connecting.join_quietly(output));
            let Ok(mut connected) = opened else { continue };
            for package in missing {
                found |= connected.package(package, &download::file(&self.folder, package)).is_ok();
            }
        }
        found
    }

    /// Brings these packages into the cache; returns where each one is. What is there with the right
    /// size is taken as it is: it was checked when it came, and its receiver checks it again.
    fn download(&self, wanted: &[LockedPackage], output: &Output) -> Result<Vec<PathBuf>, download::Error> {
        let is_here = |package: &&LockedPackage| {
            std::fs::metadata(download::file(&self.folder, package)).is_ok_and(|found| found.len() == package.size)
        };
        let missing: Vec<LockedPackage> = wanted.iter().filter(|package| !is_here(package)).cloned().collect();
        if !missing.is_empty() {
            let total: u64 = missing.iter().map(|package| package.size).sum();
            output.detail(&format!("fetching {} packages, {}", missing.len(), bytes(total)));
            let arrived = Arrived(AtomicU64::new(0));
            let downloader =
                Downloader { client: &self.client, archive: &self.archive, folder: &self.folder, reporter: &arrived };
            std::thread::scope(|scope| {
                let work = scope.spawn(|| downloader.fetch(&missing));
                while !work.is_finished() {
                    output.detail(&format!(
                        "fetching packages, {} of {}",
                        bytes(arrived.0.load(Ordering::Relaxed)),
                        bytes(total)
                    ));
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                work.join().expect("downloading does not panic")
            })?;
        }
        Ok(wanted.iter().map(|package| download::file(&self.folder, package)).collect())
    }
}
