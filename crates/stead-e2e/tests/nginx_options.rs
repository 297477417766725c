//! Each option of nginx, declared once and looked at from outside: on Debian 12's nginx, and on Debian 13's, which
//! is told to speak HTTP/2 in another way.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the error is the report")]

use std::fs;
use std::process::Command;
use stead_e2e::authority::Authority;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage};

/// A site, or several, for each option. `@lab@` is the server's own address.
const SITES: &str = r#"
services.nginx = {
  clientMaxBodySize = "1k",
  appendHttpConfig = "map $uri $told_by_map {\n  default no;\n  /told yes;\n}",
  upstreams.pool = {
    servers = { "127.0.0.1:9001" = { weight = 3 }, "127.0.0.1:9002" = {} },
    # What the workers know of it together: else each counts by itself.
    extraConfig = "zone pool 64k;",
  },
  upstreams.spare.servers = { "127.0.0.1:9009" = { max_fails = 0 }, "127.0.0.1:9003" = { backup = true } },
  upstreams.text.servers = { "127.0.0.1:9009" = "max_fails=0", "127.0.0.1:9003" = "backup" },
},
services.nginx.virtualHosts = {
  "first.local" = { listen = [{ address = "127.0.0.1", port = 9001 }], default = true, locations."/".return = "200 first" },
  "second.local" = { listen = [{ address = "127.0.0.1", port = 9002 }], default = true, locations."/".return = "200 second" },
  "third.local" = { listen = [{ address = "127.0.0.1", port = 9003 }], default = true, locations."/".return = "200 third" },

  "files.small" = {
    root = inputs.site.path,
    locations = {
      "/" = { tryFiles = "$uri $uri/ =404" },
      "/as/" = { alias = "%{inputs.site.path}/files/" },
      "/files/" = { index = "start.txt" },
      "/other/" = { root = "%{inputs.site.path}/files" },
      "/pages/" = { root = "/srv/of-the-server" },
      "= /exact" = { return = "200 exact" },
      "~ ^/up" = { return = "200 late", priority = 2000 },
      "~ ^/upper" = { return = "200 early", priority = 100 },
      "~* \\.PHP$" = { return = "403" },
      "/told" = { return = "200 $told_by_map" },
      "/own" = { return = "200 own", extraConfig = "add_header X-Own yes;" },
      "/password/" = { alias = "%{inputs.site.path}/files/", basicAuthFile = "/etc/of-the-site/users" },
      "/pool" = { proxyPass = "http://pool" },
      "/spare" = { proxyPass = "http://spare" },
      "/text" = { proxyPass = "http://text" },
      "/nobody" = { proxyPass = "http://127.0.0.1:9009" },
      "/missing" = { return = "404" },
    },
    errorPages = { "404" = "/errors/404.html", "500 502" = "/errors/sorry.html" },
    securityHeaders = true,
    serverAliases = ["alias.small", "*.wild.small", "~^re(gular)?\\d{1,2}\\.small$"],
    extraConfig = "location = /extra {\n  return 200 extra;\n}",
  },
  "renamed" = { serverName = "name.small", accessLog = false, locations."/".return = "200 renamed" },
  "old.small" = { globalRedirect = "new.small", redirectCode = 308 },
  "older.small" = { globalRedirect = "new.small:81" },
  "rest.small" = { default = true, locations."/".return = "200 rest" },
  "port.small" = { listen = [{ address = "@lab@", port = 8081 }], locations."/".return = "200 port" },
  "inner.small" = { listenAddresses = ["127.0.0.1", "[fd00::7]"], locations."/".return = "200 inner" },
  "guarded.small" = { root = inputs.site.path, basicAuthFile = "/etc/of-the-site/users", hsts = true,
    addSSL = true, enableACME = true },

  "add.small" = { addSSL = true, enableACME = true, hsts = true, locations."/".return = "200 $scheme" },
  "only.small" = { onlySSL = true, enableACME = true, locations."/".return = "200 $scheme" },
  "force.small" = { forceSSL = true, enableACME = true, redirectCode = 307, locations."/".return = "200 $scheme" },
  "reject.small" = { rejectSSL = true, locations."/".return = "200 $scheme" },
  "shared.small" = { forceSSL = true, useACMEHost = "add.small", locations."/".return = "200 shared" },
  "slow.small" = { forceSSL = true, useACMEHost = "add.small", http2 = false, locations."/".return = "200 slow" },
  "bücher.small" = { forceSSL = true, enableACME = true, locations."/".return = "200 $server_name" },
  "port-tls.small" = {
    forceSSL = true, useACMEHost = "add.small", locations."/".return = "200 $server_port",
    listen = [{ port = 8082 }, { port = 8443, ssl = true }],
  },
},
security.acme.certs."add.small" = {
  extraDomainNames = ["shared.small", "slow.small", "port-tls.small"], keyType = "ec384",
},
"#;

struct Sites {
    stage: Stage,
    authority: Authority,
}

impl Sites {
    fn deployed(machine: Machine, debian: &'static str) -> Self {
        let stage = Stage::new(machine);
        let authority = Authority::beside(&stage.lab, 0);
        let put = |path: &str, text: &str| {
            let path = stage.project.join("site").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("files/start.txt", "start");
        put("files/other/there.txt", "there");
        put("errors/404.html", "not here");
        put("errors/sorry.html", "sorry");
        put("large.css", &"body { margin: 0 }\n".repeat(50));
        put("ready.css", &"body { margin: 1 }\n".repeat(50));
        let gzip = Command::new("gzip").arg("-k").arg(stage.project.join("site/ready.css")).status();
        assert!(gzip.is_ok_and(|status| status.success()), "gzip is on this machine");
        let secret = Command::new("openssl").args(["passwd", "-apr1", "-salt", "abcdefgh", "open sesame"]).output();
        let hash = String::from_utf8(secret.expect("openssl is on this machine").stdout).unwrap();
        stage.lab.run(&format!(
            "mkdir -p /etc/of-the-site /srv/of-the-server/pages && echo served > /srv/of-the-server/pages/a.html
             echo 'ali:{}' > /etc/of-the-site/users && chown root:www-data /etc/of-the-site/users
             chmod 640 /etc/of-the-site/users",
            hash.trim()
        ));
        let acme = authority.declared(&stage.project);
        let sites = SITES.replace("@lab@", &stage.lab.address().to_string());
        let extra = format!("{sites}\nsecurity.acme = {{ {acme} }},");
        Small { debian, extra, has_app: false, ..Small::default() }.write(&stage.project);
        let up = stage.stead(&["up"]).well();
        assert_eq!(up.json()["notes"].as_array().map(Vec::len), Some(0), "{up}");
        Self { stage, authority }
    }

    /// Status and body in clear.
    #[track_caller]
    fn clear(&self, host: &str, path: &str) -> (u16, String) {
        let answer = self.stage.get(host, path);
        (answer.status, answer.body)
    }

    #[track_caller]
    fn says(&self, host: &str, path: &str, body: &str) {
        assert_eq!(self.clear(host, path), (200, body.to_owned()), "http://{host}{path}");
    }

    /// Over TLS that trusts the authority: head, body, and how it was spoken.
    fn tls(&self, url: &str, more: &[&str]) -> Outcome {
        self.authority.curl(url, more)
    }

    #[track_caller]
    fn says_over_tls(&self, url: &str, end: &str) {
        let said = self.tls(url, &[]).well();
        assert_eq!(said.stdout, end, "{said}");
    }

    fn files_and_locations(&self) {
        for (path, body) in [
            ("/", "page one\n"),
            ("/as/start.txt", "start"),
            ("/files/", "start"),
            ("/other/there.txt", "there"),
            ("/pages/a.html", "served\n"),
            ("/exact", "exact"),
            ("/upper", "early"),
            ("/up", "late"),
            ("/told", "yes"),
            ("/extra", "extra"),
        ] {
            self.says("files.small", path, body);
        }
        assert_eq!(self.clear("files.small", "/x.php").0, 403);
        for missing in ["/nothing", "/missing"] {
            assert_eq!(self.clear("files.small", missing), (404, "not here".to_owned()));
        }
        assert_eq!(self.clear("files.small", "/nobody"), (502, "sorry".to_owned()));
        // Also where a location has headers of its own, and where something was not found.
        for (path, own) in [("/", None), ("/own", Some("yes")), ("/nothing", None)] {
            let answer = self.stage.get("files.small", path);
            let headers = ["x-content-type-options", "x-frame-options", "referrer-policy", "x-own", "server"];
            let said = headers.map(|name| answer.header(name));
            let expected = [Some("nosniff"), Some("SAMEORIGIN"), Some("strict-origin-when-cross-origin"), own];
            assert_eq!(said[..4], expected, "{path}");
            assert_eq!(said[4], Some("nginx"), "no version is told");
        }
    }

    fn compression(&self) {
        for path in ["/large.css", "/ready.css"] {
            let plain = self.stage.get("files.small", path);
            let (encoding, length) = (plain.header("content-encoding"), plain.header("content-length"));
            assert_eq!((encoding, length, plain.header("vary")), (None, Some("950"), Some("Accept-Encoding")));
        }
        let fetch = |path: &str| {
            let (url, body) = (format!("http://files.small{path}"), self.stage.lab.folder().join("body"));
            let more = ["--header", "Accept-Encoding: gzip", "--dump-header", "-", "--output", body.to_str().unwrap()];
            let head = self.tls(&url, &more).well().stdout.to_lowercase();
            assert!(head.contains("\ncontent-encoding: gzip\r\n"), "{head}");
            fs::read(body).unwrap()
        };
        let squeezed = fetch("/large.css").len();
        assert!(squeezed < 900, "{squeezed}");
        // The one that was packed before is sent as it is.
        let packed = fs::read(self.stage.project.join("site/ready.css.gz")).unwrap();
        assert_eq!(fetch("/ready.css"), packed);
    }

    fn names_and_addresses(&self) {
        for name in ["files.small", "FILES.small", "alias.small", "a.b.wild.small", "re7.small", "regular12.small"] {
            self.says(name, "/exact", "exact");
        }
        for name in ["unknown.small", "wild.small", "re123.small", "renamed", "port.small", "inner.small"] {
            self.says(name, "/exact", "rest");
        }
        self.says("name.small", "/", "renamed");
        let at = |host: &str, port: u16| {
            stead_e2e::http::get(self.stage.lab.port(port), host, "/", &[]).map(|answer| (answer.status, answer.body))
        };
        assert_eq!(at("port.small", 8081).unwrap(), (200, "port".to_owned()));
        // Of a port where no site is the default, Stead says so itself.
        assert_eq!(at("files.small", 8081).unwrap().0, 404);
        at("first.local", 9001).unwrap_err();
        let inside = |address: &str, port: u16, host: &str| {
            let ask = format!(
                "exec 3<>/dev/tcp/{address}/{port} && printf 'GET /exact HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' >&3 && cat <&3"
            );
            let said = self.stage.lab.run(&format!("bash -c \"{ask}\""));
            said.rsplit_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(said)
        };
        self.stage.lab.run("ip address add fd00::7/128 dev lo");
        for address in ["127.0.0.1", "fd00::7"] {
            assert_eq!(inside(address, 80, "inner.small"), "inner");
        }
        assert_eq!(inside("::1", 80, "inner.small"), "rest");
        assert_eq!(inside("::1", 80, "files.small"), "exact");
        let listening = self.stage.lab.run("ss -Hltn | awk '{print $4}' | sort");
        for place in ["0.0.0.0:80", "[::]:80", "0.0.0.0:443", "[::]:443", "127.0.0.1:9001"] {
            assert!(listening.lines().any(|line| line == place), "{place} of\n{listening}");
        }
    }

    fn redirects(&self) {
        let to = |host: &str, path: &str| {
            let answer = self.stage.get(host, path);
            (answer.status, answer.header("location").unwrap_or_default().to_owned())
        };
        assert_eq!(to("old.small", "/a?b=c"), (308, "http://new.small/a?b=c".to_owned()));
        assert_eq!(to("older.small", "/"), (301, "http://new.small:81/".to_owned()));
        assert_eq!(to("force.small", "/a?b=c"), (307, "https://force.small/a?b=c".to_owned()));
        assert_eq!(to("slow.small", "/"), (301, "https://slow.small/".to_owned()));
        assert_eq!(to("xn--bcher-kva.small", "/"), (301, "https://xn--bcher-kva.small/".to_owned()));
        let answer = stead_e2e::http::get(self.stage.lab.port(8082), "port-tls.small", "/x", &[]).unwrap();
        assert_eq!(answer.header("location"), Some("https://port-tls.small:8443/x"));
    }

    fn passwords(&self) {
        for path in ["/password/start.txt", "/password/nothing"] {
            assert_eq!(self.clear("files.small", path).0, 401, "{path}");
        }
        assert_eq!(self.clear("guarded.small", "/").0, 401);
        // ali:open sesame, and ali:wrong.
        for (word, status) in [("Basic YWxpOm9wZW4gc2VzYW1l", 200), ("Basic YWxpOndyb25n", 401)] {
            let word = [("Authorization", word)];
            assert_eq!(self.stage.get_with("files.small", "/password/start.txt", &word).status, status);
            assert_eq!(self.stage.get_with("guarded.small", "/", &word).status, status);
        }
        let refused = self.tls("https://guarded.small/", &["--include"]).well().stdout.to_lowercase();
        assert!(refused.contains("www-authenticate: basic") && refused.contains("strict-transport"), "{refused}");
    }

    fn upstreams_and_bodies(&self) {
        let mut answers: Vec<String> = (0..8).map(|_| self.clear("files.small", "/pool").1).collect();
        answers.sort();
        assert_eq!(answers.join(" "), "first first first first first first second second");
        self.says("files.small", "/spare", "third");
        self.says("files.small", "/text", "third");
        let send = |bytes: usize| {
            let body = "a".repeat(bytes);
            let said = self.tls("http://files.small/pool", &["--data-binary", &body]).well();
            said.stdout.lines().last().unwrap_or_default().to_owned()
        };
        assert!(send(1024).starts_with("200"));
        assert!(send(1025).starts_with("413"));
    }

    fn tls_of_sites(&self, has_directive: bool) {
        for name in ["add.small", "force.small", "only.small"] {
            self.says_over_tls(&format!("https://{name}/"), "https\n200  h2");
        }
        self.says("add.small", "/", "http");
        self.says("reject.small", "/", "http");
        // In clear there is no such site.
        self.says("only.small", "/", "rest");
        assert_eq!(self.tls("https://reject.small/", &["--insecure"]).status, 35);
        assert_eq!(self.tls("https://rest.small/", &["--insecure"]).status, 35);
        self.says_over_tls("https://shared.small/", "shared\n200  h2");
        // An nginx without the directive speaks HTTP/2 on a port for all sites or for none.
        let spoken = if has_directive { "1.1" } else { "2" };
        self.says_over_tls("https://slow.small/", &format!("slow\n200  h{spoken}"));
        self.says_over_tls("https://xn--bcher-kva.small/", "xn--bcher-kva.small\n200  h2");
        self.says_over_tls("https://port-tls.small:8443/", "8443\n200  h2");

        let said = self.tls("https://add.small/", &["--include"]).well().stdout;
        assert!(said.contains("\r\nstrict-transport-security: max-age=63072000\r\n"), "{said}");
        assert_eq!(self.stage.get("add.small", "/").header("strict-transport-security"), None);
        let said = self.tls("https://force.small/", &["--include"]).well().stdout;
        assert!(!said.contains("strict-transport-security"), "{said}");
        let copy = self.stage.lab.run("cat /var/lib/stead-acme/certificates/add.small/live/fullchain.pem");
        let file = self.stage.lab.folder().join("add.small.pem");
        fs::write(&file, copy).unwrap();
        let text = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&text.stdout);
        assert!(text.contains("secp384r1"), "{text}");
    }

    fn access_logs(&self) {
        self.says("name.small", "/unheard-of", "renamed");
        self.says("files.small", "/extra?after-it", "extra");
        self.tls("https://add.small/over-tls", &[]).well();
        let log = stead_e2e::wait::until("the request is in the journal", std::time::Duration::from_secs(10), || {
            let log = self.stage.lab.run("journalctl -t nginx -o cat --no-pager");
            log.contains("/over-tls").then_some(log)
        });
        let line = |part: &str| log.lines().find(|line| line.contains(part)).unwrap_or_default();
        assert!(line("/extra?after-it").starts_with("files.small:80 "), "{log}");
        assert!(line("/over-tls").starts_with("add.small:443 "), "{log}");
        assert_eq!(line("/unheard-of"), "");
    }
}

fn every_option(machine: Machine, debian: &'static str, has_directive: bool) {
    let sites = Sites::deployed(machine, debian);
    sites.files_and_locations();
    sites.compression();
    sites.names_and_addresses();
    sites.redirects();
    sites.passwords();
    sites.upstreams_and_bodies();
    sites.tls_of_sites(has_directive);
    sites.access_logs();
    assert_eq!(sites.stage.stead(&["deploy"]).well().text("outcome"), "unchanged");
}

#[test]
fn every_option_of_nginx_does_what_it_says_on_debian_12() {
    every_option(Machine::bookworm(), "bookworm", false);
}

#[test]
fn every_option_of_nginx_does_what_it_says_on_debian_13() {
    every_option(Machine::trixie(), "trixie", true);
}
