//! Many certificates at once, and what looking after them costs when nothing is due.

use std::fmt::Write;
use std::time::Instant;
use stead_e2e::authority::Authority;
use stead_e2e::lab::Machine;
use stead_e2e::{Small, Stage};

const SITES: usize = 50;

#[test]
fn fifty_sites_have_their_certificates_at_the_end_of_one_deploy_and_cost_little_afterwards() {
    let stage = Stage::new(Machine::bookworm());
    let authority = Authority::beside(&stage.lab, 0);
    let mut extra = format!("security.acme = {{ {} }},\n", authority.declared(&stage.project));
    for number in 0..SITES {
        let _ = writeln!(
            extra,
            "services.nginx.virtualHosts.\"n{number}.small\" =
               {{ enableACME = true, forceSSL = true, root = inputs.site.path, serverAliases = [\"www.n{number}.small\"] }},"
        );
    }
    let small = Small { has_app: false, extra: extra.clone(), ..Small::default() };
    small.write(&stage.project);
    stage.stead(&["update"]).well();
    let began = Instant::now();
    let deploy = stage.stead(&["deploy"]).well();
    eprintln!("{SITES} sites, from nothing to certificates: {:.1?}", began.elapsed());
    assert_eq!(deploy.json()["notes"].as_array().map(Vec::len), Some(0), "{deploy}");
    let states = stage.stead(&["status"]).json()["certificates"].clone();
    let states: Vec<&str> = states.as_array().unwrap().iter().filter_map(|one| one["state"].as_str()).collect();
    assert_eq!(states, ["valid"; SITES]);
    for name in ["n0.small", "www.n31.small", "n49.small"] {
        assert_eq!(authority.curl(&format!("https://{name}/"), &[]).well().stdout, "page one\n\n200  h2");
    }

    // Nothing is due: the unit as it is, and its command alone.
    let exec = stage.lab.show("stead-certificates-renew.service", "ExecStart");
    let words = exec.split("argv[]=").nth(1).and_then(|rest| rest.split(" ;").next()).expect("it has a command");
    let began = Instant::now();
    stage.lab.run("systemctl start stead-certificates-renew.service");
    let by_systemd = began.elapsed();
    let measured = stage.lab.run(&format!(
        "perl -MTime::HiRes=time -e 'my $began = time; system(@ARGV) == 0 or die; printf \"%.3f s\", time - $began' -- {words}"
    ));
    let memory = stage.lab.run(&format!(
        "{words} & id=$!; peak=0; while now=$(grep -s VmHWM /proc/$id/status); do peak=$now; done; wait $id; echo $peak"
    ));
    eprintln!("{SITES} sites, nothing due: {measured}, by systemd {by_systemd:.2?}; memory {memory}");

    // One more site, whose owner gave an address that this authority refuses: that is known before anything is switched.
    let refused = "services.nginx.virtualHosts.\"refused.small\" =
          { enableACME = true, forceSSL = true, root = inputs.site.path },
        security.acme.certs.\"refused.small\".email = \"me.@small.example\",";
    let small = Small { extra: extra + refused, ..small };
    small.write(&stage.project);
    let deploy = stage.stead(&["deploy"]).exits(3);
    for words in [
        "security.acme.certs.\"refused.small\".email: ",
        "contact",
        "--> extra.ncl:",
        "  now: the server runs generation ",
    ] {
        assert!(deploy.stderr.contains(words), "{words}\n{deploy}");
    }
    assert_eq!(authority.curl("https://n7.small/", &[]).well().stdout, "page one\n\n200  h2");
    assert_ne!(authority.curl("https://refused.small/", &["--insecure"]).status, 0);
}
