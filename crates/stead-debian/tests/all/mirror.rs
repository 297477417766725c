//! Against the mirror of this machine's apt sources, with Debian's real keys and packages.
//!
//! Indexes and packages are kept below `target/tmp` between runs. Programs of a runtime are run
//! below `chroot`, in a mount namespace of their own.

use crate::folder::Folder;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use stead_debian::archive::{Contents, Expiry, Fetcher};
use stead_debian::download::Downloader;
use stead_debian::http::{Client, Limits, Proxies};
use stead_debian::keyring::{DEBIAN_KEYRING, Keyring};
use stead_debian::mirror::{Archive, from_apt_sources};
use stead_debian::reporter::{Reporter, Silent};
use stead_debian::{package, resolve, runtime};
use stead_model::generation::RuntimeRecipe;
use stead_model::lock::LockedPackage;
use stead_model::tree::{Entry, Tree};

struct Machine {
    archive: Archive,
    client: Client,
    keyring: Keyring,
}

#[derive(Default)]
struct Counting(AtomicU64);

impl Reporter for Counting {
    fn advanced(&self, _what: &str, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Machine {
    fn new() -> Self {
        let archive =
            from_apt_sources(Path::new("/etc/apt")).expect("this machine's apt sources name a Debian archive");
        let keyring =
            Keyring::read(Path::new(DEBIAN_KEYRING)).expect("the package debian-archive-keyring is installed");
        Self { archive, client: Client::new(Limits::default(), Proxies::Direct), keyring }
    }

    fn contents(&self, cache: &Path, release: &str, reporter: &dyn Reporter) -> Contents {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let fetcher =
            Fetcher { client: &self.client, keyring: &self.keyring, cache, now, expiry: Expiry::Refused, reporter };
        fetcher.fetch(&self.archive, release, "amd64").unwrap()
    }

    fn resolve(&self, release: &str, names: &[&str]) -> Vec<LockedPackage> {
        let contents = self.contents(cache(), release, &Silent);
        let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        resolve::resolve(&contents.index, "amd64", &names).unwrap()
    }

    /// The runtime of these packages made real, with its tree.
    fn runtime(&self, release: &str, names: &[&str]) -> (tempfile::TempDir, Tree, Vec<LockedPackage>) {
        let packages = self.resolve(release, names);
        let folder = cache().join("packages");
        let files = Downloader { client: &self.client, archive: &self.archive, folder: &folder, reporter: &Silent }
            .fetch(&packages)
            .unwrap();
        let temporary = tempfile::tempdir_in(cache()).unwrap();
        let mut objects = Folder(temporary.path().join("objects"));
        std::fs::create_dir(&objects.0).unwrap();
        let trees: Vec<(LockedPackage, Tree)> = packages
            .iter()
            .zip(&files)
            .map(|(pin, file)| (pin.clone(), package::unpack_file(file, pin, &mut objects).unwrap()))
            .collect();
        let recipe = RuntimeRecipe {
            label: names.join(" "),
            rules: runtime::RULES,
            packages: packages.clone(),
            mount_folders: ["run/stead".parse().unwrap()].into(),
            mount_files: ["etc/stead.conf".parse().unwrap()].into(),
        };
        let tree = runtime::compose(&trees, &recipe, &mut objects).unwrap();
        let root = temporary.path().join("root");
        realise(&tree, &objects, &root);
        (temporary, tree, packages)
    }
}

fn cache() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Runs a program of a runtime with the host's `/dev` and `/proc`, as a unit would have them.
fn run(temporary: &tempfile::TempDir, command: &[&str]) -> String {
    let root = temporary.path().join("root");
    let script = "mount --rbind /dev \"$1/dev\" && mount --rbind /proc \"$1/proc\" && mount -t tmpfs tmpfs \"$1/tmp\" && root=$1 && shift && \
                  exec env -i PATH=/usr/bin:/usr/sbin HOME=/tmp LANG=C.UTF-8 chroot \"$root\" \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&root).args(command);
    let Output { status, stdout, stderr } = unshare.output().expect("unshare (util-linux) is installed");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}: {text}");
    text
}

fn names(packages: &[LockedPackage]) -> Vec<&str> {
    packages.iter().map(|package| package.name.as_str()).collect()
}

/// Makes the tree in `root`, by hard links.
fn realise(tree: &Tree, objects: &Folder, root: &Path) {
    for (path, entry) in &tree.entries {
        let place = root.join(path.as_str());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        match entry {
            Entry::File(object) => std::fs::hard_link(objects.place(*object), &place).unwrap(),
            Entry::Link(target) => symlink(target, &place).unwrap(),
            Entry::Folder => std::fs::create_dir_all(&place).unwrap(),
        }
    }
}

#[test]
fn nginx_of_bookworm_runs_from_its_runtime() {
    let (temporary, tree, packages) = Machine::new().runtime("bookworm", &["nginx"]);
    println!(
        "{} packages, {} files, {} bytes: {}",
        packages.len(),
        tree.entries.len(),
        tree.size(),
        names(&packages).join(" ")
    );
    assert!(run(&temporary, &["/usr/sbin/nginx", "-v"]).contains("nginx version: nginx/1.22"));
    assert!(tree.size() <= 33 << 20, "{} bytes", tree.size());
    assert!(
        !names(&packages).iter().any(|name| ["debconf", "dpkg", "systemd", "perl-base", "iproute2"].contains(name)),
        "{:?}",
        names(&packages)
    );
    assert!(
        tree.get("etc/nginx/mime.types").is_some()
            && tree.get("run/stead").is_some()
            && tree.get("etc/stead.conf").is_some()
    );
    assert!(tree.entries.keys().all(|path| !path.as_str().starts_with("usr/share/doc")));
}

#[test]
fn elixir_of_bookworm_runs_from_its_runtime_with_utf_8() {
    let (temporary, tree, packages) = Machine::new().runtime("bookworm", &["elixir"]);
    println!(
        "{} packages, {} files, {} bytes: {}",
        packages.len(),
        tree.entries.len(),
        tree.size(),
        names(&packages).join(" ")
    );
    assert!(run(&temporary, &["/usr/bin/elixir", "--version"]).contains("Elixir 1.14"));
    let text = run(
        &temporary,
        &[
            "/usr/bin/elixir",
            "-e",
            "IO.puts(\"grüße #{:erlang.system_info(:schedulers) > 0}\"); IO.inspect(:file.native_name_encoding())",
        ],
    );
    assert_eq!(text, "grüße true\n:utf8\n");
}

#[test]
fn python_of_bookworm_and_of_trixie_run_from_their_runtimes() {
    let machine = Machine::new();
    for (release, version) in [("bookworm", "3.11"), ("trixie", "3.13")] {
        let (temporary, tree, packages) = machine.runtime(release, &["python3-minimal"]);
        println!("{release}: {} bytes: {}", tree.size(), names(&packages).join(" "));
        let text = run(&temporary, &["/usr/bin/python3", "-c", "import sys, os; print(sys.version, os.listdir('/'))"]);
        assert!(text.starts_with(version), "{text}");
    }
}

#[test]
fn nginx_and_elixir_of_trixie_run_from_one_runtime() {
    let (temporary, tree, packages) = Machine::new().runtime("trixie", &["nginx", "elixir"]);
    println!("{} bytes: {}", tree.size(), names(&packages).join(" "));
    assert!(run(&temporary, &["/usr/sbin/nginx", "-v"]).contains("nginx version: nginx/1.26"));
    assert!(run(&temporary, &["/usr/bin/elixir", "--version"]).contains("Elixir 1.18"));
}

#[test]
fn the_authorities_are_one_bundle_that_openssl_finds_by_itself() {
    let (temporary, tree, packages) = Machine::new().runtime("bookworm", &["openssl", "ca-certificates", "dash"]);
    println!("{} bytes: {}", tree.size(), names(&packages).join(" "));
    let text = run(&temporary, &["/bin/sh", "-c", "openssl storeutl -noout -certs /usr/lib/ssl/cert.pem"]);
    let total: u32 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(total > 100, "{text}");
}

#[test]
fn a_second_update_fetches_no_index_again_and_has_the_same_answer() {
    let machine = Machine::new();
    let fresh = tempfile::tempdir_in(cache()).unwrap();
    let (first, second) = (Counting::default(), Counting::default());
    let before = machine.contents(fresh.path(), "bookworm", &first);
    let started = std::time::Instant::now();
    let after = machine.contents(fresh.path(), "bookworm", &second);
    println!(
        "{} packages; first {} bytes, second {} bytes in {:?}",
        before.index.len(),
        first.0.load(Ordering::Relaxed),
        second.0.load(Ordering::Relaxed),
        started.elapsed()
    );
    assert_eq!(before.suites, after.suites);
    assert_eq!(
        before.suites.keys().map(String::as_str).collect::<Vec<_>>(),
        ["bookworm", "bookworm-security", "bookworm-updates"]
    );
    assert!(first.0.load(Ordering::Relaxed) > 5_000_000);
    assert!(second.0.load(Ordering::Relaxed) < 500_000);
    let packages = ["elixir".parse().unwrap(), "nginx".parse().unwrap(), "postgresql-15".parse().unwrap()];
    let resolved = |contents: &Contents| resolve::resolve(&contents.index, "amd64", &packages).unwrap();
    let started = std::time::Instant::now();
    let answer = resolved(&before);
    println!("resolved {} packages in {:?}: {}", answer.len(), started.elapsed(), names(&answer).join(" "));
    assert_eq!(answer, resolved(&after));
    assert!(answer.iter().any(|package| package.suite == "bookworm-security"), "security updates are preferred");
}
