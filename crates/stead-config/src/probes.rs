//! Declared probes, and the rules for how any probe is repeated.
//!
//! Refuses what can never pass, and what cannot be asked from where it should be, with the option
//! and its place. Looks nothing up: whether a name resolves is known only where it is asked.

use crate::failure::Failure;
use crate::server::Mapping;
use crate::tree::{Node, Shape};
use std::collections::{BTreeMap, BTreeSet};
use stead_model::name::Name;
use stead_model::probe::{Declared, Scheme, Side, Timing, Url};

/// The most days that a certificate may be asked to last: ten years.
const MOST_DAYS: u16 = 3650;

impl Mapping<'_> {
    /// The probes that are declared.
    pub(crate) fn probes(&self) -> Result<BTreeMap<Name, Declared>, Failure> {
        let mut probes = BTreeMap::new();
        for (name, node) in self.configuration.get("probes").into_iter().flat_map(Node::fields) {
            probes.insert(self.name(&["probes", name], node)?, self.probe(name, node)?);
        }
        Ok(probes)
    }

    fn probe(&self, name: &str, node: &Node) -> Result<Declared, Failure> {
        let path = |option: &'static str| ["probes", name, option];
        let text = node.get("url").and_then(Node::text).unwrap_or_default();
        let url: Url = text.parse().map_err(|error| self.refuse(&path("url"), format!(": {error}"), None))?;
        let certificate_days = self.certificate_days(name, node, &url)?;
        let status = number(node, "status").map(|status| status as u64);
        if status.is_some_and(|status| !(100..=599).contains(&status)) {
            return Err(self.refuse(&path("status"), " has to be from 100 to 599".to_owned(), None));
        }
        let from = node.get("from").and_then(Node::text);
        if url.is_loopback() && matches!(from, Some("operator" | "both")) {
            let words = format!(": `{}` is another machine there; only the server can ask it", url.host());
            return Err(self.refuse(&path("from"), words, None));
        }
        let from = match from {
            Some("server") => BTreeSet::from([Side::Server]),
            Some("operator") => BTreeSet::from([Side::Operator]),
            None if url.is_loopback() => BTreeSet::from([Side::Server]),
            _ => BTreeSet::from([Side::Server, Side::Operator]),
        };
        let timing = self.timing(&["probes", name], node)?;
        let response_time = match number(node, "responseTime") {
            Some(_) => Some(self.milliseconds(&["probes", name], node, "responseTime")?),
            None => None,
        };
        if response_time.is_some_and(|time| time > timing.timeout) {
            let words = format!(" is longer than the timeout of {} ms, so it can never be reached", timing.timeout);
            return Err(self.refuse(&path("responseTime"), words, None));
        }
        Ok(Declared {
            url,
            status: status.and_then(|status| u16::try_from(status).ok()),
            body: node.get("body").and_then(Node::text).map(str::to_owned),
            response_time,
            certificate_days,
            from,
            timing,
        })
    }

    fn certificate_days(&self, name: &str, node: &Node, url: &Url) -> Result<Option<u16>, Failure> {
        let path = ["probes", name, "certificateDays"];
        let Some(days) = number(node, "certificateDays") else { return Ok(None) };
        if url.scheme() == Scheme::Http {
            let words = format!(" asks for a certificate, and `{url}` has none: it is not `https://`");
            return Err(self.refuse(&path, words, None));
        }
        if !(1.0..=f64::from(MOST_DAYS)).contains(&days) {
            return Err(self.refuse(&path, format!(" has to be from 1 to {MOST_DAYS}"), None));
        }
        Ok(Some(days as u16))
    }

    /// How a probe or health check is repeated, in milliseconds.
    pub(crate) fn timing(&self, path: &[&str], node: &Node) -> Result<Timing, Failure> {
        let milliseconds = |option| self.milliseconds(path, node, option);
        let (interval, timeout, deadline) =
            (milliseconds("interval")?, milliseconds("timeout")?, milliseconds("deadline")?);
        let passes = number(node, "passes").unwrap_or_default() as u32;
        if passes == 0 {
            return Err(self.refuse(&[path, &["passes"]].concat(), " has to be 1 or more".to_owned(), None));
        }
        if u64::from(deadline) < u64::from(interval).saturating_mul(passes.into()) {
            let words = format!(
                " can never pass: {passes} probes, {interval} ms apart, take longer than the deadline of {deadline} ms"
            );
            return Err(self.refuse(path, words, None));
        }
        Ok(Timing { interval, timeout, deadline, passes })
    }

    pub(crate) fn milliseconds(&self, path: &[&str], node: &Node, option: &str) -> Result<u32, Failure> {
        let value = (number(node, option).unwrap_or_default() * 1000.0).round();
        if value >= 1.0 && value <= f64::from(u32::MAX) {
            Ok(value as u32)
        } else {
            let words = " has to be between 1 ms and 49 days".to_owned();
            Err(self.refuse(&[path, &[option]].concat(), words, None))
        }
    }
}

fn number(node: &Node, option: &str) -> Option<f64> {
    let child = node.get(option)?;
    match child.shape {
        Shape::Number(_) => child.to_json().as_f64(),
        _ => None,
    }
}
