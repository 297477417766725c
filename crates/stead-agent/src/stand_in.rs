//! Stand-ins: an app's instance that is wanted again while it still drains runs under a second name.
//!
//! A unit that stops cannot be started before it has stopped, and an old instance may take as long as
//! its last visitors do. So that going back waits for nobody and cuts nobody off, a copy of the unit
//! under another name takes its place. Which one does is kept in `/run/stead`, gone with a reboot, as
//! everything is that drains. Whoever asks systemd about an instance asks for its live name first.
//!
//! Instances of nginx have no stand-ins: systemd's sockets know them by one name.

use std::path::{Path, PathBuf};
use std::{fs, io};
use stead_host::systemd::{self, UnitState};
use stead_model::layout;
use stead_model::name::UnitName;

/// As many may drain at once; whoever goes to and fro faster waits.
const MOST: u32 = 9;

fn folder() -> PathBuf {
    Path::new(layout::RUN).join("stand-ins")
}

/// The unit that runs in this one's place: itself, nearly always.
pub fn live(unit: &UnitName) -> UnitName {
    let name = fs::read_to_string(folder().join(unit.as_str())).ok();
    name.and_then(|name| name.trim().parse().ok()).unwrap_or_else(|| unit.clone())
}

/// [`live`] of several.
pub fn all_live(units: &[&UnitName]) -> Vec<UnitName> {
    units.iter().map(|unit| live(unit)).collect()
}

/// The names that an instance may have; none for what is no app's instance.
fn names(unit: &UnitName) -> Vec<UnitName> {
    let text = unit.as_str();
    let stem = text.strip_suffix(".service").filter(|stem| stem.contains('@') && !stem.starts_with("stead-nginx@"));
    let others = |stem: &str| (2..=MOST).filter_map(|n| format!("{stem}-{n}.service").parse().ok()).collect::<Vec<_>>();
    stem.map(|stem| std::iter::once(unit.clone()).chain(others(stem)).collect()).unwrap_or_default()
}

/// Gives an instance that has to be started, but still drains, another live name.
///
/// # Errors
/// When its files cannot be written, or systemd does not answer.
pub(crate) fn make_way(unit: &UnitName) -> io::Result<()> {
    let live = live(unit);
    // What drains is kept known; an instance that only starts again by itself is not.
    if fs::symlink_metadata(Path::new(layout::DRAINING).join(live.as_str())).is_err() {
        return Ok(());
    }
    let names = names(unit);
    let states = systemd::states(&names.iter().collect::<Vec<_>>()).map_err(io::Error::other)?;
    let drains = states.get(&live).is_some_and(|state| state.active == "deactivating");
    let free = names.iter().find(|name| states.get(*name).is_none_or(UnitState::is_gone));
    let Some(free) = free.filter(|_| drains) else { return Ok(()) };
    if free == unit {
        return fs::remove_file(folder().join(unit.as_str()));
    }
    let text = fs::read(Path::new(layout::ACTIVE).join("units").join(unit.as_str()))?;
    place(&Path::new(layout::DRAINING).join(free.as_str()), &text)?;
    place(&folder().join(unit.as_str()), free.as_str().as_bytes())?;
    systemd::reload().map_err(io::Error::other)
}

/// Forgets the stand-ins that are gone.
pub(crate) fn release() -> io::Result<()> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let units: Vec<UnitName> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let live = all_live(&units.iter().collect::<Vec<_>>());
    let states = systemd::states(&live.iter().collect::<Vec<_>>()).map_err(io::Error::other)?;
    for (unit, live) in units.iter().zip(&live) {
        if states.get(live).is_none_or(UnitState::is_gone) {
            fs::remove_file(folder().join(unit.as_str()))?;
        }
    }
    Ok(())
}

fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_instances_of_apps_have_other_names() {
        let names_of = |text: &str| names(&text.parse().unwrap());
        let of_app = names_of("stead-web@0a1b2c3d.service");
        assert_eq!(of_app[1].as_str(), "stead-web@0a1b2c3d-2.service");
        assert_eq!(of_app.len(), 9);
        for other in ["stead-nginx@0a1b2c3d.service", "stead-nginx-80.socket", "stead-report.service"] {
            assert_eq!(names_of(other), [], "{other}");
        }
    }
}
