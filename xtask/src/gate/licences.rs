//! Every dependency's licence is one of those that `deny.toml` allows.
//!
//! Looks at the declared SPDX expressions of everything in the lock file, tests and tasks included.

use crate::run::{Failure, Result, fail};
use crate::workspace::{Metadata, Package};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};
use std::fs;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// Licences that a single package may have besides.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: Vec<String>,
}

/// Checks every package of the lock file.
pub(crate) fn check(metadata: &Metadata) -> Result {
    let text = fs::read_to_string(metadata.workspace_root.join("deny.toml"))?;
    let deny: Deny = toml::from_str(&text)?;
    let general = parse(&deny.licenses.allow)?;
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let mut allowed = general.clone();
        for exception in deny.licenses.exceptions.iter().filter(|exception| exception.package == package.name) {
            allowed.extend(parse(&exception.allow)?);
        }
        problems.extend(problem(package, &allowed));
    }
    if problems.is_empty() { Ok(()) } else { fail(problems.join("\n")) }
}

fn parse(names: &[String]) -> Result<Vec<Licensee>> {
    let licensee = |name: &String| {
        Licensee::parse(name).map_err(|error| Failure(format!("deny.toml: `{name}`: {}", error.reason)))
    };
    names.iter().map(licensee).collect()
}

fn problem(package: &Package, allowed: &[Licensee]) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    let Some(text) = &package.license else {
        let file =
            package.license_file.as_ref().map_or("says none".to_owned(), |file| format!("is {}", file.display()));
        return Some(format!("{name}: its licence {file}"));
    };
    // Lax: older packages write `MIT/Apache-2.0`.
    let Ok(expression) = Expression::parse_mode(text, ParseMode::LAX) else {
        return Some(format!("{name}: `{text}` is not a licence expression"));
    };
    let fits = expression.evaluate(|wanted| allowed.iter().any(|licence| licence.satisfies(wanted)));
    (!fits).then(|| format!("{name}: `{text}` is not among the licences that deny.toml allows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_choice_is_enough_and_every_obligation_counts() {
        let allowed: Vec<Licensee> = ["MIT", "Unicode-3.0"].iter().map(|name| Licensee::parse(name).unwrap()).collect();
        let fits = |licence: Option<&str>| {
            let package = Package {
                id: String::new(),
                name: "x".to_owned(),
                version: "1.0.0".to_owned(),
                license: licence.map(str::to_owned),
                license_file: None,
                dependencies: Vec::new(),
            };
            problem(&package, &allowed).is_none()
        };
        assert!(fits(Some("MIT OR GPL-3.0-only")));
        assert!(fits(Some("MIT/Apache-2.0")));
        assert!(fits(Some("(MIT OR Apache-2.0) AND Unicode-3.0")));
        assert!(!fits(Some("MIT AND GPL-3.0-only")));
        assert!(!fits(Some("LGPL-2.1-or-later")));
        assert!(!fits(Some("whatever")));
        assert!(!fits(None));
    }
}
