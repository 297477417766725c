//! How the operator's `ssh` gets to a host: its name on the network, and what is in between.
//!
//! Asks `ssh -G`, so that whatever `ssh_config(5)` says counts as it does for a login. Connects nowhere.

use crate::destination::Destination;
use std::process::{Command, Stdio};

/// The way to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Its name or address on the network (`HostName`).
    pub host: String,
    /// Another host or a program in between (`ProxyJump`, `ProxyCommand`), as `ssh` tells it; `None`: nothing.
    pub by_way_of: Option<String>,
}

/// `ssh` could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be run.
    #[error("cannot run `ssh -G`")]
    Start(#[source] std::io::Error),
    /// It refuses its own configuration, or the host.
    #[error("`ssh -G` says: {0}")]
    Refused(String),
}

/// The way to this host.
///
/// # Errors
/// When `ssh` cannot be asked.
pub fn of(destination: &Destination) -> Result<Way, Error> {
    let output =
        Command::new("ssh").args(destination.question()).stdin(Stdio::null()).output().map_err(Error::Start)?;
    if !output.status.success() {
        return Err(Error::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout), destination.host()))
}

fn parse(text: &str, host: &str) -> Way {
    let value = |option: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' '))?;
        Some(line.trim()).filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case("none"))
    };
    Way {
        host: value("hostname").unwrap_or(host).to_owned(),
        by_way_of: value("proxyjump").or(value("proxycommand")).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(configuration: &str, host: &str) -> Way {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        std::fs::write(&file, configuration).unwrap();
        let mut destination = Destination::new(host).unwrap();
        destination.config_file = Some(file);
        of(&destination).unwrap()
    }

    #[test]
    fn the_configuration_of_ssh_says_where_a_host_is_and_what_is_in_between() {
        let configuration = "Host shop\n  HostName 192.0.2.7\nHost inner\n  HostName inner.example\n  ProxyJump jump.example\n\
                             Host piped\n  ProxyCommand nc %h %p\nHost plain\n  ProxyJump none\n";
        assert_eq!(asked(configuration, "shop"), Way { host: "192.0.2.7".into(), by_way_of: None });
        let inner = Way { host: "inner.example".into(), by_way_of: Some("jump.example".into()) };
        assert_eq!(asked(configuration, "inner"), inner);
        assert_eq!(asked(configuration, "piped").by_way_of.as_deref(), Some("nc %h %p"));
        assert_eq!(asked(configuration, "plain"), Way { host: "plain".into(), by_way_of: None });
        assert_eq!(asked("", "other.example").host, "other.example");
    }

    #[test]
    fn what_ssh_does_not_understand_is_told_in_its_words() {
        let mut destination = Destination::new("shop").unwrap();
        destination.options = vec!["NoSuchOption=1".into()];
        assert!(matches!(of(&destination), Err(Error::Refused(words)) if words.contains("nosuchoption")));
    }
}
