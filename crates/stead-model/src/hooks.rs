//! Hooks: commands of the operator's, run around a switch, on the server and on the operator's machine.
//!
//! Their environment is a contract: [`variable`] names every variable that a hook finds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// Everything is on the server, and nothing is started or switched yet. A failure stops the deploy.
    BeforeSwitch,
    /// The new generation is confirmed.
    AfterConfirm,
    /// The server went back, by itself or because the operator asked for it.
    AfterRollback,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BeforeSwitch, Self::AfterConfirm, Self::AfterRollback];

    /// Its name among the options: `beforeSwitch`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeSwitch => "beforeSwitch",
            Self::AfterConfirm => "afterConfirm",
            Self::AfterRollback => "afterRollback",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The variables that a hook finds in its environment. What is not known is empty.
pub mod variable {
    /// The moment: `beforeSwitch`, `afterConfirm`, `afterRollback`.
    pub const HOOK: &str = "STEAD_HOOK";
    /// The server's name in the project.
    pub const SERVER: &str = "STEAD_SERVER";
    /// The generation that was to become live.
    pub const GENERATION: &str = "STEAD_GENERATION";
    /// What ran before; empty before the first deploy.
    pub const PARENT: &str = "STEAD_PARENT";
    /// The activation; empty in `beforeSwitch` on the operator's machine, which does not know it yet.
    pub const ACTIVATION: &str = "STEAD_ACTIVATION";
    /// What the operator asked for: `deploy` or `rollback`.
    pub const VERB: &str = "STEAD_VERB";
    /// Who asked: `user@host`.
    pub const BY: &str = "STEAD_BY";
    /// How it ended: `confirmed`, `wentBack` or `stuck`; empty in `beforeSwitch`.
    pub const OUTCOME: &str = "STEAD_OUTCOME";
    /// Why it went back; empty where it did not.
    pub const REASON: &str = "STEAD_REASON";
}

/// The hooks of a server, as declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Hooks {
    /// Before anything is started or switched.
    pub before_switch: Sides,
    /// When the new generation is confirmed.
    pub after_confirm: Sides,
    /// When the server went back.
    pub after_rollback: Sides,
    /// Seconds that each may take.
    pub timeout: u32,
}

/// One hook on either side: POSIX shell commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Sides {
    /// Run on the server, as root.
    pub server: Option<String>,
    /// Run on the operator's machine, in the project's folder.
    pub operator: Option<String>,
}

impl Hooks {
    /// The commands of one moment.
    pub fn at(&self, moment: Moment) -> &Sides {
        match moment {
            Moment::BeforeSwitch => &self.before_switch,
            Moment::AfterConfirm => &self.after_confirm,
            Moment::AfterRollback => &self.after_rollback,
        }
    }
}

/// The hooks of a generation: those that run on the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerHooks {
    /// Shell commands by moment.
    pub commands: BTreeMap<Moment, String>,
    /// Seconds that each may take.
    pub timeout: u32,
}

impl ServerHooks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}
