//! How modules become one configuration: merging, overriding, laziness, and other formats.

use crate::common::{DESIGN, Files};
use std::collections::BTreeMap;
use stead_model::probe::{Side, Timing};

const SITE: &str = r#"{ services.nginx.virtualHosts."a.example" = { root = "/var/www/a", locations."/".index | default = "index.html" } }"#;

#[test]
fn the_order_of_modules_does_not_matter() {
    let modules = [
        SITE,
        r#"{ services.nginx.virtualHosts."a.example".locations."/".index = "home.html", services.nginx.serverTokens | priority -1 = true }"#,
        r#"fun { config, .. } => { services.nginx.clientMaxBodySize = if config.services.nginx.enable then "1m" else "2m" }"#,
    ];
    let mut servers = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        servers.push(Files::with_modules(&order.map(|index| modules[index])).server());
    }
    assert!(servers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(servers[0].nginx.client_max_body_size, "1m");
    assert_eq!(servers[0].nginx.virtual_hosts["a.example"].locations["/"].index.as_deref(), Some("home.html"));
}

#[test]
fn force_wins_over_a_value_and_a_value_over_a_default() {
    let server = Files::with_modules(&[
        "{ services.nginx.clientMaxBodySize | default = \"1m\", services.nginx.drain | force = 5 }",
        "{ services.nginx.clientMaxBodySize = \"2m\", services.nginx.drain = 60 }",
    ])
    .server();
    assert_eq!((server.nginx.client_max_body_size.as_str(), server.nginx.drain), ("2m", 5));
}

#[test]
fn nginx_is_enabled_by_a_virtual_host_and_by_nothing_else() {
    assert!(!Files::with_module("{}").server().nginx.enable);
    assert!(Files::with_module(SITE).server().nginx.enable);
    assert!(!Files::with_modules(&[SITE, "{ services.nginx.enable = false }"]).server().nginx.enable);
}

#[test]
fn toml_yaml_and_json_files_are_modules() {
    let project = |file: &str| {
        format!(
            "{{ inputs.debian.url = \"debian:bookworm\", outputs.servers.web = {{ host = \"h\", modules = [import \"{file}\"] }} }}"
        )
    };
    let texts = [
        ("m.toml", "[services.nginx.virtualHosts.\"a.example\"]\nroot = \"/var/www/a\"\n"),
        ("m.json", r#"{"services":{"nginx":{"virtualHosts":{"a.example":{"root":"/var/www/a"}}}}}"#),
        ("m.yaml", "services:\n  nginx:\n    virtualHosts:\n      a.example:\n        root: /var/www/a\n"),
    ];
    for (file, text) in texts {
        let path = format!("deploy/{file}");
        let server = Files::new([("deploy/stead.ncl", project(file).as_str()), (path.as_str(), text)]).server();
        assert_eq!(server.nginx.virtual_hosts["a.example"].root.as_deref(), Some("/var/www/a"), "{file}");
    }
}

#[test]
fn times_are_seconds_or_texts() {
    let server = Files::with_module(
        r#"{ apps.shop = { source = "/srv/shop", exec = "run", port = 4000, stopTimeout = "2min",
             health = { path = "/", interval = 0.5, timeout = "500ms", deadline = "1min" } } }"#,
    )
    .server();
    let app = server.apps.values().next().unwrap();
    let health = app.health.as_ref().unwrap();
    assert_eq!((app.stop_timeout, health.interval, health.timeout, health.deadline), (120, 500, 500, 60_000));
}

#[test]
fn an_app_that_its_module_does_not_enable_is_left_out_and_needs_no_values() {
    let mut files = DESIGN;
    files[2].1 = "{}";
    let server = Files::new(files).server();
    assert!(server.apps.is_empty());
}

#[test]
fn later_options_that_ask_for_nothing_are_accepted() {
    let module = r#"{ services.nginx.virtualHosts."a.example" = { root = "/srv/a", enableACME = false }, services.postgresqlBackup.enable = false }"#;
    assert!(Files::with_module(module).server().nginx.enable);
}

#[test]
fn names_of_environment_variables_and_settings_are_free() {
    let server = Files::with_module(
        r#"{ runtimes.tools.packages = ["coreutils"],
             systemd.services.tidy = { runtime = "tools", environment = { A = "1", B | String = "2" }, serviceConfig = { Type = "oneshot", ExecStart = ["/bin/true", "/bin/true"], Nice = 5, PrivateTmp = true } },
             systemd.timers.tidy.timerConfig.OnCalendar = "daily" }"#,
    )
    .server();
    insta::assert_snapshot!(serde_json::to_string_pretty(&(server.services, server.timers, server.runtimes)).unwrap());
}

#[test]
fn every_server_has_its_own_configuration() {
    let project = r#"{ inputs.debian.url = "debian:trixie",
      outputs = fun inputs => { servers = { a = { host = "a", modules = [{ services.nginx.drain = 1 }] }, b = { host = "b", sshPort = 2222, architecture = "arm64" } } } }"#;
    let servers = Files::new([("deploy/stead.ncl", project)]).servers().unwrap();
    assert_eq!((servers["a"].nginx.drain, servers["b"].nginx.drain), (1, 30));
    assert_eq!(
        (servers["b"].ssh_port.map(|port| port.number()), servers["b"].architecture.as_str()),
        (Some(2222), "arm64")
    );
}

#[test]
fn a_probe_is_asked_from_both_sides_unless_it_is_of_the_server_itself_or_says_otherwise() {
    let server = Files::with_module(
        r#"{ probes = {
            shop = { url = "http://shop.example:8080/health?x=1", status = 204, body = "well", responseTime = "800ms" },
            own.url = "http://127.0.0.1:4000/",
            far = { url = "http://shop.example/", from = "operator", interval = "500ms", timeout = 1, deadline = "2s", passes = 3 },
            secure = { url = "https://shop.example/", certificateDays = 14 },
        } }"#,
    )
    .server();
    let shop = &server.probes["shop"];
    assert_eq!(shop.url.to_string(), "http://shop.example:8080/health?x=1");
    assert_eq!((shop.status, shop.body.as_deref(), shop.response_time), (Some(204), Some("well"), Some(800)));
    assert_eq!(shop.from, [Side::Server, Side::Operator].into());
    assert_eq!(shop.timing, Timing { interval: 1000, timeout: 5000, deadline: 30_000, passes: 2 });
    assert_eq!(server.probes["own"].from, [Side::Server].into());
    assert_eq!((shop.certificate_days, server.probes["secure"].certificate_days), (None, Some(14)));
    assert_eq!(server.probes["far"].from, [Side::Operator].into());
    assert_eq!(server.probes["far"].timing, Timing { interval: 500, timeout: 1000, deadline: 2000, passes: 3 });
}

#[test]
fn an_option_is_found_where_it_is_written_or_else_around_it() {
    let files = Files::with_modules(&[
        "{\n  services.nginx.virtualHosts.\"a.test\" = {\n    root = \"/srv/a\",\n    locations.\"/x\".proxyPass = \"http://127.0.0.1:9\",\n  },\n}\n",
        "{\n  apps.web = { source = \"/srv/web\", exec = \"run\", environment.KEY = \"1\" },\n}\n",
    ]);
    let project = files.load().unwrap();
    let place = |words: &str| {
        let found = project.place_of(&BTreeMap::new(), &"web".parse().unwrap(), words);
        found.map(|place| place.to_string())
    };
    let site = "services.nginx.virtualHosts.\"a.test\"";
    assert_eq!(place(&format!("{site}.root: no")).as_deref(), Some("module1.ncl:3:12"));
    assert_eq!(place(&format!("{site}.locations.\"/x\".proxyPass: no")).as_deref(), Some("module1.ncl:4:32"));
    // What nobody wrote is looked for around it.
    assert_eq!(place(&format!("{site}.sslCertificate: no")).as_deref(), Some("module1.ncl:2:31"));
    assert_eq!(place(&format!("{site} and \"b.test\" both answer")).as_deref(), Some("module1.ncl:2:31"));
    assert_eq!(place("apps.web.environment.KEY: no").as_deref(), Some("module2.ncl:2:69"));
    assert_eq!(place("apps.web.exec.more"), place("apps.web.exec"));
    assert_eq!(place("apps.webster.exec: no"), None);
    assert_eq!(place("no option at all"), None);
}

#[test]
fn settings_of_the_machine_become_what_is_set() {
    let server = Files::with_module(
        r#"{
          networking.hostName = "web1",
          time.timeZone = "Europe/Berlin",
          boot.kernel.sysctl = { "vm.swappiness" = 10, "net.ipv4.ip_forward" = true },
          environment.etc."app/limits.conf" = { text = "a\n", mode = "0600" },
          swapDevices = [{ device = "/var/swapfile", size = 512 }],
          zramSwap.enable = true,
          users.users.anna = {
            extraGroups = ["sudo"],
            openssh.authorizedKeys.keys =
              ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB37/0L3dLm5ixQQ4kKKtsMKWvyQKNoUfoq1ibQKhydb anna"],
          },
          services.openssh.settings = { PasswordAuthentication = false, MaxAuthTries = 3, AllowUsers = ["root", "anna"] },
          system.autoUpgrade.enable = true,
          services.journald.enable = true,
          services.journald.extraConfig = "ForwardToSyslog=no\n",
        }"#,
    )
    .server()
    .host_settings;
    assert_eq!(server.host_name.unwrap().as_str(), "web1");
    let sysctl: Vec<(&str, &str)> = server.sysctl.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
    assert_eq!(sysctl, [("net.ipv4.ip_forward", "1"), ("vm.swappiness", "10")]);
    assert_eq!(server.files.values().collect::<Vec<_>>(), [&("a\n".to_owned(), 0o600)]);
    assert_eq!(server.swap.values().collect::<Vec<_>>(), [&512]);
    assert_eq!(server.zram.unwrap().memory_percent, 50);
    let anna = &server.users["anna"];
    assert!(anna.keys.len() == 1 && anna.groups.len() == 1 && !anna.sudo && anna.shell.is_none());
    let sshd: Vec<(&str, &str)> = server.sshd.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
    assert_eq!(sshd, [("AllowUsers", "root anna"), ("MaxAuthTries", "3"), ("PasswordAuthentication", "no")]);
    let upgrade = server.auto_upgrade.unwrap();
    assert_eq!((&*upgrade.dates, upgrade.randomized_delay, upgrade.allow_reboot), ("04:40", 2700, false));
    let journald = server.journald.unwrap();
    for line in ["[Journal]", "MaxRetentionSec=1209600s", "MaxFileSec=1day", "SystemMaxUse=1G", "ForwardToSyslog=no"] {
        assert!(journald.lines().any(|found| found == line), "{line}: {journald}");
    }
    assert_eq!(Files::with_module("{}").server().host_settings, stead_model::host::Declared::default());
}

#[test]
fn an_app_that_names_a_database_has_postgresql_of_the_releases_version_and_words_are_as_they_were_said() {
    let app = r#"{ apps.shop = { source = "/srv/shop", exec = "run", database = "shop" } }"#;
    let server = Files::with_module(app).server();
    let postgresql = server.postgresql.unwrap();
    assert_eq!((postgresql.version, postgresql.port().number(), postgresql.enable_tcp_ip), (15, 5432, false));
    let disabled = app.replace("source", "enable = false, source");
    assert_eq!(Files::with_module(&disabled).server().postgresql, None);
    assert_eq!(Files::with_module("{}").server().postgresql, None);

    let all = r##"{ services.postgresql = {
      enable = true, version = 17, extensions = ["postgresql-17-pgvector"], enableTCPIP = true,
      ensureDatabases = ["shop", "stock"],
      ensureUsers = [{ name = "shop", ensureDBOwnership = true, ensureClauses = { createdb = true, superuser = false } }],
      settings = { port = 5433, jit = false, random_page_cost = 1.1, work_mem = "16MB", "pg_stat_statements.max" = 1000 },
      authentication = m%"
        # Colleagues.
        host  shop, stock  "anna b"  192.0.2.0/24  scram-sha-256  clientcert=verify-full
        hostssl all all 192.0.2.1 255.255.255.255 md5
        local all all peer map=colleagues
      "%,
      identMap = "colleagues anna shop",
      initialScript = "CREATE ROLE reader;",
    } }"##;
    insta::assert_snapshot!(serde_json::to_string_pretty(&Files::with_module(all).server().postgresql).unwrap());
}
