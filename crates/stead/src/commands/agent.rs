//! `stead agent`: the server's side. Speaks the protocol on standard output, so it prints nothing else.

use crate::arguments::Agent;
use std::io::Write;
use std::process::ExitCode;

/// A line for the journal.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// Runs the server's side. 0: the conversation or activation came to its end, whatever that was.
pub(crate) fn agent(command: Option<&Agent>) -> ExitCode {
    // Services read what it writes as users of their own, whatever the login's own mask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let done = match command {
        None => stead_agent::serve::serve(std::io::stdin(), std::io::stdout())
            .map_err(|error| crate::failure::chain(&error)),
        Some(Agent::Activate { id }) => {
            stead_agent::activation::carry_out(id).map(drop).map_err(|error| crate::failure::chain(&error))
        }
        Some(Agent::Recover { id }) => {
            stead_agent::activation::recover(id).map(drop).map_err(|error| crate::failure::chain(&error))
        }
        Some(Agent::Expire { id }) => {
            stead_agent::activation::expire(id).map_err(|error| crate::failure::chain(&error))
        }
        Some(Agent::Certificates { ready: true, .. }) => stead_agent::certificates::ready()
            .map(|words| words.iter().for_each(|words| say(words)))
            .map_err(|error| crate::failure::chain(&error)),
        Some(Agent::Certificates { .. }) => {
            stead_agent::certificates::renew(&say).map_err(|error| crate::failure::chain(&error))
        }
        Some(Agent::Secrets) => stead_agent::secrets::reveal_active().map_err(|error| crate::failure::chain(&error)),
        Some(Agent::Upgrade { reboot }) => {
            stead_agent::upgrade::upgrade(*reboot, &say).map_err(|error| crate::failure::chain(&error))
        }
        Some(Agent::Settle) => stead_agent::host::settle_active().map_err(|error| crate::failure::chain(&error)),
        Some(Agent::Drain { unit, seconds }) => match unit.parse() {
            Ok(unit) => stead_agent::drain::drain(&unit, *seconds).map_err(|error| crate::failure::chain(&error)),
            Err(error) => Err(error.to_string()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            let _ = writeln!(std::io::stderr(), "stead agent: {words}");
            ExitCode::FAILURE
        }
    }
}
