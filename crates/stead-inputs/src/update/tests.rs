//! What `update` promises, with an archive that never is the same twice.

use super::*;
use crate::moved;
use crate::moved::tests::package;
use std::fs;
use stead_model::hash::Sha256;

/// An archive whose every look finds something newer.
#[derive(Default)]
struct Restless {
    looks: u32,
    log: Vec<String>,
}

impl DebianResolver for Restless {
    fn suites(
        &mut self,
        input: DebianInput<'_>,
        architectures: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, LockedSuite>, Failure> {
        self.looks += 1;
        assert_eq!(architectures.iter().copied().collect::<Vec<_>>(), ["amd64"]);
        self.log.push(format!("suites {}", input.release));
        let suite = LockedSuite { date: format!("look {}", self.looks), sha256: Sha256::of(&[0]) };
        Ok([(input.release.to_owned(), suite)].into())
    }

    fn resolve(&mut self, input: DebianInput<'_>, key: &RuntimeKey) -> Result<Vec<LockedPackage>, Failure> {
        self.log.push(format!("resolve {} {key}", input.release));
        if key.packages.iter().any(|name| name.as_str() == "unknown") {
            return Err("no such package".into());
        }
        let version = self.looks.to_string();
        Ok(key.packages.iter().rev().map(|name| package(name.as_str(), &version)).collect())
    }
}

struct Project {
    folder: tempfile::TempDir,
    inputs: BTreeMap<Name, Declared>,
    runtimes: BTreeSet<RuntimeKey>,
    archive: Restless,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("site")).unwrap();
        fs::write(folder.path().join("site/index.html"), "one").unwrap();
        let mut project =
            Self { folder, inputs: BTreeMap::new(), runtimes: BTreeSet::new(), archive: Restless::default() };
        project.declare("debian", "debian:bookworm");
        project.declare("site", "path:site");
        project.need("debian", &["nginx", "libnginx-mod"]);
        project
    }

    fn declare(&mut self, input: &str, url: &str) {
        let declared = Declared { url: InputUrl::parse(url).unwrap(), mirror: None, snapshot: None };
        self.inputs.insert(name(input), declared);
    }

    fn need(&mut self, input: &str, packages: &[&str]) {
        let packages = packages.iter().map(|package| package.parse().unwrap());
        self.runtimes.insert(RuntimeKey::new(name(input), "amd64", packages));
    }

    fn update(&mut self, old: Option<&Lock>, only: Option<&[Name]>) -> Result<Lock, Error> {
        let request = Request {
            root: self.folder.path(),
            inputs: &self.inputs,
            runtimes: &self.runtimes,
            old,
            only,
            indexes: None,
        };
        self.archive.log.clear();
        update(request, &mut self.archive, &mut |_| {})
    }

    fn edit(&self, text: &str) {
        fs::write(self.folder.path().join("site/index.html"), text).unwrap();
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn moved(old: &Lock, new: &Lock) -> Vec<moved::Subject> {
    moved::between(old, new).into_iter().map(|row| row.subject).collect()
}

#[test]
fn the_first_update_pins_all_that_is_declared() {
    let mut project = Project::new();
    let lock = project.update(None, None).unwrap();
    assert_eq!(lock.inputs.len(), 2);
    let runtime = &lock.runtimes["debian/amd64/libnginx-mod,nginx"];
    assert!(runtime.packages.is_sorted());
    assert_eq!(runtime.requested.len(), 2);
    let text = crate::lockfile::to_text(&lock);
    assert_eq!(crate::lockfile::from_text(&text, Path::new("stead.lock")).unwrap(), lock);
}

#[test]
fn without_names_everything_moves() {
    let mut project = Project::new();
    let old = project.update(None, None).unwrap();
    project.edit("two");
    let new = project.update(Some(&old), None).unwrap();
    assert_eq!(moved(&old, &new).len(), 4, "{:?}", moved(&old, &new));
}

#[test]
fn with_names_only_these_move() {
    let mut project = Project::new();
    let old = project.update(None, None).unwrap();
    project.edit("two");
    let new = project.update(Some(&old), Some(&[name("site")])).unwrap();
    assert_eq!(moved(&old, &new), [moved::Subject::Input(name("site"))]);
    assert!(project.archive.log.is_empty(), "the archive was not asked: {:?}", project.archive.log);
    let new = project.update(Some(&old), Some(&[name("debian")])).unwrap();
    assert_eq!(new.inputs["site"], old.inputs["site"]);
    assert_ne!(new.runtimes, old.runtimes);
}

#[test]
fn a_new_runtime_is_resolved_without_moving_the_others() {
    let mut project = Project::new();
    let old = project.update(None, None).unwrap();
    project.need("debian", &["python3"]);
    let new = project.update(Some(&old), Some(&[])).unwrap();
    assert_eq!(new.runtimes["debian/amd64/libnginx-mod,nginx"], old.runtimes["debian/amd64/libnginx-mod,nginx"]);
    assert_eq!(new.runtimes["debian/amd64/python3"].packages[0].version, "2");
    let LockedInput::Debian { suites, .. } = &new.inputs["debian"] else { panic!("an archive") };
    assert_eq!(suites["bookworm"].date, "look 2", "the indexes that it came from are recorded");
    assert_eq!(project.archive.log, ["suites bookworm", "resolve bookworm debian/amd64/python3"]);
}

#[test]
fn what_is_not_needed_any_more_is_dropped() {
    let mut project = Project::new();
    let old = project.update(None, None).unwrap();
    project.runtimes.clear();
    project.inputs.remove("site");
    let new = project.update(Some(&old), Some(&[])).unwrap();
    assert!(new.runtimes.is_empty());
    assert_eq!(new.inputs.keys().collect::<Vec<_>>(), ["debian"].map(name).iter().collect::<Vec<_>>());
}

#[test]
fn the_next_release_is_one_word_and_an_update() {
    let mut project = Project::new();
    let old = project.update(None, None).unwrap();
    project.declare("debian", "debian:trixie");
    let new = project.update(Some(&old), Some(&[name("debian")])).unwrap();
    assert!(project.archive.log.iter().all(|line| line.contains("trixie")));
    assert_eq!(new.runtimes.keys().collect::<Vec<_>>(), old.runtimes.keys().collect::<Vec<_>>());
}

#[test]
fn a_release_that_was_not_asked_to_move_is_not_mixed_with_another() {
    let mut project = Project::new();
    let old = project.update(None, None).unwrap();
    project.declare("debian", "debian:trixie");
    assert_eq!(project.update(Some(&old), Some(&[name("site")])).unwrap().inputs["debian"], old.inputs["debian"]);
    project.need("debian", &["python3"]);
    let error = project.update(Some(&old), Some(&[name("site")])).unwrap_err();
    assert!(error.to_string().contains("run `stead update debian`"), "{error}");
}

#[test]
fn wrong_requests_are_refused_before_anything_is_fetched() {
    let mut project = Project::new();
    let error = project.update(None, Some(&[name("sight")])).unwrap_err();
    assert_eq!(error.to_string(), "there is no input `sight`; declared are: debian, site");
    project.need("site", &["python3"]);
    assert!(matches!(project.update(None, None), Err(Error::NotAnArchive { .. })));
    project.runtimes.clear();
    project.need("elsewhere", &["python3"]);
    assert!(matches!(project.update(None, None), Err(Error::NoArchive { .. })));
    assert!(project.archive.log.is_empty());
}

#[test]
fn failures_name_the_input_or_the_runtime() {
    let mut project = Project::new();
    project.need("debian", &["unknown"]);
    let error = project.update(None, None).unwrap_err();
    assert_eq!(error.to_string(), "the packages `debian/amd64/unknown` cannot be resolved");
    project.declare("site", "path:nowhere");
    let error = project.update(None, None).unwrap_err();
    assert_eq!(error.to_string(), "the input `site` cannot be read");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("there is no folder"));
}
