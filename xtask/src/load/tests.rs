//! The load generator against servers that behave, and that do not.

use super::server::{Server, Then};
use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PATIENCE: Duration = Duration::from_secs(20);

fn target(address: SocketAddr, path: &str) -> Target {
    Target { address, host: "site.localhost".to_owned(), path: path.to_owned() }
}

fn load(targets: Vec<Target>, connections: Connections) -> Config {
    Config { targets, rate: 400, connections, web_sockets: Vec::new(), limit: PATIENCE }
}

/// Waits for a condition; the test fails if it never holds.
fn until(handle: &Handle, what: &str, holds: impl Fn(&Report) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(&handle.report()) {
        assert!(Instant::now() < deadline, "never: {what}: {:?}", handle.report());
        thread::sleep(Duration::from_millis(5));
    }
}

/// A server that answers everything in the same way; the report after a hundred requests.
fn report_of(answer: &'static str, then: fn() -> Then, connections: Connections) -> Report {
    let server = Server::start(move |mut asked| {
        asked.answer(answer);
        then()
    });
    let handle = start(load(vec![target(server.address, "/")], connections)).unwrap();
    until(&handle, "a hundred requests", |report| report.requests >= 100);
    handle.stop()
}

#[test]
fn a_sound_server_loses_nothing_however_connections_are_used() {
    for connections in [Connections::Kept, Connections::Fresh, Connections::Both] {
        let report = report_of(OK, || Then::Keep, connections);
        assert_eq!((report.lost, report.reopened, report.failures.len()), (0, 0, 0), "{connections:?}: {report:?}");
        assert!(report.median_ms > 0.0 && report.median_ms <= report.slowest_ms, "{report:?}");
    }
}

#[test]
fn chunked_answers_and_answers_to_the_end_are_whole() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n";
    assert_eq!(report_of(chunked, || Then::Keep, Connections::Both).lost, 0);
    assert_eq!(report_of("HTTP/1.1 200 OK\r\n\r\nok", || Then::Close, Connections::Both).lost, 0);
}

#[test]
fn error_answers_and_answers_cut_short_are_lost() {
    let bad = [
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok",
        "HTTP/1.1 200",
        "",
    ];
    for answer in bad {
        let report = report_of(answer, || Then::Close, Connections::Fresh);
        assert_eq!(report.lost, report.requests, "{answer:?}: {report:?}");
        assert!(!report.failures.is_empty());
    }
}

#[test]
fn a_kept_connection_closed_between_requests_is_opened_again_and_not_lost() {
    let report = report_of(OK, || Then::Close, Connections::Kept);
    assert_eq!(report.lost, 0, "{report:?}");
    assert!(report.reopened > 0, "{report:?}");
}

#[test]
fn a_refused_connection_is_lost() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let handle = start(load(vec![target(address, "/")], Connections::Both)).unwrap();
    until(&handle, "ten requests", |report| report.requests >= 10);
    let report = handle.stop();
    assert_eq!(report.lost, report.requests);
    assert!(report.failures[0].why.starts_with("connect: "), "{report:?}");
}

#[test]
fn a_pause_of_one_site_is_seen_though_the_other_answers() {
    let quiet = Duration::from_millis(400);
    let (pausing, began) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None::<Instant>)));
    let server = Server::start({
        let (pausing, began) = (Arc::clone(&pausing), Arc::clone(&began));
        move |mut asked| {
            if asked.path == "/pausing" && pausing.load(Ordering::Relaxed) {
                let start = *began.lock().unwrap().get_or_insert_with(Instant::now);
                thread::sleep(quiet.saturating_sub(start.elapsed()));
            }
            asked.answer(OK);
            Then::Keep
        }
    });
    let targets = vec![target(server.address, "/steady"), target(server.address, "/pausing")];
    let handle = start(load(targets, Connections::Both)).unwrap();
    assert!(handle.wait_until_steady(PATIENCE));
    pausing.store(true, Ordering::Relaxed);
    until(&handle, "the pause", |report| report.longest_pause_ms >= 300.0);
    let report = handle.stop();
    assert_eq!(report.lost, 0, "{report:?}");
}

#[test]
fn a_site_that_stops_answering_pauses_until_the_end_of_the_load() {
    let broken = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let broken = Arc::clone(&broken);
        move |mut asked| {
            if !broken.load(Ordering::Relaxed) {
                asked.answer(OK);
            }
            Then::Close
        }
    });
    let handle = start(load(vec![target(server.address, "/")], Connections::Fresh)).unwrap();
    assert!(handle.wait_until_steady(PATIENCE));
    broken.store(true, Ordering::Relaxed);
    until(&handle, "lost requests", |report| report.lost >= 40);
    let report = handle.stop();
    assert!(report.longest_pause_ms >= 80.0 && report.longest_pause_at == report.seconds, "{report:?}");
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn listeners(address: SocketAddr, count: usize) -> Config {
    Config { web_sockets: vec![target(address, "/ws"); count], ..load(Vec::new(), Connections::Both) }
}

#[test]
fn web_sockets_stay_open_and_answer_pings_and_their_own_end_is_no_failure() {
    let (pongs, received) = mpsc::channel();
    let server = Server::start(move |mut asked| {
        // A message in the first packet with the head, a long message, and a ping.
        asked.answer(SWITCHING);
        let long = [&[0x81, 126, 0x01, 0x00][..], &[b'x'; 256]].concat();
        asked.stream.write_all(&[&[0x81, 2, b'h', b'i'][..], &long, &[0x89, 1, b'p']].concat()).unwrap();
        let mut pong = [0; 7];
        asked.stream.read_exact(&mut pong).unwrap();
        pongs.send(pong).unwrap();
        // Until the client goes: a close frame of its own.
        let mut close = [0; 8];
        asked.stream.read_exact(&mut close).unwrap();
        assert_eq!(close[0], 0x88);
        Then::Close
    });
    let handle = start(listeners(server.address, 3)).unwrap();
    assert!(handle.wait_until_steady(PATIENCE));
    for _ in 0..3 {
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), [0x8a, 0x81, 0, 0, 0, 0, b'p']);
    }
    let report = handle.stop();
    assert_eq!(
        (report.web_sockets_opened, report.web_sockets_closed, report.web_socket_messages),
        (3, 0, 6),
        "{report:?}"
    );
}

#[test]
fn a_web_socket_that_the_server_ends_is_counted_and_opened_again() {
    let ended = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let ended = Arc::clone(&ended);
        move |mut asked| {
            asked.answer(SWITCHING);
            if ended.fetch_add(1, Ordering::Relaxed) < 2 {
                asked.stream.write_all(&[0x88, 2, 0x03, 0xe9]).unwrap();
            } else {
                drop(asked.stream.read(&mut [0; 8]));
            }
            Then::Close
        }
    });
    let handle = start(listeners(server.address, 1)).unwrap();
    until(&handle, "opened a third time", |report| report.web_sockets_opened == 3);
    let report = handle.stop();
    assert_eq!(report.web_sockets_closed, 2, "{report:?}");
    assert_eq!(report.failures[0].why, "closed with code 1001");
    let [first, second] = report.endings[..] else { panic!("{report:?}") };
    assert!(first.opened.unwrap() <= first.ended && first.ended < second.opened.unwrap(), "{report:?}");
}

#[test]
fn a_refused_handshake_is_a_failure() {
    let server = Server::start(|mut asked| {
        asked.answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        Then::Close
    });
    let handle = start(listeners(server.address, 1)).unwrap();
    until(&handle, "a failed handshake", |report| report.web_sockets_closed > 0);
    let report = handle.stop();
    assert_eq!(report.web_sockets_opened, 0);
    assert_eq!(report.failures[0].why, "the handshake was answered with status 502");
    assert!(report.endings.iter().all(|ending| ending.opened.is_none()), "{report:?}");
}

#[test]
fn a_web_socket_that_was_refused_first_is_steady_once_it_is_open() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |mut visitor| {
        if asked.fetch_add(1, Ordering::Relaxed) == 0 {
            visitor.answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        } else {
            visitor.answer(SWITCHING);
            drop(visitor.stream.read(&mut [0; 8]));
        }
        Then::Close
    });
    let handle = start(listeners(server.address, 1)).unwrap();
    assert!(handle.wait_until_steady(PATIENCE), "{:?}", handle.report());
    assert_eq!(handle.stop().web_sockets_closed, 1);
}

#[test]
fn a_load_whose_threads_all_wait_tells_how_late_its_requests_left() {
    let server = Server::start(|mut asked| {
        thread::sleep(Duration::from_millis(400));
        asked.answer(OK);
        Then::Keep
    });
    // 64 threads can ask 160 times a second here, not 400.
    let handle = start(load(vec![target(server.address, "/")], Connections::Kept)).unwrap();
    until(&handle, "late requests", |report| report.latest_ms >= 200.0);
    assert_eq!(handle.stop().lost, 0);
}

#[test]
fn a_load_ends_by_itself() {
    let server = Server::start(|mut asked| {
        asked.answer(OK);
        Then::Keep
    });
    let limit = Duration::from_millis(200);
    let handle = start(Config { limit, ..load(vec![target(server.address, "/")], Connections::Both) }).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !handle.threads.iter().all(JoinHandle::is_finished) {
        assert!(Instant::now() < deadline, "still running");
        thread::sleep(Duration::from_millis(5));
    }
    let report = handle.stop();
    assert_eq!(report.seconds, limit.as_secs_f64());
    assert!((1..=80).contains(&report.requests), "{report:?}");
}

#[test]
fn only_labs_and_this_machine_are_loaded_and_only_within_bounds() {
    let kind = |config: Config| start(config).map(|_| ()).map_err(|error| error.kind());
    let own = || load(vec![target(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)), "/")], Connections::Both);
    for address in ["192.0.2.1:80", "[2001:db8::1]:80", "11.0.0.1:80", "[::ffff:192.0.2.1]:80"] {
        let foreign = vec![target(address.parse().unwrap(), "/")];
        assert_eq!(kind(Config { targets: foreign.clone(), ..own() }), Err(io::ErrorKind::InvalidInput), "{address}");
        assert_eq!(kind(Config { web_sockets: foreign, ..own() }), Err(io::ErrorKind::InvalidInput), "{address}");
    }
    assert_eq!(kind(Config { rate: 0, ..own() }), Err(io::ErrorKind::InvalidInput));
    assert_eq!(kind(Config { rate: 5_000, ..own() }), Err(io::ErrorKind::InvalidInput));
    assert_eq!(kind(Config { limit: Duration::MAX, ..own() }), Err(io::ErrorKind::InvalidInput));
    for address in ["127.0.0.1:80", "[::1]:80", "10.213.0.2:80", "[::ffff:10.0.0.1]:80"] {
        assert!(is_ours(address.parse::<SocketAddr>().unwrap().ip()), "{address}");
    }
}
