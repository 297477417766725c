//! The engine's table: `(phase, event) → (phase, actions)`.
//!
//! The whole of what may follow what, in one pure function. A phase is journalled, durably, before
//! its actions begin; every action is safe to repeat, so that after a crash the same row is simply
//! taken again. Going back always means: to the recorded parent.

use stead_model::activation::Phase;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The activation may begin: everything is staged and tested.
    Begin,
    /// The candidate's new instances are up and healthy; visitors still reach the old ones.
    Started,
    /// Visitors reach the candidate, and every probe passed for as long as it had to.
    Proved,
    /// The operator's fresh login arrived.
    LoginArrived,
    /// What was replaced is stopped, or drains by itself.
    Retired,
    /// The parent runs again and was verified.
    Restored,
    /// An action of the phase failed, or a unit of the candidate did.
    Failed,
    /// The time for the operator's login is over.
    DeadlinePassed,
    /// The operator asked to stop.
    Cancelled,
    /// The activation's process was started again after it, or the machine, went down.
    Recovered,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the candidate active for systemd, start what is new beside what runs, and probe it.
    Start,
    /// Let visitors reach the candidate: nginx, and services that cannot run twice.
    Switch,
    /// Watch the candidate for its soak, and probe it again.
    Prove,
    /// Wait for the operator's fresh login.
    AwaitLogin,
    /// Move the pointer that the next boot follows. The only place that does.
    Confirm,
    /// Stop what the candidate replaced.
    Retire,
    /// Stop the candidate's new instances, which no visitor has met, and verify the parent, which was not touched.
    Withdraw,
    /// Put the recorded parent back, wholly, and verify it.
    Restore,
    /// Write how it ended into the history.
    Record,
}

/// The row of the table for this phase and event; `None`: the event means nothing there, and
/// nothing changes.
pub fn next(phase: Phase, event: Event) -> Option<(Phase, &'static [Action])> {
    use Action::*;
    use Event::*;
    use Phase::*;
    Some(match (phase, event) {
        (Staged, Begin) => (Starting, &[Start]),
        // Nothing was switched yet: there is nothing to put back.
        (Staged, Failed | Cancelled | DeadlinePassed | Recovered) => (WentBack, &[Record]),

        (Starting, Started) => (OnTrial, &[Switch, Prove]),
        (OnTrial, Event::Proved) => (Phase::Proved, &[AwaitLogin]),
        (Phase::Proved, LoginArrived) => (Confirmed, &[Confirm, Retire]),
        (Confirmed, Retired) => (Done, &[Record]),

        (Starting, Failed | DeadlinePassed | Cancelled) => (GoingBack, &[Withdraw]),
        (Starting, Recovered) | (OnTrial | Phase::Proved, Failed | DeadlinePassed | Cancelled | Recovered) => {
            (GoingBack, &[Restore])
        }
        (GoingBack, Restored) => (WentBack, &[Record]),
        (GoingBack, Failed) => (Stuck, &[Record]),
        (GoingBack, Recovered) => (GoingBack, &[Restore]),

        // Confirmed is confirmed: what could not be retired is a note, and the rows are taken again.
        (Confirmed, Recovered) => (Confirmed, &[Confirm, Retire]),
        (Confirmed, Failed) => (Done, &[Record]),

        (Staged, Started | Event::Proved | LoginArrived | Retired | Restored)
        | (Starting, Begin | Event::Proved | LoginArrived | Retired | Restored)
        | (OnTrial, Begin | Started | LoginArrived | Retired | Restored)
        | (Phase::Proved, Begin | Started | Event::Proved | Retired | Restored)
        | (Confirmed, Begin | Started | Event::Proved | LoginArrived | Restored | DeadlinePassed | Cancelled)
        | (GoingBack, Begin | Started | Event::Proved | LoginArrived | Retired | DeadlinePassed | Cancelled)
        | (WentBack | Stuck | Done, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 9] = [
        Phase::Staged,
        Phase::Starting,
        Phase::OnTrial,
        Phase::Proved,
        Phase::Confirmed,
        Phase::GoingBack,
        Phase::WentBack,
        Phase::Stuck,
        Phase::Done,
    ];
    const EVENTS: [Event; 10] = [
        Event::Begin,
        Event::Started,
        Event::Proved,
        Event::LoginArrived,
        Event::Retired,
        Event::Restored,
        Event::Failed,
        Event::DeadlinePassed,
        Event::Cancelled,
        Event::Recovered,
    ];

    #[test]
    fn only_confirmation_moves_the_boot_pointer() {
        for phase in PHASES {
            for event in EVENTS {
                if let Some((to, actions)) = next(phase, event)
                    && actions.contains(&Action::Confirm)
                {
                    assert_eq!(to, Phase::Confirmed);
                    let rightly = (phase, event) == (Phase::Proved, Event::LoginArrived)
                        || (phase, event) == (Phase::Confirmed, Event::Recovered);
                    assert!(rightly, "{phase:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn every_unconfirmed_phase_goes_back_on_failure_deadline_cancel_and_crash() {
        for phase in [Phase::Starting, Phase::OnTrial, Phase::Proved] {
            for event in [Event::Failed, Event::DeadlinePassed, Event::Cancelled, Event::Recovered] {
                // After a crash nobody knows what else happened: the whole way back, then.
                let untouched = phase == Phase::Starting && event != Event::Recovered;
                let action = if untouched { Action::Withdraw } else { Action::Restore };
                assert_eq!(next(phase, event), Some((Phase::GoingBack, &[action][..])), "{phase:?} {event:?}");
            }
        }
    }

    #[test]
    fn an_end_is_an_end() {
        for phase in PHASES.into_iter().filter(|phase| phase.is_end()) {
            assert!(EVENTS.into_iter().all(|event| next(phase, event).is_none()));
        }
    }

    #[test]
    fn every_phase_can_reach_an_end_after_a_crash() {
        for start in PHASES.into_iter().filter(|phase| !phase.is_end()) {
            let (mut phase, _) = next(start, Event::Recovered).unwrap();
            for event in [Event::Restored, Event::Retired] {
                if let Some((to, _)) = next(phase, event) {
                    phase = to;
                }
            }
            assert!(phase.is_end(), "{start:?} ends in {phase:?}");
        }
    }

    #[test]
    fn the_whole_table() {
        let rows: Vec<String> = PHASES
            .into_iter()
            .flat_map(|phase| EVENTS.into_iter().map(move |event| (phase, event)))
            .map(|(phase, event)| match next(phase, event) {
                Some((to, actions)) => format!("{phase:?} + {event:?} = {to:?} {actions:?}"),
                None => format!("{phase:?} + {event:?} = nothing"),
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"));
    }
}
