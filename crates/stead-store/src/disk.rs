//! Small acts on the file system, and the one error of this crate that comes from it.
//!
//! A full disk is a case of its own, because it is the one that the operator can do something about.
//! Nothing here knows what the files mean.

use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The file system did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space, no inode or no quota is left.
    #[error("the disk is full: cannot {act} {}", path.display())]
    Full {
        /// What was tried, as a verb: "write".
        act: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Any other failure.
    #[error("cannot {act} {}", path.display())]
    Refused {
        /// What was tried, as a verb: "write".
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Whether it is for want of space.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Full { .. })
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind (`StorageFull` for a full disk) and the words.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Full { .. } => io::ErrorKind::StorageFull,
            Error::Refused { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// Gives an error of the system its object: `fs::read(path).map_err(at("read", path))`.
pub(crate) fn at<E: Into<io::Error>>(act: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    move |error| {
        let source = error.into();
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { act, path },
            _ => Error::Refused { act, path, source },
        }
    }
}

/// A handle to a folder, for `*at` calls and synchronisation.
pub(crate) fn open_folder(path: &Path) -> Result<fs::File, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(fs::File::from).map_err(at("open", path))
}

/// Makes a folder and what leads to it; a new one gets exactly this mode.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(at("make", path))
}

/// Makes the names in a folder durable (`fsync(2)` of the folder).
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    open_folder(path)?.sync_all().map_err(at("synchronise", path))
}

/// The names in a folder, sorted; none when it is not there.
pub(crate) fn names(path: &Path) -> Result<Vec<OsString>, Error> {
    let read = || fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
    match read() {
        Ok(mut names) => {
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at("list", path)(error)),
    }
}

/// Removes a file, a link, or a folder with everything in it. Not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let is_folder = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        Err(error) => return gone(Err(error)).map_err(at("look at", path)),
    };
    if !is_folder {
        return gone(fs::remove_file(path)).map_err(at("remove", path));
    }
    match gone(fs::remove_dir_all(path)) {
        // Who is not root cannot empty a read-only folder.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            for entry in walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_dir()) {
                let writable = fs::Permissions::from_mode(0o755);
                fs::set_permissions(entry.path(), writable).map_err(at("change the mode of", entry.path()))?;
            }
            gone(fs::remove_dir_all(path)).map_err(at("remove", path))
        }
        other => other.map_err(at("remove", path)),
    }
}
