//! Tests of the crate's promises, through its public interface only.

mod common;
mod errors;
mod modules;
mod reference;
mod two_sites;
