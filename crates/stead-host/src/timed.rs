//! A connection whose every step has to be over at one moment, however many steps there are.
//!
//! Promises that no read or write goes on beyond that moment: it fails with
//! [`ErrorKind::TimedOut`] then. A peer that says a byte now and then gains nothing by it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What can be told how long to wait.
pub(crate) trait Socket: Read + Write {
    /// Sets the longest that one read or write may take; never zero.
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

impl Socket for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time)).and_then(|()| self.set_write_timeout(Some(time)))
    }
}

/// A socket, until a moment.
#[derive(Debug)]
pub(crate) struct Timed<S> {
    socket: S,
    end: Instant,
}

impl<S: Socket> Timed<S> {
    /// This socket, until `end`.
    pub(crate) fn new(socket: S, end: Instant) -> Self {
        Self { socket, end }
    }

    fn step(&mut self, mut step: impl FnMut(&mut S) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.wait_at_most(left)?;
            match step(&mut self.socket) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
                other => return other,
            }
        }
    }
}

impl<S: Socket> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step(|socket| socket.read(buffer))
    }
}

impl<S: Socket> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.step(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
