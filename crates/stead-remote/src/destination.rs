//! Where SSH goes, and with which options the operator's own `ssh` is called.
//!
//! Promises that nothing of a declaration can become an option or a command of `ssh`, and that
//! whatever the operator's `ssh_config(5)` says about a host still counts, except for what would
//! get in the way of a plain conversation. Starts nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use stead_model::name::{Port, UserName};

/// Seconds until a host that does not answer counts as unreachable.
pub const CONNECT_TIMEOUT: u32 = 10;

/// A host as `ssh(1)` finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host: String,
    /// Who logs in; `None`: what the operator's SSH configuration says.
    pub user: Option<UserName>,
    /// The port; `None`: what the operator's SSH configuration says.
    pub port: Option<Port>,
    /// A configuration file in place of the operator's (`ssh -F`): a lab's.
    pub config_file: Option<PathBuf>,
    /// More options, each as `ssh -o` takes it. From the operator, never from a declaration.
    pub options: Vec<String>,
}

/// Whether somebody can answer a question of `ssh`: a passphrase, an unknown host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Questions {
    /// Somebody sits there. `ssh` asks on the terminal by itself.
    Terminal,
    /// Nobody does: a question is a refusal (`BatchMode=yes`).
    Nobody,
}

/// Which connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// A shared one too, if the operator's configuration has `ControlMaster`.
    Any,
    /// Only one that is made now: it proves that one can log in.
    Fresh,
}

impl Destination {
    /// The host of this address, name, or name in `ssh_config(5)`.
    pub fn new(host: &str) -> Result<Self, InvalidHost> {
        let valid = (1..=255).contains(&host.len())
            && !host.starts_with('-')
            && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%[]+".contains(c));
        if !valid {
            return Err(InvalidHost { host: host.chars().take(80).collect() });
        }
        Ok(Self { host: host.to_owned(), user: None, port: None, config_file: None, options: Vec::new() })
    }

    /// The host, as it was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The arguments of `ssh`, without the program's name, that run `command` there.
    pub fn arguments(&self, login: Login, questions: Questions, command: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |values: &[&str]| arguments.extend(values.iter().map(OsString::from));
        // No terminal, no forwarded agent or display: this is a pipe to a program.
        add(&["-T", "-a", "-x"]);
        // ssh keeps the first value of each option: freshness is not up for choice, the rest is.
        if login == Login::Fresh {
            add(&["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
        }
        for option in &self.options {
            add(&["-o", option]);
        }
        if questions == Questions::Nobody {
            add(&["-o", "BatchMode=yes"]);
        }
        for option in ["RequestTTY=no", "RemoteCommand=none", "ClearAllForwardings=yes", "Compression=no"] {
            add(&["-o", option]);
        }
        add(&["-o", &format!("ConnectTimeout={CONNECT_TIMEOUT}")]);
        add(&["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4"]);
        self.add_host(&mut arguments);
        arguments.push(command.into());
        arguments
    }

    /// The arguments of `ssh`, without the program's name, that print what its configuration says of the host.
    pub fn question(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-G".into()];
        for option in &self.options {
            arguments.extend(["-o".into(), option.into()]);
        }
        self.add_host(&mut arguments);
        arguments
    }

    /// Whom, where, by which configuration: the end of the options, and the host.
    fn add_host(&self, arguments: &mut Vec<OsString>) {
        if let Some(port) = self.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        if let Some(user) = &self.user {
            arguments.extend(["-l".into(), user.as_str().into()]);
        }
        if let Some(file) = &self.config_file {
            arguments.extend(["-F".into(), file.clone().into_os_string()]);
        }
        arguments.extend(["--".into(), OsString::from(&self.host)]);
    }
}

/// The text cannot name a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is not a host: an address, or a name of DNS or of the SSH configuration")]
pub struct InvalidHost {
    /// The refused text, cut to 80 characters.
    pub host: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(destination: &Destination, login: Login) -> String {
        let arguments = destination.arguments(login, Questions::Nobody, "run");
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_host_cannot_be_an_option_or_a_command() {
        for host in ["", "-oProxyCommand=x", "a b", "a;b", "a\nb", "user@host", "$(x)", "a/b"] {
            assert!(Destination::new(host).is_err(), "{host:?}");
        }
        for host in ["203.0.113.10", "2001:db8::1", "lab-demo", "fe80::1%eth0", "billtracker.site"] {
            assert!(Destination::new(host).is_ok(), "{host:?}");
        }
    }

    #[test]
    fn what_is_declared_reaches_ssh_and_nothing_comes_after_the_separator() {
        let mut destination = Destination::new("host").unwrap();
        destination.user = Some("root".parse().unwrap());
        destination.port = Port::new(2222);
        destination.config_file = Some("/lab/ssh config".into());
        let text = text(&destination, Login::Any);
        assert!(text.ends_with(" -p 2222 -l root -F /lab/ssh config -- host run"), "{text}");
    }

    #[test]
    fn only_a_fresh_login_refuses_shared_connections() {
        let destination = Destination::new("host").unwrap();
        assert!(text(&destination, Login::Fresh).contains("-o ControlMaster=no -o ControlPath=none"));
        assert!(!text(&destination, Login::Any).contains("Control"));
    }
}
