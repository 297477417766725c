//! Inputs: what the declaration is made from, hashed and pinned.
//!
//! Reads folders and package archives, and keeps `stead.lock`. Promises that nothing but
//! [`update`] moves a pin, that the same content is the same hash on every machine, and that a
//! lock which does not fit the declaration is told so with the command that mends it. Never
//! changes an input, and never speaks to a server.
//!
//! Reading order: [`url`] (what an input is called), [`folder`] and [`links`] (a folder becomes a
//! tree), [`lockfile`] (the file), [`fit`] (does it fit?), [`update`] (move the pins), [`moved`]
//! (what moved), [`debian`] (the package archives behind `update`).

pub mod debian;
pub mod fit;
pub mod folder;
pub mod links;
pub mod lockfile;
pub mod moved;
pub mod update;
pub mod url;
