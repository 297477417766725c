//! What an archive's suites offer, ready to be asked.
//!
//! Of each stanza of a `Packages` file only what resolution needs is kept (format: Debian's
//! `RepositoryFormat`, section "Packages Indices"). Stanzas are found through sorted hashes of
//! names and are parsed only when somebody asks for them, so that loading 65,000 packages costs
//! little. Never fetches; holds only what [`crate::archive`] has verified.

use crate::relation::{Relation, parse_groups};
use std::hash::{DefaultHasher, Hash, Hasher};
use stead_model::hash::Sha256;
use stead_model::name::PackageName;
use stead_model::path::RelativePath;

/// The fields that are kept. `Package` has to be first and `Provides` second: loading relies on it.
const FIELDS: [&str; 11] = [
    "Package",
    "Provides",
    "Version",
    "Architecture",
    "Pre-Depends",
    "Depends",
    "Conflicts",
    "Breaks",
    "Filename",
    "Size",
    "SHA256",
];

/// Several suites of one archive, for one architecture.
#[derive(Debug, Default)]
pub struct Index {
    suites: Vec<(String, String)>,
    names: Vec<(u64, Place)>,
    provided: Vec<(u64, Place)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    suite: u32,
    start: u32,
    end: u32,
}

/// One package as an index describes it.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: PackageName,
    /// Its version.
    pub version: String,
    /// `amd64`, `all`, ….
    pub architecture: String,
    /// Where it was found.
    pub suite: String,
    /// Path below the archive's root.
    pub path: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Sha256,
    pub(crate) provides: Vec<Relation>,
    pub(crate) depends: Vec<Vec<Relation>>,
    pub(crate) excludes: Vec<Relation>,
}

impl Index {
    /// An index of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a suite: the text of its `Packages` file, whole or reduced. Call [`Self::finish`] after the last one.
    pub(crate) fn add(&mut self, suite: &str, text: String) {
        let number = self.suites.len() as u32;
        let mut start = 0;
        for stanza in text.split("\n\n") {
            let place = Place { suite: number, start: start as u32, end: (start + stanza.len()) as u32 };
            start += stanza.len() + 2;
            let mut lines = stanza.trim_start_matches('\n').lines();
            let Some(name) = lines.next().and_then(|line| line.strip_prefix("Package: ")) else { continue };
            self.names.push((digest(name.trim()), place));
            if let Some(provides) = lines.next().and_then(|line| line.strip_prefix("Provides: ")) {
                let names =
                    provides.split(',').filter_map(|provide| provide.trim_start().split([' ', '(', ':']).next());
                self.provided.extend(names.map(|name| (digest(name), place)));
            }
        }
        self.suites.push((suite.to_owned(), text));
    }

    /// Makes what was added findable.
    pub(crate) fn finish(mut self) -> Self {
        self.names.sort_unstable();
        self.provided.sort_unstable();
        self.provided.dedup();
        self
    }

    /// An index of these suites (name and text of the `Packages` file), in this order.
    pub fn of<'a>(suites: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let mut index = Self::new();
        for (suite, text) in suites {
            index.add(suite, reduce(text)?);
        }
        Ok(index.finish())
    }

    /// Number of packages, every version of every suite counted.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no package at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Every version of the package with this name, in the order of the suites.
    pub fn named(&self, name: &str) -> Result<Vec<Package>, Error> {
        let mut found = self.at(&self.names, name)?;
        found.retain(|package| package.name.as_str() == name);
        Ok(found)
    }

    /// Every package that provides this name (and may have another one itself).
    pub(crate) fn providers(&self, name: &str) -> Result<Vec<Package>, Error> {
        let mut found = self.at(&self.provided, name)?;
        found.retain(|package| package.provides.iter().any(|provide| provide.name == name));
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The existing name that is most like this one.
    pub(crate) fn similar(&self, name: &str) -> Option<String> {
        let likeness = |place: &Place| {
            let known = self.text(*place).trim_start().lines().next()?.strip_prefix("Package: ")?;
            Some((strsim::jaro_winkler(known, name), known))
        };
        let best = self
            .names
            .iter()
            .filter_map(|(_, place)| likeness(place))
            .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))?;
        (best.0 > 0.85).then(|| best.1.to_owned())
    }

    fn at(&self, table: &[(u64, Place)], name: &str) -> Result<Vec<Package>, Error> {
        let digest = digest(name);
        let start = table.partition_point(|entry| entry.0 < digest);
        let same = table[start..].iter().take_while(|entry| entry.0 == digest);
        same.map(|(_, place)| parse(self.text(*place), &self.suites[place.suite as usize].0)).collect()
    }

    fn text(&self, place: Place) -> &str {
        &self.suites[place.suite as usize].1[place.start as usize..place.end as usize]
    }
}

/// The same index with only the fields that are kept, each on one line, in the order that loading relies on.
pub(crate) fn reduce(packages: &str) -> Result<String, Error> {
    let mut reduced = String::with_capacity(packages.len() / 3);
    for paragraph in deb822_fast::borrowed::iter_paragraphs_borrowed(packages) {
        let paragraph = paragraph.map_err(|source| Error::Malformed { source })?;
        for field in FIELDS {
            if let Some(lines) = paragraph.get(field) {
                reduced.push_str(field);
                reduced.push(':');
                for line in lines {
                    reduced.push(' ');
                    reduced.push_str(line.trim());
                }
                reduced.push('\n');
            }
        }
        reduced.push('\n');
    }
    u32::try_from(reduced.len()).map_err(|_| Error::TooLarge)?;
    Ok(reduced)
}

fn digest(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn parse(stanza: &str, suite: &str) -> Result<Package, Error> {
    let paragraphs = deb822_fast::borrowed::parse_borrowed(stanza).map_err(|source| Error::Malformed { source })?;
    let paragraph = paragraphs.first().ok_or_else(|| Error::Field { package: String::new(), field: "Package" })?;
    let field = |field: &str| paragraph.get_single(field).map(str::trim);
    let package = field("Package").unwrap_or_default().to_owned();
    let wrong = |field: &'static str| Error::Field { package: package.clone(), field };
    let groups = |name: &'static str| parse_groups(field(name).unwrap_or_default()).ok_or_else(|| wrong(name));
    let mut depends = groups("Pre-Depends")?;
    depends.append(&mut groups("Depends")?);
    let mut excludes: Vec<Relation> = groups("Conflicts")?.into_iter().flatten().collect();
    excludes.extend(groups("Breaks")?.into_iter().flatten());
    let path = field("Filename").and_then(|path| path.parse::<RelativePath>().ok()).ok_or_else(|| wrong("Filename"))?;
    Ok(Package {
        name: package.parse().map_err(|_| wrong("Package"))?,
        version: field("Version").ok_or_else(|| wrong("Version"))?.to_owned(),
        architecture: field("Architecture").ok_or_else(|| wrong("Architecture"))?.to_owned(),
        suite: suite.to_owned(),
        path: path.as_str().to_owned(),
        size: field("Size").and_then(|size| size.parse().ok()).ok_or_else(|| wrong("Size"))?,
        sha256: field("SHA256").and_then(|hash| hash.parse().ok()).ok_or_else(|| wrong("SHA256"))?,
        provides: groups("Provides")?.into_iter().flatten().collect(),
        depends,
        excludes,
    })
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in Debian's control format.
    #[error("the package index is not in the control file format")]
    Malformed {
        /// Why.
        #[source]
        source: deb822_fast::Error,
    },
    /// A package is described wrongly.
    #[error("in the package index, the field `{field}` of `{package}` is missing or malformed")]
    Field {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// More than 4 GiB of it.
    #[error("the package index is too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STANZA: &str = "Package: tool\nVersion: 1\nArchitecture: amd64\nProvides: thing (= 2),\n other\nDepends: lib (>= 1)\n\
        Filename: pool/t.deb\nSize: 5\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
        Description: a tool\n of many\n .\n words\n\n";

    #[test]
    fn packages_are_found_by_name_and_by_what_they_provide() {
        let index = Index::of([("one", STANZA), ("two", STANZA)]).unwrap();
        let suites = |found: Vec<Package>| found.into_iter().map(|package| package.suite).collect::<Vec<_>>().join(" ");
        assert_eq!(index.len(), 2);
        assert_eq!(suites(index.named("tool").unwrap()), "one two");
        assert_eq!(suites(index.providers("thing").unwrap()), "one two");
        assert_eq!(suites(index.providers("other").unwrap()), "one two");
        assert!(index.named("thing").unwrap().is_empty() && index.providers("tool").unwrap().is_empty());
    }

    #[test]
    fn a_reduced_index_reduces_to_itself() {
        let reduced = reduce(STANZA).unwrap();
        assert!(!reduced.contains("Description"));
        assert_eq!(reduce(&reduced).unwrap(), reduced);
    }

    #[test]
    fn a_malformed_field_is_named_with_its_package() {
        for (field, from, to) in
            [("Size", "Size: 5", "Size: five"), ("Filename", "pool/t.deb", "../t.deb"), ("Depends", "(>= 1)", "(1")]
        {
            let index = Index::of([("one", STANZA.replace(from, to).as_str())]).unwrap();
            let error = index.named("tool").unwrap_err().to_string();
            assert!(error.contains(&format!("the field `{field}` of `tool`")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn an_altered_index_is_read_or_refused_without_harm(place in 0_usize..STANZA.len(), text in "[ -~\n]{0,12}", cut in 0_usize..12) {
            let mut altered = STANZA.to_owned();
            altered.replace_range(place..(place + cut).min(STANZA.len()), &text);
            if let Ok(index) = Index::of([("one", altered.as_str())])
                && let Ok(found) = index.named("tool")
            {
                prop_assert!(found.iter().all(|package| !package.path.contains("..")));
            }
        }
    }
}
