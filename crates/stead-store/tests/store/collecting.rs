//! Garbage collection: never too much, and nothing too many.

use crate::common::{Content, all_objects, any_tree, generation, place, recipe, tree};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use stead_model::generation::Generation;
use stead_model::hash::{Hash, Sha256};
use stead_model::tree::Tree;
use stead_store::{Kind, Store, collect, switch};

fn object_count(store: &Store) -> usize {
    let files = walkdir::WalkDir::new(store.root().join("objects")).into_iter().flatten();
    files.filter(|entry| entry.file_type().is_file()).count()
}

#[test]
fn what_no_kept_generation_needs_goes_and_a_dry_run_tells_the_same() {
    let place = place();
    let store = &place.store;
    let shared = tree(store, &[("shared", "shared")]);
    let [old_only, new_only] = ["old", "new"].map(|text| tree(store, &[("file", text)]));
    let [old_package, new_package] = ["old package", "new package"].map(|text| {
        let sha256 = Sha256::of(text.as_bytes());
        store.put_package(sha256, text.len() as u64, &mut text.as_bytes()).unwrap();
        store.remember_package_tree(sha256, 1, &tree(store, &[("doc", text)])).unwrap();
        sha256
    });
    let [old_runtime, new_runtime] =
        [old_package, new_package].map(|package| (recipe(&[package]), tree(store, &[("usr/x", "x")])));
    let old =
        generation(store, tree(store, &[("units/u", "old unit")]), &[shared.clone(), old_only.clone()], &[old_runtime]);
    let new = generation(store, tree(store, &[("units/u", "new unit")]), &[shared, new_only], &[new_runtime]);
    for generation in [&old, &new] {
        store.publish(&place.guard, generation).unwrap();
    }
    store.put(false, &mut &b"stray"[..]).unwrap();

    let keep = BTreeSet::from([new.id()]);
    let told = store.collect(&place.guard, &keep, true).unwrap();
    assert_eq!(store.generations().unwrap().len(), 2, "a dry run removes nothing");
    let done = store.collect(&place.guard, &keep, false).unwrap();
    assert_eq!(told, done);
    assert_eq!((done.generations, done.trees, done.runtimes, done.packages), (vec![old.id()], 1, 1, 1));
    // "old", "old unit", "stray", and the old package's document; and the package itself.
    assert_eq!((done.objects, done.bytes), (4, 3 + 8 + 5 + 11 + 11));
    assert!(!store.package_path(old_package).exists() && store.package_path(new_package).exists());
    assert!(store.package_tree(new_package, 1).is_some());
    assert!(!store.is_realised(Kind::Tree, &old_only.id()));
    assert_eq!(store.verify().unwrap(), []);
    assert_eq!(
        store.collect(&place.guard, &keep, false).unwrap(),
        collect::Collected::default(),
        "and nothing is left to do"
    );
}

#[test]
fn the_confirmed_generation_stays_whatever_is_asked() {
    let place = place();
    let generation = generation(&place.store, Tree::default(), &[tree(&place.store, &[("a", "1")])], &[]);
    let path = place.store.publish(&place.guard, &generation).unwrap();
    switch::confirm(&place.guard, place.store.root(), &path).unwrap();
    let collected = place.store.collect(&place.guard, &BTreeSet::new(), false).unwrap();
    assert_eq!(collected, collect::Collected::default());
    assert_eq!(place.store.verify().unwrap(), []);
}

#[test]
fn nothing_is_removed_while_it_is_not_known_what_is_needed() {
    let place = place();
    let store = &place.store;
    let needed = tree(store, &[("a", "1")]);
    let generation = generation(store, Tree::default(), std::slice::from_ref(&needed), &[]);
    let path = store.publish(&place.guard, &generation).unwrap();
    store.put(false, &mut &b"stray"[..]).unwrap();
    let keep = BTreeSet::from([generation.id()]);
    let description = store.root().join(format!("descriptions/{}.json", needed.id()));
    let text = fs::read_to_string(&description).unwrap();

    fs::remove_file(&description).unwrap();
    assert!(matches!(store.collect(&place.guard, &keep, false), Err(collect::Error::NoDescription { .. })));
    fs::write(&description, text.replace("\"a\"", "\"b\"")).unwrap();
    assert!(matches!(store.collect(&place.guard, &keep, false), Err(collect::Error::Description { .. })));
    fs::remove_file(path.join("generation.json")).unwrap();
    fs::write(path.join("generation.json"), "{}").unwrap();
    assert!(matches!(store.collect(&place.guard, &keep, false), Err(collect::Error::Generation { .. })));
    assert_eq!(object_count(store), 2);
}

#[test]
fn an_interrupted_collection_leaves_a_sound_store_and_is_finished_by_the_next() {
    // The order of removal: a generation's description, its folder; a tree's mode, what is in it; objects.
    for removed in 1..=5 {
        let place = place();
        let store = &place.store;
        let kept = generation(store, Tree::default(), &[tree(store, &[("a", "kept")])], &[]);
        let gone_tree = tree(store, &[("a", "gone"), ("b", "kept")]);
        let gone = generation(store, Tree::default(), std::slice::from_ref(&gone_tree), &[]);
        for generation in [&kept, &gone] {
            store.publish(&place.guard, generation).unwrap();
        }
        let realised = store.realised_path(Kind::Tree, &gone_tree.id());
        let first = gone_tree.objects().next().unwrap();
        let acts = [
            store.generation_path(&gone.id()).join("generation.json"),
            store.generation_path(&gone.id()),
            realised.clone(),
            realised.join("a"),
            store.object_path(first),
        ];
        for path in &acts[..removed] {
            match path.is_dir() {
                true if *path == realised => fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap(),
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }

        let store = Store::open(store.root()).unwrap();
        store.describe(&gone_tree).unwrap();
        assert_eq!(store.generation(&kept.id()).unwrap().as_ref(), Some(&kept));
        assert_eq!(store.is_realised(Kind::Tree, &gone_tree.id()), removed < 3, "half a tree does not count");
        store.collect(&place.guard, &[kept.id()].into(), false).unwrap();
        assert_eq!(store.verify().unwrap(), [], "interrupted after {removed}");
        assert_eq!(object_count(&store), 1);
    }
}

#[test]
fn what_the_dead_left_and_what_is_not_known_is_told_apart() {
    let place = place();
    let foreign = place.store.root().join("trees/notes.txt");
    fs::write(&foreign, "by hand").unwrap();
    fs::create_dir(place.store.root().join("temporary/dead")).unwrap();
    place.store.collect(&place.guard, &BTreeSet::new(), false).unwrap();
    assert!(foreign.exists());
    assert!(!place.store.root().join("temporary/dead").exists());
    assert_eq!(
        place.store.collect(&place.guard, &[Hash::of(b"never here")].into(), false).unwrap(),
        collect::Collected::default()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_collection_keeps_exactly_what_is_needed(
        made in proptest::collection::vec((any_tree(), any_tree(), any_tree(), any::<bool>()), 1..5),
    ) {
        let place = place();
        let store = &place.store;
        let stored = |content: &Content| content.store(store);
        let mut keep = BTreeSet::new();
        let mut kept: Vec<(Generation, Tree)> = Vec::new();
        for (number, (files, tree, runtime, keeps)) in made.iter().enumerate() {
            let runtime = (recipe(&[Sha256::of(&[number as u8])]), stored(runtime));
            let generation = generation(store, stored(files), &[stored(tree)], std::slice::from_ref(&runtime));
            store.publish(&place.guard, &generation).unwrap();
            if *keeps {
                keep.insert(generation.id());
                kept.push((generation, runtime.1));
            }
        }
        store.collect(&place.guard, &keep, false).unwrap();

        prop_assert_eq!(store.verify().unwrap(), []);
        prop_assert_eq!(store.generations().unwrap().into_iter().collect::<BTreeSet<_>>(), keep);
        let mut needed = BTreeSet::new();
        for (generation, runtime) in &kept {
            needed.extend(all_objects(&[&generation.files, runtime]));
            for id in generation.trees.keys() {
                let tree = store.description(Kind::Tree, id).unwrap().expect("a kept generation's tree is described");
                needed.extend(all_objects(&[&tree]));
                prop_assert_eq!(store.missing(tree.objects()), []);
            }
            prop_assert_eq!(store.missing(generation.files.objects().chain(runtime.objects())), []);
        }
        prop_assert_eq!(object_count(store), needed.len());
    }
}
