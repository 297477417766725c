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

/// The variables of a file of lines `NAME=VALUE`, as shells and most frameworks read them: `#` begins a comment, `export` may
/// stand before, and quotes around a value are not part of it.
fn variables(file: &Path, content: &[u8]) -> Result<Vec<(SecretName, Value)>, Failure> {
    let wrong = |line: usize, problem: &str| Failure::request(format!("{}:{line}: {problem}", file.display()));
    let text = std::str::from_utf8(content).map_err(|_| wrong(1, "it is not text"))?;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong(number + 1, "`NAME=VALUE` is wanted"))?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        found.push((named(name.trim())?, Zeroizing::new(quoted.unwrap_or(value).as_bytes().to_vec())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_shells_do() {
        let text = "# a comment\nexport A=1\n\nB=\"two words\" \nC='x=y'\nD=\n";
        let found = variables(Path::new(".env"), text.as_bytes()).unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap())).collect();
        assert_eq!(found, [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")]);
        let error = variables(Path::new(".env"), b"A=1\nsecret words\n").unwrap_err();
        assert!(error.what.contains(".env:2") && !error.what.contains("secret words"), "{}", error.what);
    }
}
