//! What the firewall's options say, shown by real traffic from outside over two cables, over IPv4 and IPv6: which ports
//! are open, on which interface and to whom, what who is refused is told, and which pings are answered.
//!
//! Something listens on every port that is asked, and answered before there was a firewall: what is shut is shut by it.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;
use stead_e2e::cable::{Cable, ip};
use stead_e2e::lab::{Lab, Machine};
use stead_e2e::reach::{EVER, Pings, Protocol, Told, ask, is_open};
use stead_e2e::{Small, Stage, wait};

/// Where the host listens, by TCP and UDP.
const PORTS: RangeInclusive<u16> = 7000..=7017;
/// How long nothing is waited for. What may come has come then: an answer takes less than a millisecond.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends datagrams back, and takes connections.
const ECHO: &str = r#"use Socket;
my %sockets = map { open(my $socket, "+<&=", $_) or die; ($_ => $socket) } 3 .. 2 + $ENV{LISTEN_FDS};
while (1) {
    my $ready = "";
    vec($ready, $_, 1) = 1 for keys %sockets;
    select($ready, undef, undef, undef);
    for my $socket (map { $sockets{$_} } grep { vec($ready, $_, 1) } keys %sockets) {
        if (unpack("i", getsockopt($socket, SOL_SOCKET, SO_TYPE)) == SOCK_STREAM) {
            accept(my $connection, $socket);
        } elsif (my $from = recv($socket, my $text, 512, 0)) {
            send($socket, $text, 0, $from);
        }
    }
}
"#;

/// What is open, to everybody or by one cable.
#[derive(Debug, Default)]
struct Open {
    tcp: BTreeSet<u16>,
    udp: BTreeSet<u16>,
}

impl Open {
    fn new(tcp: impl IntoIterator<Item = u16>, udp: impl IntoIterator<Item = u16>) -> Self {
        Self { tcp: tcp.into_iter().collect(), udp: udp.into_iter().collect() }
    }

    fn and(&self, tcp: impl IntoIterator<Item = u16>, udp: impl IntoIterator<Item = u16>) -> Self {
        Self::new(self.tcp.iter().copied().chain(tcp), self.udp.iter().copied().chain(udp))
    }

    fn has(&self, protocol: Protocol, port: u16) -> bool {
        match protocol {
            Protocol::Tcp => self.tcp.contains(&port),
            Protocol::Udp => self.udp.contains(&port),
        }
    }
}

/// Asks every port of [`PORTS`] over this cable, and panics unless these are open over IPv4 and IPv6, and whoever asks
/// another one is told this.
#[track_caller]
fn is(cable: &Cable, wanted: [&Open; 2], shut: &[Told]) {
    let wrong: Vec<String> = thread::scope(|scope| {
        let ask = |protocol, address: SocketAddr, wanted: &Open| {
            let is_wanted = wanted.has(protocol, address.port());
            scope.spawn(move || {
                let told = ask(protocol, address, if is_wanted { EVER } else { SILENCE });
                let is_right = if is_wanted { told == Told::Answer } else { shut.contains(&told) };
                (!is_right).then(|| format!("{protocol:?} {address}: {told:?}"))
            })
        };
        let asked: Vec<_> = PORTS
            .flat_map(|port| [(cable.v4(port), wanted[0]), (cable.v6(port), wanted[1])])
            .flat_map(|(address, wanted)| [Protocol::Tcp, Protocol::Udp].map(|protocol| ask(protocol, address, wanted)))
            .collect();
        asked.into_iter().filter_map(|asked| asked.join().expect("a port can be asked")).collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}\nonly these should be open: {wanted:?}");
}

/// A lab by both its cables, with somebody who pings it by each.
struct Traffic {
    stage: Stage,
    first: Cable,
    second: Cable,
    /// Over IPv4 and IPv6.
    first_pings: [Pings; 2],
    second_pings: [Pings; 2],
}

impl Traffic {
    fn new() -> Self {
        let stage = Stage::with_small(&Small::guarded(""), Machine::bookworm());
        listens(&stage.lab);
        let (first, second) = (Cable::first(&stage.lab), Cable::second(&stage.lab));
        let pings = |cable: &Cable| [Pings::to(cable.v4(0)), Pings::to(cable.v6(0))];
        let (first_pings, second_pings) = (pings(&first), pings(&second));
        Self { stage, first, second, first_pings, second_pings }
    }

    #[track_caller]
    fn up(&self, firewall: &str) {
        Small::guarded(firewall).write(&self.stage.project);
        // What the first one pinned is good for all.
        let word = if self.stage.project.join("stead.lock").exists() { "deploy" } else { "up" };
        self.stage.stead(&[word, "--soak", "0"]).well();
    }

    /// Everything can be reached as long as there is no firewall.
    fn all_is_open(&mut self) {
        let all = Open::new(PORTS, PORTS);
        for cable in [&self.first, &self.second] {
            is(cable, [&all, &all], &[]);
        }
        for pings in self.first_pings.iter_mut().chain(&mut self.second_pings) {
            assert!(pings.is_answered(EVER), "{pings:?}");
        }
    }

    /// Ports and ranges for everybody and on one interface, and an operator's own rules, which open ports, limit open
    /// ports, and limit pings. Who is refused is told nothing.
    fn ports_ranges_interfaces_and_own_rules(&mut self) {
        let here = self.first.here_v4();
        self.up(&format!(
            r#"
            allowedTCPPorts = [80],
            allowedUDPPorts = [7000, 7016],
            allowedTCPPortRanges = [{{ from = 7003, to = 7005 }}],
            allowedUDPPortRanges = [{{ from = 7004, to = 7006 }}],
            interfaces.eth1 = {{
              allowedTCPPorts = [7008],
              allowedUDPPorts = [7009],
              allowedTCPPortRanges = [{{ from = 7011, to = 7012 }}],
              allowedUDPPortRanges = [{{ from = 7012, to = 7013 }}],
            }},
            extraInputRules = m%"
              ip saddr {{ {here} }} tcp dport 7015 accept # "}}"
              ip saddr {{ {here} }} udp dport 7015 accept
              iifname "eth1" udp dport 7016 drop
              iifname "eth1" icmp type echo-request drop
              tcp dport 22 drop
            "%"#
        ));
        let silent = &[Told::Nothing];
        let everywhere = Open::new(7003..=7005, (7004..=7006).chain([7000]));
        let outside = everywhere.and([], [7016]);
        let inside = everywhere.and([7008, 7011, 7012], [7009, 7012, 7013]);
        is(&self.first, [&outside.and([7015], [7015]), &outside], silent);
        is(&self.second, [&inside, &inside], silent);

        let ([first_v4, first_v6], [second_v4, second_v6]) = (&mut self.first_pings, &mut self.second_pings);
        for pings in [first_v4, first_v6, second_v6] {
            assert!(pings.is_answered(EVER), "{pings:?}");
        }
        assert!(!second_v4.is_answered(SILENCE), "the operator's rule is for pings, too");
    }

    /// A trusted interface has everything. On the other one, who is refused is told so, and no ping is answered, not even
    /// of somebody whose pings were answered before.
    fn trusted_interfaces_refusals_and_no_pings(&mut self) {
        self.up("allowedTCPPorts = [80], trustedInterfaces = [\"eth1\"], allowPing = false, rejectPackets = true");
        let (all, none) = (Open::new(PORTS, PORTS), Open::default());
        is(&self.second, [&all, &all], &[]);
        // The kernel tells it so many times a second at most (`icmp(7)`, icmp_ratelimit): some hear nothing.
        is(&self.first, [&none, &none], &[Told::Refused, Told::Nothing]);
        for address in [self.first.v4(7000), self.first.v6(7000)] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                wait::until_is("who is refused is told so", PATIENCE, Told::Refused, || {
                    ask(protocol, address, SILENCE)
                });
            }
        }
        let mut others = [Pings::to(self.first.v4(0)), Pings::to(self.first.v6(0))];
        for pings in self.first_pings.iter_mut().chain(&mut others) {
            assert!(!pings.is_answered(SILENCE), "{pings:?}");
        }
        for pings in &mut self.second_pings {
            assert!(pings.is_answered(EVER), "{pings:?}");
        }
    }

    /// Without pings, too, both sides learn each other's address of the link when they have forgotten it.
    fn neighbours_find_each_other(&self) {
        let (device, inner) = (&*self.first.device, self.first.inner);
        let site = self.first.v6(80);
        let known_here = || ip(&["-6", "neigh", "show", "to", &site.ip().to_string(), "dev", device]);
        wait::until_is("the lab is forgotten", PATIENCE, false, || {
            ip(&["-6", "neigh", "flush", "dev", device]);
            known_here().contains("lladdr")
        });
        assert!(is_open(site, EVER) && known_here().contains("lladdr"), "the lab tells who it is: {}", known_here());

        // This machine has nothing to ask the lab for a while: the lab learns nothing by the way.
        let (lab, here) = (&self.stage.lab, self.first.here_v6());
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it has a port").port();
        let known_there = || lab.run(&format!("ip -6 neigh show to {here} dev {inner}"));
        wait::until_is("this machine is forgotten", PATIENCE, false, || {
            lab.run(&format!("ip -6 neigh flush dev {inner}"));
            known_there().contains("lladdr")
        });
        lab.run(&format!("timeout {} bash -c ': < /dev/tcp/{here}%{inner}/{port}'", EVER.as_secs()));
        assert!(known_there().contains("lladdr"), "this machine tells who it is: {}", known_there());
    }

    /// Not more pings than declared are answered, of two who go on pinging, over IPv4 and IPv6 together. What was open
    /// before is shut; an interface may be named by its beginning.
    fn pings_are_limited_and_interfaces_have_patterns(&mut self) {
        self.up(r#"
            allowedTCPPorts = [80],
            pingLimit = "1/hour burst 5 packets",
            interfaces."eth1*".allowedUDPPorts = [7001],
            "#);
        let [v4, v6] = &mut self.first_pings;
        for _ in 0..8 {
            v4.send();
            v6.send();
        }
        let answered = [v4.answered(SILENCE), v6.answered(SILENCE)];
        assert_eq!(answered.iter().sum::<usize>(), 5, "{answered:?}");
        assert!(answered.iter().all(|answered| *answered > 0), "{answered:?}");

        let (one, none, silent) = (Open::new([], [7001]), Open::default(), &[Told::Nothing]);
        is(&self.first, [&none, &none], silent);
        is(&self.second, [&one, &one], silent);
    }
}

/// Makes the host listen, on all of [`PORTS`].
fn listens(lab: &Lab) {
    let sockets: String = PORTS.map(|port| format!("ListenStream={port}\\nListenDatagram={port}\\n")).collect();
    lab.run(&format!(
        "cat > /etc/echo.pl <<'END'\n{ECHO}END
         printf '[Socket]\\n{sockets}' > /etc/systemd/system/echo.socket
         printf '[Service]\\nExecStart=/usr/bin/perl /etc/echo.pl\\n' > /etc/systemd/system/echo.service
         systemctl daemon-reload && systemctl start echo.socket"
    ));
}

#[test]
fn traffic_is_let_in_as_the_options_say() {
    let mut traffic = Traffic::new();
    traffic.all_is_open();
    traffic.ports_ranges_interfaces_and_own_rules();
    traffic.trusted_interfaces_refusals_and_no_pings();
    traffic.neighbours_find_each_other();
    traffic.pings_are_limited_and_interfaces_have_patterns();
}
