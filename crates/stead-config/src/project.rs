//! A project: `stead.ncl`, its inputs, and the servers that its modules make.
//!
//! [`load`] never evaluates the outputs; [`Project::servers`] evaluates everything, for the sources as they lie on this
//! machine. Neither writes, and neither reads anything but the project's files and the modules of its inputs.

use crate::failure::{Failure, Kind};
use crate::language::{Report, Session, apart, quote, spell};
use crate::tree::{Node, Problem, Reason, Shape};
use crate::{server, unknown};
use nickel_lang_core::error::EvalErrorKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stead_model::layout::INPUT_PLACEHOLDER;
use stead_model::name::Name;
use stead_model::server::Server;

/// The file that makes a folder a project, and an input a module.
pub const FILE: &str = "stead.ncl";

/// A project, as far as it can be known without its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its folder, absolute.
    pub root: PathBuf,
    /// What it is, in the operator's words; may be empty.
    pub description: String,
    /// Its inputs by name.
    pub inputs: BTreeMap<Name, InputDeclaration>,
}

/// A pinned source, as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputDeclaration {
    /// `path:FOLDER` (relative to the project) or `debian:RELEASE`.
    pub url: String,
    /// For `debian:`, the archive's address; `None`: as this machine's apt has it.
    pub mirror: Option<String>,
    /// For `debian:`, an archive that has superseded packages.
    pub snapshot: Option<String>,
}

impl InputDeclaration {
    /// Whether it is a Debian package archive.
    pub fn is_debian(&self) -> bool {
        self.url.starts_with("debian:")
    }
}

/// Reads the description and the inputs of the project in this folder, without evaluating its outputs.
pub fn load(root: &Path) -> Result<Project, Failure> {
    let root = std::path::absolute(root)
        .map_err(|error| Failure::unplaced(Kind::MissingFile, format!("the current folder cannot be read: {error}")))?;
    let file = root.join(FILE);
    if !file.is_file() {
        let message =
            format!("there is no `{FILE}` in {}: it is not a project (`stead init` makes one)", root.display());
        return Err(Failure::unplaced(Kind::MissingFile, message));
    }
    apart(|| read(root, &file))
}

fn read(root: PathBuf, file: &Path) -> Result<Project, Failure> {
    let mut session = Session::new(&root);
    let program = format!("(import \"%inmem_src%:stead:project.ncl\").project & {}", import(file)?);
    let (node, problems) = session.evaluate(program)?;
    refuse(&session, &node, problems, &[])?;
    let mut inputs = BTreeMap::new();
    for (name, input) in node.get("inputs").into_iter().flat_map(Node::fields) {
        let parsed: Name = name.parse().map_err(|error| {
            let place = session.place_of_name(input);
            session.fail(
                Report::new(Kind::WrongValue, format!("an input cannot have this name: {error}"))
                    .at(place, "this name"),
            )
        })?;
        inputs.insert(parsed, declaration(&session, name, input)?);
    }
    let description = node.get("description").and_then(Node::text).unwrap_or_default().to_owned();
    Ok(Project { root, description, inputs })
}

fn declaration(session: &Session, name: &str, node: &Node) -> Result<InputDeclaration, Failure> {
    let text = |field: &str| node.get(field).and_then(Node::text).map(str::to_owned);
    let url = text("url").unwrap_or_default();
    let wrong = |kind, field: &str, words: String| {
        let place = node.get(field).and_then(|node| session.place_of(node));
        Err(session.fail(Report::new(kind, format!("`inputs.{name}.{field}` {words}")).at(place, "this one")))
    };
    let declaration = InputDeclaration { url, mirror: text("mirror"), snapshot: text("snapshot") };
    match declaration.url.split_once(':') {
        Some(("path", place)) if !place.is_empty() => {
            for (field, value) in [("mirror", &declaration.mirror), ("snapshot", &declaration.snapshot)] {
                if value.is_some() {
                    return wrong(Kind::WrongValue, field, "is for `debian:` inputs only".to_owned());
                }
            }
        }
        Some(("debian", release)) => {
            let valid = !release.is_empty()
                && release.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
            if !valid {
                return wrong(
                    Kind::WrongValue,
                    "url",
                    "needs a release after `debian:`, such as `debian:bookworm`".to_owned(),
                );
            }
        }
        Some(("git+https" | "git+ssh" | "git" | "https" | "github", _)) => {
            return wrong(
                Kind::NotYet,
                "url",
                "is a git input, which this version does not have yet: use `path:`".to_owned(),
            );
        }
        _ => return wrong(Kind::WrongValue, "url", "has to be `path:FOLDER` or `debian:RELEASE`".to_owned()),
    }
    Ok(declaration)
}

impl Project {
    /// The servers that the project declares, by name. `sources` says where each path input lies on this machine now
    /// (absolute): the modules in their `stead.ncl` are read from there.
    pub fn servers(&self, sources: &BTreeMap<Name, PathBuf>) -> Result<BTreeMap<Name, Server>, Failure> {
        apart(|| self.evaluate(sources))
    }

    /// The evaluated project as it is, whatever is wrong with single values of it.
    pub(crate) fn configurations(&self, sources: &BTreeMap<Name, PathBuf>) -> Result<(Session, Node), Failure> {
        self.walk(sources).map(|(session, node, _)| (session, node))
    }

    fn walk(&self, sources: &BTreeMap<Name, PathBuf>) -> Result<(Session, Node, Vec<Problem>), Failure> {
        let mut session = Session::new(&self.root);
        session.inputs = self.inputs.keys().map(Name::to_string).collect();
        let (node, problems) = session.evaluate(self.program(sources)?)?;
        Ok((session, node, problems))
    }

    fn evaluate(&self, sources: &BTreeMap<Name, PathBuf>) -> Result<BTreeMap<Name, Server>, Failure> {
        let (session, mut node, problems) = self.walk(sources)?;
        let mut configurations = node.take("configurations");
        let (of_outputs, of_servers): (Vec<_>, Vec<_>) =
            problems.into_iter().partition(|problem| problem.path.first().is_none_or(|name| name != "configurations"));
        if let Some(outputs) = node.get("outputs") {
            refuse(&session, outputs, of_outputs, &["outputs"])?;
        } else {
            refuse(&session, &node, of_outputs, &[])?;
        }
        let mut servers = BTreeMap::new();
        let mut of_servers = of_servers;
        for (name, declared) in node.at(&["outputs", "servers"]).into_iter().flat_map(Node::fields) {
            let parsed: Name = name.parse().map_err(|error| {
                let place = session.place_of_name(declared);
                session.fail(
                    Report::new(Kind::WrongValue, format!("a server cannot have this name: {error}"))
                        .at(place, "this name"),
                )
            })?;
            let (own, rest): (Vec<_>, Vec<_>) =
                of_servers.into_iter().partition(|problem| problem.path.get(1) == Some(name));
            of_servers = rest;
            let configuration = configurations.as_mut().and_then(|configurations| configurations.take(name));
            let own = own
                .into_iter()
                .filter(|problem| !configuration.as_ref().is_some_and(|node| is_disabled(node, &problem.path[2..])));
            let own: Vec<Problem> = own.collect();
            if let Some(mut configuration) = configuration {
                refuse_at(&session, &configuration, own, &["configurations", name.as_str()], &[])?;
                unknown::remove(&mut configuration);
                servers.insert(parsed.clone(), server::map(&session, self, parsed, declared, &configuration)?);
            } else {
                refuse(&session, &node, own, &[])?;
            }
        }
        if let Some(problem) = of_servers.into_iter().next() {
            return Err(session.explain_problem(problem, &[]));
        }
        if servers.is_empty() {
            let message = format!("`{FILE}` declares no server: give `servers.NAME` in its outputs");
            return Err(Failure::unplaced(Kind::MissingValue, message));
        }
        Ok(servers)
    }

    /// The program that merges the modules: the project and its inputs' modules, bound to their places.
    fn program(&self, sources: &BTreeMap<Name, PathBuf>) -> Result<String, Failure> {
        let mut inputs = String::new();
        for (name, input) in &self.inputs {
            let mut fields = String::new();
            if !input.is_debian() {
                let place = quote(&format!("{INPUT_PLACEHOLDER}{name}"));
                fields = format!(" path = {place},");
                if let Some(file) =
                    sources.get(name).map(|source| self.root.join(source).join(FILE)).filter(|file| file.is_file())
                {
                    fields.push_str(&format!(" module = project.bind {place} {},", import(&file)?));
                }
            }
            inputs.push_str(&format!("  {} = {{{fields} }},\n", quote(name.as_str())));
        }
        let project = import(&self.root.join(FILE))?;
        Ok(format!(
            "let project = import \"%inmem_src%:stead:project.ncl\" in\nproject.outputs {{\n{inputs}}} {project}\n"
        ))
    }
}

/// An import of this file, in parentheses.
fn import(file: &Path) -> Result<String, Failure> {
    match file.to_str() {
        Some(text) => Ok(format!("(import {})", quote(text))),
        None => Err(Failure::unplaced(Kind::MissingFile, format!("the path {} is not UTF-8", file.display()))),
    }
}

/// Whether this is about an app that is not enabled: nothing in it matters then.
fn is_disabled(configuration: &Node, path: &[String]) -> bool {
    matches!(path, [apps, app, _, ..] if apps == "apps" && !server::is_enabled(configuration, app))
}

/// Fails with the one problem that explains the others: an unknown option, then what Nickel refused, then what has no value.
fn refuse(session: &Session, node: &Node, problems: Vec<Problem>, prefix: &[&str]) -> Result<(), Failure> {
    refuse_at(session, node, problems, prefix, prefix)
}

/// The same, where the problems' paths have `prefix`, and people know it as `shown`.
fn refuse_at(
    session: &Session,
    node: &Node,
    problems: Vec<Problem>,
    prefix: &[&str],
    shown: &[&str],
) -> Result<(), Failure> {
    let shown_path =
        |path: &[String]| shown.iter().map(|name| (*name).to_owned()).chain(path.iter().cloned()).collect::<Vec<_>>();
    if let Some(unknown) = unknown::find(node) {
        return Err(session.fail(unknown_option(session, unknown, &shown_path)));
    }
    let own_path = |problem: &Problem| shown_path(problem.path.get(prefix.len()..).unwrap_or_default());
    let is_missing = |problem: &Problem| matches!(&problem.reason, Reason::Nickel(error) if matches!(error.error, EvalErrorKind::MissingFieldDef { .. }));
    let (missing, others): (Vec<_>, Vec<_>) = problems.into_iter().partition(is_missing);
    // An app's values follow from options: the option is what to change.
    let (derived, own): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|problem| own_path(problem).first().is_some_and(|name| name == "apps"));
    if let Some(problem) = own.into_iter().chain(derived).next() {
        let path = own_path(&problem);
        return Err(session.explain_problem(problem, &path));
    }
    if let Some((path, missing)) = first_missing(node, node, &mut Vec::new()) {
        let path = shown_path(&path);
        let (_, record) = (path.last(), node_above(node, &path[shown.len()..]));
        let place = session.place_of_name(missing).or_else(|| record.and_then(|record| session.place_of_name(record)));
        let mut report = Report::new(Kind::MissingValue, format!("`{}` has no value, and needs one", spell(&path)))
            .at(place, "needed here");
        if let Some(doc) = missing.metadata.doc() {
            report = report.hint(doc.trim());
        }
        return Err(session.fail(report));
    }
    if let Some(problem) = missing.into_iter().next() {
        let path = own_path(&problem);
        return Err(session.explain_problem(problem, &path));
    }
    Ok(())
}

fn unknown_option(
    session: &Session,
    unknown: unknown::Unknown<'_>,
    shown_path: &dyn Fn(&[String]) -> Vec<String>,
) -> Report {
    let path = shown_path(&unknown.path);
    let place = session.place_of_name(unknown.node);
    let option = spell(&path);
    if unknown.later {
        return Report::new(Kind::NotYet, format!("the option `{option}` is not in this version yet"))
            .at(place, "remove it for now");
    }
    let mut report =
        Report::new(Kind::UnknownOption, format!("there is no option `{option}`")).at(place, "nobody declares this");
    let parent = &path[..path.len() - 1];
    let spelled = |name: &str| spell(&parent.iter().map(String::as_str).chain([name]).collect::<Vec<_>>());
    if let Some(suggestion) = &unknown.suggestion {
        report = report.hint(format!("Did you mean `{}`?", spelled(suggestion)));
    } else if unknown.known.len() <= 24 {
        let known: Vec<String> = unknown.known.iter().map(|name| format!("`{name}`")).collect();
        report = report.hint(format!("There are: {}.", known.join(", ")));
    }
    if path.len() == 2 && path[0] == "services" {
        report = report.hint(
            "Options of an app are declared by its own module: is `inputs.NAME.module` among the server's modules?",
        );
    }
    report
}

/// The record that holds the last of these names.
fn node_above<'a>(node: &'a Node, path: &[String]) -> Option<&'a Node> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    names.split_last().and_then(|(_, above)| node.at(above))
}

/// The first required option without a value. What is not enabled needs none.
fn first_missing<'a>(root: &Node, node: &'a Node, path: &mut Vec<String>) -> Option<(Vec<String>, &'a Node)> {
    if matches!(node.shape, Shape::Missing) {
        return Some((path.clone(), node));
    }
    if node.get("enable").is_some_and(|enable| matches!(enable.shape, Shape::Bool(false))) {
        return None;
    }
    if let [apps, app] = path.as_slice()
        && apps == "apps"
        && !server::is_enabled(root, app)
    {
        return None;
    }
    let items: Vec<(String, &Node)> = match &node.shape {
        Shape::List(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => node.fields().map(|(name, child)| (name.clone(), child)).collect(),
    };
    items.into_iter().find_map(|(name, child)| {
        path.push(name);
        let found = first_missing(root, child, path);
        path.pop();
        found
    })
}
