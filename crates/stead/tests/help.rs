//! The command line explains itself, and what the documents say of it is so.
//!
//! Runs the real program with `--help`, never with anything that does something. `docs/commands.md` is
//! written from it: `UPDATE_DOCS=1 cargo nextest run -p stead --test help`.
#![expect(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// How the page begins.
const PREFACE: &str = "\
# Commands

What `stead COMMAND --help` says, on one page. It is generated; do not edit it.
To write it again after a change: `UPDATE_DOCS=1 cargo nextest run -p stead --test help`.
";

/// What the program says to these words and `--help`, to nobody's terminal.
fn help(words: &[String]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_stead"));
    program.args(words).arg("--help").stdin(Stdio::null()).env_remove("COLUMNS");
    let output = program.output().unwrap();
    assert!(output.status.success(), "stead {} --help: {}", words.join(" "), output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The commands in a help text, each with its line.
fn listed(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let row = |line: &str| {
        let (name, about) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
        (name.to_owned(), about.trim().to_owned())
    };
    // A line that goes on is indented deeper than a name.
    let rows = lines.filter(|line| line.len() - line.trim_start().len() == 2).map(row);
    rows.filter(|(name, _)| name != "help").collect()
}

/// Every command, as its words, in the order of the help; and its line.
fn commands() -> Vec<(Vec<String>, String)> {
    below(&[])
}

fn below(words: &[String]) -> Vec<(Vec<String>, String)> {
    let with_own = |(name, about): (String, String)| {
        let words = [words, &[name]].concat();
        let own = below(&words);
        std::iter::once((words, about)).chain(own)
    };
    listed(&help(words)).into_iter().flat_map(with_own).collect()
}

#[test]
fn every_command_has_a_line_of_its_own_and_a_page_that_says_more() {
    let commands = commands();
    let names: BTreeSet<String> = commands.iter().map(|(words, _)| words.join(" ")).collect();
    for known in ["init", "update", "check", "plan", "deploy", "up", "rollback", "status", "history", "lab up"] {
        assert!(names.contains(known), "{known} is not among {names:?}");
    }
    assert!(!names.contains("agent"), "what no person runs is not shown");
    for (words, about) in &commands {
        let words = words.join(" ");
        assert!(about.len() > 10, "`stead {words}` has no line that says what it does: {about:?}");
        assert!(!about.ends_with('.'), "`stead {words}`: a line of a list has no full stop");
    }
    let lines: BTreeSet<&String> = commands.iter().map(|(_, about)| about).collect();
    assert_eq!(lines.len(), commands.len(), "two commands are described alike");
}

#[test]
fn every_option_says_what_it_is_for() {
    for (words, _) in commands() {
        let text = help(&words);
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with('-')) {
            let same = line.trim().split_once("  ").map(|(_, words)| words.trim());
            let next = lines.get(index + 1).map(|line| line.trim());
            let said = same.or(next).unwrap_or_default();
            assert!(!said.is_empty() && !said.starts_with('-'), "`stead {}`: {line}", words.join(" "));
        }
    }
}

/// The commands that a document names: the words after `stead` in its code.
fn named(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans: Vec<&str> = if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for command in spans.iter().flat_map(|span| span.split("&&")) {
            let command = command.split('#').next().unwrap_or_default();
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word == "stead") && words.len() > 1 {
                found.push(words[1..].to_vec());
            }
        }
    }
    found
}

#[test]
fn the_documents_name_only_commands_and_options_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let known: Vec<Vec<String>> = commands().into_iter().map(|(words, _)| words).collect();
    let mut count = 0;
    let decisions = std::fs::read_dir(root.join("docs/decisions")).unwrap().map(|entry| entry.unwrap().path());
    let pages = ["README.md", "CHANGELOG.md", "ARCHITECTURE.md", "docs/commands.md", "examples/two-sites/README.md"];
    for page in pages.iter().map(|page| root.join(page)).chain(decisions) {
        let text = std::fs::read_to_string(&page).unwrap();
        // `stead agent …` is real, and hidden; `stead COMMAND` stands for any.
        let hidden = |words: &Vec<String>| ["agent", "COMMAND"].contains(&words[0].as_str());
        for words in named(&text).into_iter().filter(|words| !hidden(words)) {
            let place = format!("{}: `stead {}`", page.display(), words.join(" "));
            let meant = known.iter().filter(|known| words.starts_with(known)).max_by_key(|known| known.len());
            let page = help(meant.map_or(&[][..], |words| words));
            assert!(meant.is_some() || words[0].starts_with('-'), "{place}: there is no such command");
            let own = words.iter().take_while(|word| *word != "--");
            for option in own.filter(|word| word.starts_with("--")) {
                let name = option.split('=').next().unwrap_or_default();
                let there = page.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == name);
                assert!(there, "{place}: there is no such option");
            }
            count += 1;
        }
    }
    assert!(count > 10, "the documents' commands were not found: {count}");
}

/// A help text without the options that every command has: the page tells them once.
fn own(text: &str) -> String {
    const EVERYWHERE: &str = "Options of every command:";
    assert!(text.contains(EVERYWHERE), "{text}");
    let mut skipping = false;
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines() {
        skipping = line == EVERYWHERE || skipping && (line.is_empty() || line.starts_with(' '));
        if !skipping {
            kept.push(line);
        }
    }
    format!("{}\n", kept.join("\n").trim_end())
}

#[test]
fn the_page_of_commands_is_what_the_program_says() {
    let mut page = PREFACE.to_owned();
    let _ = write!(page, "\n## `stead`\n\n```text\n{}```\n", help(&[]));
    for (words, _) in commands() {
        let _ = write!(page, "\n## `stead {}`\n\n```text\n{}```\n", words.join(" "), own(&help(&words)));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == page, "docs/commands.md is not fresh: UPDATE_DOCS=1 cargo nextest run -p stead --test help");
}
