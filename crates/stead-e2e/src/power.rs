//! Power cuts: a server in a virtual machine loses its power at a random moment of a deploy.
//!
//! After every cut the same is asked: the server boots; what runs is one of the two generations,
//! whole, and it is the confirmed one; its sites answer with that generation's content; no byte of
//! it is altered; the operator was not told that all is well when it was not; the next deploy just
//! works; and the history tells how what was cut ended.
//!
//! A moment is drawn from the whole length of the operation. The length is known from an earlier one
//! of the same server; that of the first from how long the server took to boot.

use crate::http;
use crate::lab::Machine;
use crate::listing::Listing;
use crate::outcome::Outcome;
use crate::project::Small;
use crate::stage::Stage;
use crate::wait;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long an emulated server may take for what takes a second elsewhere.
const PATIENCE: Duration = Duration::from_secs(240);

/// What an emulated processor that shares its machine needs beside the small project's own settings.
const UNHURRIED: &str = "apps.hello.health.deadline | force = 240, apps.hello.health.timeout = 60,";

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The first deploy of all.
    FirstDeploy,
    /// A later deploy.
    Deploy,
    /// A rollback.
    Rollback,
}

impl Kind {
    /// All, in the order in which a server can meet them.
    pub const ALL: [Self; 3] = [Self::FirstDeploy, Self::Deploy, Self::Rollback];
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::FirstDeploy => "first deploy",
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        })
    }
}

/// One cut that the server came back from as promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cut {
    /// What was cut.
    pub kind: Kind,
    /// Milliseconds from its beginning to the cut.
    pub after_ms: u64,
    /// The length, in milliseconds, that the moment was drawn from.
    pub of_ms: u64,
    /// The last phase that its activation had reached, as the server's own talk tells after the
    /// boot; that talk is not synchronised, so it may have been one further.
    pub phase: String,
    /// Whether the server came up in what was to become live.
    pub is_new: bool,
}

/// What a server runs: a generation, and what its sites answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    generation: String,
    edition: u32,
}

/// A virtual machine, and what is known of it.
#[derive(Debug)]
pub struct Server {
    stage: Stage,
    small: Small,
    rng: Rng,
    /// What the project on disk declares.
    edition: u32,
    /// What was confirmed last, and before that.
    confirmed: Option<State>,
    before: Option<State>,
    length: Duration,
    /// Activations that were there before the one that is cut.
    known: BTreeSet<String>,
    /// What was on its disk before Stead came.
    untouched: Option<Listing>,
}

impl Server {
    /// Boots one. The moments follow from the seed alone, as far as the machine's speed does.
    #[track_caller]
    pub fn boot(machine: Machine, debian: &'static str, seed: u64) -> Self {
        let small = Small { debian, extra: UNHURRIED.to_owned(), ..Small::default() };
        let stage = Stage::with_small(&small, machine.virtual_machine());
        let began = Instant::now();
        stage.lab.run("systemctl is-system-running --wait || true");
        // Tried: a first deploy takes as long as some twenty logins.
        let length = began.elapsed() * 20;
        let mut server = Self {
            stage,
            small,
            rng: Rng::with_seed(seed),
            edition: 0,
            confirmed: None,
            before: None,
            length,
            known: BTreeSet::new(),
            untouched: None,
        };
        server.declare_next();
        server
    }

    /// Remembers what is on the disk before anything is done, and adopts the machine if that is wanted.
    #[track_caller]
    pub fn look(&mut self, adopt: bool) {
        self.untouched = Some(Listing::outline(&self.stage.lab));
        if adopt {
            self.patiently(&["adopt"]).well();
        }
    }

    /// Ends Stead on the server, and looks for what is not as it was at the [`Server::look`].
    #[track_caller]
    pub fn give_back(&self) {
        self.patiently(&["leave", "--yes", "--with-data", "--confirm-deadline", "240", "--soak", "0"]).well();
        let untouched = self.untouched.as_ref().expect("it was looked at before");
        assert_eq!(untouched.changed_by_hand(&Listing::outline(&self.stage.lab)), BTreeSet::new());
    }

    /// Cuts one operation, boots, and asks everything. What is not as promised panics.
    #[track_caller]
    pub fn cut(&mut self, kind: Kind) -> Cut {
        let (words, wanted) = match kind {
            Kind::FirstDeploy => (vec!["deploy".to_owned()], None),
            Kind::Deploy => {
                self.declare_next();
                (vec!["deploy".to_owned()], None)
            }
            Kind::Rollback => {
                let back = self.before.clone().expect("a rollback follows two deploys");
                (vec!["rollback".to_owned(), back.generation.clone()], Some(back))
            }
        };
        let parent = self.confirmed.clone();
        let length = self.length;
        let moment = length.mul_f64(self.rng.f64());
        let (operation, after) = self.run_and_cut(&words, moment);
        self.stage.lab.boot();
        let outcome = ended(operation, &words);

        let state = self.came_up(parent.as_ref(), wanted.as_ref());
        let is_new = state.is_some()
            && state.as_ref().map(|state| &state.generation) != parent.as_ref().map(|parent| &parent.generation);
        match outcome.status {
            0 => assert!(
                is_new,
                "the operator was told that all is well, but the server came up in its parent\n{outcome}"
            ),
            3 | 4 => assert!(!is_new, "the operator was told that nothing came of it, but it is live\n{outcome}"),
            _ => {}
        }
        self.patiently(&["verify"]).well();
        let (activation, phase) = self.reached();
        self.works_on(state.as_ref(), parent.as_ref());
        self.history_tells(activation.as_deref(), is_new);
        Cut { kind, after_ms: milliseconds(after), of_ms: milliseconds(length), phase, is_new }
    }

    /// Starts the operation and cuts the power at this moment, or at its end, whichever comes first.
    fn run_and_cut(&mut self, words: &[String], moment: Duration) -> (Child, Duration) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.stage.command(&words);
        command.args(["--confirm-deadline", "240"]);
        let began = Instant::now();
        let mut operation =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program under test can be run");
        // The moment is what the test is about: nothing is waited for.
        while began.elapsed() < moment {
            if operation.try_wait().expect("a child can be waited for").is_some() {
                self.length = began.elapsed();
                break;
            }
            thread::sleep(Duration::from_millis(5).min(moment.saturating_sub(began.elapsed())));
        }
        let after = began.elapsed();
        self.stage.lab.itself().cut().unwrap_or_else(|error| panic!("the power cannot be cut: {error}"));
        (operation, after)
    }

    /// What the server came up in: its parent or, whole, what was to become live.
    fn came_up(&self, parent: Option<&State>, wanted: Option<&State>) -> Option<State> {
        let status = self.patiently(&["status"]);
        let told = status.json();
        let (active, confirmed) = (told["active"].as_str(), told["confirmed"].as_str());
        assert_eq!(active, confirmed, "what runs after a boot is what was confirmed\n{status}");
        let Some(active) = active else {
            assert!(parent.is_none(), "the confirmed generation is gone\n{status}");
            let units = self.stage.lab.units("stead-*");
            assert!(units.iter().all(|unit| unit.starts_with("stead-recovery-")), "nothing of Stead's runs: {units:?}");
            assert!(http::get(self.stage.lab.port(80), "site.small", "/", &[]).is_err(), "nobody answers on port 80");
            return None;
        };
        let state = match parent {
            Some(parent) if parent.generation == active => parent.clone(),
            _ => {
                let edition = wanted.map_or(self.edition, |wanted| wanted.edition);
                State { generation: active.to_owned(), edition }
            }
        };
        if let Some(wanted) = wanted {
            let two = [Some(&wanted.generation), parent.map(|parent| &parent.generation)];
            assert!(two.contains(&Some(&state.generation)), "neither of the two runs\n{status}");
        }
        self.answers(state.edition);
        Some(state)
    }

    /// The next deploy just works, and makes the project's declaration live.
    fn works_on(&mut self, state: Option<&State>, parent: Option<&State>) {
        let began = Instant::now();
        let deployed = self.patiently(&["deploy", "--confirm-deadline", "240"]).well();
        let generation = deployed.text("generation");
        if deployed.text("outcome") == "confirmed" {
            self.length = began.elapsed();
        }
        let now = State { generation, edition: self.edition };
        if let Some(state) = state {
            let two = [Some(&state.generation), parent.map(|parent| &parent.generation)];
            let is_known = two.contains(&Some(&now.generation));
            let is_parents = parent.is_some_and(|parent| parent.generation == state.generation);
            assert!(is_known || is_parents, "the server came up in a third generation: {state:?}, {parent:?}, {now:?}");
        }
        self.answers(self.edition);
        if self.confirmed.as_ref() != Some(&now) {
            self.before = self.confirmed.replace(now);
        }
    }

    /// The last activation that was not known, and the phase that it had reached.
    fn reached(&self) -> (Option<String>, String) {
        let list = "cd /var/lib/stead/activations 2>/dev/null && for a in *; do [ ! -L $a ] && [ -e $a/record.json ] && echo \"= $a\" && cat $a/events.jsonl; done; true";
        let text = self.stage.lab.run(list);
        let mut found = None;
        for part in text.split("= ").skip(1) {
            let (name, events) = part.split_once('\n').unwrap_or((part, ""));
            if !self.known.contains(name.trim()) {
                found = Some((name.trim().to_owned(), events.to_owned()));
            }
        }
        let Some((name, events)) = found else { return (None, "before its activation".to_owned()) };
        let phases = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let phases = phases.filter_map(|line| line["event"]["phase"].as_str().map(str::to_owned));
        let forward = phases.take_while(|phase| phase != "goingBack" && phase != "wentBack");
        let last = forward.last().unwrap_or_else(|| "staged".to_owned());
        (Some(name), last)
    }

    /// The history is readable, everything in it has ended, and what was cut ended as the server is.
    fn history_tells(&mut self, activation: Option<&str>, is_new: bool) {
        let history = self.patiently(&["history"]).well();
        let records = history.json();
        let records = records.as_array().expect("history is a list");
        for record in records {
            let phase = record["phase"].as_str().unwrap_or_default();
            assert!(["done", "wentBack"].contains(&phase), "an activation without an end\n{history}");
            self.known.insert(record["id"].as_str().unwrap_or_default().to_owned());
        }
        let Some(activation) = activation else {
            assert!(!is_new, "a generation without an activation\n{history}");
            return;
        };
        let cut = records.iter().find(|record| record["id"] == activation);
        let cut = cut.unwrap_or_else(|| panic!("the history does not know {activation}\n{history}"));
        if is_new {
            assert_eq!(cut["phase"], "done", "{history}");
        } else {
            assert_eq!(cut["phase"], "wentBack", "{history}");
            assert!(!cut["reason"].as_str().unwrap_or_default().is_empty(), "no reason is told\n{history}");
        }
    }

    /// Runs the program to its end; again, while it says that the server is too slow for a login. An
    /// emulated one may be, where others use this machine too: that breaks no promise.
    #[track_caller]
    fn patiently(&self, words: &[&str]) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.stage.stead(words);
            let too_slow = outcome.status == 3 && outcome.stdout.contains("does not answer in time");
            if !too_slow || Instant::now() > deadline {
                return outcome;
            }
        }
    }

    /// Waits until both sites answer with this edition.
    fn answers(&self, edition: u32) {
        for (host, body) in [("site.small", page(edition)), ("app.small", answer(edition))] {
            wait::until_is(host, PATIENCE, Some((200, body)), || {
                let answer = http::get(self.stage.lab.port(80), host, "/", &[]).ok()?;
                Some((answer.status, answer.body))
            });
        }
    }

    /// Declares the next edition, and pins it.
    fn declare_next(&mut self) {
        self.edition += 1;
        self.small.answer = answer(self.edition);
        self.small.page = page(self.edition);
        self.small.write(&self.stage.project);
        self.stage.stead(&["update"]).well();
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn page(edition: u32) -> String {
    format!("page {edition}\n")
}

fn answer(edition: u32) -> String {
    format!("answer {edition}")
}

/// Waits until the operator's side has ended: it may have taken the activation up again after the boot.
fn ended(mut operation: Child, words: &[String]) -> Outcome {
    wait::until("the operator's side ends", PATIENCE, || operation.try_wait().expect("a child can be waited for"));
    let output = operation.wait_with_output().expect("a child can be waited for");
    Outcome::new(format!("stead {}", words.join(" ")), &output)
}
