//! A small HTTP server for the tests of the load generator: real sockets on the loopback, and an
//! answer made by a function.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What happens to a connection after an answer.
#[derive(PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Close,
}

/// One request: its path, and where to write the answer.
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    pub(super) stream: &'a mut TcpStream,
}

impl Asked<'_> {
    pub(super) fn answer(&mut self, bytes: &str) {
        // A client that left is not the server's concern.
        drop(self.stream.write_all(bytes.as_bytes()));
    }
}

/// Runs until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(Asked<'_>) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (ended, handler) = (Arc::clone(&over), Arc::new(handler));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), handler) = (stream, Arc::clone(&handler)) else { continue };
                thread::spawn(move || serve(stream, &*handler));
            }
        });
        Self { address, over }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, handler: &dyn Fn(Asked<'_>) -> Then) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut first = String::new();
        let mut line = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default();
        if handler(Asked { path, stream: &mut stream }) == Then::Close {
            return;
        }
    }
}
