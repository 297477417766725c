//! The way back does not hang on the process that should take it: systemd holds it.

use std::process::Stdio;
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed, wait};

#[test]
fn an_activation_that_hangs_or_is_killed_is_taken_back_by_systemd() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::bookworm());
    let parent = stage.stead(&["up"]).well().text("generation");
    let newest = || stage.lab.run("ls -d /var/lib/stead/activations/*Z-* | tail -n 1");
    let phase =
        |folder: &str| stage.lab.run(&format!("sed -n 's/.*\"phase\": \"\\(.*\\)\".*/\\1/p' {folder}/record.json"));

    // Stopped, it neither waits nor goes back by itself; killed, even its successor is stopped.
    for (answer, blow) in [
        ("two", "systemctl kill --signal=STOP 'stead-activation-*.service'"),
        ("three", "systemctl kill --signal=STOP 'stead-activation-*.service'; chmod -x /var/lib/stead/agents/*/stead"),
    ] {
        small.answer = answer.into();
        small.write(&stage.project);
        let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[("app.small", "/ws")]);
        let before = newest();
        let mut trial = stage.command(&["up", "--no-confirm", "--confirm-deadline", "15", "--soak", "0"]);
        let mut trial = trial.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let folder = wait::until("the trial awaits its login", Duration::from_secs(60), || {
            let folder = newest();
            let waits = format!("test {folder} != {before} && grep -qs awaitingLogin {folder}/events.jsonl");
            (stage.lab.try_run(&waits).status == 0).then_some(folder)
        });
        // The one before is let go when the next is in force: there is a moment with both, and none without.
        let timers = || stage.lab.run("systemctl list-timers --all --no-legend 'stead-deadline-*' | wc -l");
        wait::until_is("the timers that hold the way back", Duration::from_secs(5), "1".to_owned(), timers);
        stage.lab.run(blow);
        assert_eq!(phase(&folder), "proved");
        if answer == "three" {
            // The timer has come, and could do nothing; what it started is started again until it can.
            wait::until_is("the deadline's service", Duration::from_secs(60), true, || {
                stage.lab.run("systemctl show --value -p NRestarts 'stead-deadline-*.service'").parse().unwrap_or(0) > 0
            });
            assert_eq!(phase(&folder), "proved");
            stage.lab.run("chmod +x /var/lib/stead/agents/*/stead");
        }
        wait::until_is("the phase", Duration::from_secs(60), "wentBack".to_owned(), || phase(&folder));
        trial.wait().unwrap();
        nobody_noticed(visitors);
        assert_eq!(stage.get("app.small", "/").body, "one");
        let status = stage.stead(&["status"]).well().json();
        assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(&*parent), Some(&*parent)));
        wait::until_is("units of the activation", Duration::from_secs(20), String::new(), || {
            stage.lab.run("systemctl list-units --all --plain --no-legend 'stead-deadline-*' 'stead-activation-*'")
        });
    }
}
