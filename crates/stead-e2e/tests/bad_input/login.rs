//! Who cannot log in, or not as declared. That an old systemd, another machine or a login without a shell is found
//! before anything is sent is shown against many kinds of sshd in `stead-remote/tests/sshd.rs`; these are a server's.

use crate::refusal::{holds, outcome, told};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage};

/// The program with `--host`, as an operator whose ssh configuration is the lab's.
fn at(stage: &Stage, host: &str, words: &[&str]) -> Outcome {
    let folder = stage.lab.folder().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let ssh = folder.join("ssh");
    let real = Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap().stdout;
    let real = String::from_utf8(real).unwrap();
    let config = stage.lab.itself().ssh_config();
    fs::write(&ssh, format!("#!/bin/sh\nexec {} -F '{}' \"$@\"\n", real.trim(), config.display())).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = stage.lab.program();
    program.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
    program.arg("--project").arg(&stage.project).args(words).args(["--host", host]);
    outcome(&format!("stead {} --host {host}", words.join(" ")), &program.output().unwrap())
}

#[test]
fn whoever_cannot_log_in_as_declared_is_told_why_and_nothing_is_touched() {
    let small = Small { has_app: false, ..Small::default() };
    let stage = Stage::with_small(&small, Machine::bookworm());
    stage.stead(&["update"]).well();
    let untouched = "  now: nothing was changed on any server";
    let host = stage.lab.itself().ssh_host();

    // The host's key is another one than before; then one that nobody knows.
    let known = stage.lab.itself().ssh_config().with_file_name("known_hosts");
    let honest = fs::read_to_string(&known).unwrap();
    let other = stage.lab.folder().join("other");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other).status().unwrap();
    assert!(made.success());
    let key = fs::read_to_string(other.with_extension("pub")).unwrap();
    fs::write(&known, format!("{host} {key}")).unwrap();
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(&said, &["error: cannot log in to ", "its host key is another one than before", "ssh-keygen -R", untouched]);
    fs::write(&known, "").unwrap();
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(&said, &["error: cannot log in to ", "its host key is not known here", "fingerprint", untouched]);
    fs::write(&known, honest).unwrap();

    // A user that is not there, one that is not root, and one that becomes somebody else.
    let said = told(&at(&stage, &format!("nobody-here@{host}"), &["deploy"]), 3);
    holds(&said, &["it refuses this login", "check `sshUser`", untouched]);
    stage.lab.run(
        "useradd --create-home --password '*' guest && cp -r /root/.ssh /home/guest/ && chown -R guest: /home/guest/.ssh && \
         useradd --non-unique --uid 0 --gid 0 --home-dir /root --no-create-home --password '*' toor",
    );
    let said = told(&at(&stage, &format!("guest@{host}"), &["deploy"]), 3);
    holds(&said, &["error: guest is not root on ", "sudo", "log in as root", untouched]);
    let said = told(&at(&stage, &format!("toor@{host}"), &["deploy"]), 3);
    holds(&said, &["let in `root`, but the project declares `toor`", untouched]);

    // A systemd that is too old for the units.
    stage.lab.run("printf '#!/bin/sh\\necho systemd 247 \\\\(247.3-7\\\\)\\n' > /usr/local/bin/systemctl && chmod 755 /usr/local/bin/systemctl");
    let said = told(&stage.stead_in_words(&["deploy"]), 3);
    holds(&said, &["has systemd 247; 250 or newer is needed", untouched]);
    stage.lab.run("rm /usr/local/bin/systemctl");

    stage.lab.run("test ! -e /run/stead/active && test -z \"$(ls /var/lib/stead/generations 2>/dev/null)\"");
    stage.stead(&["deploy"]).well();
}
