//! Draining: an app's old instance stops only when nobody is connected to it any more.
//!
//! nginx leads no new visitor to it, but it still answers those that it had: requests in flight, and
//! WebSockets. Most programs end at once on SIGTERM and would cut them. So a small service of its
//! own watches the instance's port and asks the instance to stop when no connection is left, or when
//! the time is over. An instance that is wanted again meanwhile (by a rollback) is left alone.

use crate::activation;
use crate::server::instance_port;
use crate::stand_in;
use std::path::Path;
use std::time::{Duration, Instant};
use stead_host::run::RunError;
use stead_host::{ports, systemd};
use stead_model::layout;
use stead_model::name::UnitName;

/// The longest that an old instance keeps its connections before it is asked to stop.
const LONGEST: Duration = Duration::from_secs(30);
/// Time between two looks at the connections.
const BEAT: Duration = Duration::from_millis(100);

/// Starts the service that lets an instance go. One that lets it go already goes on.
///
/// # Errors
/// When systemd refuses; the instance then goes on running.
pub(crate) fn begin(unit: &UnitName) -> Result<(), RunError> {
    let stem = unit.as_str().trim_start_matches("stead-").trim_end_matches(".service").replace('@', "-");
    let Ok(service) = format!("stead-drain-{stem}.service").parse::<UnitName>() else {
        return systemd::request_stop(&[unit]);
    };
    let states = systemd::states(&[&service])?;
    if states.get(&service).is_some_and(|state| !state.is_gone()) {
        return Ok(());
    }
    let agent = crate::serve::agent_path().display().to_string();
    const MOST: u32 = 120;
    systemd::start_transient(&service, &[agent.as_str(), "agent", "drain", unit.as_str()], &[], MOST)
}

/// Waits until nobody is connected to the instance, or its time is over; then asks it to stop, unless
/// the active generation wants it (again). Called by the service that `begin` starts.
///
/// # Errors
/// When the lock cannot be had, or systemd refuses.
pub fn drain(unit: &UnitName) -> Result<(), activation::Error> {
    let end = Instant::now() + LONGEST;
    let mut quiet = 0;
    // Twice in a row: a request may be between two connections of nginx's.
    while quiet < 2 && Instant::now() < end {
        let connected = instance_port(unit).is_some_and(|port| ports::has_connections(port.number()));
        quiet = if connected { 0 } else { quiet + 1 };
        std::thread::sleep(BEAT);
    }
    // Not while an activation is deciding what is wanted; that may take its time.
    let patience = Instant::now() + Duration::from_secs(80);
    let _guard = loop {
        match activation::lock() {
            Err(activation::Error::Busy { .. }) if Instant::now() < patience => {}
            other => break other?,
        }
    };
    if Path::new(layout::ACTIVE).join("units").join(unit.as_str()).exists() {
        return Ok(());
    }
    systemd::request_stop(&[&stand_in::live(unit)]).map_err(|error| activation::Error::Store(error.to_string()))
}
