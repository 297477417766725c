//! The firewall while a generation is staged: where SSH really listens is learned, and nft asked about the rules.
//!
//! What is learned is written durably beside the generations: a fact about the host, which every generation's rules
//! read. Nothing comes into force here.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use stead_host::firewall::{complaint, ssh_ports, test};
use stead_host::run::RunError;
use stead_model::generation::Generation;
use stead_model::layout;

/// The firewall's rules cannot come into force on this server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// nft or the kernel refuses them.
    #[error("{0}")]
    Refused(String),
    /// nft cannot be asked.
    #[error("networking.firewall: nft cannot be asked about the rules")]
    Asked(#[source] RunError),
    /// What was learned of SSH cannot be written.
    #[error("networking.firewall: the ports of SSH cannot be written to {}", layout::SSH_PORTS)]
    Ports(#[source] io::Error),
}

/// Learns SSH's ports, and has nft check the rules of a generation that is published, unless `from`, which runs, has the
/// same.
///
/// # Errors
/// When the rules are refused, or what was learned cannot be written.
pub(crate) fn check(generation: &Generation, from: Option<&Generation>) -> Result<(), Error> {
    let Some(part) = &generation.firewall else { return Ok(()) };
    if from.is_some_and(|from| from.units.get(&part.unit) == generation.units.get(&part.unit)) {
        return Ok(());
    }
    learn(&ssh_ports()).map_err(Error::Ports)?;
    let id = generation.id();
    let folder = Path::new(layout::GENERATIONS).join(id.to_string());
    test(&id, &part.runtime, &part.binds).map_err(|error| match error {
        RunError::Failed { output, .. } => Error::Refused(complaint(&output, &folder)),
        other => Error::Asked(other),
    })
}

/// Writes the ports down, durably and at once, so that no boot finds half of them.
fn learn(ports: &BTreeSet<u16>) -> io::Result<()> {
    let text = words(ports);
    if fs::read_to_string(layout::SSH_PORTS).is_ok_and(|known| known == text) {
        return Ok(());
    }
    fs::create_dir_all(layout::HOST)?;
    // Of another name than what the rules include.
    let temporary = Path::new(layout::HOST).join(".new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, layout::SSH_PORTS)?;
    fs::File::open(layout::HOST)?.sync_all()?;
    fs::File::open(layout::STATE)?.sync_all()
}

/// What the rules include.
fn words(ports: &BTreeSet<u16>) -> String {
    const OPENING: &str = "# Made by Stead: where SSH listens on this server.\n";
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    match ports.is_empty() {
        true => OPENING.to_owned(),
        false => format!("{OPENING}add rule inet stead ssh tcp dport {{ {} }} accept\n", ports.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_added_to_those_declared_and_none_is_no_error() {
        assert!(words(&[22, 2222].into()).ends_with("\nadd rule inet stead ssh tcp dport { 22, 2222 } accept\n"));
        assert!(words(&BTreeSet::new()).lines().all(|line| line.starts_with('#')));
    }
}
