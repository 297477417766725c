//! All tests: of every crate, of the documentation, and end to end in labs.
//!
//! Ends with one line, `N passed, N failed, N skipped`. Tests in labs need root: where this is not
//! root, every test runs through sudo.

use crate::run::{Failure, Result, command, fail, is_root, step};
use crate::setup;
use crate::workspace::{Metadata, build, cargo};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// Runs the tests, or those that these filters of nextest choose.
pub(crate) fn run(filters: &[&str]) -> Result {
    let metadata = Metadata::load()?;
    step("setup", setup::run)?;
    // All targets at once, as the tests need them: another set of targets would be other features, and another build.
    let program = step("build", || build(&metadata, &["--workspace", "--all-targets"], "stead"))?;

    let mut nextest = cargo();
    nextest.current_dir(&metadata.workspace_root).env("PATH", metadata.path_with_tools()?).env("STEAD_BIN", &program);
    nextest.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--color=never"]);
    nextest.args(["--status-level=fail", "--final-status-level=fail", "--hide-progress-bar"]).args(filters);
    if !is_root() {
        let triple = host_triple()?.to_uppercase().replace(['-', '.'], "_");
        nextest.env(format!("CARGO_TARGET_{triple}_RUNNER"), "sudo --preserve-env --");
    }
    let (mut count, mut well) = follow(&mut nextest, summary)?;

    if filters.is_empty() {
        let mut examples = cargo();
        examples.current_dir(&metadata.workspace_root).args(["test", "--doc", "--workspace", "--locked", "--quiet"]);
        let (of_docs, docs_well) = follow(&mut examples, doc_summary)?;
        count = count.plus(of_docs);
        well &= docs_well;
    }
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    if well && count.failed == 0 { Ok(()) } else { fail("not all tests passed") }
}

/// Shows what the command says, and adds up the counts that it tells.
fn follow(command: &mut Command, parse: fn(&str) -> Option<Count>) -> Result<(Count, bool)> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let show = |line: &str| match parse(line) {
        Some(count) => count,
        None => {
            if !line.trim().is_empty() && line.trim() != "running 0 tests" {
                eprintln!("{line}");
            }
            Count::default()
        }
    };
    let read = |stream: Box<dyn BufRead>| {
        stream.lines().map_while(std::io::Result::ok).fold(Count::default(), |count, line| count.plus(show(&line)))
    };
    // Two streams, read at once: neither may fill up while the other is read.
    let count = std::thread::scope(|scope| {
        let first = scope.spawn(|| out.map_or_else(Count::default, |out| read(Box::new(BufReader::new(out)))));
        let second = err.map_or_else(Count::default, |err| read(Box::new(BufReader::new(err))));
        first.join().map(|first| first.plus(second))
    });
    let count = count.map_err(|_| Failure("the output of the tests cannot be read".to_owned()))?;
    Ok((count, child.wait()?.success()))
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// nextest's last line: `Summary [ 8.4s] 21 tests run: 19 passed (1 slow), 2 failed, 0 skipped`.
fn summary(line: &str) -> Option<Count> {
    let (_, counts) = line.trim_start().strip_prefix("Summary [")?.split_once("run: ")?;
    Some(counted(counts, ','))
}

/// rustdoc's: `test result: ok. 1 passed; 0 failed; 0 ignored; …`.
fn doc_summary(line: &str) -> Option<Count> {
    Some(counted(line.strip_prefix("test result: ")?.split_once(". ")?.1, ';'))
}

fn counted(text: &str, separator: char) -> Count {
    let of = |wanted: &[&str]| {
        text.split(separator)
            .filter_map(|part| part.trim().split_once(' '))
            .filter(|(_, what)| wanted.iter().any(|word| what.starts_with(word)))
            .filter_map(|(number, _)| number.parse::<u32>().ok())
            .sum()
    };
    Count {
        passed: of(&["passed"]),
        failed: of(&["failed", "timed out", "exec failed"]),
        skipped: of(&["skipped", "ignored"]),
    }
}

fn host_triple() -> Result<String> {
    let text = crate::run::output(command("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| Failure("rustc does not say its host".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_both_kinds_of_tests_are_read() {
        let line = "     Summary [ 112.787s] 21 tests run: 19 passed (1 slow), 2 failed, 3 skipped";
        assert_eq!(summary(line), Some(Count { passed: 19, failed: 2, skipped: 3 }));
        let line = "     Summary [   1.0s] 5/9 tests run: 3 passed, 1 failed, 1 timed out, 0 skipped";
        assert_eq!(summary(line), Some(Count { passed: 3, failed: 2, skipped: 0 }));
        let line = "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(doc_summary(line), Some(Count { passed: 4, failed: 0, skipped: 1 }));
        assert_eq!(summary("        PASS [   0.012s] x"), None);
    }
}
