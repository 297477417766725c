//! Bad input that needs no server: the real program, run as an operator runs it, on projects with one mistake.
//!
//! Promises of each: one error that says what and where, three closing lines, the right exit code, and
//! that nothing is written into the project. The words are snapshots, because people read them.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the error is the report")]

mod declaration;
mod lock;
mod mirror;
mod operator;
mod secrets;
mod sites;
mod words;
