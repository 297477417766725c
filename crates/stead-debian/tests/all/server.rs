//! A mirror on loopback that does what a test tells it to, also what no mirror should.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a file is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Whole, or from the asked byte on.
    Honest,
    /// Ends after so many bytes, the first time; then honest.
    CutOnce(usize),
    /// Sends so many bytes, then nothing more.
    Stall(usize),
    /// One byte every few milliseconds.
    Trickle,
    /// Announces more than it has, and ends.
    Announce(usize),
    /// Sends more than the file has, without announcing a length.
    Endless,
    /// This status, the first time; then honest.
    StatusOnce(u16),
}

/// One request: path and the first byte that was asked for.
pub(crate) type Asked = (String, Option<usize>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    manners: BTreeMap<String, Manner>,
    asked: Vec<Asked>,
}

/// Listens until the test ends.
pub(crate) struct Server {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn put(&self, path: &str, content: Vec<u8>) {
        self.state.lock().unwrap().files.insert(path.to_owned(), content);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path);
    }

    pub(crate) fn get(&self, path: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[path].clone()
    }

    pub(crate) fn behave(&self, path: &str, manner: Manner) {
        self.state.lock().unwrap().manners.insert(path.to_owned(), manner);
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(request) = lines.next() {
        let path = request?.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut offset, mut etag) = (None, None);
        for header in lines.by_ref() {
            let header = header?.to_lowercase();
            match header.split_once(": ") {
                Some(("range", range)) => {
                    offset = range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok())
                }
                Some(("if-none-match", value)) => etag = Some(value.to_owned()),
                _ => {}
            }
            if header.is_empty() {
                break;
            }
        }
        let (content, manner) = {
            let mut state = state.lock().unwrap();
            state.asked.push((path.clone(), offset));
            let manner = state.manners.get(&path).copied().unwrap_or(Manner::Honest);
            if matches!(manner, Manner::CutOnce(_) | Manner::StatusOnce(_)) {
                state.manners.remove(&path);
            }
            (state.files.get(&path).cloned(), manner)
        };
        let Some(content) = content else {
            write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        if let Manner::StatusOnce(status) = manner {
            write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let tag = format!("\"{}\"", stead_model::hash::Hash::of(&content).short());
        if etag.as_deref() == Some(&tag) {
            write!(stream, "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n")?;
            continue;
        }
        let start = offset.unwrap_or(0);
        if start > content.len() {
            write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let body = &content[start..];
        let status = if offset.is_some() { "206 Partial Content" } else { "200 OK" };
        let range = if offset.is_some() {
            format!("Content-Range: bytes {start}-{}/{}\r\n", content.len() - 1, content.len())
        } else {
            String::new()
        };
        let length = match manner {
            Manner::Announce(more) => format!("Content-Length: {}\r\n", body.len() + more),
            Manner::Endless => "Connection: close\r\n".to_owned(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        write!(stream, "HTTP/1.1 {status}\r\nETag: {tag}\r\n{range}{length}\r\n")?;
        match manner {
            Manner::Honest | Manner::StatusOnce(_) => stream.write_all(body)?,
            Manner::CutOnce(bytes) => return stream.write_all(&body[..bytes.min(body.len())]),
            Manner::Announce(_) => return stream.write_all(body),
            Manner::Endless => {
                stream.write_all(body)?;
                loop {
                    stream.write_all(&[b'x'; 4096])?;
                }
            }
            Manner::Stall(bytes) => {
                stream.write_all(&body[..bytes.min(body.len())])?;
                // Until the client hangs up.
                return lines.next().map_or(Ok(()), |line| line.map(drop));
            }
            Manner::Trickle => {
                for byte in body {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    Ok(())
}
