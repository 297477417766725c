//! From the packages that were asked for to every package that they need.
//!
//! `Depends`, `Pre-Depends`, `Conflicts` and `Breaks` are obeyed, versions and virtual packages
//! included (Debian Policy, chapter 7); `Recommends` is not. The newest version is preferred, the
//! first alternative before the second. The search is a SAT solver's (`resolvo`), so a solution is
//! found if there is one. Pure: same index and request, same answer.

mod provider;
pub mod rules;

use crate::index::{self, Index};
use provider::Universe;
use resolvo::{Problem, Solver, UnsolvableOrCancelled};
use std::collections::{BTreeMap, BTreeSet};
use stead_model::lock::LockedPackage;
use stead_model::name::PackageName;

/// Every package of a runtime with these packages, sorted by name.
///
/// Left out is what only maintainer scripts and the boot of a whole system would need
/// ([`rules::GIVEN`]); added is what Debian lets a package use without saying so
/// ([`rules::IMPLIED`]).
pub fn resolve(index: &Index, architecture: &str, packages: &[PackageName]) -> Result<Vec<LockedPackage>, Error> {
    let mut wanted: BTreeSet<PackageName> = packages.iter().cloned().collect();
    for name in &wanted {
        known(index, architecture, name)?;
    }
    loop {
        let found = solve(index, architecture, &wanted)?;
        let before = wanted.len();
        for (package, implied) in rules::IMPLIED {
            if found.iter().any(|found| rules::matches(package, found.name.as_str())) {
                let names = implied.iter().map(|name| name.parse().expect("the rules name packages"));
                wanted.extend(
                    names.filter(|name: &PackageName| index.named(name.as_str()).is_ok_and(|found| !found.is_empty())),
                );
            }
        }
        if wanted.len() == before {
            return Ok(found);
        }
    }
}

fn known(index: &Index, architecture: &str, name: &PackageName) -> Result<(), Error> {
    let package = || name.to_string();
    let found = index.named(name.as_str())?;
    if found.iter().any(|package| provider::runs_on(package, architecture)) {
        return Ok(());
    }
    if !found.is_empty() {
        return Err(Error::Architecture { package: package(), architecture: architecture.to_owned() });
    }
    let providers: BTreeSet<String> =
        index.providers(name.as_str())?.into_iter().map(|provider| provider.name.to_string()).collect();
    if providers.is_empty() {
        let suggestion =
            index.similar(name.as_str()).map(|similar| format!("; did you mean `{similar}`?")).unwrap_or_default();
        return Err(Error::Unknown { package: package(), suggestion });
    }
    let first: Vec<String> = providers.into_iter().take(6).collect();
    Err(Error::Virtual { package: package(), providers: first.join(", ") })
}

fn solve(index: &Index, architecture: &str, wanted: &BTreeSet<PackageName>) -> Result<Vec<LockedPackage>, Error> {
    let universe = Universe::new(index, architecture, wanted);
    let requirements = wanted.iter().map(|name| universe.any_version(name.as_str())).collect();
    let mut solver = Solver::new(universe);
    let solution = solver.solve(Problem::new().requirements(requirements));
    if let Some(error) = solver.provider().failure() {
        return Err(error.into());
    }
    match solution {
        Ok(chosen) => {
            let mut locked: Vec<LockedPackage> =
                chosen.into_iter().map(|id| lock(solver.provider().package(id))).collect();
            locked.sort();
            Ok(locked)
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let plain = pairs(index, architecture, wanted)?;
            let explanation = if plain.is_empty() {
                conflict.display_user_friendly(&solver).to_string().trim_end().to_owned()
            } else {
                plain.join("\n")
            };
            Err(Error::Conflict { packages: join(wanted), explanation })
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => {
            unreachable!("only a failure of the index cancels, and it was returned above")
        }
    }
}

/// Who excludes whom, among the packages that each wanted one would bring by itself. This finds the
/// usual reason, in fewer words than the solver's; where it finds nothing, the solver speaks.
fn pairs(index: &Index, architecture: &str, wanted: &BTreeSet<PackageName>) -> Result<Vec<String>, Error> {
    if wanted.len() < 2 {
        return Ok(Vec::new());
    }
    let mut together = BTreeMap::new();
    for name in wanted {
        for id in solve(index, architecture, &BTreeSet::from([name.clone()])).unwrap_or_default() {
            let found = index.named(id.name.as_str())?.into_iter().find(|package| package.version == id.version);
            together.extend(found.map(|package| (id.name, package)));
        }
    }
    let mut lines = Vec::new();
    for (package, excluded) in
        together.values().flat_map(|package| package.excludes.iter().map(move |one| (package, one)))
    {
        let admits = |version: &str| excluded.version.as_ref().is_none_or(|bound| bound.admits(version));
        for other in together.values().filter(|other| other.name != package.name) {
            let bound = excluded.version.as_ref().map(|bound| format!(" {bound}")).unwrap_or_default();
            let head = format!("{} {} excludes {}{bound}", package.name, package.version, excluded.name);
            if other.name.as_str() == excluded.name && admits(&other.version) {
                lines.push(format!("{head}, and {} {} is needed", other.name, other.version));
            } else if other.provides.iter().any(|provide| {
                provide.name == excluded.name
                    && provide.version.as_ref().map_or(excluded.version.is_none(), |provided| admits(&provided.version))
            }) {
                lines.push(format!("{head}, which {} {} provides", other.name, other.version));
            }
        }
    }
    Ok(lines)
}

fn join(names: &BTreeSet<PackageName>) -> String {
    names.iter().map(PackageName::as_str).collect::<Vec<_>>().join(", ")
}

fn lock(package: &index::Package) -> LockedPackage {
    LockedPackage {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        size: package.size,
        sha256: package.sha256,
        path: package.path.clone(),
        suite: package.suite.clone(),
    }
}

/// Why there is no such set of packages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has this name.
    #[error("there is no package `{package}`{suggestion}")]
    Unknown {
        /// What was asked for.
        package: String,
        /// A similar name, in words.
        suggestion: String,
    },
    /// Several packages could be meant.
    #[error("`{package}` is a virtual package: name one that provides it ({providers})")]
    Virtual {
        /// What was asked for.
        package: String,
        /// Some that provide it.
        providers: String,
    },
    /// It exists, but not here.
    #[error("the package `{package}` does not exist for the architecture `{architecture}`")]
    Architecture {
        /// What was asked for.
        package: String,
        /// Debian's name.
        architecture: String,
    },
    /// They cannot be together.
    #[error("these packages cannot be installed together: {packages}\n{explanation}")]
    Conflict {
        /// What was asked for.
        packages: String,
        /// Who conflicts with whom, over several lines.
        explanation: String,
    },
    /// A package's description is malformed.
    #[error(transparent)]
    Index(#[from] index::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// `name version: Field value; Field value`
    fn index(suites: &[(&str, &[&str])]) -> Index {
        let mut texts = Vec::new();
        for (suite, packages) in suites {
            let mut text = String::new();
            for package in *packages {
                let (head, fields) = package.split_once(':').unwrap_or((package, ""));
                let (name, version) = head.split_once(' ').unwrap();
                writeln!(text, "Package: {name}\nVersion: {version}").unwrap();
                if !fields.contains("Architecture") {
                    writeln!(text, "Architecture: amd64").unwrap();
                }
                for field in fields.split(';').map(str::trim).filter(|field| !field.is_empty()) {
                    let (name, value) = field.split_once(' ').unwrap();
                    writeln!(text, "{name}: {value}").unwrap();
                }
                writeln!(text, "Filename: pool/{name}.deb\nSize: 1\nSHA256: {}\n", "0".repeat(64)).unwrap();
            }
            texts.push((*suite, text));
        }
        Index::of(texts.iter().map(|(suite, text)| (*suite, text.as_str()))).unwrap()
    }

    fn names(index: &Index, packages: &[&str]) -> String {
        let packages: Vec<PackageName> = packages.iter().map(|name| name.parse().unwrap()).collect();
        match resolve(index, "amd64", &packages) {
            Ok(found) => found
                .iter()
                .map(|package| format!("{}={}", package.name, package.version))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_newest_version_of_all_suites_is_taken() {
        let index = index(&[
            ("stable", &["nginx 1.9-1: Depends libc6", "libc6 2.36-9"]),
            ("stable-security", &["nginx 1.10-1: Depends libc6"]),
        ]);
        assert_eq!(names(&index, &["nginx"]), "libc6=2.36-9 nginx=1.10-1");
        let found = resolve(&index, "amd64", &["nginx".parse().unwrap()]).unwrap();
        assert_eq!(found[1].suite, "stable-security");
    }

    #[test]
    fn an_older_version_is_taken_when_the_newest_cannot_be() {
        let index = index(&[("stable", &["app 2: Depends lib (>= 9)", "app 1: Depends lib", "lib 1"])]);
        assert_eq!(names(&index, &["app"]), "app=1 lib=1");
    }

    #[test]
    fn the_first_alternative_is_preferred_and_the_second_is_found() {
        let index =
            index(&[("stable", &["aa 1: Depends xx | yy", "bb 1: Depends xx | yy; Conflicts xx", "xx 1", "yy 1"])]);
        assert_eq!(names(&index, &["aa"]), "aa=1 xx=1");
        assert_eq!(names(&index, &["bb"]), "bb=1 yy=1");
        assert_eq!(names(&index, &["aa", "bb"]), "aa=1 bb=1 yy=1");
    }

    #[test]
    fn virtual_packages_are_provided_versions_included() {
        let index = index(&[(
            "stable",
            &[
                "aa 1: Depends mta",
                "bb 1: Depends api (>= 2)",
                "cc 1: Depends api (>= 3)",
                "postfix 1: Provides mta, api (= 2)",
                "plain 9: Provides api",
            ],
        )]);
        assert_eq!(names(&index, &["aa"]), "aa=1 postfix=1");
        assert_eq!(names(&index, &["bb"]), "bb=1 postfix=1");
        assert!(names(&index, &["cc"]).contains("api"), "{}", names(&index, &["cc"]));
        assert_eq!(names(&index, &["mta"]), "`mta` is a virtual package: name one that provides it (postfix)");
    }

    #[test]
    fn conflicts_say_who_conflicts_with_whom() {
        let index = index(&[(
            "stable",
            &[
                "aa 1: Conflicts bb",
                "bb 1",
                "exim 1: Provides mta; Conflicts mta",
                "postfix 1: Provides mta; Conflicts mta",
                "cc 2: Breaks dd (<< 3)",
                "dd 2",
                "ee 1: Depends aa, bb",
            ],
        )]);
        assert_eq!(names(&index, &["exim"]), "exim=1");
        let explained = |pair: [&str; 2]| names(&index, &pair);
        let head = "these packages cannot be installed together: ";
        assert_eq!(explained(["aa", "bb"]), format!("{head}aa, bb\naa 1 excludes bb, and bb 1 is needed"));
        assert_eq!(explained(["cc", "dd"]), format!("{head}cc, dd\ncc 2 excludes dd (<< 3), and dd 2 is needed"));
        assert_eq!(
            explained(["exim", "postfix"]),
            format!(
                "{head}exim, postfix\nexim 1 excludes mta, which postfix 1 provides\npostfix 1 excludes mta, which exim 1 provides"
            )
        );
        assert_eq!(names(&index, &["ee"]).lines().next(), Some(format!("{head}ee").as_str()));
        assert!(names(&index, &["ee"]).contains("aa 1"), "{}", names(&index, &["ee"]));
    }

    #[test]
    fn a_missing_package_is_named_with_the_one_that_was_meant() {
        let index =
            index(&[("stable", &["nginx 1", "arm 1: Architecture arm64", "broken 1: Depends nothing-like-it"])]);
        assert_eq!(names(&index, &["ngnix"]), "there is no package `ngnix`; did you mean `nginx`?");
        assert_eq!(names(&index, &["qqqqqqqq"]), "there is no package `qqqqqqqq`");
        assert_eq!(names(&index, &["arm"]), "the package `arm` does not exist for the architecture `amd64`");
        assert!(names(&index, &["broken"]).contains("nothing-like-it"));
    }

    #[test]
    fn what_only_maintainer_scripts_need_is_left_out_unless_asked_for() {
        let index = index(&[(
            "stable",
            &["aa 1: Depends debconf (>= 0.5) | debconf-2.0, adduser, lib", "lib 1", "debconf 1", "adduser 3"],
        )]);
        assert_eq!(names(&index, &["aa"]), "aa=1 lib=1");
        assert_eq!(names(&index, &["aa", "adduser"]), "aa=1 adduser=3 lib=1");
    }

    #[test]
    fn what_debian_leaves_unsaid_is_added() {
        let index = index(&[("stable", &["erlang-base 1", "dash 1", "coreutils 9", "sed 4", "grep 3", "libc-bin 2"])]);
        assert_eq!(names(&index, &["erlang-base"]), "coreutils=9 dash=1 erlang-base=1 grep=3 libc-bin=2 sed=4");
    }

    #[test]
    fn the_same_request_has_the_same_answer_in_any_order() {
        let index = index(&[(
            "stable",
            &[
                "aa 1: Depends xx | yy | zz",
                "bb 1: Depends zz | yy",
                "cc 1: Depends mta",
                "xx 1",
                "yy 1",
                "zz 1",
                "mm 1: Provides mta",
                "nn 1: Provides mta",
            ],
        )]);
        let first = names(&index, &["aa", "bb", "cc"]);
        assert_eq!(first, "aa=1 bb=1 cc=1 mm=1 zz=1");
        for _ in 0..20 {
            assert_eq!(names(&index, &["cc", "bb", "aa"]), first);
        }
    }
}
