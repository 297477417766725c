//! An operator and an agent at the two ends of two pipes.

use crate::support::Operator;
use std::io::{self, Read, Write};
use std::path::Path;
use stead_model::generation::Generation;
use stead_remote::cache::Base;
use stead_remote::counted::{Counted, Counter};
use stead_remote::frame::{self, Connection};
use stead_remote::message::{Reply, Request};
use stead_remote::transfer::{self, ReceiveError, SendError, Sent, Shipment};
use stead_store::Store;

impl Operator {
    /// What this operator remembers of this generation.
    pub(crate) fn base(&self, small: u64) -> Base {
        let small = self.contents.iter().filter(|(_, bytes)| bytes.len() as u64 <= small);
        let contents = small.map(|(hash, bytes)| (*hash, bytes.clone())).collect();
        Base { generation: self.generation.clone(), trees: self.trees.clone(), contents }
    }
}

/// What the agent's program does with a request to stage, as far as this crate is concerned.
pub(crate) fn agent<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    root: &Path,
) -> Result<Generation, ReceiveError> {
    let store = Store::open(&root.join("state")).unwrap();
    let guard = Store::lock(&root.join("lock")).unwrap().expect("nobody else holds the lock");
    let Request::Stage(offer) = connection.receive().map_err(ReceiveError::Line)? else {
        panic!("not a request to stage")
    };
    let mut lacking = |generation: &Generation| Ok(transfer::lacking_packages(&store, generation));
    let active = store.generations().unwrap().into_iter().next();
    let result = transfer::receive(connection, &offer, &store, &guard, active.as_ref(), &mut lacking);
    match &result {
        Ok(generation) => {
            let whole = generation.runtimes.is_empty();
            if whole {
                store.publish(&guard, generation).unwrap();
            }
            connection.send(&Reply::Staged { generation: generation.id() })?;
        }
        Err(ReceiveError::Refused(failed) | ReceiveError::Broken(failed)) => {
            // Whoever is in the middle of a stream may be gone.
            let _ = connection.send(&Reply::Failed(failed.clone()));
        }
        Err(ReceiveError::Line(_)) => {}
    }
    result
}

/// What a transfer came to, on both sides.
pub(crate) struct Outcome {
    pub(crate) sent: Result<Sent, SendError>,
    pub(crate) last: Result<Reply, frame::Error>,
    pub(crate) received: Result<Generation, ReceiveError>,
    pub(crate) bytes: u64,
}

/// Sends a shipment to the store below `root`.
pub(crate) fn exchange(root: &Path, shipment: Shipment<'_>) -> Outcome {
    let (to_agent, from_client) = io::pipe().unwrap();
    let (from_agent, to_client) = io::pipe().unwrap();
    let counter = Counter::default();
    std::thread::scope(|scope| {
        let root = root.to_owned();
        let agent = scope.spawn(move || agent(&mut Connection::new(to_agent, to_client), &root));
        let mut client = Connection::new(from_agent, Counted::new(from_client, counter.clone()));
        let sent = transfer::send(&mut client, shipment, &mut |_| {});
        // A client that gave up in the middle says no more, and the agent waits for it until it is gone.
        let last = match &sent {
            Ok(_) | Err(SendError::Line(_)) => client.receive(),
            Err(_) => Err(frame::Error::Closed),
        };
        drop(client);
        Outcome { sent, last, received: agent.join().unwrap(), bytes: counter.bytes() }
    })
}

/// Sends a shipment to an empty store, and tells every byte that the client sent.
pub(crate) fn record(shipment: Shipment<'_>) -> Vec<u8> {
    struct Tee<W>(W, Vec<u8>);
    impl<W: Write> Write for Tee<W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.0.write(bytes)?;
            self.1.extend(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (to_agent, from_client) = io::pipe().unwrap();
    let (from_agent, to_client) = io::pipe().unwrap();
    let mut tee = Tee(from_client, Vec::new());
    std::thread::scope(|scope| {
        let root = folder.path().to_owned();
        let agent = scope.spawn(move || agent(&mut Connection::new(to_agent, to_client), &root));
        let mut client = Connection::new(from_agent, &mut tee);
        transfer::send(&mut client, shipment, &mut |_| {}).unwrap();
        assert!(matches!(client.receive().unwrap(), Reply::Staged { .. }));
        agent.join().unwrap().unwrap();
    });
    tee.1
}
