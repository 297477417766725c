//! Modification times from content.
//!
//! A web server's ETag is a file's time and size (nginx: `ngx_http_set_etag`), so times that were
//! all the same would let a browser keep an old file of the same size. The times here differ
//! wherever the content does, up to the number of seconds that there are: two different files of
//! one size share a time once in 631 million. They lie in the past (RFC 9110, section 8.8.2.1, forbids a
//! `Last-Modified` in the future) and never depend on a clock.

use rustix::fs::{Timespec, Timestamps};
use stead_model::hash::Hash;

/// 2000-01-01T00:00:00Z, the earliest time, in seconds since 1970.
pub const EARLIEST: i64 = 946_684_800;

/// Number of seconds that times are spread over: 20 years (7,305 days), so the latest is in 2019.
pub const SPREAD: u64 = 631_152_000;

/// The modification time of what has this hash, in seconds since 1970.
pub fn modified(hash: &Hash) -> i64 {
    let mut head = [0; 8];
    head.copy_from_slice(&hash.as_bytes()[..8]);
    let second = u64::from_be_bytes(head) % SPREAD;
    EARLIEST + i64::try_from(second).expect("SPREAD is far below i64::MAX")
}

/// The same for both times of a file, as the system wants them.
pub(crate) fn timestamps(hash: &Hash) -> Timestamps {
    let time = Timespec { tv_sec: modified(hash), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn times_lie_in_the_past_and_differ_with_the_content() {
        let times: BTreeSet<i64> = (0..2000_u32).map(|number| modified(&Hash::of(&number.to_be_bytes()))).collect();
        assert_eq!(times.len(), 2000);
        assert!(times.iter().all(|time| (EARLIEST..1_577_836_800).contains(time)));
    }
}
