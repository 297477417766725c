//! Running a hook on the server: a shell command of the operator's, as a service of its own.
//!
//! It runs as root in the server's own file system, is ended when its time is over, and its words are in the
//! journal. What it is told is in its environment (`stead_model::hooks::variable`).

use stead_host::systemd;
use stead_model::activation::{Phase, Record, Verb};
use stead_model::hooks::{Moment, ServerHooks, variable};
use stead_model::name::Name;

/// Runs the hook of this moment, if there is one, and waits for it; the error has its last words.
pub(crate) fn run(hooks: &ServerHooks, moment: Moment, server: &Name, record: &Record) -> Result<(), String> {
    let Some(command) = hooks.commands.get(&moment) else { return Ok(()) };
    let unit = format!("stead-hook-{moment}-{}.service", record.id);
    let unit = unit.parse().map_err(|error: stead_model::name::InvalidName| error.to_string())?;
    let variables = variables(moment, server, record);
    systemd::run_transient(&unit, &["/bin/sh", "-c", command], &variables, hooks.timeout.max(1))
        .map_err(|error| format!("the hook {moment} failed: {}", error.words()))
}

/// The moment that an ended activation is.
pub(crate) fn moment(record: &Record) -> Moment {
    match (record.phase, record.verb) {
        (Phase::Done, Verb::Deploy) => Moment::AfterConfirm,
        _ => Moment::AfterRollback,
    }
}

fn variables(moment: Moment, server: &Name, record: &Record) -> Vec<(&'static str, String)> {
    let outcome = match record.phase {
        Phase::Done => "confirmed",
        Phase::WentBack => "wentBack",
        Phase::Stuck => "stuck",
        _ => "",
    };
    let verb = match record.verb {
        Verb::Deploy => "deploy",
        Verb::Rollback => "rollback",
    };
    vec![
        (variable::HOOK, moment.to_string()),
        (variable::SERVER, server.to_string()),
        (variable::GENERATION, record.generation.to_string()),
        (variable::PARENT, record.parent.map(|id| id.to_string()).unwrap_or_default()),
        (variable::ACTIVATION, record.id.clone()),
        (variable::VERB, verb.to_owned()),
        (variable::BY, record.by.clone()),
        (variable::OUTCOME, outcome.to_owned()),
        (variable::REASON, record.reason.clone().unwrap_or_default()),
    ]
}
