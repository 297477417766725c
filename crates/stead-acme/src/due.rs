//! Whether a certificate has to be asked for now, and why.
//!
//! Pure: what was found, what is declared, the time and the authority's own advice go in, a reason comes out.

use crate::check::Details;
use crate::renewal::Window;
use crate::store::Found;
use jiff::Timestamp;
use std::fmt;
use stead_model::certificate::{Certificate, Source};

/// Why a certificate is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// There is none.
    Missing,
    /// What is there is broken.
    Broken,
    /// There is only a stand-in.
    StandIn,
    /// It is not for all names.
    Names,
    /// It has another kind of key than is declared.
    KeyType,
    /// It has this many days left.
    Days(i64),
    /// The authority advises to (RFC 9773).
    Advised,
}

impl Due {
    /// Whether the site cannot do without: it has nothing that browsers accept for all of its names.
    pub fn is_lack(&self) -> bool {
        match self {
            Due::Days(days) => *days < 0,
            Due::Advised | Due::KeyType => false,
            Due::Missing | Due::Broken | Due::StandIn | Due::Names => true,
        }
    }
}

impl fmt::Display for Due {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Due::Missing => out.write_str("there is no certificate"),
            Due::Broken => out.write_str("what is there is broken"),
            Due::StandIn => out.write_str("there is only a self-signed stand-in"),
            Due::Names => out.write_str("it is not for all names"),
            Due::KeyType => out.write_str("it has another kind of key than is declared"),
            Due::Days(days) if *days < 0 => out.write_str("it has expired"),
            Due::Days(days) => write!(out, "it expires in {days} days"),
            Due::Advised => out.write_str("the authority advises to renew it now"),
        }
    }
}

/// Whether the declared certificate has to be asked for now. Never for one that somebody else puts into files.
pub fn due(found: &Found, certificate: &Certificate, now: Timestamp, window: Option<&Window>) -> Option<Due> {
    let Source::Authority(authority) = &certificate.source else { return None };
    let details = match found {
        Found::Missing => return Some(Due::Missing),
        Found::Broken(_) => return Some(Due::Broken),
        Found::StandIn(_) => return Some(Due::StandIn),
        Found::Issued(details) => details,
    };
    if !details.covers(&certificate.names) {
        return Some(Due::Names);
    }
    if details.key_type != Some(authority.key_type) {
        return Some(Due::KeyType);
    }
    if left(details, now) < least(details, authority.valid_min_days) {
        return Some(Due::Days(details.days_left(now)));
    }
    window.is_some_and(|window| now >= window.moment(&details.serial)).then_some(Due::Advised)
}

/// From when an issued certificate is due because it ends.
pub fn due_from(details: &Details, valid_min_days: u32) -> Timestamp {
    let second = details.not_after.as_second() - least(details, valid_min_days);
    Timestamp::from_second(second).unwrap_or(details.not_after)
}

fn left(details: &Details, now: Timestamp) -> i64 {
    details.not_after.as_second() - now.as_second()
}

/// Seconds that have to be left. A certificate that never had as many days is renewed in the last third of its life.
fn least(details: &Details, valid_min_days: u32) -> i64 {
    let life = details.not_after.as_second() - details.not_before.as_second();
    let declared = i64::from(valid_min_days) * 24 * 60 * 60;
    if life <= declared { life / 3 } else { declared }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stead_model::certificate::{Authority, Files, KeyType, LETS_ENCRYPT};

    const DAY: i64 = 24 * 60 * 60;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn details(life: i64) -> Details {
        Details {
            names: vec!["a.test".into()],
            not_before: at(0),
            not_after: at(life),
            issuer: "CN=someone".into(),
            is_self_signed: false,
            serial: "0a1b".into(),
            key_type: Some(KeyType::Ec256),
            has_ocsp: false,
        }
    }

    fn certificate(names: &[&str], valid_min_days: u32) -> Certificate {
        let authority = Authority {
            directory: LETS_ENCRYPT.into(),
            roots: None,
            email: None,
            key_type: KeyType::Ec256,
            valid_min_days,
        };
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        Certificate { names, source: Source::Authority(authority) }
    }

    #[test]
    fn what_is_not_there_or_does_not_fit_is_due() {
        let declared = certificate(&["a.test"], 30);
        let found = Found::Issued(details(90 * DAY));
        assert_eq!(due(&Found::Missing, &declared, at(0), None), Some(Due::Missing));
        assert_eq!(due(&Found::Broken("x".into()), &declared, at(0), None), Some(Due::Broken));
        assert_eq!(due(&Found::StandIn(details(90 * DAY)), &declared, at(0), None), Some(Due::StandIn));
        assert_eq!(due(&found, &declared, at(0), None), None);
        assert_eq!(due(&found, &certificate(&["a.test", "b.test"], 30), at(0), None), Some(Due::Names));
        let other = Found::Issued(Details { key_type: Some(KeyType::Rsa2048), ..details(90 * DAY) });
        assert_eq!(due(&other, &declared, at(0), None), Some(Due::KeyType));
    }

    #[test]
    fn it_is_due_when_fewer_days_are_left_than_declared() {
        let (found, declared) = (Found::Issued(details(90 * DAY)), certificate(&["a.test"], 30));
        assert_eq!(due(&found, &declared, at(60 * DAY), None), None);
        assert_eq!(due(&found, &declared, at(60 * DAY + 1), None), Some(Due::Days(29)));
        assert_eq!(due(&found, &declared, at(91 * DAY), None), Some(Due::Days(-1)));
    }

    #[test]
    fn a_short_lived_one_is_due_in_the_last_third_of_its_life() {
        let (found, declared) = (Found::Issued(details(6 * DAY)), certificate(&["a.test"], 30));
        assert_eq!(due(&found, &declared, at(0), None), None);
        assert_eq!(due(&found, &declared, at(4 * DAY), None), None);
        assert_eq!(due(&found, &declared, at(4 * DAY + 1), None), Some(Due::Days(1)));
    }

    #[test]
    fn the_authority_s_advice_comes_before_the_days() {
        let (found, declared) = (Found::Issued(details(90 * DAY)), certificate(&["a.test"], 30));
        let window = Window { start: at(10 * DAY), end: at(11 * DAY) };
        assert_eq!(due(&found, &declared, at(9 * DAY), Some(&window)), None);
        assert_eq!(due(&found, &declared, at(11 * DAY), Some(&window)), Some(Due::Advised));
    }

    #[test]
    fn one_that_somebody_else_renews_is_never_due() {
        let files = Files {
            certificate: "/etc/a.pem".parse().unwrap(),
            key: "/etc/a.key".parse().unwrap(),
            site: "a.test".into(),
        };
        let declared = Certificate { names: vec!["a.test".parse().unwrap()], source: Source::Files(files) };
        assert_eq!(due(&Found::Missing, &declared, at(0), None), None);
    }

    proptest! {
        #[test]
        fn a_new_certificate_is_not_due_and_an_expired_one_is(life in 60i64..(400 * DAY), days in 0u32..500) {
            let (found, declared) = (Found::Issued(details(life)), certificate(&["a.test"], days));
            prop_assert_eq!(due(&found, &declared, at(0), None), None);
            prop_assert!(due(&found, &declared, at(life + 1), None).is_some());
        }
    }
}
