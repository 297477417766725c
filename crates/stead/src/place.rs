//! Where in the operator's own files stands what turned out to be wrong.
//!
//! An option that planning or the server refuses is where it was declared. nginx reads rendered files; what it refuses was nearly always written by hand in an `extraConfig`,
//! word for word. Looks for that text in the project's Nickel files. Reads only, and guesses nothing:
//! no place is told when the text is in none, or in too many.

use crate::failure::Failure;
use crate::project::Loaded;
use std::fs;
use std::path::{Path, PathBuf};
use stead_model::name::Name;

/// Most places that are told.
const MOST_PLACES: usize = 3;
/// Most files that are looked through.
const MOST_FILES: usize = 2000;
/// Texts shorter than this are everywhere: `}`, `;`.
const SHORTEST: usize = 4;

/// The failure, with the places in the project of each line that it quotes as `nginx/<file>:<line>: <text>`.
pub(crate) fn added(mut failure: Failure, project: &Loaded) -> Failure {
    let quoted = |line: &str| -> Option<String> {
        let (_, text) = line.strip_prefix("nginx/")?.split_once(": ")?;
        (text.len() >= SHORTEST).then(|| text.to_owned())
    };
    if failure.what.lines().find_map(quoted).is_none() {
        return failure;
    }
    let mut folders = vec![project.root.clone()];
    folders.extend(project.declared.values().filter_map(|input| input.url.folder(&project.root)));
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| nickel_files(folder)).collect();
    files.sort();
    files.dedup();
    let mut lines = Vec::new();
    for line in failure.what.trim_end().lines() {
        lines.push(line.to_owned());
        let Some(text) = quoted(line) else { continue };
        let places: Vec<String> = files.iter().flat_map(|file| places(file, &text, &project.root)).collect();
        if (1..=MOST_PLACES).contains(&places.len()) {
            lines.push(format!("written in {}", places.join(", ")));
        }
    }
    failure.what = lines.join("\n");
    failure
}

/// The failure, with the place of the option that its first line begins with.
pub(crate) fn of_option(mut failure: Failure, project: &Loaded, server: &Name) -> Failure {
    let (first, rest) = failure.what.split_once('\n').unwrap_or((&failure.what, ""));
    // "this option, or that one: …": the first of them that somebody wrote.
    let place = first.split(", or ").find_map(|words| project.project.place_of(&project.sources, server, words));
    let Some(place) = place else { return failure };
    let rest = if rest.is_empty() { String::new() } else { format!("\n{rest}") };
    failure.what = format!("{first}\n  --> {place}{rest}");
    failure
}

fn places(file: &Path, text: &str, root: &Path) -> Vec<String> {
    let content = fs::read_to_string(file).unwrap_or_default();
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = file.strip_prefix(root).unwrap_or(file).display();
    let found = content.lines().enumerate().filter(|(_, line)| line.contains(text));
    found.map(|(number, _)| format!("{name}:{}", number + 1)).collect()
}

/// Nickel files below a folder; hidden folders are left out.
fn nickel_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.canonicalize().unwrap_or_else(|_| folder.to_owned())];
    let mut seen = 0;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_FILES {
                return found;
            }
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_hidden => waiting.push(entry.path()),
                Ok(kind) if kind.is_file() && entry.path().extension().is_some_and(|end| end == "ncl") => {
                    found.push(entry.path());
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_where_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("modules/.git")).unwrap();
        fs::write(folder.path().join("modules/server.ncl"), "{\n  x.extraConfig = \"foo bar;\",\n}\n").unwrap();
        fs::write(folder.path().join("modules/.git/old.ncl"), "foo bar;\n").unwrap();
        fs::write(folder.path().join("notes.txt"), "foo bar;\n").unwrap();
        let files = nickel_files(folder.path());
        let found: Vec<String> = files.iter().flat_map(|file| places(file, "foo bar;", folder.path())).collect();
        assert_eq!(found, ["modules/server.ncl:2"]);
    }
}
