//! Whether a chain of certificates and a key are fit for a web server, and what a certificate says.
//!
//! Promises that what passes [`check`] is loaded by a web server: it parses, and the key belongs to the first
//! certificate. Reads no file and no clock. Does not ask whether the authority is one that browsers trust.

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stead_model::certificate::KeyType;
use stead_model::name::Domain;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{X509Certificate, X509Error};
use x509_parser::public_key::PublicKey;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// The host names that it is for, as written (lower-case; `*.` may stand for one label).
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// Who signed it: its distinguished name.
    pub issuer: String,
    /// Whether it signed itself.
    pub is_self_signed: bool,
    /// Its number at the authority, hexadecimal.
    pub serial: String,
    /// The kind of its key; `None` for a kind that cannot be declared.
    pub key_type: Option<KeyType>,
    /// Whether it names a responder that says whether it was revoked (OCSP).
    pub has_ocsp: bool,
}

impl Details {
    /// Whole days until it expires; negative when it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_second() - now.as_second()).div_euclid(24 * 60 * 60)
    }

    /// Whether it is for every one of these names.
    pub fn covers(&self, names: &[Domain]) -> bool {
        names.iter().all(|name| self.covers_name(name))
    }

    fn covers_name(&self, name: &Domain) -> bool {
        let name = name.as_str();
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(rest) => name.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent == rest),
            None => own == name,
        })
    }
}

/// A chain and a key that are not fit for a web server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no certificate.
    #[error("there is no certificate in it (PEM: `-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// The PEM around the certificates is damaged.
    #[error("the certificate cannot be read: {0}")]
    Pem(String),
    /// A certificate does not parse.
    #[error("certificate number {number} cannot be read: {words}")]
    Certificate {
        /// Its place in the chain, from 1.
        number: usize,
        /// What is wrong with it.
        words: String,
    },
    /// There is no key.
    #[error("there is no private key in it (PEM: `-----BEGIN PRIVATE KEY-----`)")]
    NoKey,
    /// The key has a password.
    #[error("the private key is encrypted, and nobody could type its password: write it without one")]
    EncryptedKey,
    /// The key does not parse.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// The key is another one's.
    #[error("the key does not belong to the certificate")]
    Mismatch,
    /// The key belongs to a later certificate of the chain.
    #[error("the chain is in the wrong order: the site's own certificate must come first, it is number {number}")]
    Order {
        /// Where the certificate of the key is, from 1.
        number: usize,
    },
    /// A certificate is not signed by the one that follows it.
    #[error("the chain is in the wrong order: certificate number {} did not sign number {number}", number + 1)]
    Chain {
        /// The certificate that another one signed, from 1.
        number: usize,
    },
    /// It expired.
    #[error("the certificate expired on {}", day(*on))]
    Expired {
        /// When.
        on: Timestamp,
    },
    /// It is not valid yet.
    #[error("the certificate is not valid before {}", day(*from))]
    Early {
        /// From when it is.
        from: Timestamp,
    },
    /// It is for other names.
    #[error("the certificate is not for {}, only for {}", listed(missing), listed(has))]
    Names {
        /// Names that it should be for.
        missing: Vec<String>,
        /// Names that it is for.
        has: Vec<String>,
    },
}

/// Checks a chain (PEM, the site's own certificate first) and its key (PEM: PKCS#8, PKCS#1 or SEC1) for these names.
///
/// The chain may end before its root, and with it.
pub fn check(chain: &[u8], key: &[u8], names: &[Domain], now: Timestamp) -> Result<Details, Unfit> {
    let (_, details) = pair(chain, key)?;
    if details.not_after <= now {
        return Err(Unfit::Expired { on: details.not_after });
    }
    if details.not_before > now {
        return Err(Unfit::Early { from: details.not_before });
    }
    let missing = names.iter().filter(|name| !details.covers_name(name));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if missing.is_empty() { Ok(details) } else { Err(Unfit::Names { missing, has: details.names }) }
}

/// Reads a chain and its key that belong together, whatever the dates and names.
pub(crate) fn read(chain: &[u8], key: &[u8]) -> Result<Details, Unfit> {
    pair(chain, key).map(|(_, details)| details)
}

/// A chain and its key, written so that every web server reads them.
pub(crate) struct Pem {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Pem {
    /// The same certificates and key.
    pub(crate) fn new(chain: &[u8], key: &[u8]) -> Result<Self, Unfit> {
        pair(chain, key).map(|(written, _)| written)
    }
}

fn pair(chain: &[u8], key: &[u8]) -> Result<(Pem, Details), Unfit> {
    let certificates = certificates(chain)?;
    let details = fitting(&certificates, key)?;
    signatures(&certificates)?;
    let key = private_key(key)?;
    let tag = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let chain = certificates.iter().map(|certificate| written("CERTIFICATE", certificate)).collect();
    Ok((Pem { chain, key: written(tag, key.secret_der()) }, details))
}

fn written(tag: &str, bytes: &[u8]) -> String {
    let lines = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&::pem::Pem::new(tag, bytes), lines)
}

/// Each certificate is signed by the next, the last by itself if by any that is there.
fn signatures(certificates: &[CertificateDer<'static>]) -> Result<(), Unfit> {
    // The name has to do where the library does not know the algorithm.
    let fits = |result| matches!(result, Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm));
    for number in 1..=certificates.len() {
        let signed = parse(&certificates[number - 1], number)?;
        let Some(issuer) = certificates.get(number) else {
            let is_root = signed.issuer().as_raw() == signed.subject().as_raw();
            if is_root && !fits(signed.verify_signature(None)) {
                return Err(Unfit::Certificate { number, words: "its signature is wrong".to_owned() });
            }
            continue;
        };
        let issuer = parse(issuer, number + 1)?;
        let is_named = signed.issuer().as_raw() == issuer.subject().as_raw();
        if !is_named || !fits(signed.verify_signature(Some(issuer.public_key()))) {
            return Err(Unfit::Chain { number });
        }
    }
    Ok(())
}

/// The first certificate of a chain, as DER.
pub(crate) fn leaf(chain: &[u8]) -> Result<CertificateDer<'static>, Unfit> {
    certificates(chain)?.into_iter().next().ok_or(Unfit::NoCertificate)
}

fn fitting(certificates: &[CertificateDer<'static>], key: &[u8]) -> Result<Details, Unfit> {
    let leaf = certificates.first().ok_or(Unfit::NoCertificate)?;
    let details = details(&parse(leaf, 1)?)?;
    for (index, certificate) in certificates.iter().enumerate().skip(1) {
        parse(certificate, index + 1)?;
    }
    let key = private_key(key)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| Unfit::Key(key_words(&error)))?;
    let belongs =
        |certificate: &CertificateDer<'static>| CertifiedKey::new(vec![certificate.clone()], key.clone()).keys_match();
    if belongs(leaf).is_ok() {
        return Ok(details);
    }
    match certificates.iter().position(|certificate| belongs(certificate).is_ok()) {
        Some(index) => Err(Unfit::Order { number: index + 1 }),
        None => Err(Unfit::Mismatch),
    }
}

fn certificates(chain: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let certificates = read.map_err(|error| Unfit::Pem(pem_words(&error)))?;
    if certificates.is_empty() { Err(Unfit::NoCertificate) } else { Ok(certificates) }
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Unfit> {
    let has = |marker: &[u8]| text.windows(marker.len()).any(|window| window == marker);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(Unfit::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => Unfit::NoKey,
        other => Unfit::Key(pem_words(&other)),
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>, number: usize) -> Result<X509Certificate<'a>, Unfit> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(Unfit::Certificate { number, words: "bytes follow it".to_owned() }),
        Err(error) => Err(Unfit::Certificate { number, words: error.to_string() }),
    }
}

fn details(certificate: &X509Certificate<'_>) -> Result<Details, Unfit> {
    let unreadable = |words: String| Unfit::Certificate { number: 1, words };
    let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| unreadable(error.to_string()));
    let alternative = certificate.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    let names = alternative.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok(Details {
        names: names.collect(),
        not_before: time(certificate.validity().not_before.timestamp())?,
        not_after: time(certificate.validity().not_after.timestamp())?,
        issuer: certificate.issuer().to_string(),
        is_self_signed: certificate.issuer().as_raw() == certificate.subject().as_raw()
            && certificate.verify_signature(None).is_ok(),
        serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        key_type: key_type(certificate),
        has_ocsp: certificate.extensions().iter().any(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => {
                access.accessdescs.iter().any(|one| one.access_method == oid::OID_PKIX_ACCESS_DESCRIPTOR_OCSP)
            }
            _ => false,
        }),
    })
}

fn key_type(certificate: &X509Certificate<'_>) -> Option<KeyType> {
    let key = certificate.public_key();
    match key.parsed().ok()? {
        PublicKey::RSA(rsa) => match rsa.key_size() {
            2048 => Some(KeyType::Rsa2048),
            4096 => Some(KeyType::Rsa4096),
            _ => None,
        },
        PublicKey::EC(_) => {
            let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
            if curve == oid::OID_EC_P256 {
                Some(KeyType::Ec256)
            } else if curve == oid::OID_NIST_EC_P384 {
                Some(KeyType::Ec384)
            } else {
                None
            }
        }
        _ => None,
    }
}

pub(crate) fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its end is missing, it was cut off".to_owned(),
        pem::Error::IllegalSectionStart { line } => {
            format!("`{}` is no line of PEM", String::from_utf8_lossy(line).chars().take(80).collect::<String>())
        }
        pem::Error::Base64Decode(_) => "it is damaged (not Base64)".to_owned(),
        other => other.to_string(),
    }
}

fn key_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(_) => {
            "it is damaged, or no kind that is supported (ECDSA on P-256 or P-384, Ed25519, RSA with 2048 to 4096 bits)"
                .to_owned()
        }
        other => other.to_string(),
    }
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
}
