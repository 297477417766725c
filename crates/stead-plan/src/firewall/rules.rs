//! The rules as text, in the words of `nft(8)`.
//!
//! Promises that the text replaces the whole of the table `inet stead` and mentions no other, that ports are written as
//! they are declared, joined where they touch, and that an operator's own rules cannot leave their chain. Has neither
//! named sets nor maps: an older `nft` of the host falls over those of a newer one when it lists them (1.0.6, 1.1.3).

use crate::error::PlanError;
use std::fmt::Write;
use stead_model::layout;
use stead_model::name::Port;
use stead_model::server::{Firewall, Open, PortRange};

/// SSH's port where nobody says another.
const SSH: u16 = 22;

/// ICMPv6 that IPv6 does not work without (RFC 4890, section 4.4.1): errors, neighbour and router discovery,
/// its inverse, multicast listeners, secure discovery, and multicast routers.
const ICMPV6: [&str; 18] = [
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
    "nd-router-solicit",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "141",
    "142",
    "mld-listener-query",
    "mld-listener-report",
    "mld-listener-done",
    "mld2-listener-report",
    "148",
    "149",
    "151",
    "153",
];

/// The text that `nft -f` is given.
///
/// # Errors
/// For a range that ends before it begins, and for rules that would leave their chain.
pub(super) fn render(firewall: &Firewall, ssh_port: Option<Port>) -> Result<String, PlanError> {
    let mut text = Text(String::from("# Made by Stead: the firewall. Only this table is Stead's.\n\n"));
    // It is there or not: made first, so that it can be deleted. All of this is one transaction.
    text.line(0, "add table inet stead").line(0, "delete table inet stead").line(0, "table inet stead {");
    for counter in ["refused_tcp", "refused_udp", "refused_other", "refused_invalid"] {
        text.line(1, &format!("counter {counter} {{ }}"));
    }
    if firewall.allow_ssh {
        let declared = ssh_port.map_or(SSH, Port::number);
        text.line(1, "chain ssh {").line(2, &format!("tcp dport {declared} accept")).line(1, "}");
    }
    if !is_blank(&firewall.extra_input_rules) {
        stays_inside(&firewall.extra_input_rules)?;
        text.line(1, &format!("chain {EXTRA} {{"));
        for line in firewall.extra_input_rules.trim_matches('\n').lines() {
            text.line(2, line.trim_end());
        }
        text.line(1, "}");
    }
    pings(&mut text, firewall)?;
    input(&mut text, firewall)?;
    text.line(0, "}");
    if firewall.allow_ssh {
        // A pattern, of which it is no error that nothing fits.
        let pattern = layout::SSH_PORTS.replace(".nft", "*.nft");
        text.line(0, "").line(0, "# Where sshd really listens on this server.");
        text.line(0, &format!("include \"{pattern}\""));
    }
    Ok(text.0)
}

/// The chain of the operator's own rules.
const EXTRA: &str = "extra_input";
/// The chain of pings.
const PINGS: &str = "pings";

/// What happens to each ping. The kernel takes all of one `ping` for one connection, which would be let in as a whole
/// after its first answer.
fn pings(text: &mut Text, firewall: &Firewall) -> Result<(), PlanError> {
    text.line(1, &format!("chain {PINGS} {{"));
    if !is_blank(&firewall.extra_input_rules) {
        text.line(2, &format!("jump {EXTRA}"));
    }
    let limit = match &firewall.ping_limit {
        Some(limit) => format!("limit rate {} ", ping_limit(limit)?),
        None => String::new(),
    };
    if firewall.allow_ping {
        text.line(2, &format!("{limit}accept"));
    }
    text.line(2, "counter name refused_other drop").line(1, "}");
    Ok(())
}

fn input(text: &mut Text, firewall: &Firewall) -> Result<(), PlanError> {
    text.line(1, "chain input {").line(2, "type filter hook input priority filter; policy drop;");
    text.line(2, "iifname \"lo\" accept");
    for interface in &firewall.trusted_interfaces {
        text.line(2, &format!("iifname \"{interface}\" accept"));
    }
    text.line(2, "ct state invalid counter name refused_invalid drop");
    for family in ["icmp", "icmpv6"] {
        text.line(2, &format!("{family} type echo-request goto {PINGS}"));
    }
    text.line(2, "ct state established,related accept");
    text.line(2, "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept");
    text.line(2, &format!("icmpv6 type {{ {} }} accept", ICMPV6.join(", ")));
    text.line(2, "udp sport 67 udp dport 68 accept comment \"DHCP\"");
    text.line(2, "ip6 daddr fe80::/10 udp dport 546 accept comment \"DHCPv6\"");
    if firewall.allow_ssh {
        text.line(2, "jump ssh");
    }
    if !is_blank(&firewall.extra_input_rules) {
        text.line(2, &format!("jump {EXTRA}"));
    }
    open(text, "networking.firewall", "", &firewall.open)?;
    for (interface, ports) in &firewall.interfaces {
        let option = format!("networking.firewall.interfaces.{interface}");
        open(text, &option, &format!("iifname \"{interface}\" "), ports)?;
    }
    if firewall.log_refused_connections {
        text.line(2, "tcp flags & (fin | syn | rst | ack) == syn limit rate 10/minute burst 10 packets log prefix \"refused connection: \" level info");
    }
    // Nobody is told by a rejection that was not asked alone.
    text.line(2, "meta pkttype { broadcast, multicast } counter name refused_other drop");
    let (tcp, udp) = match firewall.reject_packets {
        true => ("reject with tcp reset", "reject"),
        false => ("drop", "drop"),
    };
    text.line(2, &format!("meta l4proto tcp counter name refused_tcp {tcp}"));
    text.line(2, &format!("meta l4proto udp counter name refused_udp {udp}"));
    text.line(2, "counter name refused_other").line(1, "}");
    Ok(())
}

/// The rules that open these ports, to those that `from` says.
fn open(text: &mut Text, option: &str, from: &str, open: &Open) -> Result<(), PlanError> {
    for (name, protocol, ports, ranges) in
        [("TCP", "tcp", &open.tcp_ports, &open.tcp_ranges), ("UDP", "udp", &open.udp_ports, &open.udp_ranges)]
    {
        let ports = joined(&format!("{option}.allowed{name}PortRanges"), ports, ranges)?;
        if !ports.is_empty() {
            text.line(2, &format!("{from}{protocol} dport {{ {} }} accept", ports.join(", ")));
        }
    }
    Ok(())
}

/// Ports and ranges in order, each port once: nft refuses those that overlap.
fn joined(option: &str, ports: &[Port], ranges: &[PortRange]) -> Result<Vec<String>, PlanError> {
    let mut all: Vec<(u16, u16)> = ports.iter().map(|port| (port.number(), port.number())).collect();
    for PortRange { from, to } in ranges {
        if from > to {
            return Err(PlanError::bad(option, &format!("from {from} to {to}"), "ends before it begins"));
        }
        all.push((from.number(), to.number()));
    }
    all.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (from, to) in all {
        match joined.last_mut() {
            Some((_, last)) if u32::from(from) <= u32::from(*last) + 1 => *last = to.max(*last),
            _ => joined.push((from, to)),
        }
    }
    let written = |(from, to)| if from == to { format!("{from}") } else { format!("{from}-{to}") };
    Ok(joined.into_iter().map(written).collect())
}

/// Refuses what is not a rate: `2/second`, `1/minute burst 5 packets`.
fn ping_limit(limit: &str) -> Result<&str, PlanError> {
    let is_number = |text: &str| text.parse::<u32>().is_ok_and(|number| number > 0);
    let is_rate = |text: &str| {
        let units = ["second", "minute", "hour", "day"];
        text.split_once('/').is_some_and(|(number, unit)| is_number(number) && units.contains(&unit))
    };
    match limit.split(' ').collect::<Vec<_>>().as_slice() {
        [rate] if is_rate(rate) => Ok(limit),
        [rate, "burst", number, "packets"] if is_rate(rate) && is_number(number) => Ok(limit),
        _ => Err(PlanError::bad(
            "networking.firewall.pingLimit",
            limit,
            "is not a rate such as `2/second` or `1/minute burst 5 packets`",
        )),
    }
}

fn is_blank(rules: &str) -> bool {
    rules.trim().is_empty()
}

/// Refuses rules that would end their own chain, and go on somewhere else.
fn stays_inside(rules: &str) -> Result<(), PlanError> {
    let refuse = |problem| Err(PlanError::bad("networking.firewall.extraInputRules", rules.trim(), problem));
    let (mut depth, mut is_quoted, mut is_comment) = (0_u32, false, false);
    for c in rules.chars() {
        match c {
            '\n' => is_comment = false,
            _ if is_comment => {}
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '#' => is_comment = true,
            '{' => depth += 1,
            '}' if depth == 0 => return refuse("closes a brace that it does not open"),
            '}' => depth -= 1,
            _ => {}
        }
    }
    if rules.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return refuse("has a control character");
    }
    if rules.trim_end().ends_with('\\') {
        return refuse("ends with a backslash, which would join the next line");
    }
    match (depth, is_quoted) {
        (0, false) => Ok(()),
        (0, true) => refuse("opens a quotation that it does not close"),
        _ => refuse("opens a brace that it does not close"),
    }
}

/// Lines, moved in by tabs.
struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, line: &str) -> &mut Self {
        let tabs = if line.is_empty() { 0 } else { depth };
        writeln!(self.0, "{}{line}", "\t".repeat(tabs)).expect("a string takes any text");
        self
    }
}
