//! What a certificate says of itself, and why nobody should believe it.
//!
//! Plain data for people: whose, from whom, until when, and the fault that a browser would find.
//! All of its texts come from a stranger, so they are short and have no control characters. Checks
//! nothing itself: `tls` does.

use rustls::{CertificateError, Error as TlsError};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// The most names of a certificate that are told.
const NAMES: usize = 5;
/// The most characters of one of its texts.
const TEXT: usize = 80;
/// A day, in seconds.
const DAY: u64 = 24 * 60 * 60;

/// A certificate that a server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Who issued it.
    pub issuer: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// From when on it is valid.
    pub from: Moment,
    /// Until when it is valid.
    pub until: Moment,
    /// Why a browser would refuse it; `None`: it would not.
    pub fault: Option<Fault>,
}

/// Why a browser would refuse a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is none, or of a form that is not known here; nothing else is known of it.
    Unreadable,
    /// It vouches for itself.
    SelfSigned,
    /// No authority that is trusted vouches for it.
    UnknownIssuer {
        /// Whether the server showed it alone, without a certificate between it and an authority.
        alone: bool,
    },
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYet,
    /// It is not for the name that was asked for.
    OtherName {
        /// That name.
        asked: String,
    },
    /// Something else, in words.
    Other(String),
}

/// A moment, in seconds since 1970; shown as a day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(i64);

impl Certificate {
    /// Reads a certificate that was shown with `between` others, and found to have this fault.
    pub(crate) fn read(der: &[u8], between: usize, asked: &str, fault: Option<&TlsError>) -> Self {
        let Ok((_, read)) = X509Certificate::from_der(der) else {
            return Self {
                issuer: "nobody".to_owned(),
                names: Vec::new(),
                from: Moment(0),
                until: Moment(0),
                fault: Some(Fault::Unreadable),
            };
        };
        let is_own = read.issuer().as_raw() == read.subject().as_raw();
        Self {
            issuer: name_of(read.issuer()),
            names: names(&read),
            from: Moment(read.validity().not_before.timestamp()),
            until: Moment(read.validity().not_after.timestamp()),
            fault: fault.map(|error| Fault::of(error, is_own, between == 0, asked)),
        }
    }

    /// The whole days that are left of it.
    pub fn days_left(&self) -> u64 {
        let end = UNIX_EPOCH + Duration::from_secs(self.until.0.try_into().unwrap_or(0));
        end.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / DAY)
    }

    /// In which way it is at fault, in a few words that are the same whenever that happens again.
    pub fn way(&self) -> &'static str {
        match self.fault {
            None => "a certificate that is trusted",
            Some(Fault::Expired) => "an expired certificate",
            Some(Fault::NotYet) => "a certificate that is not valid yet",
            Some(Fault::OtherName { .. }) => "a certificate of another name",
            Some(_) => "an untrusted certificate",
        }
    }

    /// What is told of it beside an answer for which any certificate will do.
    pub fn told(&self) -> String {
        let Some(fault) = &self.fault else { return format!("certificate of {} until {}", self.issuer, self.until) };
        let what = match fault {
            Fault::Expired | Fault::NotYet | Fault::OtherName { .. } => self.way(),
            _ => "a certificate that nobody trusts",
        };
        format!("with {what}: {}", self.explain(fault))
    }

    fn explain(&self, fault: &Fault) -> String {
        match fault {
            Fault::Unreadable => "it cannot be read".to_owned(),
            Fault::SelfSigned => "self-signed".to_owned(),
            Fault::UnknownIssuer { alone } => {
                let alone = if *alone { ", and the server shows no certificate between" } else { "" };
                format!("its issuer {} is no authority that is known here{alone}", self.issuer)
            }
            Fault::Expired => format!("it was valid until {}", self.until),
            Fault::NotYet => format!("it is valid from {} on", self.from),
            Fault::OtherName { asked } => format!("it is for {}, not for {asked}", self.list()),
            Fault::Other(words) => words.clone(),
        }
    }

    fn list(&self) -> String {
        let more = self.names.len().saturating_sub(NAMES);
        match (self.names.is_empty(), more) {
            (true, _) => "no name".to_owned(),
            (_, 0) => self.names.join(", "),
            _ => format!("{} and {more} more", self.names[..NAMES].join(", ")),
        }
    }
}

/// All of it: the fault, then issuer, names and dates.
impl fmt::Display for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fault) = &self.fault {
            out.write_str(&self.explain(fault))?;
            if *fault == Fault::Unreadable {
                return Ok(());
            }
            out.write_str("; ")?;
        }
        write!(out, "issued by {} for {}, from {} until {}", self.issuer, self.list(), self.from, self.until)
    }
}

impl Fault {
    fn of(error: &TlsError, is_own: bool, alone: bool, asked: &str) -> Self {
        let TlsError::InvalidCertificate(error) = error else { return Self::Other(clean(&error.to_string())) };
        match error {
            CertificateError::UnknownIssuer if is_own => Self::SelfSigned,
            CertificateError::UnknownIssuer => Self::UnknownIssuer { alone },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYet,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName { asked: asked.to_owned() }
            }
            // Another authority has the same name: a test's that was made anew.
            CertificateError::BadSignature => {
                Self::Other("the authority of its issuer's name that is known here did not sign it".to_owned())
            }
            // An authority that serves its own certificate: what `openssl req -x509` makes.
            _ if is_own => Self::SelfSigned,
            other => Self::Other(clean(&other.to_string())),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ASN1Time::from_timestamp(self.0) {
            Ok(time) => write!(out, "{}", time.to_datetime().date()),
            Err(_) => out.write_str("a day that there is not"),
        }
    }
}

/// Organisation and common name, as far as there are such; else all of it.
fn name_of(name: &X509Name<'_>) -> String {
    let text = |mut found: std::vec::IntoIter<&str>| found.next().map(clean).filter(|text| !text.is_empty());
    let organisation: Vec<&str> = name.iter_organization().filter_map(|part| part.as_str().ok()).collect();
    let common: Vec<&str> = name.iter_common_name().filter_map(|part| part.as_str().ok()).collect();
    match (text(organisation.into_iter()), text(common.into_iter())) {
        (Some(organisation), Some(common)) if !common.starts_with(&organisation) => format!("{organisation} {common}"),
        (_, Some(common)) => common,
        (Some(organisation), None) => organisation,
        (None, None) => Some(clean(&name.to_string())).filter(|text| !text.is_empty()).unwrap_or("nobody".to_owned()),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(clean(name)),
        GeneralName::IPAddress(bytes) => match *bytes {
            bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// A stranger's text as it may be shown.
fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TEXT).collect::<String>().trim().to_owned()
}
