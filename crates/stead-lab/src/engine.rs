//! The seam between a lab and what it runs in: two engines of one shape.
//!
//! Everything that differs between a container and a virtual machine is behind this trait. The rest
//! of the crate never asks which one it has.

use crate::container::Container;
use crate::error::Error;
use crate::labs::Event;
use crate::network::Link;
use crate::process::Process;
use crate::specification::{Engine, Release, Specification};
use crate::virtual_machine::VirtualMachine;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The lab asked for another boot.
    Reboot,
    /// It is off.
    Off,
}

/// Where bases are, and what they are built from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bases<'a> {
    pub(crate) cache: &'a Path,
    pub(crate) mirror: Option<&'a str>,
}

/// A boot that is under way.
#[derive(Debug)]
pub(crate) struct Boot {
    /// The program that this keeper started, and waits for.
    pub(crate) child: Child,
    /// What was found out about this boot that its user should know.
    pub(crate) notes: Vec<String>,
}

/// What a lab runs in.
pub(crate) trait Machinery {
    /// The programs that it needs, each with the Debian package that has it.
    fn programs(&self) -> &'static [(&'static str, &'static str)];

    /// How long a boot may take before it counts as failed.
    fn patience(&self) -> Duration;

    /// The base of this release, built if the cache does not have it.
    fn base(&self, bases: Bases<'_>, release: Release, events: &mut dyn FnMut(Event)) -> Result<PathBuf, Error>;

    /// Makes a new machine of a base, in an empty folder.
    fn make(&self, base: &Path, folder: &Path, specification: &Specification) -> Result<(), Error>;

    /// The folder whose files are, or became, the lab's identity ([`crate::identity`]).
    fn identity(&self, folder: &Path) -> PathBuf;

    /// Whether its memory and CPUs have to be limited from outside.
    fn is_limited_from_outside(&self) -> bool;

    /// Plugs the lab's end of its cable in, for one boot.
    fn plug(&self, link: &Link) -> Result<(), Error>;

    /// Starts one boot. What is shown goes to the end of `console`.
    fn start(&self, folder: &Path, specification: &Specification, link: &Link, console: &Path) -> Result<Boot, Error>;

    /// The process whose end is the lab's end; killing it is a power cut.
    fn init(&self, boot: &mut Boot, console: &Path) -> Result<Process, Error>;

    /// Waits until the boot is over. `console` is where its last words are.
    fn wait(&self, boot: Boot, console: &Path) -> Result<End, Error>;

    /// A command inside, as root, with a plain environment. To be run by the caller.
    fn command(&self, ssh: Command, init: &Process, argv: &[&OsStr]) -> Command;
}

impl Engine {
    pub(crate) fn machinery(self) -> &'static dyn Machinery {
        match self {
            Engine::Container => &Container,
            Engine::VirtualMachine => &VirtualMachine,
        }
    }
}

/// A program and its arguments with nothing of the caller's environment, as `env(1)` sets it.
pub(crate) const PLAIN: [&str; 6] = [
    "/usr/bin/env",
    "-i",
    "HOME=/root",
    "LANG=C.UTF-8",
    "TERM=linux",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];
