//! Settings of the machine itself: its name, its time zone, kernel parameters, files of `/etc`, swap, journald.
//!
//! Each can be looked at, set, and put back. Promises that a file is whole under its name, and durable, and that setting
//! what is set already writes nothing. Decides nothing: what was there before is remembered by whoever calls.

use crate::run::{RunError, run};
use rustix::fs::{Gid, Uid, chown};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stead_model::layout;
use stead_model::name::Sysctl;

/// Where time zones are (`localtime(5)`).
const ZONES: &str = "/usr/share/zoneinfo";
const LOCALTIME: &str = "/etc/localtime";
const HOSTNAME: &str = "/etc/hostname";
/// The largest file that is remembered, in bytes.
const LARGEST: u64 = 1 << 20;

/// What was at a place of `/etc` before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Prior {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// The number of its owner.
        user: u32,
        /// The number of its group.
        group: u32,
    },
    /// A symbolic link, and where it leads.
    Link(String),
    /// A value that is no file.
    Value(String),
}

/// A setting could not be looked at or set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something that cannot be put back as it was.
    #[error("{} is {what}, which could not be put back as it was", path.display())]
    Strange {
        /// The place.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The kernel has another value than was set.
    #[error("the kernel did not take `{wanted}` for {name}: it is `{found}`")]
    NotTaken {
        /// The parameter.
        name: String,
        /// What was set.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// A program of the system refused.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// An error of a file, with its path.
pub(crate) fn at<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| Error::File { path: path.to_owned(), error }
}

/// What is at a place.
///
/// # Errors
/// When it cannot be read, or is something else than a small file or a link.
pub fn look(path: &Path) -> Result<Prior, Error> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Prior::Absent),
        Err(error) => return Err(at(path)(error)),
    };
    let strange = |what| Error::Strange { path: path.to_owned(), what };
    if found.is_symlink() {
        let target = fs::read_link(path).map_err(at(path))?;
        return target.to_str().map(|target| Prior::Link(target.to_owned())).ok_or_else(|| strange("a strange link"));
    }
    if !found.is_file() {
        return Err(strange("not a regular file"));
    }
    if found.len() > LARGEST {
        return Err(strange("larger than 1 MiB"));
    }
    let content = fs::read(path).map_err(at(path))?;
    Ok(Prior::File { content, mode: found.mode() & 0o7777, user: found.uid(), group: found.gid() })
}

/// Puts back what was at a place.
///
/// # Errors
/// When it cannot be written.
pub fn put_back(path: &Path, prior: &Prior) -> Result<(), Error> {
    match prior {
        Prior::Absent | Prior::Value(_) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
            // Without its folder it is gone for certain.
            Err(_) if !path.parent().is_some_and(Path::exists) => Ok(()),
            _ => sync_folder(path),
        },
        Prior::File { content, mode, user, group } => write(path, content, *mode, Some((*user, *group))),
        Prior::Link(target) => link(path, target),
    }
}

/// Makes a place a regular file of this content, in one step, unless it is that already.
///
/// # Errors
/// When it cannot be written; what was there is there then.
pub fn write(path: &Path, content: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let (user, group) = owner.unwrap_or((0, 0));
    let wanted = Prior::File { content: content.to_owned(), mode, user, group };
    if look(path).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let temporary = beside(path);
    let _ = fs::remove_file(&temporary);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        chown(&temporary, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        at(path)(error)
    })?;
    sync_folder(path)
}

fn link(path: &Path, target: &str) -> Result<(), Error> {
    if fs::read_link(path).is_ok_and(|found| found == Path::new(target)) {
        return Ok(());
    }
    let temporary = beside(path);
    let _ = fs::remove_file(&temporary);
    symlink(target, &temporary).and_then(|()| fs::rename(&temporary, path)).map_err(at(path))?;
    sync_folder(path)
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.stead", path.file_name().unwrap_or_default().to_string_lossy()))
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// The file of the machine's name.
pub fn host_name_file() -> &'static Path {
    Path::new(HOSTNAME)
}

/// Gives the machine a name: on the disk, and to the kernel.
///
/// # Errors
/// When either is refused.
pub fn set_host_name(name: &str) -> Result<(), Error> {
    write(Path::new(HOSTNAME), format!("{name}\n").as_bytes(), 0o644, None)?;
    tell_kernel_name(name)
}

/// Tells the kernel the name that the file has (`hostname(5)`: the first line that is no comment).
///
/// # Errors
/// When the kernel refuses.
pub fn take_up_host_name() -> Result<(), Error> {
    let text = fs::read_to_string(HOSTNAME).unwrap_or_default();
    let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    tell_kernel_name(name.unwrap_or("localhost"))
}

fn tell_kernel_name(name: &str) -> Result<(), Error> {
    if rustix::system::uname().nodename().to_bytes() == name.as_bytes() {
        return Ok(());
    }
    rustix::system::sethostname(name.as_bytes()).map_err(|error| at(Path::new(HOSTNAME))(error.into()))
}

/// The place of the time zone.
pub fn time_zone_link() -> &'static Path {
    Path::new(LOCALTIME)
}

/// Whether the machine knows a time zone.
pub fn knows_time_zone(name: &str) -> bool {
    Path::new(ZONES).join(name).is_file()
}

/// Sets the time zone.
///
/// # Errors
/// When the link cannot be made.
pub fn set_time_zone(name: &str) -> Result<(), Error> {
    link(Path::new(LOCALTIME), &format!("..{ZONES}/{name}"))
}

fn sysctl_file(name: &Sysctl) -> PathBuf {
    Path::new("/proc/sys").join(name.path())
}

/// Words of a kernel parameter, with one space between.
fn plain(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of a kernel parameter; `None`: there is none of this name, or it cannot be written.
pub fn sysctl(name: &Sysctl) -> Option<String> {
    let file = sysctl_file(name);
    let is_writable = fs::metadata(&file).is_ok_and(|found| found.mode() & 0o200 != 0);
    is_writable.then(|| fs::read_to_string(&file).ok()).flatten().map(|value| plain(&value))
}

/// Sets a kernel parameter, and looks whether the kernel took it.
///
/// # Errors
/// When the kernel refuses it, or has another value afterwards.
pub fn set_sysctl(name: &Sysctl, value: &str) -> Result<(), Error> {
    let wanted = plain(value);
    if sysctl(name).as_deref() == Some(&wanted) {
        return Ok(());
    }
    let file = sysctl_file(name);
    fs::write(&file, format!("{wanted}\n")).map_err(at(&file))?;
    match sysctl(name) {
        Some(found) if found != wanted => Err(Error::NotTaken { name: name.to_string(), wanted, found }),
        _ => Ok(()),
    }
}

/// Whether a file is in use as swap.
pub fn is_swap(path: &Path) -> bool {
    let list = fs::read_to_string("/proc/swaps").unwrap_or_default();
    list.lines().skip(1).any(|line| line.split_whitespace().next() == path.to_str())
}

/// Makes a swap file of so many MiB, unless it is there, and uses it.
///
/// # Errors
/// When it cannot be made, or the kernel does not take it.
pub fn swap_on(path: &Path, size: u32) -> Result<(), Error> {
    let bytes = u64::from(size) << 20;
    let is_there = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes);
    if is_there && is_swap(path) {
        return Ok(());
    }
    let text = path.display().to_string();
    if !is_there {
        swap_off(path)?;
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(at(path))?;
        // Without holes: the kernel takes no file that has some.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).map_err(|error| {
            let _ = fs::remove_file(path);
            at(path)(error.into())
        })?;
        file.sync_all().map_err(at(path))?;
    }
    run("mkswap", &[&text])?;
    run("swapon", &[&text]).map(drop).map_err(Error::from)
}

/// Uses a swap file no more, and removes it.
///
/// # Errors
/// When memory does not suffice without it, or it cannot be removed.
pub fn swap_off(path: &Path) -> Result<(), Error> {
    if is_swap(path) {
        run("swapoff", &[&path.display().to_string()])?;
    }
    put_back(path, &Prior::Absent)
}

/// Tells journald this, or nothing, beside the machine's own settings; restarts it when that is something else than before, which
/// loses no message: systemd keeps its sockets and streams.
///
/// # Errors
/// When the file cannot be written, or journald does not come up.
pub fn tell_journald(text: Option<&str>) -> Result<(), Error> {
    let path = Path::new(layout::JOURNALD);
    if fs::read_to_string(path).ok().as_deref() == text {
        return Ok(());
    }
    match text {
        Some(text) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder).map_err(at(folder))?;
            write(path, text.as_bytes(), 0o644, None)?;
        }
        None => put_back(path, &Prior::Absent)?,
    }
    run("systemctl", &["restart", "systemd-journald.service"]).map(drop).map_err(Error::from)
}
