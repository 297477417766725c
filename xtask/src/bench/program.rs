//! Stead as its users run it: the program, a project, a lab, and the one JSON document of each command.
//!
//! Never looks at what the program says to people, but when it fails.

use super::said;
use crate::run::{Failure, Result, command};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program, with the project and the lab that it is told to use.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    project: PathBuf,
    lab: String,
}

/// The document of `lab up`, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LabDocument {
    pub(crate) address: Option<IpAddr>,
    pub(crate) ssh_config: PathBuf,
}

/// The document of `deploy`, `up` and `rollback`, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeployDocument {
    pub(crate) outcome: String,
    /// Until the program heard that the new generation answers.
    pub(crate) seconds: f64,
    pub(crate) confirmed_seconds: f64,
    pub(crate) bytes_sent: u64,
    pub(crate) agent_peak_kib: u64,
    pub(crate) server_cpu_seconds: f64,
    pub(crate) phases: Vec<(String, f64)>,
}

/// The document of `status`, as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct StatusDocument {
    pub(crate) active: Option<String>,
    pub(crate) confirmed: Option<String>,
}

#[derive(Deserialize)]
struct Document<T> {
    result: T,
}

impl Program {
    pub(crate) fn new(path: PathBuf, project: PathBuf, lab: &str) -> Self {
        Self { path, project, lab: lab.to_owned() }
    }

    pub(crate) fn project(&self) -> &Path {
        &self.project
    }

    pub(crate) fn lab(&self) -> &str {
        &self.lab
    }

    /// A fresh lab; one of that name that is there is removed first.
    pub(crate) fn fresh_lab(&self) -> Result<LabDocument> {
        self.remove_lab()?;
        self.ask(&["lab", "up", &self.lab, "--release", "bookworm"])
    }

    /// Removes the lab; nothing to do when there is none.
    pub(crate) fn remove_lab(&self) -> Result {
        #[derive(Deserialize)]
        struct Known {
            name: String,
        }
        let known: Vec<Known> = self.ask(&["lab", "list"])?;
        if known.iter().any(|lab| lab.name == self.lab) {
            self.ask::<serde_json::Value>(&["lab", "down", &self.lab])?;
        }
        Ok(())
    }

    /// Runs `deploy`, `up` or `rollback` on the lab, to its end.
    pub(crate) fn deploy(&self, verb: &str) -> Result<DeployDocument> {
        self.ask(&[verb, "--lab", &self.lab])
    }

    /// Runs a command about the lab to its end, however it ends.
    pub(crate) fn end(&self, words: &[&str]) -> Result<Output> {
        Ok(self.command(words).args(["--lab", &self.lab]).output()?)
    }

    /// What the server runs, and what it would boot into.
    pub(crate) fn status(&self) -> Result<StatusDocument> {
        self.ask(&["status", "--lab", &self.lab])
    }

    /// Runs a command and reads its document.
    pub(crate) fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let output = self.command(words).output()?;
        let name = format!("`stead {}`", words.join(" "));
        if !output.status.success() {
            return Err(said(&name, &output));
        }
        let document: Document<T> = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failure(format!("{name} printed another document than is known here: {error}")))?;
        Ok(document.result)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut stead = command(&self.path);
        stead.args(["--json", "--quiet", "--project"]).arg(&self.project).args(words);
        stead
    }
}
