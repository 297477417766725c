//! Where an option is written: for what turns out to be wrong with it later than here.
//!
//! Planning and the server know options by their names. Evaluates the project once more, which takes some ten
//! milliseconds, when there is something to tell. Guesses nothing: no place is better than a wrong one.

use crate::failure::Place;
use crate::language::{Session, apart, spell};
use crate::project::Project;
use crate::tree::{Node, Shape};
use std::collections::BTreeMap;
use std::path::PathBuf;
use stead_model::name::Name;

impl Project {
    /// Where the option of this server is written whose name these words begin with, or, if nobody wrote it, the nearest one around
    /// it. `None` when it is in no file of the project or of an input.
    pub fn place_of(&self, sources: &BTreeMap<Name, PathBuf>, server: &Name, words: &str) -> Option<Place> {
        let found = apart(|| {
            let (session, node) = self.configurations(sources)?;
            let configuration = node.at(&["configurations", server.as_str()]);
            Ok(configuration.and_then(|configuration| nearest(&session, configuration, &plain(words))))
        });
        found.ok().flatten()
    }
}

/// Without quotes: people may write `"a"` or `a`, and so may we.
fn plain(words: &str) -> String {
    words.replace('"', "")
}

fn nearest(session: &Session, configuration: &Node, words: &str) -> Option<Place> {
    let mut best = None;
    let mut node = configuration;
    let mut path: Vec<&str> = Vec::new();
    loop {
        // The longest name first: that of a site may begin another's.
        let mut fields: Vec<(&String, &Node)> = node.fields().collect();
        fields.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let next = fields.into_iter().find(|(name, _)| {
            let wanted = plain(&spell(&path.iter().copied().chain([name.as_str()]).collect::<Vec<_>>()));
            words.strip_prefix(&*wanted).is_some_and(|rest| {
                !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '/')
            })
        });
        let Some((name, child)) = next else { return best };
        path.push(name);
        let span = match child.shape {
            Shape::Record(_) => session.place_of_name(child),
            _ => session.place_of(child),
        };
        // A single part of the configuration, such as `services`, is no place to look at.
        let is_part = path.len() == 1 && matches!(child.shape, Shape::Record(_));
        if let Some(span) = span.filter(|_| !is_part) {
            best = session.spell_place(span);
        }
        node = child;
    }
}
