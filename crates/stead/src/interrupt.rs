//! Ctrl-C: what it means depends on how far the server is, and is said.
//!
//! Before an activation has begun nothing was switched. Afterwards the server goes on by itself, and
//! goes back by itself, because the confirming login does not come. Whenever it comes, the terminal shows again what is typed.

use crate::failure::{Exit, Failure, Runs};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, ErrorKind, Write, stdin};
use std::sync::{Mutex, Once};

/// The activation that this program started or follows, and its deadline in seconds.
static UNDER_WAY: Mutex<Option<(String, u32)>> = Mutex::new(None);

/// From now on an interruption leaves this activation to itself.
pub(crate) fn under_way(activation: &str, deadline: u32) {
    *UNDER_WAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((activation.to_owned(), deadline));
}

/// Nothing is under way any more.
pub(crate) fn over() {
    *UNDER_WAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
}

/// How the terminal was before somebody was asked for what it is not to show.
static SHOWING: Mutex<Option<Termios>> = Mutex::new(None);

/// Asks for something that the terminal hides. An interruption puts the terminal back, and ends the program.
pub(crate) fn while_hidden<T>(ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let showing = |modes| *SHOWING.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = modes;
    showing(tcgetattr(stdin()).ok());
    listen();
    let answer = ask();
    while matches!(&answer, Err(error) if error.kind() == ErrorKind::Interrupted) {
        // Whoever listens ends the program, and says so.
        std::thread::park();
    }
    showing(None);
    answer
}

/// Listens for interruptions, in a thread of its own. Without it an interruption just ends the program.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                if let Some(modes) = &*SHOWING.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                    let _ = tcsetattr(stdin(), OptionalActions::Now, modes);
                }
                let failure = interrupted();
                let _ = write!(std::io::stderr().lock(), "\n{}", failure.words());
                std::process::exit(i32::from(failure.exit as u8));
            }
        });
    });
}

fn interrupted() -> Failure {
    let under_way = UNDER_WAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    match under_way {
        None => Failure { exit: Exit::BeforeSwitch, what: "interrupted".to_owned(), runs: Runs::Untouched, hint: None },
        Some((activation, deadline)) => Failure {
            exit: Exit::Stuck,
            what: format!("interrupted; the activation {activation} goes on without this program"),
            runs: Runs::Unknown,
            hint: Some(format!(
                "`stead deploy --attach` confirms it, or tells how it ended; without that the server goes back {deadline} s after its probes"
            )),
        },
    }
}
