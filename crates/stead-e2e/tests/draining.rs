//! What still drains when it is wanted again: nobody waits for it, and it is not cut off.

use std::time::{Duration, Instant};
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed, wait};

#[test]
fn going_back_to_what_still_drains_waits_for_nobody_and_cuts_nobody_off() {
    // nginx keeps its connections, and the app waits for them.
    let mut small = Small { extra: "services.nginx.drain = 120,".into(), stop_timeout: 120, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let first = stage.stead(&["up"]).well().text("generation");
    let pages = [("app.small", "/"), ("site.small", "/")];
    let visitors = stage.visitors(&pages, &[("app.small", "/ws")]);

    small.answer = "two".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("app.small", "/").body, "two");
    // The old instance waits for the WebSocket to end.
    assert_eq!(stage.lab.units("stead-hello@*").len(), 2);
    let began = Instant::now();
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), first);
    let took = began.elapsed();
    assert_eq!(stage.get("app.small", "/").body, "one");
    assert_eq!(visitors.report().web_sockets_closed, 0);
    assert!(took < Duration::from_secs(20), "{took:?}");

    stage.stead(&["status"]).well();
    stage.stead(&["exec", "--app", "hello", "--", "/usr/bin/python3", "--version"]).well();

    // To and fro, while everything still drains; then all goes away that is not wanted.
    stage.stead(&["rollback"]).well();
    assert_eq!(stage.get("app.small", "/").body, "two");
    stage.stead(&["rollback"]).well();
    assert_eq!(stage.get("app.small", "/").body, "one");
    let report = nobody_noticed(visitors);
    assert_eq!(report.web_sockets_opened, 1);
    let instances = || stage.lab.units("stead-hello@*").len();
    wait::until_is("instances that drain", Duration::from_secs(40), 1, instances);
    assert_eq!(stage.stead(&["up"]).well().text("outcome"), "confirmed", "the project still says two");
    wait::until_is("instances that drain", Duration::from_secs(40), 1, instances);
    stage.lab.cut_and_boot();
    wait::until_is("the app after a boot", Duration::from_secs(20), "two".to_owned(), || {
        stage.get("app.small", "/").body
    });
}

#[test]
fn a_request_in_flight_is_answered_even_by_an_app_that_ends_at_once_on_sigterm() {
    // Like most programs it knows nothing of SIGTERM; its slow page takes longer than a deploy.
    let prelude = "signal.signal = lambda *_: None\nnap = time.sleep\ntime.sleep = lambda s: nap(12 if s == 3 else s)";
    let mut small = Small { prelude: prelude.into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let old = stage.lab.units("stead-hello@*");
    let address = stage.lab.port(80);
    let patient = std::thread::spawn(move || stead_e2e::http::get(address, "app.small", "/slow", &[]));
    wait::until("the old instance is busy", Duration::from_secs(5), || {
        stage.lab.run("journalctl --output=cat --unit='stead-hello@*'").contains("slow").then_some(())
    });

    small.answer = "two".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("app.small", "/").body, "two");
    assert!(!patient.is_finished(), "the deploy took longer than the request");
    let slow = patient.join().unwrap().unwrap();
    assert_eq!((slow.status, &*slow.body), (200, "one"));
    wait::until_is("the old instance", Duration::from_secs(20), "inactive".to_owned(), || {
        // Killed by SIGTERM, which systemd takes for a good end.
        stage.lab.show(&old[0], "ActiveState")
    });
    assert_eq!(stage.lab.run("systemctl --failed --plain --no-legend").trim(), "");
}
