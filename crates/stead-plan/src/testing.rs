//! The described system in miniature, for the tests of every part.

use crate::{Inputs, PlanError, Planned, Sealed, plan};
use std::collections::BTreeMap;
use stead_model::certificate::{Acme, Authority, Certificate, KeyType, LETS_ENCRYPT, Source};
use stead_model::hash::{Hash, Sha256};
use stead_model::hooks::Hooks;
use stead_model::lock::{FORMAT, Lock, LockedInput, LockedPackage, LockedRuntime, RuntimeKey};
use stead_model::name::{Name, Port, SecretName};
use stead_model::server::{
    App, Build, Health, HealthCheck, Limits, Location, Nginx, Restart, RestartPolicy, Runtime, Server, Setting,
    Strategy, SystemdService, SystemdTimer, VirtualHost,
};
use stead_model::tree::{Entry, Object, Tree};

/// A server with its lock and trees, to be changed by a test.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) lock: Lock,
    pub(crate) trees: BTreeMap<Name, Tree>,
    pub(crate) releases: BTreeMap<Name, Tree>,
    pub(crate) secrets: BTreeMap<SecretName, Sealed>,
}

/// A tree of files; a path that ends with `*` is executable.
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let one = |(path, text): &(&str, &str)| {
        let object = Object { executable: path.ends_with('*'), ..Object::of(text.as_bytes()) };
        (path.trim_end_matches('*').parse().unwrap(), Entry::File(object))
    };
    Tree { entries: files.iter().map(one).collect() }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A certificate of Let's Encrypt for these names.
pub(crate) fn authority(names: &[&str]) -> Certificate {
    let authority = Authority {
        directory: LETS_ENCRYPT.to_owned(),
        roots: None,
        email: None,
        key_type: KeyType::Ec256,
        valid_min_days: 30,
    };
    Certificate {
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        source: Source::Authority(authority),
    }
}

pub(crate) fn location() -> Location {
    Location {
        proxy_pass: None,
        proxy_websockets: false,
        try_files: None,
        return_: None,
        root: None,
        alias: None,
        index: None,
        basic_auth_file: None,
        priority: 1000,
        extra_config: String::new(),
    }
}

pub(crate) fn site(locations: &[(&str, Location)]) -> VirtualHost {
    VirtualHost {
        server_name: None,
        server_aliases: Vec::new(),
        listen: Vec::new(),
        listen_addresses: Vec::new(),
        tls: None,
        http2: true,
        hsts: false,
        security_headers: false,
        access_log: true,
        error_pages: BTreeMap::new(),
        basic_auth_file: None,
        default: false,
        root: None,
        global_redirect: None,
        redirect_code: 301,
        extra_config: String::new(),
        locations: locations.iter().map(|(place, location)| ((*place).to_owned(), location.clone())).collect(),
    }
}

pub(crate) fn app(source: &str, exec: &str, port: Option<u16>) -> App {
    App {
        source: source.to_owned(),
        build: None,
        exec: exec.to_owned(),
        packages: vec!["libc6".parse().unwrap()],
        debian: None,
        environment: BTreeMap::new(),
        credentials: BTreeMap::new(),
        port: port.and_then(Port::new),
        port_variable: "PORT".parse().unwrap(),
        database: None,
        user: None,
        after: Vec::new(),
        requires: Vec::new(),
        wants: Vec::new(),
        restart: Restart { policy: RestartPolicy::Always, delay: 1 },
        limits: Limits::default(),
        health: None,
        state_directory: false,
        strategy: Strategy::Beside,
        drain: App::DRAIN,
        stop_timeout: 30,
        unprotected: Vec::new(),
    }
}

pub(crate) fn service(config: &[(&str, Setting)]) -> SystemdService {
    SystemdService {
        description: None,
        runtime: None,
        after: Vec::new(),
        before: Vec::new(),
        requires: Vec::new(),
        wants: Vec::new(),
        wanted_by: Vec::new(),
        environment: BTreeMap::new(),
        credentials: BTreeMap::new(),
        service_config: settings(config),
        unit_config: BTreeMap::new(),
    }
}

pub(crate) fn timer(config: &[(&str, Setting)]) -> SystemdTimer {
    SystemdTimer {
        description: None,
        wanted_by: vec!["timers.target".parse().unwrap()],
        timer_config: settings(config),
    }
}

pub(crate) fn text(text: &str) -> Setting {
    Setting::Text(text.to_owned())
}

fn settings(config: &[(&str, Setting)]) -> BTreeMap<String, Setting> {
    config.iter().map(|(key, setting)| ((*key).to_owned(), setting.clone())).collect()
}

fn nginx() -> Nginx {
    let proxied =
        Location { proxy_pass: Some("http://127.0.0.1:4000".to_owned()), proxy_websockets: true, ..location() };
    let github = Location { return_: Some("301 https://git.example/example".to_owned()), ..location() };
    let files = Location { try_files: Some("$uri $uri/ =404".to_owned()), ..location() };
    let pictures = Location {
        extra_config: "expires 30d;\nadd_header Cache-Control public;".to_owned(),
        priority: 900,
        ..location()
    };
    let mut portfolio = site(&[("/", files), ("= /github", github), ("~* \\.(png|jpe?g)$", pictures)]);
    portfolio.root = Some("/@stead/inputs/portfolio".to_owned());
    portfolio.server_aliases = vec!["www.nick.example".to_owned()];
    Nginx {
        enable: true,
        debian: None,
        packages: vec!["nginx".parse().unwrap()],
        virtual_hosts: [
            ("billtracker.site".to_owned(), site(&[("/", proxied)])),
            ("nick.example".to_owned(), portfolio),
        ]
        .into(),
        upstreams: BTreeMap::new(),
        recommended_proxy_settings: true,
        recommended_optimisation: true,
        recommended_gzip_settings: true,
        recommended_tls_settings: true,
        client_max_body_size: "10m".to_owned(),
        server_tokens: false,
        drain: 60,
        unprotected: Vec::new(),
        append_http_config: String::new(),
        append_config: String::new(),
    }
}

fn bill_tracker() -> App {
    let mut app = app("/@stead/inputs/billtracker", "bin/bill_tracker start", Some(4000));
    app.build = Some(Build {
        packages: vec!["elixir".parse().unwrap()],
        command: "mix release".to_owned(),
        output: "_build/prod/rel/bill_tracker".to_owned(),
        environment: BTreeMap::new(),
    });
    app.packages = vec!["libc6".parse().unwrap(), "dash".parse().unwrap()];
    app.environment = [
        ("PORT".parse().unwrap(), "4000".to_owned()),
        ("GREETING".parse().unwrap(), "100% \"sure\" \\o/ $HOME".to_owned()),
    ]
    .into();
    app.limits = Limits { memory_max: Some("512M".to_owned()), ..Limits::default() };
    app.health = Some(Health {
        check: HealthCheck::Http { path: "/health".to_owned(), host: None, status: None, body: None },
        interval: 500,
        timeout: 2000,
        deadline: 30_000,
        passes: 1,
        soak: Health::SOAK,
    });
    app.state_directory = true;
    app
}

impl Fixture {
    /// Two sites, an app with a build, a service with a timer.
    pub(crate) fn two_sites() -> Self {
        let mut clean =
            service(&[("Type", text("oneshot")), ("ExecStart", text("/usr/bin/find /var/tmp -mtime +7 -delete"))]);
        clean.runtime = Some(name("tools"));
        let server = Server {
            name: name("billtracker"),
            host: "203.0.113.10".to_owned(),
            ssh_user: None,
            ssh_port: None,
            architecture: "amd64".to_owned(),
            debian: name("debian"),
            apps: [(name("bill-tracker"), bill_tracker())].into(),
            nginx: nginx(),
            runtimes: [(name("tools"), Runtime { debian: None, packages: vec!["findutils".parse().unwrap()] })].into(),
            services: [(name("clean"), clean)].into(),
            timers: [(name("clean"), timer(&[("OnCalendar", text("daily")), ("Persistent", Setting::Bool(true))]))]
                .into(),
            hooks: Hooks::default(),
            probes: BTreeMap::new(),
            acme: Acme::default(),
            host_settings: stead_model::host::Declared::default(),
            firewall: None,
            postgresql: None,
        };
        let (trees, releases, secrets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut fixture = Self { server, lock: Lock::empty(), trees, releases, secrets };
        fixture.input("portfolio", tree(&[("index.html", "hello"), ("404.html", "no")]));
        fixture.input(
            "billtracker",
            tree(&[("mix.exs", "app"), ("bin/run*", "run"), ("tools/bin/run*", "run"), ("README", "read")]),
        );
        fixture.releases.insert(name("bill-tracker"), tree(&[("bin/bill_tracker*", "start"), ("bin/notes", "text")]));
        fixture.pin(&["nginx"]).pin(&["libc6"]).pin(&["dash", "libc6"]).pin(&["findutils"]);
        fixture
    }

    /// Adds an input with a folder, pinned to it.
    pub(crate) fn input(&mut self, input: &str, tree: Tree) -> &mut Self {
        let url = format!("path:../{input}");
        let locked = LockedInput::Path { url, tree: tree.id(), files: tree.entries.len() as u64, size: tree.size() };
        self.lock.inputs.insert(name(input), locked);
        self.trees.insert(name(input), tree);
        self
    }

    /// Pins a package set to itself.
    pub(crate) fn pin(&mut self, packages: &[&str]) -> &mut Self {
        let key = RuntimeKey::new(name("debian"), "amd64", packages.iter().map(|package| package.parse().unwrap()));
        let locked = |package: &stead_model::name::PackageName| LockedPackage {
            name: package.clone(),
            version: "1.0-1".to_owned(),
            architecture: "amd64".to_owned(),
            size: 1,
            sha256: Sha256::of(package.as_str().as_bytes()),
            path: format!("pool/{package}.deb"),
            suite: "bookworm".to_owned(),
        };
        let packages = key.packages.iter().map(locked).collect();
        let runtime = LockedRuntime {
            debian: name("debian"),
            architecture: "amd64".to_owned(),
            requested: key.packages.clone(),
            packages,
        };
        self.lock.format = FORMAT;
        self.lock.runtimes.insert(key.to_string(), runtime);
        self
    }

    pub(crate) fn try_plan(&self) -> Result<Planned, PlanError> {
        let Self { server, lock, trees, releases, secrets } = self;
        plan(server, &Inputs { lock, trees, releases, secrets, rules: 1 })
    }

    pub(crate) fn plan(&self) -> Planned {
        self.try_plan().unwrap()
    }

    /// What is said about the declaration.
    pub(crate) fn error(&self) -> String {
        self.try_plan().unwrap_err().to_string()
    }

    pub(crate) fn app(&mut self) -> &mut App {
        self.server.apps.get_mut("bill-tracker").unwrap()
    }

    pub(crate) fn site(&mut self, key: &str) -> &mut VirtualHost {
        self.server.nginx.virtual_hosts.get_mut(key).unwrap()
    }

    pub(crate) fn place(&mut self) -> &mut Location {
        self.site("nick.example").locations.get_mut("/").unwrap()
    }
}

/// The text of the generation's file whose path has this beginning and end.
pub(crate) fn file(planned: &Planned, start: &str, end: &str) -> String {
    let fits = |path: &str| path.starts_with(start) && path.ends_with(end);
    let mut found = planned.generation.files.entries.iter().filter(|(path, _)| fits(path.as_str()));
    let (Some((_, Entry::File(object))), None) = (found.next(), found.next()) else {
        panic!("not one file {start}…{end}")
    };
    String::from_utf8(planned.contents[&object.hash].clone()).unwrap()
}

/// Every file and link of the generation, as one text; 64-digit hashes are cut for the reader.
pub(crate) fn everything(planned: &Planned) -> String {
    let mut out = String::new();
    for (path, entry) in &planned.generation.files.entries {
        match entry {
            Entry::File(object) => {
                let text = String::from_utf8(planned.contents[&object.hash].clone()).unwrap();
                out.push_str(&format!("==== {path}\n{text}"));
            }
            Entry::Link(target) => out.push_str(&format!("==== {path} -> {target}\n")),
            Entry::Folder => out.push_str(&format!("==== {path}/\n")),
        }
    }
    out
}

/// Whether every object of the generation's own files has its content, and nothing else is there.
pub(crate) fn is_whole(planned: &Planned) -> bool {
    let wanted: std::collections::BTreeSet<Hash> =
        planned.generation.files.objects().map(|object| object.hash).collect();
    let matches = planned.contents.iter().all(|(hash, bytes)| *hash == Hash::of(bytes));
    matches
        && wanted == planned.contents.keys().copied().collect()
        && planned.trees.iter().all(|(id, tree)| *id == tree.id())
}
