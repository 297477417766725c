//! Runtimes: which package sets a server needs, and the recipes of a generation.
//!
//! A recipe plans every mount point of the units that run from it, so that nothing ever writes
//! into a runtime. The packages come from the lock alone.

use crate::Inputs;
use crate::error::PlanError;
use std::collections::{BTreeMap, BTreeSet};
use stead_model::generation::RuntimeRecipe;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::lock::RuntimeKey;
use stead_model::name::{Name, PackageName};
use stead_model::path::RelativePath;
use stead_model::server::{App, Firewall, Postgresql, Server};

/// What `MountAPIVFS=`, `PrivateTmp=`, `ProtectSystem=` and `ProtectHome=` mount on (`systemd.exec(5)`).
const MOUNTED_BY_SYSTEMD: [&str; 8] = ["dev", "home", "proc", "root", "run", "sys", "tmp", "var/tmp"];
/// Files of the host that tell a service where names are resolved, and the time zone.
const HOST_FILES: [&str; 3] = ["/etc/hosts", "/etc/localtime", "/etc/resolv.conf"];

/// Which runtimes a server needs, those of builds included. Sets without a package need no pin.
pub fn runtime_keys(server: &Server) -> BTreeSet<RuntimeKey> {
    let nginx = server.nginx.enable.then(|| nginx_key(server));
    let apps = server.apps.values().flat_map(|app| [Some(app_key(server, app)), build_key(server, app)]);
    let services = server
        .services
        .values()
        .filter_map(|service| service.runtime.as_ref())
        .filter_map(|name| server.runtimes.get(name))
        .map(|runtime| Some(key(server, runtime.debian.as_ref(), &runtime.packages)));
    let firewall = server.firewall.as_ref().map(|firewall| firewall_key(server, firewall));
    let postgresql = server.postgresql.as_ref().map(|postgresql| postgresql_key(server, postgresql));
    let all = apps.chain(services).chain([nginx, firewall, postgresql]);
    all.flatten().filter(|key| !key.packages.is_empty()).collect()
}

/// The runtime in which an app is built; `None`: it is not built.
pub fn build_key(server: &Server, app: &App) -> Option<RuntimeKey> {
    app.build.as_ref().map(|build| {
        let packages: Vec<PackageName> = build.all_packages().into_iter().collect();
        key(server, app.debian.as_ref(), &packages)
    })
}

/// The runtime of nginx.
pub(crate) fn nginx_key(server: &Server) -> RuntimeKey {
    key(server, server.nginx.debian.as_ref(), &server.nginx.packages)
}

/// The runtime of the firewall.
pub(crate) fn firewall_key(server: &Server, firewall: &Firewall) -> RuntimeKey {
    key(server, firewall.debian.as_ref(), &firewall.packages)
}

/// The runtime of PostgreSQL.
pub(crate) fn postgresql_key(server: &Server, postgresql: &Postgresql) -> RuntimeKey {
    key(server, postgresql.debian.as_ref(), &postgresql.packages())
}

/// The runtime that an app runs from.
pub(crate) fn app_key(server: &Server, app: &App) -> RuntimeKey {
    key(server, app.debian.as_ref(), &app.packages)
}

/// The key of these packages.
pub(crate) fn key(server: &Server, debian: Option<&Name>, packages: &[PackageName]) -> RuntimeKey {
    RuntimeKey::new(debian.unwrap_or(&server.debian).clone(), &server.architecture, packages.iter().cloned())
}

/// What a unit binds of the host so that its runtime knows who and where it is, as words of
/// `BindReadOnlyPaths=`. Who is who comes as a folder, so that it is known also of those who are added later.
pub(crate) fn binds_of_host() -> impl Iterator<Item = String> {
    [layout::NAMES.to_owned()].into_iter().chain(HOST_FILES.map(|file| format!("-{file}")))
}

/// What is mounted into a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounts {
    folders: BTreeSet<RelativePath>,
    files: BTreeSet<RelativePath>,
}

impl Mounts {
    /// What is mounted into every runtime.
    pub(crate) fn standard() -> Self {
        let mut mounts = Self { folders: BTreeSet::new(), files: BTreeSet::new() };
        MOUNTED_BY_SYSTEMD.iter().for_each(|folder| mounts.folder(folder));
        mounts.folder(layout::TREES);
        mounts.folder(layout::NAMES);
        HOST_FILES.iter().for_each(|file| mounts.file(file));
        mounts
    }

    /// Plans a file to mount on, by its place inside the runtime.
    pub(crate) fn file(&mut self, path: &str) {
        self.files.extend(path.trim_matches('/').parse::<RelativePath>());
    }

    /// Plans a folder to mount on, by its place inside the runtime. A path that is not normal is
    /// left to systemd, which refuses it.
    pub(crate) fn folder(&mut self, path: &str) {
        self.folders.extend(path.trim_matches('/').parse::<RelativePath>());
    }
}

/// The recipes of a generation.
#[derive(Debug, Default)]
pub(crate) struct Runtimes {
    /// By id.
    pub(crate) recipes: BTreeMap<Hash, RuntimeRecipe>,
}

impl Runtimes {
    /// Adds the runtime with these packages and mount points; the same one is there once.
    ///
    /// # Errors
    /// When the lock does not have the packages; `option` is what asks for them.
    pub(crate) fn add(
        &mut self,
        inputs: &Inputs<'_>,
        label: String,
        option: &str,
        key: &RuntimeKey,
        mounts: Mounts,
    ) -> Result<Hash, PlanError> {
        let packages = if key.packages.is_empty() {
            Vec::new()
        } else {
            let locked = inputs.lock.runtimes.get(&key.to_string());
            let missing = || PlanError::MissingPin { option: option.to_owned(), key: key.to_string() };
            locked.ok_or_else(missing)?.packages.clone()
        };
        let recipe = RuntimeRecipe {
            label,
            rules: inputs.rules,
            packages,
            mount_folders: mounts.folders,
            mount_files: mounts.files,
        };
        let id = recipe.id();
        match self.recipes.get_mut(&id) {
            Some(known) => known.label = format!("{}, {}", known.label, recipe.label),
            None => drop(self.recipes.insert(id, recipe)),
        }
        Ok(id)
    }
}
