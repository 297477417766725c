//! The seam by which a server answers an authority's challenges (RFC 8555, section 8).
//!
//! Promises that a token, which the authority chooses, cannot leave its folder. Never runs a web server.

use crate::disk;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is to be answered to prove that a name is ours.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The name that is proved.
    pub name: &'a str,
    /// Where the authority looks: `/.well-known/acme-challenge/<token>`.
    pub token: &'a str,
    /// What it has to find there.
    pub key_authorization: &'a str,
}

/// Answers challenges of the kind HTTP-01 (section 8.3).
pub trait Challenges: Sync {
    /// Has the answer served from now on. It is served when this returns.
    fn put(&self, answer: &Answer<'_>) -> io::Result<()>;
    /// Serves it no longer. Not there is fine.
    fn remove(&self, token: &str) -> io::Result<()>;
}

/// A folder that a web server serves on port 80, for every name.
#[derive(Debug, Clone)]
pub struct WebRoot(pub PathBuf);

impl WebRoot {
    fn place(&self, token: &str) -> io::Result<PathBuf> {
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if token.is_empty() || token.len() > 200 || !token.chars().all(is_base64) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the authority's token is no Base64"));
        }
        Ok(self.0.join(".well-known/acme-challenge").join(token))
    }
}

impl Challenges for WebRoot {
    fn put(&self, answer: &Answer<'_>) -> io::Result<()> {
        let place = self.place(answer.token)?;
        let folder = place.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(&self.0)?;
        let well_known = self.0.join(".well-known");
        for folder in [&self.0, &well_known, folder] {
            disk::make_folder(folder, 0o755).map_err(|error| error.source)?;
        }
        disk::replace(&place, answer.key_authorization.as_bytes(), 0o644).map_err(|error| error.source)
    }

    fn remove(&self, token: &str) -> io::Result<()> {
        match fs::remove_file(self.place(token)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Answers that are taken away again, whatever happens.
pub(crate) struct Answers<'a> {
    challenges: &'a dyn Challenges,
    tokens: Vec<String>,
}

impl<'a> Answers<'a> {
    pub(crate) fn new(challenges: &'a dyn Challenges) -> Self {
        Self { challenges, tokens: Vec::new() }
    }

    pub(crate) fn put(&mut self, answer: &Answer<'_>) -> io::Result<()> {
        self.tokens.push(answer.token.to_owned());
        self.challenges.put(answer)
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        for token in &self.tokens {
            // What stays is a public token that nobody asks for any more.
            let _ = self.challenges.remove(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_answer_is_readable_for_the_web_server_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let root = WebRoot(folder.path().join("challenges"));
        root.put(&Answer { name: "a.test", token: "abc_-9", key_authorization: "abc_-9.thumb" }).unwrap();
        let place = folder.path().join("challenges/.well-known/acme-challenge/abc_-9");
        assert_eq!(fs::read_to_string(&place).unwrap(), "abc_-9.thumb");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o644);
        root.remove("abc_-9").unwrap();
        assert!(!place.exists());
        root.remove("abc_-9").unwrap();
    }

    #[test]
    fn a_token_cannot_leave_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = WebRoot(folder.path().to_owned());
        for token in ["", "..", "../../etc/passwd", "a/b", ".x", "a b"] {
            assert!(root.put(&Answer { name: "a.test", token, key_authorization: "x" }).is_err(), "{token:?}");
            assert!(root.remove(token).is_err(), "{token:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
