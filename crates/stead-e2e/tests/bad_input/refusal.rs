//! A command that is refused: its words, and that the server is as it was.

use std::process::Output;
use stead_e2e::lab::Lab;
use stead_e2e::{Outcome, Stage};

/// Pointers, and every unit of Stead's with its state and the moment since when it runs.
pub(crate) fn state(lab: &Lab) -> String {
    lab.run(
        "readlink /run/stead/active /var/lib/stead/confirmed; \
         systemctl list-units --all --plain --no-legend 'stead-*' | cut -d ' ' -f 1 | grep -v -e activation -e recovery | \
         xargs -r systemctl show -p Id -p ActiveState -p ExecMainPID -p ActiveEnterTimestampMonotonic; true",
    )
}

/// [`told`] of a command about the stage's lab, which is as it was before.
#[track_caller]
pub(crate) fn refused(stage: &Stage, code: i32, words: &[&str]) -> String {
    let before = state(&stage.lab);
    let said = told(&stage.stead_in_words(words), code);
    assert_eq!(state(&stage.lab), before, "the server was touched by `{}`: {said}", words.join(" "));
    said
}

/// How a command ended that was not run by the stage.
pub(crate) fn outcome(command: &str, output: &Output) -> Outcome {
    Outcome {
        command: command.to_owned(),
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The error of a command that ended with this code: everything from `error:` on. Panics unless it ends
/// in what the server runs now and what to do.
#[track_caller]
pub(crate) fn told(outcome: &Outcome, code: i32) -> String {
    let outcome = outcome.clone().exits(code);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("error: "));
    let lines = &lines[first.unwrap_or_else(|| panic!("no error\n{outcome}"))..];
    assert_eq!(lines.iter().filter(|line| line.starts_with("error: ")).count(), 1, "one error\n{outcome}");
    let [.., now, hint] = lines else { panic!("no closing lines\n{outcome}") };
    assert!(now.starts_with("  now: ") && hint.starts_with("  do:  "), "no closing lines\n{outcome}");
    lines.join("\n")
}

/// Panics unless all these words are in the error.
#[track_caller]
pub(crate) fn holds(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
}
