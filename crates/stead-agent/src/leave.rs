//! The end of Stead on a machine: everything of its own goes, and what it had set is as it was before.
//!
//! Comes after a deploy of nothing. Each step may be repeated; the store, and with it this agent, goes last. Never removes
//! data of apps or certificates unless told to, and never a user whose files stay: somebody else would own them, by its number.

use crate::host;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stead_host::run::run;
use stead_host::{memory, users};
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_store::Guard;

/// The server that no generation is of.
const NOBODY: &str = "nobody";
/// Where systemd notes when a timer that makes up for lost time was last due (`systemd.timer(5)`, Persistent=).
const STAMPS: &str = "/var/lib/systemd/timers";
/// What outlives Stead, unless told otherwise.
const DATA: [&str; 2] = [layout::SERVICE_STATE, layout::ACME];

/// Something could not be taken off. What was done by then is done; doing it again goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something of Stead's runs still.
    #[error("{0} runs still")]
    Runs(String),
    /// A setting of the machine cannot be put back.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// A file or folder cannot be removed.
    #[error("{0} cannot be removed: {1}")]
    Remove(String, io::Error),
    /// A program of the system refused.
    #[error(transparent)]
    Run(#[from] stead_host::run::RunError),
}

/// Takes everything off; returns what stays. `active` is what runs, by its name and its description, where that can be read.
pub(crate) fn leave(
    _: &Guard,
    active: Option<(Hash, Option<Generation>)>,
    with_data: bool,
) -> Result<Vec<String>, Error> {
    match active {
        Some((id, None)) => return Err(Error::Runs(format!("generation {}, which cannot be read,", id.short()))),
        Some((_, Some(active))) if !active.units.is_empty() => {
            return Err(Error::Runs(active.units.keys().next().map(ToString::to_string).unwrap_or_default()));
        }
        _ => {}
    }
    // Nothing asks for any setting any more, whatever was interrupted before.
    host::settle(&Generation::empty(NOBODY.parse().expect("it is a name")), None)?;
    // Instances that still drain, timers that wait. The pattern means those that are loaded.
    run("systemctl", &["stop", "stead-*"])?;
    remove(Path::new(layout::GENERATOR))?;
    if let Some(folder) = Path::new(layout::GENERATOR).parent() {
        // Only where it is empty: then it was made for this.
        let _ = fs::remove_dir(folder);
    }
    run("systemctl", &["daemon-reload"])?;
    // What failed once would go on being listed.
    let _ = run("systemctl", &["reset-failed", "stead-*"]);
    for place in DATA.map(Path::new) {
        if with_data || !holds_anything(place) {
            remove(place)?;
        }
    }
    let kept: Vec<&str> = DATA.into_iter().filter(|place| Path::new(place).exists()).collect();
    let owners = owners(&kept);
    let mut stays: Vec<String> = kept.iter().map(|place| (*place).to_owned()).collect();
    stays.extend(host::people::let_go(with_data)?);
    for user in users::made() {
        match users::ids(user.as_str()) {
            Some((number, _)) if owners.contains(&number) => {
                stays.push(format!("the system user {user}, who owns some of it"))
            }
            _ => users::remove(&user)?,
        }
    }
    remove(Path::new(layout::NGINX_CACHE))?;
    stamps(Path::new(STAMPS))?;
    memory::let_go(Path::new(layout::SECRETS)).map_err(|error| Error::Remove(layout::SECRETS.to_owned(), error))?;
    remove(Path::new(layout::RUN))?;
    remove(Path::new(layout::STATE))?;
    Ok(stays)
}

/// Removes the notes of our timers.
fn stamps(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("stamp-stead-") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Remove(path.display().to_string(), error)),
        _ => Ok(()),
    }
}

/// Whether there is a file in a folder that has something in it; folders alone are nothing that anybody would miss.
fn holds_anything(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().any(|entry| holds_anything(&entry.path()))
        }
        Ok(found) => found.len() > 0,
        Err(_) => false,
    }
}

/// Who owns the folders in these places, and what is in them: PostgreSQL's versions have a folder of their own each.
fn owners(places: &[&str]) -> BTreeSet<u32> {
    let inside = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = places.iter().flat_map(|place| inside(PathBuf::from(place)));
    let all = folders.flat_map(|entry| inside(entry.path()).chain([entry]));
    all.filter_map(|entry| entry.metadata().ok()).map(|found| found.uid()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_a_file_and_nothing_can_be_removed() {
        let place = tempfile::tempdir().unwrap();
        let (folder, file) = (place.path().join("folder"), place.path().join("file"));
        fs::create_dir_all(folder.join("inside")).unwrap();
        fs::write(&file, "x").unwrap();
        for path in [&folder, &file, &place.path().join("nothing")] {
            remove(path).unwrap();
            assert!(!path.exists());
        }
        fs::create_dir_all(folder.join("inside")).unwrap();
        assert!(!holds_anything(&folder));
        fs::write(folder.join("inside/kept"), "x").unwrap();
        assert!(holds_anything(&folder));
        let own = owners(&[place.path().parent().unwrap().to_str().unwrap()]);
        assert!(own.contains(&fs::metadata(place.path()).unwrap().uid()));
    }
}
