//! Installs what the tasks need and the machine does not have, from its distribution, and says what.
//!
//! Never starts a service: an ssh server that was not there before is installed for its program
//! only, and masked. Tools written in Rust go to `target/tools`, not to the machine.

use crate::run::{Result, as_root, fail, output, visibly};
use crate::workspace::{Metadata, cargo};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What has to be there, and the Debian package that brings it. A path with a slash is a file.
const NEEDED: [(&str, &str); 22] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("mke2fs", "e2fsprogs"),
    ("bwrap", "bubblewrap"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("rsync", "rsync"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("git", "git"),
    ("gpgv", "gpgv"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("pebble", "pebble"),
    ("setpriv", "util-linux"),
    ("cc", "build-essential"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

/// What only tests use besides: a browser, which is large, what makes it trust an authority, and a place for sslyze.
const FOR_TESTS: [(&str, &str); 4] = [
    ("age", "age"),
    ("chromium", "chromium"),
    ("certutil", "libnss3-tools"),
    ("/var/lib/dpkg/info/python3-venv.list", "python3-venv"),
];

/// Version of cargo-nextest when it has to be built here: the last that the oldest supported Rust can build.
const NEXTEST: &str = "0.9.128";

/// Version of sslyze, which knows Mozilla's profiles of TLS.
const SSLYZE: &str = "6.3.1";

/// Brings the machine to where all tasks run.
pub(crate) fn run() -> Result {
    let metadata = Metadata::load()?;
    ensure(&[&NEEDED[..], &FOR_TESTS].concat())?;
    nextest(&metadata)?;
    sslyze(&metadata)
}

/// Installs missing packages of the distribution, for what is not a test.
pub(crate) fn system() -> Result {
    ensure(&NEEDED)
}

fn ensure(needed: &[(&str, &str)]) -> Result {
    // Twice: a package may push out another's older or newer part, as QEMU's do to each other.
    if !install_missing(needed)? {
        return Ok(());
    }
    install_missing(needed)?;
    let still: Vec<&str> = needed.iter().filter(|(what, _)| !is_there(what)).map(|(what, _)| *what).collect();
    if still.is_empty() { Ok(()) } else { fail(format!("still missing after the installation: {}", still.join(", "))) }
}

/// Whether anything was missing.
fn install_missing(needed: &[(&str, &str)]) -> Result<bool> {
    let missing: Vec<&str> = needed.iter().filter(|(what, _)| !is_there(what)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(false);
    }
    if !is_there("apt-get") {
        return fail(format!("please install: {} (this machine has no apt-get)", missing.join(" ")));
    }
    eprintln!("installing from the distribution: {}", missing.join(" "));
    if missing.contains(&"openssh-server") {
        mask_ssh()?;
    }
    let apt = |words: &[&str]| {
        let mut env = as_root("env");
        // RUNLEVEL: packages that come along do not start their services either (invoke-rc.d(8)).
        env.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "-o=Dpkg::Use-Pty=0"]);
        env.args(words);
        env
    };
    output(&mut apt(&["update"]))?;
    output(&mut apt(&[&["install", "--yes", "--no-install-recommends"], &missing[..]].concat()))?;
    Ok(true)
}

/// Builds cargo-nextest when there is none.
pub(crate) fn nextest(metadata: &Metadata) -> Result {
    let tools = metadata.tools();
    if is_there("cargo-nextest") || tools.join("bin/cargo-nextest").exists() {
        return Ok(());
    }
    eprintln!("building cargo-nextest {NEXTEST} into {} (once, some minutes)", tools.display());
    let mut cargo = cargo();
    cargo.args(["install", "--quiet", "--locked", "--version", NEXTEST, "cargo-nextest"]).arg("--root").arg(&tools);
    // The workspace's own settings (a static target) are not for tools.
    visibly(cargo.current_dir("/"))
}

/// Installs sslyze in an environment of its own, when there is none.
fn sslyze(metadata: &Metadata) -> Result {
    let (tools, link) = (metadata.tools(), metadata.tools().join("bin/sslyze"));
    let folder = tools.join(format!("sslyze-{SSLYZE}"));
    let program = folder.join("bin/sslyze");
    if std::fs::read_link(&link).is_ok_and(|known| known == program) && program.exists() {
        return Ok(());
    }
    eprintln!("installing sslyze {SSLYZE} into {} (once)", folder.display());
    visibly(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    visibly(pip.args(["--quiet", "--disable-pip-version-check", "install"]).arg(format!("sslyze=={SSLYZE}")))?;
    std::fs::create_dir_all(tools.join("bin"))?;
    let _ = std::fs::remove_file(&link);
    // Last: half an installation has no link.
    std::os::unix::fs::symlink(program, link)?;
    Ok(())
}

/// Without this, the package would enable and start an ssh server on a machine that had none.
fn mask_ssh() -> Result {
    eprintln!("  (the ssh server is for tests only: its service is masked; `systemctl unmask ssh` to use it)");
    for unit in ["ssh.service", "ssh.socket"] {
        let link = Path::new("/etc/systemd/system").join(unit);
        if link.symlink_metadata().is_err() {
            output(as_root("mkdir").arg("-p").arg("/etc/systemd/system"))?;
            output(as_root("ln").arg("-s").arg("/dev/null").arg(link))?;
        }
    }
    Ok(())
}

fn is_there(what: &str) -> bool {
    if what.contains('/') {
        return Path::new(what).exists();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).any(|folder| folder.join(what).is_file())
}
