//! What a machine turned out to be, and whether Stead can be at home there.
//!
//! Pure: reads what `look.sh` said.

use serde::Serialize;
use std::fmt::Write;

/// How each line of the script begins.
const MARK: &str = "stead-look ";
/// The systems that Stead is made for: `ID` and `VERSION_ID` of `os-release(5)`.
const SUPPORTED: [(&str, &str); 4] = [("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")];
/// The oldest systemd whose words Stead speaks.
const OLDEST_SYSTEMD: u32 = 249;
/// The least free space in KiB: a runtime or two, and their packages.
const LEAST_DISK: u64 = 1 << 20;
/// Seconds that a clock may be off without a word.
const OFF: u64 = 60;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) distribution: String,
    pub(crate) version: String,
    pub(crate) system: String,
    pub(crate) kernel: String,
    pub(crate) machine: String,
    pub(crate) systemd: u32,
    pub(crate) is_booted_by_systemd: bool,
    pub(crate) root_file_system: String,
    pub(crate) is_root_read_only: bool,
    /// Of `/var` and `/var/lib`, those that are file systems of their own.
    pub(crate) mounted: Vec<String>,
    pub(crate) free_disk_kib: u64,
    pub(crate) memory_kib: u64,
    /// Seconds since 1970, by its own clock.
    pub(crate) clock: u64,
    pub(crate) is_ssh_by_socket: bool,
    pub(crate) ssh_ports: Vec<u16>,
    pub(crate) host_key: Option<String>,
    pub(crate) has_dns: bool,
    pub(crate) addresses: Vec<String>,
    pub(crate) routes: Vec<String>,
    /// Where something listens, and what.
    pub(crate) listens: Vec<String>,
    pub(crate) firewalls: Vec<String>,
    /// Services that have something to do with what Stead does.
    pub(crate) runs: Vec<String>,
    /// Whether Stead was here before.
    pub(crate) has_stead: bool,
}

impl Machine {
    /// What the script's words tell; `None`: it did not come to its end.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        let mut is_whole = false;
        for line in text.lines().filter_map(|line| line.strip_prefix(MARK)) {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let words: Vec<&str> = rest.split_whitespace().collect();
            let number = || rest.trim().parse::<u64>().unwrap_or(0);
            let word = |index: usize| words.get(index).copied().unwrap_or_default().to_owned();
            match name {
                "system" => {
                    (found.distribution, found.version) = (word(0), word(1));
                    found.system = words.get(2..).unwrap_or_default().join(" ");
                }
                "kernel" => found.kernel = word(0),
                "machine" => found.machine = word(0),
                "systemd" => {
                    let digits: String = word(0).chars().take_while(char::is_ascii_digit).collect();
                    found.systemd = digits.parse().unwrap_or(0);
                }
                "booted" => found.is_booted_by_systemd = true,
                "root" => (found.root_file_system, found.is_root_read_only) = (word(0), word(1) == "ro"),
                "mounted" => found.mounted.push(word(0)),
                "disk" => found.free_disk_kib = number(),
                "memory" => found.memory_kib = number(),
                "clock" => found.clock = number(),
                "ssh-socket" => found.is_ssh_by_socket = true,
                "ssh-port" => found.ssh_ports.extend(rest.trim().parse::<u16>()),
                "host-key" => found.host_key = Some(rest.trim().to_owned()),
                "dns" => found.has_dns = true,
                "address" => found.addresses.push(word(0)),
                "route" => found.routes.push(words.join(" ")),
                "listens" => found.listens.push(words.join(" ")),
                "firewall" => found.firewalls.push(words.join(" ")),
                "runs" => found.runs.push(word(0)),
                "stead" => found.has_stead = true,
                "end" => is_whole = true,
                _ => {}
            }
        }
        is_whole.then_some(found)
    }

    /// Why Stead cannot be at home there, and what helps; empty: it can.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut all = Vec::new();
        let is_known = SUPPORTED.iter().any(|known| *known == (&*self.distribution, &*self.version));
        if !is_known {
            let names = "Debian 12 and 13, Ubuntu 22.04 and 24.04";
            all.push(format!("it is {}, and Stead is made for {names}", self.system));
        }
        if !self.is_booted_by_systemd || self.systemd < OLDEST_SYSTEMD {
            all.push(format!("systemd {OLDEST_SYSTEMD} or newer has to run it; it has {}", self.systemd));
        }
        if self.machine != "x86_64" {
            all.push(format!("its processor is {}, and this program is for x86_64", self.machine));
        }
        if let Some(place) = self.mounted.first() {
            all.push(format!(
                "{place} is a file system of its own, which is not there yet when systemd asks for units; Stead needs it on the root file system"
            ));
        }
        if self.is_root_read_only {
            all.push("its root file system is read-only".to_owned());
        }
        if self.free_disk_kib < LEAST_DISK {
            all.push(format!(
                "it has {} MiB free below /var/lib, and at least 1 GiB is needed",
                self.free_disk_kib >> 10
            ));
        }
        all
    }

    /// What is worth a word, and hinders nothing. `now` is this machine's clock.
    pub(crate) fn remarks(&self, now: u64) -> Vec<String> {
        let mut all = Vec::new();
        let off = self.clock.abs_diff(now);
        if off > OFF {
            all.push(format!("its clock is {off} s off: certificates and logs depend on it"));
        }
        if !self.has_dns {
            all.push("it finds no names: packages and certificates have to be reached by it".to_owned());
        }
        let taken =
            |port: &str| self.listens.iter().find(|line| line.split(' ').next().is_some_and(|at| at.ends_with(port)));
        for port in [":80", ":443"] {
            if let Some(line) =
                taken(port).filter(|line| !line.ends_with(" systemd") && !line.ends_with(" nginx") || !self.has_stead)
            {
                all.push(format!("something listens on {line}: sites of Stead's cannot, until it stops"));
            }
        }
        if !self.runs.is_empty() {
            all.push(format!("{} runs there and stays as it is", self.runs.join(", ")));
        }
        if !self.firewalls.is_empty() {
            all.push(format!("it has a firewall, which stays as it is: {}", self.firewalls.join("; ")));
        }
        if self.memory_kib < 900_000 {
            all.push(format!("it has {} MiB of memory", self.memory_kib >> 10));
        }
        all
    }

    /// What was found, as lines for people.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(text, "  {name:<10} {value}");
            }
        };
        put("system", format!("{}, Linux {}, systemd {}, {}", self.system, self.kernel, self.systemd, self.machine));
        put("memory", format!("{} MiB", self.memory_kib >> 10));
        put("disk", format!("{}, {} MiB free", self.root_file_system, self.free_disk_kib >> 10));
        let ports: Vec<String> = self.ssh_ports.iter().map(u16::to_string).collect();
        let how = if self.is_ssh_by_socket { "by a socket of systemd" } else { "as a service" };
        put("ssh", format!("port {}, {how}", ports.join(", ")));
        put("addresses", self.addresses.join(", "));
        put("routes", self.routes.join("; "));
        put("listens", self.listens.join(", "));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Welcome!\nstead-look system debian 12 Debian GNU/Linux 12 (bookworm)\nstead-look kernel 6.1.0\n\
        stead-look machine x86_64\nstead-look systemd 252\nstead-look booted yes\nstead-look root ext4 rw\n\
        stead-look disk 20000000\nstead-look memory 1000000\nstead-look clock 1000\nstead-look ssh-port 22\nstead-look dns yes\n\
        stead-look listens 0.0.0.0:22 sshd\nstead-look end\n";

    fn with(line: &str) -> Machine {
        Machine::parse(&GOOD.replace("stead-look end", &format!("stead-look {line}\nstead-look end"))).unwrap()
    }

    #[test]
    fn a_stock_machine_is_fine() {
        let machine = Machine::parse(GOOD).unwrap();
        assert!(machine.problems().is_empty(), "{:?}", machine.problems());
        assert!(machine.remarks(1010).is_empty(), "{:?}", machine.remarks(1010));
        assert!(machine.describe().contains("Debian GNU/Linux 12 (bookworm), Linux 6.1.0, systemd 252"));
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        for (line, words) in [
            ("system debian 11 Debian GNU/Linux 11", "it is Debian GNU/Linux 11, and Stead is made for"),
            ("system fedora 40 Fedora Linux 40", "it is Fedora Linux 40"),
            ("systemd 247", "it has 247"),
            ("machine aarch64", "its processor is aarch64"),
            ("mounted /var", "/var is a file system of its own"),
            ("root ext4 ro", "read-only"),
            ("disk 500000", "it has 488 MiB free"),
        ] {
            let problems = with(line).problems();
            assert!(matches!(problems.as_slice(), [one] if one.contains(words)), "{line}: {problems:?}");
        }
    }

    #[test]
    fn what_is_there_already_is_told_and_hinders_nothing() {
        for (line, words) in [
            ("listens 0.0.0.0:80 apache2", "something listens on 0.0.0.0:80 apache2"),
            ("runs docker", "docker runs there and stays as it is"),
            ("firewall ufw active", "a firewall, which stays as it is: ufw active"),
            ("clock 5000", "its clock is 4000 s off"),
        ] {
            let machine = with(line);
            assert!(machine.problems().is_empty());
            assert!(
                machine.remarks(1000).iter().any(|remark| remark.contains(words)),
                "{line}: {:?}",
                machine.remarks(1000)
            );
        }
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(Machine::parse(&GOOD.replace("stead-look end\n", "")), None);
        assert_eq!(Machine::parse("permission denied\n"), None);
    }
}
