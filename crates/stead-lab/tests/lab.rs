//! Labs as their users meet them: real systemd, real sshd, on this machine. Needs root.
//!
//! The keeper is the example program, which cargo builds with the tests. Base systems are shared
//! through the user's cache, because building one takes half a minute.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, keeper, specification, ssh};
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stead_lab::{Error, Event, Forward, Release, Specification, Status};
use stead_model::name::{Name, Port};
use tempfile::TempDir;

fn eventually(what: &str, condition: impl Fn() -> bool) {
    common::eventually(what, Duration::from_secs(30), condition);
}

fn links() -> String {
    String::from_utf8(Command::new("ip").args(["-br", "addr"]).output().unwrap().stdout).unwrap()
}

#[test]
fn two_labs_of_two_releases_run_at_once_each_with_one_cpu_and_its_own_address() {
    let bench = Bench::new();
    let twelve = bench.up(&specification("twelve", Release::Bookworm));
    let thirteen = bench.up(&specification("thirteen", Release::Trixie));
    assert_eq!(ssh(&twelve, "hostname; nproc; . /etc/os-release; echo $VERSION_ID"), "twelve\n1\n12");
    assert_eq!(ssh(&thirteen, "hostname; nproc; . /etc/os-release; echo $VERSION_ID"), "thirteen\n1\n13");
    assert_ne!(twelve.address(), thirteen.address());
    assert_ne!(ssh(&twelve, "cat /etc/machine-id"), ssh(&thirteen, "cat /etc/machine-id"));
    // A service of the one is not a service of the other.
    ssh(&twelve, "systemd-run --quiet --unit=probe sleep 1000");
    ssh(&thirteen, "systemd-run --quiet --unit=probe sleep 1000; systemctl stop probe");
    assert_eq!(ssh(&twelve, "systemctl is-active probe"), "active");
    let names: Vec<Name> = bench.labs.list().unwrap().iter().map(|lab| lab.name().clone()).collect();
    assert_eq!(names, ["thirteen".parse().unwrap(), "twelve".parse().unwrap()]);
}

#[test]
fn a_power_cut_stops_everything_and_the_disk_boots_again() {
    let bench = Bench::new();
    let lab = bench.up(&specification("cut", Release::Bookworm));
    ssh(&lab, "nft add table inet old; echo kept > /root/file");
    lab.cut().unwrap();
    assert_eq!(lab.status(), Status::Stopped);
    assert!(matches!(lab.exec(&["true"]), Err(Error::NotRunning { .. })));
    lab.boot(&mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ssh(&lab, "cat /root/file; nft list ruleset"), "kept");
    assert!(matches!(lab.boot(&mut |_| {}), Err(Error::Running { .. })));
}

#[test]
fn a_reboot_from_inside_comes_up_again_at_the_same_address_without_the_old_rules() {
    let bench = Bench::new();
    let lab = bench.up(&specification("reboot", Release::Trixie));
    let address = lab.address();
    ssh(&lab, "nft add table inet old; systemd-run --quiet --on-active=100ms systemctl reboot");
    eventually("the second boot", || lab.boots() == Some(2));
    lab.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lab.address(), address);
    assert_eq!(ssh(&lab, "nft list ruleset"), "");
}

#[test]
fn a_lab_that_powers_off_is_stopped_and_up_starts_it() {
    let bench = Bench::new();
    let wanted = specification("off", Release::Bookworm);
    let lab = bench.up(&wanted);
    lab.exec(&["systemctl", "poweroff", "--force"]).unwrap();
    eventually("the end", || lab.status() == Status::Stopped);
    bench.up(&wanted);
    let mut events = Vec::new();
    bench.labs.up(&wanted, &mut |event| events.push(event)).unwrap();
    assert_eq!(events, [Event::RunsAlready]);
}

#[test]
fn the_memory_limit_holds_from_outside() {
    let bench = Bench::new();
    let lab = bench.up(&Specification { memory_mib: 256, ..specification("small", Release::Bookworm) });
    assert_eq!(lab.summary().unlimited, [] as [String; 0], "this machine cannot limit memory");
    // tail has to hold all of a line without an end.
    let greedy = lab.ssh(&["head -c 500M /dev/zero | tail"]).stdin(Stdio::null()).output().unwrap();
    assert!(!greedy.status.success(), "500 MiB fit into 256 MiB");
    lab.wait_ready().unwrap_or_else(|error| panic!("the lab outlives it: {error}"));
    assert!(lab.cpu_time().unwrap() > Duration::ZERO);
}

#[test]
fn a_forwarded_port_reaches_the_lab_and_ends_with_it() {
    let here = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let forward = Forward { here: Port::new(here).unwrap(), lab: Port::new(22).unwrap() };
    let bench = Bench::new();
    let lab = bench.up(&Specification { forwards: vec![forward], ..specification("forward", Release::Bookworm) });
    let mut greeting = [0; 7];
    TcpStream::connect(("127.0.0.1", here)).unwrap().read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-2.0");
    bench.labs.down(lab.name()).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", here)).is_err());
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_made() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = Forward { here: Port::new(taken.local_addr().unwrap().port()).unwrap(), lab: Port::new(80).unwrap() };
    let bench = Bench::new();
    let wanted = Specification { forwards: vec![forward], ..specification("late", Release::Bookworm) };
    let error = bench.labs.up(&wanted, &mut |event| panic!("{event:?}")).unwrap_err();
    assert!(error.to_string().contains(&forward.here.to_string()), "{error}");
    assert!(bench.labs.list().unwrap().is_empty());
}

#[test]
fn down_leaves_nothing_even_after_the_keeper_was_killed() {
    let bench = Bench::new();
    let lab = bench.up(&specification("gone", Release::Bookworm));
    let Some(IpAddr::V4(address)) = lab.address() else { panic!("no address") };
    let host = format!(" {}/30", Ipv4Addr::from(u32::from(address) - 1));
    let folder = lab.ssh_config().parent().unwrap().to_owned();
    let running: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("running.json")).unwrap()).unwrap();
    let keeper = running["keeper"]["pid"].as_i64().unwrap();
    Command::new("kill").args(["-9", &keeper.to_string()]).status().unwrap();
    eventually("the end", || lab.status() == Status::Stopped);
    assert!(links().contains(&host), "a killed keeper cannot tidy up");
    let init = format!("/proc/{}/stat", running["init"]["pid"]);
    bench.labs.down(lab.name()).unwrap();
    assert!(!links().contains(&host), "{}", links());
    for group in running["groups"].as_array().unwrap() {
        assert!(!PathBuf::from(group.as_str().unwrap()).exists(), "{group}");
    }
    eventually("the container's end", || !PathBuf::from(&init).exists());
    assert!(!folder.exists());
    assert!(folder.parent().unwrap().exists());
}

#[test]
fn an_unknown_name_gets_a_suggestion_and_a_taken_one_the_difference() {
    let bench = Bench::new();
    bench.up(&specification("rehearsal", Release::Bookworm));
    let error = bench.labs.get(&"rehersal".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "there is no lab `rehersal`: did you mean `rehearsal`?");
    let error = bench.labs.up(&specification("rehearsal", Release::Trixie), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("another Debian release"), "{error}");
}

#[test]
fn a_system_that_does_not_boot_is_told_with_its_last_lines() {
    let bench = Bench::new();
    let lab = bench.up(&specification("broken", Release::Bookworm));
    lab.cut().unwrap();
    fs::write(lab.root().unwrap().join("usr/lib/systemd/systemd"), "#!/bin/sh\necho the disk is on fire; exit 1\n")
        .unwrap();
    let began = Instant::now();
    let error = lab.boot(&mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "it is noticed at once, not after the whole patience");
    assert_eq!(lab.status(), Status::Stopped);
}

#[test]
fn a_running_container_gets_another_size_at_once() {
    let bench = Bench::new();
    let mut lab = bench.up(&specification("grown", Release::Bookworm));
    let greedy = |lab: &stead_lab::Lab| {
        lab.ssh(&["head -c 200M /dev/zero | tail > /dev/null"]).stdin(Stdio::null()).output().unwrap().status.success()
    };
    lab.resize(Some(2), Some(128), &mut |event| panic!("{event:?}")).unwrap();
    assert_eq!((ssh(&lab, "nproc").as_str(), lab.summary().memory_mib), ("2", 128));
    assert!(!greedy(&lab), "200 MiB fit into 128 MiB");
    lab.resize(Some(1), Some(1024), &mut |event| panic!("{event:?}")).unwrap();
    assert_eq!((ssh(&lab, "nproc").as_str(), lab.summary().memory_mib), ("1", 1024));
    assert!(greedy(&lab), "200 MiB do not fit into 1 GiB");
}

#[test]
fn a_base_that_cannot_be_built_is_told_with_the_last_lines_and_not_kept() {
    let cache = TempDir::new().unwrap();
    let bench = Bench::with(cache.path().to_owned(), keeper());
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // Nobody listens there now.
    let labs = bench.labs.clone().with_mirror(Some(format!("http://{closed}/debian")));
    let error = labs.up(&specification("nowhere", Release::Bookworm), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::BaseFailed { .. }), "{error}");
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
    let kept = fs::read_dir(cache.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    assert!(kept.map(|entry| entry.file_name()).all(|name| name.to_string_lossy().ends_with(".partial")));
}
