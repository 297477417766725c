//! Hooks: run around a switch, on both sides, with their environment; a failing one before the switch stops it.

use std::fs;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

#[test]
fn hooks_run_on_both_sides_and_a_failing_one_before_the_switch_stops_the_deploy() {
    let here = |stage: &Stage| fs::read_to_string(stage.project.join("hooks.log")).unwrap_or_default();
    let there = |stage: &Stage| stage.lab.run("cat /root/hooks.log 2>/dev/null || true");
    // `${…}` and `$$` are the shell's own affair, on either side.
    let line = "test $$ -gt 1 && for word in x; do test \"${word}\" = x || exit 9; done && \
        echo \"${STEAD_HOOK} $STEAD_SERVER $STEAD_VERB [$STEAD_OUTCOME] $STEAD_GENERATION <- $STEAD_PARENT\"";
    let all = ["beforeSwitch", "afterConfirm", "afterRollback"].map(|moment| {
        format!(
            "hooks.{moment} = {{ server = m%\"{line} >> /root/hooks.log\"%, operator = m%\"{line} >> hooks.log\"% }},"
        )
    });
    let mut small = Small { extra: all.join("\n"), has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let first = stage.stead(&["up"]).well().text("generation");
    let wanted = format!("beforeSwitch small deploy [] {first} <- \nafterConfirm small deploy [confirmed] {first} <- ");
    assert_eq!((here(&stage).trim_end_matches('\n'), &*there(&stage)), (&*wanted, wanted.trim_end()));

    // Nothing changed: no hook.
    stage.stead(&["up"]).well();
    assert_eq!(here(&stage).lines().count(), 2);

    // A deploy that is taken back, and one that the operator takes back.
    small.page = "two\n".into();
    small.write(&stage.project);
    stage.stead(&["up", "--no-confirm", "--confirm-deadline", "1"]).exits(4);
    assert!(here(&stage).contains("\nafterRollback small deploy [wentBack]"), "{}", here(&stage));
    assert!(there(&stage).contains("\nafterRollback small deploy [wentBack]"), "{}", there(&stage));
    stage.stead(&["up"]).well();
    stage.stead(&["rollback"]).well();
    let last = |text: String| text.lines().last().unwrap_or_default().to_owned();
    assert!(last(here(&stage)).starts_with("afterRollback small rollback [confirmed]"), "{}", here(&stage));
    assert!(last(there(&stage)).starts_with("afterRollback small rollback [confirmed]"), "{}", there(&stage));

    // A hook that fails or never ends before the switch: nothing was touched.
    let active = stage.stead(&["status"]).well().text("active");
    let records = stage.stead(&["history"]).well().json().as_array().unwrap().len();
    for (hook, words) in [
        ("beforeSwitch.server = \"echo the moon is missing; exit 3\"", "the moon is missing"),
        ("beforeSwitch.operator = \"exit 5\"", "exit status: 5"),
        ("timeout = 1, hooks.beforeSwitch.server = \"sleep 600\"", "beforeSwitch"),
        ("timeout = 1, hooks.beforeSwitch.operator = \"sleep 600\"", "did not end within 1 s"),
    ] {
        small.page = format!("{hook}\n");
        small.extra = format!("hooks.{hook},");
        small.write(&stage.project);
        stage.stead_in_words(&["up"]).exits(3).tells(words).tells("nothing was switched");
        assert_eq!(stage.stead(&["status"]).well().text("active"), active);
        assert_eq!(stage.stead(&["history"]).well().json().as_array().unwrap().len(), records);
    }

    // One that fails afterwards is told, and changes nothing.
    small.extra = "hooks.afterConfirm.server = \"echo nobody to tell; exit 1\",".into();
    small.write(&stage.project);
    stage.stead_in_words(&["up"]).well().tells("nobody to tell");
    assert_eq!(stage.get("site.small", "/").body, small.page);
}
