//! An operator with a project of their own: folders, program, and what it said.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use stead_inputs::{folder, lockfile};
use stead_model::hash::Sha256;
use stead_model::lock::{Lock, LockedInput, LockedPackage, LockedRuntime, LockedSuite, RuntimeKey};

/// A project that evaluates; tests change one thing of it.
const PROJECT: &str = r#"{
  inputs = {
    debian.url = "debian:bookworm",
    site.url = "path:./site",
  },
  outputs = fun inputs => {
    servers.main = {
      host = "127.0.0.1",
      sshPort = @port@,
      modules = [import "server.ncl", import "more.ncl"],
    },
  },
}
"#;

const SERVER: &str = r#"fun { inputs, .. } => {
  services.nginx.virtualHosts."a.example" = {
    root = inputs.site.path,
    locations."/".tryFiles = "$uri =404",
  },
}
"#;

/// A project, and everything that the program may touch.
pub(crate) struct Operator {
    folder: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Operator {
    /// A project in which nothing is wrong, without a lock. Its server refuses connections.
    pub(crate) fn new() -> Self {
        let new = Self { folder: tempfile::tempdir().unwrap(), environment: BTreeMap::new() };
        new.put("stead.ncl", &PROJECT.replace("@port@", &closed_port().to_string()));
        new.put("server.ncl", SERVER);
        new.put("more.ncl", "{}\n");
        new.put("site/index.html", "a page\n");
        new
    }

    /// [`Operator::new`], with this for a further module, and a lock that fits it.
    pub(crate) fn with_module(module: &str) -> Self {
        let new = Self::new();
        new.put("more.ncl", module);
        new.pin(&["nginx"]);
        new
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert!(text.contains(old), "{path} has no {old:?}:\n{text}");
        self.put(path, &text.replacen(old, new, 1));
    }

    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.environment.insert(variable.to_owned(), value.to_owned());
    }

    /// Writes a lock that pins the site as it is, and a runtime of these packages.
    pub(crate) fn pin(&self, packages: &[&str]) {
        let locked = |name: &&str| LockedPackage {
            name: name.parse().unwrap(),
            version: "1.0-1".to_owned(),
            architecture: "amd64".to_owned(),
            size: 100,
            sha256: Sha256::of(name.as_bytes()),
            path: format!("pool/main/{name}_1.0-1_amd64.deb"),
            suite: "bookworm".to_owned(),
        };
        let key =
            RuntimeKey::new("debian".parse().unwrap(), "amd64", packages.iter().map(|name| name.parse().unwrap()));
        let mut sorted = packages.to_vec();
        sorted.sort_unstable();
        let runtime = LockedRuntime {
            debian: key.debian.clone(),
            architecture: key.architecture.clone(),
            requested: key.packages.clone(),
            packages: sorted.iter().map(locked).collect(),
        };
        let file = self.root().join("stead.lock");
        let mut lock = lockfile::read(&file).unwrap().unwrap_or_else(Lock::empty);
        let tree = folder::snapshot(&self.root().join("site"), None).unwrap().tree;
        let site = LockedInput::Path { url: "path:./site".to_owned(), tree: tree.id(), files: 1, size: 7 };
        let suite = LockedSuite { date: "Sat, 21 Nov 2026 00:00:00 UTC".to_owned(), sha256: Sha256::of(b"suite") };
        let suites = [("bookworm".to_owned(), suite)].into();
        lock.inputs.insert("site".parse().unwrap(), site);
        lock.inputs
            .insert("debian".parse().unwrap(), LockedInput::Debian { url: "debian:bookworm".to_owned(), suites });
        lock.runtimes.insert(key.to_string(), runtime);
        lockfile::write(&file, &lock).unwrap();
    }

    /// The program, with these words, in the project's folder, without a terminal.
    pub(crate) fn stead(&self, words: &[&str]) -> Ended {
        self.stead_with(words, b"")
    }

    /// [`Operator::stead`], with this on its standard input.
    pub(crate) fn stead_with(&self, words: &[&str], input: &[u8]) -> Ended {
        let mut program = Command::new(env!("CARGO_BIN_EXE_stead"));
        program.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        program
            .env("STEAD_CACHE", self.folder.path().join("cache"))
            .env("STEAD_STATE", self.folder.path().join("state"));
        program.env("STEAD_DEBIAN_MIRROR", format!("http://127.0.0.1:{}/debian", closed_port()));
        program.envs(&self.environment).current_dir(self.root()).args(words);
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Whoever does not want it may have gone.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code().expect("the program ends by itself"),
            out: self.normal(&output.stdout),
            err: self.normal(&output.stderr),
        }
    }

    /// Runs a command that has to fail with this code, in three closing lines, and to change nothing
    /// in the project; what it said.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) -> String {
        let before = self.files();
        let ended = self.stead(words);
        assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
        let lines: Vec<&str> = ended.err.lines().collect();
        let first = lines.iter().position(|line| line.starts_with("error: ")).expect(&ended.err);
        assert_eq!(ended.err.matches("error: ").count(), 1, "one error, told once: {}", ended.err);
        let [.., now, hint] = lines[first..] else { panic!("no closing lines: {}", ended.err) };
        assert_eq!(now, "  now: nothing was changed on any server");
        assert!(hint.starts_with("  do:  "), "{}", ended.err);
        assert_eq!(ended.out, "", "data on standard output");
        assert_eq!(self.files(), before, "the project was changed");
        lines[first..].join("\n")
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.root(), &mut found);
        found
    }

    /// What was said, without what differs each time: folders, ports of this machine.
    fn normal(&self, said: &[u8]) -> String {
        let text = String::from_utf8(said.to_vec()).unwrap();
        let folder = self.folder.path().canonicalize().unwrap();
        let text =
            text.replace(folder.to_str().unwrap(), "[TMP]").replace(self.folder.path().to_str().unwrap(), "[TMP]");
        ["127.0.0.1:", "127.0.0.1 port "].into_iter().fold(text, |text, before| without_number(&text, before))
    }
}

fn without_number(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| match part.trim_start_matches(|c: char| c.is_ascii_digit()) {
        rest if rest.len() + 4 > part.len() => format!("{text}{before}{part}"),
        rest => format!("{text}{before}[PORT]{rest}"),
    })
}

/// A port of this machine at which nobody listens.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a mirror answers to one request.
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// Says that something comes, and sends nothing until the program hangs up.
    Silence,
}

/// A mirror that answers every request with these bytes, until the test's process ends.
pub(crate) fn mirror(answer: Vec<u8>) -> String {
    mirror_with(move |_| Answer::Bytes(answer.clone()))
}

/// A mirror that answers a path with what it is told, until the test's process ends.
pub(crate) fn mirror_with(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = std::sync::Arc::clone(&answer);
            std::thread::spawn(move || serve(&stream, &*answer));
        }
    });
    format!("http://{address}/debian")
}

fn serve(mut stream: &TcpStream, answer: &dyn Fn(&str) -> Answer) -> std::io::Result<()> {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(stream).lines();
    let mut path = String::new();
    while let Some(line) = lines.next().transpose()? {
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap_or_default().to_owned();
        }
        if line.is_empty() {
            match answer(&path) {
                Answer::Bytes(bytes) => {
                    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
                    stream.write_all(&bytes)?;
                }
                Answer::Silence => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?,
            }
        }
    }
    Ok(())
}
