//! The bench: what a deploy costs in a lab, in seconds, bytes, memory and lost requests.
//!
//! Promises numbers, never a verdict: no number fails it. Every scenario runs at least five times unless
//! told otherwise, under load on both sites, beside the floor of the same minutes (a bare login); those of `trust`, three
//! times, under the load of a busy server. Uses one lab of its own, gone at the end, and a copy of `examples/two-sites`
//! of its own.

mod figures;
mod floor;
mod handshake;
mod http;
mod program;
mod rsync;
mod scenarios;
mod server;
mod table;
mod trust;
mod visits;

use crate::run::{Failure, Result, fail, is_root, step};
use crate::setup;
use crate::workspace::{Metadata, build};
use figures::Scenario;
use program::Program;
use scenarios::Bench;
use serde::Serialize;
use std::fs;
use std::path::Path;
use trust::Trust;
use xtask::portfolio;

const LAB: &str = "bench";
/// How often each scenario runs, unless told otherwise.
const RUNS: usize = 5;
/// The same for those of `trust`, which take as long as connections drain.
const TRUST_RUNS: usize = 3;
/// Names all of [`Trust`].
const TRUST: &str = "trust";

/// Names [`handshake`].
const HANDSHAKE: &str = "handshake";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    runs: Option<usize>,
    scenarios: Vec<Scenario>,
    trust: Vec<Trust>,
    handshake: bool,
}

/// Measures, prints tables, and writes `target/bench.json`, `target/bench-trust.json` and `target/bench-handshake.json`. The program is `STEAD_BIN`, or built here.
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
    let mut bench = Bench::new(&program, &folder, wanted.runs.unwrap_or(RUNS));
    let result = measure(&mut bench, &wanted, &metadata.target_directory);
    // Removed however it ended; what failed first is what is told.
    let removed = step("remove the lab", || program.remove_lab());
    result.and(removed)
}

/// Tells and writes what is known as soon as it is known.
fn measure(bench: &mut Bench<'_>, wanted: &Wanted, target: &Path) -> Result {
    let mut server = bench.begin()?;
    if !wanted.scenarios.is_empty() {
        let measured = bench.measure(&mut server, &wanted.scenarios)?;
        write(&target.join("bench.json"), &measured.results)?;
        write(&target.join("bench-floors.json"), &measured.floors)?;
        println!("{}", table::render(&measured));
    }
    if wanted.handshake {
        let measured =
            step("handshakes", || handshake::measure(bench.program(), &server, wanted.runs.unwrap_or(RUNS)))?;
        write(&target.join("bench-handshake.json"), &measured)?;
        println!("{}", table::render_handshakes(&measured));
    }
    if wanted.trust.is_empty() {
        return Ok(());
    }
    let mut results = Vec::new();
    let ended = trust::measure(bench, &server, &wanted.trust, wanted.runs.unwrap_or(TRUST_RUNS), &mut results);
    write(&target.join("bench-trust.json"), &results)?;
    println!("{}", table::render_trust(&results));
    ended
}

fn write(file: &Path, numbers: &impl Serialize) -> Result {
    fs::write(file, serde_json::to_string_pretty(numbers)? + "\n")?;
    eprintln!("written: {}", file.display());
    Ok(())
}

/// `--runs=N` and names of scenarios, in any order.
fn wanted(words: &[&str]) -> Result<Wanted> {
    let mut wanted = Wanted { runs: None, scenarios: Vec::new(), trust: Vec::new(), handshake: false };
    for word in words {
        if let Some(number) = word.strip_prefix("--runs=") {
            let runs = number.parse().ok().filter(|runs| (1..=50).contains(runs));
            wanted.runs = Some(runs.map_or_else(|| fail(format!("`{word}`: a number from 1 to 50 is wanted")), Ok)?);
        } else if let Some(scenario) = Scenario::ALL.into_iter().find(|scenario| scenario.name() == *word) {
            wanted.scenarios.push(scenario);
        } else if let Some(trust) = Trust::ALL.into_iter().find(|trust| trust.name() == *word) {
            wanted.trust.push(trust);
        } else if *word == HANDSHAKE {
            wanted.handshake = true;
        } else if *word == TRUST {
            wanted.trust = Trust::ALL.to_vec();
        } else {
            let names: Vec<&str> =
                Scenario::ALL.map(Scenario::name).into_iter().chain(Trust::ALL.map(Trust::name)).collect();
            return fail(format!(
                "no scenario `{word}`, only: {}; `{TRUST}`: the last four; and `{HANDSHAKE}`",
                names.join(", ")
            ));
        }
    }
    if wanted.scenarios.is_empty() && wanted.trust.is_empty() && !wanted.handshake {
        wanted.scenarios = Scenario::ALL.to_vec();
        wanted.trust = Trust::ALL.to_vec();
        wanted.handshake = true;
    }
    Ok(wanted)
}

/// The working copy, with the files that the scenarios change as the example has them.
fn prepare(example: &Path, copy: &Path) -> Result {
    portfolio::prepare(example, copy)?;
    // In clear: no authority of the world certifies a lab, and what is compared with speaks no TLS either.
    fs::write(copy.join("modules/https.ncl"), "{}\n")?;
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
        let (scenarios, trust) = (Scenario::ALL.to_vec(), Trust::ALL.to_vec());
        let all = Wanted { runs: None, scenarios, trust, handshake: true };
        assert_eq!(wanted(&[]).ok(), Some(all));
        let some = wanted(&["static", "--runs=7", "up"]).ok();
        let scenarios = vec![Scenario::Static, Scenario::Up];
        assert_eq!(some, Some(Wanted { runs: Some(7), scenarios, trust: Vec::new(), handshake: false }));
        let trust = |words: &[&str]| wanted(words).map(|wanted| (wanted.scenarios.len(), wanted.trust)).ok();
        assert_eq!(trust(&["trust"]), Some((0, Trust::ALL.to_vec())));
        assert_eq!(trust(&["late", "app"]), Some((1, vec![Trust::Late])));
        for wrong in ["--runs=0", "--runs=x", "statik", "--fast"] {
            assert!(wanted(&[wrong]).is_err(), "{wrong}");
        }
    }
}
