//! Garbage collection: marks what the kept generations need, and removes the rest.
//!
//! What is confirmed is kept whatever is asked. Nothing that a kept generation needs is ever removed:
//! when its needs cannot be known, nothing is removed at all. An interruption at any moment leaves a
//! sound store with more in it than necessary: a generation goes before its trees, and objects
//! go last; what is half removed does not count as there. What has no name of Stead's is left alone, and told by `verify`.

use crate::description::{self, Subject};
use crate::disk::{self, at};
use crate::generation;
use crate::lock::Guard;
use crate::package;
use crate::realise::Kind;
use crate::store::Store;
use crate::verify::id_by_name;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use stead_model::hash::{Hash, Sha256};
use stead_model::layout;
use stead_model::tree::Tree;

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Generations, sorted.
    pub generations: Vec<Hash>,
    /// Number of trees.
    pub trees: u64,
    /// Number of runtimes.
    pub runtimes: u64,
    /// Number of packages.
    pub packages: u64,
    /// Number of objects.
    pub objects: u64,
    /// Bytes in those packages and objects.
    pub bytes: u64,
}

/// Nothing, or not everything, was collected; what is needed is there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kept generation cannot be read, so what it needs is not known.
    #[error("cannot tell what generation {id} needs")]
    Generation {
        /// The generation.
        id: Hash,
        /// Why.
        #[source]
        source: generation::ReadError,
    },
    /// The description of something that is needed is damaged, so what it needs is not known.
    #[error("cannot tell what {} needs", path.display())]
    Description {
        /// The tree or runtime.
        path: PathBuf,
        /// Why.
        #[source]
        source: description::Error,
    },
    /// The description of something that is needed is missing.
    #[error("cannot tell what {} needs: its description is missing", path.display())]
    NoDescription {
        /// The tree or runtime.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// Everything that is needed.
#[derive(Debug, Default)]
struct Needs {
    generations: BTreeSet<Hash>,
    realised: HashSet<(Kind, Hash)>,
    packages: HashSet<Sha256>,
    package_trees: HashSet<(Sha256, u32)>,
    objects: HashSet<(Hash, bool)>,
}

impl Needs {
    fn objects_of(&mut self, tree: &Tree) {
        self.objects.extend(tree.objects().map(|object| (object.hash, object.executable)));
    }
}

impl Store {
    /// Removes everything that neither these generations nor the confirmed one need, and what dead
    /// processes left. `dry`: only tells. Kept generations that are not here need nothing.
    ///
    /// # Errors
    /// When it cannot be known what is needed (then nothing is removed), or something cannot be
    /// removed; call it again then.
    pub fn collect(&self, _guard: &Guard, keep: &BTreeSet<Hash>, dry: bool) -> Result<Collected, Error> {
        let mut keep = keep.clone();
        keep.extend(self.confirmed()?);
        let needs = self.needs(keep)?;
        let mut collected = Collected::default();
        self.sweep_generations(&needs, dry, &mut collected)?;
        collected.trees = self.sweep_realised(Kind::Tree, &needs, dry)?;
        collected.runtimes = self.sweep_realised(Kind::Runtime, &needs, dry)?;
        self.sweep_descriptions(&needs, dry)?;
        self.sweep_packages(&needs, dry, &mut collected)?;
        self.sweep_objects(&needs, dry, &mut collected)?;
        self.temporary.sweep(dry)?;
        Ok(collected)
    }

    fn needs(&self, keep: BTreeSet<Hash>) -> Result<Needs, Error> {
        let mut needs = Needs::default();
        for id in &keep {
            let found = self.generation(id).map_err(|source| Error::Generation { id: *id, source })?;
            let Some(generation) = found else { continue };
            needs.objects_of(&generation.files);
            needs.realised.extend(generation.trees.keys().map(|id| (Kind::Tree, *id)));
            needs.realised.extend(generation.runtimes.keys().map(|id| (Kind::Runtime, *id)));
            for recipe in generation.runtimes.values() {
                needs.packages.extend(recipe.packages.iter().map(|package| package.sha256));
                needs.package_trees.extend(recipe.packages.iter().map(|package| (package.sha256, recipe.rules)));
            }
        }
        needs.generations = keep;
        let realised: Vec<_> = needs.realised.iter().copied().collect();
        for (kind, id) in realised {
            let path = self.realised_path(kind, &id);
            match self.description(kind, &id) {
                Ok(Some(tree)) => needs.objects_of(&tree),
                Ok(None) => return Err(Error::NoDescription { path }),
                Err(source) => return Err(Error::Description { path, source }),
            }
        }
        // A remembered package is worth something only with its objects. One that is not whole is forgotten.
        let remembered = std::mem::take(&mut needs.package_trees);
        for (sha256, rules) in remembered {
            if let Some(tree) = self.package_tree(sha256, rules) {
                needs.objects_of(&tree);
                needs.package_trees.insert((sha256, rules));
            }
        }
        Ok(needs)
    }

    fn sweep_generations(&self, needs: &Needs, dry: bool, collected: &mut Collected) -> Result<(), Error> {
        for id in self.generation_folders()?.into_iter().filter(|id| !needs.generations.contains(id)) {
            collected.generations.push(id);
            if !dry {
                let path = self.generation_path(&id);
                disk::remove(&path.join(generation::DESCRIPTION))?;
                disk::remove(&path)?;
            }
        }
        Ok(())
    }

    fn sweep_realised(&self, kind: Kind, needs: &Needs, dry: bool) -> Result<u64, Error> {
        let mut swept = 0;
        for id in disk::names(&self.place(kind.folder()))?.iter().filter_map(|name| id_by_name(name)) {
            if !needs.realised.contains(&(kind, id)) {
                swept += 1;
                if !dry {
                    self.remove_realised(kind, &id)?;
                }
            }
        }
        Ok(swept)
    }

    fn sweep_descriptions(&self, needs: &Needs, dry: bool) -> Result<(), Error> {
        let folder = self.place(layout::DESCRIPTIONS);
        for name in disk::names(&folder)? {
            let needed = match name.to_str().and_then(Subject::of) {
                Some(Subject::Realised(kind, id)) => needs.realised.contains(&(kind, id)),
                Some(Subject::Package(sha256, rules)) => needs.package_trees.contains(&(sha256, rules)),
                None => true,
            };
            if !needed && !dry {
                disk::remove(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn sweep_packages(&self, needs: &Needs, dry: bool, collected: &mut Collected) -> Result<(), Error> {
        for name in disk::names(&self.place(layout::PACKAGES))? {
            let Some(sha256) = name.to_str().and_then(package::by_name) else { continue };
            if !needs.packages.contains(&sha256) {
                collected.packages += 1;
                collected.bytes += sweep_file(&self.package_path(sha256), dry)?;
            }
        }
        Ok(())
    }

    fn sweep_objects(&self, needs: &Needs, dry: bool, collected: &mut Collected) -> Result<(), Error> {
        for (hash, executable, path) in self.object_files()? {
            if !needs.objects.contains(&(hash, executable)) {
                collected.objects += 1;
                collected.bytes += sweep_file(&path, dry)?;
            }
        }
        Ok(())
    }
}

fn sweep_file(path: &Path, dry: bool) -> Result<u64, disk::Error> {
    let size = fs::symlink_metadata(path).map_err(at("look at", path))?.len();
    if !dry {
        disk::remove(path)?;
    }
    Ok(size)
}
