//! A disk that is full, at each stage.

use crate::refusal::{holds, outcome, told};
use std::process::Stdio;
use stead_e2e::hold::Hold;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

#[test]
fn a_full_disk_is_told_at_each_stage_and_what_is_there_stays_whole() {
    let small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["update"]).well();
    let room = |size: u64| stage.lab.run(&format!("mount -o remount,size={size} /var/lib/stead"));
    let used = || -> u64 {
        stage.lab.run("du -s --block-size=1 /var/lib/stead").split_whitespace().next().unwrap().parse().unwrap()
    };
    let agent = std::fs::metadata(stead_e2e::place::program()).unwrap().len();

    // No room for the agent.
    stage.lab.run(&format!("mkdir -p /var/lib/stead && mount -t tmpfs -o size={} tmpfs /var/lib/stead", agent / 2));
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(
        &said,
        &["could not take the agent in", "No space left on device", "  do:  check the space on the server's disk"],
    );
    stage.lab.run("test -z \"$(find /var/lib/stead/agents -type f)\"");

    // Room for the agent, and not for what is to come: refused before it is sent.
    room(agent + (4 << 20));
    stage.stead(&["status"]).well();
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(
        &said,
        &[
            "error: the disk is full: ",
            " bytes are to come, and ",
            "`stead gc`",
            "  now: the server runs nothing of Stead's",
        ],
    );
    assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0));

    // Room for the packages, and not for what is unpacked from them.
    room(used() + (9 << 20));
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(
        &said,
        &["cannot be unpacked", "the disk is full", "`stead gc`", "  now: the server runs nothing of Stead's"],
    );
    assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0));
    stage.lab.run("test ! -e /run/stead/active && test ! -e /var/lib/stead/confirmed");

    // With room, the next deploy just works.
    room(agent + (400 << 20));
    stage.stead(&["deploy"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page one\n");

    // Full again, with a generation that runs: it stays, whatever is asked.
    room(used() + (1 << 20));
    std::fs::write(stage.project.join("site/large"), vec![7_u8; 3 << 20]).unwrap();
    stage.stead(&["update", "site"]).well();
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(&said, &["error: the disk is full: ", "  now: the server runs generation "]);
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0));
}

#[test]
fn a_disk_that_fills_up_during_a_trial_leaves_the_server_wholly_in_one_generation() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let size = std::fs::metadata(stead_e2e::place::program()).unwrap().len() + (400 << 20);
    stage.lab.run(&format!("mkdir -p /var/lib/stead && mount -t tmpfs -o size={size} tmpfs /var/lib/stead"));
    let mut parent = (stage.stead(&["up"]).well().text("generation"), small.page.clone());
    // With what is set aside for the journal, and when that is not there: the way back needs no disk.
    for spared in [true, false] {
        small.page = format!("another page, {spared}\n");
        small.write(&stage.project);
        let hold = Hold::at(&stage.lab, "onTrial");
        let mut command = stage.command(&["up", "--confirm-deadline", "5"]);
        let deploy = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        hold.process();
        if !spared {
            stage.lab.run("rm /var/lib/stead/activations/[0-9]*/reserve");
        }
        stage
            .lab
            .run("! dd if=/dev/zero of=/var/lib/stead/filler bs=1k 2>/dev/null && ! echo full > /var/lib/stead/more");
        hold.release();
        let ended = outcome(&format!("stead up, {spared}"), &deploy.wait_with_output().unwrap());
        let page = stage.get("site.small", "/").body;
        stage.lab.run("rm /var/lib/stead/filler /var/lib/stead/more");

        // Told as it was; and what could not be written is, as soon as there is room.
        assert!([0, 4].contains(&ended.status), "{ended}");
        assert!(spared || ended.status == 4, "{ended}");
        let live = stage.stead(&["status"]).well().json();
        assert_eq!(live["active"], live["confirmed"], "{ended}");
        assert!(live["running"].is_null(), "{live}");
        let last = stage.stead(&["history", "-n", "1"]).well().json()[0].clone();
        assert_eq!(last["phase"], if ended.status == 0 { "done" } else { "wentBack" }, "{last}");
        if ended.status == 0 {
            parent = (last["generation"].as_str().unwrap().to_owned(), small.page.clone());
        }
        assert_eq!((live["active"].as_str(), &page), (Some(&*parent.0), &parent.1), "{ended}");
        assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0), "{ended}");
    }
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("site.small", "/").body, small.page);
}
