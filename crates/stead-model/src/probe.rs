//! Probes: questions by which a server proves that its sites answer, and what was answered.
//!
//! A declaration has [`Declared`] ones; the plan makes [`Probe`]s of them and of every site, as a
//! part of the generation. They are asked from up to two sides ([`Side`]). Plain data: who asks,
//! and what a failure means, is the affair of the crates above.

use crate::name::{Name, Port};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The probes of a generation by their label: `site a.example`, `probe shop`.
pub type Probes = BTreeMap<String, Probe>;

/// What failed, by a probe's label, and in which way ([`Answered::way`]).
pub type Broken = BTreeMap<String, String>;

/// A probe as the operator declares it (`probes.<name>`). Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Declared {
    /// What is asked for by GET.
    pub url: Url,
    /// The expected status; `None`: any of 200 to 399.
    #[serde(default)]
    pub status: Option<u16>,
    /// Text that the answer has to contain.
    #[serde(default)]
    pub body: Option<String>,
    /// The longest that a whole answer may take.
    #[serde(default)]
    pub response_time: Option<u32>,
    /// The days for which the server's certificate still has to be valid, and one that a browser would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<u16>,
    /// From where it is asked.
    pub from: BTreeSet<Side>,
    /// How often, how long, how many times.
    pub timing: Timing,
}

/// One question of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// What is asked for by GET; its host is the `Host` header.
    pub url: Url,
    /// Where the connection goes.
    pub target: Target,
    /// What counts as an answer.
    pub expected: Expected,
    /// From where it is asked.
    pub from: BTreeSet<Side>,
    /// How often, how long, how many times.
    pub timing: Timing,
}

/// Where the connection of a probe goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Target {
    /// To nginx on this server.
    Site {
        /// What the site listens on with the probe's port; an unspecified address is every one of its family.
        addresses: Vec<IpAddr>,
    },
    /// To the live instance of an app.
    App {
        /// The app.
        app: Name,
    },
    /// To what the name of the URL resolves to.
    Name {},
}

/// What counts as an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Expected {
    /// Any status below 500: the site is served, with whatever certificate. What every site is asked; redirects are
    /// answers.
    Served {},
    /// What was declared; redirects among the server's own sites are followed.
    Declared {
        /// The status; `None`: any of 200 to 399.
        #[serde(default)]
        status: Option<u16>,
        /// Text that the answer has to contain.
        #[serde(default)]
        body: Option<String>,
        /// The most milliseconds that a whole answer may take.
        #[serde(default)]
        response_time: Option<u32>,
        /// The days for which each certificate on the way still has to be valid, as a browser sees it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        certificate_days: Option<u16>,
    },
}

/// From where a probe is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// From the server itself.
    Server,
    /// From the operator's machine.
    Operator,
}

impl fmt::Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Side::Server => "from the server itself",
            Side::Operator => "from the operator's machine",
        })
    }
}

/// How a probe is repeated. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timing {
    /// Time between two questions (the first ones come every 50 ms).
    pub interval: u32,
    /// Time that one answer may take.
    pub timeout: u32,
    /// Time until it has to pass.
    pub deadline: u32,
    /// Answers that have to pass in a row.
    pub passes: u32,
}

/// How one probe ended, from one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answered {
    /// The probe's label.
    pub probe: String,
    /// Who asked.
    pub side: Side,
    /// What was asked, and at which addresses, for people.
    pub asked: String,
    /// What that means.
    pub verdict: Verdict,
    /// In which way it failed (`status 503`, `no connection`): what two failures are compared by.
    #[serde(default)]
    pub way: String,
    /// The last answer, or why there is none, for people.
    pub answer: String,
}

/// What the answers to a probe mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed,
    /// Not as expected, but in the same way as before the switch.
    FailedBefore,
    /// It cannot be asked from this side.
    Skipped,
}

impl Answered {
    /// A failure in the same way as before is nobody's fault now.
    pub fn compared(mut self, before: &Broken) -> Self {
        if self.verdict == Verdict::Failed && before.get(&self.probe) == Some(&self.way) {
            self.verdict = Verdict::FailedBefore;
        }
        self
    }

    /// Whether it failed, and did not before.
    pub fn is_failure(&self) -> bool {
        self.verdict == Verdict::Failed
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = match self.verdict {
            Verdict::Passed => "answers",
            Verdict::Failed => "does not answer as it should",
            Verdict::FailedBefore => "does not answer as it should, and did not before either",
            Verdict::Skipped => "was not asked",
        };
        write!(out, "{} {says}, {}\n  asked: {}\n  answer: {}", self.probe, self.side, self.asked, self.answer)
    }
}

impl Probe {
    /// Whether it is a site's own, which nobody declared.
    pub fn is_implicit(&self) -> bool {
        matches!(self.expected, Expected::Served {})
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// In clear.
    Http,
    /// By TLS, with the URL's host as the server's name.
    Https,
}

impl Scheme {
    /// The port where none is said.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// What is asked for: `http://name[:port]/path?query`, or the same by `https://`. Nothing in it can end a line of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: Port,
    path: String,
}

/// The text is not a URL that can be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a URL that can be asked: {rule}")]
pub struct InvalidUrl {
    /// The refused text, cut to 80 characters.
    pub text: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

impl Url {
    /// A URL of its parts.
    pub fn new(scheme: Scheme, host: &str, port: Port, path: &str) -> Result<Self, InvalidUrl> {
        let wrong = |text: &str, rule| InvalidUrl { text: text.chars().take(80).collect(), rule };
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match literal {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
                (1..=253).contains(&host.len()) && host.chars().all(fits) && !host.starts_with(['-', '.'])
            }
        };
        if !is_host {
            return Err(wrong(host, "a host is a name, an IPv4 address, or an IPv6 address in brackets"));
        }
        if !path.starts_with('/') || !path.chars().all(|c| c.is_ascii_graphic()) {
            return Err(wrong(
                path,
                "a path begins with `/` and has only printable ASCII characters (`%20` for a space)",
            ));
        }
        let path = path.split('#').next().unwrap_or("/").to_owned();
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, path })
    }

    /// How the server is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or address, an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> Port {
        self.port
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The address that the host is, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// Whether the host is the machine itself, whoever asks.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }

    /// The value of the `Host` header (RFC 9110, section 7.2).
    pub fn authority(&self) -> String {
        if self.port.number() == self.scheme.default_port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Where a `Location` header leads from here (RFC 9110, section 10.2.2); `None`: to no web page.
    pub fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return location.parse().ok();
        }
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme.text()).parse().ok();
        }
        let folder = self.path.split('?').next().unwrap_or("/");
        let path = match (location.starts_with('/'), location.starts_with('?')) {
            (true, _) => location.to_owned(),
            (_, true) => format!("{folder}{location}"),
            _ => format!("{}/{location}", folder.rsplit_once('/').map_or("", |(parent, _)| parent)),
        };
        Self::new(self.scheme, &self.host, self.port, &path).ok()
    }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let wrong = |rule| InvalidUrl { text: text.chars().take(80).collect(), rule };
        let (scheme, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (Scheme::Http, rest),
            (_, Some(rest)) => (Scheme::Https, rest),
            _ => return Err(wrong("it begins with `http://` or `https://`")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let number = port.map_or(Ok(scheme.default_port()), |port| {
            port.parse().map_err(|_| wrong("a port is a number from 1 to 65535"))
        })?;
        let port = Port::new(number).ok_or_else(|| wrong("a port is a number from 1 to 65535"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Self::new(scheme, host, port, &path)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme.text(), self.authority(), self.path)
    }
}

impl TryFrom<String> for Url {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<Url> for String {
    fn from(url: Url) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_its_parts_and_its_text() {
        for (text, authority, path) in [
            ("http://a.example/", "a.example", "/"),
            ("http://a.example:8080/x?y=1", "a.example:8080", "/x?y=1"),
            ("http://[::1]:4000/", "[::1]:4000", "/"),
            ("https://a.example/", "a.example", "/"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.authority().as_str(), url.path(), url.to_string().as_str()), (authority, path, text));
        }
        assert_eq!("http://A.example".parse::<Url>().unwrap().to_string(), "http://a.example/");
        assert_eq!("http://a:80?x#y".parse::<Url>().unwrap().to_string(), "http://a/?x");
    }

    #[test]
    fn nothing_in_a_url_can_end_a_line_or_name_a_user() {
        for text in ["", "a.example/", "ftp://a/", "http:///x", "http://a b/", "http://a/x\r\nHost: b", "http://u@a/"] {
            assert!(text.parse::<Url>().is_err(), "{text:?}");
        }
        for text in ["http://a:0/", "http://a:70000/", "http://[a]/", "http://-a/"] {
            assert!(text.parse::<Url>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let url: Url = "http://a.example:81/x/y?z".parse().unwrap();
        for (location, wanted) in [
            ("/b", "http://a.example:81/b"),
            ("b", "http://a.example:81/x/b"),
            ("?c", "http://a.example:81/x/y?c"),
            ("//b.example/", "http://b.example/"),
            ("https://b.example", "https://b.example/"),
        ] {
            assert_eq!(url.join(location).unwrap().to_string(), wanted, "{location}");
        }
        assert_eq!(url.join("mailto://"), None);
    }

    #[test]
    fn an_expectation_of_before_certificates_is_read_and_written_as_it_was() {
        let text = r#"{"declared":{"status":200,"body":null,"responseTime":null}}"#;
        let expected: Expected = serde_json::from_str(text).unwrap();
        assert!(matches!(expected, Expected::Declared { certificate_days: None, .. }), "{expected:?}");
        assert_eq!(serde_json::to_string(&expected).unwrap(), text);
    }

    #[test]
    fn only_a_failure_in_the_same_way_is_excused() {
        let failed = |way: &str| Answered {
            probe: "site a".into(),
            side: Side::Server,
            asked: String::new(),
            verdict: Verdict::Failed,
            way: way.into(),
            answer: String::new(),
        };
        let before: Broken = [("site a".to_owned(), "status 502".to_owned())].into();
        assert!(!failed("status 502").compared(&before).is_failure());
        assert!(failed("status 503").compared(&before).is_failure());
        assert!(failed("status 502").compared(&Broken::new()).is_failure());
    }
}
