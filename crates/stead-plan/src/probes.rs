//! What a generation is asked before it is confirmed: one question a site and port, and what was declared.
//!
//! A site is asked for `/` by a name that it answers to; any status below 500 will do. Where the
//! connection goes is decided here too: the name of a site means this server's nginx, and the
//! declared port of an app means its live instance. Sites whose only names cannot be asked for are
//! left out.

use crate::error::PlanError;
use crate::nginx::{self, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stead_model::name::{Domain, Name, Port};
use stead_model::probe::{Declared, Expected, Probe, Probes, Scheme, Side, Target, Timing, Url};
use stead_model::server::{App, Server, TlsUse, VirtualHost};

/// The label that stands in the place of a wildcard: a name that is nobody's own.
const ANY_LABEL: &str = "stead-probe";

/// How a site is asked. What serves it was proved healthy before the switch, so that a wrong answer is
/// final within moments; the engine waits longer for sites behind what can only be started. One answer is enough, and
/// after the soak another one: two in a row would be one too many for a site that limits how often it may be asked.
const OF_SITE: Timing = Timing { interval: 250, timeout: 5000, deadline: 3000, passes: 1 };

/// Every probe of a server.
pub(crate) fn of(server: &Server) -> Result<Probes, PlanError> {
    let mut probes = Probes::new();
    if server.nginx.enable {
        for (key, host) in &server.nginx.virtual_hosts {
            probes.extend(of_site(key, host)?);
        }
    }
    for (name, declared) in &server.probes {
        probes.insert(format!("probe {name}"), of_declared(server, declared)?);
    }
    Ok(probes)
}

/// The question to a site on each of its ports. On a port with a wildcard address one stands for all.
fn of_site(key: &str, host: &VirtualHost) -> Result<Vec<(String, Probe)>, PlanError> {
    let rejects = host.tls.as_ref().is_some_and(|tls| tls.use_ == TlsUse::Reject);
    let places: Vec<Place> = nginx::places(key, host)?.into_iter().filter(|place| !(rejects && place.tls)).collect();
    let several = places.iter().map(|place| place.port).collect::<BTreeSet<_>>().len() > 1;
    let mut probes = Vec::new();
    for (number, (tls, addresses)) in by_port(&places) {
        let Some(name) = asked_name(key, host, &addresses) else { continue };
        let Some(port) = Port::new(number) else { continue };
        let scheme = if tls { Scheme::Https } else { Scheme::Http };
        let Ok(url) = Url::new(scheme, &name, port, "/") else { continue };
        let label = if several { format!("site {key}:{port}") } else { format!("site {key}") };
        let probe = Probe {
            url,
            target: Target::Site { addresses },
            expected: Expected::Served {},
            from: [Side::Server, Side::Operator].into(),
            timing: OF_SITE,
        };
        probes.push((label, probe));
    }
    Ok(probes)
}

/// Addresses by port, with whether TLS is spoken there: the unspecified ones where there are any, because they stand for
/// all of their family.
fn by_port(places: &[Place]) -> BTreeMap<u16, (bool, Vec<IpAddr>)> {
    let mut ports: BTreeMap<u16, (bool, Vec<IpAddr>)> = BTreeMap::new();
    for place in places {
        ports.entry(place.port).or_insert((place.tls, Vec::new())).1.push(place.address);
    }
    for (_, addresses) in ports.values_mut() {
        let covered = |address: &IpAddr, all: &[IpAddr]| {
            !address.is_unspecified()
                && all.iter().any(|other| other.is_unspecified() && other.is_ipv4() == address.is_ipv4())
        };
        let all = addresses.clone();
        addresses.retain(|address| !covered(address, &all));
        addresses.sort();
    }
    ports
}

/// The name that a site is asked by: its first plain one, else one of a wildcard, else (for a default site) an address.
fn asked_name(key: &str, host: &VirtualHost, addresses: &[IpAddr]) -> Option<String> {
    let names = nginx::server_names(key, host);
    let plain = names.iter().copied().filter(|name| !name.contains('*')).find_map(asked);
    let any = || names.iter().copied().find_map(asked);
    let address = || {
        let address = addresses.first().filter(|_| host.default)?;
        Some(match address {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(address) if address.is_unspecified() => format!("[{}]", Ipv6Addr::LOCALHOST),
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        })
    };
    plain.or_else(any).or_else(address)
}

/// A name as it can be asked for: `*.a.example`, `.a.example` and `www.*` have one label put in, `_` and `~…` cannot be.
fn asked(name: &str) -> Option<String> {
    if name == "_" || name.starts_with('~') {
        return None;
    }
    let name = match name.strip_prefix('.') {
        // A leading dot is the name itself and everything below it.
        Some(name) => name.to_owned(),
        None => name.replace('*', ANY_LABEL),
    };
    name.to_ascii_lowercase().parse::<Domain>().ok().map(|name| name.to_string())
}

fn of_declared(server: &Server, declared: &Declared) -> Result<Probe, PlanError> {
    let url = declared.url.clone();
    let target = match site_at(server, url.host(), url.port())? {
        Some(addresses) => Target::Site { addresses },
        None => {
            let is_it = |app: &&(&Name, &App)| url.is_loopback() && app.1.port == Some(url.port());
            match server.apps.iter().collect::<Vec<_>>().iter().find(is_it) {
                Some((app, _)) => Target::App { app: (*app).clone() },
                None => Target::Name {},
            }
        }
    };
    let expected = Expected::Declared {
        status: declared.status,
        body: declared.body.clone(),
        response_time: declared.response_time,
        certificate_days: declared.certificate_days,
    };
    Ok(Probe { url, target, expected, from: declared.from.clone(), timing: declared.timing })
}

/// What the site of this name listens on with this port, if there is such a site.
fn site_at(server: &Server, name: &str, port: Port) -> Result<Option<Vec<IpAddr>>, PlanError> {
    if !server.nginx.enable {
        return Ok(None);
    }
    for (key, host) in &server.nginx.virtual_hosts {
        if nginx::server_names(key, host).iter().any(|known| means(known, name))
            && let Some((_, addresses)) = by_port(&nginx::places(key, host)?).remove(&port.number())
        {
            return Ok(Some(addresses));
        }
    }
    Ok(None)
}

/// Whether nginx would take this host for that `server_name`, regular expressions apart.
fn means(known: &str, name: &str) -> bool {
    let known = known.to_ascii_lowercase();
    if let Some(rest) = known.strip_prefix("*.") {
        return name.strip_suffix(rest).is_some_and(|label| label.len() > 1 && label.ends_with('.'));
    }
    if let Some(rest) = known.strip_prefix('.') {
        return name == rest || name.strip_suffix(rest).is_some_and(|label| label.ends_with('.'));
    }
    match known.strip_suffix(".*") {
        Some(start) => name.strip_prefix(start).is_some_and(|label| label.len() > 1 && label.starts_with('.')),
        None => known == name,
    }
}

/// The name by which visitors reach an app: that of the first site which passes requests on to it.
pub(crate) fn host_of_app(server: &Server, app: &App) -> Option<Domain> {
    let port = app.port?.number();
    let leads = |host: &VirtualHost| {
        host.locations
            .values()
            .filter_map(|location| location.proxy_pass.as_deref())
            .any(|to| own_port(to) == Some(port))
    };
    let sites = server.nginx.virtual_hosts.iter().filter(|(_, host)| server.nginx.enable && leads(host));
    sites.filter_map(|(key, host)| nginx::server_names(key, host).into_iter().find_map(asked)?.parse().ok()).next()
}

/// The port of the server itself that a `proxyPass` leads to.
fn own_port(target: &str) -> Option<u16> {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"))?;
    let authority = rest.split(['/', '?', '$']).next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':')?;
    ["127.0.0.1", "localhost", "[::1]"].contains(&host).then(|| port.parse().ok()).flatten()
}

/// What is legal but may be a mistake: a `proxyPass` to a port of the server that nothing declares.
pub fn warnings(server: &Server) -> Vec<String> {
    let mut warnings = Vec::new();
    if !server.nginx.enable {
        return warnings;
    }
    for (key, host) in &server.nginx.virtual_hosts {
        for (place, location) in &host.locations {
            let Some(port) = location.proxy_pass.as_deref().and_then(own_port) else { continue };
            if !is_declared(server, port) {
                warnings.push(format!(
                    "services.nginx.virtualHosts.\"{key}\".locations.\"{place}\".proxyPass: nothing that is declared listens on \
                     port {port}; that is right only if a program listens there that Stead does not know"
                ));
            }
        }
    }
    warnings
}

/// Whether an app, a site, or the words of a service have this port.
fn is_declared(server: &Server, port: u16) -> bool {
    let of_app = server.apps.values().any(|app| app.port.is_some_and(|known| known.number() == port));
    let of_site = server
        .nginx
        .virtual_hosts
        .iter()
        .any(|(key, host)| nginx::places(key, host).unwrap_or_default().iter().any(|known| known.port == port));
    let number = port.to_string();
    let names = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|word| word == number);
    let of_service = server.services.values().any(|service| {
        serde_json::to_string(&(&service.environment, &service.service_config)).is_ok_and(|text| names(&text))
    });
    of_app || of_site || of_service
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fixture, location, site};
    use stead_model::server::{Health, HealthCheck, Listen, SiteCertificate, SiteTls};

    fn probes(fixture: &Fixture) -> Probes {
        fixture.plan().generation.probes
    }

    fn listen(address: &str, port: u16) -> Listen {
        Listen { address: address.to_owned(), port: Port::new(port).unwrap(), ssl: false }
    }

    fn declared(url: &str) -> Declared {
        Declared {
            url: url.parse().unwrap(),
            status: None,
            body: None,
            response_time: None,
            certificate_days: None,
            from: [Side::Server].into(),
            timing: OF_SITE,
        }
    }

    #[test]
    fn every_site_is_asked_by_its_name_from_both_sides() {
        let fixture = Fixture::two_sites();
        let probes = probes(&fixture);
        assert_eq!(probes.keys().collect::<Vec<_>>(), ["site billtracker.site", "site nick.example"]);
        let probe = &probes["site nick.example"];
        assert_eq!(probe.url.to_string(), "http://nick.example/");
        assert_eq!(probe.from, [Side::Server, Side::Operator].into());
        let addresses = vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
        assert_eq!(probe.target, Target::Site { addresses });
    }

    #[test]
    fn a_site_with_tls_is_asked_over_it_and_in_clear_where_it_answers_there() {
        let mut fixture = Fixture::two_sites();
        let name: Domain = "nick.example".parse().unwrap();
        for (use_, urls) in [
            (TlsUse::Force, vec!["https://nick.example/", "http://nick.example/"]),
            (TlsUse::Only, vec!["https://nick.example/"]),
        ] {
            let certificate =
                SiteCertificate::Files { certificate: "/etc/own/a.pem".into(), key: "/etc/own/a.key".into() };
            fixture.site("nick.example").tls = Some(SiteTls { use_, certificate: Some(certificate) });
            let probes = probes(&fixture);
            let of_site = probes.values().filter(|probe| probe.url.host() == name.as_str());
            assert_eq!(of_site.map(|probe| probe.url.to_string()).collect::<Vec<_>>(), urls);
        }
        fixture.site("nick.example").tls = Some(SiteTls { use_: TlsUse::Reject, certificate: None });
        assert!(probes(&fixture).values().all(|probe| probe.url.scheme() == Scheme::Http));
    }

    #[test]
    fn names_that_cannot_be_asked_for_are_left_out_and_a_wildcard_has_a_label_put_in() {
        let mut fixture = Fixture::two_sites();
        fixture.server.nginx.virtual_hosts.clear();
        for (key, default) in
            [("*.a.example", false), (".b.example", false), ("www.*", false), ("~^c\\d", false), ("_", true)]
        {
            fixture.server.nginx.virtual_hosts.insert(key.to_owned(), site(&[]));
            fixture.site(key).default = default;
        }
        let urls: Vec<String> = probes(&fixture).values().map(|probe| probe.url.to_string()).collect();
        assert_eq!(
            urls,
            ["http://stead-probe.a.example/", "http://b.example/", "http://127.0.0.1/", "http://www.stead-probe/"]
        );
    }

    #[test]
    fn each_port_of_a_site_is_asked_once() {
        let mut fixture = Fixture::two_sites();
        fixture.site("nick.example").listen =
            vec![listen("0.0.0.0", 80), listen("192.0.2.7", 80), listen("[::1]", 8080)];
        let probes = probes(&fixture);
        let (one, other) = (&probes["site nick.example:80"], &probes["site nick.example:8080"]);
        assert_eq!(one.target, Target::Site { addresses: vec!["0.0.0.0".parse().unwrap()] });
        assert_eq!(other.url.to_string(), "http://nick.example:8080/");
        assert_eq!(other.target, Target::Site { addresses: vec!["::1".parse().unwrap()] });
    }

    #[test]
    fn a_declared_probe_goes_to_the_site_the_app_or_whatever_the_name_is() {
        let mut fixture = Fixture::two_sites();
        for (name, url) in [
            ("site", "http://www.nick.example/about"),
            ("app", "http://127.0.0.1:4000/health"),
            ("port", "http://nick.example:9000/"),
        ] {
            fixture.server.probes.insert(name.parse().unwrap(), declared(url));
        }
        let probes = probes(&fixture);
        assert!(matches!(probes["probe site"].target, Target::Site { .. }));
        assert_eq!(probes["probe app"].target, Target::App { app: "bill-tracker".parse().unwrap() });
        assert_eq!(probes["probe port"].target, Target::Name {});
        assert!(!probes["probe site"].is_implicit() && probes["site nick.example"].is_implicit());
    }

    #[test]
    fn a_generation_without_probes_is_written_as_before_there_were_any() {
        let mut fixture = Fixture::two_sites();
        fixture.server.nginx.virtual_hosts.clear();
        let text = serde_json::to_string(&fixture.plan().generation).unwrap();
        assert!(!text.contains("probes"), "{text}");
    }

    #[test]
    fn a_health_check_asks_by_the_name_of_the_site_that_leads_to_the_app() {
        let mut fixture = Fixture::two_sites();
        let host = |fixture: &Fixture| {
            let units = fixture.plan().generation.units;
            let health = units.into_values().find_map(|unit| match unit.role {
                stead_model::generation::Role::App { health, .. } => health,
                _ => None,
            });
            match health {
                Some(Health { check: HealthCheck::Http { host, .. }, .. }) => host.map(|host| host.to_string()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(host(&fixture).as_deref(), Some("billtracker.site"));
        fixture.site("billtracker.site").locations.clear();
        assert_eq!(host(&fixture), None);
    }

    #[test]
    fn a_proxy_to_a_port_that_nothing_declares_is_told() {
        let mut fixture = Fixture::two_sites();
        assert_eq!(warnings(&fixture.server), [""; 0]);
        let mut proxied = location();
        proxied.proxy_pass = Some("http://127.0.0.1:9100/x".to_owned());
        fixture.site("nick.example").locations.insert("/x".to_owned(), proxied.clone());
        let told = warnings(&fixture.server);
        assert!(
            told.len() == 1 && told[0].contains("9100") && told[0].contains("locations.\"/x\".proxyPass"),
            "{told:?}"
        );
        proxied.proxy_pass = Some("http://192.0.2.1:9100".to_owned());
        fixture.site("nick.example").locations.insert("/x".to_owned(), proxied);
        assert_eq!(warnings(&fixture.server), [""; 0]);
    }
}
