//! Every site is asked before a deploy is confirmed, from the server itself and from the operator's machine. What the
//! deploy broke takes it back at once, with the question and the last answer; what was broken before does not.

use std::process::Stdio;
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage, nobody_noticed, wait};

/// A site beside the small project's own, with this location at its root.
fn site(name: &str, location: &str) -> String {
    format!("services.nginx.virtualHosts.\"{name}\".locations.\"/\" = {{ {location} }},\n")
}

fn runs(stage: &Stage, generation: &str) {
    let status = stage.stead(&["status"]).well().json();
    assert_eq!((status["active"].as_str(), status["confirmed"].as_str()), (Some(generation), Some(generation)));
}

/// Went back with all of these words, and because it was asked, not because a deadline passed.
fn went_back(outcome: Outcome, words: &[&str]) {
    let outcome = words.iter().fold(outcome.exits(4), |outcome, words| outcome.tells(words));
    assert!(!outcome.stderr.contains("did not arrive"), "{outcome}");
}

/// How a probe ended from a side, by the document of a deploy.
fn verdict(outcome: &Outcome, probe: &str, side: &str) -> String {
    let document = outcome.json();
    let probes = document["probes"].as_array().unwrap_or_else(|| panic!("no probes: {outcome}"));
    let found = probes.iter().find(|known| known["probe"] == probe && known["side"] == side);
    found.unwrap_or_else(|| panic!("{probe} was not asked by the {side}: {outcome}"))["verdict"]
        .as_str()
        .expect("a verdict is a word")
        .into()
}

#[test]
fn a_site_that_a_deploy_breaks_takes_it_back_at_once_and_other_sites_lose_nothing() {
    let good = Small { extra: site("third.small", "return = \"200 well\""), ..Small::default() };
    let stage = Stage::with_small(&good, Machine::bookworm());
    let first = stage.stead(&["up"]).well();
    let parent = first.text("generation");
    for name in ["app.small", "site.small", "third.small"] {
        for side in ["server", "operator"] {
            assert_eq!(verdict(&first, &format!("site {name}"), side), "passed");
        }
    }
    let unchanged = stage.stead(&["up"]).well();
    assert_eq!(unchanged.json()["probes"], serde_json::json!([]), "what changes nothing asks nothing");

    // The app is well by its health check; its site is not, by nginx's configuration. The login that would confirm has
    // more time than the test.
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[("app.small", "/ws")]);
    let extra = site("third.small", "return = \"503 under-construction\"");
    Small { extra, page: "another page\n".into(), ..good.clone() }.write(&stage.project);
    went_back(
        stage.stead_in_words(&["up", "--confirm-deadline", "3000"]),
        &["site third.small", "http://third.small/ at ", "status 503", "under-construction", "verified"],
    );
    nobody_noticed(visitors);
    runs(&stage, &parent);
    assert_eq!(stage.get("third.small", "/").body, "well");
    assert_eq!(stage.get("site.small", "/").body, "page one\n");

    // An app that is well where its health is asked, and fails where its visitors are.
    let prelude = "send = BaseHTTPRequestHandler.send_response\n\
                   def refuse(self, code): send(self, 500 if self.path == '/' else code)\n\
                   BaseHTTPRequestHandler.send_response = refuse";
    Small { prelude: prelude.into(), ..good.clone() }.write(&stage.project);
    let visitors = stage.visitors(&[("site.small", "/"), ("third.small", "/")], &[]);
    went_back(
        stage.stead_in_words(&["up", "--confirm-deadline", "3000"]),
        &["site app.small", "http://app.small/ at ", "status 500", "verified"],
    );
    nobody_noticed(visitors);
    runs(&stage, &parent);
    assert_eq!(stage.get("app.small", "/").body, "one");
}

/// A program on port 9100 of the server that is none of Stead's.
fn start_foreign(stage: &Stage) {
    // perl-base is essential: every Debian has it.
    let answer = r#"my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:9100", Listen => 64, ReuseAddr => 1) or die $!;
        while ($c = $s->accept) { while (<$c>) { last if /^\r?\n$/ } print $c "HTTP/1.0 200 OK\r\n\r\nforeign"; close $c }"#;
    stage.lab.run(&format!("systemd-run -q --collect --unit=foreign perl -MIO::Socket::INET -e '{answer}'"));
    let answers = || stage.lab.try_run("ss -Hltn 'sport = 9100' | grep -q 9100").status;
    wait::until_is("the foreign program listens", Duration::from_secs(10), 0, answers);
}

fn stop_foreign(stage: &Stage) {
    stage.lab.run("systemctl stop foreign.service");
}

fn foreign() -> String {
    site("foreign.small", "proxyPass = \"http://127.0.0.1:9100\"")
}

#[test]
fn a_site_that_was_broken_before_is_told_and_blocks_nothing_and_a_declared_probe_always_counts() {
    let mut small = Small { extra: foreign(), has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead_in_words(&["update"]).well();
    stage
        .stead_in_words(&["check"])
        .well()
        .tells("warning: services.nginx.virtualHosts.\"foreign.small\"")
        .tells("9100");
    start_foreign(&stage);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("foreign.small", "/").body, "foreign");

    stop_foreign(&stage);
    small.page = "page two\n".into();
    small.write(&stage.project);
    let outcome = stage.stead(&["up"]).well().tells("site foreign.small does not answer as it should");
    assert_eq!(verdict(&outcome, "site foreign.small", "server"), "failedBefore");
    assert_eq!(verdict(&outcome, "site foreign.small", "operator"), "failedBefore");
    assert_eq!(verdict(&outcome, "site site.small", "operator"), "passed");
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
    let second = outcome.text("generation");

    let probe = "probes.foreign = { url = \"http://foreign.small/\", interval = \"500ms\", deadline = 2, from = \"server\" },\n";
    small.extra.push_str(probe);
    small.write(&stage.project);
    went_back(
        stage.stead_in_words(&["up"]),
        &["probe foreign", "http://foreign.small/ at 127.0.0.1:80", "status 502", "verified"],
    );
    runs(&stage, &second);

    start_foreign(&stage);
    let outcome = stage.stead(&["up"]).well();
    assert_eq!(verdict(&outcome, "probe foreign", "server"), "passed");
}

#[test]
fn what_only_the_operators_machine_cannot_reach_goes_back_at_once() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let parent = stage.stead(&["up"]).well().text("generation");
    let close = "nft add table inet closed && nft 'add chain inet closed input { type filter hook input priority 0; }' && \
                 nft add rule inet closed input iifname eth0 tcp dport 8080 reject with tcp reset";
    stage.lab.run(close);

    let eight = "services.nginx.virtualHosts.\"eight.small\" = { listen = [{ port = 8080 }], locations.\"/\".return = \"200 eight\" },\n";
    small.extra = eight.into();
    small.write(&stage.project);
    let visitors = stage.visitors(&[("site.small", "/")], &[]);
    let words = ["site eight.small", "from the operator's machine", "no connection", "verified"];
    let asked = format!("http://eight.small:8080/ at {}", stage.lab.port(8080));
    went_back(stage.stead_in_words(&["up", "--confirm-deadline", "3000"]), &[&words[..], &[&asked]].concat());
    nobody_noticed(visitors);
    runs(&stage, &parent);

    stage.lab.run("nft delete table inet closed");
    let outcome = stage.stead(&["up"]).well();
    assert_eq!(verdict(&outcome, "site eight.small", "operator"), "passed");

    // Closed again, but not by the deploy.
    stage.lab.run(close);
    small.page = "page two\n".into();
    small.write(&stage.project);
    let outcome = stage.stead(&["up"]).well();
    assert_eq!(verdict(&outcome, "site eight.small", "server"), "passed");
    assert_eq!(verdict(&outcome, "site eight.small", "operator"), "failedBefore");
    let generation = outcome.text("generation");

    // Declared, it counts.
    small.extra.push_str(
        "probes.eight = { url = \"http://eight.small:8080/\", body = \"eight\", interval = \"100ms\", deadline = 1, from = \"operator\" },\n",
    );
    small.write(&stage.project);
    went_back(
        stage.stead_in_words(&["up", "--confirm-deadline", "3000"]),
        &["probe eight", "from the operator's machine", "no connection"],
    );
    runs(&stage, &generation);
}

#[test]
fn a_way_back_on_which_a_site_does_not_answer_any_more_needs_a_person_and_says_what_works() {
    let mut small = Small { extra: foreign(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    start_foreign(&stage);
    let parent = stage.stead(&["up"]).well().text("generation");

    small.page = "page two\n".into();
    small.write(&stage.project);
    let mut command = stage.command(&["up", "--no-confirm", "--confirm-deadline", "10"]);
    let client = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be run");
    wait::until("everything is proved", Duration::from_secs(60), || {
        let proved = stage.lab.try_run("grep -l '\"phase\": \"proved\"' /var/lib/stead/activations/*/record.json");
        (proved.status == 0).then_some(())
    });
    stop_foreign(&stage);
    let output = client.wait_with_output().expect("a child ends");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{words}");
    for expected in [
        "going back failed",
        "what does not work:",
        "site foreign.small does not answer as it should, from the server itself",
        "status 502",
        "what works: stead-hello@",
        "hello is healthy",
        "site site.small answers",
        "  do:  ",
    ] {
        assert!(words.contains(expected), "{expected:?} is missing\n{words}");
    }
    runs(&stage, &parent);
    assert_eq!(stage.get("site.small", "/").body, "page one\n");

    start_foreign(&stage);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
}
