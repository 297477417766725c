//! PostgreSQL: the test of its settings before they are switched to.
//!
//! The test runs the candidate's own `postgres` in the candidate's own file system, as a transient service of systemd. It reads
//! settings and ends; no data are touched.

use crate::run::RunError;
use crate::systemd::in_runtime;
use stead_model::{hash::Hash, layout};

/// Tests the settings of a staged generation with that generation's `postgres`.
///
/// # Errors
/// Its own words, when it refuses them or cannot be run.
pub fn test(generation: &Hash, runtime: &Hash, version: u32) -> Result<(), RunError> {
    let program = format!("/usr/lib/postgresql/{version}/bin/postgres");
    let folder = format!("{}/{generation}/postgresql", layout::GENERATIONS);
    // Root may only ask for a setting (`postgres(1)`, -C), and that has to be the first word.
    let command = [program.as_str(), "-C", "max_connections", "-D", folder.as_str()];
    in_runtime(runtime, &[layout::GENERATIONS.to_owned()], &[], &command).map(drop)
}

/// What PostgreSQL says against settings, each with its option.
pub fn complaint(output: &str) -> String {
    let mut all: Vec<String> = Vec::new();
    for line in output.lines() {
        if let (Some((_, hint)), Some(last)) = (line.split_once("HINT:  "), all.last_mut()) {
            last.push_str(&format!(" ({})", hint.trim()));
            continue;
        }
        let Some((_, words)) = line.split_once("LOG:  ") else { continue };
        // `… parameter "NAME" …`, for every way in which a value can be wrong (`guc.c`).
        let name = words.split_once("parameter \"").and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
        let Some(name) = name else { continue };
        let words = words.split_once(" in file ").map_or(words, |(words, _)| words);
        all.push(format!("services.postgresql.settings.{name}: PostgreSQL refuses it: {words}"));
    }
    match all.is_empty() {
        true => format!("services.postgresql.settings: PostgreSQL refuses them: {}", output.trim()),
        false => all.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn a_complaint_names_the_options_and_what_would_be_right() {
        let said = "2026-11-28 02:00:00.000 GMT [7] LOG:  invalid value for parameter \"work_mem\": \"4 potatoes\"\n\
            2026-11-28 02:00:00.000 GMT [7] HINT:  Valid units for this parameter are \"B\", \"kB\".\n\
            2026-11-28 02:00:00.000 GMT [7] LOG:  unrecognized configuration parameter \"wrok_mem\" in file \"/x/postgresql.conf\" line 7\n\
            2026-11-28 02:00:00.000 GMT [7] FATAL:  configuration file \"/x/postgresql.conf\" contains errors\n";
        assert_eq!(
            complaint(said),
            "services.postgresql.settings.work_mem: PostgreSQL refuses it: invalid value for parameter \"work_mem\": \"4 potatoes\" (Valid units for this parameter are \"B\", \"kB\".)\n\
             services.postgresql.settings.wrok_mem: PostgreSQL refuses it: unrecognized configuration parameter \"wrok_mem\""
        );
        let other = "postgres: could not access directory \"/x\"";
        assert_eq!(complaint(other), format!("services.postgresql.settings: PostgreSQL refuses them: {other}"));
    }
}
