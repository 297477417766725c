//! Descriptions of trees, kept beside what is realised from them.
//!
//! `descriptions/<tree>.json`, `runtime-<id>.json` (whose id is the recipe's) and
//! `package-<sha256>-<rules>.json` (the cache of unpacked packages). Each says the hash of its
//! tree, and is believed only if the tree has it. Nothing here touches the trees themselves.

use crate::disk::{self, at};
use crate::realise::Kind;
use crate::store::Store;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use stead_model::hash::{Hash, Sha256};
use stead_model::layout;
use stead_model::tree::Tree;

/// A description cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what was written.
    #[error("the description {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// The file's form, to be read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parsed {
    tree: Hash,
    entries: Tree,
}

/// The file's form, to be written.
#[derive(Serialize)]
struct Written<'a> {
    tree: Hash,
    entries: &'a Tree,
}

impl Store {
    /// Keeps the description of a tree; tells its id.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe(&self, tree: &Tree) -> Result<Hash, Error> {
        let id = tree.id();
        self.write_description(&self.description_path(Kind::Tree, &id), id, tree)?;
        Ok(id)
    }

    /// The description of a tree or runtime, verified; `None`: there is none.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn description(&self, kind: Kind, id: &Hash) -> Result<Option<Tree>, Error> {
        let path = self.description_path(kind, id);
        let Some((hash, tree)) = read(&path)? else { return Ok(None) };
        if kind == Kind::Tree && hash != *id {
            return Err(Error::Damaged { path, what: format!("it describes {hash}") });
        }
        Ok(Some(tree))
    }

    /// What these rules made of this package (`RuntimeRecipe::rules`), if that is remembered and every object of it is here.
    pub fn package_tree(&self, sha256: Sha256, rules: u32) -> Option<Tree> {
        // A damaged one is as good as none: the package is unpacked again.
        let (_, tree) = read(&self.package_tree_path(sha256, rules)).ok().flatten()?;
        let whole = tree.objects().all(|object| self.contains(object));
        whole.then_some(tree)
    }

    /// Remembers what these rules made of this package.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember_package_tree(&self, sha256: Sha256, rules: u32, tree: &Tree) -> Result<(), Error> {
        self.write_description(&self.package_tree_path(sha256, rules), tree.id(), tree)
    }

    /// Where the description is, or would be.
    pub(crate) fn description_path(&self, kind: Kind, id: &Hash) -> PathBuf {
        let prefix = match kind {
            Kind::Tree => "",
            Kind::Runtime => "runtime-",
        };
        self.place(layout::DESCRIPTIONS).join(format!("{prefix}{id}.json"))
    }

    pub(crate) fn write_description(&self, path: &Path, hash: Hash, tree: &Tree) -> Result<(), Error> {
        let bytes =
            serde_json::to_vec(&Written { tree: hash, entries: tree }).expect("the model's types always serialise");
        if fs::read(path).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
        self.write_begins()?;
        let mut file = self.temporary.file()?;
        file.write_all(&bytes).map_err(at("write", file.path()))?;
        rustix::fs::fchmod(file.as_file(), Mode::from_raw_mode(0o444))
            .map_err(at("change the mode of", file.path()))?;
        file.persist(path).map_err(|error| at("name", path)(error.error))?;
        Ok(())
    }

    fn package_tree_path(&self, sha256: Sha256, rules: u32) -> PathBuf {
        self.place(layout::DESCRIPTIONS).join(format!("package-{sha256}-{rules}.json"))
    }
}

/// What a file of `descriptions/` describes, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Realised(Kind, Hash),
    Package(Sha256, u32),
}

impl Subject {
    /// `None`: the file is none of ours.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".json")?;
        if let Some(id) = name.strip_prefix("runtime-") {
            return Some(Subject::Realised(Kind::Runtime, id.parse().ok()?));
        }
        if let Some((sha256, rules)) = name.strip_prefix("package-").and_then(|rest| rest.split_once('-')) {
            return Some(Subject::Package(sha256.parse().ok()?, rules.parse().ok()?));
        }
        Some(Subject::Realised(Kind::Tree, name.parse().ok()?))
    }
}

/// Reads a description and checks it against the hash in it; tells both.
pub(crate) fn read(path: &Path) -> Result<Option<(Hash, Tree)>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", path)(error).into()),
    };
    let damaged = |what: String| Error::Damaged { path: path.to_owned(), what };
    let described: Parsed = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if described.entries.id() != described.tree {
        return Err(damaged("its entries do not have its hash".to_owned()));
    }
    Ok(Some((described.tree, described.entries)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::tree::{Entry, Object};

    #[test]
    fn a_description_is_believed_only_if_it_has_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let tree = Tree { entries: [("a".parse().unwrap(), Entry::File(Object::of(b"1")))].into() };
        let id = store.describe(&tree).unwrap();
        assert_eq!(store.description(Kind::Tree, &id).unwrap(), Some(tree.clone()));
        assert_eq!(store.description(Kind::Runtime, &id).unwrap(), None);

        let path = store.description_path(Kind::Tree, &id);
        let altered = fs::read_to_string(&path).unwrap().replace("\"a\"", "\"b\"");
        fs::remove_file(&path).unwrap();
        fs::write(&path, altered).unwrap();
        assert!(matches!(store.description(Kind::Tree, &id), Err(Error::Damaged { .. })));
        store.describe(&tree).unwrap();
        assert_eq!(store.description(Kind::Tree, &id).unwrap(), Some(tree));
    }

    #[test]
    fn a_package_is_remembered_by_its_rules_and_only_while_its_objects_are_here() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let object = store.put(false, &mut &b"1"[..]).unwrap();
        let tree = Tree { entries: [("a".parse().unwrap(), Entry::File(object))].into() };
        let sha256 = Sha256::of(b"package");
        store.remember_package_tree(sha256, 1, &tree).unwrap();
        assert_eq!(store.package_tree(sha256, 1), Some(tree));
        assert_eq!(store.package_tree(sha256, 2), None);
        fs::remove_file(store.object_path(object)).unwrap();
        assert_eq!(store.package_tree(sha256, 1), None);
    }

    #[test]
    fn the_names_of_descriptions_tell_their_subjects() {
        let (hash, sha256) = (Hash::of(b""), Sha256::of(b""));
        assert_eq!(Subject::of(&format!("{hash}.json")), Some(Subject::Realised(Kind::Tree, hash)));
        assert_eq!(Subject::of(&format!("runtime-{hash}.json")), Some(Subject::Realised(Kind::Runtime, hash)));
        assert_eq!(Subject::of(&format!("package-{sha256}-3.json")), Some(Subject::Package(sha256, 3)));
        assert_eq!(Subject::of("notes.json"), None);
    }
}
