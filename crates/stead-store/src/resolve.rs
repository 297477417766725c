//! What is wrong with a tree's description, before anything is made of it.
//!
//! Pure. Finds entries below something that is no folder (which would be written through a link to
//! elsewhere), and links that lead out of the tree: followed as the kernel follows them, through the
//! tree's other links, not by their text.

use std::collections::HashSet;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Tree};

/// What an absolute link means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absolute {
    /// A place of the server: out of the tree.
    Out,
    /// A place of the tree, because it is somebody's root (`RootDirectory=`).
    Within,
}

/// Why a tree cannot be realised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An entry is below another one that is a file or a link.
    #[error("`{path}` is below `{above}`, which is no folder")]
    Below {
        /// The entry.
        path: RelativePath,
        /// The file or link above it.
        above: RelativePath,
    },
    /// A link leads out of the tree.
    #[error("the link `{path}` leads out of the tree: `{target}`")]
    Escapes {
        /// The link.
        path: RelativePath,
        /// Its target, as it is written.
        target: String,
    },
    /// A link's target is empty or has a NUL, which no system can make.
    #[error("the link `{path}` has an impossible target")]
    Target {
        /// The link.
        path: RelativePath,
    },
}

/// The kernel's limit of links on one way (`path_resolution(7)`).
const MOST_LINKS: u32 = 40;

/// Every folder of the tree but its root, parents before what is in them.
///
/// # Errors
/// With the first flaw of the tree.
pub(crate) fn folders(tree: &Tree, absolute: Absolute) -> Result<Vec<&str>, Flaw> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut folders = Vec::new();
    let mut new = Vec::new();
    for (path, entry) in &tree.entries {
        if *entry == Entry::Folder && !seen.contains(path.as_str()) {
            new.push(path.as_str());
        }
        let mut rest = path.as_str();
        while let Some((above, _)) = rest.rsplit_once('/').filter(|(above, _)| !seen.contains(above)) {
            if matches!(tree.get(above), Some(Entry::File(_) | Entry::Link(_))) {
                let above = above.parse().expect("what is above a path is a path");
                return Err(Flaw::Below { path: path.clone(), above });
            }
            new.push(above);
            rest = above;
        }
        seen.extend(&new);
        folders.extend(new.drain(..).rev());
        if let Entry::Link(target) = entry {
            if target.is_empty() || target.contains('\0') {
                return Err(Flaw::Target { path: path.clone() });
            }
            if leads_out(tree, path, target, absolute) {
                return Err(Flaw::Escapes { path: path.clone(), target: target.clone() });
            }
        }
    }
    Ok(folders)
}

/// Follows a link to its end, or until it leaves the tree. A link that only goes round does not leave.
fn leads_out(tree: &Tree, path: &RelativePath, target: &str, absolute: Absolute) -> bool {
    let mut place: Vec<&str> = path.as_str().split('/').collect();
    place.pop();
    let mut links = 0;
    let mut rest: Vec<&str> = Vec::new();
    let mut next = Some(target);
    loop {
        if let Some(target) = next.take() {
            if target.starts_with('/') {
                if absolute == Absolute::Out {
                    return true;
                }
                place.clear();
            }
            rest.extend(target.split('/').rev());
        }
        match rest.pop() {
            None => return false,
            Some("" | ".") => {}
            Some("..") => {
                if place.pop().is_none() {
                    return true;
                }
            }
            Some(name) => {
                place.push(name);
                if let Some(Entry::Link(target)) = tree.get(&place.join("/")) {
                    place.pop();
                    links += 1;
                    if links > MOST_LINKS {
                        return false;
                    }
                    next = Some(target);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::tree::Object;

    fn tree(entries: &[(&str, Option<&str>)]) -> Tree {
        let entry = |target: &Option<&str>| match target {
            Some("") => Entry::Folder,
            Some(target) => Entry::Link((*target).to_owned()),
            None => Entry::File(Object::of(b"")),
        };
        Tree { entries: entries.iter().map(|(path, target)| (path.parse().unwrap(), entry(target))).collect() }
    }

    fn escapes(entries: &[(&str, Option<&str>)], absolute: Absolute) -> bool {
        matches!(folders(&tree(entries), absolute), Err(Flaw::Escapes { .. }))
    }

    #[test]
    fn links_that_stay_are_accepted() {
        for target in ["b", "../b", "./x/./../b", "../a/b", "dangling/not/there", ".."] {
            assert!(!escapes(&[("a/link", Some(target))], Absolute::Out), "{target}");
        }
        assert!(!escapes(&[("a", Some("b")), ("b", Some("a"))], Absolute::Out), "round and round is not out");
    }

    #[test]
    fn links_that_leave_are_refused_even_through_other_links() {
        for target in ["../..", "../../etc/passwd", "x/../../../y", "/etc/passwd", "/"] {
            assert!(escapes(&[("a/link", Some(target))], Absolute::Out), "{target}");
        }
        let through = [("out", Some("deep/down/up/..")), ("deep/down/up", Some("../.."))];
        assert!(escapes(&through, Absolute::Out), "by its text it would stay");
    }

    #[test]
    fn in_a_runtime_absolute_links_stay_and_climbing_ones_do_not() {
        assert!(!escapes(&[("etc/link", Some("/usr/bin/x"))], Absolute::Within));
        assert!(escapes(&[("etc/link", Some("/../x"))], Absolute::Within));
        assert!(escapes(&[("etc/link", Some("../../x"))], Absolute::Within));
    }

    #[test]
    fn nothing_is_below_a_link_or_a_file() {
        for above in [Some("elsewhere"), None] {
            let tree = tree(&[("a", above), ("a-b", None), ("a/x/passwd", None)]);
            assert!(matches!(folders(&tree, Absolute::Out), Err(Flaw::Below { .. })));
        }
    }

    #[test]
    fn folders_come_after_their_parents_and_once() {
        let tree = tree(&[("a/b/c/d", None), ("a/b/x", None), ("a/e", Some("")), ("f", Some(""))]);
        let found = folders(&tree, Absolute::Out).unwrap();
        assert_eq!(found, ["a", "a/b", "a/b/c", "a/e", "f"]);
    }
}
