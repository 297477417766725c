//! Watches pages until they say something new.
//!
//! Each look is a connection of its own, as a new visitor's. Never gives up early, and never reads
//! more of an answer than a page has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The usual pause between two looks: the times that are told are too large by as much, at most.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST: u64 = 64 * 1024;

/// A page, and what it will hold.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) text: String,
}

/// A watch under way.
#[derive(Debug)]
pub(crate) struct Watch {
    thread: JoinHandle<Option<Instant>>,
}

impl Watch {
    /// Begins to look at all of these pages, with so long between two looks.
    pub(crate) fn begin(address: SocketAddr, pages: Vec<Page>, pause: Duration, limit: Duration) -> Self {
        Self { thread: thread::spawn(move || watch(address, pages, pause, limit)) }
    }

    /// When all of them were seen to hold what they should; `None`: not within the limit. Waits until it is known.
    pub(crate) fn seen(self) -> Option<Instant> {
        self.thread.join().ok().flatten()
    }
}

fn watch(address: SocketAddr, mut pages: Vec<Page>, pause: Duration, limit: Duration) -> Option<Instant> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        pages.retain(|page| !get(address, page).is_ok_and(|answer| answer.contains(&page.text)));
        if pages.is_empty() {
            return Some(Instant::now());
        }
        thread::sleep(pause);
    }
    None
}

/// The body of an answer with status 200; else an error or nothing.
fn get(address: SocketAddr, page: &Page) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // In one piece: `write!` would send every part by itself.
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", page.path, page.host);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let well = answer.split(' ').nth(1) == Some("200");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Ok(body.filter(|_| well).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each connection with the next of these texts.
    fn server(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        address
    }

    fn page() -> Page {
        Page { host: "site", path: "/", text: "new".to_owned() }
    }

    #[test]
    fn a_page_is_seen_when_it_answers_well_with_the_new_text() {
        let old = "HTTP/1.1 200 OK\r\n\r\nold";
        let error = "HTTP/1.1 502 Bad Gateway\r\n\r\nnew";
        let address = server(vec![old, error, "", "HTTP/1.1 200 OK\r\n\r\nnew"]);
        assert!(Watch::begin(address, vec![page()], PAUSE, Duration::from_secs(20)).seen().is_some());
    }

    #[test]
    fn a_page_that_stays_as_it_is_is_never_seen() {
        let address = server(vec!["HTTP/1.1 200 OK\r\n\r\nold"]);
        assert!(Watch::begin(address, vec![page()], PAUSE, Duration::from_millis(50)).seen().is_none());
    }
}
