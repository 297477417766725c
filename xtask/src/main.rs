//! The house's tasks: `cargo xtask demo`, `test`, `gate`, `bench`, `chaos`, `setup`. What CI runs is what people run.
//!
//! Promises to say what it installs, to ask nothing, and to stay quiet where all is well.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks")]

mod bench;
mod chaos;
mod demo;
mod gate;
mod run;
mod setup;
mod suite;
mod workspace;

use std::env;
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask TASK

  demo    build stead, boot a lab server, deploy examples/two-sites, and say what to look at
  test    run all tests, the end-to-end ones in labs included (or those that nextest's filters choose)
  gate    format, files, layers, licences, lints and documentation (or those checks that are named)
  bench   measure deploys in a lab, beside the peers and under load (or those scenarios that are named; `trust`:
          those under load; --runs=N)
  chaos   cut the power of virtual machines in many deploys (or those of named Debian releases; --cuts=N, --seed=N)
  setup   install what the tasks need from the distribution, and say what
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["demo"] => demo::run(),
        ["test", ref filters @ ..] => suite::run(filters),
        ["gate", ref checks @ ..] => gate::run(checks),
        ["bench", ref words @ ..] => bench::run(words),
        ["chaos", ref words @ ..] => chaos::run(words),
        ["setup"] => setup::run(),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
