//! The example is what the readme says: complete, as small as the system that it is modelled on, real
//! input, and evaluated to the server that it describes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use stead_model::server::{HealthCheck, Server};
use xtask::portfolio;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-sites")
}

fn server() -> Server {
    let project = stead_config::load(&example()).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    let sources: BTreeMap<_, _> = ["billtracker", "portfolio"]
        .map(|name| {
            let folder = project.inputs[name].url.strip_prefix("path:").expect("a folder");
            (name.parse().expect("a name"), example().join(folder))
        })
        .into();
    let mut servers = project.servers(&sources).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    servers.remove("billtracker").expect("the one server")
}

#[test]
fn the_example_is_no_longer_than_the_system_that_it_is_modelled_on() {
    let text = |name: &str| fs::read_to_string(example().join(name)).unwrap();
    let limits = [("stead.ncl", 37), ("hosts/billtracker/configuration.ncl", 33), ("modules/server.ncl", 127)];
    for (name, limit) in limits {
        let lines = text(name).lines().count();
        assert!(lines <= limit, "{name} has {lines} lines, not {limit}");
    }
    let server = text("modules/server.ncl");
    let options = server.lines().skip_while(|line| !line.starts_with("  services.bill-tracker = {"));
    assert_eq!(options.take_while(|line| *line != "  },").count() + 1, 7);
}

#[test]
fn the_example_is_evaluated_to_two_sites_an_app_and_a_timer() {
    let server = server();
    let sites: Vec<&str> = server.nginx.virtual_hosts.keys().map(String::as_str).collect();
    assert_eq!(sites, ["billtracker.localhost", "portfolio.localhost"]);
    assert!(server.nginx.enable);
    assert_eq!(server.nginx.virtual_hosts["portfolio.localhost"].root.as_deref(), Some("/@stead/inputs/portfolio"));
    let certified: Vec<&str> = server.acme.certificates.keys().map(|name| name.as_str()).collect();
    assert_eq!(certified, sites);
    let app = &server.apps["bill-tracker"];
    assert_eq!(app.source, "/@stead/inputs/billtracker");
    assert_eq!(app.port.map(|port| port.number()), Some(4000));
    assert_eq!(app.environment["TICK"], "1000");
    assert_eq!(app.environment["HOST"], "billtracker.localhost");
    let check = &app.health.as_ref().unwrap().check;
    assert!(matches!(check, HealthCheck::Http { path, .. } if path == "/health"), "{check:?}");
    assert!(server.services.contains_key("load-report"));
    assert!(server.timers.contains_key("load-report"));
}

#[test]
fn the_working_copy_is_an_input_of_two_hundred_files_though_git_ignores_its_place() {
    // Below the build's own folder, which git ignores: as the demo has it.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let copy = folder.path().join("two-sites");
    portfolio::prepare(&example(), &copy).unwrap();
    let site = stead_inputs::folder::snapshot(&copy.join("portfolio"), None).unwrap().tree;
    assert!((190..=230).contains(&site.entries.len()), "{} files", site.entries.len());
    assert!((18_000_000..24_000_000).contains(&site.size()), "{} bytes", site.size());
    let app = stead_inputs::folder::snapshot(&copy.join("BillTracker"), None).unwrap().tree;
    let paths: Vec<String> = app.entries.keys().map(ToString::to_string).collect();
    assert!(paths.contains(&"mix.exs".to_owned()) && paths.contains(&"rel/vm.args.eex".to_owned()), "{paths:?}");
}
