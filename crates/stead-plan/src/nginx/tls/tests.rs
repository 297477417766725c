//! Promises of TLS in nginx's configuration.

use crate::testing::{Fixture, authority, everything, file};
use stead_model::certificate::Acme;
use stead_model::name::{Domain, Port};
use stead_model::server::{Listen, SiteCertificate, SiteTls, TlsUse};

fn listen(address: &str, port: u16) -> Listen {
    Listen { address: address.to_owned(), port: Port::new(port).unwrap(), ssl: false }
}

/// A fixture whose portfolio has TLS by an authority's certificate.
fn with_tls(use_: TlsUse) -> Fixture {
    let mut fixture = Fixture::two_sites();
    let name: Domain = "nick.example".parse().unwrap();
    let certificate = authority(&["nick.example", "www.nick.example"]);
    fixture.server.acme =
        Acme { certificates: [(name.clone(), certificate)].into(), renew_interval: "daily".to_owned() };
    let certificate = (use_ != TlsUse::Reject).then_some(SiteCertificate::Authority { name });
    fixture.site("nick.example").tls = Some(SiteTls { use_, certificate });
    fixture
}

/// What real nginx tests too (`stead-e2e/tests/https.rs`): each kind of TLS, and every option that goes with it.
#[test]
fn sites_with_tls_become_these_files() {
    let mut fixture = with_tls(TlsUse::Force);
    let name: Domain = "nick.example".parse().unwrap();
    let shared = |use_| Some(SiteTls { use_, certificate: Some(SiteCertificate::Authority { name: name.clone() }) });
    let mut sites = vec![("add.nick.example", shared(TlsUse::Add)), ("only.nick.example", shared(TlsUse::Only))];
    sites.push(("reject.nick.example", Some(SiteTls { use_: TlsUse::Reject, certificate: None })));
    for (key, tls) in sites {
        let mut host = fixture.site("billtracker.site").clone();
        (host.tls, host.hsts, host.security_headers, host.access_log) = (tls, true, true, false);
        host.error_pages = [("404".to_owned(), "/404.html".to_owned())].into();
        fixture.server.nginx.virtual_hosts.insert(key.to_owned(), host);
    }
    let own = SiteCertificate::Files { certificate: "/etc/own/site.pem".into(), key: "/etc/own/site.key".into() };
    let mut host = fixture.site("billtracker.site").clone();
    host.tls = Some(SiteTls { use_: TlsUse::Force, certificate: Some(own) });
    host.listen = vec![listen("0.0.0.0", 8080), Listen { ssl: true, ..listen("[::]", 8443) }];
    fixture.server.nginx.virtual_hosts.insert("own.example".to_owned(), host);
    insta::assert_snapshot!(everything(&fixture.plan()));
}

fn site_file(fixture: &Fixture) -> String {
    file(&fixture.plan(), "nginx/sites/nick.example", ".conf")
}

#[test]
fn a_site_that_forces_tls_leads_there_and_answers_authorities() {
    let mut fixture = with_tls(TlsUse::Force);
    fixture.site("nick.example").hsts = true;
    insta::assert_snapshot!(site_file(&fixture));
    insta::assert_snapshot!("names_that_no_site_has", file(&fixture.plan(), "nginx/sites/@unknown", ".conf"));
}

#[test]
fn a_site_with_tls_beside_plain_http_is_one_block_and_one_without_it_never_listens_in_clear() {
    let both = site_file(&with_tls(TlsUse::Add));
    assert_eq!(both.matches("server {").count(), 1, "{both}");
    assert!(both.contains("listen 0.0.0.0:80;") && both.contains("listen [::]:443 ssl http2;"), "{both}");
    let only = site_file(&with_tls(TlsUse::Only));
    assert!(!only.contains(":80;") && only.contains("listen 0.0.0.0:443 ssl http2;"), "{only}");
    // An authority asks on port 80 all the same.
    let unknown = file(&with_tls(TlsUse::Only).plan(), "nginx/sites/@unknown", ".conf");
    assert!(unknown.contains("listen 0.0.0.0:80 default_server;") && unknown.contains("/.well-known/acme-challenge/"));
}

#[test]
fn a_site_that_refuses_tls_shows_no_certificate() {
    let text = site_file(&with_tls(TlsUse::Reject));
    assert!(text.contains("ssl_reject_handshake on;") && !text.contains("ssl_certificate"), "{text}");
}

#[test]
fn the_nginx_of_the_lock_is_told_of_http2_in_its_own_words() {
    for (version, parameter, directive) in
        [("1.22.1-9+deb12u3", true, false), ("1.25.1-1", false, true), ("1.26.3-3+deb13u1", false, true)]
    {
        let mut fixture = with_tls(TlsUse::Force);
        for runtime in fixture.lock.runtimes.values_mut() {
            runtime.packages.iter_mut().for_each(|package| package.version = version.to_owned());
        }
        let text = site_file(&fixture);
        assert_eq!((text.contains("ssl http2;"), text.contains("    http2 on;")), (parameter, directive), "{version}");
        fixture.site("nick.example").http2 = false;
        assert!(!site_file(&fixture).contains("http2"));
    }
}

#[test]
fn a_certificate_of_files_is_the_server_s_and_its_key_never_in_the_store() {
    let mut fixture = with_tls(TlsUse::Force);
    let files = |certificate: &str, key: &str| SiteTls {
        use_: TlsUse::Force,
        certificate: Some(SiteCertificate::Files { certificate: certificate.to_owned(), key: key.to_owned() }),
    };
    fixture.site("nick.example").tls = Some(files("/etc/own/site.pem", "/etc/own/site.key"));
    let generation = fixture.plan().generation;
    let (name, certificate) =
        generation.certificates.iter().find(|(name, _)| name.as_str().starts_with("file-")).unwrap();
    assert_eq!(certificate.names.iter().map(Domain::as_str).collect::<Vec<_>>(), ["nick.example", "www.nick.example"]);
    assert!(site_file(&fixture).contains(&format!("/certificates/{name}/live/key.pem;")));
    fixture.site("nick.example").tls =
        Some(files("/@stead/inputs/portfolio/index.html", "/@stead/inputs/portfolio/404.html"));
    assert!(fixture.error().contains("sslCertificateKey: "), "{}", fixture.error());
}

#[test]
fn one_address_speaks_tls_for_all_sites_or_for_none() {
    let mut fixture = with_tls(TlsUse::Force);
    fixture.site("billtracker.site").listen = vec![listen("0.0.0.0", 443)];
    assert_eq!(
        fixture.error(),
        "services.nginx.virtualHosts.\"billtracker.site\" and \"nick.example\" both listen on 0.0.0.0:443, but only one of them with TLS"
    );
    let mut fixture = with_tls(TlsUse::Force);
    fixture.site("nick.example").listen = vec![listen("0.0.0.0", 8080)];
    assert!(fixture.error().contains("has no place with `ssl = true`"), "{}", fixture.error());
    fixture.site("nick.example").listen.push(Listen { ssl: true, ..listen("0.0.0.0", 8443) });
    assert!(site_file(&fixture).contains("return 301 https://$host:8443$request_uri;"));
    fixture.site("nick.example").tls = None;
    assert!(fixture.error().contains("the site has no TLS"), "{}", fixture.error());
}

#[test]
fn certificates_have_units_that_look_after_them_and_nginx_waits_for_the_first() {
    let planned = with_tls(TlsUse::Force).plan();
    for unit in ["stead-certificates.service", "stead-certificates-renew.service", "stead-certificates-renew.timer"] {
        assert!(planned.generation.units.contains_key(unit), "{unit}");
    }
    let nginx = file(&planned, "units/stead-nginx@", ".service");
    assert!(
        nginx.contains("\nAfter=network.target stead-certificates.service\nWants=stead-certificates.service\n"),
        "{nginx}"
    );
    insta::assert_snapshot!(file(&planned, "units/stead-certificates-renew", ".timer"));
    let without = Fixture::two_sites().plan();
    assert!(!without.generation.units.keys().any(|unit| unit.as_str().contains("certificates")));
    let mut fixture = with_tls(TlsUse::Force);
    let clean = fixture.server.services["clean"].clone();
    fixture.server.services.insert("certificates".parse().unwrap(), clean);
    assert_eq!(fixture.error(), "systemd.services.certificates: the name is used by Stead itself");
}

#[test]
fn headers_passwords_and_error_pages_are_the_site_s() {
    let mut fixture = with_tls(TlsUse::Force);
    let site = fixture.site("nick.example");
    (site.security_headers, site.access_log) = (true, false);
    site.error_pages = [("500 502".to_owned(), "/sorry.html".to_owned())].into();
    site.basic_auth_file = Some("/etc/own/users".parse().unwrap());
    site.locations.get_mut("/").unwrap().extra_config = "add_header X-Own 1;".to_owned();
    let text = site_file(&fixture);
    for line in
        ["    access_log off;\n", "    error_page 500 502 /sorry.html;\n", "    auth_basic_user_file /etc/own/users;\n"]
    {
        assert!(text.contains(line), "{line}{text}");
    }
    // nginx would forget them in a place that has headers of its own.
    assert!(text.contains("        add_header X-Frame-Options SAMEORIGIN always;\n"), "{text}");
    assert!(fixture.plan().generation.host_folders.keys().any(|folder| folder.as_str() == "/etc/own"));
    fixture.site("nick.example").basic_auth_file = Some("/etc/passwd".parse().unwrap());
    assert!(fixture.error().contains("has to be in a folder of its own"), "{}", fixture.error());
    fixture.site("nick.example").basic_auth_file = None;
    fixture.site("nick.example").error_pages = [("200".to_owned(), "/x".to_owned())].into();
    assert!(fixture.error().contains("is not one status or several"), "{}", fixture.error());
}
