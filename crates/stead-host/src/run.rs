//! Running a program of the server and keeping what it said.
//!
//! Promises that a failure names the command, its exit status and its own last words. Never uses a
//! shell, and never passes on the caller's standard input.

use std::process::{Child, Command, Stdio};

/// A program could not be run, or ended with failure.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot run `{command}`")]
    Start {
        /// The command, for people.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("`{command}` failed ({status}): {output}")]
    Failed {
        /// The command, for people.
        command: String,
        /// Exit status or signal.
        status: String,
        /// The last lines of what it wrote, standard error first.
        output: String,
    },
}

impl RunError {
    /// How a program ended and what it said, without its command.
    pub fn words(&self) -> String {
        match self {
            Self::Start { source, .. } => format!("{self}: {source}"),
            Self::Failed { status, output, .. } => format!("{status}\n{output}"),
        }
    }
}

/// A program that was started and whose end is not awaited yet.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or ends with anything but 0.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, RunError> {
    begin(program, arguments)?.wait()
}

/// Runs a program to its end, which writes where this one does.
///
/// # Errors
/// When it cannot be started or ends with anything but 0.
pub fn run_aloud(program: &str, arguments: &[&str]) -> Result<(), RunError> {
    let command = [&[program], arguments].concat().join(" ");
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let output = "what it said is above".to_owned();
            Err(RunError::Failed { command, status: status.to_string(), output })
        }
        Err(source) => Err(RunError::Start { command, source }),
    }
}

/// Starts a program that writes little.
///
/// # Errors
/// When it cannot be started.
pub fn begin(program: &str, arguments: &[&str]) -> Result<Running, RunError> {
    let command = [&[program], arguments].concat().join(" ");
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C.UTF-8")
        .spawn();
    match child {
        Ok(child) => Ok(Running { child, command }),
        Err(source) => Err(RunError::Start { command, source }),
    }
}

impl Running {
    /// Waits for its end and returns its standard output.
    ///
    /// # Errors
    /// When it ends with anything but 0.
    pub fn wait(self) -> Result<String, RunError> {
        let command = self.command;
        let output = match self.child.wait_with_output() {
            Ok(output) => output,
            Err(source) => return Err(RunError::Start { command, source }),
        };
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let words = if stderr.trim().is_empty() { last_lines(&stdout, 20) } else { last_lines(&stderr, 20) };
        Err(RunError::Failed { command, status: output.status.to_string(), output: words })
    }
}

/// The last `count` lines of a text, trimmed.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let error = run("sh", &["-c", "echo broken >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_missing_program_is_told() {
        assert!(matches!(run("/nonexistent/program", &[]), Err(RunError::Start { .. })));
    }
}
