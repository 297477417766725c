//! Promises of the prober over TLS: whose certificate has to be what, and which redirects are followed. Loopback only.

use super::*;
use crate::testing::{Authority, GOOD, Shown, Talk, accept, say_all, self_signed, serve, well};
use std::io::{Read, Write};
use std::net::TcpStream;
use stead_model::probe::Timing;

fn probe(address: SocketAddr, target: Target, expected: Expected) -> Probe {
    Probe {
        url: format!("https://a.example:{}/start", address.port()).parse().unwrap(),
        target,
        expected,
        from: [Side::Server].into(),
        timing: Timing { interval: 1, timeout: 20_000, deadline: 1, passes: 1 },
    }
}

fn site() -> Target {
    Target::Site { addresses: vec![IpAddr::from([127, 0, 0, 1])] }
}

fn declared(body: Option<&str>, certificate_days: Option<u16>) -> Expected {
    Expected::Declared { status: None, body: body.map(str::to_owned), response_time: None, certificate_days }
}

/// Asks all of them, each at its port of loopback.
fn asked(probes: &Probes, trust: &Trust) -> Vec<Answered> {
    let asking = Asking {
        side: Side::Server,
        patience: Patience::AsSaid,
        route: &|probe| Route::To(vec![SocketAddr::from(([127, 0, 0, 1], probe.url.port().number()))]),
        is_over: &|| false,
        tell: &|_| {},
    };
    ask_all_of(&Round { probes, asking: &asking, trust })
}

fn verdict(shown: Shown, trust: &Trust, target: Target, expected: Expected) -> Answered {
    let probes: Probes = [("it".to_owned(), probe(serve(shown, well), target, expected))].into();
    asked(&probes, trust).remove(0)
}

#[test]
fn the_servers_own_sites_may_show_any_certificate_and_it_is_told() {
    let trust = Authority::new().trust();
    let app = Target::App { app: "shop".parse().unwrap() };
    for (target, expected) in
        [(site(), Expected::Served {}), (site(), declared(Some("well"), None)), (app, declared(None, None))]
    {
        let answered = verdict(self_signed(&["b.example"]), &trust, target, expected);
        assert_eq!(answered.verdict, Verdict::Passed, "{answered}");
        assert_eq!(answered.answer, "status 200, with a certificate that nobody trusts: self-signed");
    }
}

#[test]
fn a_certificate_that_is_trusted_is_told_by_its_issuer_and_end() {
    let authority = Authority::new();
    let answered = verdict(authority.leaf(&["a.example"], GOOD), &authority.trust(), site(), Expected::Served {});
    assert!(answered.answer.starts_with("status 200, certificate of Tests Honest Root until 20"), "{answered}");
}

#[test]
fn another_machine_has_to_show_what_a_browser_would_take() {
    let authority = Authority::new();
    let trust = authority.trust();
    let ask = |shown| verdict(shown, &trust, Target::Name {}, declared(None, None));
    assert_eq!(ask(authority.leaf(&["a.example"], GOOD)).verdict, Verdict::Passed);
    for (shown, way) in [
        (self_signed(&["a.example"]), "an untrusted certificate"),
        (authority.leaf(&["b.example"], GOOD), "a certificate of another name"),
        (authority.leaf(&["a.example"], (-9, -2)), "an expired certificate"),
    ] {
        let answered = ask(shown);
        assert_eq!((answered.verdict, answered.way.as_str()), (Verdict::Failed, way), "{answered}");
        assert!(answered.answer.contains("issued by"), "{answered}");
    }
}

#[test]
fn a_certificate_of_days_has_to_be_trusted_and_to_last_that_long() {
    let authority = Authority::new();
    let trust = authority.trust();
    let ask = |shown, days| verdict(shown, &trust, site(), declared(None, Some(days)));
    let leaf = |days| authority.leaf(&["a.example"], (-1, days));
    assert_eq!(ask(leaf(5), 5).verdict, Verdict::Passed);
    let answered = ask(leaf(5), 14);
    assert_eq!((answered.verdict, answered.way.as_str()), (Verdict::Failed, "a certificate that ends soon"));
    let words =
        "the certificate ends in 5 days, and 14 were to be left: issued by Tests Honest Root for a.example, from";
    assert!(answered.answer.starts_with(words), "{answered}");
    assert_eq!(ask(self_signed(&["a.example"]), 1).way, "an untrusted certificate");
    assert_eq!(ask(leaf(-1), 1).way, "an expired certificate");
}

#[test]
fn a_site_without_tls_on_its_port_fails_in_its_way() {
    let address = accept(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    });
    let probes: Probes = [("it".to_owned(), probe(address, site(), Expected::Served {}))].into();
    let answered = asked(&probes, &Trust::and(Vec::new())).remove(0);
    assert_eq!((answered.verdict, answered.way.as_str()), (Verdict::Failed, "no TLS"), "{answered}");
}

/// A server in clear that redirects to a path of this port by TLS.
fn redirects(host: &'static str, secure: SocketAddr) -> SocketAddr {
    accept(move |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let location = format!("https://{host}:{}/home", secure.port());
        let _ = stream.write_all(format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n").as_bytes());
    })
}

/// A declared probe of a server that redirects to a site over TLS, beside that site's own.
fn redirected(host: &'static str, shown: Shown, trust: &Trust, expected: Expected) -> Answered {
    let home: fn(&str, &mut Talk) = |path, talk| {
        say_all(talk, &format!("HTTP/1.1 200 OK\r\n\r\nwelcome to {path}"));
    };
    let secure = serve(shown, home);
    let mut of_site = probe(secure, site(), Expected::Served {});
    of_site.url = format!("https://a.example:{}/", secure.port()).parse().unwrap();
    let mut in_clear = probe(redirects(host, secure), site(), expected);
    in_clear.url = format!("http://a.example:{}/", in_clear.url.port()).parse().unwrap();
    let probes: Probes = [("probe clear".to_owned(), in_clear), ("site secure".to_owned(), of_site)].into();
    asked(&probes, trust).remove(0)
}

#[test]
fn a_redirect_from_clear_to_tls_is_followed_to_the_servers_own_site() {
    let trust = Trust::and(Vec::new());
    let shown = || self_signed(&["a.example"]);
    let answered = redirected("a.example", shown(), &trust, declared(Some("welcome to /home"), None));
    assert_eq!(answered.verdict, Verdict::Passed, "{answered}");
    assert!(answered.answer.contains("self-signed (http://a.example:") && answered.answer.contains(" → https://a."));
    // To a site that is not this server's it is an answer as it is.
    let answered = redirected("b.example", shown(), &trust, declared(None, None));
    assert_eq!((answered.verdict, answered.answer.as_str()), (Verdict::Passed, "status 301"), "{answered}");
    let answered = redirected("b.example", shown(), &trust, declared(Some("welcome"), None));
    assert_eq!(answered.way, "another body", "{answered}");
    // What is demanded of certificates is demanded of every one on the way.
    let answered = redirected("a.example", shown(), &trust, declared(None, Some(9)));
    assert_eq!(answered.way, "an untrusted certificate", "{answered}");
    assert!(answered.answer.contains(" → https://a.example:"), "{answered}");
}
