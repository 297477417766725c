//! A folder in memory that never reaches a disk, and files in it.
//!
//! It is a ramfs: other than a tmpfs, it is never swapped. Promises that a file there is whole under its name, and readable for its
//! owner alone. Never falls back to something that could be swapped.

use rustix::fs::{Gid, Uid, chown, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// `RAMFS_MAGIC` of statfs(2).
const RAMFS: i64 = 0x8584_58f6;

/// Makes sure that this folder is one in memory. Others than root may pass through it, but not look.
///
/// # Errors
/// When it cannot be made, or the kernel mounts nothing there.
pub fn ensure(folder: &Path) -> io::Result<()> {
    if is_in_memory(folder) {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("ramfs", folder, "ramfs", flags, c"mode=0711")?;
    Ok(())
}

/// Takes a folder in memory away, with all that is in it. No error when there is none.
///
/// # Errors
/// When something uses it.
pub fn let_go(folder: &Path) -> io::Result<()> {
    // Several may lie above each other, where two processes made it at one time.
    while is_in_memory(folder) {
        unmount(folder, UnmountFlags::DETACH)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a folder is one in memory that is never swapped.
pub fn is_in_memory(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| found.f_type & 0xffff_ffff == RAMFS)
}

/// Writes a file that its owner alone may read: root, or the user and group of these numbers.
///
/// # Errors
/// When it cannot be written; there is none under its name then, or the one of before.
pub fn write(folder: &Path, name: &str, content: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&temporary)?;
    file.write_all(content)?;
    if let Some((user, group)) = owner {
        chown(&temporary, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    fs::rename(&temporary, folder.join(name))
}

/// Keeps what this process holds out of core dumps, also of those that a program collects.
///
/// With 0 such a program would still be called; with 1 the kernel does not call it (core(5), "Piping core dumps to a program").
pub fn dump_nothing() {
    setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) }).ok();
}
