//! System users for services: made by `systemd-sysusers(8)`, removed by `userdel(8)`.
//!
//! Users made here have no password, no shell and no home. Never touches a user that was there.

use crate::run::{RunError, run};
use stead_model::name::UserName;

/// Whether the server knows this user.
pub fn exists(user: &UserName) -> bool {
    run("getent", &["passwd", user.as_str()]).is_ok()
}

/// Makes a system user and a group of its name, if it is not there. Tells whether it was made now.
///
/// # Errors
/// When `systemd-sysusers` refuses.
pub fn make(user: &UserName) -> Result<bool, RunError> {
    if exists(user) {
        return Ok(false);
    }
    let line = format!("u {user} - \"Stead service\" /nonexistent /usr/sbin/nologin");
    run("systemd-sysusers", &["--inline", &line])?;
    Ok(true)
}

/// Removes a user that [`make`] made; its files stay. No error when it is gone already.
///
/// # Errors
/// When `userdel` refuses, for instance because a process of the user still runs.
pub fn remove(user: &UserName) -> Result<(), RunError> {
    if !exists(user) {
        return Ok(());
    }
    run("userdel", &[user.as_str()]).map(drop)
}
