//! Swap in compressed memory: a `zram` device of the kernel (its documentation, `admin-guide/blockdev/zram.rst`).
//!
//! The device is gone with the next boot; which one is ours, and what it was made for, is noted beside, in memory. Never
//! touches another device.

use crate::run::run;
use crate::settings::{Error, at, is_swap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use stead_model::host::Zram;
use stead_model::layout;

const CONTROL: &str = "/sys/class/zram-control";
/// Used before any file on a disk, whose priority is negative (`swapon(8)`).
const PRIORITY: &str = "5";

/// Whether the kernel has such devices, or a module for them.
pub fn is_known() -> bool {
    Path::new(CONTROL).exists() || run("modprobe", &["--dry-run", "--quiet", "zram"]).is_ok()
}

/// Swaps to compressed memory, unless that is so already.
///
/// # Errors
/// When the kernel has no such devices, or refuses; nothing is left of the try then.
pub fn on(zram: &Zram) -> Result<(), Error> {
    let wanted = format!("{} {}", zram.memory_percent, zram.algorithm);
    if let Some((number, made_for)) = noted()
        && made_for == wanted
        && is_swap(&device(number))
    {
        return Ok(());
    }
    off()?;
    if !Path::new(CONTROL).exists() {
        // Without a device that nobody asked for.
        run("modprobe", &["zram", "num_devices=0"])?;
    }
    let hot_add = Path::new(CONTROL).join("hot_add");
    let number = fs::read_to_string(&hot_add).map_err(at(&hot_add))?;
    let note = Path::new(layout::ZRAM);
    fs::write(note, format!("{} {wanted}\n", number.trim())).map_err(at(note))?;
    let number = number.trim().parse().map_err(|_| at(&hot_add)(io::ErrorKind::InvalidData.into()))?;
    make(number, zram).inspect_err(|_| drop(off()))
}

fn make(number: u32, zram: &Zram) -> Result<(), Error> {
    let set = |name: &str, value: String| {
        let file = PathBuf::from(format!("/sys/block/zram{number}/{name}"));
        fs::write(&file, value).map_err(at(&file))
    };
    set("comp_algorithm", zram.algorithm.clone())?;
    let bytes = memory()? / 100 * u64::from(zram.memory_percent);
    set("disksize", bytes.to_string())?;
    let device = device(number).display().to_string();
    run("mkswap", &[&device])?;
    run("swapon", &["--priority", PRIORITY, &device]).map(drop).map_err(Error::from)
}

/// Swaps to it no more, and gives the memory back.
///
/// # Errors
/// When memory does not suffice without it, or the kernel keeps it.
pub fn off() -> Result<(), Error> {
    let Some((number, _)) = noted() else { return Ok(()) };
    let device = device(number);
    if device.exists() {
        if is_swap(&device) {
            run("swapoff", &[&device.display().to_string()])?;
        }
        let remove = Path::new(CONTROL).join("hot_remove");
        fs::write(&remove, number.to_string()).map_err(at(&remove))?;
    }
    let note = Path::new(layout::ZRAM);
    fs::remove_file(note).map_err(at(note))
}

/// The number of our device, and what it was made for.
fn noted() -> Option<(u32, String)> {
    let text = fs::read_to_string(layout::ZRAM).ok()?;
    let (number, made_for) = text.trim().split_once(' ')?;
    Some((number.parse().ok()?, made_for.to_owned()))
}

fn device(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/zram{number}"))
}

/// Bytes of memory that the machine has (`proc_meminfo(5)`).
fn memory() -> Result<u64, Error> {
    let path = Path::new("/proc/meminfo");
    let text = fs::read_to_string(path).map_err(at(path))?;
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| at(path)(io::ErrorKind::InvalidData.into()))
}
