//! The commands, one file for each that is more than a few lines.

pub(crate) mod adopt;
pub(crate) mod agent;
pub(crate) mod check;
pub(crate) mod deploy;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod lab;
pub(crate) mod leave;
pub(crate) mod plan;
pub(crate) mod secret;
pub(crate) mod update;

use crate::arguments::Arguments;
use crate::failure::{Failure, Runs};
use clap::CommandFactory;
use serde_json::json;

/// A failure as the command's JSON document.
pub(crate) fn failed(failure: &Failure) -> serde_json::Value {
    let runs = match failure.runs {
        Runs::Generation(id) => json!(id),
        Runs::Untouched | Runs::Unknown => serde_json::Value::Null,
    };
    json!({ "error": failure.what, "exit": failure.exit as u8, "runs": runs, "hint": failure.hint })
}

/// Prints the completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Arguments::command(), "stead", &mut std::io::stdout());
}
