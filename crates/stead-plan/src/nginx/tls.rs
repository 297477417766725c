//! TLS of sites: which certificate, what is said over it, and the way there from plain HTTP.
//!
//! A certificate is data of the server and has its place before nginx reads the configuration: the
//! agent sees to that, with a stand-in where there is none yet.

use super::listen::{HTTP, HTTPS, Place, server_names};
use super::{Writing, value};
use crate::error::PlanError;
use crate::secrets;
use std::fmt::Write;
use stead_model::certificate::{Certificate, Files, Source};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::Domain;
use stead_model::path::AbsolutePath;
use stead_model::secret::{Content, SecretFile};
use stead_model::server::{SiteCertificate, SiteTls, TlsUse, VirtualHost};

/// Mozilla's intermediate profile, version 5.7, but for the ciphers that need Diffie-Hellman parameters: no client that
/// it is for needs those.
pub(super) const PROFILE: &str = "
    # recommendedTlsSettings
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519:prime256v1:secp384r1;
    ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
    ssl_prefer_server_ciphers off;
    ssl_session_cache shared:stead:10m;
    ssl_session_timeout 1d;
    ssl_session_tickets off;
";

/// Where a visitor in clear is sent to. Who came by the port of a forwarding (8080, as to a lab) goes on by the one that
/// goes with it.
pub(super) const REDIRECT_HOST: &str = "    map \"$server_port $http_host\" $stead_https_host { default $host; \"~*^80 (?<stead_name>[^:]+):8080$\" \"$stead_name:8443\"; }\n";

/// Browsers that came in clear are not told (RFC 6797, section 7.2). Two years, as Mozilla says.
pub(super) const HSTS_VALUE: &str = "    map $https $stead_hsts { default \"\"; on \"max-age=63072000\"; }\n";
const HSTS: &str = "add_header Strict-Transport-Security $stead_hsts always;";
const SECURITY_HEADERS: [&str; 3] = [
    "add_header X-Content-Type-Options nosniff always;",
    "add_header X-Frame-Options SAMEORIGIN always;",
    "add_header Referrer-Policy strict-origin-when-cross-origin always;",
];

/// How this nginx is told to speak HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http2 {
    /// By a parameter of `listen`, for everybody who listens there: before 1.25.1.
    Parameter,
    /// By a directive of the site.
    Directive,
}

impl Http2 {
    /// That of an nginx of this Debian version (`1.22.1-9+deb12u3`).
    pub(super) fn of(version: &str) -> Self {
        let upstream = version.rsplit_once(':').map_or(version, |(_, version)| version);
        let mut numbers = upstream.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0_u32));
        let mut next = || numbers.next().unwrap_or(0);
        if (next(), next(), next()) >= (1, 25, 1) { Http2::Directive } else { Http2::Parameter }
    }
}

/// The `listen` lines of these places.
pub(super) fn listens(writing: &Writing<'_, '_>, host: &VirtualHost, places: &[Place]) -> String {
    let default = if host.default { " default_server" } else { "" };
    let mut out = String::new();
    for place in places {
        let by_parameter = host.http2 && writing.http2 == Http2::Parameter;
        let tls = match place.tls {
            true if by_parameter => " ssl http2",
            true => " ssl",
            false => "",
        };
        let _ = writeln!(out, "    listen {}{tls}{default};", super::listen::written((place.port, place.address)));
    }
    out
}

/// The lines of a site's block that speaks TLS.
pub(super) fn lines(
    writing: &mut Writing<'_, '_>,
    key: &str,
    host: &VirtualHost,
    tls: &SiteTls,
) -> Result<String, PlanError> {
    let mut out = String::new();
    if tls.use_ == TlsUse::Reject {
        out.push_str("    ssl_reject_handshake on;\n");
        return Ok(out);
    }
    if host.http2 && writing.http2 == Http2::Directive {
        out.push_str("    http2 on;\n");
    }
    if let Some(certificate) = &tls.certificate {
        let folder = format!("{}/{}/live", layout::CERTIFICATES, name(writing, key, host, certificate)?);
        let _ = writeln!(out, "    ssl_certificate {folder}/fullchain.pem;\n    ssl_certificate_key {folder}/key.pem;");
        // Where the certificate offers it, unless the site has its own word: nginx takes one only.
        if !host.extra_config.contains("ssl_stapling") {
            let _ = writeln!(out, "    include {folder}/ocsp*.conf;");
        }
    }
    Ok(out)
}

/// The certificate's name; from now on the generation needs it.
fn name(
    writing: &mut Writing<'_, '_>,
    key: &str,
    host: &VirtualHost,
    certificate: &SiteCertificate,
) -> Result<Domain, PlanError> {
    let option = |name: &str| format!("services.nginx.virtualHosts.\"{key}\".{name}");
    match certificate {
        SiteCertificate::Authority { name } => {
            let known = writing.draft.server.acme.certificates.get(name);
            let known = known.ok_or_else(|| {
                PlanError::bad(option("useACMEHost"), name.as_str(), "is not a certificate that is asked for")
            })?;
            writing.certificates.insert(name.clone(), known.clone());
            Ok(name.clone())
        }
        SiteCertificate::Files { certificate, key: key_file } => {
            let mut path = |name: &str, text: &str| -> Result<AbsolutePath, PlanError> {
                let resolved = writing.resolve(&option(name), text)?;
                resolved.parse().map_err(|_| PlanError::bad(option(name), text, "is not the absolute path of a file"))
            };
            let certificate = path("sslCertificate", certificate)?;
            let key_of = path("sslCertificateKey", key_file)?;
            if key_of.as_str().starts_with(layout::STATE) {
                return Err(PlanError::bad(
                    option("sslCertificateKey"),
                    key_file,
                    "is in an input, and so would lie in clear in the store: name a file of the server",
                ));
            }
            let digest = Hash::of_value("stead certificate files 1", &(&certificate, &key_of)).short();
            let name: Domain = format!("file-{digest}").parse().expect("hexadecimal digits are letters of a domain");
            let names =
                server_names(key, host).into_iter().filter_map(|name| name.to_ascii_lowercase().parse().ok()).collect();
            let files = Files { certificate, key: key_of, site: key.to_owned() };
            let new = Certificate { names, source: Source::Files(files) };
            let known = writing.certificates.entry(name.clone()).or_insert_with(|| new.clone());
            // Sites that share the files need all of their names in them.
            known.names.extend(new.names.into_iter().filter(|name| !known.names.contains(name)).collect::<Vec<_>>());
            Ok(name)
        }
    }
}

/// Headers that every answer of the site carries.
pub(super) fn headers(host: &VirtualHost, is_tls: bool) -> Vec<&'static str> {
    let mut lines = Vec::new();
    if host.hsts && is_tls {
        lines.push(HSTS);
    }
    if host.security_headers {
        lines.extend(SECURITY_HEADERS);
    }
    lines
}

/// The block that leads from plain HTTP to TLS.
pub(super) fn redirect(
    writing: &Writing<'_, '_>,
    host: &VirtualHost,
    names: &str,
    clear: &[Place],
    tls: &[Place],
) -> String {
    let port =
        tls.iter().map(|place| place.port).find(|port| *port == HTTPS).or_else(|| tls.first().map(|place| place.port));
    let to = match port {
        None | Some(HTTPS) => "$stead_https_host".to_owned(),
        Some(port) => format!("$host:{port}"),
    };
    let mut out = format!("server {{\n{}{names}", listens(writing, host, clear));
    if !host.access_log {
        out.push_str("    access_log off;\n");
    }
    // A location of the site's own is not in this block.
    if writing.asks_authorities && clear.iter().any(|place| place.port == HTTP) {
        out.push_str(&challenge_place());
    }
    let code = host.redirect_code;
    let _ = writeln!(out, "    location / {{\n        return {code} https://{to}$request_uri;\n    }}\n}}");
    out
}

/// The place where an authority finds the answers to its challenges, on each site of port 80.
pub(super) fn challenges(writing: &Writing<'_, '_>, host: &VirtualHost, places: &[Place]) -> String {
    const PATH: &str = "/.well-known/acme-challenge/";
    let is_own = |place: &str| place.trim_start_matches("^~").trim() == PATH;
    let is_asked = places.iter().any(|place| !place.tls && place.port == HTTP);
    if !writing.asks_authorities || !is_asked || host.locations.keys().any(|place| is_own(place)) {
        return String::new();
    }
    challenge_place()
}

/// The same, where no site has the name.
pub(super) fn challenge_place() -> String {
    format!(
        "    location ^~ /.well-known/acme-challenge/ {{\n        root {};\n        default_type text/plain;\n        \
         auth_basic off;\n        allow all;\n        open_file_cache off;\n    }}\n",
        layout::CHALLENGES
    )
}

/// What is said of a path that a password guards.
pub(super) fn password(
    writing: &mut Writing<'_, '_>,
    option: &str,
    file: Option<&AbsolutePath>,
    indent: &str,
) -> Result<String, PlanError> {
    let Some(file) = file else { return Ok(String::new()) };
    let option = format!("{option}.basicAuthFile");
    if let Some(template) = secrets::template(&option, file.as_str())? {
        let owner = Some(super::units::USER.parse().expect("the user of web servers has a valid name"));
        let file = SecretFile { option, content: Content::Text(template), owner };
        let place = writing.draft.secrets.place(&file)?;
        writing.secret_files.push(file);
        return Ok(format!("{indent}auth_basic \"Restricted\";\n{indent}auth_basic_user_file {place};\n"));
    }
    let resolved = writing.resolve(&option, file.as_str())?;
    if resolved.starts_with(layout::STATE) {
        return Err(PlanError::bad(
            option,
            file.as_str(),
            "is in an input, and so would lie in clear in the store: name a file of the server",
        ));
    }
    let written = value::word(&option, file.as_str())?;
    super::site::bind_parent(writing, &option, file)?;
    Ok(format!("{indent}auth_basic \"Restricted\";\n{indent}auth_basic_user_file {written};\n"))
}

#[cfg(test)]
mod tests;
