//! Every mistake gives one clear error at its place. The snapshots are what people read.

use crate::common::{DESIGN, Files};

/// A test for the failure of a project of one module.
macro_rules! refused {
    ($($name:ident: $module:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(Files::with_module($module).failure());
        })*
    };
}

refused! {
    a_syntax_error: "{\n  services.nginx.enable = ,\n}\n";
    an_unclosed_brace: "{\n  services.nginx = {\n    enable = true,\n}\n";
    a_misspelt_option: "{\n  services.nginx.virtualHosts.\"a.example\" = {\n    root = \"/srv/a\",\n    locations.\"/\".proxypass = \"http://127.0.0.1:1\",\n  },\n}\n";
    a_misspelt_section: "{\n  service.nginx.enable = true,\n}\n";
    a_misspelt_app_option: "{\n  apps.shop = {\n    source = \"/srv/shop\",\n    exce = \"run\",\n  },\n}\n";
    a_misspelt_health_option: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", port = 1, health.pth = \"/\" } }\n";
    a_service_without_a_module: "{\n  services.shop.enable = true,\n}\n";
    a_wrong_type: "{\n  services.nginx.enable = \"yes\",\n}\n";
    a_port_out_of_range: "{\n  apps.shop = { source = \"/srv/shop\", exec = \"run\", port = 70000 },\n}\n";
    a_number_where_a_text_belongs: "{\n  apps.shop = {\n    source = \"/srv/shop\", exec = \"run\",\n    environment.PORT = 4000,\n  },\n}\n";
    a_wrong_word: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", strategy = \"besides\" } }\n";
    a_wrong_item_of_a_list: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", packages = [\"ok\", \"Not OK\"] } }\n";
    a_record_where_a_text_belongs: "{ services.nginx.clientMaxBodySize = { a = 1 } }\n";
    a_text_where_options_are: "{ services.nginx = \"on\" }\n";
    a_text_where_a_record_belongs: "{ services.nginx.virtualHosts.\"a.example\" = \"/srv/a\" }\n";
    a_required_option_without_a_value: "{\n  apps.shop.source = \"/srv/shop\",\n}\n";
    an_undeclared_input: "fun { inputs, .. } => {\n  services.nginx.virtualHosts.\"a.example\".root = inputs.portfollio.path,\n}\n";
    an_input_that_is_nothing_like_any: "fun { inputs, .. } => {\n  services.nginx.virtualHosts.\"a.example\".root = inputs.x.path,\n}\n";
    a_missing_import: "{\n  services = import \"services.ncl\",\n}\n";
    an_unbound_name: "{\n  services.nginx.enable = ture,\n}\n";
    a_function_with_unknown_arguments: "fun { inputs, pkgs, .. } => {}\n";
    a_function_that_takes_too_few_arguments: "fun { inputs } => {}\n";
    a_module_that_is_no_module: "\"modules/server.ncl\"\n";
    a_value_that_refers_to_itself: "fun { config, .. } => {\n  services.nginx.drain = config.services.nginx.drain + 1,\n}\n";
    an_option_of_a_later_version: "{\n  services.nginx.virtualHosts.\"a.example\" = {\n    enableACME = true,\n    root = \"/srv/a\",\n  },\n}\n";
    a_host_name_that_is_none: "{\n  networking.hostName = \"My Server\",\n}\n";
    a_time_zone_that_is_none: "{\n  time.timeZone = \"../etc/passwd\",\n}\n";
    a_kernel_parameter_that_is_none: "{\n  boot.kernel.sysctl.\"../swappiness\" = 10,\n}\n";
    a_kernel_parameter_that_is_a_list: "{\n  boot.kernel.sysctl.\"vm.swappiness\" = [10],\n}\n";
    a_file_that_a_login_depends_on: "{\n  environment.etc.\"pam.d/sshd\".text = \"\",\n}\n";
    a_file_that_has_an_option: "{\n  environment.etc.hostname.text = \"web\",\n}\n";
    a_file_outside_of_etc: "{\n  environment.etc.\"../root/x\".text = \"\",\n}\n";
    permissions_that_are_none: "{\n  environment.etc.motd = { text = \"\", mode = \"rw\" },\n}\n";
    a_swap_file_in_memory: "{\n  swapDevices = [{ device = \"/run/swap\", size = 1 }],\n}\n";
    a_line_for_journald_that_is_none: "{\n  services.journald.extraConfig = \"Storage\",\n}\n";
    a_service_of_a_later_version: "{\n  services.postgresqlBackup.enable = true,\n}\n";
    a_database_that_sql_would_have_to_quote: "{\n  services.postgresql = { enable = true, ensureDatabases = [\"bill-tracker\"] },\n}\n";
    a_role_that_is_postgresqls_own: "{\n  services.postgresql = { enable = true, ensureUsers = [{ name = \"postgres\" }] },\n}\n";
    a_role_that_owns_no_database: "{\n  services.postgresql = { enable = true, ensureUsers = [{ name = \"shop\", ensureDBOwnership = true }] },\n}\n";
    a_misspelt_right: "{\n  services.postgresql = { enable = true, ensureUsers = [{ name = \"shop\", ensureClauses.createDb = true }] },\n}\n";
    a_database_of_an_app_where_there_is_none: "{\n  services.postgresql.enable = false,\n  apps.shop = { source = \"/srv/shop\", exec = \"run\", database = \"shop\" },\n}\n";
    a_setting_of_postgresql_that_is_steads: "{\n  services.postgresql = { enable = true, settings.data_directory = \"/srv/pg\" },\n}\n";
    a_setting_of_postgresql_that_is_none: "{\n  services.postgresql = { enable = true, settings.\"work mem\" = 1 },\n}\n";
    an_address_without_the_network: "{\n  services.postgresql = { enable = true, settings.listen_addresses = \"*\" },\n}\n";
    a_way_in_that_is_none: "{\n  services.postgresql = {\n    enable = true,\n    authentication = \"local all all peer\\nhost all all 192.0.2.0/24 scram\",\n  },\n}\n";
    a_map_that_is_steads: "{\n  services.postgresql = { enable = true, identMap = \"stead anna postgres\" },\n}\n";
    a_version_that_is_none: "{\n  services.postgresql = { enable = true, version = 9 },\n}\n";
    a_secret_in_sql: "fun { secret, .. } => {\n  services.postgresql.initialScript = \"ALTER ROLE a PASSWORD '%{secret \"key\"}'\",\n}\n";
    a_function_of_a_later_version: "{ users.groups.staff.members = [\"anna\"] }\n";
    an_option_of_people_that_is_none: "{\n  users.users.anna.isNormalUser = true,\n}\n";
    a_user_name_that_is_none: "{\n  users.users.\"Anna B\" = {},\n}\n";
    a_user_of_stead: "{\n  users.users.stead-web = {},\n}\n";
    a_number_of_the_system: "{\n  users.users.anna.uid = 33,\n}\n";
    a_number_that_is_there_twice: "{\n  users.users = { anna.uid = 1500, berta.uid = 1500 },\n}\n";
    a_key_that_does_not_parse: "{\n  users.users.anna.openssh.authorizedKeys.keys = [\n    \"ssh-ed25519 AAAAC3Nz anna\",\n  ],\n}\n";
    a_private_key: "{\n  users.users.anna.openssh.authorizedKeys.keys = [\"-----BEGIN OPENSSH PRIVATE KEY-----\"],\n}\n";
    where_sshd_listens: "{\n  services.openssh.settings.Port = 2222,\n}\n";
    a_setting_of_sshd_that_is_there_twice: "{\n  services.openssh.settings = { PermitRootLogin = false, permitrootlogin = true },\n}\n";
    a_setting_of_sshd_of_two_lines: "{\n  services.openssh.settings.Banner = \"a\\nMatch all\",\n}\n";
    more_compressed_memory_than_can_be: "{\n  zramSwap = { enable = true, memoryPercent = 301 },\n}\n";
    a_part_of_the_network_of_a_later_version: "{ networking.nameservers = [\"192.0.2.1\"] }\n";
    a_misspelt_option_of_the_firewall: "{ networking.firewall.allowedTcpPorts = [80] }\n";
    a_port_of_the_firewall_that_is_none: "{ networking.firewall = { enable = true, allowedTCPPorts = [80, 70000] } }\n";
    an_interface_that_cannot_be: "{\n  networking.firewall = {\n    enable = true,\n    interfaces.\"eth 0\".allowedTCPPorts = [80],\n  },\n}\n";
    a_secret_in_a_rule: "fun { secret, .. } => {\n  networking.firewall.extraInputRules = secret \"key\",\n}\n";
    a_secret_in_a_file_of_etc: "fun { secret, .. } => {\n  environment.etc.\"x\".text = secret \"key\",\n}\n";
    a_secret_in_a_list: "fun { secret, .. } => {\n  swapDevices = [{ device = \"/x/%{secret \"key\"}\", size = 1 }],\n}\n";
    a_secret_in_a_command: "fun { secret, .. } => {\n  apps.shop = { source = \"/srv/shop\", exec = \"run %{secret \"key\"}\" },\n}\n";
    an_app_name_that_cannot_be: "{ apps.\"My_Shop\" = { source = \"/srv/shop\", exec = \"run\" } }\n";
    a_variable_name_that_cannot_be: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", environment.\"MY-VAR\" = \"1\" } }\n";
    an_unknown_debian_input: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", debian = \"debina\" } }\n";
    an_unknown_runtime: "{\n  runtimes.tools.packages = [\"coreutils\"],\n  systemd.services.tidy.runtime = \"tool\",\n}\n";
    a_timer_without_a_service: "{ systemd.timers.tidy.timerConfig.OnCalendar = \"daily\" }\n";
    a_health_check_without_a_port: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", health.path = \"/\" } }\n";
    a_health_check_that_can_never_pass: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", port = 1, health = { path = \"/\", interval = 20, deadline = 30 } } }\n";
    a_health_check_without_a_timeout: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", port = 1, health = { path = \"/\", timeout = 0 } } }\n";
    a_health_check_that_needs_no_answer: "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", port = 1, health = { path = \"/\", passes = 0 } } }\n";
    a_probe_without_a_url: "{\n  probes.shop.status = 200,\n}\n";
    a_probe_of_something_that_is_no_url: "{ probes.shop.url = \"shop.example/health\" }\n";
    a_probe_of_a_certificate_for_no_time: "{ probes.shop = { url = \"https://shop.example/\", certificateDays = 0 } }\n";
    a_probe_of_a_certificate_in_clear: "{ probes.shop = { url = \"http://shop.example/\", certificateDays = 14 } }\n";
    a_probe_of_the_server_itself_from_elsewhere: "{ probes.shop = { url = \"http://127.0.0.1:4000/\", from = \"operator\" } }\n";
    a_probe_that_can_never_pass: "{ probes.shop = { url = \"http://shop.example/\", interval = 20, deadline = 30 } }\n";
    a_probe_with_a_status_that_is_none: "{ probes.shop = { url = \"http://shop.example/\", status = 42 } }\n";
    a_probe_that_may_take_longer_than_it_is_waited_for: "{ probes.shop = { url = \"http://shop.example/\", responseTime = 10 } }\n";
    a_misspelt_probe_option: "{ probes.shop = { url = \"http://shop.example/\", sattus = 200 } }\n";
    a_server_name_that_breaks_out: "{ services.nginx.virtualHosts.\"a.example; include /etc/passwd\" = {} }\n";
    a_line_break_in_a_line: "{ services.nginx.virtualHosts.\"a.example\".locations.\"/\".tryFiles = \"a\\nb\" }\n";
    a_folder_that_climbs_out: "fun { inputs, .. } => { services.nginx.virtualHosts.\"a.example\".root = \"%{inputs.portfolio.path}/../x\" }\n";
    a_field_of_an_input_that_is_not_there: "fun { inputs, .. } => {\n  services.nginx.virtualHosts.\"a.example\".root = inputs.debian.path,\n}\n";
}

#[test]
fn two_modules_that_disagree_are_both_named_in_either_order() {
    let one = "{\n  services.nginx.clientMaxBodySize = \"1m\",\n}\n";
    let other = "{\n\n  services.nginx.clientMaxBodySize = \"2m\",\n}\n";
    insta::assert_snapshot!("two_modules_that_disagree", Files::with_modules(&[one, other]).failure());
    let swapped = Files::with_modules(&[other, one]).failure();
    assert!(swapped.contains("module1.ncl:3:") && swapped.contains("module2.ncl:2:"), "{swapped}");
}

#[test]
fn two_modules_with_different_lists_are_told_that_lists_do_not_join() {
    let app = "{ apps.shop = { source = \"/srv/shop\", exec = \"run\", packages = [\"one-package\"] } }\n";
    let other = "{\n  apps.shop.packages = [\"two-package\"],\n}\n";
    insta::assert_snapshot!(Files::with_modules(&[app, other]).failure());
}

#[test]
fn a_misspelt_field_of_an_apps_own_options_is_refused_with_a_suggestion() {
    let mut files = DESIGN;
    let server = files[2].1.replace("port = 4100", "prot = 4100");
    files[2].1 = &server;
    insta::assert_snapshot!(Files::new(files).failure());
}

#[test]
fn a_wrong_value_of_an_apps_own_option_names_both_places() {
    let mut files = DESIGN;
    let server = files[2].1.replace("port = 4100", "port = 70000");
    files[2].1 = &server;
    insta::assert_snapshot!(Files::new(files).failure());
}

#[test]
fn an_apps_required_option_without_a_value_is_named() {
    let mut files = DESIGN;
    let server = files[2].1.replace(", host = \"billtracker.site\"", "");
    files[2].1 = &server;
    insta::assert_snapshot!(Files::new(files).failure());
}

#[test]
fn a_secret_written_in_clear_is_refused_and_not_shown() {
    let mut files = DESIGN;
    let server = files[2].1.replace("secret \"secret_key_base\"", "\"correct-horse-battery\"");
    files[2].1 = &server;
    let failure = Files::new(files).failure();
    assert!(!failure.contains("correct-horse-battery"), "{failure}");
    insta::assert_snapshot!(failure);
}

#[test]
fn a_syntax_error_in_an_inputs_module_is_placed_there() {
    let mut files = DESIGN;
    files[3].1 = "fun { stead, .. } => {\n  apps.bill-tracker = {\n";
    insta::assert_snapshot!(Files::new(files).failure());
}

/// A test for the failure of a project file.
macro_rules! refused_project {
    ($($name:ident: $project:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(Files::new([("deploy/stead.ncl", $project)]).failure());
        })*
    };
}

refused_project! {
    a_misspelt_field_of_the_project: "{\n  inputs.debian.url = \"debian:bookworm\",\n  output = fun inputs => {},\n}\n";
    a_misspelt_field_of_a_server: "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs = fun inputs => {\n    servers.web = { host = \"h\", sshuser = \"root\" },\n  },\n}\n";
    a_server_without_a_host: "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs.servers.web = { modules = [] },\n}\n";
    a_project_without_a_server: "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs = fun inputs => {},\n}\n";
    a_project_without_a_debian_input: "{\n  outputs.servers.web.host = \"h\",\n}\n";
    an_input_of_an_unknown_kind: "{\n  inputs.debian.url = \"bookworm\",\n  outputs = {},\n}\n";
    an_input_from_git: "{\n  inputs.app.url = \"git+https://example.com/app\",\n  outputs = {},\n}\n";
    a_mirror_of_a_folder: "{\n  inputs.app = { url = \"path:../app\", mirror = \"x\" },\n  outputs = {},\n}\n";
    a_host_that_is_an_option_of_ssh: "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs.servers.web.host = \"-oProxyCommand=x\",\n}\n";
    a_module_that_is_not_imported: "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs.servers.web = {\n    host = \"h\",\n    modules = [\"modules/server.ncl\"],\n  },\n}\n";
    a_project_that_is_a_text: "\"a text\"\n";
    an_empty_project_file: "";
}

#[test]
fn a_folder_without_a_project_is_refused() {
    insta::assert_snapshot!(Files::new([("deploy/other.ncl", "{}")]).failure());
}

#[test]
fn a_misspelt_option_in_a_toml_module_is_refused() {
    let project = "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs.servers.web = { host = \"h\", modules = [import \"m.toml\"] },\n}\n";
    let module = "[services.nginx]\nserverTokens = false\nclientMaxBodysize = \"1m\"\n";
    insta::assert_snapshot!(Files::new([("deploy/stead.ncl", project), ("deploy/m.toml", module)]).failure());
}

#[test]
fn a_syntax_error_in_a_toml_module_is_placed_there() {
    let project = "{\n  inputs.debian.url = \"debian:bookworm\",\n  outputs.servers.web = { host = \"h\", modules = [import \"m.toml\"] },\n}\n";
    insta::assert_snapshot!(Files::new([("deploy/stead.ncl", project), ("deploy/m.toml", "[services\n")]).failure());
}

#[test]
fn a_default_for_an_option_that_has_one_is_explained() {
    insta::assert_snapshot!(Files::with_module("{\n  services.nginx.serverTokens | default = true,\n}\n").failure());
}

#[test]
fn an_input_without_a_module_is_named_as_such() {
    let project = "{\n  inputs = { debian.url = \"debian:bookworm\", site.url = \"path:../site\" },\n  outputs = fun inputs => {\n    servers.web = { host = \"h\", modules = [inputs.site.module] },\n  },\n}\n";
    insta::assert_snapshot!(Files::new([("deploy/stead.ncl", project)]).failure());
}

#[test]
fn a_conflict_in_an_option_is_told_of_the_option_and_not_of_what_follows_from_it() {
    let other = "{ services.bill-tracker.port = 4200 }";
    let mut files = DESIGN.to_vec();
    files[1].1 = other;
    insta::assert_snapshot!(Files::new(files).failure());
}

#[test]
fn syntax_errors_of_json_and_yaml_are_placed() {
    for (file, text) in [("m.json", "{\n  \"services\": {,}\n}\n"), ("m.yaml", "services:\n  nginx: [\n")] {
        let project = format!(
            "{{ inputs.debian.url = \"debian:bookworm\", outputs.servers.web = {{ host = \"h\", modules = [import \"{file}\"] }} }}"
        );
        let path = format!("deploy/{file}");
        insta::assert_snapshot!(
            file,
            Files::new([("deploy/stead.ncl", project.as_str()), (path.as_str(), text)]).failure()
        );
    }
}

#[test]
fn deep_nesting_is_read_or_refused_and_never_exhausts_the_stack() {
    let deep = format!("{{ x = {}1{} }}", "[".repeat(3000), "]".repeat(3000));
    assert!(Files::with_module(&deep).servers().is_err());
}

#[test]
fn places_are_relative_to_the_project_however_its_folder_is_named() {
    let files = Files::new([("deploy/stead.ncl", "{\n  output = {},\n}\n")]);
    for root in [files.root(), files.root().join("../deploy"), files.root().join(".")] {
        let failure = stead_config::load(&root).unwrap_err();
        assert_eq!(failure.place().map(ToString::to_string).as_deref(), Some("stead.ncl:2:3"), "{}", root.display());
    }
}
