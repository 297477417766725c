//! The sources' copy that a build works on, and the release's files made read-only.
//!
//! Promises that the copy is exactly the described tree (each file is hashed while it is copied),
//! with one and the same time on every file. Never touches the original.

use crate::builder::{Error, failed};
use crate::sandbox::EPOCH;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use stead_model::hash::Hash;
use stead_model::tree::{Entry, Object, Tree};

/// Copies what is in `tree` from the folder `from` to the new folder `to`.
pub(crate) fn copy(from: &Path, tree: &Tree, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(failed("make", to))?;
    for (path, entry) in &tree.entries {
        let place = to.join(path);
        let parent = place.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
        match entry {
            Entry::File(object) => file(&from.join(path), *object, &place)?,
            Entry::Link(target) => symlink(target, &place).map_err(failed("make", &place))?,
            Entry::Folder => fs::create_dir_all(&place).map_err(failed("make", &place))?,
        }
    }
    Ok(())
}

fn file(from: &Path, object: Object, to: &Path) -> Result<(), Error> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::SourceChanged { path: from.to_owned() });
        }
        Err(error) => return Err(failed("read", from)(error)),
    };
    let mode = if object.executable { 0o755 } else { 0o644 };
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(mode).open(to).map_err(failed("make", to))?;
    let hash = hashed_copy(&mut source, &mut copy).map_err(failed("copy", from))?;
    if hash != object.hash {
        return Err(Error::SourceChanged { path: from.to_owned() });
    }
    copy.set_permissions(Permissions::from_mode(mode)).map_err(failed("write", to))?;
    copy.set_modified(UNIX_EPOCH + Duration::from_secs(EPOCH)).map_err(failed("write", to))
}

fn hashed_copy(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(Hash::from_bytes(*hasher.finalize().as_bytes())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

/// Makes every file of the tree in this folder read-only, its folders ordinary.
pub(crate) fn seal(folder: &Path, tree: &Tree) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for (path, entry) in &tree.entries {
        if let Entry::File(object) = entry {
            let mode = if object.executable { 0o555 } else { 0o444 };
            fs::set_permissions(folder.join(path), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// What is in a folder, for a message: up to 20 names, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.truncate(20);
    if names.is_empty() {
        names.push("nothing".to_owned());
    }
    names
}
