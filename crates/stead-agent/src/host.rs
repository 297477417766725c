//! The machine's own settings: brought to what a generation says, and back to how they were before Stead.
//!
//! How each was before is written down, durably, before it is set for the first time
//! (`/var/lib/stead/host/settings.json`); when no generation asks for it any more, that comes back and the line goes. Promises that
//! settling twice is settling once, and that what is as it should be is not written. At a boot `stead-host.service` settles
//! to the generation that comes up.

pub(crate) mod people;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use stead_host::settings::{self, Prior};
use stead_host::{sshd, zram};
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::host::{User, Zram};
use stead_model::layout;
use stead_model::name::{Sysctl, UserName};
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

/// A setting, by what it is about; in the order in which they are set, people apart, who come first: sshd comes last, when those are there whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Key {
    HostName,
    TimeZone,
    Sysctl(Sysctl),
    File(AbsolutePath),
    Swap(AbsolutePath),
    Zram,
    User(UserName),
    /// That the account of somebody who is not declared any more is shut.
    Shut(UserName),
    Member {
        user: UserName,
        group: UserName,
    },
    Sudo(UserName),
    Keys(UserName),
    Sshd,
}

/// What a setting is to be.
enum Wanted {
    HostName(String),
    TimeZone(String),
    Sysctl(String),
    File { content: PathBuf, mode: u32 },
    Swap(u32),
    Zram(Zram),
    User(User),
    Member,
    Sudo,
    Keys(String),
    Sshd(sshd::Told),
}

impl Key {
    fn option(&self) -> String {
        match self {
            Self::HostName => "networking.hostName".to_owned(),
            Self::TimeZone => "time.timeZone".to_owned(),
            Self::Sysctl(name) => format!("boot.kernel.sysctl.\"{name}\""),
            Self::File(path) => format!("environment.etc.\"{}\"", path.as_str().trim_start_matches("/etc/")),
            Self::Swap(path) => format!("swapDevices ({path})"),
            Self::Zram => "zramSwap".to_owned(),
            Self::User(name) | Self::Shut(name) => format!("users.users.{name}"),
            Self::Member { user, .. } => format!("users.users.{user}.extraGroups"),
            Self::Sudo(name) => format!("users.users.{name}.passwordlessSudo"),
            Self::Keys(name) => format!("users.users.{name}.openssh.authorizedKeys.keys"),
            Self::Sshd => "services.openssh.settings".to_owned(),
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
            Self::Swap(_) | Self::Zram => Ok(Prior::Absent),
            // Who is whose is noted when somebody is made.
            Self::User(_) | Self::Shut(_) => Ok(Prior::Absent),
            Self::Member { user, group } if stead_host::people::is_member(user, group) => {
                Ok(Prior::Value("member".to_owned()))
            }
            Self::Member { .. } => Ok(Prior::Absent),
            Self::Sudo(name) => settings::look(&sudo_file(name)),
            Self::Keys(name) => settings::look(&sshd::keys_file(name)),
            Self::Sshd => settings::look(Path::new(sshd::DROP_IN)),
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
            Self::Zram => zram::off(),
            Self::Member { user, group } if *prior == Prior::Absent => {
                stead_host::people::part(user, group).map_err(Into::into)
            }
            Self::Sudo(name) => settings::put_back(&sudo_file(name), prior),
            Self::Keys(name) => {
                settings::put_back(&sshd::keys_file(name), prior).inspect(|()| sshd::drop_keys_folder())
            }
            Self::Sshd => return self.put_back_sshd(prior),
            // People are more than a setting: `crate::host::people`.
            Self::User(_) | Self::Shut(_) | Self::Member { .. } => Ok(()),
        }
        .map_err(self.failed())
    }

    fn done<T>(&self, result: Result<T, stead_host::run::RunError>) -> Result<T, Error> {
        result.map_err(|error| self.failed()(error.into()))
    }

    fn put_back_sshd(&self, prior: &Prior) -> Result<(), Error> {
        let place = Path::new(sshd::DROP_IN);
        let told = |error: sshd::Error| refused_by_sshd(&error, None);
        if settings::look(place).map_err(self.failed())? != *prior {
            sshd::will_change().map_err(told)?;
            settings::put_back(place, prior).map_err(self.failed())?;
        }
        sshd::take_up().map_err(told)
    }

    /// sshd is told only what it has tested; what it refuses goes, also when it did not refuse it before an update of its own. Where it
    /// refuses something else, nothing changes by that.
    fn set_sshd(&self, told: &sshd::Told) -> Result<(), Error> {
        let place = Path::new(sshd::DROP_IN);
        let refused = |error: sshd::Error| refused_by_sshd(&error, Some(told));
        let text = sshd::text(told).map_err(refused)?;
        let before = settings::look(place).map_err(self.failed())?;
        let is_new = !matches!(&before, Prior::File { content, .. } if *content == text.as_bytes());
        if is_new {
            sshd::will_change().map_err(refused)?;
        }
        settings::write(place, text.as_bytes(), 0o644, None).map_err(self.failed())?;
        if let Err(error) = sshd::test() {
            settings::put_back(place, if is_new { &before } else { &Prior::Absent }).map_err(self.failed())?;
            if !is_new && sshd::test().is_err() {
                settings::write(place, text.as_bytes(), 0o644, None).map_err(self.failed())?;
            }
            return Err(refused(error));
        }
        sshd::take_up().map_err(refused)
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
            (_, Wanted::Zram(zram)) => zram::on(zram),
            (Self::Member { user, group }, _) => stead_host::people::join(user, group).map_err(settings::Error::from),
            (Self::Sudo(name), _) => settings::write(
                &sudo_file(name),
                format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n").as_bytes(),
                0o440,
                None,
            ),
            (Self::Keys(name), Wanted::Keys(text)) => {
                sshd::make_keys_folder().map_err(|error| refused_by_sshd(&error, None))?;
                // sshd reads it as the user (`sshd_config(5)`, AuthorizedKeysFile).
                settings::write(&sshd::keys_file(name), text.as_bytes(), 0o644, None)
            }
            (Self::Sshd, Wanted::Sshd(told)) => return self.set_sshd(told),
            // Keys and what is wanted of them are made together.
            _ => Ok(()),
        }
        .map_err(self.failed())
    }
}

/// What lets a user do everything (`sudoers(5)`, "Including other files from within sudoers": no dot in the name).
fn sudo_file(name: &UserName) -> PathBuf {
    Path::new(SUDOERS).join(format!("stead-{name}"))
}

/// The folder of files about who may do what.
const SUDOERS: &str = "/etc/sudoers.d";

fn refused_by_sshd(error: &sshd::Error, told: Option<&sshd::Told>) -> Error {
    const SETTINGS: &str = "services.openssh.settings";
    let keyword = match error {
        sshd::Error::Refused { keyword, .. } | sshd::Error::Overruled { keyword } => keyword.as_ref(),
        sshd::Error::Matched { keyword } | sshd::Error::WithoutEffect { keyword } => Some(keyword),
        sshd::Error::KeysElsewhere { user } => {
            return Error::Unfit { option: Key::Keys(user.clone()).option(), problem: error.to_string() };
        }
        _ => None,
    };
    // Lines that nobody declared are there for keys.
    let is_about_keys = match keyword {
        Some(keyword) => told.is_some_and(|told| !told.settings.contains_key(keyword)),
        None => told.is_some_and(|told| told.settings.is_empty()),
    };
    let option = match keyword {
        _ if is_about_keys => "users.users".to_owned(),
        Some(keyword) => format!("{SETTINGS}.{keyword}"),
        None => SETTINGS.to_owned(),
    };
    Error::Unfit { option, problem: error.to_string() }
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
    if let Some(zram) = &host.zram {
        all.insert(Key::Zram, Wanted::Zram(zram.clone()));
    }
    for (name, user) in &host.users {
        all.insert(Key::User(name.clone()), Wanted::User(user.clone()));
        for group in &user.groups {
            all.insert(Key::Member { user: name.clone(), group: group.clone() }, Wanted::Member);
        }
        if user.sudo {
            all.insert(Key::Sudo(name.clone()), Wanted::Sudo);
        }
        if !user.keys.is_empty() {
            let mut text = user.keys.join("\n");
            text.push('\n');
            all.insert(Key::Keys(name.clone()), Wanted::Keys(text));
        }
    }
    let with_keys = host.users.iter().filter(|(_, user)| !user.keys.is_empty());
    let told = sshd::Told { settings: host.sshd.clone(), keys_of: with_keys.map(|(name, _)| name.clone()).collect() };
    if !told.settings.is_empty() || !told.keys_of.is_empty() {
        all.insert(Key::Sshd, Wanted::Sshd(told));
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

    /// Notes how something was, durably.
    fn note(&mut self, key: Key, prior: Prior) -> Result<(), Error> {
        self.0.push((key, prior));
        self.write()
    }

    /// Notes two things in one step, each in place of what was known of it: a power cut leaves both or neither.
    fn note_both(&mut self, notes: [(Key, Prior); 2]) -> Result<(), Error> {
        self.0.retain(|(known, _)| notes.iter().all(|(key, _)| key != known));
        self.0.extend(notes);
        self.write()
    }

    fn forget(&mut self, key: &Key) -> Result<(), Error> {
        self.0.retain(|(known, _)| known != key);
        self.write()
    }

    fn knows(&self, key: &Key) -> bool {
        self.prior(key).is_some()
    }

    fn prior(&self, key: &Key) -> Option<&Prior> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, prior)| prior)
    }
}

/// Brings the machine to what a generation says. `candidate` is the one that is under way, to which or from which it goes.
///
/// # Errors
/// The first setting that cannot be set or put back. All others are all the same: one parameter that the kernel does not have
/// must not keep sshd as a trial wanted it.
pub(crate) fn settle(generation: &Generation, candidate: Option<&Hash>) -> Result<(), Error> {
    let wanted = wanted(generation);
    let mut record = Record::read()?;
    let mut first = Ok(());
    let mut note = |result: Result<(), Error>| {
        if first.is_ok() {
            first = result;
        }
    };
    let mut gone: Vec<(Key, Prior)> = record.0.iter().filter(|(key, _)| !wanted.contains_key(key)).cloned().collect();
    // In the other order than they are set in: sshd first, and who is in no group any more can go.
    gone.sort_by(|(one, _), (other, _)| other.cmp(one));
    for (key, prior) in gone {
        note(match &key {
            Key::Shut(_) => Ok(()),
            Key::User(name) => people::dismiss(&mut record, name, &prior, candidate),
            _ => key.put_back(&prior).and_then(|()| record.forget(&key)),
        });
    }
    // Who has a number gets it before anybody who takes the next free one.
    let people = wanted.iter().filter_map(|(key, value)| match (key, value) {
        (Key::User(name), Wanted::User(user)) => Some((name, user)),
        _ => None,
    });
    for (name, user) in people.clone().filter(|(_, user)| user.uid.is_some()).chain(people) {
        note(people::welcome(&mut record, name, user, candidate));
    }
    for (key, value) in wanted.iter().filter(|(key, _)| !matches!(key, Key::User(_))) {
        note(set(&mut record, key, value));
    }
    note(tell_journald(generation));
    first
}

/// Sets one setting, whose value before is noted first.
fn set(record: &mut Record, key: &Key, value: &Wanted) -> Result<(), Error> {
    if !record.knows(key) {
        record.note(key.clone(), key.look()?)?;
    }
    if let Some(name) = people::of(key)
        && stead_host::people::account(name).is_none()
    {
        // Whoever gets this name next is somebody else.
        let prior = record.prior(key).cloned().unwrap_or(Prior::Absent);
        key.put_back(&prior)?;
        return Err(Error::Unfit { option: key.option(), problem: format!("there is no user `{name}` on the server") });
    }
    key.set(value)
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
        Some(active) => settle(&active, None),
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
            (Key::User(name), Wanted::User(user)) => {
                if let Err(problem) = people::fits(&record, name, user) {
                    return unfit(problem);
                }
            }
            (Key::Member { group, .. }, _) if !stead_host::people::is_group(group) => {
                return unfit(format!("there is no group `{group}` on the server"));
            }
            (Key::Sudo(_), _) if !Path::new(SUDOERS).is_dir() => {
                return unfit("there is no sudo on the server: install it there, with `apt install sudo`".to_owned());
            }
            (Key::Zram, _) if !zram::is_known() => {
                return unfit("the kernel of this server has no zram".to_owned());
            }
            (Key::Sshd, Wanted::Sshd(told)) => {
                let tried = sshd::text(told).and_then(|text| sshd::try_out(&text, told));
                tried.map_err(|error| refused_by_sshd(&error, Some(told)))?;
            }
            _ => {}
        }
    }
    Ok(())
}
