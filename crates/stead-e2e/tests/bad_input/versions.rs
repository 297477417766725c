//! What another version of Stead left on the server is understood, or refused with words.

use crate::refusal::{holds, refused};
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

#[test]
fn a_server_that_a_newer_stead_has_written_to_is_refused_with_words() {
    let small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let confirmed = || stage.lab.run("readlink /var/lib/stead/confirmed");
    let before = confirmed();

    stage.lab.run("echo 7 > /var/lib/stead/format");
    Small { page: "page two\n".into(), ..small }.write(&stage.project);
    for command in [["up"].as_slice(), &["status"], &["rollback"], &["gc"]] {
        let said = refused(&stage, 3, command);
        holds(&said, &["was written by a newer stead (format 7; this one knows 1)"]);
    }
    // What boots it does not read: the machine comes up all the same.
    stage.lab.cut_and_boot();
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    stage.lab.run("echo 1 > /var/lib/stead/format");
    assert_eq!(confirmed(), before);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
}
