//! A site to send, an operator who has it, and an agent at the other end of two pipes.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, Read, Write};
use std::path::{Path, PathBuf};
use stead_model::generation::Generation;
use stead_model::hash::{Hash, Sha256};
use stead_model::tree::{Entry, Object, Tree};
use stead_remote::cache::Base;
use stead_remote::counted::{Counted, Counter};
use stead_remote::frame::{self, Connection};
use stead_remote::message::{Reply, Request};
use stead_remote::transfer::{self, ReceiveError, SendError, Sent, Shipment, Sources};
use stead_store::Store;

/// Everything that the operator's side has.
#[derive(Clone)]
pub struct Operator {
    pub generation: Generation,
    pub trees: BTreeMap<Hash, Tree>,
    pub contents: BTreeMap<Hash, Vec<u8>>,
    pub packages: PathBuf,
}

impl Sources for Operator {
    fn object(&self, object: Object) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.contents.get(&object.hash).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(bytes.clone())))
    }

    fn package(&self, sha256: Sha256) -> io::Result<PathBuf> {
        Ok(self.packages.join(sha256.to_string()))
    }
}

impl Operator {
    /// A generation with one file of its own that names its one tree, as nginx's configuration does.
    pub fn with_site(files: &[(String, Vec<u8>)]) -> Self {
        let mut contents = BTreeMap::new();
        let mut file = |bytes: &[u8]| {
            contents.insert(Hash::of(bytes), bytes.to_vec());
            Entry::File(Object::of(bytes))
        };
        let tree = Tree { entries: files.iter().map(|(path, bytes)| (path.parse().unwrap(), file(bytes))).collect() };
        let id = tree.id();
        let site: String = (0..60).map(|line| format!("  location /part-{line} {{ try_files $uri =404; }}\n")).collect();
        let nginx = format!("server {{\n  root /var/lib/stead/trees/{id};\n{site}}}\n");
        let mut generation = Generation::empty("lab".parse().unwrap());
        generation.files.entries.insert("nginx/nginx.conf".parse().unwrap(), file(nginx.as_bytes()));
        generation.trees.insert(id, "input portfolio".to_owned());
        Self { generation, trees: [(id, tree)].into(), contents, packages: PathBuf::new() }
    }

    /// What this operator remembers of this generation.
    pub fn base(&self, small: u64) -> Base {
        let small = self.contents.iter().filter(|(_, bytes)| bytes.len() as u64 <= small);
        let contents = small.map(|(hash, bytes)| (*hash, bytes.clone())).collect();
        Base { generation: self.generation.clone(), trees: self.trees.clone(), contents }
    }

    pub fn shipment<'a>(&'a self, base: Option<&'a Base>) -> Shipment<'a> {
        Shipment { generation: &self.generation, trees: &self.trees, base, sources: self }
    }
}

/// Bytes without pattern, the same at every run.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A page of `length` bytes that compresses as prose does.
pub fn page(length: usize, seed: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "<p>", "</p>\n", "server", "declares", "picture", "of", "the", "evening", "and", "a", "bridge", "with", "several",
        "lights", "morning", "river",
    ];
    let mut text = Vec::new();
    for byte in noise(length, seed) {
        text.extend(WORDS[usize::from(byte) % WORDS.len()].as_bytes());
        text.push(if byte > 250 { byte % 26 + b'a' } else { b' ' });
    }
    text.truncate(length);
    text
}

/// 200 files: pages of about 5 kB, and pictures.
pub fn site() -> Vec<(String, Vec<u8>)> {
    let pages = (0..180).map(|n| (format!("blog/{n:03}/index.html"), page(4_000 + n * 11, n as u64)));
    let pictures = (0..20).map(|n| (format!("pictures/{n:02}.jpg"), noise(20_000 + n * 5_000, 1_000 + n as u64)));
    pages.chain(pictures).collect()
}

/// What the agent's program does with a request to stage, as far as this crate is concerned.
pub fn agent<R: Read, W: Write>(connection: &mut Connection<R, W>, root: &Path) -> Result<Generation, ReceiveError> {
    let store = Store::open(&root.join("state")).unwrap();
    let guard = Store::lock(&root.join("lock")).unwrap().expect("nobody else holds the lock");
    let Request::Stage(offer) = connection.receive().map_err(ReceiveError::Line)? else { panic!("not a request to stage") };
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
pub struct Outcome {
    pub sent: Result<Sent, SendError>,
    pub last: Result<Reply, frame::Error>,
    pub received: Result<Generation, ReceiveError>,
    pub bytes: u64,
}

/// Sends a shipment to the store below `root`.
pub fn exchange(root: &Path, shipment: Shipment<'_>) -> Outcome {
    let (to_agent, from_client): (PipeReader, _) = {
        let (reader, writer) = io::pipe().unwrap();
        (reader, writer)
    };
    let (from_agent, to_client) = io::pipe().unwrap();
    let counter = Counter::default();
    std::thread::scope(|scope| {
        let root = root.to_owned();
        let agent = scope.spawn(move || agent(&mut Connection::new(to_agent, to_client), &root));
        let mut client = Connection::new(from_agent, Counted::new(from_client, counter.clone()));
        let sent = transfer::send(&mut client, shipment, &mut |_| {});
        let last = client.receive();
        drop(client);
        Outcome { sent, last, received: agent.join().unwrap(), bytes: counter.bytes() }
    })
}

/// Sends a shipment to an empty store, and tells every byte that the client sent.
pub fn record(shipment: Shipment<'_>) -> Vec<u8> {
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
