//! Operators who do not log in as root: `sudo` lets them, without a question or with the password that they type.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::listing::Listing;
use stead_e2e::terminal::Terminal;
use stead_e2e::{Outcome, Small, Stage};

const USER: &str = "mara";
const AS_USER: &str = "mara@lab-lab";
/// What shells, formats and trimming would spoil.
const PASSWORD: &str = r#" it's "100%s" of $HOME\n `id` * "#;
const QUESTION: &str = "password of mara on lab-lab, for sudo: ";

/// A lab with a user who may use `sudo` by this rule of `sudoers(5)`.
fn stage(small: &Small, machine: Machine, rule: &str) -> Stage {
    let stage = Stage::with_small(small, machine);
    stage.lab.run(&format!(
        "useradd --create-home {USER} && cp -r /root/.ssh /home/{USER}/ && chown -R {USER}: /home/{USER}/.ssh &&
         echo '{USER} ALL=(ALL) {rule}' > /etc/sudoers.d/{USER} && chmod 440 /etc/sudoers.d/{USER}"
    ));
    tell(stage.lab.itself().command(&["chpasswd"]).expect("the lab runs"), &format!("{USER}:{PASSWORD}\n"));
    stage
}

fn is_there(stage: &Stage) -> bool {
    stage.lab.try_run("test -e /var/lib/stead || test -e /run/stead").status == 0
}

#[test]
fn a_user_whose_sudo_asks_nothing_adopts_deploys_goes_back_and_leaves() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = stage(&small, Machine::bookworm(), "NOPASSWD: ALL");
    let before = Listing::of(&stage.lab);
    stage.stead_to(AS_USER, &["adopt"]).well().tells(AS_USER);
    let first = stage.stead_to(AS_USER, &["up"]).well().text("generation");
    small.page = "page two\n".into();
    small.write(&stage.project);
    stage.stead_to(AS_USER, &["up"]).well();
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
    assert_eq!(stage.stead_to(AS_USER, &["rollback"]).well().text("generation"), first);
    assert_eq!(stage.get("site.small", "/").body, "page one\n");
    assert_eq!(stage.lab.run(&format!("find / -xdev -user {USER} ! -path '/home/{USER}*'")), "");

    // What it asks from now on, somebody can answer.
    let rule = format!("/etc/sudoers.d/{USER}");
    stage.lab.run(&format!("cp {rule} /run/rule && sed -i 's/NOPASSWD: //' {rule}"));
    stage.stead_to(AS_USER, &["status"]).exits(3).tells("sudo wants a password");
    typed(&stage, PASSWORD, &["status"]).well();
    // That it has greeted its user is sudo's own memory.
    stage.lab.run(&format!("cat /run/rule > {rule} && rm -f /var/lib/sudo/lectured/{USER}"));

    stage.stead_to(AS_USER, &["leave", "--yes"]).well();
    assert!(!is_there(&stage));
    assert_eq!(before.changed(&Listing::of(&stage.lab)), BTreeSet::new());
}

/// Looks at the words and variables of every process again and again. A lab in a container has its processes among this machine's.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Vec<String>)>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut seen, mut found) = (0, Vec::new());
            let has = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
            while !stopped.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    for file in ["cmdline", "environ"] {
                        let text = fs::read(process.path().join(file)).unwrap_or_default();
                        seen += u32::from(text.starts_with(b"sudo\0-k\0-S\0"));
                        if has(&text, PASSWORD.trim()) {
                            found.push(format!("{file} of {}", String::from_utf8_lossy(&text).replace('\0', " ")));
                        }
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
            (seen, found)
        });
        Self { stop, thread }
    }

    #[track_caller]
    fn saw_sudo_and_no_password(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (seen, found) = self.thread.join().expect("the watch ends well");
        assert!(seen > 0, "no sudo that reads a password was seen");
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Runs it at a terminal, where the question is answered, and has to come once.
#[track_caller]
fn typed(stage: &Stage, password: &str, words: &[&str]) -> Outcome {
    let mut terminal = Terminal::start(&stage.command_to(AS_USER, words));
    terminal.answer(QUESTION, password);
    let outcome = terminal.end();
    assert_eq!(outcome.stdout.matches("password of").count(), 1, "{outcome}");
    assert!(!outcome.stdout.contains(password.trim()), "{outcome}");
    outcome
}

/// Who changes their mind at the question has their terminal back.
#[track_caller]
fn interrupted(stage: &Stage) {
    let asks = stage.command_to(AS_USER, &["adopt"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\"; echo ended with $?; stty -a", "sh"]).arg(asks.get_program()).args(asks.get_args());
    shell.envs(asks.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = Terminal::start(&shell);
    terminal.answer(QUESTION, "\u{3}");
    let outcome = terminal.end();
    for words in ["error: interrupted", "nothing was changed", "ended with 3", "\nisig icanon ", " echo "] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome}");
    }
}

/// In files of either side (the lab's own are below its folder), or in the lab's journal.
#[track_caller]
fn is_nowhere(stage: &Stage) {
    let search = |binary: &str| {
        let mut grep = Command::new("grep");
        grep.args([binary, "--fixed-strings", "-e", PASSWORD.trim()]);
        grep
    };
    let found = search("-rsl").arg(stage.lab.folder()).output().expect("grep can be run");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let journal = stage.lab.run("journalctl --no-pager -o verbose --all");
    assert!(journal.contains("sudo") && !journal.contains(PASSWORD.trim()));
}

/// The user has told `sudo` the password a moment ago.
#[track_caller]
fn remember(stage: &Stage) {
    let lab = stage.lab.itself();
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(lab.ssh_config()).args(["-l", USER, &lab.ssh_host(), "sudo -S -v"]);
    tell(ssh, &format!("{PASSWORD}\n"));
}

/// Runs it to its end with this input.
#[track_caller]
fn tell(mut command: Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program is there");
    let written = child.stdin.take().expect("it was asked for").write_all(input.as_bytes());
    assert!(written.is_ok() && child.wait().is_ok_and(|status| status.success()), "{command:?}");
}

#[test]
fn a_password_for_sudo_is_asked_once_at_a_terminal_and_is_found_nowhere() {
    let mut small = Small { has_app: false, ..Small::default() };
    let stage = stage(&small, Machine::trixie(), "ALL");
    let refused = stage.stead_to(AS_USER, &["adopt"]).exits(3);
    let refused = refused.tells("mara is not root on lab-lab, and sudo wants a password: sudo: a password is required");
    refused.tells("run it at a terminal").tells("NOPASSWD").tells("nothing was changed on any server");

    let failures = "journalctl --no-pager _COMM=sudo | grep -c 'incorrect password attempt' || true";
    let wrong = typed(&stage, "another", &["adopt"]).exits(3);
    for words in ["sudo on lab-lab does not let mara become root by this password", "1 incorrect password attempt"] {
        assert!(wrong.stdout.contains(words), "{words}: {wrong}");
    }
    assert_eq!(stage.lab.run(failures), "1", "a typing error may not lock the user out");
    interrupted(&stage);
    assert!(!is_there(&stage));

    // Several logins each, the confirming one of a deploy among them.
    let watch = Watch::start();
    typed(&stage, PASSWORD, &["adopt"]).well();
    typed(&stage, PASSWORD, &["up"]).well();
    small.page = "page two\n".into();
    small.write(&stage.project);
    typed(&stage, PASSWORD, &["up"]).well();
    watch.saw_sudo_and_no_password();
    assert_eq!(stage.get("site.small", "/").body, "page two\n");
    let wrong = typed(&stage, "another", &["up"]).exits(3);
    assert!(wrong.stdout.contains("1 incorrect password attempt"), "{wrong}");

    // That it asks nothing for another program is no leave to become root.
    stage.lab.run(&format!(
        "echo 'Defaults timestamp_type=global' > /etc/sudoers.d/remember &&
         echo '{USER} ALL=(ALL) NOPASSWD: /usr/bin/true' >> /etc/sudoers.d/{USER}"
    ));
    stage.stead_to(AS_USER, &["status"]).exits(3).tells("sudo wants a password");
    // One that remembers its user asks nothing, as long as it does.
    remember(&stage);
    stage.stead_to(AS_USER, &["status"]).well();
    stage.lab.run("rm /run/sudo/ts/*");
    stage.stead_to(AS_USER, &["status"]).exits(3).tells("sudo wants a password");

    typed(&stage, PASSWORD, &["leave", "--yes"]).well();
    assert!(!is_there(&stage));
    is_nowhere(&stage);
}
