//! Base systems: a stock Debian for each release, built once with mmdebstrap and kept in the cache.
//!
//! A base is published by rename, so a broken-off build is never used. Its name holds the hash of
//! what it was made from: another list of packages is another base.

use crate::command::{require, run, tail};
use crate::engine::Bases;
use crate::error::{Error, io_error};
use crate::labs::Event;
use crate::sources;
use crate::specification::Release;
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use stead_model::hash::Hash;

/// What a droplet has and Stead or its operator meets: init, login, firewall, certificates.
const PACKAGES: [&str; 10] = [
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "libpam-systemd",
    "nftables",
    "openssh-server",
    "procps",
    "sudo",
    "systemd-sysv",
];

/// Units that only fail or disturb where there is no world: package updates by themselves.
const MASKED: [&str; 3] = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer"];

/// Raised when this file changes what a base holds.
const RULES: u32 = 1;

/// What a base is made of. Another recipe is another base.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The kind of base, for its name; empty for the plain folder.
    pub(crate) kind: &'static str,
    /// Raised when the code changes what a base holds.
    pub(crate) rules: u32,
    pub(crate) packages: Vec<&'static str>,
    pub(crate) masked: Vec<&'static str>,
}

impl Recipe {
    /// A stock Debian that a container engine can boot.
    pub(crate) fn plain() -> Self {
        Self { kind: "", rules: RULES, packages: PACKAGES.to_vec(), masked: MASKED.to_vec() }
    }
}

/// The root folder of a stock Debian, built if the cache does not have it. Never changes a built one.
pub(crate) fn folder(bases: Bases<'_>, release: Release, events: &mut dyn FnMut(Event)) -> Result<PathBuf, Error> {
    ensure(bases, release, &Recipe::plain(), events, |_| Ok(()))
}

/// The base by this recipe, built if the cache does not have it; `finish` turns the root folder
/// into what the engine wants, at the same place. Never changes a built one.
pub(crate) fn ensure(
    bases: Bases<'_>,
    release: Release,
    recipe: &Recipe,
    events: &mut dyn FnMut(Event),
    finish: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let hash = Hash::of_value("stead lab base", &(recipe.rules, &recipe.packages, &recipe.masked));
    let kind = if recipe.kind.is_empty() { String::new() } else { format!("{}-", recipe.kind) };
    let name = format!("{release}-{kind}{}", hash.short());
    let cache = bases.cache;
    let base = cache.join(&name);
    if base.exists() {
        return Ok(base);
    }
    require("mmdebstrap", "mmdebstrap")?;
    fs::create_dir_all(cache).map_err(io_error("create", cache))?;
    let lock = cache.join(format!("{name}.lock"));
    let held = File::create(&lock).map_err(io_error("create", &lock))?;
    rustix::fs::flock(&held, FlockOperation::LockExclusive).map_err(|error| io_error("lock", &lock)(error.into()))?;
    if base.exists() {
        return Ok(base); // Somebody else built it while this waited for the lock.
    }
    let began = Instant::now();
    events(Event::BuildingBase { release });
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io_error("remove", &partial))?;
    }
    build(&partial, release, bases.mirror, &recipe.packages, events)?;
    tidy(&partial, &recipe.masked)?;
    finish(&partial)?;
    fs::rename(&partial, &base).map_err(io_error("publish", &base))?;
    events(Event::BaseBuilt { release, took: began.elapsed() });
    Ok(base)
}

fn build(
    folder: &Path,
    release: Release,
    mirror: Option<&str>,
    packages: &[&str],
    events: &mut dyn FnMut(Event),
) -> Result<(), Error> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", &format!("--include={}", packages.join(","))]);
    let keys = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    if keys.exists() {
        command.arg("--keyring").arg(keys);
    }
    command.args(sources::options().iter().map(|option| format!("--aptopt={option}")));
    command.arg(release.codename()).arg(folder).args(sources::lines(release, mirror));
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error("run", "mmdebstrap"))?;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some(step) = line.strip_prefix("I: ") {
                events(Event::BaseStep { text: step.to_owned() });
            }
            said.push_str(&line);
            said.push('\n');
        }
    }
    let status = child.wait().map_err(io_error("wait for", "mmdebstrap"))?;
    if status.success() { Ok(()) } else { Err(Error::BaseFailed { release, lines: tail(&said, 12) }) }
}

/// Removes what makes every copy the same machine, and what only fails without a world.
fn tidy(base: &Path, masked: &[&str]) -> Result<(), Error> {
    let ssh = base.join("etc/ssh");
    for entry in fs::read_dir(&ssh).map_err(io_error("read", &ssh))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path()).map_err(io_error("remove", entry.path()))?;
        }
    }
    for unit in masked {
        let link = base.join("etc/systemd/system").join(unit);
        symlink("/dev/null", &link).map_err(io_error("create", &link))?;
    }
    Ok(())
}

/// Copies a base into a folder that does not exist yet; shares the blocks where the file system can.
pub(crate) fn copy(base: &Path, to: &Path) -> Result<(), Error> {
    run("cp", ["-a".as_ref(), "--reflink=auto".as_ref(), base.as_os_str(), to.as_os_str()]).map(|_| ())
}
