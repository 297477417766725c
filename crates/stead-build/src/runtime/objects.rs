//! Objects in a folder: whole files by their hash and execute bit, read-only.
//!
//! Promises that an object under its name has had its bytes when it was put there; it appears by
//! rename, whole. Safe for several threads and processes at once. Never removes anything.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use stead_debian::package::Objects;
use stead_model::hash::Hash;
use stead_model::tree::Object;
use tempfile::NamedTempFile;

/// Contents up to this size are hashed before anything is written.
const SMALL: usize = 1024 * 1024;

/// A folder of objects.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// What became of a link.
pub(super) enum Linked {
    /// The file is there.
    Whole,
    /// The object is not there, or not of its size.
    Damaged,
}

impl Folder {
    /// The objects below this folder, which has to exist when the first one is put.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn place(&self, object: Object) -> PathBuf {
        let name = object.hash.to_string();
        let (first, rest) = name.split_at(2);
        self.root.join(first).join(if object.executable { format!("{rest}.x") } else { rest.to_owned() })
    }

    fn has(&self, object: Object) -> bool {
        fs::metadata(self.place(object)).is_ok_and(|metadata| metadata.len() == object.size)
    }

    /// Makes `place` the object, as a hard link where the file system allows one more.
    pub(super) fn link(&self, object: Object, place: &Path) -> io::Result<Linked> {
        if !self.has(object) {
            return Ok(Linked::Damaged);
        }
        let from = self.place(object);
        match fs::hard_link(&from, place) {
            Err(error) if error.kind() == io::ErrorKind::TooManyLinks => fs::copy(&from, place).map(|_| ())?,
            linked => linked?,
        }
        Ok(Linked::Whole)
    }

    fn publish(&self, file: NamedTempFile, object: Object) -> io::Result<()> {
        let place = self.place(object);
        fs::create_dir_all(place.parent().unwrap_or(&self.root))?;
        let mode = if object.executable { 0o555 } else { 0o444 };
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().set_modified(UNIX_EPOCH + Duration::from_secs(crate::sandbox::EPOCH))?;
        file.persist(place)?;
        Ok(())
    }
}

impl Objects for Folder {
    fn put(&mut self, executable: bool, content: &mut dyn Read) -> io::Result<Object> {
        let mut start = Vec::new();
        content.take(SMALL as u64).read_to_end(&mut start)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&start);
        let mut object = Object { hash: digest(&hasher), size: start.len() as u64, executable };
        let small = start.len() < SMALL;
        if small && self.has(object) {
            return Ok(object);
        }
        let mut file = NamedTempFile::new_in(&self.root)?;
        file.write_all(&start)?;
        if !small {
            let mut buffer = vec![0; 128 * 1024];
            loop {
                let count = match content.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                hasher.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
                object.size += count as u64;
            }
            object.hash = digest(&hasher);
        }
        if !self.has(object) {
            self.publish(file, object)?;
        }
        Ok(object)
    }

    fn read(&self, object: Object) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.place(object))?;
        if Hash::of(&bytes) != object.hash {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the object was altered in the cache"));
        }
        Ok(bytes)
    }
}

fn digest(hasher: &blake3::Hasher) -> Hash {
    Hash::from_bytes(*hasher.finalize().as_bytes())
}

/// Writes a file of the cache so that nobody ever sees half of it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn an_object_is_read_back_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let mut objects = Folder::new(folder.path());
        for size in [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL] {
            let content: Vec<u8> = (0..size).map(|number| (number % 251) as u8).collect();
            let object = objects.put(false, &mut content.as_slice()).unwrap();
            assert_eq!(object, Object::of(&content));
            assert_eq!(objects.read(object).unwrap(), content);
        }
        assert!(
            fs::read_dir(folder.path()).unwrap().flatten().all(|entry| entry.path().is_dir()),
            "nothing is left over"
        );
    }

    #[test]
    fn the_execute_bit_makes_another_object() {
        let folder = tempfile::tempdir().unwrap();
        let mut objects = Folder::new(folder.path());
        let plain = objects.put(false, &mut b"x".as_slice()).unwrap();
        let program = objects.put(true, &mut b"x".as_slice()).unwrap();
        assert_ne!(objects.place(plain), objects.place(program));
        let mode = |object| fs::metadata(objects.place(object)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(plain), mode(program)), (0o444, 0o555));
    }

    #[test]
    fn an_altered_object_is_not_read_and_a_cut_one_is_put_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut objects = Folder::new(folder.path());
        let object = objects.put(false, &mut b"content".as_slice()).unwrap();
        let place = objects.place(object);
        fs::set_permissions(&place, Permissions::from_mode(0o644)).unwrap();
        fs::write(&place, "CONTENT").unwrap();
        assert!(objects.read(object).is_err());
        File::create(&place).unwrap();
        assert!(matches!(objects.link(object, &folder.path().join("link")), Ok(Linked::Damaged)));
        objects.put(false, &mut b"content".as_slice()).unwrap();
        assert_eq!(objects.read(object).unwrap(), b"content");
    }
}
