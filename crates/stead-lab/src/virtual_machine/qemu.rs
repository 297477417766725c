//! QEMU's command line, and the little of its protocol that is needed.
//!
//! The line names everything relative to the lab's folder, which is QEMU's working directory: no
//! path needs quoting. Nothing of the user's or the machine's QEMU configuration is read.

use crate::engine::End;
use crate::network::Link;
use crate::specification::Specification;
use crate::virtual_machine::base::{INITRD, KERNEL};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// QEMU. Only x86-64 was tried, and only its kernel is in the base.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";
pub(super) const PACKAGE: &str = "qemu-system-x86";

/// In a lab's folder: a link to its base.
pub(super) const BASE: &str = "base";
/// In a lab's folder: its disk.
pub(super) const DISK: &str = "disk.qcow2";
/// In a lab's folder: the files of its identity, as a tar archive.
pub(super) const IDENTITY: &str = "identity.tar";

/// The device in the lab's namespace that QEMU holds.
pub(super) const TAP: &str = "tap";

/// How long a kernel that works under KVM may take until its first words.
const TRIAL: Duration = Duration::from_secs(10);

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processor {
    /// This machine's own, by KVM.
    Virtual,
    /// QEMU's emulation (TCG).
    Emulated,
}

impl Processor {
    /// KVM, if the base's kernel says its first words under it. A `/dev/kvm` alone promises nothing:
    /// nested ones were met that abort QEMU.
    pub(super) fn find(base: &Path) -> Self {
        if Path::new("/dev/kvm").exists() && speaks_under_kvm(base) { Self::Virtual } else { Self::Emulated }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Virtual => ["-accel", "kvm", "-cpu", "host"],
            // 256 MiB of translated code, where the default may take a gigabyte.
            // Tried: without five-level page tables and nested virtualisation, a boot takes a quarter less.
            Self::Emulated => ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,la57=off,svm=off"],
        }
    }
}

fn speaks_under_kvm(base: &Path) -> bool {
    let mut command = Command::new("prlimit");
    command.args(["--core=0", "setpriv", "--pdeathsig", "KILL", PROGRAM]).args(QUIET);
    command.args(Processor::Virtual.arguments()).args(["-m", "256", "-serial", "stdio"]);
    command.arg("-kernel").arg(base.join(KERNEL)).args(["-append", "console=ttyS0 panic=-1"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let (tell, told) = mpsc::channel();
    if let Some(mut output) = child.stdout.take() {
        thread::spawn(move || {
            let (mut said, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = output.read(&mut piece) {
                said.extend_from_slice(&piece[..count]);
                if String::from_utf8_lossy(&said).contains("Linux version") {
                    let _ = tell.send(());
                    return;
                }
            }
        });
    }
    // An ended QEMU hangs up at once.
    let speaks = told.recv_timeout(TRIAL).is_ok();
    let _ = child.kill();
    let _ = child.wait();
    speaks
}

/// No configuration, no device, no window that was not asked for; a reset ends QEMU.
const QUIET: [&str; 5] = ["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"];

/// The command that boots the lab and stays until it is off. It dies with its parent.
pub(super) fn command(
    folder: &Path,
    specification: &Specification,
    link: &Link,
    processor: Processor,
    console: &Path,
) -> Command {
    let mut command = Command::new("setpriv");
    command.current_dir(folder).args(["--pdeathsig", "KILL", "nsenter"]);
    command.arg(format!("--net={}", link.namespace_path().display())).arg(PROGRAM).args(QUIET);
    command.args(processor.arguments());
    command.args(["-smp", &specification.cpus.to_string(), "-m", &specification.memory_mib.to_string()]);
    command.args(["-kernel", &format!("{BASE}/{KERNEL}"), "-initrd", &format!("{BASE}/{INITRD}")]);
    command.args(["-append", &kernel_line(link)]);
    command.args(["-drive", &format!("file={DISK},if=virtio,format=qcow2,cache=writeback")]);
    command.args(["-drive", &format!("file={IDENTITY},if=virtio,format=raw,readonly=on")]);
    command.args(["-netdev", &format!("tap,id=cable,ifname={TAP},script=no,downscript=no")]);
    command.args(["-device", "virtio-net-pci,netdev=cable,romfile=", "-device", "virtio-rng-pci"]);
    let console = console.file_name().unwrap_or_default().to_string_lossy();
    command.args(["-chardev", &format!("file,id=console,path={console},append=on"), "-serial", "chardev:console"]);
    command.args(["-qmp", "stdio"]);
    command
}

/// The kernel's parameters (`kernel-parameters.txt`, `initramfs-tools(7)`, `systemd(1)`). Mitigations protect
/// nobody on a disposable machine, and the drivers that are left out only cost an emulated processor time. A kernel that
/// falls, as one with two emulated processors does now and then on a busy machine, boots anew instead of standing still.
fn kernel_line(link: &Link) -> String {
    let (lab, host) = (link.lab(), link.host());
    format!(
        "root=/dev/vda rw console=ttyS0 net.ifnames=0 ip={lab}::{host}:255.255.255.252::eth0:none mitigations=off panic=1 \
         modprobe.blacklist=kvm,kvm_amd,kvm_intel,powernow_k8 systemd.show_status=yes"
    )
}

/// Leaves QMP's greeting behind: without it nothing is told (QEMU's `qmp-spec`).
pub(super) const HELLO: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// How the guest ended, if this line of QMP tells it.
pub(super) fn end(line: &str) -> Option<End> {
    #[derive(Deserialize)]
    struct Line {
        event: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        reason: String,
    }
    let line: Line = serde_json::from_str(line).ok()?;
    (line.event == "SHUTDOWN").then_some(if line.data.reason == "guest-reset" { End::Reboot } else { End::Off })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_a_reboot_and_another_shutdown_is_the_end() {
        let line = |reason: &str| {
            format!(
                r#"{{"timestamp": {{"seconds": 1, "microseconds": 2}}, "event": "SHUTDOWN", "data": {{"guest": true, "reason": "{reason}"}}}}"#
            )
        };
        assert_eq!(end(&line("guest-reset")), Some(End::Reboot));
        assert_eq!(end(&line("guest-shutdown")), Some(End::Off));
        assert_eq!(end(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#), None);
        assert_eq!(end(r#"{"event": "NIC_RX_FILTER_CHANGED", "data": {"path": "/machine"}}"#), None);
    }
}
