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
