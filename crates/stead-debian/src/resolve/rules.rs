//! Where a runtime differs from a whole Debian system.
//!
//! A runtime holds what a service executes. It has no users to add, no questions to ask, no units
//! and no init scripts of its own. The lists here are the only exceptions from what packages say
//! about themselves; a package of [`GIVEN`] that is asked for by name is in the runtime all the same.

/// Packages that only maintainer scripts, init scripts or the boot of a whole system need: a
/// dependency on one of them counts as met.
pub const GIVEN: &[&str] = &[
    // Questions and bookkeeping of maintainer scripts.
    "adduser",
    "cdebconf",
    "debconf",
    "debconf-2.0",
    "debianutils",
    "dpkg",
    "install-info",
    "sensible-utils",
    "ucf",
    // Init scripts and what they call.
    "init-system-helpers",
    "insserv",
    "iproute2",
    "lsb-base",
    "procps",
    "runit-helper",
    "sysvinit-utils",
    // The host's own: service manager, message bus, log, login, mail, schedules, hardware.
    "cron",
    "cron-daemon",
    "dbus",
    "default-dbus-session-bus",
    "default-dbus-system-bus",
    "default-logind",
    "kmod",
    "libpam-systemd",
    "logind",
    "login",
    "logrotate",
    "mount",
    "passwd",
    "system-log-daemon",
    "systemd",
    "systemd-sysv",
    "systemd-tmpfiles",
    "systemd-sysusers",
    "systemd-standalone-sysusers",
    "systemd-standalone-tmpfiles",
    "udev",
    // Made by `crate::runtime`.
    "base-files",
    "base-passwd",
    "usrmerge",
    "usr-is-merged",
];

/// Dependencies that one package has for its maintainer script only: (package, dependency).
pub const SCRIPTS_ONLY: &[(&str, &str)] = &[
    // Makes the hashed links that the bundle (see `crate::runtime`) stands for.
    ("ca-certificates", "openssl"),
];

/// What a package runs without depending on it, because Debian's essential packages need not be
/// named (Debian Policy, section 3.8): (package or `prefix*`, essential packages).
pub const IMPLIED: &[(&str, &[&str])] = &[
    // `erl`, `elixir` and the start script of a release are shell scripts; the BEAM wants `C.UTF-8`.
    ("erlang-base", &["coreutils", "dash", "grep", "libc-bin", "sed"]),
    // `initdb`, `archive_command` and `COPY … TO PROGRAM` run `sh`.
    ("postgresql-1*", &["dash"]),
    // `system()` and shebangs of tools.
    ("gcc", &["dash"]),
    ("make", &["coreutils", "dash"]),
    ("git", &["dash"]),
    ("npm", &["coreutils", "dash"]),
    ("bundler", &["dash"]),
];

/// Whether a name is meant by an entry of [`IMPLIED`].
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether a dependency of `package` on `dependency` counts as met without it.
pub(crate) fn is_met(package: &str, dependency: &str) -> bool {
    GIVEN.contains(&dependency) || SCRIPTS_ONLY.contains(&(package, dependency))
}
