//! The command of an app: where its program is, and whether it is there.

use crate::error::PlanError;
use crate::placeholder::Place;
use crate::unit_file::check_line;
use stead_model::layout;
use stead_model::name::Name;
use stead_model::server::App;
use stead_model::tree::{Entry, Tree};

/// The text of `ExecStart=`: the program absolute, the arguments as declared. `$VARIABLE` is
/// expanded by systemd (`systemd.service(5)`, COMMAND LINES); its `%` specifiers are not offered.
pub(super) fn absolute(name: &Name, app: &App, release: &Place<'_>, exec: &str) -> Result<String, PlanError> {
    let option = format!("apps.{name}.exec");
    check_line(&option, exec)?;
    let exec = exec.trim();
    let (program, arguments) = exec.split_once([' ', '\t']).unwrap_or((exec, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    let starts_well = program.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c));
    if !starts_well || !program.chars().all(plain) {
        return Err(PlanError::bad(
            option,
            exec,
            "has to start with the path of a program: letters, digits and `/._+-`",
        ));
    }
    if arguments.split_whitespace().any(|word| word == ";") {
        return Err(PlanError::bad(option, exec, "is more than one command; write a script, or `\\;` for an argument"));
    }
    let program = program.strip_prefix("./").unwrap_or(program);
    let inside = release.path();
    let program = match (program.strip_prefix('/'), program.strip_prefix(&format!("{inside}/"))) {
        (None, _) => in_release(name, release, program)?,
        (_, Some(relative)) => in_release(name, release, relative)?,
        (Some(_), None) if app.packages.is_empty() && !program.starts_with(layout::TREES) => {
            return Err(PlanError::NoPackages { app: name.clone(), path: program.to_owned() });
        }
        (Some(_), None) => program.to_owned(),
    };
    let arguments = arguments.trim().replace('%', "%%");
    Ok(if arguments.is_empty() { program } else { format!("{program} {arguments}") })
}

fn in_release(name: &Name, release: &Place<'_>, relative: &str) -> Result<String, PlanError> {
    let in_tree =
        if release.folder.is_empty() { relative.to_owned() } else { format!("{}/{relative}", release.folder) };
    match find(release.tree, &in_tree) {
        Found::Program => Ok(format!("{}/{relative}", release.path())),
        Found::Other => Err(PlanError::NotExecutable { app: name.clone(), path: relative.to_owned() }),
        Found::Nothing => Err(PlanError::MissingExec { app: name.clone(), path: relative.to_owned() }),
    }
}

enum Found {
    /// An executable file, or a link, of which only the server can tell where it leads.
    Program,
    Other,
    Nothing,
}

fn find(tree: &Tree, path: &str) -> Found {
    let through_a_link = |path: &str| {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        parents.into_iter().any(|parent| matches!(tree.get(parent), Some(Entry::Link(_))))
    };
    match tree.get(path) {
        Some(Entry::File(object)) if object.executable => Found::Program,
        Some(Entry::Link(_)) => Found::Program,
        Some(_) => Found::Other,
        None if through_a_link(path) => Found::Program,
        None if tree.entries.keys().any(|known| known.as_str().starts_with(&format!("{path}/"))) => Found::Other,
        None => Found::Nothing,
    }
}
