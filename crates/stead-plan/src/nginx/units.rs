//! nginx's units: the sockets that systemd holds, and the instance that serves them.
//!
//! The instance's name has the digest of its text: runtime, sockets and bound folders, but not the
//! configuration. Another one starts beside the old one and shares the sockets by `Sockets=`.

use super::listen::Listeners;
use crate::certificates;
use crate::error::PlanError;
use crate::plan::{Draft, unit_name};
use crate::runtimes::binds_of_host;
use crate::secrets;
use crate::unit_file::UnitFile;
use stead_model::generation::{Role, Unit};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::UnitName;
use stead_model::server::Listen;

/// Where the journal takes datagrams of syslog(3).
pub(super) const JOURNAL: &str = "/run/systemd/journal/dev-log";
/// The socket on which nginx tells what it serves.
pub(super) const STATUS: &str = "/run/stead/sockets/nginx.sock";
/// Debian's user for web servers; in every Debian and Ubuntu (base-passwd).
pub(super) const USER: &str = "www-data";
/// What an instance is given beyond its drain time, until it is killed.
const GRACE_SECONDS: u32 = 5;

/// Adds the socket units and the instance; returns the instance's name.
pub(super) fn add(
    draft: &mut Draft<'_>,
    listeners: &Listeners,
    runtime: &Hash,
    configuration: &Hash,
    folders: &[String],
    reads_secrets: bool,
) -> Result<UnitName, PlanError> {
    let sockets = listeners.sockets();
    let names: Vec<String> =
        sockets.keys().map(|name| format!("{name}.socket")).chain(["stead-nginx-status.socket".to_owned()]).collect();
    let count = sockets.values().map(Vec::len).sum::<usize>() + 1;
    let text = instance(draft, runtime, &names, count, folders, reads_secrets)?;
    let digest = Hash::of(text.as_bytes());
    let unit = unit_name(&format!("stead-nginx@{}.service", digest.short()));
    draft.files.add_unit(&unit, text, ["multi-user.target"]);
    draft
        .units
        .insert(unit.clone(), Unit { digest, reload_digest: Some(*configuration), role: Role::Nginx {}, start: true });

    for (name, listen) in sockets {
        let lines: Vec<String> = listen.iter().map(|listen| format!("{}:{}", listen.address, listen.port)).collect();
        add_socket(draft, &name, &unit, &lines, listen);
    }
    add_socket(draft, "stead-nginx-status", &unit, &[STATUS.to_owned()], Vec::new());
    Ok(unit)
}

fn instance(
    draft: &Draft<'_>,
    runtime: &Hash,
    sockets: &[String],
    count: usize,
    folders: &[String],
    reads_secrets: bool,
) -> Result<String, PlanError> {
    let mut unit = UnitFile::new("an nginx instance");
    // What puts a stand-in in the place of a certificate that cannot be read: at a boot, or whenever nginx starts again.
    let certificates = (!draft.certificates.is_empty()).then_some(certificates::READY);
    let secrets = reads_secrets.then_some(secrets::UNIT);
    unit.section("Unit").line("Description", "Stead nginx");
    unit.words("After", ["network.target"].into_iter().chain(certificates).chain(secrets));
    unit.words("Wants", certificates.into_iter().chain(secrets));
    unit.line("StartLimitIntervalSec", 0);
    unit.section("Service").line("Type", "exec").line("User", USER);
    unit.line("Sockets", sockets.join(" "));
    // Otherwise systemd clears O_NONBLOCK, for everybody who has the sockets, whenever an instance starts; and of two
    // workers that are woken for one connection, the one that comes too late waits in accept(2) for the next.
    unit.line("NonBlocking", "yes");
    // systemd passes sockets from descriptor 3 on (sd_listen_fds(3)); nginx takes those named here.
    let descriptors: String = (3..3 + count).map(|descriptor| format!("{descriptor};")).collect();
    unit.line("Environment", format!("NGINX={descriptors}"));
    let configuration = format!("{}/nginx/nginx.conf", layout::ACTIVE);
    unit.line("ExecStart", format!("/usr/sbin/nginx -c {configuration} -g \"daemon off; pid /tmp/nginx.pid;\""));
    unit.line("KillSignal", "SIGQUIT").line("KillMode", "mixed");
    unit.line("TimeoutStopSec", draft.server.nginx.drain.saturating_add(GRACE_SECONDS));
    unit.line("Restart", "always").line("RestartSec", 1).line("LimitNOFILE", 65_536);
    unit.line("CacheDirectory", layout::NGINX_CACHE.trim_start_matches("/var/cache/"))
        .line("CacheDirectoryMode", "0700");
    // Parent folders, never the pointer itself: a bound pointer would go on leading to the old generation.
    let parents = [layout::GENERATIONS, layout::TREES, layout::RUN, "-/run/systemd/journal"].map(str::to_owned);
    let binds =
        parents.into_iter().chain(folders.iter().cloned()).chain(binds_of_host().filter(|bind| bind != layout::NAMES));
    unit.root(runtime, []).words("BindReadOnlyPaths", binds);
    if reads_secrets {
        secrets::keep_out_of_disks(&mut unit);
    }
    // A site's files may lie in somebody's home.
    let is_at_home = folders.iter().any(|folder| ["/home", "/root"].iter().any(|home| folder.starts_with(home)));
    let mut left_out = draft.server.nginx.unprotected.clone();
    left_out.extend(is_at_home.then(|| "ProtectHome".to_owned()));
    unit.hardening("services.nginx.unprotected", &left_out)?;
    unit.line("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX")
        .line("CapabilityBoundingSet", "")
        .line("UMask", "0027");
    Ok(unit.text())
}

/// The binds with which the configuration of a staged generation can be tested: the content and who is
/// who, but not the rest of `/run/stead`. A place is held where nginx would otherwise make its own socket.
pub(super) fn binds_of_test(folders: &[String]) -> Vec<String> {
    let parents = [layout::GENERATIONS, layout::TREES, layout::NAMES].map(str::to_owned);
    let held = format!("/dev/null:{STATUS}");
    parents.into_iter().chain(folders.iter().cloned()).chain([held]).collect()
}

fn add_socket(draft: &mut Draft<'_>, name: &str, service: &UnitName, lines: &[String], listen: Vec<Listen>) {
    let mut unit = UnitFile::new("a socket of nginx, held by systemd");
    unit.section("Unit").line("Description", format!("Stead socket {name}"));
    unit.section("Socket");
    for line in lines {
        unit.line("ListenStream", line);
    }
    if listen.is_empty() {
        unit.line("SocketMode", "0600");
    } else {
        unit.line("BindIPv6Only", "ipv6-only").line("FreeBind", "yes").line("NoDelay", "yes");
    }
    // However often nginx ends, the socket stays.
    unit.line("Backlog", 4096).line("TriggerLimitIntervalSec", 0).line("Service", service);
    let text = unit.text();
    let unit = unit_name(&format!("{name}.socket"));
    let digest = Hash::of(text.as_bytes());
    draft.files.add_unit(&unit, text, ["sockets.target"]);
    draft.units.insert(unit, Unit { digest, reload_digest: None, role: Role::Socket { listen }, start: true });
}
