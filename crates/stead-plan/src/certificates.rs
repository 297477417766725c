//! The units that look after certificates: before nginx starts, and day by day.
//!
//! They run the agent that is on the server: what they do is the same whatever the generation, and
//! what for, it reads from the active one.

use crate::error::PlanError;
use crate::plan::Draft;
use crate::unit_file::UnitFile;
use stead_model::generation::Role;
use stead_model::layout;

/// Sees to it that nginx can read every certificate; nginx wants it, and comes after it.
pub(crate) const READY: &str = "stead-certificates.service";
/// Renews what has to be renewed.
pub(crate) const RENEW: &str = "stead-certificates-renew.service";
const TIMER: &str = "stead-certificates-renew.timer";
/// Names of services and timers that these are.
const NAMES: [&str; 2] = ["certificates", "certificates-renew"];
/// When it is looked where nobody says when.
const USUALLY: &str = "daily";

/// Adds the units, if the generation needs certificates.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<(), PlanError> {
    if draft.certificates.is_empty() {
        return Ok(());
    }
    let server = draft.server;
    draft.reserve(&NAMES)?;
    let service = |description: &str, command: &str| {
        let mut unit = UnitFile::new("what looks after certificates");
        // However often nginx starts, or somebody looks.
        unit.section("Unit").line("Description", description).line("StartLimitIntervalSec", 0);
        unit.section("Service").line("Type", "oneshot");
        unit.line("ExecStart", format!("{} agent certificates {command}", layout::AGENT));
        unit
    };
    let mut ready = service("Stead certificates: each can be read", "--ready");
    ready.line("TimeoutStartSec", 30);
    draft.add_own(READY, &ready, Role::Service {}, None);

    let mut renew = service("Stead certificates: renew what ends soon", "--renew");
    // As long as an authority may let one wait, and many certificates one after the other.
    renew.line("TimeoutStartSec", 3600);
    draft.add_own(RENEW, &renew, Role::Service {}, None);

    let interval = Some(server.acme.renew_interval.as_str()).filter(|interval| !interval.is_empty()).unwrap_or(USUALLY);
    let mut timer = UnitFile::new("when certificates are looked after");
    timer.section("Unit").line("Description", "Stead certificates: time to look");
    timer.section("Timer").line("OnCalendar", interval).line("Persistent", "yes");
    if ["daily", "weekly", "monthly", "yearly", "quarterly", "semiannually", "annually"].contains(&interval) {
        // `daily` is midnight for every server of the world; this one takes an hour of its own (`systemd.timer(5)`).
        timer.line("RandomizedDelaySec", "6h").line("FixedRandomDelay", "yes");
    }
    draft.add_own(TIMER, &timer, Role::Timer {}, Some("timers.target"));
    Ok(())
}
