//! Public keys that secrets are encrypted for: SSH keys of servers and operators, and age's own.
//!
//! Promises that a key that exists can be encrypted for. Knows no private key.

use std::fmt;
use std::str::FromStr;
use stead_model::hash::Hash;

/// A key that secrets can be encrypted for: `ssh-ed25519 …`, `ssh-rsa …` or `age1…`.
#[derive(Clone)]
pub struct PublicKey {
    /// In its one form, without a comment.
    text: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Ssh(age::ssh::Recipient),
    Native(age::x25519::Recipient),
}

/// The text is not a key that one can encrypt for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// A kind of SSH key that cannot be encrypted for.
    #[error("`{kind}` keys can sign, but nothing can be encrypted for them; use an ssh-ed25519 or age1… key")]
    CannotEncrypt {
        /// The kind.
        kind: String,
    },
    /// An RSA key that is too short or too long.
    #[error("this ssh-rsa key is shorter than 2048 bits or longer than can be used; make an ssh-ed25519 key")]
    RsaSize,
    /// A private key, in a place for public ones.
    #[error("this is a private key: put its public half here, and change the key, for it has been written down")]
    Private,
    /// Anything else. The text is not repeated: it may be something that was meant to be hidden.
    #[error("this is not a public key: one begins with `ssh-ed25519 AAAA` or `age1`")]
    NotAKey,
}

impl PublicKey {
    /// The key in its one form: kind and digits, without a comment.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What age encrypts with.
    pub(crate) fn recipient(&self) -> &dyn age::Recipient {
        match &self.kind {
            Kind::Ssh(recipient) => recipient,
            Kind::Native(recipient) => recipient,
        }
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        use age::ssh::ParseRecipientKeyError as Ssh;
        let text = text.trim();
        if text.starts_with("AGE-SECRET-KEY-") || text.starts_with("-----BEGIN") {
            return Err(InvalidKey::Private);
        }
        if text.starts_with("age1") {
            let recipient: age::x25519::Recipient = text.parse().map_err(|_| InvalidKey::NotAKey)?;
            return Ok(Self { text: recipient.to_string(), kind: Kind::Native(recipient) });
        }
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(digits)) = (words.next(), words.next()) else { return Err(InvalidKey::NotAKey) };
        let text = format!("{kind} {digits}");
        let named = || InvalidKey::CannotEncrypt { kind: kind.to_owned() };
        // A key of another kind that is written as keys are: age does not know each of them.
        let is_ssh = |kind: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix));
        match text.parse() {
            Ok(recipient) => Ok(Self { text, kind: Kind::Ssh(recipient) }),
            Err(Ssh::RsaModulusTooLarge | Ssh::RsaModulusTooSmall) => Err(InvalidKey::RsaSize),
            Err(Ssh::Unsupported(_) | Ssh::Ignore) => Err(named()),
            Err(_) if is_ssh(kind) && !["ssh-ed25519", "ssh-rsa"].contains(&kind) => Err(named()),
            Err(_) => Err(InvalidKey::NotAKey),
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.text)
    }
}

/// 32 hexadecimal digits that tell this set of keys from every other; their order does not count.
pub fn digest<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> String {
    let keys: std::collections::BTreeSet<&str> = keys.into_iter().map(PublicKey::as_str).collect();
    Hash::of_value("stead readers 1", &keys).to_string()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB37/0L3dLm5ixQQ4kKKtsMKWvyQKNoUfoq1ibQKhydb";

    #[test]
    fn a_comment_does_not_count() {
        let plain: PublicKey = ED25519.parse().expect("a key");
        let named: PublicKey = format!("{ED25519} me@laptop\n").parse().expect("a key");
        assert_eq!(plain, named);
        assert_eq!(named.as_str(), ED25519);
        assert_eq!(digest([&plain, &named]), digest([&plain]));
    }

    #[test]
    fn what_cannot_be_encrypted_for_is_named() {
        let refused = |text: &str| text.parse::<PublicKey>().expect_err("it is refused");
        assert_eq!(refused(""), InvalidKey::NotAKey);
        assert_eq!(refused("ssh-ed25519 AAAA"), InvalidKey::NotAKey);
        assert_eq!(refused("age1xyz"), InvalidKey::NotAKey);
        assert_eq!(refused("AGE-SECRET-KEY-1QQ"), InvalidKey::Private);
        for kind in ["ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"] {
            assert_eq!(refused(&format!("{kind} AAAA")), InvalidKey::CannotEncrypt { kind: kind.to_owned() });
        }
    }
}
