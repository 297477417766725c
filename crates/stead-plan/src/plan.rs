//! A server and its lock become a generation.
//!
//! The parts add to one [`Draft`]; nothing is rendered twice, and nothing depends on the order in
//! which an operator wrote things.

use crate::error::PlanError;
use crate::files::Files;
use crate::placeholder::{Places, Used};
use crate::references::References;
use crate::runtimes::Runtimes;
use crate::secrets::SecretFiles;
use crate::unit_file::UnitFile;
use crate::{apps, certificates, firewall, hooks, host, nginx, postgresql, probes, secrets, services, upgrade, users};
use std::collections::{BTreeMap, BTreeSet};
use stead_model::certificate::Certificates;
use stead_model::generation::{FORMAT, Generation, Role, Unit};
use stead_model::hash::Hash;
use stead_model::lock::Lock;
use stead_model::name::{Name, SecretName, UnitName, UserName};
use stead_model::path::AbsolutePath;
use stead_model::secret::Version;
use stead_model::server::Server;
use stead_model::tree::Tree;

/// What planning needs besides the declaration.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The project's lock.
    pub lock: &'a Lock,
    /// The folders of `path:` inputs.
    pub trees: &'a BTreeMap<Name, Tree>,
    /// What was built of the apps that have a build.
    pub releases: &'a BTreeMap<Name, Tree>,
    /// The project's secrets, encrypted.
    pub secrets: &'a BTreeMap<SecretName, Sealed>,
    /// `stead_debian::runtime::RULES`: by which rules packages become a runtime.
    pub rules: u32,
}

/// A secret of the project, as far as planning knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its file: encrypted.
    pub content: Vec<u8>,
    /// Which value it is.
    pub version: Version,
    /// How the server stands to it.
    pub standing: Standing,
}

/// How a server stands to a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may read it.
    Granted,
    /// It may not.
    NotGranted,
    /// It may, but the secret is not encrypted for exactly those who may.
    NotKeyed,
}

/// A generation, and everything that it consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The generation.
    pub generation: Generation,
    /// What its own small files hold, by hash.
    pub contents: BTreeMap<Hash, Vec<u8>>,
    /// Every tree that it refers to (not that of its own files).
    pub trees: BTreeMap<Hash, Tree>,
}

/// A generation that is being made.
pub(crate) struct Draft<'a> {
    pub(crate) server: &'a Server,
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) places: Places<'a>,
    pub(crate) references: References<'a>,
    pub(crate) files: Files,
    pub(crate) trees: Used<'a>,
    pub(crate) runtimes: Runtimes,
    pub(crate) units: BTreeMap<UnitName, Unit>,
    pub(crate) users: BTreeSet<UserName>,
    pub(crate) host_folders: BTreeMap<AbsolutePath, String>,
    pub(crate) certificates: Certificates,
    pub(crate) secrets: SecretFiles<'a>,
}

/// The generation of this server. Same arguments, same bytes.
///
/// # Errors
/// When the declaration cannot be realised, with the option that has to change.
pub fn plan(server: &Server, inputs: &Inputs<'_>) -> Result<Planned, PlanError> {
    let mut draft = Draft {
        server,
        inputs,
        places: Places::new(server, inputs)?,
        references: References::new(server),
        files: Files::default(),
        trees: Used::new(),
        runtimes: Runtimes::default(),
        units: BTreeMap::new(),
        users: BTreeSet::new(),
        host_folders: BTreeMap::new(),
        certificates: Certificates::new(),
        secrets: SecretFiles::new(server, inputs.secrets),
    };
    apps::add(&mut draft)?;
    services::add(&mut draft)?;
    let nginx = nginx::add(&mut draft)?;
    certificates::add(&mut draft)?;
    let hooks = hooks::add(&mut draft)?;
    let secrets = secrets::add(&mut draft)?;
    let host = host::add(&mut draft)?;
    upgrade::add(&mut draft)?;
    let firewall = firewall::add(&mut draft)?;
    let postgresql = postgresql::add(&mut draft)?;
    if !draft.users.is_empty() {
        draft.files.add("sysusers.conf", users::sysusers(&draft.users));
    }
    let generation = Generation {
        format: FORMAT,
        server: server.name.clone(),
        files: draft.files.tree,
        trees: draft.trees.iter().map(|(id, (label, _))| (*id, label.clone())).collect(),
        runtimes: draft.runtimes.recipes,
        units: draft.units,
        users: draft.users,
        host_folders: draft.host_folders,
        nginx,
        hooks,
        probes: probes::of(server)?,
        certificates: draft.certificates,
        secrets,
        host,
        firewall,
        postgresql,
    };
    let trees = draft.trees.into_iter().map(|(id, (_, tree))| (id, tree.clone())).collect();
    Ok(Planned { generation, contents: draft.files.contents, trees })
}

impl<'a> Draft<'a> {
    /// Remembers that the generation refers to these trees.
    pub(crate) fn refer(&mut self, used: Used<'a>) {
        self.trees.extend(used);
    }

    /// Keeps names of services and timers for Stead's own.
    ///
    /// # Errors
    /// When the operator has one of that name.
    pub(crate) fn reserve(&self, names: &[&str]) -> Result<(), PlanError> {
        let services = self.server.services.keys().map(|name| ("services", name));
        let timers = self.server.timers.keys().map(|name| ("timers", name));
        match services.chain(timers).find(|(_, name)| names.contains(&name.as_str())) {
            Some((kind, name)) => Err(PlanError::Reserved { option: format!("systemd.{kind}.{name}") }),
            None => Ok(()),
        }
    }

    /// Adds a unit of Stead's own. One that a target wants is started by the deploy too.
    pub(crate) fn add_own(&mut self, name: &str, unit: &UnitFile, role: Role, wanted_by: Option<&str>) {
        let text = unit.text();
        let name = unit_name(name);
        let digest = Hash::of(text.as_bytes());
        self.files.add_unit(&name, text, wanted_by);
        self.units.insert(name, Unit { digest, reload_digest: None, role, start: wanted_by.is_some() });
    }
}

/// The name of one of Stead's own units.
pub(crate) fn unit_name(text: &str) -> UnitName {
    text.parse().expect("a unit is named after a validated name")
}
