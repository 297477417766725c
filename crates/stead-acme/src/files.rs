//! Certificates that somebody else puts into files of the server: copied when they changed, after the check.
//!
//! Promises that files that are not fit change nothing: what was copied before is served on. Only reads the files.

use crate::check::{Details, Pem, Unfit};
use crate::disk;
use crate::store::{self, Certificates};
use stead_model::certificate::Files;
use stead_model::name::Domain;

/// What [`sync`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// The files are as they were.
    Unchanged,
    /// They are copied.
    Installed(Details),
}

/// The files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(transparent)]
    Read(disk::Error),
    /// They are not fit.
    #[error("{certificate} with {key}: {unfit}")]
    Unfit {
        /// The file of the certificate.
        certificate: String,
        /// The file of the key.
        key: String,
        /// What is wrong.
        unfit: Unfit,
    },
    /// They could not be copied.
    #[error(transparent)]
    Store(store::Error),
}

/// Reads the files that an operator names: the chain and the key. Links are followed.
pub fn read(files: &Files) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let read = |path: &str| disk::read_through_links(path.as_ref()).map_err(Error::Read);
    Ok((read(files.certificate.as_str())?, read(files.key.as_str())?))
}

/// Makes what is live the same as the files, where they are fit and for all names.
pub fn sync(certificates: &Certificates, name: &Domain, names: &[Domain], files: &Files) -> Result<Synced, Error> {
    let (chain, key) = read(files)?;
    if let Ok(Pem { chain, key }) = Pem::new(&chain, &key)
        && let Ok((Some(own_chain), Some(own_key))) = certificates.pair(name)
        && (own_chain, own_key) == (chain.into_bytes(), key.into_bytes())
    {
        return Ok(Synced::Unchanged);
    }
    certificates.install(name, names, &chain, &key).map(Synced::Installed).map_err(|error| match error {
        store::Error::Unfit(unfit) => Error::Unfit {
            certificate: files.certificate.as_str().to_owned(),
            key: files.key.as_str().to_owned(),
            unfit,
        },
        other => Error::Store(other),
    })
}
