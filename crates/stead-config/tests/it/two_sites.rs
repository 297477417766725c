//! The project of the design becomes exactly the server that it describes.

use crate::common::{DESIGN, Files};

#[test]
fn the_project_of_the_design_becomes_its_server() {
    let files = Files::new(DESIGN);
    let project = files.load().unwrap();
    assert_eq!(project.description, "BillTracker server deployment");
    let urls: Vec<&str> = project.inputs.values().map(|input| input.url.as_str()).collect();
    assert_eq!(urls, ["path:../BillTracker", "debian:bookworm", "path:../portfolio"]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&files.server()).unwrap());
}

#[test]
fn an_override_in_one_module_reaches_what_another_derives_from_it() {
    let server = Files::new(DESIGN).server();
    let app = server.apps.values().next().unwrap();
    assert_eq!(app.environment.values().next_back().map(String::as_str), Some("4100"));
    assert_eq!(app.port.map(|port| port.number()), Some(4100));
}

#[test]
fn the_example_of_this_repository_becomes_a_server() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/two-sites");
    let project = stead_config::load(&root).unwrap();
    let place = |input: &stead_config::InputDeclaration| Some(root.join(input.url.strip_prefix("path:")?));
    let sources = project.inputs.iter().filter_map(|(name, input)| Some((name.clone(), place(input)?))).collect();
    let servers = project.servers(&sources).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    let server = &servers["billtracker"];
    let sites: Vec<&str> = server.nginx.virtual_hosts.keys().map(String::as_str).collect();
    assert_eq!(sites, ["billtracker.localhost", "portfolio.localhost"]);
    let app = &server.apps["bill-tracker"];
    assert_eq!(app.source, "/@stead/inputs/billtracker");
    assert!(app.build.is_some() && app.health.is_some() && app.port.is_some());
}

#[test]
fn evaluation_of_the_project_costs_little_more_than_that_of_an_empty_one() {
    let empty = Files::with_module("{}");
    let full = Files::new(DESIGN);
    let time = |files: &Files| {
        let mut times: Vec<_> = (0..5)
            .map(|_| {
                let start = std::time::Instant::now();
                files.server();
                start.elapsed()
            })
            .collect();
        times.sort();
        times[0]
    };
    let (empty, full) = (time(&empty), time(&full));
    eprintln!("empty {empty:?}, two sites {full:?}");
    assert!(full < empty * 4, "empty {empty:?}, two sites {full:?}");
}
