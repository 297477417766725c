//! From descriptions to folders.

use crate::common::{any_tree, place, tree};
use proptest::prelude::*;
use rustix::fs::AtFlags;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use stead_model::hash::Hash;
use stead_model::tree::{Entry, Tree};
use stead_store::{Kind, realise, stamp};

/// What a folder holds, read back without the store's own code.
fn read_back(folder: &Path) -> BTreeMap<String, String> {
    let walk = walkdir::WalkDir::new(folder).min_depth(1);
    let describe = |entry: walkdir::DirEntry| {
        let mode = entry.metadata().unwrap().mode() & 0o7777;
        let what = match entry.file_type() {
            kind if kind.is_dir() => format!("{mode:o} folder"),
            kind if kind.is_symlink() => format!("link to {}", fs::read_link(entry.path()).unwrap().display()),
            _ => format!("{mode:o} file {:?}", fs::read_to_string(entry.path()).unwrap()),
        };
        (entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), what)
    };
    walk.into_iter().map(|entry| describe(entry.unwrap())).collect()
}

#[test]
fn a_tree_becomes_a_read_only_folder_of_hard_links() {
    let place = place();
    let tree = tree(&place.store, &[("bin/run*", "#!"), ("a/b/page", "hi"), ("a/to@", "b/page"), ("mnt/point/", "")]);
    let path = place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    let expected = [
        ("a", "555 folder"),
        ("a/b", "555 folder"),
        ("a/b/page", "444 file \"hi\""),
        ("a/to", "link to b/page"),
        ("bin", "555 folder"),
        ("bin/run", "555 file \"#!\""),
        ("mnt", "555 folder"),
        ("mnt/point", "555 folder"),
    ];
    assert_eq!(read_back(&path), expected.map(|(path, what)| (path.to_owned(), what.to_owned())).into());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::metadata(path.join("a/b/page")).unwrap().nlink(), 2);
    assert_eq!(place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap(), path, "again is fine");
    assert_eq!(place.store.verify().unwrap(), []);
}

#[test]
fn what_was_written_into_counts_as_missing_and_is_put_back() {
    let place = place();
    let tree = tree(&place.store, &[("a/page", "hello"), ("a/run*", "#!"), ("top", "x")]);
    let path = place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    assert_eq!(place.store.altered(&tree.id()), None);
    let object = tree.objects().find(|object| object.size == 5).unwrap();
    // Into the inode that the object and the file of the tree share; and another file out of its place.
    fs::write(place.store.object_path(object), "hellO").unwrap();
    fs::remove_file(path.join("top")).unwrap();
    assert_eq!(place.store.altered(&tree.id()), Some(path.join("a/page")));
    assert_eq!(place.store.missing(tree.objects()), [object]);
    assert_eq!(place.store.put_expected(object, &mut &b"hello"[..]).map_err(|error| error.to_string()), Ok(()));
    place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    assert_eq!(place.store.altered(&tree.id()), None);
    assert_eq!(fs::read_to_string(path.join("a/page")).unwrap(), "hello");
    assert_eq!(place.store.verify().unwrap(), []);
}

#[test]
fn a_missing_object_a_wrong_identity_or_a_link_out_leaves_no_folder() {
    let place = place();
    let whole = tree(&place.store, &[("a", "1"), ("b", "2")]);
    let lost = whole.objects().next().unwrap();
    fs::remove_file(place.store.object_path(lost)).unwrap();
    let missing = place.store.realise(Kind::Tree, &whole.id(), &whole);
    assert!(matches!(missing, Err(realise::Error::Missing { object, .. }) if object == lost));

    let other = place.store.realise(Kind::Tree, &Hash::of(b"another"), &whole);
    assert!(matches!(other, Err(realise::Error::Identity { .. })));

    let out = tree(&place.store, &[("a", "1"), ("link@", "/etc/passwd")]);
    let refused = place.store.realise(Kind::Tree, &out.id(), &out);
    assert!(matches!(refused, Err(realise::Error::Flawed(realise::Flaw::Escapes { .. }))));

    assert_eq!(fs::read_dir(place.store.root().join("trees")).unwrap().count(), 0);
    place.store.realise(Kind::Runtime, &Hash::of(b"recipe"), &out).expect("a runtime is some service's root");
}

#[test]
fn nothing_is_written_through_a_link_of_the_tree() {
    let place = place();
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let through = tree(&place.store, &[("a@", outside.to_str().unwrap()), ("a/passwd", "evil")]);
    assert!(place.store.realise(Kind::Runtime, &Hash::of(b"recipe"), &through).is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn an_object_with_as_many_links_as_the_file_system_allows_is_copied() {
    let place = place();
    let tree = tree(&place.store, &[("a", "shared"), ("b/c*", "shared")]);
    let object = place.store.object_path(tree.objects().next().unwrap());
    let links = place.folder.path().join("links");
    fs::create_dir(&links).unwrap();
    let folder = fs::File::open(&links).unwrap();
    // ext4 allows 65,000. Where the limit is far away (XFS, tmpfs), the copy cannot be provoked.
    let refused = (0..70_000).find_map(|number| {
        rustix::fs::linkat(rustix::fs::CWD, &object, &folder, format!("{number}"), AtFlags::empty()).err()
    });
    assert_eq!(
        refused,
        Some(rustix::io::Errno::MLINK),
        "this test needs a file system with a limit of hard links, such as ext4"
    );

    let path = place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
    let copied = fs::metadata(path.join("a")).unwrap();
    assert_eq!((copied.nlink(), copied.mode() & 0o7777), (1, 0o444));
    assert_eq!(copied.mtime(), fs::metadata(&object).unwrap().mtime());
    assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "shared");
    assert_eq!(place.store.verify().unwrap(), []);
}

#[test]
fn a_changed_tree_of_equal_sizes_has_other_times() {
    let place = place();
    let time = |content| {
        let tree = tree(&place.store, &[("index.html", content)]);
        let path = place.store.realise(Kind::Tree, &tree.id(), &tree).unwrap();
        let metadata = fs::metadata(path.join("index.html")).unwrap();
        (metadata.mtime(), metadata.len())
    };
    assert_ne!(time("before"), time("after!"));
    assert_eq!(time("before"), (stamp::modified(&Hash::of(b"before")), 6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_tree_realised_equals_its_description(content in any_tree()) {
        let place = place();
        let tree = content.store(&place.store);
        let path = place.store.realise(Kind::Runtime, &Hash::of(b"recipe"), &tree).unwrap();
        let found = read_back(&path);
        for (name, entry) in &tree.entries {
            let expected = match entry {
                Entry::Folder => "555 folder".to_owned(),
                Entry::Link(target) => format!("link to {target}"),
                Entry::File(object) => {
                    let mode = if object.executable { 555 } else { 444 };
                    format!("{mode} file {:?}", String::from_utf8(place.store.read_object(*object).unwrap()).unwrap())
                }
            };
            prop_assert_eq!(&found[name.as_str()], &expected);
        }
        let rest = found.iter().filter(|(name, _)| tree.get(name).is_none());
        for (name, what) in rest {
            let leads_somewhere = tree.entries.keys().any(|path| path.as_str().starts_with(&format!("{name}/")));
            prop_assert!(leads_somewhere && what == "555 folder", "{} is too many: {}", name, what);
        }
        prop_assert_eq!(place.store.verify().unwrap(), []);
        prop_assert_eq!(place.store.description(Kind::Runtime, &Hash::of(b"recipe")).unwrap(), Some(tree));
    }
}

#[test]
fn an_empty_tree_is_an_empty_folder() {
    let place = place();
    let path = place.store.realise(Kind::Tree, &Tree::default().id(), &Tree::default()).unwrap();
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}
