//! The signed index of a suite (`InRelease`): which files it has, by hash, and how fresh it is.
//!
//! Reads only text that [`crate::keyring`] has verified. Format: Debian's `RepositoryFormat`,
//! section "Release files". A suite under another's name and an index from the future or past its
//! `Valid-Until` are refused.

use crate::archive::Expiry;
use std::collections::BTreeMap;
use stead_model::hash::Sha256;

/// Clocks of mirrors and operators differ by that much, in seconds, without anybody being to blame.
const TOLERANCE: i64 = 24 * 3600;

/// What is believed about a suite.
#[derive(Debug)]
pub(crate) struct Release {
    /// `Date`, as it is written.
    pub(crate) date: String,
    /// `Date`, in seconds since 1970.
    pub(crate) made: i64,
    /// `Valid-Until`, as it is written, and in seconds since 1970.
    valid_until: Option<(String, i64)>,
    /// Whether files can be had under their hash.
    pub(crate) by_hash: bool,
    names: [String; 2],
    files: BTreeMap<String, (Sha256, u64)>,
}

impl Release {
    /// Reads the verified text.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let paragraphs = deb822_fast::borrowed::parse_borrowed(text).map_err(|source| Error::Malformed { source })?;
        let [paragraph] = paragraphs.as_slice() else { return Err(Error::Field { field: "Date" }) };
        let field = |name: &str| paragraph.get_single(name).map(|value| value.trim().to_owned());
        let date = field("Date").ok_or(Error::Field { field: "Date" })?;
        let made = seconds(&date).ok_or(Error::Field { field: "Date" })?;
        let valid_until = match field("Valid-Until") {
            Some(text) => Some((text.clone(), seconds(&text).ok_or(Error::Field { field: "Valid-Until" })?)),
            None => None,
        };
        let mut files = BTreeMap::new();
        for line in paragraph.get("SHA256").ok_or(Error::Field { field: "SHA256" })? {
            let mut words = line.split_whitespace();
            let (Some(hash), Some(size), Some(path)) = (words.next(), words.next(), words.next()) else { continue };
            if let (Ok(hash), Ok(size)) = (hash.parse(), size.parse()) {
                files.insert(path.to_owned(), (hash, size));
            }
        }
        let names = [field("Codename").unwrap_or_default(), field("Suite").unwrap_or_default()];
        Ok(Self { date, made, valid_until, by_hash: field("Acquire-By-Hash").as_deref() == Some("yes"), names, files })
    }

    /// That it is this suite's, and neither from the future nor out of date at `now`.
    pub(crate) fn check(&self, suite: &str, now: i64, expiry: Expiry) -> Result<(), Error> {
        if !self.names.iter().any(|name| name == suite) {
            return Err(Error::OtherSuite { found: self.names[0].clone() });
        }
        if self.made > now + TOLERANCE {
            return Err(Error::FromTheFuture { date: self.date.clone() });
        }
        match &self.valid_until {
            Some((text, until)) if *until < now && expiry == Expiry::Refused => {
                Err(Error::Expired { until: text.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The package index of every architecture.
    pub(crate) fn package_indexes(&self) -> impl Iterator<Item = Sha256> + '_ {
        let indexes = self.files.iter().filter(|(path, _)| path.ends_with("/Packages.xz"));
        indexes.map(|(_, (sha256, _))| *sha256)
    }

    /// Hash and size of a file, by its path below the suite's folder.
    pub(crate) fn file(&self, path: &str) -> Option<(Sha256, u64)> {
        self.files.get(path).copied()
    }
}

/// `Sat, 11 Jul 2026 10:16:37 UTC`, as seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    let text =
        text.strip_suffix(" UTC").or_else(|| text.strip_suffix(" GMT")).or_else(|| text.strip_suffix(" +0000"))?;
    let time = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Why a signed index is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in Debian's control format.
    #[error("it is not in the control file format")]
    Malformed {
        /// Why.
        #[source]
        source: deb822_fast::Error,
    },
    /// A field is missing or not understood.
    #[error("its field `{field}` is missing or malformed")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// The mirror passes one suite off as another.
    #[error("it is the index of `{found}`")]
    OtherSuite {
        /// Its code name.
        found: String,
    },
    /// The date cannot be.
    #[error("it is dated {date}, which is in the future: a clock is wrong, here or there")]
    FromTheFuture {
        /// `Date`.
        date: String,
    },
    /// Not to be used any more.
    #[error(
        "it was valid until {until}: the mirror is out of date, or somebody replays an old index, or the clock here is wrong"
    )]
    Expired {
        /// `Valid-Until`.
        until: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable-security\nCodename: bookworm-security\nDate: Sat, 21 Nov 2026 00:53:02 UTC\n\
        Valid-Until: Sat, 28 Nov 2026 00:53:02 UTC\nAcquire-By-Hash: yes\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n";

    fn refusal(suite: &str, now: i64, expiry: Expiry) -> String {
        Release::parse(TEXT)
            .unwrap()
            .check(suite, now, expiry)
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn an_index_counts_only_for_its_own_suite_and_in_its_time() {
        let made = Release::parse(TEXT).unwrap().made;
        assert_eq!(made, 1_795_222_382);
        assert_eq!(refusal("bookworm-security", made, Expiry::Refused), "fine");
        assert_eq!(refusal("oldstable-security", made, Expiry::Refused), "fine");
        assert!(refusal("trixie-security", made, Expiry::Refused).contains("index of `bookworm-security`"));
        assert!(refusal("bookworm-security", made - 2 * TOLERANCE, Expiry::Refused).contains("future"));
        assert!(
            refusal("bookworm-security", made + 8 * TOLERANCE, Expiry::Refused).contains("valid until Sat, 28 Nov")
        );
        assert_eq!(refusal("bookworm-security", made + 8 * TOLERANCE, Expiry::Accepted), "fine");
    }

    #[test]
    fn files_are_found_by_path_and_a_missing_date_is_an_error() {
        let release = Release::parse(TEXT).unwrap();
        assert!(release.by_hash && release.file("main/binary-amd64/Packages").is_some());
        assert!(release.file("main/binary-arm64/Packages").is_none());
        assert!(matches!(Release::parse(&TEXT.replace("Date:", "Day:")), Err(Error::Field { field: "Date" })));
    }
}
