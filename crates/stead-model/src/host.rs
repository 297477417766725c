//! Settings of the machine itself, which cannot live behind a generation's pointer: its name, its time zone, kernel
//! parameters, files of `/etc`, swap, people who log in, sshd's settings.
//!
//! A generation says how they are to be. The server remembers how each was before Stead ever set it, and goes back to that
//! when no generation asks for it any more.

use crate::hash::Hash;
use crate::name::{HostName, SshKeyword, Sysctl, TimeZone, UserName};
use crate::path::{AbsolutePath, RelativePath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How the machine is to be; what is absent is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Host {
    /// Its name (`hostname(5)`).
    pub host_name: Option<HostName>,
    /// Its time zone (`localtime(5)`).
    pub time_zone: Option<TimeZone>,
    /// Kernel parameters (`sysctl.d(5)`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<Sysctl, String>,
    /// Files below `/etc`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<RelativePath, EtcFile>,
    /// Swap files, with their size in MiB.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub swap: BTreeMap<AbsolutePath, u32>,
    /// Swap in compressed memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zram: Option<Zram>,
    /// People who log in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<UserName, User>,
    /// What sshd is told before the machine's own `sshd_config(5)`: arguments by keyword.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sshd: BTreeMap<SshKeyword, String>,
    /// What journald is told, beside the machine's own `journald.conf(5)`: the hash of `journald.conf` of the generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journald: Option<Hash>,
}

/// A file of `/etc`. Its content is the file `etc/<path>` of the generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcFile {
    /// The hash of its content.
    pub content: Hash,
    /// Its permissions: 0 to 0o777.
    pub mode: u32,
}

/// Swap in compressed memory (the kernel's `zram` device).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Zram {
    /// What it may hold, before compression, in percent of the machine's memory: 1 to 300.
    pub memory_percent: u32,
    /// The kernel's name of how it is compressed: `zstd`.
    pub algorithm: String,
}

/// Somebody who logs in. What is absent is left as it is for somebody who was there before, and is usual for who is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct User {
    /// The full name (`passwd(5)`, the fifth field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The program that a login starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<AbsolutePath>,
    /// The number, from 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Groups beside the user's own.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<UserName>,
    /// Lines of `authorized_keys` (`sshd(8)`), beside those that are in the user's home.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Whether `sudo` asks for no password.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sudo: bool,
}

/// When the machine's own packages get their security updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AutoUpgrade {
    /// When, in the form of `systemd.time(7)`, "Calendar events".
    pub dates: String,
    /// Seconds of which any number is waited then.
    pub randomized_delay: u32,
    /// Whether the machine boots anew for an update that needs it.
    pub allow_reboot: bool,
}

/// What the operator declared, before anything has a hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Declared {
    /// As in [`Host`].
    pub host_name: Option<HostName>,
    /// As in [`Host`].
    pub time_zone: Option<TimeZone>,
    /// As in [`Host`].
    pub sysctl: BTreeMap<Sysctl, String>,
    /// Text and permissions of files below `/etc`.
    pub files: BTreeMap<RelativePath, (String, u32)>,
    /// As in [`Host`].
    pub swap: BTreeMap<AbsolutePath, u32>,
    /// As in [`Host`].
    pub zram: Option<Zram>,
    /// As in [`Host`].
    pub users: BTreeMap<UserName, User>,
    /// As in [`Host`].
    pub sshd: BTreeMap<SshKeyword, String>,
    /// The text of `journald.conf`.
    pub journald: Option<String>,
    /// Security updates of the machine's own packages.
    pub auto_upgrade: Option<AutoUpgrade>,
}

/// The file of a generation that says what journald is told, relative to its folder.
pub const JOURNALD: &str = "journald.conf";

impl Host {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every setting by its name, with what it is to be, for people: `boot.kernel.sysctl."vm.swappiness"` and `10`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut put = |name: String, value: String| drop(all.insert(name, value));
        if let Some(name) = &self.host_name {
            put("networking.hostName".to_owned(), name.to_string());
        }
        if let Some(zone) = &self.time_zone {
            put("time.timeZone".to_owned(), zone.to_string());
        }
        for (name, value) in &self.sysctl {
            put(format!("boot.kernel.sysctl.\"{name}\""), value.clone());
        }
        for (path, file) in &self.files {
            put(format!("environment.etc.\"{path}\""), format!("{} ({:o})", file.content.short(), file.mode));
        }
        for (path, size) in &self.swap {
            put(format!("swapDevices {path}"), format!("{size} MiB"));
        }
        if let Some(zram) = &self.zram {
            put("zramSwap".to_owned(), format!("{} % of the memory ({})", zram.memory_percent, zram.algorithm));
        }
        for (name, user) in &self.users {
            put(format!("users.users.{name}"), user.words());
        }
        for (keyword, arguments) in &self.sshd {
            put(format!("services.openssh.settings.{keyword}"), arguments.clone());
        }
        if let Some(hash) = &self.journald {
            put("services.journald".to_owned(), hash.short());
        }
        all
    }
}

impl User {
    /// In a few words, for people; without the keys themselves.
    fn words(&self) -> String {
        let mut words: Vec<String> = [&self.description].into_iter().flatten().cloned().collect();
        words.extend(self.shell.as_ref().map(|shell| format!("shell {shell}")));
        words.extend(self.uid.map(|uid| format!("number {uid}")));
        words.extend(self.groups.iter().map(|group| format!("in {group}")));
        words.extend(self.sudo.then(|| "sudo without a password".to_owned()));
        // Two sets of keys of one size are not the same.
        let digest = Hash::of(self.keys.join("\n").as_bytes());
        words.push(match self.keys.len() {
            0 => "no keys".to_owned(),
            1 => format!("1 key ({})", digest.short()),
            many => format!("{many} keys ({})", digest.short()),
        });
        words.join(", ")
    }
}
