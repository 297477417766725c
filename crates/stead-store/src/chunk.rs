//! Content-defined chunks, so that of a big changed file only what changed is sent.
//!
//! FastCDC (Xia et al., 2020) finds the cuts by content, so that an insertion moves them along and
//! the chunks after it stay what they were; each chunk is named by its BLAKE3. Both ends have to cut
//! alike: the sizes below are part of the protocol, and changing them is a new version of it.

use crate::store::Store;
use fastcdc::v2020::StreamCDC;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use stead_model::hash::Hash;

/// No chunk is smaller, but for a file's last one.
pub const SMALLEST: usize = 4 * 1024;

/// Typical size. The cost of a change is about one chunk, plus some 40 bytes of list for each chunk
/// of the file: for files of 1 to 20 MB the sum is least between 6 and 28 KiB.
pub const TYPICAL: usize = 16 * 1024;

/// No chunk is larger.
pub const LARGEST: usize = 64 * 1024;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it begins, in bytes.
    #[serde(rename = "o")]
    pub offset: u64,
    /// Bytes in it: at most [`LARGEST`].
    #[serde(rename = "l")]
    pub length: u32,
    /// BLAKE3 of its bytes.
    #[serde(rename = "h")]
    pub hash: Hash,
}

impl Store {
    /// The chunks of a file, in order and without gaps. Holds two chunks in memory.
    ///
    /// # Errors
    /// When the content cannot be read.
    pub fn chunk(content: impl Read) -> io::Result<Vec<Chunk>> {
        let describe = |data: fastcdc::v2020::ChunkData| Chunk {
            offset: data.offset,
            length: u32::try_from(data.length).expect("no chunk is larger than LARGEST"),
            hash: Hash::of(&data.data),
        };
        StreamCDC::new(content, SMALLEST, TYPICAL, LARGEST).map(|cut| Ok(describe(cut?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Bytes without pattern, the same at every run.
    fn noise(length: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn an_insertion_changes_the_chunks_around_it_only() {
        let old = noise(1 << 20, 1);
        let mut new = old.clone();
        new.splice(300_000..300_000, *b"inserted");
        let known: HashSet<Hash> = Store::chunk(&old[..]).unwrap().iter().map(|chunk| chunk.hash).collect();
        let sent: u32 = Store::chunk(&new[..])
            .unwrap()
            .iter()
            .filter(|chunk| !known.contains(&chunk.hash))
            .map(|chunk| chunk.length)
            .sum();
        assert!(sent > 0 && sent as usize <= 2 * LARGEST, "{sent} of {} bytes", new.len());
    }

    #[test]
    fn the_cuts_are_those_of_the_protocol() {
        let lengths: Vec<u32> =
            Store::chunk(&noise(100_000, 7)[..]).unwrap().iter().map(|chunk| chunk.length).collect();
        assert_eq!(lengths, [40252, 10328, 21171, 18402, 9847], "other cuts are another version of the protocol");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn chunks_follow_each_other_and_name_their_bytes(length in 0_usize..300_000, seed: u8) {
            let content = noise(length, seed);
            let mut end = 0;
            for chunk in Store::chunk(&content[..]).unwrap() {
                prop_assert_eq!(chunk.offset as usize, end);
                end += chunk.length as usize;
                prop_assert_eq!(chunk.hash, Hash::of(&content[chunk.offset as usize..end]));
                prop_assert!(chunk.length as usize <= LARGEST);
            }
            prop_assert_eq!(end, length);
        }
    }
}
