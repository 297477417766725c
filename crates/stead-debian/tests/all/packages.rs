//! What packages may and may not bring into a tree, and how trees become a runtime.

use crate::deb::{self, Item};
use crate::folder::Folder;
use proptest::prelude::*;
use stead_debian::package::{self, Objects};
use stead_debian::runtime;
use stead_model::generation::RuntimeRecipe;
use stead_model::hash::Sha256;
use stead_model::lock::LockedPackage;
use stead_model::tree::{Entry, Tree};
use tar::EntryType;

fn unpack(deb: &[u8]) -> Result<(Tree, Folder, tempfile::TempDir), String> {
    let folder = tempfile::tempdir().unwrap();
    let mut objects = Folder(folder.path().to_owned());
    let tree = package::unpack("sample", &mut &*deb, &mut objects).map_err(|error| error.to_string())?;
    Ok((tree, objects, folder))
}

fn refusal(items: &[Item<'_>]) -> String {
    unpack(&deb::package(items)).map_or_else(|error| error, |(tree, ..)| format!("accepted: {tree:?}"))
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.entries.keys().map(|path| path.as_str()).collect()
}

#[test]
fn files_links_and_folders_arrive_in_the_merged_layout() {
    let (tree, objects, _folder) = unpack(&deb::package(&[
        Item::folder("./"),
        Item::folder("./bin/"),
        Item::file("./bin/tool", 0o4755, b"program"),
        Item::of_kind("./bin/other", EntryType::Link, "./bin/tool"),
        Item::symlink("./lib64/ld.so", "/lib/ld.so"),
        Item::symlink("./sbin", "usr/sbin"),
        Item::folder("./var/lib/tool/"),
        Item::file("./etc/tool.conf", 0o640, b"text"),
        Item::file("./usr/share/doc/tool/copyright", 0o644, b"licence"),
        Item::file("./lib/systemd/system/tool.service", 0o644, b"unit"),
    ]))
    .unwrap();
    assert_eq!(paths(&tree), ["etc/tool.conf", "usr/bin/other", "usr/bin/tool", "usr/lib64/ld.so", "var/lib/tool"]);
    let Some(Entry::File(tool)) = tree.get("usr/bin/tool") else { panic!("{tree:?}") };
    assert!(tool.executable);
    assert_eq!(objects.read(*tool).unwrap(), b"program");
    assert_eq!(tree.get("usr/bin/other"), tree.get("usr/bin/tool"));
    assert_eq!(tree.get("usr/lib64/ld.so"), Some(&Entry::Link("/lib/ld.so".to_owned())));
    assert!(matches!(tree.get("etc/tool.conf"), Some(Entry::File(object)) if !object.executable));
}

#[test]
fn every_compression_of_debian_is_read_and_others_are_named() {
    let data = deb::data(&[Item::file("./a", 0o644, b"1")]);
    let zst = zstd::encode_all(data.as_slice(), 1).unwrap();
    let mut gz = flate2::read::GzEncoder::new(data.as_slice(), flate2::Compression::fast());
    let mut gzipped = Vec::new();
    std::io::Read::read_to_end(&mut gz, &mut gzipped).unwrap();
    for (name, content) in
        [("data.tar", data.clone()), ("data.tar.xz", deb::xz(&data)), ("data.tar.zst", zst), ("data.tar.gz", gzipped)]
    {
        let deb = deb::archive(&[("debian-binary", b"2.0\n"), ("control.tar.gz", b""), (name, &content)]);
        assert_eq!(paths(&unpack(&deb).unwrap().0), ["a"], "{name}");
    }
    let deb = deb::archive(&[("debian-binary", b"2.0\n"), ("data.tar.rar", b"")]);
    assert_eq!(
        unpack(&deb).err().unwrap(),
        "the data of the package sample is compressed as `.rar`, which is not known"
    );
}

#[test]
fn nothing_leaves_the_tree() {
    for path in ["../escape", "./../../escape", "/etc/passwd", "a/../../b", "a//b", "a\nb"] {
        let message = refusal(&[Item::file(path, 0o644, b"x")]);
        assert!(message.contains("which is no path inside a tree"), "{path:?}: {message}");
    }
    for (path, target) in [("./a", "../etc/passwd"), ("./usr/x", "../../../root"), ("./b", "/../x")] {
        let message = refusal(&[Item::symlink(path, target)]);
        assert!(message.contains("leads out of the tree"), "{target}: {message}");
    }
    let message = refusal(&[Item::of_kind("./a", EntryType::Link, "../../etc/shadow")]);
    assert!(message.contains("no path inside a tree"), "{message}");
    let message = refusal(&[Item::of_kind("./a", EntryType::Link, "./etc/shadow")]);
    assert!(message.contains("hard link to no file"), "{message}");
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let message = refusal(&[Item::of_kind("./dev/thing", kind, "")]);
        assert_eq!(message, "in the package sample, dev/thing is neither file, folder nor link");
    }
}

#[test]
fn a_place_is_taken_only_once() {
    let message = refusal(&[Item::file("./bin/a", 0o644, b"1"), Item::file("./usr/bin/a", 0o644, b"2")]);
    assert_eq!(message, "the package sample has usr/bin/a twice");
}

#[test]
fn what_is_not_a_package_or_is_cut_off_is_refused() {
    assert!(unpack(b"").is_err());
    assert!(unpack(b"<html>not found</html>").is_err());
    let other = deb::archive(&[("readme", b"2.0\n"), ("data.tar", b"")]);
    assert_eq!(unpack(&other).err().unwrap(), "the package sample is not a Debian package");
    let whole = deb::package(&[Item::file("./a", 0o644, &[7; 100_000]), Item::file("./b", 0o644, b"end")]);
    for part in [whole.len() / 2, whole.len() - 40] {
        assert!(unpack(&whole[..part]).is_err(), "{part} of {} bytes", whole.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_altered_package_is_a_tree_or_an_error_and_nothing_else(place in 0_usize..10_000, byte: u8) {
        let data = deb::data(&[Item::file("./usr/bin/a", 0o755, b"1"), Item::symlink("./b", "usr/bin/a"), Item::folder("./c")]);
        let mut whole = deb::archive(&[("debian-binary", b"2.0\n"), ("data.tar", &data)]);
        let place = place % whole.len();
        whole[place] = byte;
        if let Ok((tree, ..)) = unpack(&whole) {
            for (path, entry) in &tree.entries {
                let climbs = |text: &str| text.split('/').any(|part| part == "..");
                prop_assert!(!climbs(path.as_str()));
                if let Entry::Link(target) = entry {
                    prop_assert!(!target.starts_with(".."));
                }
            }
        }
    }
}

struct Runtime {
    objects: Folder,
    _folder: tempfile::TempDir,
    packages: Vec<(LockedPackage, Tree)>,
}

impl Runtime {
    fn of(packages: &[(&str, &[Item<'_>])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut objects = Folder(folder.path().to_owned());
        let packages = packages
            .iter()
            .map(|(name, items)| {
                let deb = deb::package(items);
                let tree = package::unpack(name, &mut deb.as_slice(), &mut objects).unwrap();
                let pin = LockedPackage {
                    name: name.parse().unwrap(),
                    version: "1".to_owned(),
                    architecture: "amd64".to_owned(),
                    size: deb.len() as u64,
                    sha256: Sha256::of(&deb),
                    path: "pool/x.deb".to_owned(),
                    suite: "stable".to_owned(),
                };
                (pin, tree)
            })
            .collect();
        Self { objects, _folder: folder, packages }
    }

    fn recipe(&self, folders: &[&str], files: &[&str]) -> RuntimeRecipe {
        RuntimeRecipe {
            label: "test".to_owned(),
            rules: runtime::RULES,
            packages: self.packages.iter().map(|(package, _)| package.clone()).collect(),
            mount_folders: folders.iter().map(|path| path.parse().unwrap()).collect(),
            mount_files: files.iter().map(|path| path.parse().unwrap()).collect(),
        }
    }

    fn compose(&mut self, folders: &[&str], files: &[&str]) -> Result<Tree, String> {
        let recipe = self.recipe(folders, files);
        runtime::compose(&self.packages, &recipe, &mut self.objects).map_err(|error| error.to_string())
    }

    fn text(&self, tree: &Tree, path: &str) -> String {
        match tree.get(path) {
            Some(Entry::File(object)) => String::from_utf8(self.objects.read(*object).unwrap()).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn a_runtime_has_what_every_root_has_and_the_mount_points() {
    let mut runtime = Runtime::of(&[
        ("dash", &[Item::file("./bin/dash", 0o755, b"sh")]),
        ("mawk", &[Item::file("./usr/bin/mawk", 0o755, b"awk")]),
    ]);
    let tree = runtime
        .compose(&["var/lib/stead/trees", "run/stead", "lib/extra"], &["etc/resolv.conf", "etc/app.conf"])
        .unwrap();
    assert_eq!(tree.get("bin"), Some(&Entry::Link("usr/bin".to_owned())));
    assert_eq!(tree.get("usr/bin/sh"), Some(&Entry::Link("dash".to_owned())));
    assert_eq!(tree.get("usr/bin/awk"), Some(&Entry::Link("mawk".to_owned())));
    for folder in ["proc", "dev", "tmp", "var/tmp", "run/stead", "var/lib/stead/trees", "usr/lib/extra", "usr/lib64"] {
        assert_eq!(tree.get(folder), Some(&Entry::Folder), "{folder}");
    }
    assert_eq!(tree.get("run"), None, "a folder with something in it is no entry");
    assert!(runtime.text(&tree, "etc/passwd").contains("www-data:x:33:33"));
    assert!(runtime.text(&tree, "etc/hosts").contains("localhost"));
    assert_eq!(runtime.text(&tree, "etc/resolv.conf") + &runtime.text(&tree, "etc/app.conf"), "");
    assert_eq!(tree.get(runtime_bundle()), None);
}

/// So that whoever is added to the host later is known: a file that is mounted by itself stays the one of then.
#[test]
fn a_runtime_that_mounts_the_folder_of_names_has_its_lists_from_there_alone() {
    let mut runtime = Runtime::of(&[("base", &[Item::file("./etc/base.conf", 0o644, b"1")])]);
    let tree = runtime.compose(&["run/stead/names"], &[]).unwrap();
    for list in ["passwd", "group"] {
        assert_eq!(tree.get(&format!("etc/{list}")), Some(&Entry::Link(format!("/run/stead/names/{list}"))));
    }
    assert_eq!(tree.get("run/stead/names"), Some(&Entry::Folder));
    let tree = runtime.compose(&["run/stead"], &[]).unwrap();
    assert!(runtime.text(&tree, "etc/passwd").starts_with("root:"), "without it, a few of its own");
}

fn runtime_bundle() -> &'static str {
    "etc/ssl/certs/ca-certificates.crt"
}

#[test]
fn authorities_become_one_bundle_in_the_order_of_their_names() {
    let mut runtime = Runtime::of(&[(
        "ca-certificates",
        &[
            Item::file("./usr/share/ca-certificates/mozilla/b.crt", 0o644, b"two"),
            Item::file("./usr/share/ca-certificates/mozilla/a.crt", 0o644, b"one\n"),
            Item::file("./usr/share/ca-certificates/readme", 0o644, b"no"),
        ],
    )]);
    let tree = runtime.compose(&[], &[]).unwrap();
    assert_eq!(runtime.text(&tree, runtime_bundle()), "one\ntwo\n");
}

#[test]
fn the_order_in_which_packages_are_given_does_not_matter() {
    let mut runtime = Runtime::of(&[
        ("aa", &[Item::file("./same", 0o644, b"1"), Item::file("./a", 0o644, b"a")]),
        ("bb", &[Item::file("./same", 0o644, b"1")]),
    ]);
    let first = runtime.compose(&[], &[]).unwrap();
    runtime.packages.reverse();
    assert_eq!(runtime.compose(&[], &[]).unwrap().id(), first.id());
}

#[test]
fn packages_that_disagree_about_a_place_are_named() {
    let mut same =
        Runtime::of(&[("aa", &[Item::file("./etc/x", 0o644, b"1")]), ("bb", &[Item::file("./etc/x", 0o644, b"2")])]);
    assert_eq!(same.compose(&[], &[]).unwrap_err(), "aa and bb do not agree about etc/x");
    let mut below = Runtime::of(&[
        ("aa", &[Item::symlink("./opt/x", "/etc")]),
        ("bb", &[Item::file("./opt/x/passwd", 0o644, b"2")]),
    ]);
    assert_eq!(below.compose(&[], &[]).unwrap_err(), "aa and bb do not agree about opt/x/passwd");
    let mut ours = Runtime::of(&[("aa", &[Item::file("./var/run/x", 0o644, b"1")])]);
    assert_eq!(ours.compose(&[], &[]).unwrap_err(), "Stead and aa do not agree about var/run/x");
}

#[test]
fn a_mount_point_on_something_else_is_an_error() {
    let mut runtime = Runtime::of(&[("aa", &[Item::file("./etc/x", 0o644, b"1"), Item::symlink("./etc/link", "x")])]);
    assert_eq!(
        runtime.compose(&["etc/x"], &[]).unwrap_err(),
        "a unit mounts something on /etc/x, where a package has something else"
    );
    assert_eq!(
        runtime.compose(&[], &["etc"]).unwrap_err(),
        "a unit mounts something on /etc, where a package has something else"
    );
    let tree = runtime.compose(&["etc"], &["etc/link"]).unwrap();
    assert!(matches!(tree.get("etc/link"), Some(Entry::File(_))), "a mount would follow the link");
}

#[test]
fn a_recipe_of_other_rules_or_with_a_missing_package_is_refused() {
    let mut runtime = Runtime::of(&[("aa", &[])]);
    let mut recipe = runtime.recipe(&[], &[]);
    recipe.rules += 1;
    assert!(
        runtime::compose(&runtime.packages, &recipe, &mut runtime.objects).unwrap_err().to_string().contains("rules")
    );
    recipe.rules -= 1;
    assert_eq!(
        runtime::compose(&[], &recipe, &mut runtime.objects).unwrap_err().to_string(),
        "the package aa of the runtime is missing"
    );
}
