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
    assert_eq!(stage.lab.units("stead-hello@*").len(), 1);
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
    wait::until_is("instances that drain", Duration::from_secs(20), "0".to_owned(), || {
        stage.lab.run("systemctl list-units --plain --no-legend --state=deactivating 'stead-hello@*' | wc -l")
    });
    assert_eq!(stage.lab.units("stead-hello@*").len(), 1);
    assert_eq!(stage.stead(&["up"]).well().text("outcome"), "confirmed", "the project still says two");
    assert_eq!(stage.lab.units("stead-hello@*").len(), 1);
    stage.lab.cut_and_boot();
    wait::until_is("the app after a boot", Duration::from_secs(20), "two".to_owned(), || {
        stage.get("app.small", "/").body
    });
}
