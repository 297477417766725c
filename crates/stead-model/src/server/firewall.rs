//! The firewall, as declared. Names follow NixOS's `networking.firewall`.
//!
//! Promises that an interface's name holds nothing but a name. Knows no rules: those are made in planning.

use crate::name::{Name, PackageName, Port};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The firewall of a server that has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Firewall {
    /// The package that has `nft`, and what names of services are read from.
    pub packages: Vec<PackageName>,
    /// The Debian input; `None`: the server's.
    #[serde(default)]
    pub debian: Option<Name>,
    /// What is open on every interface.
    pub open: Open,
    /// What is open on one interface besides.
    #[serde(default)]
    pub interfaces: BTreeMap<Interface, Open>,
    /// Interfaces on which everything is open.
    #[serde(default)]
    pub trusted_interfaces: Vec<Interface>,
    /// Whether the server answers pings.
    pub allow_ping: bool,
    /// How many pings are answered at most, in nftables' words: `2/second`, `1/minute burst 5 packets`.
    #[serde(default)]
    pub ping_limit: Option<String>,
    /// Whether who is refused is told so.
    pub reject_packets: bool,
    /// Whether refused connections are written to the journal.
    pub log_refused_connections: bool,
    /// Rules in nftables' words, met before any port is opened, and after SSH.
    pub extra_input_rules: String,
    /// Whether SSH's ports are open.
    #[serde(rename = "allowSSH")]
    pub allow_ssh: bool,
    /// The second word that it takes to shut SSH's ports.
    #[serde(rename = "lockOutSSH")]
    pub lock_out_ssh: bool,
}

/// Ports that are open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Open {
    /// TCP ports.
    #[serde(rename = "allowedTCPPorts")]
    pub tcp_ports: Vec<Port>,
    /// UDP ports.
    #[serde(rename = "allowedUDPPorts")]
    pub udp_ports: Vec<Port>,
    /// Ranges of TCP ports.
    #[serde(rename = "allowedTCPPortRanges")]
    pub tcp_ranges: Vec<PortRange>,
    /// Ranges of UDP ports.
    #[serde(rename = "allowedUDPPortRanges")]
    pub udp_ranges: Vec<PortRange>,
}

/// Ports from one to another, both of them included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first port.
    pub from: Port,
    /// The last port.
    pub to: Port,
}

/// The name of a network interface, or the beginning of several names and `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interface(String);

/// The longest name that the kernel gives an interface (`IFNAMSIZ` of `net/if.h`, less the end of the text).
const LONGEST: usize = 15;

impl Interface {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = NotAnInterface;

    fn from_str(text: &str) -> Result<Self, NotAnInterface> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let may_stand = |c: char| c.is_ascii_alphanumeric() || "_-.:@".contains(c);
        let fits = !name.is_empty() && text.len() <= LONGEST && name.chars().all(may_stand);
        match fits && name != "." && name != ".." {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAnInterface),
        }
    }
}

impl TryFrom<String> for Interface {
    type Error = NotAnInterface;

    fn try_from(text: String) -> Result<Self, NotAnInterface> {
        text.parse()
    }
}

impl From<Interface> for String {
    fn from(interface: Interface) -> Self {
        interface.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an interface cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a network interface has 1 to {LONGEST} letters, digits and `_-.:@`, such as `eth0`; a `*` at its end stands for any"
)]
pub struct NotAnInterface;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_a_name_and_nothing_else() {
        for good in ["lo", "eth0", "enp0s31f6", "br-1a2b3c4d5e6f", "veth*", "eth0.100", "wg0"] {
            assert!(good.parse::<Interface>().is_ok(), "{good}");
        }
        for bad in ["", "*", ".", "..", "eth 0", "eth0\" accept", "a/b", "sixteen-letters1", "e*h"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad}");
        }
    }
}
