//! The floor: what a bare login costs in the same minutes, with nothing of Stead in it.

use super::figures::Range;
use super::program::Program;
use super::server::Server;
use crate::run::Result;
use serde::Serialize;
use std::time::Instant;

/// One connection that asks everything that a tool would want to know, as one script.
const PROBE: &str = "uname -a; id -un; cat /etc/os-release; df -k /; \
    systemctl show --property=Id,ActiveState,SubState,NRestarts 'stead-*'; \
    readlink /run/stead/active /var/lib/stead/confirmed; ls /var/lib/stead/generations; true";

/// Seconds of what is compared with; all in the same run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Floors {
    /// `ssh HOST true`.
    pub(crate) ssh_true: Range,
    /// One connection with one probe of everything.
    pub(crate) ssh_probe: Range,
    /// `stead check` of the example, without a server.
    pub(crate) check: Range,
    /// From the start of the app's unit to its first healthy answer, on the server.
    pub(crate) start_up: Option<Range>,
}

/// Samples taken so far.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) ssh_true: Vec<f64>,
    ssh_probe: Vec<f64>,
    check: Vec<f64>,
    pub(crate) start_up: Vec<f64>,
}

impl Samples {
    /// One login, and one with a probe; returns the bare one's seconds.
    pub(crate) fn logins(&mut self, server: &Server) -> Result<f64> {
        let bare = Server::timed(server.ssh("true"))?;
        self.ssh_true.push(bare);
        self.ssh_probe.push(Server::timed(server.ssh(PROBE))?);
        Ok(bare)
    }

    /// `stead check`, as a user waits for it.
    pub(crate) fn check(&mut self, program: &Program, runs: usize) -> Result {
        for _ in 0..runs {
            let began = Instant::now();
            program.ask::<serde_json::Value>(&["check"])?;
            self.check.push(began.elapsed().as_secs_f64());
        }
        Ok(())
    }

    pub(crate) fn floors(&self) -> Floors {
        Floors {
            ssh_true: Range::of(&self.ssh_true),
            ssh_probe: Range::of(&self.ssh_probe),
            check: Range::of(&self.check),
            start_up: (!self.start_up.is_empty()).then(|| Range::of(&self.start_up)),
        }
    }
}
