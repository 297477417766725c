//! Secrets of a project: encrypted with age (age-encryption.org/v1) for those who may read them.
//!
//! They are the files `secrets/<name>.age`; who may read which says `secrets/readers.toml`. Promises that what it
//! writes, any age program reads, and the other way round; and that a change of the folder happens as a
//! whole or not at all. Never writes a value in clear, never shows one in an error, never asks a terminal itself.
//!
//! Reading order: [`key`] and [`identity`] (who can read), [`sealed`] (one encrypted value), [`readers`] (who may), [`folder`]
//! (all of it on the disk).

pub mod folder;
pub mod identity;
pub mod key;
pub mod readers;
pub mod sealed;
