//! One encrypted value: a file of age's, in its ASCII form.
//!
//! Its header has, beside age's own stanzas, one of ours: which value it is, and for which readers. Other age programs pass over
//! it, as the format demands; the header's authentication covers it. Promises that a value is whole or not given out, and
//! that memory that held one is wiped.

use crate::identity::Identity;
use crate::key::{self, PublicKey};
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor};
use age_core::format::{FileKey, Stanza};
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::iter;
use stead_model::secret::{MAX_VALUE, Version};
use zeroize::Zeroizing;

/// The tag of our stanza: version and readers, each 32 hexadecimal digits, and no body.
const TAG: &str = "stead-secret-1";
/// The largest file that can hold a value: base64, a header with many readers, and lines.
const MAX_FILE: usize = MAX_VALUE * 2;

/// What a file tells without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which value it is.
    pub version: Version,
    /// [`key::digest`] of the keys that it was encrypted for; `None` when another program made it.
    pub readers: Option<String>,
}

/// Why a value could not be encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is too large to be handed to a service.
    #[error("the value has {size} bytes, and a secret may have {MAX_VALUE}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Nobody could read it.
    #[error("nobody may read it")]
    NoReaders,
    /// The encryption itself failed.
    #[error("it could not be encrypted: {0}")]
    Failed(String),
}

/// Why a file gave out no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is not a file of age's.
    #[error("it is not encrypted with age, or its beginning is damaged")]
    NotAge,
    /// No key fits.
    #[error("it is not encrypted for any of these keys")]
    NotForThisKey,
    /// A key was encrypted itself, and its passphrase was not given or is wrong.
    #[error("the passphrase of the key is missing or wrong")]
    Passphrase,
    /// Its bytes are not the ones that were written.
    #[error("it is damaged: some of its bytes are not the ones that were written")]
    Damaged,
    /// It holds more than a secret may.
    #[error("it is larger than the {MAX_VALUE} bytes that a secret may have")]
    TooLarge,
}

/// The value, encrypted for these keys: text of the age format.
///
/// # Errors
/// See [`SealError`].
pub fn seal(value: &[u8], readers: &[&PublicKey], version: &Version) -> Result<Vec<u8>, SealError> {
    if value.len() > MAX_VALUE {
        return Err(SealError::TooLarge { size: value.len() });
    }
    if readers.is_empty() {
        return Err(SealError::NoReaders);
    }
    let mark = Mark { version: version.to_string(), readers: key::digest(readers.iter().copied()) };
    let unique: std::collections::BTreeSet<&PublicKey> = readers.iter().copied().collect();
    let recipients = unique.into_iter().map(PublicKey::recipient).chain(iter::once(&mark as &dyn age::Recipient));
    let failed = |error: &dyn std::fmt::Display| SealError::Failed(error.to_string());
    let encryptor = Encryptor::with_recipients(recipients).map_err(|error| failed(&error))?;
    let write = || -> std::io::Result<Vec<u8>> {
        let armour = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armour)?;
        writer.write_all(value)?;
        writer.finish()?.finish()
    };
    write().map_err(|error| failed(&error))
}

/// What the file tells without a key. One that another program made is its own version.
///
/// # Errors
/// When it is not a file of age's.
pub fn head(sealed: &[u8]) -> Result<Head, OpenError> {
    let found = Found::default();
    // No key is here, so that it cannot be decrypted; but its header is read.
    match decryptor(sealed)?.decrypt(iter::once(&found as &dyn age::Identity)) {
        Err(DecryptError::NoMatchingKeys) => {}
        _ => return Err(OpenError::NotAge),
    }
    let mark = found.0.into_inner().filter(|stanza| stanza.args.len() == 2);
    let said = mark.and_then(|stanza| {
        let mut words = stanza.args.into_iter();
        Some((words.next()?.try_into().ok()?, words.next()?))
    });
    Ok(match said {
        Some((version, readers)) => Head { version, readers: Some(readers) },
        None => Head { version: Version::of_file(sealed), readers: None },
    })
}

/// The value, for whoever has one of these keys.
///
/// # Errors
/// See [`OpenError`].
pub fn open(sealed: &[u8], identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    // Nobody is asked for a passphrase where another key opens it.
    let (asked, plain): (Vec<&Identity>, Vec<&Identity>) = identities.iter().partition(|identity| identity.is_asked);
    let keys = plain.into_iter().chain(asked).flat_map(Identity::keys);
    let reader = decryptor(sealed)?.decrypt(keys).map_err(|error| match error {
        DecryptError::NoMatchingKeys => OpenError::NotForThisKey,
        DecryptError::KeyDecryptionFailed => OpenError::Passphrase,
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => OpenError::NotAge,
        _ => OpenError::Damaged,
    })?;
    // All of it at once: a growing buffer would leave copies behind.
    let mut value = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let limit = u64::try_from(MAX_VALUE).unwrap_or(u64::MAX) + 1;
    reader.take(limit).read_to_end(&mut value).map_err(|_| OpenError::Damaged)?;
    if value.len() > MAX_VALUE { Err(OpenError::TooLarge) } else { Ok(value) }
}

fn decryptor(sealed: &[u8]) -> Result<Decryptor<ArmoredReader<BufReader<&[u8]>>>, OpenError> {
    if sealed.len() > MAX_FILE {
        return Err(OpenError::TooLarge);
    }
    Decryptor::new(ArmoredReader::new(sealed)).map_err(|_| OpenError::NotAge)
}

/// Writes our stanza.
struct Mark {
    version: String,
    readers: String,
}

impl age::Recipient for Mark {
    fn wrap_file_key(&self, _: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let args = vec![self.version.clone(), self.readers.clone()];
        Ok((vec![Stanza { tag: TAG.to_owned(), args, body: Vec::new() }], HashSet::new()))
    }
}

/// Finds our stanza.
#[derive(Default)]
struct Found(RefCell<Option<Stanza>>);

impl age::Identity for Found {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag == TAG {
            *self.0.borrow_mut() = Some(Stanza { tag: String::new(), args: stanza.args.clone(), body: Vec::new() });
        }
        None
    }
}
