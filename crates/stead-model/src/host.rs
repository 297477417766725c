//! Settings of the machine itself, which cannot live behind a generation's pointer: its name, its time zone, kernel
//! parameters, files of `/etc`, swap.
//!
//! A generation says how they are to be. The server remembers how each was before Stead ever set it, and goes back to that
//! when no generation asks for it any more.

use crate::hash::Hash;
use crate::name::{HostName, Sysctl, TimeZone};
use crate::path::{AbsolutePath, RelativePath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// The text of `journald.conf`.
    pub journald: Option<String>,
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
        if let Some(hash) = &self.journald {
            put("services.journald".to_owned(), hash.short());
        }
        all
    }
}
