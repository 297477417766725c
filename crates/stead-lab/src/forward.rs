//! A port of this machine's loopback that leads to a port of a lab.
//!
//! One thread a connection and direction, half-closed as its ends are. Listens on 127.0.0.1 only.

use crate::error::Error;
use crate::specification::Forward;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Takes the port on this machine; fails when something listens there.
pub fn listen(forward: Forward) -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, forward.here.number()))
        .map_err(|source| Error::PortTaken { forward, source })
}

/// Forwards every connection that the listener gets. Does not return while the listener works.
pub fn run(listener: &TcpListener, to: SocketAddr) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept()?;
        thread::spawn(move || {
            // A lab that does not listen (yet) closes the connection, as a droplet would refuse it.
            if let Ok(server) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
                let _ = join(client, server);
            }
        });
    }
}

fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let back = (server.try_clone()?, client.try_clone()?);
    let answer = thread::spawn(move || copy(back.0, back.1));
    copy(client, server);
    let _ = answer.join();
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // Either side may vanish at any time; the other one is told by the shutdown.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn bytes_and_ends_pass_in_both_directions() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (to, here) = (server.local_addr().unwrap(), listener.local_addr().unwrap());
        thread::spawn(move || run(&listener, to));
        thread::spawn(move || {
            let (mut peer, _) = server.accept().unwrap();
            let mut request = String::new();
            peer.read_to_string(&mut request).unwrap();
            peer.write_all(request.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = TcpStream::connect(here).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
    }
}
