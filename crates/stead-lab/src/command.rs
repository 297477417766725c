//! Running the programs that this crate stands on, and telling their errors.
//!
//! Never passes anything through a shell.

use crate::error::{Error, io_error};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program to its end and returns what it wrote to standard output.
pub(crate) fn run<I>(program: &str, arguments: I) -> Result<String, Error>
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let arguments: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let output = Command::new(program)
        .args(&arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("run", program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command {
        command: format!("{program} {}", words.join(" ")),
        stderr: if said.is_empty() { output.status.to_string() } else { said },
    })
}

/// Fails with what to install when the program is in none of the usual folders.
pub(crate) fn require(program: &'static str, package: &'static str) -> Result<(), Error> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    if folders.iter().any(|folder| Path::new(folder).join(program).is_file()) {
        Ok(())
    } else {
        Err(Error::Missing { program, package })
    }
}

/// The last lines of a text, for an error.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
