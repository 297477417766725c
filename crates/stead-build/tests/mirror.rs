//! The whole way of a build with real packages: the machine's own mirror, `update`, download, the
//! runtime's folder, the sandbox. Needs the network, as apt on the same machine does.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use stead_build::builder::{Builder, Event, Request};
use stead_build::runtime::{materialise, recipe};
use stead_debian::download::Downloader;
use stead_debian::http::{Client, Limits, Proxies};
use stead_debian::reporter::Silent;
use stead_inputs::debian::{Archives, Mirrors};
use stead_inputs::update::{Declared, Request as Update, update};
use stead_inputs::url::InputUrl;
use stead_inputs::{folder, lockfile};
use stead_model::lock::RuntimeKey;
use stead_model::name::Name;
use stead_model::server::Build;

/// Updates, downloads and unpacks what a build needs; the folder of its runtime, and how many packages were unpacked for it.
fn runtime(cache: &Path, release: &str, build: &Build) -> (PathBuf, stead_model::hash::Hash, usize) {
    let debian: Name = "debian".parse().unwrap();
    let declared = Declared { url: InputUrl::Debian(release.to_owned()), mirror: None, snapshot: None };
    let key = RuntimeKey::new(debian.clone(), architecture(), build.all_packages());
    let mirrors = Mirrors { variable: std::env::var("STEAD_DEBIAN_MIRROR").ok(), apt: "/etc/apt".into() };
    let client = Client::new(Limits::default(), Proxies::Environment);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut archives = Archives::new(&client, &mirrors, cache, i64::try_from(now).unwrap(), &Silent);
    let (inputs, runtimes) = ([(debian, declared)].into(), BTreeSet::from([key.clone()]));
    let request = Update { root: cache, inputs: &inputs, runtimes: &runtimes, old: None, only: None, indexes: None };
    let lock = update(request, &mut archives, &mut |_| {}).unwrap();
    let text = lockfile::to_text(&lock);
    assert_eq!(lockfile::from_text(&text, Path::new("stead.lock")).unwrap(), lock);
    let pinned = &lock.runtimes[&key.to_string()].packages;

    let archive = mirrors.archive(None, None).unwrap();
    let folder = cache.join("packages");
    Downloader { client: &client, archive: &archive, folder: &folder, reporter: &Silent }.fetch(pinned).unwrap();
    let recipe = recipe(&"app".parse().unwrap(), pinned);
    let unpacked = Mutex::new(0);
    let root = materialise(cache, &folder, &recipe, &|_| *unpacked.lock().unwrap() += 1).unwrap();
    let unpacked = *unpacked.lock().unwrap();
    (root, recipe.id(), unpacked)
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn build_with(packages: &[&str], command: &str) -> Build {
    Build {
        packages: packages.iter().map(|name| name.parse().unwrap()).collect(),
        command: command.to_owned(),
        output: "out".to_owned(),
        environment: [].into(),
    }
}

#[test]
fn a_build_runs_on_pinned_packages_of_debian_alone() {
    let cache = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("name"), "Stead").unwrap();
    let command = "mkdir out; sed s/Stead/stead/ name > out/name; find . -name name | grep -c name > out/count
        ls / > out/top; id -un > out/user; cat /etc/os-release > out/system; ldd --version 2>/dev/null | head -n 1; echo done";
    let build = build_with(&[], command);
    let (root, id, unpacked) = runtime(cache.path(), "bookworm", &build);
    assert!(unpacked >= 6, "{unpacked}");

    let tree = folder::snapshot(source.path(), None).unwrap().tree;
    let app: Name = "app".parse().unwrap();
    let request = Request {
        app: &app,
        source: source.path(),
        source_tree: &tree,
        runtime_root: &root,
        runtime_id: id,
        build: &build,
    };
    let builder = Builder::new(cache.path());
    let release = builder.build(&request, &mut |_| {}).unwrap();
    let made = |name: &str| fs::read_to_string(release.folder.join(name)).unwrap();
    assert_eq!((made("name").as_str(), made("count").as_str(), made("user").as_str()), ("stead", "2\n", "build\n"));
    assert!(made("system").contains("ID=stead"), "the machine's own files are not seen: {}", made("system"));
    let top = "bin build dev etc home lib lib64 mnt opt proc root run sbin srv tmp usr var";
    assert_eq!(made("top").split_whitespace().collect::<Vec<_>>().join(" "), top);

    let (again, _, unpacked) = runtime(cache.path(), "bookworm", &build);
    assert_eq!((again, unpacked), (root.clone(), 0), "what is there is not made again");
    let mut events = Vec::new();
    assert_eq!(builder.build(&request, &mut |event| events.push(event)).unwrap(), release);
    assert_eq!(events, [Event::Cached]);

    let (more, _, unpacked) = runtime(cache.path(), "bookworm", &build_with(&["gzip"], command));
    assert_eq!(unpacked, 1, "packages are unpacked once, whatever runtimes they are in");
    let inode = |root: &Path| fs::metadata(root.join("usr/bin/dash")).unwrap().ino();
    assert_eq!(inode(&root), inode(&more), "and their files are there once");

    let objects = cache.path().join("objects");
    fs::remove_dir_all(objects).unwrap();
    fs::remove_dir_all(&more).unwrap();
    let (_, _, unpacked) = runtime(cache.path(), "bookworm", &build_with(&["gzip"], command));
    assert!(unpacked >= 6, "a cache that lost its objects is mended");
}

#[test]
fn an_elixir_app_becomes_a_release_without_network() {
    let cache = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("lib")).unwrap();
    let project = "defmodule Tiny.MixProject do
        use Mix.Project
        def project, do: [app: :tiny, version: \"0.1.0\", releases: [tiny: [include_erts: false]]]
        def application, do: [extra_applications: [:logger]]
        end";
    fs::write(source.path().join("mix.exs"), project).unwrap();
    fs::write(source.path().join("lib/tiny.ex"), "defmodule Tiny do\n  def hello, do: IO.puts(\"hello\")\nend\n")
        .unwrap();
    let mut build = build_with(&["elixir"], "mix release --path out; out/bin/tiny eval 'Tiny.hello()'");
    build.environment.insert("MIX_ENV".parse().unwrap(), "prod".to_owned());
    let (root, id, _) = runtime(cache.path(), "bookworm", &build);

    let tree = folder::snapshot(source.path(), None).unwrap().tree;
    let app: Name = "tiny".parse().unwrap();
    let request = Request {
        app: &app,
        source: source.path(),
        source_tree: &tree,
        runtime_root: &root,
        runtime_id: id,
        build: &build,
    };
    let mut said = Vec::new();
    let release = Builder::new(cache.path()).build(&request, &mut |event| said.push(event)).unwrap();
    assert!(said.contains(&Event::Output("hello".to_owned())), "{said:?}");
    assert!(release.tree.get("bin/tiny").is_some(), "{:?}", release.tree);
}
