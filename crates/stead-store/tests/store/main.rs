//! The store's promises, each against a real file system.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the error is the report")]

mod collecting;
mod common;
mod full_disk;
mod publishing;
mod realising;
mod verifying;
