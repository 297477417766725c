//! The real example, from one command to the way back: an Elixir app with a WebSocket, and a static site of
//! 200 files and 20 MB.

use std::fs;
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Stage, nobody_noticed, wait};

const APP: &str = "billtracker.localhost";
const SITE: &str = "portfolio.localhost";

fn edit(stage: &Stage, file: &str, from: &str, to: &str) {
    let path = stage.project.join(file);
    let text = fs::read_to_string(&path).expect("the example has the file");
    assert!(text.contains(from), "{file} does not have {from:?}");
    fs::write(&path, text.replace(from, to)).expect("a copy can be changed");
}

/// What tells that nothing was started, restarted or reloaded.
fn pulse(stage: &Stage) -> String {
    stage.lab.run(
        "systemctl show -p Id -p ActiveEnterTimestampMonotonic -p MainPID -p NRestarts 'stead-*'; \
         pgrep -x nginx; readlink /run/stead/active /var/lib/stead/confirmed",
    )
}

#[test]
fn one_command_makes_the_two_sites_answer_and_a_second_one_changes_nothing() {
    let stage = Stage::with_two_sites(Machine::bookworm());
    // Before there is a lock, only `update` and `up` know what to do.
    stage.stead(&["check"]).exits(1).tells("stead update");
    let first = stage.stead(&["up"]).well();
    assert_eq!(first.text("outcome"), "confirmed");
    let lock = fs::read(stage.project.join("stead.lock")).unwrap();
    stage.stead(&["check"]).well();

    let page = stage.get(APP, "/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("id=\"schedulers\">1<"), "one scheduler for one core: {}", page.body);
    // What nobody needs is taken away: an exposure of 1.5 at most, by systemd's own measure.
    for unit in stage.lab.units("stead-nginx@*").into_iter().chain(stage.lab.units("stead-bill-tracker@*")) {
        stage.lab.run(&format!("systemd-analyze security --no-pager --threshold=15 '{unit}'"));
    }
    let picture = stage.get(SITE, "/gallery/large/001.png");
    assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/png")));
    assert_eq!(stage.get(SITE, "/").header("content-type"), Some("text/html"));
    assert_eq!(stage.get(SITE, "/style.css").header("content-type"), Some("text/css"));
    let missing = stage.get(SITE, "/nothing-here");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.body, fs::read_to_string(stage.project.join("portfolio/404.html")).unwrap());
    let github = stage.get(SITE, "/github");
    assert_eq!((github.status, github.header("location")), (301, Some("https://git.example/example")));

    let visitors = stage.visitors(&[(APP, "/"), (SITE, "/")], &[(APP, "/ws")]);
    wait::until("the WebSocket ticks", Duration::from_secs(10), || {
        (visitors.report().web_socket_messages >= 3).then_some(())
    });

    let before = pulse(&stage);
    let second = stage.stead(&["up"]).well();
    assert_eq!(second.text("outcome"), "unchanged");
    assert_eq!(second.text("generation"), first.text("generation"));
    stage.stead_in_words(&["deploy"]).well().tells("nothing changed");
    assert_eq!(pulse(&stage), before);
    assert_eq!(fs::read(stage.project.join("stead.lock")).unwrap(), lock);
    let history = stage.stead(&["history"]).well().json();
    assert_eq!(history.as_array().unwrap().len(), 1, "what changed nothing is no part of the history");
    nobody_noticed(visitors);
}

#[test]
fn every_change_reaches_the_visitors_without_a_lost_request_and_can_be_taken_back() {
    let stage = Stage::with_two_sites(Machine::bookworm());
    let first = stage.stead(&["up"]).well().text("generation");
    let version = || stage.get(APP, "/version").body;
    let lead = || stage.get(SITE, "/").body.contains("boring on a Friday night");
    assert_eq!((version(), lead()), ("1\n".into(), true));
    let old = stage.lab.units("stead-bill-tracker@*");
    let visitors = stage.visitors(&[(APP, "/"), (APP, "/version"), (SITE, "/"), (SITE, "/style.css")], &[]);

    // The app: another instance beside the old one, which finishes what it has begun. Built first, so that the
    // deploy itself is short.
    edit(&stage, "BillTracker/lib/bill_tracker.ex", "@version \"1\"", "@version \"2\"");
    stage.stead(&["update"]).well();
    stage.stead(&["check"]).well();
    let patient = {
        let address = stage.lab.port(80);
        std::thread::spawn(move || stead_e2e::http::get(address, APP, "/slow?ms=12000", &[]))
    };
    wait::until("the old instance is busy", Duration::from_secs(5), || {
        (stage.lab.run("ss -Htn state established 'dport = 4000' | wc -l") != "0").then_some(())
    });
    let second = stage.stead(&["deploy"]).well().text("generation");
    assert_eq!(version(), "2\n");
    let both = stage.lab.units("stead-bill-tracker@*");
    assert!(both.len() == 2 && both.contains(&old[0]), "the old one still answers: {both:?}");
    let slow = patient.join().unwrap().unwrap();
    assert!(slow.status == 200 && slow.body.contains("version 1"), "{slow:?}");
    wait::until_is("the old instance", Duration::from_secs(40), "inactive".to_owned(), || {
        stage.lab.show(&old[0], "ActiveState")
    });
    let new = stage.lab.units("stead-bill-tracker@*");
    assert!(new.len() == 1 && old != new, "{new:?}");

    // The static site.
    edit(&stage, "portfolio/index.html", "boring on a Friday night", "quiet on a Sunday morning");
    let third = stage.stead(&["up"]).well();
    assert_eq!((version(), lead()), ("2\n".into(), false));
    assert_eq!(stage.lab.units("stead-bill-tracker@*"), new, "the app was left alone");
    let sent = third.json()["bytesSent"].as_u64().unwrap();
    assert!(sent < 100_000, "one changed page of 20 MB was sent as {sent} bytes");
    let third = third.text("generation");

    // Back, back again (which is forward), and to the very first.
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), second);
    assert_eq!((version(), lead()), ("2\n".into(), true));
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), third);
    assert_eq!((version(), lead()), ("2\n".into(), false));
    assert_eq!(stage.stead(&["rollback", &first[..8]]).well().text("generation"), first);
    assert_eq!((version(), lead()), ("1\n".into(), true));
    nobody_noticed(visitors);

    let history = stage.stead(&["history"]).well().json();
    let told: Vec<(&str, &str, &str)> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|record| ["generation", "verb", "phase"].map(|key| record[key].as_str().unwrap()).into())
        .collect();
    let wanted = [
        (&*first, "rollback", "done"),
        (&*third, "rollback", "done"),
        (&*second, "rollback", "done"),
        (&*third, "deploy", "done"),
        (&*second, "deploy", "done"),
        (&*first, "deploy", "done"),
    ];
    assert_eq!(told, wanted);

    // What an operator looks at.
    let status = stage.stead(&["status"]).well().json();
    assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(&*first), Some(&*first)));
    let units = status["units"].as_array().unwrap();
    assert!(units.iter().any(|unit| unit["name"] == *old[0] && unit["well"] == true), "{status}");
    let told = stage.stead(&["exec", "--app", "bill-tracker", "--", "/bin/sh", "-c", "echo $HOST; exit 7"]).exits(7);
    assert_eq!(told.stdout, format!("{APP}\n"));
    stage.lab.run("systemctl start stead-load-report.service");
    let logs = stage.stead_in_words(&["logs", "--of", "load-report"]).well();
    assert!(logs.stdout.contains("load average"), "{logs}");
    // Two nodes ran side by side because neither is part of a cluster.
    assert_eq!(stage.lab.run("pgrep -x epmd | wc -l"), "0");
}
