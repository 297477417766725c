//! Progress, told to whoever shows it. Never prints.
//!
//! The calls come from several threads at once. Every `started` is followed by one `finished`,
//! also when the work failed.

/// Listens to downloads. Every method does nothing unless it is written.
pub trait Reporter: Sync {
    /// Work on `what` begins; `size` is its bytes when they are known.
    fn started(&self, what: &str, size: Option<u64>) {
        let _ = (what, size);
    }

    /// So many more bytes of `what` have arrived (or were found in the cache).
    fn advanced(&self, what: &str, bytes: u64) {
        let _ = (what, bytes);
    }

    /// A try at `what` failed and another one follows; bytes counted so far may come again.
    fn retried(&self, what: &str, reason: &str) {
        let _ = (what, reason);
    }

    /// Nothing more happens to `what`.
    fn finished(&self, what: &str) {
        let _ = what;
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {}
