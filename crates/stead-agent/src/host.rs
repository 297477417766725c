//! The machine's own settings: brought to what a generation says, and back to how they were before Stead.
//!
//! How each was before is written down, durably, before it is set for the first time
//! (`/var/lib/stead/host/settings.json`); when no generation asks for it any more, that comes back and the line goes. Promises that
//! settling twice is settling once, and that what is as it should be is not written. At a boot `stead-host.service` settles
//! to the generation that comes up.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use stead_host::settings::{self, Prior};
use stead_model::generation::Generation;
use stead_model::layout;
use stead_model::name::Sysctl;
use stead_model::path::AbsolutePath;
use stead_store::Store;

/// The machine cannot be brought to what a generation says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be looked at or set.
    #[error("{option}: {error}")]
    Setting {
        /// The option.
        option: String,
        /// Why.
        error: settings::Error,
    },
    /// A setting that this machine does not have.
    #[error("{option}: {problem}")]
    Unfit {
        /// The option.
        option: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is written down cannot be read or written.
    #[error("{file}: {0}", file = layout::SETTINGS)]
    Record(String),
    /// The active generation cannot be read.
    #[error("the active generation cannot be read: {0}")]
    Active(String),
}

/// A setting, by what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Key {
    HostName,
    TimeZone,
    Sysctl(Sysctl),
    File(AbsolutePath),
    Swap(AbsolutePath),
}

/// What a setting is to be.
enum Wanted {
    HostName(String),
    TimeZone(String),
    Sysctl(String),
    File { content: PathBuf, mode: u32 },
    Swap(u32),
}

impl Key {
    fn option(&self) -> String {
        match self {
            Self::HostName => "networking.hostName".to_owned(),
            Self::TimeZone => "time.timeZone".to_owned(),
            Self::Sysctl(name) => format!("boot.kernel.sysctl.\"{name}\""),
            Self::File(path) => format!("environment.etc.\"{}\"", path.as_str().trim_start_matches("/etc/")),
            Self::Swap(path) => format!("swapDevices ({path})"),
        }
    }

    fn failed(&self) -> impl FnOnce(settings::Error) -> Error + '_ {
        |error| Error::Setting { option: self.option(), error }
    }

    /// How it is now.
    fn look(&self) -> Result<Prior, Error> {
        match self {
            Self::HostName => settings::look(settings::host_name_file()),
            Self::TimeZone => settings::look(settings::time_zone_link()),
            Self::Sysctl(name) => Ok(settings::sysctl(name).map_or(Prior::Absent, Prior::Value)),
            Self::File(path) => settings::look(Path::new(path.as_str())),
            Self::Swap(_) => Ok(Prior::Absent),
        }
        .map_err(self.failed())
    }

    fn put_back(&self, prior: &Prior) -> Result<(), Error> {
        match self {
            Self::HostName => {
                settings::put_back(settings::host_name_file(), prior).and_then(|()| settings::take_up_host_name())
            }
            Self::TimeZone => settings::put_back(settings::time_zone_link(), prior),
            Self::Sysctl(name) => match prior {
                // One that the kernel does not have any more cannot be put back, and need not.
                Prior::Value(value) if settings::sysctl(name).is_some() => settings::set_sysctl(name, value),
                _ => Ok(()),
            },
            Self::File(path) => settings::put_back(Path::new(path.as_str()), prior),
            Self::Swap(path) => settings::swap_off(Path::new(path.as_str())),
        }
        .map_err(self.failed())
    }

    fn set(&self, wanted: &Wanted) -> Result<(), Error> {
        match (self, wanted) {
            (_, Wanted::HostName(name)) => settings::set_host_name(name),
            (_, Wanted::TimeZone(name)) => settings::set_time_zone(name),
            (Self::Sysctl(name), Wanted::Sysctl(value)) => settings::set_sysctl(name, value),
            (Self::File(path), Wanted::File { content, mode }) => fs::read(content)
                .map_err(|error| settings::Error::File { path: content.clone(), error })
                .and_then(|bytes| settings::write(Path::new(path.as_str()), &bytes, *mode, None)),
            (Self::Swap(path), Wanted::Swap(size)) => settings::swap_on(Path::new(path.as_str()), *size),
            // Keys and what is wanted of them are made together.
            _ => Ok(()),
        }
        .map_err(self.failed())
    }
}

/// What a generation, where its files are, asks for.
fn wanted(generation: &Generation) -> BTreeMap<Key, Wanted> {
    let host = &generation.host;
    let folder = Path::new(layout::GENERATIONS).join(generation.id().to_string());
    let mut all = BTreeMap::new();
    if let Some(name) = &host.host_name {
        all.insert(Key::HostName, Wanted::HostName(name.to_string()));
    }
    if let Some(zone) = &host.time_zone {
        all.insert(Key::TimeZone, Wanted::TimeZone(zone.to_string()));
    }
    for (name, value) in &host.sysctl {
        all.insert(Key::Sysctl(name.clone()), Wanted::Sysctl(value.clone()));
    }
    for (path, file) in &host.files {
        if let Ok(place) = format!("/etc/{path}").parse() {
            let content = folder.join("etc").join(path.as_str());
            all.insert(Key::File(place), Wanted::File { content, mode: file.mode });
        }
    }
    for (path, size) in &host.swap {
        all.insert(Key::Swap(path.clone()), Wanted::Swap(*size));
    }
    all
}

/// How things were before Stead set them.
#[derive(Default, Serialize, Deserialize)]
struct Record(Vec<(Key, Prior)>);

impl Record {
    fn read() -> Result<Self, Error> {
        match fs::read(layout::SETTINGS) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| Error::Record(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::Record(error.to_string())),
        }
    }

    fn write(&self) -> Result<(), Error> {
        let path = Path::new(layout::SETTINGS);
        let failed = |error: &dyn std::fmt::Display| Error::Record(error.to_string());
        if self.0.is_empty() {
            return settings::put_back(path, &Prior::Absent).map_err(|error| failed(&error));
        }
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(&error))?;
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(|error| failed(&error))?;
        settings::write(path, &text, 0o600, None).map_err(|error| failed(&error))
    }

    fn knows(&self, key: &Key) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }
}

/// Brings the machine to what a generation says.
///
/// # Errors
/// The first setting that cannot be set or put back. Those before it are; settling again goes on from there.
pub(crate) fn settle(generation: &Generation) -> Result<(), Error> {
    let wanted = wanted(generation);
    let mut record = Record::read()?;
    let gone: Vec<(Key, Prior)> = record.0.iter().filter(|(key, _)| !wanted.contains_key(key)).cloned().collect();
    for (key, prior) in gone {
        key.put_back(&prior)?;
        record.0.retain(|(known, _)| *known != key);
        record.write()?;
    }
    for (key, value) in &wanted {
        if !record.knows(key) {
            record.0.push((key.clone(), key.look()?));
            record.write()?;
        }
        key.set(value)?;
    }
    tell_journald(generation)
}

fn tell_journald(generation: &Generation) -> Result<(), Error> {
    let failed = |error| Error::Setting { option: "services.journald".to_owned(), error };
    let text = match &generation.host.journald {
        Some(_) => {
            let path =
                Path::new(layout::GENERATIONS).join(generation.id().to_string()).join(stead_model::host::JOURNALD);
            let text = fs::read_to_string(&path);
            Some(text.map_err(|error| failed(settings::Error::File { path, error }))?)
        }
        None => None,
    };
    settings::tell_journald(text.as_deref()).map_err(failed)
}

/// Brings the machine to what the active generation says: at a boot.
///
/// # Errors
/// The first setting that cannot be set or put back.
pub fn settle_active() -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Active(error.to_string());
    let Some(id) = Store::active(Path::new(layout::RUN)).map_err(|error| failed(&error))? else { return Ok(()) };
    let store = Store::open(Path::new(layout::STATE)).map_err(|error| failed(&error))?;
    match store.generation(&id).map_err(|error| failed(&error))? {
        Some(active) => settle(&active),
        None => Ok(()),
    }
}

/// Whether this machine has what a generation would set, before anything is touched.
///
/// # Errors
/// The first thing that it does not have, or that could not be put back.
pub(crate) fn check(generation: &Generation) -> Result<(), Error> {
    let record = Record::read()?;
    for (key, wanted) in wanted(generation) {
        let unfit = |problem: String| Err(Error::Unfit { option: key.option(), problem });
        if !record.knows(&key) {
            key.look()?;
        }
        match (&key, &wanted) {
            (Key::Sysctl(name), _) if settings::sysctl(name).is_none() => {
                return unfit("the kernel of this server has no parameter of this name that could be set".to_owned());
            }
            (_, Wanted::TimeZone(zone)) if !settings::knows_time_zone(zone) => {
                return unfit(format!("this server knows no time zone `{zone}` (the package tzdata has them)"));
            }
            (Key::File(path), _) => {
                let folder = Path::new(path.as_str()).parent().unwrap_or(Path::new("/etc"));
                if !folder.is_dir() {
                    return unfit(format!("there is no folder {} on the server", folder.display()));
                }
            }
            (Key::Swap(path), Wanted::Swap(size)) => {
                let place = Path::new(path.as_str());
                if !record.knows(&key) && place.exists() {
                    return unfit("there is such a file on the server, which is not Stead's".to_owned());
                }
                let folder = place.parent().unwrap_or(Path::new("/"));
                let Ok(disk) = rustix::fs::statvfs(folder) else {
                    return unfit(format!("there is no folder {} on the server", folder.display()));
                };
                let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
                if !place.exists() && free < u64::from(*size) {
                    return unfit(format!("there are {free} MiB free on its disk, and {size} are wanted"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
