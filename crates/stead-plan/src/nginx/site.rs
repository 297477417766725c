//! One site: a `server` block with its locations.

use super::listen::{Listeners, Place, places, server_names};
use super::{Writing, tls, value};
use crate::error::PlanError;
use std::fmt::Write;
use stead_model::path::AbsolutePath;
use stead_model::server::{Location, TlsUse, VirtualHost};
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

/// How long a WebSocket may be silent: nginx would cut it after a minute.
const IDLE: [&str; 2] = ["proxy_read_timeout", "proxy_send_timeout"];

/// What an app's new instance does not have is asked of the replaced one, as long as that drains: only then the
/// upstream has a second server. Requests that change something are not asked twice (nginx's own rule).
const NEXT: &str = "proxy_next_upstream";

/// An open file stays open between requests: a file of a tree never changes.
const OPEN_FILES: &str = "    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
";

/// Answers for names that no site has; empty where every address has a default site.
pub(super) fn for_unknown_names(listeners: &Listeners, asks_authorities: bool) -> String {
    let listens = |tls: bool| -> String {
        let how = if tls { " ssl" } else { "" };
        listeners.without_default(tls).map(|listen| format!("    listen {listen}{how} default_server;\n")).collect()
    };
    let (clear, tls) = (listens(false), listens(true));
    let mut out = String::new();
    if !clear.is_empty() {
        let challenges = if asks_authorities { tls::challenge_place() } else { String::new() };
        let rest = match asks_authorities {
            true => "    location / {\n        return 404;\n    }\n",
            false => "    return 404;\n",
        };
        let _ = write!(out, "# Names that no site has.\nserver {{\n{clear}    server_name _;\n{challenges}{rest}}}\n");
    }
    if !tls.is_empty() {
        let _ = write!(
            out,
            "# Names that no site has: there is no certificate to show for them.\nserver {{\n{tls}    server_name _;\n    ssl_reject_handshake on;\n}}\n"
        );
    }
    out
}

/// The site's file.
pub(super) fn render(writing: &mut Writing<'_, '_>, key: &str, host: &VirtualHost) -> Result<String, PlanError> {
    let option = format!("services.nginx.virtualHosts.\"{key}\"");
    let places = places(key, host)?;
    let mut names = String::from("    server_name");
    for name in server_names(key, host) {
        let _ = write!(names, " {}", server_name(&option, name)?);
    }
    names.push_str(";\n");
    let Some(tls) = &host.tls else { return block(writing, &option, host, &places, &names, None) };
    let (over_tls, clear): (Vec<Place>, Vec<Place>) = places.iter().partition(|place| place.tls);
    let lines = tls::lines(writing, key, host, tls)?;
    let mut out = String::new();
    match tls.use_ {
        // One block for both: what does not concern TLS is the same.
        TlsUse::Add | TlsUse::Only => return block(writing, &option, host, &places, &names, Some(&lines)),
        TlsUse::Force if clear.is_empty() => {}
        TlsUse::Force => out.push_str(&tls::redirect(writing, host, &names, &clear, &over_tls)),
        TlsUse::Reject => {
            let _ = write!(out, "server {{\n{}{names}{lines}}}\n", tls::listens(writing, host, &over_tls));
            let rest =
                if clear.is_empty() { String::new() } else { block(writing, &option, host, &clear, &names, None)? };
            return Ok(out + &rest);
        }
    }
    Ok(out + &block(writing, &option, host, &over_tls, &names, Some(&lines))?)
}

/// A `server` block with the site's content.
fn block(
    writing: &mut Writing<'_, '_>,
    option: &str,
    host: &VirtualHost,
    places: &[Place],
    names: &str,
    tls: Option<&str>,
) -> Result<String, PlanError> {
    let mut out = format!("server {{\n{}{names}", tls::listens(writing, host, places));
    out.push_str(tls.unwrap_or_default());
    if !host.access_log {
        out.push_str("    access_log off;\n");
    }
    let headers = tls::headers(host, tls.is_some());
    for header in &headers {
        let _ = writeln!(out, "    {header}");
    }
    if let Some(root) = &host.root {
        let root = folder(writing, &format!("{option}.root"), root)?;
        let _ = writeln!(out, "    root {};", root.written);
        if root.immutable && writing.draft.server.nginx.recommended_optimisation {
            out.push_str(OPEN_FILES);
        }
    }
    out.push_str(&tls::password(writing, option, host.basic_auth_file.as_ref(), "    ")?);
    for (statuses, page) in &host.error_pages {
        out.push_str(&error_page(&format!("{option}.errorPages.\"{statuses}\""), statuses, page)?);
    }
    out.push_str(&tls::challenges(writing, host, places));
    if let Some(target) = &host.global_redirect {
        let _ = writeln!(
            out,
            "    location / {{\n        return {};\n    }}",
            redirect(option, host.redirect_code, target)?
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
        out.push_str(&location(writing, &format!("{option}.locations.\"{name}\""), name, place, &headers)?);
    }
    out.push_str(&value::lines(&writing.resolve(&format!("{option}.extraConfig"), &host.extra_config)?, "    "));
    out.push_str("}\n");
    Ok(out)
}

/// What is answered instead of an error.
fn error_page(option: &str, statuses: &str, page: &str) -> Result<String, PlanError> {
    let is_status = |text: &str| text.parse::<u16>().is_ok_and(|status| (300..600).contains(&status) && status != 499);
    if statuses.split_whitespace().next().is_none() || !statuses.split_whitespace().all(is_status) {
        return Err(PlanError::bad(option, statuses, "is not one status or several: `404`, `500 502`"));
    }
    value::check_words(option, page)?;
    Ok(format!("    error_page {} {};\n", statuses.split_whitespace().collect::<Vec<_>>().join(" "), page.trim()))
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

fn location(
    writing: &mut Writing<'_, '_>,
    option: &str,
    name: &str,
    location: &Location,
    headers: &[&str],
) -> Result<String, PlanError> {
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
    out.push_str(&tls::password(writing, option, location.basic_auth_file.as_ref(), "        ")?);
    // nginx forgets the site's headers where a location has some of its own.
    for header in headers.iter().filter(|_| location.extra_config.contains("add_header")) {
        let _ = writeln!(out, "        {header}");
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
            for timeout in IDLE.iter().filter(|timeout| !location.extra_config.contains(**timeout)) {
                let _ = writeln!(out, "        {timeout} 1h;");
            }
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
    bind(writing, option, text, place)?;
    Ok(Folder { written, immutable })
}

/// The folder of a file of the server is bound into the runtime: a file that was bound by itself would stay the one that it was.
pub(super) fn bind_parent(writing: &mut Writing<'_, '_>, option: &str, file: &AbsolutePath) -> Result<(), PlanError> {
    let parent = file.as_str().rsplit_once('/').map_or("", |(parent, _)| parent);
    let place: Option<AbsolutePath> = parent.parse().ok().filter(|_| !OF_RUNTIME.contains(&parent));
    match place {
        Some(place) => bind(writing, option, file.as_str(), place),
        None => {
            Err(PlanError::bad(option, file.as_str(), "has to be in a folder of its own, such as `/etc/site/users`"))
        }
    }
}

/// Remembers a folder of the server, to be bound into the runtime.
fn bind(writing: &mut Writing<'_, '_>, option: &str, text: &str, place: AbsolutePath) -> Result<(), PlanError> {
    let fixed = place.as_str();
    let is_below = |folder: &str| fixed == folder || fixed.starts_with(&format!("{folder}/"));
    if NEVER_BOUND.contains(&fixed) || ["/proc", "/sys", "/dev", "/run", layout::STATE].into_iter().any(is_below) {
        return Err(PlanError::bad(
            option,
            text,
            "is not a folder that nginx may be given: name one below it, such as `/var/www/site`",
        ));
    }
    writing.host_folders.entry(place).or_insert_with(|| option.to_owned());
    Ok(())
}
