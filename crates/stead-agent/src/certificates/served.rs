//! Which certificates nginx has read: what is on the disk may be newer.
//!
//! Kept in memory, as the digest of all chains; written whenever nginx has read them. Where nothing is known, nginx is taken for
//! one that has not read them.

use super::kept;
use std::fs;
use stead_model::certificate::Certificates;
use stead_model::hash::Hash;

const NOTED: &str = "/run/stead/certificates-served";

fn digest(kept: &stead_acme::Certificates, all: &Certificates) -> String {
    let chains: Vec<_> = all.keys().map(|name| (name, kept.chain(name).ok().flatten())).collect();
    Hash::of_value("stead certificates served 1", &chains).to_string()
}

/// Whether nginx has not read these as they are now.
pub(super) fn is_unread(kept: &stead_acme::Certificates, all: &Certificates) -> bool {
    !all.is_empty() && fs::read_to_string(NOTED).ok().as_deref() != Some(&*digest(kept, all))
}

/// nginx has read these as they are now, or is about to.
pub(super) fn note(all: &Certificates) {
    // What is not noted is read once more.
    if let Ok(kept) = kept() {
        let _ = fs::write(NOTED, digest(&kept, all));
    }
}
