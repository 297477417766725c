//! From the merged configuration to a [`Server`].
//!
//! Types and ranges are the contracts' affair; here are the rules that tie options together (a health check needs a
//! port, a runtime that is named exists), the names that become files and units, and the change of units of time.
//! Every refusal names the option and its place.

use crate::failure::{Failure, Kind};
use crate::language::{Report, Session, spell};
use crate::project::{InputDeclaration, Project};
use crate::tree::{Node, Shape};
use crate::unknown::similar;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stead_model::hooks::Hooks;
use stead_model::name::Name;
use stead_model::probe::Timing;
use stead_model::secret;
use stead_model::server::{App, Runtime, Server, SystemdService, SystemdTimer};

/// Whether an app runs: its own word, else that of the options which its module declares, else yes.
pub(crate) fn is_enabled(configuration: &Node, app: &str) -> bool {
    let says = |path: &[&str]| match configuration.at(path).map(|node| &node.shape) {
        Some(Shape::Bool(value)) => Some(*value),
        _ => None,
    };
    says(&["apps", app, "enable"]).or_else(|| says(&["services", app, "enable"])).unwrap_or(true)
}

/// The server that these options declare.
pub(crate) fn map(
    session: &Session,
    project: &Project,
    name: Name,
    declared: &Node,
    configuration: &Node,
) -> Result<Server, Failure> {
    let mapping = Mapping { session, project, configuration };
    mapping.server(name, declared)
}

pub(crate) struct Mapping<'a> {
    pub(crate) session: &'a Session,
    project: &'a Project,
    pub(crate) configuration: &'a Node,
}

impl Mapping<'_> {
    fn server(&self, name: Name, declared: &Node) -> Result<Server, Failure> {
        self.check_secrets()?;
        let mut apps = BTreeMap::new();
        for (name, app) in self.configuration.get("apps").into_iter().flat_map(Node::fields) {
            if is_enabled(self.configuration, name) {
                apps.insert(self.name(&["apps", name], app)?, self.app(name, app)?);
            }
        }
        let runtimes: BTreeMap<Name, Runtime> = self.each(&["runtimes"])?;
        let services: BTreeMap<Name, SystemdService> = self.each(&["systemd", "services"])?;
        let timers: BTreeMap<Name, SystemdTimer> = self.each(&["systemd", "timers"])?;
        self.check_debian_inputs()?;
        for (service, runtime) in services.iter().filter_map(|(name, service)| Some((name, service.runtime.as_ref()?)))
        {
            if !runtimes.contains_key(runtime) {
                let path = ["systemd", "services", service.as_str(), "runtime"];
                let known = runtimes.keys().map(Name::as_str);
                return Err(self.refuse(
                    &path,
                    format!(": there is no runtime `{runtime}` in `runtimes`"),
                    similar(runtime.as_str(), known),
                ));
            }
        }
        for timer in timers.keys() {
            if !services.contains_key(timer) {
                let known = services.keys().map(Name::as_str);
                let words = format!(" starts the service `{timer}`, which is not in `systemd.services`");
                return Err(self.refuse(&["systemd", "timers", timer.as_str()], words, similar(timer.as_str(), known)));
            }
        }
        let text = |field: &str| declared.get(field).map(Node::to_json).unwrap_or(Value::Null);
        let value = json!({
            "name": name, "host": text("host"), "sshUser": text("sshUser"), "sshPort": text("sshPort"),
            "architecture": text("architecture"), "debian": self.debian(&name, declared)?,
            "nginx": Value::Object(self.nginx()?), "acme": self.acme()?, "hooks": self.hooks()?,
            "hostSettings": self.host_settings()?,
        });
        let server: Server = self.read(declared, &["outputs", "servers", name.as_str()], value)?;
        let firewall = self.firewall()?;
        let postgresql = self.postgresql(&apps, &server.debian)?;
        Ok(Server { apps, runtimes, services, timers, probes: self.probes()?, firewall, postgresql, ..server })
    }

    /// The Debian input of the server: the declared one, else the only one, else the one named `debian`.
    fn debian(&self, server: &Name, declared: &Node) -> Result<Name, Failure> {
        let known: Vec<&Name> = self.debian_inputs().collect();
        let fail = |report: Report| Err(self.session.fail(report));
        if let Some(node) = declared.get("debian").filter(|node| node.text().is_some()) {
            let wanted = node.text().unwrap_or_default();
            if let Some(found) = known.iter().find(|name| name.as_str() == wanted) {
                return Ok((*found).clone());
            }
            let place = self.session.place_of(node);
            let report = Report::new(Kind::UnknownName, format!("`{wanted}` is not a Debian input of this project"))
                .at(place, "this one");
            return fail(self.with_suggestion(report, similar(wanted, known.iter().map(|name| name.as_str()))));
        }
        match known.as_slice() {
            [only] => Ok((*only).clone()),
            [] => fail(
                Report::new(Kind::MissingValue, "the project has no Debian input, and every server needs one")
                    .hint("Add `inputs.debian.url = \"debian:bookworm\"` to `stead.ncl`."),
            ),
            several => match several.iter().find(|name| name.as_str() == "debian") {
                Some(name) => Ok((*name).clone()),
                None => fail(
                    Report::new(
                        Kind::MissingValue,
                        format!("`outputs.servers.{server}.debian` has no value, and there are several Debian inputs"),
                    )
                    .at(self.session.place_of_name(declared), "this server"),
                ),
            },
        }
    }

    /// The release of a Debian input: `bookworm`.
    pub(crate) fn release(&self, input: &Name) -> Option<&str> {
        self.project.inputs.get(input)?.url.strip_prefix("debian:")
    }

    fn debian_inputs(&self) -> impl Iterator<Item = &Name> {
        self.project.inputs.iter().filter(|(_, input): &(_, &InputDeclaration)| input.is_debian()).map(|(name, _)| name)
    }

    /// Every `debian` option names a Debian input.
    fn check_debian_inputs(&self) -> Result<(), Failure> {
        let mut paths: Vec<Vec<&str>> =
            vec![vec!["services", "nginx", "debian"], vec!["services", "postgresql", "debian"]];
        for parent in ["apps", "runtimes"] {
            let names =
                self.configuration.get(parent).into_iter().flat_map(Node::fields).map(|(name, _)| name.as_str());
            paths.extend(names.map(|name| vec![parent, name, "debian"]));
        }
        for path in paths {
            let Some(wanted) = self.configuration.at(&path).and_then(Node::text) else { continue };
            if !self.debian_inputs().any(|name| name.as_str() == wanted) {
                let suggestion = similar(wanted, self.debian_inputs().map(Name::as_str));
                return Err(self.refuse(
                    &path,
                    format!(": `{wanted}` is not a Debian input of this project"),
                    suggestion,
                ));
            }
        }
        Ok(())
    }

    fn app(&self, name: &str, node: &Node) -> Result<App, Failure> {
        let path = ["apps", name];
        let mut value = node.to_json();
        let fields = object(&mut value);
        fields.remove("enable");
        if let Some(health) = node.get("health").filter(|health| matches!(health.shape, Shape::Record(_))) {
            let has_port = matches!(node.get("port").map(|port| &port.shape), Some(Shape::Number(_)));
            fields.insert("health".to_owned(), self.health(name, health, has_port)?);
        }
        self.whole_seconds(fields, "stopTimeout", &["apps", name, "stopTimeout"])?;
        self.whole_seconds(fields, "drain", &["apps", name, "drain"])?;
        if let Some(restart) = fields.get_mut("restart") {
            self.whole_seconds(object(restart), "delay", &["apps", name, "restart", "delay"])?;
        }
        self.read(node, &path, value)
    }

    /// The model's form of a health check: one question, times in milliseconds.
    fn health(&self, app: &str, node: &Node, has_port: bool) -> Result<Value, Failure> {
        let path = ["apps", app, "health"];
        let fields = node.to_json();
        let at = |name: &str| fields.get(name).cloned().unwrap_or(Value::Null);
        let is_set = |name: &str| !matches!(at(name), Value::Null | Value::Bool(false));
        let asked: Vec<&str> = ["path", "tcp", "command"].into_iter().filter(|name| is_set(name)).collect();
        let check = match asked.as_slice() {
            ["path"] => {
                if !at("path").as_str().is_some_and(|path| path.starts_with('/')) {
                    return Err(self.refuse(
                        &["apps", app, "health", "path"],
                        " has to start with `/`".to_owned(),
                        None,
                    ));
                }
                let status = at("status");
                if status.as_u64().is_some_and(|status| !(100..=599).contains(&status)) {
                    return Err(self.refuse(
                        &["apps", app, "health", "status"],
                        " has to be from 100 to 599".to_owned(),
                        None,
                    ));
                }
                json!({ "http": { "path": at("path"), "host": at("host"), "status": status, "body": at("body") } })
            }
            ["tcp"] => json!({ "tcp": {} }),
            ["command"] => json!({ "command": { "command": at("command") } }),
            _ => return Err(self.refuse(&path, " needs exactly one of `path`, `tcp` and `command`".to_owned(), None)),
        };
        if asked != ["command"] && !has_port {
            return Err(self.refuse(&path, format!(" asks for an answer, but `apps.{app}.port` is not set"), None));
        }
        if let Some(stray) = ["host", "status", "body"].into_iter().find(|name| is_set(name) && asked != ["path"]) {
            return Err(self.refuse(
                &["apps", app, "health", stray],
                " is for checks with `path` only".to_owned(),
                None,
            ));
        }
        let Timing { interval, timeout, deadline, passes } = self.timing(&path, node)?;
        let soak = if at("soak").as_f64() == Some(0.0) { 0 } else { self.milliseconds(&path, node, "soak")? };
        let mut health = json!({ "check": check, "interval": interval, "timeout": timeout, "deadline": deadline });
        object(&mut health).extend([("passes".to_owned(), json!(passes)), ("soak".to_owned(), json!(soak))]);
        Ok(health)
    }

    fn hooks(&self) -> Result<Value, Failure> {
        let path = ["hooks"];
        let Some(node) = self.configuration.at(&path) else { return Ok(json!({})) };
        let mut value = node.to_json();
        self.whole_seconds(object(&mut value), "timeout", &["hooks", "timeout"])?;
        let _: Hooks = self.read(node, &path, value.clone())?;
        Ok(value)
    }

    /// The things with free names below these options.
    fn each<T: DeserializeOwned>(&self, path: &[&str]) -> Result<BTreeMap<Name, T>, Failure> {
        let mut found = BTreeMap::new();
        for (name, node) in self.configuration.at(path).into_iter().flat_map(Node::fields) {
            let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            found.insert(self.name(&path, node)?, self.read(node, &path, node.to_json())?);
        }
        Ok(found)
    }

    pub(crate) fn name(&self, path: &[&str], node: &Node) -> Result<Name, Failure> {
        let text = path.last().copied().unwrap_or_default();
        text.parse().map_err(|error| {
            let report = Report::new(Kind::WrongValue, format!("`{}` cannot have this name: {error}", spell(path)));
            self.session.fail(report.at(self.session.place_of_name(node), "this name"))
        })
    }

    /// The model's value, or the place of what it does not accept.
    pub(crate) fn read<T: DeserializeOwned>(&self, node: &Node, path: &[&str], value: Value) -> Result<T, Failure> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner: Vec<String> = error
                .path()
                .iter()
                .map(|segment| segment.to_string().trim_matches(['[', ']']).to_owned())
                .take_while(|segment| segment != "?")
                .collect();
            let mut deepest = node;
            for segment in &inner {
                let next = match &deepest.shape {
                    Shape::List(items) => segment.parse().ok().and_then(|index: usize| items.get(index)),
                    _ => deepest.get(segment),
                };
                let Some(next) = next else { break };
                deepest = next;
            }
            let full: Vec<&str> = path.iter().copied().chain(inner.iter().map(String::as_str)).collect();
            let report = Report::new(Kind::WrongValue, format!("`{}` is wrong: {}", spell(&full), error.inner()));
            self.session.fail(report.at(self.session.place_of(deepest), "this value"))
        })
    }

    /// systemd and nginx are given whole seconds.
    pub(crate) fn whole_seconds(
        &self,
        fields: &mut Map<String, Value>,
        name: &str,
        path: &[&str],
    ) -> Result<(), Failure> {
        match fields.get(name) {
            Some(value) if value.as_f64().is_some_and(|seconds| seconds.fract() != 0.0) => {
                Err(self.refuse(path, " has to be a whole number of seconds".to_owned(), None))
            }
            _ => Ok(()),
        }
    }

    /// Secrets stand where they reach a service without being written down, and nowhere else. What a module declares for
    /// itself (`services.shop.key`) is its own affair: what it makes of it is looked at.
    fn check_secrets(&self) -> Result<(), Failure> {
        let is_looked_at = |part: &str, name: &str| match part {
            "apps" => is_enabled(self.configuration, name),
            "services" => ["nginx", "journald", "openssh", "postgresql"].contains(&name),
            _ => true,
        };
        for (part, node) in self.configuration.fields() {
            let mut path = vec![part.clone()];
            let found = match &node.shape {
                Shape::Record(_) => {
                    node.fields().filter(|(name, _)| is_looked_at(part, name)).find_map(|(name, child)| {
                        path.push(name.clone());
                        let found = find_secret(child, &mut path);
                        if found.is_none() {
                            path.pop();
                        }
                        found
                    })
                }
                _ => find_secret(node, &mut path),
            };
            if let Some(found) = found {
                let words = format!("`{}` cannot have a secret in it: everybody could read it there", spell(&path));
                let report = Report::new(Kind::WrongValue, words).at(self.session.place_of(found), "this value");
                let hint = "Secrets can stand in `environment` and `credentials` of apps and of `systemd.services`, and in `basicAuthFile`.";
                return Err(self.session.fail(report.hint(hint)));
            }
        }
        Ok(())
    }

    pub(crate) fn refuse(&self, path: &[&str], words: String, suggestion: Option<&str>) -> Failure {
        let node = self.configuration.at(path);
        let place = node.and_then(|node| match node.shape {
            Shape::Record(_) => self.session.place_of_name(node),
            _ => self.session.place_of(node),
        });
        let report = Report::new(Kind::WrongValue, format!("`{}`{words}", spell(path))).at(place, "this one");
        self.session.fail(self.with_suggestion(report, suggestion))
    }

    fn with_suggestion(&self, report: Report, suggestion: Option<&str>) -> Report {
        match suggestion {
            Some(suggestion) => report.hint(format!("Did you mean `{suggestion}`?")),
            None => report,
        }
    }
}

pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object just now")
}

/// Whether a secret may stand at this option.
fn may_be_secret(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path.as_slice(),
        ["apps", _, "environment" | "credentials", _]
            | ["systemd", "services", _, "environment" | "credentials", _]
            | ["services", "nginx", "virtualHosts", _, "basicAuthFile"]
            | ["services", "nginx", "virtualHosts", _, "locations", _, "basicAuthFile"]
    )
}

/// The first secret below `node` at a place where none may be; `path` becomes its option.
fn find_secret<'a>(node: &'a Node, path: &mut Vec<String>) -> Option<&'a Node> {
    if may_be_secret(path) {
        return None;
    }
    if node.text().is_some_and(|text| text.contains(secret::PLACEHOLDER)) {
        return Some(node);
    }
    if let Shape::List(items) = &node.shape {
        return items.iter().find_map(|item| find_secret(item, path));
    }
    for (name, child) in node.fields() {
        path.push(name.clone());
        if let Some(found) = find_secret(child, path) {
            return Some(found);
        }
        path.pop();
    }
    None
}
