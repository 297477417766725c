//! The base of virtual machines: a stock Debian with Debian's kernel, as a disk, a kernel and an initrd.
//!
//! Everything is made as files: no loop device, no mount, no boot loader.

use crate::base::{self, Recipe};
use crate::command::{require, run};
use crate::engine::Bases;
use crate::error::{Error, io_error};
use crate::labs::Event;
use crate::specification::Release;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// In a base's folder: its disk, one ext4 file system.
pub(super) const DISK: &str = "disk";
/// In a base's folder: Debian's kernel.
pub(super) const KERNEL: &str = "kernel";
/// In a base's folder: the initrd.
pub(super) const INITRD: &str = "initrd";

/// Its disk's size. The file is sparse, and takes what is written.
const SIZE: &str = "10G";

/// Beside what a container has.
const PACKAGES: [&str; 3] = ["e2fsprogs", "initramfs-tools", "linux-image-cloud-amd64"];

/// What only costs time, which an emulated processor has little of: kernel interfaces that no server software
/// asks for, the upkeep of a disposable disk, a login on a console that nobody reads, a manager of
/// services of the user's own at each login.
const MASKED: [&str; 10] = [
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "e2scrub_reap.service",
    "modprobe@.service",
    "serial-getty@ttyS0.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "user@.service",
];

/// Raised when this file changes what a base holds.
const RULES: u32 = 1;

/// The smallest initrd: the drivers of QEMU's devices, compressed as it is unpacked fastest.
const INITRAMFS: &str = "MODULES=list\nCOMPRESS=gzip\nBUSYBOX=n\n";
const DRIVERS: &str = "virtio_pci\nvirtio_blk\nvirtio_net\n";

/// Runs in the initrd once the root is mounted (`initramfs-tools(7)`): the machine has its address
/// before its first process, as a container has. A new machine gets its identity from the second
/// disk, a tar archive; synced, because the power may go any time.
const SCRIPT: &str = r#"#!/bin/sh
[ "$1" = prereqs ] && exit 0
ipconfig -d "$IP"
if [ ! -s "$rootmnt/etc/machine-id" ]; then
    chroot "$rootmnt" /bin/tar -xpf - < /dev/vdb && sync
fi
"#;

/// The folder with [`DISK`], [`KERNEL`] and [`INITRD`], built if the cache does not have it.
pub(super) fn disk(bases: Bases<'_>, release: Release, events: &mut dyn FnMut(Event)) -> Result<PathBuf, Error> {
    let mut recipe = Recipe::plain();
    recipe.kind = "machine";
    recipe.rules = recipe.rules * 1000 + RULES;
    recipe.packages.extend(PACKAGES);
    recipe.masked.extend(MASKED);
    require("mke2fs", "e2fsprogs")?;
    base::ensure(bases, release, &recipe, events, finish)
}

/// Turns a root folder into a folder with a disk.
fn finish(folder: &Path) -> Result<(), Error> {
    let root = folder.with_extension("root");
    if root.exists() {
        fs::remove_dir_all(&root).map_err(io_error("remove", &root))?;
    }
    fs::rename(folder, &root).map_err(io_error("rename", folder))?;
    fs::create_dir(folder).map_err(io_error("create", folder))?;

    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::write(&path, text).map_err(io_error("write", &path)).map(|()| path)
    };
    put("etc/initramfs-tools/conf.d/lab", INITRAMFS)?;
    put("etc/initramfs-tools/modules", DRIVERS)?;
    let script = put("etc/initramfs-tools/scripts/init-bottom/lab", SCRIPT)?;
    fs::set_permissions(&script, Permissions::from_mode(0o755)).map_err(io_error("protect", &script))?;
    run("chroot", [root.as_os_str(), "update-initramfs".as_ref(), "-u".as_ref()])?;
    put("etc/machine-id", "")?; // The first boot's sign that the machine has no identity yet.
    take(&root, "vmlinuz-", &folder.join(KERNEL))?;
    take(&root, "initrd.img-", &folder.join(INITRD))?;
    for link in ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
        let _ = fs::remove_file(root.join(link)); // Not every release makes all of them.
    }

    let disk = folder.join(DISK);
    let options = ["-q", "-t", "ext4", "-L", "lab", "-d"].map(OsStr::new);
    run("mke2fs", options.into_iter().chain([root.as_os_str(), disk.as_os_str(), SIZE.as_ref()]))?;
    fs::remove_dir_all(&root).map_err(io_error("remove", &root))
}

/// Moves the one file of `/boot` whose name begins so.
fn take(root: &Path, prefix: &str, to: &Path) -> Result<(), Error> {
    let boot = root.join("boot");
    let entries = fs::read_dir(&boot).map_err(io_error("read", &boot))?;
    let found = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let from = found.map_or_else(|| boot.join(prefix), |entry| entry.path());
    fs::rename(&from, to).map_err(io_error("find", &from))
}
