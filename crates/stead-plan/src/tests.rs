//! Promises of a whole plan.

use crate::testing::{Fixture, everything, file, is_whole, name, text, tree};
use crate::{build_key, runtime_keys, steps};
use proptest::prelude::{any, prop_assert_eq, proptest};
use stead_model::generation::{Generation, Role};
use stead_model::layout;
use stead_model::name::Port;

#[test]
fn two_sites_become_these_files() {
    insta::assert_snapshot!(everything(&Fixture::two_sites().plan()));
}

#[test]
fn two_sites_become_this_generation() {
    let mut generation = Fixture::two_sites().plan().generation;
    generation.files.entries.clear();
    insta::assert_snapshot!(serde_json::to_string_pretty(&generation).unwrap());
}

#[test]
fn two_sites_start_with_these_steps() {
    let generation = Fixture::two_sites().plan().generation;
    let words: Vec<String> =
        steps(&Generation::empty(name("billtracker")), &generation).iter().map(crate::describe).collect();
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn planning_twice_is_the_same_bytes() {
    let fixture = Fixture::two_sites();
    let (one, two) = (fixture.plan(), fixture.clone().plan());
    assert_eq!(one, two);
    assert_eq!(one.generation.id(), two.generation.id());
    assert!(is_whole(&one));
}

#[test]
fn no_placeholder_gets_into_a_generation() {
    let planned = Fixture::two_sites().plan();
    assert!(!everything(&planned).contains("/@stead/"));
    assert_eq!(planned.generation.trees.values().collect::<Vec<_>>().len(), 2);
}

#[test]
fn a_generation_does_not_contain_its_own_identity() {
    let planned = Fixture::two_sites().plan();
    assert!(!everything(&planned).contains(&planned.generation.id().to_string()));
}

#[test]
fn a_changed_page_reloads_nginx_and_touches_nothing_else() {
    let mut fixture = Fixture::two_sites();
    let before = fixture.plan().generation;
    fixture.input("portfolio", tree(&[("index.html", "hello again"), ("404.html", "no")]));
    let after = fixture.plan().generation;
    let words: Vec<String> = steps(&before, &after).iter().map(crate::describe).collect();
    assert_eq!(words, ["reload nginx with its new configuration"]);
    assert_eq!(before.runtimes, after.runtimes);
}

#[test]
fn a_changed_app_needs_no_other_runtime() {
    let mut fixture = Fixture::two_sites();
    let before = fixture.plan().generation;
    fixture.releases.insert(name("bill-tracker"), tree(&[("bin/bill_tracker*", "start better")]));
    let after = fixture.plan().generation;
    assert_eq!(before.runtimes, after.runtimes);
    assert_eq!(steps(&before, &after).len(), 4);
}

#[test]
fn a_changed_port_is_a_changed_unit() {
    let mut fixture = Fixture::two_sites();
    let before = fixture.plan().generation;
    fixture.app().port = Port::new(4001);
    let unit = |generation: &Generation| {
        generation.units.iter().find(|(_, unit)| matches!(unit.role, Role::App { .. })).unwrap().0.clone()
    };
    assert_ne!(unit(&before), unit(&fixture.plan().generation));
}

#[test]
fn every_mount_point_is_planned() {
    let planned = Fixture::two_sites().plan();
    let app = planned.generation.runtimes.values().find(|runtime| runtime.label == "app bill-tracker").unwrap();
    for folder in [&layout::TREES[1..], "var/lib/stead-state/bill-tracker", "proc", "tmp"] {
        assert!(app.mount_folders.contains(&folder.parse().unwrap()), "{folder}");
    }
    assert!(app.mount_files.contains(&"etc/resolv.conf".parse().unwrap()));
}

#[test]
fn a_server_needs_the_runtimes_of_builds_too() {
    const BUILD: &str = "debian/amd64/coreutils,dash,elixir,findutils,grep,sed";
    let fixture = Fixture::two_sites();
    let keys: Vec<String> = runtime_keys(&fixture.server).iter().map(ToString::to_string).collect();
    assert_eq!(keys, [BUILD, "debian/amd64/dash,libc6", "debian/amd64/findutils", "debian/amd64/nginx"]);
    let app = &fixture.server.apps["bill-tracker"];
    assert_eq!(build_key(&fixture.server, app).unwrap().to_string(), BUILD);
}

#[test]
fn a_pin_that_is_missing_names_the_option_and_the_command() {
    let mut fixture = Fixture::two_sites();
    fixture.lock.runtimes.remove("debian/amd64/nginx");
    assert_eq!(
        fixture.error(),
        "services.nginx.packages: `debian/amd64/nginx` is not in stead.lock; run `stead update`"
    );
}

#[test]
fn a_folder_that_is_not_the_locked_one_is_refused() {
    let mut fixture = Fixture::two_sites();
    fixture.trees.insert(name("portfolio"), tree(&[("index.html", "edited")]));
    assert!(fixture.error().starts_with("inputs.portfolio: the folder has changed"));
}

#[test]
fn placeholders_of_nothing_are_refused() {
    let mut fixture = Fixture::two_sites();
    fixture.place().root = Some("/@stead/inputs/portfolo".to_owned());
    assert_eq!(
        fixture.error(),
        "services.nginx.virtualHosts.\"nick.example\".locations.\"/\".root: there is no input `portfolo` with a folder of its own"
    );
    fixture.place().root = Some("/@stead/releases/shop/public".to_owned());
    assert!(fixture.error().contains("there is no app `shop`"));
    fixture.place().root = Some("/@stead/secrets/key".to_owned());
    assert!(fixture.error().contains("a secret would be readable for everybody here"));
    fixture.place().root = Some("/@stead/moons/io".to_owned());
    assert!(fixture.error().contains("`/@stead/moons/io` is not supported by this version"));
}

#[test]
fn a_service_has_to_run_something_and_a_timer_to_start_something() {
    let mut fixture = Fixture::two_sites();
    fixture.server.services.get_mut("clean").unwrap().service_config.remove("ExecStart");
    assert_eq!(fixture.error(), "systemd.services.clean.serviceConfig: `ExecStart` is missing");
    fixture.server.services.clear();
    assert_eq!(fixture.error(), "systemd.timers.clean: there is no systemd.services.clean that it could start");
}

#[test]
fn a_setting_cannot_become_another_line() {
    let mut fixture = Fixture::two_sites();
    let config = &mut fixture.server.services.get_mut("clean").unwrap().service_config;
    config.insert("ExecStart".to_owned(), text("/bin/true\nUser=root"));
    assert!(fixture.error().contains("has a line break"), "{}", fixture.error());
    let config = &mut fixture.server.services.get_mut("clean").unwrap().service_config;
    config.insert("ExecStart".to_owned(), text("/bin/true \\"));
    assert!(fixture.error().contains("would join the next line"));
    let config = &mut fixture.server.services.get_mut("clean").unwrap().service_config;
    config.insert("ExecStart".to_owned(), text("/bin/true"));
    config.insert("User=x\nX".to_owned(), text("y"));
    assert!(fixture.error().contains("is not a setting of systemd"));
}

#[test]
fn a_service_names_declared_runtimes_only() {
    let mut fixture = Fixture::two_sites();
    fixture.server.services.get_mut("clean").unwrap().runtime = Some(name("tool"));
    assert_eq!(fixture.error(), "systemd.services.clean.runtime: there is no runtime `tool`");
}

#[test]
fn what_a_service_mounts_is_planned() {
    let mut fixture = Fixture::two_sites();
    let config = &mut fixture.server.services.get_mut("clean").unwrap().service_config;
    config.insert("StateDirectory".to_owned(), text("clean more"));
    config.insert("BindPaths".to_owned(), text("/srv/data:/data -/etc/ssl/own.pem /run/x"));
    config.insert("TemporaryFileSystem".to_owned(), text("/var/scratch:mode=0700"));
    let planned = fixture.plan();
    let runtime = planned.generation.runtimes.values().find(|runtime| runtime.label == "service clean").unwrap();
    for folder in ["var/lib/clean", "var/lib/more", "data", "var/scratch"] {
        assert!(runtime.mount_folders.contains(&folder.parse().unwrap()), "{folder}");
    }
    assert!(runtime.mount_files.contains(&"etc/ssl/own.pem".parse().unwrap()));
    assert!(!runtime.mount_folders.contains(&"run/x".parse().unwrap()));
}

#[test]
fn a_service_that_runs_once_can_be_told_from_one_that_never_ran() {
    let mut fixture = Fixture::two_sites();
    fixture.server.services.get_mut("clean").unwrap().wanted_by = vec!["multi-user.target".parse().unwrap()];
    let unit = |fixture: &Fixture| file(&fixture.plan(), "units/stead-clean", ".service");
    assert!(!unit(&fixture).contains("RemainAfterExit"));
    fixture.server.timers.clear();
    assert!(unit(&fixture).contains("RemainAfterExit=yes\n"));
    assert!(fixture.plan().generation.units["stead-clean.service"].start);
}

#[test]
fn a_service_with_its_own_root_has_no_runtime() {
    let mut fixture = Fixture::two_sites();
    let config = &mut fixture.server.services.get_mut("clean").unwrap().service_config;
    config.insert("RootDirectory".to_owned(), text("/srv/root"));
    assert!(fixture.error().contains("cannot be set beside `runtime`"));
}

#[test]
fn services_of_the_declaration_are_meant_by_their_names() {
    let mut fixture = Fixture::two_sites();
    let clean = fixture.server.services.get_mut("clean").unwrap();
    clean.after = vec!["bill-tracker.service".parse().unwrap(), "ssh.service".parse().unwrap()];
    let planned = fixture.plan();
    let app = planned.generation.units.keys().find(|unit| unit.as_str().starts_with("stead-bill-tracker@")).unwrap();
    assert!(file(&planned, "units/stead-clean", ".service").contains(&format!("After=ssh.service {app}\n")));
}

proptest! {
    #[test]
    fn every_port_and_delay_can_be_planned(port in 1024u16.., delay in any::<u32>(), state in any::<bool>()) {
        let mut fixture = Fixture::two_sites();
        fixture.app().port = Port::new(port);
        fixture.app().restart.delay = delay;
        fixture.app().state_directory = state;
        let planned = fixture.plan();
        prop_assert_eq!(&planned, &fixture.plan());
        prop_assert_eq!(steps(&planned.generation, &planned.generation), []);
    }
}
