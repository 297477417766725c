//! `stead lab`: disposable servers on this machine.

use crate::arguments::Lab;
use crate::environment;
use crate::failure::{Failure, chain};
use crate::output::Output;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use stead_lab::{Engine, Event, Labs, Release, Specification};
use stead_model::name::Name;
use stead_remote::destination::Destination;

/// The labs of this machine.
pub(crate) fn labs() -> Result<Labs, Failure> {
    let own =
        std::env::current_exe().map_err(|error| Failure::before(format!("cannot find the program itself: {error}")))?;
    let labs = Labs::new(
        environment::state().join("labs"),
        environment::cache().join("bases"),
        vec![own.into(), "lab-keeper".into()],
    );
    Ok(labs.with_mirror(environment::debian_mirror()))
}

fn failed(error: stead_lab::Error) -> Failure {
    Failure::request(chain(&error)).hint("`stead lab list` shows what there is")
}

pub(crate) fn name(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|error: stead_model::name::InvalidName| Failure::request(error.to_string()))
}

/// The address of the lab that this leads to, if it leads to one that runs.
pub(crate) fn address(destination: &Destination) -> Option<IpAddr> {
    let text = destination.host().strip_prefix("lab-")?;
    let lab = labs().ok()?.get(&name(text).ok()?).ok()?;
    lab.address().filter(|_| destination.config_file.as_ref() == Some(&lab.ssh_config()))
}

/// Keeps a lab up, until it is off.
pub(crate) fn keep(folder: &Path) -> Result<(), Failure> {
    stead_lab::keeper::run(folder).map_err(failed)
}

/// Does what was asked with labs. `exec` and `ssh` end as their command ends.
pub(crate) fn lab(command: &Lab, output: &mut Output) -> Result<ExitCode, Failure> {
    let labs = labs()?;
    match command {
        Lab::Up { name: text, release, cpus, memory, forward, vm } => {
            let release: Release = release
                .parse()
                .map_err(|error: stead_lab::InvalidSpecification| Failure::request(error.to_string()))?;
            let mut wanted = Specification::new(name(text)?, release);
            wanted.cpus = *cpus;
            wanted.memory_mib = *memory;
            for text in forward {
                wanted.forwards.push(
                    text.parse()
                        .map_err(|error: stead_lab::InvalidSpecification| Failure::request(error.to_string()))?,
                );
            }
            let mut events = |event: Event| tell(&event, output);
            let lab = if *vm {
                wanted.engine = Engine::VirtualMachine;
                labs.up(&wanted, &mut events)
            } else {
                labs.up_in_any_engine(&wanted, &mut events)
            };
            tell_up(&lab.map_err(failed)?, output);
        }
        Lab::Boot { name: text } => {
            let lab = labs.get(&name(text)?).map_err(failed)?;
            lab.boot(&mut |event| tell(&event, output)).map_err(failed)?;
            tell_up(&lab, output);
        }
        Lab::Cut { name: text } => {
            let lab = labs.get(&name(text)?).map_err(failed)?;
            lab.cut().map_err(failed)?;
            output.json(&lab.summary());
            output.data(&format!("lab {text} has no power: `stead lab boot {text}` starts it again"));
        }
        Lab::Resize { name: text, cpus, memory } => {
            let mut lab = labs.get(&name(text)?).map_err(failed)?;
            lab.resize(*cpus, *memory, &mut |event| tell(&event, output)).map_err(failed)?;
            let summary = lab.summary();
            output.json(&summary);
            let (cpus, memory) = (summary.cpus, summary.memory_mib);
            output.data(&format!("lab {text} has {cpus} CPU{} and {memory} MiB", if cpus == 1 { "" } else { "s" }));
        }
        Lab::Down { name: text } => {
            labs.down(&name(text)?).map_err(failed)?;
            output.json(&serde_json::json!({ "down": text }));
            output.data(&format!("lab {text} is gone"));
        }
        Lab::List => {
            let all: Vec<_> = labs.list().map_err(failed)?.iter().map(stead_lab::Lab::summary).collect();
            output.json(&all);
            for lab in all {
                let address = lab.address.map(|address| address.to_string()).unwrap_or_default();
                output.data(&format!(
                    "{:<16} {:<10} {:<16} {:<10} {address}",
                    lab.name,
                    lab.release.codename(),
                    lab.engine.to_string(),
                    format!("{:?}", lab.status).to_lowercase()
                ));
            }
        }
        Lab::Exec { name: text, command } => {
            let lab = labs.get(&name(text)?).map_err(failed)?;
            let status = lab.ssh(command).status();
            return ended(status);
        }
        Lab::Ssh { name: text } => {
            let lab = labs.get(&name(text)?).map_err(failed)?;
            let status = lab.ssh::<&str>(&[]).status();
            return ended(status);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_up(lab: &stead_lab::Lab, output: &mut Output) {
    let summary = lab.summary();
    output.json(&summary);
    let address = summary.address.map(|address| format!(" at {address}")).unwrap_or_default();
    output.data(&format!("lab {} is up{address}", summary.name));
}

fn ended(status: std::io::Result<std::process::ExitStatus>) -> Result<ExitCode, Failure> {
    let status = status.map_err(|error| Failure::before(format!("ssh cannot be run: {error}")))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

fn tell(event: &Event, output: &mut Output) {
    match event {
        Event::BuildingBase { release } => {
            output.say(&format!("the first {} lab on this machine: building its base system", release.codename()));
            output.phase("base system");
        }
        Event::BaseStep { text } => output.detail(text),
        Event::BaseBuilt { .. } => {}
        Event::Copying => output.phase("copying"),
        Event::Booting => output.phase("booting"),
        Event::NotLimited { limit } => output.say(&format!("note: not limited: {limit}")),
        Event::Ready { state, .. } => output.detail(state),
        Event::RunsAlready => output.say("it runs already"),
        Event::Note { text } => output.say(&format!("note: {text}")),
        Event::ShuttingDown => output.phase("shutting down"),
        Event::NoContainer { reason } => {
            output.say(&format!("a container cannot be booted here, so the lab becomes a virtual machine: {reason}"));
        }
    }
}
