//! What a replaced instance still does for its visitors, and what a candidate that is taken back does.

use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed, wait};

#[test]
fn files_of_the_old_release_are_there_while_its_instance_drains() {
    let mut small = Small { extra: "apps.hello.drain = 120,".into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let old = stage.lab.units("stead-hello@*");
    let page = stage.visitors(&[("app.small", "/")], &[("app.small", "/ws")]);

    small.answer = "two".into();
    small.write(&stage.project);
    stage.stead(&["up", "--soak", "0"]).well();
    let asset = |name: &str| {
        let answer = stage.get("app.small", &format!("/assets/{name}.css"));
        (answer.status, answer.body.contains(name))
    };
    assert_eq!(stage.get("app.small", "/").body, "two");
    assert_eq!((asset("two"), asset("one")), ((200, true), (200, true)), "a page of the old release is whole");
    assert_eq!(asset("three").0, 404, "what neither has is told as such");

    nobody_noticed(page);
    wait::until_is("the old instance", Duration::from_secs(60), "inactive".to_owned(), || {
        stage.lab.show(&old[0], "ActiveState")
    });
    assert_eq!((asset("two").0, asset("one").0), (200, 404), "nginx asks nobody who is gone");
    assert_eq!(stage.lab.run("grep -c backup /run/stead/upstreams/hello.conf || true"), "0");
}

#[test]
fn visitors_who_met_a_candidate_that_is_taken_back_are_not_cut_off() {
    let mut small = Small { extra: "apps.hello.drain = 60,".into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let parent = stage.stead(&["up"]).well().text("generation");

    small.answer = "two".into();
    small.write(&stage.project);
    let mut trial = stage.command(&["up", "--no-confirm", "--confirm-deadline", "5", "--soak", "0"]);
    let trial = trial.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait::until_is("the trial", Duration::from_secs(60), "two".to_owned(), || stage.get("app.small", "/").body);
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[("app.small", "/ws")]);
    assert_eq!(stage.get("app.small", "/").body, "two", "they met the candidate");

    assert_eq!(trial.wait_with_output().unwrap().status.code(), Some(4));
    assert_eq!(stage.get("app.small", "/").body, "one");
    assert_eq!(stage.stead(&["status"]).well().text("active"), parent);
    assert_eq!(stage.lab.units("stead-hello@*").len(), 2, "the candidate keeps the WebSocket that it has");
    nobody_noticed(visitors);
    wait::until_is("instances", Duration::from_secs(60), 1, || stage.lab.units("stead-hello@*").len());
    assert_eq!(stage.lab.run("systemctl --failed --plain --no-legend"), "");
}
