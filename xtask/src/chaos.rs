//! The long run of power cuts: `cargo xtask chaos`. Virtual machines lose their power at random moments
//! of first deploys, deploys and rollbacks, and the result is written into `docs/guarantees-chaos.md`.
//!
//! The same code as the ordinary test's (`stead-e2e/src/power.rs`) does it. Promises to write down what
//! happened, failures too, and to fail when there was one.

mod report;

use crate::run::{Failure, Result, command, fail, is_root, output, step};
use crate::setup;
use crate::workspace::{Metadata, build};
use report::{Cut, Section};
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

/// Where the result is kept.
const PAGE: &str = "docs/guarantees-chaos.md";
/// How many cuts, unless told otherwise.
const CUTS: u32 = 20;
const RELEASES: [&str; 2] = ["bookworm", "trixie"];

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    cuts: u32,
    seed: Option<u64>,
    releases: Vec<&'static str>,
}

/// Cuts the power as often as wanted on each release, and writes what came of it.
pub(crate) fn run(words: &[&str]) -> Result {
    let wanted = wanted(words)?;
    if !is_root() {
        return fail("labs need root: sudo --preserve-env cargo xtask chaos");
    }
    let metadata = Metadata::load()?;
    step("setup", setup::system)?;
    // What is built now is what is told, whatever becomes of the working copy meanwhile.
    let commit = commit(&metadata)?;
    let program = step("build", || build(&metadata, &["--workspace", "--all-targets"], "stead"))?;
    // Beside it, as `--all-targets` builds it. Copies run, so that a later build changes nothing under way.
    let kept = metadata.target_directory.join("chaos");
    fs::create_dir_all(&kept)?;
    let chaos = copied(&program.with_file_name("examples").join("chaos"), &kept)?;
    let program = copied(&program, &kept)?;
    let mut failed = false;
    for release in &wanted.releases {
        let seed = wanted.seed.unwrap_or_else(random);
        let result = metadata.target_directory.join(format!("chaos-{release}.jsonl"));
        let mut run = command(&chaos);
        run.env("STEAD_BIN", &program).args([release, &*wanted.cuts.to_string(), &seed.to_string()]).arg(&result);
        let status = run.status()?;
        let text = fs::read_to_string(&result).map_err(|error| Failure(format!("{}: {error}", result.display())))?;
        let cuts = text.lines().map(serde_json::from_str).collect::<std::result::Result<Vec<Cut>, _>>()?;
        let date = said("date", &["--utc", "+%F"])?;
        let section = Section { release, date: &date, commit: &commit, seed, wanted: wanted.cuts, cuts: &cuts };
        let page = metadata.workspace_root.join(PAGE);
        let old = fs::read_to_string(&page).unwrap_or_default();
        fs::write(&page, report::replace(&old, &section))?;
        failed |= !status.success() || section.failures() > 0;
    }
    eprintln!("written: {PAGE}");
    if failed { fail("not every server came back as promised") } else { Ok(()) }
}

/// A copy of a program in this folder, in place of an earlier one.
fn copied(program: &Path, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join(program.file_name().unwrap_or_default());
    if copy.exists() {
        fs::remove_file(&copy)?;
    }
    fs::copy(program, &copy)?;
    Ok(copy)
}

/// `--cuts=N`, `--seed=N` and names of releases, in any order.
fn wanted(words: &[&str]) -> Result<Wanted> {
    let mut wanted = Wanted { cuts: CUTS, seed: None, releases: Vec::new() };
    for word in words {
        if let Some(number) = word.strip_prefix("--cuts=") {
            let cuts = number.parse().ok().filter(|cuts| (1..=1000).contains(cuts));
            wanted.cuts = cuts.map_or_else(|| fail(format!("`{word}`: a number from 1 to 1000 is wanted")), Ok)?;
        } else if let Some(number) = word.strip_prefix("--seed=") {
            wanted.seed = Some(number.parse().or_else(|_| fail(format!("`{word}`: a number is wanted")))?);
        } else {
            let known = RELEASES.into_iter().find(|release| release == word);
            let names = RELEASES.join(", ");
            wanted.releases.push(known.map_or_else(|| fail(format!("no Debian release `{word}`, only: {names}")), Ok)?);
        }
    }
    if wanted.releases.is_empty() {
        wanted.releases = RELEASES.to_vec();
    }
    Ok(wanted)
}

/// The commit, and whether the working copy is another.
fn commit(metadata: &Metadata) -> Result<String> {
    let git = |words: &[&str]| output(command("git").current_dir(&metadata.workspace_root).args(words));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", &format!(":!{PAGE}")])?;
    Ok(if changed.trim().is_empty() { commit } else { format!("{commit}, and changes") })
}

/// The standard library seeds its hashers at random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn said(program: &str, words: &[&str]) -> Result<String> {
    Ok(output(command(program).args(words))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_releases_cuts_and_the_seed() {
        let all = Wanted { cuts: 20, seed: None, releases: vec!["bookworm", "trixie"] };
        assert_eq!(wanted(&[]).ok(), Some(all));
        let some = Wanted { cuts: 3, seed: Some(7), releases: vec!["trixie"] };
        assert_eq!(wanted(&["trixie", "--seed=7", "--cuts=3"]).ok(), Some(some));
        for wrong in ["--cuts=0", "--cuts=x", "--seed=x", "sid", "--fast"] {
            assert!(wanted(&[wrong]).is_err(), "{wrong}");
        }
    }
}
