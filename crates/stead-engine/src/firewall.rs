//! The firewall's place among the actions: first to come, last to go, and changed without a moment open.
//!
//! A new one is in force before anything of the candidate starts ([`raise`]); a changed one is reloaded, never
//! restarted, before visitors are let over ([`change`]); one that is not wanted any more goes when all else of its
//! generation has ended, or when what is wanted without it is there ([`lower`]).

use crate::converge::{bring_up, did_not_stay, running};
use crate::effects::{Pair, Result, Server};
use stead_model::generation::{Generation, Role, Unit};
use stead_model::name::UnitName;

/// The firewall that a generation starts.
fn of(generation: &Generation) -> Option<(&UnitName, &Unit)> {
    generation.units.iter().find(|(_, unit)| unit.start && matches!(unit.role, Role::Firewall {}))
}

/// Whether this is the unit of the generation's firewall.
pub(crate) fn is_it(generation: &Generation, unit: &UnitName) -> bool {
    of(generation).is_some_and(|(name, _)| name == unit)
}

/// Puts the candidate's firewall in force where there was none: what starts next may listen for anybody. By then the way
/// back is armed, since it may be the operator who is shut out.
pub(crate) fn raise(server: &mut impl Server, pair: Pair<'_>) -> Result<()> {
    match (of(pair.parent), of(pair.candidate)) {
        (None, Some((unit, _))) => {
            server.await_armed()?;
            server.tell("putting the firewall in force");
            bring_up(server, &[unit])
        }
        _ => Ok(()),
    }
}

/// Brings the firewall to what `wanted` says; `other` is what may be in force now.
pub(crate) fn change(server: &mut impl Server, wanted: &Generation, other: &Generation) -> Result<()> {
    let Some((unit, now)) = of(wanted) else { return Ok(()) };
    let is_changed = of(other).is_some_and(|(name, known)| name == unit && known != now);
    if is_changed && running(server, unit)? {
        return server.reload(&[unit]).map_err(|failure| did_not_stay(server, unit, "did not reload", Some(failure)));
    }
    bring_up(server, &[unit])
}

/// Takes the firewall of `other` away, if `wanted` has none.
pub(crate) fn lower(server: &mut impl Server, wanted: &Generation, other: &Generation) -> Result<()> {
    match (of(wanted), of(other)) {
        (None, Some((unit, _))) => server.stop(&[unit]),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Login;
    use crate::fake::{Fake, generation, guarded, pair};
    use crate::run::run;
    use crate::table::Event;
    use stead_model::activation::Phase;
    use stead_model::server::Strategy;

    fn app(name: &str) -> Generation {
        generation(name, Strategy::Beside, "n1", "c1", None)
    }

    /// What happened, by name, in a deploy that the operator does or does not confirm.
    fn deployed(parent: &Generation, candidate: &Generation, login: Login) -> (Vec<String>, Phase) {
        let mut fake = Fake::new(&[parent, candidate]);
        if !parent.units.is_empty() {
            fake.state.confirmed = Some(parent.id());
            fake.state.users = parent.users.clone();
            fake.reboot();
        }
        (fake.login, fake.log) = (login, Vec::new());
        let phase = run(&mut fake, pair(parent, candidate), Phase::Staged, Event::Begin).unwrap().phase;
        fake.state.users = if phase == Phase::Done { candidate } else { parent }.users.clone();
        fake.belongs_to(if phase == Phase::Done { candidate } else { parent }).unwrap();
        (fake.log, phase)
    }

    #[track_caller]
    fn in_order(log: &[String], wanted: &[&str]) {
        let mut rest = log.iter();
        for words in wanted {
            assert!(
                rest.any(|effect| effect.starts_with(words)),
                "{words}, after what is before it in {wanted:?}: {log:#?}"
            );
        }
    }

    #[test]
    fn a_first_firewall_is_in_force_before_anything_starts_and_goes_last() {
        let (parent, candidate) = (Generation::empty("test".parse().unwrap()), guarded(app("a1"), "r1", "n1"));
        let (log, _) = deployed(&parent, &candidate, Login::Arrived);
        in_order(&log, &["await_armed", "start stead-firewall", "start stead-web@a1", "start stead-nginx-80.socket"]);
        let (log, phase) = deployed(&parent, &candidate, Login::DeadlinePassed);
        assert_eq!(phase, Phase::WentBack);
        in_order(&log, &["start stead-firewall", "await_login", "stop stead-nginx-80.socket", "stop stead-firewall"]);
    }

    #[test]
    fn a_changed_firewall_is_reloaded_and_never_stopped() {
        let parent = guarded(app("a1"), "r1", "n1");
        for candidate in
            [guarded(app("a2"), "r2", "n1"), guarded(app("a2"), "r1", "n2"), guarded(app("a2"), "r2", "n2")]
        {
            for login in [Login::Arrived, Login::DeadlinePassed] {
                let (log, _) = deployed(&parent, &candidate, login);
                in_order(&log, &["start stead-web@a2", "await_armed", "reload stead-firewall", "reload_nginx"]);
                let touches = |effect: &&String| effect.contains("stead-firewall") && !effect.starts_with("reload ");
                assert_eq!(log.iter().find(touches), None);
            }
        }
    }

    #[test]
    fn a_firewall_that_is_given_up_comes_back_with_the_parent() {
        let (parent, candidate) = (guarded(app("a1"), "r1", "n1"), app("a2"));
        let (log, _) = deployed(&parent, &candidate, Login::Arrived);
        in_order(&log, &["start stead-web@a2", "reload_nginx", "stop stead-firewall", "confirm"]);
        let (log, phase) = deployed(&parent, &candidate, Login::DeadlinePassed);
        assert_eq!(phase, Phase::WentBack);
        in_order(&log, &["stop stead-firewall", "await_login", "start stead-firewall"]);
    }
}
