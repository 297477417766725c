//! Objects: whole files by the BLAKE3 of their bytes and their executable bit.
//!
//! `objects/ab/cdef…`, with `.x` for executable ones; mode 0444 or 0555, time from the hash. A file
//! has its name only when all its bytes are there and hash to it. Never changes a file that has a name.

use crate::disk::{self, at};
use crate::stamp;
use crate::store::Store;
use rustix::fs::Mode;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::tree::Object;

/// Bytes that are read at a time.
pub(crate) const BUFFER: usize = 64 * 1024;

/// An object was not stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The content is another one; nothing was stored.
    #[error("expected object {} of {} bytes, got {} of {} bytes", expected.hash, expected.size, found.hash, found.size)]
    Altered {
        /// What was expected.
        expected: Object,
        /// What came.
        found: Object,
    },
    /// The content cannot be read to its end; nothing was stored.
    #[error("the content of an object broke off")]
    Source(#[source] io::Error),
    /// It cannot be written.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl From<Error> for io::Error {
    /// Keeps the kind: `StorageFull` for a full disk, `InvalidData` for other content.
    fn from(error: Error) -> Self {
        match error {
            Error::Disk(error) => error.into(),
            Error::Source(error) => error,
            Error::Altered { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

impl Store {
    /// Whether the object is here, with the size, mode and time that it was stored with. One that somebody
    /// wrote into has another time, and counts as not here; its bytes are read by [`Store::verify`] only.
    pub fn contains(&self, object: Object) -> bool {
        fs::symlink_metadata(self.object_path(object)).is_ok_and(|found| is_as_stored(&found, object))
    }

    /// Those of these objects that are not here: sorted, each once.
    pub fn missing(&self, objects: impl Iterator<Item = Object>) -> Vec<Object> {
        let wanted: BTreeSet<Object> = objects.collect();
        wanted.into_iter().filter(|object| !self.contains(*object)).collect()
    }

    /// Stores this content, and tells what it is. It survives a power cut only once a generation is
    /// published. Whoever stores holds the server's lock, or a collection may take the object again.
    ///
    /// # Errors
    /// When the content cannot be read or written (`StorageFull`: the disk is full); then nothing is stored.
    pub fn put(&self, executable: bool, content: &mut dyn Read) -> io::Result<Object> {
        Ok(self.write_object(executable, content, None)?)
    }

    /// Stores this object's content, as [`Store::put`] does, and refuses any other. Reads the content
    /// to its end, or one byte past the object's size.
    ///
    /// # Errors
    /// When the content is another one, or cannot be read or written; then nothing is stored.
    pub fn put_expected(&self, object: Object, content: &mut dyn Read) -> Result<(), Error> {
        // More than one byte too many is not worth reading, or the room on the disk.
        let mut bounded = content.take(object.size.saturating_add(1));
        self.write_object(object.executable, &mut bounded, Some(object)).map(drop)
    }

    /// The object's content, to be read.
    ///
    /// # Errors
    /// When it is not here.
    pub fn open_object(&self, object: Object) -> io::Result<File> {
        let path = self.object_path(object);
        File::open(&path).map_err(|error| at("open", &path)(error).into())
    }

    /// The object's content, in memory; not verified.
    ///
    /// # Errors
    /// When it is not here or cannot be read.
    pub fn read_object(&self, object: Object) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(object.size).unwrap_or(0).min(1 << 26));
        self.open_object(object)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Where the object is, or would be.
    pub fn object_path(&self, object: Object) -> PathBuf {
        self.place(layout::OBJECTS).join(relative_path(object))
    }

    fn write_object(
        &self,
        executable: bool,
        content: &mut dyn Read,
        expected: Option<Object>,
    ) -> Result<Object, Error> {
        self.write_begins()?;
        let file = self.temporary.file()?;
        let (hash, size) = copy(content, file.as_file(), file.path())?;
        let object = Object { hash, size, executable };
        if let Some(expected) = expected.filter(|expected| *expected != object) {
            return Err(Error::Altered { expected, found: object });
        }
        if self.contains(object) {
            return Ok(object);
        }
        settle(file.as_file(), object).map_err(at("set the mode and time of", file.path()))?;
        let path = self.object_path(object);
        if let Some(folder) = path.parent() {
            disk::make_folder(folder, 0o755)?;
        }
        file.persist(&path).map_err(|error| at("name", &path)(error.error))?;
        Ok(object)
    }
}

/// The object's place below `objects/`.
pub(crate) fn relative_path(object: Object) -> String {
    let name = object.hash.to_string();
    let suffix = if object.executable { ".x" } else { "" };
    format!("{}/{}{suffix}", &name[..2], &name[2..])
}

/// Whether a file, of the store or of a tree, is as it was stored, as far as that can be told without reading it.
pub(crate) fn is_as_stored(found: &fs::Metadata, object: Object) -> bool {
    found.is_file()
        && found.len() == object.size
        && found.mode() & 0o7777 == mode(object.executable)
        && (found.mtime(), found.mtime_nsec()) == (stamp::modified(&object.hash), 0)
}

/// The mode of an object's file.
pub(crate) fn mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

/// Gives the file of an object its mode and time.
pub(crate) fn settle(file: &File, object: Object) -> Result<(), rustix::io::Errno> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode(object.executable)))?;
    rustix::fs::futimens(file, &stamp::timestamps(&object.hash))
}

fn copy(content: &mut dyn Read, mut file: &File, path: &Path) -> Result<(Hash, u64), Error> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok((Hash::from_bytes(*hasher.finalize().as_bytes()), hasher.count())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Source(error)),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(at("write", path))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn files_below(path: &Path) -> usize {
        walkdir::WalkDir::new(path).into_iter().flatten().filter(|entry| entry.file_type().is_file()).count()
    }

    #[test]
    fn an_object_reads_back_and_is_stored_once() {
        let (_folder, store) = store();
        let object = store.put(false, &mut &b"hello"[..]).unwrap();
        assert_eq!(object, Object::of(b"hello"));
        assert_eq!(store.put(false, &mut &b"hello"[..]).unwrap(), object);
        assert_eq!(store.read_object(object).unwrap(), b"hello");
        assert_eq!(files_below(&store.place(layout::OBJECTS)), 1);
        let metadata = fs::metadata(store.object_path(object)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o444, stamp::modified(&object.hash)));
    }

    #[test]
    fn the_executable_and_the_plain_file_of_one_content_are_two_objects() {
        let (_folder, store) = store();
        let plain = store.put(false, &mut &b"#!/bin/sh"[..]).unwrap();
        assert!(!store.contains(Object { executable: true, ..plain }));
        let executable = store.put(true, &mut &b"#!/bin/sh"[..]).unwrap();
        assert_eq!(fs::metadata(store.object_path(executable)).unwrap().mode() & 0o7777, 0o555);
        assert_eq!(store.missing([plain, executable].into_iter()), []);
    }

    #[test]
    fn altered_longer_shorter_or_broken_content_is_refused_and_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let (_folder, store) = store();
        let object = Object::of(b"content");
        for wrong in [&b"c0ntent"[..], b"content and more", b"conten", b""] {
            assert!(matches!(store.put_expected(object, &mut { wrong }), Err(Error::Altered { .. })), "{wrong:?}");
        }
        assert!(matches!(store.put_expected(object, &mut (&b"con"[..]).chain(Broken)), Err(Error::Source(_))));
        assert!(!store.contains(object));
        assert_eq!(files_below(&store.place(layout::OBJECTS)) + files_below(&store.place(layout::TEMPORARY)), 0);
        store.put_expected(object, &mut &b"content"[..]).unwrap();
        assert!(store.contains(object));
    }

    #[test]
    fn a_cut_off_object_does_not_count_and_is_replaced() {
        let (_folder, store) = store();
        let object = store.put(false, &mut &b"whole"[..]).unwrap();
        fs::remove_file(store.object_path(object)).unwrap();
        fs::write(store.object_path(object), "who").unwrap();
        assert_eq!(store.missing([object, object].into_iter()), [object]);
        store.put_expected(object, &mut &b"whole"[..]).unwrap();
        assert_eq!(store.read_object(object).unwrap(), b"whole");
    }

    #[test]
    fn files_of_one_size_with_different_content_never_share_a_time_and_size() {
        let (_folder, store) = store();
        let mut seen = BTreeSet::new();
        for number in 0..200 {
            let object = store.put(false, &mut format!("{number:08}").as_bytes()).unwrap();
            let metadata = fs::metadata(store.object_path(object)).unwrap();
            assert!(seen.insert((metadata.mtime(), metadata.len())), "{number} shares its ETag with another");
        }
    }
}
