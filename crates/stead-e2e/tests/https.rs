//! HTTPS: certificates of a real authority, whatever becomes of it and of them.

use std::time::Duration;
use stead_e2e::authority::Authority;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage, wait};

const TLS: &str = "enableACME = true, forceSSL = true";
const RENEW: &str = "systemctl start stead-certificates-renew.service";

/// The small project, both sites with TLS by this authority.
fn with_tls(stage: &Stage, authority: &Authority, more: &str) -> Small {
    let extra = format!(
        "services.nginx.virtualHosts.\"site.small\" = {{ {TLS}, serverAliases = [\"www.site.small\"] }},
         services.nginx.virtualHosts.\"app.small\" = {{ {TLS} }},
         security.acme = {{ {} }}, {more}",
        authority.declared(&stage.project)
    );
    Small { extra, ..Small::default() }
}

/// Name and state of each certificate, as `stead status` tells them.
fn states(stage: &Stage) -> Vec<(String, String)> {
    let status = stage.stead(&["status"]).json();
    let text = |one: &serde_json::Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    let all = status["certificates"].as_array().cloned().unwrap_or_default();
    all.iter().map(|one| (text(one, "name"), text(one, "state"))).collect()
}

fn all_valid(stage: &Stage) {
    let valid = |name: &str| (name.to_owned(), "valid".to_owned());
    assert_eq!(states(stage), [valid("app.small"), valid("site.small")]);
}

/// The serial number of what a site shows.
fn serial(stage: &Stage, name: &str) -> String {
    let show = format!(
        "openssl x509 -noout -serial -in /var/lib/stead-acme/certificates/{name}/live/fullchain.pem 2>/dev/null \
         || sha256sum /var/lib/stead-acme/certificates/{name}/live/fullchain.pem"
    );
    stage.lab.run(&show)
}

#[test]
fn a_first_deploy_ends_with_real_certificates_and_http_leads_to_them() {
    let stage = Stage::new(Machine::bookworm());
    let authority = Authority::beside(&stage.lab, 0);
    let mut small = with_tls(&stage, &authority, "");
    small.write(&stage.project);
    stage.stead_in_words(&["up"]).well().tells("the certificate for site.small, www.site.small is there");
    all_valid(&stage);
    for name in ["site.small", "www.site.small"] {
        let page = authority.curl(&format!("https://{name}/"), &[]).well();
        assert_eq!(page.stdout, "page one\n\n200  h2", "{page}");
    }
    assert!(authority.curl("https://app.small/", &[]).well().stdout.starts_with("one"));
    // In clear there is only the way to TLS, also where a port is forwarded to.
    let there = stage.get("site.small", "/a?b");
    assert_eq!((there.status, there.header("location")), (301, Some("https://site.small/a?b")));
    assert_eq!(stage.get("site.small:8080", "/").header("location"), Some("https://site.small:8443/"));
    // A name that no site has is shown no certificate.
    assert_ne!(authority.curl("https://other.small/", &["--insecure"]).status, 0);
    assert_eq!(stage.get("other.small", "/").status, 404);
    let lines = stage.stead_in_words(&["logs", "--of", "site.small"]).well().stdout;
    assert!(lines.contains("site.small:443 ") && lines.contains("\"GET /a?b HTTP/1.0\" 301"), "{lines}");
    assert!(!lines.contains("app.small:443 "), "{lines}");
    // Keys are nobody's business but nginx's.
    let modes = "cd /var/lib/stead-acme && stat -Lc '%a %U' accounts certificates/site.small/live/key.pem accounts/*";
    let modes = stage.lab.run(modes);
    assert!(modes.lines().all(|line| ["700 root", "600 root", "600 www-data"].contains(&line)), "{modes}");

    // The same again changes nothing, and a deploy of something else asks for nothing.
    let before = serial(&stage, "site.small");
    assert_eq!(stage.stead(&["deploy"]).well().text("outcome"), "unchanged");
    small.page = "page two\n".into();
    small.write(&stage.project);
    let up = stage.stead_in_words(&["up"]).well();
    assert!(!up.stderr.contains("asking"), "{up}");
    stage.stead(&["rollback"]).well();
    assert_eq!(serial(&stage, "site.small"), before);
    assert!(authority.curl("https://site.small/", &[]).well().stdout.starts_with("page one"));
    stage.stead(&["verify"]).well();
    every_snapshot_of_a_configuration_passes(&stage);
}

/// What the planner's tests keep as right is right for the nginx that runs here.
fn every_snapshot_of_a_configuration_passes(stage: &Stage) {
    let snapshots = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../stead-plan/src");
    for snapshot in [
        "snapshots/stead_plan__tests__two_sites_become_these_files.snap",
        "nginx/tls/snapshots/stead_plan__nginx__tls__tests__sites_with_tls_become_these_files.snap",
    ] {
        let text = std::fs::read_to_string(snapshots.join(snapshot)).expect("the planner's snapshot is there");
        stage.lab.run(
            "rm -rf /srv/snapshot && mkdir -p /srv/snapshot/sockets /srv/snapshot/upstreams /srv/snapshot/certificates",
        );
        let mut certificates = std::collections::BTreeSet::new();
        for file in text.split("\n==== ").skip(1) {
            let (path, text) = file.split_once('\n').unwrap_or((file, ""));
            let Some(path) = path
                .strip_prefix("nginx/")
                .map(|path| format!("nginx/{path}"))
                .or_else(|| path.strip_prefix("run/").map(str::to_owned))
            else {
                continue;
            };
            let named = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("ssl_certificate /var/lib/stead-acme/certificates/"));
            certificates.extend(named.filter_map(|rest| rest.split('/').next()).map(str::to_owned));
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            stage.lab.run(&format!(
                "mkdir -p '/srv/snapshot/{folder}' && cat > '/srv/snapshot/{path}' <<'END'\n{text}\nEND"
            ));
        }
        for name in &certificates {
            let of = "/var/lib/stead-acme/certificates/site.small/live";
            stage.lab.run(&format!(
                "mkdir -p /srv/snapshot/certificates/{name} && cp -rL {of} /srv/snapshot/certificates/{name}/live"
            ));
        }
        let test = "root=$(systemctl show --value -p RootDirectory 'stead-nginx@*.service' | head -n 1) && \
            systemd-run --quiet --pipe --wait --collect -p RootDirectory=$root -p MountAPIVFS=yes \
            -p 'TemporaryFileSystem=/var/cache /var/log /run:mode=0755' \
            -p BindReadOnlyPaths='/var/lib/stead /srv/snapshot/nginx:/run/snapshot /srv/snapshot/upstreams:/run/stead/upstreams' \
            -p BindReadOnlyPaths='/run/stead/names /srv/snapshot/certificates:/var/lib/stead-acme/certificates' \
            -p BindReadOnlyPaths=/dev/null:/run/stead/sockets/nginx.sock \
            -- /usr/sbin/nginx -t -q -c /run/snapshot/nginx.conf";
        let told = stage.lab.try_run(test);
        assert!(told.status == 0, "{snapshot}\n{told}");
    }
}

#[test]
fn an_authority_that_is_down_or_finds_no_way_here_fails_no_deploy_and_is_asked_again() {
    let stage = Stage::new(Machine::bookworm());
    let mut authority = Authority::beside(&stage.lab, 0);
    authority.pebble.stop();
    let small = Small { has_app: false, ..with_tls(&stage, &authority, "") };
    let small = Small {
        extra: small.extra.replace("\"app.small\" = {", "\"app.small\" = { locations.\"/\".return = \"204\","),
        ..small
    };
    small.write(&stage.project);
    let up = stage.stead(&["up"]).well();
    let notes = up.json()["notes"].to_string();
    for words in ["no certificate for site.small, www.site.small yet: ", "cannot be reached", "asked again at "] {
        assert!(notes.contains(words), "{words}\n{up}");
    }
    // The site is served, with a stand-in that nobody trusts.
    assert!(authority_trusts_nothing(&stage));
    assert_eq!(states(&stage)[1], ("site.small".to_owned(), "stand-in".to_owned()));
    assert_eq!(stage.lab.show("stead-certificates-retry.timer", "ActiveState"), "active");
    // Neither a boot nor a broken file changes that.
    stage.lab.run("echo broken > /var/lib/stead-acme/certificates/app.small/live/fullchain.pem");
    stage.lab.cut_and_boot();
    wait::until("the site answers after the boot", Duration::from_secs(30), || {
        authority_trusts_nothing(&stage).then_some(())
    });

    // The authority is back, but its DNS knows one of the names as somebody else's.
    authority.pebble.restart();
    authority.pebble.resolve("www.site.small", &["127.0.0.9".parse().unwrap()]);
    let deploy = stage.stead(&["deploy"]).well();
    let notes = deploy.json()["notes"].to_string();
    assert!(notes.contains("no certificate for site.small, www.site.small yet: www.site.small: "), "{deploy}");
    assert_eq!(states(&stage)[0], ("app.small".to_owned(), "valid".to_owned()));
    assert_eq!(authority.curl("https://app.small/", &[]).well().stdout, "\n204  h2");

    // It knows better now: whoever deploys does not wait for the timer.
    let std::net::IpAddr::V4(address) = stage.lab.address() else { panic!("labs have addresses of IPv4") };
    authority.pebble.resolve("www.site.small", &[address]);
    stage.stead_in_words(&["deploy"]).well().tells("the certificate for site.small, www.site.small is there");
    all_valid(&stage);
    assert_eq!(authority.curl("https://site.small/", &[]).well().stdout, "page one\n\n200  h2");
}

/// Whether site.small answers over TLS, with a certificate that it signed itself.
fn authority_trusts_nothing(stage: &Stage) -> bool {
    let address = stage.lab.address();
    let ask = |more: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--max-time", "5", "--connect-to", &format!("::{address}:")]).args(more);
        curl.arg("https://site.small/").output().expect("curl is on this machine")
    };
    let insecure = ask(&["--insecure"]);
    insecure.status.success() && insecure.stdout == b"page one\n" && ask(&[]).status.code() == Some(60)
}

#[test]
fn certificates_are_renewed_in_time_and_outlive_rollbacks_and_damage() {
    let stage = Stage::new(Machine::bookworm());
    // In the last third of this life they are renewed.
    let mut authority = Authority::beside(&stage.lab, 60);
    let mut small = with_tls(&stage, &authority, "");
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    let first = serial(&stage, "site.small");
    small.page = "page two\n".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();

    // Nothing is due yet; the authority forgets the account meanwhile.
    stage.lab.run(RENEW);
    assert_eq!(serial(&stage, "site.small"), first);
    authority.pebble.restart();
    wait::until("it was due and renewed", Duration::from_secs(90), || {
        stage.lab.run(RENEW);
        (serial(&stage, "site.small") != first).then_some(())
    });
    assert_eq!(authority.curl("https://site.small/", &[]).well().stdout, "page two\n\n200  h2");
    let renewed = serial(&stage, "site.small");
    stage.stead(&["rollback"]).well();
    assert_eq!(serial(&stage, "site.small"), renewed);
    assert_eq!(authority.curl("https://site.small/", &[]).well().stdout, "page one\n\n200  h2");

    // One that somebody broke never keeps the other from being served, not even by a new start of nginx.
    stage.lab.run("truncate -s 100 /var/lib/stead-acme/certificates/app.small/live/key.pem");
    stage.lab.run("systemctl kill --signal=KILL --kill-whom=main 'stead-nginx@*.service'");
    wait::until("nginx is there again", Duration::from_secs(20), || {
        (authority.curl("https://site.small/", &[]).status == 0).then_some(())
    });
    // With a stand-in, or the one before where that is still good.
    assert!(["stand-in", "valid"].contains(&&*states(&stage)[0].1), "{:?}", states(&stage));
    stage.lab.run(RENEW);
    all_valid(&stage);
    assert!(authority.curl("https://app.small/", &[]).well().stdout.starts_with("one"));

    // Nor does an authority that is down when it is needed: what nginx has read is served on.
    let root = authority.curl("https://site.small/", &[]).well();
    authority.pebble.stop();
    stage.lab.run("truncate -s 100 /var/lib/stead-acme/certificates/app.small/live/fullchain.pem");
    assert_ne!(stage.lab.try_run(RENEW).status, 0);
    let status = stage.stead(&["status"]).json();
    let failed = status["certificates"][0]["failed"].as_str().unwrap_or_default();
    assert!(failed.contains("cannot be reached"), "{status}");
    assert_eq!(authority.curl_again("https://site.small/").stdout, root.stdout);
}

#[test]
fn a_certificate_of_one_s_own_is_checked_first_and_followed_when_it_is_replaced() {
    let stage = Stage::new(Machine::bookworm());
    let extra = "services.nginx.virtualHosts.\"site.small\" =
        { forceSSL = true, sslCertificate = \"/etc/own/site.pem\", sslCertificateKey = \"/etc/own/site.key\" },";
    let small = Small { has_app: false, extra: extra.into(), ..Small::default() };
    small.write(&stage.project);
    let make = |name: &str, days: u32| {
        let script = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN=site.small \
             -addext subjectAltName=DNS:site.small -out {name}.pem -keyout {name}.key 2>&1"
        );
        let output =
            std::process::Command::new("/bin/sh").current_dir(stage.lab.folder()).arg("-c").arg(&script).output();
        assert!(output.is_ok_and(|output| output.status.success()), "openssl is on this machine");
    };
    let put = |from: &str, to: &str| {
        let text = std::fs::read_to_string(stage.lab.folder().join(from)).unwrap();
        stage
            .lab
            .run(&format!("mkdir -p /etc/own && cat > /etc/own/{to} <<'END'\n{text}\nEND\nchmod 600 /etc/own/{to}"));
    };
    stage.stead(&["update"]).well();
    let refused = stage.stead(&["deploy"]).exits(3);
    assert!(refused.stderr.contains("sslCertificate: ") && refused.stderr.contains("/etc/own/site.pem"), "{refused}");
    make("one", 30);
    make("two", 30);
    put("one.pem", "site.pem");
    put("two.key", "site.key");
    let refused = stage.stead(&["deploy"]).exits(3);
    assert!(refused.stderr.contains("the key does not belong to the certificate"), "{refused}");
    put("one.key", "site.key");
    stage.stead(&["deploy"]).well();
    let shown = || {
        let curl = std::process::Command::new("curl")
            .args(["--silent", "--cacert"])
            .arg(stage.lab.folder().join("two.pem"))
            .args(["--connect-to", &format!("::{}:", stage.lab.address()), "https://site.small/"])
            .output();
        curl.expect("curl is on this machine").status.code()
    };
    assert_eq!(shown(), Some(60));
    // Half-way replaced is not replaced: not by the daily look, nor by a deploy, which says so.
    put("two.pem", "site.pem");
    assert_ne!(stage.lab.try_run(RENEW).status, 0);
    let status = stage.stead(&["status"]).exits(1).json();
    assert!(status["certificates"][0]["failed"].as_str().unwrap_or_default().contains("does not belong"), "{status}");
    let refused = Small { page: "page two\n".into(), ..small.clone() };
    refused.write(&stage.project);
    let refused = stage.stead(&["up"]).exits(3);
    assert!(refused.stderr.contains("the key does not belong to the certificate"), "{refused}");
    assert_eq!(shown(), Some(60));
    put("two.key", "site.key");
    stage.lab.run(RENEW);
    assert_eq!(shown(), Some(0));
    // A deploy that nginx has no part in serves them as well.
    put("one.pem", "site.pem");
    put("one.key", "site.key");
    let hook = "hooks.afterConfirm.server = \"true\",";
    Small { extra: format!("{extra}\n{hook}"), ..small }.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(shown(), Some(60));
}
