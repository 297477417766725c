//! Settings of the machine itself, which cannot live behind a generation's pointer: its name, its time zone, kernel
//! parameters, files of `/etc`, swap.
//!
//! A generation says how they are to be. The server remembers how each was before Stead ever set it, and goes back to that
//! when no generation asks for it any more.

use crate::hash::Hash;
use crate::path::{AbsolutePath, RelativePath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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

/// The text cannot be used as this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct Invalid {
    /// The refused text, cut to 80 characters.
    pub text: String,
    /// What is wanted.
    pub expected: &'static str,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let valid: fn(&str) -> bool = $valid;
                match valid(text) {
                    true => Ok(Self(text.to_owned())),
                    false => Err(Invalid { text: text.chars().take(80).collect(), expected: $expected }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

text! {
    /// A host name: one label, or several with dots between (`hostname(7)`), of at most 64 characters.
    HostName, "a host name: lower-case letters, digits and hyphens, in parts of at most 63, 64 in all",
    |text| text.len() <= 64 && text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

text! {
    /// The name of a time zone, a file below `/usr/share/zoneinfo` (`localtime(5)`).
    TimeZone, "the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"",
    |text| text.len() <= 100 && text.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
    })
}

text! {
    /// A kernel parameter in the form of `sysctl(8)`: names with dots between, where a slash stands for a dot in a name.
    Sysctl, "a kernel parameter, such as \"vm.swappiness\"",
    |text| text.len() <= 200 && text.contains('.') && text.split(['.', '/']).all(|part| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    })
}

impl Sysctl {
    /// Its file, below `/proc/sys`.
    pub fn path(&self) -> String {
        self.0
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_out_of_their_folders() {
        for text in ["", "../x", "a..b", "vm", "/etc/passwd", "vm.", "net.ipv4.conf.../x"] {
            assert!(text.parse::<Sysctl>().is_err(), "{text}");
        }
        assert_eq!(
            "net.ipv4.conf.eth0/100.forwarding".parse::<Sysctl>().unwrap().path(),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        for text in ["", "../../etc/passwd", "Europe//Berlin", "/Europe", "a b"] {
            assert!(text.parse::<TimeZone>().is_err(), "{text}");
        }
        assert!("America/Argentina/Buenos_Aires".parse::<TimeZone>().is_ok());
        assert!("Etc/GMT+1".parse::<TimeZone>().is_ok());
        for text in ["", "A", "a_b", "-a", "a.", &"a".repeat(65)] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
        assert!("web1.example.com".parse::<HostName>().is_ok());
    }
}
