//! A generation that does not fit the server: found when it is staged, before anything is switched.

use crate::refusal::{holds, refused, state};
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

/// The small project with this added to its server.
fn with(extra: &str) -> Small {
    Small { extra: extra.to_owned(), ..Small::default() }
}

#[test]
fn what_does_not_fit_the_server_is_refused_before_the_switch_with_the_option_to_mend() {
    let stage = Stage::with_small(&Small::default(), Machine::bookworm());
    let short = stage.stead(&["up"]).well().text("generation")[..8].to_owned();
    let now = format!("  now: the server runs generation {short}");
    let before = state(&stage.lab);

    let ghost = "apps.ghost = { source = inputs.app.path, exec = \"/usr/bin/ghost --now\", packages = [\"python3\"] },";
    with(ghost).write(&stage.project);
    let said = refused(&stage, 3, &["up"]);
    holds(&said, &["error: apps.ghost.exec: there is no program `/usr/bin/ghost`", &now]);

    let service = "runtimes.tools.packages = [\"python3\"],\nsystemd.services.tidy = { runtime = \"tools\", serviceConfig.ExecStart = \"/usr/bin/tidy\" },";
    with(service).write(&stage.project);
    let said = refused(&stage, 3, &["up"]);
    holds(&said, &["error: systemd.services.tidy.serviceConfig.ExecStart: there is no program `/usr/bin/tidy`", &now]);

    // nginx ends at the first mistake; whoever mends it learns of the other site's at once.
    let site = |name: &str, line: &str| {
        format!("services.nginx.virtualHosts.\"{name}\".extraConfig = \"\n    gzip on;\n    {line}\n  \",\n")
    };
    let extra = site("bad.small", "proxy_pas http://nowhere;") + &site("worse.small", "gzipp maybe;");
    with(&extra).write(&stage.project);
    let said = refused(&stage, 3, &["up"]);
    let line = std::fs::read_to_string(stage.project.join("extra.ncl")).unwrap();
    let line_of = |text: &str| 1 + line.lines().position(|line| line.contains(text)).unwrap();
    holds(
        &said,
        &[
            "error: nginx refuses the configuration of the site `bad.small`: unknown directive \"proxy_pas\"",
            "nginx/sites/bad.small.conf:",
            ": proxy_pas http://nowhere;",
            &format!("written in extra.ncl:{}", line_of("proxy_pas")),
            "nginx refuses the configuration of the site `worse.small`: unknown directive \"gzipp\"",
            &format!("written in extra.ncl:{}", line_of("gzipp")),
            &now,
        ],
    );

    // An instance that was given every port there is; nothing listens, but a reboot alone frees them.
    let ports =
        "cd /run/stead/instances && for port in $(seq 20000 29999); do echo \"PORT=$port\" > many-$port.env; done";
    stage.lab.run(ports);
    Small { answer: "two".into(), ..Small::default() }.write(&stage.project);
    let said = refused(&stage, 3, &["up"]);
    holds(&said, &["error: apps.hello.port: no port is free for a new instance", "20000 to 29999", &now]);
    stage.lab.run("cd /run/stead/instances && find . -name 'many-*' -delete");

    with("services.nginx.virtualHosts.\"old.small\".root = \"/var/www/none\",").write(&stage.project);
    let said = refused(&stage, 3, &["up"]);
    holds(&said, &["error: services.nginx.virtualHosts.\"old.small\".root: there is no folder `/var/www/none`", &now]);

    // All of that left things to collect, and nothing that is damaged or served.
    stage.stead(&["verify"]).well();
    assert_eq!((stage.get("app.small", "/").body, state(&stage.lab)), ("one".to_owned(), before));

    // The folder that was missing is served once it is there, from where it is.
    stage.lab.run("mkdir -p /var/www/none && echo from the server > /var/www/none/index.html");
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("old.small", "/").body, "from the server\n");
    stage.lab.run("echo changed > /var/www/none/index.html");
    assert_eq!(stage.get("old.small", "/").body, "changed\n");
}

#[test]
fn a_port_that_a_foreign_program_has_is_refused_with_the_program_and_its_process() {
    let small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    let foreign = |unit: &str, port: u16| {
        // perl-base is essential: every Debian has it.
        let listen = format!(
            "my $s = IO::Socket::INET->new(LocalPort => {port}, Listen => 1) or die; \
             open $f, q(>), q(/run/{unit}.up); close $f; sleep 1000"
        );
        stage.lab.run(&format!("systemd-run -q --unit={unit} perl -MIO::Socket::INET -e '{listen}'"));
        stage.lab.run(&format!("timeout 20 sh -c 'until [ -e /run/{unit}.up ]; do sleep 0.05; done'"));
        stage.lab.show(&format!("{unit}.service"), "MainPID")
    };

    let apache = foreign("apache", 80);
    let said = refused(&stage, 3, &["up"]);
    holds(
        &said,
        &[
            &format!("error: services.nginx.virtualHosts: port 80 is taken on the server by `perl` (process {apache})"),
            "  now: the server runs nothing of Stead's",
            "  do:  stop `perl` on the server, or choose another port",
        ],
    );
    assert_eq!(stage.lab.show("apache.service", "MainPID"), apache, "and it is left alone");
    stage.lab.run("systemctl stop apache");
    stage.stead(&["up"]).well();

    let other = foreign("other", 5000);
    Small::default().write(&stage.project);
    let said = refused(&stage, 3, &["up"]);
    let words = format!("error: apps.hello.port: port 5000 is taken on the server by `perl` (process {other})");
    holds(&said, &[&words, "  now: the server runs generation "]);
    stage.lab.run("systemctl stop other");
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("app.small", "/").body, "one");
}

#[test]
fn a_machine_that_is_another_server_is_left_alone_until_it_is_told_to_become_this_one() {
    let stage = Stage::with_small(&Small { has_app: false, ..Small::default() }, Machine::bookworm());
    let one = stage.stead(&["up"]).well().text("generation");
    let declaration = stage.project.join("stead.ncl");
    let text = std::fs::read_to_string(&declaration).unwrap();
    std::fs::write(&declaration, text.replace("servers.small", "servers.large")).unwrap();
    for command in ["deploy", "up"] {
        let said = refused(&stage, 1, &[command]);
        let words = ["error: this is the declaration of `large`, but ", " is the server `small`", "--rename"];
        holds(&said, &words);
        holds(&said, &[&format!("  now: the server runs generation {}", &one[..8])]);
    }
    let two = stage.stead(&["deploy", "--rename"]).well().text("generation");
    assert_ne!(one, two);
    // Now it is `large`; and what was `small` can be gone back to, as ever.
    assert_eq!(stage.stead(&["deploy"]).well().text("outcome"), "unchanged");
    assert_eq!(stage.stead(&["rollback"]).well().text("generation"), one);
    refused(&stage, 1, &["deploy"]);
}
