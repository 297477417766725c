//! The lock of whoever changes the server.
//!
//! `flock(2)` on a file that stays: the lock goes with its owner, however that ends, and no file is
//! ever left that would have to be removed by hand. The text in the file is for people; it says
//! nothing about whether the lock is held.

use crate::disk::{self, at};
use crate::store::Store;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The proof that this process holds the lock; released when dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Guard {
    file: File,
    path: PathBuf,
}

impl Store {
    /// Takes the lock at this path (`layout::LOCK`), without waiting. `None`: somebody else holds it,
    /// see [`holder`]. Makes the folder and the file when they are not there.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn lock(path: &Path) -> Result<Option<Guard>, disk::Error> {
        if let Some(folder) = path.parent() {
            disk::make_folder(folder, 0o755)?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(at("open", path))?);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(at("lock", path)(error)),
        }
        let guard = Guard { file, path: path.to_owned() };
        guard.describe(&format!("process {}", std::process::id()))?;
        Ok(Some(guard))
    }
}

impl Guard {
    /// Says for others who holds the lock, and what for: `deploy by nick@laptop since 10:31`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe(&self, text: &str) -> Result<(), disk::Error> {
        let write = || self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        write().map_err(at("write", &self.path))
    }
}

/// What the holder of the lock, or the last one, said of itself; `None` when there is nothing.
pub fn holder(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_lock_and_the_next_gets_it_when_that_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/lock");
        let guard = Store::lock(&path).unwrap().unwrap();
        guard.describe("deploy by nick@laptop").unwrap();
        assert!(Store::lock(&path).unwrap().is_none());
        assert_eq!(holder(&path).unwrap(), "deploy by nick@laptop");
        drop(guard);
        assert!(path.exists(), "the file stays: removing it would let two hold the lock");
        assert!(Store::lock(&path).unwrap().is_some());
    }
}
