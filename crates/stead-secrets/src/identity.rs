//! Private keys: SSH keys of operators and servers, and age's own identities.
//!
//! Promises that a private key that exists can decrypt, or says why not. Asks for the passphrase of an encrypted one through
//! a function that it is given, once, and only where the key is needed.

use age::DecryptError;
use age::secrecy::SecretString;
use age_core::format::{FileKey, Stanza};
use std::cell::OnceCell;
use std::fmt;
use std::io::BufReader;
use std::sync::Arc;

/// Asks a person for the passphrase of a key; `None`: nobody is there to ask.
pub type Asking = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A private key, or the several of one file.
pub struct Identity {
    origin: String,
    keys: Vec<Box<dyn age::Identity>>,
    /// Whether somebody has to be asked before it can be used.
    pub(crate) is_asked: bool,
}

/// An SSH key that is encrypted itself: asked for once, and only for what is encrypted for a key of SSH.
struct Asked {
    key: age::ssh::EncryptedKey,
    origin: String,
    asking: Asking,
    opened: OnceCell<Option<age::ssh::Identity>>,
}

impl age::Identity for Asked {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if !["ssh-ed25519", "ssh-rsa"].contains(&stanza.tag.as_str()) {
            return None;
        }
        let opened = self.opened.get_or_init(|| {
            let words = (self.asking)(&format!("passphrase of {}", self.origin))?;
            self.key.decrypt(SecretString::from(words)).ok().map(age::ssh::Identity::from)
        });
        match opened {
            Some(key) => age::Identity::unwrap_stanza(key, stanza),
            None => Some(Err(DecryptError::KeyDecryptionFailed)),
        }
    }
}

/// The text is not a private key that can decrypt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// A key that stays in a device, or of a kind that cannot decrypt.
    #[error("{origin}: this kind of key cannot decrypt; an ssh-ed25519 or ssh-rsa key can, or an age identity")]
    CannotDecrypt {
        /// The file.
        origin: String,
    },
    /// Neither an SSH key nor a file of age's.
    #[error("{origin}: neither a private SSH key nor an age identity (`AGE-SECRET-KEY-1…`)")]
    NotAKey {
        /// The file.
        origin: String,
    },
}

impl Identity {
    /// The private keys in this text, which is the content of the file `origin`.
    ///
    /// # Errors
    /// See [`InvalidIdentity`]; the text is not repeated.
    pub fn parse(text: &str, origin: &str, asking: &Asking) -> Result<Self, InvalidIdentity> {
        let not_a_key = || InvalidIdentity::NotAKey { origin: origin.to_owned() };
        let callbacks = Callbacks(Arc::clone(asking));
        let keys: Vec<Box<dyn age::Identity>> = if text.trim_start().starts_with("-----BEGIN") {
            let key = age::ssh::Identity::from_buffer(BufReader::new(text.as_bytes()), Some(origin.to_owned()));
            match key.map_err(|_| not_a_key())? {
                age::ssh::Identity::Unsupported(_) => {
                    return Err(InvalidIdentity::CannotDecrypt { origin: origin.to_owned() });
                }
                age::ssh::Identity::Encrypted(key) => {
                    let asked =
                        Asked { key, origin: origin.to_owned(), asking: Arc::clone(asking), opened: OnceCell::new() };
                    return Ok(Self { origin: origin.to_owned(), keys: vec![Box::new(asked)], is_asked: true });
                }
                key => vec![Box::new(key)],
            }
        } else {
            let file = age::IdentityFile::from_buffer(BufReader::new(text.as_bytes())).map_err(|_| not_a_key())?;
            let keys = file.with_callbacks(callbacks).into_identities().map_err(|_| not_a_key())?;
            keys.into_iter().map(|key| key as Box<dyn age::Identity>).collect()
        };
        if keys.is_empty() { Err(not_a_key()) } else { Ok(Self { origin: origin.to_owned(), keys, is_asked: false }) }
    }

    /// The file that it came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| &**key)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Identity({})", self.origin)
    }
}

#[derive(Clone)]
struct Callbacks(Asking);

impl age::Callbacks for Callbacks {
    fn display_message(&self, _: &str) {}

    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }

    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        (self.0)(description).map(SecretString::from)
    }
}
