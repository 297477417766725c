//! What the tests of labs stand on. The keeper is the example program, which cargo builds with the
//! tests. Base systems are shared through the user's cache, because building one takes half a minute.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use stead_lab::{Lab, Labs, Release, Specification};
use tempfile::TempDir;

/// Labs with a state folder of their own, all removed at the end, come what may.
pub(crate) struct Bench {
    pub(crate) labs: Labs,
    _state: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(cache(), keeper())
    }

    pub(crate) fn with(cache: PathBuf, keeper: Vec<OsString>) -> Self {
        let state = TempDir::new().unwrap();
        Self { labs: Labs::new(state.path().join("labs"), cache, keeper), _state: state }
    }

    pub(crate) fn up(&self, specification: &Specification) -> Lab {
        self.labs.up(specification, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for lab in self.labs.list().into_iter().flatten() {
            let _ = self.labs.down(lab.name());
        }
    }
}

pub(crate) fn cache() -> PathBuf {
    let home = PathBuf::from(env::var_os("HOME").unwrap());
    env::var_os("STEAD_LAB_CACHE").map_or_else(|| home.join(".cache/stead/labs"), PathBuf::from)
}

pub(crate) fn keeper() -> Vec<OsString> {
    let test = env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/lab");
    assert!(program.exists(), "cargo builds the example with the tests");
    vec![program.into_os_string(), "keep".into()]
}

pub(crate) fn specification(name: &str, release: Release) -> Specification {
    Specification::new(name.parse().unwrap(), release)
}

/// What a command says over ssh, which must not ask anything.
pub(crate) fn ssh(lab: &Lab, words: &str) -> String {
    let output = lab.ssh(&[words]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {said}");
    assert_eq!(said, "", "ssh says nothing of its own");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn eventually(what: &str, patience: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
