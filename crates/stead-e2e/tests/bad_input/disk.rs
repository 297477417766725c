//! A disk that is full, at each stage.

use crate::refusal::{holds, told};
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
