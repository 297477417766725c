//! What a deploy changes on the server outside of Stead's own folders: a short, known list, and nothing else.

use stead_e2e::lab::Machine;
use stead_e2e::listing::Listing;
use stead_e2e::{Small, Stage};

#[test]
fn a_deploy_changes_nothing_but_the_generator_users_and_state_folders() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    let before = Listing::of(&stage.lab);
    stage.stead(&["up"]).well();
    let changed = before.changed(&Listing::of(&stage.lab));
    let known = [
        "/etc/group",
        "/etc/group-",
        "/etc/gshadow",
        "/etc/gshadow-",
        "/etc/passwd",
        "/etc/passwd-",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/systemd/system-generators",
        "/etc/systemd/system-generators/stead",
        "/var/cache/stead-nginx",
    ];
    let unknown: Vec<&String> = changed
        .iter()
        .filter(|path| !known.contains(&path.as_str()) && !path.starts_with("/var/cache/stead-nginx/"))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(changed.contains("/etc/systemd/system-generators/stead"), "the listing sees what changes: {changed:#?}");

    assert_eq!(stage.lab.run("getent passwd | grep -c stead"), "1", "the app's user, and no other");
}
