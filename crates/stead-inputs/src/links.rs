//! Symbolic links of a tree: do they stay inside?
//!
//! Promises that a tree without an [`escape`] has no link that, followed from inside the tree
//! alone and through its other links, ends or passes outside of it. Pure: looks at the
//! description only, so it says the same before and after a tree is realised somewhere.

use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Tree};

/// Links followed before giving up, as Linux does (`path_resolution(7)`): more is a loop, which leads nowhere.
const MAX_FOLLOWED: usize = 40;

/// The first link (by path) that leads out of the tree, with its target.
pub fn escape(tree: &Tree) -> Option<(&RelativePath, &str)> {
    tree.entries.iter().find_map(|(path, entry)| match entry {
        Entry::Link(target) if leads_out(tree, path, target) => Some((path, target.as_str())),
        _ => None,
    })
}

fn leads_out(tree: &Tree, link: &RelativePath, target: &str) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut place: Vec<&str> = link.as_str().split('/').collect();
    place.pop();
    let mut ahead: Vec<&str> = target.rsplit('/').collect();
    let mut followed = 0;
    while let Some(part) = ahead.pop() {
        match part {
            "" | "." => {}
            ".." => {
                if place.pop().is_none() {
                    return true;
                }
            }
            name => {
                place.push(name);
                if let Some(Entry::Link(next)) = tree.get(&place.join("/")) {
                    followed += 1;
                    if followed > MAX_FOLLOWED {
                        return false;
                    }
                    if next.starts_with('/') {
                        return true;
                    }
                    place.pop();
                    ahead.extend(next.rsplit('/'));
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(links: &[(&str, &str)]) -> Tree {
        let entry = |(path, target): &(&str, &str)| (path.parse().unwrap(), Entry::Link((*target).to_owned()));
        Tree { entries: links.iter().map(entry).collect() }
    }

    #[test]
    fn links_that_stay_inside_are_fine() {
        let stays = [("a/b", "../c"), ("d", "a/./b"), ("e/f/g", "../../x//y"), ("top", "."), ("dangling", "no/where")];
        assert_eq!(escape(&tree(&stays)), None);
    }

    #[test]
    fn absolute_and_climbing_links_lead_out() {
        for target in ["/etc/passwd", "..", "../x", "a/../../x", "a/b/../../../a"] {
            assert!(escape(&tree(&[("link", target)])).is_some(), "{target}");
        }
        assert!(escape(&tree(&[("a/b/link", "../../../x")])).is_some());
    }

    #[test]
    fn a_link_that_climbs_through_another_link_leads_out() {
        let through = tree(&[("a/b/up", "../.."), ("z", "a/b/up/../x")]);
        assert_eq!(escape(&through).map(|(path, _)| path.as_str()), Some("z"));
        assert!(escape(&tree(&[("z", "a/x"), ("a", "/etc")])).is_some());
    }

    #[test]
    fn a_loop_leads_nowhere() {
        assert_eq!(escape(&tree(&[("a", "b"), ("b", "a"), ("c", "c/c/c")])), None);
    }

    proptest! {
        /// The kernel is the judge: links without an escape, made in a real folder, never resolve outside of it.
        #[test]
        fn the_kernel_agrees(links in prop::collection::btree_map("[ab](/[ab]){0,2}", "(\\.\\./|[ab]/|\\./){0,4}[ab]", 1..6)) {
            let mut kept = Tree::default();
            let outer = tempfile::tempdir().unwrap();
            let root = outer.path().canonicalize().unwrap().join("root");
            std::fs::create_dir_all(&root).unwrap();
            for (path, target) in &links {
                let place = root.join(path);
                let parent_is_plain = place.parent().is_some_and(|parent| std::fs::create_dir_all(parent).is_ok()
                    && parent.canonicalize().is_ok_and(|real| real == parent));
                if parent_is_plain && std::os::unix::fs::symlink(target, &place).is_ok() {
                    kept.entries.insert(path.parse().unwrap(), Entry::Link(target.clone()));
                }
            }
            if escape(&kept).is_none() {
                for path in kept.entries.keys() {
                    if let Ok(real) = root.join(path.as_str()).canonicalize() {
                        prop_assert!(real.starts_with(&root), "{path} is {real:?}");
                    }
                }
            }
        }
    }
}
