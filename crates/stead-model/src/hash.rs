//! Content hashes: BLAKE3 for what Stead stores, SHA-256 for what Debian publishes.
//!
//! Promises a single textual form (64 lower-case hexadecimal digits), used in files, on the wire
//! and on the command line. Never compares a prefix as if it were the whole.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 32]);

        impl $name {
            /// The digest with exactly these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the digest.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hexadecimal digits: for people, and for unit instance names.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                // One write: trees of 10,000 files print as many digests.
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut text = [0; 64];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = DIGITS[usize::from(byte >> 4)];
                    pair[1] = DIGITS[usize::from(byte & 15)];
                }
                out.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                let digits = text.as_bytes();
                let valid = digits.len() == 64
                    && digits.iter().all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(d));
                if !valid {
                    return Err(InvalidDigest { text: text.chars().take(80).collect() });
                }
                let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = value(pair[0]) << 4 | value(pair[1]);
                }
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidDigest;

            fn try_from(text: String) -> Result<Self, InvalidDigest> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> String {
                digest.to_string()
            }
        }
    };
}

digest! {
    /// A BLAKE3 digest: the identity of an object, a tree, a runtime or a generation.
    Hash
}

digest! {
    /// A SHA-256 digest, as Debian's indexes state it for a package.
    Sha256
}

impl Hash {
    /// The BLAKE3 digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The BLAKE3 digest of a value's canonical JSON (struct fields in declaration order, maps
    /// sorted because they are `BTreeMap`s), in a domain of its own so that two kinds of value
    /// never share an identity. `context` is a constant such as `"stead generation 1"`.
    pub fn of_value<T: Serialize>(context: &str, value: &T) -> Self {
        let bytes = serde_json::to_vec(value).expect("the model's types always serialise");
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&bytes);
        Self(*hasher.finalize().as_bytes())
    }
}

impl Sha256 {
    /// The SHA-256 digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// The text is not a digest: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest of 64 lower-case hexadecimal digits")]
pub struct InvalidDigest {
    /// The refused text, cut to 80 characters.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints() {
        let hash = Hash::of(b"stead");
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }

    #[test]
    fn upper_case_and_short_digests_are_refused() {
        assert!("ABCD".parse::<Hash>().is_err());
        assert!("A".repeat(64).parse::<Sha256>().is_err());
    }
}
