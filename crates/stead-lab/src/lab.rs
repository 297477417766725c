//! One lab: what it is, whether it runs, and what can be done to it.
//!
//! Status is always checked against the kernel, never read from a file.

use crate::command::{require, tail};
use crate::engine::Machinery;
use crate::error::{Error, io_error};
use crate::group;
use crate::keeper::{Running, load, save};
use crate::labs::{Event, Program, require_root};
use crate::shell::quoted;
use crate::specification::{Engine, Forward, Release, Specification};
use rustix::fs::FlockOperation;
use serde::Serialize;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use stead_model::name::Name;

/// A disposable local server.
#[derive(Debug, Clone)]
pub struct Lab {
    folder: PathBuf,
    pub(crate) specification: Specification,
    keeper: Program,
}

/// Whether a lab runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Its first process runs.
    Running,
    /// It is off: powered off, cut, or this machine was restarted.
    Stopped,
}

/// A lab as `lab list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its name.
    pub name: Name,
    /// Its Debian release.
    pub release: Release,
    /// What it runs in.
    pub engine: Engine,
    /// Whether it runs.
    pub status: Status,
    /// Its address, when it runs.
    pub address: Option<IpAddr>,
    /// `ssh -F` this file, to `lab-NAME`.
    pub ssh_config: PathBuf,
    /// CPUs that it may use.
    pub cpus: u32,
    /// Memory that it may use, in MiB.
    pub memory_mib: u32,
    /// Ports of this machine that lead to it.
    pub forwards: Vec<Forward>,
    /// Limits that could not be set, and why.
    pub unlimited: Vec<String>,
    /// What else there is to know of its last boot.
    pub notes: Vec<String>,
}

impl Lab {
    /// The lab in this folder.
    pub(crate) fn open(folder: PathBuf, keeper: Program) -> Result<Self, Error> {
        let specification = load(&folder.join("lab.json"))?;
        Ok(Self { folder, specification, keeper })
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.specification.name
    }

    /// What it is.
    pub fn specification(&self) -> &Specification {
        &self.specification
    }

    /// Whether it runs now.
    pub fn status(&self) -> Status {
        if self.running().is_some() { Status::Running } else { Status::Stopped }
    }

    /// Its address, while it runs. The same after a reboot; usually the same after a cut and a boot.
    pub fn address(&self) -> Option<IpAddr> {
        self.running().map(|running| running.link().lab().into())
    }

    /// The network namespace at the other end of its cable, as a file, while it runs: for more cables. In a container,
    /// the lab's own.
    pub fn network_namespace(&self) -> Option<PathBuf> {
        self.running().map(|running| running.link().namespace_path())
    }

    /// `ssh -F` this file to [`Lab::ssh_host`] works without any question; as root.
    pub fn ssh_config(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }

    /// Its name in [`Lab::ssh_config`]: `lab-NAME`.
    pub fn ssh_host(&self) -> String {
        format!("lab-{}", self.name())
    }

    /// Its root folder, as this machine sees it. There is none where the lab has a disk of its own.
    pub fn root(&self) -> Option<PathBuf> {
        match self.specification.engine {
            Engine::Container => Some(self.folder.join("root")),
            Engine::VirtualMachine => None,
        }
    }

    /// What its console showed, all boots.
    pub fn console_log(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Everything that `lab list` shows.
    pub fn summary(&self) -> Summary {
        let running = self.running();
        Summary {
            name: self.name().clone(),
            release: self.specification.release,
            engine: self.specification.engine,
            status: if running.is_some() { Status::Running } else { Status::Stopped },
            address: running.as_ref().map(|running| running.link().lab().into()),
            ssh_config: self.ssh_config(),
            cpus: self.specification.cpus,
            memory_mib: self.specification.memory_mib,
            forwards: self.specification.forwards.clone(),
            unlimited: running.as_ref().map(|running| running.unlimited.clone()).unwrap_or_default(),
            notes: running.map(|running| running.notes).unwrap_or_default(),
        }
    }

    /// CPU time that all of the lab has used since its keeper started.
    pub fn cpu_time(&self) -> Option<Duration> {
        group::cpu_time(&self.running()?.groups)
    }

    /// How often it was booted since it was last started from here: 1 until it reboots by itself.
    pub fn boots(&self) -> Option<u32> {
        self.running().map(|running| running.boots)
    }

    /// A command inside the lab, as root, with a plain environment; to be run by the caller. In a
    /// container by namespaces: that works without its sshd, network or firewall, and what it starts
    /// is outside the lab's limits. In a virtual machine over ssh: it works as long as that does.
    pub fn command<S: AsRef<OsStr>>(&self, argv: &[S]) -> Result<Command, Error> {
        require_root()?;
        let running = self.running().ok_or_else(|| self.not_running())?;
        let argv: Vec<&OsStr> = argv.iter().map(AsRef::as_ref).collect();
        Ok(self.machinery().command(self.quiet_ssh(), &running.init, &argv))
    }

    /// Runs [`Lab::command`] to its end, without input.
    pub fn exec<S: AsRef<OsStr>>(&self, argv: &[S]) -> Result<Output, Error> {
        let mut command = self.command(argv)?;
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).output().map_err(io_error("run", program))
    }

    /// The operator's ssh to the lab, with these words for its shell. To be run by the caller.
    pub fn ssh<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.ssh_config()).arg(self.ssh_host());
        match argv {
            // One word is a line for the lab's shell, as ssh has it.
            [line] => command.arg(line),
            // Several are a program and its arguments: ssh would join them by spaces for that shell.
            words => command.args(words.iter().map(|word| quoted(&word.as_ref().to_string_lossy()))),
        };
        command
    }

    /// Waits until the lab has finished booting and lets the operator in. Fails when it went off.
    /// Returns what systemd says: `running` or `degraded`.
    pub fn wait_ready(&self) -> Result<String, Error> {
        let deadline = Instant::now() + self.machinery().patience();
        let mut reason = "its sshd did not answer".to_owned();
        while Instant::now() < deadline {
            let Some(address) = self.address() else {
                return Err(self.did_not_boot("it went off".to_owned(), &self.console_log()));
            };
            let door = SocketAddr::new(address, 22);
            if TcpStream::connect_timeout(&door, Duration::from_millis(200)).is_ok() {
                let question = ["timeout", "30", "systemctl", "is-system-running", "--wait"];
                let answer = self.quiet_ssh().args(question).stdin(Stdio::null()).output();
                let answer = answer.map_err(io_error("run", "ssh"))?;
                let state = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
                if matches!(state.as_str(), "running" | "degraded") {
                    return Ok(state);
                }
                let said = String::from_utf8_lossy(&answer.stderr);
                reason = format!("systemd says `{state}`, ssh says `{}`", said.trim());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(self.did_not_boot(reason, &self.console_log()))
    }

    /// Cuts the power: the lab is killed at once, nothing is told. A container loses its memory only:
    /// what it wrote to files stays, fsynced or not. A virtual machine loses what it did not flush.
    pub fn cut(&self) -> Result<(), Error> {
        require_root()?;
        let _held = self.lock()?;
        let running = self.running().ok_or_else(|| self.not_running())?;
        self.stop(&running)
    }

    /// Starts a stopped lab, on the disk that it left, and waits until it is ready.
    pub fn boot(&self, events: &mut dyn FnMut(Event)) -> Result<(), Error> {
        require_root()?;
        let _held = self.lock()?;
        if self.running().is_some() {
            return Err(Error::Running { name: self.name().clone() });
        }
        self.start(events)
    }

    /// Starts the keeper and waits for the lab. The caller holds the lab's lock.
    pub(crate) fn start(&self, events: &mut dyn FnMut(Event)) -> Result<(), Error> {
        for (program, package) in self.machinery().programs() {
            require(program, package)?;
        }
        self.clean_up()?;
        let began = Instant::now();
        events(Event::Booting);
        let log = self.folder.join("keeper.log");
        let out = File::create(&log).map_err(io_error("create", &log))?;
        let errors = out.try_clone().map_err(io_error("open", &log))?;
        let mut command = self.keeper.command();
        let mut keeper = command
            .arg(&self.folder)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(io_error("run", self.keeper.path()))?;
        let running = loop {
            match self.running() {
                Some(running) if running.keeper.pid.cast_unsigned() == keeper.id() => break running,
                _ => {}
            }
            if keeper.try_wait().map_err(io_error("wait for", self.keeper.path()))?.is_some() {
                return Err(self.did_not_start("its keeper ended", &log));
            }
            if began.elapsed() > self.machinery().patience() {
                return Err(self.did_not_start("its first process was not seen", &log));
            }
            thread::sleep(Duration::from_millis(5));
        };
        // Nobody else may be there to collect its end while this process lives.
        thread::spawn(move || keeper.wait());
        for limit in running.unlimited {
            events(Event::NotLimited { limit });
        }
        for text in running.notes {
            events(Event::Note { text });
        }
        let state = self.wait_ready()?;
        events(Event::Ready { state, took: began.elapsed() });
        Ok(())
    }

    /// Kills the lab and waits for its keeper to tidy up. The caller holds the lab's lock.
    pub(crate) fn stop(&self, running: &Running) -> Result<(), Error> {
        let describe = || io_error("stop", &self.folder);
        running.init.kill(Duration::from_secs(10)).map_err(describe())?;
        if running.keeper.wait(Duration::from_secs(10)).is_err() {
            running.keeper.kill(Duration::from_secs(10)).map_err(describe())?;
        }
        self.clean_up()
    }

    /// Removes what a keeper left that was killed itself: the container (systemd-nspawn dies with its
    /// keeper, what it started does not), the groups, and the link, which is ours as long as it is held.
    pub(crate) fn clean_up(&self) -> Result<(), Error> {
        let state = self.folder.join("running.json");
        if let Ok(left) = load::<Running>(&state)
            && !left.released
            && !left.keeper.is_running()
        {
            // Told before it is done, as the keeper does: never given back twice.
            save(&state, &Running { released: true, ..left.clone() })?;
            if left.keeper.is_of_this_boot() {
                left.init.kill(Duration::from_secs(10)).map_err(io_error("stop", &self.folder))?;
                group::remove(&left.groups);
                left.link().release();
            }
        }
        Ok(())
    }

    /// What runs, checked. A container without its keeper does not count: nobody forwards to it or
    /// would notice its end.
    pub(crate) fn running(&self) -> Option<Running> {
        let running: Running = load(&self.folder.join("running.json")).ok()?;
        (running.keeper.is_running() && running.init.is_running()).then_some(running)
    }

    /// Excludes everybody else from starting, stopping or removing this lab, while the result lives.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        lock(&self.folder.with_extension("lock"))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn machinery(&self) -> &'static dyn Machinery {
        self.specification.engine.machinery()
    }

    /// The operator's ssh to the lab, that never asks and gives up; the words for its shell follow.
    pub(crate) fn quiet_ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.ssh_config()).args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", &format!("ConnectTimeout={}", self.machinery().patience().as_secs() / 20)]);
        ssh.arg(self.ssh_host());
        ssh
    }

    fn not_running(&self) -> Error {
        Error::NotRunning { name: self.name().clone() }
    }

    fn did_not_boot(&self, reason: String, log: &Path) -> Error {
        Error::DidNotBoot { name: self.name().clone(), reason, lines: last_lines(log), log: log.to_owned() }
    }

    fn did_not_start(&self, reason: &str, log: &Path) -> Error {
        let (name, reason) = (self.name().clone(), reason.to_owned());
        Error::DidNotStart { name, reason, lines: last_lines(log), log: log.to_owned() }
    }
}

fn last_lines(log: &Path) -> String {
    tail(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()), 12)
}

/// Takes an exclusive lock that ends with its holder.
pub(crate) fn lock(path: &Path) -> Result<File, Error> {
    let file = File::create(path).map_err(io_error("create", path))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| io_error("lock", path)(error.into()))?;
    Ok(file)
}
