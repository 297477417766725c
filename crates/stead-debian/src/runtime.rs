//! Packages become a runtime: one tree that can be the root of a service.
//!
//! Pure but for the objects that are put: the same packages and recipe make the same tree. Besides
//! the packages' files a runtime has what Debian's maintainer scripts and a running system would
//! have made and a service needs, the folders that every root has, and every place that a unit
//! mounts something on, so that nothing is ever written into it afterwards.

use crate::package::{Objects, layout};
use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use stead_model::generation::RuntimeRecipe;
use stead_model::lock::LockedPackage;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Tree};

/// Version of the rules by which packages become a tree: of this file, of [`crate::package`] and
/// of the lists there. Part of every runtime's identity; raise it with every change of the result.
pub const RULES: u32 = 2;

/// Folders that every runtime has, empty unless a package fills them.
const FOLDERS: [&str; 20] = [
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "usr/share",
    "var/cache",
    "var/lib",
    "var/log",
    "var/tmp",
];

/// Links that every runtime has.
const LINKS: [(&str, &str); 7] = [
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("usr/lib/os-release", "../../etc/os-release"),
    ("var/lock", "/run/lock"),
    ("var/run", "/run"),
];

/// Files that every runtime has unless a package brings them. The last four are there to mount on.
const FILES: [(&str, &str); 9] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
         www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\ndaemon:x:1:\nadm:x:4:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
    ("etc/os-release", "NAME=\"Stead runtime\"\nID=stead\nID_LIKE=debian\n"),
    ("etc/shells", "/bin/sh\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", ""),
    ("etc/localtime", ""),
    ("etc/machine-id", ""),
];

/// Files that a runtime has from the folder of names ([`stead_model::layout::NAMES`]), where its units bind that.
const NAMES: [&str; 2] = ["group", "passwd"];

/// Names that `update-alternatives` would have made: (link, program), by the first program that is there.
const ALTERNATIVES: [(&str, &str); 6] = [
    ("usr/bin/awk", "usr/bin/gawk"),
    ("usr/bin/awk", "usr/bin/mawk"),
    ("usr/bin/cc", "usr/bin/gcc"),
    ("usr/bin/c++", "usr/bin/g++"),
    ("usr/bin/nc", "usr/bin/nc.openbsd"),
    ("usr/bin/which", "usr/bin/which.debianutils"),
];

/// Where `ca-certificates` has the authorities, one a file.
const AUTHORITIES: &str = "usr/share/ca-certificates/";
/// The bundle that everybody reads.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where OpenSSL looks for it by default (`X509_get_default_cert_file(3)`).
const OPENSSL_BUNDLE: &str = "usr/lib/ssl/cert.pem";

/// The runtime of these packages, each with its tree, as the recipe wants it.
pub fn compose(
    packages: &[(LockedPackage, Tree)],
    recipe: &RuntimeRecipe,
    objects: &mut dyn Objects,
) -> Result<Tree, Error> {
    if recipe.rules != RULES {
        return Err(Error::Rules { wanted: recipe.rules });
    }
    let given: BTreeSet<_> = packages.iter().map(|(package, _)| package.sha256).collect();
    if let Some(missing) = recipe.packages.iter().find(|package| !given.contains(&package.sha256)) {
        return Err(Error::Missing { package: missing.name.to_string() });
    }
    let mut runtime = Composing { tree: Tree::default(), owners: BTreeMap::new() };
    let mut sorted: Vec<&(LockedPackage, Tree)> = packages.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    for (package, tree) in sorted {
        for (path, entry) in &tree.entries {
            runtime.add(package.name.as_str(), path, entry.clone())?;
        }
    }
    runtime.names(recipe);
    runtime.links_and_folders();
    runtime.made_files(objects)?;
    runtime.mounts(recipe, objects)?;
    layout::drop_implied_folders(&mut runtime.tree);
    runtime.check()?;
    Ok(runtime.tree)
}

struct Composing<'a> {
    tree: Tree,
    owners: BTreeMap<RelativePath, &'a str>,
}

/// A path of this file's lists.
fn known(path: &str) -> RelativePath {
    path.parse().expect("the lists have normal paths")
}

impl<'a> Composing<'a> {
    fn add(&mut self, package: &'a str, path: &RelativePath, entry: Entry) -> Result<(), Error> {
        match self.tree.entries.entry(path.clone()) {
            Place::Vacant(place) => {
                place.insert(entry);
                self.owners.insert(path.clone(), package);
            }
            Place::Occupied(place) if *place.get() == entry => {}
            Place::Occupied(_) => {
                return Err(Error::Collision {
                    path: path.clone(),
                    first: self.owner(path),
                    second: package.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn owner(&self, path: &RelativePath) -> String {
        self.owners.get(path).map_or_else(|| "Stead".to_owned(), ToString::to_string)
    }

    fn add_missing(&mut self, path: &str, entry: Entry) {
        self.tree.entries.entry(known(path)).or_insert(entry);
    }

    fn has(&self, path: &str) -> bool {
        self.tree.entries.contains_key(&known(path))
    }

    /// Who is who on the server, as it is at any moment: links to the folder of names. Without that folder
    /// a runtime has its own few ([`FILES`]).
    fn names(&mut self, recipe: &RuntimeRecipe) {
        let folder = stead_model::layout::NAMES;
        if recipe.mount_folders.iter().any(|mounted| folder.strip_prefix('/') == Some(mounted.as_str())) {
            for name in NAMES {
                self.tree.entries.insert(known(&format!("etc/{name}")), Entry::Link(format!("{folder}/{name}")));
            }
        }
    }

    fn links_and_folders(&mut self) {
        for folder in FOLDERS {
            self.add_missing(folder, Entry::Folder);
        }
        for (path, target) in LINKS {
            self.add_missing(path, Entry::Link(target.to_owned()));
        }
        for library in ["lib32", "libx32"] {
            let used = self.tree.entries.keys().any(|path| path.as_str().starts_with(&format!("usr/{library}/")));
            if used {
                self.add_missing(library, Entry::Link(format!("usr/{library}")));
            }
        }
        if self.has("usr/bin/dash") {
            self.add_missing("usr/bin/sh", Entry::Link("dash".to_owned()));
        }
        for (link, program) in ALTERNATIVES {
            if self.has(program) {
                let name = program.rsplit('/').next().unwrap_or(program);
                self.add_missing(link, Entry::Link(name.to_owned()));
            }
        }
    }

    fn made_files(&mut self, objects: &mut dyn Objects) -> Result<(), Error> {
        let mut authorities = Vec::new();
        for (path, entry) in &self.tree.entries {
            if let Entry::File(object) = entry
                && path.as_str().starts_with(AUTHORITIES)
                && path.as_str().ends_with(".crt")
            {
                let mut certificate =
                    objects.read(*object).map_err(|source| Error::Objects { path: path.clone(), source })?;
                if !certificate.ends_with(b"\n") {
                    certificate.push(b'\n');
                }
                authorities.append(&mut certificate);
            }
        }
        if !authorities.is_empty() {
            self.make(BUNDLE, &authorities, objects)?;
            self.add_missing(OPENSSL_BUNDLE, Entry::Link(format!("/{BUNDLE}")));
        }
        for (path, content) in FILES {
            self.make(path, content.as_bytes(), objects)?;
        }
        Ok(())
    }

    /// Adds a file of ours where no package has one.
    fn make(&mut self, path: &str, content: &[u8], objects: &mut dyn Objects) -> Result<(), Error> {
        let path = known(path);
        if !matches!(self.tree.entries.get(&path), None | Some(Entry::Folder)) {
            return Ok(());
        }
        let object =
            objects.put(false, &mut &*content).map_err(|source| Error::Objects { path: path.clone(), source })?;
        self.tree.entries.insert(path, Entry::File(object));
        Ok(())
    }

    fn mounts(&mut self, recipe: &RuntimeRecipe, objects: &mut dyn Objects) -> Result<(), Error> {
        let taken = |path: RelativePath| Error::Mount { path };
        for path in recipe.mount_folders.iter().map(layout::merged) {
            match self.tree.entries.entry(path.clone()) {
                Place::Vacant(place) => drop(place.insert(Entry::Folder)),
                Place::Occupied(place) if *place.get() == Entry::Folder => {}
                Place::Occupied(_) => return Err(taken(path)),
            }
        }
        for path in recipe.mount_files.iter().map(layout::merged) {
            let below = format!("{path}/");
            if self.tree.entries.keys().any(|other| other.as_str().starts_with(&below)) {
                return Err(taken(path));
            }
            match self.tree.entries.get(&path) {
                Some(Entry::File(_)) => {}
                // A mount follows a link; a file of its own is what was meant.
                None | Some(Entry::Link(_)) => {
                    let object = objects
                        .put(false, &mut io::empty())
                        .map_err(|source| Error::Objects { path: path.clone(), source })?;
                    self.tree.entries.insert(path, Entry::File(object));
                }
                Some(Entry::Folder) => return Err(taken(path)),
            }
        }
        Ok(())
    }

    /// That nothing lies below a file or a link.
    fn check(&self) -> Result<(), Error> {
        for path in self.tree.entries.keys() {
            if let Some(above) = layout::ancestors(path).find(|above| self.tree.entries.contains_key(above)) {
                return Err(Error::Collision {
                    path: path.clone(),
                    first: self.owner(&above),
                    second: self.owner(path),
                });
            }
        }
        Ok(())
    }
}

/// Why packages do not become a runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Made by rules that this program does not have.
    #[error("the runtime wants the rules {wanted} and this program has {RULES}")]
    Rules {
        /// The recipe's.
        wanted: u32,
    },
    /// A package of the recipe was not given.
    #[error("the package {package} of the runtime is missing")]
    Missing {
        /// The package.
        package: String,
    },
    /// Two packages want different things at one place.
    #[error("{first} and {second} do not agree about {path}")]
    Collision {
        /// The place.
        path: RelativePath,
        /// Who has it.
        first: String,
        /// Who wants it too.
        second: String,
    },
    /// A unit mounts on something else than it should.
    #[error("a unit mounts something on /{path}, where a package has something else")]
    Mount {
        /// The place.
        path: RelativePath,
    },
    /// A content cannot be kept or read.
    #[error("cannot keep or read {path}")]
    Objects {
        /// The file.
        path: RelativePath,
        /// Why.
        #[source]
        source: io::Error,
    },
}
