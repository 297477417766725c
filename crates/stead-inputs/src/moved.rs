//! What moved between two locks, as the rows of a table.
//!
//! Pure: compares, and leaves the printing to others. Promises that two locks with different pins
//! never give an empty table.

use std::collections::{BTreeMap, BTreeSet};
use stead_model::lock::{Lock, LockedInput};
use stead_model::name::{Name, PackageName};

/// One thing that is pinned otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The thing.
    pub subject: Subject,
    /// What it was pinned to; `None`: it is new.
    pub from: Option<String>,
    /// What it is pinned to; `None`: it is gone.
    pub to: Option<String>,
    /// Whether the new one comes from a suite of security updates.
    pub origin: Origin,
}

/// What can move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A folder, or a Debian input as a whole (when it is new, gone, or another release).
    Input(Name),
    /// A signed index of a Debian input.
    Suite {
        /// The Debian input.
        input: Name,
        /// `bookworm-security`.
        suite: String,
    },
    /// A runtime that is new or gone, by its key.
    Runtime(String),
    /// A package, in whatever runtimes it is.
    Package {
        /// The Debian input.
        input: Name,
        /// Debian's name of the architecture of the runtime.
        architecture: String,
        /// The package.
        name: PackageName,
    },
}

/// Where something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A suite of security updates.
    Security,
    /// Anything else.
    Other,
}

/// What moved from one lock to the other: inputs, indexes, runtimes, packages, each by name.
pub fn between(old: &Lock, new: &Lock) -> Vec<Row> {
    let mut rows = Vec::new();
    compare(&mut rows, &inputs(old), &inputs(new));
    compare(&mut rows, &suites(old), &suites(new));
    let runtimes = |lock: &Lock| {
        lock.runtimes
            .iter()
            .map(|(key, runtime)| {
                (Subject::Runtime(key.clone()), Pin::of(format!("{} packages", runtime.packages.len())))
            })
            .collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (runtimes(old), runtimes(new));
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
    let fresh = after.iter().filter(|(key, _)| !before.contains_key(key));
    rows.extend(gone.map(|(subject, pin)| row(subject, Some(pin), None)));
    rows.extend(fresh.map(|(subject, pin)| row(subject, None, Some(pin))));
    compare(&mut rows, &packages(old), &packages(new));
    rows
}

#[derive(PartialEq, Eq)]
struct Pin {
    /// What is compared.
    identity: String,
    /// What is shown.
    text: String,
    security: bool,
}

impl Pin {
    fn of(text: String) -> Self {
        Self { identity: text.clone(), text, security: false }
    }
}

fn compare(rows: &mut Vec<Row>, old: &BTreeMap<Subject, Pin>, new: &BTreeMap<Subject, Pin>) {
    let subjects: BTreeSet<&Subject> = old.keys().chain(new.keys()).collect();
    for subject in subjects {
        let (from, to) = (old.get(subject), new.get(subject));
        if from.map(|pin| &pin.identity) != to.map(|pin| &pin.identity) {
            rows.push(row(subject, from, to));
        }
    }
}

fn row(subject: &Subject, from: Option<&Pin>, to: Option<&Pin>) -> Row {
    let origin = if to.is_some_and(|pin| pin.security) { Origin::Security } else { Origin::Other };
    let text = |pin: &Pin| pin.text.clone();
    Row { subject: subject.clone(), from: from.map(text), to: to.map(text), origin }
}

fn inputs(lock: &Lock) -> BTreeMap<Subject, Pin> {
    let pin = |input: &LockedInput| match input {
        LockedInput::Path { url, tree, files, size } => Pin {
            identity: format!("{url} {tree}"),
            text: format!(
                "{} ({files} {}, {})",
                tree.short(),
                if *files == 1 { "file" } else { "files" },
                bytes(*size)
            ),
            security: false,
        },
        LockedInput::Debian { url, .. } => Pin::of(url.clone()),
    };
    lock.inputs.iter().map(|(name, input)| (Subject::Input(name.clone()), pin(input))).collect()
}

fn suites(lock: &Lock) -> BTreeMap<Subject, Pin> {
    let mut all = BTreeMap::new();
    for (name, input) in &lock.inputs {
        let LockedInput::Debian { suites, .. } = input else { continue };
        for (suite, locked) in suites {
            let identity = format!("{} {}", locked.date, locked.sha256);
            let pin = Pin { identity, text: locked.date.clone(), security: is_security(suite) };
            all.insert(Subject::Suite { input: name.clone(), suite: suite.clone() }, pin);
        }
    }
    all
}

/// A package's pins in all runtimes of an input and architecture together: normally all the same.
fn packages(lock: &Lock) -> BTreeMap<Subject, Pin> {
    let mut found: BTreeMap<Subject, BTreeMap<&str, (BTreeSet<String>, bool)>> = BTreeMap::new();
    for runtime in lock.runtimes.values() {
        for package in &runtime.packages {
            let subject = Subject::Package {
                input: runtime.debian.clone(),
                architecture: runtime.architecture.clone(),
                name: package.name.clone(),
            };
            let (files, security) = found.entry(subject).or_default().entry(&package.version).or_default();
            files.insert(package.sha256.to_string());
            *security |= is_security(&package.suite);
        }
    }
    let pin = |versions: BTreeMap<&str, (BTreeSet<String>, bool)>| Pin {
        identity: format!("{:?}", versions.iter().map(|(version, (files, _))| (version, files)).collect::<Vec<_>>()),
        text: versions.keys().copied().collect::<Vec<_>>().join(", "),
        security: versions.values().any(|(_, security)| *security),
    };
    found.into_iter().map(|(subject, versions)| (subject, pin(versions))).collect()
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if size < 1000 {
        return format!("{size} B");
    }
    let mut value = size;
    let mut unit = 0;
    while value >= 1_000_000 && unit + 1 < UNITS.len() {
        value /= 1000;
        unit += 1;
    }
    let tenths = (value + 50) / 100;
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use stead_model::hash::{Hash, Sha256};
    use stead_model::lock::{LockedPackage, LockedRuntime, LockedSuite};

    pub(crate) fn package(name: &str, version: &str) -> LockedPackage {
        LockedPackage {
            name: name.parse().unwrap(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            size: 10,
            sha256: Sha256::from_bytes([0; 32]),
            path: format!("pool/main/{name}.deb"),
            suite: "bookworm".to_owned(),
        }
    }

    pub(crate) fn lock() -> Lock {
        let suite =
            LockedSuite { date: "Sat, 11 Jan 2025 11:04:28 UTC".to_owned(), sha256: Sha256::from_bytes([0; 32]) };
        let debian =
            LockedInput::Debian { url: "debian:bookworm".to_owned(), suites: [("bookworm".to_owned(), suite)].into() };
        let url = "path:../portfolio".to_owned();
        let portfolio = LockedInput::Path { url, tree: Hash::from_bytes([0; 32]), files: 2, size: 2048 };
        let runtime = LockedRuntime {
            debian: "debian".parse().unwrap(),
            architecture: "amd64".to_owned(),
            requested: vec!["nginx-light".parse().unwrap()],
            packages: vec![package("libc6", "2.36-9"), package("nginx-light", "1.22.1-9")],
        };
        Lock {
            inputs: [("debian".parse().unwrap(), debian), ("portfolio".parse().unwrap(), portfolio)].into(),
            runtimes: [("debian/amd64/nginx-light".to_owned(), runtime)].into(),
            ..Lock::empty()
        }
    }

    #[test]
    fn equal_locks_moved_nothing() {
        assert_eq!(between(&lock(), &lock()), []);
    }

    #[test]
    fn a_security_update_is_a_row_with_both_versions() {
        let mut new = lock();
        let runtime = new.runtimes.values_mut().next().unwrap();
        runtime.packages[1] =
            LockedPackage { suite: "bookworm-security".to_owned(), ..package("nginx-light", "1.22.1-9+deb12u1") };
        let rows = between(&lock(), &new);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].from.as_deref(), Some("1.22.1-9"));
        assert_eq!(rows[0].to.as_deref(), Some("1.22.1-9+deb12u1"));
        assert_eq!(rows[0].origin, Origin::Security);
    }

    #[test]
    fn a_package_of_several_runtimes_is_one_row() {
        let with = |version: &str| {
            let mut lock = lock();
            let mut other = lock.runtimes["debian/amd64/nginx-light"].clone();
            other.requested = vec!["python3".parse().unwrap()];
            lock.runtimes.insert("debian/amd64/python3".to_owned(), other);
            lock.runtimes.values_mut().for_each(|runtime| runtime.packages[0] = package("libc6", version));
            lock
        };
        let rows = between(&with("2.36-9"), &with("2.36-10"));
        assert_eq!(rows.len(), 1, "{rows:?}");
    }

    #[test]
    fn the_first_update_shows_all_as_new() {
        let rows = between(&Lock::empty(), &lock());
        assert!(rows.iter().all(|row| row.from.is_none() && row.to.is_some()));
        assert_eq!(rows.len(), 2 + 1 + 1 + 2);
        assert_eq!(rows[1].to.as_deref(), Some("00000000 (2 files, 2.0 kB)"));
        assert_eq!(between(&lock(), &Lock::empty()).len(), rows.len());
    }

    #[test]
    fn a_package_of_the_same_version_but_other_content_has_moved() {
        let mut new = lock();
        new.runtimes.values_mut().next().unwrap().packages[0].sha256 = Sha256::from_bytes([1; 32]);
        assert_eq!(between(&lock(), &new).len(), 1);
    }

    #[test]
    fn sizes_are_told_in_units_of_a_thousand() {
        let told: Vec<String> = [0, 999, 1000, 20_480_000, 1_250_000_000].into_iter().map(bytes).collect();
        assert_eq!(told, ["0 B", "999 B", "1.0 kB", "20.5 MB", "1.3 GB"]);
    }
}
