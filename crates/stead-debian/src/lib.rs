//! Debian packages as a source of runtimes: signed indexes in, immutable trees out.
//!
//! Everything that is read from a mirror is checked before it is believed: an index against the
//! archive's keys, a package against the index (or the lock). Nothing is installed, no maintainer
//! script runs, and nothing outside the given cache folder is written. The crate has no terminal;
//! progress goes to a [`reporter::Reporter`].
//!
//! Reading order: [`mirror`] (where), [`http`] (how), [`keyring`] and [`archive`] (what is
//! signed), [`index`] (what there is), [`resolve`] (what is needed), [`download`], then
//! [`package`] (a `.deb` becomes a tree) and [`runtime`] (trees become a runtime).

pub mod archive;
pub mod download;
pub mod http;
pub mod index;
pub mod keyring;
pub mod mirror;
pub mod package;
mod relation;
pub mod release;
pub mod reporter;
pub mod resolve;
pub mod runtime;
