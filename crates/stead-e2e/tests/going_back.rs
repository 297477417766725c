//! Going back: there and back again, to any generation that is kept, after a collection, and by an operator who has
//! never seen the server before, without any registry.

use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed};

#[test]
fn any_kept_generation_can_be_gone_back_to_by_anybody_from_anywhere() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::bookworm());
    let generations: Vec<String> = ["one", "two", "three"]
        .map(|word| {
            small.answer = word.to_owned();
            small.page = format!("page {word}\n");
            small.write(&stage.project);
            stage.stead(&["up"]).well().text("generation")
        })
        .into();
    let [one, two, three] = &generations[..] else { panic!("three were deployed: {generations:?}") };
    let runs = |word: &str| {
        let served = (stage.get("app.small", "/").body, stage.get("site.small", "/").body);
        assert_eq!(served, (word.to_owned(), format!("page {word}\n")));
    };
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);

    // There and back again: a second rollback takes the first one back.
    for (id, word) in [(two, "two"), (three, "three"), (two, "two")] {
        assert_eq!(&stage.stead(&["rollback"]).well().text("generation"), id);
        runs(word);
    }
    // To any, by its first digits; what ran before is then the one that was left.
    assert_eq!(&stage.stead(&["rollback", &one[..6]]).well().text("generation"), one);
    runs("one");
    assert_eq!(&stage.stead(&["rollback"]).well().text("generation"), two);
    runs("two");

    // After a collection, which leaves what runs and the one before.
    stage.stead(&["gc", "--keep", "2"]).well();
    stage.stead(&["rollback", three]).exits(1).tells("keeps no generation");
    runs("two");

    // By somebody who has the project and a way in, and nothing else: no cache, no memory, no mirror.
    let elsewhere = |words: &[&str]| {
        let output = stage.elsewhere(words).output().expect("the program under test can be run");
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {told}");
        told
    };
    assert!(elsewhere(&["rollback"]).contains(one.as_str()));
    runs("one");
    assert!(elsewhere(&["rollback", &two[..8]]).contains(two.as_str()));
    runs("two");
    nobody_noticed(visitors);
    stage.stead(&["verify"]).well();

    // And it is what the next boot comes up in.
    stage.lab.cut_and_boot();
    stead_e2e::wait::until_is("the app after a boot", std::time::Duration::from_secs(20), "two".to_owned(), || {
        stage.get("app.small", "/").body
    });
    runs("two");
}
