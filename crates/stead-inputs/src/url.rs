//! What an input is called: `path:../portfolio`, `debian:bookworm`.
//!
//! Promises that a value that exists names something Stead can pin, and that it prints as it was
//! written. Never looks whether the thing is there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The place that an input comes from, as declared in `inputs.<name>.url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputUrl {
    /// A folder, relative to the project's or absolute.
    Path(String),
    /// A release of Debian by its code name.
    Debian(String),
}

impl InputUrl {
    /// Reads the declared text. Fails with words that say what to write instead.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(InvalidUrl::NoScheme { text: cut(text) });
        };
        match scheme {
            "path" => path(rest, text),
            "debian" => release(rest, text),
            "git" | "git+https" | "git+ssh" | "git+http" | "git+file" | "github" | "gitlab" | "sourcehut" => {
                Err(InvalidUrl::Later { text: cut(text) })
            }
            _ => Err(InvalidUrl::Scheme { text: cut(text), scheme: cut(scheme) }),
        }
    }

    /// The folder that a `path:` input names, seen from the project's folder; `None` for others.
    pub fn folder(&self, root: &Path) -> Option<PathBuf> {
        match self {
            InputUrl::Path(path) => Some(root.join(path)),
            InputUrl::Debian(_) => None,
        }
    }
}

impl fmt::Display for InputUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputUrl::Path(path) => write!(out, "path:{path}"),
            InputUrl::Debian(release) => write!(out, "debian:{release}"),
        }
    }
}

impl FromStr for InputUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        Self::parse(text)
    }
}

fn path(rest: &str, text: &str) -> Result<InputUrl, InvalidUrl> {
    let reason = if rest.is_empty() {
        "it names no folder"
    } else if rest.starts_with("//") {
        "write `path:/absolute/folder` or `path:../relative/folder`, without `//`"
    } else if rest.starts_with('~') {
        "`~` means nothing here: write the folder relative to the project's, or absolute"
    } else if rest.contains(['\0', '\n', '\r']) {
        "a folder's name cannot hold a line break here"
    } else {
        return Ok(InputUrl::Path(rest.to_owned()));
    };
    Err(InvalidUrl::Path { text: cut(text), reason })
}

fn release(rest: &str, text: &str) -> Result<InputUrl, InvalidUrl> {
    // Debian's releases by number, as its release notes name them.
    let known = match rest {
        "11" => Some("bullseye"),
        "12" => Some("bookworm"),
        "13" => Some("trixie"),
        "14" => Some("forky"),
        _ => None,
    };
    let valid = rest.starts_with(|c: char| c.is_ascii_lowercase())
        && rest.len() <= 40
        && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    match (valid, known) {
        (true, _) => Ok(InputUrl::Debian(rest.to_owned())),
        (false, known) => Err(InvalidUrl::Release { text: cut(text), example: known.unwrap_or("bookworm") }),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The text names no input that Stead knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// There is no `scheme:`.
    #[error(
        "`{text}` does not say what kind of input it is: write `path:{text}` for a folder, `debian:bookworm` for packages"
    )]
    NoScheme {
        /// The refused text, cut to 200 characters.
        text: String,
    },
    /// A git repository.
    #[error("`{text}`: inputs from git come later; today a clone of it can be a `path:` input")]
    Later {
        /// The refused text, cut to 200 characters.
        text: String,
    },
    /// Some other scheme.
    #[error("`{text}`: there are no inputs of kind `{scheme}`, only `path:` (a folder) and `debian:` (packages)")]
    Scheme {
        /// The refused text, cut to 200 characters.
        text: String,
        /// What stands before the colon.
        scheme: String,
    },
    /// `path:` with something that is no folder's name.
    #[error("`{text}`: {reason}")]
    Path {
        /// The refused text, cut to 200 characters.
        text: String,
        /// Why, and what to write instead.
        reason: &'static str,
    },
    /// `debian:` with something that is no code name.
    #[error("`{text}` names no release of Debian by its code name: write for instance `debian:{example}`")]
    Release {
        /// The refused text, cut to 200 characters.
        text: String,
        /// A code name: the meant one if it could be told.
        example: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_as_it_was_written() {
        for text in ["path:../BillTracker", "path:/srv/site", "path:.", "debian:bookworm", "debian:sid"] {
            assert_eq!(InputUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_folder_is_seen_from_the_project() {
        let url = InputUrl::parse("path:../site").unwrap();
        assert_eq!(url.folder(Path::new("/home/me/project")), Some(PathBuf::from("/home/me/project/../site")));
        assert_eq!(InputUrl::parse("debian:trixie").unwrap().folder(Path::new("/")), None);
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        let says = |text: &str| InputUrl::parse(text).unwrap_err().to_string();
        assert!(says("../site").contains("`path:../site`"));
        assert!(says("git+https://example.org/x").contains("come later"));
        assert!(says("debian:12").contains("`debian:bookworm`"));
        assert!(says("path:").contains("no folder"));
        assert!(says("path:~/site").contains("relative to the project"));
        assert!(says("ftp://x").contains("`ftp`"));
        assert!(says("debian:../x").contains("code name"));
    }
}
