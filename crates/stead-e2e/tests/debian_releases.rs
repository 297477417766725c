//! Debian releases: of the packages, which are the project's choice, and of the server, which is not.

use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, nobody_noticed, wait};

fn python(stage: &Stage) -> String {
    let told = stage.stead(&["exec", "--app", "hello", "--", "/usr/bin/python3", "--version"]).well();
    told.stdout.trim().to_owned()
}

#[test]
fn a_project_moves_from_debian_12_to_13_and_back_and_visitors_go_on() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    assert!(python(&stage).starts_with("Python 3.11."), "{}", python(&stage));

    for (debian, version) in [("trixie", "Python 3.13."), ("bookworm", "Python 3.11.")] {
        small.debian = debian;
        small.write(&stage.project);
        // Without an update nothing moves: the lock does not fit, and says so.
        stage.stead(&["deploy"]).exits(1).tells("stead update");
        let moved = stage.stead(&["update"]).well().json();
        let names: Vec<&str> = moved.as_array().unwrap().iter().filter_map(|row| row["what"].as_str()).collect();
        assert!(names.contains(&"nginx") && names.contains(&"python3"), "{names:?}");
        let planned = stage.stead(&["plan"]).well().json();
        let packages: Vec<&str> =
            planned["packages"].as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
        assert!(packages.contains(&"nginx") && packages.contains(&"libc6"), "{packages:?}");

        let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
        stage.stead(&["deploy"]).well();
        nobody_noticed(visitors);
        assert!(python(&stage).starts_with(version), "{}", python(&stage));
        assert_eq!(
            (stage.get("app.small", "/").body, stage.get("site.small", "/").body),
            ("one".into(), "page one\n".into())
        );
    }
}

#[test]
fn a_server_with_debian_13_runs_the_same_project() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::trixie());
    assert!(stage.lab.run("systemctl --version").starts_with("systemd 257"));
    let first = stage.stead(&["up"]).well().text("generation");
    assert_eq!(
        (stage.get("app.small", "/").body, stage.get("site.small", "/").body),
        ("one".into(), "page one\n".into())
    );

    small.answer = "two".into();
    small.page = "page two\n".into();
    small.extra = "services.nginx.drain = 29,".into();
    small.write(&stage.project);
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
    stage.stead(&["up"]).well();
    assert_eq!(
        (stage.get("app.small", "/").body, stage.get("site.small", "/").body),
        ("two".into(), "page two\n".into())
    );
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), first);
    nobody_noticed(visitors);

    stage.lab.cut_and_boot();
    wait::until_is("the app after a boot", Duration::from_secs(20), "one".to_owned(), || {
        stage.get("app.small", "/").body
    });
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
}
