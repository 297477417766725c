//! What only a machine of its own can show: the power is cut, and memory has an end.
//!
//! The long run is `cargo xtask chaos`, which runs the ignored test here.
#![expect(clippy::print_stderr, reason = "a seed that finds something has to be known")]

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use stead_e2e::lab::Machine;
use stead_e2e::power::{Kind, Server};
use stead_e2e::{Small, Stage, nobody_noticed, wait};
use std::process::Stdio;
use std::time::Duration;

/// A number that is given in the environment.
fn given(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// The seed that is given, else another one each time. It is told either way.
fn seed() -> u64 {
    let seed = given("STEAD_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("STEAD_POWER_SEED={seed}");
    seed
}

#[test]
fn whenever_the_power_is_cut_the_server_comes_up_whole_in_one_of_two_generations() {
    let mut server = Server::boot(Machine::bookworm(), "bookworm", seed());
    for kind in Kind::ALL {
        let cut = server.cut(kind);
        eprintln!("{cut:?}");
    }
}

/// Cuts servers of one Debian release until there were as many cuts as asked for. Every server is cut
/// in its first deploy, and then by turns in later ones and in rollbacks. One that is not as promised
/// is told and left; the next one begins anew. Every cut is a line of the result.
#[test]
#[ignore = "takes an hour: `cargo xtask chaos` runs it"]
fn after_many_power_cuts_every_server_came_up_whole() {
    let cuts = given("STEAD_CHAOS_CUTS").expect("`cargo xtask chaos` says how many");
    let release = std::env::var("STEAD_CHAOS_RELEASE").expect("`cargo xtask chaos` says of which Debian");
    let (machine, debian) = match release.as_str() {
        "bookworm" => (Machine::bookworm(), "bookworm"),
        "trixie" => (Machine::trixie(), "trixie"),
        other => panic!("STEAD_CHAOS_RELEASE is `{other}`"),
    };
    let path = std::env::var_os("STEAD_CHAOS_RESULT").expect("`cargo xtask chaos` says where to");
    let mut result = File::create(path).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed());
    let (mut done, mut failures) = (0, 0);
    while done < cuts {
        let mut server = Server::boot(machine, debian, rng.u64(..));
        for kind in [Kind::FirstDeploy, Kind::Deploy, Kind::Rollback, Kind::Deploy, Kind::Rollback] {
            if done == cuts {
                break;
            }
            done += 1;
            let line = match catch_unwind(AssertUnwindSafe(|| server.cut(kind))) {
                Ok(cut) => serde_json::to_string(&cut).unwrap(),
                Err(panic) => {
                    failures += 1;
                    let words = panic.downcast_ref::<String>().map_or("a panic without words", String::as_str);
                    serde_json::json!({ "kind": kind, "failure": words }).to_string()
                }
            };
            eprintln!("{done}/{cuts} {line}");
            writeln!(result, "{line}").unwrap();
            if line.contains("\"failure\"") {
                break;
            }
        }
    }
    assert_eq!(failures, 0, "cuts after which the server was not as promised");
}

#[test]
fn an_app_that_leaks_to_its_memory_limit_is_taken_back_and_visitors_of_its_parent_go_on() {
    let patient =
        "apps.hello.health = { deadline | force = 240, timeout = 60 },\n  apps.hello.limits.memoryMax = \"96M\",";
    let mut small = Small { extra: patient.to_owned(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm().virtual_machine());
    let parent = stage.stead(&["up", "--confirm-deadline", "240"]).well().text("generation");

    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[("app.small", "/ws")]);
    small.answer = "two".into();
    // Held, and written to: memory that is only asked for is not used.
    small.prelude = "hoard = [bytes([1]) * 1048576 for _ in range(1024)]".into();
    small.write(&stage.project);
    let outcome = stage.stead(&["up", "--confirm-deadline", "240"]).exits(4).tells("oom-kill");
    nobody_noticed(visitors);

    let status = stage.stead(&["status"]).well().json();
    assert_eq!(status["active"].as_str(), Some(&*parent), "{outcome}");
    assert_eq!(stage.get("app.small", "/").body, "one");
    small.prelude = String::new();
    a_clock_that_jumps_neither_ends_nor_hides_an_activation(&stage, small);
}

/// In the machine of the test above, whose clock is its own: booting another one takes longer than this.
fn a_clock_that_jumps_neither_ends_nor_hides_an_activation(stage: &Stage, mut small: Small) {
    small.answer = "three".into();
    small.write(&stage.project);
    let mut trial = stage.command(&["up", "--no-confirm", "--confirm-deadline", "240", "--soak", "0"]);
    let trial = trial.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let trial = Killed(trial);
    wait::until("the trial awaits its login", Duration::from_secs(240), || {
        let waits = "grep -qs awaitingLogin $(readlink -f /var/lib/stead/activations/unfinished)/events.jsonl";
        (stage.lab.try_run(waits).status == 0).then_some(())
    });
    drop(trial);
    stage.lab.run("date -s '+2 days'");
    let third = stage.stead(&["deploy", "--attach"]).well().text("generation");

    stage.lab.run("date -s '-5 days'");
    small.answer = "four".into();
    small.write(&stage.project);
    let fourth = stage.stead(&["up", "--confirm-deadline", "240", "--soak", "0"]).well().text("generation");
    assert_eq!(stage.get("app.small", "/").body, "four");
    let history = stage.stead(&["history"]).well().json();
    assert_eq!((&history[0]["generation"], &history[1]["generation"]), (&fourth.into(), &third.into()), "{history}");
    assert_eq!(stage.lab.run("ls /var/lib/stead/activations/unfinished 2>/dev/null || true"), "");
}

/// A program that is killed when it goes out of scope, whatever else happens.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
