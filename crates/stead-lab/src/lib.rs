//! Disposable local servers: a stock Debian with real systemd and real sshd, to rehearse on.
//!
//! A lab is a container, or a virtual machine for what a container cannot show. It has its own network
//! namespace and address, is limited to a droplet's memory and CPU, and lives until `down`: a small process, the keeper, outlives the command that started
//! it. Several labs run at once, with any state folders. What runs is looked up by process id *and*
//! start time, so that no recycled id is ever believed or signalled.
//!
//! This crate never prints, reads no environment, sets no clock, and touches nothing of this machine
//! but its own state and cache folders, and for each lab one network namespace with its link, and one control group.
//!
//! The keeper is the program of the caller: it hands the lab's folder to [`keeper::run`]. The
//! example is such a program, and handy by itself:
//!
//! ```text
//! cargo run -q -p stead-lab --example lab -- up demo --release trixie --forward 8080:80
//! cargo run -q -p stead-lab --example lab -- list | exec demo CMD… | ssh demo | cut demo | boot demo | resize demo CPUS MIB | down demo
//! ssh -F ~/.local/share/stead/labs/demo/ssh_config lab-demo
//! ```

mod base;
mod command;
mod container;
mod engine;
mod error;
pub mod forward;
mod group;
mod identity;
pub mod keeper;
mod lab;
mod labs;
mod network;
mod process;
mod resize;
mod shell;
mod sources;
mod specification;
mod virtual_machine;

pub use error::Error;
pub use lab::{Lab, Status, Summary};
pub use labs::{Event, Labs};
pub use specification::{Engine, Forward, InvalidSpecification, Release, Specification};
