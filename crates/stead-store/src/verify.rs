//! Looks at every byte of the store, and names each that is altered, missing or too many.
//!
//! Reads everything, in pieces; changes nothing. Finding damage is not an error: the list is the answer.

use crate::audit::Audit;
use crate::description::{self, Subject};
use crate::disk;
use crate::generation::DESCRIPTION;
use crate::package;
use crate::realise::Kind;
use crate::store::Store;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;
use stead_model::layout;

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file, link or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: What,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// It is not there.
    Missing,
    /// Its content, or the target of the link, is another one.
    Altered,
    /// It is something else than a file, link or folder as it should be.
    Kind {
        /// What it should be: "a file".
        expected: &'static str,
    },
    /// Its permission bits are others.
    Mode {
        /// What they should be.
        expected: u32,
        /// What they are.
        found: u32,
    },
    /// It belongs to somebody else.
    Owner,
    /// Its modification time is another one, which a web server would answer wrong ETags from.
    Time,
    /// Nothing of Stead's has this name.
    Extra,
    /// It cannot be read; what the system said.
    Unreadable(String),
    /// It needs something that is not there, or not whole.
    Needs(PathBuf),
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Missing => out.write_str("is missing"),
            What::Altered => out.write_str("is altered"),
            What::Kind { expected } => write!(out, "is not {expected}"),
            What::Mode { expected, found } => write!(out, "has mode {found:04o} instead of {expected:04o}"),
            What::Owner => out.write_str("belongs to somebody else"),
            What::Time => out.write_str("has another modification time"),
            What::Extra => out.write_str("is nothing of Stead's"),
            What::Unreadable(reason) => write!(out, "cannot be read: {reason}"),
            What::Needs(path) => write!(out, "needs {}, which is not there", path.display()),
        }
    }
}

/// The store cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder of the store cannot be listed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl Store {
    /// Everything in the store that is not as it was written, sorted by path; empty: all is well.
    ///
    /// # Errors
    /// When a folder of the store cannot be listed.
    pub fn verify(&self) -> Result<Vec<Damage>, Error> {
        self.verify_observed(&mut |_| ())
    }

    /// The same, and calls `seen` with the number of bytes of each object or package that was read.
    ///
    /// # Errors
    /// When a folder of the store cannot be listed.
    pub fn verify_observed(&self, seen: &mut dyn FnMut(u64)) -> Result<Vec<Damage>, Error> {
        let mut audit = Audit::new(self);
        audit.seen = Some(seen);
        self.verify_objects(&mut audit)?;
        self.verify_packages(&mut audit)?;
        self.verify_descriptions(&mut audit)?;
        for kind in [Kind::Tree, Kind::Runtime] {
            self.verify_realised(kind, &mut audit)?;
        }
        self.verify_generations(&mut audit)?;
        let mut damages = audit.damages;
        damages.sort_by(|one, other| one.path.cmp(&other.path));
        damages.dedup();
        Ok(damages)
    }

    fn verify_objects(&self, audit: &mut Audit<'_>) -> Result<(), Error> {
        let objects = self.place(layout::OBJECTS);
        for head in disk::names(&objects)? {
            let folder = objects.join(&head);
            if !folder.is_dir() {
                audit.report(&folder, What::Extra);
                continue;
            }
            for name in disk::names(&folder)? {
                match object_by_name(&head, &name) {
                    Some((hash, executable)) => drop(audit.object(hash, executable)),
                    None => audit.report(&folder.join(name), What::Extra),
                }
            }
        }
        Ok(())
    }

    fn verify_packages(&self, audit: &mut Audit<'_>) -> Result<(), Error> {
        let folder = self.place(layout::PACKAGES);
        for name in disk::names(&folder)? {
            let path = folder.join(&name);
            let Some(expected) = name.to_str().and_then(package::by_name) else {
                audit.report(&path, What::Extra);
                continue;
            };
            match package::digest(&path) {
                Ok(found) if found == expected => {}
                Ok(_) => audit.report(&path, What::Altered),
                Err(error) => audit.report(&path, What::Unreadable(error.to_string())),
            }
            audit.read(std::fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len()));
        }
        Ok(())
    }

    fn verify_descriptions(&self, audit: &mut Audit<'_>) -> Result<(), Error> {
        let folder = self.place(layout::DESCRIPTIONS);
        for name in disk::names(&folder)? {
            let path = folder.join(&name);
            let sound = match name.to_str().and_then(Subject::of) {
                None => {
                    audit.report(&path, What::Extra);
                    continue;
                }
                Some(Subject::Realised(kind, id)) => self.description(kind, &id).map(drop),
                Some(Subject::Package(..)) => description::read(&path).map(drop),
            };
            if sound.is_err() {
                audit.report(&path, What::Altered);
            }
        }
        Ok(())
    }

    fn verify_realised(&self, kind: Kind, audit: &mut Audit<'_>) -> Result<(), Error> {
        let folder = self.place(kind.folder());
        for name in disk::names(&folder)? {
            let path = folder.join(&name);
            let Some(id) = id_by_name(&name) else {
                audit.report(&path, What::Extra);
                continue;
            };
            // A damaged description is reported by itself, and leaves nothing to compare with.
            match self.description(kind, &id) {
                Ok(Some(tree)) => audit.folder(&path, &tree, &id, &[]),
                _ => audit.report(&path, What::Needs(self.description_path(kind, &id))),
            }
        }
        Ok(())
    }

    fn verify_generations(&self, audit: &mut Audit<'_>) -> Result<(), Error> {
        let folder = self.place(layout::GENERATIONS);
        for name in disk::names(&folder)? {
            let path = folder.join(&name);
            let Some(id) = id_by_name(&name) else {
                audit.report(&path, What::Extra);
                continue;
            };
            let generation = match self.generation(&id) {
                Ok(Some(generation)) => generation,
                Ok(None) => {
                    audit.report(&path.join(DESCRIPTION), What::Missing);
                    continue;
                }
                Err(_) => {
                    audit.report(&path.join(DESCRIPTION), What::Altered);
                    continue;
                }
            };
            audit.folder(&path, &generation.files, &id, &[DESCRIPTION]);
            let trees = generation.trees.keys().map(|id| (Kind::Tree, id));
            let runtimes = generation.runtimes.keys().map(|id| (Kind::Runtime, id));
            for (kind, id) in trees.chain(runtimes).filter(|(kind, id)| !self.is_realised(*kind, id)) {
                audit.report(&path, What::Needs(self.realised_path(kind, id)));
            }
        }
        self.verify_confirmed(audit);
        Ok(())
    }

    fn verify_confirmed(&self, audit: &mut Audit<'_>) {
        let path = self.place(layout::CONFIRMED);
        match self.confirmed() {
            Ok(Some(id)) if !self.generation_path(&id).is_dir() => {
                audit.report(&path, What::Needs(self.generation_path(&id)))
            }
            Ok(_) => {}
            Err(_) => audit.report(&path, What::Altered),
        }
    }

    /// The objects' folders, for who walks them.
    pub(crate) fn object_files(&self) -> Result<Vec<(Hash, bool, PathBuf)>, disk::Error> {
        let objects = self.place(layout::OBJECTS);
        let mut files = Vec::new();
        for head in disk::names(&objects)? {
            let folder = objects.join(&head);
            for name in folder.is_dir().then(|| disk::names(&folder)).transpose()?.unwrap_or_default() {
                files.extend(
                    object_by_name(&head, &name).map(|(hash, executable)| (hash, executable, folder.join(name))),
                );
            }
        }
        Ok(files)
    }
}

/// The object that `objects/<head>/<name>` is.
fn object_by_name(head: &std::ffi::OsStr, name: &std::ffi::OsStr) -> Option<(Hash, bool)> {
    let name = name.to_str()?;
    let (digits, executable) = name.strip_suffix(".x").map_or((name, false), |digits| (digits, true));
    Some((format!("{}{digits}", head.to_str()?).parse().ok()?, executable))
}

/// The id that a folder's name is.
pub(crate) fn id_by_name(name: &std::ffi::OsStr) -> Option<Hash> {
    name.to_str()?.parse().ok()
}

/// The place of the store that a damaged path belongs to: its folder of `layout`, and the name in it.
pub(crate) fn owner_of<'a>(root: &Path, path: &'a Path) -> Option<(&'a str, &'a str)> {
    let mut parts = path.strip_prefix(root).ok()?.iter().map(|part| part.to_str());
    Some((parts.next()??, parts.next()??))
}
