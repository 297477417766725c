//! What `sshd` is told: one file of its own that the machine's configuration includes first, and files of keys.
//!
//! Promises that nothing comes into force which `sshd` itself has not tested, and that it is told what the effect will be
//! before a file of the machine changes. Regular files only: sshd never depends on where a generation's pointer leads.

use crate::run::{RunError, run};
use crate::settings::{self, at};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use stead_model::layout;
use stead_model::name::{SshKeyword, UserName};

/// The file that is read first: of two values, the first holds (`sshd_config(5)`).
pub const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-stead.conf";
const CONFIGURATION: &str = "/etc/ssh/sshd_config";
const FOLDER: &str = "/etc/ssh/sshd_config.d";
/// Where the keys of people are, a file each.
const KEYS: &str = "/etc/ssh/authorized_keys.d";
/// The keyword of where they are, as `sshd -T` prints it.
const KEYS_FILE: &str = "authorizedkeysfile";
/// What `sshd -T` does not print though sshd knows it: Debian's own.
const UNTOLD: [&str; 1] = ["debianbanner"];
const PROGRAM: &str = "/usr/sbin/sshd";
/// Where Debian's sshd wants a folder, which is there only while it runs by a service of its own.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// Something is wrong with what sshd would be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it cannot be read or written.
    #[error(transparent)]
    File(#[from] settings::Error),
    /// sshd refuses a setting.
    #[error("sshd refuses it: {words}")]
    Refused {
        /// The setting that it means, where it says so.
        keyword: Option<SshKeyword>,
        /// What it says.
        words: String,
    },
    /// A setting would have no effect.
    #[error(
        "{CONFIGURATION} does not include {FOLDER}/*.conf, so that it would have no effect; add that line at its beginning"
    )]
    NotIncluded,
    /// A setting would have another value.
    #[error(
        "the server's own configuration sets it before ({CONFIGURATION}, or a file of {FOLDER}), and the first value holds; take it out there"
    )]
    Overruled {
        /// The setting; `None`: where keys are looked for.
        keyword: Option<SshKeyword>,
    },
    /// A setting would not hold for everybody.
    #[error(
        "a `Match` of the server's own configuration sets it too, for some ({CONFIGURATION}, or a file of {FOLDER}); take it out there"
    )]
    Matched {
        /// The setting.
        keyword: SshKeyword,
    },
    /// Keys would not be looked for.
    #[error("for this user, the server's own configuration looks for keys elsewhere (`AuthorizedKeysFile`)")]
    KeysElsewhere {
        /// The user.
        user: UserName,
    },
    /// sshd tells of no such setting.
    #[error("sshd has it by another name, or does nothing with it any more: see sshd_config(5) of the server")]
    WithoutEffect {
        /// The setting.
        keyword: SshKeyword,
    },
    /// systemd cannot make it read its configuration again.
    #[error(transparent)]
    Reload(#[from] RunError),
}

/// What sshd is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Arguments by keyword.
    pub settings: BTreeMap<SshKeyword, String>,
    /// People whose keys are in the folder for them.
    pub keys_of: BTreeSet<UserName>,
}

/// The file of a user's keys.
pub fn keys_file(user: &UserName) -> PathBuf {
    Path::new(KEYS).join(user.as_str())
}

/// Makes the folder for files of keys.
///
/// # Errors
/// When it cannot be made.
pub fn make_keys_folder() -> Result<(), Error> {
    Ok(fs::create_dir_all(KEYS).map_err(at(Path::new(KEYS)))?)
}

/// Removes the folder for files of keys, if there is none.
pub fn drop_keys_folder() {
    let _ = fs::remove_dir(KEYS);
}

/// The text of the file that is read first.
///
/// # Errors
/// When sshd cannot tell where it looks for keys by the machine's own configuration.
pub fn text(told: &Told) -> Result<String, Error> {
    let mut text = "# Made by Stead: services.openssh.settings, users.users.\n".to_owned();
    if !told.keys_of.is_empty() {
        let before = Trial::new(None)?.effect()?;
        let places = before.get(KEYS_FILE).and_then(|values| values.first()).map_or("", String::as_str);
        text.push_str(&key_files(places));
    }
    for (keyword, arguments) in &told.settings {
        text.push_str(&format!("{keyword} {arguments}\n"));
    }
    Ok(text)
}

/// The line that says where keys are: where they were looked for before, and in the folder for them.
fn key_files(before: &str) -> String {
    let own = format!("{KEYS}/%u");
    let others = before.split_whitespace().filter(|place| *place != "none" && *place != own);
    let all: Vec<&str> = others.chain([own.as_str()]).collect();
    format!("AuthorizedKeysFile {}\n", all.join(" "))
}

/// Asks sshd about this text, without a change to any of its files.
///
/// # Errors
/// When sshd refuses it, or when it would not have the effect that it says.
pub fn try_out(text: &str, told: &Told) -> Result<(), Error> {
    let trial = Trial::new(Some(text))?;
    let refused = |error: RunError| refusal(&error.words(), text);
    let effect = trial.ask(&trial.configuration()).map_err(refused)?;
    if !trial.is_included {
        return Err(Error::NotIncluded);
    }
    let without = Trial::new(None)?;
    let wanted = without.ask(&without.after(text)?).map_err(refused)?;
    let (effect, wanted) = (effects(&effect), effects(&wanted));
    for keyword in told.settings.keys() {
        let lower = keyword.as_str().to_ascii_lowercase();
        if effect.get(&lower) != wanted.get(&lower) {
            return Err(Error::Overruled { keyword: Some(keyword.clone()) });
        }
        if !wanted.contains_key(&lower) && !UNTOLD.contains(&lower.as_str()) {
            return Err(Error::WithoutEffect { keyword: keyword.clone() });
        }
        if trial.matched.contains(&lower) {
            return Err(Error::Matched { keyword: keyword.clone() });
        }
    }
    if !told.keys_of.is_empty() && effect.get(KEYS_FILE) != wanted.get(KEYS_FILE) {
        return Err(Error::Overruled { keyword: None });
    }
    for user in told.keys_of.iter().filter(|_| trial.matched.contains(KEYS_FILE)) {
        let effect = effects(&trial.ask_for(user).map_err(refused)?);
        let places = effect.get(KEYS_FILE).and_then(|values| values.first());
        if !places.is_some_and(|places| places.contains(KEYS)) {
            return Err(Error::KeysElsewhere { user: user.clone() });
        }
    }
    Ok(())
}

/// Tests the machine's configuration as it is now.
///
/// # Errors
/// What sshd says against it.
pub fn test() -> Result<(), Error> {
    let _ = fs::create_dir(PRIVILEGE_SEPARATION);
    let text = fs::read_to_string(DROP_IN).unwrap_or_default();
    run(PROGRAM, &["-t"]).map(drop).map_err(|error| refusal(&error.words(), &text))
}

/// Notes that what is about to be written has to be read by a running sshd.
///
/// # Errors
/// When the note cannot be made.
pub fn will_change() -> Result<(), Error> {
    Ok(fs::write(layout::SSHD_UNREAD, "").map_err(at(Path::new(layout::SSHD_UNREAD)))?)
}

/// Makes a running sshd read its configuration again, if it has not since [`will_change`]. Sessions go on; a sshd that starts later
/// reads it anyway.
///
/// # Errors
/// When systemd cannot; it is tried again the next time.
pub fn take_up() -> Result<(), Error> {
    if !Path::new(layout::SSHD_UNREAD).exists() {
        return Ok(());
    }
    if run("systemctl", &["is-active", "--quiet", "ssh.service"]).is_ok() {
        run("systemctl", &["reload", "ssh.service"])?;
    }
    Ok(fs::remove_file(layout::SSHD_UNREAD).map_err(at(Path::new(layout::SSHD_UNREAD)))?)
}

/// A copy of the machine's configuration, in a folder of its own.
struct Trial {
    folder: tempfile::TempDir,
    text: String,
    is_included: bool,
    /// Keywords inside of a `Match` of the machine's own, in lower case.
    matched: BTreeSet<String>,
}

impl Trial {
    /// With this text in place of what is told now; `None`: with nothing of it.
    fn new(text: Option<&str>) -> Result<Self, Error> {
        let folder =
            tempfile::Builder::new().prefix("sshd.").tempdir_in(layout::RUN).map_err(at(Path::new(layout::RUN)))?;
        let included = folder.path().join("d");
        fs::create_dir(&included).map_err(at(&included))?;
        let mut matched = BTreeSet::new();
        for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_file() && path != Path::new(DROP_IN) {
                matched.extend(in_match(&fs::read_to_string(&path).unwrap_or_default()));
                fs::copy(&path, included.join(entry.file_name())).map_err(at(&path))?;
            }
        }
        if let (Some(text), Some(name)) = (text, Path::new(DROP_IN).file_name()) {
            let path = included.join(name);
            fs::write(&path, text).map_err(at(&path))?;
        }
        let own = fs::read_to_string(CONFIGURATION).map_err(at(Path::new(CONFIGURATION)))?;
        matched.extend(in_match(&own));
        let (main, is_included) = redirected(&own, &included.display().to_string());
        let path = folder.path().join("sshd_config");
        fs::write(&path, main).map_err(at(&path))?;
        Ok(Self { folder, text: text.unwrap_or_default().to_owned(), is_included, matched })
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("sshd_config")
    }

    /// A configuration that begins with this text: what it says holds.
    fn after(&self, text: &str) -> Result<PathBuf, Error> {
        let path = self.folder.path().join("first");
        let main = fs::read_to_string(self.configuration()).map_err(at(&path))?;
        fs::write(&path, format!("{text}{main}")).map_err(at(&path))?;
        Ok(path)
    }

    fn ask(&self, configuration: &Path) -> Result<String, RunError> {
        let _ = fs::create_dir(PRIVILEGE_SEPARATION);
        run(PROGRAM, &["-T", "-f", &configuration.display().to_string()])
    }

    /// For a login of this user.
    fn ask_for(&self, user: &UserName) -> Result<String, RunError> {
        let login = format!("user={user},host=localhost,addr=127.0.0.1");
        run(PROGRAM, &["-T", "-C", &login, "-f", &self.configuration().display().to_string()])
    }

    fn effect(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        self.ask(&self.configuration()).map(|text| effects(&text)).map_err(|error| refusal(&error.words(), &self.text))
    }
}

/// The configuration with the folder that it includes in another place, and whether it includes it for everybody.
fn redirected(text: &str, folder: &str) -> (String, bool) {
    let (mut out, mut is_included, mut is_in_match) = (String::new(), false, false);
    for line in text.lines() {
        let (keyword, rest) =
            line.trim_start().split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((line, ""));
        is_in_match |= keyword.eq_ignore_ascii_case("match");
        if keyword.eq_ignore_ascii_case("include") {
            let words: Vec<String> = rest
                .split_whitespace()
                .map(|word| {
                    // Without a slash at its beginning, it is below /etc/ssh (`sshd_config(5)`).
                    let pattern = word.trim_matches('"');
                    let below = pattern.strip_prefix("/etc/ssh/").unwrap_or(pattern).strip_prefix("sshd_config.d/");
                    match below {
                        Some(below) => {
                            is_included |= below == "*.conf" && !is_in_match;
                            format!("{folder}/{below}")
                        }
                        None => word.to_owned(),
                    }
                })
                .collect();
            out.push_str(&format!("Include {}\n", words.join(" ")));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    (out, is_included)
}

/// The keywords inside of a `Match`, in lower case.
fn in_match(text: &str) -> BTreeSet<String> {
    let keyword = |line: &str| line.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or("").to_lowercase();
    let keywords = text.lines().map(|line| keyword(line.trim()));
    keywords.skip_while(|keyword| keyword != "match").filter(|keyword| keyword != "match").collect()
}

/// The values of every setting, as `sshd -T` prints them, one a line.
fn effects(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        all.entry(keyword.to_owned()).or_default().push(value.trim().to_owned());
    }
    all
}

/// What sshd says, with the setting of this text that it means.
fn refusal(words: &str, text: &str) -> Error {
    let name = Path::new(DROP_IN).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_about_it = |line: &&str| line.contains(&name);
    let said = words.lines().find(is_about_it).or_else(|| words.lines().find(|line| line.contains(CONFIGURATION)));
    let said = said.unwrap_or(words);
    // `FILE: line 3: Bad configuration option: X`, `FILE line 3: unsupported option "x".` (OpenSSH, servconf.c).
    let number = said.split_once("line ").and_then(|(_, rest)| {
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<usize>().ok())
    });
    let line = number.filter(|_| said.contains(&name)).and_then(|number| text.lines().nth(number.checked_sub(1)?));
    let keyword = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
    let said = said.split_once(&name).map_or(said, |(_, rest)| rest.trim_start_matches([':', ' ']));
    Error::Refused { keyword, words: said.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_read_from_another_place_and_nothing_else_changes() {
        let text = "# ours\nInclude /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\ninclude other.conf\n";
        let (main, is_included) = redirected(text, "/run/x");
        assert_eq!(main, "# ours\nInclude /run/x/*.conf\nPermitRootLogin no\nInclude other.conf\n");
        assert!(is_included);
        assert!(redirected("Include sshd_config.d/*.conf\n", "/run/x").1);
        assert!(!redirected("Port 22\n#Include /etc/ssh/sshd_config.d/*.conf\n", "/run/x").1);
        assert!(!redirected("Match User x\n  Include /etc/ssh/sshd_config.d/*.conf\n", "/run/x").1);
    }

    #[test]
    fn what_holds_for_some_is_known() {
        let text = "PermitRootLogin no\nMatch User x\n  PasswordAuthentication yes\nmatch all\nX11Forwarding=no\n";
        assert_eq!(in_match(text), ["passwordauthentication".to_owned(), "x11forwarding".to_owned()].into());
    }

    #[test]
    fn where_keys_were_looked_for_before_they_are_still() {
        let own = "/etc/ssh/authorized_keys.d/%u";
        for (before, wanted) in [
            (".ssh/authorized_keys .ssh/authorized_keys2", format!(".ssh/authorized_keys .ssh/authorized_keys2 {own}")),
            ("none", own.to_owned()),
            (own, own.to_owned()),
        ] {
            assert_eq!(key_files(before), format!("AuthorizedKeysFile {wanted}\n"));
        }
    }

    #[test]
    fn what_sshd_says_is_told_of_the_setting_that_it_means() {
        let text = "# Made by Stead\nPasswordAuthentication maybe\nPermitFun yes\n";
        let told = |words: &str| match refusal(words, text) {
            Error::Refused { keyword, words } => (keyword.map(|keyword| keyword.to_string()), words),
            other => panic!("{other}"),
        };
        let folder = "/run/stead/sshd.abc/d/00-stead.conf";
        assert_eq!(
            told(&format!(
                "exit status: 255\n{folder}: line 3: Bad configuration option: PermitFun\n{folder}: terminating, 1 bad"
            )),
            (Some("PermitFun".to_owned()), "line 3: Bad configuration option: PermitFun".to_owned())
        );
        let (keyword, words) = told(&format!("{folder} line 2: unsupported option \"maybe\"."));
        assert_eq!(
            (keyword.as_deref(), &*words),
            (Some("PasswordAuthentication"), "line 2: unsupported option \"maybe\".")
        );
        assert_eq!(told("something else"), (None, "something else".to_owned()));
    }
}
