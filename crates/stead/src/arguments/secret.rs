//! The words of `stead secret`.
//!
//! A value is never an argument: everybody on the machine could read it in the list of processes.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `stead secret …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Give a secret a value: typed, or from standard input
    ///
    /// One line break at the end is not part of it. A new secret is for all operators and, where there is one server, for
    /// that. Needs no key of yours: anybody can encrypt.
    #[command(after_help = "\
Examples:
  stead secret set db_password              asks, and shows nothing
  openssl rand -base64 48 | stead secret set secret_key_base
  stead secret set tls_key --file key.pem   every byte of a file
  stead secret set token --for operators --for web1")]
    Set {
        /// Its name: the file is secrets/NAME.age
        name: String,
        /// Take the value from this file, byte for byte
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Who may read it, of secrets/readers.toml: an operator, a server, `operators` or `servers`
        #[arg(long = "for", value_name = "READER")]
        readers: Vec<String>,
    },
    /// Change a value in your editor, in a folder in memory (which the system may swap)
    Edit {
        /// Its name
        name: String,
        #[command(flatten)]
        keys: Keys,
    },
    /// Print a value
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        keys: Keys,
    },
    /// Tell which secrets there are, who may read each, and which have to be encrypted anew
    List,
    /// Encrypt for exactly those whom secrets/readers.toml names: after somebody joined or left, or a host key changed
    ///
    /// All or nothing: when one secret cannot be opened, none is changed. Values stay as they are, so that no service is
    /// started anew. Who could read a value before may still know it: set it anew at its source.
    Rekey {
        /// Encrypt anew also what is for the right readers already
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        keys: Keys,
    },
    /// Take over secrets from elsewhere: files of age (agenix, ragenix, rage), files in clear, or a file of variables
    #[command(after_help = "\
Examples:
  stead secret import ../nixos/secrets/db.age     becomes the secret `db`
  stead secret import --dotenv .env               each variable becomes a secret of its name")]
    Import {
        /// The files; NAME.age is opened with your key, any other is taken as it is
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// They hold lines NAME=VALUE
        #[arg(long)]
        dotenv: bool,
        /// Who may read them, as in `set`
        #[arg(long = "for", value_name = "READER")]
        readers: Vec<String>,
        #[command(flatten)]
        keys: Keys,
    },
}

/// With which private key secrets are opened.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Keys {
    /// Your private key, of SSH or age; without it ~/.ssh/id_ed25519, ~/.ssh/id_rsa and ~/.config/stead/identity
    #[arg(long = "identity", short = 'i', value_name = "FILE")]
    pub(crate) identities: Vec<PathBuf>,
}
