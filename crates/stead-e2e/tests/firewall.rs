//! The firewall on a real server, looked at from outside over IPv4 and IPv6: what is shut is never open, SSH is never
//! shut, and nothing but Stead's own table changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use stead_e2e::cable::Cable;
use stead_e2e::lab::Machine;
use stead_e2e::reach::{EVER, SOON, Watch, is_open};
use stead_e2e::{Small, Stage, wait};

/// Where a service of the host listens that nobody outside should reach.
const FOREIGN: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(20);

struct Guarded {
    stage: Stage,
    page: u32,
}

impl Guarded {
    /// A lab with a service of its own, and a table of nftables of its own.
    fn new() -> Self {
        let stage = Stage::with_small(&Small { has_app: false, ..Small::default() }, Machine::bookworm());
        let socket = format!("[Socket]\\nListenStream={FOREIGN}\\nAccept=yes\\n[Install]\\nWantedBy=sockets.target\\n");
        stage.lab.run(&format!(
            "printf '{socket}' > /etc/systemd/system/foreign.socket
             printf '[Service]\\nExecStart=/bin/cat\\nStandardInput=socket\\n' > /etc/systemd/system/foreign@.service
             systemctl daemon-reload && systemctl enable --now foreign.socket
             nft add table inet foreign
             nft 'add chain inet foreign input {{ type filter hook input priority 10; policy accept; }}'
             nft 'add rule inet foreign input tcp dport 9999 drop'"
        ));
        Self { stage, page: 0 }
    }

    /// Declares a firewall by its options, and another page.
    fn declare(&mut self, firewall: &str) {
        self.page += 1;
        let small = match firewall {
            "" => Small { has_app: false, ..Small::default() },
            options => Small::guarded(options),
        };
        Small { page: format!("page {}\n", self.page), ..small }.write(&self.stage.project);
    }

    #[track_caller]
    fn up(&mut self, firewall: &str) -> String {
        self.declare(firewall);
        let told = self.stage.stead(&["up"]).well();
        assert_eq!(self.stage.get("site.small", "/").body, format!("page {}\n", self.page));
        told.text("generation")
    }

    fn v4(&self, port: u16) -> SocketAddr {
        self.stage.lab.port(port)
    }

    fn v6(&self, port: u16) -> SocketAddr {
        Cable::first(&self.stage.lab).v6(port)
    }

    /// Every TCP port that is open, asked one by one.
    fn open_ports(&self, of: impl Fn(u16) -> SocketAddr) -> BTreeSet<u16> {
        (1..=u16::MAX).filter(|port| is_open(of(*port), EVER)).collect()
    }

    fn tables(&self) -> String {
        self.stage.lab.run("nft list tables | tr '\\n' ','")
    }

    fn foreign_table(&self) -> String {
        self.stage.lab.run("nft list table inet foreign")
    }

    #[track_caller]
    fn is_shut_but_for_what_is_declared(&self) {
        for of in [Self::v4 as fn(&Self, u16) -> SocketAddr, Self::v6] {
            assert!(!is_open(of(self, FOREIGN), Duration::from_millis(500)), "the host's service is reachable");
            wait::until_is("SSH and the site are reachable", PATIENCE, (true, true), || {
                (is_open(of(self, 22), EVER), is_open(of(self, 80), EVER))
            });
        }
    }
}

impl Guarded {
    /// What cannot come into force is refused before anything is touched.
    fn bad_rules_are_refused(&mut self) {
        self.declare("allowedTCPPorts = [443]");
        let told = self.stage.stead(&["up"]).exits(1);
        told.tells("listens on port 80, which networking.firewall does not open").tells("allowedTCPPorts");
        self.declare("allowedTCPPorts = [80], allowSSH = false");
        self.stage.stead(&["up"]).exits(1).tells("networking.firewall.allowSSH").tells("lockOutSSH");
        self.declare("allowedTCPPorts = [80], extraInputRules = \"tcp dport 9100 allow\"");
        let told = self.stage.stead(&["up"]).exits(3);
        told.tells("networking.firewall.extraInputRules: nft refuses this rule").tells("tcp dport 9100 allow");
        assert!(is_open(self.v4(FOREIGN), EVER) && is_open(self.v6(FOREIGN), EVER), "nothing is shut yet");
        assert_eq!(self.tables(), "table inet foreign,");
        assert!(!is_open(self.v4(80), EVER), "nothing of the deploy runs");
    }

    /// Deploys and a rollback, watched from outside. Returns the generation that runs then.
    fn nothing_opens_and_ssh_never_shuts(&mut self) -> String {
        let first = self.up("allowedTCPPorts = [80]");
        self.is_shut_but_for_what_is_declared();
        let shut = [Watch::of(self.v4(FOREIGN), SOON), Watch::of(self.v6(FOREIGN), SOON)];
        let open = [self.v4(22), self.v6(22), self.v4(80), self.v6(80)].map(|address| Watch::of(address, EVER));

        self.up("allowedTCPPorts = [80, 7100], rejectPackets = true, logRefusedConnections = true");
        let wanted: BTreeSet<u16> = [22, 80].into();
        assert_eq!(self.open_ports(|port| self.v4(port)), wanted);
        let v6 = self.v6(0);
        let over_v6 = |port| {
            let mut address = v6;
            address.set_port(port);
            address
        };
        assert_eq!(self.open_ports(over_v6), wanted);

        self.stage.stead(&["rollback"]).well();
        assert_eq!(self.stage.stead(&["status"]).well().json()["active"].as_str(), Some(&*first));
        assert!(!self.stage.lab.run("nft list table inet stead").contains("reject"));

        // Another unit, not other rules alone: the same packages and one more.
        let first = self.up("allowedTCPPorts = [80], packages = [\"nftables\", \"netbase\", \"iproute2\"]");
        shut.into_iter().for_each(Watch::was_never_open);
        open.into_iter().for_each(Watch::was_never_shut);
        self.is_shut_but_for_what_is_declared();
        let counted =
            self.stage.lab.run("nft list counter inet stead refused_tcp | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'");
        assert!(counted.parse::<u32>().expect("it is a number") > 0, "what was refused is counted");
        first
    }

    fn a_boot_comes_up_shut(&mut self) {
        let watch = Watch::of(self.v4(FOREIGN), SOON);
        self.stage.lab.cut_and_boot();
        wait::until_is("the host's service after a boot", PATIENCE, "active".to_owned(), || {
            self.stage.lab.try_run("systemctl is-active foreign.socket").stdout.trim().to_owned()
        });
        self.is_shut_but_for_what_is_declared();
        watch.was_never_open();
        // It was there before whatever could listen.
        let started = |unit: &str| -> u64 {
            self.stage.lab.show(unit, "ActiveEnterTimestampMonotonic").parse().expect("it has started")
        };
        assert!(started("stead-firewall.service") <= started("sysinit.target"));
        assert!(started("stead-firewall.service") < started("foreign.socket"));
    }

    fn a_lockout_ends_with_the_deadline(&mut self, generation: &str) {
        let watch = Watch::of(self.v4(FOREIGN), SOON);
        self.declare("allowedTCPPorts = [80], allowSSH = false, lockOutSSH = true");
        let told = self.stage.stead(&["up", "--confirm-deadline", "4"]).exits(4);
        let told = told.tells("a fresh login failed");
        let status = self.stage.stead(&["status"]).well().json();
        assert_eq!(status["active"].as_str(), Some(generation), "{told}");
        self.stage.lab.ssh("true").well();
        self.is_shut_but_for_what_is_declared();
        watch.was_never_open();
    }

    /// sshd listens on a port that nobody declared.
    fn the_real_port_of_ssh_is_open(&mut self) {
        let lab = &self.stage.lab;
        lab.run("printf 'Port 22\\nPort 2222\\n' > /etc/ssh/sshd_config.d/own.conf && systemctl restart ssh");
        assert!(!is_open(self.v4(2222), Duration::from_millis(500)), "it is shut like any other");
        self.up("allowedTCPPorts = [80], allowPing = false");
        let known = self.stage.lab.run("cat /var/lib/stead/host/ssh-ports.nft");
        assert!(known.contains("{ 22, 2222 } accept"), "{known}");
        for address in [self.v4(2222), self.v6(2222)] {
            assert!(is_open(address, EVER), "{address}");
        }
        self.is_shut_but_for_what_is_declared();
    }

    fn it_goes_as_it_came(&mut self) {
        self.up("");
        assert_eq!(self.tables(), "table inet foreign,");
        assert!(is_open(self.v4(FOREIGN), EVER) && is_open(self.v6(FOREIGN), EVER), "the host's service is back");
        assert_eq!(self.stage.lab.units("stead-firewall*"), [""; 0]);
    }
}

#[test]
fn what_is_shut_is_never_open_and_ssh_is_never_shut() {
    let mut guarded = Guarded::new();
    let foreign = guarded.foreign_table();
    guarded.bad_rules_are_refused();
    let generation = guarded.nothing_opens_and_ssh_never_shuts();
    guarded.a_lockout_ends_with_the_deadline(&generation);
    guarded.the_real_port_of_ssh_is_open();
    assert_eq!(guarded.foreign_table(), foreign);
    guarded.it_goes_as_it_came();
    assert_eq!(guarded.foreign_table(), foreign);
    // Again, as what a boot comes up in.
    guarded.up("allowedTCPPorts = [80]");
    guarded.a_boot_comes_up_shut();
}
