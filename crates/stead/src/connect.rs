//! From a declared server to a conversation with its agent.
//!
//! The login takes longer than everything that is done meanwhile, so it begins in a thread of its
//! own and is joined when it is needed. Whoever is logged in is compared with what was declared.

use crate::arguments::{Place, Target};
use crate::commands::lab;
use crate::environment;
use crate::failure::{Exit, Failure, Runs, chain};
use crate::output::Output;
use crate::password;
use crate::probing::Probing;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::lock::LockedPackage;
use stead_model::name::{Port, UserName};
use stead_model::server::Server;
use stead_remote::agent::AgentBinary;
use stead_remote::cache::Cache;
use stead_remote::destination::{Destination, Login, Questions};
use stead_remote::frame;
use stead_remote::message::{self, Event, Failed, Hello, Reply, Request};
use stead_remote::session::{self, OpenError, Options, Reading, Session};

/// A login under way.
pub(crate) struct Connecting {
    thread: JoinHandle<Result<Result<Session, OpenError>, Failure>>,
    destination: Destination,
}

/// A conversation with a server's agent.
pub(crate) struct Connected {
    pub(crate) session: Session,
    pub(crate) hello: Hello,
    /// Whether the last request was refused because something of the server's store is altered.
    pub(crate) is_damaged: bool,
    /// The probes of what is deployed.
    pub(crate) probing: Probing,
    destination: Destination,
}

fn of_lab(name: &str) -> Result<Destination, Failure> {
    let wrong = |error: stead_remote::destination::InvalidHost| Failure::request(error.to_string());
    let found = lab::labs()?.get(&lab::name(name)?);
    let lab = found.map_err(|error| Failure::request(chain(&error)).hint(format!("`stead lab up {name}` makes it")))?;
    let mut destination = Destination::new(&lab.ssh_host()).map_err(wrong)?;
    destination.config_file = Some(lab.ssh_config());
    Ok(destination)
}

/// Where a server is, as the operator wants it now.
pub(crate) fn destination(server: &Server, target: &Target) -> Result<Destination, Failure> {
    let wrong = |error: stead_remote::destination::InvalidHost| Failure::request(error.to_string());
    if let Some(name) = &target.place.lab {
        return of_lab(name);
    }
    let Some(text) = &target.place.host else {
        let mut destination = Destination::new(&server.host).map_err(wrong)?;
        destination.user = server.ssh_user.clone();
        destination.port = server.ssh_port;
        return Ok(destination);
    };
    let (user, rest) = text.split_once('@').map_or((None, text.as_str()), |(user, rest)| (Some(user), rest));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let mut destination = Destination::new(host).map_err(wrong)?;
    destination.user = match user {
        Some(user) => Some(user.parse::<UserName>().map_err(|error| Failure::request(error.to_string()))?),
        None => server.ssh_user.clone(),
    };
    destination.port = match port {
        Some(port) => Some(
            port.parse().ok().and_then(Port::new).ok_or_else(|| Failure::request(format!("`{port}` is not a port")))?,
        ),
        None => None,
    };
    Ok(destination)
}

fn options(destination: &Destination, login: Login) -> Options {
    let questions = if std::io::stdin().is_terminal() { Questions::Terminal } else { Questions::Nobody };
    Options { login, questions, password: password::known(destination), ..Options::new() }
}

fn open(destination: &Destination, agent: &AgentBinary, login: Login) -> Result<Session, OpenError> {
    Session::open(destination, agent, &options(destination, login))
}

/// Does this, and once more where `sudo` wants a password and somebody can be asked for it. They are asked in the main thread, so
/// that the program does not end, for another reason, while the terminal hides what is typed.
fn asking<T>(
    destination: &Destination,
    output: &Output,
    mut attempt: impl FnMut() -> Result<T, OpenError>,
) -> Result<T, Failure> {
    let mut result = attempt();
    if let Err(OpenError::NeedsPassword { user, .. }) = &result
        && std::io::stdin().is_terminal()
    {
        // One that was asked for meanwhile, by another login of this command, is known by now.
        if password::known(destination).is_none() {
            password::ask(destination, user, output)?;
        }
        result = attempt();
    }
    if let Err(OpenError::WrongPassword { .. }) = &result {
        password::forget(destination);
    }
    result.map_err(|error| failed(&error, destination))
}

/// What a script says that runs as root on a server, with no agent there.
pub(crate) fn read_as_root(destination: &Destination, script: &str, output: &Output) -> Result<Reading, Failure> {
    asking(destination, output, || session::read_as_root(destination, script, &options(destination, Login::Any)))
}

fn agent() -> Result<AgentBinary, Failure> {
    AgentBinary::own(Some(environment::cache().join("agents")))
        .map_err(|error| Failure::before(format!("the program cannot read itself, to send it along: {error}")))
}

/// Begins to log in before the project is evaluated, where the server was when it was last reached
/// for this project. [`keep`] compares that with what the project says.
pub(crate) fn early(root: &Path, target: &Target) -> Option<Connecting> {
    let destination = match &target.place {
        Place { lab: Some(name), .. } => of_lab(name).ok()?,
        Place { host: Some(_), .. } => return None,
        Place { .. } => {
            let text = std::fs::read_to_string(remembered(root, target)).ok()?;
            let (host, user, port): (String, Option<UserName>, Option<Port>) = serde_json::from_str(&text).ok()?;
            let mut destination = Destination::new(&host).ok()?;
            (destination.user, destination.port) = (user, port);
            destination
        }
    };
    Some(log_in(destination))
}

/// The early login, if it goes where the project says; else another one.
pub(crate) fn keep(
    early: Option<Connecting>,
    root: &Path,
    server: &Server,
    target: &Target,
) -> Result<Connecting, Failure> {
    let wanted = destination(server, target)?;
    match early {
        Some(connecting) if connecting.destination == wanted => Ok(connecting),
        _ => {
            if target.place.lab.is_none() && target.place.host.is_none() {
                let place = remembered(root, target);
                let text = serde_json::to_string(&(wanted.host(), &wanted.user, &wanted.port)).unwrap_or_default();
                // Only the time of the next login depends on it.
                let _ = place.parent().map(std::fs::create_dir_all);
                let _ = std::fs::write(place, text);
            }
            Ok(log_in(wanted))
        }
    }
}

fn remembered(root: &Path, target: &Target) -> PathBuf {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let key = format!("{}\n{}", root.display(), target.server.as_deref().unwrap_or_default());
    environment::cache().join("destinations").join(format!("{}.json", Hash::of(key.as_bytes())))
}

/// Begins to log in.
pub(crate) fn begin(server: &Server, target: &Target) -> Result<Connecting, Failure> {
    destination(server, target).map(log_in)
}

fn log_in(destination: Destination) -> Connecting {
    let there = destination.clone();
    // The program is read, to know its hash, while nobody waits for it.
    let login = move || Ok(open(&there, &agent()?, Login::Any));
    Connecting { thread: std::thread::spawn(login), destination }
}

fn failed(error: &OpenError, destination: &Destination) -> Failure {
    let words = chain(error);
    let names_the_host = words.contains(destination.host());
    let failure = Failure::before(if names_the_host { words } else { format!("{}: {words}", destination.host()) });
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

impl Connecting {
    /// Waits for the login, compares it with what was declared, and tells who is logged in where.
    pub(crate) fn join(self, output: &Output) -> Result<Connected, Failure> {
        let connected = self.join_quietly(output)?;
        let machine = &connected.hello.machine;
        let user = &connected.session.facts().user;
        output.say(&format!("  {user}@{} · {} · {}", connected.destination.host(), machine.hostname, machine.system));
        Ok(connected)
    }

    /// Waits for the login, and compares it with what was declared.
    pub(crate) fn join_quietly(self, output: &Output) -> Result<Connected, Failure> {
        let opened = self.thread.join().map_err(|_| Failure::before("the connection's thread ended"))??;
        let (agent, mut opened) = (agent()?, Some(opened));
        let again = || open(&self.destination, &agent, Login::Any);
        let session = asking(&self.destination, output, || opened.take().unwrap_or_else(again))?;
        let user = session.facts().user.clone();
        if let Some(declared) = &self.destination.user
            && declared.as_str() != user
        {
            let what = format!("{} let in `{user}`, but the project declares `{declared}`", self.destination.host());
            return Err(Failure::before(what)
                .hint("look at `User` in your SSH configuration, or declare the user in `sshUser`"));
        }
        let hello = session.hello().clone();
        Ok(Connected { session, hello, is_damaged: false, probing: Probing::default(), destination: self.destination })
    }
}

/// What a request that was not done means for the operator.
pub(crate) fn refused(failed: &Failed, runs: Runs) -> Failure {
    let exit = match failed.kind {
        message::Failure::Busy | message::Failure::Stale => Exit::Busy,
        message::Failure::Unknown | message::Failure::Refused => Exit::Request,
        _ => Exit::BeforeSwitch,
    };
    let hint = failed.hint.clone().or(match failed.kind {
        message::Failure::Unfit => {
            Some("mend the declaration, or what is said of the server, and deploy again".to_owned())
        }
        message::Failure::Hook => {
            Some("nothing was switched: mend what the hook found, or the hook, and deploy again".to_owned())
        }
        message::Failure::Damaged => Some("`stead verify` names what is altered".to_owned()),
        _ => None,
    });
    Failure { exit, what: failed.what.clone(), runs, hint }
}

impl Connected {
    /// Where the server is.
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// What the server runs, for a failure's words.
    pub(crate) fn runs(&self) -> Runs {
        Runs::Generation(self.hello.active)
    }

    /// The line broke: nothing was switched as far as this side knows.
    pub(crate) fn broke(&mut self, error: &frame::Error) -> Failure {
        let what =
            format!("the connection to {} broke: {}\n{}", self.destination.host(), chain(error), self.session.said());
        Failure::before(what).runs(self.runs())
    }

    /// Sends a request and passes on its events, up to its last word.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        mut event: impl FnMut(&mut Self, Event) -> Result<(), Failure>,
    ) -> Result<Reply, Failure> {
        if let Err(error) = self.session.line().send(request) {
            return Err(self.broke(&error));
        }
        self.listen(&mut event)
    }

    /// Passes on events, up to the last word.
    pub(crate) fn listen(
        &mut self,
        event: &mut dyn FnMut(&mut Self, Event) -> Result<(), Failure>,
    ) -> Result<Reply, Failure> {
        loop {
            match self.session.line().receive::<Reply>() {
                Ok(Reply::Event(what)) => event(self, what)?,
                Ok(Reply::Failed(failed)) => {
                    self.is_damaged = failed.kind == message::Failure::Damaged;
                    return Err(refused(&failed, self.runs()));
                }
                Ok(reply) => return Ok(reply),
                Err(error) => return Err(self.broke(&error)),
            }
        }
    }

    /// What the server runs, described: from this machine's memory, or asked of the server.
    pub(crate) fn active_generation(&mut self, server: &Server) -> Result<Generation, Failure> {
        let Some(id) = self.hello.active else { return Ok(Generation::empty(server.name.clone())) };
        if let Some(base) = cache().recall(&id) {
            return Ok(base.generation);
        }
        self.describe(id)
    }

    /// A generation that the server has.
    pub(crate) fn describe(&mut self, id: Hash) -> Result<Generation, Failure> {
        let reply = self.ask(&Request::Describe { generation: id }, |_, _| Ok(()))?;
        let Reply::Description { size } = reply else {
            return Err(Failure::before("the agent answered something else"));
        };
        const MOST: u64 = 64 << 20;
        if size > MOST {
            return Err(Failure::before("the agent's description is too large"));
        }
        let mut packed = Vec::new();
        let mut stream = self.session.line().reader.stream();
        let text = std::io::Read::read_to_end(&mut stream, &mut packed)
            .and_then(|_| zstd::bulk::decompress(&packed, usize::try_from(size).unwrap_or(0)))
            .map_err(|error| Failure::before(format!("the agent's description cannot be read: {error}")))?;
        let generation: Generation = serde_json::from_slice(&text)
            .map_err(|error| Failure::before(format!("the agent's description is not understood: {error}")))?;
        if generation.id() != id {
            return Err(Failure::before(format!("the server's generation {} is altered", id.short()))
                .hint("`stead verify` tells more"));
        }
        Ok(generation)
    }

    /// Takes a package that the server has into this file, whole and checked, or not at all.
    pub(crate) fn package(&mut self, package: &LockedPackage, file: &Path) -> Result<(), Failure> {
        let reply = self.ask(&Request::Package { sha256: package.sha256 }, |_, _| Ok(()))?;
        let Reply::Package { size } = reply else { return Err(Failure::before("the agent answered something else")) };
        let partial = file.with_extension("deb.server");
        let mut stream = self.session.line().reader.stream();
        let mut take = || -> std::io::Result<()> {
            let mut out = std::fs::File::create(&partial)?;
            // Read to the stream's end, so that the conversation stays in step; what is too long is not the package.
            let mut limited = std::io::Read::take(&mut stream, size.saturating_add(1));
            std::io::copy(&mut limited, &mut out).map(drop)
        };
        let taken = take().map_err(|error| Failure::before(error.to_string())).and_then(|()| {
            stead_debian::download::verify(&partial, package).map_err(|error| Failure::before(chain(&error)))
        });
        match taken.and_then(|()| std::fs::rename(&partial, file).map_err(|error| Failure::before(error.to_string()))) {
            Ok(()) => Ok(()),
            Err(failure) => {
                let _ = std::fs::remove_file(&partial);
                Err(failure)
            }
        }
    }

    /// Logs in again, over a connection of its own, and says that the operator still can.
    pub(crate) fn confirm(&self, activation: &str) -> Result<(), Failure> {
        confirm(&self.destination, activation)
    }

    /// Logs in again after the line broke.
    pub(crate) fn reconnect(&mut self) -> Result<(), Failure> {
        self.session =
            open(&self.destination, &agent()?, Login::Any).map_err(|error| failed(&error, &self.destination))?;
        Ok(())
    }
}

/// Confirms over a fresh login.
pub(crate) fn confirm(destination: &Destination, activation: &str) -> Result<(), Failure> {
    tell(destination, Login::Fresh, &Request::Confirm { activation: activation.to_owned() })
}

/// Has a running activation go back, for this reason.
pub(crate) fn cancel(destination: &Destination, activation: &str, reason: &str) -> Result<(), Failure> {
    let request = Request::Cancel { activation: activation.to_owned(), reason: reason.to_owned() };
    tell(destination, Login::Any, &request)
}

/// Says something to a running activation, in a conversation of its own.
fn tell(destination: &Destination, login: Login, request: &Request) -> Result<(), Failure> {
    let mut session = open(destination, &agent()?, login).map_err(|error| failed(&error, destination))?;
    let connection = session.line();
    connection.send(request).map_err(|error| Failure::before(chain(&error)))?;
    match connection.receive::<Reply>() {
        Ok(Reply::Accepted {}) => Ok(()),
        Ok(Reply::Failed(failed)) => Err(Failure::before(failed.what)),
        Ok(_) => Err(Failure::before("the agent answered something else")),
        Err(error) => Err(Failure::before(chain(&error))),
    }
}

/// What this machine remembers of generations that it sent.
pub(crate) fn cache() -> Cache {
    Cache::new(&environment::cache().join("generations"))
}
