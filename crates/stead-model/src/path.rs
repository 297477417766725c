//! Paths that cannot leave where they belong.
//!
//! [`RelativePath`] is a place inside a tree; [`AbsolutePath`] is a place on the server. Both are
//! UTF-8, normal (no `.`, `..`, empty component or NUL) and compare by their text. Neither touches
//! a file system.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The text is not a normal path of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidPath {
    /// The refused text, cut to 200 characters.
    pub text: String,
    /// What was expected, for people.
    pub expected: &'static str,
}

fn components_are_normal(text: &str) -> bool {
    !text.contains(['\0', '\n'])
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255)
}

macro_rules! path {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The path as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<std::path::Path> for $name {
            fn as_ref(&self) -> &std::path::Path {
                self.0.as_ref()
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

        impl FromStr for $name {
            type Err = InvalidPath;

            fn from_str(text: &str) -> Result<Self, InvalidPath> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidPath { text: text.chars().take(200).collect(), expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidPath;

            fn try_from(text: String) -> Result<Self, InvalidPath> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(path: $name) -> String {
                path.0
            }
        }
    };
}

path! {
    /// A place inside a tree: `usr/sbin/nginx`. Never empty, absolute, or climbing out.
    RelativePath, "a relative path without `.`, `..` or empty parts",
    |text| text.len() <= 4096 && components_are_normal(text)
}

path! {
    /// A place on a server: `/var/lib/stead`. Normal; `/` itself is allowed.
    AbsolutePath, "an absolute path without `.`, `..` or empty parts",
    |text| text == "/" || text.len() <= 4096 && text.strip_prefix('/').is_some_and(components_are_normal)
}

impl RelativePath {
    /// This path with `more` below it.
    pub fn join(&self, more: &RelativePath) -> RelativePath {
        RelativePath(format!("{}/{}", self.0, more.0))
    }

    /// The folder that holds this path; `None` at the top of the tree.
    pub fn parent(&self) -> Option<RelativePath> {
        self.0.rsplit_once('/').map(|(parent, _)| RelativePath(parent.to_owned()))
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }
}

impl AbsolutePath {
    /// This path with `more` below it.
    pub fn join(&self, more: &RelativePath) -> AbsolutePath {
        AbsolutePath(format!("{}/{}", self.0.trim_end_matches('/'), more.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_cannot_climb_out() {
        for text in ["", "/", "/a", "a/", "a//b", "./a", "a/../b", "..", "a\0b", "a\nb"] {
            assert!(text.parse::<RelativePath>().is_err(), "{text:?}");
        }
        assert!("usr/sbin/nginx".parse::<RelativePath>().is_ok());
        assert!("/".parse::<AbsolutePath>().is_ok());
        assert!("/var/../etc".parse::<AbsolutePath>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_parses_stays_below_its_root(text in ".{0,40}") {
            if let Ok(path) = text.parse::<RelativePath>() {
                let inside = std::path::Path::new(path.as_str())
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside);
            }
        }
    }
}
