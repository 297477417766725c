//! Security updates of the machine's own packages, by the machine's own apt.
//!
//! Takes what the archive publishes as security updates (its suite `<codename>-security`, as Debian and Ubuntu have it), and nothing else; removes nothing, and leaves files that somebody
//! changed as they are. Never touches a runtime of a generation: packages of apps are pinned.

use crate::run::{RunError, run, run_aloud};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the machine notes that it has to boot anew (Debian's `reboot-notifier`, Ubuntu's `update-notifier-common`).
const REBOOT_REQUIRED: &str = "/run/reboot-required";
/// Seconds that another apt is waited for.
const PATIENCE: &str = "DPkg::Lock::Timeout=1800";

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// Packages, each as `NAME=VERSION`.
    pub packages: BTreeSet<String>,
    /// Whether they are used only after the machine boots anew.
    pub needs_reboot: bool,
}

/// Looks for security updates, and takes them.
///
/// # Errors
/// When apt cannot reach an archive, or refuses.
pub fn security() -> Result<Upgraded, RunError> {
    run("env", &apt(&["--error-on=any", "update"]))?;
    // Preferred to what else is newer: that would hide it. Where no source has such a suite, apt says so.
    let suite = format!("{}-security", codename());
    let told = run("env", &apt(&["--target-release", &suite, "--simulate", "--with-new-pkgs", "upgrade"]))?;
    let packages = from_security(&told);
    if !packages.is_empty() {
        let keep = ["-oDpkg::Options::=--force-confdef", "-oDpkg::Options::=--force-confold"];
        let mut words = vec!["--yes", "--no-remove", "--only-upgrade", "--target-release", &suite];
        words.extend(keep);
        words.push("install");
        words.extend(packages.iter().map(String::as_str));
        // It writes to the journal itself: whoever stops this program does not break it off.
        run_aloud("env", &apt(&words))?;
    }
    let needs_reboot = Path::new(REBOOT_REQUIRED).exists() || !is_newest_kernel();
    Ok(Upgraded { packages, needs_reboot })
}

/// The words for `env(1)` that run apt without a question.
fn apt<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let quiet = ["DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=a", "apt-get", "-qq", "-o", PATIENCE];
    quiet.into_iter().chain(words.iter().copied()).collect()
}

/// The name of the machine's release (`os-release(5)`, VERSION_CODENAME).
fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    value.map_or_else(|| "stable".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// The packages that a simulated upgrade would take from an archive of security updates.
///
/// `Inst NAME [OLD] (NEW ORIGIN:VERSION/SUITE, ORIGIN:VERSION/SUITE [ARCHITECTURE])` (apt's `pkgSimulate`).
fn from_security(told: &str) -> BTreeSet<String> {
    let line = |line: &str| -> Option<String> {
        let rest = line.strip_prefix("Inst ")?;
        let (name, rest) = rest.split_once(' ')?;
        // Without a version in brackets it is not there yet: it comes with what needs it.
        rest.starts_with('[').then_some(())?;
        let (_, rest) = rest.split_once(" (")?;
        let (version, origins) = rest.split_once(' ')?;
        let is_security = origins.split(')').next()?.split([',', ' ']).any(|origin| {
            let suite = origin.rsplit_once('/').map_or("", |(_, suite)| suite);
            origin.starts_with("Debian-Security:") || suite.ends_with("-security")
        });
        is_security.then(|| format!("{name}={version}"))
    };
    told.lines().filter_map(line).collect()
}

/// Whether the kernel that runs is the newest that is installed; `true` where none is, as in a container.
fn is_newest_kernel() -> bool {
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let entries = fs::read_dir("/boot").into_iter().flatten().flatten();
    let mut kernels: Vec<String> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned)).collect();
    if !kernels.iter().any(|kernel| kernel == running.trim()) {
        return true;
    }
    kernels.sort_by_key(|kernel| version(kernel));
    kernels.last().is_none_or(|newest| newest == running.trim())
}

/// The numbers of a kernel's version, in their order.
fn version(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_archive_of_security_updates_has_is_taken() {
        let told = "\
Inst openssl [3.0.15-1] (3.0.17-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
Inst base-files [12.4] (12.4+deb12u12 Debian:12.12/oldstable [amd64])
Inst linux-image-6.1.0-40-amd64 (6.1.153-1 Debian-Security:12/oldstable-security [amd64])
Inst linux-image-amd64 [6.1.148-1] (6.1.153-1 Debian:12.12/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst curl [7.81.0-1] (7.81.0-1ubuntu1.20 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64]) []
Inst vim [2:8.2] (2:8.2.1 Ubuntu:22.04/jammy-updates [amd64])
Conf openssl (3.0.17-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
";
        let wanted =
            ["curl=7.81.0-1ubuntu1.20", "linux-image-amd64=6.1.153-1", "openssl=3.0.17-1~deb12u2"].map(str::to_owned);
        assert_eq!(from_security(told), wanted.into());
    }

    #[test]
    fn kernels_are_in_the_order_of_their_numbers() {
        assert!(version("6.1.0-9-amd64") < version("6.1.0-40-amd64"));
        assert!(version("6.1.0-40-amd64") < version("6.12.48+deb13-amd64"));
    }
}
