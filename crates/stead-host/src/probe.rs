//! Probes: one question to a service of the server, and what it answered.
//!
//! Speaks HTTP/1.0 with a `Host` header, over TCP or a Unix socket, so that an answer ends with
//! its connection. Reads at most 64 KiB of an answer and waits at most as long as it is told, in
//! all. Follows no redirect.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: usize = 64 * 1024;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The first 64 KiB of the body, as text.
    pub body: String,
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
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {0:?}")]
    NotHttp(String),
}

/// Asks for a path by GET at a TCP address.
///
/// # Errors
/// When there is no whole answer within `timeout`.
pub fn http(address: SocketAddr, host: &str, path: &str, timeout: Duration) -> Result<Answer, ProbeError> {
    let end = Instant::now() + timeout;
    let stream = TcpStream::connect_timeout(&address, timeout).map_err(ProbeError::Connect)?;
    ask(stream, |stream, left| stream.set_read_timeout(Some(left)), host, path, timeout, end)
}

/// Asks for a path by GET at a Unix socket.
///
/// # Errors
/// When there is no whole answer within `timeout`.
pub fn http_unix(socket: &Path, host: &str, path: &str, timeout: Duration) -> Result<Answer, ProbeError> {
    let end = Instant::now() + timeout;
    let stream = UnixStream::connect(socket).map_err(ProbeError::Connect)?;
    ask(stream, |stream, left| stream.set_read_timeout(Some(left)), host, path, timeout, end)
}

/// Whether a TCP port accepts a connection.
///
/// # Errors
/// When it does not within `timeout`.
pub fn tcp(address: SocketAddr, timeout: Duration) -> Result<(), ProbeError> {
    TcpStream::connect_timeout(&address, timeout).map(drop).map_err(ProbeError::Connect)
}

fn ask<S: Read + Write>(
    mut stream: S,
    wait_at_most: impl Fn(&S, Duration) -> std::io::Result<()>,
    host: &str,
    path: &str,
    timeout: Duration,
    end: Instant,
) -> Result<Answer, ProbeError> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: stead\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(ProbeError::Broken)?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ProbeError::Slow(timeout));
        }
        wait_at_most(&stream, left).map_err(ProbeError::Broken)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Err(ProbeError::Slow(timeout));
            }
            // A server that closes with unread input resets; what came before it counts.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && !bytes.is_empty() => {
                break;
            }
            Err(error) => return Err(ProbeError::Broken(error)),
        }
        if bytes.len() >= LIMIT {
            bytes.truncate(LIMIT);
            break;
        }
    }
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Answer, ProbeError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => Ok(Answer {
            status: response.code.unwrap_or(0),
            body: String::from_utf8_lossy(&bytes[head..]).into_owned(),
        }),
        _ => Err(ProbeError::NotHttp(String::from_utf8_lossy(bytes).chars().take(60).collect())),
    }
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

    #[test]
    fn status_and_body_are_read() {
        let address = server(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", false);
        let answer = http(address, "a.example", "/health", Duration::from_secs(5)).unwrap();
        assert_eq!(answer, Answer { status: 503, body: "busy".into() });
    }

    #[test]
    fn an_answer_that_never_ends_is_slow() {
        let address = server(b"HTTP/1.1 200 OK\r\n\r\nx", true);
        let error = http(address, "a", "/", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, ProbeError::Slow(_)), "{error}");
    }

    #[test]
    fn what_is_not_http_is_told() {
        let error = http(server(b"SSH-2.0-x\r\n", false), "a", "/", Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, ProbeError::NotHttp(_)), "{error}");
    }

    #[test]
    fn a_closed_port_is_told() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(http(address, "a", "/", Duration::from_secs(1)), Err(ProbeError::Connect(_))));
    }
}
