//! The container engine: a root folder that looks like a fresh droplet, and systemd-nspawn's line.
//!
//! Flags that were tried where PID 1 is not systemd and control groups are v1, and on the usual.

use crate::base;
use crate::command::tail;
use crate::engine::{Bases, Boot, End, Machinery, PLAIN};
use crate::error::{Error, io_error};
use crate::identity;
use crate::labs::Event;
use crate::network::Link;
use crate::process::Process;
use crate::specification::{Release, Specification};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// systemd-nspawn: boots in a second, shares this machine's kernel and clock.
pub(crate) struct Container;

/// systemd-nspawn's exit status for a lab that asked for a reboot, under `--keep-unit`
/// (`EXIT_FORCE_RESTART` in its source).
const REBOOT: i32 = 133;

impl Machinery for Container {
    fn programs(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("systemd-nspawn", "systemd-container"),
            ("ip", "iproute2"),
            ("setpriv", "util-linux"),
            ("ssh", "openssh-client"),
        ]
    }

    /// A healthy boot takes a second; on an emulated processor, which is the slowest machine that was tried, a minute.
    fn patience(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn base(&self, bases: Bases<'_>, release: Release, events: &mut dyn FnMut(Event)) -> Result<PathBuf, Error> {
        base::folder(bases, release, events)
    }

    fn make(&self, base: &Path, folder: &Path, specification: &Specification) -> Result<(), Error> {
        let root = self.identity(folder);
        base::copy(base, &root)?;
        identity::write(folder, &root, specification)
    }

    fn identity(&self, folder: &Path) -> PathBuf {
        folder.join("root")
    }

    fn is_limited_from_outside(&self) -> bool {
        true
    }

    fn plug(&self, link: &Link) -> Result<(), Error> {
        link.plug()
    }

    fn start(&self, folder: &Path, specification: &Specification, link: &Link, console: &Path) -> Result<Boot, Error> {
        let log = File::options().create(true).append(true).open(console).map_err(io_error("open", console))?;
        let errors = log.try_clone().map_err(io_error("open", console))?;
        let mut command = command(folder, specification, link);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        Ok(Boot { child: child.map_err(io_error("run", "systemd-nspawn"))?, notes: Vec::new() })
    }

    /// The first process of the container that this systemd-nspawn makes: the child that is number 1
    /// in a namespace of its own (`NSpid` of `proc_pid_status(5)`).
    fn init(&self, boot: &mut Boot, console: &Path) -> Result<Process, Error> {
        let children = format!("/proc/{0}/task/{0}/children", boot.child.id());
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let ids = fs::read_to_string(&children).unwrap_or_default();
            for id in ids.split_whitespace().filter_map(|id| id.parse().ok()) {
                let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
                let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                let numbers: Vec<&str> = inside.unwrap_or_default().split_whitespace().collect();
                if numbers.len() > 1 && numbers.last() == Some(&"1") {
                    return Process::of(id).map_err(io_error("read", format!("/proc/{id}/stat")));
                }
            }
            let ended = boot.child.try_wait().map_err(io_error("wait for", "systemd-nspawn"))?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(console).unwrap_or_default();
                return Err(Error::Command { command: "systemd-nspawn".to_owned(), stderr: tail(&said, 8) });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait(&self, mut boot: Boot, _console: &Path) -> Result<End, Error> {
        let status = boot.child.wait().map_err(io_error("wait for", "systemd-nspawn"))?;
        Ok(if status.code() == Some(REBOOT) { End::Reboot } else { End::Off })
    }

    /// By namespaces: works without its sshd, network or firewall. What it starts is outside the
    /// lab's limits.
    fn command(&self, _ssh: Command, init: &Process, argv: &[&OsStr]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", init.pid));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--"]).args(PLAIN).args(argv);
        command
    }
}

/// The command that boots the lab and stays until it is off. It dies with its parent.
fn command(folder: &Path, specification: &Specification, link: &Link) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "systemd-nspawn", "--quiet"]);
    command.arg("--directory").arg(folder.join("root"));
    command.arg(format!("--machine=stead-lab-{}", link.index()));
    command.arg(format!("--hostname={}", specification.name));
    command.arg(format!("--network-namespace-path={}", link.namespace_path().display()));
    command.args([
        "--boot",
        "--register=no",
        "--keep-unit",
        "--capability=CAP_NET_ADMIN",
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--settings=no",
    ]);
    // The namespace is the lab's own: its sysctls may be written (systemd-nspawn's ENVIRONMENT.md).
    command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
    match specification.release {
        // systemd before 256 knows every layout of control groups.
        Release::Bookworm => {}
        // systemd 256 and later refuse control groups v1 without this (its NEWS).
        Release::Trixie => {
            command.arg("--setenv=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1");
        }
    }
    // For the first process: tell on the console what starts and what fails.
    command.args(["--", "--show-status=yes"]);
    command
}
