//! Apps that cannot run twice, and other questions about health than a request.

use std::fs;
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed, wait};

#[test]
fn an_app_that_cannot_run_twice_is_replaced_and_the_plan_says_so_and_a_sick_one_goes_back() {
    // It holds a lock while it runs: a second one beside it would end at once.
    let lock = "import fcntl\nheld = open(os.environ['STATE_DIRECTORY'] + '/lock', 'w')\nfcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)";
    let restart = "apps.hello = { strategy = \"restart\", stateDirectory = true },";
    let good = Small { prelude: lock.into(), extra: restart.into(), ..Small::default() };
    let stage = Stage::with_small(&good, Machine::bookworm());
    let first = stage.stead(&["up"]).well().text("generation");

    let second = Small { answer: "two".into(), ..good.clone() };
    second.write(&stage.project);
    stage.stead(&["update"]).well();
    let plan = stage.stead_in_words(&["plan"]).well();
    assert!(plan.stdout.contains("stop the old hello, start the new one"), "{plan}");
    let visitors = stage.visitors(&[("site.small", "/")], &[]);
    stage.stead(&["up"]).well();
    nobody_noticed(visitors);
    assert_eq!(stage.get("app.small", "/").body, "two");
    assert_eq!(stage.lab.units("stead-hello@*").len(), 1);

    // The old one was stopped for it: going back starts it again.
    let sick = format!("{lock}\nsick = True");
    Small { answer: "three".into(), prelude: sick, ..good.clone() }.write(&stage.project);
    stage.stead(&["up"]).exits(4);
    assert_eq!(stage.get("app.small", "/").body, "two");
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), first);
    assert_eq!(stage.get("app.small", "/").body, "one");
    assert_eq!(stage.lab.units("stead-hello@*").len(), 1);
}

#[test]
fn health_can_be_a_port_or_a_command_with_quoted_arguments_whose_last_words_are_told() {
    let stage = Stage::new(Machine::bookworm());
    let write = |answer: &str, check: &str| {
        Small { answer: answer.into(), ..Small::default() }.write(&stage.project);
        let app = stage.project.join("app.ncl");
        let text = fs::read_to_string(&app).unwrap();
        assert!(text.contains("path = \"/health\""), "{text}");
        fs::write(&app, text.replace("path = \"/health\"", check)).unwrap();
    };
    write("one", "tcp = true");
    stage.stead(&["up", "--soak", "0"]).well();
    assert_eq!(stage.get("app.small", "/").body, "one");

    let command = |code: &str| format!("command = m%\"/usr/bin/python3 -c '{code}'\"%");
    write("two", &command("import os, sys; sys.exit(os.getuid() == 0)"));
    stage.stead(&["up", "--soak", "0"]).well();
    assert_eq!(stage.get("app.small", "/").body, "two");

    write("three", &command("import sys; print(\"the queue is full\"); sys.exit(3)"));
    stage.stead_in_words(&["up"]).exits(4).tells("exit status: 3").tells("the queue is full");
    write("four", &format!("timeout = 1, {}", command("import time; time.sleep(600)")));
    stage.stead_in_words(&["up"]).exits(4).tells("did not end within 1s");
    assert_eq!(stage.get("app.small", "/").body, "two");
    assert_eq!(stage.lab.run("pgrep -fc '[t]ime.sleep.600' || true"), "0", "nothing of the check is left");
}

#[test]
fn the_first_deploy_can_be_undone_and_done_again() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    let first = stage.stead(&["up"]).well().text("generation");
    stage.stead(&["rollback"]).well();
    assert_eq!(stage.lab.run("ss -Hltn 'sport = 80'"), "", "nobody listens");
    // The app is let go as every replaced one is.
    wait::until_is("what runs", Duration::from_secs(60), Vec::<String>::new(), || stage.lab.units("stead-*"));
    stage.lab.cut_and_boot();
    assert_eq!(stage.lab.units("stead-*"), [""; 0], "a boot comes up in nothing, too");
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), first);
    assert_eq!(stage.get("app.small", "/").body, "one");
}
