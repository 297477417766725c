//! New keys, and the requests that are signed with them (PKCS#10).
//!
//! ring makes no RSA keys; those come from the crate `rsa`, which only makes them: everything is signed by ring.

use super::Refused;
use rcgen::{CertificateParams, CertificateSigningRequest, DistinguishedName, KeyPair};
use rsa::pkcs8::EncodePrivateKey;
use rsa::rand_core::OsRng;
use rustls_pki_types::PrivatePkcs8KeyDer;
use stead_model::certificate::KeyType;
use stead_model::name::Domain;

/// A new key.
pub(super) fn generate(kind: KeyType) -> Result<KeyPair, Refused> {
    let failed = |error: &dyn std::error::Error| Refused::Here(format!("cannot make a key: {error}"));
    match kind {
        KeyType::Ec256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error)),
        KeyType::Ec384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).map_err(|error| failed(&error)),
        KeyType::Rsa2048 | KeyType::Rsa4096 => {
            let bits = if kind == KeyType::Rsa2048 { 2048 } else { 4096 };
            let key = rsa::RsaPrivateKey::new(&mut OsRng, bits).map_err(|error| failed(&error))?;
            let bytes = key.to_pkcs8_der().map_err(|error| failed(&error))?;
            let bytes = PrivatePkcs8KeyDer::from(bytes.as_bytes());
            KeyPair::from_pkcs8_der_and_sign_algo(&bytes, &rcgen::PKCS_RSA_SHA256).map_err(|error| failed(&error))
        }
    }
}

/// A request for a certificate for these names.
pub(super) fn request(key: &KeyPair, names: &[Domain]) -> Result<CertificateSigningRequest, Refused> {
    let request = || {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(key)
    };
    request().map_err(|error| Refused::Here(format!("cannot make the request: {error}")))
}
