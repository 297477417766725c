//! Pinned packages become a folder of this machine, for builds to run in.
//!
//! Promises that a folder that is there is complete: it is made aside and renamed into its place.
//! Files are hard links to read-only objects, kept by content, so that ten runtimes with the same
//! libraries have them once. Needs no root. Never runs anything of a package.

mod objects;

use crate::builder;
pub use objects::Folder;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use stead_debian::package;
use stead_debian::{download, runtime as debian};
use stead_model::generation::RuntimeRecipe;
use stead_model::hash::Hash;
use stead_model::lock::LockedPackage;
use stead_model::name::{Name, PackageName};
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Tree};

/// The recipe of the runtime that an app is built in.
pub fn recipe(app: &Name, packages: &[LockedPackage]) -> RuntimeRecipe {
    let mut packages = packages.to_vec();
    packages.sort();
    RuntimeRecipe {
        label: format!("build of {app}"),
        rules: debian::RULES,
        packages,
        mount_folders: BTreeSet::new(),
        mount_files: BTreeSet::new(),
    }
}

/// Whether the runtime with this recipe is in the cache already.
pub fn is_here(cache: &Path, recipe: &RuntimeRecipe) -> bool {
    cache.join("runtimes").join(recipe.id().to_string()).is_dir()
}

/// The folder of the runtime with this recipe, below `cache`; made if it is not there yet.
///
/// `packages` is the folder of the downloads, with each package as `<sha256>.deb`. `unpacked` is
/// told each package as it is unpacked, from several threads; those of other runtimes already are.
pub fn materialise(
    cache: &Path,
    packages: &Path,
    recipe: &RuntimeRecipe,
    unpacked: &(dyn Fn(&PackageName) + Sync),
) -> Result<PathBuf, Error> {
    let place = cache.join("runtimes").join(recipe.id().to_string());
    if place.is_dir() {
        return Ok(place);
    }
    for folder in ["objects", "package-trees", "runtimes"] {
        let folder = cache.join(folder);
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    }
    let runtimes = Runtimes { cache, packages, recipe, unpacked, objects: Folder::new(cache.join("objects")) };
    // A cache that lost or cut an object is mended by unpacking again.
    match runtimes.make(Known::Used, &place) {
        Err(Error::Damaged { .. }) => runtimes.make(Known::Ignored, &place)?,
        made => made?,
    }
    Ok(place)
}

/// Whether trees of packages that were unpacked before are believed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Used,
    Ignored,
}

struct Runtimes<'a> {
    cache: &'a Path,
    packages: &'a Path,
    recipe: &'a RuntimeRecipe,
    unpacked: &'a (dyn Fn(&PackageName) + Sync),
    objects: Folder,
}

impl Runtimes<'_> {
    fn make(&self, known: Known, place: &Path) -> Result<(), Error> {
        let trees = self.trees(known)?;
        let mut objects = self.objects.clone();
        let tree = debian::compose(&trees, self.recipe, &mut objects)
            .map_err(|source| Error::Compose { source: Box::new(source) })?;
        let parent = self.cache.join("runtimes");
        let next = tempfile::Builder::new().prefix(".new-").tempdir_in(&parent).map_err(failed("make", &parent))?;
        let root = next.path().join("root");
        self.realise(&tree, &root)?;
        match fs::rename(&root, place) {
            // Somebody else was quicker, with the same.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                Ok(())
            }
            renamed => renamed.map_err(failed("publish", place)),
        }
    }

    /// The tree of each package, unpacked by as many threads as there are cores.
    fn trees(&self, known: Known) -> Result<Vec<(LockedPackage, Tree)>, Error> {
        let all = &self.recipe.packages;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(all.len().max(1));
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(all.len())));
        let keep = |place: usize, tree: Result<Tree, Error>| {
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, tree));
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((place, package)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, all.get(at)?)))
                    {
                        keep(place, self.tree(package, known));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(place, tree)| Ok((all[place].clone(), tree?))).collect()
    }

    fn tree(&self, package: &LockedPackage, known: Known) -> Result<Tree, Error> {
        let file = self.cache.join("package-trees").join(format!("{}-{}.json", package.sha256, debian::RULES));
        let before = || serde_json::from_slice(&fs::read(&file).ok()?).ok();
        if let Some(tree) = before().filter(|_| known == Known::Used) {
            return Ok(tree);
        }
        let mut objects = self.objects.clone();
        let deb = download::file(self.packages, package);
        let tree = package::unpack_file(&deb, package, &mut objects)
            .map_err(|source| Error::Unpack { package: package.name.clone(), source: Box::new(source) })?;
        let json = serde_json::to_vec(&tree).expect("the model's types always serialise");
        objects::replace(&file, &json).map_err(failed("write", &file))?;
        (self.unpacked)(&package.name);
        Ok(tree)
    }

    fn realise(&self, tree: &Tree, root: &Path) -> Result<(), Error> {
        fs::create_dir(root).map_err(failed("make", root))?;
        let mut made = HashSet::new();
        for (path, entry) in &tree.entries {
            if let Some(parent) = path.parent() {
                folders(root, &parent, &mut made)?;
            }
            let place = root.join(path);
            match entry {
                Entry::Folder => folders(root, path, &mut made)?,
                Entry::Link(target) => symlink(target, &place).map_err(failed("make", &place))?,
                Entry::File(object) => match self.objects.link(*object, &place).map_err(failed("make", &place))? {
                    objects::Linked::Whole => {}
                    objects::Linked::Damaged => return Err(Error::Damaged { object: object.hash }),
                },
            }
        }
        Ok(())
    }
}

/// Makes a folder and those above it, each once, without following links.
fn folders(root: &Path, path: &RelativePath, made: &mut HashSet<RelativePath>) -> Result<(), Error> {
    if made.contains(path) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        folders(root, &parent, made)?;
    }
    let place = root.join(path);
    fs::create_dir(&place).map_err(failed("make", &place))?;
    made.insert(path.clone());
    Ok(())
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::File(Box::new(builder::failed(verb, path)(source)))
}

/// There is no such folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A package is not there, or cannot be unpacked.
    #[error("cannot unpack the package `{package}` for a build")]
    Unpack {
        /// The package.
        package: PackageName,
        /// Why.
        source: Box<package::Error>,
    },
    /// The packages do not go together.
    #[error("the packages of a build do not make a file system")]
    Compose {
        /// Why.
        source: Box<debian::Error>,
    },
    /// An object of the cache is gone or cut, also after it was unpacked again.
    #[error("the cache has lost the object {object}")]
    Damaged {
        /// The object.
        object: Hash,
    },
    /// A file or folder of the cache could not be used.
    #[error(transparent)]
    File(Box<builder::Error>),
}
