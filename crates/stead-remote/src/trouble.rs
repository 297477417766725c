//! What `ssh` means by what it says on its standard error.
//!
//! `ssh` has one exit status for all its own failures (255, `ssh(1)`), so its words have to be
//! read. They are OpenSSH's and not translated. What is not recognised stays as it is.

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The host's name has no address.
    Unresolved,
    /// Nothing answers at the address.
    Unreachable,
    /// The address answers, but not at this port.
    Refused,
    /// The host showed a key that the operator's machine has not seen.
    UnknownHostKey,
    /// The host showed another key than before.
    ChangedHostKey,
    /// The login was refused.
    Denied,
    /// The operator's SSH configuration is wrong.
    Configuration,
    /// The connection was made, and closed by the other side.
    Closed,
    /// Something else.
    Other,
}

/// The words that tell each, first match counts: a changed key is also followed by
/// "Host key verification failed".
const WORDS: [(&str, Trouble); 18] = [
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Trouble::ChangedHostKey),
    ("Host key verification failed", Trouble::UnknownHostKey),
    ("Permission denied (", Trouble::Denied),
    ("Too many authentication failures", Trouble::Denied),
    ("Could not resolve hostname", Trouble::Unresolved),
    ("Connection refused", Trouble::Refused),
    ("No route to host", Trouble::Unreachable),
    ("Network is unreachable", Trouble::Unreachable),
    ("Connection timed out", Trouble::Unreachable),
    ("Operation timed out", Trouble::Unreachable),
    ("timed out during banner exchange", Trouble::Unreachable),
    ("Bad configuration option", Trouble::Configuration),
    ("Can't open user config file", Trouble::Configuration),
    ("Bad owner or permissions on", Trouble::Configuration),
    ("terminating, ", Trouble::Configuration),
    ("Connection closed", Trouble::Closed),
    ("Connection reset", Trouble::Closed),
    ("not responding", Trouble::Closed),
];

/// What these words of `ssh` mean.
pub fn recognise(said: &str) -> Trouble {
    WORDS.iter().find(|(words, _)| said.contains(words)).map_or(Trouble::Other, |(_, trouble)| *trouble)
}

impl Trouble {
    /// What happened, for people.
    pub fn words(self) -> &'static str {
        match self {
            Trouble::Unresolved => "its name has no address",
            Trouble::Unreachable => "it does not answer",
            Trouble::Refused => "it refuses connections at this port",
            Trouble::UnknownHostKey => "its host key is not known here",
            Trouble::ChangedHostKey => "its host key is another one than before",
            Trouble::Denied => "it refuses this login",
            Trouble::Configuration => "the SSH configuration is wrong",
            Trouble::Closed => "it closed the connection",
            Trouble::Other => "ssh failed",
        }
    }

    /// What the operator can do.
    pub fn hint(self) -> &'static str {
        match self {
            Trouble::Unresolved => "check `host`, or your SSH configuration",
            Trouble::Unreachable => "check that the server is up, and `host` and `sshPort`",
            Trouble::Refused => "check that sshd runs there, and `sshPort`",
            Trouble::UnknownHostKey => "log in once by `ssh`, compare the key's fingerprint, and accept it",
            Trouble::ChangedHostKey => {
                "if the server was installed anew, remove its old key by `ssh-keygen -R HOST`; if not, somebody may be in between"
            }
            Trouble::Denied => "check `sshUser`, and that your key is loaded and allowed there",
            Trouble::Configuration => "see what ssh says about it",
            Trouble::Closed => "see the log of sshd on the server",
            Trouble::Other => "try the same by `ssh` itself",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openssh_says_is_recognised() {
        for (said, trouble) in [
            ("ssh: Could not resolve hostname x: Name or service not known\r\n", Trouble::Unresolved),
            ("ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n", Trouble::Refused),
            ("ssh: connect to host 192.0.2.1 port 22: Connection timed out\r\n", Trouble::Unreachable),
            ("Connection timed out during banner exchange\r\n", Trouble::Unreachable),
            (
                "No ED25519 host key is known for x and you have requested strict checking.\r\nHost key verification failed.\r\n",
                Trouble::UnknownHostKey,
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed.\r\n",
                Trouble::ChangedHostKey,
            ),
            ("root@x: Permission denied (publickey).\r\n", Trouble::Denied),
            (
                "/x: line 1: Bad configuration option: y\r\n/x: terminating, 1 bad configuration options\r\n",
                Trouble::Configuration,
            ),
            ("Connection closed by 10.0.0.1 port 22\r\n", Trouble::Closed),
            ("Timeout, server x not responding.\r\n", Trouble::Closed),
            ("something new\r\n", Trouble::Other),
        ] {
            assert_eq!(recognise(said), trouble, "{said}");
        }
    }
}
