//! What makes a copy of a base one machine of its own: name, keys, identity; and the operator's
//! files for reaching it.
//!
//! The same for every engine: files below a folder that is, or becomes, the lab's root.

use crate::command::run;
use crate::error::{Error, io_error};
use crate::specification::Specification;
use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// What [`write`] writes below the root.
pub(crate) const FILES: [&str; 7] = [
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "root/.ssh",
];

/// Writes a new machine's own files below `root`, and the operator's key into the lab's folder.
pub(crate) fn write(folder: &Path, root: &Path, specification: &Specification) -> Result<(), Error> {
    let name = &specification.name;
    for parent in ["etc/ssh", "root"] {
        let path = root.join(parent);
        let mode = if parent == "root" { 0o700 } else { 0o755 };
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(io_error("create", &path))?;
    }
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).map_err(io_error("write", &path))?;
        // Whatever this process's umask is: everybody on a machine reads these.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(io_error("protect", &path))
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

/// Writes `ssh_config` and `known_hosts` for the lab with the identity below `root`, at this
/// address: no question is ever asked.
pub(crate) fn write_ssh_files(
    folder: &Path,
    root: &Path,
    specification: &Specification,
    address: Ipv4Addr,
) -> Result<(), Error> {
    let (config, known) = (folder.join("ssh_config"), folder.join("known_hosts"));
    let public = root.join("etc/ssh/ssh_host_ed25519_key.pub");
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
