//! Small acts on the file system that survive a power cut, and the error that comes from them.
//!
//! A file is written beside its place, synchronised, renamed, and the folder synchronised: after a power cut it is the
//! old one or the new one, wholly. Never follows a link that stands where a file is read: folders of
//! certificates belong to the web server's user, who must not choose what root reads.

use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// No certificate, key or account is longer.
const MOST: u64 = 1 << 20;

/// The file system did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", path.display())]
pub struct Error {
    /// What was tried, as a verb: "write".
    pub act: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Gives an error of the system its object: `fs::read(path).map_err(at("read", path))`.
pub(crate) fn at(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error { act, path: path.to_owned(), source }
}

/// Makes a folder, unless it is there, with exactly this mode.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other.map_err(at("make", path))?,
    }
    // What the process's mask took away, or somebody changed.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at("change the mode of", path))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at("synchronise", path))
}

/// Writes a new file, durably but for its name.
pub(crate) fn write_new(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
        }
        file.sync_all()
    };
    write().map_err(at("write", path))
}

/// Replaces a file wholly or not at all; the new one has this mode.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(at("write", path))
}

/// How the names of what is not there yet begin.
pub(crate) const TEMPORARY: &str = ".new-";

/// A small file; `None` when it is not there. A link, a pipe or a folder in its place is an error.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let read = || {
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        read_regular(&file).map(Some)
    };
    read().map_err(at("read", path))
}

/// A small file that an operator names: links are followed.
pub(crate) fn read_through_links(path: &Path) -> Result<Vec<u8>, Error> {
    File::open(path).and_then(|file| read_regular(&file)).map_err(at("read", path))
}

fn read_regular(file: &File) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this file is longer than 1 MiB"));
    }
    Ok(bytes)
}
