//! The index of a folder: which file had which hash when its stat was so.
//!
//! Like git's index (`index-format`, "racy git"). Promises never to answer for a file that may
//! have changed without its stat telling: a file last changed in the very clock tick in which the
//! look began, or later, is not remembered. Never fails: what it cannot read or write it forgets.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;
use stead_model::path::RelativePath;
use tempfile::NamedTempFile;

/// Another format is another file: it is forgotten and written anew.
const FORMAT: u32 = 1;

/// What changes when a file changes. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    #[serde(rename = "s")]
    pub(super) size: u64,
    #[serde(rename = "m")]
    modified: i64,
    #[serde(rename = "c")]
    changed: i64,
    #[serde(rename = "i")]
    inode: u64,
}

impl Stat {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    folder: PathBuf,
    files: HashMap<RelativePath, (Stat, Hash)>,
}

/// The index while a folder is looked at.
pub(super) struct Index {
    file: PathBuf,
    folder: PathBuf,
    /// The next index, made when the look began: its time is the file system's idea of that moment.
    next: Option<(NamedTempFile, i64)>,
    old: HashMap<RelativePath, (Stat, Hash)>,
    new: BTreeMap<RelativePath, (Stat, Hash)>,
}

impl Index {
    /// Reads the index in `file` if it is one of `folder`.
    pub(super) fn open(file: &Path, folder: &Path) -> Self {
        let old = fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok())
            .filter(|stored| stored.format == FORMAT && stored.folder == folder)
            .map(|stored| stored.files)
            .unwrap_or_default();
        let next = begin(file).ok();
        Self { file: file.to_owned(), folder: folder.to_owned(), next, old, new: BTreeMap::new() }
    }

    /// The hash of this file, if nothing has touched it since.
    pub(super) fn known(&self, path: &RelativePath, stat: Stat) -> Option<Hash> {
        self.old.get(path).filter(|(then, _)| *then == stat).map(|(_, hash)| *hash)
    }

    /// Remembers a file that was read.
    pub(super) fn learn(&mut self, path: &RelativePath, stat: Stat, hash: Hash) {
        self.new.insert(path.clone(), (stat, hash));
    }

    /// Writes what is known of the files that are still there, if that is news.
    pub(super) fn close<T>(mut self, present: &BTreeMap<RelativePath, T>) {
        let Some((next, began)) = self.next.take() else { return };
        let before = self.old.len();
        self.old.retain(|path, _| present.contains_key(path));
        let gone = before != self.old.len();
        let settled = self.new.into_iter().filter(|(_, (stat, _))| stat.changed < began && stat.modified < began);
        let mut news = false;
        for (path, known) in settled {
            self.old.insert(path, known);
            news = true;
        }
        if news || gone {
            let stored = Stored { format: FORMAT, folder: self.folder, files: self.old };
            // A cache that cannot be written is an empty cache.
            let _ = publish(next, &self.file, &stored);
        }
    }
}

fn begin(file: &Path) -> io::Result<(NamedTempFile, i64)> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let next = NamedTempFile::new_in(folder)?;
    let began = Stat::of(&next.as_file().metadata()?).modified;
    Ok((next, began))
}

fn publish(next: NamedTempFile, file: &Path, stored: &Stored) -> io::Result<()> {
    let mut out = io::BufWriter::new(next.as_file());
    serde_json::to_writer(&mut out, stored)?;
    out.flush()?;
    drop(out);
    next.persist(file)?;
    Ok(())
}
