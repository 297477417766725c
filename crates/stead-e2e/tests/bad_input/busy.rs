//! Two who deploy at once.

use crate::refusal::{holds, told};
use std::process::Stdio;
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, wait};

#[test]
fn a_second_deploy_is_told_who_deploys_and_leaves_the_first_alone() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let confirmed = stage.stead(&["up"]).well().text("generation");
    small.page = "page two\n".into();
    small.write(&stage.project);
    let mut first = stage.command(&["up", "--no-confirm", "--confirm-deadline", "20"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait::until_is("the first deploy is on trial", Duration::from_secs(60), "page two\n".to_owned(), || {
        stage.get("site.small", "/").body
    });
    small.page = "page three\n".into();
    small.write(&stage.project);
    for command in [["up"].as_slice(), &["rollback"], &["gc"]] {
        let said = told(&stage.stead_in_words(command), 6);
        holds(&said, &["error: another deploy is under way: ", " by ", "stead deploy --attach"]);
    }
    // Looking is no matter of turns.
    stage.stead(&["status"]).well();
    stage.stead(&["verify"]).well();
    // Without its login the first one goes back, undisturbed.
    assert_eq!(first.wait().unwrap().code(), Some(4));
    assert_eq!(stage.stead(&["status"]).well().text("active"), confirmed);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page three\n");
}
