//! The mark "something here may not be on the disk yet".
//!
//! Objects get their names before they are synchronised, so a power cut can leave a torn file under
//! a good name. The mark is durable before the first such name, tells in which boot it was made, and
//! goes only after the file system was synchronised. Found in another boot, it means: look at
//! everything. A crash of the process alone loses nothing, so in the same boot it means nothing.

use crate::disk::{self, Error, at};
use crate::temporary::Temporary;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Changes with every boot (`random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The mark of one store.
#[derive(Debug)]
pub(crate) struct Unsynced {
    path: PathBuf,
    boot: String,
}

impl Unsynced {
    pub(crate) fn new(root: &Path) -> Result<Self, Error> {
        let boot = fs::read_to_string(BOOT_ID).map_err(at("read", BOOT_ID.as_ref()))?;
        Ok(Self { path: root.join("unsynced"), boot })
    }

    /// Sets the mark, durably. Cheap when it is set already.
    pub(crate) fn set(&self, temporary: &Temporary) -> Result<(), Error> {
        if self.is_set() {
            return Ok(());
        }
        let folder = self.path.parent().expect("the mark is in the store's folder");
        let mut file = temporary.file()?;
        file.write_all(self.boot.as_bytes()).map_err(at("write", file.path()))?;
        file.as_file().sync_all().map_err(at("synchronise", file.path()))?;
        file.persist(&self.path).map_err(|error| at("name", &self.path)(error.error))?;
        disk::sync_folder(folder)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.path.exists()
    }

    /// Takes the mark away. Everything has to be synchronised before.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        disk::remove(&self.path)
    }

    /// Calls `recover` when the mark is of another boot, then takes it away. Others who come at the
    /// same time wait until that is done.
    pub(crate) fn recovered<E: From<Error>>(&self, recover: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("open", &self.path)(error).into()),
        };
        let mut boot = String::new();
        file.read_to_string(&mut boot).map_err(at("read", &self.path))?;
        if boot == self.boot {
            return Ok(());
        }
        flock(&file, FlockOperation::LockExclusive).map_err(at("lock", &self.path))?;
        let still_of_another_boot = fs::read_to_string(&self.path).is_ok_and(|boot| boot != self.boot);
        if still_of_another_boot {
            recover()?;
            self.clear()?;
        }
        Ok(())
    }
}
