//! `stead plan`: what a deploy would change, and what it costs.

use crate::arguments::{Global, Target};
use crate::connect::{self, Connected};
use crate::failure::Failure;
use crate::output::{Output, Paint, bytes};
use crate::project;
use serde_json::json;
use std::collections::BTreeMap;
use stead_model::generation::Generation;
use stead_plan::steps::{self, Pause, Step};

/// Compares the declaration with what the server runs. Changes nothing.
pub(crate) fn plan(global: &Global, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let project = project::load(&global.project, output)?;
    let server = project.server(target.server.as_deref())?;
    let snapshots = project.snapshots()?;
    let connecting = connect::begin(server, target)?;
    let ready = project.plan(server, &snapshots, output)?;
    let mut connected = connecting.join(output)?;
    let candidate = &ready.planned.generation;
    let active = connected.active_generation(server)?;
    let steps = steps::steps(&active, candidate);
    output.finish();
    show(&connected, &active, candidate, &steps, output);
    output.json(&json!({
        "server": server.name,
        "from": connected.hello.active,
        "to": candidate.id(),
        "unchanged": connected.hello.active == Some(candidate.id()),
        "steps": steps,
        "probes": candidate.probes,
        "packages": packages(&active, candidate).iter().map(|(name, from, to)| json!({ "name": name, "from": from, "to": to })).collect::<Vec<_>>(),
    }));
    Ok(())
}

/// Packages that one generation has otherwise than the other: name, version from, version to.
fn packages(from: &Generation, to: &Generation) -> Vec<(String, Option<String>, Option<String>)> {
    let versions = |generation: &Generation| -> BTreeMap<String, String> {
        generation.packages().into_values().map(|package| (package.name.to_string(), package.version.clone())).collect()
    };
    let (old, new) = (versions(from), versions(to));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let row = |name: &&String| (name.to_string(), old.get(*name).cloned(), new.get(*name).cloned());
    names.iter().map(row).filter(|(_, from, to)| from != to).collect()
}

fn show(connected: &Connected, from: &Generation, to: &Generation, steps: &[Step], output: &Output) {
    let id = to.id();
    if connected.hello.active == Some(id) {
        output.data(&format!("{}: nothing changes, generation {} runs", to.server, id.short()));
        return;
    }
    let now = connected.hello.active.map_or("nothing".to_owned(), |id| id.short());
    output.data(&format!("{}: {now} → {}", to.server, output.paint(Paint::Strong, &id.short())));
    for step in steps {
        let pause = match step.pause() {
            Pause::None => String::new(),
            Pause::Short => format!("  {}", output.paint(Paint::Changed, "(a short pause)")),
            Pause::Ends => format!("  {}", output.paint(Paint::Removed, "(ends)")),
        };
        output.data(&format!("  {}{pause}", steps::describe(step)));
    }
    let packages = packages(from, to);
    let (new, moved): (Vec<_>, Vec<_>) = packages.iter().partition(|(_, from, _)| from.is_none());
    if !new.is_empty() {
        let size: u64 = to
            .packages()
            .values()
            .filter(|package| new.iter().any(|(name, ..)| name == package.name.as_str()))
            .map(|package| package.size)
            .sum();
        output.data(&format!("  {} new packages, {}", new.len(), bytes(size)));
    }
    for (name, from, to) in moved {
        let version = |text: &Option<String>| text.clone().unwrap_or_else(|| "gone".to_owned());
        output.data(&format!("  package {name}: {} → {}", version(from), version(to)));
    }
    for (tree, what) in to.trees.iter().filter(|(tree, _)| !from.trees.contains_key(*tree)) {
        output.data(&format!("  {what} is now {}", tree.short()));
    }
    if steps.is_empty() && packages.is_empty() {
        output.data("  only files change that nothing has to read again");
    }
}
