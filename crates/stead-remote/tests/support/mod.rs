//! A site to send, and an operator who has it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use stead_model::generation::Generation;
use stead_model::hash::{Hash, Sha256};
use stead_model::tree::{Entry, Object, Tree};
use stead_remote::cache::Base;
use stead_remote::transfer::{Shipment, Sources};

/// Everything that the operator's side has.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) generation: Generation,
    pub(crate) trees: BTreeMap<Hash, Tree>,
    pub(crate) contents: BTreeMap<Hash, Vec<u8>>,
    pub(crate) packages: PathBuf,
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
    pub(crate) fn with_site(files: &[(String, Vec<u8>)]) -> Self {
        let mut contents = BTreeMap::new();
        let mut file = |bytes: &[u8]| {
            contents.insert(Hash::of(bytes), bytes.to_vec());
            Entry::File(Object::of(bytes))
        };
        let tree = Tree { entries: files.iter().map(|(path, bytes)| (path.parse().unwrap(), file(bytes))).collect() };
        let id = tree.id();
        let site: String =
            (0..60).map(|line| format!("  location /part-{line} {{ try_files $uri =404; }}\n")).collect();
        let nginx = format!("server {{\n  root /var/lib/stead/trees/{id};\n{site}}}\n");
        let mut generation = Generation::empty("lab".parse().unwrap());
        generation.files.entries.insert("nginx/nginx.conf".parse().unwrap(), file(nginx.as_bytes()));
        generation.trees.insert(id, "input portfolio".to_owned());
        Self { generation, trees: [(id, tree)].into(), contents, packages: PathBuf::new() }
    }

    pub(crate) fn shipment<'a>(&'a self, base: Option<&'a Base>) -> Shipment<'a> {
        Shipment { generation: &self.generation, trees: &self.trees, base, sources: self }
    }
}

/// Bytes without pattern, the same at every run.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A page of `length` bytes that compresses as prose does.
pub(crate) fn page(length: usize, seed: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "<p>", "</p>\n", "server", "declares", "picture", "of", "the", "evening", "and", "a", "bridge", "with",
        "several", "lights", "morning", "river",
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
pub(crate) fn site() -> Vec<(String, Vec<u8>)> {
    let pages = (0..180).map(|n| (format!("blog/{n:03}/index.html"), page(4_000 + n * 11, n as u64)));
    let pictures = (0..20).map(|n| (format!("pictures/{n:02}.jpg"), noise(20_000 + n * 5_000, 1_000 + n as u64)));
    pages.chain(pictures).collect()
}
