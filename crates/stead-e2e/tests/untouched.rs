//! What a deploy changes on the server outside of Stead's own folders: a short, known list, and nothing else.

use std::collections::BTreeSet;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

/// Every path that may hold something of the server's own: kind, mode, owner, and for files the content's sum.
/// Left out: Stead's own folder, and what any login or service of the server changes by itself.
const LIST: &str = r"
elsewhere='( -path /var/lib/stead -o -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp
    -o -path /var/tmp -o -path /var/log -o -path /var/lib/systemd -o -path /root/.cache ) -prune -o'
set -f
{ find / -xdev $elsewhere -printf '%y:%m:%u:%g:%l %p\n'; find / -xdev $elsewhere -type f -exec cksum {} +; } | sort";

#[test]
fn a_deploy_changes_nothing_but_the_generator_users_and_state_folders() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    let list = || -> BTreeSet<String> { stage.lab.run(LIST).lines().map(str::to_owned).collect() };
    let before = list();
    stage.stead(&["up"]).well();
    let after = list();

    let path = |line: &String| line[line.find('/').unwrap()..].split(' ').next().unwrap().to_owned();
    let changed: BTreeSet<String> = before.symmetric_difference(&after).map(path).collect();
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
