//! Waiting for a condition, never for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Looks every 50 ms until there is something, and returns it. Panics after `patience`, with what
/// was waited for.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Looks until it is this; the panic tells what it was instead.
pub fn until_is<T: PartialEq + Debug>(what: &str, patience: Duration, wanted: T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + patience;
    loop {
        let is = look();
        if is == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: waited {patience:?} for {wanted:?}, but it is {is:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
