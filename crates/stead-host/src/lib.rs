//! What touches a machine: systemd, users, ports, probes.
//!
//! Every function here has an effect on, or reads the state of, the server that it runs on, and
//! does one thing. Decisions (what to start, when to go back) are `stead-engine`'s; files of the
//! store are `stead-store`'s. Nothing here prints, or reads the environment but for where the machine
//! keeps the certificates that it trusts.

pub mod certificate;
pub mod firewall;
pub mod generator;
pub mod memory;
pub mod nginx;
pub mod people;
pub mod ports;
pub mod postgresql;
pub mod probe;
pub mod probing;
pub mod run;
pub mod settings;
pub mod sshd;
pub mod systemd;
#[cfg(test)]
mod testing;
mod timed;
pub mod tls;
pub mod upgrade;
pub mod users;
pub mod zram;
