//! An app's sources become a release, in a sandbox.
//!
//! Promises that a build sees nothing of the operator's machine: pinned packages as its file
//! system, a fresh copy of the sources, a fixed environment, no network. So the same sources,
//! packages and command give a release that is kept and found again, without building. Never
//! changes the sources, and needs no root (bubblewrap's user namespaces do it).
//!
//! Reading order: [`builder`] (what is done), `sandbox` (how it is shut in), [`runtime`] (the
//! pinned packages as a folder of this machine).

pub mod builder;
mod output;
pub mod runtime;
mod sandbox;
mod source;
mod work;
