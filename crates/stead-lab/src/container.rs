//! The container engine: a root folder that looks like a fresh droplet, and systemd-nspawn's line.
//!
//! Flags that were tried where PID 1 is not systemd and control groups are v1, and on the usual.

use crate::command::run;
use crate::error::{Error, io_error};
use crate::network::Link;
use crate::specification::{Release, Specification};
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// systemd-nspawn's exit status for a lab that asked for a reboot, under `--keep-unit`
/// (`EXIT_FORCE_RESTART` in its source).
pub(crate) const REBOOT: i32 = 133;

/// Makes the copy of a base one machine of its own: name, keys, identity.
pub(crate) fn personalise(folder: &Path, specification: &Specification) -> Result<(), Error> {
    let root = folder.join("root");
    let name = &specification.name;
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).map_err(io_error("write", &path))
    };
    write("etc/hostname", &format!("{name}\n"))?;
    write("etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost\n"))?;
    let uuid = "/proc/sys/kernel/random/uuid";
    let identity = fs::read_to_string(uuid).map_err(io_error("read", uuid))?.replace('-', "");
    write("etc/machine-id", &identity)?;
    let resolver = root.join("etc/resolv.conf");
    if resolver.symlink_metadata().is_ok() {
        fs::remove_file(&resolver).map_err(io_error("remove", &resolver))?;
    }
    write("etc/resolv.conf", "# A lab has no route to the world.\n")?;

    keygen(&folder.join("key"), "lab")?;
    keygen(&root.join("etc/ssh/ssh_host_ed25519_key"), name.as_str())?;
    let ssh = root.join("root/.ssh");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&ssh).map_err(io_error("create", &ssh))?;
    let public = folder.join("key.pub");
    let key = fs::read_to_string(&public).map_err(io_error("read", &public))?;
    let authorized = ssh.join("authorized_keys");
    fs::write(&authorized, key).map_err(io_error("write", &authorized))?;
    fs::set_permissions(&authorized, Permissions::from_mode(0o600)).map_err(io_error("protect", &authorized))
}

fn keygen(path: &Path, comment: &str) -> Result<(), Error> {
    let flags = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"].map(AsRef::as_ref);
    run("ssh-keygen", flags.into_iter().chain([path.as_os_str()])).map(|_| ())
}

/// Writes `ssh_config` and `known_hosts` for the lab at this address: no question is ever asked.
pub(crate) fn write_ssh_files(folder: &Path, specification: &Specification, address: Ipv4Addr) -> Result<(), Error> {
    let (config, known) = (folder.join("ssh_config"), folder.join("known_hosts"));
    let public = folder.join("root/etc/ssh/ssh_host_ed25519_key.pub");
    let key = fs::read_to_string(&public).map_err(io_error("read", &public))?;
    let alias = format!("lab-{}", specification.name);
    fs::write(&known, format!("{alias} {key}")).map_err(io_error("write", &known))?;
    let text = format!(
        "Host {alias}\n  HostName {address}\n  HostKeyAlias {alias}\n  User root\n  IdentityFile \"{}\"\n  IdentitiesOnly yes\n  \
         UserKnownHostsFile \"{}\"\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  ControlMaster no\n  ControlPath none\n",
        folder.join("key").display(),
        known.display(),
    );
    fs::write(&config, text).map_err(io_error("write", &config))
}

/// The command that boots the lab and stays until it is off. It dies with its parent.
pub(crate) fn boot(folder: &Path, specification: &Specification, link: &Link) -> Command {
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
