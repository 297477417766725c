//! The command line: what can be asked, and what each word means.
//!
//! Low-level arguments end here: commands take typed values. Unknown options and commands are
//! refused by `clap` with a suggestion, and exit with 2.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// One declaration becomes a whole running server, and can be taken back.
#[derive(Debug, Parser)]
#[command(name = "stead", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
A day with Stead:
  stead init            make a project: stead.ncl
  stead up              update + check + deploy, in one go
  stead plan            what would a deploy change?
  stead rollback        go back to what ran before
  stead lab up try      a disposable server on this machine, to rehearse: stead up --lab try

Exit codes: 0 done or nothing to do · 1 the project or request is wrong · 2 wrong usage
  3 failed before the switch, the server is untouched · 4 failed after it, went back, verified
  5 could not go back, or cannot tell: needs a person · 6 busy, or the plan is stale")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The project's folder
    #[arg(long, short = 'C', global = true, value_name = "FOLDER", default_value = ".", hide_default_value = true)]
    pub(crate) project: PathBuf,
    /// Print one JSON document on standard output instead of words
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    pub(crate) color: When,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Which server is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Target {
    /// The server, as named in stead.ncl; not needed when the project has one
    pub(crate) server: Option<String>,
    /// Do it on this lab instead of the real server
    #[arg(long, value_name = "NAME")]
    pub(crate) lab: Option<String>,
    /// Where the server is, instead of what the project says: [user@]host[:port]
    #[arg(long, value_name = "DESTINATION", conflicts_with = "lab")]
    pub(crate) host: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new project in a folder
    Init {
        /// The folder; it may exist, if it holds no stead.ncl
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Resolve inputs and write stead.lock; the only command that moves a pin
    Update {
        /// Only these inputs; without any, all
        inputs: Vec<String>,
    },
    /// Prove what can be proved without the server
    Check {
        /// The server; without one, all
        server: Option<String>,
    },
    /// Show what a deploy would change, and what it costs
    Plan {
        #[command(flatten)]
        target: Target,
    },
    /// Make the declaration live, prove it, confirm it; or go back
    Deploy {
        #[command(flatten)]
        target: Target,
        /// Find a running or ended activation again, and tell how it ends
        #[arg(long)]
        attach: bool,
        #[command(flatten)]
        trial: Trial,
    },
    /// update + check + deploy
    Up {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        trial: Trial,
    },
    /// Go back to the generation before, or to any that is kept
    Rollback {
        /// The generation, or the first digits of it; without one, what ran before
        #[arg(long, value_name = "GENERATION")]
        to: Option<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        trial: Trial,
    },
    /// What runs on the server, and how
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// What was deployed when, by whom, and how it ended
    History {
        #[command(flatten)]
        target: Target,
        /// How many at most
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: u32,
    },
    /// The journal of an app, a service or everything
    Logs {
        #[command(flatten)]
        target: Target,
        /// The app, service or unit
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
        /// How many past lines
        #[arg(long, short = 'n', default_value_t = 50)]
        lines: u32,
        /// Go on with what comes
        #[arg(long, short)]
        follow: bool,
    },
    /// Run a command inside an app's own file system, environment and user
    #[command(after_help = "stead exec --app bill-tracker -- bin/bill_tracker version")]
    Exec {
        #[command(flatten)]
        target: Target,
        /// The app; without one, the server itself
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        /// The command, after `--`
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Remove from the server what no kept generation needs
    Gc {
        #[command(flatten)]
        target: Target,
        /// Only tell what would be removed
        #[arg(long)]
        dry_run: bool,
        /// How many of the last generations stay, besides the confirmed, active and pinned ones
        #[arg(long, default_value_t = 5)]
        keep: u32,
    },
    /// Compare everything on the server with its hash
    Verify {
        #[command(flatten)]
        target: Target,
    },
    /// Disposable servers on this machine, real systemd and real SSH
    #[command(subcommand)]
    Lab(Lab),
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The server's side; without a word: answer one operator on standard input and output
    #[command(hide = true)]
    Agent {
        #[command(subcommand)]
        command: Option<Agent>,
    },
    /// Keeps a lab up after the command that started it has ended
    #[command(hide = true)]
    LabKeeper {
        /// The lab's folder
        folder: PathBuf,
    },
}

/// How a trial is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Trial {
    /// Seconds that the server waits for the confirming login before it goes back
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) confirm_deadline: u32,
    /// Seconds for which everything that was started has to stay up
    #[arg(long, value_name = "SECONDS")]
    pub(crate) soak: Option<f64>,
    /// Never log in to confirm: the server goes back by itself (to see that it does)
    #[arg(long, hide = true)]
    pub(crate) no_confirm: bool,
}

/// `stead lab …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Make and boot a server
    Up {
        /// What it is called
        name: String,
        /// Its Debian release
        #[arg(long, default_value = "bookworm")]
        release: String,
        /// Cores
        #[arg(long, default_value_t = 1)]
        cpus: u32,
        /// Memory in MiB
        #[arg(long, default_value_t = 1024)]
        memory: u32,
        /// Pass a port of this machine on to one of the lab's: 8080:80
        #[arg(long, value_name = "HERE:THERE")]
        forward: Vec<String>,
    },
    /// Stop and remove a server
    Down {
        /// Which one
        name: String,
    },
    /// The labs of this machine
    List,
    /// Run a command on a lab
    Exec {
        /// Which one
        name: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Log in to a lab
    Ssh {
        /// Which one
        name: String,
    },
}

/// `stead agent …`: what is run on a server, never by a person.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Carry out an activation
    Activate {
        /// Which one
        id: String,
    },
    /// Take up an activation that was interrupted
    Recover {
        /// Which one
        id: String,
    },
}
