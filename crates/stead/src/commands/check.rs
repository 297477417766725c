//! `stead check`: proves what can be proved without the server.

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::project;
use serde_json::json;

/// Evaluates, verifies the lock, builds, and renders every server (or the one named).
pub(crate) fn check(global: &Global, server: Option<&str>, output: &mut Output) -> Result<(), Failure> {
    let project = project::load(&global.project, output)?;
    let snapshots = project.snapshots()?;
    let servers = match server {
        Some(name) => vec![project.server(Some(name))?],
        None => project.servers.values().collect(),
    };
    let mut checked = Vec::new();
    for server in servers {
        let ready = project.plan(server, &snapshots, output)?;
        let generation = &ready.planned.generation;
        output.data(&format!(
            "{}: good · generation {} · {} units, {} runtimes, {} trees",
            server.name,
            generation.id().short(),
            generation.units.len(),
            generation.runtimes.len(),
            generation.trees.len()
        ));
        let warnings = stead_plan::warnings(server);
        for warning in &warnings {
            output.say(&format!("  warning: {warning}"));
        }
        checked.push(json!({
            "server": server.name, "generation": generation.id(), "warnings": warnings, "probes": generation.probes,
        }));
    }
    output.json(&checked);
    Ok(())
}
