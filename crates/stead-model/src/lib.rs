//! The nouns of Stead, as types that cannot hold an invalid value.
//!
//! Pure: this crate reads no file, no clock, no environment, and starts no process. Everything
//! here is plain data with a stable serialised form; the rules for what follows from the data
//! live in the crates above.
//!
//! Reading order: [`name`] and [`path`] (words and places), [`hash`], [`server`] (what the
//! operator declared), [`lock`] (what it is pinned to), [`tree`] and [`generation`] (what a
//! server runs), [`certificate`] (what its sites are trusted by), [`probe`] (how it proves itself), [`secret`] (what it hides), [`host`] (how the machine itself is to be), [`activation`] (how it got there).

pub mod activation;
pub mod certificate;
pub mod generation;
pub mod hash;
pub mod hooks;
pub mod host;
pub mod layout;
pub mod lock;
pub mod name;
pub mod path;
pub mod probe;
pub mod secret;
pub mod server;
pub mod tree;
pub mod upstream;
