//! The parts of the house's tasks that tests share with them: the working copy of an example, a load
//! generator, and an authority. A library, so that tests can use them.
//!
//! Never prints, and never touches a server but by loading a lab's sites.

pub mod load;
pub mod pebble;
pub mod portfolio;
