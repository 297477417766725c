//! A tree: an immutable folder, described by its entries.
//!
//! The description is what is hashed, sent and verified; the files themselves are objects. A tree
//! has no owners, times or modes beyond "executable": everything is realised as root's, read-only.
//! Folders are entries only when they are empty (mount points); the others follow from the paths.

use crate::hash::Hash;
use crate::path::RelativePath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Entries by path, sorted. Its identity is [`Tree::id`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree {
    /// Every file and link, and every folder that would otherwise not exist.
    pub entries: BTreeMap<RelativePath, Entry>,
}

/// One place in a tree. Serialised tersely, because trees of 10,000 files are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A regular file: the object with this content.
    #[serde(rename = "f")]
    File(Object),
    /// A symbolic link with this target, kept as it is written. A realiser refuses targets that lead out of the tree.
    #[serde(rename = "l")]
    Link(String),
    /// A folder with nothing in it.
    #[serde(rename = "d")]
    Folder,
}

/// What a file holds: its bytes and whether it may be executed. The unit of storage and transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// BLAKE3 of the bytes.
    #[serde(rename = "h")]
    pub hash: Hash,
    /// Number of bytes.
    #[serde(rename = "s")]
    pub size: u64,
    /// Whether the execute bits are set.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Tree {
    /// The tree's identity: the hash of its canonical description.
    pub fn id(&self) -> Hash {
        Hash::of_value("stead tree 1", self)
    }

    /// Every object that the tree refers to, in path order, repeats included.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        self.entries.values().filter_map(|entry| match entry {
            Entry::File(object) => Some(*object),
            Entry::Link(_) | Entry::Folder => None,
        })
    }

    /// Bytes in all files together.
    pub fn size(&self) -> u64 {
        self.objects().map(|object| object.size).sum()
    }

    /// The entry at this path, if the tree has one there. Does not follow links.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        path.parse::<RelativePath>().ok().and_then(|path| self.entries.get(&path))
    }
}

impl Object {
    /// The non-executable object with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: Hash::of(bytes), size: bytes.len() as u64, executable: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_depends_on_content_path_and_executable_bit() {
        let tree = |path: &str, bytes: &[u8], executable| {
            let object = Object { executable, ..Object::of(bytes) };
            Tree { entries: [(path.parse().unwrap(), Entry::File(object))].into() }.id()
        };
        let base = tree("a", b"1", false);
        assert_ne!(base, tree("b", b"1", false));
        assert_ne!(base, tree("a", b"2", false));
        assert_ne!(base, tree("a", b"1", true));
        assert_eq!(base, tree("a", b"1", false));
    }
}
