//! Agents of other versions on the server: each was sent once, and stays until nobody needs it.
//!
//! Never removes this agent, one that runs, one that units of the server run, one that an unfinished activation belongs to, or one that came or was
//! used within the last hour: somebody may be about to start it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stead_model::layout;

/// How long an agent that nothing refers to is left alone.
const LATELY: Duration = Duration::from_secs(3600);

/// Removes agents that nobody needs any more, or only counts them; returns their bytes.
pub(crate) fn collect(dry: bool) -> u64 {
    let needed = needed();
    let folders = fs::read_dir(layout::AGENTS).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut bytes = 0;
    for folder in folders.filter(|folder| !needed.contains(folder)) {
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        let sizes = files.filter_map(|entry| entry.metadata().ok());
        let lately = |found: &fs::Metadata| {
            let times = [found.accessed(), found.modified()];
            times.into_iter().flatten().any(|time| time.elapsed().is_ok_and(|age| age < LATELY))
        };
        let found: Vec<fs::Metadata> = sizes.collect();
        if found.iter().any(lately) || !dry && fs::remove_dir_all(&folder).is_err() {
            continue;
        }
        bytes += found.iter().map(fs::Metadata::len).sum::<u64>();
    }
    bytes
}

/// The folders of the agents that are needed.
fn needed() -> BTreeSet<PathBuf> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let running = processes.filter_map(|entry| fs::read_link(entry.path().join("exe")).ok());
    let of_activation = fs::read_link(Path::new(layout::UNFINISHED).join("agent")).ok();
    let of_units = fs::read_link(layout::AGENT).ok();
    let programs = running.chain(of_activation).chain(of_units).chain([crate::serve::agent_path()]);
    programs.filter_map(|program| program.parent().map(Path::to_owned)).collect()
}
