//! The store of one machine: its folder, and who may find what in it.
//!
//! Opening makes the folders and removes what the dead left; every other act is in the file that is
//! named for it. The names of the folders are `stead_model::layout`'s, below whatever root is given.

use crate::disk::{self, at};
use crate::temporary::Temporary;
use crate::unsynced::Unsynced;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;
use stead_model::layout;

/// The format of a store that this program writes and understands; it understands all that came before.
pub const FORMAT: u32 = 1;

/// What is on one machine's disk. May be shared between threads.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) temporary: Temporary,
    pub(crate) unsynced: Unsynced,
    handle: File,
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder cannot be made, listed or swept.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A newer agent has been here.
    #[error("`{}` was written by a newer stead (format {found}; this one knows {FORMAT}): use that one", path.display())]
    Newer {
        /// The store's folder.
        path: PathBuf,
        /// Its format, as it is written there.
        found: String,
    },
    /// After a power cut, what was torn cannot be told from what was not.
    #[error("cannot look for what the last power cut tore")]
    Recover(#[source] crate::verify::Error),
}

impl From<crate::verify::Error> for Error {
    fn from(error: crate::verify::Error) -> Self {
        Error::Recover(error)
    }
}

impl Store {
    /// Opens the store in this folder (`layout::STATE`), and makes it when it is not there. Removes
    /// what dead processes left half-written; after a power cut in the middle of writing, also what
    /// is torn (this reads everything once).
    ///
    /// # Errors
    /// When folders cannot be made, listed or swept, or a newer agent has written into it: then nothing is touched.
    pub fn open(root: &Path) -> Result<Self, Error> {
        disk::make_folder(root, 0o755)?;
        understand(root)?;
        // Services read these by path, as their own users.
        for folder in [layout::OBJECTS, layout::TREES, layout::RUNTIMES, layout::GENERATIONS] {
            disk::make_folder(&below(root, layout::STATE, folder), 0o755)?;
        }
        for folder in [layout::PACKAGES, layout::DESCRIPTIONS, layout::TEMPORARY] {
            disk::make_folder(&below(root, layout::STATE, folder), 0o700)?;
        }
        let temporary = Temporary::new(below(root, layout::STATE, layout::TEMPORARY));
        temporary.sweep(false)?;
        let (unsynced, handle) = (Unsynced::new(root)?, disk::open_folder(root)?);
        let store = Self { root: root.to_owned(), temporary, unsynced, handle };
        store.unsynced.recovered(|| store.recover())?;
        Ok(store)
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Bytes that may still be written (`statvfs(3)`, `f_bavail`).
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn space(&self) -> Result<u64, disk::Error> {
        let told = rustix::fs::statvfs(&self.root).map_err(at("ask for the space of", &self.root))?;
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    }

    /// The generation that the next boot comes up in; `None`: nothing of Stead's.
    ///
    /// # Errors
    /// When `confirmed` is there and is not a link to a generation.
    pub fn confirmed(&self) -> Result<Option<Hash>, disk::Error> {
        pointed(&self.place(layout::CONFIRMED))
    }

    /// The generation that runs, `run` being `layout::RUN`; `None`: nothing of Stead's.
    ///
    /// # Errors
    /// When `active` is there and is not a link to a generation.
    pub fn active(run: &Path) -> Result<Option<Hash>, disk::Error> {
        pointed(&below(run, layout::RUN, layout::ACTIVE))
    }

    /// Comes before everything that is written: what follows may be torn by a power cut.
    pub(crate) fn write_begins(&self) -> Result<(), disk::Error> {
        self.unsynced.set(&self.temporary)
    }

    /// Writes everything to the disk that the store's file system holds in memory. Fails also when an
    /// earlier writing in the background failed, which is only told to a handle that was open by then.
    pub(crate) fn synchronise(&self) -> Result<(), disk::Error> {
        rustix::fs::syncfs(&self.handle).map_err(at("synchronise the file system of", &self.root))
    }

    /// Where something of `layout` is in this store.
    pub(crate) fn place(&self, absolute: &str) -> PathBuf {
        below(&self.root, layout::STATE, absolute)
    }
}

/// Refuses a store of a newer format, and marks one that has no mark.
fn understand(root: &Path) -> Result<(), Error> {
    let path = below(root, layout::STATE, layout::STATE_FORMAT);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().parse::<u32>().is_ok_and(|format| format <= FORMAT) => Ok(()),
        // What a power cut left of it says nothing.
        Ok(text) if !text.trim().is_empty() => {
            Err(Error::Newer { path: root.to_owned(), found: text.trim().chars().take(20).collect() })
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("read", &path)(error).into()),
        _ => fs::write(&path, format!("{FORMAT}\n")).map_err(|error| at("write", &path)(error).into()),
    }
}

/// The place of `absolute`, a constant of `layout` below `base`, when `base` is elsewhere.
pub(crate) fn below(root: &Path, base: &str, absolute: &str) -> PathBuf {
    let rest = absolute.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    root.join(rest.expect("layout keeps it below its base"))
}

fn pointed(link: &Path) -> Result<Option<Hash>, disk::Error> {
    let target = match fs::read_link(link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", link)(error)),
    };
    let id = target.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let not_ours = || io::Error::other(format!("it points to {}, which is no generation", target.display()));
    id.map(Some).ok_or_else(|| at("follow", link)(not_ours()))
}
