//! Every altered, missing or added byte is found and named.

use crate::common::{Place, generation, place, recipe, tree};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stead_model::hash::Sha256;
use stead_store::{Damage, Kind, What, switch};

struct Sound {
    place: Place,
    /// Below `trees/`, with `a/page` (a file), `a/run` (executable), `to` (a link) and `mnt` (a folder).
    tree: PathBuf,
    runtime: PathBuf,
    generation: PathBuf,
    object: PathBuf,
    description: PathBuf,
    package: PathBuf,
}

fn sound() -> Sound {
    let place = place();
    let store = &place.store;
    let site = tree(store, &[("a/page", "hello"), ("a/run*", "#!"), ("to@", "a/page"), ("mnt/", "")]);
    let package = Sha256::of(b"package");
    store.put_package(package, 7, &mut &b"package"[..]).unwrap();
    let runtime = (recipe(&[package]), tree(store, &[("usr/bin/x*", "#!"), ("only", "in the runtime")]));
    let files = tree(store, &[("units/u", "[Unit]")]);
    let generation = generation(store, files, std::slice::from_ref(&site), std::slice::from_ref(&runtime));
    let path = store.publish(&place.guard, &generation).unwrap();
    switch::confirm(&place.guard, store.root(), &path).unwrap();
    assert_eq!(store.verify().unwrap(), []);
    Sound {
        tree: store.realised_path(Kind::Tree, &site.id()),
        runtime: store.realised_path(Kind::Runtime, &runtime.0.id()),
        generation: path,
        object: store.object_path(site.objects().next().unwrap()),
        description: store.root().join(format!("descriptions/{}.json", site.id())),
        package: store.package_path(package),
        place,
    }
}

/// What `verify` says after this was done to a sound store.
fn after(act: impl FnOnce(&Sound)) -> (Sound, Vec<Damage>) {
    let sound = sound();
    act(&sound);
    let damages = sound.place.store.verify().unwrap();
    (sound, damages)
}

fn replace(path: &Path, content: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

fn named(damages: &[Damage], path: &Path, what: &What) -> bool {
    damages.iter().any(|damage| damage.path == path && damage.what == *what)
}

#[test]
fn an_altered_byte_is_named_wherever_the_object_is_linked() {
    let (sound, damages) = after(|sound| fs::write(&sound.object, "hellO").unwrap());
    assert!(named(&damages, &sound.object, &What::Altered), "{damages:?}");
    assert!(named(&damages, &sound.tree.join("a/page"), &What::Altered), "{damages:?}");
    assert!(damages.iter().all(|damage| matches!(damage.what, What::Altered | What::Time)), "{damages:?}");
}

#[test]
fn an_altered_copy_in_a_tree_is_named_and_the_sound_object_is_not() {
    let (sound, damages) = after(|sound| replace(&sound.tree.join("a/page"), "hellO"));
    assert!(named(&damages, &sound.tree.join("a/page"), &What::Altered));
    assert!(damages.iter().all(|damage| damage.path != sound.object));
}

#[test]
fn missing_and_added_things_are_named() {
    type Find = fn(&Sound) -> PathBuf;
    let cases: [(&str, Find, bool); 8] = [
        ("a file of a tree", |sound| sound.tree.join("a/page"), true),
        ("a link of a tree", |sound| sound.tree.join("to"), true),
        ("a file of a runtime", |sound| sound.runtime.join("only"), true),
        ("a file of a generation", |sound| sound.generation.join("units/u"), true),
        ("a generation's description", |sound| sound.generation.join("generation.json"), true),
        ("a file too many in a tree", |sound| sound.tree.join("a/new"), false),
        ("a file too many in a generation", |sound| sound.generation.join("new"), false),
        ("a file too many among the objects", |sound| sound.object.with_file_name("new"), false),
    ];
    for (name, path, is_removed) in cases {
        let (sound, damages) = after(|sound| match is_removed {
            true => fs::remove_file(path(sound)).unwrap(),
            false => fs::write(path(sound), "new").unwrap(),
        });
        let what = if is_removed { What::Missing } else { What::Extra };
        assert!(named(&damages, &path(&sound), &what), "{name}: {damages:?}");
    }
}

#[test]
fn a_removed_folder_a_changed_link_and_a_changed_kind_are_named() {
    let (sound, damages) = after(|sound| fs::remove_dir(sound.tree.join("mnt")).unwrap());
    assert!(named(&damages, &sound.tree.join("mnt"), &What::Missing), "{damages:?}");
    let (sound, damages) = after(|sound| {
        fs::remove_file(sound.tree.join("to")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", sound.tree.join("to")).unwrap();
    });
    assert!(named(&damages, &sound.tree.join("to"), &What::Altered), "{damages:?}");
    let (sound, damages) = after(|sound| replace(&sound.tree.join("to"), "a file now"));
    assert!(named(&damages, &sound.tree.join("to"), &What::Kind { expected: "a link" }), "{damages:?}");
}

#[test]
fn changed_modes_owners_and_times_are_named() {
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (sound, damages) = after(|sound| mode(&sound.object, 0o644));
    assert!(named(&damages, &sound.object, &What::Mode { expected: 0o444, found: 0o644 }), "{damages:?}");
    let (sound, damages) = after(|sound| mode(&sound.tree.join("a"), 0o2755));
    assert!(named(&damages, &sound.tree.join("a"), &What::Mode { expected: 0o555, found: 0o2755 }), "{damages:?}");
    let (sound, damages) =
        after(|sound| std::os::unix::fs::chown(&sound.object, Some(1), None).expect("the tests run as root"));
    assert!(named(&damages, &sound.object, &What::Owner), "{damages:?}");
    let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    let (sound, damages) = after(|sound| fs::File::open(&sound.object).unwrap().set_modified(now).unwrap());
    assert!(named(&damages, &sound.object, &What::Time), "{damages:?}");
}

#[test]
fn altered_packages_and_descriptions_are_named() {
    let (sound, damages) = after(|sound| replace(&sound.package, "packagE"));
    assert!(named(&damages, &sound.package, &What::Altered), "{damages:?}");
    let (sound, damages) = after(|sound| replace(&sound.description, "{}"));
    assert!(named(&damages, &sound.description, &What::Altered), "{damages:?}");
    assert!(named(&damages, &sound.tree, &What::Needs(sound.description.clone())), "{damages:?}");
    let (sound, damages) = after(|sound| replace(&sound.generation.join("generation.json"), "{}"));
    assert!(named(&damages, &sound.generation.join("generation.json"), &What::Altered), "{damages:?}");
}

#[test]
fn a_missing_tree_and_a_dangling_pointer_are_named() {
    let (sound, damages) = after(|sound| fs::remove_dir_all(&sound.tree).unwrap());
    assert!(named(&damages, &sound.generation, &What::Needs(sound.tree.clone())), "{damages:?}");
    let (sound, damages) = after(|sound| fs::remove_dir_all(&sound.generation).unwrap());
    let pointer = sound.place.store.root().join("confirmed");
    assert!(named(&damages, &pointer, &What::Needs(sound.generation.clone())), "{damages:?}");
}

#[test]
fn damage_is_told_in_words() {
    let words = [
        (What::Mode { expected: 0o444, found: 0o644 }, "has mode 0644 instead of 0444"),
        (What::Kind { expected: "a link" }, "is not a link"),
        (What::Needs("/x".into()), "needs /x, which is not there"),
    ];
    for (what, text) in words {
        assert_eq!(what.to_string(), text);
    }
}
