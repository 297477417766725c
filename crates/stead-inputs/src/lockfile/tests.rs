//! What the lock's file promises.

use super::*;
use crate::moved::tests::{lock, package};

fn refused(text: &str) -> String {
    from_text(text, Path::new("stead.lock")).unwrap_err().to_string()
}

#[test]
fn a_lock_reads_back_what_it_prints() {
    let lock = lock();
    let text = to_text(&lock);
    assert_eq!(from_text(&text, Path::new("stead.lock")).unwrap(), lock);
    assert_eq!(to_text(&from_text(&text, Path::new("stead.lock")).unwrap()), text);
}

#[test]
fn every_package_and_every_fact_has_a_line_of_its_own() {
    let text = to_text(&lock());
    let digest = "0".repeat(64);
    let expected = format!(
        r#"{{
  "format": 1,
  "inputs": {{
    "debian": {{
      "type": "debian",
      "url": "debian:bookworm",
      "suites": {{
        "bookworm": {{"date": "Sat, 11 Jan 2025 11:04:28 UTC", "sha256": "{digest}"}}
      }}
    }},
    "portfolio": {{
      "type": "path",
      "url": "path:../portfolio",
      "tree": "{digest}",
      "files": 2,
      "size": 2048
    }}
  }},
  "runtimes": {{
    "debian/amd64/nginx-light": {{
      "debian": "debian",
      "architecture": "amd64",
      "requested": [
        "nginx-light"
      ],
      "packages": [
        {{"name": "libc6", "version": "2.36-9", "architecture": "amd64", "size": 10, "sha256": "{digest}", "path": "pool/main/libc6.deb", "suite": "bookworm"}},
        {{"name": "nginx-light", "version": "1.22.1-9", "architecture": "amd64", "size": 10, "sha256": "{digest}", "path": "pool/main/nginx-light.deb", "suite": "bookworm"}}
      ]
    }}
  }}
}}
"#
    );
    assert_eq!(text, expected);
}

#[test]
fn a_lock_that_pins_nothing_is_short() {
    assert_eq!(to_text(&Lock::empty()), "{\n  \"format\": 1,\n  \"inputs\": {},\n  \"runtimes\": {}\n}\n");
}

#[test]
fn other_formats_are_refused_with_words() {
    assert!(refused(r#"{"format": 7, "inputs": {}, "runtimes": {}}"#).contains("is of format 7"));
    assert!(refused(r#"{"format": "1"}"#).contains("no lock of Stead"));
    assert!(refused("{}").contains("missing"));
    assert!(refused("[]").contains("no lock of Stead"));
}

#[test]
fn broken_json_is_told_with_its_place() {
    let text = to_text(&lock());
    let cut = &text[..text.len() / 2];
    assert!(refused(cut).starts_with("`stead.lock`, line "), "{}", refused(cut));
    let merge = text.replace("  \"inputs\"", "<<<<<<< HEAD\n  \"inputs\"");
    assert!(refused(&merge).contains("unfinished merge"));
}

#[test]
fn unknown_fields_are_told_with_their_place() {
    let text = to_text(&lock());
    let extra = refused(&text.replace("\"suite\": \"bookworm\"}", "\"suite\": \"bookworm\", \"evil\": 1}"));
    assert!(extra.contains("runtimes.debian/amd64/nginx-light.packages[0]") && extra.contains("`evil`"), "{extra}");
    let input = refused(&text.replace("\"files\": 2", "\"flies\": 2"));
    assert!(input.contains("inputs.portfolio") && input.contains("`flies`"), "{input}");
    let digest = refused(&text.replacen(&"0".repeat(64), "0", 1));
    assert!(digest.contains("inputs.debian") && digest.contains("not a digest"), "{digest}");
}

#[test]
fn a_lock_that_contradicts_itself_is_refused() {
    let tampered = |from: &str, to: &str| {
        let text = to_text(&lock());
        assert!(text.contains(from), "the test changes something");
        refused(&text.replace(from, to))
    };
    assert!(tampered("debian/amd64/nginx-light", "debian/amd64/nginx").contains("says it is"));
    assert!(tampered("\"name\": \"libc6\"", "\"name\": \"zlib1g\"").contains("not in order"));
    assert!(tampered("pool/main/libc6.deb", "../../etc/x").contains("no path in an archive"));
    assert!(
        tampered(
            "\"version\": \"2.36-9\", \"architecture\": \"amd64\"",
            "\"version\": \"2.36-9\", \"architecture\": \"arm64\""
        )
        .contains("does not run on")
    );
    assert!(tampered("path:../portfolio", "debian:bookworm").contains("no URL of a path input"));
    let mut orphan = lock();
    orphan.inputs.remove("debian");
    assert!(refused(&to_text(&orphan)).contains("no Debian input `debian`"));
}

#[test]
fn writing_replaces_the_whole_file_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stead.lock");
    assert_eq!(read(&path).unwrap(), None);
    assert_eq!(write(&path, &Lock::empty()).unwrap(), Written::Changed);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(write(&path, &lock()).unwrap(), Written::Changed);
    assert_eq!(read(&path).unwrap(), Some(lock()));
    assert_eq!(write(&path, &lock()).unwrap(), Written::Unchanged);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_lock_that_cannot_be_written_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stead.lock");
    fs::create_dir(&path).unwrap();
    assert!(matches!(write(&path, &lock()), Err(Error::Write { .. })));
    assert!(path.is_dir());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "[\\{\\}\\[\\]:, \"a-z0-9]{0,60}") {
        let _ = from_text(&text, Path::new("stead.lock"));
    }

    #[test]
    fn what_differs_prints_differently(version in "[0-9a-z.]{1,8}") {
        let mut other = lock();
        let runtime = other.runtimes.values_mut().next().unwrap();
        runtime.packages[0] = package("libc6", &version);
        proptest::prop_assert_eq!(to_text(&other) == to_text(&lock()), other == lock());
    }
}
