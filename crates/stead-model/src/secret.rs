//! Secrets, as far as a declaration and a generation know them: by name, never by value.
//!
//! A generation carries each secret that it uses encrypted, as a file of its own
//! (`secrets/<name>.age`), and says what is made of them on the server: files in memory, each a text with secrets
//! in it. Such a file is known by the hash of its recipe and of its secrets' versions, so that a changed secret
//! is a changed file and thus a changed unit, and one that was encrypted anew is neither.

use crate::hash::Hash;
use crate::name::{SecretName, UserName, VariableName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// In declarations, where a secret's value goes: `/@stead/secrets/<name>/@`.
pub const PLACEHOLDER: &str = "/@stead/secrets/";
/// How a placeholder of a secret ends.
pub const PLACEHOLDER_END: &str = "/@";
/// The largest value of a secret, in bytes: systemd hands a service 1 MiB of credentials in all
/// (`systemd.exec(5)`, "Credentials").
pub const MAX_VALUE: usize = 512 * 1024;
/// The longest value of an environment variable with a secret in it, in bytes, its name included: Linux takes no longer
/// text (`execve(2)`, "Limits on size of arguments and environment").
pub const MAX_VARIABLE: usize = 128 * 1024 - 1;

/// Which value of a secret it is, without telling it: another one after every change, the same
/// after it was encrypted anew. 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The version with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The version of a file that says none, because another program made it: its content's.
    pub fn of_file(sealed: &[u8]) -> Self {
        Self(Hash::of(sealed).to_string()[..32].to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid { Ok(Self(text)) } else { Err("a version of a secret has 32 hexadecimal digits".to_owned()) }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Version({})", self.0)
    }
}

/// A piece of a text with secrets in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// These words.
    Text(String),
    /// The value of this secret.
    Secret(SecretName),
}

/// A text with secrets in it.
pub type Template = Vec<Part>;

/// What a file of secrets holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// This text.
    Text(Template),
    /// Environment variables, as `EnvironmentFile=` of `systemd.exec(5)` reads them.
    Environment(BTreeMap<VariableName, Template>),
}

/// A file that is made of secrets, in memory, on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretFile {
    /// What uses it, as the operator spells it: `apps.web.environment`.
    pub option: String,
    /// What it holds.
    pub content: Content,
    /// Who may read it; `None`: root alone, and whoever systemd hands it to.
    #[serde(default)]
    pub owner: Option<UserName>,
}

/// The secrets of a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Secrets {
    /// Each secret that it uses, and which value of it.
    pub versions: BTreeMap<SecretName, Version>,
    /// The files that are made of them, by [`SecretFile::id`].
    pub files: BTreeMap<Hash, SecretFile>,
}

impl SecretFile {
    /// The secrets in it.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        let templates: Vec<&Template> = match &self.content {
            Content::Text(template) => vec![template],
            Content::Environment(variables) => variables.values().collect(),
        };
        templates.into_iter().flatten().filter_map(Part::secret).collect()
    }

    /// What it is known by, with these versions of its secrets: the same content, the same owner and the same values have
    /// the same one. Which option uses it does not count.
    pub fn id(&self, versions: &BTreeMap<SecretName, Version>) -> Hash {
        let used: BTreeMap<_, _> = self.secrets().into_iter().map(|name| (name, versions.get(name))).collect();
        Hash::of_value("stead secret file 1", &(&self.content, &self.owner, used))
    }
}

impl Part {
    /// The secret that it stands for, if it is one.
    pub fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Text(_) => None,
            Self::Secret(name) => Some(name),
        }
    }
}

impl Secrets {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.files.is_empty()
    }
}

/// The file of a generation that holds a secret encrypted, relative to its folder.
pub fn sealed_path(name: &SecretName) -> String {
    format!("secrets/{name}.age")
}

/// A text with placeholders of secrets in it, in pieces; `None` when it has none.
///
/// # Errors
/// The placeholder that names no secret, cut to 80 characters.
pub fn template(text: &str) -> Result<Option<Template>, String> {
    let mut parts = Template::new();
    let mut rest = text;
    while let Some(start) = rest.find(PLACEHOLDER) {
        let (before, from) = rest.split_at(start);
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let named = &from[PLACEHOLDER.len()..];
        let wrong = || from.chars().take(80).collect::<String>();
        let (name, after) = named.split_once(PLACEHOLDER_END).ok_or_else(wrong)?;
        parts.push(Part::Secret(name.parse().map_err(|_| wrong())?));
        rest = after;
    }
    if parts.is_empty() {
        return Ok(None);
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(Some(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_text_falls_into_words_and_secrets() {
        let text = "postgres://web:/@stead/secrets/db.password/@@/web?x=/@stead/secrets/x/@";
        let parts = template(text).expect("it is well formed").expect("it has secrets");
        let words = |text: &str| Part::Text(text.to_owned());
        let wanted = vec![
            words("postgres://web:"),
            Part::Secret(name("db.password")),
            words("@/web?x="),
            Part::Secret(name("x")),
        ];
        assert_eq!(parts, wanted);
        assert_eq!(template("no secret"), Ok(None));
        for text in ["/@stead/secrets/x", "/@stead/secrets//@", "/@stead/secrets/a b/@"] {
            assert!(template(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_values_and_not_by_how_they_are_encrypted() {
        let file = |option: &str| SecretFile {
            option: option.to_owned(),
            content: Content::Text(vec![Part::Secret(name("a"))]),
            owner: None,
        };
        let version = |byte| Version::from_bytes([byte; 16]);
        let versions = |a, b| BTreeMap::from([(name("a"), version(a)), (name("b"), version(b))]);
        assert_eq!(file("one").id(&versions(1, 1)), file("two").id(&versions(1, 2)));
        assert_ne!(file("one").id(&versions(1, 1)), file("one").id(&versions(2, 1)));
        let owned = SecretFile { owner: Some("www-data".parse().expect("a name")), ..file("one") };
        assert_ne!(file("one").id(&versions(1, 1)), owned.id(&versions(1, 1)));
    }
}
