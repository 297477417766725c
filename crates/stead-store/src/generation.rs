//! Publishing generations, and reading them back.
//!
//! `generations/<id>/`: the generation's own files, and `generation.json`, the description that the
//! id is the hash of. A generation that has its name is whole and durable, and so is all that it needs.
//! Publishing makes nothing live; see [`crate::switch`].

use crate::disk::{self, at};
use crate::lock::Guard;
use crate::realise::{self, Kind};
use crate::resolve::Absolute;
use crate::store::Store;
use crate::verify::id_by_name;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stead_model::generation::{FORMAT, Generation};
use stead_model::hash::Hash;
use stead_model::layout;

/// The name of the description in a generation's folder.
pub const DESCRIPTION: &str = "generation.json";

/// A generation was not published; nothing has its name.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A tree or runtime that it needs was not realised before.
    #[error("it needs {}, which is not there", path.display())]
    Needs {
        /// Where it would be.
        path: PathBuf,
    },
    /// One of its files has the name of the description.
    #[error("a generation's own file cannot be called {DESCRIPTION}")]
    Reserved,
    /// Its files cannot be made.
    #[error("cannot make its files")]
    Files(#[from] realise::Error),
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// A generation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its description is not what was written.
    #[error("the description of generation {id} is damaged: {what}")]
    Damaged {
        /// The generation.
        id: Hash,
        /// In which way.
        what: String,
    },
    /// It was written by another version of this program.
    #[error("generation {id} has format {format}, and this program knows {FORMAT}")]
    Format {
        /// The generation.
        id: Hash,
        /// Its format.
        format: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl Store {
    /// Where a generation is, or would be.
    pub fn generation_path(&self, id: &Hash) -> PathBuf {
        self.place(layout::GENERATIONS).join(id.to_string())
    }

    /// Gives a generation its name, and tells where it is. Its trees and runtimes have to be realised.
    /// Synchronises the file system once. After this returns, the generation and all that it needs
    /// survive a power cut; before, a power cut leaves no generation of that name.
    ///
    /// # Errors
    /// When something that it needs is missing, or the file system refuses; then nothing has the name.
    pub fn publish(&self, _guard: &Guard, generation: &Generation) -> Result<PathBuf, PublishError> {
        let id = generation.id();
        let trees = generation.trees.keys().map(|id| (Kind::Tree, id));
        let runtimes = generation.runtimes.keys().map(|id| (Kind::Runtime, id));
        if let Some((kind, id)) = trees.chain(runtimes).find(|(kind, id)| !self.is_realised(*kind, id)) {
            return Err(PublishError::Needs { path: self.realised_path(kind, id) });
        }
        if generation.files.get(DESCRIPTION).is_some() {
            return Err(PublishError::Reserved);
        }
        let target = self.generation_path(&id);
        if self.generation(&id).is_ok_and(|found| found.is_some()) {
            // Published before; but a crash may have come between its name and its durability.
            if self.unsynced.is_set() {
                self.synchronise()?;
            }
            self.durable()?;
            return Ok(target);
        }
        self.write_begins()?;
        disk::remove(&target)?;
        let made = self.make(&generation.files, Absolute::Out, &id)?;
        write_description(&made.path().join(DESCRIPTION), generation)?;
        self.seal(made.path(), &id)?;
        self.synchronise()?;
        made.persist(&target)?;
        self.durable()?;
        Ok(target)
    }

    /// The generation of this id, verified against it; `None`: it is not here.
    ///
    /// # Errors
    /// When its description is damaged, of another format, or cannot be read.
    pub fn generation(&self, id: &Hash) -> Result<Option<Generation>, ReadError> {
        let path = self.generation_path(id).join(DESCRIPTION);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("read", &path)(error).into()),
        };
        let damaged = |what: String| ReadError::Damaged { id: *id, what };
        let generation: Generation = serde_json::from_slice(&bytes).map_err(|error| match format_of(&bytes) {
            Some(format) if format != u64::from(FORMAT) => ReadError::Format { id: *id, format },
            _ => damaged(error.to_string()),
        })?;
        if generation.id() != *id {
            return Err(damaged(format!("it is {}", generation.id())));
        }
        Ok(Some(generation))
    }

    /// The ids of all generations here, sorted, readable or not. One that is being removed does not count.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn generations(&self) -> Result<Vec<Hash>, disk::Error> {
        let mut ids = self.generation_folders()?;
        ids.retain(|id| self.generation_path(id).join(DESCRIPTION).is_file());
        Ok(ids)
    }

    /// The ids of all folders of generations, removed half-way or not.
    pub(crate) fn generation_folders(&self) -> Result<Vec<Hash>, disk::Error> {
        let names = disk::names(&self.place(layout::GENERATIONS))?;
        Ok(names.iter().filter_map(|name| id_by_name(name)).collect())
    }

    fn durable(&self) -> Result<(), disk::Error> {
        disk::sync_folder(&self.place(layout::GENERATIONS))?;
        self.unsynced.clear()
    }
}

fn format_of(bytes: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("format")?.as_u64()
}

fn write_description(path: &Path, generation: &Generation) -> Result<(), disk::Error> {
    let bytes = serde_json::to_vec(generation).expect("the model's types always serialise");
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(&bytes)?;
        file.set_permissions(fs::Permissions::from_mode(0o444))
    };
    write().map_err(at("write", path))
}
