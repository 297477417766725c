//! Certificates of sites: what is there, what is due, getting one from an authority by ACME (RFC 8555).
//!
//! Promises that what a web server reads below `certificates/<name>/live` is always a chain with the key that belongs to
//! it, whatever an authority, an operator's file or a power cut does ([`store`]). Never talks to a web
//! server or to systemd, never prints, and reads the environment nowhere.

pub mod attempts;
pub mod authority;
pub mod challenges;
pub mod check;
pub mod disk;
pub mod due;
pub mod files;
pub mod renewal;
pub mod stand_in;
pub mod store;

pub use authority::{Accounts, Issued, Refused, obtain};
pub use challenges::{Answer, Challenges, WebRoot};
pub use check::{Details, Unfit, check};
pub use due::{Due, due, due_from};
pub use store::{Certificates, Ensured, Found};
