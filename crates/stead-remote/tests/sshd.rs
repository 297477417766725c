//! Sessions over a real `ssh` to a real `sshd` on loopback, with a key, a port and a configuration of its own.
//!
//! Needs OpenSSH's client and server. Where they are missing these tests fail and say so.

#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use crate::support::{Operator, site};
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use stead_model::name::Port;
    use stead_remote::agent::AgentBinary;
    use stead_remote::bootstrap::{Place, Root};
    use stead_remote::destination::{Destination, Login};
    use stead_remote::frame;
    use stead_remote::message::{Reply, Request};
    use stead_remote::password::Password;
    use stead_remote::session::{OpenError, Options, Session, read_as_root};
    use stead_remote::transfer;
    use stead_remote::trouble::Trouble;

    /// A server on loopback that ends with the test.
    struct Server {
        folder: tempfile::TempDir,
        sshd: Child,
        port: u16,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.sshd.kill();
            let _ = self.sshd.wait();
        }
    }

    impl Server {
        fn start() -> Self {
            Self::with("")
        }

        /// With these more lines in sshd's configuration.
        fn with(more: &str) -> Self {
            let sshd = Path::new("/usr/sbin/sshd");
            assert!(sshd.exists(), "these tests need openssh-server: {} is not there", sshd.display());
            if rustix::process::geteuid().is_root() {
                // What its own unit makes before it starts (RuntimeDirectory=sshd).
                fs::create_dir_all("/run/sshd").unwrap();
            }
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            for key in ["host", "other-host", "user"] {
                let made = Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(at(key))
                    .status()
                    .unwrap();
                assert!(made.success());
            }
            fs::create_dir(at("bin")).unwrap();
            fs::create_dir(at("booted")).unwrap();
            write_program(&at("bin/systemctl"), "#!/bin/sh\necho 'systemd 252 (252.39-1~deb12u1)'\n");
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder_text = folder.path().display();
            fs::write(
                at("sshd_config"),
                format!(
                    "ListenAddress 127.0.0.1:{port}\nHostKey {folder_text}/host\nPidFile none\nUsePAM no\n\
                     AuthorizedKeysFile {folder_text}/user.pub\nStrictModes no\nPasswordAuthentication no\n\
                     KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPrintMotd no\n\
                     SetEnv PATH={folder_text}/bin:/usr/local/bin:/usr/bin:/bin STEAD_EXAMPLE_STORE={folder_text}/store\n{more}\n"
                ),
            )
            .unwrap();
            let log = fs::File::create(at("sshd.log")).unwrap();
            let sshd = Command::new(sshd)
                .args(["-D", "-e", "-f"])
                .arg(at("sshd_config"))
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let server = Self { folder, sshd, port };
            let until = Instant::now() + Duration::from_secs(10);
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let log = fs::read_to_string(server.at("sshd.log")).unwrap();
                assert!(Instant::now() < until, "sshd does not listen: {log}");
                std::thread::sleep(Duration::from_millis(10));
            }
            server.know("host");
            server
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Makes the operator know this key as the host's.
        fn know(&self, key: &str) {
            let key = fs::read_to_string(self.at(&format!("{key}.pub"))).unwrap();
            fs::write(self.at("known_hosts"), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
        }

        fn destination(&self) -> Destination {
            let config = self.at("ssh_config");
            let text = format!(
                "Host *\n  IdentityFile {0}/user\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {0}/known_hosts\n  \
                 GlobalKnownHostsFile none\n  LocalForward 1 127.0.0.1:1\n",
                self.folder.path().display()
            );
            fs::write(&config, text).unwrap();
            let mut destination = Destination::new("127.0.0.1").unwrap();
            destination.port = Port::new(self.port);
            destination.config_file = Some(config);
            destination
        }

        fn options(&self) -> Options {
            let place = Place {
                agents: self.at("agents").display().to_string(),
                booted: self.at("booted").display().to_string(),
            };
            Options { place, connecting: Duration::from_secs(90), patience: Duration::from_secs(90), ..Options::new() }
        }

        fn open(&self) -> Result<Session, OpenError> {
            Session::open(&self.destination(), &agent(), &self.options())
        }
    }

    fn write_program(path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The example of this package: cargo builds it along with the tests.
    fn agent() -> AgentBinary {
        let own = std::env::current_exe().unwrap();
        let path = own.parent().and_then(Path::parent).unwrap().join("examples/agent");
        assert!(path.exists(), "the example agent is not built: {} is not there", path.display());
        AgentBinary::in_file(&path, std::env::consts::ARCH, None).unwrap()
    }

    #[track_caller]
    fn trouble(result: Result<Session, OpenError>) -> Trouble {
        match result.map(|_| ()) {
            Err(OpenError::Ssh { trouble, said, .. }) => {
                assert!(!said.is_empty());
                trouble
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_agent_is_brought_along_once_and_takes_a_generation_in() {
        let server = Server::start();
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&steps);
        let progress: Arc<dyn Fn(u64, u64) + Send + Sync> =
            Arc::new(move |done, total| seen.lock().unwrap().push((done, total)));
        let options = Options { progress: Some(progress), ..server.options() };
        let mut first = Session::open(&server.destination(), &agent(), &options).unwrap();
        assert!(!first.facts().have && first.facts().root == Root::Yes && first.facts().systemd == 252);
        let steps = steps.lock().unwrap().clone();
        assert_eq!(steps.last().unwrap().0, steps.last().unwrap().1);
        assert_eq!(first.hello().agent, agent().hash);
        let operator = Operator::with_site(&site());
        transfer::send(first.line(), operator.shipment(None), &mut |_| {}).unwrap();
        let reply: Reply = first.line().receive().unwrap();
        assert_eq!(reply, Reply::Staged { generation: operator.generation.id() });
        first.close();

        let mut second = server.open().unwrap();
        assert!(second.facts().have);
        assert_eq!(second.hello().generations, [operator.generation.id()]);
        assert!(second.sent() < 1_000, "{} bytes were sent to say nothing", second.sent());
        second.line().send(&Request::Status {}).unwrap();
        assert!(matches!(second.line().receive().unwrap(), Reply::Failed(_)));
        second.close();
        assert!(!fs::read_to_string(server.at("sshd.log")).unwrap().contains("fatal"));
    }

    #[test]
    fn an_altered_agent_is_replaced() {
        let server = Server::start();
        server.open().unwrap().close();
        let path = server.at("agents").join(agent().hash.to_string()).join("stead");
        for damage in [Vec::new(), b"#!/bin/sh\nexit 3\n".to_vec(), fs::read(&path).unwrap()[..100_000].to_vec()] {
            fs::write(server.at("new"), damage).unwrap();
            fs::set_permissions(server.at("new"), fs::metadata(&path).unwrap().permissions()).unwrap();
            fs::rename(server.at("new"), &path).unwrap();
            server.open().unwrap().close();
            assert_eq!(AgentBinary::in_file(&path, "", None).unwrap().hash, agent().hash);
        }
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "only the agent itself is left in its folder");
    }

    #[test]
    fn an_agent_that_cannot_be_written_is_told_with_the_servers_words() {
        let server = Server::start();
        fs::write(server.at("agents"), "a file, not a folder").unwrap();
        match server.open() {
            Err(OpenError::NotTakenIn { said, .. }) => assert!(said.contains("agents"), "{said}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_host_key_is_refused_and_told_as_such() {
        let server = Server::start();
        fs::remove_file(server.at("known_hosts")).unwrap();
        assert_eq!(trouble(server.open()), Trouble::UnknownHostKey);
        assert!(!server.at("known_hosts").exists(), "nobody accepted the key");
    }

    #[test]
    fn a_changed_host_key_is_refused_and_told_as_such() {
        let server = Server::start();
        server.know("other-host");
        assert_eq!(trouble(server.open()), Trouble::ChangedHostKey);
    }

    #[test]
    fn a_login_that_is_refused_is_told_as_such() {
        let server = Server::start();
        let mut destination = server.destination();
        destination.user = Some("nobody-of-that-name".parse().unwrap());
        assert_eq!(trouble(Session::open(&destination, &agent(), &server.options())), Trouble::Denied);
        fs::remove_file(server.at("user.pub")).unwrap();
        assert_eq!(trouble(server.open()), Trouble::Denied);
    }

    #[test]
    fn a_host_that_refuses_or_has_no_address_is_told_as_such() {
        let server = Server::start();
        let mut destination = server.destination();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        destination.port = Port::new(free);
        assert_eq!(trouble(Session::open(&destination, &agent(), &server.options())), Trouble::Refused);
        let mut destination = Destination::new("no-such-host.invalid").unwrap();
        destination.config_file = Some(server.at("ssh_config"));
        assert_eq!(trouble(Session::open(&destination, &agent(), &server.options())), Trouble::Unresolved);
    }

    #[test]
    fn a_host_that_hangs_is_given_up() {
        let server = Server::start();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut destination = server.destination();
        destination.port = Port::new(silent.local_addr().unwrap().port());
        destination.options.push("ConnectTimeout=1".to_owned());
        assert_eq!(trouble(Session::open(&destination, &agent(), &server.options())), Trouble::Unreachable);

        // And one whose login works, but whose shell never says a word.
        write_program(&server.at("bin/id"), "#!/bin/sh\nread _\n");
        let mut options = server.options();
        options.connecting = Duration::from_secs(2);
        let began = Instant::now();
        assert!(matches!(Session::open(&server.destination(), &agent(), &options), Err(OpenError::Silent { .. })));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn a_server_without_systemd_or_with_an_old_one_is_told_before_anything_is_sent() {
        let server = Server::start();
        write_program(&server.at("bin/systemctl"), "#!/bin/sh\necho 'systemd 247 (247.3-7+deb11u4)'\n");
        assert!(matches!(server.open(), Err(OpenError::OldSystemd { found: 247, .. })));
        fs::remove_dir(server.at("booted")).unwrap();
        assert!(matches!(server.open(), Err(OpenError::NoSystemd { .. })));
        assert!(!server.at("agents").exists());
    }

    #[test]
    fn a_machine_of_another_architecture_is_told_before_anything_is_sent() {
        let server = Server::start();
        write_program(&server.at("bin/uname"), "#!/bin/sh\necho riscv64\n");
        assert!(matches!(server.open(), Err(OpenError::WrongMachine { found, .. }) if found == "riscv64"));
        assert!(!server.at("agents").exists());
    }

    /// `id` stands in for a login of another user, and this `sudo` for one that refuses, allows or asks: see its manual for the options.
    fn another_user(server: &Server, sudo: &str) {
        write_program(&server.at("bin/id"), "#!/bin/sh\n[ \"$1\" = -u ] && echo 1000 || echo deploy\n");
        write_program(&server.at("bin/sudo"), &format!("#!/bin/sh\n{sudo}\n"));
    }

    const ALLOWS: &str = "[ \"$1\" = -n ] && shift && exec \"$@\"";
    const ASKS: &str = "[ \"$1\" = -n ] && { echo 'sudo: a password is required' >&2; exit 1; }
        [ \"$1 $2 $3 $4\" = '-k -S -p ' ] && shift 4 || exit 2
        for word in \"$@\"; do case $word in *'two words'*) exit 2; esac; done
        env | grep -q 'two words' && exit 2
        IFS= read -r line && [ \"$line\" = ' two words ' ] && exec \"$@\"
        echo 'Sorry, try again.' >&2; read -r line && echo \"sudo: took more: $line\" >&2 || echo 'sudo: 1 incorrect password attempt' >&2; exit 1";

    #[test]
    fn another_user_than_root_goes_through_sudo_or_is_told_that_there_is_no_root() {
        let server = Server::start();
        another_user(&server, ASKS);
        match server.open() {
            Err(OpenError::NeedsPassword { user, said, .. }) => {
                assert_eq!((user.as_str(), said.as_str()), ("deploy", "sudo: a password is required"))
            }
            other => panic!("{other:?}"),
        }
        another_user(&server, ALLOWS);
        let session = server.open().unwrap();
        let facts = session.facts();
        assert_eq!((facts.user.as_str(), facts.uid, facts.root), ("deploy", 1000, Root::Yes));
        session.close();
    }

    fn with_password(server: &Server, text: &str) -> Options {
        let password = Password::new(text.to_owned().into()).unwrap();
        Options { password: Some(password), ..server.options() }
    }

    #[test]
    fn a_sudo_that_wants_a_password_gets_it_and_the_agent_none_of_it() {
        let server = Server::start();
        another_user(&server, ASKS);
        let options = with_password(&server, " two words ");
        for had in [false, true] {
            let session = Session::open(&server.destination(), &agent(), &options).unwrap();
            let facts = session.facts();
            assert_eq!((facts.user.as_str(), facts.root, facts.have), ("deploy", Root::Yes, had));
            session.close();
        }
        let read = read_as_root(&server.destination(), "echo one\nid -u\nno-such-program\n", &options).unwrap();
        assert_eq!(read.text, "one\n1000\n");
        assert!(read.said.contains("no-such-program"), "{}", read.said);
        // A wrong one costs one attempt, and is told by the last that sudo said.
        match Session::open(&server.destination(), &agent(), &with_password(&server, "two words")).map(|_| ()) {
            Err(OpenError::WrongPassword { user, said, .. }) => {
                assert_eq!((user.as_str(), said.as_str()), ("deploy", "sudo: 1 incorrect password attempt"))
            }
            other => panic!("{other:?}"),
        }
    }

    /// As one that remembers the user would, if it were not told to ask all the same.
    #[test]
    fn a_password_that_sudo_did_not_take_goes_nowhere() {
        let server = Server::start();
        another_user(&server, "[ \"$1\" = -n ] && exit 1; shift 4; exec \"$@\"");
        let options = with_password(&server, "two words");
        let opened = Session::open(&server.destination(), &agent(), &options).map(|_| ());
        assert!(matches!(&opened, Err(OpenError::WrongPassword { said, .. }) if said.is_empty()), "{opened:?}");
        let read = read_as_root(&server.destination(), "echo it runs\n", &options);
        assert!(matches!(&read, Err(OpenError::WrongPassword { said, .. }) if said.is_empty()), "{read:?}");
    }

    #[test]
    fn a_login_without_a_shell_is_told_as_such() {
        let session = Server::with("ForceCommand /bin/false").open();
        assert!(matches!(session, Err(OpenError::Shell { .. })), "{session:?}");
        let session = Server::with("ForceCommand /usr/bin/yes").open();
        assert!(matches!(session, Err(OpenError::Talk { .. })), "{session:?}");
    }

    #[test]
    fn a_line_that_drops_is_an_error_and_never_a_hang() {
        let server = Server::start();
        let mut session = server.open().unwrap();
        // The agent ends when its lock is taken: from here the line looks like any that dropped.
        fs::create_dir_all(server.at("store")).unwrap();
        let _held = stead_store::Store::lock(&server.at("store/lock")).unwrap().unwrap();
        let operator = Operator::with_site(&site());
        let error = transfer::send(session.line(), operator.shipment(None), &mut |_| {}).unwrap_err();
        assert!(matches!(error, transfer::SendError::Line(frame::Error::Closed | frame::Error::Write(_))), "{error:?}");
    }

    #[test]
    fn a_fresh_login_is_not_a_shared_connection() {
        let server = Server::start();
        let socket = server.at("control");
        let mut destination = server.destination();
        destination.options = vec![
            format!("ControlPath={}", socket.display()),
            "ControlMaster=auto".to_owned(),
            "ControlPersist=60".to_owned(),
        ];
        let logins = || fs::read_to_string(server.at("sshd.log")).unwrap().matches("Accepted publickey").count();
        for (login, expected) in [(Login::Any, 1), (Login::Any, 1), (Login::Fresh, 2)] {
            Session::open(&destination, &agent(), &Options { login, ..server.options() }).unwrap().close();
            assert_eq!(logins(), expected);
        }
        let ended = Command::new("ssh").args(["-O", "exit", "-S"]).arg(&socket).arg("127.0.0.1").output().unwrap();
        assert!(ended.status.success());
    }
}
