//! The server's side of Stead: what `stead agent` does.
//!
//! [`serve`] answers one operator's connection over standard input and output; [`activation`] is
//! the record, journal and event log of one attempt to make a generation live, run by a transient
//! systemd service of its own so that no lost connection can stop it half-way; [`server`] is the
//! engine's view of this machine; [`stage`] makes a received generation real and tests that it fits.
//!
//! Runs as root, listens nowhere, and changes nothing outside `/var/lib/stead` and `/run/stead` but the generator, the users of
//! services, certificates, and what a declaration sets of the machine itself ([`host`]); what the units that it starts may write is
//! said in the units, and the end of it all is `leave`.
//!
//! Reading order: [`serve`], [`stage`], [`activation`], [`server`].

pub mod activation;
mod agents;
pub mod certificates;
pub mod drain;
mod firewall;
mod hook;
pub mod host;
pub mod inspect;
mod leave;
mod postgresql;
mod probes;
pub mod secrets;
pub mod serve;
pub mod server;
pub mod stage;
pub mod stand_in;
mod unpack;
pub mod upgrade;
mod visitors;
