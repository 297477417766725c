//! People who log in: made by `useradd(8)`, put into groups, and removed again.
//!
//! Promises that somebody who was there before is never changed but for groups, and that removing somebody loses nothing that was
//! not there from the beginning, unless the home is meant to go. Decides nothing: who is whose is remembered by whoever calls.

use crate::run::{RunError, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stead_model::host::User;
use stead_model::name::UserName;

/// The time that programs of somebody who goes have to end.
const ENDING: Duration = Duration::from_secs(10);
/// What a new home begins with (`useradd(8)`).
const SKELETON: &str = "/etc/skel";
/// The shell of who is made, where none is declared.
const SHELL: &str = "/bin/bash";
/// The shell of who cannot log in.
const NO_SHELL: &str = "/usr/sbin/nologin";
/// The day after which an account that is shut has expired, counted from 1970 (`shadow(5)`).
const LONG_AGO: &str = "1";
/// Numbers below are the system's own (Debian Policy, section 9.2.2), but for that of root.
const FIRST: u32 = 1000;

/// A line of `/etc/passwd` (`passwd(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The number.
    pub uid: u32,
    /// The full name, and what else stands there.
    pub description: String,
    /// The folder that is the user's own.
    pub home: PathBuf,
    /// The program that a login starts.
    pub shell: String,
}

impl Account {
    /// Whether it is one of the system's own, such as `www-data`.
    pub fn is_of_the_system(&self) -> bool {
        self.uid != 0 && self.uid < FIRST
    }
}

/// The account of a user, by the machine's own list; `None`: there is none.
pub fn account(name: &UserName) -> Option<Account> {
    let list = fs::read_to_string("/etc/passwd").ok()?;
    list.lines().find_map(|line| parse(line, name.as_str()))
}

fn parse(line: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [found, _, uid, _, description, home, shell] = fields[..] else { return None };
    (found == name).then_some(())?;
    let (description, shell) = (description.to_owned(), shell.to_owned());
    Some(Account { uid: uid.parse().ok()?, description, home: home.into(), shell })
}

/// Who has a number; `None`: nobody.
pub fn owner_of(uid: u32) -> Option<String> {
    let list = fs::read_to_string("/etc/passwd").ok()?;
    let fields = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields.get(2).and_then(|text| text.parse().ok()) == Some(uid));
    found.next().map(|fields| fields[0].to_owned())
}

/// Whether the machine has a group of this name.
pub fn is_group(name: &UserName) -> bool {
    members(name.as_str()).is_some()
}

/// Whether a user is in a group besides the user's own.
pub fn is_member(user: &UserName, group: &UserName) -> bool {
    members(group.as_str()).is_some_and(|members| members.iter().any(|member| member == user.as_str()))
}

/// The members of a group (`group(5)`); `None`: there is no such group.
fn members(group: &str) -> Option<Vec<String>> {
    let list = fs::read_to_string("/etc/group").ok()?;
    let line = list.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == group)?;
    Some(line.get(3)?.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect())
}

/// Makes a user as declared, or as declared again. Who is that already is not touched.
///
/// # Errors
/// When a program of the system refuses.
pub fn make(name: &UserName, user: &User) -> Result<(), RunError> {
    let shell = user.shell.as_ref().map_or(SHELL, |shell| shell.as_str());
    let description = user.description.as_deref().unwrap_or_default();
    let Some(found) = account(name) else {
        // No password fits `*`; unlike `!`, it does not shut the account to keys (`sshd(8)`, "locked").
        let mut words = vec!["--create-home", "--user-group", "--password", "*", "--shell", shell];
        words.extend(["--comment", description]);
        let uid = user.uid.map(|uid| uid.to_string());
        words.extend(uid.iter().flat_map(|uid| ["--uid", uid]));
        words.push(name.as_str());
        return run("useradd", &words).map(drop);
    };
    let mut words = Vec::new();
    if found.shell != shell {
        words.extend(["--shell", shell]);
    }
    if found.description != description {
        words.extend(["--comment", description]);
    }
    if words.is_empty() {
        return Ok(());
    }
    words.push(name.as_str());
    run("usermod", &words).map(drop)
}

/// Where the home of somebody who is made will be (`useradd(8)`, HOME).
pub fn home(name: &UserName) -> PathBuf {
    Path::new("/home").join(name.as_str())
}

/// What lets a user in: the day on which the account expires (`shadow(5)`; empty: never), and the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Days since 1970, or nothing.
    pub expiry: String,
    /// The program that a login starts.
    pub shell: String,
}

/// Shuts an account to every login. What runs goes on. Returns how it stood before; `None`: there is no such user.
///
/// # Errors
/// When `usermod` refuses.
pub fn shut(name: &UserName) -> Result<Option<Standing>, RunError> {
    let Some(found) = account(name) else { return Ok(None) };
    let list = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let mut lines = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields[0] == name.as_str()).unwrap_or_default();
    let before = match fields.get(7).copied().unwrap_or_default() {
        // Shut already, by a try that was broken off.
        LONG_AGO => Standing { expiry: String::new(), shell: SHELL.to_owned() },
        expiry => Standing { expiry: expiry.to_owned(), shell: found.shell },
    };
    run("usermod", &["--expiredate", LONG_AGO, "--shell", NO_SHELL, name.as_str()])?;
    Ok(Some(before))
}

/// Opens an account that was shut.
///
/// # Errors
/// When `usermod` refuses.
pub fn open(name: &UserName, standing: &Standing) -> Result<(), RunError> {
    if account(name).is_none() {
        return Ok(());
    }
    run("usermod", &["--expiredate", &standing.expiry, "--shell", &standing.shell, name.as_str()]).map(drop)
}

/// Removes somebody who was made here, if nothing would be lost: the home is there and as it was made, nothing is kept for the user
/// elsewhere in the system, and nobody else is in the user's group. Returns whether the user is gone.
///
/// # Errors
/// When `userdel` refuses for another reason.
pub fn remove(name: &UserName) -> Result<bool, RunError> {
    let Some(found) = account(name) else { return Ok(true) };
    let kept = ["/var/mail", "/var/spool/cron/crontabs"].map(|folder| Path::new(folder).join(name.as_str()));
    let is_known = is_untouched(&found.home, Path::new(SKELETON)) && !kept.iter().any(|file| file.exists());
    if is_known { remove_with_home(name) } else { Ok(false) }
}

/// Removes somebody who was made here, with the home and what is in it; what the user runs ends. Returns whether the user is gone:
/// not, while somebody else is in the user's group, or something of the user's does not end.
///
/// # Errors
/// When `userdel` refuses for another reason.
pub fn remove_with_home(name: &UserName) -> Result<bool, RunError> {
    let Some(found) = account(name) else { return Ok(true) };
    if members(name.as_str()).is_some_and(|members| members.iter().any(|member| member != name.as_str())) {
        return Ok(false);
    }
    if has_processes(found.uid) {
        end_sessions(name, found.uid);
    }
    match run("userdel", &["--remove", name.as_str()]) {
        Ok(_) => Ok(true),
        // `userdel(8)`, EXIT VALUES: the user is logged in.
        Err(RunError::Failed { status, .. }) if status.ends_with(": 8") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a user has files outside of the home, on any disk of the machine's own.
pub fn has_files_elsewhere(name: &UserName) -> bool {
    let Some(found) = account(name) else { return false };
    let (home, uid) = (found.home.display().to_string(), found.uid.to_string());
    let mut words = vec!["/", "-ignore_readdir_race", "("];
    for kind in ["proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "nfs", "nfs4", "cifs", "ramfs"] {
        words.extend(["-fstype", kind, "-o"]);
    }
    words.extend(["-path", &home, ")", "-prune", "-o", "-uid", &uid, "-print", "-quit"]);
    // What cannot be looked for may be there.
    run("find", &words).map_or(true, |found| !found.trim().is_empty())
}

/// Whether a home is there and has nothing but what it was made with.
fn is_untouched(home: &Path, skeleton: &Path) -> bool {
    let Ok(entries) = fs::read_dir(home) else { return false };
    entries.flatten().all(|entry| {
        let (own, made) = (entry.path(), skeleton.join(entry.file_name()));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => made.is_dir() && is_untouched(&own, &made),
            Ok(kind) if kind.is_file() => {
                matches!((fs::read(&own), fs::read(&made)), (Ok(own), Ok(made)) if own == made)
            }
            Ok(_) => fs::read_link(&own).is_ok_and(|target| fs::read_link(&made).is_ok_and(|made| made == target)),
            Err(_) => false,
        }
    })
}

/// Ends what a user runs, if there is a `logind` that knows it.
fn end_sessions(name: &UserName, uid: u32) {
    let began = Instant::now();
    let _ = run("loginctl", &["terminate-user", name.as_str()]);
    while has_processes(uid) && began.elapsed() < ENDING {
        sleep(Duration::from_millis(50));
    }
}

/// Whether a process is this user's (`proc_pid_status(5)`, Uid: real, effective, saved). Who owns `/proc/PID` does not tell: that of a
/// session's sshd is root's.
fn has_processes(uid: u32) -> bool {
    let uid = uid.to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok()).any(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        line.is_some_and(|line| line.split_whitespace().any(|number| number == uid))
    })
}

/// Puts a user into a group.
///
/// # Errors
/// When `gpasswd` refuses.
pub fn join(user: &UserName, group: &UserName) -> Result<(), RunError> {
    if is_member(user, group) {
        return Ok(());
    }
    run("gpasswd", &["--add", user.as_str(), group.as_str()]).map(drop)
}

/// Takes a user out of a group.
///
/// # Errors
/// When `gpasswd` refuses.
pub fn part(user: &UserName, group: &UserName) -> Result<(), RunError> {
    if !is_member(user, group) {
        return Ok(());
    }
    run("gpasswd", &["--delete", user.as_str(), group.as_str()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_is_an_account() {
        let line = "anna:x:1001:1001:Anna Example,,,:/home/anna:/bin/bash";
        let account = parse(line, "anna").unwrap();
        assert_eq!((account.uid, &*account.description, &*account.shell), (1001, "Anna Example,,,", "/bin/bash"));
        assert!(!account.is_of_the_system() && parse(line, "ann").is_none());
        let system = parse("www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin", "www-data").unwrap();
        assert!(system.is_of_the_system());
        assert!(!parse("root:x:0:0:root:/root:/bin/bash", "root").unwrap().is_of_the_system());
    }

    #[test]
    fn a_home_is_untouched_until_somebody_writes_in_it() {
        let place = tempfile::tempdir().unwrap();
        let (home, skeleton) = (place.path().join("home"), place.path().join("skel"));
        for folder in [&home, &skeleton] {
            fs::create_dir_all(folder.join(".config")).unwrap();
            fs::write(folder.join(".profile"), "as made\n").unwrap();
        }
        assert!(is_untouched(&home, &skeleton));
        // A disk that is not there for the moment.
        assert!(!is_untouched(&place.path().join("nothing"), &skeleton));
        fs::write(home.join(".config/own"), "").unwrap();
        assert!(!is_untouched(&home, &skeleton));
        fs::remove_file(home.join(".config/own")).unwrap();
        fs::write(home.join(".profile"), "changed\n").unwrap();
        assert!(!is_untouched(&home, &skeleton));
    }
}
