//! From the operator's Nickel files to checked servers.
//!
//! [`load`] reads what a project is and which inputs it declares; [`Project::servers`] merges the modules of
//! each server and gives [`stead_model::server::Server`]s. Every failure is one [`Failure`]: a line that says
//! what is wrong, the place in the file, and a rendering with the source. Evaluation reads files of the project
//! and its inputs (through Nickel's `import`) and nothing else: no environment, no network, no writing.
//!
//! Reading order: `library/*.ncl` (the options and the module system, in Nickel), [`project`], `language` (the
//! evaluator), `tree` (its result, with places), `explain` (Nickel's errors in our words), `unknown` (what nobody declared), `server` (the mapping), `probes`,
//! [`failure`], [`reference`](mod@reference).

mod certificates;
mod explain;
pub mod failure;
mod firewall;
mod host;
mod language;
mod nginx;
mod place;
mod postgresql;
mod probes;
pub mod project;
pub mod reference;
mod server;
mod tree;
mod unknown;
mod users;

pub use failure::{Failure, Kind, Place};
pub use project::{InputDeclaration, Project, load};
pub use reference::option_reference;
