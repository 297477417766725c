//! A line that drops, at any moment.

use crate::refusal::{holds, outcome, told};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage, wait};

/// A folder with an `ssh` that passes on this many bytes to the server, and then is gone.
fn cutting(stage: &Stage, bytes: u64) -> PathBuf {
    let pass = format!("stdbuf -o0 head -c {bytes} > \"$pipe\"\nkill -9 $!\nexit 255");
    with_ssh(stage, &format!("cut-{bytes}"), &pass)
}

/// A folder with an `ssh` that passes on this many bytes to the server, another byte than the next one, and the rest.
fn altering(stage: &Stage, bytes: u64) -> PathBuf {
    let pass = format!(
        "{{ stdbuf -o0 head -c {bytes}; head -c 1 | tr '\\000-\\377' '\\001-\\377\\000'; cat; }} > \"$pipe\"\nwait $!\nexit $?"
    );
    with_ssh(stage, &format!("alter-{bytes}"), &pass)
}

/// A folder with an `ssh` whose input goes through this script, into `$pipe`.
fn with_ssh(stage: &Stage, name: &str, pass: &str) -> PathBuf {
    let folder = stage.lab.folder().join(name);
    fs::create_dir_all(&folder).unwrap();
    let real = Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap().stdout;
    let script = format!(
        "#!/bin/sh\npipe={folder}/pipe.$$\nmkfifo \"$pipe\"\n{ssh} \"$@\" < \"$pipe\" &\n{pass}\n",
        folder = folder.display(),
        ssh = String::from_utf8(real).unwrap().trim(),
    );
    let ssh = folder.join("ssh");
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn with_path(mut command: Command, first: &Path) -> Outcome {
    command.env("PATH", format!("{}:{}", first.display(), std::env::var("PATH").unwrap()));
    let output = command.output().unwrap();
    outcome(&format!("{command:?}"), &output)
}

/// A command's words, without `--json`.
fn in_words(stage: &Stage, words: &[&str]) -> Command {
    let mut plain = stage.lab.program();
    plain.args(stage.command(words).get_args().skip(1));
    plain
}

#[test]
fn a_line_that_drops_while_something_is_sent_leaves_no_half_object_and_the_next_deploy_works() {
    let small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    // Something to send besides packages: a megabyte that does not compress.
    let noise: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
    fs::write(stage.project.join("site/noise"), noise).unwrap();
    stage.stead(&["update"]).well();

    // While the agent itself is sent: nothing has its name.
    let said = told(&with_path(in_words(&stage, &["deploy"]), &cutting(&stage, 1_000_000)), 3);
    holds(&said, &["  now: nothing was changed on any server"]);
    wait::until_is("the login's shell has ended", Duration::from_secs(20), String::new(), || {
        stage.lab.run("find /var/lib/stead/agents -type f 2>/dev/null || true")
    });
    stage.stead(&["status"]).well();

    // Among the descriptions, the objects, the packages.
    for bytes in [1, 300, 3_000, 100_000, 900_000, 1_500_000, 3_000_000] {
        let ended = with_path(in_words(&stage, &["deploy"]), &cutting(&stage, bytes));
        let said = told(&ended, 3);
        assert!(
            said.contains("  now: the server runs nothing of Stead's") || said.contains("  now: nothing was changed"),
            "{said}"
        );
        stage.lab.run("test ! -e /run/stead/active && test ! -e /var/lib/stead/confirmed");
        assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0), "after {bytes} bytes");
    }
    // Something is altered on its way: by no SSH, but whoever sends may have a bad memory or disk. Among the objects,
    // and among the packages.
    for bytes in [300_000, 1_500_000] {
        let said = told(&with_path(in_words(&stage, &["deploy"]), &altering(&stage, bytes)), 3);
        holds(&said, &["  now: the server runs nothing of Stead's"]);
        stage.lab.run("test ! -e /run/stead/active && test ! -e /var/lib/stead/confirmed");
        assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0), "altered at {bytes}");
    }
    stage.stead(&["deploy"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    assert_eq!(stage.stead(&["verify"]).well().json().as_array().map(Vec::len), Some(0));
}

/// The `ssh` that a running command has started.
fn ssh_of(program: &Child) -> Option<u32> {
    let id = program.id();
    let tasks = fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let all: Vec<u32> = children
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    all.into_iter().find(|id| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "ssh"))
}

#[test]
fn a_line_that_drops_during_the_activation_is_taken_up_again_and_the_deploy_ends_well() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["up"]).well();
    small.page = "page two\n".into();
    small.write(&stage.project);
    let mut command = stage.command(&["up", "--soak", "4"]);
    let mut deploy = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait::until_is("the new page is live", Duration::from_secs(60), "page two\n".to_owned(), || {
        stage.get("site.small", "/").body
    });
    let ssh = ssh_of(&deploy).expect("the deploy holds a line");
    let ssh = rustix::process::Pid::from_raw(i32::try_from(ssh).unwrap()).unwrap();
    rustix::process::kill_process(ssh, rustix::process::Signal::KILL).unwrap();
    assert!(deploy.try_wait().unwrap().is_none(), "it goes on");
    let ended = outcome("stead up", &deploy.wait_with_output().unwrap()).well();
    let live = ended.text("generation");
    assert_eq!(ended.text("outcome"), "confirmed");
    assert!(ended.stderr.contains("the connection broke; the activation goes on"), "{ended}");
    assert_eq!(stage.stead(&["status"]).well().text("confirmed"), live);

    // The same from the other side: sshd is restarted, and every session of it ends.
    small.page = "page three\n".into();
    small.write(&stage.project);
    let mut command = stage.command(&["up", "--soak", "4"]);
    let deploy = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait::until_is("the new page is live", Duration::from_secs(60), "page three\n".to_owned(), || {
        stage.get("site.small", "/").body
    });
    stage.lab.run("systemctl restart ssh && pkill -KILL -f '[s]shd: root'");
    let ended = outcome("stead up", &deploy.wait_with_output().unwrap()).well();
    assert_eq!(ended.text("outcome"), "confirmed");
    assert!(ended.stderr.contains("the connection broke; the activation goes on"), "{ended}");
}
