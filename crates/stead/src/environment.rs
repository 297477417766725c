//! Every environment variable and every folder of the operator's machine, in one place.
//!
//! Reads only; the folders are made by whoever writes into them.

use std::env;
use std::path::PathBuf;

/// The folder for what can be made again: packages, indexes, builds (`STEAD_CACHE`, else the XDG cache).
pub(crate) fn cache() -> PathBuf {
    folder("STEAD_CACHE", "XDG_CACHE_HOME", ".cache")
}

/// The folder for what must not be lost: labs (`STEAD_STATE`, else the XDG data folder).
pub(crate) fn state() -> PathBuf {
    folder("STEAD_STATE", "XDG_DATA_HOME", ".local/share")
}

fn folder(own: &str, standard: &str, below_home: &str) -> PathBuf {
    if let Some(path) = variable(own) {
        return path.into();
    }
    match variable(standard) {
        Some(path) => PathBuf::from(path).join("stead"),
        None => PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into())).join(below_home).join("stead"),
    }
}

/// The Debian mirror, when the operator sets one for all projects (`STEAD_DEBIAN_MIRROR`).
pub(crate) fn debian_mirror() -> Option<String> {
    variable("STEAD_DEBIAN_MIRROR")
}

/// The private keys that secrets are opened with, unless others are named (`STEAD_IDENTITY`, else the usual places).
pub(crate) fn identities() -> Vec<PathBuf> {
    if let Some(path) = variable("STEAD_IDENTITY") {
        return vec![path.into()];
    }
    let home = PathBuf::from(variable("HOME").unwrap_or_else(|| "/root".into()));
    let own = variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from).join("stead/identity");
    vec![home.join(".ssh/id_ed25519"), home.join(".ssh/id_rsa"), own]
}

/// The operator's editor, as a command of the shell (`VISUAL`, `EDITOR`, else vi).
pub(crate) fn editor() -> String {
    variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".into())
}

/// Whether colours are unwanted (`NO_COLOR`, no-color.org).
pub(crate) fn no_colour() -> bool {
    variable("NO_COLOR").is_some()
}

/// The name of the user that runs this, by the system's list of users.
fn user_by_number() -> Option<String> {
    let number = rustix::process::getuid().as_raw().to_string();
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    let is_it = |line: &&str| line.split(':').nth(2) == Some(number.as_str());
    list.lines().find(is_it)?.split(':').next().map(str::to_owned)
}

/// The operator's name on this machine.
pub(crate) fn user() -> String {
    variable("SUDO_USER")
        .or_else(|| variable("USER"))
        .or_else(|| variable("LOGNAME"))
        .or_else(user_by_number)
        .unwrap_or_else(|| "unknown".into())
}

/// `user@host` of the operator, for the history.
pub(crate) fn operator() -> String {
    let user = user();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
