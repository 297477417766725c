//! A generation: the complete, immutable realisation of a server.
//!
//! It names every unit, file, runtime and tree by content; its identity is the hash of this
//! description. Two plans of the same server, lock and facts are the same bytes. It holds no
//! time, no parent, and no name of whoever made it: those belong to the activation.

use crate::certificate::Certificates;
use crate::hash::{Hash, Sha256};
use crate::hooks::ServerHooks;
use crate::host::Host;
use crate::lock::LockedPackage;
use crate::name::{Name, Port, UnitName, UserName};
use crate::path::{AbsolutePath, RelativePath};
use crate::probe::Probes;
use crate::secret::Secrets;
use crate::server::{App, Health, Listen, Strategy};
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// The complete realisation of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Generation {
    /// Format number, [`FORMAT`].
    pub format: u32,
    /// The server that it is a generation of.
    pub server: Name,
    /// Its own files, below `generations/<id>/`: `units/…` (linked into systemd by the generator,
    /// `*.wants` folders included), `nginx/…`, `secrets/…` (encrypted), `firewall/…`,
    /// `run/…` (copied to `/run/stead` when the generation
    /// becomes active by a boot), `etc/…` (copied to `/etc`), `journald.conf`, `sysusers.conf`.
    pub files: Tree,
    /// Trees that its units and files refer to by path, with what they are for ("input portfolio").
    pub trees: BTreeMap<Hash, String>,
    /// Runtimes that its units run from, by id.
    pub runtimes: BTreeMap<Hash, RuntimeRecipe>,
    /// Every unit that the generation brings, and how it changes.
    pub units: BTreeMap<UnitName, Unit>,
    /// System users that have to exist.
    pub users: BTreeSet<UserName>,
    /// Folders of the server that have to be there, with the option that names each.
    pub host_folders: BTreeMap<AbsolutePath, String>,
    /// nginx, when the server has it.
    pub nginx: Option<NginxPart>,
    /// Commands that are run on the server around a switch to it.
    #[serde(default, skip_serializing_if = "ServerHooks::is_empty")]
    pub hooks: ServerHooks,
    /// Questions by which it proves that its sites answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: Probes,
    /// Certificates that its sites need.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: Certificates,
    /// Secrets that its services are given.
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
    /// How the machine itself is to be.
    #[serde(default, skip_serializing_if = "Host::is_empty")]
    pub host: Host,
    /// The firewall, when the server has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<FirewallPart>,
    /// PostgreSQL, when the server has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<PostgresqlPart>,
}

/// How a runtime is made: packages, and what maintainer scripts would have added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeRecipe {
    /// What it is for, for people: `nginx`, `app bill-tracker`.
    pub label: String,
    /// Version of the rules by which packages become a tree (`stead_debian::runtime::RULES`).
    pub rules: u32,
    /// Every package, sorted by name.
    pub packages: Vec<LockedPackage>,
    /// Folders that units mount something on.
    pub mount_folders: BTreeSet<RelativePath>,
    /// Files that units mount something on.
    pub mount_files: BTreeSet<RelativePath>,
}

/// One unit of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unit {
    /// Hash of the unit file: a different one is a different unit.
    pub digest: Hash,
    /// Hash of what the unit reads again on reload (its configuration); `None`: nothing.
    #[serde(default)]
    pub reload_digest: Option<Hash>,
    /// What it is, and so how it changes.
    pub role: Role,
    /// Whether activation starts it (units of timers and by-hand units are not started).
    pub start: bool,
}

/// What a unit is, and so how it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Role {
    /// A listening socket held by systemd. Its name says what it listens on, so it never changes.
    Socket {
        /// The addresses.
        listen: Vec<Listen>,
    },
    /// An nginx instance: a changed one starts beside the old one and shares its sockets.
    Nginx {},
    /// An app instance, named `stead-<app>@<digest>.service`: a changed app is another unit.
    App {
        /// The app.
        app: Name,
        /// Its declared port.
        #[serde(default)]
        port: Option<Port>,
        /// The variable that tells an instance its port.
        port_variable: String,
        /// How it is probed.
        #[serde(default)]
        health: Option<Health>,
        /// How a new instance takes over.
        strategy: Strategy,
        /// Seconds for which it keeps its open connections, at most, once it is replaced.
        #[serde(default = "usual_drain", skip_serializing_if = "is_usual_drain")]
        drain: u32,
    },
    /// A service under a fixed name: a changed one is restarted, or reloaded if only its `reload_digest` differs.
    Service {},
    /// A timer: a changed one is restarted.
    Timer {},
    /// The firewall: comes before everything else, and goes after it. A changed one is reloaded, also if its unit
    /// changed: a restart would leave a moment without it.
    Firewall {},
    /// A database, or what makes roles and databases in it: comes before everything that may use it. A changed one is
    /// restarted, or reloaded if only its `reload_digest` differs.
    Database {},
}

/// What the engine has to know about nginx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NginxPart {
    /// The runtime that has `/usr/sbin/nginx`.
    pub runtime: Hash,
    /// The instance's unit.
    pub unit: UnitName,
    /// What nginx answers on its own socket when it serves this configuration.
    pub configuration: Hash,
    /// Paths inside the runtime that the test of the configuration needs bound, as the unit has them.
    pub binds: Vec<String>,
    /// Seconds for which the instance keeps its open connections, at most, once it is replaced.
    #[serde(default = "usual_drain", skip_serializing_if = "is_usual_drain")]
    pub drain: u32,
}

/// What the test of the firewall's rules has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FirewallPart {
    /// The runtime that has `/usr/sbin/nft`.
    pub runtime: Hash,
    /// The unit that puts the rules in force.
    pub unit: UnitName,
    /// Paths inside the runtime that the test of the rules needs bound.
    pub binds: Vec<String>,
}

/// What the tests of PostgreSQL before a switch have to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresqlPart {
    /// The runtime that has its programs, in `/usr/lib/postgresql/<version>/bin`.
    pub runtime: Hash,
    /// The server's unit.
    pub unit: UnitName,
    /// The major version: the name of its folder below [`crate::layout::POSTGRESQL_DATA`].
    pub version: u32,
    /// Whom its data belong to.
    pub user: UserName,
    /// The port on which it listens on the network; `None`: on its socket alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

fn usual_drain() -> u32 {
    App::DRAIN
}

fn is_usual_drain(drain: &u32) -> bool {
    *drain == App::DRAIN
}

impl Generation {
    /// Its identity.
    pub fn id(&self) -> Hash {
        Hash::of_value("stead generation 1", self)
    }

    /// The generation before the first deploy: nothing at all.
    pub fn empty(server: Name) -> Self {
        Self {
            format: FORMAT,
            server,
            files: Tree::default(),
            trees: BTreeMap::new(),
            runtimes: BTreeMap::new(),
            units: BTreeMap::new(),
            users: BTreeSet::new(),
            host_folders: BTreeMap::new(),
            nginx: None,
            hooks: ServerHooks::default(),
            probes: Probes::new(),
            certificates: Certificates::new(),
            secrets: Secrets::default(),
            host: Host::default(),
            firewall: None,
            postgresql: None,
        }
    }

    /// Every package that its runtimes are made of, by the hash of its file.
    pub fn packages(&self) -> BTreeMap<Sha256, &LockedPackage> {
        self.runtimes.values().flat_map(|runtime| &runtime.packages).map(|package| (package.sha256, package)).collect()
    }
}

impl RuntimeRecipe {
    /// Its identity; the label does not count.
    pub fn id(&self) -> Hash {
        let digests: Vec<Sha256> = self.packages.iter().map(|package| package.sha256).collect();
        Hash::of_value("stead runtime 1", &(self.rules, digests, &self.mount_folders, &self.mount_files))
    }
}
