//! The page that keeps the last long run of power cuts: one section a Debian release.
//!
//! A run of one release leaves the other's section as it is.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One cut, as the test writes it (`stead_e2e::power::Cut`, or a failure), or a server that was given back: `leave`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cut {
    kind: String,
    #[serde(default)]
    phase: String,
    #[serde(default)]
    is_new: bool,
    /// Whether a server that was given back had been adopted.
    #[serde(default)]
    adopted: bool,
    failure: Option<String>,
}

/// What is told of one release.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) release: &'a str,
    pub(super) date: &'a str,
    pub(super) commit: &'a str,
    pub(super) seed: u64,
    pub(super) wanted: u32,
    pub(super) cuts: &'a [Cut],
}

const HEAD: &str = "\
# The last long run of power cuts

Written by `cargo xtask chaos`. A server in a virtual machine (QEMU) loses its power at a random moment of an operation, drawn from
its whole length, and boots. Asked after each cut: what runs is the parent or, whole, what was to become live, and it is what is
confirmed; its sites answer with its content; `stead verify` finds no altered byte; the operator's exit code was true; the next
deploy just works; `stead history` tells how the interrupted one ended. A phase is the last one that the server's own talk tells.
At the end of five cuts, `stead leave` gives the server back: its disk (names, owners, modes, sizes) is as before Stead came.
";

const TITLES: [(&str, &str); 2] = [("bookworm", "## Debian 12"), ("trixie", "## Debian 13")];

impl Section<'_> {
    /// Cuts after which something was not as promised.
    pub(super) fn failures(&self) -> usize {
        self.cuts.iter().filter(|cut| cut.failure.is_some()).count()
    }

    fn render(&self) -> String {
        let (given_back, cut): (Vec<&Cut>, Vec<&Cut>) = self.cuts.iter().partition(|cut| cut.kind == LEAVE);
        let (cuts, wanted, failures) = (cut.len(), self.wanted, self.failures());
        let mut text = format!(
            "{}\n\n{}, commit {}, seed {}: {cuts} of {wanted} cuts made, {failures} failures.\n",
            title(self.release),
            self.date,
            self.commit,
            self.seed
        );
        text.push_str("\n| cut in | phase reached | cuts | came up in the parent | in the new one | failed |\n|---|---|---|---|---|---|\n");
        let mut rows: BTreeMap<(usize, &str, usize, &str), [usize; 3]> = BTreeMap::new();
        for cut in cut {
            let phase = if cut.failure.is_some() { "not told" } else { &cut.phase };
            let row = rows.entry((place(&KINDS, &cut.kind), &cut.kind, place(&PHASES, phase), phase)).or_default();
            row[if cut.failure.is_some() { 2 } else { usize::from(cut.is_new) }] += 1;
        }
        for ((_, kind, _, phase), [parent, new, failed]) in rows {
            let kind = if kind == "firstDeploy" { "first deploy" } else { kind };
            let _ = writeln!(text, "| {kind} | {phase} | {} | {parent} | {new} | {failed} |", parent + new + failed);
        }
        let well = given_back.iter().filter(|end| end.failure.is_none());
        let adopted = well.clone().filter(|end| end.adopted).count();
        let _ = writeln!(
            text,
            "\nGiven back: {} servers as they were, {adopted} of which had been adopted at first.",
            well.count()
        );
        for cut in self.cuts {
            if let Some(words) = &cut.failure {
                let _ = write!(text, "\nFailed, in a {}:\n\n```text\n{}\n```\n", cut.kind, words.trim());
            }
        }
        text
    }
}

/// The kind of a line that tells of a server that was given back.
const LEAVE: &str = "leave";
const KINDS: [&str; 3] = ["firstDeploy", "deploy", "rollback"];
const PHASES: [&str; 7] = ["before its activation", "staged", "starting", "onTrial", "proved", "confirmed", "done"];

fn place(known: &[&str], word: &str) -> usize {
    known.iter().position(|known| *known == word).unwrap_or(known.len())
}

fn title(release: &str) -> &'static str {
    TITLES.iter().find(|(name, _)| *name == release).map_or("## Another", |(_, title)| title)
}

/// The page with this section in place of the release's old one.
pub(super) fn replace(page: &str, section: &Section<'_>) -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (_, title) in TITLES {
        if let Some(start) = page.find(title) {
            let rest = &page[start..];
            let end = rest[title.len()..].find("\n## ").map_or(rest.len(), |end| title.len() + end);
            sections.insert(title, rest[..end].trim_end().to_owned() + "\n");
        }
    }
    sections.insert(title(section.release), section.render());
    sections.values().fold(HEAD.to_owned(), |page, section| format!("{page}\n{section}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(lines: &str) -> Vec<Cut> {
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_release_gets_its_section_and_the_other_one_keeps_its_own() {
        let twelve = cuts(
            r#"{"kind":"firstDeploy","afterMs":12,"phase":"before its activation","isNew":false}
{"kind":"deploy","afterMs":3,"phase":"onTrial","isNew":false}
{"kind":"deploy","afterMs":4,"phase":"onTrial","isNew":false}
{"kind":"leave","adopted":true,"failure":null}
{"kind":"rollback","failure":"it does not boot"}"#,
        );
        let section =
            Section { release: "bookworm", date: "2026-01-02", commit: "0123", seed: 7, wanted: 4, cuts: &twelve };
        let page = replace("", &section);
        assert!(
            page.contains("## Debian 12\n\n2026-01-02, commit 0123, seed 7: 4 of 4 cuts made, 1 failures."),
            "{page}"
        );
        assert!(page.contains("| deploy | onTrial | 2 | 2 | 0 | 0 |"), "{page}");
        assert!(page.contains("Given back: 1 servers as they were, 1 of which"), "{page}");
        assert!(page.contains("```text\nit does not boot\n```"), "{page}");
        let thirteen = Section { release: "trixie", date: "2026-01-03", cuts: &twelve[..1], ..section };
        let both = replace(&page, &thirteen);
        assert!(both.starts_with(page.trim_end()), "{both}");
        assert!(both.contains("## Debian 13\n\n2026-01-03"), "{both}");
        let again = Section { release: "bookworm", date: "2026-01-04", cuts: &twelve[..1], ..thirteen };
        let again = replace(&both, &again);
        assert!(
            again.contains("2026-01-04") && again.contains("2026-01-03") && !again.contains("2026-01-02"),
            "{again}"
        );
        assert_eq!(again.matches("## Debian").count(), 2);
    }
}
