//! Where nginx listens: addresses by port, each port one socket unit, and who is the default there.
//!
//! On a port with a wildcard address, nginx tells the other addresses of that family apart by
//! itself, so only the wildcard is a socket. Where one site speaks TLS, no other speaks in clear.

use crate::error::PlanError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stead_model::certificate::Source;
use stead_model::hash::Hash;
use stead_model::name::Port;
use stead_model::server::{Listen, Server, TlsUse, VirtualHost};

/// The port of a site in clear that does not say one, and the one that authorities ask on.
pub(super) const HTTP: u16 = 80;
/// The port of a site with TLS that does not say one.
pub(super) const HTTPS: u16 = 443;

/// One address and port that a site listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) address: IpAddr,
    /// Whether TLS is spoken there.
    pub(crate) tls: bool,
}

/// What is known of one address and port.
#[derive(Debug)]
struct Known {
    tls: bool,
    /// The first site there; `None`: Stead itself, for authorities.
    first: Option<String>,
    default: Option<String>,
}

/// Everything that the sites listen on.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    places: BTreeMap<(u16, IpAddr), Known>,
}

impl Listeners {
    /// The addresses of all sites.
    ///
    /// # Errors
    /// For an address that is none, two sites with one name or two defaults at one address, one
    /// address with TLS and without, and a port that an app has.
    pub(super) fn of(server: &Server) -> Result<Self, PlanError> {
        let mut listeners = Self::default();
        let mut names: BTreeMap<((u16, IpAddr), String), &str> = BTreeMap::new();
        for (key, host) in &server.nginx.virtual_hosts {
            for place in places(key, host)? {
                let at = (place.port, place.address);
                let new = || Known { tls: place.tls, first: Some(key.clone()), default: None };
                let known = listeners.places.entry(at).or_insert_with(new);
                if known.tls != place.tls {
                    let first = known.first.clone().unwrap_or_default();
                    return Err(PlanError::MixedTls { first, second: key.clone(), listen: written(at) });
                }
                if let (true, Some(first)) = (host.default, known.default.as_ref()) {
                    return Err(PlanError::TwoDefaults {
                        first: first.clone(),
                        second: key.clone(),
                        listen: written(at),
                    });
                }
                if host.default {
                    known.default = Some(key.clone());
                }
                for name in server_names(key, host) {
                    let name = name.to_lowercase();
                    if let Some(first) = names.insert((at, name.clone()), key) {
                        let (first, second) = (first.to_owned(), key.clone());
                        return Err(PlanError::SameSite { first, second, name, listen: written(at) });
                    }
                }
                let taken =
                    server.apps.iter().find(|(_, app)| app.port.is_some_and(|port| port.number() == place.port));
                if let Some((app, _)) = taken {
                    return Err(PlanError::PortOfNginx { app: app.clone(), site: key.clone(), port: place.port });
                }
            }
        }
        let asks_authorities =
            server.acme.certificates.values().any(|certificate| matches!(certificate.source, Source::Authority(_)));
        if asks_authorities {
            listeners.answer_authorities(server)?;
        }
        Ok(listeners)
    }

    /// Authorities ask on port 80 (RFC 8555, section 8.3), whatever the sites listen on.
    fn answer_authorities(&mut self, server: &Server) -> Result<(), PlanError> {
        const WHY: &str = "is where authorities ask about certificates, over plain HTTP: take another port";
        if let Some((app, _)) = server.apps.iter().find(|(_, app)| app.port.is_some_and(|port| port.number() == HTTP)) {
            return Err(PlanError::bad(format!("apps.{app}.port"), "80", WHY));
        }
        if let Some(site) = self.places.iter().find(|((port, _), known)| *port == HTTP && known.tls) {
            let site = site.1.first.clone().unwrap_or_default();
            return Err(PlanError::bad(format!("services.nginx.virtualHosts.\"{site}\".listen"), "80", WHY));
        }
        for address in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let new = Known { tls: false, first: None, default: None };
            self.places.entry((HTTP, address)).or_insert(new);
        }
        Ok(())
    }

    /// The socket units: name without suffix, and what each listens on.
    pub(super) fn sockets(&self) -> BTreeMap<String, Vec<Listen>> {
        let mut ports: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for (port, address) in self.places.keys() {
            ports.entry(*port).or_default().insert(*address);
        }
        ports.into_iter().map(|(port, addresses)| socket(port, &addresses)).collect()
    }

    /// Where no site is the default: addresses in clear, or those with TLS.
    pub(super) fn without_default(&self, tls: bool) -> impl Iterator<Item = String> + '_ {
        let is_meant = move |known: &Known| known.default.is_none() && known.tls == tls;
        self.places.iter().filter(move |(_, known)| is_meant(known)).map(|(place, _)| written(*place))
    }
}

/// The names that a site answers to, its main one first.
pub(crate) fn server_names<'a>(key: &'a str, host: &'a VirtualHost) -> Vec<&'a str> {
    let main = host.server_name.as_deref().unwrap_or(key);
    let mut names = vec![main];
    for alias in &host.server_aliases {
        if !names.contains(&alias.as_str()) {
            names.push(alias);
        }
    }
    names
}

/// Every port and address that a site listens on, in clear first.
pub(crate) fn places(key: &str, host: &VirtualHost) -> Result<Vec<Place>, PlanError> {
    let option = |name: &str| format!("services.nginx.virtualHosts.\"{key}\".{name}");
    let parse = |name: &str, text: &str| -> Result<IpAddr, PlanError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let bare = if bare == "*" { "0.0.0.0" } else { bare };
        bare.parse().map_err(|_| PlanError::bad(option(name), text, "is not an address, such as `0.0.0.0` or `[::]`"))
    };
    let use_ = host.tls.as_ref().map(|tls| tls.use_);
    let mut places = Vec::new();
    if host.listen.is_empty() {
        let mut addresses = Vec::new();
        for address in &host.listen_addresses {
            addresses.push(parse("listenAddresses", address)?);
        }
        if addresses.is_empty() {
            addresses = vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        }
        let ports = [(HTTP, false, use_ != Some(TlsUse::Only)), (HTTPS, true, use_.is_some())];
        for (port, tls, _) in ports.into_iter().filter(|(_, _, is_wanted)| *is_wanted) {
            places.extend(addresses.iter().map(|address| Place { port, address: *address, tls }));
        }
    }
    for listen in &host.listen {
        let address = parse("listen", &listen.address)?;
        places.push(Place { port: listen.port.number(), address, tls: listen.ssl });
    }
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert((place.port, place.address, place.tls)));
    let twice = |place: &Place| !place.tls && seen.contains(&(place.port, place.address, true));
    let problem = if use_.is_none() && places.iter().any(|place| place.tls) {
        Some("has `ssl = true`, but the site has no TLS: set `addSSL`, `forceSSL` or `onlySSL`")
    } else if use_.is_some() && !places.iter().any(|place| place.tls) {
        Some("has no place with `ssl = true`, but the site has TLS")
    } else if places.iter().any(twice) {
        Some("has one place with `ssl = true` and without")
    } else {
        None
    };
    match problem {
        Some(problem) => Err(PlanError::bad(option("listen"), &listed(&host.listen), problem)),
        None => Ok(places),
    }
}

fn listed(listen: &[Listen]) -> String {
    listen.iter().map(|one| format!("{}:{}", one.address, one.port)).collect::<Vec<_>>().join(", ")
}

/// Address and port, as nginx and systemd write them.
pub(super) fn written((port, address): (u16, IpAddr)) -> String {
    format!("{}:{port}", text(address))
}

fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn socket(port: u16, addresses: &BTreeSet<IpAddr>) -> (String, Vec<Listen>) {
    let covered = |address: &IpAddr| {
        !address.is_unspecified()
            && addresses.iter().any(|other| other.is_unspecified() && other.is_ipv4() == address.is_ipv4())
    };
    let bound: Vec<IpAddr> = addresses.iter().copied().filter(|address| !covered(address)).collect();
    let number = Port::new(port).expect("ports of sites are not 0");
    let listen = bound.iter().map(|address| Listen { address: text(*address), port: number, ssl: false }).collect();
    let everywhere = bound == [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    // The name says what it listens on, so that a socket never has to change under its name.
    let name = if everywhere {
        format!("stead-nginx-{port}")
    } else {
        format!("stead-nginx-{port}-{}", Hash::of_value("stead nginx socket 1", &listen).short())
    };
    (name, listen)
}
