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
use stead_host::{people, sshd, zram};
use stead_model::generation::Generation;
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

/// A setting, by what it is about; in the order in which they are set: sshd comes last, when the people are there whom it lets in.
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
    Member { user: UserName, group: UserName },
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

/// What [`Prior::Value`] is of something that was there before Stead, and stays.
const THERE: &str = "there";

impl Key {
    fn option(&self) -> String {
        match self {
            Self::HostName => "networking.hostName".to_owned(),
            Self::TimeZone => "time.timeZone".to_owned(),
            Self::Sysctl(name) => format!("boot.kernel.sysctl.\"{name}\""),
            Self::File(path) => format!("environment.etc.\"{}\"", path.as_str().trim_start_matches("/etc/")),
            Self::Swap(path) => format!("swapDevices ({path})"),
            Self::Zram => "zramSwap".to_owned(),
            Self::User(name) => format!("users.users.{name}"),
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
            Self::User(name) => Ok(there(people::account(name).is_some())),
            Self::Member { user, group } => Ok(there(people::is_member(user, group))),
            Self::Sudo(name) => settings::look(&sudo_file(name)),
            Self::Keys(name) => settings::look(&sshd::keys_file(name)),
            Self::Sshd => settings::look(Path::new(sshd::DROP_IN)),
        }
        .map_err(self.failed())
    }

    /// Returns whether it is as it was before; `false`: something of somebody's would be lost by that, and it stays.
    fn put_back(&self, prior: &Prior) -> Result<bool, Error> {
        match self {
            Self::User(name) if *prior == Prior::Absent => return self.done(people::remove(name, false)),
            Self::Member { user, group } if *prior == Prior::Absent => {
                return self.done(people::part(user, group)).map(|()| true);
            }
            Self::User(_) | Self::Member { .. } => return Ok(true),
            Self::Sshd => return self.put_back_sshd(prior).map(|()| true),
            _ => {}
        }
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
            Self::Sudo(name) => settings::put_back(&sudo_file(name), prior),
            Self::Keys(name) => {
                settings::put_back(&sshd::keys_file(name), prior).inspect(|()| sshd::drop_keys_folder())
            }
            Self::User(_) | Self::Member { .. } | Self::Sshd => Ok(()),
        }
        .map_err(self.failed())
        .map(|()| true)
    }

    fn done<T>(&self, result: Result<T, stead_host::run::RunError>) -> Result<T, Error> {
        result.map_err(|error| self.failed()(error.into()))
    }

    fn put_back_sshd(&self, prior: &Prior) -> Result<(), Error> {
        let place = Path::new(sshd::DROP_IN);
        let found = settings::look(place).map_err(self.failed())?;
        if found == *prior {
            return Ok(());
        }
        settings::put_back(place, prior).map_err(self.failed())?;
        sshd::take_up().map_err(|error| refused_by_sshd(&error, None))
    }

    /// sshd is told only what it has tested; what it refuses goes, also when it did not refuse it before an update of its own.
    fn set_sshd(&self, told: &sshd::Told) -> Result<(), Error> {
        let place = Path::new(sshd::DROP_IN);
        let text = sshd::text(told).map_err(|error| refused_by_sshd(&error, Some(told)))?;
        let before = settings::look(place).map_err(self.failed())?;
        settings::write(place, text.as_bytes(), 0o644, None).map_err(self.failed())?;
        let is_new = settings::look(place).map_err(self.failed())? != before;
        if let Err(error) = sshd::test() {
            settings::put_back(place, if is_new { &before } else { &Prior::Absent }).map_err(self.failed())?;
            return Err(refused_by_sshd(&error, Some(told)));
        }
        if is_new { sshd::take_up().map_err(|error| refused_by_sshd(&error, Some(told))) } else { Ok(()) }
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
            (Self::User(name), Wanted::User(user)) => people::make(name, user).map_err(settings::Error::from),
            (Self::Member { user, group }, _) => people::join(user, group).map_err(settings::Error::from),
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

fn there(is_there: bool) -> Prior {
    if is_there { Prior::Value(THERE.to_owned()) } else { Prior::Absent }
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
    let has_keys = host.users.values().any(|user| !user.keys.is_empty());
    if has_keys || !host.sshd.is_empty() {
        all.insert(Key::Sshd, Wanted::Sshd(sshd::Told { settings: host.sshd.clone(), has_keys }));
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
        self.prior(key).is_some()
    }

    fn prior(&self, key: &Key) -> Option<&Prior> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, prior)| prior)
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
    // In the other order than they were set in: who is in no group any more can go.
    for (key, prior) in gone.into_iter().rev() {
        if key.put_back(&prior)? {
            record.0.retain(|(known, _)| *known != key);
            record.write()?;
        }
    }
    for (key, value) in &wanted {
        if !record.knows(key) {
            record.0.push((key.clone(), key.look()?));
            record.write()?;
        }
        match (key, value) {
            // Somebody who was there before is not made, nor changed.
            (Key::User(_), _) if record.prior(key).is_some_and(|prior| *prior != Prior::Absent) => {}
            _ => key.set(value)?,
        }
    }
    tell_journald(generation)
}

/// What stays of people when nothing asks for them any more: with what is theirs, it goes where that is said. Returns what stays.
///
/// # Errors
/// When somebody cannot be removed.
pub(crate) fn people_who_stay(with_data: bool) -> Result<Vec<String>, Error> {
    let mut stay = Vec::new();
    for (key, _) in &Record::read()?.0 {
        let Key::User(name) = key else { continue };
        let home = people::account(name).map(|account| account.home.display().to_string()).unwrap_or_default();
        if !with_data || !key.done(people::remove(name, true))? {
            stay.push(format!("the user {name}, who cannot log in any more and has {home}"));
        }
    }
    Ok(stay)
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
            (Key::User(name), Wanted::User(user)) => {
                let is_made_here = record.prior(&key) == Some(&Prior::Absent);
                if let Err(problem) = fits(name, user, is_made_here) {
                    return unfit(problem);
                }
            }
            (Key::Member { group, .. }, _) if !people::is_group(group) => {
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

/// Whether the machine can have this user; else, why not.
fn fits(name: &UserName, user: &User, is_made_here: bool) -> Result<(), String> {
    let account = people::account(name);
    if let Some(shell) = &user.shell
        && !Path::new(shell.as_str()).is_file()
    {
        return Err(format!("there is no shell {shell} on the server"));
    }
    match (&account, user.uid) {
        (Some(account), Some(uid)) if account.uid != uid => {
            return Err(format!("has the number {} on the server, which files there belong to: it stays", account.uid));
        }
        (None, Some(uid)) => {
            if let Some(owner) = people::owner_of(uid) {
                return Err(format!("the number {uid} is that of `{owner}` on the server"));
            }
        }
        _ => {}
    }
    match account {
        None if people::is_group(name) => {
            Err("there is a group of this name on the server, which is somebody's".to_owned())
        }
        Some(account) if account.is_of_the_system() => {
            Err("is a user of the system, which is not changed: take another name".to_owned())
        }
        Some(account) if !is_made_here => {
            let differs = |declared: Option<&str>, found: &str| declared.is_some_and(|declared| declared != found);
            let is_other = differs(user.shell.as_ref().map(AbsolutePath::as_str), &account.shell)
                || differs(user.description.as_deref(), &account.description);
            if is_other {
                return Err(format!(
                    "was there before Stead, as `{}` with the shell {}, and gets keys and groups only: leave out `description` and `shell`",
                    account.description, account.shell
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
