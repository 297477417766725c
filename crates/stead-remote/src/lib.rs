//! The way to the server: SSH, the versioned protocol, and the transfer of what is missing.
//!
//! The operator's own `ssh` carries one conversation with an agent that this crate brings along.
//! Both halves of the protocol are here; neither changes what runs on the server, prints, or reads
//! the environment.
//!
//! Reading order: [`message`] (the words), [`frame`] (how they travel), [`session`] (how the
//! conversation begins), [`transfer`] (how a generation gets there).

pub mod agent;
pub mod bootstrap;
pub mod cache;
pub mod counted;
pub mod destination;
pub mod frame;
pub mod message;
pub mod password;
pub mod session;
pub mod transfer;
pub mod trouble;
pub mod way;
