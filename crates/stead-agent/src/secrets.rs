//! Secrets: opened with the server's own host keys, and made into files in memory.
//!
//! Promises that all secrets of a generation are opened before the first file is written, that their values are wiped from this
//! process's memory, and that no error, log or file on a disk has one of them. Who is given a file is the units' affair.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stead_host::{memory, users};
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{SecretName, VariableName};
use stead_model::secret::{Content, MAX_VARIABLE, Part, SecretFile, Template, sealed_path};
use stead_secrets::identity::{Asking, Identity};
use stead_secrets::sealed::{self, OpenError};
use stead_store::Store;
use zeroize::Zeroizing;

/// Where sshd keeps the keys of the host (`sshd_config(5)`, HostKey), those first that secrets are usually encrypted for.
const HOST_KEYS: [&str; 2] = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"];

/// Secrets cannot be handed to services. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server has no key that could open anything.
    #[error("the server has no host key that can open secrets: there is no {}", HOST_KEYS.join(" and no "))]
    NoHostKey,
    /// The file of a secret is not where the generation has it.
    #[error("the secret `{name}` is not in the generation")]
    Missing {
        /// The secret.
        name: SecretName,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A secret cannot be opened.
    #[error("the secret `{name}` cannot be opened with the host key of this server: {error}")]
    Closed {
        /// The secret.
        name: SecretName,
        /// Why.
        error: OpenError,
    },
    /// A value cannot stand in an environment variable.
    #[error(
        "{option}.{variable}: the value of the secret `{name}` {problem}, which an environment variable cannot hold; use `credentials`"
    )]
    NotAVariable {
        /// What uses it.
        option: String,
        /// The variable.
        variable: VariableName,
        /// The secret.
        name: SecretName,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The active generation cannot be read.
    #[error("the active generation cannot be read: {0}")]
    Active(String),
    /// A file of secrets cannot be made.
    #[error("secrets cannot be put into memory")]
    Memory(#[from] io::Error),
    /// A service would get more than systemd hands over.
    #[error("{option}: all files together have more than the 1 MiB that systemd hands to a service")]
    TooMuch {
        /// What uses it.
        option: String,
    },
    /// A user that a file belongs to is not there.
    #[error("{option}: there is no user `{user}` on the server")]
    NoUser {
        /// What uses it.
        option: String,
        /// The user.
        user: String,
    },
}

impl Error {
    /// What the operator can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let words = match self {
            Self::NoHostKey => {
                "make one on the server with `ssh-keygen -A`, then run `stead adopt` and `stead secret rekey`"
            }
            Self::Closed { error: OpenError::NotForThisKey, .. } => {
                "was the server made anew? run `stead adopt` to learn its host key, then `stead secret rekey`, and deploy again"
            }
            Self::Closed { .. } => "restore its file from version control, or set it anew with `stead secret set`",
            Self::NotAVariable { .. } => "set it anew with `stead secret set`, or hand it over as a file",
            Self::TooMuch { .. } => "keep large files elsewhere, encrypted with a key that is a secret",
            Self::Memory(_) => "the server has to be able to mount a ramfs: some containers are not allowed to",
            Self::Active(_) | Self::Missing { .. } | Self::NoUser { .. } => return None,
        };
        Some(words.to_owned())
    }

    /// Whether it is the declaration, or a secret of the project, that has to change.
    pub(crate) fn is_of_project(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::NotAVariable { .. } | Self::NoHostKey | Self::TooMuch { .. })
    }
}

/// The bytes of credentials that systemd hands to one service (`CREDENTIALS_TOTAL_SIZE_MAX` of its `src/shared/creds-util.h`).
const MAX_CREDENTIALS: usize = 1 << 20;

/// What goes into the files of a generation, by their names.
type Rendered = BTreeMap<String, (Zeroizing<Vec<u8>>, Option<(u32, u32)>)>;

/// Whether all secrets of a generation, where its files are, can be handed to its services.
///
/// # Errors
/// The first one that cannot.
pub(crate) fn check(generation: &Generation) -> Result<(), Error> {
    if generation.secrets.is_empty() {
        return Ok(());
    }
    memory::dump_nothing();
    memory::ensure(Path::new(layout::SECRETS))?;
    let rendered = rendered(generation)?;
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, file) in &generation.secrets.files {
        // Variables are no credentials; what nginx reads itself is none either.
        let Some((service, _)) = file.option.split_once(".credentials.") else { continue };
        let size = sizes.entry(service).or_default();
        *size += rendered.get(&id.to_string()).map_or(0, |(content, _)| content.len());
        if *size > MAX_CREDENTIALS {
            return Err(Error::TooMuch { option: format!("{service}.credentials") });
        }
    }
    Ok(())
}

/// Makes those files of a generation that are not there. Those of `other` stay, if they are there; all others go.
///
/// What is there under its name is what it has to be: the name says the recipe and the values. So going back needs no key.
///
/// # Errors
/// When a secret cannot be opened: no file was touched then; or when a file cannot be written.
pub(crate) fn reveal(generation: &Generation, other: &Generation) -> Result<(), Error> {
    let _lock = lock()?;
    fill(generation)?;
    let kept: BTreeSet<String> =
        generation.secrets.files.keys().chain(other.secrets.files.keys()).map(ToString::to_string).collect();
    for entry in fs::read_dir(layout::SECRETS).into_iter().flatten() {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !kept.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes what is missing, and removes nothing. The lock is held.
fn fill(generation: &Generation) -> Result<(), Error> {
    let folder = Path::new(layout::SECRETS);
    let is_there = |id: &Hash| memory::is_in_memory(folder) && folder.join(id.to_string()).is_file();
    if generation.secrets.files.keys().all(is_there) {
        return Ok(());
    }
    memory::dump_nothing();
    let rendered = rendered(generation)?;
    memory::ensure(folder)?;
    for (name, (content, owner)) in &rendered {
        memory::write(folder, name, content, *owner)?;
    }
    Ok(())
}

/// One process at a time: a boot's unit may be started again while an activation is under way.
fn lock() -> Result<fs::File, Error> {
    fs::create_dir_all(layout::RUN)?;
    let file = fs::File::create(Path::new(layout::RUN).join("secrets.lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(io::Error::from)?;
    Ok(file)
}

/// Makes the files of the generation that is active: at a boot, when nobody else did. Removes none.
///
/// # Errors
/// When a secret cannot be opened: no file was touched then; or when a file cannot be written.
pub fn reveal_active() -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Active(error.to_string());
    let Some(id) = Store::active(Path::new(layout::RUN)).map_err(|error| failed(&error))? else { return Ok(()) };
    let store = Store::open(Path::new(layout::STATE)).map_err(|error| failed(&error))?;
    let Some(active) = store.generation(&id).map_err(|error| failed(&error))? else { return Ok(()) };
    let _lock = lock()?;
    fill(&active)
}

fn rendered(generation: &Generation) -> Result<Rendered, Error> {
    if generation.secrets.is_empty() {
        return Ok(Rendered::new());
    }
    let folder = Path::new(layout::GENERATIONS).join(generation.id().to_string());
    let values = open_all(generation, &folder, &host_keys()?)?;
    let mut rendered = Rendered::new();
    for (id, file) in &generation.secrets.files {
        let owner = match &file.owner {
            Some(user) => {
                let missing = || Error::NoUser { option: file.option.clone(), user: user.to_string() };
                Some(users::ids(user.as_str()).ok_or_else(missing)?)
            }
            None => None,
        };
        rendered.insert(id.to_string(), (content(file, &values)?, owner));
    }
    Ok(rendered)
}

fn host_keys() -> Result<Vec<Identity>, Error> {
    let nobody: Asking = Arc::new(|_| None);
    let read = |path: &&str| {
        let text = Zeroizing::new(fs::read_to_string(path).ok()?);
        Identity::parse(&text, path, &nobody).ok()
    };
    let keys: Vec<Identity> = HOST_KEYS.iter().filter_map(read).collect();
    if keys.is_empty() { Err(Error::NoHostKey) } else { Ok(keys) }
}

type Values = BTreeMap<SecretName, Zeroizing<Vec<u8>>>;

fn open_all(generation: &Generation, folder: &Path, keys: &[Identity]) -> Result<Values, Error> {
    let mut values = Values::new();
    for name in generation.secrets.versions.keys() {
        let path: PathBuf = folder.join(sealed_path(name));
        let sealed = fs::read(&path).map_err(|error| Error::Missing { name: name.clone(), error })?;
        let value = sealed::open(&sealed, keys).map_err(|error| Error::Closed { name: name.clone(), error })?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

fn content(file: &SecretFile, values: &Values) -> Result<Zeroizing<Vec<u8>>, Error> {
    match &file.content {
        Content::Text(template) => Ok(filled(template, values)),
        Content::Environment(variables) => {
            let mut out = Zeroizing::new(Vec::new());
            for (variable, template) in variables {
                fits_variable(file, variable, template, values)?;
                let line = assignment(variable, &filled(template, values));
                // Grown in one step, so that no half of it is left behind.
                let mut longer = Zeroizing::new(Vec::with_capacity(out.len() + line.len()));
                longer.extend_from_slice(&out);
                longer.extend_from_slice(&line);
                out = longer;
            }
            Ok(out)
        }
    }
}

fn filled(template: &Template, values: &Values) -> Zeroizing<Vec<u8>> {
    let pieces: Vec<&[u8]> = template
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Secret(name) => values.get(name).map_or(&[][..], |value| value),
        })
        .collect();
    let mut out = Zeroizing::new(Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
    pieces.into_iter().for_each(|piece| out.extend_from_slice(piece));
    out
}

/// A value that systemd would drop with a mere warning is refused (`env_value_is_valid` of its `src/basic/env-util.c`).
fn fits_variable(
    file: &SecretFile,
    variable: &VariableName,
    template: &Template,
    values: &Values,
) -> Result<(), Error> {
    let refused = |name: &SecretName, problem| {
        let (option, variable) = (file.option.clone(), variable.clone());
        Err(Error::NotAVariable { option, variable, name: name.clone(), problem })
    };
    let mut size = variable.as_str().len() + 1;
    // Whichever secret is in it: what is refused is refused whole, and nothing of it is shown.
    let Some(any) = template.iter().find_map(Part::secret) else { return Ok(()) };
    for part in template {
        let (name, value) = match part {
            Part::Text(text) => (any, text.as_bytes()),
            Part::Secret(name) => (name, values.get(name).map_or(&[][..], |value| value)),
        };
        size += value.len();
        let Ok(text) = std::str::from_utf8(value) else { return refused(name, "is not UTF-8 text") };
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return refused(name, "has a control character");
        }
        // systemd takes none of Unicode's noncharacters, and says so in the journal, with the value (`utf8.c`).
        let is_none = |c: char| u32::from(c) & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&u32::from(c));
        if text.chars().any(is_none) {
            return refused(name, "has a code point that stands for no character");
        }
    }
    if size > MAX_VARIABLE { refused(any, "is longer than 128 KiB") } else { Ok(()) }
}

/// A line of an environment file (`systemd.exec(5)`, EnvironmentFile=): in double quotes, a backslash takes their meaning from these
/// four characters, and from nothing else.
fn assignment(variable: &VariableName, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(variable.as_str().len() + 2 * value.len() + 4));
    out.extend_from_slice(variable.as_str().as_bytes());
    out.extend_from_slice(b"=\"");
    for byte in value {
        if b"\"\\`$".contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"\"\n");
    out
}

#[cfg(test)]
mod tests;
