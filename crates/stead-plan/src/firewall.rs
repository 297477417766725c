//! The firewall: a table of nftables of Stead's own, and the unit that puts it in force.
//!
//! Promises that the rules come into force, and change, in one transaction of the kernel; that no table but `inet stead`
//! is touched; and that nothing declared becomes a rule that it does not say, `extraInputRules` apart, which stay
//! within a chain of their own. SSH comes before all of them.

mod rules;

use crate::error::PlanError;
use crate::nginx;
use crate::plan::{Draft, unit_name};
use crate::runtimes::{Mounts, firewall_key};
use crate::unit_file::UnitFile;
use stead_model::certificate::Source;
use stead_model::generation::{FirewallPart, Role, Unit};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::Port;
use stead_model::server::{Firewall, Open, Server};

/// The unit's name.
const UNIT: &str = "stead-firewall.service";
/// The name of a service that this is.
const NAME: &str = "firewall";
/// The rules, in a generation's folder.
const RULES: &str = "firewall/ruleset.nft";
/// The port on which authorities ask about certificates (RFC 8555, section 8.3).
const AUTHORITIES: u16 = 80;

/// Adds the firewall, if the server has one.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<Option<FirewallPart>, PlanError> {
    let server = draft.server;
    let Some(firewall) = &server.firewall else { return Ok(None) };
    draft.reserve(&[NAME])?;
    check_ssh(firewall)?;
    check_sites(server, firewall)?;
    let rules = rules::render(firewall, server.ssh_port)?;
    let digest_of_rules = Hash::of(rules.as_bytes());
    draft.files.add(RULES, rules);

    let mut mounts = Mounts::standard();
    mounts.folder(layout::GENERATIONS);
    mounts.folder(layout::HOST);
    let option = "networking.firewall.packages";
    let key = firewall_key(server, firewall);
    let runtime = draft.runtimes.add(draft.inputs, "the firewall".to_owned(), option, &key, mounts)?;
    let text = unit(&runtime)?;
    let digest = Hash::of(text.as_bytes());
    let name = unit_name(UNIT);
    draft.files.add_unit(&name, text, ["sysinit.target"]);
    let unit = Unit { digest, reload_digest: Some(digest_of_rules), role: Role::Firewall {}, start: true };
    draft.units.insert(name.clone(), unit);
    let binds = [layout::GENERATIONS.to_owned(), format!("-{}", layout::HOST)].into();
    Ok(Some(FirewallPart { runtime, unit: name, binds }))
}

/// The unit. It is never restarted to change it, and not stopped when the machine goes down: the rules stay for as long
/// as there is a network.
fn unit(runtime: &Hash) -> Result<String, PlanError> {
    let mut unit = UnitFile::new("the firewall");
    unit.section("Unit").line("Description", "Stead firewall").line("DefaultDependencies", "no");
    // Debian's nftables.service begins by flushing every table, this one too: it comes first, and when it is started
    // again, so is this.
    unit.line("After", "local-fs.target nftables.service").line("PartOf", "nftables.service");
    unit.line("Wants", "network-pre.target").line("Before", "network-pre.target sysinit.target");
    unit.line("StartLimitIntervalSec", 0);
    unit.section("Service").line("Type", "oneshot").line("RemainAfterExit", "yes");
    let load = format!("/usr/sbin/nft -f {}/{RULES}", layout::ACTIVE);
    unit.line("ExecStart", &load).line("ExecReload", &load);
    // A table that is not there any more is gone as it should be.
    unit.line("ExecStop", "-/usr/sbin/nft delete table inet stead");
    unit.line("TimeoutStartSec", 30);
    // Parent folders, never the pointer itself: a bound pointer would go on leading to the old generation.
    let binds = [layout::GENERATIONS.to_owned(), layout::RUN.to_owned(), format!("-{}", layout::HOST)];
    unit.root(runtime, []).words("BindReadOnlyPaths", binds);
    unit.hardening("networking.firewall", &[])?.line("RestrictAddressFamilies", "AF_NETLINK AF_UNIX");
    unit.line("CapabilityBoundingSet", "CAP_NET_ADMIN");
    Ok(unit.text())
}

/// It takes two words to shut SSH out, and one alone is a slip.
fn check_ssh(firewall: &Firewall) -> Result<(), PlanError> {
    let problem = match (firewall.allow_ssh, firewall.lock_out_ssh) {
        (true, false) | (false, true) => return Ok(()),
        (false, false) => (
            "allowSSH",
            "false",
            "would shut SSH out, and with it every later deploy: if that is meant, set `networking.firewall.lockOutSSH = true` too",
        ),
        (true, true) => ("lockOutSSH", "true", "says the opposite of `networking.firewall.allowSSH`: mend one of them"),
    };
    let (name, value, words) = problem;
    Err(PlanError::bad(format!("networking.firewall.{name}"), value, words))
}

/// What sites listen on, and authorities ask on, is open.
fn check_sites(server: &Server, firewall: &Firewall) -> Result<(), PlanError> {
    if !server.nginx.enable {
        return Ok(());
    }
    for (key, host) in &server.nginx.virtual_hosts {
        for place in nginx::places(key, host)? {
            if !place.address.is_loopback() && !is_open(firewall, place.port) {
                let what = format!("services.nginx.virtualHosts.\"{key}\"");
                return Err(PlanError::ShutPort { what, verb: "listens", port: place.port });
            }
        }
    }
    let asks = server.acme.certificates.iter().find(|(_, known)| matches!(known.source, Source::Authority(_)));
    match asks {
        Some((name, _)) if !is_open(firewall, AUTHORITIES) => {
            let what = format!("security.acme.certs.\"{name}\"");
            Err(PlanError::ShutPort { what, verb: "has to answer authorities", port: AUTHORITIES })
        }
        _ => Ok(()),
    }
}

/// Whether somebody reaches this TCP port, as far as can be told: what the operator's own rules do with a port that
/// they name is not.
fn is_open(firewall: &Firewall, port: u16) -> bool {
    let listed = |open: &Open| {
        let in_range = open.tcp_ranges.iter().any(|range| (range.from.number()..=range.to.number()).contains(&port));
        in_range || open.tcp_ports.contains(&known(port))
    };
    let words = || firewall.extra_input_rules.split(|c: char| !c.is_ascii_digit());
    let named = || words().any(|word| word.parse() == Ok(port));
    listed(&firewall.open) || firewall.interfaces.values().any(listed) || named()
}

fn known(port: u16) -> Port {
    Port::new(port).expect("ports of sites are not 0")
}

#[cfg(test)]
mod tests;
