//! The cable between this machine and a lab: a network namespace, a veth pair, a /30.
//!
//! The name of the link on this side is the claim of its addresses, given atomically by the
//! kernel, so labs of different state folders cannot collide. There is no route to the world.

use crate::command::run;
use crate::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// One cable; its index decides the link's name and the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    index: u16,
    /// The process id of the keeper that holds it. Part of the namespace's name, because the link
    /// goes first when it is given back: the namespace must not be the next holder's then.
    keeper: i32,
}

/// 10.213.0.0/16 has room for so many /30.
const LINKS: u16 = 16384;

impl Link {
    /// The cable that this keeper claimed.
    pub(crate) fn existing(index: u16, keeper: i32) -> Self {
        Self { index, keeper }
    }

    /// Claims a free cable for this process, the preferred one if it is free.
    pub(crate) fn claim(preferred: Option<u16>) -> Result<Self, Error> {
        let keeper = rustix::process::getpid().as_raw_nonzero().get();
        for index in preferred.into_iter().chain(0..LINKS) {
            let link = Self { index, keeper };
            match link.take() {
                Ok(()) => return Ok(link),
                Err(Error::Command { stderr, .. }) if stderr.contains("File exists") => {}
                Err(other) => return Err(other),
            }
        }
        Err(Error::NoAddress)
    }

    /// Claims this very cable, given back before.
    pub(crate) fn take(&self) -> Result<(), Error> {
        run("ip", ["link", "add", &self.here(), "type", "veth", "peer", "name", &self.there()]).map(|_| ())
    }

    /// Gives the lab its end, `eth0`, in a fresh namespace: no rules or sockets of an earlier boot.
    pub(crate) fn plug(&self) -> Result<(), Error> {
        self.lead_in("eth0")?;
        self.inside(&["addr", "add", &format!("{}/30", self.lab()), "dev", "eth0"])?;
        self.inside(&["link", "set", "eth0", "up"])?;
        self.inside(&["route", "add", "default", "via", &self.host().to_string()])
    }

    /// Gives a machine its end: the tap device of this name in a fresh namespace, bridged to the
    /// cable. The machine configures its address itself.
    pub(crate) fn plug_tap(&self, tap: &str) -> Result<(), Error> {
        self.lead_in("cable")?;
        self.inside(&["link", "add", "bridge", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])?;
        self.inside(&["tuntap", "add", "dev", tap, "mode", "tap"])?;
        for port in ["cable", tap] {
            self.inside(&["link", "set", port, "master", "bridge"])?;
            self.inside(&["link", "set", port, "up"])?;
        }
        self.inside(&["link", "set", "bridge", "up"])
    }

    /// Makes the namespace anew, with the cable's other end in it under this name.
    fn lead_in(&self, name: &str) -> Result<(), Error> {
        let (here, there, space) = (self.here(), self.there(), self.namespace());
        if self.namespace_path().exists() {
            run("ip", ["netns", "del", &space])?;
        }
        run("ip", ["netns", "add", &space])?;
        run("ip", ["link", "set", &there, "netns", &space])?;
        run("ip", ["addr", "add", &format!("{}/30", self.host()), "dev", &here])?;
        run("ip", ["link", "set", &here, "up"])?;
        self.inside(&["link", "set", "lo", "up"])?;
        self.inside(&["link", "set", &there, "name", name])
    }

    fn inside(&self, arguments: &[&str]) -> Result<(), Error> {
        run("ip", [&["-n", &self.namespace()], arguments].concat()).map(|_| ())
    }

    /// Removes cable and namespace. Fine when they are gone already.
    pub(crate) fn release(&self) {
        // What does not exist cannot be removed, and says so; nothing depends on the answer.
        let _ = run("ip", ["link", "del", &self.here()]);
        let _ = run("ip", ["netns", "del", &self.namespace()]);
    }

    /// This machine's address on it.
    pub(crate) fn host(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The lab's address.
    pub(crate) fn lab(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// The number that makes its names unique on this machine.
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// Where `ip netns` keeps the namespace (`ip-netns(8)`).
    pub(crate) fn namespace_path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.namespace())
    }

    fn namespace(&self) -> String {
        format!("stead-lab-{}-{}", self.index, self.keeper)
    }

    fn here(&self) -> String {
        format!("steadlab{}", self.index)
    }

    fn there(&self) -> String {
        format!("steadpeer{}", self.index)
    }

    fn address(&self, last: u16) -> Ipv4Addr {
        let [high, low] = (self.index * 4 + last).to_be_bytes();
        Ipv4Addr::new(10, 213, high, low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_a_network_each() {
        assert_eq!(Link::existing(0, 1).lab(), Ipv4Addr::new(10, 213, 0, 2));
        assert_eq!(Link::existing(64, 1).host(), Ipv4Addr::new(10, 213, 1, 1));
        assert_eq!(Link::existing(LINKS - 1, 1).lab(), Ipv4Addr::new(10, 213, 255, 254));
    }
}
