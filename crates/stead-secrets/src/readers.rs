//! `secrets/readers.toml`: whose key is whose, and who may read what.
//!
//! ```toml
//! [operators]
//! nick = "ssh-ed25519 AAAA… nick@laptop"
//!
//! [servers]
//! billtracker = "ssh-ed25519 AAAA…"
//!
//! [secrets]
//! secret_key_base = ["operators", "billtracker"]
//! ```
//!
//! The words of a secret are names of operators and servers, or all of them: `operators`, `servers`. Promises that comments and
//! order survive a change by the program, and that every error names its line.

use crate::key::PublicKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use stead_model::name::{Name, SecretName};
use toml_edit::{Array, Document, DocumentMut, Item, Table, Value, value};

/// Its name, in the folder of the secrets.
pub const FILE: &str = "readers.toml";
/// All operators, as one of a secret's words.
pub const OPERATORS: &str = "operators";
/// All servers, as one of a secret's words.
pub const SERVERS: &str = "servers";
const SECRETS: &str = "secrets";

/// Who may read what.
#[derive(Debug, Clone, Default)]
pub struct Readers {
    document: DocumentMut,
    operators: BTreeMap<Name, PublicKey>,
    servers: BTreeMap<Name, PublicKey>,
    secrets: BTreeMap<SecretName, Vec<String>>,
}

/// What is wrong with the file, and in which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secrets/readers.toml:{line}: {problem}")]
pub struct InvalidReaders {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, and what helps.
    pub problem: String,
}

impl Readers {
    /// What the text of the file says.
    ///
    /// # Errors
    /// When it is no TOML, has tables or words that nobody knows, or keys that one cannot encrypt for.
    pub fn parse(text: &str) -> Result<Self, InvalidReaders> {
        let parsed = Document::parse(text.to_owned()).map_err(|error| InvalidReaders {
            line: line_of(text, error.span()),
            problem: error.message().trim().replace('\n', ", "),
        })?;
        let reading = Reading { text };
        let mut readers = Self::default();
        for (name, item) in parsed.iter() {
            let place = item.span();
            match name {
                OPERATORS => readers.operators = reading.keys(name, item)?,
                SERVERS => readers.servers = reading.keys(name, item)?,
                SECRETS => readers.secrets = reading.secrets(item)?,
                other => {
                    let known = "there are `[operators]`, `[servers]` and `[secrets]`";
                    return Err(reading.wrong(place, format!("`{other}` is not a table of this file; {known}")));
                }
            }
        }
        if let Some(name) = readers.operators.keys().find(|name| readers.servers.contains_key(*name)) {
            let place = parsed.get(SERVERS).and_then(|table| table.get(name.as_str())).and_then(Item::span);
            return Err(
                reading.wrong(place, format!("`{name}` is an operator and a server; name one of them otherwise"))
            );
        }
        for (secret, words) in &readers.secrets {
            let place = || parsed.get(SECRETS).and_then(|table| table.get(secret.as_str())).and_then(Item::span);
            if let Some(word) = words.iter().find(|word| !readers.knows(word)) {
                let problem = format!("`{word}` is neither in `[operators]` nor in `[servers]`");
                return Err(reading.wrong(place(), problem));
            }
        }
        readers.document = parsed.into_mut();
        Ok(readers)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// The operators and their keys.
    pub fn operators(&self) -> &BTreeMap<Name, PublicKey> {
        &self.operators
    }

    /// The servers and their host keys.
    pub fn servers(&self) -> &BTreeMap<Name, PublicKey> {
        &self.servers
    }

    /// The secrets, with the words that say who may read each.
    pub fn secrets(&self) -> &BTreeMap<SecretName, Vec<String>> {
        &self.secrets
    }

    /// Whether a word of a secret means somebody.
    pub fn knows(&self, word: &str) -> bool {
        [OPERATORS, SERVERS].contains(&word) || self.operators.contains_key(word) || self.servers.contains_key(word)
    }

    /// Who may read a secret: names and keys. Nobody may read one that is not listed.
    pub fn of(&self, secret: &SecretName) -> BTreeMap<&Name, &PublicKey> {
        let words: BTreeSet<&str> = self.secrets.get(secret).into_iter().flatten().map(String::as_str).collect();
        let meant = |all: &'static str| {
            let words = &words;
            move |(name, _): &(&Name, &PublicKey)| words.contains(all) || words.contains(name.as_str())
        };
        let operators = self.operators.iter().filter(meant(OPERATORS));
        operators.chain(self.servers.iter().filter(meant(SERVERS))).collect()
    }

    /// Sets the host key of a server.
    pub fn set_server(&mut self, server: Name, key: PublicKey) {
        self.set(SERVERS, server.as_str(), value(key.as_str()));
        self.servers.insert(server, key);
    }

    /// Sets the key of an operator.
    pub fn set_operator(&mut self, operator: Name, key: PublicKey) {
        self.set(OPERATORS, operator.as_str(), value(key.as_str()));
        self.operators.insert(operator, key);
    }

    /// Says who may read a secret.
    pub fn set_secret(&mut self, secret: SecretName, words: Vec<String>) {
        self.set(SECRETS, secret.as_str(), Item::Value(Value::Array(words.iter().map(String::as_str).collect())));
        self.secrets.insert(secret, words);
    }

    fn set(&mut self, table: &str, name: &str, item: Item) {
        let table = self.document.entry(table).or_insert_with(|| Item::Table(Table::new()));
        if let Some(table) = table.as_table_like_mut() {
            table.insert(name, item);
        }
    }
}

struct Reading<'a> {
    text: &'a str,
}

impl Reading<'_> {
    fn wrong(&self, place: Option<Range<usize>>, problem: impl Into<String>) -> InvalidReaders {
        InvalidReaders { line: line_of(self.text, place), problem: problem.into() }
    }

    fn table<'i>(&self, name: &str, item: &'i Item) -> Result<&'i dyn toml_edit::TableLike, InvalidReaders> {
        item.as_table_like().ok_or_else(|| self.wrong(item.span(), format!("`{name}` has to be a table")))
    }

    fn keys(&self, kind: &str, item: &Item) -> Result<BTreeMap<Name, PublicKey>, InvalidReaders> {
        let mut keys = BTreeMap::new();
        for (name, item) in self.table(kind, item)?.iter() {
            let wrong = |problem: &dyn fmt::Display| self.wrong(item.span(), format!("{kind}.{name}: {problem}"));
            if [OPERATORS, SERVERS].contains(&name) {
                return Err(wrong(&"this word means all of them; choose another name"));
            }
            let text = item.as_str().ok_or_else(|| wrong(&"a public key, in quotes, is wanted"))?;
            let key = text.parse::<PublicKey>().map_err(|error| wrong(&error))?;
            keys.insert(name.parse().map_err(|error: stead_model::name::InvalidName| wrong(&error))?, key);
        }
        Ok(keys)
    }

    fn secrets(&self, item: &Item) -> Result<BTreeMap<SecretName, Vec<String>>, InvalidReaders> {
        let mut secrets = BTreeMap::new();
        for (name, item) in self.table(SECRETS, item)?.iter() {
            let wrong = |problem: &dyn fmt::Display| self.wrong(item.span(), format!("secrets.{name}: {problem}"));
            let words = item.as_array().and_then(words);
            let words = words
                .ok_or_else(|| wrong(&"a list of readers, such as `[\"operators\", \"billtracker\"]`, is wanted"))?;
            secrets.insert(name.parse().map_err(|error: stead_model::name::InvalidName| wrong(&error))?, words);
        }
        Ok(secrets)
    }
}

fn words(array: &Array) -> Option<Vec<String>> {
    array.iter().map(|word| word.as_str().map(str::to_owned)).collect()
}

fn line_of(text: &str, place: Option<Range<usize>>) -> usize {
    let start = place.map_or(0, |place| place.start.min(text.len()));
    text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB37/0L3dLm5ixQQ4kKKtsMKWvyQKNoUfoq1ibQKhydb";

    fn file(secrets: &str) -> String {
        format!(
            "# whose\n[operators]\nnick = \"{KEY} nick@laptop\"\n\n[servers]\none = \"{KEY}\"\ntwo = \"{KEY}\"\n\n[secrets]\n{secrets}"
        )
    }

    fn names(readers: &Readers, secret: &str) -> Vec<String> {
        readers.of(&secret.parse().expect("a name")).into_keys().map(Name::to_string).collect()
    }

    #[test]
    fn words_mean_one_or_all() {
        let text = file("a = [\"nick\", \"two\"]\nb = [\"servers\"]\nc.d = [\"operators\", \"one\"]\n");
        assert!(Readers::parse(&text).is_err(), "`c.d` is a table");
        let readers =
            Readers::parse(&file("a = [\"nick\", \"two\"]\nb = [\"servers\"]\n\"c.d\" = [\"operators\", \"one\"]\n"));
        let readers = readers.expect("it is well formed");
        assert_eq!(names(&readers, "a"), ["nick", "two"]);
        assert_eq!(names(&readers, "b"), ["one", "two"]);
        assert_eq!(names(&readers, "c.d"), ["nick", "one"]);
        assert!(names(&readers, "unlisted").is_empty());
    }

    #[test]
    fn a_change_keeps_comments_and_says_what_it_said() {
        let mut readers = Readers::parse(&file("a = [\"nick\"] # mine\n")).expect("it is well formed");
        readers.set_secret("x.y".parse().expect("a name"), vec!["operators".to_owned()]);
        readers.set_server("three".parse().expect("a name"), KEY.parse().expect("a key"));
        let text = readers.text();
        assert!(text.contains("# whose") && text.contains("# mine"), "{text}");
        let again = Readers::parse(&text).expect("what is written can be read");
        assert_eq!(names(&again, "x.y"), ["nick"]);
        assert!(again.servers().contains_key("three"));
        let mut first = Readers::default();
        first.set_operator("nick".parse().expect("a name"), KEY.parse().expect("a key"));
        assert!(Readers::parse(&first.text()).expect("it can be read").operators().contains_key("nick"));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let error = |text: &str| Readers::parse(text).expect_err("it is refused").to_string();
        says(&error("[operator]\n"), "secrets/readers.toml:1: `operator` is not a table of this file");
        says(&error("[operators]\nnick = 3\n"), "readers.toml:2: operators.nick: a public key");
        says(&error("[operators]\nnick = \"ecdsa-sha2-nistp256 AAAA\"\n"), "readers.toml:2: operators.nick: `ecdsa");
        says(&error(&file("a = [\"nobody\"]\n")), "readers.toml:10: `nobody` is neither in");
        says(&error(&file("a = \"nick\"\n")), "readers.toml:10: secrets.a: a list of readers");
        says(&error("[operators\n"), "readers.toml:1: ");
        says(&error(&format!("[servers]\nservers = \"{KEY}\"\n")), "readers.toml:2: servers.servers: this word");
    }

    fn says(found: &str, wanted: &str) {
        assert!(found.contains(wanted), "{found:?} does not say {wanted:?}");
    }
}
