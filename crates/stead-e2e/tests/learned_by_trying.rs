//! What was once tried and failed, row by row of the design's table "Learned by trying". Each test names its row.
//! Rows about PostgreSQL and `/etc/passwd` are in `names.rs`.

use std::time::Duration;
use stead_e2e::lab::{Lab, Machine};
use stead_e2e::{Small, Stage, http, nobody_noticed, wait};

/// The one unit of nginx that visitors meet.
fn nginx(lab: &Lab) -> String {
    let units = lab.units("stead-nginx@*");
    assert_eq!(units.len(), 1, "one nginx is active: {units:?}");
    units[0].clone()
}

/// Row: "a drop-in of sshd as a link through `active`, with `confirmed` missing": sshd did not start after boot.
#[test]
fn a_missing_or_dangling_confirmed_pointer_never_locks_the_operator_out() {
    let stage = Stage::with_small(&Small { has_app: false, ..Small::default() }, Machine::bookworm());
    stage.stead(&["up"]).well();
    // Row: "`/etc/hostname` as a link": PID 1 reads it before generators run. Nothing in /etc leads to Stead's folders.
    assert_eq!(stage.lab.run("find /etc -type l -lname '*stead*'"), "");
    assert_eq!(stage.lab.run("find /etc -name '*stead*' ! -type f"), "", "what Stead places there are files");
    let name = stage.lab.run("stat -c %F /etc/hostname; cat /etc/hostname; hostname");
    assert!(name.starts_with("regular file\n"), "{name}");
    let damages = [
        "rm /var/lib/stead/confirmed",
        "ln -sfn generations/$(printf %064d 0) /var/lib/stead/confirmed",
        "ln -sfn nowhere /var/lib/stead/confirmed",
    ];
    for damage in damages {
        stage.lab.run(damage);
        stage.lab.cut_and_boot();
        assert_eq!(stage.lab.ssh("echo in").well().stdout, "in\n");
        assert_eq!(stage.lab.run("systemctl is-system-running"), "running", "{damage}");
        assert_eq!(stage.lab.run("stat -c %F /etc/hostname; cat /etc/hostname; hostname"), name, "{damage}");
        assert_eq!(stage.lab.units("stead-*"), [""; 0], "{damage}");
        stage.stead(&["up"]).well();
        assert_eq!(stage.get("site.small", "/").body, "page one\n", "{damage}");
    }
}

/// Row: "two files of one size with normalised times, hard-linked": the new content was answered 304.
#[test]
fn a_changed_file_of_the_same_size_is_never_answered_not_modified() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let old = stage.get("site.small", "/");
    let etag = old.header("etag").unwrap().to_owned();
    let modified = old.header("last-modified").unwrap().to_owned();
    let conditions = [("If-None-Match", &*etag), ("If-Modified-Since", &*modified)];
    for condition in conditions {
        assert_eq!(stage.get_with("site.small", "/", &[condition]).status, 304, "nothing changed yet: {condition:?}");
    }

    small.page = "page 2!!\n".into();
    assert_eq!(small.page.len(), old.body.len());
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    for condition in conditions {
        let new = stage.get_with("site.small", "/", &[condition]);
        assert_eq!((new.status, &*new.body), (200, "page 2!!\n"), "{condition:?}");
        assert_ne!(new.header("etag"), Some(&*etag));
    }
}

/// Rows: "`BindReadOnlyPaths=/run/stead/active` and reload": the old generation was served; and
/// "`ExecReload=/bin/kill …` in a runtime without it": 203/EXEC.
#[test]
fn a_reload_without_any_program_of_the_runtime_serves_the_new_generation_at_once() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let unit = nginx(&stage.lab);
    let runtime = stage.lab.show(&unit, "RootDirectory");
    assert!(runtime.starts_with("/var/lib/stead/runtimes/"), "{runtime}");
    let programs = format!("ls {runtime}/bin/sh {runtime}/bin/kill {runtime}/usr/sbin/nginx 2>/dev/null; true");
    assert_eq!(stage.lab.run(&programs), format!("{runtime}/usr/sbin/nginx"), "neither a shell nor a kill");
    let process = stage.lab.show(&unit, "MainPID");

    for page in ["page two\n", "page three\n"] {
        small.page = page.into();
        small.write(&stage.project);
        stage.stead(&["up"]).well();
        assert_eq!(stage.get("site.small", "/").body, page);
        assert_eq!(nginx(&stage.lab), unit);
        let planned = stage.lab.run("cat /run/stead/active/generation.json");
        let planned: serde_json::Value = serde_json::from_str(&planned).unwrap();
        let served = stage.lab.run("curl -sS --unix-socket /run/stead/sockets/nginx.sock http://stead/configuration");
        assert_eq!(served.split(' ').next(), planned["nginx"]["configuration"].as_str());
    }
    assert_eq!(stage.lab.show(&unit, "MainPID"), process, "nginx was reloaded, not restarted");
}

/// Learned by these tests: a worker that was woken for a connection which another had taken waited in accept(2) on
/// the socket, which systemd had made a blocking one; its visitors got no answer, and it never noticed the end.
#[test]
fn no_socket_of_nginx_can_block_it_also_after_another_instance_started() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    for drain in [30, 31] {
        small.extra = format!("services.nginx.drain = {drain},");
        small.write(&stage.project);
        stage.stead(&["up"]).well();
        let process = stage.lab.show(&nginx(&stage.lab), "MainPID");
        // Port 80 of both families and Stead's own socket, as nginx found them; flags are octal (open(2)).
        let flags = stage.lab.run(&format!("cd /proc/{process}/fdinfo; sed -n 's/^flags:[[:space:]]*//p' 3 4 5"));
        let blocking: Vec<&str> = flags
            .lines()
            .filter(|flags| u32::from_str_radix(flags, 8).expect("flags are octal") & 0o4000 == 0)
            .collect();
        assert_eq!((flags.lines().count(), blocking.len()), (3, 0), "{flags}");
    }
}

/// Row: "nginx restarted under systemd sockets, short requests only": none lost.
#[test]
fn restarts_of_nginx_lose_no_request() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    stage.stead(&["up"]).well();
    let visitors = stage.visitors(&[("app.small", "/"), ("site.small", "/")], &[]);
    for _ in 0..5 {
        stage.lab.run(&format!("systemctl restart {}", nginx(&stage.lab)));
        let asked = visitors.report().requests;
        wait::until("visitors met this one", Duration::from_secs(10), || {
            (visitors.report().requests > asked + 100).then_some(())
        });
    }
    nobody_noticed(visitors);
}

/// Rows: "the same with one open WebSocket": every new request waited for the old process to stop; and
/// "`daemon-reload` with the old instance's unit gone": it lost its stop signal, timeout and restart policy.
#[test]
fn a_new_nginx_takes_over_beside_the_old_one_which_keeps_its_websockets_and_its_settings() {
    let mut small = Small { extra: "services.nginx.drain = 120,".into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let old = nginx(&stage.lab);
    let pages = [("app.small", "/"), ("site.small", "/")];
    let visitors = stage.visitors(&pages, &[("app.small", "/ws"), ("app.small", "/ws")]);

    small.extra = "services.nginx.drain = 121,".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    let new = nginx(&stage.lab);
    assert_ne!(old, new);
    let ticks = visitors.report().web_socket_messages;
    wait::until("the WebSockets go on ticking", Duration::from_secs(5), || {
        (visitors.report().web_socket_messages > ticks + 10).then_some(())
    });

    let settings = || {
        ["ActiveState", "LoadState", "KillSignal", "TimeoutStopUSec", "Restart"]
            .map(|property| stage.lab.show(&old, property))
    };
    let wanted = ["deactivating", "loaded", "3", "2min 5s", "always"];
    assert_eq!(settings(), wanted);
    stage.lab.run("systemctl daemon-reload");
    assert_eq!(settings(), wanted);
    let listed = stage.stead(&["status"]).well().json();
    assert!(listed["units"].as_array().unwrap().iter().any(|unit| unit["name"] == *old), "it is told: {listed}");

    let report = nobody_noticed(visitors);
    assert_eq!(report.web_sockets_opened, 2);
    assert!(report.longest_pause_ms < 1000.0, "{report:#?}");
    // Its last visitors have gone.
    wait::until_is("the old nginx", Duration::from_secs(20), "inactive".to_owned(), || {
        stage.lab.show(&old, "ActiveState")
    });
    assert_eq!(nginx(&stage.lab), new);
}

/// Row: "the same with one open WebSocket": a socket unit added later was refused.
#[test]
fn a_port_added_later_is_accepted_and_one_removed_is_refused_while_visitors_go_on() {
    let drain = "services.nginx.drain = 120,";
    let mut small = Small { extra: drain.into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    let on = |port| http::get(stage.lab.port(port), "site.small", "/", &[]).map(|answer| answer.body);
    assert!(on(8081).is_err());

    let pages = [("app.small", "/"), ("site.small", "/")];
    let visitors = stage.visitors(&pages, &[("app.small", "/ws")]);
    let ports = "services.nginx.virtualHosts.\"site.small\".listen = [{ port = 80 }, { port = 8081 }],";
    small.extra = format!("{drain}\n{ports}");
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(on(8081).expect("the new port answers"), "page one\n");

    // While this WebSocket is open, the nginx that had both ports drains.
    let later = stage.visitors(&pages, &[("app.small", "/ws")]);
    small.extra = "services.nginx.drain = 121,".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    let refused = on(8081).expect_err("the port is closed").kind();
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    for visitors in [visitors, later] {
        assert_eq!(nobody_noticed(visitors).web_sockets_opened, 1);
    }
}

/// Row: "credentials and reload": a reload keeps the old ones, so a changed secret starts a new instance.
#[test]
fn a_changed_credential_starts_its_service_anew_and_is_what_it_then_has() {
    let with = |secret: &str| {
        let extra = format!(
            "runtimes.tools.packages = [\"python3-minimal\"],
            systemd.services.keeper = {{
              runtime = \"tools\",
              wantedBy = [\"multi-user.target\"],
              serviceConfig = {{
                User = \"keeper\",
                SetCredential = \"token:{secret}\",
                ExecStart = \"/usr/bin/python3 -u -c \\\"import os, signal; print(open(os.environ['CREDENTIALS_DIRECTORY'] + '/token').read()); signal.pause()\\\"\",
              }},
            }},"
        );
        Small { has_app: false, extra, ..Small::default() }
    };
    let stage = Stage::with_small(&with("first"), Machine::bookworm());
    stage.stead(&["up"]).well();
    let process = || stage.lab.show("stead-keeper.service", "MainPID");
    let said = || stage.lab.run(&format!("journalctl --output=cat _PID={}", process()));
    let has = || stage.lab.run(&format!("cat /proc/{}/root/run/credentials/stead-keeper.service/token", process()));
    let first = process();
    wait::until_is("what the service read", Duration::from_secs(10), "first".to_owned(), said);

    with("second").write(&stage.project);
    stage.stead(&["update"]).well();
    let planned = stage.stead_in_words(&["plan"]).well().stdout;
    assert!(planned.contains("restart") && planned.contains("stead-keeper.service"), "{planned}");
    stage.stead(&["deploy"]).well();
    assert_ne!(process(), first, "it was started anew");
    wait::until_is("what the service read", Duration::from_secs(10), "second".to_owned(), said);
    assert_eq!(has(), "second");

    // And back again.
    stage.stead(&["rollback"]).well();
    wait::until_is("what the service read", Duration::from_secs(10), "first".to_owned(), said);
}
