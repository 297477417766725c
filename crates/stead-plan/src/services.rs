//! `systemd.services` and `systemd.timers`: any other service, in systemd's own words.
//!
//! Each becomes `stead-<name>.service` or `.timer`, so that it can never shadow a unit of the host.
//! A service with a runtime runs from it, like an app; one without runs from the host's files.

use crate::error::PlanError;
use crate::placeholder::{Used, ids, tree_path};
use crate::plan::{Draft, unit_name};
use crate::runtimes::{Mounts, binds_of_host, key};
use crate::secrets::Given;
use crate::unit_file::{UnitFile, values};
use std::collections::{BTreeMap, BTreeSet};
use stead_model::generation::{Role, Unit};
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::name::{Name, UnitName, UserName};
use stead_model::server::{Setting, SystemdService, SystemdTimer};

/// Settings that name folders which systemd makes on the host and mounts into the runtime.
const MADE_BY_SYSTEMD: [(&str, &str); 4] = [
    ("StateDirectory", "var/lib"),
    ("CacheDirectory", "var/cache"),
    ("LogsDirectory", "var/log"),
    ("ConfigurationDirectory", "etc"),
];

/// Adds every service and timer.
pub(crate) fn add(draft: &mut Draft<'_>) -> Result<(), PlanError> {
    let server = draft.server;
    for (name, service) in &server.services {
        add_service(draft, name, service)?;
    }
    for (name, timer) in &server.timers {
        add_timer(draft, name, timer)?;
    }
    Ok(())
}

fn add_service(draft: &mut Draft<'_>, name: &Name, service: &SystemdService) -> Result<(), PlanError> {
    let option = format!("systemd.services.{name}");
    let config_option = format!("{option}.serviceConfig");
    let mut used = Used::new();
    let config = resolved(draft, &config_option, &service.service_config, &mut used)?;
    let unit_config = resolved(draft, &format!("{option}.unitConfig"), &service.unit_config, &mut used)?;
    if !config.contains_key("ExecStart") {
        return Err(PlanError::NothingToRun { service: name.clone() });
    }

    let mut unit = UnitFile::new(&format!("the service {name}"));
    unit.section("Unit");
    description(&mut unit, &option, service.description.as_ref(), &format!("Stead service {name}"))?;
    let named =
        |units: &[UnitName]| -> BTreeSet<String> { units.iter().map(|unit| draft.references.unit(unit)).collect() };
    let given = Given { option: &option, environment: &service.environment, credentials: &service.credentials };
    let needed = || given.needed().map(str::to_owned);
    let after: BTreeSet<String> =
        named(&service.after).into_iter().chain(named(&service.requires)).chain(needed()).collect();
    unit.words("After", after).words("Before", named(&service.before)).words("Requires", named(&service.requires));
    unit.words("Wants", named(&service.wants).into_iter().chain(needed()).collect::<BTreeSet<String>>());
    for (key, setting) in &unit_config {
        unit.setting(&format!("{option}.unitConfig"), key, setting)?;
    }

    unit.section("Service");
    given.write(draft, &mut unit, &mut used)?;
    if let Some(runtime) = &service.runtime {
        run_from(draft, &mut unit, name, runtime, &config, &used)?;
    }
    for (key, setting) in &config {
        unit.setting(&config_option, key, setting)?;
    }
    if is_done_once(draft, name, service, &config) {
        unit.line("RemainAfterExit", "yes");
    }

    let wanted_by: BTreeSet<&str> = service.wanted_by.iter().map(UnitName::as_str).collect();
    let starts = start_words(&mut unit, &wanted_by);
    draft.users.extend(user(&config, &config_option)?);
    draft.refer(used);
    publish(draft, &unit_name(&format!("stead-{name}.service")), &unit, wanted_by, Role::Service {}, starts);
    Ok(())
}

fn run_from(
    draft: &mut Draft<'_>,
    unit: &mut UnitFile,
    name: &Name,
    runtime: &Name,
    config: &BTreeMap<&str, Setting>,
    used: &Used<'_>,
) -> Result<(), PlanError> {
    let option = format!("systemd.services.{name}.runtime");
    if let Some(key) = ["RootDirectory", "RootImage"].into_iter().find(|key| config.contains_key(key)) {
        return Err(PlanError::bad(
            format!("systemd.services.{name}.serviceConfig"),
            key,
            "cannot be set beside `runtime`",
        ));
    }
    let unknown = || PlanError::UnknownRuntime { option: option.clone(), runtime: runtime.clone() };
    let declared = draft.server.runtimes.get(runtime).ok_or_else(unknown)?;
    let mut mounts = Mounts::standard();
    for (setting, parent) in MADE_BY_SYSTEMD {
        let folders = config.get(setting).map(values).unwrap_or_default();
        folders
            .iter()
            .flat_map(|words| words.split_whitespace())
            .for_each(|folder| mounts.folder(&format!("{parent}/{folder}")));
    }
    bound(config).iter().for_each(|path| mount(&mut mounts, path));
    let key = key(draft.server, declared.debian.as_ref(), &declared.packages);
    let id = draft.runtimes.add(
        draft.inputs,
        format!("service {name}"),
        &format!("runtimes.{runtime}.packages"),
        &key,
        mounts,
    )?;
    unit.root(&id, ids(used).iter().map(tree_path).chain(binds_of_host()));
    Ok(())
}

/// Places inside the runtime that the service's own settings mount something on.
fn bound(config: &BTreeMap<&str, Setting>) -> Vec<String> {
    let words = |setting: &str| -> Vec<String> {
        let lines = config.get(setting).map(values).unwrap_or_default();
        lines.iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect()
    };
    let binds = ["BindPaths", "BindReadOnlyPaths"].into_iter().flat_map(words);
    let places = binds.map(|word| {
        let mut parts = word.trim_start_matches('-').split(':');
        let source = parts.next().unwrap_or_default();
        parts.next().unwrap_or(source).to_owned()
    });
    let in_memory =
        words("TemporaryFileSystem").into_iter().filter_map(|word| Some(word.split(':').next()?.to_owned()));
    places.chain(in_memory).collect()
}

/// Plans a mount point that is not in memory anyway. Below `/etc` it is a file, elsewhere a folder.
fn mount(mounts: &mut Mounts, path: &str) {
    let is_below = |folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
    if ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp", layout::TREES].into_iter().any(is_below) {
        return;
    }
    if is_below("/etc") { mounts.file(path) } else { mounts.folder(path) }
}

/// Whether the service is done when it ends well: systemd would call it inactive then, like one
/// that never ran. One that nothing starts again stays active instead.
fn is_done_once(draft: &Draft<'_>, name: &Name, service: &SystemdService, config: &BTreeMap<&str, Setting>) -> bool {
    let is_oneshot = matches!(config.get("Type"), Some(Setting::Text(text)) if text == "oneshot");
    let started_once = !service.wanted_by.is_empty() && !draft.server.timers.contains_key(name);
    is_oneshot && started_once && !config.contains_key("RemainAfterExit")
}

fn add_timer(draft: &mut Draft<'_>, name: &Name, timer: &SystemdTimer) -> Result<(), PlanError> {
    let option = format!("systemd.timers.{name}");
    let mut used = Used::new();
    let config = resolved(draft, &format!("{option}.timerConfig"), &timer.timer_config, &mut used)?;
    if !draft.server.services.contains_key(name) && !config.contains_key("Unit") {
        return Err(PlanError::TimerWithoutService { timer: name.clone() });
    }
    let mut unit = UnitFile::new(&format!("the timer {name}"));
    unit.section("Unit");
    description(&mut unit, &option, timer.description.as_ref(), &format!("Stead timer {name}"))?;
    unit.section("Timer");
    for (key, setting) in &config {
        let setting = match (*key, setting) {
            ("Unit", Setting::Text(other)) => {
                Setting::Text(other.parse().map_or_else(|_| other.clone(), |other| draft.references.unit(&other)))
            }
            _ => setting.clone(),
        };
        unit.setting(&format!("{option}.timerConfig"), key, &setting)?;
    }
    let wanted_by: BTreeSet<&str> = timer.wanted_by.iter().map(UnitName::as_str).collect();
    let starts = start_words(&mut unit, &wanted_by);
    draft.refer(used);
    publish(draft, &unit_name(&format!("stead-{name}.timer")), &unit, wanted_by, Role::Timer {}, starts);
    Ok(())
}

fn description(unit: &mut UnitFile, option: &str, declared: Option<&String>, otherwise: &str) -> Result<(), PlanError> {
    // `%` is not a specifier in a sentence for people.
    let text = declared.map_or(otherwise, String::as_str).replace('%', "%%");
    unit.setting(option, "Description", &Setting::Text(text)).map(drop)
}

/// The `[Install]` section, and whether activation starts the unit. systemd does not read the
/// section here; it makes a unit that is wanted by something else another unit.
fn start_words(unit: &mut UnitFile, wanted_by: &BTreeSet<&str>) -> bool {
    if !wanted_by.is_empty() {
        unit.section("Install").words("WantedBy", wanted_by);
    }
    !wanted_by.is_empty()
}

fn publish(
    draft: &mut Draft<'_>,
    name: &UnitName,
    unit: &UnitFile,
    wanted_by: BTreeSet<&str>,
    role: Role,
    start: bool,
) {
    let text = unit.text();
    let digest = Hash::of(text.as_bytes());
    draft.files.add_unit(name, text, wanted_by);
    draft.units.insert(name.clone(), Unit { digest, reload_digest: None, role, start });
}

/// Settings with their placeholders replaced.
fn resolved<'s, 'a>(
    draft: &Draft<'a>,
    option: &str,
    config: &'s BTreeMap<String, Setting>,
    used: &mut Used<'a>,
) -> Result<BTreeMap<&'s str, Setting>, PlanError> {
    let one = |key: &str, text: &str, used: &mut Used<'a>| draft.places.resolve(&format!("{option}.{key}"), text, used);
    let mut all = BTreeMap::new();
    for (key, setting) in config {
        let setting = match setting {
            Setting::Text(text) => Setting::Text(one(key, text, used)?),
            Setting::List(texts) => {
                Setting::List(texts.iter().map(|text| one(key, text, used)).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        };
        all.insert(key.as_str(), setting);
    }
    Ok(all)
}

/// The system user that the service runs as, if it has to be there beforehand.
fn user(config: &BTreeMap<&str, Setting>, option: &str) -> Result<Option<UserName>, PlanError> {
    let dynamic = config.get("DynamicUser").map(values).unwrap_or_default();
    let is_yes = |text: &String| ["yes", "true", "1", "on"].contains(&text.as_str());
    let Some(Setting::Text(name)) = config.get("User") else { return Ok(None) };
    let is_number = name.chars().all(|c| c.is_ascii_digit());
    if dynamic.iter().any(is_yes) || name == "root" || is_number {
        return Ok(None);
    }
    name.parse().map(Some).map_err(|_| PlanError::bad(format!("{option}.User"), name, "is not a user name"))
}
