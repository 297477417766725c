//! A server: the merged, checked declaration of one machine.
//!
//! This is what evaluation of the project's Nickel modules produces, and the whole of what the
//! planner knows about the operator's wishes. Field names in serialised form are the option names
//! of the language. Paths of inputs appear as placeholders (see [`crate::layout`]).

mod firewall;
mod nginx;
mod postgresql;

use crate::certificate::Acme;
use crate::hooks::Hooks;
use crate::name::{CredentialName, Domain, Name, PackageName, Port, SqlName, UnitName, UserName, VariableName};
use crate::path::AbsolutePath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use firewall::{Firewall, Interface, NotAnInterface, Open, PortRange};
pub use nginx::{Listen, Location, Nginx, SiteCertificate, SiteTls, TlsUse, Upstream, VirtualHost};
pub use postgresql::{Clause, DatabaseUser, Postgresql};

/// One machine, as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// Its name in the project: `outputs.servers.<name>`.
    pub name: Name,
    /// Where SSH finds it: an address, or a name (also one of `ssh_config(5)`).
    pub host: String,
    /// Who logs in. `None`: whatever the operator's SSH configuration says.
    #[serde(default)]
    pub ssh_user: Option<UserName>,
    /// SSH's port. `None`: whatever the operator's SSH configuration says.
    #[serde(default)]
    pub ssh_port: Option<Port>,
    /// Debian's name of the architecture; `amd64` unless declared.
    pub architecture: String,
    /// The Debian input that runtimes come from unless they name another.
    pub debian: Name,
    /// Web apps and workers.
    #[serde(default)]
    pub apps: BTreeMap<Name, App>,
    /// nginx and its sites.
    pub nginx: Nginx,
    /// Named package sets for services of `systemd.services`.
    #[serde(default)]
    pub runtimes: BTreeMap<Name, Runtime>,
    /// Any other service: becomes `stead-<name>.service`.
    #[serde(default)]
    pub services: BTreeMap<Name, SystemdService>,
    /// Timers: `stead-<name>.timer`, starting the service of that name.
    #[serde(default)]
    pub timers: BTreeMap<Name, SystemdTimer>,
    /// Commands run around a switch.
    #[serde(default)]
    pub hooks: Hooks,
    /// Questions that have to be answered as declared, beside those that every site is asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<Name, crate::probe::Declared>,
    /// What authorities are asked for.
    #[serde(default)]
    pub acme: Acme,
    /// How the machine itself is to be.
    #[serde(default)]
    pub host_settings: crate::host::Declared,
    /// The firewall; `None`: nothing is shut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    /// PostgreSQL, when the server has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<Postgresql>,
}

/// A named set of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    /// The Debian input; `None`: the server's.
    #[serde(default)]
    pub debian: Option<Name>,
    /// The packages asked for; what they depend on comes with them.
    pub packages: Vec<PackageName>,
}

/// A program of the operator's own, run as a supervised service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct App {
    /// What is run: a folder in the app's input, or what a build made of it.
    pub source: String,
    /// How the release is made; `None`: the source folder is the release.
    #[serde(default)]
    pub build: Option<Build>,
    /// The command, relative to the release (`bin/app start`) or absolute inside the runtime
    /// (`/usr/bin/python3 app.py`). Split as systemd splits `ExecStart=`; no shell.
    pub exec: String,
    /// Packages that it runs on, besides what they depend on.
    #[serde(default)]
    pub packages: Vec<PackageName>,
    /// The Debian input; `None`: the server's.
    #[serde(default)]
    pub debian: Option<Name>,
    /// Environment variables.
    #[serde(default)]
    pub environment: BTreeMap<VariableName, String>,
    /// Files in the folder that `$CREDENTIALS_DIRECTORY` names, by name: texts, usually with secrets in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<CredentialName, String>,
    /// The port that the app is known by. nginx's `proxyPass` to it reaches the live instance.
    #[serde(default)]
    pub port: Option<Port>,
    /// The variable that tells each instance its own port.
    pub port_variable: VariableName,
    /// The database of this server that it has; the role that owns it has the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<SqlName>,
    /// The user that runs it; `None`: one of the app's own, made for it.
    #[serde(default)]
    pub user: Option<UserName>,
    /// Units that must have been started before.
    #[serde(default)]
    pub after: Vec<UnitName>,
    /// Units without which it must not run.
    #[serde(default)]
    pub requires: Vec<UnitName>,
    /// Units started along with it.
    #[serde(default)]
    pub wants: Vec<UnitName>,
    /// What happens when it ends.
    pub restart: Restart,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// How one knows that it works; `None`: that it keeps running.
    #[serde(default)]
    pub health: Option<Health>,
    /// Whether it has a writable state folder, told to it as `STATE_DIRECTORY`.
    pub state_directory: bool,
    /// How a new version takes over.
    pub strategy: Strategy,
    /// Seconds for which an instance that was replaced keeps its open connections, at most, before it is asked to stop.
    #[serde(default = "App::usual_drain")]
    pub drain: u32,
    /// Seconds that it is given to stop.
    pub stop_timeout: u32,
    /// What is not taken away from it, by systemd's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unprotected: Vec<String>,
}

impl App {
    /// [`App::drain`] of what declares none, in seconds.
    pub const DRAIN: u32 = 30;

    fn usual_drain() -> u32 {
        Self::DRAIN
    }
}

/// How a release is made of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// Packages that the build needs.
    pub packages: Vec<PackageName>,
    /// A POSIX shell command, run in a copy of the source, without network.
    pub command: String,
    /// The folder that becomes the release, relative to the source's.
    pub output: String,
    /// Environment variables of the build.
    #[serde(default)]
    pub environment: BTreeMap<VariableName, String>,
}

impl Build {
    /// What every shell command takes for granted: Debian calls these packages essential (Policy,
    /// section 3.8), so that no other package depends on them.
    pub const TOOLS: [&str; 5] = ["coreutils", "dash", "findutils", "grep", "sed"];

    /// Every package that the build's runtime is asked for: the declared ones and [`Build::TOOLS`].
    pub fn all_packages(&self) -> BTreeSet<PackageName> {
        let tools = Self::TOOLS.iter().map(|name| name.parse().expect("the tools are named by package names"));
        self.packages.iter().cloned().chain(tools).collect()
    }
}

/// What systemd does when a service ends (`systemd.service(5)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// When to start it again.
    pub policy: RestartPolicy,
    /// Seconds in between.
    pub delay: u32,
}

/// `Restart=` of `systemd.service(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Whatever the reason.
    Always,
    /// After a failure.
    OnFailure,
    /// Never.
    No,
}

/// Resource limits (`systemd.resource-control(5)`); what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// `MemoryMax=`: bytes with a suffix, or a percentage.
    pub memory_max: Option<String>,
    /// `CPUQuota=`: a percentage of one core.
    pub cpu_quota: Option<String>,
    /// `TasksMax=`.
    pub tasks_max: Option<u32>,
    /// `LimitNOFILE=`.
    pub open_files: Option<u32>,
}

/// How a new version of an app takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// The new instance starts next to the old one, on a port of its own.
    Beside,
    /// The old instance stops first: for apps that cannot run twice.
    Restart,
}

/// How one knows that an app works. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// What is asked.
    pub check: HealthCheck,
    /// Time between two probes (the first ones come every 50 ms).
    pub interval: u32,
    /// Time that one probe may take.
    pub timeout: u32,
    /// Time until the app has to be healthy.
    pub deadline: u32,
    /// Probes that have to pass in a row.
    pub passes: u32,
    /// Time for which a new instance has to stay up and healthy after visitors were let over to it.
    #[serde(default = "Health::usual_soak", skip_serializing_if = "Health::is_usual_soak")]
    pub soak: u32,
}

impl Health {
    /// The soak of what declares none, in milliseconds.
    pub const SOAK: u32 = 5_000;

    fn usual_soak() -> u32 {
        Self::SOAK
    }

    fn is_usual_soak(soak: &u32) -> bool {
        *soak == Self::SOAK
    }
}

/// One question to an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum HealthCheck {
    /// A GET request.
    Http {
        /// Path and query.
        path: String,
        /// The `Host` header; `None`: `localhost`.
        #[serde(default)]
        host: Option<Domain>,
        /// The expected status; `None`: any of 200 to 399.
        #[serde(default)]
        status: Option<u16>,
        /// Text that the body has to contain.
        #[serde(default)]
        body: Option<String>,
    },
    /// The port accepts a connection.
    Tcp {},
    /// A command inside the app's file system ends with 0.
    Command {
        /// Split as systemd splits `ExecStart=`.
        command: String,
    },
}

/// Any service, in systemd's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemdService {
    /// `Description=`.
    #[serde(default)]
    pub description: Option<String>,
    /// The runtime that it runs from; `None`: the host's own file system.
    #[serde(default)]
    pub runtime: Option<Name>,
    /// `After=`.
    #[serde(default)]
    pub after: Vec<UnitName>,
    /// `Before=`.
    #[serde(default)]
    pub before: Vec<UnitName>,
    /// `Requires=`.
    #[serde(default)]
    pub requires: Vec<UnitName>,
    /// `Wants=`.
    #[serde(default)]
    pub wants: Vec<UnitName>,
    /// Targets that start it; a service without one is started by its timer, or by hand.
    #[serde(default)]
    pub wanted_by: Vec<UnitName>,
    /// `Environment=`.
    #[serde(default)]
    pub environment: BTreeMap<VariableName, String>,
    /// Files in the folder that `$CREDENTIALS_DIRECTORY` names, by name: texts, usually with secrets in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<CredentialName, String>,
    /// Lines of the `[Service]` section by name; a list repeats the line.
    #[serde(default)]
    pub service_config: BTreeMap<String, Setting>,
    /// Lines of the `[Unit]` section by name.
    #[serde(default)]
    pub unit_config: BTreeMap<String, Setting>,
}

/// A timer, in systemd's own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemdTimer {
    /// `Description=`.
    #[serde(default)]
    pub description: Option<String>,
    /// Targets that start it.
    #[serde(default)]
    pub wanted_by: Vec<UnitName>,
    /// Lines of the `[Timer]` section by name.
    #[serde(default)]
    pub timer_config: BTreeMap<String, Setting>,
}

/// The value of a line in a unit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// `yes` or `no`.
    Bool(bool),
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
    /// The same line several times.
    List(Vec<String>),
}

/// A folder of the server that a unit needs as it is, such as `/var/www/site`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostFolder(pub AbsolutePath);
