//! The operator's side goes away in the middle of a deploy: the server ends it by itself, and whoever comes back
//! hears how.

use std::process::{Child, Stdio};
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, wait};

/// Starts a deploy of what the project is now; kills the program as soon as the server has begun to act.
fn deploy_and_vanish(stage: &Stage, deadline: &str) {
    let began = || stage.lab.run("ls /var/lib/stead/activations | wc -l");
    let before = began();
    let mut command = stage.command(&["up", "--confirm-deadline", deadline]);
    let mut client: Child =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program under test can be run");
    wait::until("the server has begun", Duration::from_secs(60), || (began() != before).then_some(()));
    client.kill().expect("a child can be killed");
    let status = client.wait().expect("a child ends");
    assert!(!status.success(), "the deploy was quicker than its end");
}

#[test]
fn without_its_operator_a_deploy_goes_back_and_with_them_it_goes_on() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::bookworm());
    let parent = stage.stead(&["up"]).well().text("generation");

    small.answer = "two".into();
    small.page = "page two\n".into();
    small.write(&stage.project);
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
    deploy_and_vanish(&stage, "3");
    let told = stage.stead(&["deploy", "--attach", "--no-confirm"]).exits(4);
    told.tells("login did not arrive in time");
    stead_e2e::nobody_noticed(visitors);
    let status = stage.stead(&["status"]).well().json();
    assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(&*parent), Some(&*parent)));
    assert_eq!(
        (stage.get("app.small", "/").body, stage.get("site.small", "/").body),
        ("one".into(), "page one\n".into())
    );
    // Asked once more, long after: the same.
    stage.stead(&["deploy", "--attach"]).exits(4).tells("login did not arrive in time");

    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
    deploy_and_vanish(&stage, "60");
    let second = stage.stead(&["deploy", "--attach"]).well().text("generation");
    stead_e2e::nobody_noticed(visitors);
    assert_ne!(second, parent);
    let status = stage.stead(&["status"]).well().json();
    assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(&*second), Some(&*second)));
    assert_eq!(
        (stage.get("app.small", "/").body, stage.get("site.small", "/").body),
        ("two".into(), "page two\n".into())
    );
}

/// Starts a command that goes on until it is interrupted; kills the program once `has_begun`.
fn begin_and_vanish(stage: &Stage, words: &[&str], has_begun: impl Fn() -> bool) {
    let mut command = stage.command(words);
    let mut client =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program under test can be run");
    wait::until(&format!("{words:?} has begun"), Duration::from_secs(30), || has_begun().then_some(()));
    client.kill().expect("a child can be killed");
    client.wait().expect("a child ends");
}

#[test]
fn what_runs_for_an_operator_ends_when_they_have_gone() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    stage.stead(&["up"]).well();
    let running = |what: &str| stage.lab.run(&format!("pgrep --full --count -- '{what}' || true"));
    let agents = || running("[s]tead agent$");
    let gone = |what: &str, words: &str| {
        wait::until_is(words, Duration::from_secs(20), "0".to_owned(), || running(what));
        wait::until_is("the agents of those who have gone", Duration::from_secs(20), "0".to_owned(), agents);
    };

    // On the server itself, with a child of its own; and beside an app, as its user. Neither says a word.
    begin_and_vanish(&stage, &["exec", "--", "sh", "-c", "sleep 54321 & sleep 54321"], || {
        running("[s]leep 54321") != "0"
    });
    gone("[s]leep 54321", "a command on the server");
    let nap = "import time; time.sleep(65432)";
    begin_and_vanish(&stage, &["exec", "--app", "hello", "--", "/usr/bin/python3", "-c", nap], || {
        running("[t]ime.sleep.65432") != "0"
    });
    gone("[t]ime.sleep.65432", "a command beside an app");

    // The journal of a service that says nothing more.
    let journal = "[j]ournalctl .*--follow";
    begin_and_vanish(&stage, &["logs", "--of", "hello", "--follow"], || running(journal) != "0");
    gone(journal, "the journal that was followed");

    // The app itself did not notice.
    assert_eq!(stage.get("app.small", "/").body, "one");
    stage.stead(&["status"]).well();
}
