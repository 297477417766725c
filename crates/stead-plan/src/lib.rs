//! Planning: a server's declaration and lock become a generation; two generations become steps.
//!
//! Pure: same declaration, same lock, same trees → same bytes. Never reads a file, a clock or the
//! environment, and never starts a process; `clippy.toml` beside it enforces that.
//!
//! Reading order: [`plan()`], then one file for each part (`apps`, `services`, `nginx`, `probes`,
//! `runtimes`, `secrets`, `users`, `postgresql`, `hooks`, `host`), and [`steps()`]. Another kind of service is another file beside them.

mod apps;
mod certificates;
mod error;
mod files;
mod firewall;
mod hooks;
mod host;
mod nginx;
mod placeholder;
mod plan;
mod postgresql;
mod probes;
mod references;
mod runtimes;
mod secrets;
mod services;
pub mod steps;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unit_file;
mod upgrade;
mod users;

pub use error::PlanError;
pub use plan::{Inputs, Planned, Sealed, Standing, plan};
pub use probes::warnings;
pub use runtimes::{build_key, runtime_keys};
pub use steps::{DatabaseChange, Step, describe, steps};
