//! Promises of the steps between two generations.

use super::*;
use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_assert_ne, prop_oneof, proptest};
use proptest::strategy::Strategy as Values;
use stead_model::generation::NginxPart;
use stead_model::hash::Hash;
use stead_model::name::Port;

fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

fn unit(content: &str, role: Role) -> Unit {
    Unit { digest: Hash::of(content.as_bytes()), reload_digest: None, role, start: true }
}

fn app(strategy: Strategy) -> Role {
    Role::App {
        app: "shop".parse().unwrap(),
        port: Port::new(4000),
        port_variable: "PORT".to_owned(),
        health: None,
        strategy,
        drain: 30,
    }
}

fn socket() -> Role {
    Role::Socket { listen: vec![Listen { address: "0.0.0.0".to_owned(), port: Port::new(80).unwrap(), ssl: false }] }
}

fn generation(units: &[(&str, Unit)]) -> Generation {
    let mut generation = Generation::empty("web".parse().unwrap());
    generation.units = units.iter().map(|(unit, value)| (name(unit), value.clone())).collect();
    generation.nginx =
        generation.units.iter().find(|(_, unit)| matches!(unit.role, Role::Nginx {})).map(|(name, unit)| NginxPart {
            runtime: Hash::of(b"runtime"),
            unit: name.clone(),
            configuration: unit.reload_digest.unwrap_or(unit.digest),
            binds: Vec::new(),
            drain: 30,
        });
    generation
}

fn words(from: &Generation, to: &Generation) -> Vec<String> {
    steps(from, to).iter().map(describe).collect()
}

fn whole(app_content: &str, nginx: &str) -> Generation {
    let instance = format!("stead-shop@{}.service", Hash::of(app_content.as_bytes()).short());
    let mut proxy = unit("nginx", Role::Nginx {});
    proxy.reload_digest = Some(Hash::of(nginx.as_bytes()));
    generation(&[
        ("stead-nginx-80.socket", unit("socket", socket())),
        ("stead-nginx@1.service", proxy),
        (&instance, unit(app_content, app(Strategy::Beside))),
        ("stead-clean.service", Unit { start: false, ..unit("clean", Role::Service {}) }),
        ("stead-clean.timer", unit("timer", Role::Timer {})),
    ])
}

#[test]
fn the_first_generation_starts_everything_in_order() {
    insta::assert_snapshot!(words(&Generation::empty("web".parse().unwrap()), &whole("a", "n")).join("\n"), @r"
    hand the new units to systemd
    start shop (stead-shop@17762fdd.service)
    start stead-clean.timer
    listen on 0.0.0.0:80 (stead-nginx-80.socket)
    start nginx (stead-nginx@1.service)
    ");
}

#[test]
fn taking_everything_away_stops_what_could_start_something_first() {
    insta::assert_snapshot!(words(&whole("a", "n"), &Generation::empty("web".parse().unwrap())).join("\n"), @r"
    hand the new units to systemd
    stop stead-clean.timer
    stop listening on 0.0.0.0:80 (stead-nginx-80.socket)
    let stead-nginx@1.service drain and end
    let stead-shop@17762fdd.service drain and end
    stop stead-clean.service
    ");
}

#[test]
fn a_changed_app_starts_beside_the_old_one_and_nobody_notices() {
    let all = steps(&whole("a", "n"), &whole("b", "n"));
    assert!(all.iter().all(|step| step.pause() == Pause::None), "{all:?}");
    insta::assert_snapshot!(all.iter().map(describe).collect::<Vec<_>>().join("\n"), @r"
    hand the new units to systemd
    start the new shop beside the old one (stead-shop@10e5cf3d.service)
    point nginx to the new instances
    let stead-shop@17762fdd.service drain and end
    ");
}

#[test]
fn a_changed_configuration_is_a_reload_alone() {
    assert_eq!(words(&whole("a", "n"), &whole("a", "m")), ["reload nginx with its new configuration"]);
}

#[test]
fn an_app_that_cannot_run_twice_is_stopped_first_and_only_once() {
    let old = generation(&[("stead-shop@1.service", unit("a", app(Strategy::Restart)))]);
    let new = generation(&[("stead-shop@2.service", unit("b", app(Strategy::Restart)))]);
    let all = steps(&old, &new);
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[1].pause(), Pause::Short);
}

#[test]
fn a_new_nginx_lets_the_old_one_drain_and_leaves_the_sockets_alone() {
    let old = generation(&[
        ("stead-nginx-80.socket", unit("for 1", socket())),
        ("stead-nginx@1.service", unit("1", Role::Nginx {})),
    ]);
    let new = generation(&[
        ("stead-nginx-80.socket", unit("for 2", socket())),
        ("stead-nginx@2.service", unit("2", Role::Nginx {})),
    ]);
    insta::assert_snapshot!(words(&old, &new).join("\n"), @r"
    hand the new units to systemd
    start the new nginx on the same sockets, let the old one drain (stead-nginx@2.service)
    ");
}

#[test]
fn a_service_that_only_its_timer_starts_is_left_alone_when_it_changes() {
    let by_hand =
        |content| generation(&[("stead-clean.service", Unit { start: false, ..unit(content, Role::Service {}) })]);
    assert_eq!(steps(&by_hand("a"), &by_hand("b")), [Step::ReloadSystemd]);
}

#[test]
fn a_changed_service_is_restarted_and_a_changed_configuration_reloaded() {
    let service = |content, configuration: &str| {
        let changed =
            Unit { reload_digest: Some(Hash::of(configuration.as_bytes())), ..unit(content, Role::Service {}) };
        generation(&[("stead-s.service", changed)])
    };
    assert_eq!(steps(&service("a", "1"), &service("a", "2")), [Step::Reload { unit: name("stead-s.service") }]);
    assert!(steps(&service("a", "1"), &service("b", "2")).contains(&Step::Restart { unit: name("stead-s.service") }));
}

fn any_generation() -> impl Values<Value = Generation> {
    let roles = prop_oneof![
        Just(("stead-a.service", Role::Service {})),
        Just(("stead-b.service", Role::Service {})),
        Just(("stead-a.timer", Role::Timer {})),
        Just(("stead-nginx-80.socket", socket())),
        Just(("stead-nginx@1.service", Role::Nginx {})),
        Just(("stead-nginx@2.service", Role::Nginx {})),
        Just(("stead-shop@1.service", app(Strategy::Beside))),
        Just(("stead-shop@2.service", app(Strategy::Restart))),
    ];
    let one = (roles, "[ab]", any::<bool>(), "[ab]");
    proptest::collection::vec(one, 0..8).prop_map(|all| {
        // A generation has one nginx.
        let mut has_nginx = false;
        let one_nginx = |role: &Role| !matches!(role, Role::Nginx {}) || !std::mem::replace(&mut has_nginx, true);
        let all: Vec<_> =
            all.into_iter().scan(one_nginx, |fits, one| Some(fits(&one.0.1).then_some(one))).flatten().collect();
        let units: Vec<(&str, Unit)> = all
            .into_iter()
            .map(|((name, role), content, start, reload)| {
                (name, Unit { start, reload_digest: Some(Hash::of(reload.as_bytes())), ..unit(&content, role) })
            })
            .collect();
        generation(&units)
    })
}

proptest! {
    #[test]
    fn nothing_to_do_between_equals(generation in any_generation()) {
        prop_assert_eq!(steps(&generation, &generation), []);
    }

    #[test]
    fn equal_units_are_never_touched(from in any_generation(), to in any_generation()) {
        for step in steps(&from, &to) {
            let Some(unit) = step.unit() else { continue };
            if matches!(step, Step::ReloadNginx { .. }) {
                continue; // Reloaded for a new instance of an app, with no change of its own.
            }
            prop_assert_ne!(from.units.get(unit), to.units.get(unit), "{:?}", step);
        }
    }

    #[test]
    fn steps_come_in_the_order_of_their_moments(from in any_generation(), to in any_generation()) {
        let moments: Vec<Moment> = steps(&from, &to).iter().map(Step::moment).collect();
        prop_assert!(moments.is_sorted());
    }

    #[test]
    fn nothing_that_is_wanted_is_stopped(from in any_generation(), to in any_generation()) {
        for step in steps(&from, &to) {
            if let Step::Stop { unit, .. } | Step::StopSocket { unit, .. } = &step {
                prop_assert!(to.units.get(unit).is_none_or(|unit| !unit.start));
            }
        }
    }
}

#[test]
fn a_certificate_that_is_new_or_asked_for_in_another_way_is_told_and_the_same_one_is_not() {
    use stead_model::certificate::LETS_ENCRYPT;
    let with = |names: &[&str]| {
        let mut generation = whole("one", "c1");
        let certificate = crate::testing::authority(names);
        generation.certificates.insert("a.example".parse().unwrap(), certificate);
        generation
    };
    assert_eq!(
        words(&whole("one", "c1"), &with(&["a.example"])),
        [format!("get the certificate for a.example, if it is not there, from {LETS_ENCRYPT}")]
    );
    assert_eq!(words(&with(&["a.example"]), &with(&["a.example"])), Vec::<String>::new());
    assert_eq!(words(&with(&["a.example"]), &with(&["a.example", "b.example"])).len(), 1);
}
