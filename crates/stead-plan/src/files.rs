//! The generation's own small files, collected in memory.
//!
//! A path is written once. Nothing is put on a disk here.

use std::collections::BTreeMap;
use stead_model::hash::Hash;
use stead_model::name::UnitName;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Object, Tree};

/// Files and links by path, with what the files hold.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The tree that they make.
    pub(crate) tree: Tree,
    /// What the files hold, by hash.
    pub(crate) contents: BTreeMap<Hash, Vec<u8>>,
}

impl Files {
    /// Adds a regular file.
    pub(crate) fn add(&mut self, path: &str, text: String) {
        self.add_bytes(path, text.into_bytes());
    }

    /// Adds a regular file of any bytes.
    pub(crate) fn add_bytes(&mut self, path: &str, content: Vec<u8>) {
        let object = Object::of(&content);
        self.contents.insert(object.hash, content);
        self.insert(path, Entry::File(object));
    }

    /// Adds a unit, and the links by which targets start it.
    pub(crate) fn add_unit<'a>(&mut self, unit: &UnitName, text: String, wanted_by: impl IntoIterator<Item = &'a str>) {
        self.add(&format!("units/{unit}"), text);
        for target in wanted_by {
            self.insert(&format!("units/{target}.wants/{unit}"), Entry::Link(format!("../{unit}")));
        }
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path: RelativePath = path.parse().expect("file names are made of validated names");
        self.tree.entries.insert(path, entry);
    }
}
