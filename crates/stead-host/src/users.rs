//! System users for services: made by `systemd-sysusers(8)`, removed by `userdel(8)`.
//!
//! Users made here have no password, no shell and no home. Never touches a user that was there.
//! Services that run from a runtime know users by copies of the host's lists, in a folder that they have
//! bound; whoever changes a user publishes them ([`publish`]), and so does the generator.

use crate::run::{RunError, run};
use std::path::Path;
use std::{fs, io};
use stead_model::layout;
use stead_model::name::UserName;

/// The lists that services know users and groups by (`passwd(5)`, `group(5)`).
pub(crate) const LISTS: [&str; 2] = ["group", "passwd"];

/// Makes services that run know the host's users and groups as they are now. Each list changes by one
/// rename; one that is the same is left alone.
///
/// # Errors
/// When a list cannot be read or written.
pub fn publish() -> io::Result<()> {
    publish_from(Path::new("/etc"), Path::new(layout::NAMES))
}

fn publish_from(host: &Path, names: &Path) -> io::Result<()> {
    fs::create_dir_all(names)?;
    for list in LISTS {
        let (wanted, place) = (fs::read(host.join(list))?, names.join(list));
        if fs::read(&place).is_ok_and(|found| found == wanted) {
            continue;
        }
        let temporary = names.join(format!(".{list}.{}", std::process::id()));
        fs::write(&temporary, wanted)?;
        fs::rename(&temporary, &place)?;
    }
    Ok(())
}

/// Whether the server knows this user.
pub fn exists(user: &UserName) -> bool {
    run("getent", &["passwd", user.as_str()]).is_ok()
}

/// The numbers of a user and its group, by the host's own list (`passwd(5)`); `None`: it is not there.
pub fn ids(user: &str) -> Option<(u32, u32)> {
    let list = fs::read_to_string("/etc/passwd").ok()?;
    let fields = list.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// Makes a system user and a group of its name, if it is not there. Tells whether it was made now.
///
/// # Errors
/// When `systemd-sysusers` refuses.
pub fn make(user: &UserName) -> Result<bool, RunError> {
    if exists(user) {
        return Ok(false);
    }
    let line = format!("u {user} - \"{COMMENT}\" /nonexistent /usr/sbin/nologin");
    run("systemd-sysusers", &["--inline", &line])?;
    Ok(true)
}

/// What users made here have for a comment (`passwd(5)`).
const COMMENT: &str = "Stead service";

/// The users that were made here, by the host's own list.
pub fn made() -> Vec<UserName> {
    let list = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.filter(|fields| fields.get(4) == Some(&COMMENT)).filter_map(|fields| fields[0].parse().ok()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_replaced_when_they_differ_and_left_alone_when_they_do_not() {
        use std::os::unix::fs::MetadataExt;
        let place = tempfile::tempdir().unwrap();
        let (host, names) = (place.path().join("etc"), place.path().join("run/names"));
        fs::create_dir_all(&host).unwrap();
        fs::write(host.join("group"), "root:x:0:\n").unwrap();
        fs::write(host.join("passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let inodes = || LISTS.map(|list| fs::metadata(names.join(list)).unwrap().ino());
        publish_from(&host, &names).unwrap();
        let first = inodes();
        publish_from(&host, &names).unwrap();
        assert_eq!(inodes(), first);

        fs::write(host.join("passwd"), "root:x:0:0::/root:/bin/sh\nguest:x:9:9::/:/bin/sh\n").unwrap();
        publish_from(&host, &names).unwrap();
        assert!(fs::read_to_string(names.join("passwd")).unwrap().contains("guest"));
        let second = inodes();
        assert!(second[0] == first[0] && second[1] != first[1], "by rename, and only what changed");
        assert_eq!(fs::read_dir(&names).unwrap().count(), 2, "nothing is left over");
    }
}
