//! Debian packages as they were downloaded: `packages/<sha256>.deb`.
//!
//! A package has its name only when its bytes hash to it. What is in one is not this crate's business.

use crate::disk::{self, at};
use crate::object::BUFFER;
use crate::store::Store;
use rustix::fs::Mode;
use sha2::Digest;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use stead_model::hash::Sha256;
use stead_model::layout;

/// A package was not stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The content is another one; nothing was stored.
    #[error("expected the package {expected}, got {found}")]
    Altered {
        /// What was expected.
        expected: Sha256,
        /// What came, or as much of it as was read.
        found: Sha256,
    },
    /// The content cannot be read to its end; nothing was stored.
    #[error("the content of a package broke off")]
    Source(#[source] io::Error),
    /// It cannot be written.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl Store {
    /// Where the package is, or would be.
    pub fn package_path(&self, sha256: Sha256) -> PathBuf {
        self.place(layout::PACKAGES).join(format!("{sha256}.deb"))
    }

    /// Whether the package is here, with this size.
    pub fn has_package(&self, sha256: Sha256, size: u64) -> bool {
        fs::symlink_metadata(self.package_path(sha256)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Stores a package of this hash and size; refuses any other content.
    ///
    /// # Errors
    /// When the content is another one, or cannot be read or written; then nothing is stored.
    pub fn put_package(&self, sha256: Sha256, size: u64, content: &mut dyn Read) -> Result<(), Error> {
        self.write_begins()?;
        let mut file = self.temporary.file()?;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; BUFFER];
        let mut content = content.take(size.saturating_add(1));
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Source(error)),
            };
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(at("write", file.path()))?;
        }
        let found = Sha256::from_bytes(hasher.finalize().into());
        if found != sha256 {
            return Err(Error::Altered { expected: sha256, found });
        }
        rustix::fs::fchmod(file.as_file(), Mode::from_raw_mode(0o444))
            .map_err(at("change the mode of", file.path()))?;
        let path = self.package_path(sha256);
        file.persist(&path).map_err(|error| at("name", &path)(error.error))?;
        Ok(())
    }
}

/// The package that a file of `packages/` is, by its name.
pub(crate) fn by_name(name: &str) -> Option<Sha256> {
    name.strip_suffix(".deb")?.parse().ok()
}

/// The SHA-256 of a file.
pub(crate) fn digest(path: &Path) -> io::Result<Sha256> {
    let mut file = fs::File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256::from_bytes(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_stored_only_as_what_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let sha256 = Sha256::of(b"package");
        for wrong in [&b"packag3"[..], b"package and more", b"pack"] {
            assert!(matches!(store.put_package(sha256, 7, &mut { wrong }), Err(Error::Altered { .. })), "{wrong:?}");
        }
        assert!(!store.package_path(sha256).exists());
        store.put_package(sha256, 7, &mut &b"package"[..]).unwrap();
        assert!(store.has_package(sha256, 7) && !store.has_package(sha256, 8));
        assert_eq!(digest(&store.package_path(sha256)).unwrap(), sha256);
    }
}
