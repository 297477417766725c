//! A lab, a project, and the program between them.

use crate::http::{self, Answer};
use crate::lab::{Lab, Machine};
use crate::outcome::Outcome;
use crate::project::{self, Small};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use xtask::load::{self, Config, Connections, Handle, Target};

/// Commands that are about a server, and take `--lab`.
const ON_A_SERVER: [&str; 13] =
    ["plan", "deploy", "up", "rollback", "status", "history", "logs", "exec", "gc", "pin", "verify", "adopt", "leave"];

/// Commands that have a soak.
const TRIALS: [&str; 4] = ["up", "deploy", "rollback", "leave"];
/// The seconds of it, unless a test says others: the usual five, in each of some two hundred deploys, would be a
/// quarter of an hour.
const SOAK: &str = "2";

/// Everything that an end-to-end test needs. Removed when dropped.
#[derive(Debug)]
pub struct Stage {
    /// The server.
    pub lab: Lab,
    /// The project's folder.
    pub project: PathBuf,
}

impl Stage {
    /// A lab, and an empty folder for a project.
    pub fn new(machine: Machine) -> Self {
        let lab = Lab::up(machine);
        let project = lab.folder().join("project");
        fs::create_dir_all(&project).expect("a folder can be made in target/e2e");
        Self { lab, project }
    }

    /// A lab, and a copy of the real example.
    pub fn with_two_sites(machine: Machine) -> Self {
        let stage = Self::new(machine);
        project::two_sites(&stage.project);
        stage
    }

    /// A lab, and the small project.
    pub fn with_small(small: &Small, machine: Machine) -> Self {
        let stage = Self::new(machine);
        small.write(&stage.project);
        stage
    }

    /// The program with these words, about this project and lab, with `--json`. Not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        self.command_at(&["--lab", self.lab.name()], words)
    }

    /// The same to this `USER@HOST`, which the lab's `ssh_config` has to know.
    pub fn command_to(&self, destination: &str, words: &[&str]) -> Command {
        let mut command = self.command_at(&["--host", destination], words);
        self.know_the_lab(&mut command, &self.lab.folder().join("by-host"));
        command
    }

    fn command_at(&self, place: &[&str], words: &[&str]) -> Command {
        let mut command = self.lab.program();
        command.arg("--json").arg("--project").arg(&self.project);
        let (first, rest) = words.split_first().expect("a command has a word");
        command.arg(first);
        if ON_A_SERVER.contains(first) {
            command.args(place);
        }
        if TRIALS.contains(first) && !rest.iter().any(|word| ["--soak", "--attach"].contains(word)) {
            command.args(["--soak", SOAK]);
        }
        command.args(rest);
        command
    }

    /// Puts an `ssh` before the usual one that has the lab's configuration.
    fn know_the_lab(&self, command: &mut Command, folder: &Path) {
        let programs = folder.join("bin");
        fs::create_dir_all(&programs).expect("a folder can be made in target/e2e");
        let config = self.lab.itself().ssh_config();
        let script = format!("#!/bin/sh\nPATH=${{PATH#*:}} exec ssh -F '{}' \"$@\"\n", config.display());
        let ssh = programs.join("ssh");
        fs::write(&ssh, script).expect("a file can be written");
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("a file can be made a program");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", programs.display()));
    }

    /// The program with these words, and `--json`, as another operator runs it, on a machine that knows nothing of
    /// this one's: they have the project, a way in by ssh, and no registry of anything.
    pub fn elsewhere(&self, words: &[&str]) -> Command {
        let home = self.lab.folder().join("elsewhere");
        let mut command = self.lab.program();
        self.know_the_lab(&mut command, &home);
        command.env("HOME", &home).env("STEAD_STATE", home.join("state")).env("STEAD_CACHE", home.join("cache"));
        command.env("STEAD_DEBIAN_MIRROR", "http://127.0.0.1:9/debian");
        command.arg("--json").arg("--project").arg(&self.project).args(words);
        command.arg("--host").arg(format!("root@{}", self.lab.itself().ssh_host()));
        command
    }

    /// Runs [`Stage::command`] to its end.
    #[track_caller]
    pub fn stead(&self, words: &[&str]) -> Outcome {
        let output = self.command(words).output().expect("the program under test can be run");
        Outcome::new(format!("stead {}", words.join(" ")), &output)
    }

    /// Runs [`Stage::command_to`] to its end, where nobody can be asked anything.
    #[track_caller]
    pub fn stead_to(&self, destination: &str, words: &[&str]) -> Outcome {
        let output = self.command_to(destination, words).output().expect("the program under test can be run");
        Outcome::new(format!("stead {} --host {destination}", words.join(" ")), &output)
    }

    /// The same without `--json`: what a person sees.
    #[track_caller]
    pub fn stead_in_words(&self, words: &[&str]) -> Outcome {
        let mut plain = self.lab.program();
        plain.args(self.command(words).get_args().skip(1));
        let output = plain.output().expect("the program under test can be run");
        Outcome::new(format!("stead {}", words.join(" ")), &output)
    }

    /// What a visitor of port 80 gets; panics when that is no answer at all.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Answer {
        self.get_with(host, path, &[])
    }

    /// [`Stage::get`] with further headers.
    #[track_caller]
    pub fn get_with(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        http::get(self.lab.port(80), host, path, headers)
            .unwrap_or_else(|error| panic!("http://{host}{path} does not answer: {error}"))
    }

    /// Visitors who ask these `(host, path)` in turn, 100 times a second, over kept and fresh
    /// connections, and keep these WebSockets open. Runs already steadily when this returns.
    #[track_caller]
    pub fn visitors(&self, pages: &[(&str, &str)], web_sockets: &[(&str, &str)]) -> Handle {
        self.visitors_at(100, pages, web_sockets)
    }

    /// [`Stage::visitors`] who ask so many times a second.
    #[track_caller]
    pub fn visitors_at(&self, rate: u32, pages: &[(&str, &str)], web_sockets: &[(&str, &str)]) -> Handle {
        let target = |&(host, path): &(&str, &str)| Target {
            address: self.lab.port(80),
            host: host.to_owned(),
            path: path.to_owned(),
        };
        let handle = load::start(Config {
            targets: pages.iter().map(target).collect(),
            rate,
            connections: Connections::Both,
            web_sockets: web_sockets.iter().map(target).collect(),
            limit: Duration::from_secs(300),
        })
        .expect("the lab may be loaded");
        let is_steady = handle.wait_until_steady(Duration::from_secs(20));
        assert!(is_steady, "the sites do not answer their visitors: {:#?}", handle.report());
        handle
    }
}

/// Panics with the failures unless every request was answered and no WebSocket was closed.
#[track_caller]
pub fn nobody_noticed(visitors: Handle) -> load::Report {
    let report = visitors.stop();
    assert!(report.requests > 0, "nobody asked anything");
    assert!(report.lost == 0 && report.web_sockets_closed == 0, "visitors noticed: {report:#?}");
    report
}
