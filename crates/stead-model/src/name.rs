//! Names: of servers, apps, inputs, runtimes, users, packages, units, and host names.
//!
//! A value that exists is valid, so that no name can smuggle a path, an option or a line break
//! into a file or a command line. Nothing here knows what a name refers to.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// The text is not a name of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}: {rule}")]
pub struct InvalidName {
    /// What was being named ("app name", "domain", …).
    pub kind: &'static str,
    /// The refused text, cut to 80 characters.
    pub text: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{:?}", self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { kind: $kind, text: text.chars().take(80).collect(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.ends_with('-')
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

name! {
    /// What the operator calls a thing of the declaration: a server, an app, an input, a runtime,
    /// a service. Lower-case letters, digits and hyphens, starting with a letter: it becomes part
    /// of unit names, user names and paths.
    Name, "name", "lower-case letters, digits and hyphens, starting with a letter, at most 63 characters", is_label
}

name! {
    /// A host name in DNS form, lower-case (RFC 1123, section 2.1).
    Domain, "domain", "labels of lower-case letters, digits and hyphens, joined by dots", is_domain
}

name! {
    /// A user of the server's operating system (`useradd(8)`, CAVEATS: at most 32 characters).
    UserName, "user name", "a lower-case letter or underscore, then letters, digits, `_` or `-`, at most 32 characters",
    |text| (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

name! {
    /// A binary package of a Debian archive (Debian Policy, section 5.6.1).
    PackageName, "package name", "lower-case letters, digits, `+`, `-` and `.`, at least two characters",
    |text| text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

name! {
    /// A systemd unit with its suffix (`systemd.unit(5)`), without a path.
    UnitName, "unit name", "letters, digits and `:-_.\\@`, ending in a unit type such as `.service`",
    |text| {
        const TYPES: [&str; 8] = [".service", ".socket", ".timer", ".target", ".path", ".slice", ".mount", ".swap"];
        text.len() <= 255
            && TYPES.iter().any(|suffix| text.len() > suffix.len() && text.ends_with(suffix))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c))
            && !text.starts_with('.')
            && !text.starts_with('-')
    }
}

name! {
    /// The name of an environment variable (POSIX, section 8.1).
    VariableName, "environment variable", "letters, digits and `_`, not starting with a digit",
    |text| !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A file name of letters, digits, `_`, `.` and `-` that stands for itself wherever it is written.
fn is_plain_file(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

name! {
    /// A secret of the project: the name of its file, `secrets/<name>.age`.
    SecretName, "name of a secret", "letters, digits, `_`, `.` and `-`, starting with a letter, digit or `_`, at most 128 characters",
    is_plain_file
}

name! {
    /// A credential of a service: a file in its `$CREDENTIALS_DIRECTORY` (`systemd.exec(5)`, "Credentials").
    CredentialName, "name of a credential", "letters, digits, `_`, `.` and `-`, starting with a letter, digit or `_`, at most 128 characters",
    is_plain_file
}

name! {
    /// The name of a machine: one label, or several with dots between, of at most 64 characters (`hostname(7)`).
    HostName, "host name", "lower-case letters, digits and hyphens, in parts of at most 63, 64 characters in all",
    |text| text.len() <= 64 && is_domain(text) && !text.contains('_')
}

name! {
    /// A time zone: a file below `/usr/share/zoneinfo` (`localtime(5)`).
    TimeZone, "time zone", "a name such as `Europe/Berlin` or `UTC`",
    |text| text.len() <= 100 && text.split('/').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
    })
}

name! {
    /// A kernel parameter in the form of `sysctl(8)`: names with dots between, where a slash stands for a dot in a name.
    Sysctl, "kernel parameter", "names with dots between, such as `vm.swappiness`",
    |text| text.len() <= 200 && text.contains('.') && text.split(['.', '/']).all(|part| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    })
}

name! {
    /// A keyword of `sshd_config(5)`.
    SshKeyword, "keyword of sshd", "letters and digits, such as `PasswordAuthentication`",
    |text| text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}

name! {
    /// A database, or a role of one, whose name SQL takes without quotes (PostgreSQL's manual, section 4.1.1; names are cut at 63
    /// bytes), and that is not one of PostgreSQL's own.
    SqlName, "name in a database", "a lower-case letter or `_`, then lower-case letters, digits and `_`, at most 63 characters, and none of PostgreSQL's own names",
    |text| {
        // The last ones mean something else in `pg_hba.conf` and `pg_ident.conf`.
        const OWN: [&str; 10] = [
            "postgres", "template0", "template1", "public", "none", "replication", "all", "sameuser", "samerole", "samegroup",
        ];
        (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !OWN.contains(&text)
            && !text.starts_with("pg_")
    }
}

name! {
    /// A setting of PostgreSQL (its manual, section 20.1.1): the name of an extension's has a dot.
    SettingName, "setting of PostgreSQL", "lower-case letters, digits and `_`, as PostgreSQL's manual has it; a dot after the name of an extension",
    |text| text.len() <= 128 && text.split('.').count() <= 2 && text.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
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

/// A TCP or UDP port that something can listen on: 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(std::num::NonZeroU16);

impl Port {
    /// The port with this number; `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        match std::num::NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, 1 to 65535.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_hold_paths_options_or_lines() {
        for text in ["", "-x", "a/b", "..", "a\nb", "A", "a-", "1a", "a b"] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert!("bill-tracker".parse::<Name>().is_ok());
    }

    #[test]
    fn domains_follow_dns() {
        assert!("billtracker.site".parse::<Domain>().is_ok());
        assert!("localhost".parse::<Domain>().is_ok());
        for text in ["", "a..b", "-a.b", "a b", "UPPER.case", "a;b"] {
            assert!(text.parse::<Domain>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn units_need_a_type() {
        assert!("stead-app@1.service".parse::<UnitName>().is_ok());
        assert!("postgresql".parse::<UnitName>().is_err());
        assert!("../x.service".parse::<UnitName>().is_err());
    }

    #[test]
    fn names_in_databases_need_no_quotes_and_are_nobody_elses() {
        for text in
            ["", "A", "a-b", "a b", "1a", "a\"b", "a';drop", "a;", "postgres", "pg_x", "template1", &"a".repeat(64)]
        {
            assert!(text.parse::<SqlName>().is_err(), "{text:?}");
        }
        assert!("bill_tracker2".parse::<SqlName>().is_ok() && "_x".parse::<SqlName>().is_ok());
        for text in ["", "Work_mem", "a b", "a=b", "a.b.c", "a\n", ".a", "a'"] {
            assert!(text.parse::<SettingName>().is_err(), "{text:?}");
        }
        assert!("pg_stat_statements.max".parse::<SettingName>().is_ok());
    }

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
