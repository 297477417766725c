//! After a power cut in the middle of writing: removes what is torn, so that nothing takes it for whole.
//!
//! A torn thing is never part of a published generation, because publishing synchronises everything
//! first. So whatever a readable generation needs stays, even if damaged (that is for `verify` to
//! say), and of the rest all that is not sound goes.

use crate::disk;
use crate::realise::Kind;
use crate::store::Store;
use crate::verify::{Error, What, id_by_name, owner_of};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use stead_model::hash::Hash;
use stead_model::layout;

impl Store {
    pub(crate) fn recover(&self) -> Result<(), Error> {
        let needed = self.needed_by_generations()?;
        for damage in self.verify()?.into_iter().filter(|damage| damage.what != What::Extra) {
            let Some((place, name)) = owner_of(&self.root, &damage.path) else { continue };
            let is = |constant: &str| constant.ends_with(&format!("/{place}"));
            let kind = [Kind::Tree, Kind::Runtime].into_iter().find(|kind| is(kind.folder()));
            if is(layout::OBJECTS) || is(layout::PACKAGES) || is(layout::DESCRIPTIONS) {
                disk::remove(&damage.path)?;
            } else if let (Some(kind), Some(id)) = (kind, id_by_name(OsStr::new(name)))
                && !needed.contains(&(kind, id))
            {
                self.remove_realised(kind, &id)?;
            }
        }
        Ok(())
    }

    fn needed_by_generations(&self) -> Result<BTreeSet<(Kind, Hash)>, disk::Error> {
        let mut needed = BTreeSet::new();
        for id in self.generations()? {
            if let Ok(Some(generation)) = self.generation(&id) {
                needed.extend(generation.trees.keys().map(|id| (Kind::Tree, *id)));
                needed.extend(generation.runtimes.keys().map(|id| (Kind::Runtime, *id)));
            }
        }
        Ok(needed)
    }
}
