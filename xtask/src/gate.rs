//! What every change has to pass besides the tests: format, lints, documentation, and the house's own rules.
//!
//! Quick checks come first. All of them are done, so that one run tells everything.

mod files;
mod layers;
mod licences;

use crate::run::{Failure, Result, command, fail, output, step};
use crate::setup;
use crate::workspace::{Metadata, cargo};

/// Runs these checks, or all; fails with the names of those that failed.
pub(crate) fn run(only: &[&str]) -> Result {
    step("setup", setup::system)?;
    components()?;
    let metadata = Metadata::load()?;
    let cargo = |words: &[&str]| {
        let mut cargo = cargo();
        cargo.current_dir(&metadata.workspace_root).args(words);
        cargo
    };
    type Check<'a> = (&'a str, Box<dyn FnOnce() -> Result + 'a>);
    let checks: Vec<Check> = vec![
        ("format", Box::new(|| output(&mut cargo(&["fmt", "--all", "--check"])).map(drop))),
        ("files", Box::new(|| files::check(&metadata))),
        ("layers", Box::new(|| layers::check(&metadata))),
        ("licences", Box::new(|| licences::check(&metadata))),
        (
            "lints",
            Box::new(|| {
                let words = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
                output(&mut cargo(&words)).map(drop)
            }),
        ),
        (
            "documentation",
            Box::new(|| {
                let words = ["doc", "--quiet", "--locked", "--workspace", "--no-deps"];
                output(cargo(&words).env("RUSTDOCFLAGS", "-D warnings")).map(drop)
            }),
        ),
    ];
    if let Some(unknown) = only.iter().find(|wanted| !checks.iter().any(|(name, _)| name == *wanted)) {
        let names: Vec<&str> = checks.iter().map(|(name, _)| *name).collect();
        return fail(format!("there is no check `{unknown}`; there are: {}", names.join(", ")));
    }
    let mut failed = Vec::new();
    for (name, check) in checks.into_iter().filter(|(name, _)| only.is_empty() || only.contains(name)) {
        if let Err(Failure(text)) = step(name, check) {
            eprintln!("{text}\n");
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { fail(format!("the gate is closed: {}", failed.join(", "))) }
}

/// rustfmt and clippy, where the toolchain came without them.
fn components() -> Result {
    for (program, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if output(cargo().args([program, "--version"])).is_err() {
            eprintln!("adding to the Rust toolchain: {component}");
            output(command("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}
