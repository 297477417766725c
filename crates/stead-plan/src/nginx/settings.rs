//! The main file of the configuration, and nginx's answer to what it serves.

use super::{Writing, value};
use crate::error::PlanError;
use std::fmt::Write;
use stead_model::layout;
use stead_model::server::{Nginx, Upstream};

/// Media types of text, which compression makes smaller (`gzip_types`; `text/html` is always one).
const TEXT: &str = "application/atom+xml application/javascript application/json application/ld+json application/manifest+json \
application/rss+xml application/wasm application/xhtml+xml application/xml font/ttf font/otf image/bmp image/svg+xml image/x-icon \
text/cache-manifest text/calendar text/css text/csv text/javascript text/markdown text/plain text/xml";

const OPTIMISATION: &str = "
    # recommendedOptimisation
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 65s;
";

/// The journal's lines: Apache's `vhost_combined`, so that each says which site it is of.
const LOG_FORMAT: &str =
    "    log_format stead '$server_name:$server_port $remote_addr - $remote_user [$time_local] \"$request\" '
        '$status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"';
";

/// How long a worker of before a reload may keep its open connections. Each deploy reloads nginx, and a WebSocket of an
/// app that did not change has nothing to do with it; but each such worker takes memory.
const RELOADED: &str = "1h";

/// `nginx.conf`. What only a running instance needs (no daemon, its process id) is on its command line.
pub(super) fn render(writing: &mut Writing<'_, '_>) -> Result<String, PlanError> {
    let nginx = &writing.draft.server.nginx;
    let mut out = String::from("# Made by Stead from the server's declaration.\n");
    for module in modules(nginx) {
        let _ = writeln!(out, "include /usr/share/nginx/modules-available/{module}.conf;");
    }
    let _ = writeln!(
        out,
        "worker_processes auto;\nworker_rlimit_nofile 65536;\nworker_shutdown_timeout {RELOADED};\nerror_log stderr error;"
    );
    out.push_str(&value::lines(&writing.resolve("services.nginx.appendConfig", &nginx.append_config)?, ""));
    out.push_str("\nevents {\n    worker_connections 4096;\n}\n\nhttp {\n");
    out.push_str("    include /etc/nginx/mime.types;\n    default_type application/octet-stream;\n");
    out.push_str("    types_hash_max_size 4096;\n    server_names_hash_bucket_size 128;\n");
    let tokens = if nginx.server_tokens { "on" } else { "off" };
    let _ =
        writeln!(out, "    server_tokens {tokens};\n    client_max_body_size {};", size(&nginx.client_max_body_size)?);
    out.push_str("    # Redirects keep host and port as the visitor wrote them.\n    absolute_redirect off;\n");
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(out, "    {kind}_temp_path {};", layout::NGINX_CACHE);
    }
    out.push_str(LOG_FORMAT);
    let _ = writeln!(out, "    access_log syslog:server=unix:{},nohostname,tag=nginx stead;", super::units::JOURNAL);
    out.push_str(recommended(nginx).as_str());
    out.push_str("\n    map $http_upgrade $stead_connection { default upgrade; \"\" \"\"; }\n");
    out.push_str("    map $http_host $stead_host { default $http_host; \"\" $host; }\n");
    if nginx.virtual_hosts.values().any(|host| host.tls.is_some()) {
        out.push_str(super::tls::REDIRECT_HOST);
        out.push_str(super::tls::HSTS_VALUE);
    }
    for (name, upstream) in &nginx.upstreams {
        out.push_str(&group(writing, name.as_str(), upstream)?);
    }
    out.push_str(&value::lines(
        &writing.resolve("services.nginx.appendHttpConfig", &nginx.append_http_config)?,
        "    ",
    ));
    let _ = writeln!(
        out,
        "\n    include {}/*.conf;\n    include status.conf;\n    include sites/*.conf;\n}}",
        layout::UPSTREAMS
    );
    Ok(out)
}

/// The server on Stead's own socket: which configuration is served, and from which reload.
pub(super) fn status(configuration: &str) -> String {
    format!(
        "server {{\n    listen unix:{socket};\n    server_name stead;\n    access_log off;\n    default_type text/plain;\n    \
         location = /configuration {{\n        return 200 \"{configuration} $stead_epoch\\n\";\n    }}\n    \
         location / {{\n        return 404;\n    }}\n}}\n",
        socket = super::units::STATUS,
    )
}

/// Dynamic modules that were asked for by package; those that others build upon come first.
fn modules(nginx: &Nginx) -> Vec<String> {
    let names = nginx.packages.iter().filter_map(|package| package.as_str().strip_prefix("libnginx-mod-"));
    let mut modules: Vec<String> = names.map(|name| format!("mod-{name}")).collect();
    modules.sort_by_key(|name| (!["mod-http-ndk", "mod-stream", "mod-mail"].contains(&name.as_str()), name.clone()));
    modules.dedup();
    modules
}

fn recommended(nginx: &Nginx) -> String {
    let mut out = String::new();
    if nginx.recommended_optimisation {
        out.push_str(OPTIMISATION);
    }
    if nginx.recommended_gzip_settings {
        out.push_str("\n    # recommendedGzipSettings\n    gzip on;\n    gzip_static on;\n    gzip_vary on;\n    gzip_proxied any;\n");
        let _ = writeln!(out, "    gzip_comp_level 5;\n    gzip_min_length 256;\n    gzip_types {TEXT};");
    }
    if nginx.recommended_tls_settings {
        out.push_str(super::tls::PROFILE);
    }
    out
}

fn size(text: &str) -> Result<&str, PlanError> {
    let digits = text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']).unwrap_or(text);
    if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(PlanError::bad("services.nginx.clientMaxBodySize", text, "is not a size, such as `10m`"));
    }
    Ok(text)
}

fn group(writing: &mut Writing<'_, '_>, name: &str, upstream: &Upstream) -> Result<String, PlanError> {
    let option = format!("services.nginx.upstreams.{name}");
    if name.starts_with("stead-") {
        return Err(PlanError::Reserved { option });
    }
    if upstream.servers.is_empty() {
        return Err(PlanError::bad(format!("{option}.servers"), "{}", "has no server"));
    }
    let mut out = format!("\n    upstream {name} {{\n");
    for (address, parameters) in &upstream.servers {
        let of_server = format!("{option}.servers.\"{address}\"");
        let address = value::word(&of_server, address)?;
        if writing.app_at(&address).is_some() {
            // The live instance may have another port; only `proxyPass` follows it.
            return Err(PlanError::bad(
                of_server,
                &address,
                "is an app's declared port: name it in `proxyPass` instead",
            ));
        }
        if parameters.trim().is_empty() {
            let _ = writeln!(out, "        server {address};");
        } else {
            value::check_words(&of_server, parameters)?;
            let _ = writeln!(out, "        server {address} {};", parameters.trim());
        }
    }
    out.push_str(&value::lines(
        &writing.resolve(&format!("{option}.extraConfig"), &upstream.extra_config)?,
        "        ",
    ));
    out.push_str("    }\n");
    Ok(out)
}
