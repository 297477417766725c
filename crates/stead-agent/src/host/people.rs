//! People who log in: made when they are declared, shut out when they are not any more, and removed only where nothing is lost.
//!
//! Promises that nobody who was there before Stead is made, changed or removed; that within a trial nobody goes who was there at its
//! beginning, so that going back brings back everything; and that a name or number never becomes somebody else's while files of its
//! owner may be there: such an account stays, shut.

use super::{Error, Key, Record};
use stead_host::people::{self, Standing};
use stead_host::settings::Prior;
use stead_model::hash::Hash;
use stead_model::host::User;
use stead_model::name::UserName;
use stead_model::path::AbsolutePath;

/// What [`Prior::Value`] is of somebody who was there before Stead.
const THERE: &str = "there";
/// What it begins with of somebody who was made here; the generation follows that was under way.
const MADE_FOR: &str = "made for ";

/// Whose rights a setting is; `None`: nobody's.
pub(super) fn of(key: &Key) -> Option<&UserName> {
    match key {
        Key::Member { user, .. } => Some(user),
        Key::Sudo(name) | Key::Keys(name) => Some(name),
        _ => None,
    }
}

fn made_for(prior: &Prior) -> Option<&str> {
    match prior {
        Prior::Value(value) => value.strip_prefix(MADE_FOR),
        _ => None,
    }
}

/// Makes somebody as declared, or lets somebody in again.
pub(super) fn welcome(
    record: &mut Record,
    name: &UserName,
    user: &User,
    candidate: Option<&Hash>,
) -> Result<(), Error> {
    let key = Key::User(name.clone());
    if !record.knows(&key) {
        let candidate = candidate.map(ToString::to_string).unwrap_or_default();
        let is_there = people::account(name).is_some();
        let prior = if is_there { THERE.to_owned() } else { format!("{MADE_FOR}{candidate}") };
        record.note(key.clone(), Prior::Value(prior))?;
    }
    if record.prior(&key).and_then(made_for).is_none() {
        return Ok(());
    }
    let shut = Key::Shut(name.clone());
    if let Some(Prior::Value(before)) = record.prior(&shut) {
        let (expiry, shell) = before.split_once(' ').unwrap_or_default();
        let standing = Standing { expiry: expiry.to_owned(), shell: shell.to_owned() };
        key.done(people::open(name, &standing))?;
        record.forget(&shut)?;
    }
    key.done(people::make(name, user))
}

/// Shuts somebody out who is not declared any more. Whoever was made for the generation that is taken back goes, if nothing is lost.
pub(super) fn dismiss(
    record: &mut Record,
    name: &UserName,
    prior: &Prior,
    candidate: Option<&Hash>,
) -> Result<(), Error> {
    let (key, shut) = (Key::User(name.clone()), Key::Shut(name.clone()));
    let Some(made_for) = made_for(prior) else { return record.forget(&key) };
    let is_taken_back = candidate.is_some_and(|candidate| candidate.to_string() == made_for);
    if people::account(name).is_none() || is_taken_back && key.done(people::remove(name))? {
        record.forget(&shut)?;
        return record.forget(&key);
    }
    // Once: whoever is let in by hand after that, is.
    if !record.knows(&shut)
        && let Some(before) = key.done(people::shut(name))?
    {
        // Going back from a later trial of the same generation takes nobody away who was there before it. At a boot nothing is
        // under way yet: what takes up the interrupted trial comes after this, and takes away whom that one made.
        let prior = if candidate.is_some() { Prior::Value(MADE_FOR.to_owned()) } else { prior.clone() };
        let before = Prior::Value(format!("{} {}", before.expiry, before.shell));
        record.note_both([(shut, before), (key, prior)])?;
    }
    Ok(())
}

/// Whether the machine can have this user; else, why not.
pub(super) fn fits(record: &Record, name: &UserName, user: &User) -> Result<(), String> {
    let account = people::account(name);
    let prior = record.prior(&Key::User(name.clone()));
    let is_made_here = prior.is_some_and(|prior| made_for(prior).is_some());
    if let Some(shell) = &user.shell
        && !std::path::Path::new(shell.as_str()).is_file()
    {
        return Err(format!("there is no shell {shell} on the server"));
    }
    let Some(account) = account else {
        let home = people::home(name);
        if prior.is_some() && !is_made_here {
            return Err("was there before Stead and is not any more: leave it out of one deploy, and it can be made in the next".to_owned());
        }
        if let Some(owner) = user.uid.and_then(people::owner_of) {
            return Err(format!("its number is that of `{owner}` on the server"));
        }
        if people::is_group(name) {
            return Err("there is a group of this name on the server, which is somebody's".to_owned());
        }
        if home.exists() {
            return Err(format!("there is {} on the server, which would be somebody else's then", home.display()));
        }
        return Ok(());
    };
    if account.is_of_the_system() {
        return Err("is a user of the system, which is not changed: take another name".to_owned());
    }
    if user.uid.is_some_and(|uid| uid != account.uid) {
        return Err(format!("has the number {} on the server, which files there belong to: it stays", account.uid));
    }
    let differs = |declared: Option<&str>, found: &str| declared.is_some_and(|declared| declared != found);
    let is_other = differs(user.shell.as_ref().map(AbsolutePath::as_str), &account.shell)
        || differs(user.description.as_deref(), &account.description);
    if is_other && !is_made_here {
        return Err(format!(
            "was there before Stead, as `{}` with the shell {}, and gets keys and groups only: leave out `description` and `shell`",
            account.description, account.shell
        ));
    }
    Ok(())
}

/// Ends what Stead knows of people: who has nothing that would be lost goes, with the home where data goes too. Returns what stays.
///
/// # Errors
/// When somebody cannot be removed.
pub(crate) fn let_go(with_data: bool) -> Result<Vec<String>, Error> {
    let mut stay = Vec::new();
    for (key, prior) in &Record::read()?.0 {
        let Key::User(name) = key else { continue };
        if made_for(prior).is_none() {
            continue;
        }
        let remove = if with_data { people::remove_with_home } else { people::remove };
        if people::has_files_elsewhere(name) || !key.done(remove(name))? {
            stay.push(format!("the user {name}, who cannot log in any more and has files"));
        }
    }
    stay.sort();
    Ok(stay)
}
