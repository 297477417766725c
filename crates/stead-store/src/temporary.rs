//! Where things are written before they have their name: `temporary/<random>/`, one folder a process.
//!
//! The folder is held by `flock(2)` as long as its owner lives, so that whatever a dead one left is
//! swept, and nothing of a living one ever is. Nothing here is synchronised.

use crate::disk::{self, Error, at};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The temporary folder of a store, and this process's own part of it once something is written.
#[derive(Debug)]
pub(crate) struct Temporary {
    root: PathBuf,
    own: Mutex<Option<Own>>,
}

#[derive(Debug)]
struct Own {
    path: PathBuf,
    _held: File,
}

/// A temporary folder, removed when dropped unless it was given its name.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    named: bool,
}

impl Temporary {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, own: Mutex::new(None) }
    }

    /// A new empty file, removed when dropped unless it is persisted. Its mode is 0600.
    pub(crate) fn file(&self) -> Result<tempfile::NamedTempFile, Error> {
        let own = self.own()?;
        tempfile::Builder::new().prefix("").tempfile_in(&own).map_err(at("make a file in", &own))
    }

    /// A new empty folder.
    pub(crate) fn folder(&self) -> Result<Folder, Error> {
        let own = self.own()?;
        let made = tempfile::Builder::new().prefix("").tempdir_in(&own).map_err(at("make a folder in", &own))?;
        Ok(Folder { path: made.keep(), named: false })
    }

    /// Removes what dead processes left; tells how many folders or files.
    pub(crate) fn sweep(&self, dry: bool) -> Result<u64, Error> {
        let mut swept = 0;
        for name in disk::names(&self.root)? {
            let path = self.root.join(name);
            // Held until the removal is over, so that no new owner can take the folder meanwhile.
            let is_folder = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata.is_dir(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at("look at", &path)(error)),
            };
            let held = is_folder.then(|| disk::open_folder(&path)).transpose()?;
            if held.as_ref().is_some_and(|folder| flock(folder, FlockOperation::NonBlockingLockExclusive).is_err()) {
                continue;
            }
            swept += 1;
            if !dry {
                disk::remove(&path)?;
            }
            drop(held);
        }
        Ok(swept)
    }

    fn own(&self) -> Result<PathBuf, Error> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = &*own {
            return Ok(own.path.clone());
        }
        loop {
            let made = tempfile::Builder::new()
                .prefix("")
                .tempdir_in(&self.root)
                .map_err(at("make a folder in", &self.root))?;
            let path = made.keep();
            // Between its making and its locking a sweep may take the folder away: then once more.
            let Ok(held) = disk::open_folder(&path) else { continue };
            if flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() || !is_still_at(&held, &path) {
                continue;
            }
            *own = Some(Own { path: path.clone(), _held: held });
            return Ok(path);
        }
    }
}

fn is_still_at(held: &File, path: &Path) -> bool {
    let inode = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (held.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => inode(held) == inode(found),
        _ => false,
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        let _ = disk::remove(&self.path);
    }
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its name. What has the name already is replaced only if it is an empty folder.
    pub(crate) fn persist(mut self, target: &Path) -> Result<(), Error> {
        std::fs::rename(&self.path, target).map_err(at("name", target))?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.named {
            let _ = disk::remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_living_one_holds_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (living, other) = (Temporary::new(root.path().to_owned()), Temporary::new(root.path().to_owned()));
        let folder = living.folder().unwrap();
        std::fs::create_dir_all(root.path().join("dead/folder")).unwrap();
        std::fs::write(root.path().join("dead/folder/file"), "half").unwrap();
        std::fs::write(root.path().join("stray"), "half").unwrap();

        assert_eq!(other.sweep(true).unwrap(), 2);
        assert_eq!(other.sweep(false).unwrap(), 2);
        assert!(folder.path().is_dir());
        assert_eq!(disk::names(root.path()).unwrap().len(), 1);
        drop((folder, living));
        assert_eq!(disk::names(root.path()).unwrap().len(), 0);
    }
}
