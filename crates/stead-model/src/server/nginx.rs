//! nginx and its sites, as declared. Names follow NixOS's `services.nginx`.

use crate::name::{Domain, Name, PackageName, Port};
use crate::path::AbsolutePath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// nginx and its sites. Names follow NixOS's `services.nginx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nginx {
    /// Whether nginx runs at all.
    pub enable: bool,
    /// The Debian input; `None`: the server's.
    #[serde(default)]
    pub debian: Option<Name>,
    /// The package that has nginx, and modules beside it.
    pub packages: Vec<PackageName>,
    /// Sites by name.
    #[serde(default)]
    pub virtual_hosts: BTreeMap<String, VirtualHost>,
    /// Named groups of servers, for `proxyPass`.
    #[serde(default)]
    pub upstreams: BTreeMap<Name, Upstream>,
    /// Headers that an app behind a proxy expects, sane timeouts.
    pub recommended_proxy_settings: bool,
    /// `sendfile`, `tcp_nopush`, a shared open-file cache.
    pub recommended_optimisation: bool,
    /// Compression of text.
    pub recommended_gzip_settings: bool,
    /// Modern TLS versions and session caching.
    pub recommended_tls_settings: bool,
    /// `client_max_body_size`.
    pub client_max_body_size: String,
    /// Whether nginx tells its version.
    pub server_tokens: bool,
    /// Seconds that an old nginx instance may keep its connections (WebSockets too).
    pub drain: u32,
    /// What is not taken away from it, by systemd's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unprotected: Vec<String>,
    /// Lines for the `http` block, as they are.
    pub append_http_config: String,
    /// Lines for the main block, as they are.
    pub append_config: String,
}

/// A group of servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// Addresses (`127.0.0.1:9000`, `unix:/run/x.sock`), each with nginx's parameters for it.
    pub servers: BTreeMap<String, String>,
    /// Lines for the `upstream` block, as they are.
    pub extra_config: String,
}

/// A site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualHost {
    /// Its main name; `None`: the key in `virtualHosts`.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Other names (wildcards and regular expressions as nginx knows them).
    #[serde(default)]
    pub server_aliases: Vec<String>,
    /// Where it listens; empty: on [`VirtualHost::listen_addresses`], port 80, port 443, or both.
    #[serde(default)]
    pub listen: Vec<Listen>,
    /// The addresses of the usual ports; empty: every one.
    #[serde(default)]
    pub listen_addresses: Vec<String>,
    /// Its TLS; `None`: it speaks in clear.
    #[serde(default)]
    pub tls: Option<SiteTls>,
    /// Whether it speaks HTTP/2 where it speaks TLS.
    pub http2: bool,
    /// Whether browsers are told never to come in clear again (RFC 6797).
    pub hsts: bool,
    /// Whether answers carry headers that forbid browsers what few sites need.
    pub security_headers: bool,
    /// Whether requests are written to the journal.
    pub access_log: bool,
    /// Statuses (`404`, `500 502`), each with the path that is answered instead.
    #[serde(default)]
    pub error_pages: BTreeMap<String, String>,
    /// A file of the server with the names and password hashes of who may come in (`htpasswd(1)`).
    #[serde(default)]
    pub basic_auth_file: Option<AbsolutePath>,
    /// Whether it answers for names that no site has.
    pub default: bool,
    /// The folder of its files: of an input, or of the server (`/var/www/…`).
    #[serde(default)]
    pub root: Option<String>,
    /// Redirect everything to this host.
    #[serde(default)]
    pub global_redirect: Option<String>,
    /// The status of that redirect, and of the one to HTTPS.
    pub redirect_code: u16,
    /// Lines for the `server` block, as they are.
    pub extra_config: String,
    /// Places by nginx's location: `/`, `= /github`, `~ \.php$`.
    #[serde(default)]
    pub locations: BTreeMap<String, Location>,
}

/// An address that a site listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// `0.0.0.0`, `[::]`, or an address of the server.
    pub address: String,
    /// The port.
    pub port: Port,
    /// Whether TLS is spoken there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ssl: bool,
}

/// TLS of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SiteTls {
    /// What TLS is for.
    #[serde(rename = "use")]
    pub use_: TlsUse,
    /// Its certificate; `None` where TLS is refused.
    #[serde(default)]
    pub certificate: Option<SiteCertificate>,
}

/// What TLS is for on a site. NixOS's four exclusive options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsUse {
    /// Beside plain HTTP (`addSSL`).
    Add,
    /// Plain HTTP leads to it (`forceSSL`).
    Force,
    /// Instead of plain HTTP (`onlySSL`).
    Only,
    /// It is refused, beside plain HTTP (`rejectSSL`).
    Reject,
}

/// Where the certificate of a site is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SiteCertificate {
    /// The one of this name, from an authority ([`crate::certificate::Acme`]).
    Authority {
        /// Its name.
        name: Domain,
    },
    /// In files: of the server, or (the certificate alone) of an input.
    Files {
        /// The certificate and those between it and the root.
        certificate: String,
        /// Its private key.
        key: String,
    },
}

/// A place of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Location {
    /// Where requests are passed on to: `http://127.0.0.1:4000`.
    #[serde(default)]
    pub proxy_pass: Option<String>,
    /// Whether WebSockets are passed on too.
    pub proxy_websockets: bool,
    /// `try_files`.
    #[serde(default)]
    pub try_files: Option<String>,
    /// `return`.
    #[serde(default, rename = "return")]
    pub return_: Option<String>,
    /// `root`.
    #[serde(default)]
    pub root: Option<String>,
    /// `alias`.
    #[serde(default)]
    pub alias: Option<String>,
    /// `index`.
    #[serde(default)]
    pub index: Option<String>,
    /// A file of the server with the names and password hashes of who may come in (`htpasswd(1)`).
    #[serde(default)]
    pub basic_auth_file: Option<AbsolutePath>,
    /// Order among the locations: lower comes first, equal ones by name.
    pub priority: i32,
    /// Lines for the `location` block, as they are.
    pub extra_config: String,
}
