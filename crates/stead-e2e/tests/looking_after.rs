//! Looking after the store: collecting what nothing needs, and finding what was altered.

use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

#[test]
fn collection_keeps_what_can_be_gone_back_to_and_nothing_else() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let generations: Vec<String> = (0..8)
        .map(|number| {
            small.page = format!("page {number}\n");
            small.write(&stage.project);
            stage.stead(&["up", "--soak", "0"]).well().text("generation")
        })
        .collect();
    let kept = || stage.stead(&["status"]).well().json()["generations"].as_array().unwrap().len();
    assert_eq!(kept(), 8);

    let would = stage.stead(&["gc", "--dry-run"]).well().json();
    assert_eq!(kept(), 8, "a rehearsal removes nothing");
    let removed = stage.stead(&["gc"]).well().json();
    assert_eq!(would, removed);
    assert_eq!((removed["generations"].as_u64(), removed["trees"].as_u64()), (Some(3), Some(3)), "{removed}");
    assert_eq!(kept(), 5);
    assert_eq!(stage.stead(&["gc"]).well().json()["bytes"], 0, "nothing is left to remove");
    assert_eq!(stage.get("site.small", "/").body, "page 7\n");
    stage.stead(&["verify"]).well();

    // Each of the five can be gone back to; what was removed cannot, and is not touched.
    stage.stead(&["rollback"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page 6\n");
    stage.stead(&["rollback", &generations[3]]).well();
    assert_eq!(stage.get("site.small", "/").body, "page 3\n");
    stage.stead(&["rollback", &generations[0]]).exits(1).tells(&generations[0]);
    assert_eq!(stage.get("site.small", "/").body, "page 3\n");

    // The one that runs stays, however old it is.
    stage.stead(&["gc", "--keep", "1"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page 3\n");
    stage.lab.cut_and_boot();
    assert_eq!(stage.get("site.small", "/").body, "page 3\n");
}

#[test]
fn a_pinned_generation_outlives_every_collection_and_can_be_gone_back_to() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let generations: Vec<String> = (0..3)
        .map(|number| {
            small.page = format!("page {number}\n");
            small.write(&stage.project);
            stage.stead(&["up", "--soak", "0"]).well().text("generation")
        })
        .collect();
    let pins = || stage.stead(&["pin"]).well().json()["pins"].clone();
    let kept = || {
        let status = stage.stead(&["status"]).well().json();
        let kept = status["generations"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
        kept.collect::<std::collections::BTreeSet<String>>()
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<std::collections::BTreeSet<String>>();
    assert_eq!(pins(), serde_json::json!([]));

    let digits = &generations[0][..8];
    let pinned = stage.stead(&["pin", digits]).well().json();
    assert_eq!((pinned["generation"].as_str(), pinned["changed"].as_bool()), (Some(&*generations[0]), Some(true)));
    assert_eq!(stage.stead(&["pin", digits]).well().json()["changed"], false);
    assert_eq!(pins(), serde_json::json!([generations[0]]));
    assert!(stage.stead_in_words(&["pin"]).well().stdout.starts_with(digits));
    assert!(stage.stead_in_words(&["status"]).well().stdout.contains(&format!("pinned: {digits}")));
    assert!(stage.stead_in_words(&["history"]).well().stdout.contains(" (pinned)"));

    stage.stead(&["gc", "--keep", "0"]).well();
    assert_eq!(kept(), set(&[&generations[0], &generations[2]]), "the pinned one, and what runs");
    // Not what is not there, and not what could be several or none.
    stage.stead(&["pin", &generations[1]]).exits(1).tells("keeps no generation");
    stage.stead(&["pin", "abc"]).exits(1).tells("too short");
    stage.stead(&["pin", "--remove"]).exits(2);

    // Also after a reboot, which forgets what is in memory alone.
    stage.lab.cut_and_boot();
    assert_eq!(pins(), serde_json::json!([generations[0]]));
    assert_eq!(stage.stead(&["rollback", digits]).well().text("generation"), generations[0]);
    assert_eq!(stage.get("site.small", "/").body, "page 0\n");
    stage.stead(&["rollback", &generations[2]]).well();

    let removed = stage.stead(&["pin", digits, "--remove"]).well().json();
    assert_eq!((removed["pinned"].as_bool(), removed["pins"].as_array().map(Vec::len)), (Some(false), Some(0)));
    stage.stead(&["gc", "--keep", "0"]).well();
    assert_eq!(kept(), set(&[&generations[2]]));
    stage.stead(&["verify"]).well();
}

#[test]
fn verification_finds_and_names_every_altered_byte() {
    let stage = Stage::with_small(&Small { has_app: false, ..Small::default() }, Machine::bookworm());
    stage.stead(&["up"]).well();
    stage.stead(&["verify"]).well();

    // One byte of a page that is served, and one of a program that runs; size and times as they were.
    let alter = "alter() { touch -r \"$1\" /tmp/times; chmod u+w \"$1\"; printf X | dd of=\"$1\" bs=1 seek=2 conv=notrunc \
                 status=none; chmod u-w \"$1\"; touch -r /tmp/times \"$1\"; }";
    let page = stage.lab.run("readlink -f /var/lib/stead/trees/*/index.html");
    let program = stage.lab.run("ls /var/lib/stead/runtimes/*/etc/mime.types /var/lib/stead/runtimes/*/etc/nginx/mime.types 2>/dev/null | head -n 1");
    stage.lab.run(&format!("{alter}; alter {page}; alter {program}"));
    let outcome = stage.stead(&["verify"]).exits(1);
    let damage = outcome.stdout.clone();
    for path in [&page, &program] {
        assert!(damage.contains(path.as_str()), "{path} is not named\n{outcome}");
    }
}
