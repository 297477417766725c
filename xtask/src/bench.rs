//! The bench: what a deploy costs in a lab, in seconds, bytes, memory and lost requests.
//!
//! Promises numbers, never a verdict: no number fails it. Every scenario runs at least five times unless
//! told otherwise, under load on both sites, beside the floor of the same minutes (a bare login). Uses one
//! lab of its own, gone at the end, and a copy of `examples/two-sites` of its own.

mod figures;
mod floor;
mod http;
mod program;
mod rsync;
mod scenarios;
mod server;
mod table;

use crate::run::{Failure, Result, fail, is_root, step};
use crate::setup;
use crate::workspace::{Metadata, build};
use figures::Scenario;
use program::Program;
use scenarios::Bench;
use std::fs;
use std::path::Path;
use xtask::portfolio;

const LAB: &str = "bench";
/// How often each scenario runs, unless told otherwise.
const RUNS: usize = 5;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    runs: usize,
    scenarios: Vec<Scenario>,
}

/// Measures, prints a table, and writes `target/bench.json`. The program is `STEAD_BIN`, or built here.
pub(crate) fn run(words: &[&str]) -> Result {
    let wanted = wanted(words)?;
    if !is_root() {
        return fail(
            "the bench reads a lab's own accounts: it has to be run by root (sudo --preserve-env cargo xtask bench)",
        );
    }
    let metadata = Metadata::load()?;
    step("setup", setup::system)?;
    let program = match std::env::var_os("STEAD_BIN") {
        // To compare two builds.
        Some(program) => program.into(),
        None => step("build", || build(&metadata, &["--release", "--package", "stead"], "stead"))?,
    };
    let folder = metadata.target_directory.join("bench");
    let project = folder.join("two-sites");
    step("example", || prepare(&metadata.workspace_root.join("examples/two-sites"), &project))?;
    let program = Program::new(program, project, LAB);
    let mut bench = Bench::new(&program, &folder, wanted.runs);
    let result = bench.measure(&wanted.scenarios);
    // Removed however it ended; what failed first is what is told.
    let removed = step("remove the lab", || program.remove_lab());
    let measured = result.and_then(|measured| removed.map(|()| measured))?;

    let numbers = metadata.target_directory.join("bench.json");
    fs::write(&numbers, serde_json::to_string_pretty(&measured.results)? + "\n")?;
    let floors = metadata.target_directory.join("bench-floors.json");
    fs::write(&floors, serde_json::to_string_pretty(&measured.floors)? + "\n")?;
    println!("{}", table::render(&measured));
    eprintln!("written: {}, {}", numbers.display(), floors.display());
    Ok(())
}

/// `--runs=N` and names of scenarios, in any order.
fn wanted(words: &[&str]) -> Result<Wanted> {
    let mut wanted = Wanted { runs: RUNS, scenarios: Vec::new() };
    for word in words {
        if let Some(number) = word.strip_prefix("--runs=") {
            wanted.runs = number
                .parse()
                .ok()
                .filter(|runs| (1..=50).contains(runs))
                .map_or_else(|| fail(format!("`{word}`: a number from 1 to 50 is wanted")), Ok)?;
        } else {
            let known = Scenario::ALL.into_iter().find(|scenario| scenario.name() == *word);
            let names = Scenario::ALL.map(Scenario::name).join(", ");
            wanted.scenarios.push(known.map_or_else(|| fail(format!("no scenario `{word}`, only: {names}")), Ok)?);
        }
    }
    if wanted.scenarios.is_empty() {
        wanted.scenarios = Scenario::ALL.to_vec();
    }
    Ok(wanted)
}

/// The working copy, with the two files that the scenarios change as the example has them.
fn prepare(example: &Path, copy: &Path) -> Result {
    portfolio::prepare(example, copy)?;
    for file in scenarios::CHANGED {
        fs::copy(example.join(file), copy.join(file))?;
    }
    Ok(())
}

/// For messages of the parts below.
fn said(what: &str, output: &std::process::Output) -> Failure {
    let words = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    Failure(format!("{what} failed ({})\n{}", output.status, words.join("\n").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_scenarios_and_the_number_of_runs() {
        let all = wanted(&[]).ok();
        assert_eq!(all, Some(Wanted { runs: 5, scenarios: Scenario::ALL.to_vec() }));
        let some = wanted(&["static", "--runs=7", "up"]).ok();
        assert_eq!(some, Some(Wanted { runs: 7, scenarios: vec![Scenario::Static, Scenario::Up] }));
        for wrong in ["--runs=0", "--runs=x", "statik", "--fast"] {
            assert!(wanted(&[wrong]).is_err(), "{wrong}");
        }
    }
}
