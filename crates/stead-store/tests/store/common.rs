//! What the tests of the store share: a store in a temporary folder, and things to put into it.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stead_model::generation::{Generation, RuntimeRecipe};
use stead_model::hash::{Hash, Sha256};
use stead_model::lock::LockedPackage;
use stead_model::tree::{Entry, Object, Tree};
use stead_store::{Guard, Kind, Store};
use tempfile::TempDir;

/// A store of its own, with its lock held.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) guard: Guard,
}

pub(crate) fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).unwrap();
    let guard = Store::lock(&folder.path().join("run/lock")).unwrap().unwrap();
    Place { folder, store, guard }
}

/// A tree of these entries, with its content stored: `("bin/x*", "content")` is executable,
/// `("link@", "target")` a link, `("empty/", "")` a folder.
pub(crate) fn tree(store: &Store, entries: &[(&str, &str)]) -> Tree {
    let entry = |(name, content): &(&str, &str)| {
        let executable = name.ends_with('*');
        let entry = match name.chars().last() {
            Some('@') => Entry::Link((*content).to_owned()),
            Some('/') => Entry::Folder,
            _ => Entry::File(store.put(executable, &mut content.as_bytes()).unwrap()),
        };
        (name.trim_end_matches(['*', '@', '/']).parse().unwrap(), entry)
    };
    Tree { entries: entries.iter().map(entry).collect() }
}

/// A recipe of these packages; whatever its tree is.
pub(crate) fn recipe(packages: &[Sha256]) -> RuntimeRecipe {
    let package = |sha256: &Sha256| LockedPackage {
        name: "nginx".parse().unwrap(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        size: 1,
        sha256: *sha256,
        path: "pool/x.deb".to_owned(),
        suite: "bookworm".to_owned(),
    };
    RuntimeRecipe {
        label: "test".to_owned(),
        rules: 1,
        packages: packages.iter().map(package).collect(),
        mount_folders: BTreeSet::new(),
        mount_files: BTreeSet::new(),
    }
}

/// A generation of these trees and runtimes, all realised.
pub(crate) fn generation(store: &Store, files: Tree, trees: &[Tree], runtimes: &[(RuntimeRecipe, Tree)]) -> Generation {
    let realise = |tree: &Tree| store.realise(Kind::Tree, &tree.id(), tree).unwrap();
    trees.iter().for_each(|tree| drop(realise(tree)));
    for (recipe, tree) in runtimes {
        store.realise(Kind::Runtime, &recipe.id(), tree).unwrap();
    }
    Generation {
        files,
        trees: trees.iter().map(|tree| (tree.id(), "input".to_owned())).collect(),
        runtimes: runtimes.iter().map(|(recipe, _)| (recipe.id(), recipe.clone())).collect(),
        ..Generation::empty("server".parse().unwrap())
    }
}

/// Any small tree that can be: names from few letters, so that trees share folders and content.
pub(crate) fn any_tree() -> impl Strategy<Value = Content> {
    let entry = prop_oneof![
        5 => ("[ab]{0,3}", any::<bool>()).prop_map(|(content, executable)| Made::File(content, executable)),
        1 => "[a-c]".prop_map(Made::Link),
        1 => Just(Made::Folder),
    ];
    proptest::collection::btree_map("[a-c](/[a-c]){0,3}", entry, 0..12).prop_map(|entries| {
        let mut content = Content::default();
        for (path, made) in entries {
            let is_below = |other: &String| path.starts_with(&format!("{other}/"));
            let above_is_folder = content.0.iter().all(|(other, made)| !is_below(other) || *made == Made::Folder);
            if above_is_folder {
                content.0.insert(path, made);
            }
        }
        content
    })
}

/// What a tree is to hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content(pub(crate) BTreeMap<String, Made>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Made {
    File(String, bool),
    Link(String),
    Folder,
}

impl Content {
    /// Stores the files and describes the tree.
    pub(crate) fn store(&self, store: &Store) -> Tree {
        let entry = |made: &Made| match made {
            Made::File(content, executable) => Entry::File(store.put(*executable, &mut content.as_bytes()).unwrap()),
            Made::Link(target) => Entry::Link(target.clone()),
            Made::Folder => Entry::Folder,
        };
        Tree { entries: self.0.iter().map(|(path, made)| (path.parse().unwrap(), entry(made))).collect() }
    }
}

/// Every object that is in the store now.
pub(crate) fn all_objects(trees: &[&Tree]) -> BTreeSet<(Hash, bool)> {
    trees.iter().flat_map(|tree| tree.objects()).map(|Object { hash, executable, .. }| (hash, executable)).collect()
}
