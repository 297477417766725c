//! The scenarios, one after the other, on one lab.
//!
//! Every run of a scenario changes something that no run before it had, so that nothing is live, sent or
//! built already; what is measured ends when a visitor gets the new answer, not when the program says so.

use super::figures::{self, Sample, Scenario, Summary};
use super::floor::{Floors, Samples};
use super::http::{self, Page, Watch};
use super::program::{DeployDocument, Program};
use super::rsync;
use super::server::{APP, APP_SITE, STATIC_SITE, Server};
use super::trust;
use crate::run::{Failure, Result, fail, step};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use xtask::load::{self, Report};

const PAGE: &str = "portfolio/about.html";
pub(super) const SOURCE: &str = "BillTracker/lib/bill_tracker.ex";
/// The files of the working copy that are changed.
pub(crate) const CHANGED: [&str; 4] = [PAGE, SOURCE, trust::ROUTES, trust::SITES];

/// How long a new answer is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long visitors are watched before and after what is measured.
const MARGIN: Duration = Duration::from_millis(500);
/// How long the visitors' own cost is measured.
const IDLE: Duration = Duration::from_secs(4);

/// What the bench found.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) results: Vec<Summary>,
    pub(crate) floors: Floors,
}

/// A bench under way.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    program: &'a Program,
    folder: &'a Path,
    runs: usize,
    floors: Samples,
    samples: Vec<(Scenario, Sample)>,
    cost: Cost,
    changes: u32,
    /// The marker of the page that is live whenever a scenario begins.
    live_page: String,
}

/// CPU seconds per second that the server spends without any deploy.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    visitors: f64,
    watch: f64,
}

/// What was seen of one command.
struct Seen {
    began: Instant,
    ended: Instant,
    /// When the new answer came.
    live: Option<Instant>,
    document: DeployDocument,
    load: Report,
    cpu: Option<Duration>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(program: &'a Program, folder: &'a Path, runs: usize) -> Self {
        let (floors, samples) = (Samples::default(), Vec::new());
        Self { program, folder, runs, floors, samples, cost: Cost::default(), changes: 0, live_page: String::new() }
    }

    /// A lab with the project as it is, its packages in the operator's cache. Not counted.
    pub(crate) fn begin(&mut self) -> Result<Server> {
        step("pin and build", || {
            self.live_page = self.change_page()?;
            self.program.ask::<serde_json::Value>(&["update"])?;
            self.program.ask::<serde_json::Value>(&["check"])
        })?;
        step("first deploy, cold", || self.cold())
    }

    /// Runs these scenarios, on this lab or one that takes its place. The lab stays, for the caller to remove.
    pub(crate) fn measure(&mut self, server: &mut Server, scenarios: &[Scenario]) -> Result<Measured> {
        let wants = |scenario: Scenario| scenarios.contains(&scenario);
        step("stead check", || self.floors.check(self.program, self.runs))?;
        if wants(Scenario::First) {
            for _ in 0..self.runs {
                *server = step("first", || self.first())?;
            }
        }
        let server = &*server;
        step("the visitors' own cost", || self.visitors_cost(server))?;
        step("rsync on the lab", || rsync::install(server))?;
        if wants(Scenario::Unchanged) {
            self.repeat(Scenario::Unchanged, |bench| bench.unchanged(server))?;
        }
        if wants(Scenario::Static) || wants(Scenario::Rollback) {
            rsync::send(server, &self.site(), "site")?;
            self.repeat(Scenario::Static, |bench| bench.page_and_back(server))?;
        }
        if wants(Scenario::App) {
            self.repeat(Scenario::App, |bench| bench.app(server))?;
        }
        if wants(Scenario::Up) {
            self.repeat(Scenario::Up, |bench| bench.up(server))?;
        }
        Ok(self.measured(scenarios))
    }

    fn measured(&self, scenarios: &[Scenario]) -> Measured {
        let floors = self.floors.floors();
        let results = scenarios.iter().filter_map(|scenario| {
            let of = self.samples.iter().filter(|(other, _)| other == scenario);
            figures::summary(*scenario, &of.map(|(_, sample)| sample.clone()).collect::<Vec<_>>())
        });
        Measured { results: results.collect(), floors }
    }

    fn repeat(&mut self, scenario: Scenario, run: impl Fn(&mut Self) -> Result) -> Result {
        for _ in 0..self.runs {
            step(scenario.name(), || run(self))?;
        }
        Ok(())
    }

    pub(super) fn program(&self) -> &'a Program {
        self.program
    }

    fn site(&self) -> PathBuf {
        self.program.project().join("portfolio")
    }

    /// A deploy to a fresh lab; visitors come as soon as both sites answer.
    fn first(&mut self) -> Result<Server> {
        let server = Server::new(self.program.lab(), self.program.fresh_lab()?)?;
        let floor = self.floors.logins(&server)?;
        let pages = vec![
            Page { host: APP_SITE, path: "/health", text: "ok".to_owned() },
            Page { host: STATIC_SITE, path: "/", text: "<html".to_owned() },
        ];
        let seen = self.watched(&server, "up", pages, false)?;
        self.add(Scenario::First, &seen, floor, None, None);
        Ok(server)
    }

    /// A deploy to a fresh lab that only fills the operator's caches.
    fn cold(&self) -> Result<Server> {
        let server = Server::new(self.program.lab(), self.program.fresh_lab()?)?;
        self.program.deploy("deploy").map(|_| server)
    }

    fn unchanged(&mut self, server: &Server) -> Result {
        let floor = self.floors.logins(server)?;
        let seen = self.watched(server, "deploy", Vec::new(), true)?;
        self.add(Scenario::Unchanged, &seen, floor, None, None);
        Ok(())
    }

    /// One page changed and deployed, and back again: two scenarios.
    fn page_and_back(&mut self, server: &Server) -> Result {
        let old = self.live_page.clone();
        let new = self.change_page()?;
        let update = self.update("portfolio")?;
        let rsync = rsync::send(server, &self.site(), "site")?;

        let page = |text: String| vec![Page { host: STATIC_SITE, path: "/about.html", text }];
        let floor = self.floors.logins(server)?;
        let seen = self.watched(server, "deploy", page(new), true)?;
        self.add(Scenario::Static, &seen, floor, Some(rsync), Some(update));
        let floor = self.floors.logins(server)?;
        let seen = self.watched(server, "rollback", page(old), true)?;
        self.add(Scenario::Rollback, &seen, floor, None, None);
        Ok(())
    }

    fn app(&mut self, server: &Server) -> Result {
        self.keep_release(server)?;
        let version = self.change_app()?;
        let update = self.update("billtracker")?;
        self.program.ask::<serde_json::Value>(&["check"])?;
        let start_up = server.start_up()?;
        self.floors.start_up.push(start_up);
        let floor = self.floors.logins(server)?;
        let seen = self.watched(server, "deploy", version_page(version), true)?;
        // What rsync would have sent, from the copy as it was to the release as it is now.
        let release = self.fetch_release(server)?;
        let rsync = rsync::send(server, &release, "release")?;
        self.add(Scenario::App, &seen, floor, Some(rsync), Some(update));
        if let Some((_, sample)) = self.samples.last_mut() {
            sample.start_up_seconds = Some(start_up);
        }
        Ok(())
    }

    fn up(&mut self, server: &Server) -> Result {
        let version = self.change_app()?;
        let floor = self.floors.logins(server)?;
        let seen = self.watched(server, "up", version_page(version), true)?;
        self.add(Scenario::Up, &seen, floor, None, None);
        Ok(())
    }

    /// The lab's copy of the release becomes what runs there now.
    fn keep_release(&self, server: &Server) -> Result {
        let release = self.fetch_release(server)?;
        rsync::send(server, &release, "release").map(drop)
    }

    fn fetch_release(&self, server: &Server) -> Result<PathBuf> {
        let here = self.folder.join("release");
        rsync::fetch(server, &server.release()?, &here)?;
        Ok(here)
    }

    fn marker(&mut self) -> String {
        self.changes += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("bench-{}-{}", now.as_secs(), self.changes)
    }

    /// Writes a new marker at the end of the page, and returns it.
    fn change_page(&mut self) -> Result<String> {
        let new = self.marker();
        let file = self.program.project().join(PAGE);
        let text = fs::read_to_string(&file)?;
        let page: String = text.split_inclusive('\n').filter(|line| !line.starts_with("<!-- bench-")).collect();
        fs::write(&file, format!("{page}<!-- {new} -->\n"))?;
        Ok(new)
    }

    /// Changes the line with the app's version, and returns the new one.
    pub(super) fn change_app(&mut self) -> Result<String> {
        let new = self.marker();
        let file = self.program.project().join(SOURCE);
        let source = fs::read_to_string(&file)?;
        let line = source.lines().find(|line| line.trim_start().starts_with("@version "));
        let Some(line) = line else { return fail(format!("{SOURCE} has no version line")) };
        fs::write(&file, source.replacen(line, &format!("  @version \"{new}\""), 1))?;
        Ok(new)
    }

    pub(super) fn update(&self, input: &str) -> Result<f64> {
        let began = Instant::now();
        self.program.ask::<serde_json::Value>(&["update", input])?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Runs the command with visitors on both sites, and watches these pages become new.
    fn watched(&self, server: &Server, verb: &str, pages: Vec<Page>, visited_before: bool) -> Result<Seen> {
        let before = if visited_before { Some(steady(server)?) } else { None };
        let cpu = server.cpu();
        let began = Instant::now();
        let watch = (!pages.is_empty()).then(|| Watch::begin(server.http(), pages, http::PAUSE, PATIENCE));
        let (document, ended, live, visitors) = thread::scope(|scope| -> Result<_> {
            let deploy = scope.spawn(|| (self.program.deploy(verb), Instant::now()));
            let live = watch.map(Watch::seen);
            let visitors = match (before, live) {
                (Some(visitors), _) => Some(visitors),
                (None, Some(Some(_))) => Some(server.visitors()?),
                (None, _) => None,
            };
            let (document, ended) =
                deploy.join().map_err(|_| Failure("the thread of the deploy panicked".to_owned()))?;
            Ok((document?, ended, live, visitors))
        })?;
        let cpu = server.cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        thread::sleep(MARGIN);
        if live == Some(None) {
            return fail(format!("`stead {verb}` ended well, but the new answer never came"));
        }
        if document.outcome != if live.is_some() { "confirmed" } else { "unchanged" } {
            return fail(format!("`stead {verb}` ended otherwise than expected: {}", document.outcome));
        }
        let Some(load) = visitors.map(load::Handle::stop) else { return fail("no visitor was there") };
        if load.lost > 0 {
            load.failures.iter().for_each(|failure| {
                eprintln!("  lost at {:.3} s: {}: {}", failure.at, failure.what, failure.why);
            });
        }
        Ok(Seen { began, ended, live: live.flatten(), document, load, cpu })
    }

    fn add(&mut self, scenario: Scenario, seen: &Seen, floor: f64, rsync: Option<u64>, update: Option<f64>) {
        let whole = (seen.ended - seen.began).as_secs_f64();
        let seconds = seen.live.map_or(whole, |live| (live - seen.began).as_secs_f64());
        let document = &seen.document;
        // The visitors of the first deploy come with its first answer; there is nothing to watch before it either.
        let (visited, watched) = match (scenario, seen.live) {
            (Scenario::First, _) => (whole - seconds, 0.0),
            (_, Some(_)) => (whole, seconds),
            (_, None) => (whole, 0.0),
        };
        let others = self.cost.visitors * visited + self.cost.watch * watched;
        let sample = Sample {
            seconds,
            confirmed_seconds: document.confirmed_seconds,
            whole_seconds: whole,
            bytes_sent: document.bytes_sent,
            rsync_bytes: rsync,
            agent_peak_kib: document.agent_peak_kib,
            agent_cpu_seconds: document.server_cpu_seconds,
            server_cpu_seconds: seen.cpu.map(|cpu| (cpu.as_secs_f64() - others).max(0.0)),
            ssh_true_seconds: floor,
            update_seconds: update,
            start_up_seconds: None,
            phases: document.phases.clone(),
            load: seen.load.clone(),
        };
        let phases: Vec<String> = sample.phases.iter().map(|(name, time)| format!("{name} {time:.2}")).collect();
        eprintln!(
            "  {:<9} new answer {seconds:.3} s, told {:.3} s, confirmed {:.3} s, whole {:.3} s, {} bytes, login {floor:.3} s · {}",
            scenario.name(),
            document.seconds,
            sample.confirmed_seconds,
            sample.whole_seconds,
            sample.bytes_sent,
            phases.join(" · "),
        );
        self.samples.push((scenario, sample));
    }

    /// What visitors and the watch cost the server by themselves.
    fn visitors_cost(&mut self, server: &Server) -> Result {
        let visitors = steady(server)?;
        let rate = |work: &dyn Fn()| {
            let (began, before) = (Instant::now(), server.cpu()?);
            work();
            Some((server.cpu()?.saturating_sub(before)).as_secs_f64() / began.elapsed().as_secs_f64())
        };
        let idle = rate(&|| thread::sleep(IDLE)).unwrap_or(0.0);
        let never = vec![Page { host: STATIC_SITE, path: "/about.html", text: "never there".to_owned() }];
        let busy = rate(&|| {
            let _ = Watch::begin(server.http(), never.clone(), http::PAUSE, IDLE).seen();
        })
        .unwrap_or(0.0);
        drop(visitors.stop());
        self.cost = Cost { visitors: idle, watch: (busy - idle).max(0.0) };
        Ok(())
    }
}

pub(super) fn version_page(version: String) -> Vec<Page> {
    vec![Page { host: APP_SITE, path: "/version", text: version }]
}

/// Visitors who were all answered once.
fn steady(server: &Server) -> Result<load::Handle> {
    let visitors = server.visitors()?;
    if !visitors.wait_until_steady(Duration::from_secs(20)) {
        let report = visitors.stop();
        return fail(format!("the sites of {APP} do not answer steadily: {:?}", report.failures.first()));
    }
    thread::sleep(MARGIN);
    Ok(visitors)
}
