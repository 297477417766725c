//! Labs in virtual machines, as their users meet them. Needs root and QEMU.
//!
//! One story a test, because an emulated boot takes half a minute or more.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, cache, eventually, keeper, specification, ssh};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use stead_lab::{Engine, Error, Event, Release, Specification, Status};

fn machine(name: &str, release: Release) -> Specification {
    Specification { engine: Engine::VirtualMachine, ..specification(name, release) }
}

#[test]
fn a_machine_reboots_loses_what_was_not_written_at_a_cut_and_gets_another_size() {
    let bench = Bench::new();
    let mut lab = bench.up(&machine("machine", Release::Trixie));
    assert_eq!(ssh(&lab, "hostname; nproc; . /etc/os-release; echo $VERSION_ID"), "machine\n1\n13");
    assert_eq!(lab.root(), None, "its files are not here");
    let words = lab.exec(&["printf", "%s|", "two words", "$HOME", "it's"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&words.stdout), "two words|$HOME|it's|");
    assert!(!lab.exec(&["false"]).unwrap().status.success());

    let address = lab.address();
    ssh(
        &lab,
        "nft add table inet old; echo kept > /root/kept; sync; systemd-run --quiet --on-active=1 systemctl reboot",
    );
    eventually("the second boot", Duration::from_secs(240), || lab.boots() == Some(2));
    lab.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lab.address(), address);
    assert_eq!(ssh(&lab, "cat /root/kept; nft list ruleset"), "kept");

    // Written a moment before the cut, and not synced: a container would keep it.
    let lost = lab.exec(&["sh", "-c", "echo lost > /root/lost"]).unwrap();
    assert!(lost.status.success());
    lab.cut().unwrap();
    assert_eq!(lab.status(), Status::Stopped);
    assert!(matches!(lab.exec(&["true"]), Err(Error::NotRunning { .. })));

    // A size that is given while it is off is that of the next boot.
    lab.resize(Some(2), None, &mut |event| panic!("{event:?}")).unwrap();
    lab.boot(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ssh(&lab, "nproc; cat /root/kept; cat /root/lost 2>/dev/null || true"), "2\nkept");
    let mut events = Vec::new();
    lab.resize(None, Some(512), &mut |event| events.push(event)).unwrap();
    assert_eq!(events.first(), Some(&Event::ShuttingDown));
    let total: u32 = ssh(&lab, "awk '/^MemTotal/ { print $2 }' /proc/meminfo").parse().unwrap();
    assert!((400_000..524_288).contains(&total), "{total} KiB of 512 MiB");
    let summary = lab.summary();
    assert_eq!((summary.cpus, summary.memory_mib, summary.engine), (2, 512, Engine::VirtualMachine));
}

#[test]
fn where_a_container_cannot_be_started_a_machine_is_and_it_is_told() {
    let broken = tempfile::TempDir::new().unwrap();
    let nspawn = broken.path().join("systemd-nspawn");
    fs::write(&nspawn, "#!/bin/sh\necho no namespaces for you; exit 1\n").unwrap();
    fs::set_permissions(&nspawn, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::join_paths(
        [broken.path().to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut variable = std::ffi::OsString::from("PATH=");
    variable.push(path.unwrap());
    let keeper = ["/usr/bin/env".into(), variable].into_iter().chain(keeper());
    let bench = Bench::with(cache(), keeper.collect());
    let wanted = specification("fallback", Release::Bookworm);
    let mut events = Vec::new();
    let up = bench.labs.up_in_any_engine(&wanted, &mut |event| events.push(event));
    let lab = up.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lab.summary().engine, Engine::VirtualMachine);
    let reason = events.iter().find_map(|event| match event {
        Event::NoContainer { reason } => Some(reason.as_str()),
        _ => None,
    });
    assert!(reason.unwrap().contains("no namespaces for you"), "{reason:?}");
    // Asked for again, it is the same lab; asked for as a container, it is another one.
    events.clear();
    bench.labs.up_in_any_engine(&wanted, &mut |event| events.push(event)).unwrap();
    assert_eq!(events, [Event::RunsAlready]);
    let error = bench.labs.up(&wanted, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("another engine"), "{error}");
}
