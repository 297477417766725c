//! Bytes that pass through a reader or a writer, counted.
//!
//! What the benchmark calls "bytes sent" is read here. Counting changes nothing about what passes.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes passed so far. Clones share the number.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts bytes that pass some other way.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A reader or writer whose bytes are counted.
#[derive(Debug)]
pub struct Counted<T> {
    inner: T,
    counter: Counter,
}

impl<T> Counted<T> {
    /// Counts what passes through `inner` from now on.
    pub fn new(inner: T, counter: Counter) -> Self {
        Self { inner, counter }
    }

    /// What is counted, itself.
    pub fn inner_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.counter.add(count as u64);
        Ok(count)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.counter.add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_counted_in_both_directions() {
        let counter = Counter::default();
        Counted::new(Vec::new(), counter.clone()).write_all(b"12345").unwrap();
        Counted::new(&b"678"[..], counter.clone()).read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(counter.bytes(), 8);
    }
}
