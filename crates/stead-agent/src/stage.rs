//! From "everything arrived" to "published and known to fit": nothing that runs is touched.
//!
//! Runtimes are unpacked, the generation is published, and then what can be known before a switch is
//! asked of the real machine: folders that have to be there, programs that units start, ports that
//! foreign programs hold, and nginx's own opinion of its configuration.

use crate::unpack;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use stead_host::run::RunError;
use stead_host::{nginx, ports};
use stead_model::generation::{Generation, Role};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{Name, UnitName};
use stead_store::{Guard, Store};

/// Sites that are looked at one by one when nginx refuses the whole.
const MOST_SITES: usize = 100;

/// A generation cannot be made, or does not fit this server. Nothing that runs was touched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error("the store: {what}")]
    Store {
        /// The store's words.
        what: String,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// A package cannot be unpacked.
    #[error("package {0} cannot be unpacked")]
    Package(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// Packages cannot be made into a runtime.
    #[error("the runtime of {0} cannot be made")]
    Runtime(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The other side makes runtimes by other rules.
    #[error("runtimes are made by rules {wanted}, this agent knows {known}")]
    Rules {
        /// What the generation wants.
        wanted: u32,
        /// What this agent does.
        known: u32,
    },
    /// A runtime's recipe is not what its name says.
    #[error("the recipe of runtime {0} is altered")]
    Recipe(Hash),
    /// A folder of the server is missing.
    #[error("{option}: there is no folder `{path}` on the server")]
    NoFolder {
        /// The folder.
        path: String,
        /// The option that names it.
        option: String,
    },
    /// A program that a unit starts is not there.
    #[error("{option}: there is no program `{program}` in the packages and folders that it runs from ({unit})")]
    NoProgram {
        /// The option that names it.
        option: String,
        /// The unit that starts it.
        unit: UnitName,
        /// The program.
        program: String,
    },
    /// systemd does not understand a line of a unit.
    #[error("{option}: systemd says: {words}")]
    Misunderstood {
        /// The option.
        option: String,
        /// systemd's own words.
        words: String,
    },
    /// A foreign program listens where the generation wants to.
    #[error("{option}: port {port} is taken on the server by `{command}` (process {pid})")]
    PortTaken {
        /// The option that needs it.
        option: String,
        /// The port.
        port: u16,
        /// Who has it.
        command: String,
        /// Its process id.
        pid: u32,
    },
    /// A new instance would find no port of its own.
    #[error(
        "apps.{app}.port: no port is free for a new instance of it: all of {} to {} are given or taken",
        ports::INSTANCE_PORTS.start(),
        ports::INSTANCE_PORTS.end()
    )]
    NoPort {
        /// The app.
        app: Name,
    },
    /// nginx refuses the configuration.
    #[error("{0}")]
    Nginx(String),
    /// A certificate that an operator gave cannot be served, or none can be kept.
    #[error(transparent)]
    Certificate(#[from] crate::certificates::Error),
    /// A secret cannot be handed to a service.
    #[error(transparent)]
    Secret(#[from] crate::secrets::Error),
    /// A setting of the machine itself cannot be set.
    #[error(transparent)]
    Host(#[from] crate::host::Error),
    /// The firewall's rules cannot come into force.
    #[error(transparent)]
    Firewall(#[from] crate::firewall::Error),
    /// PostgreSQL cannot come up.
    #[error(transparent)]
    Postgresql(#[from] crate::postgresql::Error),
}

impl Error {
    /// What the operator can do about it, if there is more to say than what it is.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            error if error.is_full() => Some("make room: `stead gc` removes what no kept generation needs".to_owned()),
            Self::NoFolder { .. } => Some("make the folder on the server, or mend the option".to_owned()),
            Self::NoProgram { .. } => Some("mend the option, or add the package that has the program".to_owned()),
            Self::PortTaken { command, .. } => Some(format!("stop `{command}` on the server, or choose another port")),
            Self::NoPort { .. } => {
                Some("see what listens there with `ss -ltnp` on the server; a reboot frees what Stead gave".to_owned())
            }
            Self::Package(_, source)
                if matches!(source.downcast_ref(), Some(stead_debian::package::Error::Misnamed { .. })) =>
            {
                Some("somebody altered stead.lock: restore it from version control, or run `stead update`".to_owned())
            }
            Self::Certificate(crate::certificates::Error::Account { .. }) => {
                Some("mend the address, and deploy again".to_owned())
            }
            Self::Certificate(crate::certificates::Error::Files { .. }) => {
                Some("mend the files on the server, or name others".to_owned())
            }
            Self::Secret(error) => error.hint(),
            Self::Postgresql(error) => error.hint(),
            Self::Nginx(_) | Self::Firewall(crate::firewall::Error::Refused(_)) => {
                Some("mend the declaration and deploy again".to_owned())
            }
            _ => None,
        }
    }

    /// The store's error, with all its causes in one line.
    pub(crate) fn store<E: std::error::Error + 'static>(error: E) -> Self {
        let mut what = error.to_string();
        let mut is_full = false;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            is_full |= io.is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
            cause = error.source();
            if let Some(cause) = cause {
                what = format!("{what}: {cause}");
            }
        }
        Self::Store { what, is_full }
    }

    /// Whether it is for want of space on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Store { is_full, .. } => *is_full,
            Self::Package(_, source) | Self::Runtime(_, source) => {
                let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
                while let Some(error) = cause {
                    if error
                        .downcast_ref::<std::io::Error>()
                        .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
                    {
                        return true;
                    }
                    cause = error.source();
                }
                false
            }
            _ => false,
        }
    }
}

/// Makes a generation whose objects, trees and packages are here, publishes it durably, and tests
/// that it fits. `from` is what runs now.
///
/// # Errors
/// When it cannot be made or does not fit; what was published stays for garbage collection.
pub fn stage(
    store: &Store,
    guard: &Guard,
    generation: &Generation,
    from: Option<&Generation>,
    tell: &mut dyn FnMut(&str, u64, u64),
) -> Result<(), Error> {
    unpack::runtimes(store, generation, tell)?;
    unpack::names(store, generation, from)?;
    store.publish(guard, generation).map_err(Error::store)?;
    fits(generation, from, false)
}

/// Whether a published generation fits this server, as it is now.
///
/// # Errors
/// The first thing that does not fit.
pub fn fits(generation: &Generation, from: Option<&Generation>, is_rollback: bool) -> Result<(), Error> {
    for (path, option) in &generation.host_folders {
        if !Path::new(path.as_str()).is_dir() {
            return Err(Error::NoFolder { path: path.to_string(), option: option.clone() });
        }
    }
    // nginx's opinion depends on who is who.
    stead_host::users::publish().map_err(Error::store)?;
    crate::secrets::check(generation)?;
    if from.is_none_or(|from| from.host != generation.host) {
        crate::host::check(generation)?;
    }
    let new = crate::certificates::prepare(&generation.certificates, is_rollback)?;
    let fits = || {
        understood(generation, from)?;
        programs(generation, from)?;
        free_ports(generation, from)?;
        ports_for_instances(generation, from)?;
        crate::firewall::check(generation, from)?;
        crate::postgresql::check(generation, from)?;
        test_nginx(generation, from, !new.is_empty())
    };
    fits().inspect_err(|_| crate::certificates::put_back(&new))
}

/// Every unit that runs from a runtime starts a program that is there.
fn programs(generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    let units = Path::new(layout::GENERATIONS).join(generation.id().to_string()).join("units");
    for (name, unit) in &generation.units {
        if from.is_some_and(|from| from.units.get(name) == generation.units.get(name)) {
            continue;
        }
        let Ok(text) = fs::read_to_string(units.join(name.as_str())) else { continue };
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        let Some(command) = value("ExecStart=") else { continue };
        let command = command.trim_start_matches(['@', '-', ':', '+', '!']);
        let program: String = command.chars().take_while(|c| !c.is_whitespace()).filter(|c| *c != '"').collect();
        if program == layout::AGENT {
            // A link that each activation makes.
            continue;
        }
        let root = value("RootDirectory=").unwrap_or("/");
        if !is_executable(Path::new(root), &program) {
            let option = match &unit.role {
                Role::App { app, .. } => format!("apps.{app}.exec"),
                Role::Nginx {} => "services.nginx.packages".to_owned(),
                Role::Firewall {} => "networking.firewall.packages".to_owned(),
                Role::Database {} => "services.postgresql.version".to_owned(),
                _ => format!("systemd.services.{}.serviceConfig.ExecStart", plain(name)),
            };
            return Err(Error::NoProgram { option, unit: name.clone(), program });
        }
    }
    Ok(())
}

/// The declared name in a unit's: `tidy` in `stead-tidy.service`.
fn plain(unit: &UnitName) -> &str {
    let name = unit.as_str().strip_prefix("stead-").unwrap_or(unit.as_str());
    name.rsplit_once('.').map_or(name, |(name, _)| name)
}

/// Whether a program can be executed below a root. Links are followed inside the root, as the unit
/// will see them; what a unit binds from the store is found at its own place.
fn is_executable(root: &Path, program: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_program =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.starts_with(layout::TREES) {
        return is_program(Path::new(program));
    }
    if !program.contains('/') {
        // Where systemd itself looks (`systemd.service(5)`, "Command lines").
        const PATH: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
        return PATH.iter().any(|folder| is_executable(root, &format!("{folder}/{program}")));
    }
    let Ok(folder) = fs::File::open(root) else { return false };
    let how = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    // openat2(2): the kernel resolves the path as if the folder were the root.
    let found =
        rustix::fs::openat2(&folder, program, how, rustix::fs::Mode::empty(), rustix::fs::ResolveFlags::IN_ROOT);
    found
        .and_then(|file| rustix::fs::fstat(&file))
        .is_ok_and(|found| found.st_mode & 0o170_000 == 0o100_000 && found.st_mode & 0o111 != 0)
}

/// systemd understands every line of the units that are declared in its own words.
///
/// It would ignore what it does not know, and find a wrong time only when a timer is started.
fn understood(generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    let units = Path::new(layout::GENERATIONS).join(generation.id().to_string()).join("units");
    let is_new = |name: &UnitName| from.is_none_or(|from| from.units.get(name) != generation.units.get(name));
    let declared = generation.units.iter().filter(|(_, unit)| matches!(unit.role, Role::Service {} | Role::Timer {}));
    for (name, unit) in declared.filter(|(name, _)| is_new(name)) {
        let file = units.join(name.as_str()).display().to_string();
        if let Some(words) = stead_host::systemd::misunderstood(&file) {
            let kind = if matches!(unit.role, Role::Timer {}) { "timers" } else { "services" };
            let option = match plain(name) {
                "certificates-renew" => "security.acme.defaults.renewInterval".to_owned(),
                "auto-upgrade" => "system.autoUpgrade.dates".to_owned(),
                plain => format!("systemd.{kind}.{plain}"),
            };
            return Err(Error::Misunderstood { option, words });
        }
    }
    Ok(())
}

/// No foreign program listens where the generation's sockets and apps want to.
fn free_ports(generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    let ports_of = |generation: &Generation| -> Vec<(String, u16)> {
        let of = |role: &Role| -> Vec<(String, u16)> {
            match role {
                Role::Socket { listen } => {
                    let ports = listen.iter().map(|listen| listen.port.number());
                    ports.map(|port| ("services.nginx.virtualHosts".to_owned(), port)).collect()
                }
                Role::App { app, port: Some(port), .. } => vec![(format!("apps.{app}.port"), port.number())],
                _ => Vec::new(),
            }
        };
        let database = generation.postgresql.as_ref().and_then(|part| part.port);
        let database = database.map(|port| ("services.postgresql.enableTCPIP".to_owned(), port.number()));
        generation.units.values().flat_map(|unit| of(&unit.role)).chain(database).collect()
    };
    let known: BTreeSet<u16> = from.map(ports_of).unwrap_or_default().into_iter().map(|(_, port)| port).collect();
    for (option, port) in ports_of(generation).into_iter().filter(|(_, port)| !known.contains(port)) {
        if let Some(listener) = ports::listeners(port).into_iter().find(|listener| !is_ours(listener.pid)) {
            return Err(Error::PortTaken { option, port, command: listener.command, pid: listener.pid });
        }
    }
    Ok(())
}

/// Each new instance of an app can be given a port.
fn ports_for_instances(generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    for (name, unit) in &generation.units {
        let Role::App { app, port: Some(port), .. } = &unit.role else { continue };
        if from.is_some_and(|from| from.units.contains_key(name)) {
            continue;
        }
        let given = crate::server::given_ports(name);
        let is_free = !given.contains(&port.number()) && ports::is_free(port.number());
        if !is_free && ports::free_port(0, &given).is_none() {
            return Err(Error::NoPort { app: app.clone() });
        }
    }
    Ok(())
}

/// Whether a process belongs to a unit of Stead's, by its control group.
fn is_ours(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .is_ok_and(|text| text.contains("stead-") || text.contains("stead\\x2d"))
}

fn test_nginx(generation: &Generation, from: Option<&Generation>, has_new_files: bool) -> Result<(), Error> {
    let Some(part) = &generation.nginx else { return Ok(()) };
    let known = from.and_then(|from| from.nginx.as_ref());
    if !has_new_files
        && known.is_some_and(|known| known.configuration == part.configuration && known.runtime == part.runtime)
    {
        return Ok(());
    }
    let id = generation.id();
    let folder = Path::new(layout::GENERATIONS).join(id.to_string());
    let words = |error: RunError| match error {
        RunError::Failed { output, .. } => nginx::complaint(&output, &folder),
        other => format!("nginx cannot be asked about the configuration: {other}"),
    };
    let Err(error) = nginx::test(&id, &part.runtime, &part.binds) else { return Ok(()) };
    let mut complaints = vec![words(error)];
    // nginx ends at the first mistake. Each site by itself tells which others have one.
    let sites = fs::read_dir(folder.join("nginx/sites")).into_iter().flatten().flatten();
    let mut sites: Vec<String> = sites.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    sites.sort();
    for site in sites.iter().take(MOST_SITES) {
        if let Err(error) = nginx::test_site(&id, &part.runtime, &part.binds, site) {
            let complaint = words(error);
            if !complaints.contains(&complaint) {
                complaints.push(complaint);
            }
        }
    }
    Err(Error::Nginx(complaints.join("\n")))
}
