//! The visitor's side of HTTP/1.1: a GET, and whether its answer came whole and good.
//!
//! Promises that one request takes no longer than its timeout. Keeps no body, follows no redirect.

use super::Target;
use super::tally::Answer;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// An answer's head has to fit in this.
const MAX_HEAD: usize = 16 * 1024;
/// A line of a chunked body that says its size, with extensions.
const MAX_LINE: usize = 256;

/// One visitor, with a kept connection for each target.
pub(super) struct Visitor {
    timeout: Duration,
    kept: HashMap<usize, TcpStream>,
}

/// Why an attempt failed; whether the connection had been closed before anything was answered.
struct Failed {
    closed_before: bool,
    why: String,
}

impl Visitor {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, kept: HashMap::new() }
    }

    /// Asks once; on a kept connection that was closed meanwhile, once more on a fresh one.
    pub(super) fn get(&mut self, place: usize, target: &Target, keep: bool) -> Answer {
        let deadline = Instant::now() + self.timeout;
        let kept = if keep { self.kept.remove(&place) } else { None };
        let reused = kept.is_some();
        match self.attempt(place, target, keep, kept, deadline) {
            Ok(()) => Answer::Good,
            Err(failed) if reused && failed.closed_before => match self.attempt(place, target, keep, None, deadline) {
                Ok(()) => Answer::Reopened,
                Err(failed) => Answer::Lost(failed.why),
            },
            Err(failed) => Answer::Lost(failed.why),
        }
    }

    fn attempt(
        &mut self,
        place: usize,
        target: &Target,
        keep: bool,
        kept: Option<TcpStream>,
        deadline: Instant,
    ) -> Result<(), Failed> {
        let failed = |what: &str, error: &io::Error| Failed { closed_before: false, why: format!("{what}: {error}") };
        let stream = match kept {
            Some(stream) => stream,
            None => connect(target, deadline).map_err(|error| failed("connect", &error))?,
        };
        let mut reader = Answering { stream, buffer: Vec::new(), deadline };
        let connection = if keep { "keep-alive" } else { "close" };
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: stead-load\r\nConnection: {connection}\r\n\r\n",
            target.path, target.host
        );
        let sent =
            reader.stream.set_write_timeout(Some(self.timeout)).and_then(|()| reader.stream.write_all(head.as_bytes()));
        if let Err(error) = sent {
            return Err(Failed { closed_before: is_closed(&error), why: format!("send: {error}") });
        }
        let head = reader.head().map_err(|error| Failed {
            closed_before: reader.buffer.is_empty() && is_closed(&error),
            why: format!("answer: {error}"),
        })?;
        reader.skip_body(&head).map_err(|error| failed("body", &error))?;
        if keep && head.keep && head.body != Body::ToTheEnd && reader.buffer.is_empty() {
            self.kept.insert(place, reader.stream);
        }
        match head.status {
            200..=399 => Ok(()),
            status => Err(Failed { closed_before: false, why: format!("status {status}") }),
        }
    }
}

/// Connects within the deadline, without delay for small packets.
pub(super) fn connect(target: &Target, deadline: Instant) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.address, left(deadline)?)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What the head of an answer says.
pub(super) struct Head {
    pub(super) status: u16,
    body: Body,
    keep: bool,
}

#[derive(PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
    ToTheEnd,
}

/// A connection on which an answer is awaited.
pub(super) struct Answering {
    pub(super) stream: TcpStream,
    /// Received, not yet used.
    pub(super) buffer: Vec<u8>,
    pub(super) deadline: Instant,
}

impl Answering {
    /// Reads up to the end of the head. What follows stays in the buffer.
    pub(super) fn head(&mut self) -> io::Result<Head> {
        loop {
            if let Some((head, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(head);
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(invalid("a head without end"));
            }
            self.more()?;
        }
    }

    fn skip_body(&mut self, head: &Head) -> io::Result<()> {
        match head.body {
            Body::Length(length) => self.skip(length),
            Body::ToTheEnd => loop {
                self.buffer.clear();
                match self.more() {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    other => other?,
                }
            },
            Body::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk without a size"))?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    return Ok(());
                }
                self.skip(size)?;
                if !self.line()?.is_empty() {
                    return Err(invalid("a chunk longer than it says"));
                }
            },
        }
    }

    fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more()?;
            }
            let here = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            self.buffer.drain(..here);
            length -= here as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(invalid("a line without end"));
            }
            self.more()?;
        }
    }

    /// Receives at least one byte more.
    pub(super) fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other side")),
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
            Err(error) => Err(error),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| invalid(&error.to_string()))?;
    let (httparse::Status::Complete(length), Some(status)) = (parsed, response.code) else { return Ok(None) };
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    let body = if matches!(status, 100..=199 | 204 | 304) {
        Body::Length(0)
    } else if value("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
        Body::Chunked
    } else if let Some(length) = value("content-length") {
        Body::Length(length.parse().map_err(|_| invalid("a length that is no number"))?)
    } else {
        Body::ToTheEnd
    };
    let connection = value("connection").unwrap_or_default();
    let keep = if response.version == Some(0) { connection == "keep-alive" } else { connection != "close" };
    Ok(Some((Head { status, body, keep }, length)))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or_else(late)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time")
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
