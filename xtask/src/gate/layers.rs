//! The promises of the crate graph: what each crate may stand on.
//!
//! Planning cannot touch a file, a clock or a process; only `stead-store`, `stead-host` and, for certificates,
//! `stead-acme` can change a server; only the program knows the terminal. A new crate needs a row here.

use crate::run::{Result, fail};
use crate::workspace::Metadata;

/// Which of the workspace's crates each one may depend on, tests apart.
const LAYERS: [(&str, &[&str]); 16] = [
    ("stead-model", &[]),
    ("stead-plan", &["stead-model"]),
    ("stead-engine", &["stead-model", "stead-plan"]),
    ("stead-config", &["stead-model"]),
    ("stead-debian", &["stead-model"]),
    ("stead-inputs", &["stead-model", "stead-debian"]),
    ("stead-build", &["stead-model", "stead-inputs", "stead-debian"]),
    ("stead-store", &["stead-model"]),
    ("stead-host", &["stead-model"]),
    ("stead-acme", &["stead-model"]),
    ("stead-secrets", &["stead-model"]),
    ("stead-remote", &["stead-model", "stead-store"]),
    ("stead-lab", &["stead-model"]),
    (
        "stead-agent",
        &[
            "stead-model",
            "stead-plan",
            "stead-engine",
            "stead-store",
            "stead-host",
            "stead-debian",
            "stead-remote",
            "stead-acme",
            "stead-secrets",
        ],
    ),
    ("stead-e2e", &["stead-model", "stead-lab", "xtask"]),
    ("xtask", &["stead-model", "stead-lab"]),
];

/// The program, which may know everything but the tests' own crates.
const PROGRAM: &str = "stead";

/// Crates that stay pure, and libraries that would let them reach the world.
const PURE: [&str; 3] = ["stead-model", "stead-plan", "stead-engine"];
const WORLDLY: [&str; 9] = ["rustix", "libc", "nix", "tempfile", "walkdir", "ignore", "tar", "ureq", "signal-hook"];

/// Libraries of the terminal, for the program only.
const TERMINAL: [&str; 6] = ["anstream", "clap", "comfy-table", "indicatif", "owo-colors", "clap_complete"];

/// Checks every crate of the workspace.
pub(crate) fn check(metadata: &Metadata) -> Result {
    let problems: Vec<String> = metadata
        .members()
        .flat_map(|package| {
            let normal = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
            let names: Vec<&str> = normal.map(|dependency| dependency.name.as_str()).collect();
            problems(&package.name, &names)
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { fail(problems.join("\n")) }
}

fn problems(package: &str, dependencies: &[&str]) -> Vec<String> {
    let ours = |name: &str| name == PROGRAM || LAYERS.iter().any(|(known, _)| *known == name);
    if package == PROGRAM {
        let wrong = dependencies.iter().filter(|name| ["xtask", "stead-e2e", "stead-testkit"].contains(name));
        return wrong.map(|name| format!("{package} must not depend on {name}, which is for tests")).collect();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package) else {
        return vec![format!("{package} has no row in the table of layers (xtask/src/gate/layers.rs)")];
    };
    let mut found = Vec::new();
    for name in dependencies {
        if (ours(name) || name.starts_with("stead-")) && !allowed.contains(name) {
            found.push(format!("{package} must not depend on {name}"));
        }
        if PURE.contains(&package) && WORLDLY.contains(name) {
            found.push(format!("{package} is pure and must not depend on {name}"));
        }
        if TERMINAL.contains(name) && package != "xtask" {
            found.push(format!("{package} must not depend on {name}: only the program knows the terminal"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planning_stays_pure_and_only_the_program_knows_the_terminal() {
        assert!(problems("stead-plan", &["stead-model", "serde"]).is_empty());
        assert_eq!(problems("stead-plan", &["stead-host"]), ["stead-plan must not depend on stead-host"]);
        assert_eq!(problems("stead-plan", &["rustix"]).len(), 1);
        assert_eq!(problems("stead-inputs", &["indicatif"]).len(), 1);
        assert!(problems("stead", &["indicatif", "stead-host"]).is_empty());
        assert_eq!(problems("stead", &["xtask"]).len(), 1);
        assert_eq!(problems("stead-new", &[]).len(), 1, "a new crate needs a row");
    }
}
