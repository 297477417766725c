//! Where things are on this machine: the program under test, the example, the cache, scratch folders.

use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The checkout.
pub fn checkout() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the tests run where they were built")
}

/// The folder `target/<triple>/debug` that this test was built into.
fn build_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    own.ancestors().nth(2).expect("tests are in target/<triple>/debug/deps").to_owned()
}

fn target() -> PathBuf {
    build_folder().ancestors().nth(2).expect("builds are in target/<triple>/<profile>").to_owned()
}

/// The program under test.
pub fn program() -> PathBuf {
    let path = std::env::var_os("STEAD_BIN").map_or_else(|| build_folder().join("stead"), PathBuf::from);
    assert!(
        path.is_file(),
        "the program under test, {}, is not there: run `cargo build -p stead` first, or set STEAD_BIN",
        path.display()
    );
    path
}

/// A program of the tasks' own (`cargo xtask setup` puts it there), else the machine's.
pub fn tool(name: &str) -> PathBuf {
    let path = target().join("tools/bin").join(name);
    if path.exists() { path } else { name.into() }
}

/// What can be made again and is shared by all tests: base systems, packages, builds.
pub fn cache() -> PathBuf {
    let path = std::env::var_os("STEAD_E2E_CACHE").map_or_else(|| target().join("e2e-cache"), PathBuf::from);
    fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
    path
}

/// A folder of one test, that others can tell to be in use: removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Scratch {
    /// A new one. Removes those whose process is gone, after `clean` has seen them.
    pub fn new(clean: impl Fn(&Path)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let all = target().join("e2e");
        fs::create_dir_all(&all).unwrap_or_else(|error| panic!("cannot make {}: {error}", all.display()));
        sweep(&all, clean);
        let path = all.join(format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let lock = path.with_extension("lock");
        // Locked before it has its name, so that nobody finds it unlocked.
        let nameless = path.with_extension("new");
        let held = File::create(&nameless).expect("a file can be made in target/e2e");
        rustix::fs::flock(&held, FlockOperation::LockExclusive).expect("a new file can be locked");
        fs::rename(&nameless, &lock).expect("a file can be renamed in target/e2e");
        fs::create_dir_all(&path).expect("a folder can be made in target/e2e");
        Self { path, lock, _held: held }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock);
    }
}

fn sweep(all: &Path, clean: impl Fn(&Path)) {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    for lock in entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "lock")) {
        let Ok(held) = File::open(&lock) else { continue };
        if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue; // Its test runs.
        }
        let left = lock.with_extension("");
        clean(&left);
        let _ = fs::remove_dir_all(&left);
        let _ = fs::remove_file(&lock);
    }
}
