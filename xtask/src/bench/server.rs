//! The lab as the bench uses it: logins by its ssh configuration, the accounts of its CPU, visitors.
//!
//! Changes nothing on it but below `/root/bench`, and restarts the app where that is what is measured.

use super::program::LabDocument;
use super::said;
use crate::run::{Result, command, fail};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stead_lab::{Lab, Labs};
use xtask::load::{self, Connections, Target};

/// The app of the example, and the names of its sites.
pub(crate) const APP: &str = "bill-tracker";
pub(crate) const APP_SITE: &str = "billtracker.localhost";
pub(crate) const STATIC_SITE: &str = "portfolio.localhost";
/// Requests per second, both sites together: those of a busy small server.
const RATE: u32 = 100;

/// A lab that runs.
#[derive(Debug)]
pub(crate) struct Server {
    address: IpAddr,
    ssh_config: PathBuf,
    host: String,
    lab: Lab,
}

impl Server {
    pub(crate) fn new(name: &str, document: LabDocument) -> Result<Self> {
        let Some(address) = document.address else { return fail("the lab has no address") };
        // labs/NAME/ssh_config
        let labs = document.ssh_config.ancestors().nth(2).unwrap_or(Path::new("/"));
        let lab = Labs::new(labs.to_owned(), PathBuf::new(), Vec::new()).get(&name.parse()?)?;
        Ok(Self { address, ssh_config: document.ssh_config, host: format!("lab-{name}"), lab })
    }

    /// Where its sites answer.
    pub(crate) fn http(&self) -> SocketAddr {
        SocketAddr::new(self.address, 80)
    }

    /// What `rsync` and `ssh` call it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// `ssh` with the lab's configuration, without the host.
    pub(crate) fn ssh_words(&self) -> Vec<String> {
        vec!["ssh".to_owned(), "-F".to_owned(), self.ssh_config.display().to_string()]
    }

    /// A command on the lab.
    pub(crate) fn ssh(&self, line: &str) -> Command {
        let words = self.ssh_words();
        let mut ssh = command(&words[0]);
        ssh.args(&words[1..]).arg(&self.host).arg(line);
        ssh
    }

    /// Runs a line of shell on the lab, and returns what it wrote.
    pub(crate) fn shell(&self, line: &str) -> Result<String> {
        let output = self.ssh(line).output()?;
        if !output.status.success() {
            return Err(said(&format!("`{line}` on the lab"), &output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// CPU time of everything on the lab since it booted.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.lab.cpu_time()
    }

    /// Visitors on both sites, until stopped.
    pub(crate) fn visitors(&self) -> Result<load::Handle> {
        let target = |host: &str| Target { address: self.http(), host: host.to_owned(), path: "/".to_owned() };
        let config = load::Config {
            targets: vec![target(APP_SITE), target(STATIC_SITE)],
            rate: RATE,
            connections: Connections::Both,
            web_sockets: Vec::new(),
            limit: Duration::from_secs(15 * 60),
        };
        Ok(load::start(config)?)
    }

    /// The release that runs: a folder on the lab.
    pub(crate) fn release(&self) -> Result<String> {
        let found = self.shell(&format!(
            "cat /run/stead/active/units/stead-{APP}@*.service | grep '^ExecStart=' | grep -o '/var/lib/stead/trees/[0-9a-f]*' | head -n 1"
        ))?;
        if found.is_empty() { fail("the app's release cannot be found on the lab") } else { Ok(found) }
    }

    /// Seconds from `systemctl start` of the app to its first healthy answer on the server.
    pub(crate) fn start_up(&self) -> Result<f64> {
        let script = format!(
            r#"set -e
unit=$(basename /run/stead/active/units/stead-{APP}@*.service)
port=$(sed -n 's/^PORT="\?\([0-9]*\)"\?$/\1/p' "/run/stead/instances/${{unit%.service}}.env" "/run/stead/instances/$unit.env" 2>/dev/null | head -n 1)
systemctl stop "$unit"
began=$(date +%s%N)
systemctl start --no-block "$unit"
until ( exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /health HTTP/1.0\r\nHost: {APP_SITE}\r\n\r\n' >&3 &&
        read -r line <&3 && [[ $line == *" 200 "* ]] ); do
  sleep 0.005
  [ $(( $(date +%s%N) - began )) -lt 20000000000 ] || exit 1
done 2>/dev/null
echo $(( $(date +%s%N) - began ))"#
        );
        let output =
            self.ssh("exec bash -s").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = output?;
        if let Some(mut input) = child.stdin.take() {
            std::io::Write::write_all(&mut input, script.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(said("measuring the app's start-up", &output));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.trim().parse::<f64>()? / 1e9)
    }

    /// Runs a command to its end and returns how long it took; it has to end well.
    pub(crate) fn timed(mut command: Command) -> Result<f64> {
        let began = Instant::now();
        let output = command.output()?;
        let seconds = began.elapsed().as_secs_f64();
        if output.status.success() { Ok(seconds) } else { Err(said("a timed command", &output)) }
    }
}
