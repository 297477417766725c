//! Certificates of sites: for which names, and where they come from.
//!
//! A generation says what certificates it needs; the certificates and their keys are data of the
//! server ([`crate::layout::CERTIFICATES`]), which outlive it. Plain data: who asks an authority, and
//! when, is the affair of the crates above.

use crate::name::Domain;
use crate::path::AbsolutePath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The certificates that a generation needs, by name. One from an authority is named after its first
/// domain; one from files is named `file-` and digits.
pub type Certificates = BTreeMap<Domain, Certificate>;

/// Let's Encrypt: the authority where none is declared (as in NixOS).
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// What a server asks authorities for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Acme {
    /// The certificates.
    pub certificates: Certificates,
    /// When it is looked whether one has to be renewed (`systemd.time(7)`, "Calendar events").
    pub renew_interval: String,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// The names that it is for, the main one first, each once.
    pub names: Vec<Domain>,
    /// Where it comes from.
    pub source: Source,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// An authority issues and renews it.
    Authority(Authority),
    /// Somebody else puts it into files of the server, and may replace them.
    Files(Files),
}

/// An authority by ACME (RFC 8555), and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    /// The URL of its directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// PEM of the certificates that its own HTTPS is trusted by, instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<String>,
    /// Where it may write to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What kind of key the certificate has.
    pub key_type: KeyType,
    /// It is renewed when it is valid for fewer days than this.
    pub valid_min_days: u32,
}

/// A certificate that somebody else renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Files {
    /// PEM: the certificate, and those between it and the authority's root.
    pub certificate: AbsolutePath,
    /// PEM: its private key.
    pub key: AbsolutePath,
    /// The site whose options name them, by its name in `virtualHosts`.
    pub site: String,
}

/// The kind of a private key; names are NixOS's (`security.acme.defaults.keyType`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// ECDSA on P-256.
    #[default]
    Ec256,
    /// ECDSA on P-384.
    Ec384,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 4096 bits.
    Rsa4096,
}
