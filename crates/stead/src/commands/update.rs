//! `stead update`: the only command that moves a pin.

use crate::arguments::Global;
use crate::environment;
use crate::failure::{Failure, chain};
use crate::output::{Output, Paint};
use crate::packages;
use crate::project::{self, Loaded};
use comfy_table::{Table, presets};
use serde_json::json;
use stead_debian::reporter::Silent;
use stead_inputs::debian::{Archives, Mirrors};
use stead_inputs::moved::{self, Origin, Row, Subject};
use stead_inputs::update::{self, Event, Request};
use stead_inputs::{lockfile, lockfile::Written};
use stead_model::lock::Lock;
use stead_model::name::Name;

/// Resolves the inputs (all, or the named ones) and writes the lock; prints what moved.
pub(crate) fn update(global: &Global, inputs: &[String], output: &mut Output) -> Result<(), Failure> {
    let project = project::load(&global.project, output)?;
    let only = named(&project, inputs)?;
    let (_, moved) = resolve(&project, only.as_deref(), output)?;
    output.finish();
    show(&moved, output);
    output.json(&moved.iter().map(|row| json!({ "what": subject(row), "from": row.from, "to": row.to, "security": row.origin == Origin::Security })).collect::<Vec<_>>());
    Ok(())
}

fn named(project: &Loaded, inputs: &[String]) -> Result<Option<Vec<Name>>, Failure> {
    let known = |text: &String| {
        project
            .declared
            .keys()
            .find(|name| name.as_str() == text)
            .cloned()
            .ok_or_else(|| project::unknown("input", text, project.declared.keys().map(Name::as_str)))
    };
    match inputs {
        [] => Ok(None),
        inputs => inputs.iter().map(known).collect::<Result<_, _>>().map(Some),
    }
}

/// Resolves and writes; returns the lock, and what moved.
pub(crate) fn resolve(
    project: &Loaded,
    only: Option<&[Name]>,
    output: &mut Output,
) -> Result<(Lock, Vec<Row>), Failure> {
    let client = packages::client();
    let mirrors = Mirrors { variable: environment::debian_mirror(), apt: "/etc/apt".into() };
    let cache = environment::cache();
    let now = jiff::Timestamp::now().as_second();
    let mut archives = Archives::new(&client, &mirrors, &cache, now, &Silent);
    let indexes = Loaded::indexes();
    let request = Request {
        root: &project.root,
        inputs: &project.declared,
        runtimes: &project.runtimes,
        old: project.lock.as_ref(),
        only,
        indexes: Some(&indexes),
    };
    let lock = update::update(request, &mut archives, &mut |event| match event {
        Event::Folder(name) => output.detail(&format!("reading {name}")),
        Event::Indexes(name) => output.detail(&format!("reading the indexes of {name}")),
        Event::Runtime(key) => output.detail(&format!("resolving {key}")),
    })
    .map_err(|error| failed(&error, project))?;
    let moved = moved::between(project.lock.as_ref().unwrap_or(&Lock::empty()), &lock);
    match lockfile::write(&project.lock_file(), &lock) {
        Ok(Written::Changed | Written::Unchanged) => Ok((lock, moved)),
        Err(error) => Err(Failure::request(chain(&error))),
    }
}

/// A mirror that is down, or lies, is not the project's fault; what the project asks for is.
fn failed(error: &update::Error, project: &Loaded) -> Failure {
    match error {
        update::Error::Indexes { source, .. }
            if matches!(source.downcast_ref(), Some(stead_inputs::debian::Error::Archive(_))) =>
        {
            Failure::before(chain(error))
                .hint("nothing was moved; look at the mirror and the release's name, and run `stead update` again")
        }
        update::Error::Resolve { key, .. } => {
            let options = project.options(key);
            let from =
                if options.is_empty() { String::new() } else { format!("\nasked for by {}", options.join(", ")) };
            Failure::request(format!("{}{from}", chain(error)))
                .hint("nothing was moved; mend the packages and run `stead update` again")
        }
        error => Failure::request(chain(error)).hint("nothing was moved; mend it and run `stead update` again"),
    }
}

fn subject(row: &Row) -> String {
    match &row.subject {
        Subject::Input(name) => format!("input {name}"),
        Subject::Suite { input, suite } => format!("{input}: {suite}"),
        Subject::Runtime(key) => format!("runtime {key}"),
        Subject::Package { name, .. } => name.to_string(),
    }
}

/// The table of what moved.
pub(crate) fn show(moved: &[Row], output: &Output) {
    if moved.is_empty() {
        output.data("nothing moved");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for row in moved {
        let short =
            |text: &Option<String>| text.as_deref().map_or("–".to_owned(), |text| text.chars().take(40).collect());
        let mark =
            if row.origin == Origin::Security { output.paint(Paint::Changed, "security") } else { String::new() };
        table.add_row([subject(row), short(&row.from), "→".to_owned(), short(&row.to), mark]);
    }
    output.data(&table.trim_fmt());
}
