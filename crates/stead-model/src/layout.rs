//! Where things are on a server. The only place that spells these paths.
//!
//! `/var/lib/stead` is what survives a reboot, `/run/stead` what does not. Nothing else on the
//! server belongs to Stead but the generator, the system users of services, their state folders
//! ([`SERVICE_STATE`]), certificates ([`ACME`]), nginx's temporary files (`/var/cache/stead-nginx`), and what
//! a declaration sets of the machine itself ([`crate::host`]).

/// All that survives a reboot.
pub const STATE: &str = "/var/lib/stead";
/// The format of all that is in [`STATE`], as a number. It rises when an older agent could not understand what
/// is written; a store without it has format 1.
pub const STATE_FORMAT: &str = "/var/lib/stead/format";
/// Objects by hash: `objects/ab/cdef…` and `objects/ab/cdef….x` for executable ones.
pub const OBJECTS: &str = "/var/lib/stead/objects";
/// Realised trees by id: `trees/<hash>/`.
pub const TREES: &str = "/var/lib/stead/trees";
/// Realised runtimes by id: `runtimes/<hash>/`.
pub const RUNTIMES: &str = "/var/lib/stead/runtimes";
/// Debian packages as downloaded: `packages/<sha256>.deb`.
pub const PACKAGES: &str = "/var/lib/stead/packages";
/// Descriptions (JSON) of trees: `descriptions/<hash>.json`.
pub const DESCRIPTIONS: &str = "/var/lib/stead/descriptions";
/// Realised generations by id: `generations/<hash>/`, with `generation.json` beside its files.
pub const GENERATIONS: &str = "/var/lib/stead/generations";
/// What is being written and has no name yet: `temporary/<random>/`, one folder a process.
pub const TEMPORARY: &str = "/var/lib/stead/temporary";
/// The confirmed generation: a symbolic link into [`GENERATIONS`], moved only by confirmation.
pub const CONFIRMED: &str = "/var/lib/stead/confirmed";
/// What runs now: a symbolic link into [`GENERATIONS`], gone with every reboot.
pub const ACTIVE: &str = "/run/stead/active";
/// Everything that does not survive a reboot.
pub const RUN: &str = "/run/stead";
/// Links to the units of older instances that still drain.
pub const DRAINING: &str = "/run/stead/draining";
/// `<unit>.env` for each app instance: its own port.
pub const INSTANCES: &str = "/run/stead/instances";
/// `<app>.conf` for each app with a port: the nginx upstream of its live instance.
pub const UPSTREAMS: &str = "/run/stead/upstreams";
/// Sockets of Stead's own: nginx's answer to "which configuration do you serve?".
pub const SOCKETS: &str = "/run/stead/sockets";
/// Copies of the host's lists of users and groups, in a folder that services have bound: a file that was
/// bound by itself would be the one of when the service started, whoever was added since.
pub const NAMES: &str = "/run/stead/names";
/// Files that are made of secrets, by [`crate::secret::SecretFile::id`]: in memory that is never swapped (ramfs).
pub const SECRETS: &str = "/run/stead/secrets";
/// Agents by version: `agents/<hash>/stead`.
pub const AGENTS: &str = "/var/lib/stead/agents";
/// Journals of activations: `activations/<id>/`.
pub const ACTIVATIONS: &str = "/var/lib/stead/activations";
/// The activation that has not ended: a symbolic link to its folder beside it.
pub const UNFINISHED: &str = "/var/lib/stead/activations/unfinished";
/// One line of JSON per ended activation, append-only.
pub const HISTORY: &str = "/var/lib/stead/history.jsonl";
/// Generations that garbage collection must keep: one file per pin.
pub const PINS: &str = "/var/lib/stead/pins";
/// Is there from a boot that found an [`UNFINISHED`] activation until that has ended.
pub const RECOVERING: &str = "/run/stead/recovering";
/// The lock (`flock(2)`) that whoever changes the server holds.
pub const LOCK: &str = "/run/stead/lock";
/// State folders of apps and services: `state/<name>`; never inside a generation.
pub const SERVICE_STATE: &str = "/var/lib/stead-state";
/// Data of PostgreSQL by major version: `<version>/data`. It outlives every generation.
pub const POSTGRESQL_DATA: &str = "/var/lib/stead-state/postgresql";
/// PostgreSQL's socket, in a folder that the services of apps have; it stays when PostgreSQL starts anew.
pub const POSTGRESQL_SOCKET: &str = "/run/stead/postgresql";
/// What was learned of the host itself: facts, not wishes.
pub const HOST: &str = "/var/lib/stead/host";
/// SSH's ports as `sshd` has them, in nftables' words: added to the firewall's rules whenever those are loaded.
pub const SSH_PORTS: &str = "/var/lib/stead/host/ssh-ports.nft";
/// How the machine's own settings were before Stead set them.
pub const SETTINGS: &str = "/var/lib/stead/host/settings.json";
/// Is there while a running `sshd` has not read what is written for it.
pub const SSHD_UNREAD: &str = "/run/stead/sshd-unread";
/// Which `zram` device is ours, and what it was made for; gone with the device at a boot.
pub const ZRAM: &str = "/run/stead/zram";
/// Where nginx keeps bodies that are too large for memory; shared by two instances that take over
/// from each other, which is safe because nginx opens such files exclusively.
pub const NGINX_CACHE: &str = "/var/cache/stead-nginx";
/// What journald reads beside its own file (`journald.conf(5)`), in memory: a boot begins with what the generator puts there.
pub const JOURNALD: &str = "/run/systemd/journald.conf.d/50-stead.conf";
/// Certificates, their keys, and the accounts at authorities. Data: it outlives every generation.
pub const ACME: &str = "/var/lib/stead-acme";
/// Certificates by name: `certificates/<name>/live/{fullchain,key}.pem`, `live` being a link beside them.
pub const CERTIFICATES: &str = "/var/lib/stead-acme/certificates";
/// Accounts at authorities: `accounts/<digest>.json`.
pub const ACCOUNTS: &str = "/var/lib/stead-acme/accounts";
/// The folder from which a web server answers authorities on every port-80 site:
/// `/.well-known/acme-challenge/<token>` below it (RFC 8555, section 8.3).
pub const CHALLENGES: &str = "/run/stead/challenges";
/// A link to the agent that carried out the latest activation, for units that need one.
pub const AGENT: &str = "/var/lib/stead/agent";
/// The systemd generator (`systemd.generator(7)`).
pub const GENERATOR: &str = "/etc/systemd/system-generators/stead";

/// In declarations, the place of an input until the planner knows its tree: `/@stead/inputs/<name>`.
pub const INPUT_PLACEHOLDER: &str = "/@stead/inputs/";
/// In declarations, the place of an app's built release: `/@stead/releases/<app>`.
pub const RELEASE_PLACEHOLDER: &str = "/@stead/releases/";
