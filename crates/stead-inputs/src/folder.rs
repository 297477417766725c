//! A folder of the operator's machine becomes a tree.
//!
//! Promises that the tree depends on names, contents, links and execute bits alone: the same on
//! every machine, whatever the times, owners or order of the files. Follows git's rules for what
//! stays out (`gitignore(5)`, without the user's own global excludes, which differ from machine to
//! machine); `.git` itself and `stead.lock` (it would contain its own hash) stay out too; hidden
//! files stay in. A second look at an unchanged folder reads no file. Never writes into the folder.

mod hashing;
mod index;

use crate::links;
use hashing::Job;
use ignore::{DirEntry, WalkBuilder};
use index::{Index, Stat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Object, Tree};

/// A folder as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its content.
    pub tree: Tree,
    /// Where the bytes of each file of the tree can be read.
    pub files: BTreeMap<RelativePath, PathBuf>,
    /// How many files had to be read; the others were known from the index.
    pub hashed: usize,
}

/// The tree of a source folder, by git's rules (see the header). Folders without files are left
/// out, as git does.
///
/// `index_file` remembers hashes between calls, like git's index; one that is missing, damaged or
/// cannot be written costs time, never correctness. Fails on what a tree cannot hold: sockets,
/// devices, names that are not UTF-8, links that lead out, and files that cannot be read.
pub fn snapshot(folder: &Path, index_file: Option<&Path>) -> Result<Snapshot, Error> {
    let root = open(folder)?;
    let in_repository = root.ancestors().any(|place| place.join(".git").exists());
    let mut walk = WalkBuilder::new(&root);
    walk.standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(in_repository)
        .parents(in_repository)
        .filter_entry(|entry| entry.depth() == 0 || (entry.file_name() != ".git" && entry.file_name() != "stead.lock"));
    take(&root, &walk, index_file, EmptyFolders::LeftOut)
}

/// The tree of everything in a folder, empty folders included: for what a build has made.
///
/// `index_file` and failures as for [`snapshot`].
pub fn snapshot_whole(folder: &Path, index_file: Option<&Path>) -> Result<Snapshot, Error> {
    let root = open(folder)?;
    let mut walk = WalkBuilder::new(&root);
    walk.standard_filters(false);
    take(&root, &walk, index_file, EmptyFolders::Kept)
}

/// Where the index of a folder is kept, below a cache folder that is used for nothing else.
pub fn index_file(cache: &Path, folder: &Path) -> PathBuf {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    cache.join(format!("{}.json", Hash::of(real.as_os_str().as_encoded_bytes())))
}

enum EmptyFolders {
    Kept,
    LeftOut,
}

fn open(folder: &Path) -> Result<PathBuf, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { folder: folder.to_owned() },
        _ => Error::Read { path: folder.to_owned(), source },
    };
    let root = folder.canonicalize().map_err(failed)?;
    if !fs::metadata(&root).map_err(failed)?.is_dir() {
        return Err(Error::NotAFolder { folder: folder.to_owned() });
    }
    Ok(root)
}

fn take(root: &Path, walk: &WalkBuilder, index_file: Option<&Path>, empty: EmptyFolders) -> Result<Snapshot, Error> {
    let mut index = index_file.map(|file| Index::open(file, root));
    let mut tree = Tree::default();
    let mut files = BTreeMap::new();
    let mut empty_folders = BTreeSet::new();
    let mut jobs = Vec::new();
    for entry in walk.build() {
        let entry = entry.map_err(|error| walk_failed(root, error))?;
        if entry.depth() == 0 {
            continue;
        }
        let path = relative(root, &entry)?;
        let metadata = entry.metadata().map_err(|error| walk_failed(entry.path(), error))?;
        let kind = metadata.file_type();
        if let Some(parent) = path.parent() {
            empty_folders.remove(&parent);
        }
        if kind.is_dir() {
            empty_folders.insert(path);
        } else if kind.is_symlink() {
            tree.entries.insert(path, Entry::Link(link(&entry)?));
        } else if kind.is_file() {
            let stat = Stat::of(&metadata);
            let executable = metadata.permissions().mode() & 0o111 != 0;
            match index.as_ref().and_then(|index| index.known(&path, stat)) {
                Some(hash) => {
                    let object = Object { hash, size: metadata.len(), executable };
                    tree.entries.insert(path.clone(), Entry::File(object));
                }
                None => jobs.push(Job { path: path.clone(), file: entry.path().to_owned(), executable }),
            }
            files.insert(path, entry.into_path());
        } else {
            let kind = if kind.is_socket() {
                "a socket"
            } else if kind.is_fifo() {
                "a pipe"
            } else {
                "a device"
            };
            return Err(Error::Special { path: entry.into_path(), kind });
        }
    }
    let hashed = jobs.len();
    for done in hashing::hash_all(jobs)? {
        if let Some(index) = &mut index {
            index.learn(&done.path, done.stat, done.object.hash);
        }
        tree.entries.insert(done.path, Entry::File(done.object));
    }
    if let EmptyFolders::Kept = empty {
        tree.entries.extend(empty_folders.into_iter().map(|path| (path, Entry::Folder)));
    }
    if let Some((path, target)) = links::escape(&tree) {
        return Err(Error::LeadsOut { path: root.join(path), target: target.to_owned() });
    }
    if let Some(index) = index {
        index.close(&files);
    }
    Ok(Snapshot { tree, files, hashed })
}

fn relative(root: &Path, entry: &DirEntry) -> Result<RelativePath, Error> {
    let refused = |reason| Error::Name { path: entry.path().to_owned(), reason };
    let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
    let text = utf8(below.as_os_str()).ok_or_else(|| refused("is not UTF-8"))?;
    text.parse().map_err(|_| refused("has a line break, or is too long"))
}

fn link(entry: &DirEntry) -> Result<String, Error> {
    let target = fs::read_link(entry.path()).map_err(|source| Error::Read { path: entry.path().to_owned(), source })?;
    let name = |reason| Error::Name { path: entry.path().to_owned(), reason };
    utf8(target.as_os_str()).map(str::to_owned).ok_or_else(|| name("is a link to a name that is not UTF-8"))
}

fn utf8(text: &OsStr) -> Option<&str> {
    text.to_str()
}

fn walk_failed(place: &Path, error: ignore::Error) -> Error {
    let path = match &error {
        ignore::Error::WithPath { path, .. } => path.clone(),
        ignore::Error::WithDepth { err, .. } => match err.as_ref() {
            ignore::Error::WithPath { path, .. } => path.clone(),
            _ => place.to_owned(),
        },
        _ => place.to_owned(),
    };
    let source = match error.io_error().and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error),
    };
    Error::Read { path, source }
}

/// A folder cannot become a tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at this path.
    #[error("there is no folder `{}`", folder.display())]
    Missing {
        /// The folder, as asked for.
        folder: PathBuf,
    },
    /// There is something else at this path.
    #[error("`{}` is not a folder", folder.display())]
    NotAFolder {
        /// The path, as asked for.
        folder: PathBuf,
    },
    /// A file or folder could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that no tree can hold.
    #[error("the name of `{}` {reason}: rename it, or let git ignore it", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong with the name.
        reason: &'static str,
    },
    /// Neither file, link nor folder.
    #[error("`{}` is {kind}, which cannot be deployed: remove it, or let git ignore it", path.display())]
    Special {
        /// The thing.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A link to something outside.
    #[error("the link `{}` leads out of its folder, to `{target}`: only what is inside is deployed", path.display())]
    LeadsOut {
        /// The link.
        path: PathBuf,
        /// Its text.
        target: String,
    },
    /// A file was written to whenever it was read.
    #[error("`{}` keeps changing while it is read", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
}
