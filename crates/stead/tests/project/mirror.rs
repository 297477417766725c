//! A mirror that is down, slow or lies, and packages that cannot be had. That `stead-debian` finds each lie out
//! (signatures, sizes, stalls) is shown by its own tests; this shows the program's words, and that nothing moves.

use crate::operator::{Answer, Operator, mirror, mirror_with};

const BUILD: &str = "fun { inputs, .. } => {
  apps.shop = {
    source = inputs.site.path,
    exec = \"x\",
    build = { packages = [\"coreutils\"], command = \"true\", output = \"out\" },
  },
}
";

/// A project whose check needs packages from this mirror, which are not what the lock says.
fn building_from(mirror: &str) -> Operator {
    let mut operator = Operator::with_module(BUILD);
    operator.pin(&["coreutils", "dash", "findutils", "grep", "sed"]);
    operator.set("STEAD_DEBIAN_MIRROR", mirror);
    operator
}

#[test]
fn a_mirror_that_is_down_moves_no_pin() {
    let operator = Operator::with_module("{}\n");
    insta::assert_snapshot!(operator.refused(3, &["update"]), @r"
    error: the indexes of the input `debian` cannot be read: cannot fetch the signed index of bookworm: cannot reach http://127.0.0.1:[PORT]/debian/dists/bookworm/InRelease: io: Connection refused (os error 111)
      now: nothing was changed on any server
      do:  nothing was moved; look at the mirror and the release's name, and run `stead update` again
    ");
    operator.refused(3, &["up"]);
}

#[test]
fn a_mirror_that_is_down_is_told_when_a_build_needs_packages() {
    let operator = Operator::with_module(BUILD);
    operator.pin(&["coreutils", "dash", "findutils", "grep", "sed"]);
    let said = operator.refused(3, &["check"]);
    assert!(said.starts_with("error: cannot download the package "), "{said}");
    assert!(said.contains("cannot reach http://127.0.0.1:") && said.contains("Connection refused"), "{said}");
}

#[test]
fn a_mirror_that_is_no_archive_moves_no_pin() {
    let mut operator = Operator::with_module("{}\n");
    operator.set("STEAD_DEBIAN_MIRROR", &mirror(b"<html>Log in to the hotel's network</html>".to_vec()));
    let said = operator.refused(3, &["update"]);
    assert!(said.contains("InRelease") && said.contains("is not a signed index"), "{said}");
}

#[test]
fn a_mirror_whose_address_is_none() {
    let mut operator = Operator::with_module("{}\n");
    operator.set("STEAD_DEBIAN_MIRROR", "nonsense");
    insta::assert_snapshot!(operator.refused(1, &["update"]), @r"
    error: the indexes of the input `debian` cannot be read: `nonsense` is not the http or https address of a Debian archive
      now: nothing was changed on any server
      do:  nothing was moved; mend it and run `stead update` again
    ");
}

#[test]
fn a_tampered_package_is_named() {
    let said = building_from(&mirror(vec![b'x'; 100])).refused(3, &["check"]);
    assert!(said.contains("was altered: its SHA-256 is"), "{said}");
}

#[test]
fn a_package_of_another_size_than_pinned_is_named() {
    let said = building_from(&mirror(vec![b'x'; 5000])).refused(3, &["check"]);
    assert!(said.contains("has 100 bytes, but here are 5000"), "{said}");
}

/// From the archive that apt uses on this machine: its real indexes.
#[test]
fn packages_that_do_not_exist_or_exclude_each_other_are_named_with_their_option() {
    let mut operator = Operator::new();
    // Without the variable's mirror, and with indexes that later runs find again.
    operator.set("STEAD_DEBIAN_MIRROR", "");
    operator.set("STEAD_CACHE", ARCHIVE);
    let service = "systemd.services.tidy = { runtime = \"tools\", serviceConfig.ExecStart = \"/usr/bin/true\" }";
    operator.put("more.ncl", &format!("{{\n  runtimes.tools.packages = [\"coreutils-nonsense\"],\n  {service},\n}}\n"));
    insta::assert_snapshot!(operator.refused(1, &["update"]), @r"
    error: the packages `debian/amd64/coreutils-nonsense` cannot be resolved: there is no package `coreutils-nonsense`; did you mean `coreutils`?
    asked for by runtimes.tools.packages
      now: nothing was changed on any server
      do:  nothing was moved; mend the packages and run `stead update` again
    ");
    operator.put(
        "more.ncl",
        &format!("{{\n  runtimes.tools.packages = [\"postfix\", \"exim4-daemon-light\"],\n  {service},\n}}\n"),
    );
    let said = operator.refused(1, &["update"]);
    for words in [
        "these packages cannot be installed together: exim4-daemon-light, postfix",
        "excludes mail-transport-agent",
        "asked for by runtimes.tools.packages",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Indexes of the archive that apt uses on this machine, kept between runs.
const ARCHIVE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/archive");

/// The signed index of bookworm, as the archive has it.
fn signed_index() -> Vec<u8> {
    let mut operator = Operator::new();
    operator.set("STEAD_DEBIAN_MIRROR", "");
    operator.set("STEAD_CACHE", ARCHIVE);
    operator.put("more.ncl", "{ services.nginx.packages = [\"there-is-none-such\"] }\n");
    operator.refused(1, &["update"]);
    let files = std::fs::read_dir(format!("{ARCHIVE}/indexes")).unwrap().flatten().map(|entry| entry.path());
    let indexes = files.filter(|path| path.extension().is_some_and(|end| end == "InRelease"));
    let is_bookworm = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains("\nCodename: bookworm\n");
    indexes.map(|path| std::fs::read(path).unwrap()).find(is_bookworm).expect("the archive has bookworm")
}

/// A mirror with this for bookworm's signed index, and rubbish besides.
fn refused_of_mirror(release: Vec<u8>) -> String {
    let mut operator = Operator::with_module("{}\n");
    operator.set(
        "STEAD_DEBIAN_MIRROR",
        &mirror_with(move |path| {
            let is_it = path == "/debian/dists/bookworm/InRelease";
            Answer::Bytes(if is_it { release.clone() } else { b"rubbish".to_vec() })
        }),
    );
    operator.refused(3, &["update"])
}

#[test]
fn a_tampered_index_moves_no_pin() {
    let honest = String::from_utf8(signed_index()).unwrap();
    // What is signed was altered.
    let tampered = honest.replacen("Origin: Debian", "Origin: Debiam", 1);
    assert_ne!(tampered, honest);
    let said = refused_of_mirror(tampered.into_bytes());
    for words in [
        "error: the indexes of the input `debian` cannot be read: ",
        "/dists/bookworm/InRelease is not believed: ",
        "it was altered",
        "  do:  nothing was moved; ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What is signed is honest, and the index of packages is not what it says.
    let said = refused_of_mirror(honest.into_bytes());
    for words in ["main/binary-amd64/", " was altered: the signed index says SHA-256 ", "  do:  nothing was moved; "] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_mirror_that_falls_silent_is_given_up_and_moves_no_pin() {
    let mut operator = Operator::with_module("{}\n");
    operator.set("STEAD_DEBIAN_MIRROR", &mirror_with(|_| Answer::Silence));
    let said = operator.refused(3, &["update"]);
    for words in
        ["cannot fetch the signed index of bookworm", "/dists/bookworm/InRelease", "  do:  nothing was moved; "]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}
