//! The probes of a generation, asked on the server itself.
//!
//! Says where each connection goes from here: to nginx by loopback or by the address that a site
//! listens on, to the port that an app's live instance has, or to what a name resolves to. Tells each
//! answer to whoever follows the activation.

use crate::activation::{Folder, Journal, Line};
use crate::server;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use stead_engine::effects::Patience;
use stead_host::probing::{self, Asking, Route};
use stead_model::activation::Phase;
use stead_model::generation::{Generation, Role};
use stead_model::name::Name;
use stead_model::probe::{Answered, Probe, Probes, Side, Target};
use stead_remote::message::Event;

/// How long a site may take behind something of which nobody knows when it is ready.
const STARTING: Duration = Duration::from_secs(30);

/// Asks every probe that is the server's own, and compares failures with what was broken before the switch.
pub(crate) fn ask(folder: &Folder, journal: &Journal, generation: &Generation, patience: Patience) -> Vec<Answered> {
    let is_on_trial = journal.record.phase == Phase::OnTrial;
    let compared = |answered: &Answered| answered.clone().compared(&journal.broken_before);
    let asking = Asking {
        side: Side::Server,
        patience: match patience {
            Patience::Once => probing::Patience::Once,
            Patience::AsSaid => probing::Patience::AsSaid,
            Patience::Starting => probing::Patience::AtLeast(STARTING),
        },
        route: &|probe| route(generation, probe),
        is_over: &|| is_on_trial && folder.was_told("cancel"),
        tell: &|answered| {
            // What is looked at before the switch is compared with, and proves nothing.
            if patience != Patience::Once {
                folder.tell(&Line::Event(Event::Probe(compared(answered))));
            }
        },
    };
    probing::ask_all(&generation.probes, &asking).iter().map(compared).collect()
}

/// The probes for the operator's side, as patient as the server's own.
pub(crate) fn of_operator(generation: &Generation, patience: Patience) -> Probes {
    let of_operator = generation.probes.iter().filter(|(_, probe)| probe.from.contains(&Side::Operator));
    let mut probes: Probes = of_operator.map(|(label, probe)| (label.clone(), probe.clone())).collect();
    if patience == Patience::Starting {
        let least = u32::try_from(STARTING.as_millis()).unwrap_or(u32::MAX);
        for probe in probes.values_mut().filter(|probe| probe.is_implicit()) {
            probe.timing.deadline = probe.timing.deadline.max(least);
        }
    }
    probes
}

fn route(generation: &Generation, probe: &Probe) -> Route {
    let port = probe.url.port().number();
    match &probe.target {
        Target::Site { addresses } => {
            let own = addresses.iter().map(|address| match address {
                IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                address => *address,
            });
            // One is asked: they lead to one socket or to one nginx.
            Route::To(own.take(1).map(|address| SocketAddr::new(address, port)).collect())
        }
        Target::App { app } => {
            let port = live_port(generation, app).unwrap_or(port);
            Route::To(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)])
        }
        Target::Name {} => match probing::resolve(probe.url.host(), port) {
            Ok(addresses) => Route::To(addresses),
            Err(why) => Route::Unknown(why),
        },
    }
}

/// The port of the instance of an app that this generation runs.
fn live_port(generation: &Generation, wanted: &Name) -> Option<u16> {
    let is_it = |role: &Role| matches!(role, Role::App { app, .. } if app == wanted);
    let (unit, _) = generation.units.iter().find(|(_, unit)| is_it(&unit.role))?;
    server::instance_port(unit).map(|port| port.number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::probe::{Expected, Timing};

    fn probe(url: &str, target: Target, expected: Expected) -> Probe {
        let timing = Timing { interval: 250, timeout: 5000, deadline: 3000, passes: 1 };
        Probe { url: url.parse().unwrap(), target, expected, from: [Side::Server, Side::Operator].into(), timing }
    }

    fn site(addresses: &[&str]) -> Probe {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        probe("http://a.example:8080/", Target::Site { addresses }, Expected::Served {})
    }

    #[test]
    fn a_site_is_asked_by_loopback_or_at_the_address_that_it_listens_on() {
        let generation = Generation::empty("web".parse().unwrap());
        for (addresses, wanted) in
            [(&["0.0.0.0", "::"][..], "127.0.0.1:8080"), (&["::"], "[::1]:8080"), (&["192.0.2.7"], "192.0.2.7:8080")]
        {
            assert_eq!(route(&generation, &site(addresses)), Route::To(vec![wanted.parse().unwrap()]));
        }
        let mut secure = site(&["0.0.0.0", "::"]);
        secure.url = "https://a.example/".parse().unwrap();
        assert_eq!(route(&generation, &secure), Route::To(vec!["127.0.0.1:443".parse().unwrap()]));
        let app = Target::App { app: "shop".parse().unwrap() };
        let of_app = probe("http://localhost:4000/", app, Expected::Served {});
        assert_eq!(route(&generation, &of_app), Route::To(vec!["127.0.0.1:4000".parse().unwrap()]));
    }

    #[test]
    fn the_operators_side_is_asked_what_is_for_it_and_only_sites_get_more_time() {
        let mut generation = Generation::empty("web".parse().unwrap());
        let declared = Expected::Declared { status: None, body: None, response_time: None, certificate_days: None };
        let mut of_server = site(&["0.0.0.0"]);
        of_server.from = [Side::Server].into();
        generation.probes = [
            ("site a".to_owned(), site(&["0.0.0.0"])),
            ("probe b".to_owned(), probe("http://b.example/", Target::Name {}, declared)),
            ("probe c".to_owned(), of_server),
        ]
        .into();
        let deadlines = |patience| {
            let probes = of_operator(&generation, patience).into_iter();
            probes.map(|(label, probe)| (label, probe.timing.deadline)).collect::<Vec<_>>()
        };
        assert_eq!(deadlines(Patience::AsSaid), [("probe b".to_owned(), 3000), ("site a".to_owned(), 3000)]);
        assert_eq!(deadlines(Patience::Starting), [("probe b".to_owned(), 3000), ("site a".to_owned(), 30_000)]);
    }
}
