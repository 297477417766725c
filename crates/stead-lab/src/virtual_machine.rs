//! The virtual machine engine: QEMU with a kernel, memory and a disk of the lab's own.
//!
//! QEMU boots Debian's kernel directly, so the disk has no boot loader, and is one file system that
//! is written without mounting anything. Each lab is a qcow2 overlay over the base's disk.
//!
//! What a power cut loses: all that is in the guest's memory, its page cache included. Beyond that,
//! QEMU keeps the map of newly written clusters in its own memory until the guest flushes its disk
//! (`cache=writeback`), so a first write to a place that was not flushed may be lost too, as in a
//! disk's own cache. What the guest flushed stays. What this cannot show: the loss of unflushed
//! writes over places that were written and flushed before (a real disk's cache may lose those), a
//! sector that was half written, and a disk that lies about flushing.

mod base;
mod qemu;

use crate::command::{run, tail};
use crate::engine::{Bases, Boot, End, Machinery, PLAIN};
use crate::error::{Error, io_error};
use crate::identity;
use crate::labs::Event;
use crate::network::Link;
use crate::process::Process;
use crate::shell::quoted;
use crate::specification::{Release, Specification};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// QEMU: boots in seconds by KVM, in a minute or so where the processor is emulated.
pub(crate) struct VirtualMachine;

impl Machinery for VirtualMachine {
    fn programs(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (qemu::PROGRAM, qemu::PACKAGE),
            ("qemu-img", "qemu-utils"),
            ("mke2fs", "e2fsprogs"),
            ("tar", "tar"),
            ("ip", "iproute2"),
            ("nsenter", "util-linux"),
            ("ssh", "openssh-client"),
        ]
    }

    /// An emulated boot takes half a minute on an idle machine, and several on a busy one.
    fn patience(&self) -> Duration {
        Duration::from_secs(420)
    }

    fn base(&self, bases: Bases<'_>, release: Release, events: &mut dyn FnMut(Event)) -> Result<PathBuf, Error> {
        base::disk(bases, release, events)
    }

    fn make(&self, base: &Path, folder: &Path, specification: &Specification) -> Result<(), Error> {
        let root = self.identity(folder);
        fs::create_dir(&root).map_err(io_error("create", &root))?;
        identity::write(folder, &root, specification)?;
        let link = folder.join(qemu::BASE);
        symlink(base, &link).map_err(io_error("create", &link))?;
        let archive = folder.join(qemu::IDENTITY);
        let whose = ["--owner=0", "--group=0", "--numeric-owner", "-C"].map(OsStr::new);
        let words = [OsStr::new("-cf"), archive.as_os_str()].into_iter().chain(whose);
        run("tar", words.chain([root.as_os_str()]).chain(identity::FILES.iter().map(OsStr::new)))?;
        let (below, disk) = (base.join(base::DISK), folder.join(qemu::DISK));
        let overlay = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"].map(OsStr::new);
        run("qemu-img", overlay.into_iter().chain([below.as_os_str(), disk.as_os_str()])).map(|_| ())
    }

    fn identity(&self, folder: &Path) -> PathBuf {
        folder.join("identity")
    }

    /// QEMU gives it as much as it is to have.
    fn is_limited_from_outside(&self) -> bool {
        false
    }

    fn plug(&self, link: &Link) -> Result<(), Error> {
        link.plug_tap(qemu::TAP)
    }

    fn start(&self, folder: &Path, specification: &Specification, link: &Link, console: &Path) -> Result<Boot, Error> {
        let log = File::options().create(true).append(true).open(console).map_err(io_error("open", console))?;
        let processor = qemu::Processor::find(&folder.join(qemu::BASE));
        let mut command = qemu::command(folder, specification, link, processor, console);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let notes = match processor {
            qemu::Processor::Virtual => Vec::new(),
            qemu::Processor::Emulated => {
                vec![
                    "its processor is emulated, because KVM does not work here: all is some ten times slower"
                        .to_owned(),
                ]
            }
        };
        Ok(Boot { child: child.map_err(io_error("run", qemu::PROGRAM))?, notes })
    }

    /// QEMU itself: `setpriv` and `nsenter` became it.
    fn init(&self, boot: &mut Boot, _console: &Path) -> Result<Process, Error> {
        let id = boot.child.id();
        Process::of(id.cast_signed()).map_err(io_error("read", format!("/proc/{id}/stat")))
    }

    /// Follows what QEMU says of itself (QMP) until it ends: a guest's reset is a reboot.
    fn wait(&self, mut boot: Boot, console: &Path) -> Result<End, Error> {
        let (input, output) = (boot.child.stdin.take(), boot.child.stdout.take());
        if let Some(mut input) = input.as_ref() {
            // A QEMU that ended already is told by its status.
            let _ = input.write_all(qemu::HELLO);
        }
        let mut end = None;
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
            end = qemu::end(&line).or(end);
        }
        let status = boot.child.wait().map_err(io_error("wait for", qemu::PROGRAM))?;
        match (end, status.code()) {
            (Some(end), _) => Ok(end),
            // Ended by a signal: a power cut.
            (None, None | Some(0)) => Ok(End::Off),
            (None, Some(code)) => Err(Error::Command {
                command: qemu::PROGRAM.to_owned(),
                stderr: format!("status {code}\n{}", tail(&fs::read_to_string(console).unwrap_or_default(), 8)),
            }),
        }
    }

    /// Over the lab's sshd: there is no other way in. Does not work where that does not.
    fn command(&self, mut ssh: Command, _init: &Process, argv: &[&OsStr]) -> Command {
        let words = PLAIN.map(OsStr::new).into_iter().chain(argv.iter().copied());
        ssh.args(words.map(|word| quoted(&word.to_string_lossy())));
        ssh
    }
}
