//! systemd, by its own programs `systemctl(1)`, `systemd-run(1)` and `journalctl(1)`.
//!
//! Batches units into one call where the order is systemd's to decide. Never enables or edits a
//! unit: units come from the generator.

use crate::run::{RunError, run};
use std::collections::BTreeMap;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::UnitName;

/// What systemd says of a unit at one moment (`org.freedesktop.systemd1(5)`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `error`, …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, …
    pub active: String,
    /// `running`, `exited`, `auto-restart`, …
    pub sub: String,
    /// How often systemd has restarted it by itself.
    pub restarts: u32,
    /// `success`, `exit-code`, `signal`, …
    pub result: String,
    /// Exit code or signal of the main process, as a number.
    pub status: String,
    /// Process id of the main process; 0 when there is none.
    pub main_pid: u32,
}

impl UnitState {
    /// Whether it runs, listens, or waits for its time.
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// Whether nothing of it runs any more.
    pub fn is_gone(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed" | "")
    }
}

/// Makes systemd run its generators and read all units again.
///
/// # Errors
/// When systemd refuses.
pub fn reload() -> Result<(), RunError> {
    run("systemctl", &["daemon-reload"]).map(drop)
}

fn on_units(verb: &[&str], units: &[&UnitName]) -> Result<(), RunError> {
    if units.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = units.iter().map(|unit| unit.as_str()).collect();
    run("systemctl", &[verb, &names].concat()).map(drop)
}

/// Starts units and waits until each is up or has failed.
///
/// # Errors
/// When one of them does not come up.
pub fn start(units: &[&UnitName]) -> Result<(), RunError> {
    on_units(&["start"], units)
}

/// Asks for units to be started, without waiting.
///
/// # Errors
/// When systemd refuses the request.
pub fn request_start(units: &[&UnitName]) -> Result<(), RunError> {
    on_units(&["start", "--no-block"], units)
}

/// Stops units and waits until they are gone. A unit that does not exist counts as stopped.
///
/// # Errors
/// When systemd refuses.
pub fn stop(units: &[&UnitName]) -> Result<(), RunError> {
    let known = known(units)?;
    on_units(&["stop"], &known)
}

/// Asks for units to be stopped, without waiting: they drain by themselves. Sockets close at once:
/// systemd would keep one open, with nobody to answer, until the services that it had been for have
/// drained (a socket stops after its service, `systemd.socket(5)`).
///
/// # Errors
/// When systemd refuses the request.
pub fn request_stop(units: &[&UnitName]) -> Result<(), RunError> {
    let (sockets, others): (Vec<_>, Vec<_>) =
        known(units)?.into_iter().partition(|unit| unit.as_str().ends_with(".socket"));
    on_units(&["stop", "--no-block"], &others)?;
    on_units(&["stop", "--no-block", "--job-mode=ignore-dependencies"], &sockets)
}

fn known<'a>(units: &[&'a UnitName]) -> Result<Vec<&'a UnitName>, RunError> {
    let states = states(units)?;
    let is_known =
        |unit: &&&UnitName| states.get(**unit).is_some_and(|state| state.load == "loaded" || !state.is_gone());
    Ok(units.iter().filter(is_known).copied().collect())
}

/// Restarts units and waits.
///
/// # Errors
/// When one of them does not come up.
pub fn restart(units: &[&UnitName]) -> Result<(), RunError> {
    on_units(&["restart"], units)
}

/// Reloads units that are up, by their own `ExecReload=`, and waits.
///
/// # Errors
/// When one of them is not up, or its command fails; what it said is in the journal.
pub fn reload_units(units: &[&UnitName]) -> Result<(), RunError> {
    on_units(&["reload"], units)
}

/// Runs a program of a runtime to its end, in the runtime's file system, as a transient service; what it wrote.
///
/// `binds` are in the form of `BindReadOnlyPaths=`, `properties` in that of `systemd-run(1)`, without `--property=`.
///
/// # Errors
/// When it cannot be run, or ends with anything but 0: with its words.
pub fn in_runtime(
    runtime: &Hash,
    binds: &[String],
    properties: &[String],
    command: &[&str],
) -> Result<String, RunError> {
    let own = [format!("RootDirectory={}/{runtime}", layout::RUNTIMES), "MountAPIVFS=yes".to_owned()];
    let binds = binds.iter().map(|bind| format!("BindReadOnlyPaths={bind}"));
    // In this order: what lies above something else is mounted after it.
    let properties: Vec<String> = own
        .into_iter()
        .chain(binds)
        .chain(properties.iter().cloned())
        .map(|line| format!("--property={line}"))
        .collect();
    let options = ["--quiet", "--pipe", "--wait", "--collect", "--service-type=exec"].into_iter();
    let options = options.chain(properties.iter().map(String::as_str)).chain(["--"]);
    run("systemd-run", &options.chain(command.iter().copied()).collect::<Vec<_>>())
}

/// Makes a unit's main process read its configuration again, by SIGHUP.
///
/// # Errors
/// When the unit has no main process.
pub fn hang_up(unit: &UnitName) -> Result<(), RunError> {
    run("systemctl", &["kill", "--signal=HUP", "--kill-whom=main", unit.as_str()]).map(drop)
}

/// Tells a unit's main process to end at once, by SIGTERM. Does not wait.
///
/// # Errors
/// When the unit has no main process.
pub fn terminate(unit: &UnitName) -> Result<(), RunError> {
    run("systemctl", &["kill", "--signal=TERM", "--kill-whom=main", unit.as_str()]).map(drop)
}

/// Forgets the failures of units, so that a start limit hit before does not stop the next start.
///
/// # Errors
/// When systemd refuses; a unit that is not loaded is not an error.
pub fn forget_failures(units: &[&UnitName]) -> Result<(), RunError> {
    let failed: Vec<&UnitName> = {
        let states = states(units)?;
        units.iter().filter(|unit| states.get(**unit).is_some_and(|state| state.active == "failed")).copied().collect()
    };
    on_units(&["reset-failed"], &failed)
}

/// The state of each unit, in one question.
///
/// # Errors
/// When systemd does not answer.
pub fn states(units: &[&UnitName]) -> Result<BTreeMap<UnitName, UnitState>, RunError> {
    if units.is_empty() {
        return Ok(BTreeMap::new());
    }
    const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,NRestarts,Result,ExecMainStatus,MainPID";
    let names: Vec<&str> = units.iter().map(|unit| unit.as_str()).collect();
    let text = run("systemctl", &[&["show", PROPERTIES], names.as_slice()].concat())?;
    Ok(parse_states(&text))
}

fn parse_states(text: &str) -> BTreeMap<UnitName, UnitState> {
    let mut states = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut state = UnitState::default();
        let mut id = None;
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "Id" => id = value.parse::<UnitName>().ok(),
                "LoadState" => state.load = value.to_owned(),
                "ActiveState" => state.active = value.to_owned(),
                "SubState" => state.sub = value.to_owned(),
                "NRestarts" => state.restarts = value.parse().unwrap_or(0),
                "Result" => state.result = value.to_owned(),
                "ExecMainStatus" => state.status = value.to_owned(),
                "MainPID" => state.main_pid = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        if let Some(id) = id {
            states.insert(id, state);
        }
    }
    states
}

/// The last lines that a unit wrote to the journal since then (seconds since 1970), oldest first,
/// without times.
///
/// # Errors
/// When the journal cannot be read.
pub fn last_words(unit: &UnitName, lines: usize, since: i64) -> Result<String, RunError> {
    let count = format!("--lines={lines}");
    let since = format!("--since=@{since}");
    run("journalctl", &["--no-pager", "--quiet", "--output=cat", &count, &since, "--unit", unit.as_str()])
}

/// What systemd does not understand of a unit file, in its own words (`systemd-analyze(1)`, "verify");
/// `None`: nothing. What it says of programs and other units is not asked here.
pub fn misunderstood(file: &str) -> Option<String> {
    const COMPLAINTS: [&str; 6] = [
        "Unknown key",
        "Unknown section",
        "Unknown lvalue",
        "Failed to parse",
        "Invalid ",
        "Assignment outside of section",
    ];
    let arguments = ["verify", "--man=no", "--recursive-errors=no", file];
    let output = std::process::Command::new("systemd-analyze")
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = words.lines().find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))?;
    // The place is a path of the store, which says nothing to the operator.
    Some(line.rsplit_once(file).map_or(line, |(_, rest)| rest).trim_start_matches([':', ' ']).to_owned())
}

/// systemd's version number.
///
/// # Errors
/// When `systemctl` is missing or says something else.
pub fn version() -> Result<u32, RunError> {
    let text = run("systemctl", &["--version"])?;
    let number = text.split_whitespace().nth(1).unwrap_or_default();
    Ok(number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0))
}

/// Starts a command as a transient service that outlives the caller's session.
///
/// `after` is run by systemd when the service has ended, however it ended; `seconds` is the most
/// that it may run before systemd ends it.
///
/// # Errors
/// When systemd refuses, or a unit of that name still runs.
pub fn start_transient(unit: &UnitName, command: &[&str], after: &[&str], seconds: u32) -> Result<(), RunError> {
    let unit = format!("--unit={unit}");
    let limit = format!("--property=RuntimeMaxSec={seconds}");
    let after = (!after.is_empty()).then(|| format!("--property=ExecStopPost={}", after.join(" ")));
    let mut options = vec![
        unit.as_str(),
        "--quiet",
        "--collect",
        "--no-block",
        "--service-type=exec",
        &limit,
        "--property=KillMode=mixed",
        "--property=OOMScoreAdjust=-500",
        // What is run after it takes up what it left, and that is worth more time than systemd gives by itself.
        "--property=TimeoutStopSec=600",
    ];
    options.extend(after.as_deref());
    options.push("--");
    run("systemd-run", &[&options, command].concat()).map(drop)
}

/// Runs a command as a transient service with these variables, and waits for its end; it is killed after so many
/// seconds. What it writes is in the journal, and in the error.
///
/// # Errors
/// When it ends with anything but 0, or systemd refuses.
pub fn run_transient(
    unit: &UnitName,
    command: &[&str],
    variables: &[(&str, String)],
    seconds: u32,
) -> Result<(), RunError> {
    let unit_option = format!("--unit={unit}");
    let limit = format!("--property=RuntimeMaxSec={seconds}");
    let variables: Vec<String> = variables.iter().map(|(name, value)| format!("--setenv={name}={value}")).collect();
    let mut options = vec![unit_option.as_str(), "--quiet", "--collect", "--wait", "--service-type=exec", &limit];
    options.extend(variables.iter().map(String::as_str));
    options.push("--");
    // PID 1 would put variables into the arguments (systemd.service(5), "Command lines"), before any shell sees them.
    let literal: Vec<String> = command.iter().map(|word| word.replace('$', "$$")).collect();
    options.extend(literal.iter().map(String::as_str));
    match run("systemd-run", &options) {
        Ok(_) => Ok(()),
        Err(RunError::Failed { status, output, .. }) => {
            let said = last_words(unit, 10, 0).unwrap_or_default();
            let output = [said.trim(), output.trim()].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            Err(RunError::Failed { command: unit.to_string(), status, output: output.to_owned() })
        }
        Err(error) => Err(error),
    }
}

/// A request to systemd that is under way.
#[derive(Debug)]
pub struct Pending(crate::run::Running);

impl Pending {
    /// Waits until systemd has done it.
    ///
    /// # Errors
    /// When systemd refused.
    pub fn wait(self) -> Result<(), RunError> {
        self.0.wait().map(drop)
    }
}

/// Asks systemd to run a command as the transient service `<stem>.service` in so many seconds, again and again
/// until it succeeds, unless [`stop_timers`] comes first. It is in force once the request is done.
///
/// # Errors
/// When systemd cannot be asked.
pub fn start_later(stem: &str, command: &[&str], seconds: u32) -> Result<Pending, RunError> {
    let (unit, after) = (format!("--unit={stem}"), format!("--on-active={seconds}"));
    let options = [
        unit.as_str(),
        after.as_str(),
        "--quiet",
        "--collect",
        "--timer-property=AccuracySec=100ms",
        "--service-type=exec",
        "--property=Restart=on-failure",
        "--property=RestartSec=2",
        "--property=OOMScoreAdjust=-500",
        "--",
    ];
    crate::run::begin("systemd-run", &[&options, command].concat()).map(Pending)
}

/// Asks systemd to run a command as the transient service `<stem>.service` in so many seconds, once. A reboot forgets it.
///
/// # Errors
/// When systemd refuses, for instance because there is such a timer.
pub fn start_once_later(stem: &str, command: &[&str], seconds: u32) -> Result<(), RunError> {
    let (unit, after) = (format!("--unit={stem}"), format!("--on-active={seconds}"));
    let options = [unit.as_str(), after.as_str(), "--quiet", "--collect", "--service-type=oneshot", "--"];
    run("systemd-run", &[&options, command].concat()).map(drop)
}

/// Stops every timer whose name begins so.
///
/// # Errors
/// When systemd refuses.
pub fn stop_timers(stem: &str) -> Result<(), RunError> {
    // A pattern that fits nothing is no error (systemctl(1), "Parameter syntax").
    run("systemctl", &["stop", &format!("{stem}*.timer")]).map(drop)
}

/// Kills every process of a unit at once. A unit that does not run is left alone.
///
/// # Errors
/// When systemd refuses.
pub fn kill(unit: &UnitName) -> Result<(), RunError> {
    let states = states(&[unit])?;
    if states.get(unit).is_none_or(UnitState::is_gone) {
        return Ok(());
    }
    run("systemctl", &["kill", "--signal=KILL", unit.as_str()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_block_by_block() {
        let text = "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=2\nResult=success\nMainPID=7\n\nId=b.socket\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n";
        let states = parse_states(text);
        assert_eq!(states.len(), 2);
        let a = &states[&"a.service".parse::<UnitName>().unwrap()];
        assert!(a.is_active() && a.restarts == 2 && a.main_pid == 7);
        assert!(states[&"b.socket".parse::<UnitName>().unwrap()].is_gone());
    }
}
