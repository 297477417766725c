//! One site: a `server` block with its locations.

use super::listen::{Listeners, server_names};
use super::{Writing, value};
use crate::error::PlanError;
use std::fmt::Write;
use stead_model::path::AbsolutePath;
use stead_model::server::{Location, VirtualHost};
use stead_model::{layout, upstream};

/// Folders that are the runtime's own, so that a path below them is not one of the server.
const OF_RUNTIME: [&str; 2] = ["/usr", "/etc"];
/// Folders that cannot be bound into a runtime as a whole, or not at all.
const NEVER_BOUND: [&str; 11] =
    ["/", "/bin", "/dev", "/lib", "/proc", "/run", "/sbin", "/sys", "/tmp", "/var", "/var/lib"];

/// Headers by which an app knows who asks, and for what (`recommendedProxySettings`).
const PROXY_HEADERS: &str = "        proxy_redirect off;
        proxy_set_header Host $stead_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $stead_host;
";

const WEBSOCKETS: &str = "        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $stead_connection;
";

/// What an app's new instance does not have is asked of the replaced one, as long as that drains: only then the
/// upstream has a second server. Requests that change something are not asked twice (nginx's own rule).
const NEXT: &str = "proxy_next_upstream";

/// An open file stays open between requests: a file of a tree never changes.
const OPEN_FILES: &str = "    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
";

/// Answers for names that no site has; empty where every address has a default site.
pub(super) fn for_unknown_names(listeners: &Listeners) -> String {
    let listens: String =
        listeners.without_default().map(|listen| format!("    listen {listen} default_server;\n")).collect();
    if listens.is_empty() {
        return listens;
    }
    format!("# Names that no site has.\nserver {{\n{listens}    server_name _;\n    return 404;\n}}\n")
}

/// The site's file.
pub(super) fn render(
    writing: &mut Writing<'_, '_>,
    listeners: &Listeners,
    key: &str,
    host: &VirtualHost,
) -> Result<String, PlanError> {
    let option = format!("services.nginx.virtualHosts.\"{key}\"");
    let mut out = String::from("server {\n");
    for listen in listeners.of_site(key, host)? {
        let default = if host.default { " default_server" } else { "" };
        let _ = writeln!(out, "    listen {listen}{default};");
    }
    out.push_str("    server_name");
    for name in server_names(key, host) {
        let _ = write!(out, " {}", server_name(&option, name)?);
    }
    out.push_str(";\n");
    if let Some(root) = &host.root {
        let root = folder(writing, &format!("{option}.root"), root)?;
        let _ = writeln!(out, "    root {};", root.written);
        if root.immutable && writing.draft.server.nginx.recommended_optimisation {
            out.push_str(OPEN_FILES);
        }
    }
    if let Some(target) = &host.global_redirect {
        let _ = writeln!(
            out,
            "    location / {{\n        return {};\n    }}",
            redirect(&option, host.redirect_code, target)?
        );
    }
    let mut locations: Vec<(&String, &Location)> = host.locations.iter().collect();
    locations.sort_by_key(|(name, location)| (location.priority, *name));
    for (name, place) in locations {
        if host.global_redirect.is_some() && name.trim() == "/" {
            return Err(PlanError::bad(
                format!("{option}.locations.\"/\""),
                name,
                "cannot be beside `globalRedirect`, which takes that place",
            ));
        }
        out.push_str(&location(writing, &format!("{option}.locations.\"{name}\""), name, place)?);
    }
    out.push_str(&value::lines(&writing.resolve(&format!("{option}.extraConfig"), &host.extra_config)?, "    "));
    out.push_str("}\n");
    Ok(out)
}

fn server_name(option: &str, name: &str) -> Result<String, PlanError> {
    if name.starts_with('~') {
        return value::word(option, name);
    }
    let fits = |c: char| {
        c.is_ascii_alphanumeric() || ".-_*".contains(c) || !c.is_ascii() && !c.is_control() && !c.is_whitespace()
    };
    if name.is_empty() || !name.chars().all(fits) {
        return Err(PlanError::bad(
            option,
            name,
            "is not a server name: a domain, a wildcard (`*.example.org`) or `~` and a regular expression",
        ));
    }
    Ok(name.to_owned())
}

fn redirect(option: &str, code: u16, target: &str) -> Result<String, PlanError> {
    if !(300..400).contains(&code) {
        return Err(PlanError::bad(
            format!("{option}.redirectCode"),
            &code.to_string(),
            "is not a status of a redirect, 300 to 399",
        ));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if target.is_empty() || !target.chars().all(fits) {
        return Err(PlanError::bad(
            format!("{option}.globalRedirect"),
            target,
            "is not a host name, with or without a port",
        ));
    }
    Ok(format!("{code} $scheme://{target}$request_uri"))
}

/// The location as nginx writes it: a modifier, and one word.
fn place_of(option: &str, name: &str) -> Result<String, PlanError> {
    let name = name.trim();
    let modifier = ["^~", "~*", "~", "="].into_iter().find(|modifier| name.starts_with(modifier));
    let (modifier, rest) = match modifier {
        Some(modifier) => (modifier, name[modifier.len()..].trim_start()),
        None => ("", name),
    };
    let is_pattern = modifier.starts_with('~');
    let is_named = modifier.is_empty() && rest.starts_with('@');
    if !(is_pattern || is_named || rest.starts_with('/')) {
        return Err(PlanError::bad(
            option,
            name,
            "is not a location: `/path`, `= /path`, `^~ /path`, `~ pattern`, `~* pattern` or `@name`",
        ));
    }
    let word = value::word(option, rest)?;
    Ok(if modifier.is_empty() { word } else { format!("{modifier} {word}") })
}

fn location(writing: &mut Writing<'_, '_>, option: &str, name: &str, location: &Location) -> Result<String, PlanError> {
    let mut out = format!("    location {} {{\n", place_of(option, name)?);
    for (key, directive, path) in [("root", "root", &location.root), ("alias", "alias", &location.alias)] {
        if let Some(path) = path {
            let path = folder(writing, &format!("{option}.{key}"), path)?;
            let _ = writeln!(out, "        {directive} {};", path.written);
            if !path.immutable && writing.draft.server.nginx.recommended_optimisation {
                out.push_str("        open_file_cache off;\n");
            }
        }
    }
    let texts = [
        ("index", "index", &location.index),
        ("tryFiles", "try_files", &location.try_files),
        ("return", "return", &location.return_),
    ];
    for (key, directive, text) in texts {
        let Some(text) = text else { continue };
        let option = format!("{option}.{key}");
        let text = writing.resolve(&option, text)?;
        value::check_words(&option, &text)?;
        let _ = writeln!(out, "        {directive} {};", text.trim());
    }
    if let Some(target) = &location.proxy_pass {
        let target = proxy_target(writing, &format!("{option}.proxyPass"), target, location)?;
        let _ = writeln!(out, "        proxy_pass {target};\n        proxy_http_version 1.1;");
        if target.starts_with("http://$") {
            let _ = writeln!(out, "        {NEXT} error timeout http_404;");
        }
        if writing.draft.server.nginx.recommended_proxy_settings {
            out.push_str(PROXY_HEADERS);
        }
        if location.proxy_websockets {
            out.push_str(WEBSOCKETS);
        }
    }
    out.push_str(&value::lines(
        &writing.resolve(&format!("{option}.extraConfig"), &location.extra_config)?,
        "        ",
    ));
    out.push_str("    }\n");
    Ok(out)
}

/// Where requests are passed on to. The declared port of an app means the app's live instance.
fn proxy_target(
    writing: &mut Writing<'_, '_>,
    option: &str,
    target: &str,
    location: &Location,
) -> Result<String, PlanError> {
    let target = writing.resolve(option, target)?;
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    if rest.is_none_or(str::is_empty) {
        return Err(PlanError::bad(option, &target, "does not start with `http://` or `https://`"));
    }
    if target.contains(char::is_whitespace) {
        return Err(PlanError::bad(option, &target, "has a space"));
    }
    let plain = target.strip_prefix("http://").and_then(|rest| {
        let end = rest.find(['/', '?', '$']).unwrap_or(rest.len());
        let app = writing.app_at(&rest[..end])?;
        Some((app, &rest[end..]))
    });
    // A variable in `proxy_pass` means the request's own path, and no rewriting of redirects by nginx's own rules: it can
    // stand where that makes no difference.
    let asks_old_too = writing.draft.server.nginx.recommended_proxy_settings && !location.extra_config.contains(NEXT);
    match plain {
        Some((app, "")) if asks_old_too => Ok(format!("http://{}", upstream::variable(app))),
        Some((app, rest)) => value::word(option, &format!("http://{}{rest}", upstream::name(app))),
        None => value::word(option, &target),
    }
}

/// A folder of files.
struct Folder {
    /// As it is written into the configuration.
    written: String,
    /// Whether it is of a tree, and so never changes.
    immutable: bool,
}

/// The folder that files are served from. One of the server is remembered, to be bound into the runtime.
fn folder(writing: &mut Writing<'_, '_>, option: &str, text: &str) -> Result<Folder, PlanError> {
    let path = writing.resolve(option, text)?;
    let immutable = path.starts_with(&format!("{}/", layout::TREES));
    let written = value::word(option, &path)?;
    if immutable && !writing.is_there(&path) {
        return Err(PlanError::bad(option, text, "names something that the input does not have"));
    }
    // The part before a variable; what comes after the last `/` of it may be part of a name.
    let fixed = path.find('$').map_or(path.as_str(), |variable| &path[..path[..variable].rfind('/').unwrap_or(0)]);
    let fixed = fixed.trim_end_matches('/');
    let place: AbsolutePath = fixed
        .parse()
        .map_err(|_| PlanError::bad(option, text, "is not an absolute path of a folder, without `.` or `..` in it"))?;
    let is_below = |folder: &str| fixed == folder || fixed.starts_with(&format!("{folder}/"));
    if immutable || OF_RUNTIME.into_iter().any(is_below) {
        return Ok(Folder { written, immutable });
    }
    if NEVER_BOUND.contains(&fixed) || ["/proc", "/sys", "/dev", "/run", layout::STATE].into_iter().any(is_below) {
        return Err(PlanError::bad(
            option,
            text,
            "is not a folder that nginx may be given: name one below it, such as `/var/www/site`",
        ));
    }
    writing.host_folders.entry(place).or_insert_with(|| option.to_owned());
    Ok(Folder { written, immutable })
}
