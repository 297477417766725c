//! The tests of the whole crate, in one program.
//!
//! `mirror` needs the machine's own Debian mirror and Debian's keys; `hostile` and `packages` need
//! nothing but loopback and a temporary folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deb;
mod folder;
mod hostile;
mod mirror;
mod packages;
mod server;
