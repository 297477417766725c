//! An app that ends or is never healthy takes everything back: exit code 4, the recorded parent runs and is verified,
//! the error has the app's own last words, and visitors go on.

use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage, nobody_noticed};

fn state(stage: &Stage) -> (Option<String>, Option<String>) {
    let status = stage.stead(&["status"]).well().json();
    let field = |name: &str| status[name].as_str().map(str::to_owned);
    (field("active"), field("confirmed"))
}

/// The failure of an app, with the last three lines that every failure has.
fn went_back(outcome: Outcome, last_words: &str) {
    let outcome = outcome.exits(4).tells(last_words).tells("stead-hello@");
    let lines: Vec<&str> = outcome.stderr.trim_end().lines().rev().take(2).collect();
    assert!(lines[0].starts_with("  do:  ") && lines[1].starts_with("  now: "), "{outcome}");
    assert!(lines[1].contains("back") && lines[1].contains("verified"), "{outcome}");
}

#[test]
fn a_first_deploy_that_fails_leaves_nothing_running_and_the_next_one_works() {
    let mut small =
        Small { prelude: "print('the moon is missing', flush=True); sys.exit(3)".into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let users = stage.lab.run("cat /etc/passwd /etc/group");
    went_back(stage.stead_in_words(&["up"]), "the moon is missing");

    assert_eq!(state(&stage), (None, None));
    assert_eq!(stage.lab.units("stead-*"), [""; 0]);
    assert_eq!(stage.lab.run("cat /etc/passwd /etc/group"), users, "the users that it made are gone");
    assert_eq!(stage.lab.run("ss -Hltn 'sport = 80'"), "", "nobody listens");
    let history = stage.stead(&["history"]).well().json();
    assert_eq!(history[0]["phase"], "wentBack");
    assert!(history[0]["reason"].as_str().unwrap().contains("the moon is missing"), "{history}");

    small.prelude = String::new();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("app.small", "/").body, "one");
}

#[test]
fn a_later_deploy_that_fails_goes_back_to_the_recorded_parent_and_visitors_go_on() {
    let good = Small::default();
    let stage = Stage::with_small(&good, Machine::bookworm());
    let parent = stage.stead(&["up"]).well().text("generation");
    let runs_parent = (Some(parent.clone()), Some(parent));
    let instance = stage.lab.units("stead-hello@*");
    let started = stage.lab.show(&instance[0], "ActiveEnterTimestampMonotonic");

    // Never reaches the visitors: nobody may notice, and nginx itself is left alone.
    let epoch = || stage.lab.run("cat /run/stead/upstreams/epoch.conf");
    let reloaded = epoch();
    for (prelude, last_words) in [
        ("print('the moon is missing', flush=True); sys.exit(3)", "the moon is missing"),
        ("print('I am not well', flush=True); sick = True", "I am not well"),
        // Never listens; and listens, but answers the question whether it is well later than anybody waits.
        ("print('I have time', flush=True); time.sleep(600)", "I have time"),
        (
            "def slowly(self, *words):
    print('I am slow', flush=True)
    time.sleep(1.5 if self.path == '/health' else 0)
    return at_once(self, *words)
at_once, BaseHTTPRequestHandler.send_response = BaseHTTPRequestHandler.send_response, slowly",
            "I am slow",
        ),
    ] {
        let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[("app.small", "/ws")]);
        let extra = "apps.hello.health.timeout = 1,".into();
        Small { prelude: prelude.into(), page: "another page\n".into(), extra, ..good.clone() }.write(&stage.project);
        went_back(stage.stead_in_words(&["up"]), last_words);
        nobody_noticed(visitors);
        assert_eq!(state(&stage), runs_parent);
        assert_eq!(stage.lab.units("stead-hello@*"), instance, "{last_words}");
        assert_eq!(stage.get("site.small", "/").body, "page one\n");
        assert_eq!(epoch(), reloaded, "{last_words}");
    }

    // Healthy at first, so that visitors meet it: what it cannot spoil is the other site.
    for (seconds, words) in [("1.0", ["up", "--soak", "5"].as_slice()), ("2.0", &["up", "--soak", "4"])] {
        let visitors = stage.visitors(&[("site.small", "/")], &[]);
        let prelude = format!(
            "def leave():\n    print('I have to go', flush=True)\n    os._exit(7)\nthreading.Timer({seconds}, leave).start()"
        );
        Small { prelude, page: "another page\n".into(), ..good.clone() }.write(&stage.project);
        went_back(stage.stead_in_words(words), "I have to go");
        nobody_noticed(visitors);
        assert_eq!(state(&stage), runs_parent);
        assert_eq!(stage.get("site.small", "/").body, "page one\n");
        assert_eq!(stage.get("app.small", "/").body, "one");
    }

    // The parent's own instance never stopped.
    assert_eq!(stage.lab.units("stead-hello@*"), instance);
    assert_eq!(stage.lab.show(&instance[0], "ActiveEnterTimestampMonotonic"), started);
}
