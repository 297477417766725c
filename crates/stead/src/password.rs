//! The passwords that servers' `sudo` wants: each asked once at the terminal, and known until the command ends.
//!
//! Never written anywhere. A command makes several logins (the confirming one, another after a line that broke), some of them
//! when nobody can be asked any more.

use crate::failure::Failure;
use crate::interrupt;
use crate::output::Output;
use std::sync::{Mutex, PoisonError};
use stead_remote::destination::Destination;
use stead_remote::password::Password;
use zeroize::Zeroizing;

static KNOWN: Mutex<Vec<(Destination, Password)>> = Mutex::new(Vec::new());

/// The password that was given for this destination.
pub(crate) fn known(destination: &Destination) -> Option<Password> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().find(|(of, _)| of == destination).map(|(_, password)| password.clone())
}

/// Forgets it: it was wrong.
pub(crate) fn forget(destination: &Destination) {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| of != destination);
}

/// Asks for this user's password, and keeps it.
pub(crate) fn ask(destination: &Destination, user: &str, output: &Output) -> Result<(), Failure> {
    let question = format!("password of {user} on {}, for sudo: ", destination.host());
    let ask = || interrupt::while_hidden(|| rpassword::prompt_password(question));
    let typed = output.while_asking(ask).map(Zeroizing::new);
    let typed = typed.map_err(|error| Failure::before(format!("no password could be read: {error}")))?;
    let password = Password::new(typed).map_err(|error| Failure::before(error.to_string()))?;
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).push((destination.clone(), password));
    Ok(())
}
