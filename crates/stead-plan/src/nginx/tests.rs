//! Promises of nginx's configuration.

use crate::testing::{Fixture, app, file, location, name, site};
use stead_model::name::Port;
use stead_model::server::{Listen, Location, Upstream};

const OPTION: &str = "services.nginx.virtualHosts.\"nick.example\"";

fn portfolio(fixture: &Fixture) -> String {
    file(&fixture.plan(), "nginx/sites/nick.example", ".conf")
}

fn listen(address: &str, port: u16) -> Listen {
    Listen { address: address.to_owned(), port: Port::new(port).unwrap(), ssl: false }
}

#[test]
fn locations_come_by_priority_then_name() {
    let mut fixture = Fixture::two_sites();
    let early = Location { return_: Some("204".to_owned()), priority: 10, ..location() };
    fixture.site("nick.example").locations.insert("^~ /early".to_owned(), early);
    let text = portfolio(&fixture);
    let places: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("location ")).collect();
    assert_eq!(places, ["^~ /early {", "~* \\.(png|jpe?g)$ {", "/ {", "= /github {"]);
}

#[test]
fn values_cannot_leave_their_directive() {
    let values = ["$uri; } server {", "$uri\nroot /;", "$uri {", "'open", "a # b"];
    for value in values {
        let mut fixture = Fixture::two_sites();
        fixture.place().try_files = Some(value.to_owned());
        assert!(fixture.error().starts_with(&format!("{OPTION}.locations.\"/\".tryFiles: ")), "{value}");
    }
    let mut fixture = Fixture::two_sites();
    fixture.place().proxy_pass = Some("http://a; }".to_owned());
    assert!(fixture.error().starts_with(&format!("{OPTION}.locations.\"/\".proxyPass: ")));
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").server_aliases = vec!["a; listen 1".to_owned()];
    assert!(fixture.error().starts_with(&format!("{OPTION}: ")));
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").locations.insert("/a { return 200; } location /b".to_owned(), location());
    let text = portfolio(&fixture);
    assert!(text.contains("location \"/a { return 200; } location /b\" {"), "{text}");
    let mut fixture = Fixture::two_sites();
    fixture.server.nginx.client_max_body_size = "10m; }".to_owned();
    assert!(fixture.error().starts_with("services.nginx.clientMaxBodySize: "));
}

#[test]
fn a_place_that_nginx_would_not_know_is_refused() {
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").locations.insert("github".to_owned(), location());
    assert!(fixture.error().contains("is not a location"));
}

#[test]
fn the_declared_port_of_an_app_means_its_live_instance() {
    for (target, expected) in [
        ("http://localhost:4000/api/", "http://stead-bill-tracker/api/"),
        ("http://127.0.0.1:4000", "http://$stead_to_bill_tracker"),
        ("http://127.0.0.1:4000$request_uri", "http://stead-bill-tracker$request_uri"),
        ("http://[::1]:4000", "http://$stead_to_bill_tracker"),
        ("http://127.0.0.1:40000", "http://127.0.0.1:40000"),
        ("http://10.0.0.1:4000", "http://10.0.0.1:4000"),
        ("https://127.0.0.1:4000", "https://127.0.0.1:4000"),
    ] {
        let mut fixture = Fixture::two_sites();
        fixture.place().proxy_pass = Some(target.to_owned());
        assert!(portfolio(&fixture).contains(&format!("proxy_pass {expected};")), "{target}");
    }
}

#[test]
fn unknown_names_get_404_unless_a_site_is_the_default() {
    let mut fixture = Fixture::two_sites();
    assert!(
        file(&fixture.plan(), "nginx/sites/@unknown", ".conf")
            .contains("listen 0.0.0.0:80 default_server;\n    listen [::]:80 default_server;")
    );
    fixture.site("nick.example").default = true;
    assert!(portfolio(&fixture).contains("listen 0.0.0.0:80 default_server;"));
    assert!(fixture.plan().generation.files.get("nginx/sites/@unknown.conf").is_none());
    fixture.site("billtracker.site").default = true;
    assert!(fixture.error().contains("default are both true on 0.0.0.0:80"));
}

#[test]
fn one_name_has_one_site_at_an_address() {
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").server_aliases.push("BillTracker.site".to_owned());
    assert!(fixture.error().contains("both answer to `billtracker.site` on 0.0.0.0:80"), "{}", fixture.error());
    fixture.site("nick.example").listen = vec![listen("0.0.0.0", 8081)];
    assert!(fixture.try_plan().is_ok());
}

#[test]
fn every_port_is_one_socket_and_every_address_one_descriptor() {
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").listen =
        vec![listen("10.0.0.1", 8081), listen("[::1]", 8081), listen("0.0.0.0", 80), listen("10.0.0.1", 80)];
    let planned = fixture.plan();
    let sockets: Vec<&str> =
        planned.generation.units.keys().map(|unit| unit.as_str()).filter(|unit| unit.ends_with(".socket")).collect();
    assert_eq!(sockets.len(), 3, "{sockets:?}");
    let text = file(&planned, "units/stead-nginx@", ".service");
    assert!(text.contains("Environment=NGINX=3;4;5;6;7;\n"), "{text}");
    let socket = file(&planned, "units/stead-nginx-8081-", ".socket");
    assert!(socket.contains("ListenStream=10.0.0.1:8081\nListenStream=[::1]:8081\n"), "{socket}");
}

#[test]
fn an_address_is_an_address_and_a_port_of_an_app_is_not_nginxs() {
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").listen = vec![listen("eth0", 80)];
    assert!(fixture.error().contains("is not an address"));
    fixture.site("nick.example").listen = vec![listen("0.0.0.0", 4000)];
    assert!(fixture.error().contains("on which nginx listens"));
}

#[test]
fn a_changed_site_does_not_change_the_instance() {
    let mut fixture = Fixture::two_sites();
    let before = fixture.plan().generation;
    fixture.place().extra_config = "expires 1h;".to_owned();
    let after = fixture.plan().generation;
    let (one, two) = (before.nginx.unwrap(), after.nginx.unwrap());
    assert_eq!((one.unit, one.runtime), (two.unit, two.runtime));
    assert_ne!(one.configuration, two.configuration);
}

#[test]
fn nginx_answers_with_the_hash_of_its_configuration() {
    let planned = Fixture::two_sites().plan();
    let expected =
        format!("return 200 \"{} $stead_epoch\\n\";", planned.generation.nginx.as_ref().unwrap().configuration);
    assert!(file(&planned, "nginx/status", ".conf").contains(&expected));
}

#[test]
fn a_folder_of_the_server_is_bound_and_recorded() {
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").root = Some("/var/www/nick".to_owned());
    fixture.place().alias = Some("/srv/files/$host/x".to_owned());
    let generation = fixture.plan().generation;
    let folders: Vec<(&str, &str)> =
        generation.host_folders.iter().map(|(path, option)| (path.as_str(), option.as_str())).collect();
    let (alias, root) = (format!("{OPTION}.locations.\"/\".alias"), format!("{OPTION}.root"));
    assert_eq!(folders, [("/srv/files", alias.as_str()), ("/var/www/nick", root.as_str())]);
    let part = generation.nginx.as_ref().unwrap();
    assert!(part.binds.contains(&"/var/www/nick".to_owned()));
    assert!(generation.runtimes[&part.runtime].mount_folders.contains(&"var/www/nick".parse().unwrap()));
    let text = file(&fixture.plan(), "units/stead-nginx@", ".service");
    assert!(text.contains(" /srv/files /var/www/nick "), "{text}");
}

#[test]
fn folders_that_would_show_the_whole_server_are_refused() {
    for folder in ["/", "/var", "/var/lib/stead/objects", "/proc/1", "/var/www/../..", "www", "/$host"] {
        let mut fixture = Fixture::two_sites();
        fixture.site("nick.example").root = Some(folder.to_owned());
        assert!(fixture.error().starts_with(&format!("{OPTION}.root: ")), "{folder}");
    }
}

#[test]
fn a_redirect_takes_the_whole_site() {
    let mut fixture = Fixture::two_sites();
    fixture.site("nick.example").global_redirect = Some("other.example:8443".to_owned());
    assert!(fixture.error().contains("cannot be beside `globalRedirect`"));
    fixture.site("nick.example").locations.remove("/");
    assert!(portfolio(&fixture).contains("return 301 $scheme://other.example:8443$request_uri;"));
    fixture.site("nick.example").redirect_code = 200;
    assert!(fixture.error().contains("redirectCode"));
}

#[test]
fn upstreams_and_lines_of_ones_own_are_kept() {
    let mut fixture = Fixture::two_sites();
    let servers =
        [("127.0.0.1:9000".to_owned(), "weight=2".to_owned()), ("unix:/run/x.sock".to_owned(), String::new())].into();
    fixture.server.nginx.upstreams.insert(name("pool"), Upstream { servers, extra_config: "least_conn;".to_owned() });
    fixture.server.nginx.append_http_config = "map $a $b {\n    default 1;\n}".to_owned();
    let text = file(&fixture.plan(), "nginx/nginx", ".conf");
    assert!(text.contains("    upstream pool {\n        server 127.0.0.1:9000 weight=2;\n        server unix:/run/x.sock;\n        least_conn;\n    }\n"), "{text}");
    assert!(text.contains("    map $a $b {\n        default 1;\n    }\n"), "{text}");
}

#[test]
fn a_root_that_the_input_does_not_have_is_refused() {
    let mut fixture = Fixture::two_sites();
    let root = fixture.site("nick.example").root.clone().unwrap();
    fixture.site("nick.example").root = Some(format!("{root}/nowhere"));
    let error = fixture.error();
    assert!(error.contains("root") && error.contains("does not have"), "{error}");
}

#[test]
fn a_group_cannot_name_an_apps_port_which_its_instances_leave() {
    let mut fixture = Fixture::two_sites();
    let servers = [("127.0.0.1:4000".to_owned(), String::new())].into();
    fixture.server.nginx.upstreams.insert(name("pool"), Upstream { servers, extra_config: String::new() });
    let error = fixture.error();
    assert!(error.contains("upstreams.pool.servers") && error.contains("proxyPass"), "{error}");
}

#[test]
fn modules_are_loaded_in_an_order_that_works() {
    let mut fixture = Fixture::two_sites();
    let packages = ["nginx", "libnginx-mod-stream-geoip", "libnginx-mod-stream", "libnginx-mod-http-echo"];
    fixture.server.nginx.packages = packages.iter().map(|package| package.parse().unwrap()).collect();
    fixture.pin(&packages);
    let text = file(&fixture.plan(), "nginx/nginx", ".conf");
    let loaded: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("include /usr/share/nginx/modules-available/")).collect();
    assert_eq!(loaded, ["mod-stream.conf;", "mod-http-echo.conf;", "mod-stream-geoip.conf;"]);
}

#[test]
fn a_server_without_nginx_has_none() {
    let mut fixture = Fixture::two_sites();
    fixture.server.nginx.enable = false;
    let generation = fixture.plan().generation;
    assert!(generation.nginx.is_none());
    assert!(generation.units.keys().all(|unit| !unit.as_str().contains("nginx")));
}

#[test]
fn files_of_odd_sites_have_plain_names() {
    let mut fixture = Fixture::two_sites();
    fixture.server.nginx.virtual_hosts.insert("*.nick.example".to_owned(), site(&[]));
    let planned = fixture.plan();
    assert!(file(&planned, "nginx/sites/__.nick.example-", ".conf").contains("server_name *.nick.example;"));
}

#[test]
fn an_app_without_a_site_still_has_an_upstream() {
    let mut fixture = Fixture::two_sites();
    fixture.server.apps.insert(name("other"), app("/@stead/inputs/billtracker", "bin/run", Some(5000)));
    let upstream = file(&fixture.plan(), "run/upstreams/other", ".conf");
    assert!(upstream.starts_with("upstream stead-other { server 127.0.0.1:5000; }\n"), "{upstream}");
}

#[test]
fn a_replaced_instance_is_asked_only_where_a_variable_makes_no_difference() {
    let mut fixture = Fixture::two_sites();
    fixture.place().proxy_pass = Some("http://127.0.0.1:4000".to_owned());
    assert!(portfolio(&fixture).contains("proxy_next_upstream error timeout http_404;"));
    fixture.place().extra_config = "proxy_next_upstream off;".to_owned();
    let own = portfolio(&fixture);
    assert!(own.contains("proxy_pass http://stead-bill-tracker;") && !own.contains("http_404"), "{own}");
    fixture.place().extra_config = String::new();
    fixture.server.nginx.recommended_proxy_settings = false;
    let plain = portfolio(&fixture);
    assert!(plain.contains("proxy_pass http://stead-bill-tracker;") && !plain.contains("http_404"), "{plain}");
}
