//! TCP ports of the server: which are free, and who listens on one.
//!
//! Reads `/proc/net/tcp` and `/proc/net/tcp6` (`proc_net(5)`); opens a listening socket only for
//! the moment of trying whether a port is free.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// Ports that instances of apps get while an older instance still has the declared one.
pub const INSTANCE_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// Whether something could listen on this port of the loopback address now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port of [`INSTANCE_PORTS`] that is not in `taken`, searched from a place that depends on
/// `seed`, so that neighbours do not collide. `None`: all are in use.
pub fn free_port(seed: u64, taken: &[u16]) -> Option<u16> {
    let count = u64::from(INSTANCE_PORTS.end() - INSTANCE_PORTS.start()) + 1;
    let candidate = |step: u64| *INSTANCE_PORTS.start() + u16::try_from((seed % count + step) % count).unwrap_or(0);
    (0..count).map(candidate).find(|port| !taken.contains(port) && is_free(*port))
}

/// A program that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its process id.
    pub pid: u32,
    /// Its name, as `/proc/<pid>/comm` has it.
    pub command: String,
}

/// Who listens on this TCP port, on any address. Empty: nobody. A listener whose process cannot be
/// found is reported with process id 0.
pub fn listeners(port: u16) -> Vec<Listener> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Listener> = processes().filter(|pid| holds(*pid, &inodes)).map(named).collect();
    if found.is_empty() {
        found.push(Listener { pid: 0, command: "unknown".to_owned() });
    }
    found
}

/// Whether anybody is connected to this TCP port of the server (established connections, seen from
/// the side of whoever listens there).
pub fn has_connections(port: u16) -> bool {
    const ESTABLISHED: &str = "01";
    let is_one = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1).and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
        local.is_some_and(|local| u16::from_str_radix(local, 16) == Ok(port)) && fields.get(3) == Some(&ESTABLISHED)
    };
    let files = ["/proc/net/tcp", "/proc/net/tcp6"];
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| text.lines().skip(1).any(is_one))
}

fn listening_inodes(text: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let fields = |line: &str| -> Option<String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    text.lines().skip(1).filter_map(fields).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inode| inodes.iter().any(|known| known == inode))
    })
}

fn named(pid: u32) -> Listener {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    Listener { pid, command }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        let found = listeners(port);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pid, std::process::id());
    }

    #[test]
    fn a_connection_is_seen_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!has_connections(port));
        let visitor = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (served, _) = listener.accept().unwrap();
        assert!(has_connections(port));
        drop((visitor, served));
        assert!(!has_connections(port));
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let first = free_port(7, &[]).unwrap();
        let second = free_port(7, &[first]).unwrap();
        assert_ne!(first, second);
    }
}
