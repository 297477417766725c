//! Accounts at authorities: one for each directory and e-mail address, made once and kept.
//!
//! Promises that threads and processes that need the same account at once make one. Keys are readable by who runs this only.
//! What cannot be read is put aside and made anew: an account holds nothing that a new one does not.

use super::client::{self, Http, again};
use super::refused::{Asked, Refused, refused};
use crate::disk::{self, at};
use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Between looks whether the lock is free: the time has to be watched meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
use stead_model::certificate::Authority;

/// The accounts of a server.
#[derive(Debug, Clone)]
pub struct Accounts {
    folder: PathBuf,
}

/// An account, and the bytes that it was read from: they tell whether it was replaced meanwhile.
pub(super) struct Known {
    pub(super) account: Account,
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// For people who look: what is asked for is in the file's name.
    directory: String,
    email: Option<String>,
    credentials: AccountCredentials,
}

impl Accounts {
    /// The accounts below `root` ([`stead_model::layout::ACME`]), which is made.
    pub fn open(root: &Path) -> Result<Self, disk::Error> {
        let folder = root.join("accounts");
        disk::make_folder(root, 0o711)?;
        disk::make_folder(&folder, 0o700)?;
        Ok(Self { folder })
    }

    /// The account that is kept, or a new one.
    pub(super) fn get(&self, authority: &Authority, http: &Http) -> Result<Known, Refused> {
        if let Some(known) = self.read(authority, http)? {
            return Ok(known);
        }
        let _lock = self.lock(http)?;
        match self.read(authority, http)? {
            Some(known) => Ok(known),
            None => self.make(authority, http),
        }
    }

    /// A new account in place of one that the authority does not know any more, unless there is another already.
    pub(super) fn renew(&self, authority: &Authority, http: &Http, gone: &Known) -> Result<Known, Refused> {
        let _lock = self.lock(http)?;
        match self.read(authority, http)? {
            Some(known) if known.bytes != gone.bytes => Ok(known),
            _ => self.make(authority, http),
        }
    }

    /// Closes the account at the authority, for good. What is kept of it stays until it is replaced.
    pub(super) fn deactivate(&self, authority: &Authority, http: &Http) -> Result<(), Refused> {
        let Some(known) = self.read(authority, http)? else { return Ok(()) };
        let told = |error| refused(Asked::Account, &authority.directory, error);
        again(|| client::wait(known.account.clone().deactivate())).map_err(told)
    }

    fn read(&self, authority: &Authority, http: &Http) -> Result<Option<Known>, Refused> {
        let place = self.place(authority);
        let Some(bytes) = disk::read(&place).map_err(here)? else { return Ok(None) };
        let kept: Kept = match serde_json::from_slice(&bytes) {
            Ok(kept) => kept,
            Err(_) => {
                let aside = place.with_extension("broken");
                fs::rename(&place, &aside).map_err(at("put aside", &place)).map_err(here)?;
                return Ok(None);
            }
        };
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let account = client::wait(builder.from_credentials(kept.credentials));
        let account = account.map_err(|error| refused(Asked::Account, &authority.directory, error))?;
        Ok(Some(Known { account, bytes }))
    }

    fn make(&self, authority: &Authority, http: &Http) -> Result<Known, Refused> {
        let contact = authority.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let made = again(|| {
            let builder = Account::builder_with_http(Box::new(http.clone()));
            client::wait(builder.create(&new, authority.directory.clone(), None))
        });
        let (account, credentials) = made.map_err(|error| refused(Asked::Account, &authority.directory, error))?;
        let kept = Kept { directory: authority.directory.clone(), email: authority.email.clone(), credentials };
        let bytes = serde_json::to_vec_pretty(&kept).map_err(|error| Refused::Here(error.to_string()))?;
        disk::replace(&self.place(authority), &bytes, 0o600).map_err(here)?;
        Ok(Known { account, bytes })
    }

    fn place(&self, authority: &Authority) -> PathBuf {
        let text = format!("{}\n{}", authority.directory, authority.email.as_deref().unwrap_or_default());
        let digest: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{digest}.json"))
    }

    /// One at a time makes accounts, in whatever thread or process.
    fn lock(&self, http: &Http) -> Result<File, Refused> {
        let folder = File::open(&self.folder).map_err(at("open", &self.folder)).map_err(here)?;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(folder),
                Err(TryLockError::WouldBlock) if http.left().is_zero() => {
                    return Err(Refused::TimedOut("another account was being made all the time".to_owned()));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK_AGAIN),
                Err(TryLockError::Error(error)) => return Err(here(at("lock", &self.folder)(error))),
            }
        }
    }
}

pub(super) fn here(error: disk::Error) -> Refused {
    Refused::Here(format!("{error}: {}", error.source))
}
