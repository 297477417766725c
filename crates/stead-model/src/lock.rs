//! `stead.lock`: what every input and runtime is pinned to.
//!
//! The file is JSON with sorted keys, one fact a line, so that it is deterministic and reads well
//! in a diff. Only `stead update` writes it. An unknown field or format is refused, never guessed at.

use crate::hash::{Hash, Sha256};
use crate::name::{Name, PackageName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format that this program writes. Every older one stays readable.
pub const FORMAT: u32 = 1;

/// The whole lock of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    /// Format number, [`FORMAT`].
    pub format: u32,
    /// Each input by its name in `stead.ncl`.
    pub inputs: BTreeMap<Name, LockedInput>,
    /// Each runtime by its key (see [`RuntimeKey`]), in the string form of the key.
    pub runtimes: BTreeMap<String, LockedRuntime>,
}

/// One input, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum LockedInput {
    /// A folder of the operator's machine.
    Path {
        /// As declared: `path:../portfolio`.
        url: String,
        /// Identity of the folder's tree (files that git ignores left out).
        tree: Hash,
        /// Number of files, for the table of `update`.
        files: u64,
        /// Bytes in all files.
        size: u64,
    },
    /// A Debian package archive.
    Debian {
        /// As declared: `debian:bookworm`.
        url: String,
        /// Each suite that was read (`bookworm`, `bookworm-updates`, `bookworm-security`), sorted.
        suites: BTreeMap<String, LockedSuite>,
    },
}

/// One signed index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedSuite {
    /// The `Date` of the signed `InRelease`, as it is written there.
    pub date: String,
    /// SHA-256 of `InRelease`.
    pub sha256: Sha256,
}

/// A runtime's package set, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedRuntime {
    /// The Debian input that it comes from.
    pub debian: Name,
    /// Debian's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// The packages that were asked for, sorted.
    pub requested: Vec<PackageName>,
    /// Every package of the runtime, sorted by name.
    pub packages: Vec<LockedPackage>,
}

/// One binary package, exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedPackage {
    /// The package's name.
    pub name: PackageName,
    /// Its Debian version, epoch included.
    pub version: String,
    /// `amd64`, `arm64` or `all`.
    pub architecture: String,
    /// Bytes of the `.deb`.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Sha256,
    /// Path below the mirror's root: `pool/main/n/nginx/nginx_1.22.1-9_amd64.deb`. A security
    /// archive's paths are below that archive's root, told by `suite`.
    pub path: String,
    /// The suite that it was found in.
    pub suite: String,
}

/// What a runtime is made of, before it is resolved: the key of the lock's `runtimes`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuntimeKey {
    /// The Debian input.
    pub debian: Name,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// The packages asked for, sorted and without repeats.
    pub packages: Vec<PackageName>,
}

impl RuntimeKey {
    /// The key of these packages, in whatever order they were named.
    pub fn new(debian: Name, architecture: &str, packages: impl IntoIterator<Item = PackageName>) -> Self {
        let sorted: std::collections::BTreeSet<PackageName> = packages.into_iter().collect();
        Self { debian, architecture: architecture.to_owned(), packages: sorted.into_iter().collect() }
    }
}

impl std::fmt::Display for RuntimeKey {
    /// `debian/amd64/nginx-light`, the form used in the lock; packages joined by `,`.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let packages: Vec<&str> = self.packages.iter().map(PackageName::as_str).collect();
        write!(out, "{}/{}/{}", self.debian, self.architecture, packages.join(","))
    }
}

impl Lock {
    /// A lock that pins nothing.
    pub fn empty() -> Self {
        Self { format: FORMAT, inputs: BTreeMap::new(), runtimes: BTreeMap::new() }
    }
}
