//! What probes mean for an activation: which failures are the candidate's fault, and what is told of them.
//!
//! Before anything is switched the parent's probes are asked once, so that a site that was broken already neither keeps
//! the fix of another one from being deployed, nor makes a good way back look bad. What is declared always counts
//! against a candidate.

use crate::effects::{Failure, Pair, Patience, Result, Server};
use stead_model::generation::{Generation, Role};
use stead_model::probe::{Answered, Broken, Probe, Timing, Verdict};

/// Asks what runs, once, and remembers what is broken of it.
pub(crate) fn look_before(server: &mut impl Server, parent: &Generation) -> Result<()> {
    if parent.probes.is_empty() {
        return Ok(());
    }
    let broken: Broken = server
        .probe(parent, Patience::Once)?
        .into_iter()
        .filter(|answered| matches!(answered.verdict, Verdict::Failed | Verdict::FailedBefore))
        .map(|answered| (answered.probe, answered.way))
        .collect();
    server.note_broken(broken)
}

/// The most seconds that a generation's probes may take, asked once before the switch and twice after it: they are asked
/// side by side, a few at a time, and the last answer may come after the deadline.
pub(crate) fn longest(candidate: &Generation) -> u32 {
    let of = |probe: &Probe| {
        let Timing { deadline, timeout, passes, .. } = probe.timing;
        deadline.saturating_add(timeout.saturating_mul(passes.saturating_add(1))) / 1000
    };
    candidate.probes.values().map(of).max().unwrap_or(0).saturating_mul(2)
}

/// How long a candidate's sites are asked: longer when something was started of which nobody knows when it is ready.
pub(crate) fn patience(pair: Pair<'_>) -> Patience {
    let is_new = |name, digest| pair.parent.units.get(name).is_none_or(|known| !known.start || known.digest != digest);
    let starts_unproved = pair.candidate.units.iter().any(|(name, unit)| {
        let is_proved = match &unit.role {
            Role::App { health, .. } => health.is_some(),
            Role::Service {} => false,
            Role::Socket { .. } | Role::Nginx {} | Role::Timer {} | Role::Firewall {} | Role::Database {} => true,
        };
        unit.start && !is_proved && is_new(name, unit.digest)
    });
    if starts_unproved { Patience::Starting } else { Patience::AsSaid }
}

/// Asks the candidate's probes. A site that failed in the same way before the switch is told, and passes.
pub(crate) fn sites(server: &mut impl Server, candidate: &Generation, patience: Patience) -> Result<()> {
    if candidate.probes.is_empty() {
        return Ok(());
    }
    let answers = server.probe(candidate, patience)?;
    let counts = |answered: &&Answered| match answered.verdict {
        Verdict::Failed => true,
        Verdict::FailedBefore => candidate.probes.get(&answered.probe).is_none_or(|probe| !probe.is_implicit()),
        Verdict::Passed | Verdict::Skipped => false,
    };
    let failed: Vec<String> = answers.iter().filter(counts).map(ToString::to_string).collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure(failed.join("\n"))),
    }
}

/// What works and what does not, of a generation that was put back.
#[derive(Default)]
pub(crate) struct Report {
    works: Vec<String>,
    fails: Vec<String>,
}

impl Report {
    pub(crate) fn works(&mut self, words: String) {
        self.works.push(words);
    }

    pub(crate) fn fails(&mut self, failure: Failure) {
        self.fails.push(failure.0);
    }

    /// Asks the probes too. What failed in the same way before the switch is as it was: that is what going back is for.
    pub(crate) fn probes(&mut self, server: &mut impl Server, generation: &Generation) -> Result<()> {
        if generation.probes.is_empty() {
            return Ok(());
        }
        for answered in server.probe(generation, Patience::Starting)? {
            match answered.verdict {
                Verdict::Failed => self.fails.push(answered.to_string()),
                Verdict::Passed => self.works.push(format!("{} answers", answered.probe)),
                Verdict::FailedBefore => self.works.push(format!("{} is as broken as before", answered.probe)),
                Verdict::Skipped => {}
            }
        }
        Ok(())
    }

    /// Whether all is well; else everything that is known.
    pub(crate) fn verdict(self) -> Result<()> {
        if self.fails.is_empty() {
            return Ok(());
        }
        let works = match self.works.is_empty() {
            true => "nothing that was looked at works".to_owned(),
            false => format!("what works: {}", self.works.join(", ")),
        };
        Err(Failure(format!("what does not work:\n{}\n{works}", self.fails.join("\n"))))
    }
}
