//! The switch: the only file that makes a generation live.
//!
//! `active` (in memory) is what runs, `confirmed` (on disk) what the next boot comes up in. Both are
//! symbolic links that change by one `rename(2)`: whoever looks sees the old or the new target, never
//! none. Neither is moved by anything else, and neither is ever pointed at something that is not there.

use crate::disk::{self, Error, at};
use crate::lock::Guard;
use crate::store::below;
use std::fs;
use std::path::Path;
use stead_model::layout;

/// Makes `target` what runs: `<run>/active`. Gone with the next boot, so nothing is synchronised.
///
/// # Errors
/// When `target` is not a folder, or the link cannot be made; then `active` is as it was.
pub fn activate(_guard: &Guard, run: &Path, target: &Path) -> Result<(), Error> {
    point(&below(run, layout::RUN, layout::ACTIVE), target)
}

/// Makes nothing of Stead's what runs: the way back from a first deploy. Not being active is fine.
///
/// # Errors
/// When the link cannot be removed.
pub fn deactivate(_guard: &Guard, run: &Path) -> Result<(), Error> {
    disk::remove(&below(run, layout::RUN, layout::ACTIVE))
}

/// Makes `target` what the next boot comes up in: `<state>/confirmed`. Survives a power cut once
/// this returns; a power cut before leaves the one or the other.
///
/// # Errors
/// When `target` is not a folder, or the link cannot be made durable.
pub fn confirm(_guard: &Guard, state: &Path, target: &Path) -> Result<(), Error> {
    point(&below(state, layout::STATE, layout::CONFIRMED), target)?;
    disk::sync_folder(state)
}

fn point(link: &Path, target: &Path) -> Result<(), Error> {
    fs::read_dir(target).map_err(at("point to", target))?;
    let new = link.with_extension("new");
    disk::remove(&new)?;
    std::os::unix::fs::symlink(target, &new).map_err(at("make", &new))?;
    fs::rename(&new, link).map_err(at("name", link))
}
