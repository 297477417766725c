//! The folder `secrets/` of a project, and changing it as a whole.
//!
//! A change makes the folder anew beside the old one, with hard links to what stays, and exchanges the two in one step
//! (`renameat2(2)`, `RENAME_EXCHANGE`): whoever looks, and whatever power cut comes, finds all of the old or all of
//! the new. Promises too that two changes do not run into each other. Never writes a value in clear.

use crate::readers::{FILE, InvalidReaders, Readers};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stead_model::name::SecretName;
use stead_model::secret::MAX_VALUE;

/// Its name, in the project's.
pub const NAME: &str = "secrets";
const SUFFIX: &str = ".age";
/// How often a folder is read that somebody changes meanwhile.
const TRIES: u32 = 10;
/// How folders are named that are not the folder yet, or not any more.
const BESIDE: &str = ".stead-secrets-changing-";

/// The secrets of a project, encrypted.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// Who may read what.
    pub readers: Readers,
    /// Each value as it is encrypted, by its name.
    pub sealed: BTreeMap<SecretName, Vec<u8>>,
}

/// The folder, which nobody else changes as long as this is held.
#[derive(Debug)]
pub struct Held {
    project: PathBuf,
    _lock: File,
}

/// Why the folder could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// `readers.toml` is wrong.
    #[error(transparent)]
    Readers(#[from] InvalidReaders),
    /// A file of it could not be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file has no name that a secret may have.
    #[error("{}: {error}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Why.
        error: stead_model::name::InvalidName,
    },
    /// It could not be written. The old one is as it was.
    #[error("{} could not be changed, and is as it was: {error}", path.display())]
    Write {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Secrets {
    /// The secrets of the project in this folder; none when it has no folder of them.
    ///
    /// # Errors
    /// When something in it cannot be read, or is named or written as it may not be.
    pub fn load(project: &Path) -> Result<Self, FolderError> {
        // Whoever changes it puts another folder in its place, and removes this one: then it is read anew.
        for _ in 0..TRIES {
            match Self::load_one(project) {
                Err(FolderError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                Ok((_, false)) => {}
                loaded => return loaded.map(|(secrets, _)| secrets),
            }
        }
        Self::load_one(project).map(|(secrets, _)| secrets)
    }

    /// All from one folder, and whether that is still the one: else it may have been half removed by then.
    fn load_one(project: &Path) -> Result<(Self, bool), FolderError> {
        let folder = project.join(NAME);
        let opened = match File::open(&folder) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Self::default(), true)),
            Err(error) => return Err(FolderError::Read { path: folder, error }),
        };
        // The kernel's own name of what is open (`proc_pid_fd(5)`).
        let through = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let limit = u64::try_from(MAX_VALUE * 2 + 1).unwrap_or(u64::MAX);
        let read = |name: &OsStr| {
            let mut content = Vec::new();
            // One that is larger is no secret; its beginning is enough to say so.
            let read = File::open(through.join(name)).and_then(|file| file.take(limit).read_to_end(&mut content));
            read.map(|_| content).map_err(|error| FolderError::Read { path: folder.join(name), error })
        };
        let mut secrets = Self::default();
        let entries = fs::read_dir(&through).map_err(|error| FolderError::Read { path: folder.clone(), error })?;
        for entry in entries {
            let file = entry.map_err(|error| FolderError::Read { path: folder.clone(), error })?.file_name();
            let path = folder.join(&file);
            if file == FILE {
                let text = String::from_utf8(read(&file)?).map_err(|error| FolderError::Read {
                    path,
                    error: io::Error::new(io::ErrorKind::InvalidData, error),
                })?;
                secrets.readers = Readers::parse(&text)?;
            } else if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(SUFFIX)) {
                let name = name.parse().map_err(|error| FolderError::Name { path, error })?;
                secrets.sealed.insert(name, read(&file)?);
            }
        }
        let number = |found: fs::Metadata| (found.dev(), found.ino());
        let is_same =
            opened.metadata().is_ok_and(|read| fs::metadata(&folder).is_ok_and(|now| number(now) == number(read)));
        Ok((secrets, is_same))
    }

    /// The file of a secret, relative to the project.
    pub fn file(name: &SecretName) -> String {
        format!("{NAME}/{name}{SUFFIX}")
    }
}

impl Held {
    /// Waits until nobody else changes the secrets of this project.
    ///
    /// # Errors
    /// When the project's folder cannot be opened.
    pub fn wait(project: &Path) -> Result<Self, FolderError> {
        let read = |error| FolderError::Read { path: project.to_owned(), error };
        let lock = File::open(project).map_err(read)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| read(error.into()))?;
        Ok(Self { project: project.to_owned(), _lock: lock })
    }

    /// Makes the folder hold these readers, where they are given, and these values besides its others. Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`FolderError::Write`]: the folder is as it was.
    pub fn write(&self, readers: Option<&Readers>, sealed: &BTreeMap<SecretName, Vec<u8>>) -> Result<(), FolderError> {
        let folder = self.project.join(NAME);
        let failed = |error| FolderError::Write { path: folder.clone(), error };
        // A folder that is a link is changed where it is.
        let (place, exists) = match fs::canonicalize(&folder) {
            Ok(place) => (place, true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (folder.clone(), false),
            Err(error) => return Err(failed(error)),
        };
        let mut changed: BTreeMap<String, Vec<u8>> =
            sealed.iter().map(|(name, content)| (format!("{name}{SUFFIX}"), content.clone())).collect();
        if let Some(readers) = readers {
            changed.insert(FILE.to_owned(), readers.text().into_bytes());
        }
        exchange(&place, exists, &changed).map_err(failed)
    }
}

fn exchange(folder: &Path, exists: bool, changed: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let parent = folder.parent().ok_or_else(|| io::Error::other("it has no folder around it"))?;
    sweep(parent)?;
    let beside = tempfile::Builder::new().prefix(BESIDE).tempdir_in(parent)?;
    if exists {
        fs::set_permissions(beside.path(), fs::metadata(folder)?.permissions())?;
        link_all(folder, beside.path(), &|name| changed.contains_key(name))?;
    } else {
        fs::set_permissions(beside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    for (name, content) in changed {
        let mut file = File::create_new(beside.path().join(name))?;
        file.write_all(content)?;
        file.sync_all()?;
    }
    File::open(beside.path())?.sync_all()?;
    if exists {
        renameat_with(CWD, beside.path(), CWD, folder, RenameFlags::EXCHANGE)?;
        File::open(parent)?.sync_all()?;
        // What is there under the name of the new one is the old one.
        return beside.close();
    }
    // Nothing to exchange with: and nothing to remove.
    renameat_with(CWD, beside.path(), CWD, folder, RenameFlags::NOREPLACE)?;
    let _ = beside.keep();
    File::open(parent)?.sync_all()
}

/// Removes what a change that was cut off left.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(BESIDE)) && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Links all but what is named, folders and links too.
fn link_all(from: &Path, to: &Path, but: &dyn Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if entry.file_name().to_str().is_some_and(but) {
            continue;
        }
        if kind.is_dir() {
            fs::create_dir(&target)?;
            fs::set_permissions(&target, entry.metadata()?.permissions())?;
            link_all(&entry.path(), &target, &|_| false)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        text.parse().expect("a name")
    }

    fn write(project: &Path, names: &[&str], content: &str) {
        let sealed = names.iter().map(|text| (name(text), content.as_bytes().to_vec())).collect();
        Held::wait(project).expect("it is held").write(None, &sealed).expect("it is written");
    }

    #[test]
    fn a_change_keeps_the_rest_and_leaves_nothing_beside() {
        let project = tempfile::tempdir().expect("a folder");
        write(project.path(), &["a", "b"], "one");
        let folder = project.path().join(NAME);
        fs::create_dir(folder.join("notes")).expect("a folder");
        fs::write(folder.join("notes/read.me"), "mine").expect("a file");
        fs::create_dir(project.path().join(format!("{BESIDE}left"))).expect("a folder");
        write(project.path(), &["b", "c"], "two");
        let secrets = Secrets::load(project.path()).expect("it can be read");
        let found: Vec<(&str, &[u8])> = secrets.sealed.iter().map(|(name, text)| (name.as_str(), &text[..])).collect();
        assert_eq!(found, [("a", &b"one"[..]), ("b", b"two"), ("c", b"two")]);
        assert_eq!(fs::read(folder.join("notes/read.me")).expect("it is there"), b"mine");
        let left: Vec<_> =
            fs::read_dir(project.path()).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(left, [NAME]);
    }

    #[test]
    fn a_change_that_fails_leaves_all_as_it_was() {
        let project = tempfile::tempdir().expect("a folder");
        write(project.path(), &["a"], "one");
        // A name that cannot be written comes after one that can.
        let changed = BTreeMap::from([("a.age".to_owned(), b"two".to_vec()), ("b/c".to_owned(), b"two".to_vec())]);
        exchange(&project.path().join(NAME), true, &changed).expect_err("it cannot be written");
        let secrets = Secrets::load(project.path()).expect("it can be read");
        assert_eq!(secrets.sealed, BTreeMap::from([(name("a"), b"one".to_vec())]));
    }

    #[test]
    fn nobody_sees_half_of_a_change() {
        let project = tempfile::tempdir().expect("a folder");
        let names = ["a", "b", "c", "d"];
        write(project.path(), &names, "0");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 1..50 {
                    write(project.path(), &names, &round.to_string());
                }
            });
            while !writer.is_finished() {
                let secrets = Secrets::load(project.path()).expect("it is always there, and whole");
                let texts: Vec<&Vec<u8>> = secrets.sealed.values().collect();
                assert_eq!(texts.len(), names.len());
                assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
            }
        });
    }
}
