//! Trees and runtimes, from their descriptions to folders.
//!
//! Files are hard links to objects, made in a temporary folder that gets its name when it is whole.
//! Everything is the server's root's and read-only. A folder that has its name and its description is
//! never touched again; nothing is synchronised here, see [`Store::publish`].

use crate::audit::Audit;
use crate::description;
use crate::disk::{self, at};
use crate::object;
use crate::resolve::{self, Absolute};
use crate::stamp;
use crate::store::Store;
use crate::temporary::Folder;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Object, Tree};

pub use crate::resolve::Flaw;

/// The mode of every realised folder.
pub(crate) const FOLDER: u32 = 0o555;

/// What is realised. (A generation is published instead.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An input or a release: `trees/<id>`, the id being the tree's own. Absolute links are refused.
    Tree,
    /// A runtime: `runtimes/<id>`, the id being the recipe's. Some service's root, so absolute links stay in it.
    Runtime,
}

/// Something was not realised; nothing has its name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The description is another tree's.
    #[error("the description has the id {found}, not {id}")]
    Identity {
        /// What was asked for.
        id: Hash,
        /// What the description is.
        found: Hash,
    },
    /// The tree is not one that may be realised.
    #[error(transparent)]
    Flawed(#[from] Flaw),
    /// An object is not in the store.
    #[error("the object {} of `{path}` is not in the store", object.hash)]
    Missing {
        /// Where it belongs.
        path: RelativePath,
        /// The object.
        object: Object,
    },
    /// Its description cannot be kept.
    #[error(transparent)]
    Description(#[from] description::Error),
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl Kind {
    fn absolute(self) -> Absolute {
        match self {
            Kind::Tree => Absolute::Out,
            Kind::Runtime => Absolute::Within,
        }
    }

    /// The folder that holds all of this kind.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Kind::Tree => layout::TREES,
            Kind::Runtime => layout::RUNTIMES,
        }
    }
}

impl Store {
    /// Where a tree or runtime is, or would be.
    pub fn realised_path(&self, kind: Kind, id: &Hash) -> PathBuf {
        self.place(kind.folder()).join(id.to_string())
    }

    /// Whether it is here, whole.
    pub fn is_realised(&self, kind: Kind, id: &Hash) -> bool {
        // A folder gets its name with this mode, and loses the mode before anything of it is removed.
        let is_whole = |found: fs::Metadata| found.is_dir() && found.mode() & 0o7777 == FOLDER;
        self.description_path(kind, id).is_file()
            && fs::symlink_metadata(self.realised_path(kind, id)).is_ok_and(is_whole)
    }

    /// Makes the folder of a tree or runtime from its description and the objects, and keeps the
    /// description; tells where it is. When it is there, only files of a tree that somebody wrote into are
    /// put back (see [`Store::altered`]). Survives a power cut only once
    /// a generation is published.
    ///
    /// # Errors
    /// When the tree is not the one asked for or leads out of itself, an object is missing, or the
    /// file system refuses; then nothing has the name.
    pub fn realise(&self, kind: Kind, id: &Hash, tree: &Tree) -> Result<PathBuf, Error> {
        let hash = tree.id();
        if kind == Kind::Tree && hash != *id {
            return Err(Error::Identity { id: *id, found: hash });
        }
        let target = self.realised_path(kind, id);
        if self.is_realised(kind, id) {
            if kind == Kind::Tree {
                self.mend(&target, tree, id)?;
            }
            return Ok(target);
        }
        self.write_begins()?;
        if target.is_dir() {
            // A whole folder that lost its description keeps its place: it may be in use.
            if Audit::new(self).finds_sound(&target, tree, id) {
                self.write_description(&self.description_path(kind, id), hash, tree)?;
                return Ok(target);
            }
            disk::remove(&target)?;
        }
        let made = self.make(tree, kind.absolute(), id)?;
        self.seal(made.path(), id)?;
        self.write_description(&self.description_path(kind, id), hash, tree)?;
        made.persist(&target)?;
        Ok(target)
    }

    /// The first file of a realised tree that is not as it was written, as far as its size, mode and time tell;
    /// `None`: all are, or there is no such tree. Reads no content.
    pub fn altered(&self, id: &Hash) -> Option<PathBuf> {
        let tree = self.description(Kind::Tree, id).ok().flatten()?;
        let folder = self.realised_path(Kind::Tree, id);
        unsound(&folder, &tree).next().map(|(path, _)| folder.join(path.as_str()))
    }

    /// Puts back what [`Store::altered`] finds, each file by rename: whoever reads sees the old one or the right one.
    fn mend(&self, folder: &Path, tree: &Tree, id: &Hash) -> Result<(), Error> {
        for (path, object) in unsound(folder, tree) {
            let target = folder.join(path.as_str());
            let aside = self.temporary.folder()?;
            let fresh = aside.path().join("file");
            match fs::hard_link(self.object_path(object), &fresh) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::Missing { path: path.clone(), object });
                }
                linked => linked.map_err(at("make", &fresh))?,
            }
            fs::rename(&fresh, &target).map_err(at("put back", &target))?;
            self.seal(target.parent().unwrap_or(folder), id)?;
        }
        Ok(())
    }

    /// Removes a tree or runtime. Whatever a crash leaves of it does not count as one.
    pub(crate) fn remove_realised(&self, kind: Kind, id: &Hash) -> Result<(), disk::Error> {
        let path = self.realised_path(kind, id);
        if path.is_dir() {
            // Needs no room, unlike a new name: the disk may be full.
            let half = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&path, half).map_err(at("change the mode of", &path))?;
        }
        disk::remove(&self.description_path(kind, id))?;
        disk::remove(&path)
    }

    /// Makes a tree in a temporary folder. All but the folder itself is as it stays.
    pub(crate) fn make(&self, tree: &Tree, absolute: Absolute, id: &Hash) -> Result<Folder, Error> {
        let folders = resolve::folders(tree, absolute)?;
        let made = self.temporary.folder()?;
        let (root, objects) = (disk::open_folder(made.path())?, disk::open_folder(&self.place(layout::OBJECTS))?);
        let inside = |path: &Path| made.path().join(path);
        for path in &folders {
            rustix::fs::mkdirat(&root, *path, Mode::from_raw_mode(0o755))
                .map_err(|error| at("make", &inside(path.as_ref()))(error))?;
        }
        for (path, entry) in &tree.entries {
            match entry {
                Entry::Folder => {}
                Entry::Link(target) => rustix::fs::symlinkat(target.as_str(), &root, path.as_str())
                    .map_err(|error| at("make the link", &inside(path.as_ref()))(error))?,
                Entry::File(object) => {
                    let linked = rustix::fs::linkat(
                        &objects,
                        object::relative_path(*object),
                        &root,
                        path.as_str(),
                        AtFlags::empty(),
                    );
                    match linked {
                        Ok(()) => {}
                        Err(Errno::NOENT) => return Err(Error::Missing { path: path.clone(), object: *object }),
                        Err(Errno::MLINK) => self
                            .copy_object(*object, &root, path)
                            .map_err(|error| at("write", &inside(path.as_ref()))(error))?,
                        Err(error) => return Err(at("make", &inside(path.as_ref()))(error).into()),
                    }
                }
            }
        }
        for path in folders.iter().rev() {
            settle(&root, *path, id).map_err(|error| at("set the mode and time of", &inside(path.as_ref()))(error))?;
        }
        Ok(made)
    }

    /// Gives the folder itself its mode and time, the last thing before its name.
    pub(crate) fn seal(&self, folder: &Path, id: &Hash) -> Result<(), disk::Error> {
        settle(rustix::fs::CWD, folder, id).map_err(at("set the mode and time of", folder))
    }

    /// The way out when an object has as many links as the file system allows (65,000 on ext4).
    fn copy_object(&self, object: Object, root: &File, path: &RelativePath) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = File::from(rustix::fs::openat(root, path.as_str(), flags, Mode::from_raw_mode(0o600))?);
        io::copy(&mut self.open_object(object)?, &mut copy)?;
        Ok(object::settle(&copy, object)?)
    }
}

/// The files of a folder that are not as they were stored.
fn unsound<'a>(folder: &'a Path, tree: &'a Tree) -> impl Iterator<Item = (&'a RelativePath, Object)> {
    let is_sound = |path: &RelativePath, object| {
        fs::symlink_metadata(folder.join(path.as_str())).is_ok_and(|found| object::is_as_stored(&found, object))
    };
    tree.entries.iter().filter_map(move |(path, entry)| match entry {
        Entry::File(object) if !is_sound(path, *object) => Some((path, *object)),
        _ => None,
    })
}

fn settle(base: impl rustix::fd::AsFd, path: impl rustix::path::Arg + Copy, id: &Hash) -> Result<(), Errno> {
    rustix::fs::chmodat(&base, path, Mode::from_raw_mode(FOLDER), AtFlags::empty())?;
    rustix::fs::utimensat(&base, path, &stamp::timestamps(id), AtFlags::empty())
}
