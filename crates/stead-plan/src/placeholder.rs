//! Placeholders in declared texts become places on the server.
//!
//! `/@stead/inputs/portfolio` becomes `/var/lib/stead/trees/<tree id>`, wherever it occurs in a
//! text. Promises that no text with a placeholder left in it gets into a generation.

use crate::Inputs;
use crate::error::PlanError;
use std::collections::{BTreeMap, BTreeSet};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::lock::LockedInput;
use stead_model::name::Name;
use stead_model::secret;
use stead_model::server::{App, Server};
use stead_model::tree::Tree;

const ANY: &str = "/@stead/";

/// Where inputs and releases are on the server.
pub(crate) struct Places<'a> {
    server: &'a Server,
    trees: BTreeMap<&'a str, (Hash, &'a Tree)>,
    releases: BTreeMap<&'a str, (Hash, &'a Tree)>,
}

/// A folder of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Place<'a> {
    /// The tree.
    pub(crate) id: Hash,
    /// Its content.
    pub(crate) tree: &'a Tree,
    /// What it is, for people.
    pub(crate) label: String,
    /// The folder in it; empty for the tree itself.
    pub(crate) folder: String,
}

/// The trees that something refers to.
pub(crate) type Used<'a> = BTreeMap<Hash, (String, &'a Tree)>;

impl Place<'_> {
    /// Its path on the server.
    pub(crate) fn path(&self) -> String {
        let root = tree_path(&self.id);
        if self.folder.is_empty() { root } else { format!("{root}/{}", self.folder) }
    }
}

/// The path of a tree on the server.
pub(crate) fn tree_path(id: &Hash) -> String {
    format!("{}/{id}", layout::TREES)
}

impl<'a> Places<'a> {
    /// The places of these inputs.
    ///
    /// # Errors
    /// When a folder is not the locked one.
    pub(crate) fn new(server: &'a Server, inputs: &Inputs<'a>) -> Result<Self, PlanError> {
        let identified = |trees: &'a BTreeMap<Name, Tree>| -> BTreeMap<&'a str, (Hash, &'a Tree)> {
            trees.iter().map(|(name, tree)| (name.as_str(), (tree.id(), tree))).collect()
        };
        let trees = identified(inputs.trees);
        for (name, (id, _)) in &trees {
            match inputs.lock.inputs.get(*name) {
                Some(LockedInput::Path { tree, .. }) if tree == id => {}
                Some(_) => return Err(PlanError::ChangedInput { input: (*name).to_owned() }),
                None => {
                    return Err(PlanError::MissingPin { option: format!("inputs.{name}"), key: (*name).to_owned() });
                }
            }
        }
        Ok(Self { server, trees, releases: identified(inputs.releases) })
    }

    /// The text with every placeholder replaced; the trees that it refers to are added to `used`.
    pub(crate) fn resolve(&self, option: &str, text: &str, used: &mut Used<'a>) -> Result<String, PlanError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(ANY) {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let (place, length) = self.placeholder(option, from)?;
            out.push_str(&place.path());
            used.insert(place.id, (place.label, place.tree));
            rest = &from[length..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The folder that an app runs from: what was built, or its source.
    pub(crate) fn release(&self, name: &Name, app: &App) -> Result<Place<'a>, PlanError> {
        if app.build.is_some() {
            let (id, tree) =
                *self.releases.get(name.as_str()).ok_or_else(|| PlanError::NotBuilt { app: name.clone() })?;
            return Ok(Place { id, tree, label: format!("app {name}"), folder: String::new() });
        }
        let option = format!("apps.{name}.source");
        if !app.source.starts_with(layout::INPUT_PLACEHOLDER) {
            return Err(PlanError::bad(option, &app.source, "is not a folder of an input"));
        }
        let (mut place, length) = self.placeholder(&option, &app.source)?;
        let folder = app.source[length..].trim_matches('/');
        let below = format!("{folder}/");
        if !folder.is_empty() && !place.tree.entries.keys().any(|path| path.as_str().starts_with(&below)) {
            return Err(PlanError::MissingSource { app: name.clone(), folder: folder.to_owned() });
        }
        place.folder = folder.to_owned();
        Ok(place)
    }

    /// The placeholder that the text starts with, and its length.
    fn placeholder(&self, option: &str, text: &str) -> Result<(Place<'a>, usize), PlanError> {
        let named = |prefix: &str| {
            let rest = text.strip_prefix(prefix)?;
            let end =
                rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
            Some((&rest[..end], prefix.len() + end))
        };
        if let Some((name, length)) = named(layout::INPUT_PLACEHOLDER) {
            let unknown = || PlanError::UnknownInput { option: option.to_owned(), input: name.to_owned() };
            let (id, tree) = *self.trees.get(name).ok_or_else(unknown)?;
            return Ok((Place { id, tree, label: format!("input {name}"), folder: String::new() }, length));
        }
        if let Some((name, length)) = named(layout::RELEASE_PLACEHOLDER) {
            let unknown = || PlanError::UnknownApp { option: option.to_owned(), app: name.to_owned() };
            let (name, app) = self.server.apps.get_key_value(name).ok_or_else(unknown)?;
            return Ok((self.release(name, app)?, length));
        }
        if text.starts_with(secret::PLACEHOLDER) {
            return Err(PlanError::SecretInClear { option: option.to_owned() });
        }
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        Err(PlanError::UnknownPlaceholder { option: option.to_owned(), text: text[..end].chars().take(80).collect() })
    }
}

/// The ids of these trees.
pub(crate) fn ids(used: &Used<'_>) -> BTreeSet<Hash> {
    used.keys().copied().collect()
}
