//! Every source file says what it is, and stays readable in one sitting.
//!
//! The first line is `//!`; at most 600 lines before the tests. Files of tests may be longer.

use crate::run::{Result, command, fail, output};
use crate::workspace::Metadata;
use std::fs;
use std::path::Path;

/// Lines that a file may have, its tests apart.
const LONGEST: usize = 600;

/// Checks every Rust file that git knows or would take.
pub(crate) fn check(metadata: &Metadata) -> Result {
    let root = &metadata.workspace_root;
    let words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"];
    let list = output(command("git").current_dir(root).args(words))?;
    let mut problems = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        // A file that is deleted, but not in a commit yet, has nothing to say.
        let Ok(text) = fs::read_to_string(root.join(path)) else { continue };
        problems.extend(problem(path, &text));
    }
    if problems.is_empty() { Ok(()) } else { fail(problems.join("\n")) }
}

fn problem(path: &str, text: &str) -> Option<String> {
    if !text.starts_with("//! ") {
        return Some(format!("{path}: does not open with `//!`: what it is, what it promises, what it never does"));
    }
    let lines = text.lines().position(|line| line == "#[cfg(test)]").unwrap_or_else(|| text.lines().count());
    let long = lines > LONGEST && !is_of_tests(path);
    long.then(|| format!("{path}: {lines} lines before its tests; at most {LONGEST}"))
}

fn is_of_tests(path: &str) -> bool {
    let parts: Vec<_> = Path::new(path).components().map(|part| part.as_os_str()).collect();
    parts.iter().any(|part| *part == "tests" || *part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_needed_and_long_files_are_refused_but_for_their_tests() {
        assert!(problem("a.rs", "use x;\n").is_some());
        assert!(problem("a.rs", "//! A file.\n").is_none());
        let long = "//! A file.\n".to_owned() + &"fn f() {}\n".repeat(LONGEST);
        assert!(problem("src/a.rs", &long).is_some());
        assert!(problem("tests/a.rs", &long).is_none());
        assert!(problem("src/a/tests.rs", &long).is_none());
        let tested = "//! A file.\n#[cfg(test)]\n".to_owned() + &"fn f() {}\n".repeat(LONGEST);
        assert!(problem("src/a.rs", &tested).is_none());
    }
}
