//! From a source folder and a `build` to a release that is kept.
//!
//! Promises that a release is published whole or not at all, that one found in the cache is byte
//! for byte the one that was built (any other is built again), and that whatever fails leaves the
//! full log behind and no half-made release. Never builds the same thing twice.

pub use crate::output::Lines;
use crate::output::Recorder;
use crate::sandbox::{self, Sandbox};
use crate::source;
use crate::work::{self, Work};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stead_inputs::folder;
use stead_model::hash::Hash;
use stead_model::name::Name;
use stead_model::path::RelativePath;
use stead_model::server::Build;
use stead_model::tree::Tree;

/// The rules by which sources become a release. Whoever changes what a build sees raises it.
pub const RULES: u32 = 1;

/// How long a build may take unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What has to be built.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The app, for messages.
    pub app: &'a Name,
    /// The folder of the sources on this machine.
    pub source: &'a Path,
    /// What is taken of it, and what it has to be: files that are not in here are not seen.
    pub source_tree: &'a Tree,
    /// The build's file system: the folder that [`crate::runtime::materialise`] returned.
    pub runtime_root: &'a Path,
    /// The identity of its recipe.
    pub runtime_id: Hash,
    /// The command and its output.
    pub build: &'a Build,
}

/// What a build is doing, for a display of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The release was built before, from the same things.
    Cached,
    /// The sources are copied, and the command starts.
    Started,
    /// A line that the command printed, without its line break.
    Output(String),
    /// The release is there, built in this time.
    Built(Duration),
}

/// A built app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its content.
    pub tree: Tree,
    /// Where its files are: read-only, and the cache's own.
    pub folder: PathBuf,
}

/// Builds, and keeps what it has built below one folder.
#[derive(Debug, Clone)]
pub struct Builder {
    cache: PathBuf,
    bubblewrap: PathBuf,
    timeout: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    tree: Hash,
}

impl Builder {
    /// A builder that keeps releases and logs below `cache`, which it makes when needed.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), bubblewrap: PathBuf::from("bwrap"), timeout: TIMEOUT }
    }

    /// The same with another program in the place of `bwrap`.
    #[must_use]
    pub fn with_bubblewrap(self, program: impl Into<PathBuf>) -> Self {
        Self { bubblewrap: program.into(), ..self }
    }

    /// The same with another time that a build may take.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The release of this request: the kept one, or a new one.
    pub fn build(&self, request: &Request<'_>, events: &mut dyn FnMut(Event)) -> Result<Release, Error> {
        let id = identity(request);
        let place = self.cache.join("releases").join(id.to_string());
        if let Some(release) = kept(&place) {
            events(Event::Cached);
            return Ok(release);
        }
        let began = std::time::Instant::now();
        let output = output_path(request.build)?;
        let work = self.work_folder()?;
        let log = self.cache.join("logs").join(format!("{}-{}.log", request.app, id.short()));
        events(Event::Started);
        source::copy(request.source, request.source_tree, &work.build())?;
        self.run(request, work.path(), &log, events)?;
        work::open_up(&work.build()).map_err(failed("read", &work.build()))?;
        let made = made(&work.build(), output.as_ref(), request.build)?;
        let release = self.publish(&made, &place)?;
        events(Event::Built(began.elapsed()));
        Ok(release)
    }

    fn run(&self, request: &Request<'_>, work: &Path, log: &Path, events: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let sandbox = Sandbox { bubblewrap: &self.bubblewrap, root: request.runtime_root, work };
        let mut recorder = Recorder::create(log).map_err(failed("write", log))?;
        let ended = sandbox.run(request.build, self.timeout, &mut |line| {
            recorder.line(line);
            events(Event::Output(line.to_owned()));
        });
        let last = recorder.finish().map_err(failed("write", log))?;
        let (app, log) = (request.app.clone(), log.to_owned());
        match ended? {
            sandbox::Ended::Well => Ok(()),
            sandbox::Ended::Badly(how) => {
                match last.first().filter(|_| last.len() == 1).and_then(|line| line.strip_prefix("bwrap: ")) {
                    Some(said) => Err(Error::Sandbox { said: said.to_owned() }),
                    None => Err(Error::Command { app, how, last: Lines(last), log }),
                }
            }
            sandbox::Ended::TooLate => Err(Error::Timeout { app, after: self.timeout, last: Lines(last), log }),
        }
    }

    fn work_folder(&self) -> Result<Work, Error> {
        for folder in ["logs", "releases", "work"] {
            let folder = self.cache.join(folder);
            fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        }
        let parent = self.cache.join("work");
        Work::create(&parent).map_err(failed("use", &parent))
    }

    /// Takes the output out of the work folder and puts it, whole, where it is found again.
    fn publish(&self, made: &Path, place: &Path) -> Result<Release, Error> {
        let snapshot =
            folder::snapshot_whole(made, None).map_err(|source| Error::Output { source: Box::new(source) })?;
        let releases = self.cache.join("releases");
        let next = tempfile::Builder::new().prefix(".new-").tempdir_in(&releases).map_err(failed("make", &releases))?;
        let folder = next.path().join("tree");
        fs::rename(made, &folder).map_err(failed("move", made))?;
        source::seal(&folder, &snapshot.tree).map_err(failed("seal", &folder))?;
        let stored = next.path().join("release.json");
        let json = serde_json::to_vec(&Stored { tree: snapshot.tree.id() }).expect("a hash always serialises");
        fs::write(&stored, json).map_err(failed("write", &stored))?;
        // Another builder of the same thing may have been quicker; a damaged one makes way.
        if let Some(release) = kept(place) {
            return Ok(release);
        }
        remove(place).map_err(failed("remove", place))?;
        fs::rename(next.keep(), place).map_err(failed("publish", place))?;
        Ok(Release { tree: snapshot.tree, folder: place.join("tree") })
    }
}

/// Everything that goes into a release, and nothing else.
fn identity(request: &Request<'_>) -> Hash {
    let Build { packages: _, command, output, environment } = request.build;
    let parts = (RULES, request.source_tree.id(), request.runtime_id, command, output, environment);
    Hash::of_value("stead build 1", &parts)
}

/// The release in this place, if it is there and unaltered.
fn kept(place: &Path) -> Option<Release> {
    let stored: Stored = serde_json::from_slice(&fs::read(place.join("release.json")).ok()?).ok()?;
    let folder = place.join("tree");
    let snapshot = folder::snapshot_whole(&folder, Some(&place.join("index.json"))).ok()?;
    (snapshot.tree.id() == stored.tree).then_some(Release { tree: snapshot.tree, folder })
}

fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `None`: the whole folder of the build.
fn output_path(build: &Build) -> Result<Option<RelativePath>, Error> {
    let refused = |_| Error::OutputPath { output: build.output.clone() };
    match build.output.trim_end_matches('/') {
        "." => Ok(None),
        text => text.strip_prefix("./").unwrap_or(text).parse().map(Some).map_err(refused),
    }
}

/// The output folder, reached without following links.
fn made(build: &Path, output: Option<&RelativePath>, declared: &Build) -> Result<PathBuf, Error> {
    let mut place = build.to_owned();
    for part in output.into_iter().flat_map(|output| output.as_str().split('/')) {
        place.push(part);
        if !fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_dir()) {
            let found = source::names(place.parent().unwrap_or(build));
            return Err(Error::NoOutput { output: declared.output.clone(), found });
        }
    }
    Ok(place)
}

pub(crate) fn failed<'a>(verb: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::File { verb, path: path.to_owned(), source }
}

/// There is no release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program that shuts builds in is not there.
    #[error("`{}` is not installed, and builds run in its sandbox: install it (`sudo apt install bubblewrap`)", program.display())]
    NoBubblewrap {
        /// The program that was looked for.
        program: PathBuf,
    },
    /// The sandbox could not be set up.
    #[error(
        "the sandbox cannot be set up: bubblewrap says: {said} (it needs user namespaces: see `sysctl kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns`)"
    )]
    Sandbox {
        /// The words of bubblewrap.
        said: String,
    },
    /// The build's packages have no shell.
    #[error("the build's packages have no `/bin/sh`: `dash` has to be among them")]
    NoShell,
    /// The command failed.
    #[error("the build of `{app}` {how}; its last lines:{last}\nThe whole log: {}", log.display())]
    Command {
        /// The app.
        app: Name,
        /// "ended with 1", "was ended by signal 9".
        how: String,
        /// Up to 20 lines.
        last: Lines,
        /// All of them.
        log: PathBuf,
    },
    /// The command took too long, and was stopped.
    #[error("the build of `{app}` was stopped after {} s; its last lines:{last}\nThe whole log: {}", after.as_secs(), log.display())]
    Timeout {
        /// The app.
        app: Name,
        /// The time that it was given.
        after: Duration,
        /// Up to 20 lines.
        last: Lines,
        /// All of them.
        log: PathBuf,
    },
    /// The declared output is no path below the sources.
    #[error("`build.output = \"{output}\"` has to be a folder below the sources, such as `dist`, or `.`")]
    OutputPath {
        /// As declared.
        output: String,
    },
    /// The command succeeded without making its output.
    #[error("the build succeeded, but made no folder `{output}`; there is: {}", found.join(", "))]
    NoOutput {
        /// As declared.
        output: String,
        /// What is there instead.
        found: Vec<String>,
    },
    /// The output has what a release cannot hold, such as a link that leaves it.
    #[error("what the build has made cannot be a release")]
    Output {
        /// What is wrong with it.
        source: Box<folder::Error>,
    },
    /// The sources are not what they were when they were looked at.
    #[error("`{}` has changed since the sources were looked at: run the command again", path.display())]
    SourceChanged {
        /// The first such file.
        path: PathBuf,
    },
    /// A file or folder of the cache or the sources could not be used.
    #[error("cannot {verb} `{}`", path.display())]
    File {
        /// What was tried: "read", "write", "make".
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
