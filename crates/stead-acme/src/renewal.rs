//! When an authority advises to renew a certificate (ARI, RFC 9773), asked no more often than it wants.
//!
//! Promises that a failure to ask is never an error: the days that are left decide then. What was answered is kept in
//! `certificates/<name>/renewal.json`.

use crate::authority::client::{self, Http};
use crate::disk;
use crate::store::Certificates;
use instant_acme::{Account, CertificateIdentifier, Key};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;
use stead_model::certificate::Authority;
use stead_model::name::Domain;

const FILE: &str = "renewal.json";
/// Where the authority offers no advice, or cannot be asked.
const ASK_AGAIN: SignedDuration = SignedDuration::from_hours(12);
/// Bounds of what an authority may ask for (RFC 9773, section 4.3.2).
const SOONEST: SignedDuration = SignedDuration::from_mins(5);
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// The time in which to renew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From when.
    pub start: Timestamp,
    /// Until when.
    pub end: Timestamp,
}

impl Window {
    /// When the certificate with this serial is renewed: somewhere in the window, always the same place, so that not all
    /// servers come at once (RFC 9773, section 4.2).
    pub fn moment(&self, serial: &str) -> Timestamp {
        let digest = Sha256::digest(serial.as_bytes());
        let part = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let (start, end) = (self.start.as_second(), self.end.as_second().max(self.start.as_second()));
        let offset = i128::from(end - start) * i128::from(part) / i128::from(u32::MAX);
        let moment = start + i64::try_from(offset).unwrap_or(0);
        Timestamp::from_second(moment).unwrap_or(self.start)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// The certificate that it is about (RFC 9773, section 4.1).
    certificate: String,
    directory: String,
    window: Option<Window>,
    ask_again: Timestamp,
}

/// What the authority advises for the certificate that is live; `None` where it does not or cannot be asked. Asks when the last answer
/// is too old, which takes at most `within`.
pub fn window(
    certificates: &Certificates,
    name: &Domain,
    authority: &Authority,
    now: Timestamp,
    within: Duration,
) -> Option<Window> {
    let chain = certificates.chain(name).ok()??;
    let leaf = crate::check::leaf(&chain).ok()?;
    let identifier = CertificateIdentifier::try_from(&leaf).ok()?;
    let place = certificates.folder(name).join(FILE);
    let kept = disk::read(&place).ok().flatten().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let kept = kept.filter(|kept| kept.certificate == identifier.to_string() && kept.directory == authority.directory);
    if let Some(kept) = &kept
        && now < kept.ask_again
        && kept.ask_again <= now + LATEST
    {
        return kept.window.clone();
    }
    let (window, wait) = match ask(&identifier, authority, within) {
        Some((window, wait)) => (Some(window), wait.clamp(SOONEST, LATEST)),
        // What it said before may still be so.
        None => (kept.and_then(|kept| kept.window), ASK_AGAIN),
    };
    let kept = Kept {
        certificate: identifier.to_string(),
        directory: authority.directory.clone(),
        window: window.clone(),
        ask_again: now + wait,
    };
    if let Ok(bytes) = serde_json::to_vec_pretty(&kept) {
        // It is asked again then.
        let _ = disk::replace(&place, &bytes, 0o600);
    }
    window
}

fn ask(
    identifier: &CertificateIdentifier<'_>,
    authority: &Authority,
    within: Duration,
) -> Option<(Window, SignedDuration)> {
    let http = Http::new(authority, within).ok()?;
    // The question is not signed; the library wants an account all the same.
    let (_, key) = Key::generate_pkcs8().ok()?;
    let account = Account::builder_with_http(Box::new(http));
    let account = client::wait(account.from_parts(String::new(), key, authority.directory.clone())).ok()?;
    let (info, wait) = client::wait(account.renewal_info(identifier)).ok()?;
    let time = |time: time::OffsetDateTime| Timestamp::from_second(time.unix_timestamp()).ok();
    let window = Window { start: time(info.suggested_window.start)?, end: time(info.suggested_window.end)? };
    if window.end < window.start {
        return None;
    }
    Some((window, SignedDuration::try_from(wait).unwrap_or(LATEST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_moment_lies_within_the_window(
            start in 0i64..4_000_000_000, length in 0i64..4_000_000, serial in "[0-9a-f]{1,40}",
        ) {
            let at = |second| Timestamp::from_second(second).unwrap();
            let window = Window { start: at(start), end: at(start + length) };
            let moment = window.moment(&serial);
            prop_assert!(window.start <= moment && moment <= window.end);
            prop_assert_eq!(moment, window.moment(&serial));
        }
    }
}
