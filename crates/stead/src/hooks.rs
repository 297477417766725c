//! Hooks of the operator's machine: shell commands run in the project's folder around a switch.
//!
//! They are run by the `stead` that began the activation and sees it through, never by `--attach`. What they say goes to standard error, so that
//! data on standard output stays data.

use crate::environment;
use crate::failure::Failure;
use crate::output::Output;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stead_model::activation::Verb;
use stead_model::hash::Hash;
use stead_model::hooks::{Moment, variable};
use stead_model::server::Server;
use stead_remote::message::{Ended, Outcome};

/// What a hook is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) verb: Verb,
    pub(crate) generation: Option<Hash>,
    pub(crate) parent: Option<Hash>,
    pub(crate) ended: Option<&'a Ended>,
}

/// Runs the hook before the switch; its failure stops the deploy.
pub(crate) fn before_switch(server: &Server, root: &Path, told: Told<'_>, output: &Output) -> Result<(), Failure> {
    run(server, root, Moment::BeforeSwitch, told, output).map_err(|words| {
        Failure::before(words).hint("nothing was switched: mend what the hook found, or the hook, and deploy again")
    })
}

/// Runs the hook for how it ended. Its failure is told, and changes nothing.
pub(crate) fn after(server: &Server, root: &Path, told: Told<'_>, output: &Output) {
    let Some(ended) = told.ended else { return };
    let moment = match (ended.outcome, told.verb) {
        (Outcome::Unchanged, _) => return,
        (Outcome::Confirmed, Verb::Deploy) => Moment::AfterConfirm,
        _ => Moment::AfterRollback,
    };
    if let Err(words) = run(server, root, moment, told, output) {
        output.say(&format!("  warning: {words}"));
    }
}

fn run(server: &Server, root: &Path, moment: Moment, told: Told<'_>, output: &Output) -> Result<(), String> {
    let Some(line) = &server.hooks.at(moment).operator else { return Ok(()) };
    output.say(&format!("  running the hook {moment}"));
    let failed = |why: String| format!("the hook {moment} failed on this machine: {why}");
    let talk = std::io::stderr().as_fd().try_clone_to_owned().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new("/bin/sh");
    // A group of its own, so that all of it can be ended.
    command.args(["-c", line]).current_dir(root).stdin(Stdio::null()).stdout(talk).process_group(0);
    for (name, value) in variables(server, moment, told) {
        command.env(name, value);
    }
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let end = Instant::now() + Duration::from_secs(server.hooks.timeout.into());
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(format!("{status}: {line}"))),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                let _ = group.map(|group| kill_process_group(group, Signal::KILL));
                let _ = child.wait();
                return Err(failed(format!("it did not end within {} s: {line}", server.hooks.timeout)));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

fn variables(server: &Server, moment: Moment, told: Told<'_>) -> Vec<(&'static str, String)> {
    let id = |id: Option<Hash>| id.map(|id| id.to_string()).unwrap_or_default();
    let outcome = match told.ended.map(|ended| ended.outcome) {
        Some(Outcome::Confirmed) => "confirmed",
        Some(Outcome::WentBack) => "wentBack",
        Some(Outcome::Stuck) => "stuck",
        Some(Outcome::Unchanged) | None => "",
    };
    let verb = match told.verb {
        Verb::Deploy => "deploy",
        Verb::Rollback => "rollback",
    };
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    vec![
        (variable::HOOK, moment.to_string()),
        (variable::SERVER, server.name.to_string()),
        (variable::GENERATION, id(told.generation)),
        (variable::PARENT, id(told.parent)),
        (variable::ACTIVATION, text(told.ended.and_then(|ended| ended.activation.as_ref()))),
        (variable::VERB, verb.to_owned()),
        (variable::BY, environment::operator()),
        (variable::OUTCOME, outcome.to_owned()),
        (variable::REASON, text(told.ended.and_then(|ended| ended.reason.as_ref()))),
    ]
}
