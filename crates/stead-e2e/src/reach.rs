//! What of a lab can be reached from outside: its ports, asked as anybody would, and its answers to pings.

use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an answer over the cable to a lab may take that is in a hurry.
pub const SOON: Duration = Duration::from_millis(20);
/// How long one may take that has to come.
pub const EVER: Duration = Duration::from_secs(5);

/// What a port is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// A datagram, to a service that sends it back.
    Udp,
}

/// What somebody outside is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The service answers.
    Answer,
    /// That it is shut.
    Refused,
    /// Nothing.
    Nothing,
}

/// Asks a port once.
pub fn ask(protocol: Protocol, address: SocketAddr, within: Duration) -> Told {
    match protocol {
        Protocol::Tcp => connect(address, within),
        Protocol::Udp => echo(address, within),
    }
}

/// Whether the lab takes a connection there.
pub fn is_open(address: SocketAddr, within: Duration) -> bool {
    connect(address, within) == Told::Answer
}

/// While a lab's cable is away, its address leads out into the world, where anybody may take a connection.
fn connect(address: SocketAddr, within: Duration) -> Told {
    let stream = match TcpStream::connect_timeout(&address, within) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Told::Refused,
        Err(_) => return Told::Nothing,
    };
    let is_lab = match (address.ip(), stream.local_addr().map(|own| own.ip())) {
        // A cable is a /30.
        (IpAddr::V4(lab), Ok(IpAddr::V4(own))) => lab.to_bits() >> 2 == own.to_bits() >> 2,
        (IpAddr::V6(_), Ok(IpAddr::V6(_))) => true,
        _ => false,
    };
    if is_lab { Told::Answer } else { Told::Nothing }
}

fn echo(address: SocketAddr, within: Duration) -> Told {
    let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).expect("a port is free");
    socket.connect(address).expect("the lab has an address");
    socket.set_read_timeout(Some(within)).expect("sockets have a timeout");
    let said = fastrand::u64(..).to_be_bytes();
    socket.send(&said).expect("a datagram can be sent");
    let mut heard = [0; 16];
    let told = match socket.recv(&mut heard) {
        Ok(length) => {
            assert_eq!(heard[..length], said, "{address} sends back something else");
            Told::Answer
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Told::Refused,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Told::Nothing,
        Err(error) => panic!("{address}: {error}"),
    };
    // Its port stays taken: a firewall remembers who talked with whom, and would let a later one with the same port in.
    mem::forget(socket);
    told
}

/// Asks for a TCP port again and again, in a thread of its own, until it is asked what it found.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, u32)>,
}

impl Watch {
    /// Each answer has to come within this time to count as one.
    pub fn of(address: SocketAddr, within: Duration) -> Self {
        // sshd turns strangers away by chance when many of them are at its door (`sshd_config(5)`, MaxStartups).
        let pause = Duration::from_millis(if address.port() == 22 { 100 } else { 2 });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut open, mut shut) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                *(if is_open(address, within) { &mut open } else { &mut shut }) += 1;
                // Not to fill the table of connections; what is shut takes its time by itself.
                thread::sleep(pause);
            }
            (open, shut)
        });
        Self { stop, thread }
    }

    fn found(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch ends well")
    }

    /// Panics if it was, once.
    #[track_caller]
    pub fn was_never_open(self) {
        let (open, shut) = self.found();
        assert!(open == 0 && shut > 20, "open {open} times, shut {shut} times");
    }

    /// Panics if it was, once.
    #[track_caller]
    pub fn was_never_shut(self) {
        let (open, shut) = self.found();
        assert!(shut == 0 && open > 20, "open {open} times, shut {shut} times");
    }
}

/// Somebody who pings a lab, as one `ping` does: one identifier, and numbers that go up.
#[derive(Debug)]
pub struct Pings {
    socket: UdpSocket,
    address: SocketAddr,
    identifier: [u8; 2],
    sent: u16,
    unanswered: BTreeSet<u16>,
}

impl Pings {
    /// Nothing is sent yet. The address's port has no meaning.
    pub fn to(mut address: SocketAddr) -> Self {
        address.set_port(0);
        let (family, protocol) = match address {
            SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = socket(family, SocketType::RAW, Some(protocol)).expect("root may have a raw socket");
        // The calls that are needed are those of any socket of datagrams.
        let socket = UdpSocket::from(socket);
        socket.connect(address).expect("the lab has an address");
        let identifier = fastrand::u16(..).to_be_bytes();
        Self { socket, address, identifier, sent: 0, unanswered: BTreeSet::new() }
    }

    /// Sends one more.
    #[track_caller]
    pub fn send(&mut self) {
        self.sent += 1;
        self.unanswered.insert(self.sent);
        let ([i0, i1], [s0, s1]) = (self.identifier, self.sent.to_be_bytes());
        let packet = match self.address {
            SocketAddr::V4(_) => {
                let [c0, c1] = checksum(&[8, 0, 0, 0, i0, i1, s0, s1]);
                [8, 0, c0, c1, i0, i1, s0, s1]
            }
            // Over IPv6 the checksum is the kernel's affair (RFC 3542, section 3.1).
            SocketAddr::V6(_) => [128, 0, 0, 0, i0, i1, s0, s1],
        };
        self.socket.send(&packet).expect("a packet can be sent");
    }

    /// How many of those sent since the last question were answered: all of them, or as many as were within this time.
    pub fn answered(&mut self, within: Duration) -> usize {
        let asked = self.unanswered.len();
        let deadline = Instant::now() + within;
        let mut buffer = [0; 256];
        while !self.unanswered.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left)).expect("sockets have a timeout");
            // Other ends of waiting are no answer.
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let packet = match self.address {
                // Comes with its header, whose length is in words of 4 bytes.
                SocketAddr::V4(_) => buffer[..length].get(usize::from(buffer[0] & 15) * 4..).unwrap_or_default(),
                SocketAddr::V6(_) => &buffer[..length],
            };
            if let [0 | 129, 0, _, _, i0, i1, s0, s1, ..] = *packet
                && [i0, i1] == self.identifier
            {
                self.unanswered.remove(&u16::from_be_bytes([s0, s1]));
            }
        }
        let answered = asked - self.unanswered.len();
        self.unanswered.clear();
        answered
    }

    /// Whether one more is answered within this time.
    #[track_caller]
    pub fn is_answered(&mut self, within: Duration) -> bool {
        self.send();
        self.answered(within) == 1
    }
}

/// The internet checksum (RFC 1071).
fn checksum(packet: &[u8; 8]) -> [u8; 2] {
    let (words, _) = packet.as_chunks::<2>();
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!u16::try_from((folded & 0xffff) + (folded >> 16)).expect("it is folded")).to_be_bytes()
}
