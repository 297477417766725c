//! What was tried last for each certificate: `certificates/<name>/attempts.json`.
//!
//! Promises that an authority is not asked again and again for what it refuses: the time between attempts doubles from
//! 5 minutes to 24 hours, or is what the authority asked for. What cannot be read counts as no attempt.

use crate::disk;
use crate::store::Certificates;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use stead_model::name::Domain;

const FILE: &str = "attempts.json";
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(5);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);
/// How often in a row a person may have it tried at once.
const BY_HAND: u32 = 3;
/// An authority that asks for more is asked earlier: a certificate must not be lost to a wrong number.
const LONGEST_REQUESTED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// What is known of the last attempts for one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempts {
    /// How often in a row it failed; 0 after a success.
    pub failures: u32,
    /// What the last refusal said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// When it was tried last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// When the authority wants to be asked again, at the earliest, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Timestamp>,
    /// When it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// What was asked for, as the caller describes it: another one may be tried at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<String>,
}

impl Attempts {
    /// What is kept for a certificate.
    pub fn load(certificates: &Certificates, name: &Domain) -> Self {
        let bytes = disk::read(&certificates.folder(name).join(FILE)).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps this, durably.
    pub fn save(&self, certificates: &Certificates, name: &Domain) -> Result<(), disk::Error> {
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        disk::replace(&certificates.make(name)?.join(FILE), &bytes, 0o600)
    }

    /// Whether it may be tried now.
    pub fn may_try(&self, now: Timestamp) -> bool {
        // A time that lies further ahead than any wait was written by a clock that was wrong.
        self.next.is_none_or(|next| next <= now || next > now + LONGEST_REQUESTED)
    }

    /// Whether it may be tried now for this declaration: at once where it is another than the one that failed.
    pub fn may_try_for(&self, declaration: &str, now: Timestamp) -> bool {
        self.may_try(now) || self.declaration.as_deref() != Some(declaration)
    }

    /// Whether it may be tried now because a person wants it: at once, a few times; authorities count failures (Let's Encrypt
    /// allows five an hour for a name), and their own word always counts.
    pub fn may_try_by_hand(&self, now: Timestamp) -> bool {
        let is_asked_to_wait = self.requested.is_some_and(|at| at > now && at <= now + LONGEST_REQUESTED);
        !is_asked_to_wait && (self.failures < BY_HAND || self.may_try(now))
    }

    /// It failed for this declaration, and the authority may have asked for time.
    pub fn failed(&mut self, words: &str, declaration: &str, retry_after: Option<Timestamp>, now: Timestamp) {
        if self.declaration.as_deref() != Some(declaration) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_WAIT * (1 << (self.failures - 1).min(16));
        let own = now + doubled.min(LONGEST_WAIT);
        let requested = retry_after.unwrap_or(own).min(now + LONGEST_REQUESTED);
        self.next = Some(own.max(requested));
        self.requested = retry_after.map(|_| requested);
        self.last = Some(now);
        self.words = Some(words.to_owned());
        self.declaration = Some(declaration.to_owned());
    }

    /// It succeeded.
    pub fn succeeded(&mut self, now: Timestamp) {
        *self = Self { last: Some(now), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_wait_doubles_from_five_minutes_to_a_day() {
        let mut attempts = Attempts::default();
        assert!(attempts.may_try(at(0)));
        let mut waits = Vec::new();
        for _ in 0..12 {
            attempts.failed("no", "d", None, at(1000));
            waits.push((attempts.next.unwrap().as_second() - 1000) / 60);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440]);
        assert!(!attempts.may_try(at(1000 + 60)));
        assert!(attempts.may_try(at(1000 + 1440 * 60)));
        attempts.succeeded(at(2000));
        assert!(attempts.may_try(at(2000)));
        assert_eq!(attempts.words, None);
    }

    #[test]
    fn the_authority_s_time_counts_when_it_is_later() {
        let mut attempts = Attempts::default();
        attempts.failed("no", "d", Some(at(10)), at(0));
        assert_eq!(attempts.next, Some(at(300)));
        attempts.failed("no", "d", Some(at(7200)), at(0));
        assert_eq!(attempts.next, Some(at(7200)));
        assert!(!attempts.may_try_by_hand(at(7199)) && attempts.may_try_by_hand(at(7200)));
        // Its own patience binds the server, and a person who has tried often enough.
        let mut attempts = Attempts::default();
        for by_hand in [true, true, false] {
            attempts.failed("no", "d", None, at(0));
            assert!(!attempts.may_try(at(1)));
            assert_eq!(attempts.may_try_by_hand(at(1)), by_hand);
        }
        assert!(attempts.may_try_by_hand(attempts.next.unwrap()));
    }

    #[test]
    fn another_declaration_may_be_tried_at_once() {
        let mut attempts = Attempts::default();
        attempts.failed("no", "a.test", None, at(0));
        attempts.failed("no", "a.test", None, at(0));
        assert!(!attempts.may_try_for("a.test", at(1)));
        assert!(attempts.may_try_for("a.test b.test", at(1)));
        attempts.failed("no", "a.test b.test", None, at(1));
        assert_eq!(attempts.failures, 1);
    }

    #[test]
    fn attempts_are_kept_and_damage_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(folder.path(), None).unwrap();
        let name: Domain = "a.test".parse().unwrap();
        let mut attempts = Attempts::load(&certificates, &name);
        attempts.failed("DNS problem", "d", None, at(5));
        attempts.save(&certificates, &name).unwrap();
        assert_eq!(Attempts::load(&certificates, &name), attempts);
        std::fs::write(certificates.folder(&name).join(FILE), "{\"failu").unwrap();
        assert_eq!(Attempts::load(&certificates, &name), Attempts::default());
    }

    proptest! {
        #[test]
        fn the_next_attempt_is_always_ahead_and_within_reach(
            failures in any::<u32>(), now in 0i64..4_000_000_000, asked in proptest::option::of(0i64..9_000_000_000),
        ) {
            let mut attempts = Attempts { failures, declaration: Some("d".into()), ..Attempts::default() };
            attempts.failed("no", "d", asked.map(at), at(now));
            let wait = attempts.next.unwrap().as_second() - now;
            prop_assert!((300..=LONGEST_REQUESTED.as_secs()).contains(&wait), "{wait}");
        }
    }
}
