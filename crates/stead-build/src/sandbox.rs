//! The sandbox that a build runs in, made by bubblewrap (`bwrap(1)`).
//!
//! Promises that a build sees the packages of its runtime, read-only; `/build`, the copy of its
//! sources; empty `/tmp`, `/var/tmp` and home; its own `/proc` and `/dev`; and nothing else: no network
//! but loopback, no other process, no variable that is not fixed here or declared. Everything in
//! it is ended with it, and with us.

use crate::builder::{Error, failed};
use crate::output::Splitter;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use stead_model::server::Build;

/// `SOURCE_DATE_EPOCH`, and the time of every source file: 1980-01-01, the first that a ZIP archive can hold.
pub(crate) const EPOCH: u64 = 315_532_800;

/// The sandbox's user and group, by number and name.
const ID: &str = "1000";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1000:build:/home/build:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost stead-build\n::1 localhost\n";

/// Folders at the top that the sandbox has of its own.
const OWN: [&str; 7] = ["build", "dev", "home", "proc", "run", "sys", "tmp"];

/// What every build finds in its environment, unless it declares otherwise.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("HOME", "/home/build"),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    ("LOGNAME", "build"),
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("SHELL", "/bin/sh"),
    ("TMPDIR", "/tmp"),
    ("TZ", "UTC"),
    ("USER", "build"),
];

/// Where a build runs.
pub(crate) struct Sandbox<'a> {
    pub(crate) bubblewrap: &'a Path,
    /// The runtime's folder: it becomes `/`.
    pub(crate) root: &'a Path,
    /// A folder of this build alone; its `build` becomes `/build`.
    pub(crate) work: &'a Path,
}

/// How a build ended.
pub(crate) enum Ended {
    Well,
    Badly(String),
    TooLate,
}

impl Sandbox<'_> {
    /// Runs the build's command to its end, or to the timeout's.
    pub(crate) fn run(&self, build: &Build, timeout: Duration, line: &mut dyn FnMut(&str)) -> Result<Ended, Error> {
        if !["bin/sh", "usr/bin/sh"].iter().any(|shell| self.root.join(shell).symlink_metadata().is_ok()) {
            return Err(Error::NoShell);
        }
        let mut command = self.command(build)?;
        let (output, input) = io::pipe().map_err(failed("make a pipe for", self.work))?;
        let second = input.try_clone().map_err(failed("make a pipe for", self.work))?;
        command.stdin(Stdio::null()).stdout(input).stderr(second);
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoBubblewrap { program: self.bubblewrap.to_owned() },
            _ => failed("run", self.bubblewrap)(error),
        })?;
        // The command holds our ends of the pipe, which would never end with them open.
        drop(command);
        let ended = follow(Guard(child), output, Instant::now() + timeout, line);
        ended.map_err(failed("run", self.bubblewrap))
    }

    fn command(&self, build: &Build) -> Result<Command, Error> {
        let mut command = Command::new(self.bubblewrap);
        command.args(["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"]);
        command.args(["--uid", ID, "--gid", ID, "--hostname", "stead-build"]);
        self.bind_root(&mut command)?;
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/home"]);
        command.args(["--dir", "/home/build", "--bind"]).arg(self.work.join("build")).arg("/build");
        for (name, content) in [("passwd", PASSWD), ("group", GROUP), ("hosts", HOSTS)] {
            self.bind_file(&mut command, name, content)?;
        }
        if self.root.join("var/tmp").is_dir() {
            command.args(["--tmpfs", "/var/tmp"]);
        }
        command.args(["--remount-ro", "/", "--chdir", "/build"]);
        for (name, value) in ENVIRONMENT {
            command.args(["--setenv", name, value]);
        }
        command.args(["--setenv", "SOURCE_DATE_EPOCH", &EPOCH.to_string()]);
        for (name, value) in &build.environment {
            command.args(["--setenv", name.as_str(), value]);
        }
        command.args(["--", "/bin/sh", "-e", "-c", &build.command]);
        Ok(command)
    }

    /// The runtime's top folders one by one, because nothing can be mounted into a read-only `/`.
    fn bind_root(&self, command: &mut Command) -> Result<(), Error> {
        let read = || -> io::Result<Vec<fs::DirEntry>> { fs::read_dir(self.root)?.collect() };
        let mut entries = read().map_err(failed("read", self.root))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            let place = Path::new("/").join(entry.file_name());
            let path = entry.path();
            if entry.file_type().map_err(failed("read", &path))?.is_symlink() {
                let target = fs::read_link(&path).map_err(failed("read", &path))?;
                command.arg("--symlink").arg(target).arg(place);
            } else {
                command.arg("--ro-bind").arg(path).arg(place);
            }
        }
        Ok(())
    }

    /// A file of ours in the place of the runtime's, which is there to be mounted on.
    fn bind_file(&self, command: &mut Command, name: &str, content: &str) -> Result<(), Error> {
        let place = self.root.join("etc").join(name);
        if place.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            let file = self.work.join(name);
            fs::write(&file, content).map_err(failed("write", &file))?;
            command.arg("--ro-bind").arg(file).arg(Path::new("/etc").join(name));
        }
        Ok(())
    }
}

/// Ends the child when it goes; bubblewrap then takes with it all that runs inside.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if the child has been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(
    mut child: Guard,
    mut output: impl Read + Send + 'static,
    deadline: Instant,
    line: &mut dyn FnMut(&str),
) -> io::Result<Ended> {
    let (send, receive) = sync_channel::<Vec<u8>>(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if send.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut splitter = Splitter::default();
    let in_time = drain(&receive, deadline, &mut |bytes| splitter.feed(bytes, line));
    splitter.end(line);
    if !in_time {
        return Ok(Ended::TooLate);
    }
    // A command that has closed its output has ended, or is about to.
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(told(status));
        }
        if Instant::now() >= deadline {
            return Ok(Ended::TooLate);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the output ended before the deadline.
fn drain(receive: &Receiver<Vec<u8>>, deadline: Instant, take: &mut dyn FnMut(&[u8])) -> bool {
    loop {
        match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => take(&bytes),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
        if Instant::now() >= deadline {
            return false;
        }
    }
}

fn told(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        // Bubblewrap and shells tell a signal by 128 and its number.
        (Some(code @ 129..=192), _) => Ended::Badly(format!("was ended by signal {}", code - 128)),
        (Some(code), _) => Ended::Badly(format!("ended with {code}")),
        (None, signal) => Ended::Badly(format!("was ended by signal {}", signal.unwrap_or_default())),
    }
}
