//! Promises of the prober, against servers that mean no good. Loopback only.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use stead_model::name::Port;
use stead_model::probe::Timing;

/// What a server does with each request: its path, and where the answer goes.
type Behaviour = fn(&str, &mut std::net::TcpStream);

/// A server on loopback, and how many requests it had.
fn server(behaviour: Behaviour) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let counter = counter.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; 2048];
                let read = stream.read(&mut request).unwrap_or(0);
                counter.fetch_add(1, Ordering::SeqCst);
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                behaviour(text.split(' ').nth(1).unwrap_or_default(), &mut stream);
            });
        }
    });
    (address, count)
}

fn say(stream: &mut std::net::TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn probe(address: SocketAddr, expected: Expected) -> Probe {
    Probe {
        url: format!("http://a.example:{}/start", address.port()).parse().unwrap(),
        target: Target::Site { addresses: vec![address.ip()] },
        expected,
        from: [Side::Server, Side::Operator].into(),
        timing: Timing { interval: 1, timeout: 20_000, deadline: 1, passes: 2 },
    }
}

fn declared(status: Option<u16>, body: Option<&str>) -> Expected {
    Expected::Declared { status, body: body.map(str::to_owned), response_time: None, certificate_days: None }
}

/// Asks one probe at this address.
fn asked(address: SocketAddr, probe: Probe) -> Answered {
    let probes: Probes = [("site a.example".to_owned(), probe)].into();
    let asking = Asking {
        side: Side::Server,
        patience: Patience::AsSaid,
        route: &|_| Route::To(vec![address]),
        is_over: &|| false,
        tell: &|_| {},
    };
    ask_all(&probes, &asking).remove(0)
}

fn verdict(behaviour: Behaviour, expected: Expected) -> Answered {
    let (address, _) = server(behaviour);
    asked(address, probe(address, expected))
}

#[test]
fn a_site_is_served_whatever_it_answers_below_500() {
    for (behaviour, passes) in [
        ((|_, out| say(out, "HTTP/1.1 200 OK\r\n\r\n")) as Behaviour, true),
        (|_, out| say(out, "HTTP/1.1 301 Moved\r\nLocation: /start\r\n\r\n"), true),
        (|_, out| say(out, "HTTP/1.1 401 No\r\n\r\n"), true),
        (|_, out| say(out, "HTTP/1.1 404 No\r\n\r\n"), true),
        (|_, out| say(out, "HTTP/1.1 500 Oh\r\n\r\n"), false),
        (|_, out| say(out, "HTTP/1.1 503 Oh\r\n\r\n"), false),
    ] {
        let answered = verdict(behaviour, Expected::Served {});
        assert_eq!(answered.verdict == Verdict::Passed, passes, "{answered}");
    }
}

#[test]
fn a_failure_shows_the_last_answer_and_in_which_way_it_failed() {
    let answered = verdict(|_, out| say(out, "HTTP/1.1 502 Bad\r\n\r\nthe moon is missing"), Expected::Served {});
    assert_eq!((answered.verdict, answered.way.as_str()), (Verdict::Failed, "status 502"));
    assert_eq!(answered.answer, "status 502: the moon is missing");
    assert!(answered.asked.contains("http://a.example:") && answered.asked.contains(" at 127.0.0.1:"), "{answered}");
}

#[test]
fn answers_that_are_none_fail_each_in_its_way() {
    let behaviours: [(Behaviour, &str); 4] = [
        (|_, out| while out.write_all(&[b'x'; 4096]).is_ok() {}, "no HTTP"),
        (|_, _| {}, "broken connection"),
        (|_, out| say(out, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), "half an answer"),
        (
            |_, out| {
                say(out, "HTTP/1.1 200 OK\r\n\r\n");
                while out.write_all(&[b'x'; 4096]).is_ok() {}
            },
            "an endless answer",
        ),
    ];
    for (behaviour, way) in behaviours {
        let answered = verdict(behaviour, declared(None, None));
        assert_eq!((answered.verdict, answered.way.as_str()), (Verdict::Failed, way), "{answered}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(asked(nobody, probe(nobody, Expected::Served {})).way, "no connection");
}

#[test]
fn a_slow_answer_fails_at_its_timeout() {
    let (address, _) = server(|_, out| {
        say(out, "HTTP/1.1 200 OK\r\n");
        let _ = out.read(&mut [0; 16]);
    });
    let mut slow = probe(address, Expected::Served {});
    slow.timing.timeout = 100;
    assert_eq!(asked(address, slow).way, "no answer in time");
}

#[test]
fn a_circle_of_redirects_is_shown_and_a_long_chain_ends() {
    let circle: Behaviour = |path, out| {
        let to = if path == "/start" { "/other" } else { "/start" };
        say(out, &format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n"));
    };
    let answered = verdict(circle, declared(None, None));
    assert_eq!(answered.way, "a circle of redirects");
    assert!(
        answered.answer.contains("/start → http://a.example:") && answered.answer.ends_with("/start)"),
        "{answered}"
    );

    let on_and_on: Behaviour = |path, out| say(out, &format!("HTTP/1.1 302 Found\r\nLocation: {path}x\r\n\r\n"));
    assert_eq!(verdict(on_and_on, declared(None, None)).way, "too many redirects");
}

#[test]
fn a_redirect_is_followed_by_who_wants_what_is_behind_it_and_only_to_sites_of_the_server() {
    let home: Behaviour = |path, out| {
        if path == "/start" {
            say(out, "HTTP/1.1 301 Moved\r\nLocation: /home\r\n\r\n");
        } else {
            say(out, "HTTP/1.1 200 OK\r\n\r\nwelcome home");
        }
    };
    assert_eq!(verdict(home, declared(Some(200), Some("welcome"))).verdict, Verdict::Passed);
    assert_eq!(verdict(home, declared(Some(301), None)).verdict, Verdict::Passed);
    let away: Behaviour = |_, out| say(out, "HTTP/1.1 301 Moved\r\nLocation: http://elsewhere.example/\r\n\r\n");
    assert_eq!(verdict(away, declared(None, None)).verdict, Verdict::Passed);
    let answered = verdict(away, declared(None, Some("welcome")));
    assert!(answered.answer.contains("status 301 to http://elsewhere.example/"), "{answered}");
}

#[test]
fn status_body_and_time_are_as_declared_or_it_fails() {
    let good: Behaviour = |_, out| say(out, "HTTP/1.1 200 OK\r\n\r\nall is well");
    assert_eq!(verdict(good, declared(None, Some("well"))).verdict, Verdict::Passed);
    assert_eq!(verdict(good, declared(Some(204), None)).way, "status 200");
    assert_eq!(verdict(good, declared(None, Some("ill"))).way, "another body");
    let (address, _) = server(|_, out| {
        sleep(Duration::from_millis(30));
        say(out, "HTTP/1.1 200 OK\r\n\r\n");
    });
    let expected = Expected::Declared { status: None, body: None, response_time: Some(10), certificate_days: None };
    assert_eq!(asked(address, probe(address, expected)).way, "a slow answer");
}

#[test]
fn a_probe_has_to_pass_as_often_as_it_says_and_once_is_once() {
    let (address, count) = server(|_, out| say(out, "HTTP/1.1 200 OK\r\n\r\n"));
    asked(address, probe(address, Expected::Served {}));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let probes: Probes = [("site a".to_owned(), probe(address, Expected::Served {}))].into();
    let route = |_: &Probe| Route::To(vec![address]);
    let asking =
        Asking { side: Side::Server, patience: Patience::Once, route: &route, is_over: &|| false, tell: &|_| {} };
    ask_all(&probes, &asking);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn probes_are_asked_side_by_side_and_each_is_told() {
    // Each answers only when all have asked.
    static WAITING: std::sync::Barrier = std::sync::Barrier::new(5);
    let (address, _) = server(|_, out| {
        WAITING.wait();
        say(out, "HTTP/1.1 200 OK\r\n\r\n");
    });
    let mut one = probe(address, Expected::Served {});
    one.timing.passes = 1;
    let mut of_operator = one.clone();
    of_operator.from = [Side::Operator].into();
    let mut probes: Probes = (0..5).map(|number| (format!("site {number}"), one.clone())).collect();
    probes.insert("probe elsewhere".to_owned(), of_operator);
    let told = Mutex::new(Vec::new());
    let asking = Asking {
        side: Side::Server,
        patience: Patience::AsSaid,
        route: &|_| Route::To(vec![address]),
        is_over: &|| false,
        tell: &|answered| told.lock().unwrap().push(answered.probe.clone()),
    };
    let answers = ask_all(&probes, &asking);
    assert!(answers.len() == 5 && answers.iter().all(|answered| answered.verdict == Verdict::Passed), "{answers:?}");
    assert_eq!(told.lock().unwrap().len(), 5);
}

#[test]
fn what_cannot_be_asked_is_skipped_and_what_does_not_resolve_failed() {
    let address = SocketAddr::from(([127, 0, 0, 1], Port::new(9).unwrap().number()));
    let probes: Probes = [("probe a".to_owned(), probe(address, Expected::Served {}))].into();
    let ask = |route: &(dyn Fn(&Probe) -> Route + Sync)| {
        let asking =
            Asking { side: Side::Server, patience: Patience::AsSaid, route, is_over: &|| false, tell: &|_| {} };
        ask_all(&probes, &asking).remove(0)
    };
    assert_eq!(ask(&|_| Route::Not("by way of a jump host".into())).verdict, Verdict::Skipped);
    let unknown = ask(&|probe| match resolve("no-such-name.invalid", probe.url.port().number()) {
        Ok(addresses) => Route::To(addresses),
        Err(why) => Route::Unknown(why),
    });
    assert_eq!((unknown.verdict, unknown.way.as_str()), (Verdict::Failed, "unknown name"));
    assert!(unknown.answer.contains("`no-such-name.invalid` does not resolve"), "{unknown}");
}

#[test]
fn an_address_is_its_own_resolution() {
    assert_eq!(resolve("[::1]", 80).unwrap(), ["[::1]:80".parse().unwrap()]);
    assert_eq!(resolve("192.0.2.1", 8080).unwrap(), ["192.0.2.1:8080".parse().unwrap()]);
}
