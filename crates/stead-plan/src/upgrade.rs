//! The units that give the machine's own packages their security updates: `system.autoUpgrade`.
//!
//! They run the agent that is on the server, which asks the server's own apt. Packages of apps are none of it: those are pinned.

use crate::error::PlanError;
use crate::plan::Draft;
use crate::unit_file::UnitFile;
use stead_model::generation::Role;
use stead_model::layout;

/// The name of the service and of the timer.
const NAME: &str = "auto-upgrade";
/// Looks for updates and takes them.
const UNIT: &str = "stead-auto-upgrade.service";
const TIMER: &str = "stead-auto-upgrade.timer";

/// Adds the units, if they are asked for.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<(), PlanError> {
    let Some(upgrade) = &draft.server.host_settings.auto_upgrade else { return Ok(()) };
    draft.reserve(&[NAME])?;
    let mut unit = UnitFile::new("what gives the machine its security updates");
    unit.section("Unit").line("Description", "Stead: security updates of the machine's own packages");
    unit.line("Wants", "network-online.target").line("After", "network-online.target");
    unit.section("Service").line("Type", "oneshot");
    let reboot = if upgrade.allow_reboot { " --reboot" } else { "" };
    unit.line("ExecStart", format!("{} agent upgrade{reboot}", layout::AGENT));
    // A package half unpacked is worse than one that takes long; visitors come first.
    unit.line("TimeoutStartSec", "2h").line("KillMode", "process").line("Nice", 10).line("IOSchedulingClass", "idle");
    draft.add_own(UNIT, &unit, Role::Service {}, None);

    let mut timer = UnitFile::new("when the machine gets its security updates");
    timer.section("Unit").line("Description", "Stead: time for security updates");
    timer.section("Timer").line("OnCalendar", &upgrade.dates).line("Persistent", "yes");
    timer.line("RandomizedDelaySec", upgrade.randomized_delay);
    draft.add_own(TIMER, &timer, Role::Timer {}, Some("timers.target"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Fixture, file, is_whole};
    use stead_model::host::AutoUpgrade;

    #[test]
    fn a_timer_starts_it_and_nothing_is_there_unless_asked_for() {
        let mut fixture = Fixture::two_sites();
        let plain = fixture.plan().generation;
        assert!(!plain.units.keys().any(|unit| unit.as_str().contains("upgrade")));
        let upgrade = AutoUpgrade { dates: "04:40".to_owned(), randomized_delay: 2700, allow_reboot: true };
        fixture.server.host_settings.auto_upgrade = Some(upgrade);
        let planned = fixture.plan();
        assert!(is_whole(&planned));
        let unit = file(&planned, "units/stead-auto-upgrade", ".service");
        assert!(unit.contains("agent upgrade --reboot\n"), "{unit}");
        let timer = file(&planned, "units/stead-auto-upgrade", ".timer");
        assert!(timer.contains("OnCalendar=04:40\n") && timer.contains("RandomizedDelaySec=2700\n"), "{timer}");
    }
}
