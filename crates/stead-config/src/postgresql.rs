//! `services.postgresql`: from options to one value of the model.
//!
//! Promises that nothing declared is another name, another line or another setting than the one meant, and that what Stead
//! itself sets is not set twice. What only PostgreSQL knows (is there such a setting, does the value fit) the server asks it.

use crate::failure::Failure;
use crate::server::Mapping;
use crate::tree::{Node, Shape};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stead_model::name::{Name, SettingName, SqlName};
use stead_model::server::{App, Postgresql};

const PATH: [&str; 2] = ["services", "postgresql"];

/// The version of each Debian release (package `postgresql`).
const VERSIONS: [(&str, u32); 3] = [("bullseye", 13), ("bookworm", 15), ("trixie", 17)];
/// Those that Stead knows how to start.
const KNOWN: std::ops::RangeInclusive<u64> = 13..=18;

/// Settings that are Stead's, each with what to use instead.
const NOT_HERE: [(&str, &str); 10] = [
    ("data_directory", "data lie in /var/lib/stead-state/postgresql, by major version"),
    ("config_file", "use `services.postgresql.settings`"),
    ("hba_file", "use `services.postgresql.authentication`"),
    ("ident_file", "use `services.postgresql.identMap`"),
    ("include", "say what is to be included"),
    ("include_dir", "say what is to be included"),
    ("include_if_exists", "say what is to be included"),
    ("external_pid_file", "systemd looks after PostgreSQL"),
    ("unix_socket_directories", "apps find the socket in /run/stead/postgresql"),
    ("data_checksums", "they are always on"),
];

/// How somebody is known to be who they say (`pg_hba.conf`, "auth-method"), as far as Debian's packages have it.
const METHODS: [&str; 12] =
    ["trust", "reject", "scram-sha-256", "md5", "password", "gss", "ident", "peer", "ldap", "radius", "cert", "pam"];
/// Ways of coming in by the network (`pg_hba.conf`), beside `local`.
const NETWORK: [&str; 5] = ["host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];

impl Mapping<'_> {
    /// PostgreSQL, if the server has it.
    pub(crate) fn postgresql(&self, apps: &BTreeMap<Name, App>, debian: &Name) -> Result<Option<Postgresql>, Failure> {
        let Some(node) = self.configuration.at(&PATH) else { return Ok(None) };
        let guest = apps.iter().find(|(_, app)| app.database.is_some()).map(|(name, _)| name);
        match (node.get("enable").map(|enable| &enable.shape), guest) {
            (Some(Shape::Bool(false)), Some(app)) => {
                let words = " needs `services.postgresql.enable = true`, which says `false`".to_owned();
                return Err(self.refuse(&["apps", app.as_str(), "database"], words, None));
            }
            (Some(Shape::Bool(true)), _) | (_, Some(_)) => {}
            _ => return Ok(None),
        }
        let text = |option: &str| node.get(option).and_then(Node::text).unwrap_or_default();
        let own = node.get("debian").and_then(Node::text).and_then(|name| name.parse::<Name>().ok());
        self.check_lines("identMap", text("identMap"), ident_line)?;
        self.check_lines("authentication", text("authentication"), authentication_line)?;
        let value = json!({
            "version": self.version(node, own.as_ref().unwrap_or(debian))?,
            "debian": own,
            "extensions": node.get("extensions").map(Node::to_json).unwrap_or_else(|| json!([])),
            "databases": self.databases(node)?,
            "users": self.roles(node)?,
            "settings": self.database_settings(node)?,
            "authentication": text("authentication"),
            "identMap": text("identMap"),
            "initialScript": node.get("initialScript").and_then(Node::text),
            "enableTCPIP": is_true(node, "enableTCPIP"),
        });
        self.read(node, &PATH, value).map(Some)
    }

    fn version(&self, node: &Node, debian: &Name) -> Result<u64, Failure> {
        let path = [PATH[0], PATH[1], "version"];
        if let Some(version) = node.get("version").and_then(|version| version.to_json().as_u64()) {
            if !KNOWN.contains(&version) {
                let words = format!(": {version} is not a major version from {} to {}", KNOWN.start(), KNOWN.end());
                return Err(self.refuse(&path, words, None));
            }
            return Ok(version);
        }
        let release = self.release(debian).unwrap_or_default();
        let known = VERSIONS.iter().find(|(name, _)| *name == release);
        known.map(|(_, version)| u64::from(*version)).ok_or_else(|| {
            let words = format!(" has no `version`, and which one `{release}` has is not known here: say it");
            self.refuse(&PATH, words, None)
        })
    }

    fn databases(&self, node: &Node) -> Result<Value, Failure> {
        let mut all = Vec::new();
        for name in items(node.get("ensureDatabases")).filter_map(Node::text) {
            self.sql_name("ensureDatabases", name)?;
            if all.contains(&name) {
                return Err(self.refuse(
                    &[PATH[0], PATH[1], "ensureDatabases"],
                    format!(": `{name}` is there twice"),
                    None,
                ));
            }
            all.push(name);
        }
        Ok(json!(all))
    }

    fn roles(&self, node: &Node) -> Result<Value, Failure> {
        let path = [PATH[0], PATH[1], "ensureUsers"];
        let databases: Vec<&str> = items(node.get("ensureDatabases")).filter_map(Node::text).collect();
        let mut all = Map::new();
        for user in items(node.get("ensureUsers")) {
            let name = user.get("name").and_then(Node::text).unwrap_or_default();
            self.sql_name("ensureUsers", name)?;
            let owns = is_true(user, "ensureDBOwnership");
            if owns && !databases.contains(&name) {
                let words = format!(": `{name}` is to own the database of its name, which is not in `ensureDatabases`");
                return Err(self.refuse(&path, words, None));
            }
            let clauses = user.get("ensureClauses").into_iter().flat_map(Node::fields);
            let clauses: Map<String, Value> =
                clauses.filter_map(|(name, clause)| Some((name.clone(), json!(bool_of(clause)?)))).collect();
            let user = json!({ "ensureDBOwnership": owns, "clauses": clauses });
            if all.insert(name.to_owned(), user).is_some() {
                return Err(self.refuse(&path, format!(": `{name}` is there twice"), None));
            }
        }
        Ok(Value::Object(all))
    }

    fn sql_name(&self, option: &str, name: &str) -> Result<(), Failure> {
        let error = |error| self.refuse(&[PATH[0], PATH[1], option], format!(": {error}"), None);
        name.parse::<SqlName>().map(drop).map_err(error)
    }

    fn database_settings(&self, node: &Node) -> Result<Value, Failure> {
        let mut all = Map::new();
        for (name, node) in node.get("settings").into_iter().flat_map(Node::fields) {
            let path = [PATH[0], PATH[1], "settings", name];
            if let Err(error) = name.parse::<SettingName>() {
                return Err(self.refuse(&path, format!(": {error}"), None));
            }
            if let Some((_, instead)) = NOT_HERE.iter().find(|(known, _)| known == name) {
                return Err(self.refuse(&path, format!(" is not set here: {instead}"), None));
            }
            let value = match &node.shape {
                Shape::Bool(value) => if *value { "on" } else { "off" }.to_owned(),
                Shape::Text(text) => text.clone(),
                Shape::Number(_) => node.to_json().to_string(),
                _ => continue,
            };
            if name == "port" && value.parse::<u16>().unwrap_or(0) == 0 {
                return Err(self.refuse(&path, format!(": `{value}` is not a port"), None));
            }
            all.insert(name.clone(), json!(value));
        }
        if all.contains_key("listen_addresses") && !is_true(self.configuration.at(&PATH).unwrap_or(node), "enableTCPIP")
        {
            let words = " needs `services.postgresql.enableTCPIP = true`".to_owned();
            return Err(self.refuse(&[PATH[0], PATH[1], "settings", "listen_addresses"], words, None));
        }
        Ok(Value::Object(all))
    }

    /// Each line that says something is one that PostgreSQL could take.
    fn check_lines(&self, option: &str, text: &str, check: fn(&[String]) -> Result<(), String>) -> Result<(), Failure> {
        for (index, line) in text.lines().enumerate() {
            let words = words(line).and_then(|words| if words.is_empty() { Ok(()) } else { check(&words) });
            if let Err(problem) = words {
                let shown: String = line.trim().chars().take(80).collect();
                let words = format!(": line {} (`{shown}`) {problem}", index + 1);
                return Err(self.refuse(&[PATH[0], PATH[1], option], words, None));
            }
        }
        Ok(())
    }
}

fn items(node: Option<&Node>) -> impl Iterator<Item = &Node> {
    match node.map(|node| &node.shape) {
        Some(Shape::List(items)) => items.as_slice(),
        _ => &[],
    }
    .iter()
}

fn bool_of(node: &Node) -> Option<bool> {
    match &node.shape {
        Shape::Bool(value) => Some(*value),
        _ => None,
    }
}

fn is_true(node: &Node, option: &str) -> bool {
    node.get(option).and_then(bool_of).unwrap_or(false)
}

/// The fields of a line (PostgreSQL's manual, section 21.1): parted by blanks, those in quotes whole, and nothing after a `#`.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut all, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '#' if !is_quoted => break,
            c if c.is_control() && c != '\t' => return Err("has a control character".to_owned()),
            // What follows a comma belongs to the same list.
            c if c.is_whitespace() && !is_quoted && word.as_ref().is_some_and(|word| word.ends_with(',')) => {}
            c if c.is_whitespace() && !is_quoted => all.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    match is_quoted {
        true => Err("has a quote that is not closed".to_owned()),
        // A backslash at the end would join the next line.
        false if line.trim_end().ends_with('\\') => Err("ends with a backslash".to_owned()),
        false => {
            all.extend(word);
            Ok(all)
        }
    }
}

/// A line of `pg_hba.conf`: way in, databases, roles, for the network an address, a method, and its options.
fn authentication_line(words: &[String]) -> Result<(), String> {
    let word = |index: usize| words.get(index).map(String::as_str);
    let method = match word(0) {
        Some("local") => 3,
        Some(way) if NETWORK.contains(&way) => {
            let address = word(3).unwrap_or_default();
            let (base, mask) = address.split_once('/').map_or((address, None), |(base, mask)| (base, Some(mask)));
            let is_address = base.parse::<std::net::IpAddr>();
            match (is_address, mask) {
                (Ok(ip), Some(mask)) => {
                    let most = if ip.is_ipv4() { 32 } else { 128 };
                    if !mask.parse::<u8>().is_ok_and(|mask| mask <= most) {
                        return Err(format!("has a mask that is none: `{address}`"));
                    }
                    4
                }
                // The mask is a field of its own.
                (Ok(_), None) if word(4).is_some_and(|mask| mask.parse::<std::net::IpAddr>().is_ok()) => 5,
                (Ok(_), None) => return Err(format!("has an address without a mask: write `{address}/32`")),
                (Err(_), _) => 4,
            }
        }
        Some(other) => {
            return Err(format!("begins with `{other}`, and lines begin with one of: local, {}", NETWORK.join(", ")));
        }
        None => return Ok(()),
    };
    match word(method) {
        Some(name) if METHODS.contains(&name) => {}
        Some(name) => return Err(format!("has `{name}` where one of these is: {}", METHODS.join(", "))),
        None => return Err("is too short: way, database, role, for the network an address, and a method".to_owned()),
    }
    match words.iter().skip(method + 1).find(|option| !option.contains('=')) {
        Some(option) => Err(format!("has `{option}` after the method, where options are `name=value`")),
        None => Ok(()),
    }
}

/// A line of `pg_ident.conf`: map, user of the system, role.
fn ident_line(words: &[String]) -> Result<(), String> {
    match words {
        [map, ..] if map.starts_with("stead") => {
            Err("is of a map whose name begins with `stead`: those are Stead's own".to_owned())
        }
        [_, _, _] => Ok(()),
        _ => Err("has to have three words: map, user of the server, role".to_owned()),
    }
}
