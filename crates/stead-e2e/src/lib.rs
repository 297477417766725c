//! What the end-to-end tests stand on: a lab of one's own, a project in a folder, the real program
//! between them, and visitors of the sites.
//!
//! A [`Stage`] is all of it together. Every test runs the program as an operator does and looks at
//! the server from outside, or through namespaces when the server's own ssh is what is tested. A
//! missing precondition (root, systemd-nspawn, the program) is a failing test with words. Whatever
//! happens to a test, its lab is removed: at its end, when it panics, or, if its process was
//! killed, by the next test that makes a lab.
//!
//! The program is that of `STEAD_BIN`, else the one that `cargo build -p stead` puts beside the
//! tests. Bases and packages are kept in `target/e2e-cache`, or in `STEAD_E2E_CACHE`.
//!
//! ```no_run
//! use stead_e2e::{Small, Stage, lab::Machine};
//!
//! let stage = Stage::with_small(&Small::default(), Machine::bookworm());
//! stage.stead(&["up"]).well();
//! assert_eq!(stage.get("app.small", "/").body, "one");
//! ```
//!
//! Functions panic where they cannot do what a test needs: that is the test's failure.

pub mod authority;
pub mod cable;
pub mod hold;
pub mod http;
pub mod lab;
pub mod listing;
pub mod outcome;
pub mod place;
pub mod power;
pub mod project;
pub mod reach;
mod stage;
pub mod terminal;
pub mod wait;

pub use outcome::Outcome;
pub use project::Small;
pub use stage::{Stage, nobody_noticed};
