//! A project on the operator's machine: from its files to planned generations.
//!
//! The glue between `stead-config`, `stead-inputs`, `stead-build` and `stead-plan`, in the order of
//! the design's diagram. Touches no server and moves no pin.

use crate::environment;
use crate::failure::{Failure, chain};
use crate::output::Output;
use crate::packages::Packages;
use crate::place;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use stead_build::builder::{self, Builder};
use stead_config::Project;
use stead_inputs::fit::{self, Needs};
use stead_inputs::folder::{self, Snapshot};
use stead_inputs::update::Declared;
use stead_inputs::url::InputUrl;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::lock::{Lock, RuntimeKey};
use stead_model::name::{Name, PackageName, SecretName};
use stead_model::server::{App, Server};
use stead_model::tree::{Entry, Object, Tree};
use stead_plan::{Inputs, Planned, Sealed, Standing};
use stead_secrets::{key, sealed};

/// Where the lock is, below the project's folder.
const LOCK: &str = "stead.lock";

/// A project whose files have been read and evaluated.
pub(crate) struct Loaded {
    /// As it is declared, to ask where.
    pub(crate) project: Project,
    /// Where each path input lies on this machine.
    pub(crate) sources: BTreeMap<Name, PathBuf>,
    pub(crate) root: PathBuf,
    pub(crate) declared: BTreeMap<Name, Declared>,
    pub(crate) servers: BTreeMap<Name, Server>,
    pub(crate) lock: Option<Lock>,
    pub(crate) runtimes: BTreeSet<RuntimeKey>,
}

/// The project's path inputs, as they are now.
pub(crate) type Snapshots = BTreeMap<Name, Snapshot>;

/// Where the bytes of every object of a plan are.
#[derive(Default)]
pub(crate) struct Bytes {
    files: HashMap<Hash, PathBuf>,
    texts: HashMap<Hash, Vec<u8>>,
}

impl Bytes {
    fn add_tree(&mut self, tree: &Tree, place: impl Fn(&str) -> Option<PathBuf>) {
        for (path, entry) in &tree.entries {
            if let Entry::File(object) = entry
                && let Some(file) = place(path.as_str())
            {
                self.files.insert(object.hash, file);
            }
        }
    }

    /// The bytes of an object.
    pub(crate) fn open(&self, object: Object) -> std::io::Result<Box<dyn Read + Send>> {
        if let Some(text) = self.texts.get(&object.hash) {
            return Ok(Box::new(std::io::Cursor::new(text.clone())));
        }
        match self.files.get(&object.hash) {
            Some(path) => Ok(Box::new(std::fs::File::open(path)?)),
            None => Err(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                format!("object {} is not in this project", object.hash),
            )),
        }
    }
}

/// What a deploy of one server needs: the plan, and where its bytes are.
pub(crate) struct Ready {
    pub(crate) planned: Planned,
    pub(crate) bytes: Bytes,
}

/// Reads and evaluates the project. Does not look at the content of inputs.
pub(crate) fn load(root: &Path, output: &Output) -> Result<Loaded, Failure> {
    let failed = |failure: stead_config::Failure| {
        let words = failure.render(output.colour());
        Failure::request(words.trim_start_matches("error: ").to_owned())
            .hint("mend the declaration; `stead check` tells when it is right")
    };
    let project = stead_config::load(root).map_err(failed)?;
    let mut declared = BTreeMap::new();
    let mut sources = BTreeMap::new();
    for (name, input) in &project.inputs {
        let url = InputUrl::parse(&input.url).map_err(|error| Failure::request(format!("inputs.{name}: {error}")))?;
        if let Some(folder) = url.folder(&project.root) {
            let found = folder.canonicalize().map_err(|error| {
                Failure::request(format!(
                    "the input `{name}` is declared as `{url}`, but {} cannot be read: {error}",
                    folder.components().collect::<PathBuf>().display()
                ))
                .hint("mend `inputs` in stead.ncl, or put the folder there")
            })?;
            sources.insert(name.clone(), found);
        }
        declared.insert(name.clone(), Declared { url, mirror: input.mirror.clone(), snapshot: input.snapshot.clone() });
    }
    let servers = Project::servers(&project, &sources).map_err(failed)?;
    let lock = stead_inputs::lockfile::read(&project.root.join(LOCK))
        .map_err(|error| Failure::request(chain(&error)).hint(unreadable_lock(&error)))?;
    let mut runtimes: BTreeSet<RuntimeKey> = BTreeSet::new();
    for server in servers.values() {
        runtimes.extend(stead_plan::runtime_keys(server));
    }
    Ok(Loaded { root: project.root.clone(), project, sources, declared, servers, lock, runtimes })
}

/// A name that is not among those that the project has.
pub(crate) fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let known: Vec<&str> = known.collect();
    let closest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
    let failure = Failure::request(format!("the project has no {kind} `{name}`, only: {}", known.join(", ")));
    match closest.filter(|known| strsim::jaro(known, name) > 0.7) {
        Some(known) => failure.hint(format!("did you mean `{known}`?")),
        None => failure.hint("use one of these, or declare it in stead.ncl"),
    }
}

/// What to do about a lock that cannot be read. `update` reads it too: what is pinned stays pinned.
fn unreadable_lock(error: &stead_inputs::lockfile::Error) -> &'static str {
    use stead_inputs::lockfile::Error;
    match error {
        Error::Newer { .. } => "use a newer `stead`, or the lock that version control has for this one",
        Error::Conflict { .. } => "take either side, then run `stead update`",
        _ => {
            "restore stead.lock from version control; or remove it and run `stead update`, which pins what is newest now"
        }
    }
}

/// The project's secrets, as they are encrypted, and how this server stands to each.
fn sealed(root: &Path, server: &Server) -> Result<BTreeMap<SecretName, Sealed>, Failure> {
    let secrets = stead_secrets::folder::Secrets::load(root).map_err(|error| Failure::request(chain(&error)))?;
    let mut found = BTreeMap::new();
    for (name, content) in secrets.sealed {
        let file = stead_secrets::folder::Secrets::file(&name);
        let head = sealed::head(&content).map_err(|error| {
            Failure::request(format!("{file}: {error}"))
                .hint("restore it from version control, or set it anew with `stead secret set`")
        })?;
        let readers = secrets.readers.of(&name);
        let is_keyed = head.readers.is_none_or(|known| known == key::digest(readers.values().copied()));
        let standing = match readers.contains_key(&server.name) {
            false => Standing::NotGranted,
            true if !is_keyed => Standing::NotKeyed,
            true => Standing::Granted,
        };
        found.insert(name, Sealed { content, version: head.version, standing });
    }
    Ok(found)
}

impl Loaded {
    /// The lock's file.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    /// The server of this name; without one, the only one.
    pub(crate) fn server(&self, name: Option<&str>) -> Result<&Server, Failure> {
        let names = || self.servers.keys().map(Name::as_str).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => {
                self.servers.get(name).ok_or_else(|| unknown("server", name, self.servers.keys().map(Name::as_str)))
            }
            None if self.servers.len() == 1 => Ok(self.servers.values().next().expect("there is exactly one")),
            None => Err(Failure::request(format!("the project has several servers: {}", names()))
                .hint("say which one is meant")),
        }
    }

    /// The options whose packages make up this runtime, as the operator spells them.
    pub(crate) fn options(&self, key: &RuntimeKey) -> Vec<String> {
        let of_server = |server: &Server| -> Vec<String> {
            let mut options = Vec::new();
            let mut add = |option: String, packages: &mut dyn Iterator<Item = &PackageName>| {
                let packages: BTreeSet<&PackageName> = packages.collect();
                if !packages.is_empty() && packages == key.packages.iter().collect() {
                    options.push(option);
                }
            };
            add("services.nginx.packages".to_owned(), &mut server.nginx.packages.iter());
            for (name, runtime) in &server.runtimes {
                add(format!("runtimes.{name}.packages"), &mut runtime.packages.iter());
            }
            for (name, app) in &server.apps {
                add(format!("apps.{name}.packages"), &mut app.packages.iter());
                if let Some(build) = &app.build {
                    let packages = build.all_packages();
                    add(format!("apps.{name}.build.packages"), &mut packages.iter());
                }
            }
            options
        };
        let options: BTreeSet<String> = self.servers.values().flat_map(of_server).collect();
        options.into_iter().collect()
    }

    /// Where the index of a folder's hashes is kept.
    pub(crate) fn indexes() -> PathBuf {
        environment::cache().join("folders")
    }

    /// Every path input, as it is now.
    pub(crate) fn snapshots(&self) -> Result<Snapshots, Failure> {
        let mut snapshots = Snapshots::new();
        let indexes = Self::indexes();
        for (name, declared) in &self.declared {
            let Some(path) = declared.url.folder(&self.root) else { continue };
            let index = folder::index_file(&indexes, &path);
            let snapshot = folder::snapshot(&path, Some(&index))
                .map_err(|error| Failure::request(format!("the input `{name}` cannot be used: {}", chain(&error))))?;
            snapshots.insert(name.clone(), snapshot);
        }
        Ok(snapshots)
    }

    /// That the lock pins all that the declaration needs, as it is now.
    pub(crate) fn fitting_lock(&self, snapshots: &Snapshots) -> Result<&Lock, Failure> {
        let inputs = self.declared.iter().map(|(name, declared)| (name.clone(), declared.url.clone())).collect();
        let trees = snapshots.iter().map(|(name, snapshot)| (name.clone(), snapshot.tree.id())).collect();
        let mismatches =
            fit::check(self.lock.as_ref(), Needs { inputs: &inputs, runtimes: &self.runtimes, trees: &trees });
        match (mismatches.first(), &self.lock) {
            (None, Some(lock)) => Ok(lock),
            (first, _) => {
                let all: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
                let hint = match (mismatches.len(), first.and_then(|mismatch| mismatch.input())) {
                    (1, Some(input)) => {
                        format!("`stead update {input}`, or `stead up`, which updates everything and deploys")
                    }
                    _ => "`stead update`, or `stead up`, which updates and deploys".to_owned(),
                };
                Err(Failure::request(all.join("\n")).hint(hint))
            }
        }
    }

    /// The plan of one server: builds what has to be built, fetching packages for it if it must.
    pub(crate) fn plan(&self, server: &Server, snapshots: &Snapshots, output: &mut Output) -> Result<Ready, Failure> {
        let lock = self.fitting_lock(snapshots)?;
        let mut bytes = Bytes::default();
        for snapshot in snapshots.values() {
            for (path, file) in &snapshot.files {
                if let Some(Entry::File(object)) = snapshot.tree.entries.get(path) {
                    bytes.files.insert(object.hash, file.clone());
                }
            }
        }
        let mut releases = BTreeMap::new();
        for (name, app) in &server.apps {
            if app.build.is_some() {
                let release = self.build(server, lock, name, app, snapshots, output)?;
                bytes.add_tree(&release.tree, |path| Some(release.folder.join(path)));
                releases.insert(name.clone(), release.tree);
            }
        }
        let trees: BTreeMap<Name, Tree> =
            snapshots.iter().map(|(name, snapshot)| (name.clone(), snapshot.tree.clone())).collect();
        let secrets = sealed(&self.root, server)?;
        let rules = stead_debian::runtime::RULES;
        let inputs = Inputs { lock, trees: &trees, releases: &releases, secrets: &secrets, rules };
        let planned = stead_plan::plan(server, &inputs)
            .map_err(|error| place::of_option(Failure::request(chain(&error)), self, &server.name))?;
        bytes.texts = planned.contents.iter().map(|(hash, text)| (*hash, text.clone())).collect();
        Ok(Ready { planned, bytes })
    }

    fn build(
        &self,
        server: &Server,
        lock: &Lock,
        name: &Name,
        app: &App,
        snapshots: &Snapshots,
        output: &mut Output,
    ) -> Result<stead_build::builder::Release, Failure> {
        let Some(build) = &app.build else { return Err(Failure::request(format!("the app `{name}` has no build"))) };
        let (source, tree) = self.source(name, app, snapshots)?;
        let key = stead_plan::build_key(server, app)
            .ok_or_else(|| Failure::request(format!("the app `{name}` has no build")))?;
        let locked = lock
            .runtimes
            .get(&key.to_string())
            .ok_or_else(|| Failure::request(format!("`stead.lock` has no packages for the build of `{name}`")))?;
        let recipe = stead_build::runtime::recipe(name, &locked.packages);
        let cache = environment::cache();
        if !stead_build::runtime::is_here(&cache, &recipe) {
            output.detail("fetching build packages");
            Packages::of(self, &key.debian)?.fetch(&recipe.packages, self, output)?;
            output.detail("unpacking build packages");
        }
        let root = stead_build::runtime::materialise(&cache, &crate::packages::folder(), &recipe, &|_| {})
            .map_err(|error| Failure::before(format!("the build packages of `{name}`: {}", chain(&error))))?;
        let request = builder::Request {
            app: name,
            source: &source,
            source_tree: &tree,
            runtime_root: &root,
            runtime_id: recipe.id(),
            build,
        };
        let builder = Builder::new(&cache);
        let release = builder.build(&request, &mut |event| match event {
            builder::Event::Started => output.detail(&format!("building {name}")),
            builder::Event::Output(line) => output.detail(&format!("building {name}: {line}")),
            builder::Event::Cached | builder::Event::Built(_) => {}
        });
        release.map_err(|error| {
            Failure::request(format!("the app `{name}` cannot be built: {}", chain(&error)))
                .hint("mend the build and try again")
        })
    }

    /// The folder of an app's sources on this machine, and its tree.
    fn source(&self, name: &Name, app: &App, snapshots: &Snapshots) -> Result<(PathBuf, Tree), Failure> {
        let wrong = || Failure::request(format!("apps.{name}.source has to be a folder of an input, to be built"));
        let rest = app.source.strip_prefix(layout::INPUT_PLACEHOLDER).ok_or_else(wrong)?;
        let (input, below) = rest.split_once('/').map_or((rest, None), |(input, below)| (input, Some(below)));
        let snapshot = snapshots.get(input).ok_or_else(wrong)?;
        let folder = self.declared.get(input).and_then(|declared| declared.url.folder(&self.root)).ok_or_else(wrong)?;
        match below.filter(|below| !below.is_empty()) {
            None => Ok((folder, snapshot.tree.clone())),
            Some(below) => {
                let prefix = format!("{}/", below.trim_end_matches('/'));
                let inside = snapshot.tree.entries.iter().filter_map(|(path, entry)| {
                    let path = path.as_str().strip_prefix(&prefix)?.parse().ok()?;
                    Some((path, entry.clone()))
                });
                Ok((folder.join(below), Tree { entries: inside.collect() }))
            }
        }
    }
}
