//! Planning: a server's declaration and lock become a generation; two generations become steps.
//!
//! Pure: same declaration, same lock, same trees → same bytes. Never reads a file, a clock or the
//! environment, and never starts a process; `clippy.toml` beside it enforces that.

pub mod steps;

pub use steps::{Step, describe, steps};
