//! Generations for the tests of the engine, told apart by the texts that they are made of.
//!
//! They hold what the engine looks at, and nothing that could be run.

use super::FIREWALL;
use crate::effects::Pair;
use stead_model::generation::{Generation, Role, Unit};
use stead_model::hash::Hash;
use stead_model::name::Port;
use stead_model::probe::{Expected, Probe, Side, Target, Timing};
use stead_model::server::{Health, Strategy};

fn digest(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

/// A generation with a socket, nginx, an app, and a service, told apart by the texts given.
pub(crate) fn generation(
    app: &str,
    strategy: Strategy,
    nginx: &str,
    configuration: &str,
    service: Option<&str>,
) -> Generation {
    let mut generation = Generation::empty("test".parse().unwrap());
    let mut add = |name: String, digest: Hash, role: Role| {
        let unit = Unit { digest, reload_digest: None, role, start: true };
        generation.units.insert(name.parse().unwrap(), unit);
    };
    add("stead-nginx-80.socket".into(), digest("80"), Role::Socket { listen: Vec::new() });
    let unit = format!("stead-nginx@{nginx}.service");
    add(unit.clone(), digest(nginx), Role::Nginx {});
    let health = Health {
        check: stead_model::server::HealthCheck::Tcp {},
        interval: 1000,
        timeout: 5000,
        deadline: 30_000,
        passes: 2,
        soak: Health::SOAK,
    };
    let role = Role::App {
        app: "web".parse().unwrap(),
        port: Port::new(4000),
        port_variable: "PORT".into(),
        health: Some(health),
        strategy,
        drain: stead_model::server::App::DRAIN,
    };
    add(format!("stead-web@{app}.service"), digest(app), role);
    if let Some(service) = service {
        add("stead-queue.service".into(), digest(service), Role::Service {});
        generation.users.insert("stead-queue".parse().unwrap());
    }
    generation.users.insert("stead-web".parse().unwrap());
    generation.nginx = Some(stead_model::generation::NginxPart {
        runtime: digest("runtime"),
        unit: unit.parse().unwrap(),
        configuration: digest(configuration),
        binds: Vec::new(),
        drain: stead_model::server::App::DRAIN,
    });
    generation.probes.insert("site a.example".to_owned(), site("http://a.example/"));
    generation
}

/// The generation with a firewall of these rules, whose unit has this text.
pub(crate) fn guarded(mut generation: Generation, rules: &str, text: &str) -> Generation {
    let unit = Unit { digest: digest(text), reload_digest: Some(digest(rules)), role: Role::Firewall {}, start: true };
    generation.units.insert(FIREWALL.parse().unwrap(), unit);
    generation
}

/// The generation with a database: its server, what that reads again, and what makes roles in it.
pub(crate) fn with_database(mut generation: Generation, server: &str, configuration: &str, roles: &str) -> Generation {
    let mut add = |name: &str, text: &str, reload: &str| {
        let unit =
            Unit { digest: digest(text), reload_digest: Some(digest(reload)), role: Role::Database {}, start: true };
        generation.units.insert(name.parse().unwrap(), unit);
    };
    add("stead-postgresql.service", server, configuration);
    add("stead-postgresql-setup.service", "setup", roles);
    generation
}

/// What a site is asked.
fn site(url: &str) -> Probe {
    Probe {
        url: url.parse().unwrap(),
        target: Target::Site { addresses: Vec::new() },
        expected: Expected::Served {},
        from: [Side::Server, Side::Operator].into(),
        timing: Timing { interval: 250, timeout: 5000, deadline: 3000, passes: 2 },
    }
}

/// The pair of two generations, as an activation has it.
pub(crate) fn pair<'a>(parent: &'a Generation, candidate: &'a Generation) -> Pair<'a> {
    let parent_id = (!parent.units.is_empty()).then(|| parent.id());
    Pair { parent, parent_id, candidate, candidate_id: candidate.id() }
}
