//! What a reboot comes up in: always what was confirmed, whatever ran when the power went.

use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, wait};

#[test]
fn after_a_power_cut_the_confirmed_generation_is_up_and_a_trial_is_not() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::bookworm());
    let confirmed = stage.stead(&["up"]).well().text("generation");
    stage.lab.cut_and_boot();
    wait::until_is("the app after a power cut", Duration::from_secs(20), (200, "one".to_owned()), || {
        let answer = stage.get("app.small", "/");
        (answer.status, answer.body)
    });
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    let status = stage.stead(&["status"]).well().json();
    assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(&*confirmed), Some(&*confirmed)));

    // A trial that nobody confirms, cut while it runs.
    small.answer = "two".into();
    small.page = "page two\n".into();
    small.write(&stage.project);
    let mut trial = stage.command(&["up", "--no-confirm", "--confirm-deadline", "120"]);
    let mut trial = trial.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait::until_is("the trial's app", Duration::from_secs(60), "two".to_owned(), || stage.get("app.small", "/").body);
    wait::until_is("the trial awaits its login", Duration::from_secs(60), true, || {
        stage.lab.try_run("grep -qs awaitingLogin /var/lib/stead/activations/*/events.jsonl").status == 0
    });
    stage.lab.itself().cut().unwrap();
    trial.wait().unwrap();
    stage.lab.boot();
    // Nobody has logged in with Stead yet: the server itself knows how it ended.
    wait::until_is("the history", Duration::from_secs(60), 2, || {
        stage.lab.run("wc -l < /var/lib/stead/history.jsonl").parse().unwrap_or(0)
    });
    stage.lab.run("tail -n 1 /var/lib/stead/history.jsonl | grep -q '\"phase\":\"wentBack\"'");
    stage.lab.run("test ! -e /var/lib/stead/activations/unfinished");
    wait::until_is("the app after a cut trial", Duration::from_secs(20), (200, "one".to_owned()), || {
        let answer = stage.get("app.small", "/");
        (answer.status, answer.body)
    });
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    let status = stage.stead(&["status"]).well().json();
    assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(&*confirmed), Some(&*confirmed)));

    // The next deploy just works, and the history knows all three.
    let second = stage.stead(&["up"]).well().text("generation");
    assert_ne!(second, confirmed);
    assert_eq!(stage.get("app.small", "/").body, "two");
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
    let history = stage.stead(&["history"]).well().json();
    let told: Vec<(&str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["generation"].as_str().unwrap(), record["phase"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(&*second, "done"), (&*second, "wentBack"), (&*confirmed, "done")]);
    let interrupted = history[1]["reason"].as_str().unwrap();
    assert!(interrupted.contains("interrupted"), "{interrupted}");
}
