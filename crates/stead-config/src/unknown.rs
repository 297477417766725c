//! What nobody declared: misspelt options, and options of later versions.
//!
//! Modules declare options by giving a field a type, a text or a default; so do Stead's own. In a record where
//! somebody declares fields, every other field is unknown, but for records with free names (`apps.NAME`). A record
//! of fields that are declared counts as declared itself. Nothing is guessed about records where nobody declares anything.

use crate::tree::{Node, Shape};

/// The first option, in the order of names, that nobody declares.
pub(crate) struct Unknown<'a> {
    /// The names that lead to it.
    pub(crate) path: Vec<String>,
    /// The option itself.
    pub(crate) node: &'a Node,
    /// Whether a later version has it.
    pub(crate) later: bool,
    /// What could have been meant.
    pub(crate) suggestion: Option<String>,
    /// What is declared beside it.
    pub(crate) known: Vec<String>,
}

/// Options of NixOS that later versions have: names by path, `*` for any name.
const LATER: &[&str] = &[
    "apps.*.migrate",
    "boot.initrd",
    "boot.kernelModules",
    "boot.loader",
    "environment.systemPackages",
    "environment.variables",
    "networking.bonds",
    "networking.bridges",
    "networking.defaultGateway",
    "networking.defaultGateway6",
    "networking.domain",
    "networking.enableIPv6",
    "networking.extraHosts",
    "networking.firewall.checkReversePath",
    "networking.firewall.extraForwardRules",
    "networking.firewall.filterForward",
    "networking.firewall.logRefusedPackets",
    "networking.firewall.logReversePathDrops",
    "networking.hosts",
    "networking.interfaces",
    "networking.nameservers",
    "networking.nat",
    "networking.nftables",
    "networking.search",
    "networking.timeServers",
    "networking.useDHCP",
    "networking.vlans",
    "networking.wireguard",
    "secrets",
    "security.pam",
    "security.sudo",
    "services.fail2ban",
    "services.logrotate",
    "services.postgresqlBackup",
    "services.nginx.virtualHosts.*.acmeFallbackHost",
    "services.nginx.virtualHosts.*.acmeRoot",
    "services.nginx.virtualHosts.*.basicAuth",
    "services.nginx.virtualHosts.*.http3",
    "services.nginx.virtualHosts.*.kTLS",
    "services.nginx.virtualHosts.*.quic",
    "services.nginx.virtualHosts.*.sslTrustedCertificate",
    "system",
    "systemd.paths",
    "systemd.slices",
    "systemd.sockets",
    "systemd.tmpfiles",
    "systemd.services.*.script",
    "systemd.services.*.startAt",
    "systemd.targets",
    "users.groups",
    "users.mutableUsers",
    "users.users.*.hashedPasswordFile",
];

/// Finds the first unknown option below `node`.
pub(crate) fn find(node: &Node) -> Option<Unknown<'_>> {
    below(node, &mut Vec::new(), false)
}

/// Removes what nobody declares: options of later versions that ask for nothing.
pub(crate) fn remove(node: &mut Node) {
    remove_below(node, false);
}

/// The name among `known` that is most like `name`, if any is.
pub(crate) fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ENOUGH: f64 = 0.6;
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    known
        .into_iter()
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness >= ENOUGH)
        .max_by(|left, right| left.0.total_cmp(&right.0).then(right.1.cmp(left.1)))
        .map(|(_, other)| other)
}

fn below<'a>(node: &'a Node, path: &mut Vec<String>, free: bool) -> Option<Unknown<'a>> {
    if let Shape::List(items) = &node.shape {
        return items.iter().enumerate().find_map(|(index, item)| {
            path.push(index.to_string());
            let found = below(item, path, false);
            path.pop();
            found
        });
    }
    let strict = !free && node.fields().any(|(_, child)| is_declared(child));
    for (name, child) in node.fields() {
        path.push(name.clone());
        if strict && !is_declared(child) {
            let later = is_later(path);
            if later && is_off(child) {
                path.pop();
                continue;
            }
            let known: Vec<String> =
                node.fields().filter(|(_, other)| is_declared(other)).map(|(name, _)| name.clone()).collect();
            let suggestion = similar(name, known.iter().map(String::as_str)).map(str::to_owned);
            return Some(Unknown { path: path.clone(), node: child, later, suggestion, known });
        }
        let found = below(child, path, child.has_free_names());
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

fn remove_below(node: &mut Node, free: bool) {
    match &mut node.shape {
        Shape::List(items) => items.iter_mut().for_each(|item| remove_below(item, false)),
        Shape::Record(fields) => {
            if !free && fields.values().any(is_declared) {
                fields.retain(|_, child| is_declared(child));
            }
            for child in fields.values_mut() {
                let free = child.has_free_names();
                remove_below(child, free);
            }
        }
        _ => {}
    }
}

/// Whether somebody declared it, or something in it. What could not be evaluated has a failure of its own.
fn is_declared(node: &Node) -> bool {
    node.has_declaration() || matches!(node.shape, Shape::Failed) || node.fields().any(|(_, child)| is_declared(child))
}

/// Whether it asks for nothing: `enableACME = false`, `postgresql.enable = false`.
fn is_off(node: &Node) -> bool {
    let off = |node: &Node| matches!(node.shape, Shape::Bool(false) | Shape::Null | Shape::Unset);
    off(node) || node.get("enable").is_some_and(off)
}

fn is_later(path: &[String]) -> bool {
    LATER.iter().any(|later| {
        let names: Vec<&str> = later.split('.').collect();
        names.len() == path.len() && names.iter().zip(path).all(|(name, part)| *name == "*" || name == part)
    })
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn the_most_similar_name_is_suggested_and_nothing_for_strangers() {
        assert_eq!(similar("enabel", ["enable", "exec", "enabled2"]), Some("enable"));
        assert_eq!(similar("proxypass", ["proxyPass", "proxyWebsockets"]), Some("proxyPass"));
        assert_eq!(similar("zzz", ["enable"]), None);
    }
}
