//! Promises of apps.

use crate::testing::{Fixture, app, file, name, tree};
use stead_model::server::Strategy;

fn unit(fixture: &Fixture) -> String {
    file(&fixture.plan(), "units/stead-bill-tracker@", ".service")
}

#[test]
fn a_command_that_is_not_in_the_release_is_refused() {
    let mut fixture = Fixture::two_sites();
    fixture.app().exec = "bin/bil_tracker start".to_owned();
    assert_eq!(fixture.error(), "apps.bill-tracker.exec: `bin/bil_tracker` is not in the release");
    fixture.app().exec = "bin/notes".to_owned();
    assert!(fixture.error().contains("is not an executable file"));
    fixture.app().exec = "bin".to_owned();
    assert!(fixture.error().contains("is not an executable file"));
    fixture.app().exec = "/@stead/releases/bill-tracker/bin/gone".to_owned();
    assert!(fixture.error().contains("`bin/gone` is not in the release"));
}

#[test]
fn a_command_cannot_change_how_systemd_runs_it() {
    for exec in [
        "+bin/bill_tracker",
        "-bin/bill_tracker",
        "!bin/bill_tracker",
        "bin/bill_tracker ; reboot",
        "bin/bill_tracker\nUser=root",
        "",
        "\"bin/x\"",
    ] {
        let mut fixture = Fixture::two_sites();
        fixture.app().exec = exec.to_owned();
        assert!(fixture.error().starts_with("apps.bill-tracker.exec: "), "{exec}");
    }
}

#[test]
fn percent_signs_are_not_specifiers_and_variables_are_variables() {
    let mut fixture = Fixture::two_sites();
    fixture.app().exec = "./bin/bill_tracker --port $PORT --rate 5%n".to_owned();
    assert!(unit(&fixture).contains("/bin/bill_tracker --port $PORT --rate 5%%n\n"), "{}", unit(&fixture));
}

#[test]
fn a_program_of_packages_needs_packages() {
    let mut fixture = Fixture::two_sites();
    fixture.app().exec = "/usr/bin/python3 app.py".to_owned();
    assert!(unit(&fixture).contains("ExecStart=/usr/bin/python3 app.py\n"));
    fixture.app().packages.clear();
    assert!(fixture.error().contains("`apps.bill-tracker.packages` is empty"));
}

#[test]
fn an_app_without_packages_needs_no_pin() {
    let mut fixture = Fixture::two_sites();
    fixture.app().packages.clear();
    assert!(unit(&fixture).contains("ExecStart=/var/lib/stead/trees/"));
}

#[test]
fn an_app_without_a_build_runs_from_its_source() {
    let mut fixture = Fixture::two_sites();
    fixture.server.apps.insert(name("worker"), app("/@stead/inputs/billtracker/tools", "bin/run", None));
    let text = file(&fixture.plan(), "units/stead-worker@", ".service");
    let folder = format!("/var/lib/stead/trees/{}/tools", fixture.trees["billtracker"].id());
    assert!(text.contains(&format!("WorkingDirectory={folder}\nExecStart={folder}/bin/run\n")), "{text}");
    assert!(!text.contains("EnvironmentFile"));
    fixture.server.apps.get_mut("worker").unwrap().source = "/@stead/inputs/billtracker/tool".to_owned();
    assert_eq!(fixture.error(), "apps.worker.source: the input has no folder `tool`");
    fixture.server.apps.get_mut("worker").unwrap().source = "../somewhere".to_owned();
    assert!(fixture.error().contains("is not a folder of an input"));
}

#[test]
fn a_build_has_to_be_handed_in() {
    let mut fixture = Fixture::two_sites();
    fixture.releases.clear();
    assert_eq!(fixture.error(), "apps.bill-tracker.build: the release has not been built");
}

#[test]
fn two_apps_cannot_have_one_port() {
    let mut fixture = Fixture::two_sites();
    fixture.server.apps.insert(name("worker"), app("/@stead/inputs/billtracker", "bin/run", Some(4000)));
    assert_eq!(fixture.error(), "apps.bill-tracker.port and apps.worker.port are both 4000");
}

#[test]
fn an_environment_keeps_its_values_to_the_letter() {
    let mut fixture = Fixture::two_sites();
    fixture.app().environment.insert("LINES".parse().unwrap(), "a\nb\t'c'".to_owned());
    assert!(unit(&fixture).contains("Environment=\"LINES=a\\nb\\t'c'\"\n"));
    fixture.app().environment.insert("BELL".parse().unwrap(), "\u{7}".to_owned());
    assert!(fixture.error().starts_with("apps.bill-tracker.environment.BELL: "));
}

#[test]
fn a_declared_variable_replaces_the_one_given() {
    let mut fixture = Fixture::two_sites();
    assert!(unit(&fixture).contains("Environment=\"HOME=/var/lib/stead-state/bill-tracker\"\n"));
    fixture.app().environment.insert("HOME".parse().unwrap(), "/srv".to_owned());
    assert_eq!(unit(&fixture).matches("HOME=").count(), 1);
}

#[test]
fn an_app_may_wait_for_another_app_or_service() {
    let mut fixture = Fixture::two_sites();
    fixture.server.apps.insert(name("worker"), app("/@stead/inputs/billtracker", "bin/run", None));
    fixture.app().requires = vec!["worker.service".parse().unwrap()];
    fixture.app().after = vec!["stead-clean.service".parse().unwrap(), "postgresql.service".parse().unwrap()];
    let planned = fixture.plan();
    let worker = planned.generation.units.keys().find(|unit| unit.as_str().starts_with("stead-worker@")).unwrap();
    let text = unit(&fixture);
    assert!(
        text.contains(&format!(
            "After=network.target postgresql.service stead-clean.service {worker}\nRequires={worker}\n"
        )),
        "{text}"
    );
}

#[test]
fn apps_that_wait_for_each_other_are_refused() {
    let mut fixture = Fixture::two_sites();
    let mut worker = app("/@stead/inputs/billtracker", "bin/run", None);
    worker.after = vec!["bill-tracker.service".parse().unwrap()];
    fixture.server.apps.insert(name("worker"), worker);
    fixture.app().after = vec!["worker.service".parse().unwrap()];
    assert!(fixture.error().contains("in a circle"));
}

#[test]
fn names_of_stead_itself_and_of_services_are_taken() {
    for taken in ["nginx", "epoch", "clean"] {
        let mut fixture = Fixture::two_sites();
        fixture.server.apps.insert(name(taken), app("/@stead/inputs/billtracker", "bin/run", None));
        assert!(fixture.try_plan().is_err(), "{taken}");
    }
}

#[test]
fn a_strategy_is_no_reason_for_another_instance() {
    let mut fixture = Fixture::two_sites();
    let before = unit(&fixture);
    fixture.app().strategy = Strategy::Restart;
    assert_eq!(before, unit(&fixture));
}

#[test]
fn a_limit_is_an_amount() {
    let mut fixture = Fixture::two_sites();
    fixture.app().limits.memory_max = Some("1G\nUser=root".to_owned());
    assert!(fixture.error().starts_with("apps.bill-tracker.limits.memoryMax: "));
    fixture.app().limits.memory_max = Some("a lot".to_owned());
    assert!(fixture.error().contains("is not an amount"));
}

#[test]
fn a_command_behind_a_link_is_left_to_the_server() {
    let mut fixture = Fixture::two_sites();
    let mut release = tree(&[("lib/start*", "x")]);
    release.entries.insert("bin".parse().unwrap(), stead_model::tree::Entry::Link("lib".to_owned()));
    fixture.releases.insert(name("bill-tracker"), release);
    fixture.app().exec = "bin/start".to_owned();
    assert!(unit(&fixture).contains("/bin/start\n"));
}

#[test]
fn a_health_check_over_the_network_needs_a_port() {
    let mut fixture = Fixture::two_sites();
    fixture.app().port = None;
    assert_eq!(
        fixture.error(),
        "apps.bill-tracker.health: asks over the network, but `apps.bill-tracker.port` is not set"
    );
}

#[test]
fn what_an_app_needs_is_left_to_it_by_name() {
    let mut fixture = Fixture::two_sites();
    let before = unit(&fixture);
    assert!(before.contains("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged\n"), "{before}");
    fixture.app().unprotected = vec!["SystemCallFilter".to_owned(), "ProtectHome".to_owned()];
    let after = unit(&fixture);
    assert!(!after.contains("SystemCallFilter") && !after.contains("ProtectHome"), "{after}");
    assert!(after.contains("ProtectSystem=strict\n"), "{after}");
    fixture.app().unprotected = vec!["ProtectHomes".to_owned()];
    assert!(
        fixture.error().starts_with("apps.bill-tracker.unprotected: `ProtectHomes` is nothing"),
        "{}",
        fixture.error()
    );
}
