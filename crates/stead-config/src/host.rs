//! Settings of the machine itself: `networking.hostName`, `time.timeZone`, `boot.kernel.sysctl`, `environment.etc`,
//! `swapDevices`, `zramSwap`, `services.journald`, `system.autoUpgrade`; people who log in are in `users`.
//!
//! Promises that nothing which a boot or a login depends on is ever a file that a declaration writes.

use crate::failure::Failure;
use crate::server::Mapping;
use crate::tree::{Node, Shape};
use serde_json::{Map, Value, json};

/// Files and folders of `/etc` that a boot, a login or another option depends on, each with what to use instead.
const NOT_HERE: [(&str, &str); 28] = [
    ("passwd", "`users.users`"),
    ("group", "`users.users.NAME.extraGroups`"),
    ("shadow", ""),
    ("gshadow", ""),
    ("subuid", ""),
    ("subgid", ""),
    ("sudoers", ""),
    ("sudoers.d", "`users.users.NAME.passwordlessSudo`"),
    ("fstab", "`swapDevices`"),
    ("crypttab", ""),
    ("hostname", "`networking.hostName`"),
    ("localtime", "`time.timeZone`"),
    ("timezone", "`time.timeZone`"),
    ("machine-id", ""),
    ("resolv.conf", ""),
    ("nsswitch.conf", ""),
    ("ld.so.conf", ""),
    ("ld.so.conf.d", ""),
    ("ld.so.preload", ""),
    ("ld.so.cache", ""),
    ("ssh", "`services.openssh.settings`, `users.users`"),
    ("systemd", "`systemd.services`, `services.journald`"),
    ("pam.d", ""),
    ("security", ""),
    ("network", ""),
    ("netplan", ""),
    ("apt", "`system.autoUpgrade`"),
    ("default/grub", ""),
];

impl Mapping<'_> {
    /// How the machine is to be, in the model's form.
    pub(crate) fn host_settings(&self) -> Result<Value, Failure> {
        let text = |path: &[&str]| self.configuration.at(path).and_then(Node::text);
        let mut host = Map::new();
        if let Some(name) = text(&["networking", "hostName"]) {
            host.insert("hostName".to_owned(), json!(name));
        }
        if let Some(zone) = text(&["time", "timeZone"]) {
            host.insert("timeZone".to_owned(), json!(zone));
        }
        host.insert("sysctl".to_owned(), self.sysctl()?);
        host.insert("files".to_owned(), self.files()?);
        host.insert("swap".to_owned(), self.swap()?);
        host.insert("zram".to_owned(), self.zram()?);
        host.insert("users".to_owned(), self.users()?);
        host.insert("sshd".to_owned(), self.sshd()?);
        host.insert("autoUpgrade".to_owned(), self.auto_upgrade()?);
        if let Some(text) = self.journald()? {
            host.insert("journald".to_owned(), json!(text));
        }
        let value = Value::Object(host);
        // Names that are none are told with their places.
        for (path, key) in [(["networking", "hostName"], "hostName"), (["time", "timeZone"], "timeZone")] {
            if let (Some(node), Some(value)) = (self.configuration.at(&path), value.get(key)) {
                match key {
                    "hostName" => drop(self.read::<stead_model::name::HostName>(node, &path, value.clone())?),
                    _ => drop(self.read::<stead_model::name::TimeZone>(node, &path, value.clone())?),
                }
            }
        }
        Ok(value)
    }

    fn sysctl(&self) -> Result<Value, Failure> {
        let mut all = Map::new();
        for (name, node) in self.configuration.at(&["boot", "kernel", "sysctl"]).into_iter().flat_map(Node::fields) {
            let path = ["boot", "kernel", "sysctl", name];
            let value = match &node.shape {
                Shape::Bool(value) => if *value { "1" } else { "0" }.to_owned(),
                Shape::Number(number) => number.to_string(),
                Shape::Text(text) => text.clone(),
                _ => continue,
            };
            if let Err(error) = name.parse::<stead_model::name::Sysctl>() {
                return Err(self.refuse(&path, format!(": {error}"), None));
            }
            all.insert(name.clone(), json!(value));
        }
        Ok(Value::Object(all))
    }

    fn files(&self) -> Result<Value, Failure> {
        let mut all = Map::new();
        for (name, node) in self.configuration.at(&["environment", "etc"]).into_iter().flat_map(Node::fields) {
            let path = ["environment", "etc", name];
            let is_below = |folder: &str| name == folder || name.starts_with(&format!("{folder}/"));
            if name.parse::<stead_model::path::RelativePath>().is_err() {
                let words = ": has to be a path below /etc, without `.` and `..`".to_owned();
                return Err(self.refuse(&path, words, None));
            }
            if let Some((_, instead)) = NOT_HERE.iter().find(|(folder, _)| is_below(folder)) {
                let mut words = ": a boot or a login depends on it, so that it is not written".to_owned();
                if !instead.is_empty() {
                    words = format!("{words}; use {instead}");
                }
                return Err(self.refuse(&path, words, None));
            }
            let text = node.get("text").and_then(Node::text).unwrap_or_default();
            let mode = node.get("mode").and_then(Node::text).unwrap_or("0644");
            let Ok(mode) = u32::from_str_radix(mode, 8) else { continue };
            all.insert(name.clone(), json!([text, mode]));
        }
        Ok(Value::Object(all))
    }

    fn swap(&self) -> Result<Value, Failure> {
        let mut all = Map::new();
        let Some(Shape::List(devices)) = self.configuration.get("swapDevices").map(|node| &node.shape) else {
            return Ok(Value::Object(all));
        };
        for node in devices {
            let path = ["swapDevices"];
            let device = node.get("device").and_then(Node::text).unwrap_or_default();
            if ["/dev/", "/proc/", "/sys/", "/run/", "/etc/", "/tmp/"].iter().any(|folder| device.starts_with(folder)) {
                let words = format!(": `{device}` has to be a file on a disk, such as \"/var/swapfile\"");
                return Err(self.refuse(&path, words, None));
            }
            let size = node.get("size").map(Node::to_json).unwrap_or_default();
            if all.insert(device.to_owned(), size).is_some() {
                return Err(self.refuse(&path, format!(": `{device}` is there twice"), None));
            }
        }
        Ok(Value::Object(all))
    }

    fn zram(&self) -> Result<Value, Failure> {
        let Some(node) = self.switched_on(&["zramSwap"]) else { return Ok(Value::Null) };
        let percent = node.get("memoryPercent").map(Node::to_json).unwrap_or_default();
        if !percent.as_u64().is_some_and(|percent| (1..=300).contains(&percent)) {
            let path = ["zramSwap", "memoryPercent"];
            return Err(self.refuse(&path, format!(": {percent} is not a number from 1 to 300"), None));
        }
        Ok(json!({ "memoryPercent": percent, "algorithm": node.get("algorithm").and_then(Node::text) }))
    }

    fn auto_upgrade(&self) -> Result<Value, Failure> {
        let Some(node) = self.switched_on(&["system", "autoUpgrade"]) else { return Ok(Value::Null) };
        let dates = node.get("dates").and_then(Node::text).unwrap_or_default();
        if dates.trim().is_empty() {
            let words = ": is a calendar event of systemd.time(7), such as \"04:40\"".to_owned();
            return Err(self.refuse(&["system", "autoUpgrade", "dates"], words, None));
        }
        let of = |name: &str| node.get(name).map(Node::to_json).unwrap_or_default();
        let mut upgrade = Map::new();
        upgrade.insert("dates".to_owned(), json!(dates));
        upgrade.insert("randomizedDelay".to_owned(), of("randomizedDelaySec"));
        upgrade.insert("allowReboot".to_owned(), of("allowReboot"));
        self.whole_seconds(&mut upgrade, "randomizedDelay", &["system", "autoUpgrade", "randomizedDelaySec"])?;
        Ok(Value::Object(upgrade))
    }

    /// The options at a place, where its `enable` says so.
    fn switched_on(&self, path: &[&str]) -> Option<&Node> {
        let node = self.configuration.at(path)?;
        matches!(node.get("enable").map(|node| &node.shape), Some(Shape::Bool(true))).then_some(node)
    }

    /// What journald is told: two weeks, a file a day, a bounded size, bounded rates, and the operator's own lines last.
    fn journald(&self) -> Result<Option<String>, Failure> {
        let path = ["services", "journald"];
        let Some(node) = self.switched_on(&path) else { return Ok(None) };
        let text = |name: &str| node.get(name).and_then(Node::text).unwrap_or_default();
        let number = |name: &str| node.get(name).map(Node::to_json).unwrap_or_default();
        for (index, line) in text("extraConfig").lines().enumerate() {
            let line = line.trim();
            let is_line = line.is_empty() || line.starts_with(['#', ';']) || line.split_once('=').is_some();
            if !is_line || line.starts_with('[') {
                let words = format!(": line {} is not of the form `Name=value`", index + 1);
                return Err(self.refuse(&["services", "journald", "extraConfig"], words, None));
            }
        }
        Ok(Some(format!(
            "# Made by Stead: services.journald.\n[Journal]\nStorage=persistent\nMaxRetentionSec={}s\nMaxFileSec=1day\n\
             SystemMaxUse={}\nRateLimitIntervalSec={}s\nRateLimitBurst={}\n{}",
            number("retention"),
            text("maxUse"),
            number("rateLimitInterval"),
            number("rateLimitBurst"),
            text("extraConfig"),
        )))
    }
}
