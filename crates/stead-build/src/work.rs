//! The folder that one build works in.
//!
//! Promises that it is gone when the build is, whatever modes the build gave its folders; one that
//! a killed program left behind is removed by the next build. Never removes the folder of a build that runs:
//! whoever works in one holds a lock (`flock(2)`) in it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The lock's file.
const LOCK: &str = "lock";

/// A folder of one build, removed when it is dropped.
pub(crate) struct Work {
    folder: TempDir,
    _lock: File,
}

impl Work {
    /// A new one below `parent`, after those that nobody works in were removed.
    pub(crate) fn create(parent: &Path) -> io::Result<Self> {
        sweep(parent)?;
        let folder = tempfile::Builder::new().prefix("build-").tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What becomes `/build`.
    pub(crate) fn build(&self) -> PathBuf {
        self.path().join("build")
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays, because it cannot be opened up, the next sweep tries again.
        let _ = open_up(&self.build());
    }
}

/// Makes every folder below (and this one) an ordinary one, so that it can be read, moved and removed.
pub(crate) fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let folder = entry?.path();
        // One without a lock is being made just now.
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            // What cannot be removed costs space, not the build.
            let _ = open_up(&folder.join("build"));
            let _ = fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_folder_is_gone_with_its_build_whatever_its_modes() {
        let parent = tempfile::tempdir().unwrap();
        let work = Work::create(parent.path()).unwrap();
        fs::create_dir_all(work.build().join("a/b")).unwrap();
        fs::set_permissions(work.build().join("a/b"), Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(work.build().join("a"), Permissions::from_mode(0o500)).unwrap();
        drop(work);
        assert_eq!(count(parent.path()), 0);
    }

    #[test]
    fn what_a_killed_program_left_is_removed_and_what_is_worked_in_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let running = Work::create(parent.path()).unwrap();
        let left = parent.path().join("build-left");
        fs::create_dir_all(left.join("build/x")).unwrap();
        File::create(left.join(LOCK)).unwrap();
        let other = Work::create(parent.path()).unwrap();
        assert!(running.path().exists() && other.path().exists() && !left.exists());
    }
}
