//! What the documents point to is there: files, links between pages, and every crate on the map.
//!
//! Reads the repository, runs nothing.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every page that people read in the repository.
fn pages() -> Vec<PathBuf> {
    let root = root();
    let in_folder = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let pages = [".", "docs", "docs/decisions", "examples/two-sites"].map(in_folder).concat();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// Every file below a folder, build output apart.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() && name != "target" && name != ".git" {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let place = link.split('#').next().unwrap_or_default();
            if place.is_empty() || place.contains("://") {
                continue;
            }
            assert!(page.parent().unwrap().join(place).exists(), "{}: {link} leads nowhere", page.display());
            count += 1;
        }
    }
    assert!(count > 15, "the links were not found: {count}");
}

#[test]
fn the_map_names_only_files_that_exist() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let is_of_names = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let words = text.split(|c: char| !is_of_names(c)).map(|word| word.trim_end_matches('.'));
    let named: BTreeSet<&str> = words.filter(|word| word.ends_with(".rs") || word.ends_with(".ncl")).collect();
    assert!(named.len() > 50, "the files were not found: {named:?}");
    for name in named {
        assert!(all.iter().any(|file| file.ends_with(name)), "ARCHITECTURE.md names `{name}`, which is not there");
    }
}

#[test]
fn the_map_has_a_row_for_every_crate() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let names = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap());
    let crates = names.filter(|entry| entry.path().join("Cargo.toml").exists());
    let names = crates.map(|entry| entry.file_name().into_string().unwrap()).chain(["xtask".to_owned()]);
    for name in names {
        assert!(text.contains(&format!("| `{name}` |")), "ARCHITECTURE.md has no row for `{name}`");
    }
}

#[test]
fn every_test_that_the_guarantees_name_exists() {
    let mut sources = Vec::new();
    files(&root().join("crates"), &mut sources);
    let rust = sources.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let code: String = rust.map(|path| fs::read_to_string(path).unwrap()).collect();
    let page = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let words = page.split('`').skip(1).step_by(2);
    let names: BTreeSet<&str> = words.filter(|word| word.contains('_') && !word.contains([' ', '=', '.'])).collect();
    assert!(names.len() > 20, "the names were not found: {names:?}");
    for name in names {
        assert!(
            code.contains(&format!("\nfn {name}()")) || code.contains(&format!(" fn {name}()")),
            "no test `{name}`"
        );
    }
}
