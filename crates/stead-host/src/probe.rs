//! One question to a service, and what it answered.
//!
//! Speaks HTTP/1.0 with a `Host` header, over TCP, TLS or a Unix socket, so that an answer is never
//! chunked and ends with its connection. Reads at most 1 MiB of an answer and waits at most as long
//! as it is told, in all. Follows no redirect.

use crate::certificate::Certificate;
use crate::timed::Timed;
use crate::tls::{self, Tls};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use stead_model::upstream::PROBE_HEADER;

/// The most that is read of an answer.
const LIMIT: usize = 1 << 20;
/// The most that is read of an answer's head.
const HEAD_LIMIT: usize = 64 << 10;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Where a redirect leads, as the answer says it.
    pub location: Option<String>,
    /// What was read of the body, as text.
    pub body: String,
    /// The certificate of the server, where it was asked over TLS.
    pub certificate: Option<Certificate>,
}

/// How much of an answer is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its status. The body is read only as far as it comes with it, or where the status is an error.
    Status,
    /// All of it: an answer that is cut off, too slow, or without an end is a failure.
    Whole,
}

/// A question by GET.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The `Host` header.
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// The time for all of it.
    pub timeout: Duration,
    /// How much of the answer is needed.
    pub need: Need,
    /// How TLS is spoken; `None`: it is asked in clear.
    pub tls: Option<Tls<'a>>,
}

/// There was no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing accepts connections there.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// The connection broke before there was an answer.
    #[error("the connection broke")]
    Broken(#[source] std::io::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// There is no TLS with it.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// Its certificate is not what is demanded.
    #[error("{way}: {0}", way = .0.way())]
    Certificate(Box<Certificate>),
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {0:?}")]
    NotHttp(String),
    /// The answer ended before its end.
    #[error("the answer ({status}) was cut off after {read}{} bytes{}", of(*length), unannounced(*length))]
    Cut {
        /// Its status.
        status: u16,
        /// Bytes of the body that came.
        read: usize,
        /// Bytes that it should have, if it said so.
        length: Option<usize>,
    },
    /// The answer goes on and on.
    #[error("the answer ({status}) has no end within {} MiB; it begins: {begin}", LIMIT >> 20)]
    Endless {
        /// Its status.
        status: u16,
        /// Its first characters.
        begin: String,
    },
}

impl ProbeError {
    /// In which way it failed, in a few words that are the same whenever that happens again.
    pub fn way(&self) -> &'static str {
        match self {
            ProbeError::Connect(_) => "no connection",
            ProbeError::Broken(_) => "broken connection",
            ProbeError::Slow(_) => "no answer in time",
            ProbeError::Tls(_) => "no TLS",
            ProbeError::Certificate(certificate) => certificate.way(),
            ProbeError::NotHttp(_) => "no HTTP",
            ProbeError::Cut { .. } => "half an answer",
            ProbeError::Endless { .. } => "an endless answer",
        }
    }
}

/// Asks for a path by GET at a TCP address, and needs the whole answer.
///
/// # Errors
/// When there is no whole answer within `timeout`.
pub fn http(address: SocketAddr, host: &str, path: &str, timeout: Duration) -> Result<Answer, ProbeError> {
    get(address, Question { host, path, timeout, need: Need::Whole, tls: None })
}

/// Asks a question at a TCP address.
///
/// # Errors
/// When there is not as much of an answer as is needed within the question's time.
pub fn get(address: SocketAddr, question: Question<'_>) -> Result<Answer, ProbeError> {
    let end = Instant::now() + question.timeout;
    let stream = TcpStream::connect_timeout(&address, question.timeout).map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => {
            ProbeError::Connect(std::io::Error::other(format!("nobody answered within {:?}", question.timeout)))
        }
        _ => ProbeError::Connect(error),
    })?;
    let stream = Timed::new(stream, end);
    let Some(tls) = question.tls else { return ask(stream, question) };
    let (stream, certificate) = tls::secure(stream, tls, question.timeout)?;
    ask(stream, question).map(|answer| Answer { certificate: Some(certificate), ..answer })
}

/// Asks for a path by GET at a Unix socket, and needs the whole answer.
///
/// # Errors
/// When there is no whole answer within `timeout`.
pub fn http_unix(socket: &Path, host: &str, path: &str, timeout: Duration) -> Result<Answer, ProbeError> {
    let end = Instant::now() + timeout;
    let stream = UnixStream::connect(socket).map_err(ProbeError::Connect)?;
    ask(Timed::new(stream, end), Question { host, path, timeout, need: Need::Whole, tls: None })
}

/// Whether a TCP port accepts a connection.
///
/// # Errors
/// When it does not within `timeout`.
pub fn tcp(address: SocketAddr, timeout: Duration) -> Result<(), ProbeError> {
    TcpStream::connect_timeout(&address, timeout).map(drop).map_err(ProbeError::Connect)
}

/// What is known of an answer's head.
struct Head {
    status: u16,
    location: Option<String>,
    /// Where the body begins.
    end: usize,
    length: Option<usize>,
}

fn ask<S: Read + Write>(mut stream: S, question: Question<'_>) -> Result<Answer, ProbeError> {
    let Question { host, path, timeout, need, .. } = question;
    let failure = |error: std::io::Error| match (tls::reason_of(&error), error.kind()) {
        (Some(reason), _) => ProbeError::Tls(reason),
        (None, ErrorKind::TimedOut) => ProbeError::Slow(timeout),
        (None, _) => ProbeError::Broken(error),
    };
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: stead\r\n{PROBE_HEADER}: 1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).map_err(failure)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let mut head: Option<Head> = None;
    let ending = loop {
        if head.is_none() {
            head = parse(&bytes)?;
        }
        if let Some(head) = &head {
            let body = bytes.len() - head.end;
            let is_whole = head.length.is_some_and(|length| body >= length);
            let is_enough = need == Need::Status && head.status < 500;
            // What says how long it is has an end, even where that is beyond what is read.
            let is_long = bytes.len() >= LIMIT && head.length.is_some();
            if is_whole || is_enough || is_long {
                break Ending::Enough;
            }
            if bytes.len() >= LIMIT {
                break Ending::Limit;
            }
        } else if bytes.len() >= HEAD_LIMIT {
            return Err(ProbeError::NotHttp(beginning(&bytes)));
        }
        match stream.read(&mut buffer) {
            Ok(0) => break Ending::Closed,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::TimedOut => break Ending::Late,
            // A server that closes with unread input resets; what came before it counts.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => break Ending::Closed,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break Ending::Torn,
            Err(error) => return Err(failure(error)),
        }
    };
    let Some(head) = head else {
        return Err(match ending {
            Ending::Late => ProbeError::Slow(timeout),
            _ if bytes.is_empty() => ProbeError::Broken(std::io::Error::other("it was closed without an answer")),
            _ => ProbeError::NotHttp(beginning(&bytes)),
        });
    };
    let body = String::from_utf8_lossy(&bytes[head.end..]).into_owned();
    let read = bytes.len() - head.end;
    let Head { status, location, length, .. } = head;
    match (need, ending) {
        (Need::Whole, Ending::Late) => Err(ProbeError::Slow(timeout)),
        (Need::Whole, Ending::Limit) => Err(ProbeError::Endless { status, begin: body.chars().take(60).collect() }),
        (Need::Whole, Ending::Closed) if length.is_some_and(|length| length > read) => {
            Err(ProbeError::Cut { status, read, length })
        }
        (Need::Whole, Ending::Torn) => Err(ProbeError::Cut { status, read, length }),
        _ => Ok(Answer { status, location, body, certificate: None }),
    }
}

/// Why no more is read.
enum Ending {
    Enough,
    Limit,
    Late,
    Closed,
    /// TLS ended without a word, so that nobody knows whether that was the server.
    Torn,
}

/// The words for a length, and for its absence.
fn of(length: Option<usize>) -> String {
    length.map(|length| format!(" of {length}")).unwrap_or_default()
}

fn unannounced(length: Option<usize>) -> &'static str {
    if length.is_none() { ": the connection ended without TLS saying so" } else { "" }
}

/// The head, if all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<Head>, ProbeError> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    let end = match response.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ProbeError::NotHttp(beginning(bytes))),
    };
    let status = response.code.unwrap_or(0);
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(found.value).trim().to_owned())
    };
    // These have no body, whatever they say of its length (RFC 9110, section 6.4.1).
    let is_bare = matches!(status, 100..200 | 204 | 304);
    let length = if is_bare { Some(0) } else { header("content-length").and_then(|text| text.parse().ok()) };
    Ok(Some(Head { status, location: header("location"), end, length }))
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn server(answer: &'static [u8], hold: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
            if hold {
                let _ = stream.read(&mut request);
            }
        });
        address
    }

    fn endless(head: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(head);
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        address
    }

    const LONG: Duration = Duration::from_secs(20);

    fn status(address: SocketAddr) -> Result<Answer, ProbeError> {
        get(address, Question { host: "a", path: "/", timeout: LONG, need: Need::Status, tls: None })
    }

    #[test]
    fn status_and_body_are_read() {
        let address = server(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", false);
        let answer = http(address, "a.example", "/health", LONG).unwrap();
        assert_eq!(answer, Answer { status: 503, location: None, body: "busy".into(), certificate: None });
    }

    #[test]
    fn a_whole_answer_does_not_wait_for_the_connection_to_close() {
        let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", true);
        assert_eq!(http(address, "a", "/", LONG).unwrap().body, "hi");
    }

    #[test]
    fn an_answer_that_never_ends_is_slow() {
        let address = server(b"HTTP/1.1 200 OK\r\n\r\nx", true);
        let error = http(address, "a", "/", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, ProbeError::Slow(_)), "{error}");
    }

    #[test]
    fn an_answer_of_endless_bytes_is_bounded_and_failed() {
        let error = http(endless(b"HTTP/1.1 200 OK\r\n\r\n"), "a", "/", LONG).unwrap_err();
        assert!(matches!(error, ProbeError::Endless { status: 200, .. }), "{error}");
        let error = http(endless(b""), "a", "/", LONG).unwrap_err();
        assert!(matches!(error, ProbeError::NotHttp(_)), "{error}");
        let error = http(endless(b"HTTP/1.1 200 OK\r\nX: "), "a", "/", LONG).unwrap_err();
        assert!(matches!(error, ProbeError::NotHttp(_)), "{error}");
    }

    #[test]
    fn where_only_the_status_is_needed_the_body_may_be_as_it_likes() {
        assert_eq!(status(endless(b"HTTP/1.1 200 OK\r\n\r\n")).unwrap().status, 200);
        assert_eq!(status(endless(b"HTTP/1.1 502 No\r\n\r\n")).unwrap().status, 502);
        assert_eq!(status(server(b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nx", true)).unwrap().status, 404);
    }

    #[test]
    fn half_an_answer_is_told_as_such() {
        let error = http(server(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", false), "a", "/", LONG);
        assert!(matches!(error, Err(ProbeError::Cut { status: 200, read: 4, length: Some(100) })), "{error:?}");
        let error = http(server(b"HTTP/1.1 200 O", false), "a", "/", LONG).unwrap_err();
        assert!(matches!(error, ProbeError::NotHttp(_)), "{error}");
        let error = http(server(b"", false), "a", "/", LONG).unwrap_err();
        assert!(matches!(error, ProbeError::Broken(_)), "{error}");
    }

    #[test]
    fn what_is_not_http_is_told() {
        let error = http(server(b"SSH-2.0-x\r\n", false), "a", "/", LONG).unwrap_err();
        assert!(matches!(error, ProbeError::NotHttp(_)), "{error}");
    }

    #[test]
    fn a_closed_port_is_told() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(http(address, "a", "/", Duration::from_secs(1)), Err(ProbeError::Connect(_))));
    }
}
