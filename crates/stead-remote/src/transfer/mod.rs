//! Making the server have a generation, by sending what it lacks.
//!
//! The conversation, after the agent's hello:
//!
//! 1. The client sends [`Request::Stage`](crate::message::Request::Stage) with an
//!    [`Offer`](crate::message::Offer), and a stream of descriptions: the generation and those of its
//!    trees that the base does not have, as canonical JSON, compressed against the base's own. If the
//!    offer says so, a stream of eager objects follows: small ones that the base does not have, end to
//!    end, compressed against small ones that only the base has. Both in the same breath.
//! 2. The agent answers [`Reply::Need`](crate::message::Reply::Need) and, for each large file that replaces
//!    another, the chunks of that one.
//! 3. If objects are needed, the client sends one stream of them, end to end; a chunked one as copies
//!    from the old file and bytes in between. If packages are needed, one stream of them, end to end.
//! 4. The agent realises trees and answers `Staged` when all is published, or `Failed`.
//!
//! Nothing in a stream says what it is: both sides derive that from the descriptions, so there is
//! nothing to disagree about, and the agent checks every byte against its hash before it has a name.
//!
//! A change of one page is thus one request and one answer.

mod delta;
mod receive;
mod send;

pub use receive::{ReceiveError, lacking_packages, receive};
pub use send::{Progress, SendError, Sent, Shipment, Sources, send};

use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Write};
use stead_model::generation::Generation;
use stead_model::hash::Hash;
use stead_model::tree::{Object, Tree};

/// Objects from this size on are sent as what differs from the file that they replace.
pub const CHUNKED_FROM: u64 = 256 << 10;
/// Most bytes of descriptions, uncompressed: about 100,000 files.
pub const DESCRIPTIONS_LIMIT: u64 = 16 << 20;
/// Most bytes that are compressed against.
pub const PREFIX_LIMIT: usize = 7 << 20;
/// Most bytes of eager objects, uncompressed.
pub const EAGER_LIMIT: u64 = 512 << 10;
/// The largest zstd window, as a power of two: what unpacking takes of the agent's memory.
const WINDOW_LOG: u32 = 23;

/// Every object of a generation and its trees, each once, in an order that both sides derive: the
/// generation's own files by path, then those of its trees, by the tree's id and path.
pub fn objects(generation: &Generation, trees: &BTreeMap<Hash, Tree>) -> Vec<Object> {
    let mut seen = HashSet::new();
    let of_trees = generation.trees.keys().filter_map(|id| trees.get(id)).flat_map(Tree::objects);
    generation.files.objects().chain(of_trees).filter(|object| seen.insert(*object)).collect()
}

/// The text that descriptions are compressed against: a base's own.
fn base_text(generation: &Generation, trees: &BTreeMap<Hash, Tree>) -> Vec<u8> {
    let mut text = Vec::new();
    describe(&mut text, generation);
    generation.trees.keys().filter_map(|id| trees.get(id)).for_each(|tree| describe(&mut text, tree));
    text
}

/// The ids of the trees that a stream of descriptions has, in its order.
fn described(generation: &Generation, base: Option<&Generation>) -> Vec<Hash> {
    let known = |id: &Hash| base.is_some_and(|base| base.trees.contains_key(id));
    generation.trees.keys().filter(|id| !known(id)).copied().collect()
}

fn describe(text: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(&mut *text, value).expect("the model's types always serialise, and memory takes all");
    text.push(b'\n');
}

/// A compressor that knows what it is going to get, and how much.
fn compressor<W: Write>(out: W, prefix: &[u8], size: u64, level: i32) -> io::Result<zstd::Encoder<'_, W>> {
    let mut encoder = if prefix.is_empty() {
        zstd::Encoder::new(out, level)?
    } else {
        zstd::Encoder::with_ref_prefix(out, level, prefix)?
    };
    let reach = (size + prefix.len() as u64).max(1 << 10).next_power_of_two().trailing_zeros();
    if reach < WINDOW_LOG || !prefix.is_empty() {
        encoder.window_log(reach.min(WINDOW_LOG))?;
    }
    encoder.set_pledged_src_size(Some(size))?;
    encoder.include_contentsize(false)?;
    Ok(encoder)
}

/// The counterpart of [`compressor`]. Never takes more memory than the window.
fn decompressor<R: BufRead>(input: R, prefix: &[u8]) -> io::Result<zstd::Decoder<'_, R>> {
    let mut decoder = if prefix.is_empty() {
        zstd::Decoder::with_buffer(input)?
    } else {
        zstd::Decoder::with_ref_prefix(input, prefix)?
    };
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}
