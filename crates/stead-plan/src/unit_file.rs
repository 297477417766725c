//! Unit files as text: sections, lines, and quoting by `systemd.syntax(7)` and `systemd.exec(5)`.
//!
//! Promises that a value never becomes two lines, or another line than the one meant.

use crate::error::PlanError;
use std::fmt::Write;
use stead_model::hash::Hash;
use stead_model::layout;
use stead_model::server::Setting;

/// What systemd takes away from any service that is not root's, and need not be declared. Left out
/// on purpose: `MemoryDenyWriteExecute=` (the BEAM and others compile at run time) and
/// `PrivateUsers=` (peer authentication would not know anybody), `RemoveIPC=` (the end of an old instance would take
/// away what the new one beside it has, being of the same user), and `ProcSubset=` (programs size themselves by `/proc/meminfo`). Each can be left out by its name.
const HARDENING: [(&str, &[&str]); 19] = [
    ("LockPersonality", &["yes"]),
    ("NoNewPrivileges", &["yes"]),
    ("PrivateDevices", &["yes"]),
    ("PrivateMounts", &["yes"]),
    ("PrivateTmp", &["yes"]),
    ("ProtectClock", &["yes"]),
    ("ProtectControlGroups", &["yes"]),
    ("ProtectHome", &["yes"]),
    ("ProtectHostname", &["yes"]),
    ("ProtectKernelLogs", &["yes"]),
    ("ProtectKernelModules", &["yes"]),
    ("ProtectKernelTunables", &["yes"]),
    ("ProtectProc", &["invisible"]),
    ("ProtectSystem", &["strict"]),
    ("RestrictNamespaces", &["yes"]),
    ("RestrictRealtime", &["yes"]),
    ("RestrictSUIDSGID", &["yes"]),
    ("SystemCallArchitectures", &["native"]),
    // What is refused is refused as if one had no right to it, not by the end of the process.
    ("SystemCallFilter", &["@system-service", "~@privileged"]),
];

/// A unit file that is being written.
#[derive(Debug, Default)]
pub(crate) struct UnitFile(String);

impl UnitFile {
    /// An empty one, with a first line for those who find it on the server.
    pub(crate) fn new(what: &str) -> Self {
        Self(format!("# Made by Stead: {what}.\n"))
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, name: &str) -> &mut Self {
        self.0.push_str(&format!("\n[{name}]\n"));
        self
    }

    /// Adds a line; the value is Stead's own or was checked.
    pub(crate) fn line(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Self {
        writeln!(self.0, "{key}={value}").expect("a string takes any text");
        self
    }

    /// Adds a line with a list of words; none without words.
    pub(crate) fn words<T: std::fmt::Display>(&mut self, key: &str, words: impl IntoIterator<Item = T>) -> &mut Self {
        let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
        if !words.is_empty() {
            self.line(key, words.join(" "));
        }
        self
    }

    /// Adds an `Environment=` line, quoted so that the variable has exactly this value.
    ///
    /// # Errors
    /// When systemd would refuse the value.
    pub(crate) fn environment(&mut self, option: &str, name: &str, value: &str) -> Result<&mut Self, PlanError> {
        if value.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(PlanError::bad(
                option,
                value,
                "has a control character, which systemd refuses in an environment variable",
            ));
        }
        Ok(self.line("Environment", quoted(&format!("{name}={value}"))))
    }

    /// The lines by which a service runs from a runtime, with these trees to read.
    pub(crate) fn root(&mut self, runtime: &Hash, trees: impl IntoIterator<Item = String>) -> &mut Self {
        self.line("RootDirectory", format!("{}/{runtime}", layout::RUNTIMES)).line("MountAPIVFS", "yes");
        let trees: Vec<String> = trees.into_iter().collect();
        if !trees.is_empty() {
            // The mount points of trees are in memory: a runtime does not depend on what runs from it.
            self.line("TemporaryFileSystem", format!("{}:ro", layout::TREES)).words("BindReadOnlyPaths", trees);
        }
        self
    }

    /// The lines that take away what a service does not need, but for those that an option leaves out by name.
    ///
    /// # Errors
    /// When a name is none of them.
    pub(crate) fn hardening(&mut self, option: &str, left_out: &[String]) -> Result<&mut Self, PlanError> {
        if let Some(name) = left_out.iter().find(|name| !HARDENING.iter().any(|(known, _)| known == name)) {
            let known = HARDENING.map(|(known, _)| known).join(", ");
            return Err(PlanError::UnknownHardening { option: option.to_owned(), name: name.clone(), known });
        }
        for (name, values) in HARDENING.iter().filter(|(name, _)| !left_out.iter().any(|out| out == name)) {
            for value in *values {
                self.line(name, value);
            }
        }
        self.line("SystemCallErrorNumber", "EPERM");
        Ok(self)
    }

    /// Adds a line as it was declared, in systemd's own words.
    ///
    /// # Errors
    /// When it would become more or less than this line.
    pub(crate) fn setting(&mut self, option: &str, key: &str, setting: &Setting) -> Result<&mut Self, PlanError> {
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(PlanError::bad(option, key, "is not a setting of systemd: letters, digits and hyphens"));
        }
        for value in values(setting) {
            check_line(&format!("{option}.{key}"), &value)?;
            self.line(key, value);
        }
        Ok(self)
    }

    /// The finished text.
    pub(crate) fn text(&self) -> String {
        self.0.clone()
    }
}

/// The values of a setting, one for each line.
pub(crate) fn values(setting: &Setting) -> Vec<String> {
    match setting {
        Setting::Bool(true) => vec!["yes".to_owned()],
        Setting::Bool(false) => vec!["no".to_owned()],
        Setting::Number(number) => vec![number.to_string()],
        Setting::Text(text) => vec![text.clone()],
        Setting::List(all) => all.clone(),
    }
}

/// Refuses what is not one line of a unit file.
///
/// # Errors
/// For control characters, and for a backslash at the end, which joins the next line.
pub(crate) fn check_line(option: &str, value: &str) -> Result<(), PlanError> {
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(PlanError::bad(option, value, "has a line break or control character"));
    }
    if value.ends_with('\\') {
        return Err(PlanError::bad(option, value, "ends with a backslash, which would join the next line"));
    }
    Ok(())
}

/// A word in quotes, with C escapes, and `%` doubled because systemd expands specifiers.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '%' => out.push_str("%%"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
