//! Deploys under load: one that is healthy, one that never gets well, one that goes back when visitors have met it,
//! and one that changes nginx itself.
//!
//! Promises numbers, not verdicts; but a deploy that ends otherwise than its scenario is about, or has not done what
//! it is about, has measured nothing: that ends the bench with the program's words. Visitors are there before the command
//! begins and stay until the drain time of whatever it replaced is over.

use super::http::Watch;
use super::said;
use super::scenarios::{Bench, SOURCE, version_page};
use super::server::{self, LetsGo, Server};
use super::visits::{SETTLED, Seen, Visitors};
use crate::run::{Result, fail, step};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

/// Where the app says whether it is well.
pub(crate) const ROUTES: &str = "BillTracker/lib/bill_tracker/routes.ex";
const WELL: &str = "text(200, \"ok\\n\")";
const NEVER_WELL: &str = "plain(404)";
/// Where nginx is declared.
pub(crate) const SITES: &str = "modules/server.ncl";
const MODULE: &str = "fun { inputs, .. } => {\n";
/// With one package more, nginx's runtime is another one, and so is its instance.
const PACKAGES: [&str; 2] = ["\"nginx\"", "\"nginx\", \"libnginx-mod-http-echo\""];

/// WebSockets, all together.
const WEB_SOCKETS: usize = 100;
/// `services.nginx.drain`, as it is declared for the bench: what an instance of nginx that is replaced gives its
/// connections. An app's own drain time is as long, and begins no earlier than the reload that leads visitors away.
const DRAIN: Duration = Duration::from_secs(30);
/// Visitors are watched for so long before the command: how long their pauses are without any deploy.
const QUIET: Duration = Duration::from_secs(5);
/// They stay for so long after the drain time that began during the command, at the latest.
const MARGIN: Duration = Duration::from_secs(2);
/// The pause between two looks for the new answer: few beside all the visitors.
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);

/// A deploy under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The app changed.
    Healthy,
    /// The app changed so that it is never well: visitors never meet it.
    Unhealthy,
    /// The app changed, visitors met it, and the login that confirms it never came.
    Late,
    /// nginx's packages changed: another instance on the same sockets.
    Nginx,
}

/// One entry of `target/bench-trust.json`. Requests and WebSockets are of all runs together, the longest and slowest that
/// of any run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) scenario: &'static str,
    pub(crate) runs: usize,
    pub(crate) requests: u64,
    pub(crate) requests_lost: u64,
    /// Longest time between two good answers of one site over one kind of connections, kept or fresh.
    pub(crate) longest_pause_ms: f64,
    /// The same before the command began: what the machine and the visitors do to each other by themselves.
    pub(crate) quiet_pause_ms: f64,
    /// The same until the command ended: without what comes when connections are due, and all come back at once.
    pub(crate) command_pause_ms: f64,
    /// The slowest good answer.
    pub(crate) slowest_ms: f64,
    /// Opened, those opened again included.
    pub(crate) web_sockets: u64,
    /// Closed before the drain time of their nginx process was over, or refused.
    pub(crate) web_sockets_closed_early: u64,
    /// Closed when it was over.
    pub(crate) web_sockets_closed_due: u64,
    /// The exit code of the command, in every run.
    pub(crate) exit: i32,
    /// The whole command, the most of any run.
    pub(crate) seconds: f64,
    /// The longest that a request left after its time.
    pub(crate) latest_ms: f64,
    /// Part of one processor that the visitors themselves took, the most of any run.
    pub(crate) visitors_cpu: f64,
}

/// One run.
#[derive(Debug, Clone)]
struct Run {
    seen: Seen,
    /// The longest pause before the command began.
    quiet_ms: f64,
    /// The longest until it ended.
    command_ms: f64,
    early: u64,
    seconds: f64,
}

/// What was seen of one command.
struct Visited {
    seen: Seen,
    quiet_ms: f64,
    command_ms: f64,
    /// When the command began, since 1970.
    began: Duration,
    seconds: f64,
    output: Output,
    lets_go: Vec<LetsGo>,
}

impl Trust {
    /// In the order in which they run.
    pub(crate) const ALL: [Self; 4] = [Self::Healthy, Self::Unhealthy, Self::Late, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Late => "late",
            Self::Nginx => "nginx",
        }
    }

    /// How the command ends.
    fn exit(self) -> i32 {
        match self {
            Self::Healthy | Self::Nginx => 0,
            Self::Unhealthy | Self::Late => 4,
        }
    }

    fn goes_back(self) -> bool {
        self.exit() == 4
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Late => &["deploy", "--no-confirm", "--confirm-deadline", "3"],
            _ => &["deploy"],
        }
    }
}

/// Runs each of these so often; what is known is in `results`, also when it fails.
pub(crate) fn measure(
    bench: &mut Bench<'_>,
    server: &Server,
    scenarios: &[Trust],
    runs: usize,
    results: &mut Vec<Summary>,
) -> Result {
    let mut packages = PACKAGES.iter().cycle();
    step("nginx as it is declared", || {
        declare(bench.program().project(), packages.next().copied().unwrap_or_default())?;
        bench.program().ask::<serde_json::Value>(&["update"])?;
        bench.program().deploy("deploy")
    })?;
    for scenario in scenarios {
        let mut done = Vec::new();
        for _ in 0..runs {
            let packages = if *scenario == Trust::Nginx { packages.next().copied() } else { None };
            done.push(step(scenario.name(), || run(bench, server, *scenario, packages))?);
        }
        results.extend(summary(*scenario, &done));
    }
    Ok(())
}

/// Makes the change, deploys it under load, and leaves the project as the server then is.
fn run(bench: &mut Bench<'_>, server: &Server, scenario: Trust, packages: Option<&str>) -> Result<Run> {
    let program = bench.program();
    let project = program.project();
    let before = program.status()?;
    let files = [SOURCE, ROUTES].map(|file| project.join(file));
    let texts = files.iter().map(fs::read_to_string).collect::<std::io::Result<Vec<_>>>()?;
    let mut version = None;
    if let Some(packages) = packages {
        declare(project, packages)?;
        program.ask::<serde_json::Value>(&["update"])?;
    } else {
        version = Some(bench.change_app()?);
        if scenario == Trust::Unhealthy {
            replace(&project.join(ROUTES), WELL, NEVER_WELL)?;
            version = None;
        }
        bench.update("billtracker")?;
    }
    program.ask::<serde_json::Value>(&["check"])?;

    let Visited { seen, quiet_ms, command_ms, began, seconds, output, lets_go } =
        visited(bench, server, scenario, version)?;
    if output.status.code() != Some(scenario.exit()) {
        return Err(said(
            &format!("the deploy of `{}`, which has to exit with {},", scenario.name(), scenario.exit()),
            &output,
        ));
    }
    let after = program.status()?;
    let is_back = after == before;
    if is_back != scenario.goes_back() || after.active != after.confirmed {
        return fail(format!("after `{}` the server runs {after:?}; before it ran {before:?}", scenario.name()));
    }
    if scenario == Trust::Nginx && !lets_go.iter().any(|told| told.stops) {
        return fail("no instance of nginx was replaced");
    }
    if scenario.goes_back() {
        for (file, text) in files.iter().zip(texts) {
            fs::write(file, text)?;
        }
        bench.update("billtracker")?;
    }
    let early = seen.endings.iter().filter(|ending| ending.is_early(&lets_go, DRAIN)).count() as u64;
    let run = Run { seen, quiet_ms, command_ms, early, seconds };
    tell(&run, began, &lets_go);
    Ok(run)
}

/// The deploy, with visitors before, during and after.
fn visited(bench: &Bench<'_>, server: &Server, scenario: Trust, version: Option<String>) -> Result<Visited> {
    // Some of the visitors of a candidate that goes back come when it is live.
    let later = if scenario == Trust::Late { WEB_SOCKETS / 2 } else { 0 };
    let mut visitors = Visitors::come(server, WEB_SOCKETS - later)?;
    thread::sleep(QUIET);
    let quiet_ms = visitors.longest_pause_ms();
    let watch = version.map(|version| Watch::begin(server.http(), version_page(version), LOOK, PATIENCE));
    let (since, began) = (server::now(), Instant::now());
    let (output, seconds) = thread::scope(|scope| -> Result<_> {
        let deploy = scope.spawn(|| (bench.program().end(scenario.command()), began.elapsed()));
        if let Some(watch) = watch {
            if watch.seen().is_none() {
                let Ok((output, _)) = deploy.join() else { return fail("the bench's own thread failed") };
                return Err(said("no visitor met the new release: its deploy", &output?));
            }
            if later > 0 {
                // None of them on an nginx process that was told to let go already.
                thread::sleep(SETTLED);
                visitors.open_more(server, later)?;
                if deploy.is_finished() {
                    return fail("the candidate went back before its visitors had come");
                }
            }
        }
        let Ok((output, seconds)) = deploy.join() else { return fail("the bench's own thread failed") };
        Ok((output?, seconds.as_secs_f64()))
    })?;
    let command_ms = visitors.longest_pause_ms();
    // Also where nobody met the candidate: what went back may have made nginx let go.
    thread::sleep(DRAIN + MARGIN);
    let seen = visitors.go()?;
    Ok(Visited { seen, quiet_ms, command_ms, began: since, seconds, output, lets_go: server.lets_go(since)? })
}

/// Adds up the runs of a scenario; `None` when there was none.
fn summary(scenario: Trust, runs: &[Run]) -> Option<Summary> {
    runs.first()?;
    let sum = |of: &dyn Fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
    let most = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    Some(Summary {
        scenario: scenario.name(),
        runs: runs.len(),
        requests: sum(&|run| run.seen.requests),
        requests_lost: sum(&|run| run.seen.requests_lost),
        longest_pause_ms: most(&|run| run.seen.longest_pause_ms),
        quiet_pause_ms: most(&|run| run.quiet_ms),
        command_pause_ms: most(&|run| run.command_ms),
        slowest_ms: most(&|run| run.seen.slowest_ms),
        web_sockets: sum(&|run| run.seen.web_sockets),
        web_sockets_closed_early: sum(&|run| run.early),
        web_sockets_closed_due: sum(&|run| run.seen.endings.len() as u64 - run.early),
        exit: scenario.exit(),
        seconds: most(&|run| run.seconds),
        latest_ms: most(&|run| run.seen.latest_ms),
        visitors_cpu: most(&|run| run.seen.own_cpu),
    })
}

fn tell(run: &Run, began: Duration, lets_go: &[LetsGo]) {
    let seen = &run.seen;
    eprintln!(
        "  {} of {} requests lost, pause {:.0} ms (at {:.1} s; before the command {:.0} ms, until its end {:.0} ms), slowest {:.0} ms, latest {:.0} ms; {} WebSockets, {} closed early, {} when due; \
         nginx let go {} times; command {:.2} s, visitors' CPU {:.0} %",
        seen.requests_lost,
        seen.requests,
        seen.longest_pause_ms,
        seen.longest_pause_at.as_secs_f64() - began.as_secs_f64(),
        run.quiet_ms,
        run.command_ms,
        seen.slowest_ms,
        seen.latest_ms,
        seen.web_sockets,
        run.early,
        seen.endings.len() as u64 - run.early,
        lets_go.len(),
        run.seconds,
        seen.own_cpu * 100.0,
    );
    if seen.requests_lost > 0 || run.early > 0 {
        seen.failures.iter().take(20).for_each(|failure| eprintln!("  at {failure}"));
    }
}

/// Declares nginx with these packages and the drain time that the bench counts with.
fn declare(project: &Path, packages: &str) -> Result {
    let file: PathBuf = project.join(SITES);
    let text = fs::read_to_string(&file)?;
    fs::write(&file, declared(&text, packages).map_or_else(|| fail(format!("{SITES} begins otherwise")), Ok)?)?;
    Ok(())
}

/// The module with the bench's own lines, instead of those that an earlier call put there.
fn declared(module: &str, packages: &str) -> Option<String> {
    const OURS: &str = "# bench\n";
    let (comment, body) = module.split_once(MODULE)?;
    let body: String = body.split_inclusive('\n').filter(|line| !line.ends_with(OURS)).collect();
    let lines = [
        format!("  services.nginx.packages = [{packages}], {OURS}"),
        format!("  services.nginx.drain = {}, {OURS}", DRAIN.as_secs()),
    ];
    Some(format!("{comment}{MODULE}{}{body}", lines.concat()))
}

fn replace(file: &Path, old: &str, new: &str) -> Result {
    let text = fs::read_to_string(file)?;
    if !text.contains(old) {
        return fail(format!("{} has no `{old}`", file.display()));
    }
    Ok(fs::write(file, text.replacen(old, new, 1))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::visits::Ending;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/two-sites");

    #[test]
    fn one_lost_request_or_early_closing_in_one_run_is_told() {
        let ending = Ending { opened: None, ended: Duration::ZERO };
        let run = |lost, early, pause, seconds| Run {
            seen: Seen {
                requests: 10,
                requests_lost: lost,
                longest_pause_ms: pause,
                web_sockets: 2,
                endings: vec![ending; 2],
                ..Seen::default()
            },
            quiet_ms: pause / 2.0,
            command_ms: pause / 1.5,
            early,
            seconds,
        };
        let summary =
            summary(Trust::Late, &[run(0, 0, 20.0, 7.0), run(1, 2, 90.0, 5.0), run(0, 0, 30.0, 6.0)]).unwrap();
        assert_eq!((summary.requests, summary.requests_lost, summary.longest_pause_ms), (30, 1, 90.0));
        assert_eq!((summary.web_sockets, summary.web_sockets_closed_early, summary.web_sockets_closed_due), (6, 2, 4));
        assert_eq!((summary.exit, summary.seconds), (4, 7.0));
        assert_eq!((summary.quiet_pause_ms, summary.command_pause_ms), (45.0, 60.0));
        assert_eq!(super::summary(Trust::Late, &[]), None);
    }

    #[test]
    fn the_example_has_what_the_scenarios_change() {
        let read = |file: &str| fs::read_to_string(Path::new(EXAMPLE).join(file)).unwrap();
        assert!(read(ROUTES).contains(WELL));
        let sites = read(SITES);
        let one = declared(&sites, PACKAGES[0]).unwrap();
        assert!(one.contains("services.nginx.packages = [\"nginx\"],") && one.contains("services.nginx.drain = 30,"));
        let other = declared(&one, PACKAGES[1]).unwrap();
        assert!(other.contains("libnginx-mod-http-echo") && other.lines().count() == one.lines().count());
        assert_eq!(declared(&other, PACKAGES[0]).unwrap(), one);
    }
}
