//! The file `stead.lock`.
//!
//! Promises that the same lock is the same text, with one fact a line and each package on a line
//! of its own, so that a diff reads well; and that whoever reads the file sees the old lock or
//! the new one, whole, also after a power cut. Refuses what it does not know or what contradicts
//! itself, with the place. Never repairs or guesses.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stead_model::lock::{FORMAT, Lock, LockedInput, LockedRuntime, RuntimeKey};
use stead_model::path::RelativePath;

/// What [`write()`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The file says something new.
    Changed,
    /// The file said exactly that before, and was not touched.
    Unchanged,
}

/// Reads the lock; `None` if there is no such file.
pub fn read(path: &Path) -> Result<Option<Lock>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => from_text(&text, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Reads a lock from its text; `path` is for the errors only.
pub fn from_text(text: &str, path: &Path) -> Result<Lock, Error> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| syntax(path, text, &error))?;
    match value.get("format").map(|format| (format, format.as_u64())) {
        Some((_, Some(found))) if found == u64::from(FORMAT) => {}
        Some((_, Some(found))) if found > u64::from(FORMAT) => {
            return Err(Error::Newer { path: path.to_owned(), found });
        }
        Some((found, _)) => return Err(Error::Format { path: path.to_owned(), found: found.to_string() }),
        None => return Err(Error::Format { path: path.to_owned(), found: "missing".to_owned() }),
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let lock: Lock = serde_path_to_error::deserialize(&mut reader).map_err(|error| Error::Content {
        path: path.to_owned(),
        place: error.path().to_string(),
        line: error.inner().line(),
        reason: without_place(error.inner()),
    })?;
    consistent(&lock).map_err(|(place, reason)| Error::Contradiction { path: path.to_owned(), place, reason })?;
    Ok(lock)
}

/// The text of a lock, ending in a line break.
pub fn to_text(lock: &Lock) -> String {
    let mut out = Vec::new();
    lock.serialize(&mut Serializer::with_formatter(&mut out, Layout::default()))
        .expect("the model's types always serialise");
    out.push(b'\n');
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Writes the lock, at once or not at all; on return it is on the disk.
pub fn write(path: &Path, lock: &Lock) -> Result<Written, Error> {
    let text = to_text(lock);
    // A link stays one: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(Written::Unchanged);
    }
    replace(&path, text.as_bytes()).map_err(|source| Error::Write { path, source })?;
    Ok(Written::Changed)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = fs::metadata(path).map_or(0o644, |old| old.permissions().mode() & 0o777);
    let mut next = tempfile::Builder::new().prefix(".stead.lock.").tempfile_in(folder)?;
    next.write_all(bytes)?;
    next.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    next.as_file().sync_all()?;
    next.persist(path)?;
    File::open(folder)?.sync_all()
}

/// What the types cannot express. The place is spelt as in the file.
fn consistent(lock: &Lock) -> Result<(), (String, String)> {
    for (name, input) in &lock.inputs {
        let (url, kind) = match input {
            LockedInput::Path { url, .. } => (url, "path"),
            LockedInput::Debian { url, .. } => (url, "debian"),
        };
        if url.split_once(':').is_none_or(|(scheme, _)| scheme != kind) {
            return Err((format!("inputs.{name}.url"), format!("`{url}` is no URL of a {kind} input")));
        }
    }
    lock.runtimes.iter().try_for_each(|(key, runtime)| {
        runtime_is_consistent(lock, key, runtime)
            .map_err(|(field, reason)| (format!("runtimes.\"{key}\".{field}"), reason))
    })
}

fn runtime_is_consistent(lock: &Lock, key: &str, runtime: &LockedRuntime) -> Result<(), (String, String)> {
    let told = RuntimeKey {
        debian: runtime.debian.clone(),
        architecture: runtime.architecture.clone(),
        packages: runtime.requested.clone(),
    };
    if told.to_string() != key {
        return Err(("requested".to_owned(), format!("the runtime says it is `{told}`")));
    }
    if !matches!(lock.inputs.get(&runtime.debian), Some(LockedInput::Debian { .. })) {
        return Err(("debian".to_owned(), format!("the lock has no Debian input `{}`", runtime.debian)));
    }
    if !runtime.packages.is_sorted_by(|a, b| a.name < b.name) {
        return Err(("packages".to_owned(), "the packages are not in order, or one is there twice".to_owned()));
    }
    for package in &runtime.packages {
        let field = |field: &str| format!("packages.{}.{field}", package.name);
        if package.path.parse::<RelativePath>().is_err() {
            return Err((field("path"), format!("`{}` is no path in an archive", package.path)));
        }
        if package.architecture != runtime.architecture && package.architecture != "all" {
            let reason = format!("`{}` does not run on {}", package.architecture, runtime.architecture);
            return Err((field("architecture"), reason));
        }
        if package.version.is_empty() || package.version.contains(char::is_whitespace) {
            return Err((field("version"), format!("`{}` is no version", package.version)));
        }
    }
    Ok(())
}

fn syntax(path: &Path, text: &str, error: &serde_json::Error) -> Error {
    if text.lines().any(|line| line.starts_with("<<<<<<< ")) {
        return Error::Conflict { path: path.to_owned() };
    }
    Error::Syntax { path: path.to_owned(), line: error.line(), column: error.column(), reason: without_place(error) }
}

/// serde_json ends its messages with the place, which our errors tell by themselves.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

/// Containers from this depth on stay on one line: a suite, a package.
const INLINE_FROM: usize = 4;

/// serde_json's pretty layout, but with what is deep on one line.
#[derive(Default)]
struct Layout {
    depth: usize,
    filled: bool,
}

impl Layout {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, mark: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(mark)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, mark: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled && self.depth < INLINE_FROM {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(mark)
    }

    fn next<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match (self.depth > INLINE_FROM, first) {
            (true, true) => Ok(()),
            (true, false) => out.write_all(b", "),
            (false, true) => self.line(out),
            (false, false) => out.write_all(b",").and_then(|()| self.line(out)),
        }
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

/// The lock cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written; the old one is unharmed.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not JSON.
    #[error("`{}`, line {line}, column {column}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// git left both sides of a merge in it.
    #[error("`{}` has the marks of an unfinished merge", path.display())]
    Conflict {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("`{}` is of format {found}, and this program knows none above {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It says no format that ever was.
    #[error("`{}` is no lock of Stead: its `format` is {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// It has a field that is unknown, missing, or of the wrong form.
    #[error("`{}`, line {line}, at `{place}`: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The field, from the top.
        place: String,
        /// Counted from 1: where the surrounding value ends.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Two places of it cannot both be true: somebody changed it by hand.
    #[error("`{}`, at `{place}`: {reason}; the lock was changed by hand", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// The field, from the top.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[cfg(test)]
mod tests;
