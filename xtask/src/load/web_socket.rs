//! A WebSocket (RFC 6455) that listens: counts messages, answers pings, and notices when the other
//! side ends it. One that was ended is opened again, so that every ending is counted.
//!
//! Never sends a message. A connection that the load itself ends is not counted as closed.

use super::http::{Answering, connect};
use super::{Shared, TIMEOUT, Target};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How often a listener looks whether the load is over.
const GLANCE: Duration = Duration::from_millis(200);
/// After a WebSocket ended, or could not be opened.
const BEFORE_AGAIN: Duration = Duration::from_millis(200);
/// Messages of the example are far smaller.
const MAX_FRAME: u64 = 1 << 20;

/// One frame: its kind and what it carries.
struct Frame {
    opcode: u8,
    payload: Vec<u8>,
}

/// Keeps one WebSocket open until the load is over.
pub(super) fn listen(shared: &Shared, target: &Target) {
    let name = format!("{}{} (WebSocket)", target.host, target.path);
    while !shared.over() {
        let mut opened = None;
        let ended = open(target).and_then(|mut connection| {
            opened = Some(shared.elapsed());
            shared.tally().opened();
            follow(shared, &mut connection)
        });
        if let Err(error) = ended {
            shared.tally().closed(opened, shared.elapsed(), &name, error.to_string());
            shared.sleep_until(shared.elapsed() + BEFORE_AGAIN);
        }
    }
}

fn open(target: &Target) -> io::Result<Answering> {
    let deadline = Instant::now() + TIMEOUT;
    let mut connection = Answering { stream: connect(target, deadline)?, buffer: Vec::new(), deadline };
    // The key is the example of RFC 6455, section 1.3: it proves nothing here, and has only to be well-formed.
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        target.path, target.host
    );
    connection.stream.write_all(head.as_bytes())?;
    match connection.head()?.status {
        101 => Ok(connection),
        status => Err(io::Error::other(format!("the handshake was answered with status {status}"))),
    }
}

/// `Ok`: the load is over. `Err`: the other side ended it.
fn follow(shared: &Shared, connection: &mut Answering) -> io::Result<()> {
    let mut last = Instant::now();
    loop {
        while let Some(frame) = next_frame(&mut connection.buffer)? {
            match frame.opcode {
                0..=2 => {
                    shared.tally().message(last.elapsed());
                    last = Instant::now();
                }
                8 if shared.over() => return Ok(()),
                8 => return Err(io::Error::other(format!("closed with code {}", close_code(&frame.payload)))),
                9 => connection.stream.write_all(&pong(&frame.payload))?,
                _ => {}
            }
        }
        if shared.over() {
            // A close frame, masked with zeros: normal closure.
            return connection.stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).or(Ok(()));
        }
        connection.deadline = Instant::now() + GLANCE;
        match connection.more() {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(_) if shared.over() => return Ok(()),
            other => other?,
        }
    }
}

/// Takes the first whole frame off the buffer; a server never masks (RFC 6455, section 5.1).
fn next_frame(buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let &[first, second, ref rest @ ..] = buffer.as_slice() else { return Ok(None) };
    let (length, header) = match (second, rest) {
        (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
        (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 4),
        (126 | 127, _) => return Ok(None),
        (short @ 0..126, _) => (u64::from(short), 2),
        _ => return Err(io::Error::other("a masked frame from the server")),
    };
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame too large"));
    }
    let end = header + length as usize;
    if buffer.len() < end {
        return Ok(None);
    }
    let payload = buffer[header..end].to_vec();
    buffer.drain(..end);
    Ok(Some(Frame { opcode: first & 0x0f, payload }))
}

fn close_code(payload: &[u8]) -> u16 {
    // 1005: "no status was given" (RFC 6455, section 7.4.1).
    payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))
}

/// Control frames carry 125 bytes at most; the mask is zeros.
fn pong(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(125)];
    [&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
