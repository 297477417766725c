//! Hooks: the commands that the server runs around a switch.
//!
//! Those of the operator's machine are no part of a generation. Promises that what a command names of the
//! project's inputs and releases is on the server when it runs.

use crate::error::PlanError;
use crate::placeholder::Used;
use crate::plan::Draft;
use std::collections::BTreeMap;
use stead_model::hooks::{Moment, ServerHooks};

/// The generation's hooks.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<ServerHooks, PlanError> {
    let declared = &draft.server.hooks;
    let mut used = Used::new();
    let mut commands = BTreeMap::new();
    for moment in Moment::ALL {
        let Some(command) = &declared.at(moment).server else { continue };
        let command = draft.places.resolve(&format!("hooks.{moment}.server"), command, &mut used)?;
        commands.insert(moment, command);
    }
    draft.refer(used);
    let timeout = if commands.is_empty() { 0 } else { declared.timeout };
    Ok(ServerHooks { commands, timeout })
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;
    use stead_model::hooks::Moment;

    #[test]
    fn only_the_servers_side_is_part_of_the_generation() {
        let mut project = Fixture::two_sites();
        let without = project.plan().generation;
        project.server.hooks.timeout = 60;
        project.server.hooks.after_confirm.operator = Some("notify".to_owned());
        assert_eq!(project.plan().generation.id(), without.id());
        project.server.hooks.after_confirm.server = Some("logger live".to_owned());
        let hooks = project.plan().generation.hooks;
        assert_eq!((hooks.commands[&Moment::AfterConfirm].as_str(), hooks.timeout), ("logger live", 60));
    }
}
