//! Draining: an app's old instance stops only when nobody is connected to it any more.
//!
//! nginx leads no new visitor to it, but it still answers those that it had: requests in flight, and
//! WebSockets. Most programs end at once on SIGTERM and would cut them. So a small service of its
//! own watches the instance's port and asks the instance to stop when no connection is left, or when
//! the time is over. Until then nginx asks it for what the new release does not have: a page that a
//! visitor still has open names files of the old one. An instance that is wanted again meanwhile (by a rollback) is left alone.

use crate::activation;
use crate::server::instance_port;
use crate::{stand_in, visitors};
use std::path::Path;
use std::time::{Duration, Instant};
use stead_host::run::RunError;
use stead_host::{ports, systemd};
use stead_model::layout;
use stead_model::name::UnitName;
use stead_store::Store;

/// Time between two looks at the connections.
const BEAT: Duration = Duration::from_millis(100);

/// Starts the service that lets an instance go within so many seconds. One that lets it go already goes on.
///
/// # Errors
/// When systemd refuses; the instance then goes on running.
pub(crate) fn begin(unit: &UnitName, seconds: u32) -> Result<(), RunError> {
    let stem = unit.as_str().trim_start_matches("stead-").trim_end_matches(".service").replace('@', "-");
    let Ok(service) = format!("stead-drain-{stem}.service").parse::<UnitName>() else {
        return systemd::request_stop(&[unit]);
    };
    let states = systemd::states(&[&service])?;
    if states.get(&service).is_some_and(|state| !state.is_gone()) {
        return Ok(());
    }
    let agent = crate::serve::agent_path().display().to_string();
    let command = [agent.as_str(), "agent", "drain", unit.as_str(), &seconds.to_string()];
    // It may have to wait for an activation to end, however long that takes.
    systemd::start_transient(&service, &command, &[], u32::MAX)
}

/// Waits until nobody is connected to the instance, or so many seconds are over; then asks it to stop, unless
/// the active generation wants it (again). Called by the service that `begin` starts.
///
/// # Errors
/// When the lock cannot be had, or systemd refuses.
pub fn drain(unit: &UnitName, seconds: u32) -> Result<(), activation::Error> {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    if unit.as_str().starts_with("stead-nginx@") {
        return drain_nginx(unit, end).map_err(|error| activation::Error::Store(error.to_string()));
    }
    let mut quiet = 0;
    // Twice in a row: a request may be between two connections of nginx's.
    while quiet < 2 && Instant::now() < end {
        let connected = instance_port(unit).is_some_and(|port| ports::has_connections(port.number()));
        quiet = if connected { 0 } else { quiet + 1 };
        std::thread::sleep(BEAT);
    }
    // Not while an activation is deciding what is wanted; that may take its time.
    let _guard = loop {
        match activation::lock() {
            Err(activation::Error::Busy { .. }) => {}
            other => break other?,
        }
    };
    if Path::new(layout::ACTIVE).join("units").join(unit.as_str()).exists() {
        return Ok(());
    }
    let live = stand_in::live(unit);
    // It goes whether nginx was told so or not: the memory is another instance's.
    let left = leave(unit);
    let failed = |error: RunError| activation::Error::Store(error.to_string());
    systemd::request_stop(&[&live]).map_err(failed)?;
    // One that had failed before would be remembered as failed, and the system as degraded.
    systemd::forget_failures(&[&live]).map_err(failed)?;
    left
}

/// Ends an instance of nginx that still has connections when the time is over. It was asked to stop when it was replaced;
/// one that was started again since then is left alone.
fn drain_nginx(unit: &UnitName, end: Instant) -> Result<(), RunError> {
    let is_stopping = || Ok(systemd::states(&[unit])?.get(unit).is_some_and(|state| state.active == "deactivating"));
    while is_stopping()? {
        if Instant::now() >= end {
            // nginx(8): a fast shutdown, and a clean one.
            return systemd::terminate(unit);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Makes sure that nginx asks the instance nothing any more.
fn leave(unit: &UnitName) -> Result<(), activation::Error> {
    let failed = |error: &dyn std::error::Error| activation::Error::Store(error.to_string());
    let app = unit.as_str().strip_prefix("stead-").and_then(|rest| rest.split_once('@')).map(|(app, _)| app.parse());
    let (Some(Ok(app)), Some(port)) = (app, instance_port(unit)) else { return Ok(()) };
    if !visitors::leave_old(&app, port).map_err(|error| failed(&error))? {
        return Ok(());
    }
    let store = Store::open(Path::new(layout::STATE)).map_err(|error| failed(&error))?;
    let active = Store::active(Path::new(layout::RUN)).map_err(|error| failed(&error))?;
    let generation = active.map(|id| store.generation(&id)).transpose().map_err(|error| failed(&error))?.flatten();
    let Some(nginx) = generation.and_then(|generation| generation.nginx) else { return Ok(()) };
    let epoch = format!("drained-{}", unit.as_str().trim_end_matches(".service"));
    visitors::reload(&nginx.unit, &nginx.configuration, &epoch).map_err(|error| failed(&error))
}
