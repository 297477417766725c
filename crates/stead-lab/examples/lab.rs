//! Labs from the command line, without the rest of Stead. The crate's header tells how.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program speaks")]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use stead_lab::{Engine, Error, Event, Lab, Labs, Release, Specification, keeper};
use stead_model::name::Name;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            let mut cause = failure.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode, Failure> {
    let labs = labs()?;
    let get = |name: &str| -> Result<Lab, Failure> { Ok(labs.get(&name.parse()?)?) };
    match words {
        ["keep", folder] => keeper::run(Path::new(folder))?,
        ["up", name, options @ ..] => {
            let lab = labs.up(&specification(name.parse()?, options)?, &mut tell)?;
            println!("ssh -F {} {}", lab.ssh_config().display(), lab.ssh_host());
        }
        ["down", name] => labs.down(&name.parse()?)?,
        ["list"] => {
            for lab in labs.list()? {
                println!("{}", serde_json::to_string(&lab.summary())?);
            }
        }
        ["cut", name] => get(name)?.cut()?,
        ["boot", name] => get(name)?.boot(&mut tell)?,
        ["resize", name, cpus, mebibytes] => {
            get(name)?.resize(Some(cpus.parse()?), Some(mebibytes.parse()?), &mut tell)?;
        }
        ["exec", name, argv @ ..] => return through(&mut get(name)?.command(argv)?),
        ["ssh", name, argv @ ..] => return through(&mut get(name)?.ssh(argv)),
        _ => {
            eprintln!(
                "usage: lab up NAME [--engine E] [--release R] [--forward H:L]… | down|cut|boot NAME | resize NAME CPUS MIB | list | exec|ssh NAME CMD…"
            );
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn labs() -> Result<Labs, Failure> {
    let home = PathBuf::from(env::var_os("HOME").ok_or("HOME is not set")?);
    let folder =
        |variable: &str, default: &str| env::var_os(variable).map_or_else(|| home.join(default), PathBuf::from);
    let state = folder("STEAD_LAB_STATE", ".local/share/stead/labs");
    let cache = folder("STEAD_LAB_CACHE", ".cache/stead/labs");
    let keeper = vec![env::current_exe()?.into_os_string(), OsString::from("keep")];
    Ok(Labs::new(state, cache, keeper).with_mirror(env::var("STEAD_DEBIAN_MIRROR").ok()))
}

fn specification(name: Name, options: &[&str]) -> Result<Specification, Failure> {
    let mut specification = Specification::new(name, Release::Bookworm);
    for pair in options.chunks(2) {
        match pair {
            ["--release", release] => specification.release = release.parse()?,
            ["--engine", "vm"] => specification.engine = Engine::VirtualMachine,
            ["--engine", "container"] => specification.engine = Engine::Container,
            ["--forward", forward] => specification.forwards.push(forward.parse()?),
            ["--cpus", cpus] => specification.cpus = cpus.parse()?,
            ["--memory", mebibytes] => specification.memory_mib = mebibytes.parse()?,
            _ => return Err(format!("unknown option {}", pair.join(" ")).into()),
        }
    }
    Ok(specification)
}

fn tell(event: Event) {
    match event {
        Event::BuildingBase { release } => eprintln!("building a base system of Debian {release} (once)"),
        Event::BaseStep { text } => eprintln!("  {text}"),
        Event::BaseBuilt { took, .. } => eprintln!("built in {:.1} s", took.as_secs_f64()),
        Event::Copying => eprintln!("copying the base system"),
        Event::Booting => eprintln!("booting"),
        Event::NotLimited { limit } => eprintln!("not limited: {limit}"),
        Event::Ready { state, took } => eprintln!("{state} after {:.1} s", took.as_secs_f64()),
        Event::RunsAlready => eprintln!("runs already"),
        Event::Note { text } => eprintln!("note: {text}"),
        Event::ShuttingDown => eprintln!("shutting down"),
        Event::NoContainer { reason } => eprintln!("a virtual machine, because {reason}"),
    }
}

fn through(command: &mut Command) -> Result<ExitCode, Failure> {
    let status =
        command.status().map_err(|source| Error::Io { what: "run", path: command.get_program().into(), source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
