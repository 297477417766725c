//! The command line: what can be asked, and what each word means.
//!
//! Low-level arguments end here: commands take typed values. Unknown options and commands are
//! refused by `clap` with a suggestion, and exit with 2.

mod secret;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use secret::{Keys, Secret};
use std::path::PathBuf;

/// One declaration becomes a whole running server, and can be taken back.
///
/// A project is a folder with `stead.ncl`. Its inputs are pinned in `stead.lock`; a deploy makes all of it live or
/// none of it, and the server goes back by itself when what was started does not work.
#[derive(Debug, Parser)]
#[command(name = "stead", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "\
A day with Stead:
  stead init                    make a project: stead.ncl
  stead lab up try              a disposable server on this machine (as root)
  stead up --lab try            rehearse there: update + check + deploy
  stead plan                    what would a deploy change on the real server?
  stead up                      do it
  stead status                  what runs, and how
  stead rollback                go back to what ran before

Exit codes:
  0  done, or nothing to do              4  failed after the switch, went back, and verified it
  1  the project or request is wrong     5  could not go back, or cannot tell: needs a person
  2  wrong usage                         6  another deploy is under way, or the plan is stale
  3  failed before the switch: what ran still runs

Environment:
  STEAD_CACHE           what can be made again: packages, indexes, builds (~/.cache/stead)
  STEAD_STATE           labs (~/.local/share/stead)
  STEAD_IDENTITY        your private key, for secrets (~/.ssh/id_ed25519)
  STEAD_DEBIAN_MIRROR   the Debian mirror, where a project names none (else apt's sources)
  NO_COLOR              no colours")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the options are listed that every command understands.
const EVERYWHERE: &str = "Options of every command";

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The project's folder; without it, the current one
    #[arg(long, short = 'C', global = true, value_name = "FOLDER", default_value = ".", hide_default_value = true)]
    #[arg(help_heading = EVERYWHERE)]
    pub(crate) project: PathBuf,
    /// Print one JSON document on standard output instead of words
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,
    /// When to colour: auto (on a terminal), always or never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    #[arg(hide_possible_values = true, help_heading = EVERYWHERE)]
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
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Where the server is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Place {
    /// Use this lab in place of the server
    #[arg(long, value_name = "NAME")]
    pub(crate) lab: Option<String>,
    /// Where the server is, instead of what the project says: HOST, USER@HOST or USER@HOST:PORT
    #[arg(long, value_name = "DESTINATION", conflicts_with = "lab")]
    pub(crate) host: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new project in a folder
    ///
    /// Writes a small `stead.ncl` and a first page. Overwrites nothing.
    #[command(after_help = "\
Examples:
  stead init                    in the current folder
  stead init my-server          in a new one
  stead lab up try && stead up --lab try
                                then: the page, on a server of this machine")]
    Init {
        /// The folder; it may exist, if it holds no stead.ncl
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Pin the inputs: write stead.lock; nothing else moves a pin
    ///
    /// Hashes `path:` folders, reads the signed indexes of `debian:` archives, and works out the exact packages of every
    /// runtime. Prints what moved. When anything cannot be resolved, nothing moves. `stead up`
    /// begins with it.
    #[command(after_help = "\
Examples:
  stead update                  everything: newer packages, changed folders
  stead update portfolio        the folder `portfolio` alone; packages stay as they are")]
    Update {
        /// Only these inputs; without any, all
        inputs: Vec<String>,
    },
    /// Prove what can be proved without the server
    ///
    /// Evaluates the project, compares the lock with what is declared and with the folders, builds the apps, and plans
    /// every server.
    #[command(after_help = "\
Examples:
  stead check                   every server of the project
  stead check billtracker       this one")]
    Check {
        /// The server; without one, all
        server: Option<String>,
    },
    /// Show what a deploy would change, and what pauses it would cause
    ///
    /// Compares the declaration with what the server runs now. Changes nothing that runs.
    #[command(after_help = "\
Examples:
  stead plan
  stead plan --json             the steps, for programs
  stead plan --lab try          against a lab")]
    Plan {
        #[command(flatten)]
        target: Target,
    },
    /// Make the declaration live, prove it, confirm it; or go back
    ///
    /// Sends what the server lacks and tests that it fits, before anything is switched. New instances start beside the
    /// old ones and are probed; then visitors are let over. Everything has to stay up for a moment, and a fresh SSH
    /// login has to work; only then the next boot comes up in it. Whatever fails, the server goes back to what ran
    /// before, also when this command is killed or the line breaks.
    #[command(after_help = "\
Examples:
  stead deploy                  what stead.lock pins; `stead up` updates first
  stead deploy --soak 60        what was started has to stay up for a minute
  stead deploy --attach         the line broke: how does it go on, or how did it end?
  stead deploy --lab try        on a lab")]
    Deploy {
        #[command(flatten)]
        target: Target,
        /// Find the running or the last activation again: confirm it if it waits for that, and tell how it ends
        #[arg(long)]
        attach: bool,
        /// The machine ran another server of Stead's so far: it becomes this one, and what it ran goes
        #[arg(long)]
        rename: bool,
        #[command(flatten)]
        trial: Trial,
    },
    /// update + check + deploy, in one go
    ///
    /// What one uses while working: takes the folders as they are and the newest packages, writes stead.lock, and
    /// deploys. Run again, it says that nothing changed, unless the archive has newer packages by then.
    #[command(after_help = "\
Examples:
  stead up
  stead up --lab try            rehearse on a lab; the real server is not asked
  stead up --host root@192.0.2.7:2222
                                the same declaration, on another machine")]
    Up {
        #[command(flatten)]
        target: Target,
        /// The machine ran another server of Stead's so far: it becomes this one, and what it ran goes
        #[arg(long)]
        rename: bool,
        #[command(flatten)]
        trial: Trial,
    },
    /// Go back to what ran before, or to any generation that is kept
    ///
    /// Code and configuration go back, with the same proofs as in a deploy; the data of the apps stays as it is. Before the
    /// first deploy nothing of Stead's ran, and that can be gone back to as well. A second rollback takes the first one
    /// back. The project's files are not touched: the next deploy makes live what they say.
    #[command(after_help = "\
Examples:
  stead rollback                to what ran before
  stead rollback 3f2a91c0       to this one; `stead history` lists them")]
    Rollback {
        /// The generation, by its first digits, at least four; without it, what ran before
        #[arg(value_name = "GENERATION")]
        to: Option<String>,
        /// The server, as named in stead.ncl; not needed when the project has one
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        trial: Trial,
    },
    /// What runs on the server, and how
    ///
    /// Ends with 1 when a unit is not as it should be, so that a monitor can ask.
    #[command(after_help = "\
Examples:
  stead status
  stead status --json --quiet   for a monitor")]
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// What was deployed when, by whom, and how it ended
    #[command(after_help = "\
The newest comes first; `*` marks what runs now. Generations that are kept can be gone back to:
  stead rollback 3f2a91c0")]
    History {
        #[command(flatten)]
        target: Target,
        /// How many at most
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
        lines: u32,
    },
    /// The journal of an app, a service or everything
    #[command(after_help = "\
Examples:
  stead logs                    everything of Stead's, the last 50 lines
  stead logs --of bill-tracker --follow
                                an app, all its instances, and what comes
  stead logs --of nginx -n 500")]
    Logs {
        #[command(flatten)]
        target: Target,
        /// The app, service, site or unit; without one, everything of Stead's
        #[arg(long, value_name = "NAME")]
        of: Option<String>,
        /// How many past lines
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50)]
        lines: u32,
        /// Go on with what comes, until interrupted
        #[arg(long, short)]
        follow: bool,
    },
    /// Run a command beside an app, as the app: its file system, environment and user
    ///
    /// Without --app it runs on the server itself, as root. No shell is in between and standard input is empty; the
    /// command's own exit code is passed on.
    #[command(after_help = "\
Examples:
  stead exec --app bill-tracker -- bin/bill_tracker version
  stead exec -- systemctl list-timers 'stead-*'")]
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
    ///
    /// Kept are what runs, what the next boot comes up in, the last generations that were confirmed, and those that are
    /// pinned (`stead pin`). The data of the apps is never touched.
    #[command(after_help = "\
Examples:
  stead gc --dry-run            how much would it be?
  stead gc --keep 2             what runs, and the last two")]
    Gc {
        #[command(flatten)]
        target: Target,
        /// Only tell what would be removed
        #[arg(long)]
        dry_run: bool,
        /// How many of the last generations stay
        #[arg(long, value_name = "COUNT", default_value_t = 5)]
        keep: u32,
    },
    /// Keep a generation whatever happens, or list those that are kept so
    ///
    /// A pinned generation is never collected, by `stead gc` or otherwise, and can be gone back to at any time: the last one
    /// before a risky change, for instance.
    #[command(after_help = "\
Examples:
  stead pin                     which are pinned?
  stead pin 3f2a91c0            keep this one; `stead history` lists them
  stead pin 3f2a91c0 --remove   no longer
  stead rollback 3f2a91c0       go back to it, however old it is")]
    Pin {
        /// The generation, by its first digits, at least four; without it, the pins are listed
        #[arg(value_name = "GENERATION")]
        generation: Option<String>,
        /// Do not keep it any longer
        #[arg(long, requires = "generation")]
        remove: bool,
        /// The server, as named in stead.ncl; not needed when the project has one
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Compare every file of Stead's on the server with its hash
    ///
    /// Names what is altered, missing or too many, and ends with 1 when there is anything. Changes nothing.
    Verify {
        #[command(flatten)]
        target: Target,
    },
    /// Look at a machine, and make it a server of the project
    ///
    /// Looks first, by reading alone: system, disk, clock, SSH, addresses, what listens, firewalls. What does not fit is
    /// named, and nothing is left there. Then the host key is noted in secrets/readers.toml, and the agent and a systemd
    /// generator are put in their places: nothing of network, boot or other services is changed.
    ///
    /// Here as in every command, a login that is not root's becomes root by `sudo`. A password that it wants is asked at the
    /// terminal, once a command, and kept nowhere.
    #[command(after_help = "\
Examples:
  stead adopt                   the project's server
  stead adopt --look            only look
  stead adopt web2 --host root@203.0.113.7")]
    Adopt {
        #[command(flatten)]
        target: Target,
        /// Only look: nothing is put there
        #[arg(long)]
        look: bool,
    },
    /// Give the machine back as it was before Stead
    ///
    /// What runs is taken off like by a deploy of nothing, then everything of Stead's goes: units, users, settings, store, agent. Data of
    /// apps and certificates stays, unless told otherwise.
    #[command(after_help = "\
Examples:
  stead leave                   asks for the server's name
  stead leave --yes             where nobody can be asked
  stead leave --with-data       the data as well")]
    Leave(Leave),
    /// Values that nobody else may read: in the repository, encrypted
    ///
    /// They are the files secrets/NAME.age, in the format of age. secrets/readers.toml says who may read which: operators, by
    /// their SSH or age keys, and servers, by their host keys. In a declaration: `secret "NAME"`.
    #[command(subcommand)]
    Secret(Secret),
    /// Disposable servers on this machine, real systemd and real SSH
    ///
    /// A lab is a Debian in a container with its own address, limited to the cores and memory of a small server; or in
    /// a virtual machine, for what a container cannot show. It is there to rehearse on: every command that speaks to a
    /// server takes `--lab NAME`. Needs root.
    #[command(subcommand)]
    #[command(after_help = "\
Examples:
  stead lab up try --forward 8080:80
  stead up --lab try            the page of `stead init` is at http://site.localhost:8080
  stead lab ssh try             look around
  stead lab down try            gone, with all that was on it")]
    Lab(Lab),
    /// Completions for a shell, on standard output
    #[command(after_help = "\
Examples:
  stead completions bash > ~/.local/share/bash-completion/completions/stead
  stead completions fish > ~/.config/fish/completions/stead.fish")]
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
    /// Seconds that the server waits for the fresh login before it goes back
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) confirm_deadline: u32,
    /// Seconds for which everything has to stay up before it is confirmed; without it, what the apps declare (5), when something was started
    #[arg(long, value_name = "SECONDS")]
    pub(crate) soak: Option<f64>,
    /// Never log in to confirm: the server goes back by itself (to see that it does)
    #[arg(long, hide = true)]
    pub(crate) no_confirm: bool,
}

/// `stead leave`.
#[derive(Debug, Args)]
pub(crate) struct Leave {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Take the data of apps and the certificates as well
    #[arg(long)]
    pub(crate) with_data: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) trial: Trial,
}

/// `stead lab …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Make and boot a server
    ///
    /// The first one of each Debian release takes longer: its base system is made, and kept for the next. Where a
    /// container cannot be started, the lab becomes a virtual machine. Without KVM its processor is emulated: then a
    /// boot takes half a minute or more.
    #[command(after_help = "\
Examples:
  stead lab up try
  stead lab up try --release trixie --memory 2048 --forward 8080:80
  stead lab up try --vm         a kernel, memory and disk of its own")]
    Up {
        /// What it is called
        name: String,
        /// Its Debian release: bookworm or trixie
        #[arg(long, value_name = "NAME", default_value = "bookworm")]
        release: String,
        /// Cores
        #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
        cpus: u32,
        /// Memory in MiB
        #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..))]
        memory: u32,
        /// Pass a port of this machine on to one of the lab's, such as 8080:80; may be given several times
        #[arg(long, value_name = "HERE:THERE")]
        forward: Vec<String>,
        /// In a virtual machine: for power cuts, memory limits and a kernel of its own
        #[arg(long)]
        vm: bool,
    },
    /// Start a server that is off, on the disk that it left
    Boot {
        /// Which one
        name: String,
    },
    /// Cut a server's power: it is killed at once, and nothing is told
    ///
    /// A virtual machine loses what it had not flushed to its disk. A container loses its memory only.
    #[command(after_help = "\
Examples:
  stead lab cut try && stead lab boot try")]
    Cut {
        /// Which one
        name: String,
    },
    /// Give a server another size: a container at once, a virtual machine by switching it off and on
    #[command(after_help = "\
Examples:
  stead lab resize try --cpus 2 --memory 2048")]
    #[command(group = clap::ArgGroup::new("size").required(true).multiple(true))]
    Resize {
        /// Which one
        name: String,
        /// Cores
        #[arg(long, value_name = "COUNT", group = "size", value_parser = clap::value_parser!(u32).range(1..=256))]
        cpus: Option<u32>,
        /// Memory in MiB
        #[arg(long, value_name = "MIB", group = "size", value_parser = clap::value_parser!(u32).range(128..))]
        memory: Option<u32>,
    },
    /// Stop and remove a server, with all that is on it
    Down {
        /// Which one
        name: String,
    },
    /// The labs of this machine
    List,
    /// Run a command on a lab, over SSH
    #[command(after_help = "\
Examples:
  stead lab exec try -- systemctl --failed")]
    Exec {
        /// Which one
        name: String,
        /// The command, after `--`
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
    /// End an activation whose time is over
    Expire {
        /// Which one
        id: String,
    },
    /// Look after the certificates of the sites
    Certificates {
        /// Put a stand-in where nginx could not read one
        #[arg(long, conflicts_with = "renew", required_unless_present = "renew")]
        ready: bool,
        /// Renew what is due
        #[arg(long)]
        renew: bool,
    },
    /// Make the files of secrets of the active generation, in memory
    Secrets,
    /// Take security updates of the machine's own packages
    Upgrade {
        /// Boot the machine anew when one needs it
        #[arg(long)]
        reboot: bool,
    },
    /// Bring the machine's own settings to what the active generation says
    Settle,
    /// Let an instance of an app go when nobody is connected to it any more
    Drain {
        /// Its unit
        unit: String,
        /// Seconds after which it goes all the same
        seconds: u32,
    },
}
