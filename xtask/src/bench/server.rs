//! The lab as the bench uses it: logins by its ssh configuration, the accounts of its CPU, visitors.
//!
//! Changes nothing on it but below `/root/bench`, and restarts the app where that is what is measured.

use super::program::LabDocument;
use super::said;
use crate::run::{Result, command, fail};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stead_lab::{Lab, Labs};
use xtask::load::{self, Connections, Target};

/// The app of the example, and the names of its sites.
pub(crate) const APP: &str = "bill-tracker";
pub(crate) const APP_SITE: &str = "billtracker.localhost";
pub(crate) const STATIC_SITE: &str = "portfolio.localhost";
/// Requests per second, both sites together: those of a busy small server.
const RATE: u32 = 100;

/// A moment at which an nginx process was told to let go of its connections, within its drain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LetsGo {
    /// Since 1970.
    pub(crate) at: Duration,
    /// Its whole instance stops; else it read its configuration again, and another process took its place.
    pub(crate) stops: bool,
}

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

    /// When nginx was told to let go of its connections, since then (as of [`now`]), as the lab's systemd wrote it down.
    pub(crate) fn lets_go(&self, since: Duration) -> Result<Vec<LetsGo>> {
        let fields = "MESSAGE,UNIT,_SOURCE_REALTIME_TIMESTAMP";
        let lines = self.shell(&format!(
            "journalctl --output=json --output-fields={fields} --since=@{} _PID=1 _COMM=systemd",
            since.as_secs()
        ))?;
        Ok(lines.lines().filter_map(lets_go).filter(|told| told.at >= since).collect())
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

/// The time, since 1970: that of the labs too, which have this machine's clock.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// One line of `journalctl --output=json`, if nginx was told so by it: by a signal (systemd 252, `unit_kill`) or a stop.
fn lets_go(line: &str) -> Option<LetsGo> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
    let (unit, message) = (field("UNIT")?, field("MESSAGE")?);
    let stops = message.starts_with("Stopping ");
    if !unit.starts_with("stead-nginx@") || !(stops || message.contains("Sent signal SIGHUP to main process")) {
        return None;
    }
    let micros = field("_SOURCE_REALTIME_TIMESTAMP").or_else(|| field("__REALTIME_TIMESTAMP"))?;
    Some(LetsGo { at: Duration::from_micros(micros.parse().ok()?), stops })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_and_a_stop_of_nginx_are_read_from_the_journal_and_nothing_else() {
        let line = |unit: &str, message: &str| {
            format!(r#"{{"UNIT":"{unit}","MESSAGE":"{message}","_SOURCE_REALTIME_TIMESTAMP":"1500000"}}"#)
        };
        let at = Duration::from_millis(1500);
        let signal = "stead-nginx@1.service: Sent signal SIGHUP to main process 7 (nginx) on client request.";
        assert_eq!(lets_go(&line("stead-nginx@1.service", signal)), Some(LetsGo { at, stops: false }));
        let stop = "Stopping stead-nginx@1.service - Stead nginx...";
        assert_eq!(lets_go(&line("stead-nginx@1.service", stop)), Some(LetsGo { at, stops: true }));
        assert_eq!(lets_go(&line("stead-nginx@1.service", "Started stead-nginx@1.service - Stead nginx.")), None);
        assert_eq!(lets_go(&line("stead-app@1.service", "Stopping stead-app@1.service")), None);
        assert_eq!(lets_go("no json"), None);
    }
}
