//! Who may log in, and how: `users.users`, `services.openssh.settings`.
//!
//! Promises that a key which does not parse, and a setting that would part the server from its operator, are named with their
//! place. Whether the server knows a user or a group, and what its `sshd` says, only the server can tell.

use crate::failure::Failure;
use crate::server::Mapping;
use crate::tree::{Node, Shape};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use stead_model::name::{SshKeyword, UserName};

/// Kinds of keys that `sshd` lets log in (`sshd(8)`, "AUTHORIZED_KEYS FILE FORMAT").
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// What may stand before the kind of a key, in lower case (`sshd(8)`, "AUTHORIZED_KEYS FILE FORMAT").
const OPTIONS: [&str; 22] = [
    "agent-forwarding",
    "cert-authority",
    "command",
    "environment",
    "expiry-time",
    "from",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-x11-forwarding",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "principals",
    "pty",
    "restrict",
    "tunnel",
    "user-rc",
    "verify-required",
    "x11-forwarding",
];

/// Keywords of `sshd_config(5)` that are not set here, in lower case, with why and what to do.
const NOT_HERE: [(&str, &str); 9] = [
    ("port", "where sshd listens is the server's own matter: change it there, then `sshPort` here"),
    ("listenaddress", "where sshd listens is the server's own matter: change it there, then `address` here"),
    ("addressfamily", "where sshd listens is the server's own matter: change it there, then `address` here"),
    ("authorizedkeysfile", "use `users.users.NAME.openssh.authorizedKeys.keys`"),
    ("hostkey", "the server's own keys are what its secrets are encrypted for, and what it is known by"),
    ("include", "say what is to be included"),
    ("match", "a setting holds for everybody; what holds for some is a file of the server's own"),
    ("pidfile", "systemd looks after sshd"),
    ("usepam", "sessions of the server depend on it"),
];

/// Numbers of people (Debian Policy, section 9.2.2).
const NUMBERS: std::ops::RangeInclusive<u64> = 1000..=59999;

impl Mapping<'_> {
    /// People who log in, in the model's form.
    pub(crate) fn users(&self) -> Result<Value, Failure> {
        let mut all = Map::new();
        for (name, node) in self.configuration.at(&["users", "users"]).into_iter().flat_map(Node::fields) {
            let path = ["users", "users", name];
            if let Err(error) = name.parse::<UserName>() {
                return Err(self.refuse(&path, format!(": {error}"), None));
            }
            if name.starts_with("stead") {
                let words = ": users whose names begin with `stead` are those of apps and services".to_owned();
                return Err(self.refuse(&path, words, None));
            }
            let user = self.user(name, node)?;
            let twin = user
                .get("uid")
                .and_then(|uid| all.iter().find(|(_, other): &(_, &Value)| other.get("uid") == Some(uid)));
            if let Some((twin, _)) = twin {
                return Err(self.refuse(&[&path[..], &["uid"]].concat(), format!(": is that of `{twin}` too"), None));
            }
            all.insert(name.clone(), user);
        }
        Ok(Value::Object(all))
    }

    fn user(&self, name: &str, node: &Node) -> Result<Value, Failure> {
        let at = |option: &'static str| ["users", "users", name, option];
        let mut user = Map::new();
        if let Some(text) = node.get("description").and_then(Node::text) {
            // `passwd(5)`: fields end at a colon; commas part those of the full name.
            if text.contains(':') {
                return Err(self.refuse(&at("description"), ": has no colon".to_owned(), None));
            }
            user.insert("description".to_owned(), json!(text));
        }
        if let Some(shell) = node.get("shell").and_then(Node::text) {
            if shell.contains(':') {
                return Err(self.refuse(&at("shell"), ": has no colon".to_owned(), None));
            }
            user.insert("shell".to_owned(), json!(shell));
        }
        if let Some(uid) = node.get("uid").map(Node::to_json).filter(|uid| !uid.is_null()) {
            if !uid.as_u64().is_some_and(|uid| NUMBERS.contains(&uid)) {
                let words = format!(": {uid} is not from {} to {}", NUMBERS.start(), NUMBERS.end());
                return Err(self.refuse(&at("uid"), words, None));
            }
            user.insert("uid".to_owned(), uid);
        }
        user.insert("groups".to_owned(), node.get("extraGroups").map_or_else(|| json!([]), Node::to_json));
        user.insert("sudo".to_owned(), json!(is_true(node.get("passwordlessSudo"))));
        let mut keys = Vec::new();
        let path = ["users", "users", name, "openssh", "authorizedKeys", "keys"];
        if let Some(Shape::List(lines)) = node.at(&["openssh", "authorizedKeys", "keys"]).map(|node| &node.shape) {
            for (index, line) in lines.iter().filter_map(Node::text).enumerate() {
                let line = line.trim();
                if let Err(problem) = authorized_key(line) {
                    let shown: String = line.chars().take(40).collect();
                    return Err(self.refuse(&path, format!(": key {} (`{shown}`) {problem}", index + 1), None));
                }
                keys.push(line.to_owned());
            }
        }
        user.insert("keys".to_owned(), json!(keys));
        Ok(Value::Object(user))
    }

    /// What sshd is told, in the model's form.
    pub(crate) fn sshd(&self) -> Result<Value, Failure> {
        let mut all = Map::new();
        let path = ["services", "openssh", "settings"];
        for (keyword, node) in self.configuration.at(&path).into_iter().flat_map(Node::fields) {
            let path = [&path[..], &[keyword.as_str()]].concat();
            if let Err(error) = keyword.parse::<SshKeyword>() {
                return Err(self.refuse(&path, format!(": {error}"), None));
            }
            let lower = keyword.to_ascii_lowercase();
            if let Some((_, why)) = NOT_HERE.iter().find(|(keyword, _)| *keyword == lower) {
                return Err(self.refuse(&path, format!(": is not set here: {why}"), None));
            }
            if all.keys().any(|known: &String| known.eq_ignore_ascii_case(keyword)) {
                return Err(self.refuse(&path, ": is there twice, in capitals and not".to_owned(), None));
            }
            let arguments = match &node.shape {
                Shape::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
                Shape::Number(number) => number.to_string(),
                Shape::Text(text) => text.trim().to_owned(),
                Shape::List(words) => words.iter().filter_map(Node::text).collect::<Vec<_>>().join(" "),
                _ => continue,
            };
            all.insert(keyword.clone(), json!(arguments));
        }
        Ok(Value::Object(all))
    }
}

fn is_true(node: Option<&Node>) -> bool {
    matches!(node.map(|node| &node.shape), Some(Shape::Bool(true)))
}

/// Whether a line lets a key log in: options or none, a kind, and a key that is of this kind.
fn authorized_key(line: &str) -> Result<(), &'static str> {
    if line.contains("PRIVATE KEY") {
        return Err("is a private key; never write one here, and make another one");
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(place) = words.iter().position(|word| KINDS.contains(word)) else {
        return Err("is not a public key: one begins with `ssh-ed25519 AAAA`");
    };
    let option = words[0].split(['=', ',']).next().unwrap_or_default().to_ascii_lowercase();
    if place > 0 && !OPTIONS.contains(&option.as_str()) {
        return Err("has something before its kind that is no option of `authorized_keys`");
    }
    let blob = words.get(place + 1).and_then(|text| BASE64.decode(text).ok());
    let Some(blob) = blob else { return Err("is cut short or changed: what follows its kind does not decode") };
    // RFC 4253, section 6.6: the kind again, with its length before it, then what belongs to it.
    let kind = words[place].as_bytes();
    let begins = [&u32::try_from(kind.len()).unwrap_or_default().to_be_bytes()[..], kind].concat();
    if begins.starts_with(&blob) {
        return Err("is cut short");
    }
    let Some(mut rest) = blob.strip_prefix(&begins[..]) else {
        return Err("says that it is of another kind than it is");
    };
    let mut fields = 0;
    while !rest.is_empty() {
        let field = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.get(length..)
        });
        let Some(after) = field else { return Err("is cut short") };
        (rest, fields) = (after, fields + 1);
    }
    if fields == 0 { Err("is cut short") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIB37/0L3dLm5ixQQ4kKKtsMKWvyQKNoUfoq1ibQKhydb";

    #[test]
    fn keys_parse_with_options_and_without() {
        for line in [
            format!("ssh-ed25519 {KEY}"),
            format!("ssh-ed25519 {KEY} anna at home"),
            format!("from=\"192.0.2.0/24\",command=\"echo hi\" ssh-ed25519 {KEY} anna"),
        ] {
            assert_eq!(authorized_key(&line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_apart() {
        let refused = |line: &str| authorized_key(line).unwrap_err();
        assert!(refused("anna").contains("not a public key"));
        assert!(refused("-----BEGIN OPENSSH PRIVATE KEY-----").contains("private key"));
        assert!(refused("ssh-ed25519").contains("does not decode"));
        assert!(refused(&format!("ssh-ed25519 {}", &KEY[..KEY.len() - 4])).contains("cut short"));
        assert!(refused(&format!("ssh-rsa {KEY}")).contains("another kind"));
        assert!(refused("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5").contains("cut short"));
        for before in ["#", "anna", "# anna"] {
            assert!(refused(&format!("{before} ssh-ed25519 {KEY}")).contains("no option"), "{before}");
        }
    }
}
