//! Mistakes in what is declared of sites and their certificates: `check` finds each, and says where.

use crate::operator::Operator;

/// A site `b.example`, with these options.
fn site(options: &str) -> String {
    format!("{{\n  services.nginx.virtualHosts.\"b.example\" = {{\n    {options},\n  }},\n}}\n")
}

/// The same, where the terms of the authority are accepted.
fn certified(options: &str) -> String {
    with(options, "acceptTerms = true")
}

fn with(options: &str, acme: &str) -> String {
    site(options).replacen("{\n", &format!("{{\n  security.acme = {{ {acme} }},\n"), 1)
}

/// A test for a mistake: what `check` says, which is one line with file and line, and the place in that file.
macro_rules! wrong {
    ($($name:ident: $module:expr;)*) => {
        $(#[test]
        fn $name() {
            let said = Operator::with_module(&$module).refused(1, &["check"]);
            assert!(said.contains("─ more.ncl:") || said.contains("─ server.ncl:"), "no place: {said}");
            insta::assert_snapshot!(said);
        })*
    };
}

const TLS: &str = "enableACME = true,\n    forceSSL = true";

wrong! {
    a_wildcard_of_an_authority: certified(&format!("serverName = \"*.b.example\",\n    {TLS}"));
    a_wildcard_among_the_aliases: certified(&format!("serverAliases = [\"www.b.example\", \"*.b.example\"],\n    {TLS}"));
    a_pattern_of_an_authority: certified(&format!("serverAliases = [\"~^(www|m)\\\\.b\\\\.example$\"],\n    {TLS}"));
    an_address_of_an_authority: certified(&format!("serverName = \"192.0.2.7\",\n    {TLS}"));
    a_name_of_nobody_of_an_authority: certified(&format!("serverName = \"_\",\n    {TLS}"));
    a_name_that_is_no_name: site("serverName = \"b example\",\n    root = \"/srv/b\"");
    an_alias_that_is_no_name: site("serverAliases = [\"www.b.example;\"],\n    root = \"/srv/b\"");
    a_name_of_no_letters: site("serverName = \"b\u{ad}\u{2028}.example\",\n    root = \"/srv/b\"");
    a_label_that_is_too_long: certified(&format!("serverName = \"{}.example\",\n    {TLS}", "b".repeat(64)));
    two_sites_with_one_name: site("serverName = \"a.example\",\n    root = \"/srv/b\"");
    two_sites_with_one_alias: site("serverAliases = [\"A.example\"],\n    root = \"/srv/b\"");
    a_certificate_of_an_authority_and_one_of_one_s_own: certified(&format!("{TLS},\n    sslCertificate = \"/etc/b/b.pem\",\n    sslCertificateKey = \"/etc/b/b.key\""));
    a_certificate_of_its_own_and_of_another_site: certified(&format!("{TLS},\n    useACMEHost = \"b.example\""));
    a_certificate_without_its_key: site("forceSSL = true,\n    sslCertificate = \"/etc/b/b.pem\"");
    a_key_without_its_certificate: site("forceSSL = true,\n    sslCertificateKey = \"/etc/b/b.key\"");
    two_ways_to_speak_tls: certified("enableACME = true,\n    addSSL = true,\n    forceSSL = true");
    tls_that_is_refused_and_forced: certified("enableACME = true,\n    rejectSSL = true,\n    forceSSL = true");
    a_certificate_where_tls_is_refused: certified("enableACME = true,\n    rejectSSL = true");
    a_certificate_without_tls: certified("enableACME = true");
    tls_without_a_certificate: site("forceSSL = true");
    terms_that_nobody_accepted: site(TLS);
    terms_that_were_refused: with(TLS, "acceptTerms = false");
    an_email_that_is_none: with(TLS, "acceptTerms = true, defaults.email = \"me at example.org\"");
    an_authority_in_clear: with(TLS, "acceptTerms = true, defaults.server = \"http://authority.example/dir\"");
    an_authority_that_is_no_url: with(TLS, "acceptTerms = true, defaults.server = \"letsencrypt\"");
    roots_that_are_no_certificates: with(TLS, "acceptTerms = true, defaults.rootCertificates = \"ca.pem\"");
    a_kind_of_key_that_is_none: with(TLS, "acceptTerms = true, defaults.keyType = \"ed25519\"");
    no_days_before_the_end: with(TLS, "acceptTerms = true, defaults.validMinDays = 0");
    a_certificate_that_nobody_asks_for: certified("forceSSL = true,\n    useACMEHost = \"c.example\"");
    a_certificate_that_is_misspelt: with("forceSSL = true,\n    useACMEHost = \"exmaple.org\"", "acceptTerms = true, certs.\"example.org\" = {}");
    a_shared_certificate_for_other_names: with("forceSSL = true,\n    useACMEHost = \"example.org\"", "acceptTerms = true, certs.\"example.org\" = {}");
    a_certificate_for_a_wildcard: with("root = \"/srv/b\"", "acceptTerms = true, certs.\"*.example.org\" = {}");
    a_redirect_beside_files: site("globalRedirect = \"c.example\",\n    root = \"/srv/b\"");
    a_redirect_that_is_none: site("globalRedirect = \"c.example\",\n    redirectCode = 200");
    two_answers_of_one_place: site("locations.\"/\" = { proxyPass = \"http://127.0.0.1:1\", return = \"204\" }");
}

/// A test for a mistake that shows when the generation is planned: the option is named, as the operator spells it.
macro_rules! cannot_be_planned {
    ($($name:ident: $module:expr;)*) => {
        $(#[test]
        fn $name() {
            let said = Operator::with_module(&$module).refused(1, &["check"]);
            assert!(said.starts_with("error: services.nginx."), "no option: {said}");
            insta::assert_snapshot!(said);
        })*
    };
}

cannot_be_planned! {
    two_default_sites: "{\n  services.nginx.virtualHosts.\"a.example\".default = true,\n  services.nginx.virtualHosts.\"b.example\" = { default = true, root = \"/srv/b\" },\n}\n";
    a_key_in_an_input: "fun { inputs, .. } => {\n  services.nginx.virtualHosts.\"b.example\" = {\n    forceSSL = true,\n    sslCertificate = \"%{inputs.site.path}/b.pem\",\n    sslCertificateKey = \"%{inputs.site.path}/b.key\",\n  },\n}\n";
    a_redirect_beside_the_place_that_it_takes: site("globalRedirect = \"c.example\",\n    locations.\"/\".return = \"204\"");
    a_redirect_to_a_url: site("globalRedirect = \"https://c.example/\"");
    an_address_that_is_none: site("listenAddresses = [\"everywhere\"],\n    root = \"/srv/b\"");
    tls_at_a_place_in_clear: certified(&format!("{TLS},\n    listen = [{{ port = 80 }}]"));
    a_place_with_tls_of_a_site_in_clear: site("root = \"/srv/b\",\n    listen = [{ port = 443, ssl = true }]");
    one_place_with_tls_and_without: certified(&format!("{TLS},\n    listen = [{{ port = 80, ssl = true }}]"));
    a_page_for_what_is_no_status: site("root = \"/srv/b\",\n    errorPages = { \"soon\" = \"/404.html\" }");
    an_upstream_without_servers: "{\n  services.nginx.upstreams.pool = {},\n}\n";
    passwords_of_an_input: "fun { inputs, .. } => {\n  services.nginx.virtualHosts.\"b.example\" = {\n    root = \"/srv/b\",\n    basicAuthFile = \"%{inputs.site.path}/users\",\n  },\n}\n";
}

#[test]
fn an_internationalised_name_is_what_dns_has() {
    let operator = Operator::with_module(&certified(&format!("serverName = \"Bücher.example\",\n    {TLS}")));
    assert_eq!(operator.stead(&["check"]).code, 0);
    // Two spellings of one name are one name.
    let two = operator
        .read("more.ncl")
        .replace("},\n}\n", "},\n  services.nginx.virtualHosts.\"xn--bcher-kva.example\".root = \"/srv/c\",\n}\n");
    operator.put("more.ncl", &two);
    insta::assert_snapshot!(operator.refused(1, &["check"]));
}
