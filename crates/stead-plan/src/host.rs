//! Settings of the machine itself: their files, and the unit that sees to them at a boot.

use crate::error::PlanError;
use crate::placeholder::Used;
use crate::plan::Draft;
use crate::unit_file::UnitFile;
use stead_model::generation::Role;
use stead_model::hash::Hash;
use stead_model::host::{EtcFile, Host, JOURNALD};
use stead_model::layout;

/// The unit that sees to the settings at a boot.
const UNIT: &str = "stead-host.service";
/// The name of a service that this is.
const NAME: &str = "host";

/// Adds the files, and the unit when there is a setting.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<Host, PlanError> {
    let declared = &draft.server.host_settings;
    let mut host = Host {
        host_name: declared.host_name.clone(),
        time_zone: declared.time_zone.clone(),
        sysctl: declared.sysctl.clone(),
        swap: declared.swap.clone(),
        zram: declared.zram.clone(),
        users: declared.users.clone(),
        sshd: declared.sshd.clone(),
        ..Host::default()
    };
    let mut used = Used::new();
    for (path, (text, mode)) in &declared.files {
        let text = draft.places.resolve(&format!("environment.etc.\"{path}\".text"), text, &mut used)?;
        draft.files.add(&format!("etc/{path}"), text.clone());
        host.files.insert(path.clone(), EtcFile { content: Hash::of(text.as_bytes()), mode: *mode });
    }
    draft.refer(used);
    if let Some(text) = &declared.journald {
        draft.files.add(JOURNALD, text.clone());
        host.journald = Some(Hash::of(text.as_bytes()));
    }
    // journald needs no unit: the generator sees to it, before it starts.
    let mut needed = host.clone();
    needed.journald = None;
    if needed.is_empty() {
        return Ok(host);
    }
    draft.reserve(&[NAME])?;
    let mut unit = UnitFile::new("what sees to the settings of the machine at a boot");
    unit.section("Unit").line("Description", "Stead settings of the machine").line("DefaultDependencies", "no");
    // After what sets the machine's own, and before what reads them.
    unit.line("After", "local-fs.target systemd-sysctl.service").line("Before", "basic.target shutdown.target");
    unit.line("Conflicts", "shutdown.target").line("RequiresMountsFor", layout::STATE);
    unit.section("Service").line("Type", "oneshot").line("RemainAfterExit", "yes");
    unit.line("ExecStart", format!("{} agent settle", layout::AGENT));
    draft.add_own(UNIT, &unit, Role::Service {}, Some("basic.target"));
    Ok(host)
}

#[cfg(test)]
mod tests {
    use crate::steps::{describe, steps};
    use crate::testing::{Fixture, file, is_whole};
    use stead_model::generation::Generation;

    fn fixture() -> Fixture {
        let mut fixture = Fixture::two_sites();
        let host = &mut fixture.server.host_settings;
        host.host_name = Some("billtracker".parse().unwrap());
        host.sysctl.insert("vm.swappiness".parse().unwrap(), "10".to_owned());
        host.files.insert("motd".parse().unwrap(), ("welcome\n".to_owned(), 0o644));
        fixture
    }

    #[test]
    fn settings_have_their_files_a_unit_for_the_boot_and_words_in_the_plan() {
        let planned = fixture().plan();
        assert!(is_whole(&planned));
        assert_eq!(file(&planned, "etc/motd", ""), "welcome\n");
        let unit = file(&planned, "units/stead-host", ".service");
        assert!(unit.contains("DefaultDependencies=no\n") && unit.contains("agent settle\n"), "{unit}");
        let said = |from: &Generation, to: &Generation| -> Vec<String> {
            steps(from, to).iter().map(describe).filter(|words| words.starts_with("set ")).collect()
        };
        let before = Fixture::two_sites().plan().generation;
        let hash = stead_model::hash::Hash::of(b"welcome\n").short();
        let wanted = [
            "boot.kernel.sysctl.\"vm.swappiness\": as before Stead → 10".to_owned(),
            format!("environment.etc.\"motd\": as before Stead → {hash} (644)"),
            "networking.hostName: as before Stead → billtracker".to_owned(),
        ];
        assert_eq!(said(&before, &planned.generation), wanted.map(|words| format!("set {words}")));
        assert!(said(&planned.generation, &before).iter().all(|words| words.ends_with("→ as before Stead")));
    }

    #[test]
    fn what_journald_is_told_needs_no_unit_and_without_settings_there_is_nothing() {
        let mut fixture = Fixture::two_sites();
        fixture.server.host_settings.journald = Some("[Journal]\n".to_owned());
        let planned = fixture.plan();
        assert_eq!(file(&planned, "journald", ".conf"), "[Journal]\n");
        assert!(!planned.generation.units.keys().any(|unit| unit.as_str() == "stead-host.service"));
        let plain = Fixture::two_sites().plan().generation;
        assert!(plain.host.is_empty() && !serde_json::to_string(&plain).unwrap().contains("\"host\":{"));
    }
}
