//! The archive's public keys, and whether one of them signed a text.
//!
//! A signature counts when its key (or signing subkey, with both bindings) is in the keyring, is
//! neither expired nor revoked, and the digest is SHA-2. One good signature is needed, and a wrong
//! one by a known key is never outweighed by a good one. What is not signed is never returned.

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{Duration, KeyDetails, Tag, Timestamp, VerifyingKey};
use std::path::{Path, PathBuf};

/// Where Debian's package `debian-archive-keyring` puts the keys.
pub const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Keys that may sign an archive's indexes.
#[derive(Debug, Clone)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
    origin: PathBuf,
}

impl Keyring {
    /// The keys in this file, binary or armoured.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&bytes, path)
    }

    /// The keys in these bytes. `origin` is for messages only.
    pub fn parse(bytes: &[u8], origin: &Path) -> Result<Self, Error> {
        let malformed = |source| Error::Malformed { path: origin.to_owned(), source: Box::new(source) };
        let keys = if bytes.starts_with(b"-----BEGIN") {
            SignedPublicKey::from_armor_many(bytes).map_err(malformed)?.0
        } else {
            SignedPublicKey::from_bytes_many(bytes).map_err(malformed)?
        };
        // A keyring may well hold a key of a kind that is not understood; it then signs nothing.
        let certificates: Vec<SignedPublicKey> = keys.filter_map(Result::ok).collect();
        if certificates.is_empty() {
            return Err(Error::Empty { path: origin.to_owned() });
        }
        Ok(Self { certificates, origin: origin.to_owned() })
    }

    /// The text of a cleartext-signed message (RFC 9580, section 7), if one of these keys signed
    /// it. `now` is in seconds since 1970. Lines of the text end in `\n`.
    pub fn verify(&self, message: &[u8], now: i64) -> Result<String, Error> {
        let (message, _) = CleartextSignedMessage::from_armor(message)
            .map_err(|source| Error::NotSigned { source: Box::new(source) })?;
        let text = message.signed_text();
        let mut good = false;
        let mut refused = None;
        let mut unknown = Vec::new();
        for signature in message.signatures() {
            match self.check(signature, text.as_bytes(), now) {
                Verdict::Good => good = true,
                Verdict::Wrong { key } => return Err(Error::Wrong { key }),
                Verdict::Refused { key, reason } => refused = Some(Error::Refused { key, reason }),
                Verdict::Unknown { key } => unknown.push(key),
            }
        }
        match refused {
            _ if good => Ok(text.replace("\r\n", "\n")),
            Some(refused) => Err(refused),
            None => Err(Error::UnknownKey { keys: unknown.join(", "), path: self.origin.clone() }),
        }
    }

    fn check(&self, signature: &Signature, text: &[u8], now: i64) -> Verdict {
        for certificate in &self.certificates {
            let subkeys = certificate.public_subkeys.iter().find(|subkey| issued(signature, *subkey));
            let (key, verified) = match subkeys {
                Some(subkey) => (subkey.fingerprint().to_string(), signature.verify(subkey, text).is_ok()),
                None if issued(signature, certificate) => {
                    (certificate.fingerprint().to_string(), signature.verify(certificate, text).is_ok())
                }
                None => continue,
            };
            if !verified {
                return Verdict::Wrong { key };
            }
            let usable = usable_signature(signature, now)
                .and_then(|()| usable_certificate(certificate, now))
                .and_then(|()| subkeys.map_or(Ok(()), |subkey| usable_subkey(certificate, subkey, now)));
            return match usable {
                Ok(()) => Verdict::Good,
                Err(reason) => Verdict::Refused { key, reason },
            };
        }
        let key = signature.issuer_fingerprint().first().map(ToString::to_string);
        let key = key.or_else(|| signature.issuer_key_id().first().map(ToString::to_string));
        Verdict::Unknown { key: key.unwrap_or_else(|| "a key without a name".to_owned()) }
    }
}

enum Verdict {
    Good,
    Wrong { key: String },
    Refused { key: String, reason: &'static str },
    Unknown { key: String },
}

fn issued(signature: &Signature, key: &impl VerifyingKey) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id())
    } else {
        fingerprints.into_iter().any(|fingerprint| *fingerprint == key.fingerprint())
    }
}

fn usable_signature(signature: &Signature, now: i64) -> Result<(), &'static str> {
    if !matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)) {
        return Err("its digest is too weak");
    }
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return Err("it is not a signature of a document");
    }
    match signature.created() {
        Some(created) if ended(created, signature.signature_expiration_time(), now) => Err("the signature has expired"),
        Some(_) => Ok(()),
        None => Err("it has no date"),
    }
}

/// Not revoked, and vouching for itself now.
fn usable_certificate(certificate: &SignedPublicKey, now: i64) -> Result<(), &'static str> {
    let primary = &certificate.primary_key;
    if certificate.details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err("the key was revoked");
    }
    let by_user = certificate.details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|signature| {
            signature.is_certification() && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    let direct = certificate.details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    match by_user.chain(direct).max_by_key(|signature| seconds(signature.created())) {
        Some(newest) if ended(primary.created_at(), newest.key_expiration_time(), now) => Err("the key has expired"),
        Some(_) => Ok(()),
        None => Err("the key does not vouch for itself"),
    }
}

/// Bound by the primary key and agreeing to it, for signing, now.
fn usable_subkey(certificate: &SignedPublicKey, subkey: &SignedPublicSubKey, now: i64) -> Result<(), &'static str> {
    let primary = &certificate.primary_key;
    let verified = |kind| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
        })
    };
    if verified(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("the subkey was revoked");
    }
    let Some(binding) = verified(SignatureType::SubkeyBinding).max_by_key(|signature| seconds(signature.created()))
    else {
        return Err("the subkey is not bound to its key");
    };
    let agreed =
        binding.embedded_signature().is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !binding.key_flags().sign() || !agreed {
        return Err("the subkey is not for signing");
    }
    if ended(subkey.created_at(), binding.key_expiration_time(), now) {
        return Err("the subkey has expired");
    }
    Ok(())
}

fn ended(created: Timestamp, lifetime: Option<Duration>, now: i64) -> bool {
    let lifetime = lifetime.map(std::time::Duration::from).unwrap_or_default().as_secs();
    lifetime > 0 && i64::from(created.as_secs()) + i64::try_from(lifetime).unwrap_or(i64::MAX / 2) < now
}

fn seconds(time: Option<Timestamp>) -> u32 {
    time.map_or(0, Timestamp::as_secs)
}

/// Why a text is not believed, or there are no keys to believe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keyring cannot be read.
    #[error("cannot read the archive keys in {} (Debian's are in the package debian-archive-keyring)", path.display())]
    Unreadable {
        /// The keyring.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The keyring is not one.
    #[error("{} is not a keyring", path.display())]
    Malformed {
        /// The keyring.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<pgp::errors::Error>,
    },
    /// There is no key in it.
    #[error("there is no key in {}", path.display())]
    Empty {
        /// The keyring.
        path: PathBuf,
    },
    /// Not a signed text at all, or with something before or after it.
    #[error("it is not a signed index")]
    NotSigned {
        /// Why.
        #[source]
        source: Box<pgp::errors::Error>,
    },
    /// A known key signed something else.
    #[error("the signature by key {key} does not belong to this text: it was altered")]
    Wrong {
        /// Fingerprint.
        key: String,
    },
    /// The key is known, but may not sign now.
    #[error("the signature by key {key} does not count: {reason}")]
    Refused {
        /// Fingerprint.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// Nobody who is known signed it.
    #[error("it is signed by {keys}, which is not among the keys in {}", path.display())]
    UnknownKey {
        /// Fingerprints.
        keys: String,
        /// The keyring.
        path: PathBuf,
    },
}
