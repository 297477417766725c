//! The option reference, written from the contracts themselves.
//!
//! Walks one sample of each thing with a free name through the real contracts, so that types, defaults and texts
//! are exactly those that a project meets. Reads nothing but Stead's own library.

use crate::failure::{Failure, Kind};
use crate::language::{Session, spell};
use crate::tree::{Node, Shape};
use nickel_lang_core::term::MergePriority;
use std::fmt::Write;
use std::path::Path;

const OPENING: &str = "\
# Options

This page is generated from the contracts in `crates/stead-config/library`; do not edit it.
To write it again after a change of an option: `UPDATE_DOCS=1 cargo nextest run -p stead-config`.

NAME and PATH stand for names that you give. An option without a default needs no value where it says *optional*,
and needs one where it says *required*. A time is a number of seconds, or a text such as `\"500ms\"`, `\"30s\"`,
`\"5min\"`, `\"1h\"`. Lists of two modules do not join: give a list in one module, or mark it `| force`.

Options of an app (`services.NAME.…`) are declared by the app's own module, and are not listed here.
";

/// The sections, each with the options that it begins from.
const SECTIONS: &[(&str, &[&[&str]])] = &[
    ("Apps", &[&["apps"]]),
    ("nginx", &[&["services", "nginx"]]),
    ("PostgreSQL", &[&["services", "postgresql"]]),
    ("Certificates", &[&["security", "acme"]]),
    ("Firewall", &[&["networking", "firewall"]]),
    (
        "The machine",
        &[
            &["networking", "hostName"],
            &["time", "timeZone"],
            &["users", "users"],
            &["services", "openssh"],
            &["services", "journald"],
            &["system", "autoUpgrade"],
            &["boot", "kernel", "sysctl"],
            &["environment", "etc"],
            &["swapDevices"],
            &["zramSwap"],
        ],
    ),
    ("systemd", &[&["systemd"]]),
    ("Probes", &[&["probes"]]),
    ("Runtimes", &[&["runtimes"]]),
    ("Hooks", &[&["hooks"]]),
];

/// The first declared option that is in no section.
fn left_out(node: &Node, path: &mut Vec<String>) -> Option<String> {
    for (name, child) in node.fields() {
        path.push(name.clone());
        let mut prefixes = SECTIONS.iter().flat_map(|(_, prefixes)| *prefixes);
        let is_in = prefixes.any(|prefix| path.len() >= prefix.len() && path.iter().zip(*prefix).all(|(a, b)| a == b));
        let found = match is_in {
            true => None,
            false if child.has_declaration() => Some(path.join(".")),
            false => left_out(child, path),
        };
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The option reference in Markdown.
///
/// # Errors
/// When the library does not evaluate, or has an option that is in no section.
pub fn option_reference() -> Result<String, Failure> {
    let mut session = Session::new(Path::new("/"));
    let program = "let library = import \"%inmem_src%:stead:options.ncl\" in\n\
        let projects = import \"%inmem_src%:stead:project.ncl\" in\n\
        let sample | { _ | projects.Server } = { NAME = {} } in\n\
        { project = projects.project & { inputs.NAME = {} }, servers = sample, options = library.options & library.sample, bare = library.options, small = library.options & library.small,\n\
          types = import \"%inmem_src%:stead:types.ncl\" }";
    let (node, problems) = session.evaluate(program.to_owned())?;
    let of_values = problems.into_iter().find(|problem| problem.path.first().is_some_and(|name| name != "types"));
    if let Some(problem) = of_values {
        let path = problem.path.clone();
        return Err(session.explain_problem(problem, &path));
    }
    let part = |name: &str| {
        node.get(name).ok_or_else(|| Failure::unplaced(Kind::Evaluation, format!("the library has no `{name}`")))
    };
    let bare = [part("bare")?, part("small")?];
    let mut page = OPENING.to_owned();
    page.push_str("\n## The project: `stead.ncl`\n");
    list(part("project")?, &bare, &mut Vec::new(), &mut page);
    page.push_str("\n## Servers: `outputs.servers.NAME`\n");
    list(part("servers")?, &bare, &mut vec!["outputs".to_owned(), "servers".to_owned()], &mut page);
    let options = part("options")?;
    for (title, prefixes) in SECTIONS {
        let _ = match prefixes {
            [prefix] => write!(page, "\n## {title}: `{}`\n", spell(prefix)),
            _ => write!(page, "\n## {title}\n"),
        };
        for prefix in *prefixes {
            let options = options
                .at(prefix)
                .ok_or_else(|| Failure::unplaced(Kind::Evaluation, format!("there is no option {}", spell(prefix))))?;
            let mut path: Vec<String> = prefix.iter().map(|name| (*name).to_owned()).collect();
            if options.has_declaration() {
                entry(options, &bare, &path, &mut page);
            }
            list(options, &bare, &mut path, &mut page);
        }
    }
    if let Some(path) = left_out(options, &mut Vec::new()) {
        return Err(Failure::unplaced(
            Kind::Evaluation,
            format!("the option {path} is in no section of the reference"),
        ));
    }
    page.push_str("\n## Types for your own options\n\nA module gets them as `stead`: `fun { stead, .. } => { services.shop.port | stead.Port | default = 4000 }`.\n\n");
    for (name, kind) in part("types")?.fields() {
        let doc = kind.metadata.doc().unwrap_or_default();
        let _ = writeln!(page, "- `stead.{name}`: {}", doc.trim());
    }
    Ok(page)
}

/// Every declared option below `node`.
fn list(node: &Node, bare: &[&Node], path: &mut Vec<String>, page: &mut String) {
    let items: Vec<(String, &Node)> = match &node.shape {
        Shape::List(items) => items.iter().map(|item| ("*".to_owned(), item)).collect(),
        _ => node.fields().map(|(name, child)| (name.clone(), child)).collect(),
    };
    for (name, child) in items {
        path.push(name);
        if child.has_declaration() {
            entry(child, bare, path, page);
        }
        list(child, bare, path, page);
        path.pop();
    }
}

fn entry(node: &Node, bare: &[&Node], path: &[String], page: &mut String) {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let unset = bare.iter().find_map(|bare| bare.at(&names)).unwrap_or(node);
    let mut types: Vec<String> =
        node.metadata.iter_annots().map(|annotation| tidy(&annotation.typ.to_string())).collect();
    types.dedup();
    // What the sample made is not a default: without it the value may be another one.
    let value = match &unset.shape {
        Shape::Missing => "required".to_owned(),
        Shape::Hidden if node.metadata.as_ref().is_some_and(|metadata| metadata.priority != MergePriority::Bottom) => {
            "required".to_owned()
        }
        Shape::Unset => "optional".to_owned(),
        _ if node.metadata.opt() => "optional".to_owned(),
        Shape::Record(_) => "default `{}`".to_owned(),
        Shape::Hidden => "default `[]`".to_owned(),
        Shape::List(items) if items.iter().any(|item| matches!(item.shape, Shape::Record(_))) => {
            "default `[]`".to_owned()
        }
        _ => format!("default `{}`", unset.to_json()),
    };
    let kind = if types.is_empty() { String::new() } else { format!("`{}`, ", types.join(" and ")) };
    let _ = write!(page, "\n### `{}`\n\n{kind}{value}\n", shown(path));
    if let Some(doc) = node.metadata.doc() {
        let _ = write!(page, "\n{}\n", doc.trim());
    }
}

fn shown(path: &[String]) -> String {
    path.iter().map(|name| if name == "*" { "*".to_owned() } else { spell(&[name]) }).collect::<Vec<_>>().join(".")
}

/// Types as one meets them: the library's own are `stead.…`, records are named by what they are for.
fn tidy(kind: &str) -> String {
    let text = kind.split_whitespace().collect::<Vec<_>>().join(" ").replace("types.", "stead.");
    match (text.starts_with('{'), text.starts_with("Array {")) {
        (_, true) => "Array of records".to_owned(),
        (true, _) if text.starts_with("{ _ :") && text.len() < 40 => text,
        (true, _) => "records by name".to_owned(),
        _ if text.starts_with(|c: char| c.is_ascii_uppercase())
            && !["Bool", "Number", "String"].contains(&text.as_str())
            && !text.starts_with("Array ") =>
        {
            "record".to_owned()
        }
        _ => text,
    }
}
