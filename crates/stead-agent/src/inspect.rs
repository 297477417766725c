//! Looking at what runs: status, history, logs, and commands in an app's surroundings.
//!
//! Changes nothing of Stead's; a command that the operator runs may of course change what it likes.

use crate::activation::{Folder, Journal};
use crate::{certificates, server, stand_in};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stead_host::systemd;
use stead_model::activation::Record;
use stead_model::generation::{Generation, Role, Unit};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{Name, UnitName};
use stead_remote::message::{Machine, Running, Status, UnitStatus};
use stead_store::Store;

/// How many bytes of what a health command says are kept.
const WORDS: u64 = 8 * 1024;

/// What the agent knows about the machine that it runs on.
pub fn machine() -> Machine {
    let uname = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("unknown")
        .trim_matches('"')
        .to_owned();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let free = rustix::fs::statvfs(layout::STATE).map(|stat| stat.f_bavail * stat.f_frsize).unwrap_or(0);
    Machine {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        system,
        architecture: match uname.machine().to_bytes() {
            b"x86_64" => "amd64".to_owned(),
            b"aarch64" => "arm64".to_owned(),
            other => String::from_utf8_lossy(other).into_owned(),
        },
        memory_kib,
        cores: u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1),
        free,
    }
}

/// The activation under way, if there is one.
pub fn running() -> Option<Running> {
    Folder::unfinished().map(|(folder, journal)| running_of(&folder, &journal))
}

fn running_of(folder: &Folder, journal: &Journal) -> Running {
    Running {
        activation: folder.id().to_owned(),
        generation: journal.record.generation,
        phase: journal.record.phase,
        by: journal.record.by.clone(),
    }
}

/// The ended activations, the newest first. A line that cannot be read is left out.
pub fn history(limit: Option<u32>) -> Vec<Record> {
    let text = fs::read_to_string(layout::HISTORY).unwrap_or_default();
    let most = limit.map_or(usize::MAX, |limit| limit as usize);
    text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).take(most).collect()
}

/// Generations that are kept whatever happens, sorted. One that is not on the server any more is no pin.
pub fn pins() -> Vec<Hash> {
    let files = fs::read_dir(layout::PINS).into_iter().flatten().flatten();
    let ids = files.filter_map(|entry| entry.file_name().to_str()?.parse::<Hash>().ok());
    let mut pins: Vec<Hash> = ids.filter(|id| Path::new(layout::GENERATIONS).join(id.to_string()).is_dir()).collect();
    pins.sort_unstable();
    pins
}

/// The declared server that a generation is of; `None`: nothing runs in it, so the machine is nobody's.
pub fn server_of(store: &Store, id: &Hash) -> Option<Name> {
    // Only these of all fields: a login waits for it.
    #[derive(serde::Deserialize)]
    struct Head {
        server: Name,
        units: BTreeMap<UnitName, serde::de::IgnoredAny>,
    }
    let text = fs::read(store.generation_path(id).join(stead_store::generation::DESCRIPTION)).ok()?;
    let head: Head = serde_json::from_slice(&text).ok()?;
    (!head.units.is_empty()).then_some(head.server)
}

/// What runs, and how.
pub fn status(store: &Store, active: Option<Hash>, confirmed: Option<Hash>) -> Status {
    let generation = active.and_then(|id| store.generation(&id).ok().flatten());
    let draining = fs::read_dir(layout::DRAINING).into_iter().flatten().flatten();
    let draining: Vec<UnitName> = draining.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let declared = generation.iter().flat_map(|generation| &generation.units);
    let mut units: Vec<(UnitName, Option<&Unit>)> =
        declared.map(|(name, unit)| (stand_in::live(name), Some(unit))).collect();
    for unit in draining {
        if units.iter().all(|(known, _)| *known != unit) {
            units.push((unit, None));
        }
    }
    Status {
        active,
        confirmed,
        running: running(),
        last: history(Some(1)).pop(),
        units: unit_states(&units),
        generations: store.generations().unwrap_or_default(),
        pins: pins(),
        store_size: size(Path::new(layout::STATE)),
        uptime: uptime(),
        certificates: generation.as_ref().map(|found| certificates::status(&found.certificates)).unwrap_or_default(),
    }
}

fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

/// Bytes of the store, each file counted once whatever its links.
fn size(folder: &Path) -> u64 {
    ["objects", "packages", "agents"]
        .iter()
        .flat_map(|part| files(&folder.join(part)))
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .map(|found| found.len())
        .sum()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

fn unit_states(units: &[(UnitName, Option<&Unit>)]) -> Vec<UnitStatus> {
    const PROPERTIES: &str = "--property=Id,ActiveState,SubState,StateChangeTimestampMonotonic,MemoryCurrent,NRestarts";
    let mut arguments = vec!["show", PROPERTIES];
    arguments.extend(units.iter().map(|(unit, _)| unit.as_str()));
    if units.is_empty() {
        return Vec::new();
    }
    let text = stead_host::run::run("systemctl", &arguments).unwrap_or_default();
    let blocks: BTreeMap<String, BTreeMap<&str, &str>> = text
        .split("\n\n")
        .map(|block| block.lines().filter_map(|line| line.split_once('=')).collect::<BTreeMap<_, _>>())
        .filter_map(|block| Some(((*block.get("Id")?).to_owned(), block)))
        .collect();
    let now = uptime();
    let state = |(unit, wanted): &(UnitName, Option<&Unit>)| {
        let empty = BTreeMap::new();
        let block = blocks.get(unit.as_str()).unwrap_or(&empty);
        let text = |key: &str| block.get(key).copied().unwrap_or_default();
        let active = text("ActiveState");
        let since: u64 = text("StateChangeTimestampMonotonic").parse().unwrap_or(0);
        UnitStatus {
            name: unit.clone(),
            state: format!("{active} ({})", text("SubState")),
            well: match wanted {
                Some(wanted) if wanted.start => active == "active",
                _ => active != "failed",
            },
            since: now.saturating_sub(since / 1_000_000),
            memory: text("MemoryCurrent").parse().ok().filter(|bytes| *bytes != u64::MAX),
            restarts: text("NRestarts").parse().unwrap_or(0),
            port: match wanted.map(|wanted| &wanted.role) {
                Some(Role::App { .. }) => server::instance_port(unit).map(stead_model::name::Port::number),
                _ => None,
            },
        }
    };
    units.iter().map(state).collect()
}

/// The units that a word means: an app, a service, a unit, or (without one) everything of Stead's.
pub fn units_of(generation: Option<&Generation>, of: Option<&str>) -> Vec<String> {
    let Some(of) = of else { return vec!["stead-*".to_owned()] };
    let is_known = |unit: &UnitName| {
        unit.as_str() == of
            || unit.as_str() == format!("stead-{of}.service")
            || unit
                .as_str()
                .strip_prefix("stead-")
                .and_then(|rest| rest.split_once('@'))
                .is_some_and(|(app, _)| app == of)
    };
    match generation.is_some_and(|generation| generation.units.keys().any(is_known)) {
        // Older instances of an app are the app too.
        true if of.ends_with(".service") => vec![of.to_owned()],
        true => vec![format!("stead-{of}.service"), format!("stead-{of}@*.service")],
        false => Vec::new(),
    }
}

/// A command that runs in the surroundings of an app's live instance: its file system, user,
/// environment and folder. `None`: the app does not run.
pub fn beside_app(generation: &Generation, app: &Name, command: &[String]) -> Option<Command> {
    let is_it = |role: &Role| matches!(role, Role::App { app: known, .. } if known == app);
    let unit = generation.units.iter().find(|(_, unit)| is_it(&unit.role)).map(|(name, _)| name)?;
    beside(&stand_in::live(unit), command)
}

/// A command in the surroundings of a unit's main process, by `nsenter(1)`.
fn beside(unit: &UnitName, command: &[String]) -> Option<Command> {
    let states = systemd::states(&[unit]).ok()?;
    let pid = states.get(unit).map(|state| state.main_pid).filter(|pid| *pid != 0)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let id = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().nth(1).map(str::to_owned))
    };
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entered = Command::new("nsenter");
    entered.args(["--target", &pid.to_string(), "--mount", "--root", "--wd"]);
    entered.args(["--setuid", &id("Uid:")?, "--setgid", &id("Gid:")?, "--"]);
    entered.args(command).env_clear();
    for variable in environment.split(|byte| *byte == 0) {
        if let Some((key, value)) = std::str::from_utf8(variable).ok().and_then(|text| text.split_once('=')) {
            entered.env(key, value);
        }
    }
    Some(entered)
}

/// Runs a health command beside a unit, and waits for its end as long as it is told. The error has its last words.
pub(crate) fn run_beside(unit: &UnitName, command: &str, timeout: Duration) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("`{command}` cannot be run: {why}");
    let words =
        shlex::split(command).filter(|words| !words.is_empty()).ok_or_else(|| failed(&"a quote is not closed"))?;
    let (mut said, told) = std::io::pipe().map_err(|error| failed(&error))?;
    let mut beside = beside(unit, &words).ok_or("it does not run")?;
    beside.stdin(Stdio::null()).stdout(told.try_clone().map_err(|error| failed(&error))?).stderr(told);
    // A group of its own, so that all of it can be ended.
    let mut child = beside.process_group(0).spawn().map_err(|error| failed(&error))?;
    drop(beside);
    let (send, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // What it says is read to its end, so that it never waits for a reader; little of it is kept.
        let mut kept = Vec::new();
        let _ = (&mut said).take(WORDS).read_to_end(&mut kept);
        let _ = send.send(String::from_utf8_lossy(&kept).into_owned());
        let _ = std::io::copy(&mut said, &mut std::io::sink());
    });
    let end = Instant::now() + timeout;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => break format!("`{command}` ended with {status}"),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
                let kill = |group| rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                let _ = group.map(kill);
                let _ = child.wait();
                break format!("`{command}` did not end within {timeout:?}");
            }
            Err(error) => break failed(&error),
        }
    };
    let words = heard.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
    let words = stead_host::run::last_lines(&words, 5);
    Err(if words.is_empty() { ended } else { format!("{ended}: {words}") })
}
