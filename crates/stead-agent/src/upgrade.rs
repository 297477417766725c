//! Security updates of the machine's own packages, as `stead-auto-upgrade.service` takes them.
//!
//! Never boots the machine anew while an activation is under way: that would be taken for a lost one.

use std::path::Path;
use stead_host::run::{RunError, run};
use stead_host::upgrade::security;
use stead_model::layout;

/// Takes the updates, and says what was done in a line each.
///
/// # Errors
/// When apt refuses, or systemd does not boot the machine anew.
pub fn upgrade(reboot: bool, tell: &dyn Fn(&str)) -> Result<(), RunError> {
    let done = security()?;
    match done.packages.len() {
        0 => tell("no security updates"),
        _ => done.packages.iter().for_each(|package| tell(&format!("updated {package}"))),
    }
    if !done.needs_reboot {
        return Ok(());
    }
    if !reboot {
        tell("the machine has to boot anew for an update to come into force");
    } else if Path::new(layout::UNFINISHED).exists() {
        tell("the machine has to boot anew, which waits until the next time: a deploy is under way");
    } else {
        tell("the machine boots anew for an update to come into force");
        run("systemctl", &["--no-block", "reboot"])?;
    }
    Ok(())
}
