//! What the operator's side remembers of generations that it has sent: descriptions and small files.
//!
//! A later transfer is compressed against them. Everything is checked against its hash when it is read,
//! and anything damaged counts as forgotten: without this folder transfers are only larger.
//! Never holds more than [`KEPT`] generations.

use crate::transfer::{Sources, objects};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::tree::{Object, Tree};

/// How many generations are remembered.
pub const KEPT: usize = 16;
/// Larger files are not remembered: they are not compressed against an older version, or by chunks.
const SMALL: u64 = 64 << 10;
/// Bytes of small files that are remembered for one generation.
const CONTENTS_LIMIT: u64 = 4 << 20;
/// Bytes of one remembered generation.
const FILE_LIMIT: u64 = 64 << 20;

/// A folder of remembered generations.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// A generation that was sent once: what a transfer can refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The generation.
    pub generation: Generation,
    /// Its trees, all of them.
    pub trees: BTreeMap<Hash, Tree>,
    /// Content of some of its small objects.
    pub contents: BTreeMap<Hash, Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    generation: Generation,
    trees: Vec<Tree>,
    contents: Vec<(Hash, u64)>,
}

impl Cache {
    /// The cache in this folder, which is made when something is first remembered.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Remembers a generation. Objects that `sources` no longer has are left out.
    pub fn remember(
        &self,
        generation: &Generation,
        trees: &BTreeMap<Hash, Tree>,
        sources: &dyn Sources,
    ) -> io::Result<()> {
        let path = self.path(&generation.id());
        if path.exists() {
            return Ok(());
        }
        let mut contents: Vec<(Hash, Vec<u8>)> = Vec::new();
        let mut left = CONTENTS_LIMIT;
        for object in objects(generation, trees).into_iter().filter(|object| object.size <= SMALL) {
            if object.size <= left
                && let Some(bytes) = small(sources, object)
            {
                left -= object.size;
                contents.push((object.hash, bytes));
            }
        }
        let head = Head {
            generation: generation.clone(),
            trees: generation.trees.keys().filter_map(|id| trees.get(id).cloned()).collect(),
            contents: contents.iter().map(|(hash, bytes)| (*hash, bytes.len() as u64)).collect(),
        };
        std::fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join(format!(".{}-{}", generation.id().short(), std::process::id()));
        let mut out = zstd::Encoder::new(std::fs::File::create(&temporary)?, 1)?;
        serde_json::to_writer(&mut out, &head)?;
        contents.iter().try_for_each(|(_, bytes)| out.write_all(bytes))?;
        out.finish()?;
        std::fs::rename(&temporary, &path)?;
        self.forget_oldest()
    }

    /// What is remembered of this generation, if it is all that and undamaged.
    pub fn recall(&self, id: &Hash) -> Option<Base> {
        let file = std::fs::File::open(self.path(id)).ok()?;
        let mut bytes = Vec::new();
        zstd::Decoder::new(file).ok()?.take(FILE_LIMIT).read_to_end(&mut bytes).ok()?;
        let mut heads = serde_json::Deserializer::from_slice(&bytes).into_iter::<Head>();
        let head = heads.next()?.ok()?;
        let mut rest = &bytes[heads.byte_offset()..];
        let mut contents = BTreeMap::new();
        for (hash, size) in head.contents {
            let (content, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
            if Hash::of(content) != hash {
                return None;
            }
            contents.insert(hash, content.to_vec());
            rest = after;
        }
        let trees: BTreeMap<Hash, Tree> = head.trees.into_iter().map(|tree| (tree.id(), tree)).collect();
        let whole = head.generation.id() == *id && head.generation.trees.keys().all(|tree| trees.contains_key(tree));
        whole.then_some(Base { generation: head.generation, trees, contents })
    }

    fn path(&self, id: &Hash) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.parse::<Hash>().is_ok()) {
                kept.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        kept.iter().take(surplus).try_for_each(|(_, path)| std::fs::remove_file(path))
    }
}

/// The object's bytes, if `sources` has exactly them.
fn small(sources: &dyn Sources, object: Object) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    sources.object(object).ok()?.take(object.size + 1).read_to_end(&mut bytes).ok()?;
    (Hash::of(&bytes) == object.hash).then_some(bytes)
}
