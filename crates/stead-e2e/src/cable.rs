//! A cable to a lab: the one it has, or another one, made by a test. Both have IPv4, and the addresses of IPv6 that every
//! link has.

use crate::lab::Lab;
use crate::wait;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A cable, with the lab's addresses on it. One that was made here is removed when dropped.
#[derive(Debug)]
pub struct Cable {
    /// The end on this machine.
    pub device: String,
    /// The lab's end.
    pub inner: &'static str,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    here_v6: Ipv6Addr,
    /// The number of `device`, without which its addresses of IPv6 have no meaning.
    scope: u32,
    is_own: bool,
}

impl Cable {
    /// The one that the lab has, `eth0`. Another one after each boot.
    #[track_caller]
    pub fn first(lab: &Lab) -> Self {
        let v4 = address(lab);
        let route = ip(&["-o", "route", "get", &v4.to_string()]);
        let device = route.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("the lab has a cable");
        Self::of(lab, device.to_owned(), "eth0", v4, false)
    }

    /// Another one, `eth1`, with a network of its own.
    #[track_caller]
    pub fn second(lab: &Lab) -> Self {
        let first = Self::first(lab);
        // As free as the first one's are.
        let device = format!("{}b", first.device);
        let beside = |last: u8| {
            let [a, b, c, d] = first.v4.octets();
            Ipv4Addr::new(a, b + 1, c, d - 2 + last)
        };
        let space = lab.itself().network_namespace().expect("the lab runs");
        let space = space.to_str().expect("its name is a text");
        ip(&["link", "add", &device, "type", "veth", "peer", "name", "eth1", "netns", space]);
        ip(&["addr", "add", &format!("{}/30", beside(1)), "dev", &device]);
        ip(&["link", "set", &device, "up"]);
        lab.run(&format!("ip addr add {}/30 dev eth1 && ip link set eth1 up", beside(2)));
        Self::of(lab, device, "eth1", beside(2), true)
    }

    #[track_caller]
    fn of(lab: &Lab, device: String, inner: &'static str, v4: Ipv4Addr, is_own: bool) -> Self {
        let show = format!("ip -6 -o addr show dev {inner} scope link -tentative");
        let v6 = wait::until("the lab has an address of IPv6", PATIENCE, || link_local(&lab.run(&show)));
        // Without one, nobody could ask.
        let show = ["-6", "-o", "addr", "show", "dev", &device, "scope", "link", "-tentative"];
        let here_v6 = wait::until("this machine has an address of IPv6", PATIENCE, || link_local(&ip(&show)));
        let index = std::fs::read_to_string(format!("/sys/class/net/{device}/ifindex"));
        let scope = index.expect("the cable has an index").trim().parse().expect("an index is a number");
        Self { device, inner, v4, v6, here_v6, scope, is_own }
    }

    /// A port of the lab over IPv4.
    pub fn v4(&self, port: u16) -> SocketAddr {
        (self.v4, port).into()
    }

    /// A port of the lab over IPv6.
    pub fn v6(&self, port: u16) -> SocketAddr {
        SocketAddrV6::new(self.v6, port, 0, self.scope).into()
    }

    /// This machine's address on it of IPv4.
    pub fn here_v4(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.v4.to_bits() - 1)
    }

    /// This machine's address on it of IPv6.
    pub fn here_v6(&self) -> Ipv6Addr {
        self.here_v6
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        if self.is_own {
            // Gone already if the lab is.
            let _ = Command::new("ip").args(["link", "del", &self.device]).output();
        }
    }
}

#[track_caller]
fn address(lab: &Lab) -> Ipv4Addr {
    match lab.address() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("labs have an address of IPv4"),
    }
}

/// The address in what `ip -o addr` says.
fn link_local(said: &str) -> Option<Ipv6Addr> {
    let word = said.split_whitespace().find(|word| word.contains("::"))?;
    Some(word.split('/').next()?.parse().expect("it is an address"))
}

/// What `ip` says on this machine.
#[track_caller]
pub fn ip(words: &[&str]) -> String {
    let output = Command::new("ip").args(words).output().expect("ip can be run");
    assert!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is a text")
}
