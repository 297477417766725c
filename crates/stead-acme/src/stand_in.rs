//! Self-signed stand-ins: what a web server starts with until a certificate is there.
//!
//! A stand-in is told apart for sure, by the organisation that signed it; no authority signs as that.

use crate::check::Details;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use stead_model::name::Domain;
use time::{Duration, OffsetDateTime};

/// The organisation that signs stand-ins.
pub const ORGANISATION: &str = "Stead stand-in";

/// Browsers refuse it anyhow; what matters is that it is not replaced for its age.
const YEARS: i64 = 10;

/// Whether this is one.
pub fn is_stand_in(details: &Details) -> bool {
    details.is_self_signed && details.issuer == format!("O={ORGANISATION}")
}

/// A new one with its key, both as PEM.
pub(crate) fn make(names: &[Domain]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(YEARS * 365);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
