//! `stead secret`, as an operator uses it; with the real `age` beside it, and keys of the real `ssh-keygen`.
//!
//! Promises of each: all or nothing, a value in no error and no list of processes, files that any age program reads.

use crate::operator::Operator;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const VALUE: &str = "correct horse \"battery\" staple";

fn keygen(file: &Path) -> String {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "me@laptop", "-f"]).arg(file).status();
    assert!(made.unwrap().success());
    fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

/// `age`, of the distribution.
fn age(words: &[&str], file: &Path, input: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Write;
    let mut child = Command::new("age")
        .args(words)
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("age is installed: `cargo xtask setup` does it");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// An operator `nick` with an SSH key in its usual place, and a server that is known.
struct Stage {
    operator: Operator,
    home: PathBuf,
    server_key: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let mut operator = Operator::with_module("{}\n");
        operator.set("USER", "nick");
        let home = operator.root().parent().unwrap().to_owned();
        keygen(&home.join(".ssh/id_ed25519"));
        Self { operator, server_key: home.join("host/key"), home }
    }

    /// With a server, whose host key is in `secrets/readers.toml`.
    fn with_server() -> Self {
        let stage = Self::new();
        let server = keygen(&stage.server_key);
        let own = fs::read_to_string(stage.home.join(".ssh/id_ed25519.pub")).unwrap();
        let text = format!("[operators]\nnick = \"{}\"\n[servers]\nmain = \"{server}\"\n[secrets]\n", own.trim());
        stage.operator.put("secrets/readers.toml", &text);
        stage
    }

    fn set(&self, words: &[&str], value: &[u8]) {
        let words = [&["secret", "set"], words].concat();
        let ended = self.operator.stead_with(&words, value);
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        assert!(!format!("{}{}", ended.out, ended.err).contains("battery"));
    }

    fn show(&self, name: &str) -> String {
        let ended = self.operator.stead(&["secret", "show", name]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        ended.out
    }

    fn file(&self, name: &str) -> PathBuf {
        self.operator.root().join(format!("secrets/{name}.age"))
    }

    fn own_key(&self) -> String {
        self.home.join(".ssh/id_ed25519").display().to_string()
    }

    fn opened_by_age(&self, key: &Path, name: &str) -> Result<Vec<u8>, String> {
        age(&["--decrypt", "--identity", key.to_str().unwrap()], &self.file(name), b"")
    }
}

#[test]
fn the_first_secret_makes_its_operator_known() {
    let stage = Stage::new();
    let ended = stage.operator.stead_with(&["secret", "set", "token"], format!("{VALUE}\n").as_bytes());
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("you are the operator `nick`"), "{}", ended.err);
    assert!(ended.err.contains("stead adopt"), "{}", ended.err);
    assert_eq!(ended.out, "made secrets/token.age, for nick\n");
    assert_eq!(stage.show("token"), VALUE);
    let readers = stage.operator.read("secrets/readers.toml");
    assert!(readers.contains("token = [\"operators\", \"servers\"]"), "{readers}");
    let left: Vec<_> = fs::read_dir(stage.operator.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with(".secrets")), "{left:?}");
}

#[test]
fn files_are_age_s_both_ways() {
    let stage = Stage::with_server();
    stage.set(&["token"], VALUE.as_bytes());
    for key in [Path::new(&stage.own_key()), &stage.server_key] {
        assert_eq!(stage.opened_by_age(key, "token").unwrap(), VALUE.as_bytes());
    }
    // Made by age itself, for the same two.
    let recipients = stage.home.join("recipients");
    let keys = [stage.home.join(".ssh/id_ed25519.pub"), stage.server_key.with_extension("pub")];
    let text: String = keys.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    fs::write(&recipients, text).unwrap();
    for (name, form) in [("armoured", &["--armor"][..]), ("binary", &[])] {
        let words = [form, &["--recipients-file", recipients.to_str().unwrap(), "--output"]].concat();
        age(&words, &stage.file(name), VALUE.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        stage.operator.replace(
            "secrets/readers.toml",
            "[secrets]\n",
            &format!("[secrets]\n{name} = [\"operators\", \"servers\"]\n"),
        );
        assert_eq!(stage.show(name), VALUE);
    }
    let list = stage.operator.stead(&["secret", "list"]).out;
    assert!(list.contains("binary    main, nick  encrypted by another program"), "{list}");
    assert!(list.contains("token     main, nick  good"), "{list}");
    // Encrypted anew, age reads them still; and then they say for whom they are.
    assert_eq!(stage.operator.stead(&["secret", "rekey"]).out, "encrypted anew: armoured, binary\n");
    assert_eq!(stage.opened_by_age(&stage.server_key, "binary").unwrap(), VALUE.as_bytes());
    assert!(!stage.operator.stead(&["secret", "list"]).out.contains("another program"));
}

#[test]
fn an_operator_with_an_age_key_reads_too() {
    let stage = Stage::with_server();
    let made = Command::new("age-keygen").output().unwrap();
    let identity = stage.home.join("identity.txt");
    fs::write(&identity, &made.stdout).unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    stage.operator.replace("secrets/readers.toml", "[servers]", &format!("ana = \"{public}\"\n[servers]"));
    stage.set(&["token"], VALUE.as_bytes());
    let ended = stage.operator.stead(&["secret", "show", "token", "-i", identity.to_str().unwrap()]);
    assert_eq!(ended.out, VALUE, "{}", ended.err);
}

#[test]
fn who_left_reads_nothing_that_is_encrypted_anew_and_values_stay() {
    let stage = Stage::with_server();
    let leaver = stage.home.join("leaver/key");
    let key = keygen(&leaver);
    stage.operator.replace("secrets/readers.toml", "[servers]", &format!("leo = \"{key}\"\n[servers]"));
    for name in ["a", "b"] {
        stage.set(&[name], VALUE.as_bytes());
        assert!(stage.opened_by_age(&leaver, name).is_ok());
    }
    stage.operator.replace("secrets/readers.toml", &format!("leo = \"{key}\"\n"), "");
    let list = stage.operator.stead(&["secret", "list"]).out;
    assert_eq!(list.matches("stead secret rekey").count(), 2, "{list}");
    let version = |name: &str| {
        let text = fs::read(stage.file(name)).unwrap();
        stead_secrets::sealed::head(&text).unwrap().version
    };
    let before = version("a");
    let ended = stage.operator.stead(&["secret", "rekey"]);
    assert_eq!(ended.out, "encrypted anew: a, b\n", "{}", ended.err);
    assert!(ended.err.contains("may still know it"), "{}", ended.err);
    for name in ["a", "b"] {
        assert!(stage.opened_by_age(&leaver, name).unwrap_err().contains("no identity matched"));
        assert_eq!(stage.show(name), VALUE);
    }
    assert_eq!(version("a"), before, "the same value");
    stage.set(&["a"], VALUE.as_bytes());
    assert_ne!(version("a"), before, "set anew");
    let again = stage.operator.stead(&["secret", "rekey"]);
    assert_eq!(again.out, "every secret is encrypted for exactly its readers\n");
}

#[test]
fn a_rekey_that_cannot_open_one_changes_none() {
    let stage = Stage::with_server();
    stage.set(&["a"], VALUE.as_bytes());
    // For the server alone: the operator cannot open it.
    stage.set(&["b", "--for", "main"], VALUE.as_bytes());
    let other = keygen(&stage.home.join("other/key"));
    stage.operator.replace("secrets/readers.toml", "[servers]", &format!("ana = \"{other}\"\n[servers]"));
    stage.operator.replace("secrets/readers.toml", "b = [\"main\"]", "b = [\"operators\", \"main\"]");
    let said = stage.operator.refused(1, &["secret", "rekey"]);
    assert!(
        said.contains("secrets/b.age cannot be opened") && said.contains("not encrypted for any of these keys"),
        "{said}"
    );
}

#[test]
fn an_editor_works_in_memory_and_what_it_leaves_goes() {
    let mut stage = Stage::with_server();
    stage.set(&["token"], VALUE.as_bytes());
    let seen = stage.home.join("seen");
    let script = stage.home.join("editor");
    let text = format!(
        "#!/bin/sh\necho \"$1\" > {0}\ncp \"$1\" \"$1~\"\nstat -c %a \"$1\" >> {0}\necho changed > \"$1\"\n",
        seen.display()
    );
    fs::write(&script, text).unwrap();
    stage.operator.set("EDITOR", &format!("sh {}", script.display()));
    let ended = stage.operator.stead(&["secret", "edit", "token"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(stage.show("token"), "changed");
    let seen = fs::read_to_string(seen).unwrap();
    let (file, mode) = seen.trim().split_once('\n').unwrap();
    assert!(file.starts_with("/dev/shm/"), "{file}");
    assert_eq!(mode, "600");
    assert!(!Path::new(file).parent().unwrap().exists(), "the folder went, with what the editor left in it");
    // An editor that changes nothing, and one that fails.
    stage.operator.set("EDITOR", "true");
    assert!(stage.operator.stead(&["secret", "edit", "token"]).out.contains("is unchanged"));
    stage.operator.set("EDITOR", "false");
    assert!(stage.operator.refused(1, &["secret", "edit", "token"]).contains("`false` ended with"));
}

#[test]
fn a_key_with_a_passphrase_and_nobody_to_ask_is_told_as_that() {
    let stage = Stage::with_server();
    stage.set(&["token"], VALUE.as_bytes());
    let key = stage.home.join(".ssh/id_ed25519");
    let changed = Command::new("ssh-keygen").args(["-q", "-p", "-N", "a passphrase", "-f"]).arg(&key).status();
    assert!(changed.unwrap().success());
    let said = stage.operator.refused(1, &["secret", "show", "token"]);
    assert!(said.contains("the passphrase of the key is missing or wrong"), "{said}");
}

#[test]
fn secrets_come_from_elsewhere_all_or_none() {
    let stage = Stage::with_server();
    stage.operator.put(".env", "# mine\nexport API_TOKEN=abc\nNAME='two words'\n");
    assert_eq!(stage.operator.stead(&["secret", "import", "--dotenv", ".env"]).out, "taken over: API_TOKEN, NAME\n");
    assert_eq!(stage.show("NAME"), "two words");
    let old = stage.operator.root().join("old.age");
    let key = fs::read_to_string(stage.home.join(".ssh/id_ed25519.pub")).unwrap();
    age(&["--recipient", key.trim(), "--output"], &old, VALUE.as_bytes()).unwrap();
    assert_eq!(stage.operator.stead(&["secret", "import", "old.age"]).out, "taken over: old\n");
    assert_eq!(stage.show("old"), VALUE);
    stage.operator.put("more.env", "FRESH=1\nNAME=2\n");
    let said = stage.operator.refused(1, &["secret", "import", "--dotenv", "more.env"]);
    assert!(said.contains("there is a secret `NAME` already"), "{said}");
}

/// A test for a request that is refused, and changes nothing; the words are a snapshot.
macro_rules! refused {
    ($($name:ident: $code:literal, $prepare:expr, $words:expr;)*) => {
        $(#[test]
        fn $name() {
            let stage = Stage::with_server();
            stage.set(&["token"], VALUE.as_bytes());
            let prepare: fn(&Stage) = $prepare;
            prepare(&stage);
            let said = stage.operator.refused($code, &$words);
            assert!(!said.contains("battery"), "{said}");
            insta::assert_snapshot!(said);
        })*
    };
}

fn uses(stage: &Stage, line: &str) {
    let text = format!("fun {{ inputs, secret, .. }} => {{\n  {line}\n}}\n");
    stage.operator.put("more.ncl", &text);
}

const SERVICE: &str = "systemd.services.job = { serviceConfig.ExecStart = \"/bin/true\",";

refused! {
    a_secret_that_is_none: 1, |_| {}, ["secret", "show", "tokn"];
    a_name_that_is_a_path: 1, |_| {}, ["secret", "show", "../token"];
    an_empty_value: 1, |_| {}, ["secret", "set", "other"];
    a_reader_that_nobody_knows: 1, |_| {}, ["secret", "set", "other", "--for", "nik"];
    a_value_as_an_argument: 2, |_| {}, ["secret", "set", "other", "hunter2"];
    an_identity_that_is_not_there: 1, |_| {}, ["secret", "show", "token", "-i", "nowhere"];
    an_identity_that_is_a_public_key: 1, |stage| {
        fs::copy(stage.home.join(".ssh/id_ed25519.pub"), stage.operator.root().join("key.pub")).map(drop).unwrap();
    }, ["secret", "show", "token", "-i", "key.pub"];
    a_key_that_is_not_for_me: 1, |stage| drop(keygen(&stage.operator.root().join("mine"))), ["secret", "show", "token", "-i", "mine"];
    no_key_at_all: 1, |stage| fs::remove_file(stage.home.join(".ssh/id_ed25519")).unwrap(), ["secret", "show", "token"];
    a_file_that_is_damaged: 1, |stage| {
        let text = fs::read_to_string(stage.file("token")).unwrap();
        fs::write(stage.file("token"), text.replace("-----BEGIN", "-----BEGUN")).unwrap();
    }, ["secret", "show", "token"];
    a_file_that_is_cut_off: 1, |stage| {
        let text = fs::read_to_string(stage.file("token")).unwrap();
        // A few bytes of the end: how long the beginning is, is random.
        let mut kept: Vec<&str> = text.lines().collect();
        let last = kept.len() - 2;
        kept[last] = &kept[last][..kept[last].len().saturating_sub(8)];
        kept.retain(|line| !line.is_empty());
        fs::write(stage.file("token"), kept.join("\n")).unwrap();
    }, ["secret", "show", "token"];
    a_public_key_that_does_not_parse: 1, |stage| stage.operator.replace("secrets/readers.toml", "ssh-ed25519 ", "ssh-ed25519 x"), ["secret", "list"];
    a_reader_of_a_secret_that_nobody_knows: 1, |stage| stage.operator.replace("secrets/readers.toml", "\"servers\"", "\"sever\""), ["secret", "list"];
    a_folder_without_a_project: 1, |stage| fs::remove_file(stage.operator.root().join("stead.ncl")).unwrap(), ["secret", "list"];
    a_secret_that_a_declaration_uses_and_nobody_made: 1, |stage| uses(stage, &format!("{SERVICE} environment.A = secret \"other\" }},")), ["check"];
    a_secret_that_is_not_for_this_server: 1, |stage| {
        stage.set(&["mine", "--for", "operators"], b"x");
        uses(stage, &format!("{SERVICE} environment.A = secret \"mine\" }},"));
    }, ["check"];
    a_secret_whose_readers_changed: 1, |stage| {
        stage.operator.replace("secrets/readers.toml", "[\"operators\", \"servers\"]", "[\"servers\"]");
        uses(stage, &format!("{SERVICE} credentials.A = secret \"token\" }},"));
    }, ["check"];
    a_secret_in_a_command: 1, |stage| uses(stage, "systemd.services.job.serviceConfig.ExecStart = \"/bin/echo %{secret \"token\"}\","), ["check"];
    a_secret_whose_name_is_a_path: 1, |stage| uses(stage, &format!("{SERVICE} environment.A = secret \"../token\" }},")), ["check"];
}

#[test]
fn a_value_that_is_too_large_is_refused_and_the_old_one_stays() {
    let stage = Stage::with_server();
    stage.set(&["token"], VALUE.as_bytes());
    let large = vec![b'x'; 512 * 1024 + 1];
    let ended = stage.operator.stead_with(&["secret", "set", "token"], &large);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("more than the 524288 bytes"), "{}", ended.err);
    assert_eq!(stage.show("token"), VALUE);
    stage.set(&["token"], &large[1..]);
}

#[test]
fn a_declaration_with_secrets_is_planned_without_any_value() {
    let stage = Stage::with_server();
    stage.set(&["token"], VALUE.as_bytes());
    uses(
        &stage,
        &format!("{SERVICE} environment.A = \"x %{{secret \"token\"}} y\", credentials.file = secret \"token\" }},"),
    );
    let ended = stage.operator.stead(&["check"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
}
