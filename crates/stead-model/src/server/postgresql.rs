//! PostgreSQL, as declared. Names follow NixOS's `services.postgresql`.
//!
//! Promises that a database's or role's name is one that SQL takes without quotes, and that a setting is one line. Knows no
//! SQL and no files: those are made in planning.

use crate::name::{Name, PackageName, Port, SettingName, SqlName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// PostgreSQL of a server that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Postgresql {
    /// The major version, which says what data it can read.
    pub version: u32,
    /// The Debian input; `None`: the server's.
    #[serde(default)]
    pub debian: Option<Name>,
    /// Packages that bring extensions.
    #[serde(default)]
    pub extensions: Vec<PackageName>,
    /// Databases that have to be there, besides those that apps name.
    #[serde(default)]
    pub databases: BTreeSet<SqlName>,
    /// Roles that have to be there, besides those of apps.
    #[serde(default)]
    pub users: BTreeMap<SqlName, DatabaseUser>,
    /// Settings of `postgresql.conf`, as PostgreSQL takes them.
    #[serde(default)]
    pub settings: BTreeMap<SettingName, String>,
    /// Lines of `pg_hba.conf` that come before Stead's own.
    #[serde(default)]
    pub authentication: String,
    /// Lines of `pg_ident.conf` that come before Stead's own.
    #[serde(default)]
    pub ident_map: String,
    /// SQL that is run once, when the data was made anew.
    #[serde(default)]
    pub initial_script: Option<String>,
    /// Whether it listens on the network as well.
    #[serde(default, rename = "enableTCPIP")]
    pub enable_tcp_ip: bool,
}

/// A role that may log in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DatabaseUser {
    /// Whether the database of the same name is its own.
    #[serde(rename = "ensureDBOwnership")]
    pub owns_database: bool,
    /// Rights that it has, or has not; those that are absent are left as they are.
    pub clauses: BTreeMap<Clause, bool>,
}

/// A right of a role (`CREATE ROLE` of PostgreSQL's manual).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clause {
    /// No right is asked for.
    Superuser,
    /// It may make roles.
    Createrole,
    /// It may make databases.
    Createdb,
    /// It has the rights of the roles that it is in.
    Inherit,
    /// It may log in.
    Login,
    /// It may replicate.
    Replication,
    /// No row is kept from it.
    Bypassrls,
}

impl Clause {
    /// The word of SQL for having the right, and that for not having it.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Superuser => ("SUPERUSER", "NOSUPERUSER"),
            Self::Createrole => ("CREATEROLE", "NOCREATEROLE"),
            Self::Createdb => ("CREATEDB", "NOCREATEDB"),
            Self::Inherit => ("INHERIT", "NOINHERIT"),
            Self::Login => ("LOGIN", "NOLOGIN"),
            Self::Replication => ("REPLICATION", "NOREPLICATION"),
            Self::Bypassrls => ("BYPASSRLS", "NOBYPASSRLS"),
        }
    }
}

impl Postgresql {
    /// The port of one that declares none.
    pub const PORT: Port = Port::new(5432).expect("it is not 0");

    /// The port, by which its socket is named as well.
    pub fn port(&self) -> Port {
        let declared = self.settings.get("port").and_then(|port| Port::new(port.parse().ok()?));
        declared.unwrap_or(Self::PORT)
    }

    /// Every package of its runtime: the server, what `initdb` and Stead's own scripts are run by, and extensions.
    pub fn packages(&self) -> Vec<PackageName> {
        let own = [format!("postgresql-{}", self.version), "coreutils".to_owned(), "dash".to_owned()];
        let own = own.into_iter().map(|name| name.parse().expect("the packages are named by package names"));
        own.chain(self.extensions.iter().cloned()).collect()
    }
}

/// Settings that PostgreSQL 13 to 18 read when they start, and never again (`pg_settings`, context `postmaster`).
const READ_AT_START: [&str; 65] = [
    "archive_mode",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_multixact_freeze_max_age",
    "autovacuum_worker_slots",
    "bonjour",
    "bonjour_name",
    "cluster_name",
    "commit_timestamp_buffers",
    "data_sync_retry",
    "debug_io_direct",
    "dynamic_shared_memory_type",
    "event_source",
    "hot_standby",
    "huge_page_size",
    "huge_pages",
    "ignore_invalid_pages",
    "io_max_combine_limit",
    "io_max_concurrency",
    "io_method",
    "jit_provider",
    "listen_addresses",
    "logging_collector",
    "max_active_replication_origins",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_logical_replication_workers",
    "max_notify_queue_pages",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "multixact_member_buffers",
    "multixact_offset_buffers",
    "notify_buffers",
    "old_snapshot_threshold",
    "port",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "reserved_connections",
    "restore_command",
    "serializable_buffers",
    "shared_buffers",
    "shared_memory_type",
    "shared_preload_libraries",
    "subtransaction_buffers",
    "superuser_reserved_connections",
    "track_activity_query_size",
    "track_commit_timestamp",
    "transaction_buffers",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_buffers",
    "wal_decode_buffer_size",
    "wal_level",
    "wal_log_hints",
];
/// As [`READ_AT_START`], and Stead's own.
const OWN: [&str; 6] =
    ["config_file", "data_directory", "external_pid_file", "hba_file", "ident_file", "unix_socket_directories"];

impl SettingName {
    /// Whether PostgreSQL has to be restarted for it. What an extension has (its name has a dot) may be of either kind: those are
    /// taken for settings that take a restart.
    pub fn takes_restart(&self) -> bool {
        let name = self.as_str();
        name.contains('.') || READ_AT_START.contains(&name) || OWN.contains(&name)
    }
}
