//! The workspace as cargo sees it: its folder, its crates, what they depend on, what it builds.

use crate::run::{Failure, Result, command, fail, output};
use serde::Deserialize;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `cargo metadata`, as far as the tasks need it.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// Every package, the dependencies' included.
    pub(crate) packages: Vec<Package>,
    /// The identities of the workspace's own packages.
    pub(crate) workspace_members: Vec<String>,
    /// Where the workspace is.
    pub(crate) workspace_root: PathBuf,
    /// Where cargo builds.
    pub(crate) target_directory: PathBuf,
}

/// One package.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// A licence of its own, as a file.
    pub(crate) license_file: Option<PathBuf>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One declared dependency.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev` or `build`; absent for a normal one.
    pub(crate) kind: Option<String>,
}

impl Metadata {
    /// The workspace that this program was built in.
    pub(crate) fn load() -> Result<Self> {
        let mut cargo = cargo();
        cargo.args(["metadata", "--format-version=1", "--locked"]);
        cargo.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        let text = output(&mut cargo)?;
        serde_json::from_str(&text).map_err(Failure::from)
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Programs that only the tasks use: not installed on the machine.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target_directory.join("tools")
    }

    /// `PATH` with [`Metadata::tools`] before everything else.
    pub(crate) fn path_with_tools(&self) -> Result<OsString> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.tools().join("bin")).chain(env::split_paths(&path));
        env::join_paths(folders).map_err(Failure::from)
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> std::process::Command {
    command(PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// Builds with these words, shows cargo's progress, and returns where the program of this name is.
pub(crate) fn build(metadata: &Metadata, words: &[&str], program: &str) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.current_dir(&metadata.workspace_root).args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    cargo.args(words).stderr(std::process::Stdio::inherit());
    let messages = output(&mut cargo)?;
    let found = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()).find_map(|message| {
        let is_it = message.target.is_some_and(|target| target.name == program && target.kind == ["bin"]);
        // The program's own unit tests are an executable of the same target.
        let is_test = message.profile.is_some_and(|profile| profile.test);
        message.executable.filter(|_| is_it && !is_test)
    });
    found.map_or_else(|| fail(format!("cargo built no program `{program}`")), Ok)
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}
