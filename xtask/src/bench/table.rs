//! The numbers for people, beside those of the peers.
//!
//! What is cited was measured elsewhere, at another time, and is marked as such.

use super::figures::{Range, Summary};
use super::handshake::Handshakes;
use super::scenarios::Measured;
use super::trust;
use std::fmt::Write;

/// Goals and the peers' medians, cited from the project's description of its goals: seconds of
/// Stead's goal, deploy-rs (a lower bound), pyinfra, Ansible, by hand (ssh, rsync, apt).
const CITED: [(&str, &str, [&str; 5]); 5] = [
    ("first", "first deploy, packages cached", ["12", "–", "20.5", "29.6", "16.9"]),
    ("unchanged", "nothing changed", ["0.3", "1.06", "3.3", "10.9", "1.5"]),
    ("static", "one static file live", ["0.6", "1.30", "3.4", "10.9", "1.4"]),
    ("app", "app changed, besides its start-up", ["0.9", "1.27", "3.6", "12.3", "1.5"]),
    ("rollback", "rollback", ["0.6", "–", "–", "–", "–"]),
];
/// Seconds of the same floors where the peers were measured.
const CITED_SSH: &str = "0.19";
const CITED_PROBE: &str = "0.24";

/// Everything, as lines of text.
pub(crate) fn render(measured: &Measured) -> String {
    let mut text = String::new();
    let mut put = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    put("\nSeconds to the first new answer: median (least to most) of the runs; beside them a bare login in the same minutes".to_owned());
    put(row(["scenario", "runs", "seconds", "confirmed", "ssh true", "ratio"], ["lost", "pause ms"]));
    for result in &measured.results {
        put(seconds(result));
    }
    put("\nBytes sent before ssh's own, against rsync -az for the same change; the agent's memory; the server's CPU"
        .to_owned());
    put(row(["scenario", "", "bytes", "rsync", "ratio", "agent MB"], ["cpu s", "agent s"]));
    for result in &measured.results {
        put(costs(result));
    }
    put("\nBeside the peers: Stead as measured now, the others as cited (2 cores, loopback; not measured in this run)"
        .to_owned());
    put(row(["", "Stead", "goal", "deploy-rs", "pyinfra", "Ansible"], ["by hand", ""]));
    for (scenario, what, [goal, deploy_rs, pyinfra, ansible, by_hand]) in CITED {
        let found = measured.results.iter().find(|result| result.scenario == scenario);
        let Some(result) = found else { continue };
        let ours = format!("{:.2}", result.seconds_besides_start_up.unwrap_or(result.seconds));
        put(format!("{}   {what}", row([scenario, &ours, goal, deploy_rs, pyinfra, ansible], [by_hand, ""])));
    }
    let floors = &measured.floors;
    put("\nFloors, in the same run".to_owned());
    put(floor("ssh true", &floors.ssh_true, &format!("cited {CITED_SSH}")));
    put(floor("ssh + one probe", &floors.ssh_probe, &format!("cited {CITED_PROBE}")));
    put(floor("stead check", &floors.check, "goal 0.1"));
    if let Some(start_up) = &floors.start_up {
        put(floor("app's start-up", start_up, "unit start to healthy, on the server"));
    }
    text
}

/// The handshakes, as lines of text.
pub(crate) fn render_handshakes(measured: &Handshakes) -> String {
    let ratio = |to: &Range| measured.stead_cpu_us.median / to.median.max(1.0);
    let range = |range: &Range| format!("{:.0} ({:.0} to {:.0})", range.median, range.min, range.max);
    format!(
        "\nA full TLS handshake: median (least to most) of {} turns each\n\
         nginx's CPU, in microseconds: {} under Stead, {} plain (ratio {:.2}), {} plain with the same TLS settings (ratio {:.2})\n\
         milliseconds for one client, its own start included: {} under Stead, {} plain",
        measured.runs,
        range(&measured.stead_cpu_us),
        range(&measured.plain_cpu_us),
        ratio(&measured.plain_cpu_us),
        range(&measured.plain_tls_cpu_us),
        ratio(&measured.plain_tls_cpu_us),
        range(&measured.stead_ms),
        range(&measured.plain_ms),
    )
}

/// The deploys under load, as lines of text.
pub(crate) fn render_trust(results: &[trust::Summary]) -> String {
    let mut text =
        "\nUnder load: 200 requests/s over kept and 200 over fresh connections, 100 WebSockets; all runs\n".to_owned();
    let line = |scenario: &str, cells: [&str; 8]| {
        let [runs, lost, pause, slowest, sockets, exit, seconds, own] = cells;
        let line = format!(
            "{scenario:<12}{runs:>6}{lost:>14}{pause:>27}{slowest:>12}{sockets:>30}{exit:>6}{seconds:>9}{own:>24}"
        );
        line.trim_end().to_owned() + "\n"
    };
    text += &line(
        "scenario",
        [
            "runs",
            "lost",
            "pause ms",
            "slowest ms",
            "WebSockets early, due, of",
            "exit",
            "seconds",
            "visitors late ms, CPU",
        ],
    );
    for result in results {
        text += &line(
            result.scenario,
            [
                &result.runs.to_string(),
                &format!("{} of {}", result.requests_lost, result.requests),
                &format!(
                    "{:.0} ({:.0}, {:.0})",
                    result.longest_pause_ms, result.quiet_pause_ms, result.command_pause_ms
                ),
                &format!("{:.0}", result.slowest_ms),
                &format!(
                    "{}, {}, of {}",
                    result.web_sockets_closed_early, result.web_sockets_closed_due, result.web_sockets
                ),
                &result.exit.to_string(),
                &format!("{:.2}", result.seconds),
                &format!("{:.0}, {:.0} %", result.latest_ms, result.visitors_cpu * 100.0),
            ],
        );
    }
    text
}

fn seconds(result: &Summary) -> String {
    let confirmed = format!("{:.2}", result.confirmed_seconds);
    let ssh = format!("{:.3}", result.ssh_true_seconds);
    let ratio = format!("{:.1}", result.seconds / result.ssh_true_seconds);
    let seconds = format!("{:.2} ({:.2}–{:.2})", result.seconds, result.seconds_min, result.seconds_max);
    let lost = format!("{} of {}", result.requests_lost, result.requests);
    let pause = format!("{:.0}", result.longest_pause_ms);
    row([result.scenario, &result.runs.to_string(), &seconds, &confirmed, &ssh, &ratio], [&lost, &pause])
}

fn costs(result: &Summary) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let ratio = result.rsync_bytes.map(|rsync| format!("{:.2}", result.bytes_sent as f64 / rsync.max(1) as f64));
    let rsync = known(result.rsync_bytes.map(|bytes| bytes.to_string()));
    let memory = format!("{:.1}", result.agent_peak_kib as f64 * 1024.0 / 1e6);
    let cpu = known(result.server_cpu_seconds.map(|seconds| format!("{seconds:.2}")));
    let agent = format!("{:.2}", result.agent_cpu_seconds);
    row([result.scenario, "", &result.bytes_sent.to_string(), &rsync, &known(ratio), &memory], [&cpu, &agent])
}

fn row(first: [&str; 6], rest: [&str; 2]) -> String {
    let [a, b, c, d, e, f] = first;
    let [g, h] = rest;
    format!("{a:<12}{b:>6}{c:>20}{d:>11}{e:>10}{f:>9}{g:>14}{h:>9}").trim_end().to_owned()
}

fn floor(name: &str, range: &Range, note: &str) -> String {
    format!("{name:<18}{:>7.3} ({:.3}–{:.3})   {note}", range.median, range.min, range.max)
}
