//! Where the base system's packages come from: the package sources of this machine.
//!
//! apt itself says what they are (`apt-get indextargets`); the suite's name is swapped for the
//! wanted release. No mirror's address is written here: without Debian sources, mmdebstrap decides.

use crate::command::run;
use crate::specification::Release;

/// `deb …` lines for this release, from this machine's sources or the given mirror.
pub(crate) fn lines(release: Release, mirror: Option<&str>) -> Vec<String> {
    if let Some(mirror) = mirror {
        return vec![format!("deb {mirror} {release} main"), format!("deb {mirror} {release}-updates main")];
    }
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let targets = run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"]).unwrap_or_default();
    swap(&targets, release)
}

/// Options of this machine's apt that decide whether its mirrors are reachable and accepted.
pub(crate) fn options() -> Vec<String> {
    let wanted = ["Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::http::Proxy", "Acquire::https::Proxy"];
    let dump = run("apt-config", ["dump"]).unwrap_or_default();
    dump.lines()
        .filter(|line| line.split_once(' ').is_some_and(|(key, value)| wanted.contains(&key) && value != "\"\";"))
        .map(str::to_owned)
        .collect()
}

fn swap(targets: &str, release: Release) -> Vec<String> {
    const SUITES: [&str; 7] = ["bullseye", "bookworm", "trixie", "forky", "oldstable", "stable", "testing"];
    let mut lines: Vec<String> = targets
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (address, suite, component) = (words.next()?, words.next()?, words.next()?);
            let (base, suffix) = suite.split_once('-').map_or((suite, ""), |(base, suffix)| (base, suffix));
            let wanted = SUITES.contains(&base) && component == "main" && ["", "updates", "security"].contains(&suffix);
            let dash = if suffix.is_empty() { "" } else { "-" };
            wanted.then(|| format!("deb {address} {release}{dash}{suffix} main"))
        })
        .collect();
    lines.sort_by_key(String::len);
    lines.dedup();
    // Updates without the release itself are not a Debian.
    let whole = lines.iter().any(|line| line.ends_with(&format!(" {release} main")));
    if whole { lines } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "http://mirror.test/debian/ bookworm main\nhttp://mirror.test/debian/ bookworm contrib\n\
                           http://mirror.test/debian/ bookworm-backports main\nhttp://mirror.test/debian/ bookworm-updates main\n\
                           http://mirror.test/debian-security/ bookworm-security main\nhttp://other.test/x nodistro main\n";

    #[test]
    fn the_machines_sources_serve_another_release() {
        assert_eq!(
            swap(TARGETS, Release::Trixie),
            [
                "deb http://mirror.test/debian/ trixie main",
                "deb http://mirror.test/debian/ trixie-updates main",
                "deb http://mirror.test/debian-security/ trixie-security main",
            ]
        );
    }

    #[test]
    fn a_machine_without_debian_sources_has_no_opinion() {
        assert!(swap("http://mirror.test/ubuntu/ noble main\n", Release::Bookworm).is_empty());
        assert!(swap("http://mirror.test/debian/ bookworm-updates main\n", Release::Bookworm).is_empty());
    }
}
