//! Where nginx listens: addresses by port, each port one socket unit, and who is the default there.
//!
//! On a port with a wildcard address, nginx tells the other addresses of that family apart by
//! itself, so only the wildcard is a socket.

use crate::error::PlanError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stead_model::hash::Hash;
use stead_model::name::Port;
use stead_model::server::{Listen, Server, VirtualHost};

/// The port of a site that does not say one.
const HTTP: u16 = 80;

/// Everything that the sites listen on.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// For each address and port, whether a site is the default there.
    defaults: BTreeMap<(u16, IpAddr), Option<String>>,
}

impl Listeners {
    /// The addresses of all sites.
    ///
    /// # Errors
    /// For an address that is none, two sites with one name or two defaults at one address, and a
    /// port that an app has.
    pub(super) fn of(server: &Server) -> Result<Self, PlanError> {
        let mut listeners = Self::default();
        let mut names: BTreeMap<((u16, IpAddr), String), &str> = BTreeMap::new();
        for (key, host) in &server.nginx.virtual_hosts {
            for place in places(key, host)? {
                let default = listeners.defaults.entry(place).or_default();
                if let (true, Some(first)) = (host.default, default.as_ref()) {
                    return Err(PlanError::TwoDefaults {
                        first: first.clone(),
                        second: key.clone(),
                        listen: written(place),
                    });
                }
                if host.default {
                    *default = Some(key.clone());
                }
                for name in server_names(key, host) {
                    let name = name.to_lowercase();
                    if let Some(first) = names.insert((place, name.clone()), key) {
                        let (first, second) = (first.to_owned(), key.clone());
                        return Err(PlanError::SameSite { first, second, name, listen: written(place) });
                    }
                }
                let taken = server.apps.iter().find(|(_, app)| app.port.is_some_and(|port| port.number() == place.0));
                if let Some((app, _)) = taken {
                    return Err(PlanError::PortOfNginx { app: app.clone(), site: key.clone(), port: place.0 });
                }
            }
        }
        Ok(listeners)
    }

    /// The socket units: name without suffix, and what each listens on.
    pub(super) fn sockets(&self) -> BTreeMap<String, Vec<Listen>> {
        let mut ports: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for (port, address) in self.defaults.keys() {
            ports.entry(*port).or_default().insert(*address);
        }
        ports.into_iter().map(|(port, addresses)| socket(port, &addresses)).collect()
    }

    /// The arguments of `listen` where no site is the default.
    pub(super) fn without_default(&self) -> impl Iterator<Item = String> + '_ {
        self.defaults.iter().filter(|(_, default)| default.is_none()).map(|(place, _)| written(*place))
    }

    /// The arguments of `listen` of a site.
    pub(super) fn of_site(&self, key: &str, host: &VirtualHost) -> Result<Vec<String>, PlanError> {
        Ok(places(key, host)?.into_iter().map(written).collect())
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

/// Every port and address that a site listens on.
pub(crate) fn places(key: &str, host: &VirtualHost) -> Result<Vec<(u16, IpAddr)>, PlanError> {
    if host.listen.is_empty() {
        return Ok(vec![(HTTP, Ipv4Addr::UNSPECIFIED.into()), (HTTP, Ipv6Addr::UNSPECIFIED.into())]);
    }
    let mut places = Vec::new();
    for listen in &host.listen {
        let text = listen.address.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&listen.address);
        let text = if text == "*" { "0.0.0.0" } else { text };
        let option = || format!("services.nginx.virtualHosts.\"{key}\".listen");
        let address = text
            .parse()
            .map_err(|_| PlanError::bad(option(), &listen.address, "is not an address, such as `0.0.0.0` or `[::]`"))?;
        let place = (listen.port.number(), address);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok(places)
}

/// Address and port, as nginx and systemd write them.
fn written((port, address): (u16, IpAddr)) -> String {
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
    let listen = bound.iter().map(|address| Listen { address: text(*address), port: number }).collect();
    let everywhere = bound == [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    // The name says what it listens on, so that a socket never has to change under its name.
    let name = if everywhere {
        format!("stead-nginx-{port}")
    } else {
        format!("stead-nginx-{port}-{}", Hash::of_value("stead nginx socket 1", &listen).short())
    };
    (name, listen)
}
