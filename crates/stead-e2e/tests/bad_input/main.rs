//! Bad input that needs a server: what is asked of it cannot be, and it stays as it is.
//!
//! Promises of each: one error that says what and where, what the server runs now and what to do, the
//! right exit code, and the same pointers, units and start times as before. (What needs no server is in the
//! tests of the program; each way in which ssh fails is in those of `stead-remote`.)

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the error is the report")]

mod busy;
mod disk;
mod fit;
mod line;
mod login;
mod refusal;
mod tampered;
mod versions;
