//! A machine that somebody uses already: looked at, adopted, deployed to, and given back as it was.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;
use stead_e2e::lab::Machine;
use stead_e2e::listing::Listing;
use stead_e2e::{Small, Stage, http, wait};

/// What somebody had there before.
const FOREIGN: &str = "mkdir -p /etc/nginx /etc/ufw && echo 'events {}' > /etc/nginx/nginx.conf &&
    echo '-A ufw-user-input -j ACCEPT' > /etc/ufw/user.rules && useradd --create-home mara && echo mine > /home/mara/notes &&
    printf 'hello\\n' > /etc/motd && chmod 600 /etc/motd &&
    systemd-run --unit=foreign /usr/bin/perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 5,
    ReuseAddr => 1) or die; while (my $c = $s->accept) { close $c }'";

const DECLARED: &str = r#"
  apps.hello.stateDirectory = true,
  networking.hostName = "adopted",
  environment.etc."motd".text = "declared\n",
  boot.kernel.sysctl."net.ipv4.ip_forward" = true,
  services.journald.enable = true,
"#;

fn network(stage: &Stage) -> String {
    stage
        .lab
        .run("ip -o addr show | awk '{ print $2, $4 }'; ip route; ip -6 route; cat /etc/resolv.conf; cat /etc/hosts")
}

fn changed(stage: &Stage, before: &Listing) -> BTreeSet<String> {
    before.changed_by_hand(&Listing::of(&stage.lab))
}

#[test]
fn a_machine_is_adopted_and_given_back_as_it_was() {
    // The app keeps a file, as apps do.
    let prelude = "open(os.environ['STATE_DIRECTORY'] + '/kept', 'a').write('x')";
    let mut small = Small { prelude: prelude.into(), extra: DECLARED.into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.lab.run(FOREIGN);
    let before = Listing::of(&stage.lab);
    let at_first = network(&stage);
    let nothing = BTreeSet::new();
    let is_there = |path: &str| stage.lab.try_run(&format!("test -e {path}")).status == 0;

    // A look leaves nothing, and so does a machine that does not fit.
    let look = stage.stead_in_words(&["adopt", "--look"]).well();
    for words in ["Debian GNU/Linux 12 (bookworm)", "port 22", "0.0.0.0:80 perl"] {
        assert!(look.stdout.contains(words), "{words}: {look}");
    }
    let look = look.tells("something listens on 0.0.0.0:80 perl");
    assert!(look.stdout.contains("it can be adopted"), "{look}");
    stage.lab.run(
        "cp /usr/lib/os-release /root/os-release && sed -i 's/VERSION_ID=.*/VERSION_ID=\"11\"/' /usr/lib/os-release",
    );
    stage.stead(&["adopt"]).exits(1).tells("and Stead is made for Debian 12 and 13");
    stage.lab.run("cat /root/os-release > /usr/lib/os-release && rm /root/os-release");
    assert_eq!(changed(&stage, &before), nothing);
    assert!(!is_there("/var/lib/stead") && !is_there("/run/stead"));
    assert!(!stage.project.join("secrets").exists());

    let adopted = stage.stead(&["adopt"]).well().json();
    assert_eq!(adopted["hostKey"], "new", "{adopted}");
    let key = stage.lab.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
    let readers = fs::read_to_string(stage.project.join("secrets/readers.toml")).expect("it was written");
    assert!(readers.contains(&format!("small = \"{key}\"")), "{readers}");
    let generator = "/etc/systemd/system-generators".to_owned();
    assert_eq!(changed(&stage, &before), [generator.clone(), generator + "/stead"].into());
    assert_eq!(stage.stead(&["adopt"]).well().json()["hostKey"], "known");

    // Ten times deployed, taken back, booted: the foreign service holds port 80 until it stops.
    stage.stead(&["up"]).exits(3).tells("port 80 is taken on the server by `perl`");
    stage.lab.run("systemctl stop foreign");
    for page in 0..10 {
        small.page = format!("page {page}\n");
        small.write(&stage.project);
        stage.stead(&["up", "--soak", "0"]).well();
    }
    stage.stead(&["rollback"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page 8\n");
    assert_eq!(network(&stage), at_first);
    stage.lab.cut_and_boot();
    // The lab's own end of the line is another one after a boot.
    let after_boot = network(&stage);
    wait::until_is("the site", std::time::Duration::from_secs(30), "page 8\n".to_owned(), || {
        stage.get("site.small", "/").body
    });

    // Given back, but for the data, whose owner keeps its number.
    stage.stead(&["leave"]).exits(1).tells("say `--yes`");
    let left = stage.stead(&["leave", "--yes"]).well().json();
    let kept = left["kept"].as_array().expect("a list").iter().filter_map(|place| place.as_str()).collect::<Vec<_>>();
    assert_eq!(kept, ["/var/lib/stead-state", "the system user stead-hello, who owns some of it"]);
    for place in ["/var/lib/stead", "/run/stead", "/etc/systemd/system-generators/stead", "/var/cache/stead-nginx"] {
        assert!(!is_there(place), "{place}");
    }
    assert_eq!(stage.lab.run("systemctl list-units --all --plain --no-legend 'stead-*' | wc -l"), "0");
    assert_eq!(stage.lab.run("cat /etc/motd; cat /proc/sys/net/ipv4/ip_forward; hostname"), "hello\n0\nlab");
    assert!(stage.lab.run("cat /var/lib/stead-state/hello/kept").starts_with('x'));

    // Back again, the data is found; and then all goes.
    stage.stead(&["up"]).well();
    assert!(stage.lab.run("cat /var/lib/stead-state/hello/kept").starts_with("xx"));
    let left = stage.stead(&["leave", "--yes", "--with-data"]).well().json();
    assert_eq!(left["kept"], serde_json::json!([]), "{left}");
    assert_eq!(changed(&stage, &before), nothing);
    assert_eq!(network(&stage), after_boot);
    stage.stead(&["leave", "--yes"]).well();
    assert!(!is_there("/var/lib/stead"));
}

#[test]
fn debian_13_is_adopted_and_given_back_as_well() {
    let mut small = Small { extra: DECLARED.into(), ..Small::default() };
    let stage = Stage::with_small(&small, Machine::trixie());
    stage.lab.run(FOREIGN);
    let before = Listing::of(&stage.lab);
    let at_first = network(&stage);
    let look = stage.stead_in_words(&["adopt", "--look"]).well().tells("something listens on 0.0.0.0:80 perl");
    assert!(look.stdout.contains("Debian GNU/Linux 13 (trixie)"), "{look}");
    assert_eq!(changed(&stage, &before), BTreeSet::new());
    stage.lab.run("systemctl stop foreign");

    stage.stead(&["adopt"]).well();
    stage.stead(&["up"]).well();
    small.page = "page two\n".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
    assert_eq!(stage.lab.run("cat /etc/motd; hostname"), "declared\nadopted");
    assert_eq!(network(&stage), at_first);

    let left = stage.stead(&["leave", "--yes", "--with-data"]).well().json();
    assert_eq!(left["kept"], serde_json::json!([]), "{left}");
    assert_eq!(stage.lab.run("cat /etc/motd; hostname"), "hello\nlab");
    assert_eq!(changed(&stage, &before), BTreeSet::new());
    assert_eq!(network(&stage), at_first);
}

/// Gives both ends of the lab's cable an address of IPv6, and takes that of IPv4 away from the lab. Returns the lab's.
fn only_over_ipv6(stage: &Stage) -> Ipv6Addr {
    let here = |words: &[&str]| {
        let output = Command::new("ip").args(words).output().expect("ip can be run");
        assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is a text")
    };
    let old = stage.lab.address().to_string();
    let route = here(&["-o", "route", "get", &old]);
    let cable = route.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("the lab has a cable");
    // A network of its own for each cable, of those that are nobody's in the world (RFC 4193).
    let number: u16 = cable.trim_start_matches(char::is_alphabetic).parse().expect("cables have numbers");
    let address = |last| Ipv6Addr::new(0xfd73, 0x7465, 0x6164, number, 0, 0, 0, last);
    here(&["address", "add", &format!("{}/64", address(1)), "dev", cable, "nodad"]);
    let (own, gateway) = (address(2), address(1));
    stage.lab.run(&format!(
        "ip -4 address flush dev eth0 && ip address add {own}/64 dev eth0 nodad && ip -6 route add default via {gateway}"
    ));
    let config = stage.lab.itself().ssh_config();
    let known = fs::read_to_string(&config).expect("the lab has a configuration of ssh");
    let known = known.replace("Host lab-lab\n", &format!("Host {own}\n")).replace(&format!("  HostName {old}\n"), "");
    fs::write(&config, known).expect("a file can be written");
    own
}

#[test]
fn a_server_that_has_ipv6_alone_is_adopted_deployed_to_and_given_back() {
    let mut small = Small::default();
    let stage = Stage::with_small(&small, Machine::bookworm());
    let address = only_over_ipv6(&stage);
    let place = format!("root@{address}");
    let before = Listing::of(&stage.lab);
    let at_first = network(&stage);
    assert!(!at_first.contains("10.213.") && at_first.contains(&address.to_string()), "{at_first}");
    let get = |site: &str| {
        let answer = http::get(SocketAddr::new(address.into(), 80), site, "/", &[]);
        answer.unwrap_or_else(|error| panic!("{site} does not answer over IPv6: {error}")).body
    };

    let adopted = stage.stead_to(&place, &["adopt"]).well().json();
    assert_eq!(adopted["machine"]["addresses"], serde_json::json!([format!("{address}/64")]), "{adopted}");
    assert_eq!(network(&stage), at_first);
    for (answer, page) in [("one", "page one\n"), ("two", "page two\n")] {
        (small.answer, small.page) = (answer.into(), page.into());
        small.write(&stage.project);
        let told = stage.stead_to(&place, &["up"]).well().json();
        assert_eq!((get("app.small"), get("site.small")), (answer.into(), page.into()));
        assert_eq!(network(&stage), at_first);
        // The sites were proved from this side too, at the one address that there is.
        let outside = told["probes"].as_array().expect("a list").iter().filter(|probe| probe["side"] == "operator");
        let outside: Vec<_> = outside.map(|probe| (probe["verdict"].as_str(), probe["asked"].to_string())).collect();
        assert_eq!(outside.len(), 2, "{told}");
        for (verdict, asked) in outside {
            assert!(verdict == Some("passed") && asked.contains(&address.to_string()), "{verdict:?} {asked}");
        }
    }

    stage.stead_to(&place, &["leave", "--yes", "--with-data"]).well();
    assert_eq!(changed(&stage, &before), BTreeSet::new());
    assert_eq!(network(&stage), at_first);
}
