//! Runtimes from packages: each package becomes a tree once, runtimes are composed of the trees.
//!
//! Streams: no package is held in memory. What was made of a package is remembered in the store, so
//! that a runtime that shares packages with an earlier one costs only its links.

use crate::stage::Error;
use std::io::{self, Read};
use stead_debian::{package, runtime};
use stead_model::generation::{Generation, RuntimeRecipe};
use stead_model::hash::Hash;
use stead_model::lock::LockedPackage;
use stead_model::tree::{Object, Tree};
use stead_store::{Kind, Store};

/// The store, as a place for the files of packages.
struct Shelf<'a>(&'a Store);

impl package::Objects for Shelf<'_> {
    fn put(&mut self, executable: bool, content: &mut dyn Read) -> io::Result<Object> {
        self.0.put(executable, content)
    }

    fn read(&self, object: Object) -> io::Result<Vec<u8>> {
        self.0.read_object(object)
    }
}

/// Makes every runtime of a generation that is not here yet. `tell` hears what is done, how much, of how much.
pub(crate) fn runtimes(
    store: &Store,
    generation: &Generation,
    tell: &mut dyn FnMut(&str, u64, u64),
) -> Result<(), Error> {
    let missing: Vec<(&Hash, &RuntimeRecipe)> =
        generation.runtimes.iter().filter(|(id, _)| !store.is_realised(Kind::Runtime, id)).collect();
    let total: u64 = missing.iter().flat_map(|(_, recipe)| &recipe.packages).map(|package| package.size).sum();
    let mut done = 0;
    for (id, recipe) in missing {
        if recipe.rules != runtime::RULES {
            return Err(Error::Rules { wanted: recipe.rules, known: runtime::RULES });
        }
        if recipe.id() != *id {
            return Err(Error::Recipe(*id));
        }
        let mut parts: Vec<(LockedPackage, Tree)> = Vec::new();
        for package in &recipe.packages {
            parts.push((package.clone(), package_tree(store, package)?));
            done += package.size;
            tell("unpacking packages", done, total);
        }
        let made = runtime::compose(&parts, recipe, &mut Shelf(store))
            .map_err(|error| Error::Runtime(recipe.label.clone(), Box::new(error)))?;
        store.realise(Kind::Runtime, id, &made).map_err(Error::store)?;
    }
    Ok(())
}

/// That each package is called what it calls itself, also where nothing had to be unpacked for it. A
/// package that the running generation has under the same name was compared before.
pub(crate) fn names(store: &Store, generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    let known = from.map(Generation::packages).unwrap_or_default();
    for (sha256, package) in generation.packages() {
        let path = store.package_path(sha256);
        if known.get(&sha256) == Some(&package) || !store.has_package(sha256, package.size) {
            continue;
        }
        package::control::compare(&path, package)
            .map_err(|error| Error::Package(package.name.to_string(), Box::new(error)))?;
    }
    Ok(())
}

fn package_tree(store: &Store, package: &LockedPackage) -> Result<Tree, Error> {
    if let Some(tree) = store.package_tree(package.sha256, runtime::RULES) {
        return Ok(tree);
    }
    let unpack = || -> Result<Tree, Box<dyn std::error::Error + Send + Sync>> {
        Ok(package::unpack_file(&store.package_path(package.sha256), package, &mut Shelf(store))?)
    };
    let tree = unpack().map_err(|error| Error::Package(package.name.to_string(), error))?;
    store.remember_package_tree(package.sha256, runtime::RULES, &tree).map_err(Error::store)?;
    Ok(tree)
}
