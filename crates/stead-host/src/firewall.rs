//! The firewall: the test of rules before they come into force, and the ports on which `sshd` really listens.
//!
//! The test runs the candidate's own `nft` in the candidate's own file system, as a transient service of systemd; nothing
//! comes into force by it. Where SSH listens is asked of everybody who could know, and all answers count.

use crate::run::{RunError, run};
use crate::systemd::in_runtime;
use std::collections::BTreeSet;
use std::path::Path;
use stead_model::{hash::Hash, layout};

/// Tests the rules of a staged generation with that generation's `nft`. The kernel is asked too: it checks the
/// transaction, and drops it.
///
/// `binds` are in the form of `BindReadOnlyPaths=`.
///
/// # Errors
/// nft's own words, when it or the kernel refuses the rules, or when it cannot be run.
pub fn test(generation: &Hash, runtime: &Hash, binds: &[String]) -> Result<(), RunError> {
    let rules = format!("{}/{generation}/firewall/ruleset.nft", layout::GENERATIONS);
    in_runtime(runtime, binds, &[], &["/usr/sbin/nft", "--check", "--file", &rules]).map(drop)
}

/// What nft says against rules, with the option and the line that it means.
///
/// `folder` is the generation's.
pub fn complaint(output: &str, folder: &Path) -> String {
    const WHOLE: &str = "networking.firewall";
    // `FILE:LINE:COLUMN-COLUMN: Error: WORDS` (libnftables, erec_print).
    let parts = output.lines().find_map(|line| {
        let (place, words) = line.split_once(": Error: ")?;
        let mut place = place.rsplitn(3, ':');
        let (_, number, file) = (place.next()?, place.next()?.parse::<usize>().ok()?, place.next()?);
        Some((words, Path::new(file).strip_prefix(folder).ok()?, number))
    });
    let Some((words, file, number)) = parts else { return format!("{WHOLE}: nft refuses the rules: {output}") };
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let before: Vec<&str> = text.lines().take(number).collect();
    let chain = before.iter().rev().find(|line| line.trim_start().starts_with("chain "));
    let is_extra = chain.is_some_and(|line| line.trim() == "chain extra_input {");
    let option = if is_extra { format!("{WHOLE}.extraInputRules") } else { WHOLE.to_owned() };
    let line = before.last().map_or("", |line| line.trim());
    format!("{option}: nft refuses this rule: {words}\n{}:{number}: {line}", file.display())
}

/// The ports on which SSH can be reached on this machine, whatever was declared: those of `sshd`'s configuration, of a
/// socket unit that starts it, and the one that this process was reached by.
pub fn ssh_ports() -> BTreeSet<u16> {
    let mut ports: BTreeSet<u16> = connected().into_iter().collect();
    // Each may be missing on a machine that has SSH in another way.
    ports.extend(in_configuration(&run("/usr/sbin/sshd", &["-T"]).unwrap_or_default()));
    let listens = ["show", "--property=ActiveState,Listen", "ssh.socket", "sshd.socket"];
    ports.extend(in_sockets(&run("systemctl", &listens).unwrap_or_default()));
    ports
}

/// The port of this machine that the login is connected to in which this process runs; `None`: it is in none.
///
/// sshd tells the login (`ssh(1)`, SSH_CONNECTION); sudo does not pass it on, so that those above are asked.
fn connected() -> Option<u16> {
    const DEEPEST: usize = 64;
    let mut process = std::process::id();
    for _ in 0..DEEPEST {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        if let Some(port) = environment.split(|byte| *byte == 0).find_map(in_variable) {
            return Some(port);
        }
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name of the program, in brackets, may hold anything (`proc(5)`, /proc/PID/stat).
        process = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 1)?;
    }
    None
}

/// The server's port in `SSH_CONNECTION=CLIENT PORT SERVER PORT`.
fn in_variable(variable: &[u8]) -> Option<u16> {
    let value = std::str::from_utf8(variable).ok()?.strip_prefix("SSH_CONNECTION=")?;
    value.split(' ').nth(3)?.parse().ok()
}

/// The ports of what `sshd -T` prints (`sshd_config(5)`: `Port`, `ListenAddress`).
fn in_configuration(text: &str) -> impl Iterator<Item = u16> + '_ {
    text.lines().filter_map(|line| match line.split_once(' ')? {
        ("port", port) => port.trim().parse().ok(),
        ("listenaddress", address) => address.split_whitespace().next()?.rsplit_once(':')?.1.parse().ok(),
        _ => None,
    })
}

/// The ports of active socket units, as `systemctl show` tells them: `Listen=[::]:22 (Stream)`.
fn in_sockets(text: &str) -> Vec<u16> {
    let active = text.split("\n\n").filter(|unit| unit.lines().any(|line| line == "ActiveState=active"));
    let listen = active.flat_map(str::lines).filter_map(|line| {
        let address = line.strip_prefix("Listen=")?.strip_suffix(" (Stream)")?;
        address.rsplit_once(':').map_or(address, |(_, port)| port).parse().ok()
    });
    listen.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_ssh_are_found_wherever_they_are_told() {
        let told =
            "port 22\nport 2222\naddressfamily any\nlistenaddress [::]:22\nlistenaddress 192.0.2.1:2200\nusepam yes\n";
        assert_eq!(in_configuration(told).collect::<BTreeSet<_>>(), [22, 2200, 2222].into());
        let told = "Listen=[::]:22 (Stream)\nListen=0.0.0.0:2022 (Stream)\nActiveState=active\n\n\
                    Listen=[::]:9 (Stream)\nActiveState=inactive\n\nActiveState=active\nListen=/run/x.sock (Stream)\n";
        assert_eq!(in_sockets(told), [22, 2022]);
        assert_eq!(in_variable(b"SSH_CONNECTION=192.0.2.7 50000 fe80::1%eth0 2222"), Some(2222));
        assert_eq!(in_variable(b"SSH_CLIENT=192.0.2.7 50000 22"), None);
    }

    #[test]
    fn a_complaint_names_the_option_and_the_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("firewall")).unwrap();
        let file = folder.path().join("firewall/ruleset.nft");
        std::fs::write(&file, "table inet stead {\n\tchain extra_input {\n\t\tfoo bar\n\t}\n\tchain input {\n\t\tx\n")
            .unwrap();
        let said = |line| {
            format!("{}:{line}:3-5: Error: syntax error, unexpected string\n\t\tfoo bar\n\t\t^^^", file.display())
        };
        assert_eq!(
            complaint(&said(3), folder.path()),
            "networking.firewall.extraInputRules: nft refuses this rule: syntax error, unexpected string\n\
             firewall/ruleset.nft:3: foo bar"
        );
        assert!(complaint(&said(6), folder.path()).starts_with("networking.firewall: nft refuses this rule: "));
        let other = "netlink: Error: cache initialization failed: Operation not permitted";
        assert_eq!(complaint(other, folder.path()), format!("networking.firewall: nft refuses the rules: {other}"));
    }
}
