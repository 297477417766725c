//! The parts of the house's tasks that tests share with them: the working copy of an example, and
//! a load generator. A library, so that the end-to-end tests can use both.
//!
//! Never prints, and never touches a server but by loading a lab's sites.

pub mod load;
pub mod portfolio;
