//! A mirror that is down or lies, and packages that cannot be had. That `stead-debian` finds each lie out
//! (tampered indexes, signatures and packages, sizes, stalls) is shown by its own tests; this shows the program's words.

use crate::operator::{Operator, mirror};

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
    operator.set("STEAD_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/archive"));
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
