//! Compares what is on the disk with what it has to be, byte by byte.
//!
//! Each object's content is read once and its inode remembered; a file of a tree that is a hard link
//! to a sound object needs no reading. Reads in pieces, changes nothing, follows no link.

use crate::object::{self, BUFFER};
use crate::realise::FOLDER;
use crate::stamp;
use crate::store::Store;
use crate::verify::{Damage, What};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use stead_model::hash::Hash;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Object, Tree};

/// One look at a store.
pub(crate) struct Audit<'a> {
    store: &'a Store,
    owner: Option<(u32, u32)>,
    objects: HashMap<(Hash, bool), State>,
    /// What was found.
    pub(crate) damages: Vec<Damage>,
    /// Who wants to know how many bytes were read.
    pub(crate) seen: Option<&'a mut dyn FnMut(u64)>,
}

/// What is known of an object.
#[derive(Debug, Clone, Copy)]
struct State {
    inode: u64,
    sound: bool,
}

impl<'a> Audit<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        let owner = fs::metadata(&store.root).ok().map(|root| (root.uid(), root.gid()));
        Self { store, owner, objects: HashMap::new(), damages: Vec::new(), seen: None }
    }

    pub(crate) fn report(&mut self, path: &Path, what: What) {
        self.damages.push(Damage { path: path.to_owned(), what });
    }

    /// Whether a folder is exactly what its description says.
    pub(crate) fn finds_sound(mut self, folder: &Path, tree: &Tree, id: &Hash) -> bool {
        self.folder(folder, tree, id, &[]);
        self.damages.is_empty()
    }

    /// Looks at an object's file, once.
    pub(crate) fn object(&mut self, hash: Hash, executable: bool) -> Option<u64> {
        let state = match self.objects.get(&(hash, executable)) {
            Some(state) => *state,
            None => {
                let path = self.store.object_path(Object { hash, size: 0, executable });
                let before = self.damages.len();
                let inode = self.file(&path, hash, executable);
                let state = State { inode: inode.unwrap_or(0), sound: before == self.damages.len() };
                self.objects.insert((hash, executable), state);
                state
            }
        };
        state.sound.then_some(state.inode)
    }

    /// Looks at a file that has to have this content; tells its inode.
    fn file(&mut self, path: &Path, hash: Hash, executable: bool) -> Option<u64> {
        let metadata = self.kind(path, "a file", Metadata::is_file)?;
        self.mode(path, &metadata, object::mode(executable));
        if metadata.mtime() != stamp::modified(&hash) || metadata.mtime_nsec() != 0 {
            self.report(path, What::Time);
        }
        match digest(path) {
            Ok(found) if found == hash => {}
            Ok(_) => self.report(path, What::Altered),
            Err(error) => self.report(path, What::Unreadable(error.to_string())),
        }
        self.read(metadata.len());
        Some(metadata.ino())
    }

    pub(crate) fn read(&mut self, bytes: u64) {
        if let Some(seen) = &mut self.seen {
            seen(bytes);
        }
    }

    /// Looks at a realised folder. `besides`: names at its top that are not of the description.
    pub(crate) fn folder(&mut self, folder: &Path, tree: &Tree, id: &Hash, besides: &[&str]) {
        let folders = folders_of(tree);
        let mut seen: HashSet<&RelativePath> = HashSet::new();
        for found in walkdir::WalkDir::new(folder).follow_links(false).sort_by_file_name() {
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    self.report(error.path().unwrap_or(folder), What::Unreadable(error.to_string()));
                    continue;
                }
            };
            let inside = found.path().strip_prefix(folder).ok().and_then(Path::to_str);
            let path = match inside {
                Some("") => {
                    self.made_folder(folder, id);
                    continue;
                }
                Some(top) if besides.contains(&top) => continue,
                Some(text) => text.parse::<RelativePath>().ok(),
                None => None,
            };
            let expected = path.as_ref().and_then(|path| tree.entries.get_key_value(path));
            match (path.as_ref(), expected) {
                (_, Some((path, entry))) => {
                    seen.insert(path);
                    self.entry(found.path(), entry, id);
                }
                (Some(path), None) if folders.contains(path.as_str()) => self.made_folder(found.path(), id),
                _ => self.report(found.path(), What::Extra),
            }
        }
        for path in tree.entries.keys().filter(|path| !seen.contains(path)) {
            self.report(&folder.join(path), What::Missing);
        }
    }

    fn entry(&mut self, path: &Path, entry: &Entry, id: &Hash) {
        match entry {
            Entry::Folder => self.made_folder(path, id),
            Entry::Link(target) => {
                if self.kind(path, "a link", |found| found.file_type().is_symlink()).is_some()
                    && !fs::read_link(path).is_ok_and(|found| found.as_os_str() == target.as_str())
                {
                    self.report(path, What::Altered);
                }
            }
            Entry::File(object) => {
                let sound = self.object(object.hash, object.executable);
                let inode = fs::symlink_metadata(path).ok().map(|found| found.ino());
                if sound.is_none() || sound != inode {
                    self.file(path, object.hash, object.executable);
                }
            }
        }
    }

    fn made_folder(&mut self, path: &Path, id: &Hash) {
        if let Some(metadata) = self.kind(path, "a folder", Metadata::is_dir) {
            self.mode(path, &metadata, FOLDER);
            if metadata.mtime() != stamp::modified(id) || metadata.mtime_nsec() != 0 {
                self.report(path, What::Time);
            }
        }
    }

    fn kind(&mut self, path: &Path, expected: &'static str, is: impl Fn(&Metadata) -> bool) -> Option<Metadata> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if is(&metadata) => return Some(metadata),
            Ok(_) => self.report(path, What::Kind { expected }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.report(path, What::Missing),
            Err(error) => self.report(path, What::Unreadable(error.to_string())),
        }
        None
    }

    /// Looks at the mode and the owner.
    pub(crate) fn mode(&mut self, path: &Path, metadata: &Metadata, expected: u32) {
        let found = metadata.mode() & 0o7777;
        if found != expected {
            self.report(path, What::Mode { expected, found });
        }
        if self.owner.is_some_and(|owner| owner != (metadata.uid(), metadata.gid())) {
            self.report(path, What::Owner);
        }
    }
}

/// Every folder that follows from the paths of a tree.
fn folders_of(tree: &Tree) -> HashSet<&str> {
    let mut folders = HashSet::new();
    for path in tree.entries.keys() {
        let mut rest = path.as_str();
        while let Some((parent, _)) = rest.rsplit_once('/') {
            if !folders.insert(parent) {
                break;
            }
            rest = parent;
        }
    }
    folders
}

/// The BLAKE3 of a file.
fn digest(path: &Path) -> std::io::Result<Hash> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hash::from_bytes(*hasher.finalize().as_bytes())),
            count => {
                hasher.update(&buffer[..count]);
            }
        }
    }
}
