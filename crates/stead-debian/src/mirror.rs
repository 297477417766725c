//! Where packages come from: an archive found in the project, a variable, or apt's own sources.
//!
//! No address of a mirror is written in this crate. [`from_apt_sources`] is the only function that
//! reads files (`sources.list(5)`), and it reads only the folder that it is given.

use std::path::{Path, PathBuf};

/// The addresses of a Debian archive, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The `debian` root: what has `dists/` and `pool/`.
    pub base: String,
    /// The `debian-security` root; `None`: there are no security suites.
    pub security: Option<String>,
    /// A `debian` root that keeps superseded versions.
    pub snapshot: Option<String>,
    /// The keyring that the apt source names (`Signed-By`), when it names a file.
    pub keyring: Option<PathBuf>,
}

/// Debian's release names and classes, newest last; what tells a Debian source from somebody else's.
const RELEASES: [&str; 13] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "experimental",
];

impl Archive {
    /// The archive at this `debian` root. The security archive is taken to be beside it
    /// (`…/debian` and `…/debian-security`), as on Debian's own mirrors; without such a path there is none.
    pub fn at(base: &str) -> Result<Self, Error> {
        let base = normal(base).ok_or_else(|| Error::NotAnAddress { text: base.to_owned() })?;
        Ok(Self { security: beside(&base), base, snapshot: None, keyring: None })
    }

    /// The same archive, with this security root instead of the one beside it.
    pub fn with_security(mut self, security: &str) -> Result<Self, Error> {
        self.security = Some(normal(security).ok_or_else(|| Error::NotAnAddress { text: security.to_owned() })?);
        Ok(self)
    }

    /// The same archive, with superseded versions to be had below this `debian` root.
    pub fn with_snapshot(mut self, snapshot: &str) -> Result<Self, Error> {
        self.snapshot = Some(normal(snapshot).ok_or_else(|| Error::NotAnAddress { text: snapshot.to_owned() })?);
        Ok(self)
    }

    /// The archive to use: what the project says (`inputs.<name>.mirror`), else the value of
    /// `STEAD_DEBIAN_MIRROR`, else what apt uses on this machine (`apt`: normally `/etc/apt`).
    pub fn find(project: Option<&str>, variable: Option<&str>, apt: &Path) -> Result<Self, Error> {
        match project.or(variable.filter(|value| !value.is_empty())) {
            Some(address) => Self::at(address),
            None => from_apt_sources(apt),
        }
    }

    /// The suites of a release with the root of each, those of security last.
    pub fn suites(&self, release: &str) -> Vec<(String, &str)> {
        let mut suites = vec![(release.to_owned(), self.base.as_str())];
        if !matches!(release, "sid" | "unstable" | "experimental") && !release.contains(['-', '/']) {
            suites.push((format!("{release}-updates"), &self.base));
            if let Some(security) = &self.security {
                suites.push((format!("{release}-security"), security));
            }
        }
        suites
    }

    /// The addresses of a file of the pool, in the order in which they are tried. `suite` is the
    /// one that the package was found in.
    pub fn places(&self, suite: &str, path: &str) -> Vec<String> {
        let security = suite.ends_with("-security");
        let root = if security { self.security.as_ref().unwrap_or(&self.base) } else { &self.base };
        let snapshot = self.snapshot.as_ref().map(|snapshot| match beside(snapshot) {
            Some(beside) if security => beside,
            _ => snapshot.clone(),
        });
        std::iter::once(root.clone()).chain(snapshot).map(|root| format!("{root}/{path}")).collect()
    }
}

/// The archive that apt uses, read from `sources.list` and `sources.list.d` below this folder.
pub fn from_apt_sources(folder: &Path) -> Result<Archive, Error> {
    let mut files = vec![folder.join("sources.list")];
    let parts = folder.join("sources.list.d");
    if let Ok(entries) = std::fs::read_dir(&parts) {
        let mut found: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        found.sort();
        files.append(&mut found);
    }
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_list,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => sources.extend(parse(&text)),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Unreadable { file, source }),
        }
    }
    choose(sources).ok_or_else(|| Error::NoArchive { folder: folder.to_owned() })
}

/// One entry of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    address: String,
    suites: Vec<String>,
    components: Vec<String>,
    keyring: Option<PathBuf>,
}

fn choose(sources: Vec<Source>) -> Option<Archive> {
    let usable = |source: &&Source| {
        source.components.iter().any(|component| component == "main") && normal(&source.address).is_some()
    };
    let is_release = |suite: &str| RELEASES.contains(&suite.strip_suffix("-updates").unwrap_or(suite));
    let is_security = |suite: &str| {
        let release = suite.strip_suffix("-security").or_else(|| suite.strip_suffix("/updates"));
        release.is_some_and(|release| RELEASES.contains(&release))
    };
    let having = |test: &dyn Fn(&str) -> bool| {
        sources.iter().filter(usable).find(|source| source.suites.iter().any(|suite| test(suite)))
    };
    let base = having(&is_release)?;
    let address = normal(&base.address)?;
    let security = having(&is_security).and_then(|source| normal(&source.address)).or_else(|| beside(&address));
    Some(Archive { base: address, security, snapshot: None, keyring: base.keyring.clone() })
}

/// `deb [options] address suite component…`
fn parse_list(text: &str) -> Vec<Source> {
    let line = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let keyring =
            options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).and_then(keyring_file);
        let mut words = rest.split_whitespace().map(str::to_owned);
        Some(Source { address: words.next()?, suites: vec![words.next()?], components: words.collect(), keyring })
    };
    text.lines().filter_map(line).collect()
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let without_comments: String =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let Ok(document) = without_comments.parse::<deb822_fast::Deb822>() else { return Vec::new() };
    let mut sources = Vec::new();
    for paragraph in document.iter() {
        let words = |field: &str| -> Vec<String> {
            paragraph.get(field).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let disabled =
            paragraph.get("Enabled").is_some_and(|value| matches!(value.trim(), "no" | "false" | "0" | "off"));
        if disabled || !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for address in words("URIs") {
            sources.push(Source {
                address,
                suites: words("Suites"),
                components: words("Components"),
                keyring: paragraph.get("Signed-By").and_then(keyring_file),
            });
        }
    }
    sources
}

fn keyring_file(text: &str) -> Option<PathBuf> {
    let text = text.trim();
    (text.starts_with('/') && !text.contains(char::is_whitespace)).then(|| PathBuf::from(text))
}

fn normal(address: &str) -> Option<String> {
    let address = address.trim().trim_end_matches('/');
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"))?;
    (!rest.is_empty() && !address.contains(|c: char| c.is_whitespace() || c.is_control())).then(|| address.to_owned())
}

/// The `debian-security` root beside a `debian` root, also in front of a snapshot's date.
fn beside(base: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    let mut parts: Vec<&str> = rest.split('/').collect();
    let place = parts.iter().skip(1).rposition(|part| *part == "debian")? + 1;
    parts[place] = "debian-security";
    Some(format!("{scheme}://{}", parts.join("/")))
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not `http://` or `https://`.
    #[error("`{text}` is not the http or https address of a Debian archive")]
    NotAnAddress {
        /// What was given.
        text: String,
    },
    /// apt's sources name no Debian archive.
    #[error("the apt sources in {} name no Debian archive: set `mirror` of the input, or STEAD_DEBIAN_MIRROR", folder.display())]
    NoArchive {
        /// Where was looked.
        folder: PathBuf,
    },
    /// A file of apt's sources cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\nComponents: main\n\
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs: http://mirror.example/debian-security\n\
        Suites: bookworm-security\nComponents: main\n";

    #[test]
    fn both_forms_of_apt_sources_lead_to_the_same_archive() {
        let one_line = "# old style\ndeb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib\n\
            deb-src http://source.example/debian bookworm main\ndeb http://mirror.example/debian-security bookworm-security main\n";
        let archive = choose(parse_deb822(DEB822)).unwrap();
        assert_eq!(Some(&archive), choose(parse_list(one_line)).as_ref());
        assert_eq!(archive.base, "http://mirror.example/debian");
        assert_eq!(archive.security.as_deref(), Some("http://mirror.example/debian-security"));
        assert!(archive.keyring.is_some());
    }

    #[test]
    fn sources_of_others_are_not_taken_for_debian() {
        let others = "deb https://packages.example/node nodistro main\ndeb https://docker.example/linux/debian bookworm stable\n\
            deb http://apt.example/pgdg bookworm-pgdg main\ndeb file:/mnt/debian bookworm main\ndeb http://ubuntu.example/ubuntu noble main\n";
        assert_eq!(choose(parse_list(others)), None);
        let disabled = DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n");
        assert_eq!(choose(parse_deb822(&disabled)), None);
    }

    #[test]
    fn the_project_comes_before_the_variable_and_both_before_apt() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        assert!(matches!(Archive::find(None, Some(""), folder.path()), Err(Error::NoArchive { .. })));
        std::fs::write(folder.path().join("sources.list.d/debian.sources"), DEB822).unwrap();
        let find = |project, variable| Archive::find(project, variable, folder.path()).unwrap().base;
        assert_eq!(find(Some("http://a.example/debian"), Some("http://b.example/debian")), "http://a.example/debian");
        assert_eq!(find(None, Some("http://b.example/debian")), "http://b.example/debian");
        assert_eq!(find(None, None), "http://mirror.example/debian");
        assert!(Archive::find(Some("ftp://a.example"), None, folder.path()).is_err());
    }

    #[test]
    fn packages_of_security_come_from_the_security_archive_also_in_a_snapshot() {
        let archive = Archive::at("http://m.example/debian")
            .unwrap()
            .with_snapshot("https://s.example/archive/debian/20260101T000000Z")
            .unwrap();
        assert_eq!(
            archive.places("bookworm-security", "pool/x.deb"),
            [
                "http://m.example/debian-security/pool/x.deb",
                "https://s.example/archive/debian-security/20260101T000000Z/pool/x.deb",
            ]
        );
        assert_eq!(archive.places("bookworm", "pool/x.deb")[0], "http://m.example/debian/pool/x.deb");
    }
}
