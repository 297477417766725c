//! Certificates and keys on disk: `certificates/<name>/live/{fullchain,key}.pem`.
//!
//! Promises that `live` is one link: a chain and its key are always replaced together, and a power cut leaves the old pair or the
//! new one, wholly; and that a changed byte is found ([`Certificates::look`]). [`Certificates::ensure`] promises that a pair is there that a web server loads. Only
//! the web server's user can read what it has to. Nothing is deleted that a person may miss: what is broken is kept aside.

use crate::check::{self, Details, Pem, Unfit};
use crate::disk::{self, TEMPORARY, at};
use crate::stand_in;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stead_model::name::Domain;

/// The link to the pair that web servers read, in a certificate's folder.
pub const LIVE: &str = "live";
/// The chain, the site's own certificate first.
pub const CHAIN: &str = "fullchain.pem";
/// The private key.
pub const KEY: &str = "key.pem";
/// Directives of nginx that turn on OCSP stapling; only where the certificate names a responder.
pub const OCSP: &str = "ocsp.conf";
/// A digest of the pair, by which damage is found that a certificate's own signature does not tell.
const DIGEST: &str = "digest";
/// Where what was broken is kept, in a certificate's folder.
pub const BROKEN: &str = "broken";

const STAPLING: &str = "ssl_stapling on;\nssl_stapling_verify off;\n";
/// What is in a file, if it is there.
type Bytes = Option<Vec<u8>>;

/// The live pair and the one before.
const KEPT: usize = 2;

/// The certificates of a server.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
    owner: Option<(u32, u32)>,
}

/// What is there for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// Something that a web server would not load, and why.
    Broken(String),
    /// A self-signed certificate of Stead's own.
    StandIn(Details),
    /// A certificate, which may have expired.
    Issued(Details),
}

/// What [`Certificates::ensure`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ensured {
    /// Nothing: what is there can be loaded.
    Kept,
    /// There was nothing; a stand-in is there now.
    Made,
    /// What was there is in `broken` now, and a stand-in in its place.
    Replaced {
        /// What was wrong.
        words: String,
    },
    /// What was there is in `broken` now, and the one before, which is still good, in its place.
    WentBack {
        /// What was wrong.
        words: String,
    },
}

/// A certificate could not be put in place. What was live still is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// A stand-in could not be made.
    #[error("cannot make a self-signed certificate for {name}")]
    StandIn {
        /// For what.
        name: Domain,
        /// Why.
        source: rcgen::Error,
    },
}

impl Certificates {
    /// The certificates below `root` ([`stead_model::layout::ACME`]), which is made. Keys will belong to `owner`, the
    /// user and group of the web server; without one, to who runs this.
    pub fn open(root: &Path, owner: Option<(u32, u32)>) -> Result<Self, disk::Error> {
        let folder = root.join("certificates");
        for folder in [root, &folder] {
            disk::make_folder(folder, 0o711)?;
        }
        Ok(Self { folder, owner })
    }

    /// The folder of a certificate: `live` and what is remembered of it are in there.
    pub fn folder(&self, name: &Domain) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// The names for which there is a folder, sorted.
    pub fn names(&self) -> Result<Vec<Domain>, disk::Error> {
        let read = || {
            fs::read_dir(&self.folder)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
        };
        let names = read().map_err(at("list", &self.folder))?;
        let mut names: Vec<Domain> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// What is live for a name. Does not write.
    pub fn look(&self, name: &Domain) -> Found {
        match self.pair(name) {
            Err(error) => Found::Broken(format!("{error}: {}", error.source)),
            Ok((None, None)) => Found::Missing,
            Ok((None, _)) => Found::Broken(format!("{CHAIN} is not there")),
            Ok((_, None)) => Found::Broken(format!("{KEY} is not there")),
            Ok((Some(chain), Some(key))) => match check::read(&chain, &key) {
                Ok(_) if !self.is_as_written(name, &chain, &key) => {
                    Found::Broken("the files were changed since they were written".to_owned())
                }
                Ok(details) if stand_in::is_stand_in(&details) => Found::StandIn(details),
                Ok(details) => Found::Issued(details),
                Err(unfit) => Found::Broken(unfit.to_string()),
            },
        }
    }

    /// The chain that is live, as PEM.
    pub fn chain(&self, name: &Domain) -> Result<Option<Vec<u8>>, disk::Error> {
        disk::read(&self.folder(name).join(LIVE).join(CHAIN))
    }

    /// Makes sure that a web server can load what is live: where it is broken, the one before is taken up again if it is still good;
    /// where there is none, a stand-in is put there. A stand-in that is
    /// not for all names is made anew. What an authority issued stays, expired or not.
    pub fn ensure(&self, name: &Domain, names: &[Domain]) -> Result<Ensured, Error> {
        let folder = self.make(name)?;
        let _lock = lock(&folder)?;
        let done = match self.look(name) {
            Found::Issued(_) => return Ok(Ensured::Kept),
            Found::StandIn(details) if details.covers(names) => return Ok(Ensured::Kept),
            Found::StandIn(_) | Found::Missing => Ensured::Made,
            Found::Broken(words) => match take_up_before(&folder, Some(names))? {
                true => return Ok(Ensured::WentBack { words }),
                false => Ensured::Replaced { words },
            },
        };
        let (chain, key) = stand_in::make(names).map_err(|source| Error::StandIn { name: name.clone(), source })?;
        let details = check::read(chain.as_bytes(), key.as_bytes())?;
        let is_broken = matches!(done, Ensured::Replaced { .. });
        self.publish(&folder, chain.as_bytes(), key.as_bytes(), &details, is_broken)?;
        Ok(done)
    }

    /// Puts a chain and its key in place, after [`check::check`]; both as PEM, which is written anew. What does not pass changes
    /// nothing.
    pub fn install(&self, name: &Domain, names: &[Domain], chain: &[u8], key: &[u8]) -> Result<Details, Error> {
        let details = check::check(chain, key, names, Timestamp::now())?;
        let Pem { chain, key } = Pem::new(chain, key)?;
        let folder = self.make(name)?;
        let _lock = lock(&folder)?;
        let is_broken = matches!(self.look(name), Found::Broken(_));
        self.publish(&folder, chain.as_bytes(), key.as_bytes(), &details, is_broken)?;
        Ok(details)
    }

    /// Makes the pair before the live one live again, and puts the live one aside: for a web server that does not load what passed
    /// the check. `false`, and nothing is done, where no pair is before it that can be loaded.
    pub fn go_back(&self, name: &Domain) -> Result<bool, Error> {
        let folder = self.make(name)?;
        let _lock = lock(&folder)?;
        take_up_before(&folder, None)
    }

    fn is_as_written(&self, name: &Domain, chain: &[u8], key: &[u8]) -> bool {
        let written = disk::read(&self.folder(name).join(LIVE).join(DIGEST));
        written.is_ok_and(|written| written.is_some_and(|written| written == digest(chain, key).as_bytes()))
    }

    /// The bytes that are live: the chain and the key.
    pub(crate) fn pair(&self, name: &Domain) -> Result<(Bytes, Bytes), disk::Error> {
        let live = self.folder(name).join(LIVE);
        Ok((disk::read(&live.join(CHAIN))?, disk::read(&live.join(KEY))?))
    }

    /// A certificate's folder, which is made.
    pub(crate) fn make(&self, name: &Domain) -> Result<PathBuf, disk::Error> {
        let folder = self.folder(name);
        if !folder.is_dir() {
            disk::make_folder(&folder, 0o711)?;
            disk::sync_folder(&self.folder)?;
        }
        Ok(folder)
    }

    fn publish(
        &self,
        folder: &Path,
        chain: &[u8],
        key: &[u8],
        details: &Details,
        is_broken: bool,
    ) -> Result<(), disk::Error> {
        let versions = versions(folder)?;
        let before = live_version(folder);
        let number = versions.last().copied().unwrap_or(0) + 1;
        self.write_version(folder, number, chain, key, details)?;
        let live = folder.join(LIVE);
        // A folder in the place of the link could not be replaced by one.
        if fs::symlink_metadata(&live).is_ok_and(|metadata| metadata.is_dir()) {
            put_aside(folder, &live)?;
        }
        point(&live, number)?;
        disk::sync_folder(folder)?;
        if is_broken && let Some(before) = before {
            put_aside(folder, &folder.join(before.to_string()))?;
        }
        // What cannot be removed now is removed the next time; the new pair is live.
        let _ = sweep(folder, number, before);
        Ok(())
    }

    /// A version is written under another name first: one with a number is complete.
    fn write_version(
        &self,
        folder: &Path,
        number: u64,
        chain: &[u8],
        key: &[u8],
        details: &Details,
    ) -> Result<(), disk::Error> {
        let temporary =
            tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder).map_err(at("write in", folder))?;
        let path = temporary.path();
        disk::write_new(&path.join(CHAIN), chain, self.owner)?;
        disk::write_new(&path.join(KEY), key, self.owner)?;
        disk::write_new(&path.join(DIGEST), digest(chain, key).as_bytes(), self.owner)?;
        if details.has_ocsp {
            disk::write_new(&path.join(OCSP), STAPLING.as_bytes(), self.owner)?;
        }
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(at("change the mode of", path))?;
        if let Some((user, group)) = self.owner {
            std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(at("give away", path))?;
        }
        disk::sync_folder(path)?;
        let place = folder.join(number.to_string());
        fs::rename(path, &place).map_err(at("make", &place))?;
        // It has another name now, and is not the temporary folder's to remove.
        let _ = temporary.keep();
        disk::sync_folder(folder)
    }
}

fn digest(chain: &[u8], key: &[u8]) -> String {
    let digest = Sha256::new().chain_update(chain).chain_update([0]).chain_update(key).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes `live` a link to a version, by rename.
fn point(live: &Path, number: u64) -> Result<(), disk::Error> {
    let temporary = live.with_file_name(format!("{TEMPORARY}{LIVE}"));
    let link = || {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(number.to_string(), &temporary)?;
        fs::rename(&temporary, live)
    };
    link().map_err(at("replace", live))
}

/// Keeps one broken version, the latest.
fn put_aside(folder: &Path, broken: &Path) -> Result<(), disk::Error> {
    let aside = folder.join(BROKEN);
    let move_there = || {
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match fs::rename(broken, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    };
    move_there().map_err(at("put aside", broken))
}

/// Makes the pair before the live one live, and puts the live one aside. `false`: there is none that can be loaded; where names are
/// given, none that is valid now and for all of them.
fn take_up_before(folder: &Path, names: Option<&[Domain]>) -> Result<bool, Error> {
    let Some(live) = live_version(folder) else { return Ok(false) };
    let Some(before) = versions(folder)?.into_iter().rfind(|number| *number < live) else { return Ok(false) };
    let read = |file| disk::read(&folder.join(before.to_string()).join(file));
    let (Some(chain), Some(key)) = (read(CHAIN)?, read(KEY)?) else { return Ok(false) };
    let Ok(details) = check::read(&chain, &key) else { return Ok(false) };
    let is_good =
        |names| details.covers(names) && details.not_after > Timestamp::now() && !stand_in::is_stand_in(&details);
    if !names.is_none_or(is_good) {
        return Ok(false);
    }
    point(&folder.join(LIVE), before)?;
    put_aside(folder, &folder.join(live.to_string()))?;
    disk::sync_folder(folder)?;
    Ok(true)
}

/// Removes what nobody needs: versions but for the live one and the one before, and what a crash left.
fn sweep(folder: &Path, live: u64, before: Option<u64>) -> Result<(), disk::Error> {
    let kept = [Some(live), before];
    for number in versions(folder)? {
        if !kept[..KEPT].contains(&Some(number)) {
            let path = folder.join(number.to_string());
            fs::remove_dir_all(&path).map_err(at("remove", &path))?;
        }
    }
    for entry in fs::read_dir(folder).map_err(at("list", folder))?.flatten() {
        // Files with such a name may be somebody's who is about to rename them.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(at("remove", &path))?;
        }
    }
    Ok(())
}

/// The numbers of the versions that are there, rising.
fn versions(folder: &Path) -> Result<Vec<u64>, disk::Error> {
    let entries = fs::read_dir(folder).map_err(at("list", folder))?;
    let mut found: Vec<u64> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

fn live_version(folder: &Path) -> Option<u64> {
    fs::read_link(folder.join(LIVE)).ok()?.to_str()?.parse().ok()
}

/// One at a time changes a certificate, in whatever process.
fn lock(folder: &Path) -> Result<File, disk::Error> {
    let lock = || {
        let file = File::open(folder)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(at("lock", folder))
}
