//! What one unit calls another: the operator's names become names of units.
//!
//! `worker.service` and `stead-worker.service` mean the service or app `worker` of the declaration,
//! if there is one; anything else is a unit of the host, and stays as it is.

use std::collections::BTreeMap;
use stead_model::name::{Name, UnitName};
use stead_model::server::Server;

/// The names of Stead's own units.
pub(crate) struct References<'a> {
    server: &'a Server,
    instances: BTreeMap<Name, UnitName>,
}

impl<'a> References<'a> {
    /// Knows services and timers, and no app yet.
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, instances: BTreeMap::new() }
    }

    /// Learns the unit of an app's instance.
    pub(crate) fn learn(&mut self, app: &Name, unit: &UnitName) {
        self.instances.insert(app.clone(), unit.clone());
    }

    /// The unit that is meant.
    pub(crate) fn unit(&self, unit: &UnitName) -> String {
        match own_name(unit) {
            Some((name, ".service")) if self.instances.contains_key(name) => self.instances[name].to_string(),
            Some((name, ".service")) if self.server.services.contains_key(name) => format!("stead-{name}.service"),
            Some((name, ".timer")) if self.server.timers.contains_key(name) => format!("stead-{name}.timer"),
            _ => unit.to_string(),
        }
    }

    /// The app that is meant, if it is one.
    pub(crate) fn app(&self, unit: &UnitName) -> Option<&'a Name> {
        let (name, suffix) = own_name(unit)?;
        let (app, _) = self.server.apps.get_key_value(name)?;
        (suffix == ".service").then_some(app)
    }
}

/// Name and suffix of a unit, without Stead's prefix.
fn own_name(unit: &UnitName) -> Option<(&str, &str)> {
    let text = unit.as_str().strip_prefix("stead-").unwrap_or(unit.as_str());
    Some(text.split_at(text.rfind('.')?))
}
