//! Everything that the engine may do to a server, one effect a function.
//!
//! Each effect is safe to repeat, and either happens or fails with words. The implementation for
//! a real server is in `stead-agent`; the one for tests is in `fake.rs`.

use stead_model::activation::Phase;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::hooks::ServerHooks;
use stead_model::name::{Name, Port, UnitName, UserName};
use stead_model::probe::{Answered, Broken};
use stead_model::server::Health;

/// Why an effect did not happen, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// The result of an effect.
pub type Result<T> = std::result::Result<T, Failure>;

/// How a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// It runs, listens, or waits for its time.
    Active {
        /// How often it was started again by itself.
        restarts: u32,
    },
    /// It is on its way up, or waits to be started again.
    Starting,
    /// It is on its way down: it drains.
    Stopping,
    /// It does not run.
    Inactive,
    /// It ended with a failure.
    Failed,
}

/// A server, as far as an activation may touch it.
pub trait Server {
    /// Writes the phase to the journal, durably.
    fn journal(&mut self, phase: Phase, reason: Option<&str>) -> Result<()>;
    /// Appends the ended activation to the history, durably and once.
    fn record(&mut self) -> Result<()>;
    /// Runs the hook for how the activation ended, unless it has run. What it does is its own affair: its failure is
    /// told, and changes nothing.
    fn run_hook(&mut self, hooks: &ServerHooks) -> Result<()>;
    /// Lets go of what was armed and of what would take the activation up again: it is over.
    fn let_go(&mut self) -> Result<()>;
    /// Tells whoever follows the activation.
    fn tell(&mut self, words: &str);
    /// Visitors reach the candidate as of now: tells whoever follows.
    fn switched(&mut self);

    /// Makes the init system take this activation back after so many seconds, whatever becomes of this process,
    /// unless it has ended or is confirmed by then. Takes the place of what was armed before. May return before
    /// it is in force; [`Server::await_armed`] waits for that.
    fn arm(&mut self, seconds: u32) -> Result<()>;
    /// Returns when what was armed is in force.
    fn await_armed(&mut self) -> Result<()>;

    /// Makes a system user if it is missing, and remembers that this activation made it.
    fn make_user(&mut self, user: &UserName) -> Result<()>;
    /// Removes a user, if this activation made it.
    fn unmake_user(&mut self, user: &UserName) -> Result<()>;

    /// Makes those files of secrets of this generation, in memory, that are not there: all of them are decrypted before the first
    /// one is written, and none where all are there. Those of the other one stay; others go.
    fn reveal(&mut self, generation: &Generation, other: &Generation) -> Result<()>;

    /// Brings the machine's own settings (name, time zone, kernel parameters, …) to what this generation says, and those that it
    /// does not have back to how they were before Stead.
    fn settle(&mut self, generation: &Generation) -> Result<()>;

    /// Keeps a unit of this generation known to systemd, whatever generation is active.
    fn keep_unit(&mut self, generation: &Hash, unit: &UnitName) -> Result<()>;
    /// Lets go of kept units that do not run any more.
    fn release_units(&mut self) -> Result<()>;
    /// Makes a generation the active one; `None`: none is.
    fn activate(&mut self, generation: Option<&Hash>) -> Result<()>;
    /// What is active now.
    fn active(&mut self) -> Option<Hash>;
    /// Makes the next boot come up in this generation; durable.
    fn confirm(&mut self, generation: &Hash) -> Result<()>;
    /// Makes systemd see the units of the active generation and the kept ones.
    fn reload_systemd(&mut self) -> Result<()>;

    /// The port that an instance was given, if it was given one.
    fn instance_port(&mut self, unit: &UnitName) -> Option<Port>;
    /// Gives an instance its own port: the declared one if it is free, else another one.
    fn give_port(&mut self, unit: &UnitName, variable: &str, declared: Port) -> Result<Port>;
    /// Points nginx's upstream of an app to a port, as of the next reload; `None`: the app is gone. What the
    /// instance there does not have is asked of the replaced one at `old`, until that is let go.
    fn point_upstream(&mut self, app: &Name, port: Option<Port>, old: Option<Port>) -> Result<()>;

    /// Starts units and waits until each is up or failed to come up.
    fn start(&mut self, units: &[&UnitName]) -> Result<()>;
    /// Stops units and waits until they are gone.
    fn stop(&mut self, units: &[&UnitName]) -> Result<()>;
    /// Whether anybody is connected to an instance of an app.
    fn is_visited(&mut self, unit: &UnitName) -> bool;
    /// Lets an instance of an app go that no visitor is led to any more: it stops when nobody is
    /// connected to it, or when so many seconds are over. Does not wait for that.
    fn drain(&mut self, unit: &UnitName, seconds: u32) -> Result<()>;
    /// Lets an instance of nginx go that is replaced: it takes no new connection, and ends when its last one does, or
    /// when so many seconds are over. Does not wait for that.
    fn drain_nginx(&mut self, unit: &UnitName, seconds: u32) -> Result<()>;
    /// Asks units to stop, without waiting.
    fn request_stop(&mut self, units: &[&UnitName]) -> Result<()>;
    /// Restarts units and waits.
    fn restart(&mut self, units: &[&UnitName]) -> Result<()>;
    /// Makes units that run read their configuration again, as they are defined now, and waits.
    fn reload(&mut self, units: &[&UnitName]) -> Result<()>;
    /// How each unit is, in the order asked.
    fn states(&mut self, units: &[&UnitName]) -> Result<Vec<UnitState>>;
    /// The last lines that a unit wrote.
    fn last_words(&mut self, unit: &UnitName) -> String;

    /// Probes an app's instance until it is healthy as declared, or its deadline is over.
    fn await_health(&mut self, unit: &UnitName, port: Option<Port>, health: &Health) -> Result<()>;
    /// Reloads nginx under a new mark, and returns when it answers with this configuration and mark.
    fn reload_nginx(&mut self, unit: &UnitName, configuration: &Hash) -> Result<()>;
    /// Returns when nginx answers with this configuration, and only with it.
    fn await_nginx(&mut self, configuration: &Hash) -> Result<()>;
    /// Marks the next start of nginx with a new epoch.
    fn mark_epoch(&mut self) -> Result<()>;

    /// Gets the certificates that the candidate's sites, which are live, do not have yet, and has them served. What an
    /// authority refuses is no failure: it is told, and asked for again later.
    fn certify(&mut self, candidate: &Generation) -> Result<()>;

    /// Asks the probes of a generation from the server itself, side by side, and tells each when it has ended, compared
    /// with what was broken before (failures in the same way are marked, not left out).
    fn probe(&mut self, generation: &Generation, patience: Patience) -> Result<Vec<Answered>>;
    /// Remembers durably which probes of the parent failed before anything was switched, to compare with.
    fn note_broken(&mut self, broken: Broken) -> Result<()>;
    /// Asks the operator's side to probe the candidate too. Does not wait for it.
    fn ask_operator(&mut self, candidate: &Generation, patience: Patience);
    /// Why the operator's side wants the activation to stop, if it said so.
    fn cancelled(&mut self) -> Option<String>;

    /// Lets some time pass: one beat of the soak. `false` when the soak is over, which takes as many
    /// milliseconds as declared, unless the operator said otherwise.
    fn soak(&mut self, declared: u32) -> bool;
    /// Waits for the operator's fresh login, as long as the operator said; what was armed is armed anew
    /// for that time.
    fn await_login(&mut self) -> Result<Login>;
}

/// How long probes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// One question each, whose answer is final: what is the case now.
    Once,
    /// As each probe says.
    AsSaid,
    /// Sites as long as something takes to start whose readiness nobody knows.
    Starting,
}

/// How waiting for the operator's login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// It arrived.
    Arrived,
    /// Its time is over.
    DeadlinePassed,
    /// The operator asked to stop.
    Cancelled,
}

/// Two generations and which way the activation goes.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// What ran before, and what going back goes back to.
    pub parent: &'a Generation,
    /// Its identity; `None` for the empty generation before the first deploy.
    pub parent_id: Option<Hash>,
    /// What is to become live.
    pub candidate: &'a Generation,
    /// Its identity.
    pub candidate_id: Hash,
}
