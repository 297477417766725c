//! Moving the pins: a declaration becomes a lock.
//!
//! Promises that only what is asked for moves: everything, or the named inputs with the runtimes
//! that come from them. What is declared but not pinned yet is pinned without moving the rest;
//! what is not declared any more is dropped. Does not write the lock: either all of it could be
//! resolved and the caller has a new one, or nothing has happened.

use crate::folder;
use crate::url::InputUrl;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use stead_model::lock::{FORMAT, Lock, LockedInput, LockedPackage, LockedRuntime, LockedSuite, RuntimeKey};
use stead_model::name::Name;

/// The architecture whose indexes are read for an input that no runtime comes from yet.
const ARCHITECTURE: &str = "amd64";

/// An input, as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Where it comes from.
    pub url: InputUrl,
    /// For a Debian input: the address of the mirror, if the project names one.
    pub mirror: Option<String>,
    /// For a Debian input: the address of an archive of superseded versions, if the project names one.
    pub snapshot: Option<String>,
}

/// What is to be pinned.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The project's folder: `path:` inputs are relative to it.
    pub root: &'a Path,
    /// Every declared input.
    pub inputs: &'a BTreeMap<Name, Declared>,
    /// Every runtime that the servers need.
    pub runtimes: &'a BTreeSet<RuntimeKey>,
    /// The lock as it is.
    pub old: Option<&'a Lock>,
    /// The inputs that move; `None`: all. An empty list moves nothing and only pins what is not pinned yet.
    pub only: Option<&'a [Name]>,
    /// Where the indexes of folders are kept (see [`folder::index_file`]); `None`: every file is read.
    pub indexes: Option<&'a Path>,
}

/// A Debian input, for whoever reads its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebianInput<'a> {
    /// Its name in the project.
    pub name: &'a Name,
    /// Its release by code name.
    pub release: &'a str,
    /// The address of the mirror, if the project names one.
    pub mirror: Option<&'a str>,
    /// The address of an archive of superseded versions, if the project names one.
    pub snapshot: Option<&'a str>,
}

/// What a resolver fails with: its own error, to be shown with its causes.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads Debian archives: `stead-debian` behind [`crate::debian`], or a fake in tests.
pub trait DebianResolver {
    /// The signed indexes of the input as they are now, verified, read for these architectures (at least one).
    fn suites(
        &mut self,
        input: DebianInput<'_>,
        architectures: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, LockedSuite>, Failure>;

    /// The packages of a runtime, from the very indexes that [`DebianResolver::suites`] told. In any order.
    fn resolve(&mut self, input: DebianInput<'_>, key: &RuntimeKey) -> Result<Vec<LockedPackage>, Failure>;
}

/// What is being done, for a display of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The files of a folder are looked at.
    Folder(Name),
    /// The indexes of a Debian input are fetched.
    Indexes(Name),
    /// A runtime's packages are resolved.
    Runtime(RuntimeKey),
}

/// Resolves the request into a new lock. Reads folders and archives; writes nothing but indexes of folders.
pub fn update(
    request: Request<'_>,
    debian: &mut dyn DebianResolver,
    events: &mut dyn FnMut(Event),
) -> Result<Lock, Error> {
    check(request)?;
    let mut lock = Lock { format: FORMAT, inputs: BTreeMap::new(), runtimes: BTreeMap::new() };
    let mut fetched = BTreeSet::new();
    for (name, declared) in request.inputs {
        let locked = match kept(request, name) {
            Some(pinned) => pinned.clone(),
            None => {
                fetched.insert(name);
                input(request, name, declared, debian, events)?
            }
        };
        lock.inputs.insert(name.clone(), locked);
    }
    for key in request.runtimes {
        let declared = &request.inputs[&key.debian];
        let archive = archive(&key.debian, declared)?;
        let pinned = request.old.and_then(|old| old.runtimes.get(&key.to_string()));
        let runtime = match pinned.filter(|_| !fetched.contains(&key.debian) && kept(request, &key.debian).is_some()) {
            Some(runtime) => runtime.clone(),
            None => {
                refresh(request, key, archive, &mut lock, &mut fetched, debian, events)?;
                runtime(key, archive, debian, events)?
            }
        };
        lock.runtimes.insert(key.to_string(), runtime);
    }
    Ok(lock)
}

/// What is wrong with the request itself, before anything is fetched.
fn check(request: Request<'_>) -> Result<(), Error> {
    for name in request.only.unwrap_or_default() {
        if !request.inputs.contains_key(name) {
            return Err(Error::Undeclared { name: name.clone(), declared: request.inputs.keys().cloned().collect() });
        }
    }
    for key in request.runtimes {
        let Some(declared) = request.inputs.get(&key.debian) else {
            return Err(Error::NoArchive { key: key.clone() });
        };
        archive(&key.debian, declared)?;
    }
    Ok(())
}

/// The pin of an input that does not move.
fn kept<'a>(request: Request<'a>, name: &Name) -> Option<&'a LockedInput> {
    let only = request.only?;
    if only.contains(name) {
        return None;
    }
    request.old?.inputs.get(name)
}

fn input(
    request: Request<'_>,
    name: &Name,
    declared: &Declared,
    debian: &mut dyn DebianResolver,
    events: &mut dyn FnMut(Event),
) -> Result<LockedInput, Error> {
    let url = declared.url.to_string();
    let Some(folder) = declared.url.folder(request.root) else {
        events(Event::Indexes(name.clone()));
        return Ok(LockedInput::Debian { url, suites: suites(request, archive(name, declared)?, debian)? });
    };
    events(Event::Folder(name.clone()));
    let index = request.indexes.map(|indexes| folder::index_file(indexes, &folder));
    let snapshot = folder::snapshot(&folder, index.as_deref())
        .map_err(|source| Error::Folder { name: name.clone(), source: Box::new(source) })?;
    let (tree, files, size) = (snapshot.tree.id(), snapshot.files.len() as u64, snapshot.tree.size());
    Ok(LockedInput::Path { url, tree, files, size })
}

/// A runtime is new, and its input did not move: the packages come from the indexes as they are
/// now, so these are recorded. The packages of the other runtimes stay.
fn refresh(
    request: Request<'_>,
    key: &RuntimeKey,
    archive: DebianInput<'_>,
    lock: &mut Lock,
    fetched: &mut BTreeSet<&Name>,
    debian: &mut dyn DebianResolver,
    events: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    let Some((name, declared)) = request.inputs.get_key_value(&key.debian).filter(|(name, _)| !fetched.contains(name))
    else {
        return Ok(());
    };
    let declared = declared.url.to_string();
    match lock.inputs.get_mut(name) {
        Some(LockedInput::Debian { url, suites: pinned }) if *url == declared => {
            events(Event::Indexes(name.clone()));
            *pinned = suites(request, archive, debian)?;
        }
        Some(LockedInput::Debian { url, .. } | LockedInput::Path { url, .. }) => {
            let pinned = url.clone();
            return Err(Error::Redeclared { name: name.clone(), key: key.to_string(), pinned, declared });
        }
        None => return Err(Error::NoArchive { key: key.clone() }),
    }
    Ok(())
}

fn runtime(
    key: &RuntimeKey,
    archive: DebianInput<'_>,
    debian: &mut dyn DebianResolver,
    events: &mut dyn FnMut(Event),
) -> Result<LockedRuntime, Error> {
    events(Event::Runtime(key.clone()));
    let failed = |source| Error::Resolve { key: key.clone(), source };
    let mut packages = debian.resolve(archive, key).map_err(failed)?;
    packages.sort();
    Ok(LockedRuntime {
        debian: key.debian.clone(),
        architecture: key.architecture.clone(),
        requested: key.packages.clone(),
        packages,
    })
}

fn suites(
    request: Request<'_>,
    archive: DebianInput<'_>,
    debian: &mut dyn DebianResolver,
) -> Result<BTreeMap<String, LockedSuite>, Error> {
    let own = request.runtimes.iter().filter(|key| key.debian == *archive.name);
    let mut architectures: BTreeSet<&str> = own.map(|key| key.architecture.as_str()).collect();
    if architectures.is_empty() {
        architectures.insert(ARCHITECTURE);
    }
    debian.suites(archive, &architectures).map_err(|source| Error::Indexes { name: archive.name.clone(), source })
}

fn archive<'a>(name: &'a Name, declared: &'a Declared) -> Result<DebianInput<'a>, Error> {
    match &declared.url {
        InputUrl::Debian(release) => Ok(DebianInput {
            name,
            release,
            mirror: declared.mirror.as_deref(),
            snapshot: declared.snapshot.as_deref(),
        }),
        InputUrl::Path(_) => Err(Error::NotAnArchive { name: name.clone(), url: declared.url.to_string() }),
    }
}

/// The pins could not be moved; none was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input that is asked for is not declared.
    #[error("there is no input `{name}`; declared are: {}", declared.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))]
    Undeclared {
        /// The input that was asked for.
        name: Name,
        /// Those that there are.
        declared: Vec<Name>,
    },
    /// A runtime comes from an input that is not declared.
    #[error("the packages `{key}` come from the input `{}`, which is not declared", key.debian)]
    NoArchive {
        /// The runtime.
        key: RuntimeKey,
    },
    /// A runtime comes from an input that has no packages.
    #[error("packages cannot come from the input `{name}`: `{url}` is no Debian archive")]
    NotAnArchive {
        /// The input.
        name: Name,
        /// Its URL.
        url: String,
    },
    /// A runtime is new, but its input is pinned to another release than is declared.
    #[error(
        "the new runtime `{key}` cannot be resolved while `{name}` is pinned to `{pinned}` but declared as `{declared}`: run `stead update {name}`"
    )]
    Redeclared {
        /// The input.
        name: Name,
        /// The runtime, as the lock names it.
        key: String,
        /// The URL in the lock.
        pinned: String,
        /// The URL in the declaration.
        declared: String,
    },
    /// The folder of an input cannot be read.
    #[error("the input `{name}` cannot be read")]
    Folder {
        /// The input.
        name: Name,
        /// Why.
        source: Box<folder::Error>,
    },
    /// The indexes of a Debian input cannot be had, or not be believed.
    #[error("the indexes of the input `{name}` cannot be read")]
    Indexes {
        /// The input.
        name: Name,
        /// Why.
        source: Failure,
    },
    /// There is no set of packages for a runtime.
    #[error("the packages `{key}` cannot be resolved")]
    Resolve {
        /// The runtime.
        key: RuntimeKey,
        /// Why.
        source: Failure,
    },
}

#[cfg(test)]
mod tests;
