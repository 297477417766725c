//! Does the lock fit the declaration?
//!
//! Pure. Promises that a lock without a [`Mismatch`] pins everything that the declaration needs,
//! as it is now. Pins that nothing needs any more do no harm, and the next `update` drops them.
//! Never moves a pin: each mismatch says which command would.

use crate::url::InputUrl;
use std::collections::{BTreeMap, BTreeSet};
use stead_model::hash::Hash;
use stead_model::lock::{Lock, LockedInput, RuntimeKey};
use stead_model::name::Name;

/// What the declaration needs, and what is there now.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Every declared input.
    pub inputs: &'a BTreeMap<Name, InputUrl>,
    /// Every runtime that the servers need.
    pub runtimes: &'a BTreeSet<RuntimeKey>,
    /// The identity that the tree of each `path:` input has now. One that is not here is not compared.
    pub trees: &'a BTreeMap<Name, Hash>,
}

/// Everything in which the lock does not fit, inputs first; empty: it fits.
pub fn check(lock: Option<&Lock>, needs: Needs<'_>) -> Vec<Mismatch> {
    let Some(lock) = lock else { return vec![Mismatch::NoLock] };
    let inputs = needs.inputs.iter().filter_map(|(name, url)| input(lock, name, url, needs.trees.get(name)));
    let mut found: Vec<Mismatch> = inputs.collect();
    for key in needs.runtimes.iter().filter(|key| !lock.runtimes.contains_key(&key.to_string())) {
        // An input that does not fit is told once, not again for each of its runtimes.
        let told = |mismatch: &Mismatch| mismatch.input() == Some(&key.debian);
        if !found.iter().any(|mismatch| told(mismatch) && !matches!(mismatch, Mismatch::Runtime { .. })) {
            found.push(Mismatch::Runtime { key: key.clone() });
        }
    }
    found
}

fn input(lock: &Lock, name: &Name, url: &InputUrl, tree: Option<&Hash>) -> Option<Mismatch> {
    let name = name.clone();
    let Some(locked) = lock.inputs.get(&name) else { return Some(Mismatch::Input { name }) };
    let (LockedInput::Path { url: pinned, .. } | LockedInput::Debian { url: pinned, .. }) = locked;
    if *pinned != url.to_string() {
        return Some(Mismatch::Url { name, pinned: pinned.clone(), declared: url.to_string() });
    }
    match (locked, tree) {
        (LockedInput::Path { tree: pinned, .. }, Some(now)) if pinned != now => {
            Some(Mismatch::Content { name, pinned: *pinned, now: *now })
        }
        _ => None,
    }
}

/// One thing in which the lock does not fit the declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// There is no lock at all.
    #[error("the project has no `stead.lock` yet: run `stead update`")]
    NoLock,
    /// A declared input is not pinned.
    #[error("the input `{name}` is not in `stead.lock`: run `stead update {name}`")]
    Input {
        /// The input.
        name: Name,
    },
    /// An input is declared otherwise than when it was pinned.
    #[error(
        "the input `{name}` is declared as `{declared}`, but `stead.lock` pins `{pinned}`: run `stead update {name}`"
    )]
    Url {
        /// The input.
        name: Name,
        /// The URL in the lock.
        pinned: String,
        /// The URL in the declaration.
        declared: String,
    },
    /// A folder's content is not what was pinned.
    #[error("the input `{name}` has changed since it was pinned ({} is now {}): run `stead update {name}`", pinned.short(), now.short())]
    Content {
        /// The input.
        name: Name,
        /// The tree in the lock.
        pinned: Hash,
        /// The tree as it is.
        now: Hash,
    },
    /// A runtime has not been resolved.
    #[error("`stead.lock` has no packages for the runtime `{key}`: run `stead update {}`", key.debian)]
    Runtime {
        /// The runtime.
        key: RuntimeKey,
    },
}

impl Mismatch {
    /// The input whose update would mend it; `None`: all of them.
    pub fn input(&self) -> Option<&Name> {
        match self {
            Mismatch::NoLock => None,
            Mismatch::Input { name } | Mismatch::Url { name, .. } | Mismatch::Content { name, .. } => Some(name),
            Mismatch::Runtime { key } => Some(&key.debian),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moved::tests::lock;

    struct Project {
        inputs: BTreeMap<Name, InputUrl>,
        runtimes: BTreeSet<RuntimeKey>,
        trees: BTreeMap<Name, Hash>,
    }

    impl Project {
        fn new() -> Self {
            let input = |name: &str, url: &str| (name.parse().unwrap(), InputUrl::parse(url).unwrap());
            let key = RuntimeKey::new("debian".parse().unwrap(), "amd64", ["nginx-light".parse().unwrap()]);
            Self {
                inputs: [input("debian", "debian:bookworm"), input("portfolio", "path:../portfolio")].into(),
                runtimes: [key].into(),
                trees: [("portfolio".parse().unwrap(), Hash::from_bytes([0; 32]))].into(),
            }
        }

        fn says(&self, lock: Option<&Lock>) -> Vec<String> {
            let needs = Needs { inputs: &self.inputs, runtimes: &self.runtimes, trees: &self.trees };
            check(lock, needs).iter().map(Mismatch::to_string).collect()
        }
    }

    fn one(words: &[String], part: &str) {
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].contains(part), "{words:?}");
    }

    #[test]
    fn a_lock_with_all_that_is_needed_fits_also_with_more_in_it() {
        let mut project = Project::new();
        assert_eq!(project.says(Some(&lock())), Vec::<String>::new());
        project.inputs.remove("portfolio");
        project.runtimes.clear();
        assert_eq!(project.says(Some(&lock())), Vec::<String>::new());
    }

    #[test]
    fn each_mismatch_says_what_to_run() {
        one(&Project::new().says(None), "run `stead update`");
        let mut project = Project::new();
        project.inputs.insert("extra".parse().unwrap(), InputUrl::parse("path:x").unwrap());
        one(&project.says(Some(&lock())), "run `stead update extra`");
        let mut project = Project::new();
        project.trees.insert("portfolio".parse().unwrap(), Hash::from_bytes([1; 32]));
        one(
            &project.says(Some(&lock())),
            "has changed since it was pinned (00000000 is now 01010101): run `stead update portfolio`",
        );
        let mut project = Project::new();
        project.runtimes.insert(RuntimeKey::new("debian".parse().unwrap(), "amd64", ["python3".parse().unwrap()]));
        one(&project.says(Some(&lock())), "`debian/amd64/python3`: run `stead update debian`");
    }

    #[test]
    fn another_release_is_told_once() {
        let mut project = Project::new();
        project.inputs.insert("debian".parse().unwrap(), InputUrl::parse("debian:trixie").unwrap());
        project.runtimes.insert(RuntimeKey::new("debian".parse().unwrap(), "amd64", ["python3".parse().unwrap()]));
        one(&project.says(Some(&lock())), "declared as `debian:trixie`, but `stead.lock` pins `debian:bookworm`");
    }
}
