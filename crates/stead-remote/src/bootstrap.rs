//! The few lines of POSIX shell that run on the server before the agent does.
//!
//! They tell who logged in and what the machine is, on one line; take in the agent's program if it
//! is missing; and become the agent. They need nothing but a shell, coreutils and gzip, which
//! every Debian has (`Essential: yes`), and `sudo` where the login is not root's.
//!
//! A password for `sudo` is asked of the operator's side by the line of facts, and comes on standard input. It is tried once by
//! itself, because a `sudo` that is not content reads on, and what follows is not for it; and then handed to the `sudo` that stays. `sudo -S` takes single
//! bytes up to the line's end (`getln` in its `tgetpass.c`), and with `-k` it reads the line whether or not it remembers the user.
//!
//! Promises that an agent is in its place completely or not at all, also after a power cut; and that a password is no argument,
//! no environment variable and no file of any program, and that only `sudo` and the login's own shell get to see it.

use crate::frame::Error;
use stead_model::hash::Hash;
use stead_model::layout;

/// Most bytes of a line that the bootstrap says.
const LINE_LIMIT: usize = 1024;
/// Lines of a login shell's own talk that are skipped before the first fact.
const NOISE_LIMIT: usize = 100;
const PREFIX: &str = "stead-bootstrap 1 ";

/// What the bootstrap found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who logged in.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// Whether that user is root or may become it.
    pub root: Root,
    /// The machine, as `uname -m` says.
    pub machine: String,
    /// Version number of systemd; 0: the machine was not booted by it.
    pub systemd: u32,
    /// Whether this agent is there already.
    pub have: bool,
}

/// Whether a login can do what root can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// It can: it is root's, or `sudo` let it without a question, or with the password that it got.
    Yes,
    /// `sudo` wants a password.
    WithPassword,
    /// There is no `sudo`.
    No,
}

/// Where things are on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder of agents.
    pub agents: String,
    /// The folder whose presence tells that systemd booted the machine (`sd_booted(3)`).
    pub booted: String,
}

impl Default for Place {
    fn default() -> Self {
        Self { agents: layout::AGENTS.to_owned(), booted: "/run/systemd/system".to_owned() }
    }
}

/// What is to be done about an agent that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// It runs.
    Use,
    /// It is altered: another copy takes its place.
    Replace,
}

/// Follows a password, so that a `sudo` that did not take it is found out before anything else is read.
pub const MARK: &str = "stead";

/// The command for `ssh` that becomes root and runs this script, with the login's name as `$1` and its number as `$2`. It is one line,
/// because some login shells take no others, and holds quotes of one kind around each script, because every login shell
/// knows those.
fn as_root(script: &str) -> String {
    // Runs $1; `p` as third word after a password. What `sudo` said of the first trial is told where no password comes.
    const LOGIN: &str = "unset p;u=$(id -un) i=$(id -u) a=0;\
        if [ \"$i\" = 0 ];then exec sh -c \"$1\" - \"$u\" 0;\
        elif e=$(sudo -n sh -c : 2>&1);then exec sudo -n sh -c \"$1\" - \"$u\" \"$i\";fi;\
        command -v sudo>/dev/null&&a=2;echo \"stead-bootstrap 1 $u $i $a - 0 0\";\
        if IFS= read -r p;then s=\"sudo -k -S -p\";\
        printf \"%s\\n\" \"$p\"|$s \"\" sh -c :&&exec $s \"\" sh -c \"$1\" - \"$u\" \"$i\" p;\
        else echo \"$e\">&2;fi;exit 1";
    let script = format!("if [ \"$3\" ];then read -r l;[ \"$l\" = {MARK} ]||exit 1;fi;{script}");
    debug_assert!(!script.contains(['\'', '\n']) && !LOGIN.contains(['\'', '\n']));
    format!("exec sh -c '{LOGIN}' - '{script}'")
}

/// The command for `ssh` that becomes root, says so on a line of facts, and runs what comes on standard input as a script.
pub fn shell() -> String {
    as_root("echo \"stead-bootstrap 1 $1 $2 1 - 0 0\";exec sh -s")
}

/// The command for `ssh` that becomes root, tells the facts, takes the agent in, and becomes it.
pub fn command(place: &Place, agent: &Hash, present: Present) -> String {
    let have = match present {
        Present::Use => "[ -x $d/stead ]&&h=1;",
        Present::Replace => "",
    };
    // `read` takes single bytes off a pipe, and nothing follows the file before the agent speaks, so
    // neither `read` nor `head` can take away what is not theirs.
    let agent_script = format!(
        "d={agents}/{agent} h=0 v=0;{have}\
         [ -d {booted} ]&&v=$(systemctl --version|(read -r a b c;echo ${{b%%[!0-9]*}}));\
         echo \"stead-bootstrap 1 $1 $2 1 $(uname -m) ${{v:-0}} $h\";\
         if [ $h = 0 ];then umask 022;t=$d/.$$;read -r n&&mkdir -p $d&&head -c $n|gzip -dc>$t&&chmod 755 $t&&sync $t&&mv -f $t $d/stead&&sync $d\
         ||{{ rm -f $t;exit 97;}};fi;\
         exec $d/stead agent",
        agents = place.agents,
        booted = place.booted,
    );
    as_root(&agent_script)
}

/// The exit status of a bootstrap that could not take the agent in.
pub const NOT_TAKEN_IN: i32 = 97;

/// Waits for the bootstrap's line. What a login shell says before it is skipped.
pub fn read_facts<R: std::io::Read>(reader: &mut crate::frame::Reader<R>) -> Result<Facts, ReadError> {
    let mut skipped = Vec::new();
    for _ in 0..NOISE_LIMIT {
        let line = match reader.line(LINE_LIMIT) {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(Error::TooLong { .. }) => return Err(ReadError::Noise { text: skipped.join("\n") }),
            Err(error) => return Err(ReadError::Line(error)),
        };
        if let Some(words) = line.strip_prefix(PREFIX) {
            return parse(words).ok_or(ReadError::Facts { line });
        }
        skipped.push(line);
    }
    Err(ReadError::Noise { text: skipped.join("\n") })
}

fn parse(words: &str) -> Option<Facts> {
    let words: Vec<&str> = words.trim_end().split(' ').collect();
    let [user, uid, root, machine, systemd, have] = words[..] else { return None };
    Some(Facts {
        user: user.to_owned(),
        uid: uid.parse().ok()?,
        root: match root {
            "1" => Root::Yes,
            "2" => Root::WithPassword,
            _ => Root::No,
        },
        machine: machine.to_owned(),
        systemd: systemd.parse().ok()?,
        have: have == "1",
    })
}

/// There was no line of facts.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The line ended first.
    #[error(transparent)]
    Line(Error),
    /// The login shell talks without end.
    #[error("the login shell says other things: {text}")]
    Noise {
        /// What it says.
        text: String,
    },
    /// The line is not one of facts.
    #[error("`{line}` does not tell what the server is")]
    Facts {
        /// The line.
        line: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Reader;
    use proptest::prelude::*;

    fn facts(text: &str) -> Result<Facts, ReadError> {
        read_facts(&mut Reader::new(text.as_bytes()))
    }

    #[test]
    fn facts_are_read_after_whatever_the_login_shell_says() {
        let found = facts("Welcome!\n\nstead-bootstrap 1 deploy 1000 1 x86_64 252 1\n\x00\x00").unwrap();
        assert_eq!(
            found,
            Facts {
                user: "deploy".into(),
                uid: 1000,
                root: Root::Yes,
                machine: "x86_64".into(),
                systemd: 252,
                have: true
            }
        );
    }

    #[test]
    fn a_login_without_facts_is_an_error() {
        assert!(matches!(facts(""), Err(ReadError::Line(Error::Closed))));
        assert!(matches!(facts(&"motd\n".repeat(1000)), Err(ReadError::Noise { .. })));
        assert!(matches!(facts(&"x".repeat(5000)), Err(ReadError::Noise { .. })));
        assert!(matches!(facts("stead-bootstrap 1 root\n"), Err(ReadError::Facts { .. })));
    }

    #[test]
    fn the_command_is_small_because_it_is_sent_every_time() {
        let command = command(&Place::default(), &Hash::of(b""), Present::Use);
        assert!(command.len() < 1_300, "{}: {command}", command.len());
        assert!(!command.contains('\n'));
    }

    proptest! {
        #[test]
        fn arbitrary_talk_never_panics(text in "[ -~\n]{0,300}") {
            let _ = facts(&text);
            let _ = facts(&format!("{PREFIX}{text}"));
        }
    }
}
