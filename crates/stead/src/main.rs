//! The program: arguments in, words out, exit code.
//!
//! The only place that prints and reads the environment. Everything that decides, renders or
//! touches a machine is in the crates below.

mod arguments;
mod commands;
mod connect;
mod environment;
mod failure;
mod output;
mod packages;
mod project;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::{Exit, Failure};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    let mut output = Output::new(&arguments.global);
    match run(&arguments, &mut output) {
        Ok(code) => {
            output.finish();
            code
        }
        Err(failure) => {
            output.error(&failure.words());
            output.json(&commands::failed(&failure));
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(arguments: &Arguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Init { folder } => commands::init::init(&global.project.join(folder), output),
        Command::Update { inputs } => commands::update::update(global, inputs, output),
        Command::Check { server } => commands::check::check(global, server.as_deref(), output),
        Command::Plan { target } => commands::plan::plan(global, target, output),
        Command::Deploy { target, attach: true, trial } => commands::deploy::attach(global, target, trial, output),
        Command::Deploy { target, attach: false, trial } => commands::deploy::deploy(global, target, trial, output),
        Command::Up { target, trial } => commands::deploy::up(global, target, trial, output),
        Command::Rollback { to, target, trial } => {
            commands::deploy::rollback(global, target, to.as_deref(), trial, output)
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
