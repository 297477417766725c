//! The password that `sudo` wants of a login that is not root's.
//!
//! Promises that it is never printed, and is zeroed when it is no longer needed. Kept in memory only.

use std::fmt;
use zeroize::Zeroizing;

/// Most bytes of one: `sudo` takes no more than this of a line (`SUDO_PASS_MAX` of its older versions).
const LIMIT: usize = 255;

/// A password.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// The text cannot be handed to `sudo` as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password is 1 to {LIMIT} bytes on one line")]
pub struct InvalidPassword;

impl Password {
    /// This one. Refuses what `sudo` would not read as a whole line.
    pub fn new(text: Zeroizing<String>) -> Result<Self, InvalidPassword> {
        let is_a_line = (1..=LIMIT).contains(&text.len()) && !text.contains(['\n', '\r', '\0']);
        is_a_line.then_some(Self(text)).ok_or(InvalidPassword)
    }

    /// What the bootstrap reads: the password for the trial, the password for `sudo` itself, and a mark.
    pub(crate) fn lines(&self, mark: &str) -> Zeroizing<Vec<u8>> {
        // Of its full size at once: what a growing buffer leaves behind is not zeroed.
        let mut lines = Zeroizing::new(Vec::with_capacity(2 * (self.0.len() + 1) + mark.len() + 1));
        for line in [self.0.as_str(), self.0.as_str(), mark] {
            lines.extend_from_slice(line.as_bytes());
            lines.push(b'\n');
        }
        lines
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Result<Password, InvalidPassword> {
        Password::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_password_is_one_line_and_never_shown() {
        for text in ["", "a\nb", "a\r", "a\0", &"x".repeat(256)] {
            assert_eq!(password(text).map(|_| ()), Err(InvalidPassword), "{text:?}");
        }
        let good = password(" two words ").unwrap();
        assert_eq!(*good.lines("mark"), b" two words \n two words \nmark\n");
        assert_eq!(format!("{good:?}"), "Password(…)");
    }
}
