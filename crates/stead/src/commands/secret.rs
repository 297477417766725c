//! `stead secret`: values in the repository, encrypted for those who may read them.
//!
//! Promises that a value never is an argument, never reaches a disk in clear (`edit` works in memory), and never stands in an
//! error or in talk; and that a command changes all that it is about, or nothing.

mod import;

use crate::arguments::{Global, Keys, Secret};
use crate::environment;
use crate::failure::{Failure, chain};
use crate::interrupt;
use crate::output::{Output, Paint};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stead_model::name::{Name, SecretName};
use stead_model::secret::{MAX_VALUE, Version};
use stead_secrets::folder::{Held, Secrets};
use stead_secrets::identity::{Asking, Identity};
use stead_secrets::key::{PublicKey, digest};
use stead_secrets::readers::{OPERATORS, Readers, SERVERS};
use stead_secrets::sealed::{self, Head, OpenError};
use zeroize::Zeroizing;

/// A value in clear.
type Value = Zeroizing<Vec<u8>>;

/// Does what is asked with the secrets of the project.
pub(crate) fn secret(global: &Global, command: &Secret, output: &mut Output) -> Result<(), Failure> {
    // Nothing of a value goes into a dump of this process.
    stead_host::memory::dump_nothing();
    let project = Project::open(global, !matches!(command, Secret::List | Secret::Show { .. }))?;
    match command {
        Secret::Set { name, file, readers } => set(&project, name, file.as_deref(), readers, output),
        Secret::Edit { name, keys } => edit(&project, name, keys, output),
        Secret::Show { name, keys } => show(&project, name, keys, output),
        Secret::List => list(&project, output),
        Secret::Rekey { all, keys } => rekey(&project, *all, keys, output),
        Secret::Import { files, dotenv, readers, keys } => {
            import::import(&project, files, *dotenv, readers, keys, output)
        }
    }
}

/// The secrets of a project, which nobody else changes meanwhile.
struct Project {
    /// `None`: it is only read.
    held: Option<Held>,
    secrets: Secrets,
}

fn failed(error: impl std::error::Error + 'static) -> Failure {
    Failure::request(chain(&error))
}

impl Project {
    fn open(global: &Global, to_change: bool) -> Result<Self, Failure> {
        if !global.project.join("stead.ncl").is_file() {
            let place = global.project.display();
            return Err(Failure::request(format!("there is no project in `{place}`: it has no stead.ncl"))
                .hint("go to the project's folder, or name it with `-C`"));
        }
        let held = to_change.then(|| Held::wait(&global.project)).transpose().map_err(failed)?;
        let secrets = Secrets::load(&global.project).map_err(failed)?;
        Ok(Self { held, secrets })
    }

    fn sealed(&self, name: &SecretName) -> Result<&[u8], Failure> {
        let known = || self.secrets.sealed.keys().map(SecretName::as_str);
        self.secrets.sealed.get(name.as_str()).map(Vec::as_slice).ok_or_else(|| {
            if self.secrets.sealed.is_empty() {
                return Failure::request(format!("there is no secret `{name}`: the project has none"))
                    .hint(format!("make it with `stead secret set {name}`"));
            }
            crate::project::unknown("secret", name.as_str(), known())
        })
    }

    /// Writes new values, and who may read them, in one step.
    fn write(&self, readers: &Readers, values: &BTreeMap<SecretName, (Value, Version)>) -> Result<(), Failure> {
        let mut files = BTreeMap::new();
        for (name, (value, version)) in values {
            files.insert(name.clone(), seal(readers, name, value, version)?);
        }
        let changed = (readers.text() != self.secrets.readers.text()).then_some(readers);
        self.replace(changed, &files)
    }

    fn replace(&self, readers: Option<&Readers>, files: &BTreeMap<SecretName, Vec<u8>>) -> Result<(), Failure> {
        match &self.held {
            Some(held) => held.write(readers, files).map_err(failed),
            None => Err(Failure::request("the secrets are only read by this command")),
        }
    }
}

/// Who may read a secret. Says, for a new one, who that is to be, and makes the first operator known.
fn readers_for(
    mut readers: Readers,
    name: &SecretName,
    wanted: &[String],
    output: &Output,
) -> Result<Readers, Failure> {
    if readers.operators().is_empty() {
        let (operator, key, file) = own_key()?;
        output.say(&format!("you are the operator `{operator}` in secrets/readers.toml, with {}", file.display()));
        readers.set_operator(operator, key);
    }
    if let Some(word) = wanted.iter().find(|word| !readers.knows(word)) {
        let known = readers.operators().keys().chain(readers.servers().keys()).map(Name::as_str);
        return Err(crate::project::unknown("reader", word, known.chain([OPERATORS, SERVERS])));
    }
    if !wanted.is_empty() {
        readers.set_secret(name.clone(), wanted.to_vec());
    } else if !readers.secrets().contains_key(name) {
        if readers.servers().len() > 1 {
            let servers: Vec<&str> = readers.servers().keys().map(Name::as_str).collect();
            return Err(Failure::request(format!(
                "secrets/readers.toml does not say who may read `{name}`, and there are several servers: {}",
                servers.join(", ")
            ))
            .hint(format!("say it: `stead secret set {name} --for {OPERATORS} --for {}`", servers[0])));
        }
        readers.set_secret(name.clone(), vec![OPERATORS.to_owned(), SERVERS.to_owned()]);
    }
    if readers.servers().is_empty() {
        output.say("no server is known yet: `stead adopt` learns its host key, then `stead secret rekey` lets it read");
    }
    Ok(readers)
}

fn seal(readers: &Readers, name: &SecretName, value: &[u8], version: &Version) -> Result<Vec<u8>, Failure> {
    let keys: Vec<&PublicKey> = readers.of(name).into_values().collect();
    sealed::seal(value, &keys, version).map_err(|error| {
        Failure::request(format!("the secret `{name}`: {error}"))
            .hint("mend its line below `[secrets]` in secrets/readers.toml, or make the value smaller")
    })
}

fn named(text: &str) -> Result<SecretName, Failure> {
    text.parse().map_err(|error: stead_model::name::InvalidName| Failure::request(error.to_string()))
}

fn new_version() -> Result<Version, Failure> {
    let mut bytes = [0; 16];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Failure::request(format!("/dev/urandom cannot be read: {error}")))?;
    Ok(Version::from_bytes(bytes))
}

/// The operator's own name and public key, where there is none in the project yet.
fn own_key() -> Result<(Name, PublicKey, PathBuf), Failure> {
    let user = environment::user().to_lowercase();
    let name = user.parse().unwrap_or_else(|_| "operator".parse().expect("it is a name"));
    let mut wrong = None;
    for identity in environment::identities() {
        let file = identity.with_extension("pub");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match text.parse() {
            Ok(key) => return Ok((name, key, file)),
            Err(error) => wrong = wrong.or(Some(Failure::request(format!("{}: {error}", file.display())))),
        }
    }
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    Err(Failure::request("secrets/readers.toml names no operator, and you have no SSH key that could be one's").hint(
        "make one with `ssh-keygen -t ed25519`, or write a public key below `[operators]` in secrets/readers.toml",
    ))
}

/// Asks for the passphrase of a key, where somebody can be asked.
fn asking() -> Asking {
    Arc::new(|what| {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        interrupt::while_hidden(|| rpassword::prompt_password(format!("{what}: "))).ok()
    })
}

/// The operator's private keys.
fn identities(keys: &Keys) -> Result<Vec<Identity>, Failure> {
    let asking = asking();
    let mut found = Vec::new();
    let (files, must) = match keys.identities.as_slice() {
        [] => (environment::identities(), false),
        files => (files.to_vec(), true),
    };
    for file in &files {
        match fs::read_to_string(file).map(Zeroizing::new) {
            Ok(text) => match Identity::parse(&text, &file.display().to_string(), &asking) {
                Ok(identity) => found.push(identity),
                Err(error) if must => return Err(failed(error)),
                // A key for something else is no mistake.
                Err(_) => {}
            },
            Err(error) if must => return Err(Failure::request(format!("{}: {error}", file.display()))),
            Err(_) => {}
        }
    }
    if found.is_empty() {
        let places: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(Failure::request(format!(
            "you have no private key that could open secrets: not {}",
            places.join(", not ")
        ))
        .hint("name it with `--identity FILE`, or in STEAD_IDENTITY"));
    }
    Ok(found)
}

fn open(name: &SecretName, sealed: &[u8], identities: &[Identity]) -> Result<Value, Failure> {
    sealed::open(sealed, identities).map_err(|error| {
        let keys: Vec<&str> = identities.iter().map(Identity::origin).collect();
        let hint = match error {
            OpenError::NotForThisKey => {
                "somebody who can open it has to add your key to secrets/readers.toml and run `stead secret rekey`"
            }
            OpenError::Passphrase => "try again, on a terminal",
            _ => "restore the file from version control",
        };
        Failure::request(format!("{} cannot be opened with {}: {error}", Secrets::file(name), keys.join(", ")))
            .hint(hint)
    })
}

fn set(
    project: &Project,
    name: &str,
    file: Option<&Path>,
    wanted: &[String],
    output: &mut Output,
) -> Result<(), Failure> {
    let name = named(name)?;
    // Before anything is asked: a value that was typed is not to be lost over a name.
    let readers = readers_for(project.secrets.readers.clone(), &name, wanted, output)?;
    let value = match file {
        Some(file) => read(fs::File::open(file), &file.display().to_string())?,
        None if std::io::stdin().is_terminal() => typed(&name, output)?,
        None => without_line_break(read(Ok(std::io::stdin()), "standard input")?),
    };
    if value.is_empty() {
        return Err(
            Failure::request(format!("the value of `{name}` is empty")).hint("type it, or send it on standard input")
        );
    }
    let is_new = !project.secrets.sealed.contains_key(name.as_str());
    project.write(&readers, &[(name.clone(), (value, new_version()?))].into())?;
    told(&readers, &name, if is_new { "made" } else { "set" }, output);
    Ok(())
}

fn told(readers: &Readers, name: &SecretName, done: &str, output: &Output) {
    let who: Vec<&str> = readers.of(name).into_keys().map(Name::as_str).collect();
    output.json(&json!({ "secret": name.as_str(), "done": done, "readers": who }));
    output.data(&format!("{done} {}, for {}", Secrets::file(name), who.join(", ")));
}

fn read(file: std::io::Result<impl Read>, what: &str) -> Result<Value, Failure> {
    let wrong = |error: std::io::Error| Failure::request(format!("{what}: {error}"));
    // One buffer that does not grow: a growing one would leave copies of the value behind.
    let mut value = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 1));
    let limit = u64::try_from(MAX_VALUE + 1).unwrap_or(u64::MAX);
    file.map_err(wrong)?.take(limit).read_to_end(&mut value).map_err(wrong)?;
    if value.len() > MAX_VALUE {
        return Err(Failure::request(format!("{what} has more than the {MAX_VALUE} bytes that a secret may have"))
            .hint("keep large files elsewhere, encrypted with a key that is a secret"));
    }
    Ok(value)
}

fn without_line_break(mut value: Value) -> Value {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

fn typed(name: &SecretName, output: &mut Output) -> Result<Value, Failure> {
    output.finish();
    let ask = |words: &str| {
        let text = interrupt::while_hidden(|| rpassword::prompt_password(words));
        text.map(Zeroizing::new).map_err(|error| Failure::request(format!("nothing could be read: {error}")))
    };
    let first = ask(&format!("value of {name}: "))?;
    if *first != *ask("the same again: ")? {
        return Err(Failure::request("the two values are not the same").hint("type it again"));
    }
    Ok(Zeroizing::new(first.as_bytes().to_vec()))
}

fn show(project: &Project, name: &str, keys: &Keys, output: &Output) -> Result<(), Failure> {
    let name = named(name)?;
    let value = open(&name, project.sealed(&name)?, &identities(keys)?)?;
    if output.is_json() {
        let text = std::str::from_utf8(&value)
            .map_err(|_| Failure::request(format!("the value of `{name}` is not text")).hint("leave `--json` away"))?;
        output.json(&json!({ "secret": name.as_str(), "value": text }));
        return Ok(());
    }
    output.bytes(&value).map_err(|error| Failure::request(format!("the value cannot be printed: {error}")))
}

fn edit(project: &Project, name: &str, keys: &Keys, output: &mut Output) -> Result<(), Failure> {
    let name = named(name)?;
    let before = open(&name, project.sealed(&name)?, &identities(keys)?)?;
    let readers = readers_for(project.secrets.readers.clone(), &name, &[], output)?;
    output.finish();
    let mut after = edited(&name, &before)?;
    // Editors end a file with a line break; one that was not there is none of the value's.
    if before.last() != Some(&b'\n') {
        after = without_line_break(after);
    }
    if after.is_empty() {
        return Err(Failure::request(format!("the value of `{name}` would be empty")).hint("the secret is as it was"));
    }
    if after == before {
        output.json(&json!({ "secret": name.as_str(), "done": "unchanged" }));
        output.data(&format!("{} is unchanged", Secrets::file(&name)));
        return Ok(());
    }
    project.write(&readers, &[(name.clone(), (after, new_version()?))].into())?;
    told(&readers, &name, "changed", output);
    Ok(())
}

/// What the operator's editor made of a value, in a folder in memory.
fn edited(name: &SecretName, before: &[u8]) -> Result<Value, Failure> {
    const MEMORY: &str = "/dev/shm";
    let wrong = |error: std::io::Error| {
        Failure::request(format!("the value cannot be edited in memory ({MEMORY}): {error}"))
            .hint("use `stead secret show` and `stead secret set`")
    };
    // Its folder is for the operator alone, and goes with what the editor left in it.
    let folder = tempfile::Builder::new().prefix("stead-secret-").tempdir_in(MEMORY).map_err(wrong)?;
    let file = folder.path().join(name.as_str());
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(&file).and_then(|mut file| file.write_all(before)).map_err(wrong)?;
    let editor = environment::editor();
    // What ends the editor must not end this before the folder is gone; what ends this alone waits until then, and is seen.
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(wrong)?;
    }
    for signal in [SIGHUP, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(wrong)?;
    }
    // As git does: the variable may hold a command with options.
    let status =
        Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(&file).status().map_err(wrong)?;
    if !status.success() {
        return Err(Failure::request(format!("`{editor}` ended with {status}")).hint("the secret is as it was"));
    }
    if ended.load(Ordering::Relaxed) {
        return Err(Failure::request("it was asked to end meanwhile").hint("the secret is as it was"));
    }
    read(fs::File::open(&file), "what was edited")
}

fn head(name: &SecretName, sealed: &[u8]) -> Result<Head, Failure> {
    sealed::head(sealed).map_err(|error| {
        Failure::request(format!("{}: {error}", Secrets::file(name))).hint("restore the file from version control")
    })
}

/// Whether a secret is encrypted for exactly those who may read it; `None`: another program encrypted it, and does not say.
fn is_keyed(readers: &Readers, name: &SecretName, head: &Head) -> Option<bool> {
    head.readers.as_ref().map(|known| *known == digest(readers.of(name).into_values()))
}

fn list(project: &Project, output: &Output) -> Result<(), Failure> {
    let Secrets { readers, sealed } = &project.secrets;
    let mut all = Vec::new();
    for (name, content) in sealed {
        let state = match head(name, content).map(|head| is_keyed(readers, name, &head)) {
            Err(_) => "damaged",
            _ if readers.of(name).is_empty() => "nobody may read it",
            Ok(Some(true)) => "good",
            Ok(Some(false)) => "to be encrypted anew: stead secret rekey",
            Ok(None) => "encrypted by another program",
        };
        all.push((name, state));
    }
    let missing = readers.secrets().keys().filter(|name| !sealed.contains_key(name.as_str()));
    all.extend(missing.map(|name| (name, "has no value yet: stead secret set")));
    all.sort();
    let who = |name: &SecretName| readers.of(name).into_keys().map(Name::as_str).collect::<Vec<_>>();
    let documents: Vec<_> = all
        .iter()
        .map(|(name, state)| json!({ "secret": name.as_str(), "readers": who(name), "state": state }))
        .collect();
    output.json(&documents);
    let width = all.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0);
    for (name, state) in &all {
        let paint = if *state == "good" { Paint::Faint } else { Paint::Changed };
        output.data(&format!("{:width$}  {}  {}", name.as_str(), who(name).join(", "), output.paint(paint, state)));
    }
    if all.is_empty() {
        output.say("the project has no secrets; `stead secret set NAME` makes one");
    }
    Ok(())
}

fn rekey(project: &Project, all: bool, keys: &Keys, output: &Output) -> Result<(), Failure> {
    let Secrets { readers, sealed } = &project.secrets;
    if let Some(name) = sealed.keys().find(|name| readers.of(name).is_empty()) {
        return Err(Failure::request(format!("secrets/readers.toml lets nobody read `{name}`"))
            .hint(format!("name its readers below `[secrets]`, or remove {}", Secrets::file(name))));
    }
    let mut due = BTreeMap::new();
    for (name, content) in sealed {
        let head = head(name, content)?;
        if all || is_keyed(readers, name, &head) != Some(true) {
            due.insert(name, (content, head.version));
        }
    }
    let mut files = BTreeMap::new();
    if !due.is_empty() {
        let identities = identities(keys)?;
        // All are opened before the first one is encrypted: what one cannot open is known before anything changes.
        let values: BTreeMap<&SecretName, (Value, Version)> = due
            .into_iter()
            .map(|(name, (content, version))| Ok((name, (open(name, content, &identities)?, version))))
            .collect::<Result<_, Failure>>()?;
        for (name, (value, version)) in &values {
            files.insert((*name).clone(), seal(readers, name, value, version)?);
        }
        project.replace(None, &files)?;
    }
    let names: Vec<&str> = files.keys().map(SecretName::as_str).collect();
    output.json(&json!({ "rekeyed": names, "unchanged": sealed.len() - names.len() }));
    if names.is_empty() {
        output.data("every secret is encrypted for exactly its readers");
    } else {
        output.data(&format!("encrypted anew: {}", names.join(", ")));
        output.say(
            "values are as they were: whoever could read one before may still know it; `stead secret set` changes it",
        );
    }
    Ok(())
}
