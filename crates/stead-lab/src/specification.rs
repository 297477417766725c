//! What a lab is to be: its name, its Debian release, its size, its forwarded ports.
//!
//! Pure data, kept in the lab's folder; nothing here looks at a machine.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use stead_model::name::{Name, Port};

/// What a lab is to be. Asking for the same again is asking for the same lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Specification {
    /// Its name: host name, and `lab-NAME` for ssh.
    pub name: Name,
    /// The Debian release that it runs.
    pub release: Release,
    /// How many CPUs its processes may use.
    pub cpus: u32,
    /// How much memory its processes may use together, in MiB.
    pub memory_mib: u32,
    /// Ports of this machine's loopback that lead to ports of the lab.
    pub forwards: Vec<Forward>,
    /// What it runs in.
    pub engine: Engine,
}

impl Specification {
    /// A lab of a droplet's size, 1 CPU and 1 GiB, without forwarded ports.
    pub fn new(name: Name, release: Release) -> Self {
        Self { name, release, cpus: 1, memory_mib: 1024, forwards: Vec::new(), engine: Engine::Container }
    }
}

/// What a lab runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Engine {
    /// systemd-nspawn: boots in a second, shares this machine's kernel and clock.
    Container,
    /// QEMU: a kernel, a clock, memory and a disk of its own. Boots in seconds, or in a minute where
    /// this machine cannot virtualise and the processor is emulated.
    VirtualMachine,
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Engine::Container => "container",
            Engine::VirtualMachine => "virtual machine",
        })
    }
}

/// A Debian release that a lab can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    /// Its code name, which is also the name of its suite.
    pub fn codename(self) -> &'static str {
        match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.codename())
    }
}

impl FromStr for Release {
    type Err = InvalidSpecification;

    fn from_str(text: &str) -> Result<Self, InvalidSpecification> {
        match text {
            "bookworm" | "12" => Ok(Release::Bookworm),
            "trixie" | "13" => Ok(Release::Trixie),
            _ => Err(InvalidSpecification {
                text: text.to_owned(),
                rule: "a release is `bookworm` (12) or `trixie` (13)",
            }),
        }
    }
}

/// A port of this machine's loopback that leads to a port of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    /// The port on 127.0.0.1 here.
    pub here: Port,
    /// The port there.
    pub lab: Port,
}

impl fmt::Display for Forward {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.here, self.lab)
    }
}

impl FromStr for Forward {
    type Err = InvalidSpecification;

    fn from_str(text: &str) -> Result<Self, InvalidSpecification> {
        let port = |text: &str| text.parse().ok().and_then(Port::new);
        text.split_once(':').and_then(|(here, lab)| Some(Forward { here: port(here)?, lab: port(lab)? })).ok_or_else(
            || InvalidSpecification { text: text.to_owned(), rule: "a forward is `HERE:LAB`, such as `8080:80`" },
        )
    }
}

/// The text does not specify that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {rule}")]
pub struct InvalidSpecification {
    /// The refused text.
    pub text: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_read_back_what_they_print() {
        let forward: Forward = "8080:80".parse().unwrap();
        assert_eq!(forward.to_string(), "8080:80");
        for text in ["8080", "0:80", "8080:", "8080:80:1", "a:b", "70000:1"] {
            assert!(text.parse::<Forward>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn releases_go_by_name_or_number() {
        assert_eq!("13".parse(), Ok(Release::Trixie));
        assert_eq!("bookworm".parse(), Ok(Release::Bookworm));
        assert!("jessie".parse::<Release>().is_err());
    }
}
