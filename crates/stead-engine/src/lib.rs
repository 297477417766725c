//! The engine: makes a staged generation live, proves it, and confirms it or goes back.
//!
//! [`table`] says what may follow what; [`run`] walks it and journals every phase before its
//! actions; [`converge`] holds the actions, `proof` what probes mean for them, `firewall` when that changes; [`effects`] is all that they may do to a server. The
//! engine knows no systemd, no file and no clock: those are behind [`effects::Server`], which has a
//! real implementation and, in the tests, one that can fail or crash at every single effect.
//!
//! Reading order: [`table`], [`effects`], [`converge`], [`run`].

pub mod converge;
mod database;
pub mod effects;
mod firewall;
mod proof;
pub mod run;
pub mod table;

#[cfg(test)]
mod fake;
