//! What is on the server's disk: objects, trees, runtimes, packages, generations, and the two pointers.
//!
//! Everything below the store's folder is content: named by its hash, written once, read-only, root's.
//! Nothing is synchronised file by file; [`Store::publish`] synchronises the whole file system once,
//! and a generation that has its name survives a power cut, with everything that it needs. What a
//! power cut tears before that is found and removed by the next [`Store::open`].
//!
//! Only [`switch`] makes a generation live. Nothing here starts a process, reads the environment, or
//! knows what a generation means to systemd.
//!
//! Reading order: [`object`] (files by content), [`realise`] (trees of them), [`generation`]
//! (publishing), [`switch`] (making one live), [`collect`] and [`verify`] (looking after it all).

pub mod chunk;
pub mod collect;
pub mod description;
pub mod disk;
pub mod generation;
pub mod lock;
pub mod object;
pub mod package;
pub mod realise;
pub mod stamp;
pub mod store;
pub mod switch;
pub mod verify;

mod audit;
mod recover;
mod resolve;
mod temporary;
mod unsynced;

pub use collect::Collected;
pub use lock::Guard;
pub use realise::Kind;
pub use store::Store;
pub use verify::{Damage, What};
