//! A lab of one test: made by `stead lab up`, removed with the test.

use crate::outcome::Outcome;
use crate::place::{self, Scratch};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stead_lab::{Engine, Labs, Release};
use stead_model::name::Name;

const NAME: &str = "lab";

/// What kind of server a test wants.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Its Debian release.
    pub release: Release,
    /// Its memory in MiB.
    pub memory: u32,
    /// Its CPUs.
    pub cpus: u32,
    /// What it runs in.
    pub engine: Engine,
}

impl Machine {
    /// A droplet with Debian 12: 1 CPU, 1 GiB.
    pub fn bookworm() -> Self {
        Self { release: Release::Bookworm, memory: 1024, cpus: 1, engine: Engine::Container }
    }

    /// A droplet with Debian 13.
    pub fn trixie() -> Self {
        Self { release: Release::Trixie, ..Self::bookworm() }
    }

    /// The same as a virtual machine: for power cuts and memory limits, which a container cannot show.
    pub fn virtual_machine(self) -> Self {
        Self { engine: Engine::VirtualMachine, ..self }
    }
}

/// A disposable server, and the folders in which the program keeps it.
#[derive(Debug)]
pub struct Lab {
    lab: stead_lab::Lab,
    labs: Labs,
    name: Name,
    scratch: Scratch,
    /// The program under test.
    program: PathBuf,
}

impl Lab {
    /// Boots one, with the program's own words. Panics with the reason where that cannot be.
    pub fn up(machine: Machine) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "tests in labs need root: run them as root or through `cargo xtask test`"
        );
        let scratch = Scratch::new(|left| {
            let labs = labs(left);
            for lab in labs.list().unwrap_or_default() {
                let _ = labs.down(lab.name());
            }
        });
        let program = match machine.engine {
            Engine::Container => place::program(),
            Engine::VirtualMachine => stripped(scratch.path()),
        };
        let words = ["lab", "up", NAME, "--release", machine.release.codename()].map(str::to_owned);
        let size = ["--cpus".to_owned(), machine.cpus.to_string(), "--memory".to_owned(), machine.memory.to_string()];
        let mut command = surrounded(&program, &scratch);
        let engine = (machine.engine == Engine::VirtualMachine).then_some("--vm");
        let output = command.args(words).args(size).args(engine).output().expect("the program under test can be run");
        Outcome::new(format!("{command:?}"), &output).well();
        let labs = labs(scratch.path());
        let name: Name = NAME.parse().expect("the lab's name is valid");
        let lab = labs.get(&name).unwrap_or_else(|error| panic!("the lab that was just made is not there: {error}"));
        Self { lab, labs, name, scratch, program }
    }

    /// Its name, for `--lab`.
    pub fn name(&self) -> &str {
        NAME
    }

    /// The lab itself: to cut its power, boot it, look at its root folder.
    pub fn itself(&self) -> &stead_lab::Lab {
        &self.lab
    }

    /// A folder that goes with the lab.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The program under test, in this lab's surroundings.
    pub fn program(&self) -> Command {
        surrounded(&self.program, &self.scratch)
    }

    /// Its address.
    #[track_caller]
    pub fn address(&self) -> IpAddr {
        self.lab.address().expect("the lab runs")
    }

    /// A port of it.
    #[track_caller]
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(), port)
    }

    /// Cuts its power, and boots it again.
    #[track_caller]
    pub fn cut_and_boot(&self) {
        self.lab.cut().unwrap_or_else(|error| panic!("the lab's power cannot be cut: {error}"));
        self.boot();
    }

    /// Boots it after [`stead_lab::Lab::cut`], and waits until it lets the operator in.
    #[track_caller]
    pub fn boot(&self) {
        self.lab.boot(&mut |_| {}).unwrap_or_else(|error| panic!("the lab does not boot: {error}"));
    }

    /// Runs a shell command inside: in a container by namespaces, which works without its sshd and network.
    #[track_caller]
    pub fn try_run(&self, script: &str) -> Outcome {
        let output = self.lab.exec(&["/bin/sh", "-c", script]).expect("the lab runs");
        Outcome::new(script.to_owned(), &output)
    }

    /// [`Lab::try_run`] that has to end well; what it printed, trimmed.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.try_run(script).well().stdout.trim().to_owned()
    }

    /// Runs a shell command over the operator's ssh, in a connection of its own.
    #[track_caller]
    pub fn ssh(&self, script: &str) -> Outcome {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.lab.ssh_config());
        command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ControlPath=none"]);
        let output = command.arg(self.lab.ssh_host()).arg(script).stdin(Stdio::null()).output();
        Outcome::new(format!("ssh {script}"), &output.expect("ssh can be run"))
    }

    /// Properties of a unit, as `systemctl show` tells them.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.run(&format!("systemctl show --value -p {property} '{unit}'"))
    }

    /// Names of the active units of Stead's that match a pattern, sorted.
    #[track_caller]
    pub fn units(&self, pattern: &str) -> Vec<String> {
        let list = format!("systemctl list-units --plain --no-legend --state=active '{pattern}'");
        let mut names: Vec<String> =
            self.run(&list).lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        names.sort();
        names
    }

    #[expect(clippy::print_stderr, reason = "a failed test shows the server's side")]
    fn tell(&self) {
        let script = r#"systemctl list-units --all --plain --no-legend 'stead-*'; systemctl --failed --plain --no-legend
            ps axo pid,ppid,stat,etime,time,wchan:20,args | grep -v '\]$'
            for process in $(pgrep -x nginx); do
                echo "-- $process"; cat /proc/$process/syscall /proc/$process/stack; grep Sig /proc/$process/status
            done
            ss -Htnp state all '( sport = 80 )' | grep -v TIME-WAIT | head -n 60
            journalctl --no-pager -o short-precise -n 1000 | grep -v '"stead-load"' | tail -n 100"#;
        match self.lab.exec(&["/bin/sh", "-c", script]) {
            Ok(output) => eprintln!("--- the lab\n{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => eprintln!("--- the lab: {error}"),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let _ = self.labs.down(&self.name);
    }
}

fn labs(scratch: &Path) -> Labs {
    let keeper = vec![place::program().into(), "lab-keeper".into()];
    Labs::new(state(scratch).join("labs"), place::cache().join("bases"), keeper)
}

fn state(scratch: &Path) -> PathBuf {
    scratch.join("state")
}

/// The program under test without what only a debugger reads: an emulated server is sent half as much,
/// and checks half as much at every login.
fn stripped(folder: &Path) -> PathBuf {
    let copy = folder.join("stead");
    let status = Command::new("strip").arg("-o").arg(&copy).arg(place::program()).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "`strip` (of binutils) is needed for labs in virtual machines"
    );
    copy
}

/// The program under test with folders of its own, and without a terminal.
fn surrounded(program: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(program);
    command.env("STEAD_STATE", state(scratch.path())).env("STEAD_CACHE", place::cache());
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}
