//! `security.acme`: which certificates authorities are asked for.
//!
//! One for each site with `enableACME`, named after it, and those of `security.acme.certs`. Asks nobody anything.

use crate::failure::Failure;
use crate::nginx::{ascii, is_on, names};
use crate::server::Mapping;
use crate::tree::{Node, Shape};
use crate::unknown::similar;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stead_model::certificate::{Acme, Authority, Certificate, Certificates, KeyType, LETS_ENCRYPT, Source};
use stead_model::name::Domain;

const ACME: [&str; 2] = ["security", "acme"];

impl Mapping<'_> {
    /// What authorities are asked for, in the model's form.
    pub(crate) fn acme(&self) -> Result<Value, Failure> {
        let certificates = self.certificates()?;
        let interval = self.configuration.at(&["security", "acme", "defaults", "renewInterval"]);
        let renew_interval = interval.and_then(Node::text).unwrap_or_default();
        if certificates.is_empty() {
            return Ok(json!({}));
        }
        if renew_interval.trim().is_empty() {
            let path = [&ACME[..], &["defaults", "renewInterval"]].concat();
            return Err(self.refuse(&path, " is empty: say when, such as `daily`".to_owned(), None));
        }
        Ok(serde_json::to_value(Acme { certificates, renew_interval: renew_interval.to_owned() }).unwrap_or_default())
    }

    /// The certificates, by name.
    fn certificates(&self) -> Result<Certificates, Failure> {
        let mut wanted: BTreeMap<Domain, Vec<Domain>> = BTreeMap::new();
        let mut first: Option<Vec<&str>> = None;
        for (site, host) in self.sites().filter(|(_, host)| is_on(host, "enableACME")) {
            let path = vec!["services", "nginx", "virtualHosts", site, "enableACME"];
            let known = wanted.entry(self.certificate_name(site, host)?).or_default();
            for name in names(site, host) {
                let name = self.certified(&path, &name)?;
                if !known.contains(&name) {
                    known.push(name);
                }
            }
            first.get_or_insert(path);
        }
        let certs = self.configuration.at(&["security", "acme", "certs"]);
        for (key, node) in certs.into_iter().flat_map(Node::fields) {
            let path = vec!["security", "acme", "certs", key];
            let name = self.certified(&path, key)?;
            let known = wanted.entry(name.clone()).or_default();
            let mut more = vec![name];
            if let Some(Shape::List(extra)) = node.get("extraDomainNames").map(|node| &node.shape) {
                let path = [&path[..], &["extraDomainNames"]].concat();
                for name in extra.iter().filter_map(Node::text) {
                    more.push(self.certified(&path, name)?);
                }
            }
            more.retain(|name| !known.contains(name));
            known.extend(more);
            first.get_or_insert(path);
        }
        if let (Some(path), false) = (&first, self.accepts_terms()) {
            let words = " needs `security.acme.acceptTerms = true`: that you agree to the terms of service of the authority \
                         (those of Let's Encrypt: https://letsencrypt.org/repository/)";
            return Err(self.refuse(path, words.to_owned(), None));
        }
        let of = |(name, names): (Domain, Vec<Domain>)| {
            let source = Source::Authority(self.authority(&name)?);
            Ok((name, Certificate { names, source }))
        };
        wanted.into_iter().map(of).collect()
    }

    fn accepts_terms(&self) -> bool {
        self.configuration.at(&ACME).is_some_and(|acme| is_on(acme, "acceptTerms"))
    }

    /// The authority of a certificate: its own options, else those of `defaults`.
    fn authority(&self, certificate: &Domain) -> Result<Authority, Failure> {
        let certs = self.configuration.at(&["security", "acme", "certs"]);
        let own = certs
            .into_iter()
            .flat_map(Node::fields)
            .find(|(key, _)| ascii(key).to_ascii_lowercase() == certificate.as_str());
        // Where an option is set, and its path.
        let find = |option: &'static str| -> Option<(&Node, Vec<&str>)> {
            let is_set = |node: &&Node| !matches!(node.shape, Shape::Unset | Shape::Null);
            if let Some((key, node)) = own
                && let Some(found) = node.get(option).filter(is_set)
            {
                return Some((found, vec!["security", "acme", "certs", key, option]));
            }
            let path = ["security", "acme", "defaults", option];
            Some((self.configuration.at(&path).filter(is_set)?, path.to_vec()))
        };
        let text = |option| find(option).and_then(|(node, _)| node.text().map(str::to_owned));
        let directory = text("server").unwrap_or_else(|| LETS_ENCRYPT.to_owned());
        if let (Some((_, path)), false) = (find("server"), is_directory(&directory)) {
            let words = ": an authority's directory is a URL that begins with `https://`".to_owned();
            return Err(self.refuse(&path, words, None));
        }
        let roots = text("rootCertificates");
        if let (Some((_, path)), Some(false)) = (find("rootCertificates"), roots.as_deref().map(is_pem)) {
            let words = " is not PEM: it has no line `-----BEGIN CERTIFICATE-----`. Read the file with `import \"ca.pem\" as 'Text`";
            return Err(self.refuse(&path, words.to_owned(), None));
        }
        let days = find("validMinDays").and_then(|(node, _)| node.to_json().as_f64()).unwrap_or(30.0);
        if let (Some((_, path)), true) = (find("validMinDays"), days < 1.0) {
            return Err(self.refuse(
                &path,
                " has to be 1 or more: a certificate is renewed before it ends".to_owned(),
                None,
            ));
        }
        let key_type = text("keyType").and_then(|word| serde_json::from_value::<KeyType>(json!(word)).ok());
        Ok(Authority {
            directory,
            roots,
            email: text("email"),
            key_type: key_type.unwrap_or_default(),
            valid_min_days: days as u32,
        })
    }

    /// The certificate that a site shares (`useACMEHost`), which has to be for all of its names.
    pub(crate) fn shared_certificate(&self, site: &str, host: &Node) -> Result<Domain, Failure> {
        let path = ["services", "nginx", "virtualHosts", site, "useACMEHost"];
        let wanted = host.get("useACMEHost").and_then(Node::text).unwrap_or_default();
        let name = self.certified(&path, wanted)?;
        let known = self.certificates()?;
        let Some(certificate) = known.get(&name) else {
            let suggestion = similar(wanted, known.keys().map(Domain::as_str));
            let words = format!(
                ": there is no certificate `{wanted}`: no site has `enableACME` and this name, and \
                                 `security.acme.certs` does not have it"
            );
            return Err(self.refuse(&path, words, suggestion));
        };
        for other in names(site, host) {
            let is_for = certificate.names.iter().any(|name| name.as_str() == other.to_ascii_lowercase());
            if !is_for {
                let words = format!(
                    ": the certificate `{name}` is not for `{other}`: add it to \
                     `security.acme.certs.\"{name}\".extraDomainNames`"
                );
                return Err(self.refuse(&path, words, None));
            }
        }
        Ok(name)
    }
}

fn is_directory(text: &str) -> bool {
    let rest = text.strip_prefix("https://").unwrap_or_default();
    !rest.is_empty() && !rest.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic())
}

fn is_pem(text: &str) -> bool {
    let has = |wanted: &str| text.lines().any(|line| line.trim() == wanted);
    has("-----BEGIN CERTIFICATE-----") && has("-----END CERTIFICATE-----")
}
