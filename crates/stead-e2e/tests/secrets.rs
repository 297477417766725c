//! Secrets on a real server: handed over by systemd, brought back by a rollback and a reboot, and found nowhere else.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use stead_e2e::lab::Machine;
use stead_e2e::outcome::Outcome;
use stead_e2e::{Small, Stage, wait};
use stead_model::hash::Sha256;

/// What is planted, and searched for. The quotes and the dollar would not survive a careless environment file.
const KEY: &str = "planted-key-7d1c \"quoted\" $HOME \\n `x`";
const NEW_KEY: &str = "planted-key-9e2f second";
const PASSWORD: &str = "planted-password-55aa";
/// The marks by which they are searched for.
const PLANTED: [&str; 3] = ["planted-key-7d1c", "planted-key-9e2f", "planted-password-55aa"];

const SECRETS: &str = r#"
  apps.hello.environment.KEY = secret "key",
  apps.hello.credentials.database = "db://hello:%{secret "password"}@127.0.0.1/%{secret "key"}",
  services.nginx.virtualHosts."site.small".basicAuthFile = secret "visitors",
"#;

/// The app answers with the digest of what it was given.
fn small(extra: &str) -> Small {
    let prelude = r#"
given = os.environ.get("KEY", "none")
if "CREDENTIALS_DIRECTORY" in os.environ:
    given += "|" + open(os.environ["CREDENTIALS_DIRECTORY"] + "/database").read()
told = hashlib.sha256(given.encode()).hexdigest().encode()
"#;
    Small { prelude: prelude.into(), answer: "\" + told + b\"".into(), extra: extra.into(), ..Small::default() }
}

fn told(key: &str) -> String {
    Sha256::of(format!("{key}|db://hello:{PASSWORD}@127.0.0.1/{key}").as_bytes()).to_string()
}

/// The small project, whose operator and server have keys.
struct Secretive {
    stage: Stage,
    /// All that the operator was ever told.
    said: String,
}

impl Secretive {
    fn new() -> Self {
        let stage = Stage::with_small(&small(""), Machine::bookworm());
        // A module of the small project is not given `secret` by itself.
        let own = stage.project.join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&own).status();
        assert!(made.expect("ssh-keygen can be run").success());
        let public = fs::read_to_string(own.with_extension("pub")).expect("it was made");
        let host = stage.lab.run("cat /etc/ssh/ssh_host_ed25519_key.pub");
        let this = Self { stage, said: String::new() };
        this.readers(&public, &host);
        this
    }

    fn readers(&self, operator: &str, server: &str) {
        let text = format!(
            "[operators]\nme = \"{}\"\n\n[servers]\nsmall = \"{}\"\n\n[secrets]\n{}",
            operator.trim(),
            server.trim(),
            ["key", "password", "visitors"].map(|name| format!("{name} = [\"operators\", \"servers\"]\n")).concat(),
        );
        fs::create_dir_all(self.stage.project.join("secrets")).expect("a folder can be made");
        fs::write(self.stage.project.join("secrets/readers.toml"), text).expect("a file can be written");
    }

    #[track_caller]
    fn stead(&mut self, words: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.stage.command(words);
        command.env("STEAD_IDENTITY", self.stage.project.join("key"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let _ = child.stdin.take().expect("it has one").write_all(input);
        let output = child.wait_with_output().expect("it ends");
        let outcome = Outcome::new(format!("{command:?}"), &output);
        self.said.push_str(&outcome.stdout);
        self.said.push_str(&outcome.stderr);
        outcome
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.stead(&["secret", "set", name], value).well();
    }

    fn declare(&self, extra: &str) {
        small(extra).write(&self.stage.project);
        let module = format!("fun {{ inputs, secret, .. }} => {{\n{extra}\n}}\n");
        fs::write(self.stage.project.join("extra.ncl"), module).expect("a file can be written");
    }

    #[track_caller]
    fn is_served(&self, key: &str) {
        assert_eq!(self.stage.get("app.small", "/").body, told(key));
        assert_eq!(self.stage.get("site.small", "/").status, 401);
        // `me:letmein`
        let answer = self.stage.get_with("site.small", "/", &[("Authorization", "Basic bWU6bGV0bWVpbg==")]);
        assert_eq!((answer.status, &*answer.body), (200, "page one\n"));
    }
}

impl Secretive {
    /// The server gets another host key, and a new value with it; the deploy is taken back to what only the old key opens.
    fn a_new_host_key_hinders_no_way_back(&mut self, operator: &str) {
        let lab = &self.stage.lab;
        let old = lab.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
        lab.run("rm /etc/ssh/ssh_host_ed25519_key* && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key");
        let new = lab.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
        let known = lab.itself().ssh_config().with_file_name("known_hosts");
        let text = fs::read_to_string(&known).expect("a lab's key is known");
        assert!(text.contains(&old), "{old} is not in {text}");
        fs::write(&known, text.replace(&old, &new)).expect("a file can be written");
        self.stead(&["up"], b"").exits(3).tells("cannot be opened with the host key of this server");
        self.is_served(NEW_KEY);
        self.readers(operator, &new);
        self.stead(&["secret", "rekey"], b"").well();
        self.set("key", KEY.as_bytes());
        self.stead(&["up", "--no-confirm", "--confirm-deadline", "1"], b"").exits(4);
        self.is_served(NEW_KEY);
        self.stead(&["up"], b"").well();
        self.is_served(KEY);
    }

    fn only_its_services_can_read(&self) {
        let lab = &self.stage.lab;
        assert_eq!(lab.run("stat -f -c %T /run/stead/secrets"), "ramfs");
        let stranger = "sh -c 'ls /run/stead/secrets; cat /run/stead/secrets/*' 2>/dev/null || echo no";
        assert_eq!(lab.run(&format!("runuser -u nobody -- {stranger}")), "no");
        let modes = "stat -c '%a %U' /run/stead/secrets/* | sort -u | tr '\\n' ','";
        assert_eq!(lab.run(modes), "400 root,400 www-data,");
        for unit in lab.units("stead-hello@*") {
            for (property, value) in [("LimitCORE", "1"), ("MemorySwapMax", "0")] {
                assert_eq!(lab.show(&unit, property), value);
            }
        }
    }

    /// What was planted is in memory, where it has to be, and in no other place.
    fn nothing_is_anywhere_else(&self) {
        // A pattern that does not match itself: the search is in the list of processes too.
        let count = |what: &str, planted: &str| {
            let (start, end) = planted.split_at(planted.len() - 1);
            self.stage.lab.run(&format!("{what} | grep -ca '{start}[{end}]' || true"))
        };
        for planted in PLANTED {
            assert!(!self.said.contains(planted), "{planted} was said:\n{}", self.said);
            for what in [
                "journalctl -o export --no-pager",
                "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'",
                "systemctl show 'stead-*' --no-pager",
            ] {
                assert_eq!(count(what, planted), "0", "{planted}: {what}");
            }
            let but = ["proc", "sys", "dev", "run"].map(|folder| format!("--exclude-dir={folder} ")).concat();
            // A file that comes and goes while one looks is no trouble; one that cannot be searched is.
            let found = |rest: &str| {
                let search = format!("grep -rlaF --devices=skip '{planted}' {rest} 2>/tmp/trouble || test $? -le 2");
                let found = self.stage.lab.run(&search);
                assert_eq!(self.stage.lab.run("grep -v 'No such file' /tmp/trouble || true"), "", "{search}");
                found
            };
            let control = "/var/tmp/control";
            self.stage.lab.run(&format!("echo 'x{planted}x' > {control}"));
            assert_eq!(found(&format!("/ {but}")), control, "the search finds what is there");
            self.stage.lab.run(&format!("rm {control}"));
            assert_eq!(found(&format!("/ {but}")), "", "on the disk");
            for place in found("/run").lines() {
                let known = ["/run/stead/secrets/", "/run/credentials/"];
                assert!(known.iter().any(|known| place.starts_with(known)), "{place}");
            }
        }
        assert_ne!(count("cat /run/stead/secrets/*", PLANTED[1]), "0", "and where they have to be, they are");
    }
}

#[test]
fn secrets_reach_their_services_and_nothing_else() {
    let mut lab = Secretive::new();
    // nginx runs already when the first secret comes: its file system has to see what is mounted later.
    lab.stead(&["up"], b"").well();
    assert_eq!(lab.stage.get("app.small", "/").body, Sha256::of(b"none").to_string());

    lab.declare(SECRETS);
    lab.stead(&["up"], b"").exits(1).tells("there is no secret `key`");
    lab.set("key", KEY.as_bytes());
    lab.set("password", format!("{PASSWORD}\n").as_bytes());
    let hash = lab.stage.lab.run("openssl passwd -apr1 letmein");
    lab.set("visitors", format!("me:{hash}\n").as_bytes());
    let first = lab.stead(&["up"], b"").well().text("generation");
    lab.is_served(KEY);
    assert_eq!(lab.stead(&["up"], b"").well().text("outcome"), "unchanged");

    // A changed secret starts a new instance of what uses it, and leaves the rest alone.
    let units = |lab: &Secretive, pattern: &str| lab.stage.lab.units(pattern);
    let (hello, nginx) = (units(&lab, "stead-hello@*"), units(&lab, "stead-nginx@*"));
    let process = lab.stage.lab.show(&nginx[0], "MainPID");
    lab.set("key", NEW_KEY.as_bytes());
    lab.stead(&["up"], b"").well();
    lab.is_served(NEW_KEY);
    assert_ne!(units(&lab, "stead-hello@*"), hello);
    assert_eq!(units(&lab, "stead-nginx@*"), nginx);
    assert_eq!(lab.stage.lab.show(&nginx[0], "MainPID"), process);

    // Encrypted anew for nobody else, nothing is started.
    let hello = units(&lab, "stead-hello@*");
    lab.stead(&["secret", "rekey", "--all"], b"").well();
    lab.stead(&["up"], b"").well();
    // (What was replaced before may still have drained.)
    assert!(units(&lab, "stead-hello@*").iter().all(|unit| hello.contains(unit)));

    // Going back brings back what was secret then; so does a boot, without anybody's help.
    lab.stead(&["rollback"], b"").well();
    lab.is_served(NEW_KEY);
    lab.stead(&["rollback", &first], b"").well();
    lab.is_served(KEY);
    lab.stage.lab.cut_and_boot();
    // A boot does not wait until an app listens.
    wait::until_is("the app", Duration::from_secs(20), told(KEY), || lab.stage.get("app.small", "/").body);
    lab.is_served(KEY);
    lab.stead(&["deploy"], b"").well();
    lab.is_served(NEW_KEY);

    lab.only_its_services_can_read();

    // What cannot be handed over is named before anything is switched.
    lab.set("key", b"planted-key-9e2f \xff");
    lab.stead(&["up"], b"").exits(3).tells("`key` is not UTF-8 text").tells("apps.hello.environment.KEY");
    lab.is_served(NEW_KEY);
    let host = fs::read_to_string(lab.stage.project.join("key.pub")).expect("it is there");
    lab.readers(&host, &host);
    lab.set("key", NEW_KEY.as_bytes());
    lab.stead(&["secret", "rekey"], b"").well();
    lab.stead(&["up"], b"").exits(3).tells("cannot be opened with the host key of this server").tells("stead adopt");
    lab.is_served(NEW_KEY);

    lab.a_new_host_key_hinders_no_way_back(&host);

    // An app that falls leaves no dump.
    let unit = &units(&lab, "stead-hello@*")[0];
    let process = lab.stage.lab.show(unit, "MainPID");
    lab.stage.lab.run(&format!("kill -SEGV {process}"));
    lab.nothing_is_anywhere_else();
}
