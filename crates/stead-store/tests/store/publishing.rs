//! Generations, the pointers, and what a power cut leaves.

use crate::common::{generation, place, recipe, tree};
use std::fs;
use std::path::Path;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::tree::Tree;
use stead_store::generation::{PublishError, ReadError};
use stead_store::{Kind, Store, switch};

/// Puts other content in the place of a file, as a torn disk would: the same name, another inode.
fn tear(path: &Path, content: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let place = place();
    let state = place.store.root().to_owned();
    assert_eq!(fs::read_to_string(state.join("format")).unwrap(), "1\n");
    Store::open(&state).unwrap();

    // Half-written by nobody that this program knows: it would be swept.
    fs::create_dir_all(state.join("temporary/other")).unwrap();
    fs::write(state.join("format"), "7\n").unwrap();
    let error = Store::open(&state).unwrap_err().to_string();
    assert!(error.contains("newer stead (format 7; this one knows 1)"), "{error}");
    assert!(state.join("temporary/other").exists());

    // What a power cut left of the mark says nothing.
    fs::write(state.join("format"), "").unwrap();
    Store::open(&state).unwrap();
    assert_eq!(fs::read_to_string(state.join("format")).unwrap(), "1\n");
}

#[test]
fn a_published_generation_reads_back_with_its_files() {
    let place = place();
    let files = tree(
        &place.store,
        &[
            ("units/stead-x.service", "[Service]"),
            ("units/multi-user.target.wants/stead-x.service@", "../stead-x.service"),
        ],
    );
    let site = tree(&place.store, &[("index.html", "hi")]);
    let runtime = (recipe(&[]), tree(&place.store, &[("usr/bin/x*", "#!")]));
    let generation = generation(&place.store, files, &[site], &[runtime]);
    let path = place.store.publish(&place.guard, &generation).unwrap();
    assert_eq!(path, place.store.generation_path(&generation.id()));
    assert_eq!(fs::read_to_string(path.join("units/multi-user.target.wants/stead-x.service")).unwrap(), "[Service]");
    assert_eq!(place.store.generation(&generation.id()).unwrap(), Some(generation.clone()));
    assert_eq!(place.store.generations().unwrap(), [generation.id()]);
    assert!(!place.store.root().join("unsynced").exists(), "all of it is on the disk");
    assert_eq!(place.store.publish(&place.guard, &generation).unwrap(), path, "again is fine");
    assert_eq!(place.store.verify().unwrap(), []);
}

#[test]
fn a_generation_is_not_published_without_what_it_needs() {
    let place = place();
    let site = tree(&place.store, &[("index.html", "hi")]);
    let incomplete =
        Generation { trees: [(site.id(), String::new())].into(), ..Generation::empty("server".parse().unwrap()) };
    assert!(matches!(place.store.publish(&place.guard, &incomplete), Err(PublishError::Needs { .. })));
    let reserved = Generation {
        files: tree(&place.store, &[("generation.json", "{}")]),
        ..Generation::empty("server".parse().unwrap())
    };
    assert!(matches!(place.store.publish(&place.guard, &reserved), Err(PublishError::Reserved)));
    assert_eq!(place.store.generations().unwrap(), []);
}

#[test]
fn an_altered_or_foreign_description_is_not_believed() {
    let place = place();
    let generation = Generation::empty("server".parse().unwrap());
    let path = place.store.publish(&place.guard, &generation).unwrap().join("generation.json");
    let text = fs::read_to_string(&path).unwrap();
    tear(&path, &text.replace("\"server\"", "\"another\"").replace("\"another\":", "\"server\":"));
    assert!(matches!(place.store.generation(&generation.id()), Err(ReadError::Damaged { .. })));
    tear(&path, &text.replace("\"format\":1", "\"format\":2,\"new\":0"));
    assert!(matches!(place.store.generation(&generation.id()), Err(ReadError::Format { format: 2, .. })));
    assert!(place.store.generation(&Hash::of(b"none")).unwrap().is_none());
}

#[test]
fn only_confirmation_moves_what_the_next_boot_comes_up_in() {
    let place = place();
    let run = place.folder.path().join("run");
    let [one, two] = ["one", "two"].map(|name| Generation::empty(name.parse().unwrap()));
    let [first, second] = [&one, &two].map(|generation| place.store.publish(&place.guard, generation).unwrap());
    assert_eq!((place.store.confirmed().unwrap(), Store::active(&run).unwrap()), (None, None));

    switch::activate(&place.guard, &run, &first).unwrap();
    switch::confirm(&place.guard, place.store.root(), &first).unwrap();
    switch::activate(&place.guard, &run, &second).unwrap();
    assert_eq!(place.store.confirmed().unwrap(), Some(one.id()));
    assert_eq!(Store::active(&run).unwrap(), Some(two.id()));
    assert_eq!(fs::read_link(run.join("active")).unwrap(), second, "an absolute target, as the generator expects");

    switch::deactivate(&place.guard, &run).unwrap();
    switch::deactivate(&place.guard, &run).unwrap();
    assert_eq!(Store::active(&run).unwrap(), None);
    assert_eq!(place.store.confirmed().unwrap(), Some(one.id()));
}

#[test]
fn the_pointers_are_never_pointed_at_what_is_not_there() {
    let place = place();
    let target = place.store.publish(&place.guard, &Generation::empty("one".parse().unwrap())).unwrap();
    switch::confirm(&place.guard, place.store.root(), &target).unwrap();
    let nothing = place.store.generation_path(&Hash::of(b"nothing"));
    assert!(switch::confirm(&place.guard, place.store.root(), &nothing).is_err());
    assert!(switch::activate(&place.guard, &place.folder.path().join("run"), &nothing).is_err());
    assert_eq!(fs::read_link(place.store.root().join("confirmed")).unwrap(), target);
}

#[test]
fn what_a_crash_left_half_written_is_gone_with_the_next_opening() {
    let place = place();
    let dead = place.store.root().join("temporary/dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("half"), "ha").unwrap();
    let link = place.store.root().join("confirmed.new");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    Store::open(place.store.root()).unwrap();
    assert!(!dead.exists());
    let target = place.store.publish(&place.guard, &Generation::empty("one".parse().unwrap())).unwrap();
    switch::confirm(&place.guard, place.store.root(), &target).unwrap();
    assert!(fs::symlink_metadata(&link).is_err());
}

#[test]
fn after_a_power_cut_what_was_torn_is_gone_and_what_was_published_stays() {
    let place = place();
    let store = &place.store;
    let kept = tree(store, &[("kept", "kept")]);
    let published = generation(store, Tree::default(), std::slice::from_ref(&kept), &[]);
    store.publish(&place.guard, &published).unwrap();

    let [torn, whole] = [("a", "torn"), ("a", "whole")].map(|entry| tree(store, &[entry]));
    let [torn_path, _] = [&torn, &whole].map(|tree| store.realise(Kind::Tree, &tree.id(), tree).unwrap());
    let torn_object = torn.objects().next().unwrap();
    tear(&store.object_path(torn_object), "t\0rn");
    tear(&torn_path.join("a"), "t\0rn");
    let described = store.describe(&tree(store, &[("b", "described")])).unwrap();
    tear(&store.root().join(format!("descriptions/{described}.json")), "");

    Store::open(store.root()).unwrap();
    assert!(
        store.object_path(torn_object).exists(),
        "in the same boot nothing is looked at: a process crash tears nothing"
    );

    fs::write(store.root().join("unsynced"), "another boot").unwrap();
    let store = Store::open(store.root()).unwrap();
    assert_eq!(store.verify().unwrap(), []);
    assert!(!store.object_path(torn_object).exists());
    assert!(!store.is_realised(Kind::Tree, &torn.id()) && !torn_path.exists());
    assert!(store.is_realised(Kind::Tree, &whole.id()) && store.is_realised(Kind::Tree, &kept.id()));
    assert_eq!(store.description(Kind::Tree, &described).unwrap(), None);
    assert_eq!(store.generation(&published.id()).unwrap(), Some(published));
    assert!(!store.root().join("unsynced").exists());
}

#[test]
fn the_mark_of_what_is_not_synchronised_stands_from_the_first_write_to_the_publication() {
    let place = place();
    let mark = place.store.root().join("unsynced");
    assert!(!mark.exists());
    place.store.put(false, &mut &b"1"[..]).unwrap();
    assert!(mark.exists());
    place.store.publish(&place.guard, &Generation::empty("one".parse().unwrap())).unwrap();
    assert!(!mark.exists());
    place.store.describe(&Tree::default()).unwrap();
    assert!(mark.exists());
}

#[test]
fn a_folder_that_lost_its_description_is_kept_if_sound_and_made_again_if_not() {
    let place = place();
    let tree = tree(&place.store, &[("a", "1")]);
    let path = place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let description = place.store.root().join(format!("descriptions/{}.json", tree.id()));

    let before = inode();
    fs::remove_file(&description).unwrap();
    place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    assert_eq!(inode(), before, "it may be in use");

    fs::remove_file(&description).unwrap();
    fs::remove_file(path.join("a")).unwrap();
    place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    assert_eq!(place.store.verify().unwrap(), []);
}

#[test]
fn the_names_are_those_of_the_layout() {
    let place = place();
    for constant in
        [layout::OBJECTS, layout::TREES, layout::RUNTIMES, layout::PACKAGES, layout::DESCRIPTIONS, layout::GENERATIONS]
    {
        let name = constant.strip_prefix("/var/lib/stead/").unwrap();
        assert!(place.store.root().join(name).is_dir(), "{name}");
    }
}
