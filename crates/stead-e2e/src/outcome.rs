//! How a command of the program ended.

use serde_json::Value;
use std::fmt;
use std::process::Output;

/// Exit code and words of one command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was asked.
    pub command: String,
    /// The exit code; -1: it was ended by a signal.
    pub status: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Outcome {
    /// Of a command that has ended.
    pub fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics with everything that was said unless it ended with this code.
    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert!(self.status == status, "expected exit code {status}\n{self}");
        self
    }

    /// [`Outcome::exits`] with 0.
    #[track_caller]
    pub fn well(self) -> Self {
        self.exits(0)
    }

    /// The `result` of the one document that `--json` prints.
    #[track_caller]
    pub fn json(&self) -> Value {
        let document: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one JSON document ({error}):\n{self}"));
        document.get("result").cloned().unwrap_or_else(|| panic!("a document without a result:\n{self}"))
    }

    /// One field of [`Outcome::json`], as text.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        let document = self.json();
        document[field].as_str().unwrap_or_else(|| panic!("`{field}` is not a text:\n{self}")).to_owned()
    }

    /// Panics unless the talk holds this.
    #[track_caller]
    pub fn tells(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "the words {words:?} are missing\n{self}");
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "$ {}\nexit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}
