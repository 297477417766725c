//! Promises of the firewall's rules, and of the unit that puts them in force.

use crate::testing::{Fixture, authority, file, is_whole, name, service, site, text};
use std::io::Write;
use stead_model::generation::Role;
use stead_model::layout;
use stead_model::name::{Port, UnitName};
use stead_model::server::{Firewall, Listen, Open, PortRange};

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn ports(numbers: &[u16]) -> Vec<Port> {
    numbers.iter().copied().map(port).collect()
}

/// A firewall that opens these TCP ports, and is else as one that is only enabled.
fn firewall(open: &[u16]) -> Firewall {
    Firewall {
        packages: vec!["netbase".parse().unwrap(), "nftables".parse().unwrap()],
        debian: None,
        open: Open { tcp_ports: ports(open), ..Open::default() },
        interfaces: [].into(),
        trusted_interfaces: Vec::new(),
        allow_ping: true,
        ping_limit: None,
        reject_packets: false,
        log_refused_connections: false,
        extra_input_rules: String::new(),
        allow_ssh: true,
        lock_out_ssh: false,
    }
}

fn guarded(firewall: Firewall) -> Fixture {
    let mut fixture = Fixture::two_sites();
    fixture.pin(&["netbase", "nftables"]);
    fixture.server.firewall = Some(firewall);
    fixture
}

/// One with every option.
fn all_of_it() -> Firewall {
    let range = |from, to| PortRange { from: port(from), to: port(to) };
    let one = Open {
        tcp_ports: ports(&[5432]),
        udp_ports: ports(&[53]),
        tcp_ranges: vec![range(1, 65535)],
        udp_ranges: vec![range(500, 600)],
    };
    Firewall {
        open: Open {
            tcp_ports: ports(&[8080, 80, 443, 80]),
            udp_ports: ports(&[443]),
            tcp_ranges: vec![range(8000, 8080), range(8081, 8090), range(8050, 8060)],
            udp_ranges: vec![range(60000, 61000)],
        },
        interfaces: [("eth1".parse().unwrap(), one), ("wg*".parse().unwrap(), Open::default())].into(),
        trusted_interfaces: vec!["docker0".parse().unwrap(), "veth*".parse().unwrap()],
        ping_limit: Some("1/minute burst 5 packets".to_owned()),
        reject_packets: true,
        log_refused_connections: true,
        extra_input_rules: "\nip saddr { 192.0.2.0/24 } tcp dport 9100 accept # \"}\"\n  udp dport 1900 drop\n"
            .to_owned(),
        ..firewall(&[])
    }
}

/// What `nft` says against rules, in a network of its own; `None`: nothing.
#[expect(clippy::disallowed_types, reason = "planning runs nothing; this test asks the program that the text is for")]
fn refused(rules: &str) -> Option<String> {
    use std::process::{Command, Stdio};
    // What is included is not on this machine: the pattern fits nothing, which is no error.
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "nft", "--check", "--file", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nft can be run");
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn rules(fixture: &Fixture) -> String {
    file(&fixture.plan(), "firewall/", ".nft")
}

#[test]
fn the_rules_are_these_and_nft_takes_them() {
    let plain = rules(&guarded(firewall(&[80])));
    let full = rules(&guarded(all_of_it()));
    let mut shut = firewall(&[80]);
    (shut.allow_ssh, shut.lock_out_ssh, shut.allow_ping) = (false, true, false);
    let shut = rules(&guarded(shut));
    for rules in [&plain, &full, &shut] {
        assert_eq!(refused(rules), None, "{rules}");
    }
    assert!([&plain, &full, &shut].iter().all(|rules| !rules.contains("set ") && !rules.contains("map ")));
    assert!(refused("table inet stead { chain a { nonsense } }").is_some(), "nft is asked");
    insta::assert_snapshot!("firewall_plain", plain);
    insta::assert_snapshot!("firewall_full", full);
    assert!(!shut.contains("ssh"), "{shut}");
}

#[test]
fn each_ping_is_asked_about_before_what_began_earlier_is_let_in() {
    let of = |firewall| {
        let rules = rules(&guarded(firewall));
        let place = |words: &str| rules.find(words).unwrap_or_else(|| panic!("{words}: {rules}"));
        for family in ["icmp", "icmpv6"] {
            let pings = place(&format!("{family} type echo-request goto pings"));
            assert!(pings < place("ct state established,related accept"), "{rules}");
        }
        let (_, rest) = rules.split_once("chain pings {\n").unwrap();
        let (chain, _) = rest.split_once("\t}\n").unwrap();
        chain.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    let drop = "counter name refused_other drop";
    assert_eq!(of(firewall(&[80])), ["accept", drop]);
    assert_eq!(of(Firewall { allow_ping: false, ..firewall(&[80]) }), [drop]);
    assert_eq!(of(all_of_it()), ["jump extra_input", "limit rate 1/minute burst 5 packets accept", drop]);
}

#[test]
fn ssh_has_its_declared_port_and_comes_before_the_operators_rules() {
    let mut fixture = guarded(Firewall { extra_input_rules: "drop".to_owned(), ..firewall(&[80]) });
    assert!(rules(&fixture).contains("tcp dport 22 accept"));
    fixture.server.ssh_port = Some(port(2222));
    let rules = rules(&fixture);
    assert!(rules.contains("tcp dport 2222 accept"), "{rules}");
    let (_, input) = rules.split_once("chain input {").expect("there is the chain");
    let place = |words: &str| input.find(words).unwrap_or_else(|| panic!("{words}: {rules}"));
    assert!(place("jump ssh") < place("jump extra_input"), "{rules}");
    assert!(place("jump extra_input") < place("tcp dport { 80 } accept"), "{rules}");
    assert!(rules.contains(&format!("include \"{}/ssh-ports*.nft\"", layout::HOST)), "{rules}");
}

#[test]
fn its_unit_comes_first_and_is_changed_by_a_reload() {
    let fixture = guarded(firewall(&[80]));
    let planned = fixture.plan();
    assert!(is_whole(&planned));
    let unit = file(&planned, "units/stead-firewall", ".service");
    insta::assert_snapshot!(
        "firewall_unit",
        unit.replace(&planned.generation.firewall.as_ref().unwrap().runtime.to_string(), "RUNTIME")
    );
    let link = "units/sysinit.target.wants/stead-firewall.service".parse().unwrap();
    assert!(planned.generation.files.entries.contains_key(&link));

    let name: UnitName = "stead-firewall.service".parse().unwrap();
    let of = |fixture: &Fixture| fixture.plan().generation.units[&name].clone();
    let (before, after) = (of(&fixture), of(&guarded(firewall(&[80, 81]))));
    assert!(matches!(before.role, Role::Firewall {}) && before.start);
    assert_eq!(before.digest, after.digest);
    assert_ne!(before.reload_digest, after.reload_digest);
    // Its packages are what `update` pins.
    let keys: Vec<String> = crate::runtime_keys(&fixture.server).iter().map(ToString::to_string).collect();
    assert!(keys.iter().any(|key| key.contains("netbase") && key.contains("nftables")), "{keys:?}");
}

#[test]
fn a_server_without_it_has_nothing_of_it() {
    let planned = Fixture::two_sites().plan();
    assert_eq!(planned.generation.firewall, None);
    assert!(planned.generation.files.entries.keys().all(|path| !path.as_str().contains("firewall")));
}

#[track_caller]
fn is_refused(fixture: &Fixture, words: &str) {
    let error = fixture.error();
    assert_eq!(error, words);
}

#[test]
fn what_a_site_listens_on_is_open() {
    is_refused(
        &guarded(firewall(&[443])),
        "services.nginx.virtualHosts.\"billtracker.site\" listens on port 80, which networking.firewall does not open: add it to networking.firewall.allowedTCPPorts",
    );
    // In a range, on one interface, or by a rule of the operator's own.
    let range = |from, to| PortRange { from: port(from), to: port(to) };
    let mut by_range = firewall(&[]);
    by_range.open.tcp_ranges = vec![range(79, 81)];
    let mut by_interface = firewall(&[]);
    by_interface.interfaces.insert("eth0".parse().unwrap(), Open { tcp_ports: ports(&[80]), ..Open::default() });
    let by_rule = Firewall { extra_input_rules: "ip saddr 192.0.2.1 tcp dport 80 accept".to_owned(), ..firewall(&[]) };
    for open in [by_range, by_interface, by_rule] {
        guarded(open).plan();
    }
    // A port that only looks like it.
    is_refused(
        &guarded(Firewall { extra_input_rules: "tcp dport 8080 accept".to_owned(), ..firewall(&[]) }),
        "services.nginx.virtualHosts.\"billtracker.site\" listens on port 80, which networking.firewall does not open: add it to networking.firewall.allowedTCPPorts",
    );
    // Nobody is shut out of a site for the server itself.
    let mut fixture = guarded(firewall(&[80]));
    let mut inner = site(&[]);
    inner.listen = vec![Listen { address: "127.0.0.1".to_owned(), port: port(9000), ssl: false }];
    fixture.server.nginx.virtual_hosts.insert("inner.example".to_owned(), inner);
    fixture.plan();
}

#[test]
fn authorities_reach_what_they_ask_on() {
    let mut fixture = guarded(firewall(&[443]));
    fixture.server.nginx.virtual_hosts.clear();
    fixture.server.acme.certificates.insert("a.example".parse().unwrap(), authority(&["a.example"]));
    is_refused(
        &fixture,
        "security.acme.certs.\"a.example\" has to answer authorities on port 80, which networking.firewall does not open: add it to networking.firewall.allowedTCPPorts",
    );
}

#[test]
fn it_takes_two_words_to_shut_ssh_out() {
    for (allow, lock_out, option) in [(false, false, "allowSSH"), (true, true, "lockOutSSH")] {
        let error = guarded(Firewall { allow_ssh: allow, lock_out_ssh: lock_out, ..firewall(&[80]) }).error();
        assert!(error.starts_with(&format!("networking.firewall.{option}: ")), "{error}");
    }
}

#[test]
fn what_would_be_another_rule_is_refused() {
    for rules in ["}", "accept }\nchain input { accept", "tcp dport { 1", "accept comment \"a", "accept \\", "a\0b"] {
        let error = guarded(Firewall { extra_input_rules: rules.to_owned(), ..firewall(&[80]) }).error();
        assert!(error.starts_with("networking.firewall.extraInputRules: "), "{error}");
    }
    for limit in ["", "2", "0/second", "2/second accept", "2/week", "1/minute burst x packets", "1/minute; drop"] {
        let error = guarded(Firewall { ping_limit: Some(limit.to_owned()), ..firewall(&[80]) }).error();
        assert!(error.starts_with("networking.firewall.pingLimit: "), "{error}");
    }
    let mut backwards = firewall(&[80]);
    backwards.open.udp_ranges = vec![PortRange { from: port(9), to: port(8) }];
    is_refused(&guarded(backwards), "networking.firewall.allowedUDPPortRanges: `from 9 to 8` ends before it begins");
    let mut fixture = guarded(firewall(&[80]));
    fixture.server.services.insert(name("firewall"), service(&[("ExecStart", text("/bin/true"))]));
    is_refused(&fixture, "systemd.services.firewall: the name is used by Stead itself");
}
