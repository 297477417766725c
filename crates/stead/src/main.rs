//! The program: arguments in, words out, exit code.
//!
//! The only place that prints and reads the environment. Everything that decides, renders or
//! touches a machine is in the crates below.

mod arguments;
mod commands;
mod connect;
mod environment;
mod failure;
mod hooks;
mod interrupt;
mod output;
mod packages;
mod password;
mod place;
mod probing;
mod project;

use arguments::{Arguments, Command, Global, Target, When};
use clap::Parser;
use failure::{Exit, Failure};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    if matches!(
        arguments.command,
        Command::Deploy { .. } | Command::Up { .. } | Command::Rollback { .. } | Command::Leave(_)
    ) {
        interrupt::listen();
    }
    let mut output = Output::new(&arguments.global);
    match run(&arguments, &mut output) {
        Ok(code) => {
            output.finish();
            code
        }
        Err(failure) => {
            output.error(&failure.words());
            // One document: what a command has told by then says what is wrong as well.
            if !output.has_told() {
                output.json(&commands::failed(&failure));
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and versions as they are; wrong usage in the form of every other failure.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
    }
    let text = error.render().to_string();
    // What clap says about the mistake itself ends at the first empty line; tips and usage follow.
    let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let suggestion = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue]
        .into_iter()
        .find_map(|kind| match error.get(kind)? {
            ContextValue::String(word) => Some(word.clone()),
            ContextValue::Strings(words) => words.first().cloned(),
            _ => None,
        });
    let hint = match (suggestion, text.lines().find_map(|line| line.strip_prefix("Usage: "))) {
        (Some(word), _) => format!("did you mean `{word}`? `--help` tells more"),
        (None, Some(usage)) => format!("write it as `{usage}`; `--help` tells more"),
        (None, None) => "`--help` tells more".to_owned(),
    };
    let failure = Failure { exit: Exit::Usage, ..Failure::request(what).hint(hint) };
    let json = std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    let mut output = Output::new(&Global { project: ".".into(), json, quiet: false, color: When::Auto });
    output.error(&failure.words());
    output.json(&commands::failed(&failure));
    ExitCode::from(failure.exit as u8)
}

fn run(arguments: &Arguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Init { folder } => commands::init::init(&global.project.join(folder), output),
        Command::Update { inputs } => commands::update::update(global, inputs, output),
        Command::Check { server } => commands::check::check(global, server.as_deref(), output),
        Command::Plan { target } => commands::plan::plan(global, target, output),
        Command::Deploy { target, attach: true, trial, .. } => commands::deploy::attach(global, target, trial, output),
        Command::Deploy { target, attach: false, rename, trial } => {
            commands::deploy::deploy(global, target, *rename, trial, output)
        }
        Command::Up { target, rename, trial } => commands::deploy::up(global, target, *rename, trial, output),
        Command::Rollback { to, server, place, trial } => {
            let target = Target { server: server.clone(), place: place.clone() };
            commands::deploy::rollback(global, &target, to.as_deref(), trial, output)
        }
        Command::Status { target } => commands::inspect::status(global, target, output),
        Command::History { target, lines } => commands::inspect::history(global, target, *lines, output),
        Command::Logs { target, of, lines, follow } => {
            commands::inspect::logs(global, target, of.clone(), *lines, *follow, output)
        }
        Command::Exec { target, app, command } => {
            return commands::inspect::exec(global, target, app.as_deref(), command, output);
        }
        Command::Gc { target, dry_run, keep } => commands::inspect::gc(global, target, *dry_run, *keep, output),
        Command::Pin { generation, remove, server, place } => {
            let target = Target { server: server.clone(), place: place.clone() };
            commands::inspect::pin(global, &target, generation.as_deref(), !remove, output)
        }
        Command::Adopt { target, look } => commands::adopt::adopt(global, target, *look, output),
        Command::Leave(words) => commands::leave::leave(global, words, output),
        Command::Secret(secret) => commands::secret::secret(global, secret, output),
        Command::Verify { target } => commands::inspect::verify(global, target, output),
        Command::Lab(lab) => return commands::lab::lab(lab, output),
        Command::Completions { shell } => {
            commands::completions(*shell);
            Ok(())
        }
        Command::Agent { command } => return Ok(commands::agent::agent(command.as_ref())),
        Command::LabKeeper { folder } => commands::lab::keep(folder),
    }
    .map(|()| ExitCode::SUCCESS)
}
