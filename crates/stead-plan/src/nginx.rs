//! nginx: its configuration, its sockets, and the instance that serves them.
//!
//! systemd holds the sockets, so that two instances can take over from each other. A changed
//! configuration is a reload: the unit refers to it through `/run/stead/active`, and its text (and
//! so its name) does not depend on it. nginx tells on a socket of Stead's own which configuration it
//! serves. Promises that no declared value becomes anything but that value in the configuration,
//! `extraConfig` and its like apart.

mod listen;
mod settings;
mod site;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod value;

use crate::error::PlanError;
use crate::placeholder::Used;
use crate::plan::Draft;
use crate::runtimes::{Mounts, nginx_key};
use listen::Listeners;
pub(crate) use listen::{Place, places, server_names};
use std::collections::BTreeMap;
use stead_model::certificate::{Certificates, Source};
use stead_model::generation::NginxPart;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::lock::RuntimeKey;
use stead_model::name::Name;
use stead_model::path::AbsolutePath;
use stead_model::secret::SecretFile;
use tls::Http2;

/// Stands for the configuration's hash while it is being computed.
const UNKNOWN: &str = "@configuration@";
/// The name, beside the apps' upstreams, of what marks a reload; no app may have it.
pub(crate) const EPOCH: &str = "epoch";
/// What marks the configuration of a boot; each reload is marked anew.
const EPOCH_OF_BOOT: &str = "boot";

/// What the parts of the configuration are made of, and what they find out.
struct Writing<'d, 'a> {
    draft: &'d Draft<'a>,
    used: Used<'a>,
    host_folders: BTreeMap<AbsolutePath, String>,
    /// The certificates that sites turned out to need.
    certificates: Certificates,
    /// Whether there is a certificate that an authority has to be answered for.
    asks_authorities: bool,
    http2: Http2,
    /// Files of secrets that it reads.
    secret_files: Vec<SecretFile>,
}

/// Adds nginx, if the server has it.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<Option<NginxPart>, PlanError> {
    let server = draft.server;
    if !server.nginx.enable {
        return Ok(None);
    }
    let listeners = Listeners::of(server)?;
    let key = nginx_key(server);
    let asked = server.acme.certificates.iter().filter(|(_, known)| matches!(known.source, Source::Authority(_)));
    let certificates: Certificates = asked.map(|(name, known)| (name.clone(), known.clone())).collect();
    let mut writing = Writing {
        http2: http2(draft, &key),
        asks_authorities: !certificates.is_empty(),
        draft,
        used: Used::new(),
        host_folders: BTreeMap::new(),
        certificates,
        secret_files: Vec::new(),
    };
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    files.insert("nginx.conf".to_owned(), settings::render(&mut writing)?);
    files.insert("status.conf".to_owned(), settings::status(UNKNOWN));
    files.insert("sites/@unknown.conf".to_owned(), site::for_unknown_names(&listeners, writing.asks_authorities));
    for (key, host) in &server.nginx.virtual_hosts {
        files.insert(format!("sites/{}.conf", file_name(key)), site::render(&mut writing, key, host)?);
    }
    files.retain(|_, text| !text.is_empty());
    let Writing { used, host_folders, certificates, secret_files, .. } = writing;
    let reads_secrets = !secret_files.is_empty();
    for file in secret_files {
        draft.secrets.add(file);
    }

    let configuration = Hash::of_value("stead nginx configuration 1", &files);
    files.insert("status.conf".to_owned(), settings::status(&configuration.to_string()));
    for (path, text) in files {
        draft.files.add(&format!("nginx/{path}"), text);
    }
    draft.files.add(&format!("run/upstreams/{EPOCH}.conf"), epoch(EPOCH_OF_BOOT));

    let mut mounts = Mounts::standard();
    mounts.folder(layout::GENERATIONS);
    mounts.folder(layout::NGINX_CACHE);
    if !certificates.is_empty() {
        mounts.folder(layout::CERTIFICATES);
    }
    host_folders.keys().for_each(|folder| mounts.folder(folder.as_str()));
    let runtime = draft.runtimes.add(draft.inputs, "nginx".to_owned(), "services.nginx.packages", &key, mounts)?;
    let mut folders: Vec<String> = host_folders.keys().map(ToString::to_string).collect();
    if !certificates.is_empty() {
        folders.push(layout::CERTIFICATES.to_owned());
    }
    draft.certificates = certificates;
    let unit = units::add(draft, &listeners, &runtime, &configuration, &folders, reads_secrets)?;
    let binds = units::binds_of_test(&folders);
    draft.host_folders.extend(host_folders);
    draft.refer(used);
    let drain = draft.server.nginx.drain;
    Ok(Some(NginxPart { runtime, unit, configuration, binds, drain }))
}

/// How the nginx that the lock has is told to speak HTTP/2.
fn http2(draft: &Draft<'_>, key: &RuntimeKey) -> Http2 {
    const PROGRAMS: [&str; 5] = ["nginx", "nginx-core", "nginx-full", "nginx-light", "nginx-extras"];
    let packages = draft.inputs.lock.runtimes.get(&key.to_string()).into_iter().flat_map(|locked| &locked.packages);
    let mut programs = packages.filter(|package| PROGRAMS.contains(&package.name.as_str()));
    Http2::of(programs.next().map_or("", |package| &package.version))
}

/// What nginx includes to tell which reload it answers from.
fn epoch(epoch: &str) -> String {
    format!("map $hostname $stead_epoch {{ default \"{epoch}\"; }}\n")
}

/// A file's name for a site: its key, and a digest where the key has more than a file name may.
fn file_name(key: &str) -> String {
    let plain: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).take(100).collect();
    if plain == key && !key.starts_with('.') { plain } else { format!("_{plain}-{}", Hash::of(key.as_bytes()).short()) }
}

impl Writing<'_, '_> {
    /// The text with its placeholders replaced.
    fn resolve(&mut self, option: &str, text: &str) -> Result<String, PlanError> {
        self.draft.places.resolve(option, text, &mut self.used)
    }

    /// Whether a path below the trees is there, as far as it can be told: up to a variable in it.
    fn is_there(&self, path: &str) -> bool {
        let inside = path.strip_prefix(layout::TREES).unwrap_or_default().trim_start_matches('/');
        let (id, rest) = inside.split_once('/').unwrap_or((inside, ""));
        let Some((_, tree)) = id.parse().ok().and_then(|id: Hash| self.used.get(&id)) else { return true };
        let rest = rest.trim_end_matches('/');
        let below = format!("{rest}/");
        let is_it = |known: &str| known == rest || known.starts_with(&below);
        rest.is_empty() || rest.contains('$') || tree.entries.keys().any(|known| is_it(known.as_str()))
    }

    /// The app that is known by this address (`HOST:PORT`) of the server itself.
    fn app_at(&self, address: &str) -> Option<&Name> {
        let (host, port) = address.rsplit_once(':')?;
        let is_own = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
        let port: u16 = port.parse().ok().filter(|_| is_own)?;
        let known = |port_of: Option<stead_model::name::Port>| port_of.is_some_and(|known| known.number() == port);
        self.draft.server.apps.iter().find(|(_, app)| known(app.port)).map(|(name, _)| name)
    }
}
