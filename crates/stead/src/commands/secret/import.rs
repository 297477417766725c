//! `stead secret import`: secrets from elsewhere, all of them or none.

use super::{Project, Value, identities, named, new_version, open, read, readers_for};
use crate::arguments::Keys;
use crate::failure::Failure;
use crate::output::Output;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use stead_model::name::SecretName;
use stead_model::secret::Version;
use stead_secrets::folder::Secrets;
use zeroize::Zeroizing;

/// Takes over what these files hold.
pub(super) fn import(
    project: &Project,
    files: &[PathBuf],
    dotenv: bool,
    wanted: &[String],
    keys: &Keys,
    output: &Output,
) -> Result<(), Failure> {
    let mut found: BTreeMap<SecretName, Value> = BTreeMap::new();
    let mut opened = None;
    for file in files {
        let content = read(fs::File::open(file), &file.display().to_string())?;
        let of_file = if dotenv {
            variables(file, &content)?
        } else {
            let name = named(&file.file_stem().unwrap_or_default().to_string_lossy())?;
            let value = if file.extension().is_some_and(|end| end == "age") {
                if opened.is_none() {
                    opened = Some(identities(keys)?);
                }
                open(&name, &content, opened.as_deref().unwrap_or_default())?
            } else {
                content
            };
            vec![(name, value)]
        };
        for (name, value) in of_file {
            if project.secrets.sealed.contains_key(name.as_str()) || found.contains_key(name.as_str()) {
                return Err(Failure::request(format!("there is a secret `{name}` already; nothing was taken over"))
                    .hint(format!("remove {} first, or use `stead secret set {name}`", Secrets::file(&name))));
            }
            found.insert(name, value);
        }
    }
    let mut readers = project.secrets.readers.clone();
    for name in found.keys() {
        readers = readers_for(readers, name, wanted, output)?;
    }
    let values: BTreeMap<SecretName, (Value, Version)> =
        found.into_iter().map(|(name, value)| Ok((name, (value, new_version()?)))).collect::<Result<_, Failure>>()?;
    project.write(&readers, &values)?;
    let names: Vec<&str> = values.keys().map(SecretName::as_str).collect();
    output.json(&json!({ "imported": names }));
    output.data(&format!("taken over: {}", names.join(", ")));
    output.say("the files that they came from are as they were: remove those that hold values in clear");
    Ok(())
}

/// The variables of a file of lines `NAME=VALUE`, as shells and most frameworks read them: `#` begins a comment (after a space), `export`
/// may stand before, and quotes around a value are not part of it; in double ones a backslash means what it means in most languages.
fn variables(file: &Path, content: &[u8]) -> Result<Vec<(SecretName, Value)>, Failure> {
    let text =
        std::str::from_utf8(content).map_err(|_| Failure::request(format!("{}: it is not text", file.display())))?;
    let mut found: Vec<(SecretName, Value)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Nothing of the line is repeated: it may be half of a value.
        let wrong = |problem: &str| Failure::request(format!("{}:{}: {problem}", file.display(), number + 1));
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("`NAME=VALUE` is wanted"))?;
        let name: SecretName =
            name.trim().parse().map_err(|_| wrong("what stands before `=` is not the name of a secret"))?;
        let value = unquoted(value.trim())
            .ok_or_else(|| wrong("a quote is not closed in its line, or something follows it"))?;
        if value.is_empty() {
            return Err(wrong("the value is empty"));
        }
        if found.iter().any(|(known, _)| *known == name) {
            return Err(wrong(&format!("`{name}` is there twice")));
        }
        found.push((name, value));
    }
    Ok(found)
}

/// A value without its quotes and what follows it; `None`: they do not match.
fn unquoted(text: &str) -> Option<Value> {
    let is_rest = |rest: &str| rest.trim().is_empty() || rest.trim_start().starts_with('#');
    let mut value = Zeroizing::new(Vec::with_capacity(text.len()));
    match text.chars().next() {
        Some('\'') => {
            let (inside, rest) = text[1..].split_once('\'')?;
            value.extend_from_slice(inside.as_bytes());
            is_rest(rest).then_some(value)
        }
        Some('"') => {
            let mut characters = text.char_indices().skip(1);
            while let Some((place, c)) = characters.next() {
                let c = match c {
                    '"' => return is_rest(&text[place + 1..]).then_some(value),
                    '\\' => match characters.next()?.1 {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        other => other,
                    },
                    c => c,
                };
                value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None
        }
        _ => {
            let end = text.find(" #").unwrap_or(text.len());
            value.extend_from_slice(text[..end].trim_end().as_bytes());
            Some(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_shells_do() {
        let text = "# a comment\nexport A=1 # one\n\nB=\"two \\\"words\\\"\\n\" \nC='x=y # z' # three\nexport\tD=a#b\n";
        let found = variables(Path::new(".env"), text.as_bytes()).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap())).collect();
        assert_eq!(found, [("A", "1"), ("B", "two \"words\"\n"), ("C", "x=y # z"), ("D", "a#b")]);
    }

    #[test]
    fn a_line_that_is_wrong_has_its_number_and_is_not_shown() {
        for (text, problem) in [
            ("A=1\nhidden words\n", "NAME=VALUE"),
            ("A=1\nhidden words=2\n", "not the name"),
            ("A=1\nB=\"hidden\n", "not closed"),
            ("A=1\nB='hidden' words\n", "not closed"),
            ("A=1\nA=hidden\n", "`A` is there twice"),
            ("A=1\nB=\n", "is empty"),
        ] {
            let error = variables(Path::new(".env"), text.as_bytes()).unwrap_err();
            assert!(error.what.contains(".env:2") && error.what.contains(problem), "{}", error.what);
            assert!(!error.what.contains("hidden"), "{}", error.what);
        }
    }
}
