//! `services.nginx`: the rules that tie the options of a site together.
//!
//! Names become what DNS has (`bücher.example` is `xn--bcher-kva.example`), and the options about TLS become one value
//! that cannot contradict itself. Every refusal names the option and its place.

use crate::failure::Failure;
use crate::server::{Mapping, object};
use crate::tree::{Node, Shape};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stead_model::name::Domain;
use stead_model::server::{Nginx, VirtualHost};

/// NixOS's four options about TLS, with the model's words.
const USES: [(&str, &str); 4] =
    [("addSSL", "add"), ("forceSSL", "force"), ("onlySSL", "only"), ("rejectSSL", "reject")];
/// What [`SiteTls`](stead_model::server::SiteTls) is made of.
const CERTIFICATES: [&str; 4] = ["enableACME", "useACMEHost", "sslCertificate", "sslCertificateKey"];

/// Names of a site, as DNS has them, its main one first.
pub(crate) fn names(key: &str, host: &Node) -> Vec<String> {
    let main = host.get("serverName").and_then(Node::text).unwrap_or(key);
    let mut names = vec![ascii(main)];
    if let Some(Shape::List(aliases)) = host.get("serverAliases").map(|node| &node.shape) {
        names.extend(aliases.iter().filter_map(Node::text).map(ascii));
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// A name in the letters of DNS (UTS 46); one that has none stays as it is, to be refused.
pub(crate) fn ascii(name: &str) -> String {
    if name.is_ascii() || name.starts_with('~') {
        return name.to_owned();
    }
    let (before, rest) = name.strip_prefix("*.").map_or(("", name), |rest| ("*.", rest));
    match idna::domain_to_ascii_strict(rest) {
        Ok(name) => format!("{before}{name}"),
        Err(_) => name.to_owned(),
    }
}

pub(crate) fn is_on(host: &Node, option: &str) -> bool {
    match host.get(option).map(|node| &node.shape) {
        Some(Shape::Bool(value)) => *value,
        Some(Shape::Text(_)) => true,
        _ => false,
    }
}

impl Mapping<'_> {
    /// The sites of nginx.
    pub(crate) fn sites(&self) -> impl Iterator<Item = (&String, &Node)> {
        let hosts = self.configuration.at(&["services", "nginx", "virtualHosts"]);
        hosts.into_iter().flat_map(Node::fields)
    }

    /// nginx, in the model's form.
    pub(crate) fn nginx(&self) -> Result<Map<String, Value>, Failure> {
        let path = ["services", "nginx"];
        let Some(node) = self.configuration.at(&path) else { return Ok(Map::new()) };
        let mut value = node.to_json();
        let fields = object(&mut value);
        self.whole_seconds(fields, "drain", &["services", "nginx", "drain"])?;
        if let Some(upstreams) = fields.get_mut("upstreams") {
            for upstream in object(upstreams).values_mut() {
                let servers = object(upstream).get_mut("servers").map(object);
                servers.into_iter().flat_map(Map::values_mut).for_each(|parameters| *parameters = words(parameters));
            }
        }
        let mut hosts = Map::new();
        for (name, host) in self.sites() {
            let host = self.site(name, host)?;
            hosts.insert(name.clone(), host);
        }
        self.check_names()?;
        fields.insert("virtualHosts".to_owned(), Value::Object(hosts));
        let nginx: Nginx = self.read(node, &path, value)?;
        match serde_json::to_value(nginx) {
            Ok(Value::Object(fields)) => Ok(fields),
            _ => Ok(Map::new()),
        }
    }

    /// Two sites with one name, where they are declared to listen in one way. (What else can meet is the planner's.)
    fn check_names(&self) -> Result<(), Failure> {
        let mut known: BTreeMap<(String, &str, String), &str> = BTreeMap::new();
        for (site, host) in self.sites() {
            let option = |option: &str| host.get(option).map(Node::to_json).unwrap_or_default();
            let place = format!("{} {}", option("listen"), option("listenAddresses"));
            let speaks_tls = USES.iter().any(|(option, _)| is_on(host, option));
            let spoken = [("http", !is_on(host, "onlySSL")), ("https", speaks_tls)];
            for (index, name) in names(site, host).into_iter().enumerate() {
                let name = name.to_ascii_lowercase();
                for (scheme, _) in spoken.iter().filter(|(_, is_spoken)| *is_spoken) {
                    let first = known.insert((name.clone(), scheme, place.clone()), site);
                    let Some(first) = first.filter(|first| first != site) else { continue };
                    let mut path = vec!["services", "nginx", "virtualHosts", site];
                    match index {
                        0 if is_on(host, "serverName") => path.push("serverName"),
                        0 => {}
                        _ => path.push("serverAliases"),
                    }
                    let words = format!(": `{name}` is a name of the site `{first}` too");
                    return Err(self.refuse(&path, words, None));
                }
            }
        }
        Ok(())
    }

    fn site(&self, name: &str, host: &Node) -> Result<Value, Failure> {
        let path = ["services", "nginx", "virtualHosts", name];
        let names = names(name, host);
        if let Some(wrong) = names.iter().find(|name| !is_server_name(name)) {
            let words = format!(
                ": `{wrong}` is not a name that nginx knows: a domain, `*.` before or `.*` after it, `_`, or a regular expression after `~`"
            );
            return Err(self.refuse(&path, words, None));
        }
        for (location, node) in host.get("locations").into_iter().flat_map(Node::fields) {
            self.check_location(name, location, node)?;
        }
        if is_on(host, "globalRedirect") && is_on(host, "root") {
            let words = " is beside `root`, of which nothing would be served".to_owned();
            return Err(self.refuse(&[&path[..], &["globalRedirect"]].concat(), words, None));
        }
        let tls = self.tls(name, host)?;
        let mut value = host.to_json();
        let fields = object(&mut value);
        USES.iter().map(|(option, _)| option).chain(&CERTIFICATES).for_each(|option| drop(fields.remove(*option)));
        fields.insert("tls".to_owned(), tls);
        if names[0] != name {
            fields.insert("serverName".to_owned(), json!(names[0]));
        }
        fields.insert("serverAliases".to_owned(), json!(names[1..]));
        let host: VirtualHost = self.read(host, &path, value)?;
        Ok(serde_json::to_value(host).unwrap_or_default())
    }

    fn check_location(&self, site: &str, location: &str, node: &Node) -> Result<(), Failure> {
        let path = ["services", "nginx", "virtualHosts", site, "locations", location];
        if location.trim().is_empty() || location.contains(['\n', '\r', '\0']) {
            return Err(self.refuse(&path, " is not a location".to_owned(), None));
        }
        let content = ["proxyPass", "return", "alias"].iter().filter(|name| is_on(node, name));
        let content: Vec<&str> = content.copied().collect();
        if content.len() > 1 {
            let words = format!(" has both `{}`: only one can answer", content.join("` and `"));
            return Err(self.refuse(&path, words, None));
        }
        Ok(())
    }

    /// The TLS of a site, or `null`.
    fn tls(&self, site: &str, host: &Node) -> Result<Value, Failure> {
        let path = ["services", "nginx", "virtualHosts", site];
        let at = |option| [&path[..], &[option]].concat();
        let refuse = |option, words: String| Err(self.refuse(&at(option), words, None));
        let uses: Vec<(&str, &str)> = USES.into_iter().filter(|(option, _)| is_on(host, option)).collect();
        if let [(first, _), (second, _), ..] = uses.as_slice() {
            return refuse(second, format!(" is beside `{first}`: a site can have one of them"));
        }
        let given: Vec<&str> = CERTIFICATES.into_iter().filter(|option| is_on(host, option)).collect();
        let certificate = match given.as_slice() {
            ["enableACME"] => json!({ "authority": { "name": self.certificate_name(site, host)? } }),
            ["useACMEHost"] => json!({ "authority": { "name": self.shared_certificate(site, host)? } }),
            ["sslCertificate", "sslCertificateKey"] => {
                let text = |option| host.get(option).and_then(Node::text);
                json!({ "files": { "certificate": text("sslCertificate"), "key": text("sslCertificateKey") } })
            }
            ["sslCertificate"] => {
                return refuse("sslCertificate", " needs `sslCertificateKey`, its private key".to_owned());
            }
            ["sslCertificateKey"] => {
                return refuse(
                    "sslCertificateKey",
                    " needs `sslCertificate`, the certificate that it is for".to_owned(),
                );
            }
            [first, second, ..] => {
                return refuse(second, format!(" is beside `{first}`: a site has one certificate"));
            }
            _ => Value::Null,
        };
        match (uses.first(), given.first()) {
            (None, None) => Ok(Value::Null),
            (Some((option @ "rejectSSL", _)), Some(given)) => {
                refuse(given, format!(" is beside `{option}`, with which no certificate is ever shown"))
            }
            (Some((option, use_)), None) if *use_ != "reject" => refuse(
                option,
                " needs a certificate: `enableACME = true`, `useACMEHost`, or `sslCertificate` with `sslCertificateKey`"
                    .to_owned(),
            ),
            (None, Some(given)) => {
                refuse(given, " is not used: say `forceSSL = true` (or `addSSL`, or `onlySSL`) too".to_owned())
            }
            (Some((_, use_)), _) => Ok(json!({ "use": use_, "certificate": certificate })),
        }
    }

    /// The certificate of a site with `enableACME` is named after the site.
    pub(crate) fn certificate_name(&self, site: &str, host: &Node) -> Result<Domain, Failure> {
        self.certified(&["services", "nginx", "virtualHosts", site, "enableACME"], &names(site, host)[0])
    }

    /// A name that an authority can be asked to certify.
    pub(crate) fn certified(&self, path: &[&str], name: &str) -> Result<Domain, Failure> {
        if name.contains('*') || name.starts_with('.') {
            let words = format!(
                ": `{name}` is a wildcard, which authorities certify only by way of DNS; this version answers them over HTTP"
            );
            return Err(self.refuse(path, words, None));
        }
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        let domain = ascii(name).to_ascii_lowercase().parse::<Domain>().ok();
        let is_public = |domain: &Domain| !is_address && !domain.as_str().contains('_') && name != "_";
        domain.filter(is_public).ok_or_else(|| {
            self.refuse(path, format!(": `{name}` is not a domain, and no authority certifies anything else"), None)
        })
    }
}

/// nginx's parameters of a server, as words.
fn words(parameters: &Value) -> Value {
    let Value::Object(fields) = parameters else { return parameters.clone() };
    let word = |(name, value): (&String, &Value)| match value {
        Value::Bool(true) => Some(name.clone()),
        Value::Bool(false) | Value::Null => None,
        Value::String(text) => Some(format!("{name}={text}")),
        other => Some(format!("{name}={other}")),
    };
    Value::String(fields.iter().filter_map(word).collect::<Vec<_>>().join(" "))
}

/// The names of nginx's `server_name` that cannot break out of its line.
fn is_server_name(name: &str) -> bool {
    let clean = !name.is_empty() && !name.contains([' ', '\t', '\n', '\r', '\0', '"', '\'']);
    let domain = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
    clean && (name.starts_with('~') || name.chars().all(domain))
}
