//! `stead deploy`, `up`, `rollback`: making a generation live, watching it, confirming it.
//!
//! The exit code is decided here, from how the activation ended on the server, never from how the
//! conversation about it ended: a line that breaks is taken up again.

use super::update;
use crate::arguments::{Global, Target, Trial};
use crate::connect::{self, Connected, Connecting};
use crate::environment;
use crate::failure::{Exit, Failure, Runs, chain};
use crate::hooks::{self, Told};
use crate::interrupt;
use crate::output::{Output, bytes};
use crate::packages::{self, Packages};
use crate::place;
use crate::project::{self, Bytes, Loaded, Ready};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stead_model::activation::{Phase, Verb};
use stead_model::generation::Generation;
use stead_model::hash::{Hash, Sha256};
use stead_model::lock::LockedPackage;
use stead_model::name::Name;
use stead_model::server::Server;
use stead_model::tree::Object;
use stead_plan::Planned;
use stead_remote::message::{self, Ended, Event, Outcome, PlannedFrom, Reply, Request, Settings};
use stead_remote::transfer::{self, Shipment, Sources};

/// What a deploy took, as the bench reads it.
#[derive(Default)]
struct Measured {
    began: Option<Instant>,
    live: Option<f64>,
    /// What the server did besides, in its words.
    did: Vec<String>,
}

/// update + check + deploy.
pub(crate) fn up(
    global: &Global,
    target: &Target,
    rename: bool,
    trial: &Trial,
    output: &mut Output,
) -> Result<(), Failure> {
    let began = Instant::now();
    output.phase("update");
    // The login goes on while the project is evaluated and the inputs are resolved.
    let early = connect::early(&global.project, target);
    let mut project = project::load(&global.project, output)?;
    let connecting = connect::keep(early, &global.project, project.server(target.server.as_deref())?, target)?;
    let (lock, moved) = update::resolve(&project, None, output)?;
    project.lock = Some(lock);
    if !moved.is_empty() {
        update::show(&moved, output);
    }
    deploy_loaded(&project, target, connecting, rename, trial, began, output)
}

/// check + deploy.
pub(crate) fn deploy(
    global: &Global,
    target: &Target,
    rename: bool,
    trial: &Trial,
    output: &mut Output,
) -> Result<(), Failure> {
    let began = Instant::now();
    let early = connect::early(&global.project, target);
    let project = project::load(&global.project, output)?;
    let connecting = connect::keep(early, &global.project, project.server(target.server.as_deref())?, target)?;
    deploy_loaded(&project, target, connecting, rename, trial, began, output)
}

fn deploy_loaded(
    project: &Loaded,
    target: &Target,
    connecting: Connecting,
    rename: bool,
    trial: &Trial,
    began: Instant,
    output: &mut Output,
) -> Result<(), Failure> {
    let server = project.server(target.server.as_deref())?;
    let snapshots = project.snapshots()?;
    project.fitting_lock(&snapshots)?;
    output.phase("build");
    let ready = project.plan(server, &snapshots, output)?;
    output.phase("connect");
    let mut connected = connecting.join(output)?;
    if !rename {
        is_this_server(&connected, server)?;
    }
    let id = ready.planned.generation.id();
    let is_live = connected.hello.active == Some(id) && connected.hello.confirmed == Some(id);
    if !is_live {
        connected.look_from_outside(server);
        output.phase("send");
        stage(project, &ready, &mut connected, output)?;
    }
    let told = Told { verb: Verb::Deploy, generation: Some(id), parent: connected.hello.active, ended: None };
    let mut is_gated = !is_live;
    if is_gated {
        hooks::before_switch(server, &project.root, told, output)?;
    }
    let request = activation(&connected, Some(id), Verb::Deploy, trial);
    let mut measured = Measured { began: Some(began), ..Measured::default() };
    let mut ended = activate(&mut connected, &request, trial, &mut measured, output);
    if is_live && connected.is_damaged {
        output.say("  something on the server was altered: sending it again");
        output.phase("send");
        stage(project, &ready, &mut connected, output)?;
        hooks::before_switch(server, &project.root, told, output)?;
        is_gated = true;
        ended = activate(&mut connected, &request, trial, &mut measured, output);
    }
    let ended = ended?;
    if ended.outcome == Outcome::Confirmed {
        let source = Shelf { bytes: &ready.bytes, project, output: None };
        // Only a later transfer's size depends on it.
        let _ = connect::cache().remember(&ready.planned.generation, &ready.planned.trees, &source);
    }
    // Where only what runs already was put right, there was nothing to ask for before, and there is nothing to tell after.
    if is_gated {
        hooks::after(server, &project.root, Told { ended: Some(&ended), ..told }, output);
    }
    conclude(&mut connected, server, &ended, &measured, output)
}

/// Deploys nothing at all: what runs goes, by a trial like every other.
pub(crate) fn nothing(
    project: &Loaded,
    server: &Server,
    connected: &mut Connected,
    trial: &Trial,
    output: &mut Output,
) -> Result<(), Failure> {
    let generation = Generation::empty(server.name.clone());
    let id = generation.id();
    let planned = Planned { generation, contents: BTreeMap::new(), trees: BTreeMap::new() };
    if connected.hello.active != Some(id) {
        output.phase("send");
        stage(project, &Ready { planned, bytes: Bytes::default() }, connected, output)?;
    }
    let request = activation(connected, Some(id), Verb::Deploy, trial);
    let ended = activate(connected, &request, trial, &mut Measured::default(), output)?;
    interrupt::over();
    match ended.outcome {
        Outcome::Confirmed | Outcome::Unchanged => Ok(()),
        Outcome::WentBack | Outcome::Stuck => {
            let exit = if ended.outcome == Outcome::Stuck { Exit::Stuck } else { Exit::WentBack };
            let reason = ended.reason.unwrap_or_default();
            Err(Failure { exit, ..Failure::before(reason).runs(Runs::Generation(ended.active)) })
        }
    }
}

/// Refuses a machine that is another server of somebody's: what it runs would go away.
pub(crate) fn is_this_server(connected: &Connected, server: &Server) -> Result<(), Failure> {
    let Some(other) = connected.hello.server.as_ref().filter(|other| **other != server.name) else { return Ok(()) };
    let what = format!(
        "this is the declaration of `{}`, but {} is the server `{other}`",
        server.name, connected.hello.machine.hostname
    );
    Err(Failure::request(what).runs(connected.runs()).hint(format!(
        "check `host` of `{}` in stead.ncl; with `--rename` the machine becomes `{}`, and what it runs now goes",
        server.name, server.name
    )))
}

/// The request to make a generation live, from what the server runs now.
fn activation(connected: &Connected, generation: Option<Hash>, verb: Verb, trial: &Trial) -> Request {
    let from = Some(PlannedFrom { active: connected.hello.active });
    Request::Activate { generation, from, verb, by: environment::operator(), settings: settings(trial) }
}

fn settings(trial: &Trial) -> Settings {
    let soak = trial.soak.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)));
    Settings {
        confirm_deadline: trial.confirm_deadline,
        soak: soak.map(|soak| u32::try_from(soak.as_millis()).unwrap_or(u32::MAX)),
    }
}

/// Where the bytes of a shipment are.
struct Shelf<'a> {
    bytes: &'a Bytes,
    project: &'a Loaded,
    output: Option<&'a Output>,
}

impl Sources for Shelf<'_> {
    fn object(&self, object: Object) -> std::io::Result<Box<dyn Read + Send>> {
        self.bytes.open(object)
    }

    fn prepare(&self, wanted: &[Sha256]) -> std::io::Result<()> {
        let Some(output) = self.output else { return Ok(()) };
        let mut by_input: BTreeMap<&Name, BTreeMap<Sha256, LockedPackage>> = BTreeMap::new();
        for locked in self.project.lock.iter().flat_map(|lock| lock.runtimes.values()) {
            let missing = locked.packages.iter().filter(|package| wanted.contains(&package.sha256));
            by_input
                .entry(&locked.debian)
                .or_default()
                .extend(missing.map(|package| (package.sha256, package.clone())));
        }
        for (input, packages) in by_input.into_iter().filter(|(_, packages)| !packages.is_empty()) {
            let packages: Vec<LockedPackage> = packages.into_values().collect();
            let archive = Packages::of(self.project, input).map_err(|failure| std::io::Error::other(failure.what));
            archive?.fetch(&packages, self.project, output).map_err(|failure| std::io::Error::other(failure.what))?;
        }
        Ok(())
    }

    fn package(&self, sha256: Sha256) -> std::io::Result<PathBuf> {
        let missing =
            || std::io::Error::new(std::io::ErrorKind::NotFound, format!("package {sha256} is not in the cache"));
        Some(packages::place(sha256)).filter(|path| path.exists()).ok_or_else(missing)
    }
}

/// Sends what the server lacks, and waits until it is published there.
fn stage(project: &Loaded, ready: &Ready, connected: &mut Connected, output: &mut Output) -> Result<(), Failure> {
    let generation = &ready.planned.generation;
    let base = connected.hello.active.and_then(|id| connect::cache().recall(&id));
    let shelf = Shelf { bytes: &ready.bytes, project, output: Some(&*output) };
    let shipment = Shipment { generation, trees: &ready.planned.trees, base: base.as_ref(), sources: &shelf };
    let mut progress = |progress: transfer::Progress| {
        output.detail(&format!("{} of {}", bytes(progress.done), bytes(progress.total)));
    };
    let mut sent = transfer::send(connected.session.line(), shipment, &mut progress);
    // What the server should still have of its active generation is altered: everything is compared and sent anew.
    if let Err(transfer::SendError::Failed(failed)) = &sent
        && failed.kind == message::Failure::Damaged
        && base.is_some()
    {
        sent = transfer::send(connected.session.line(), Shipment { base: None, ..shipment }, &mut progress);
    }
    if let Err(error) = sent {
        return Err(match error {
            transfer::SendError::Failed(failed) => connect::refused(&failed, connected.runs()),
            error => Failure::before(format!("{}\n{}", chain(&error), connected.session.said())).runs(connected.runs()),
        });
    }
    output.phase("stage");
    let reply = connected.listen(&mut |_, event| {
        if let Event::Progress { what, done, total } = event {
            output.detail(&format!("{what}: {} of {}", bytes(done), bytes(total)));
        }
        Ok(())
    });
    let placed = |failure| place::of_option(place::added(failure, project), project, &generation.server);
    match reply.map_err(placed)? {
        Reply::Staged { .. } => Ok(()),
        _ => Err(Failure::before("the agent answered something else").runs(connected.runs())),
    }
}

/// Asks for the activation and sees it through to its end.
fn activate(
    connected: &mut Connected,
    request: &Request,
    trial: &Trial,
    measured: &mut Measured,
    output: &mut Output,
) -> Result<Ended, Failure> {
    connected.probing.settle();
    output.phase("activate");
    let mut activation = None;
    let reply =
        connected.ask(request, |connected, event| watch(connected, event, trial, &mut activation, measured, output));
    let reply = match (reply, activation) {
        (Ok(reply), _) => reply,
        // The activation goes on without us; whoever comes back finds it again.
        (Err(failure), Some(id)) if failure.exit == Exit::BeforeSwitch => {
            take_up(connected, &id, trial, measured, output).map_err(|_| Failure {
                exit: Exit::Stuck,
                what: format!("the connection broke while the activation {id} went on\n{}", failure.what),
                runs: Runs::Unknown,
                hint: Some(
                    "`stead deploy --attach` tells how it ended; without a login the server goes back by itself"
                        .to_owned(),
                ),
            })?
        }
        (Err(failure), _) => return Err(failure),
    };
    match reply {
        Reply::Ended(ended) => Ok(*ended),
        _ => Err(Failure::before("the agent answered something else").runs(connected.runs())),
    }
}

/// Logs in again and follows a running activation.
fn take_up(
    connected: &mut Connected,
    id: &str,
    trial: &Trial,
    measured: &mut Measured,
    output: &mut Output,
) -> Result<Reply, Failure> {
    output.say("  the connection broke; the activation goes on, logging in again");
    connected.reconnect()?;
    let request = Request::Attach { activation: Some(id.to_owned()) };
    let mut activation = None;
    connected.ask(&request, |connected, event| watch(connected, event, trial, &mut activation, measured, output))
}

fn watch(
    connected: &mut Connected,
    event: Event,
    trial: &Trial,
    activation: &mut Option<String>,
    measured: &mut Measured,
    output: &mut Output,
) -> Result<(), Failure> {
    match event {
        Event::Began { activation: id } => {
            interrupt::under_way(&id, trial.confirm_deadline);
            *activation = Some(id);
        }
        Event::Phase(Phase::OnTrial) => output.phase("switch"),
        Event::Phase(Phase::GoingBack) => output.phase("going back"),
        Event::Live { .. } => {
            measured.live = measured.began.map(|began| began.elapsed().as_secs_f64());
            output.phase("prove");
        }
        Event::Note(words) => output.detail(&words),
        Event::Did(words) => {
            let after = measured.began.map(|began| format!(" ({:.1} s)", began.elapsed().as_secs_f64()));
            output.say(&format!("  {words}{}", after.unwrap_or_default()));
            measured.did.push(words);
        }
        Event::Probe(answered) => connected.probing.heard(answered, output),
        Event::ProbeFromOutside { activation, probes, broken } => connected.probe(&activation, probes, broken),
        Event::AwaitingLogin { activation, deadline } if !trial.no_confirm => {
            if !connected.probing.passed(deadline, output) {
                return Ok(());
            }
            output.phase("confirm");
            if let Err(failure) = connected.confirm(&activation) {
                output.say(&format!("  a fresh login failed: {}", failure.what));
                output.say("  the server goes back when its deadline is over");
            }
        }
        _ => {}
    }
    Ok(())
}

/// Finds the running or last activation again.
pub(crate) fn attach(global: &Global, target: &Target, trial: &Trial, output: &mut Output) -> Result<(), Failure> {
    let project = project::load(&global.project, output)?;
    let server = project.server(target.server.as_deref())?;
    output.phase("connect");
    let mut connected = connect::begin(server, target)?.join(output)?;
    let mut measured = Measured::default();
    let ended = activate(&mut connected, &Request::Attach { activation: None }, trial, &mut measured, output)?;
    conclude(&mut connected, server, &ended, &measured, output)
}

/// Goes back to the generation before, or to a named one.
pub(crate) fn rollback(
    global: &Global,
    target: &Target,
    to: Option<&str>,
    trial: &Trial,
    output: &mut Output,
) -> Result<(), Failure> {
    let began = Instant::now();
    output.phase("connect");
    let early = connect::early(&global.project, target);
    let project = project::load(&global.project, output)?;
    let server = project.server(target.server.as_deref())?;
    let mut connected = connect::keep(early, &global.project, server, target)?.join(output)?;
    connected.look_from_outside(server);
    let generation = to.map(|text| kept(&connected, text)).transpose()?;
    let request = activation(&connected, generation, Verb::Rollback, trial);
    let told = Told { verb: Verb::Rollback, generation, parent: connected.hello.active, ended: None };
    hooks::before_switch(server, &project.root, told, output)?;
    let mut measured = Measured { began: Some(began), ..Measured::default() };
    let ended = activate(&mut connected, &request, trial, &mut measured, output)?;
    let told = Told { generation: ended.generation, ended: Some(&ended), ..told };
    hooks::after(server, &project.root, told, output);
    conclude(&mut connected, server, &ended, &measured, output)
}

/// The kept generation that these first digits mean.
pub(crate) fn kept(connected: &Connected, text: &str) -> Result<Hash, Failure> {
    let found: Vec<&Hash> = connected.hello.generations.iter().filter(|id| id.to_string().starts_with(text)).collect();
    match found[..] {
        _ if text.len() < 4 => Err(Failure::request(format!("`{text}` is too short for a generation"))
            .hint("give at least its first four digits")),
        [id] => Ok(*id),
        [] => Err(Failure::request(format!("the server keeps no generation `{text}`"))
            .hint("`stead history` lists them")
            .runs(connected.runs())),
        _ => Err(Failure::request(format!("`{text}` could mean several generations"))
            .hint("give more digits")
            .runs(connected.runs())),
    }
}

/// The last words, and the exit code.
fn conclude(
    connected: &mut Connected,
    server: &Server,
    ended: &Ended,
    measured: &Measured,
    output: &mut Output,
) -> Result<(), Failure> {
    interrupt::over();
    let probes = connected.probing.answers(output);
    output.finish();
    let seconds = measured.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
    let sent = connected.session.sent();
    let outcome = match ended.outcome {
        Outcome::Unchanged => "unchanged",
        Outcome::Confirmed => "confirmed",
        Outcome::WentBack => "wentBack",
        Outcome::Stuck => "stuck",
    };
    let document = json!({
        "server": server.name,
        "outcome": outcome,
        "generation": ended.generation,
        "active": ended.active,
        "before": connected.hello.active,
        "activation": ended.activation,
        "reason": ended.reason,
        "did": measured.did,
        "notes": ended.notes,
        "seconds": measured.live.unwrap_or(seconds),
        "confirmedSeconds": seconds,
        "phases": output.phases(),
        "probes": probes,
        "bytesSent": sent,
        "bytesReceived": connected.session.received(),
        "agentPeakKib": ended.usage.peak_kib,
        "serverCpuSeconds": ended.usage.cpu_ms as f64 / 1000.0,
    });
    let reason = ended.reason.clone().unwrap_or_else(|| "no reason was told".to_owned());
    let id = ended.generation.map(|id| id.short()).unwrap_or_default();
    for note in &ended.notes {
        output.say(&format!("  warning: {note}"));
    }
    match ended.outcome {
        Outcome::Unchanged => {
            output.good(&format!(
                "nothing changed: generation {id} runs on {} and is well ({seconds:.2} s)",
                server.name
            ));
        }
        Outcome::Confirmed => {
            let live = measured.live.map(|live| format!("live after {live:.2} s, ")).unwrap_or_default();
            // Of one that was found again, only how it ended is known here.
            let times = match measured.began {
                Some(_) => format!(": {live}confirmed after {seconds:.2} s, {} sent", bytes(sent)),
                None => " and confirmed".to_owned(),
            };
            output.good(&format!("generation {id} is live on {}{times}", server.name));
            if let Some(reason) = &ended.reason {
                output.say(&format!("  warning: not all that it replaced is gone: {reason}"));
            }
            if connected.hello.active.is_some() {
                output.say("  undo: stead rollback");
            }
        }
        Outcome::WentBack => {
            return Err(Failure {
                exit: Exit::WentBack,
                what: reason,
                runs: Runs::Generation(ended.active),
                hint: None,
            });
        }
        Outcome::Stuck => {
            return Err(Failure { exit: Exit::Stuck, what: reason, runs: Runs::Generation(ended.active), hint: None });
        }
    }
    output.json(&document);
    Ok(())
}
