//! What a TLS handshake costs under Stead's settings, beside the same nginx with the same certificate and none of them.
//!
//! Both run on the lab at once, from the same packages, and are asked in turns by `curl`, which begins a new session each time. What counts
//! is the CPU time of nginx for each of them: how many there are in a second is the client's affair.

use super::figures::Range;
use super::program::Program;
use super::said;
use super::server::{STATIC_SITE, Server};
use crate::run::{Result, command};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Handshakes of one turn.
const COUNT: u32 = 300;
/// What is asked for on both: a redirect, which no file is read for.
const PAGE: &str = "/github";
/// Where the plain one listens.
const PLAIN_PORT: u16 = 9443;
/// Where it listens with the TLS settings that Stead writes: what they cost, and what the sandbox does.
const TLS_PORT: u16 = 9444;
/// The plain one's own file system, a copy of the runtime that Stead's runs from.
const ROOT: &str = "/root/bench/plain";

/// One entry of `target/bench-handshake.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Handshakes {
    /// Turns of each.
    pub(crate) runs: usize,
    /// Microseconds of nginx's CPU time for one handshake under Stead's settings.
    pub(crate) stead_cpu_us: Range,
    /// The same of the plain nginx.
    pub(crate) plain_cpu_us: Range,
    /// The same of the plain nginx with Stead's TLS settings, which are Mozilla's.
    pub(crate) plain_tls_cpu_us: Range,
    /// Milliseconds that the client took for one, its own start included.
    pub(crate) stead_ms: Range,
    /// The same of the plain nginx.
    pub(crate) plain_ms: Range,
}

/// Gives the static site a certificate, starts a plain nginx beside, and asks both in turns.
pub(crate) fn measure(program: &Program, server: &Server, runs: usize) -> Result<Handshakes> {
    server.shell(
        "mkdir -p /etc/bench && cd /etc/bench && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
         -subj /CN=bench -addext subjectAltName=DNS:portfolio.localhost -out site.pem -keyout site.key 2>/dev/null",
    )?;
    declare(program.project(), true)?;
    let deployed = program.deploy("up");
    // The project is as it was, however the deploy ended.
    declare(program.project(), false)?;
    deployed?;
    let pids = plain(server)?;
    let measured = turns(server, runs, &pids);
    server.shell(&format!("kill $(cat {ROOT}/tmp/plain.pid)"))?;
    measured
}

fn declare(project: &Path, is_secure: bool) -> Result {
    let text = format!(
        "{{ services.nginx.virtualHosts.\"{STATIC_SITE}\" =
  {{ addSSL = true, accessLog = false, sslCertificate = \"/etc/bench/site.pem\", sslCertificateKey = \"/etc/bench/site.key\" }} }}\n"
    );
    Ok(fs::write(project.join("modules/https.ncl"), if is_secure { text.as_str() } else { "{}\n" })?)
}

/// Starts a plain nginx; the lines that find the processes of both, Stead's first.
fn plain(server: &Server) -> Result<[String; 2]> {
    let script = format!(
        "set -e
root=$(systemctl show --value -p RootDirectory 'stead-nginx@*.service' | grep -m 1 .)
rm -rf {ROOT}; mkdir -p /root/bench; cp -a \"$root\" {ROOT}; cd {ROOT}
mkdir -p dev tmp etc/bench var/log/nginx var/lib/nginx; test -e dev/null || mknod -m 666 dev/null c 1 3
rm -f etc/passwd etc/group; cp /etc/passwd /etc/group etc/
cp /etc/bench/* etc/bench/
cat > plain.conf <<END
worker_processes auto; user www-data; pid /tmp/plain.pid; error_log /tmp/plain.log;
events {{}}
http {{ access_log off; server {{
  listen {PLAIN_PORT} ssl; ssl_certificate /etc/bench/site.pem; ssl_certificate_key /etc/bench/site.key; return 301 https://git.example/example;
}}
server {{
  listen {TLS_PORT} ssl; ssl_certificate /etc/bench/site.pem; ssl_certificate_key /etc/bench/site.key; return 301 https://git.example/example;
$(grep -h '^ *ssl_' /var/lib/stead/generations/$(basename $(readlink /run/stead/active))/nginx/nginx.conf)
}} }}
END
chroot . /usr/sbin/nginx -c /plain.conf"
    );
    server.shell(&script)?;
    Ok([
        "systemctl show --value -p MainPID 'stead-nginx@*.service' | grep -v '^0*$' | head -n 1".to_owned(),
        format!("cat {ROOT}/tmp/plain.pid"),
    ])
}

fn turns(server: &Server, runs: usize, pids: &[String; 2]) -> Result<Handshakes> {
    let mut cpu = [const { Vec::new() }; 3];
    let mut time = [const { Vec::new() }; 3];
    let count = f64::from(COUNT);
    for _ in 0..runs {
        for (which, port) in [443, PLAIN_PORT, TLS_PORT].into_iter().enumerate() {
            let before = nanoseconds(server, &pids[which.min(1)])?;
            time[which].push(connections(server, port)? * 1000.0 / count);
            cpu[which].push((nanoseconds(server, &pids[which.min(1)])? - before) / 1000.0 / count);
        }
    }
    let [stead_cpu_us, plain_cpu_us, plain_tls_cpu_us] = cpu.map(|values| Range::of(&values));
    let [stead_ms, plain_ms, _] = time.map(|values| Range::of(&values));
    Ok(Handshakes { runs, stead_cpu_us, plain_cpu_us, plain_tls_cpu_us, stead_ms, plain_ms })
}

/// CPU time of an nginx and its workers, in nanoseconds (the kernel's `scheduler/sched-stats.rst`, `/proc/PID/schedstat`, first field):
/// far finer than the ticks of `/proc/PID/stat`, in which a handshake shows by chance only.
fn nanoseconds(server: &Server, pid: &str) -> Result<f64> {
    let script = format!(
        "main=$({pid}); for process in $main $(cat /proc/$main/task/$main/children); do cat /proc/$process/schedstat; done |
         awk '{{ sum += $1 }} END {{ printf \"%d\\n\", sum }}'"
    );
    Ok(server.shell(&script)?.parse()?)
}

/// Begins so many new sessions, each with one request for what is answered at once; the seconds that it took.
fn connections(server: &Server, port: u16) -> Result<f64> {
    let url = format!("https://{STATIC_SITE}:{port}{PAGE}");
    let to = format!("{STATIC_SITE}:{port}:{}", server.http().ip());
    let began = Instant::now();
    for _ in 0..COUNT {
        let mut client = command("curl");
        client.args(["--silent", "--insecure", "--http1.1", "--output", "/dev/null", "--resolve", &to, &url]);
        let output = client.output()?;
        if !output.status.success() {
            return Err(said("curl", &output));
        }
    }
    Ok(began.elapsed().as_secs_f64())
}
