//! PostgreSQL while a generation is staged: are the data of this machine its, and what does it say of its settings.
//!
//! Promises that nobody's data are taken for anybody else's: those of another major version, or of another owner, end the
//! deploy here. Reads only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stead_host::postgresql::{complaint, test};
use stead_host::run::RunError;
use stead_host::users;
use stead_model::generation::{Generation, PostgresqlPart};
use stead_model::layout;

/// PostgreSQL cannot come up on this server as declared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are data, and not of this version.
    #[error(
        "services.postgresql.version: the server has data of PostgreSQL {found} in {folder}, which PostgreSQL {wanted} cannot read, and would begin without"
    )]
    OtherVersion {
        /// The version of the data.
        found: String,
        /// Where they are.
        folder: String,
        /// The version that is declared.
        wanted: u32,
    },
    /// The data are of another version than their folder says.
    #[error("services.postgresql.version: {folder} has data of PostgreSQL {found}, not {wanted}")]
    Misplaced {
        /// The version of the data.
        found: String,
        /// Where they are.
        folder: String,
        /// The version that is declared.
        wanted: u32,
    },
    /// The data are somebody else's.
    #[error("services.postgresql: the data in {folder} belong to the user number {owner}, not to {user}")]
    Owner {
        /// Where they are.
        folder: String,
        /// Whose they are.
        owner: u32,
        /// Whose they have to be.
        user: String,
    },
    /// PostgreSQL refuses its settings.
    #[error("{0}")]
    Refused(String),
    /// PostgreSQL cannot be asked.
    #[error("services.postgresql.settings: PostgreSQL cannot be asked about them")]
    Asked(#[source] RunError),
}

impl Error {
    /// What the operator can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            // Root of the machine may be the owner of all databases, also inside of the service's file system.
            Self::OtherVersion { found, wanted, folder } => Some(format!(
                "stay with `version = {found}`, or move. On the server, while {found} runs: `nsenter -t $(systemctl show -P MainPID stead-postgresql) -m -r /usr/lib/postgresql/{found}/bin/pg_dumpall -h {} -U postgres >all.sql`. Then say that {wanted} may begin without, by `mkdir {}`, deploy, and read all.sql in the same way with `/usr/lib/postgresql/{wanted}/bin/psql -h {} -U postgres -d postgres <all.sql`. {folder} stays as it is",
                layout::POSTGRESQL_SOCKET,
                at(*wanted).display(),
                layout::POSTGRESQL_SOCKET,
            )),
            Self::Misplaced { .. } => {
                Some("put the data where they were: each major version has a folder of its own".to_owned())
            }
            Self::Owner { folder, user, .. } => {
                Some(format!("if they are meant, `chown -R {user}: {folder}` on the server; else move them away"))
            }
            Self::Refused(_) => Some("mend the declaration and deploy again".to_owned()),
            Self::Asked(_) => None,
        }
    }
}

/// Whether PostgreSQL of a generation that is published can come up here, unless `from`, which runs, has the same.
///
/// # Errors
/// The first thing that is in its way.
pub(crate) fn check(generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    let Some(part) = &generation.postgresql else { return Ok(()) };
    data(part, Path::new(layout::POSTGRESQL_DATA), users::ids(part.user.as_str()).map(|(user, _)| user))?;
    let is_known = |from: &Generation| {
        from.postgresql.as_ref() == Some(part) && from.units.get(&part.unit) == generation.units.get(&part.unit)
    };
    if from.is_some_and(is_known) {
        return Ok(());
    }
    test(&generation.id(), &part.runtime, part.version).map_err(|error| match error {
        RunError::Failed { output, .. } => Error::Refused(complaint(&output)),
        other => Error::Asked(other),
    })
}

/// The folder of a major version.
fn at(version: u32) -> PathBuf {
    Path::new(layout::POSTGRESQL_DATA).join(version.to_string())
}

/// Whether what is in the folder of all data is PostgreSQL's of this version, or nothing. `user` has none while it is not made.
fn data(part: &PostgresqlPart, all: &Path, user: Option<u32>) -> Result<(), Error> {
    let own = all.join(part.version.to_string());
    let version =
        |folder: &Path| fs::read_to_string(folder.join("data/PG_VERSION")).ok().map(|text| text.trim().to_owned());
    // A folder of its own, made by a deploy or by hand, is the word that it may begin beside others.
    if !own.exists() {
        let others = fs::read_dir(all).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut others: Vec<(String, PathBuf)> =
            others.filter_map(|folder| Some((version(&folder)?, folder))).collect();
        others.sort();
        return match others.pop() {
            Some((found, folder)) => {
                Err(Error::OtherVersion { found, folder: folder.display().to_string(), wanted: part.version })
            }
            None => Ok(()),
        };
    }
    let folder = own.join("data");
    let place = folder.display().to_string();
    if let Some(found) = version(&own).filter(|found| *found != part.version.to_string()) {
        return Err(Error::Misplaced { found, folder: place, wanted: part.version });
    }
    match fs::symlink_metadata(&folder) {
        Ok(found) if Some(found.uid()) != user => {
            Err(Error::Owner { folder: place, owner: found.uid(), user: part.user.to_string() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_model::hash::Hash;

    fn part(version: u32) -> PostgresqlPart {
        let unit = "stead-postgresql.service".parse().unwrap();
        PostgresqlPart { runtime: Hash::of(b""), unit, version, user: "stead-postgresql".parse().unwrap(), port: None }
    }

    #[test]
    fn data_of_another_version_or_owner_are_refused_and_a_folder_made_by_hand_is_the_word_to_begin() {
        let all = tempfile::tempdir().unwrap();
        let write = |folder: &str, version: &str| {
            fs::create_dir_all(all.path().join(folder)).unwrap();
            fs::write(all.path().join(folder).join("PG_VERSION"), version).unwrap();
        };
        let me = fs::metadata(all.path()).unwrap().uid();
        let fits = |version| data(&part(version), all.path(), Some(me));
        assert!(data(&part(15), &all.path().join("nothing"), None).is_ok());
        write("15/data", "15\n");
        assert!(fits(15).is_ok());
        let refused = fits(17).unwrap_err();
        assert!(refused.to_string().contains("data of PostgreSQL 15"), "{refused}");
        let hint = refused.hint().unwrap();
        assert!(hint.contains("pg_dumpall") && hint.contains("mkdir /var/lib/stead-state/postgresql/17"), "{hint}");

        fs::create_dir(all.path().join("17")).unwrap();
        assert!(fits(17).is_ok() && fits(15).is_ok());
        write("17/data", "16\n");
        assert!(matches!(fits(17), Err(Error::Misplaced { .. })));
        assert!(matches!(data(&part(15), all.path(), Some(me + 1)), Err(Error::Owner { .. })));
        assert!(matches!(data(&part(15), all.path(), None), Err(Error::Owner { .. })));
    }
}
