//! Walks the table: journal, act, look what happened, next row.
//!
//! Promises that no action forward begins before its phase is in the journal, and that whatever the effects
//! do, the walk ends in an end phase or stops at an effect that the journal could not record. The way back
//! is gone also when nothing can be journalled, as on a full disk.

use crate::converge;
use crate::effects::{Failure, Login, Pair, Result, Server};
use crate::table::{self, Action, Event};
use stead_model::activation::Phase;

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The last phase: an end of the table.
    pub phase: Phase,
    /// Why it went back; the second reason, when going back failed too, follows it.
    pub reason: Option<String>,
}

/// Walks from `phase` with `event` until an end.
///
/// # Errors
/// When the journal cannot be written on the way forward: nothing more is done then, because nothing
/// that is done could be taken back after a crash. Recovery takes it up from the last journalled phase.
pub fn run(server: &mut impl Server, pair: Pair<'_>, phase: Phase, event: Event) -> Result<Ended> {
    let mut reason: Option<String> = None;
    let (mut phase, mut event) = (phase, event);
    while let Some((to, actions)) = table::next(phase, event) {
        if event == Event::DeadlinePassed {
            reason = Some("the operator's fresh login did not arrive in time".to_owned());
        } else if event == Event::Cancelled {
            reason = server.cancelled().or(Some("cancelled by the operator".to_owned()));
        } else if event == Event::Recovered && matches!(to, Phase::GoingBack | Phase::WentBack) {
            let interrupted = || Some("the activation was interrupted".to_owned());
            reason = reason.or_else(|| server.cancelled()).or_else(interrupted);
        }
        phase = to;
        if let Err(failure) = server.journal(phase, reason.as_deref()) {
            // On the way back nothing depends on the entry: recovery takes the same way from every phase before it.
            match phase {
                Phase::GoingBack | Phase::WentBack | Phase::Stuck => server.tell(&failure.0),
                _ => return Err(failure),
            }
        }
        event = match act(server, pair, phase, actions, &mut reason) {
            // It is over, whether that could be noted or not; whoever takes it up again notes it.
            Err(failure) if phase.is_end() => {
                server.tell(&failure.0);
                break;
            }
            acted => acted?,
        };
    }
    Ok(Ended { phase, reason })
}

fn act(
    server: &mut impl Server,
    pair: Pair<'_>,
    phase: Phase,
    actions: &[Action],
    reason: &mut Option<String>,
) -> Result<Event> {
    let mut event = Event::Failed;
    for action in actions {
        let done = match action {
            Action::Start => converge::start(server, pair).map(|()| Event::Started),
            Action::Switch => converge::switch(server, pair).map(|()| {
                server.switched();
                Event::Started
            }),
            Action::Prove => converge::prove(server, pair).map(|()| Event::Proved),
            Action::AwaitLogin => server.await_login().map(|login| match login {
                Login::Arrived => Event::LoginArrived,
                Login::DeadlinePassed => Event::DeadlinePassed,
                Login::Cancelled => Event::Cancelled,
            }),
            // A pointer that cannot be moved must not be mistaken for one that was: this stops the
            // walk, and recovery decides by what the journal and the disk say.
            Action::Confirm => {
                server.confirm(&pair.candidate_id)?;
                Ok(Event::Retired)
            }
            // What was replaced has to go, but nothing is taken back for it.
            Action::Retire => stubbornly(|| converge::retire(server, pair)).map(|()| Event::Retired),
            // Where that is not enough, because something else happened meanwhile, the whole way back is.
            Action::Withdraw => converge::withdraw(server, pair)
                .or_else(|_| stubbornly(|| converge::restore(server, pair)))
                .map(|()| Event::Restored),
            // Nobody may have to come for what one more try can do.
            Action::Restore => stubbornly(|| converge::restore(server, pair)).map(|()| Event::Restored),
            Action::Record => {
                server.record()?;
                server.run_hook(&pair.candidate.hooks)?;
                server.let_go()?;
                Ok(Event::Recovered)
            }
        };
        match done {
            Ok(next) => event = next,
            Err(Failure(words)) => {
                server.tell(&words);
                *reason = Some(match (reason.take(), phase) {
                    (Some(first), Phase::GoingBack) => {
                        format!("{first}\nand going back failed: {words}")
                    }
                    (Some(first), _) => format!("{first}\n{words}"),
                    (None, _) => words,
                });
                return Ok(Event::Failed);
            }
        }
    }
    Ok(event)
}

/// Once more, when it failed: every action is safe to repeat.
fn stubbornly(mut action: impl FnMut() -> Result<()>) -> Result<()> {
    action().or_else(|_| action())
}

/// Takes up an activation whose process, or machine, went down in `phase`.
///
/// After a reboot the candidate does not run, whatever the journal says last; it counts as
/// confirmed only if the pointer had moved.
///
/// # Errors
/// As [`run`].
pub fn recover(
    server: &mut impl Server,
    pair: Pair<'_>,
    phase: Phase,
    confirmed: Option<stead_model::hash::Hash>,
) -> Result<Ended> {
    if phase.is_end() {
        // It has ended, but perhaps nobody was told.
        act(server, pair, phase, &[Action::Record], &mut None)?;
        return Ok(Ended { phase, reason: None });
    }
    let is_confirmed = confirmed == Some(pair.candidate_id);
    let phase = match phase {
        Phase::Confirmed if !is_confirmed && server.active() != Some(pair.candidate_id) => Phase::Proved,
        phase => phase,
    };
    run(server, pair, phase, Event::Recovered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Mishap, generation, guarded, pair, with_database};
    use std::collections::BTreeSet;
    use stead_model::certificate::{Certificate, Files, Source};
    use stead_model::generation::Generation;
    use stead_model::name::SecretName;
    use stead_model::probe::Expected;
    use stead_model::secret::{Content, Part, SecretFile, Version};
    use stead_model::server::Strategy;
    use stead_plan::{DatabaseChange, Step};

    /// Every kind of change that a deploy can be, as (parent, candidate).
    fn scenarios() -> Vec<(&'static str, Generation, Generation)> {
        let empty = Generation::empty("test".parse().unwrap());
        let base = || generation("a1", Strategy::Beside, "n1", "c1", None);
        vec![
            ("first deploy", empty, base()),
            ("site changed", base(), generation("a1", Strategy::Beside, "n1", "c2", None)),
            ("app changed", base(), generation("a2", Strategy::Beside, "n1", "c1", None)),
            (
                "app that cannot run twice",
                generation("a1", Strategy::Restart, "n1", "c1", None),
                generation("a2", Strategy::Restart, "n1", "c1", None),
            ),
            ("certificates added", base(), with_certificate(generation("a1", Strategy::Beside, "n1", "c2", None))),
            ("secret added", base(), with_secret(generation("a2", Strategy::Beside, "n1", "c1", None), 1)),
            (
                "secret changed",
                with_secret(base(), 1),
                with_secret(generation("a2", Strategy::Beside, "n1", "c1", None), 2),
            ),
            ("secret removed", with_secret(generation("a2", Strategy::Beside, "n1", "c1", None), 1), base()),
            ("setting added", base(), named(base(), "one")),
            ("setting changed", named(base(), "one"), named(base(), "two")),
            ("setting removed", named(base(), "one"), base()),
            ("firewall added", base(), guarded(generation("a2", Strategy::Beside, "n1", "c2", None), "r1", "f1")),
            ("firewall changed", guarded(base(), "r1", "f1"), guarded(base(), "r2", "f2")),
            ("firewall removed", guarded(base(), "r1", "f1"), base()),
            (
                "database added",
                base(),
                with_database(generation("a2", Strategy::Beside, "n1", "c1", None), "d1", "s1", "r1"),
            ),
            (
                "role and setting of the database changed",
                with_database(base(), "d1", "s1", "r1"),
                with_database(generation("a2", Strategy::Beside, "n1", "c1", None), "d1", "s2", "r2"),
            ),
            (
                "database changed",
                with_database(base(), "d1", "s1", "r1"),
                with_database(generation("a2", Strategy::Beside, "n1", "c1", None), "d2", "s1", "r1"),
            ),
            ("database removed", with_database(base(), "d1", "s1", "r1"), base()),
            ("nginx changed", base(), generation("a1", Strategy::Beside, "n2", "c1", None)),
            ("service added", base(), generation("a1", Strategy::Beside, "n1", "c1", Some("s1"))),
            ("service removed", generation("a1", Strategy::Beside, "n1", "c1", Some("s1")), base()),
            (
                "service changed",
                generation("a1", Strategy::Beside, "n1", "c1", Some("s1")),
                generation("a1", Strategy::Beside, "n1", "c1", Some("s2")),
            ),
            ("service no longer started", generation("a1", Strategy::Beside, "n1", "c1", Some("s1")), unstarted("s1")),
            ("app removed", base(), without(base(), &["stead-web@"])),
            ("app added", without(base(), &["stead-web@"]), base()),
            ("nginx removed", base(), without(base(), &["stead-nginx"])),
            ("everything removed", base(), Generation::empty("test".parse().unwrap())),
            ("service started again", unstarted("s1"), generation("a1", Strategy::Beside, "n1", "c1", Some("s1"))),
            (
                "everything changed",
                generation("a1", Strategy::Beside, "n1", "c1", Some("s1")),
                generation("a2", Strategy::Beside, "n2", "c2", Some("s2")),
            ),
        ]
    }

    /// A generation without the units that begin so.
    fn without(mut generation: Generation, starts: &[&str]) -> Generation {
        let is_gone = |unit: &str| starts.iter().any(|start| unit.starts_with(start));
        generation.units.retain(|unit, _| !is_gone(unit.as_str()));
        generation.users.retain(|user| !starts.contains(&format!("{user}@").as_str()));
        generation.nginx = generation.nginx.filter(|nginx| !is_gone(nginx.unit.as_str()));
        generation
    }

    fn with_certificate(mut generation: Generation) -> Generation {
        let files = Files {
            certificate: "/etc/own/a.pem".parse().unwrap(),
            key: "/etc/own/a.key".parse().unwrap(),
            site: "a.test".into(),
        };
        let certificate = Certificate { names: vec!["a.test".parse().unwrap()], source: Source::Files(files) };
        generation.certificates.insert("file-a".parse().unwrap(), certificate);
        generation
    }

    fn with_secret(mut generation: Generation, value: u8) -> Generation {
        let name: SecretName = "key".parse().unwrap();
        let content = Content::Text(vec![Part::Secret(name.clone())]);
        let file = SecretFile { option: "apps.web.credentials.key".into(), content, owner: None };
        generation.secrets.versions.insert(name, Version::from_bytes([value; 16]));
        let id = file.id(&generation.secrets.versions);
        generation.secrets.files.insert(id, file);
        generation
    }

    fn named(mut generation: Generation, name: &str) -> Generation {
        generation.host.host_name = Some(name.parse().unwrap());
        generation
    }

    fn unstarted(service: &str) -> Generation {
        let mut generation = generation("a1", Strategy::Beside, "n1", "c1", Some(service));
        generation.units.get_mut("stead-queue.service").unwrap().start = false;
        generation
    }

    fn server_running(parent: &Generation, candidate: &Generation) -> Fake {
        let mut fake = Fake::new(&[parent, candidate]);
        if !parent.units.is_empty() {
            fake.state.confirmed = Some(parent.id());
            fake.state.users = parent.users.clone();
            fake.reboot();
            fake.belongs_to(parent).unwrap();
        }
        fake
    }

    #[test]
    fn a_healthy_deploy_ends_wholly_in_the_candidate() {
        for (name, parent, candidate) in scenarios() {
            let mut fake = server_running(&parent, &candidate);
            let ended = run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
            assert_eq!(ended, Ended { phase: Phase::Done, reason: None }, "{name}");
            fake.state.users = candidate.users.clone(); // users of what is gone are kept on purpose
            fake.belongs_to(&candidate).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(fake.state.confirmed, Some(candidate.id()), "{name}");
        }
    }

    #[test]
    fn an_unhealthy_app_takes_everything_back_to_the_recorded_parent() {
        for (name, parent, candidate) in scenarios() {
            let mut fake = server_running(&parent, &candidate);
            let confirmed = fake.state.confirmed;
            let app = candidate.units.keys().find(|unit| unit.as_str().starts_with("stead-web@"));
            let Some(app) = app.filter(|app| !parent.units.contains_key(*app)) else { continue };
            fake.unhealthy.insert(app.clone());
            let ended = run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
            assert_eq!(ended.phase, Phase::WentBack, "{name}");
            let reason = ended.reason.unwrap();
            assert!(reason.contains("answered 500") && reason.contains("last words of"), "{name}: {reason}");
            fake.belongs_to(&parent).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(fake.state.confirmed, confirmed, "{name}");
        }
    }

    /// Runs a deploy of another configuration, with the sites of these broken.
    fn deployed(broken: &[&str], declared: bool) -> (Fake, Ended) {
        let [parent, mut candidate] = ["c1", "c2"].map(|text| generation("a1", Strategy::Beside, "n1", text, None));
        if declared {
            let probe = candidate.probes.get_mut("site a.example").unwrap();
            probe.expected =
                Expected::Declared { status: None, body: None, response_time: None, certificate_days: None };
        }
        let mut fake = server_running(&parent, &candidate);
        let ids = [("parent", parent.id()), ("candidate", candidate.id())];
        fake.broken_sites = ids.into_iter().filter(|(name, _)| broken.contains(name)).map(|(_, id)| id).collect();
        let ended = run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
        fake.broken_sites.clear();
        let runs = if ended.phase == Phase::Done { &candidate } else { &parent };
        fake.belongs_to(runs).unwrap();
        (fake, ended)
    }

    #[test]
    fn a_site_that_the_candidate_breaks_takes_everything_back_with_the_question_and_the_answer() {
        let (_, ended) = deployed(&["candidate"], false);
        assert_eq!(ended.phase, Phase::WentBack);
        let reason = ended.reason.unwrap();
        for words in ["site a.example", "from the server itself", "http://a.example/", "status 503"] {
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn a_site_that_was_broken_before_blocks_nothing_unless_it_is_declared() {
        assert_eq!(deployed(&["parent", "candidate"], false).1.phase, Phase::Done);
        // The way back is as broken as it was, and that is all that going back promises.
        assert_eq!(deployed(&["parent", "candidate"], true).1.phase, Phase::WentBack);
    }

    #[test]
    fn a_way_back_to_sites_that_do_not_answer_any_more_is_no_way_back() {
        let [parent, candidate] = ["c1", "c2"].map(|text| generation("a1", Strategy::Beside, "n1", text, None));
        let mut fake = server_running(&parent, &candidate);
        fake.broken_sites = [parent.id(), candidate.id()].into();
        // It was well when the activation began.
        let _ = recover(&mut fake, pair(&parent, &candidate), Phase::OnTrial, Some(parent.id()));
        assert_eq!(fake.journal.last(), Some(&Phase::Stuck));

        let mut fake = server_running(&parent, &candidate);
        fake.broken_sites = [parent.id()].into();
        let ended = recover(&mut fake, pair(&parent, &candidate), Phase::OnTrial, Some(parent.id())).unwrap();
        let reason = ended.reason.unwrap();
        for words in ["going back failed", "what does not work", "site a.example", "what works", "is healthy"] {
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn what_the_operators_side_says_against_it_is_the_reason_for_going_back() {
        for login in [Login::Arrived, Login::Cancelled] {
            let (parent, candidate) = (scenarios().remove(1).1, scenarios().remove(1).2);
            let mut fake = server_running(&parent, &candidate);
            fake.login = login;
            fake.complaint = Some("site a.example is closed from here".to_owned());
            let ended = run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
            assert_eq!(ended.phase, Phase::WentBack);
            assert!(ended.reason.unwrap().contains("closed from here"));
        }
    }

    #[test]
    fn only_what_proves_itself_when_it_starts_makes_probes_impatient() {
        for (name, parent, candidate) in scenarios() {
            let starts = ["service added", "service changed", "service started again", "everything changed"];
            let wanted = match starts.contains(&name) {
                true => crate::effects::Patience::Starting,
                false => crate::effects::Patience::AsSaid,
            };
            assert_eq!(crate::proof::patience(pair(&parent, &candidate)), wanted, "{name}");
        }
    }

    #[test]
    fn without_the_fresh_login_it_goes_back() {
        for login in [Login::DeadlinePassed, Login::Cancelled] {
            for (name, parent, candidate) in scenarios() {
                let mut fake = server_running(&parent, &candidate);
                fake.login = login;
                let ended = run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
                assert_eq!(ended.phase, Phase::WentBack, "{name}");
                fake.belongs_to(&parent).unwrap_or_else(|why| panic!("{name}: {why}"));
            }
        }
    }

    /// What makes an activation end well, or go back, and from how far.
    #[derive(Debug, Clone, Copy)]
    enum Fortune {
        Well,
        Unhealthy,
        NoLogin,
        NoLoginWithVisitors,
    }

    impl Fortune {
        const ALL: [Self; 4] = [Self::Well, Self::Unhealthy, Self::NoLogin, Self::NoLoginWithVisitors];

        fn of(self, fake: &mut Fake, parent: &Generation, candidate: &Generation) {
            match self {
                Self::Well => {}
                Self::Unhealthy => {
                    let apps = candidate.units.keys().filter(|unit| unit.as_str().starts_with("stead-web@"));
                    fake.unhealthy = apps.filter(|unit| !parent.units.contains_key(*unit)).cloned().collect();
                }
                Self::NoLogin => fake.login = Login::DeadlinePassed,
                Self::NoLoginWithVisitors => (fake.login, fake.visited) = (Login::DeadlinePassed, true),
            }
        }
    }

    /// Every scenario, once with every fortune and with the mishap at every effect of the way forward and back.
    fn at_every_effect(mishap: Mishap, then: impl Fn(&str, usize, &mut Fake, &Generation, &Generation, Result<Ended>)) {
        for ((name, parent, candidate), fortune) in
            scenarios().into_iter().flat_map(|scenario| Fortune::ALL.map(|fortune| (scenario.clone(), fortune)))
        {
            let name = format!("{name}, {fortune:?}");
            let ready = || {
                let mut fake = server_running(&parent, &candidate);
                fortune.of(&mut fake, &parent, &candidate);
                (fake.effects, fake.log) = (0, Vec::new());
                fake
            };
            let mut clean = ready();
            run(&mut clean, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
            assert!(clean.effects > 5, "{name}");
            for at in 1..=clean.effects {
                let mut fake = ready();
                fake.mishap = Some((at, mishap));
                let ended = run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin);
                then(&name, at, &mut fake, &parent, &candidate, ended);
            }
        }
    }

    /// Takes the recovery up until it ends, then says which generation the server is wholly in.
    fn recovered(name: &str, at: usize, fake: &mut Fake, parent: &Generation, candidate: &Generation) -> Phase {
        let phase = *fake.journal.last().unwrap();
        let confirmed = fake.state.confirmed;
        let phase = recover(fake, pair(parent, candidate), phase, confirmed).unwrap().phase;
        assert_eq!((fake.recorded, fake.hooks_run, fake.armed), (1, 1, false), "{name}, effect {at}: it is told once");
        let wanted = if phase == Phase::Done { candidate } else { parent };
        if phase == Phase::Done {
            fake.state.users = candidate.users.clone();
        } else {
            // A reboot or crash may leave a user that was made; it is the next deploy's to use, nothing runs as it.
            fake.state.users.retain(|user| parent.users.contains(user));
        }
        fake.belongs_to(wanted)
            .unwrap_or_else(|why| panic!("{name}, effect {at} ({}), {phase:?}: {why}", fake.log[at - 1]));
        assert_eq!(phase == Phase::Done, fake.state.confirmed == Some(candidate.id()), "{name}, effect {at}");
        phase
    }

    #[test]
    fn failing_at_any_effect_leaves_the_server_wholly_in_one_generation() {
        at_every_effect(Mishap::Fail, |name, at, fake, parent, candidate, _| {
            fake.restart_process();
            recovered(name, at, fake, parent, candidate);
        });
    }

    #[test]
    fn crashing_at_any_effect_leaves_the_server_wholly_in_one_generation() {
        at_every_effect(Mishap::Crash, |name, at, fake, parent, candidate, _| {
            fake.restart_process();
            recovered(name, at, fake, parent, candidate);
        });
    }

    #[test]
    fn a_reboot_at_any_effect_comes_up_in_the_confirmed_generation() {
        at_every_effect(Mishap::Crash, |name, at, fake, parent, candidate, _| {
            fake.reboot();
            let confirmed = fake.state.confirmed;
            recovered(name, at, fake, parent, candidate);
            assert_eq!(fake.state.confirmed, confirmed, "{name}, effect {at}: recovery moved the boot pointer");
        });
    }

    #[test]
    fn repeating_any_effect_changes_nothing_about_the_end() {
        at_every_effect(Mishap::Repeat, |name, at, fake, parent, candidate, ended| {
            let phase =
                ended.unwrap_or_else(|error| panic!("{name}, effect {at} ({}): {error}", fake.log[at - 1])).phase;
            assert_ne!(phase, Phase::Stuck, "{name}, effect {at} ({})", fake.log[at - 1]);
            recovered(name, at, fake, parent, candidate);
        });
    }

    #[test]
    fn nothing_is_switched_before_the_way_back_is_armed_and_nothing_stays_armed() {
        for (name, parent, candidate) in scenarios() {
            for login in [Login::Arrived, Login::DeadlinePassed] {
                let mut fake = server_running(&parent, &candidate);
                (fake.login, fake.log) = (login, Vec::new());
                run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
                let armed = fake.log.iter().position(|effect| effect == "await_armed").unwrap();
                let acts = ["point_upstream", "reload_nginx", "stop", "restart", "confirm"];
                let is_act = |effect: &String| acts.contains(&effect.split(' ').next().unwrap_or_default());
                let first = fake.log.iter().position(is_act);
                assert!(first.is_none_or(|first| armed < first), "{name}: {:?}", fake.log);
                assert!(!fake.armed, "{name}");
            }
        }
    }

    #[test]
    fn a_deploy_of_what_runs_starts_and_reloads_nothing() {
        let (_, _, candidate) = scenarios().remove(0);
        let mut fake = server_running(&candidate, &candidate);
        let before = fake.state.clone();
        fake.log.clear();
        run(&mut fake, pair(&candidate, &candidate), Phase::Staged, Event::Begin).unwrap();
        for effect in ["start", "stop", "restart", "reload", "reload_nginx", "reload_systemd", "give_port"] {
            let acts = |line: &&String| line.split(' ').next() == Some(effect) && line.contains(' ') || *line == effect;
            let happened: Vec<&String> = fake.log.iter().filter(acts).filter(|line| *line != "stop").collect();
            assert!(happened.is_empty(), "{happened:?}");
        }
        assert_eq!(fake.state, before);
    }

    /// Units by what was done to them, as the plan says it.
    fn planned(parent: &Generation, candidate: &Generation) -> BTreeSet<String> {
        let words = |step: Step| match step {
            Step::AddUser { .. } | Step::ReloadSystemd => Vec::new(),
            Step::Set { .. } => vec!["settle".to_owned()],
            Step::StartSocket { unit, .. }
            | Step::StartApp { unit, .. }
            | Step::StartBeside { unit, .. }
            | Step::Guard { unit, is_change: false }
            | Step::Database { unit, change: DatabaseChange::Start }
            | Step::Start { unit } => {
                vec![format!("start {unit}")]
            }
            // What an authority is asked for is known on the server alone.
            Step::GetCertificate { .. } => Vec::new(),
            Step::Replace { unit, old, .. } => {
                let stops = old.iter().map(|old| format!("stop {old}"));
                stops.chain([format!("start {unit}")]).collect()
            }
            Step::Restart { unit }
            | Step::Database { unit, change: DatabaseChange::Restart | DatabaseChange::Again } => {
                vec![format!("restart {unit}")]
            }
            Step::Reload { unit } | Step::Guard { unit, .. } | Step::Database { unit, .. } => {
                vec![format!("reload {unit}")]
            }
            Step::StartNginx { unit, old } => {
                let stops = old.iter().map(|old| format!("stop {old}"));
                stops.chain([format!("start {unit}")]).collect()
            }
            Step::ReloadNginx { unit, .. } => vec![format!("reload_nginx {unit}")],
            Step::StopSocket { unit, .. } | Step::Stop { unit, .. } | Step::Unguard { unit } => {
                vec![format!("stop {unit}")]
            }
        };
        stead_plan::steps(parent, candidate).into_iter().flat_map(words).collect()
    }

    #[test]
    fn what_plan_shows_is_what_deploy_does() {
        for (name, parent, candidate) in scenarios() {
            let mut fake = server_running(&parent, &candidate);
            fake.log.clear();
            run(&mut fake, pair(&parent, &candidate), Phase::Staged, Event::Begin).unwrap();
            let acts = ["start", "stop", "restart", "reload", "reload_nginx"];
            let done: BTreeSet<String> = fake
                .log
                .iter()
                .filter_map(|line| line.split_once(' ').filter(|(effect, _)| acts.contains(effect)))
                .flat_map(|(effect, units)| units.split(' ').map(move |unit| format!("{effect} {unit}")))
                .chain(fake.log.iter().filter(|line| *line == "settle").cloned())
                .collect();
            assert_eq!(done, planned(&parent, &candidate), "{name}");
        }
    }
}
