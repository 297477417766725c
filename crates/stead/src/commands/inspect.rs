//! Looking at a server, and looking after it: `status`, `history`, `logs`, `exec`, `gc`, `pin`, `verify`.

use crate::arguments::{Global, Target};
use crate::connect::{self, Connected};
use crate::failure::{Exit, Failure};
use crate::output::{Output, Paint, ago, bytes};
use crate::project;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;
use stead_model::activation::{Phase, Verb};
use stead_model::hash::Hash;
use stead_model::name::Name;
use stead_remote::frame::Kind;
use stead_remote::message::{CertificateStatus, Event, Reply, Request};

fn connect(global: &Global, target: &Target, output: &mut Output) -> Result<Connected, Failure> {
    let project = project::load(&global.project, output)?;
    let server = project.server(target.server.as_deref())?;
    connect::begin(server, target)?.join(output)
}

fn unexpected() -> Failure {
    Failure::before("the agent answered something else")
}

/// What runs, and how. Fails when something is not as it should be, for monitors.
pub(crate) fn status(global: &Global, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let mut connected = connect(global, target, output)?;
    let Reply::Status(status) = connected.ask(&Request::Status {}, |_, _| Ok(()))? else { return Err(unexpected()) };
    output.finish();
    output.json(&status);
    let machine = &connected.hello.machine;
    match status.active {
        Some(id) => {
            let confirmed = if status.confirmed == Some(id) { "confirmed" } else { "on trial" };
            output.data(&format!(
                "{} runs generation {} ({confirmed})",
                machine.hostname,
                output.paint(Paint::Strong, &id.short())
            ));
        }
        None => output.data(&format!("{} runs nothing of Stead's", machine.hostname)),
    }
    output.data(&format!(
        "  {} · {} · {} memory · {} free · store {} · up {} h",
        machine.system,
        if machine.cores == 1 { "1 core".to_owned() } else { format!("{} cores", machine.cores) },
        bytes(machine.memory_kib * 1024),
        bytes(machine.free),
        bytes(status.store_size),
        status.uptime / 3600
    ));
    for unit in &status.units {
        let state =
            if unit.well { output.paint(Paint::Added, &unit.state) } else { output.paint(Paint::Removed, &unit.state) };
        let port = unit.port.map(|port| format!(" · port {port}")).unwrap_or_default();
        let memory = unit.memory.map(|memory| format!(" · {}", bytes(memory))).unwrap_or_default();
        let restarts = if unit.restarts > 0 { format!(" · restarted {}×", unit.restarts) } else { String::new() };
        output.data(&format!("  {:<44} {state}{port}{memory}{restarts}", unit.name));
    }
    for certificate in &status.certificates {
        output.data(&format!("  {}", described(certificate, output)));
    }
    if !status.pins.is_empty() {
        let pins: Vec<String> = status.pins.iter().map(Hash::short).collect();
        output.data(&format!("  pinned: {}", pins.join(", ")));
    }
    if let Some(running) = &status.running {
        output.data(&format!("  an activation is under way: {} by {}", running.activation, running.by));
    }
    let ill: Vec<&str> = status.units.iter().filter(|unit| !unit.well).map(|unit| unit.name.as_str()).collect();
    if ill.is_empty() {
        return Ok(());
    }
    let failure = Failure::request(format!("not as it should be: {}", ill.join(", "))).runs(connected.runs());
    Err(failure.hint("`stead logs --of NAME` shows its last words"))
}

/// A certificate in one line, and why there is no better one.
fn described(certificate: &CertificateStatus, output: &Output) -> String {
    let day =
        |second: i64| jiff::Timestamp::from_second(second).map(|time| time.strftime("%Y-%m-%d %H:%M UTC").to_string());
    let paint = if certificate.state == "valid" { Paint::Added } else { Paint::Removed };
    let mut line =
        format!("certificate {:<32} {}", certificate.names.join(", "), output.paint(paint, &certificate.state));
    if let (Some(issuer), Some(Ok(until))) = (&certificate.issuer, certificate.until.map(day)) {
        line.push_str(&format!(" · {issuer} · until {until}"));
    }
    if let Some(failed) = &certificate.failed {
        line.push_str(&format!("\n    not renewed: {failed}"));
        if let Some(Ok(next)) = certificate.next.map(day) {
            line.push_str(&format!("; tried again at {next}"));
        }
    }
    line
}

/// What was deployed when, by whom, and how it ended.
pub(crate) fn history(global: &Global, target: &Target, lines: u32, output: &mut Output) -> Result<(), Failure> {
    let mut connected = connect(global, target, output)?;
    let reply = connected.ask(&Request::History { limit: Some(lines) }, |_, _| Ok(()))?;
    let Reply::History { records } = reply else { return Err(unexpected()) };
    output.finish();
    output.json(&records);
    let now = jiff::Timestamp::now().as_second();
    for record in &records {
        let verb = match record.verb {
            Verb::Deploy => "deploy",
            Verb::Rollback => "rollback",
        };
        let end = match record.phase {
            Phase::Done => output.paint(Paint::Added, "confirmed"),
            Phase::WentBack => output.paint(Paint::Changed, "went back"),
            _ => output.paint(Paint::Removed, "stuck"),
        };
        let kept = match &record.generation {
            id if connected.hello.pins.contains(id) => " (pinned)",
            id if connected.hello.generations.contains(id) => "",
            _ => " (not kept)",
        };
        let mark = if connected.hello.active == Some(record.generation) { "*" } else { " " };
        let reason = record
            .reason
            .as_deref()
            .and_then(|reason| reason.lines().next())
            .map(|reason| format!(" · {reason}"))
            .unwrap_or_default();
        let took = record.ended.map(|ended| format!("{} s", ended - record.began)).unwrap_or_default();
        output.data(&format!(
            "{mark} {}  {verb:<8} {end}  {:<12} {took:>5}  {}{kept}{reason}",
            record.generation.short(),
            ago(now - record.began),
            record.by
        ));
    }
    Ok(())
}

/// The journal, line by line.
pub(crate) fn logs(
    global: &Global,
    target: &Target,
    of: Option<String>,
    lines: u32,
    follow: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut connected = connect(global, target, output)?;
    output.finish();
    let mut all = Vec::new();
    let is_json = output.is_json();
    connected.ask(&Request::Logs { of, lines, follow }, |_, event| {
        if let Event::Log { unit, time, line, .. } = &event {
            let moment = i64::try_from(*time).ok().and_then(|time| jiff::Timestamp::from_microsecond(time).ok());
            let moment = moment.map(|moment| moment.strftime("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default();
            let unit = unit.trim_start_matches("stead-").trim_end_matches(".service");
            output.data(&format!(
                "{} {} {line}",
                output.paint(Paint::Faint, &moment),
                output.paint(Paint::Strong, unit)
            ));
            if is_json {
                all.push(event);
            }
        }
        Ok(())
    })?;
    output.json(&all);
    Ok(())
}

/// Runs a command on the server; ends as it ends.
pub(crate) fn exec(
    global: &Global,
    target: &Target,
    app: Option<&str>,
    command: &[String],
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let app: Option<Name> = app.map(crate::commands::lab::name).transpose()?;
    let mut connected = connect(global, target, output)?;
    output.finish();
    let failed = |connected: &mut Connected, error| connected.broke(&error);
    let line = connected.session.line();
    let sent = line
        .writer
        .message(&Request::Exec { app, command: command.to_vec() })
        .and_then(|()| line.writer.frame(Kind::End, &[]))
        .and_then(|()| line.writer.flush());
    sent.map_err(|error| failed(&mut connected, error))?;
    loop {
        let frame = connected.session.line().reader.frame().map_err(|error| failed(&mut connected, error))?;
        match frame.kind {
            Kind::Data => drop(std::io::stdout().write_all(&frame.payload)),
            Kind::Errors => drop(std::io::stderr().write_all(&frame.payload)),
            Kind::End => {}
            Kind::Message => match stead_remote::frame::read_message::<Reply>(&frame.payload) {
                Ok(Reply::Exited { code }) => return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
                Ok(Reply::Failed(failed)) => return Err(connect::refused(&failed, connected.runs())),
                _ => return Err(unexpected()),
            },
        }
    }
}

/// Removes what no kept generation needs.
pub(crate) fn gc(global: &Global, target: &Target, dry: bool, keep: u32, output: &mut Output) -> Result<(), Failure> {
    let mut connected = connect(global, target, output)?;
    output.phase("collect");
    let reply = connected.ask(&Request::Gc { dry, keep }, |_, _| Ok(()))?;
    let Reply::Collected(collected) = reply else { return Err(unexpected()) };
    output.finish();
    output.json(&collected);
    let verb = if dry { "would remove" } else { "removed" };
    output.data(&format!(
        "{verb} {} generations, {} trees, {} runtimes, {} packages, {} objects: {}",
        collected.generations,
        collected.trees,
        collected.runtimes,
        collected.packages,
        collected.objects,
        bytes(collected.bytes)
    ));
    Ok(())
}

/// Keeps a generation whatever happens, or no longer; without one, lists those that are kept so.
pub(crate) fn pin(
    global: &Global,
    target: &Target,
    generation: Option<&str>,
    keep: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut connected = connect(global, target, output)?;
    let Some(text) = generation else {
        let reply = connected.ask(&Request::History { limit: None }, |_, _| Ok(()))?;
        let Reply::History { records } = reply else { return Err(unexpected()) };
        output.finish();
        output.json(&json!({ "pins": connected.hello.pins }));
        let now = jiff::Timestamp::now().as_second();
        for id in &connected.hello.pins {
            let last = records.iter().find(|record| record.generation == *id && record.phase == Phase::Done);
            let when = last.map(|record| format!("  {}  {}", ago(now - record.began), record.by)).unwrap_or_default();
            output.data(&format!("{}{when}", id.short()));
        }
        if connected.hello.pins.is_empty() {
            output.data("nothing is pinned");
        }
        return Ok(());
    };
    let id = super::deploy::kept(&connected, text)?;
    let was = connected.hello.pins.contains(&id);
    let reply = connected.ask(&Request::Pin { generation: id, keep }, |_, _| Ok(()))?;
    let Reply::Done {} = reply else { return Err(unexpected()) };
    output.finish();
    let mut pins: Vec<Hash> = connected.hello.pins.iter().copied().filter(|pin| *pin != id).collect();
    pins.extend(keep.then_some(id));
    pins.sort_unstable();
    output.json(&json!({ "generation": id, "pinned": keep, "changed": was != keep, "pins": pins }));
    output.data(&match (keep, was) {
        (true, _) => format!("generation {} is kept, whatever is collected", id.short()),
        (false, true) => format!("generation {} is no longer pinned: collection may remove it", id.short()),
        (false, false) => format!("generation {} was not pinned", id.short()),
    });
    Ok(())
}

/// Compares everything on the server with its hash.
pub(crate) fn verify(global: &Global, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let mut connected = connect(global, target, output)?;
    output.phase("verify");
    let reply = connected.ask(&Request::Verify {}, |_, _| Ok(()))?;
    let Reply::Verified { damage, checked } = reply else { return Err(unexpected()) };
    output.finish();
    output.json(&damage);
    for one in &damage {
        output.data(&format!("{}: {}", one.path, one.what));
    }
    if damage.is_empty() {
        output.data(&format!("every byte is as it should be ({} read)", bytes(checked)));
        return Ok(());
    }
    let failure =
        Failure { exit: Exit::Request, ..Failure::request(format!("{} things are altered or missing", damage.len())) };
    Err(failure.runs(connected.runs()).hint("`stead deploy` puts back what it needs; look who altered it"))
}
