//! The database's place among the actions: ready before anything that may use it, on the way forward and back.
//!
//! What it needs to be changed for has to be there when a new instance of an app is probed: it is changed before those start
//! ([`change`]). Switching it back restores configuration, never data. It is not withdrawn as if nobody had met it
//! ([`is_changed`]): what runs uses it.

use crate::converge::{bring_up, did_not_stay};
use crate::effects::{Result, Server};
use stead_model::generation::{Generation, Role, Unit};
use stead_model::name::UnitName;

/// The units of a generation's database: the server, and what makes roles and databases in it.
fn of(generation: &Generation) -> impl Iterator<Item = (&UnitName, &Unit)> {
    generation.units.iter().filter(|(_, unit)| unit.start && matches!(unit.role, Role::Database {}))
}

/// Whether one of them differs between two generations that both have it.
pub(crate) fn is_changed(one: &Generation, other: &Generation) -> bool {
    of(one).any(|(name, unit)| other.units.get(name).is_some_and(|known| known != unit))
}

/// Brings the database to what `wanted` says; `other` is what may run now. One that `wanted` does not have is left alone.
pub(crate) fn change(server: &mut impl Server, wanted: &Generation, other: &Generation) -> Result<()> {
    let (mut restart, mut reload) = (Vec::new(), Vec::new());
    for (name, unit) in of(wanted) {
        match other.units.get(name) {
            Some(known) if known.start && known.digest != unit.digest => restart.push(name),
            Some(known) if known.start && known.reload_digest != unit.reload_digest => reload.push(name),
            _ => {}
        }
    }
    if !restart.is_empty() || !reload.is_empty() {
        // What runs is touched: by now the way back has to be armed.
        server.await_armed()?;
    }
    if let Some(first) = restart.first() {
        server.tell("restarting the database");
        server
            .restart(&restart)
            .map_err(|failure| did_not_stay(server, first, "did not start again", Some(failure)))?;
    }
    // A restart of the server is one of what makes roles as well, which systemd does not wait for by itself.
    let all: Vec<&UnitName> = of(wanted).map(|(name, _)| name).collect();
    bring_up(server, &all)?;
    // The server first: whoever is to log in has to be known there.
    reload.sort_by_key(|unit| std::cmp::Reverse(unit.as_str()));
    for unit in reload {
        server
            .reload(&[unit])
            .map_err(|failure| did_not_stay(server, unit, "did not take its configuration", Some(failure)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::effects::Login;
    use crate::fake::{Fake, generation, pair, with_database};
    use crate::run::run;
    use crate::table::Event;
    use stead_model::activation::Phase;
    use stead_model::generation::Generation;
    use stead_model::server::Strategy;

    /// An app, and a database whose server, configuration and roles are told apart by the texts.
    fn with(app: &str, server: &str, configuration: &str, roles: &str) -> Generation {
        with_database(generation(app, Strategy::Beside, "n1", "c1", None), server, configuration, roles)
    }

    /// What happened, by name, in a deploy whose new app is healthy or not.
    fn deployed(parent: &Generation, candidate: &Generation, is_healthy: bool) -> Vec<String> {
        let mut fake = Fake::new(&[parent, candidate]);
        if !parent.units.is_empty() {
            fake.state.confirmed = Some(parent.id());
            fake.state.users = parent.users.clone();
            fake.reboot();
        }
        (fake.login, fake.log) = (Login::Arrived, Vec::new());
        if !is_healthy {
            fake.unhealthy.insert("stead-web@a2.service".parse().unwrap());
        }
        let phase = run(&mut fake, pair(parent, candidate), Phase::Staged, Event::Begin).unwrap().phase;
        assert_eq!(phase, if is_healthy { Phase::Done } else { Phase::WentBack });
        let runs = if is_healthy { candidate } else { parent };
        fake.state.users = runs.users.clone();
        fake.belongs_to(runs).unwrap();
        fake.log
    }

    #[track_caller]
    fn in_order(log: &[String], wanted: &[&str]) {
        let mut rest = log.iter();
        for words in wanted {
            assert!(rest.any(|effect| effect.starts_with(words)), "{words}, in {wanted:?}: {log:#?}");
        }
    }

    #[test]
    fn it_is_there_before_the_apps_and_goes_with_them() {
        let parent = Generation::empty("test".parse().unwrap());
        let candidate = with("a2", "d1", "s1", "r1");
        let log = deployed(&parent, &candidate, true);
        in_order(
            &log,
            &["start stead-postgresql-setup.service stead-postgresql.service", "start stead-web@a2", "confirm"],
        );
        in_order(
            &deployed(&parent, &candidate, false),
            &["start stead-postgresql-setup", "stop stead-nginx-80.socket"],
        );
    }

    #[test]
    fn a_changed_configuration_or_role_is_read_before_the_new_app_starts_and_read_back_when_that_is_sick() {
        let parent = with("a1", "d1", "s1", "r1");
        let log = deployed(&parent, &with("a2", "d1", "s2", "r2"), true);
        in_order(
            &log,
            &["await_armed", "reload stead-postgresql.service", "reload stead-postgresql-setup", "start stead-web@a2"],
        );
        let log = deployed(&parent, &with("a2", "d1", "s2", "r2"), false);
        in_order(&log, &["start stead-web@a2", "activate", "reload stead-postgresql.service"]);
        assert!(!log.iter().any(|effect| effect.starts_with("restart") || effect.starts_with("stop stead-postgresql")));
    }

    #[test]
    fn a_changed_server_is_restarted_once_and_back_when_the_app_is_sick() {
        let parent = with("a1", "d1", "s1", "r1");
        let restarts =
            |log: &[String]| log.iter().filter(|effect| effect.starts_with("restart stead-postgresql")).count();
        let log = deployed(&parent, &with("a2", "d2", "s1", "r1"), true);
        in_order(&log, &["await_armed", "restart stead-postgresql.service", "start stead-web@a2"]);
        assert_eq!(restarts(&log), 1);
        assert_eq!(restarts(&deployed(&parent, &with("a2", "d2", "s1", "r1"), false)), 2);
    }
}
