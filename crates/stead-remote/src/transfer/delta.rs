//! A large file as what differs from another one.
//!
//! The side that has the old file tells the first bytes of each chunk's hash; the side that has the new one
//! answers with steps: copy these chunks, then these bytes, and so on. The hash of the whole decides
//! whether the result is right, so a false match costs a failed transfer and never a wrong file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use stead_store::chunk::Chunk;

/// Bytes of a chunk's hash that are told.
const MARK: usize = 8;
/// Most chunks that are told of one file: at 16 KiB a chunk, 16 GiB.
const CHUNKS_LIMIT: usize = 1 << 20;

const END: u8 = 0;
const COPY: u8 = 1;
const DATA: u8 = 2;

/// The beginning of a chunk's hash.
pub(super) type Mark = [u8; MARK];

/// Tells the chunks of the old file.
pub(super) fn write_marks(out: &mut impl Write, chunks: &[Chunk]) -> io::Result<()> {
    let count = u32::try_from(chunks.len()).ok().filter(|count| *count as usize <= CHUNKS_LIMIT);
    out.write_all(&count.ok_or_else(|| invalid("a file has too many chunks"))?.to_be_bytes())?;
    chunks.iter().try_for_each(|chunk| out.write_all(&mark(chunk)))
}

/// Reads what [`write_marks`] wrote.
pub(super) fn read_marks(input: &mut impl Read) -> io::Result<Vec<Mark>> {
    let count = read_u32(input)? as usize;
    if count > CHUNKS_LIMIT {
        return Err(invalid("a file is said to have too many chunks"));
    }
    (0..count).map(|_| read_array(input)).collect()
}

/// Writes the steps from the old file to the new one: `chunks` are the new one's, `content` its bytes.
/// Returns how many bytes were written as they are.
pub(super) fn write_steps(
    out: &mut impl Write,
    marks: &[Mark],
    chunks: &[Chunk],
    mut content: impl Read,
) -> io::Result<u64> {
    let places: HashMap<Mark, u32> = (0..).zip(marks).map(|(place, mark)| (*mark, place)).collect();
    let mut written = 0;
    let mut rest = chunks;
    while let Some(chunk) = rest.first() {
        let place = places.get(&mark(chunk)).copied();
        let same = |(ahead, chunk): (u32, &Chunk)| match place {
            Some(place) => marks.get((place + ahead) as usize) == Some(&mark(chunk)),
            None => !places.contains_key(&mark(chunk)),
        };
        let count = (0..).zip(rest).take_while(|pair| same(*pair)).count();
        let (run, after) = rest.split_at(count);
        rest = after;
        let length: u64 = run.iter().map(|chunk| u64::from(chunk.length)).sum();
        match place {
            Some(place) => {
                out.write_all(&[COPY])?;
                out.write_all(&place.to_be_bytes())?;
                out.write_all(&u32::try_from(count).map_err(|_| invalid("too many chunks"))?.to_be_bytes())?;
                exactly(&mut content, length, &mut io::sink())?;
            }
            None => {
                out.write_all(&[DATA])?;
                out.write_all(&length.to_be_bytes())?;
                exactly(&mut content, length, out)?;
                written += length;
            }
        }
    }
    out.write_all(&[END])?;
    Ok(written)
}

/// Copies exactly this many bytes.
pub(super) fn exactly(input: &mut impl Read, length: u64, out: &mut impl Write) -> io::Result<()> {
    match io::copy(&mut input.take(length), out)? {
        copied if copied == length => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content is shorter than it was")),
    }
}

/// The new file, read from the steps and the old file.
pub(super) struct Patched<'a, R> {
    steps: R,
    old: File,
    chunks: &'a [Chunk],
    step: Step,
}

enum Step {
    Next,
    Copy(u64),
    Data(u64),
    End,
}

impl<'a, R: Read> Patched<'a, R> {
    /// Applies `steps` to `old`, whose chunks are these.
    pub(super) fn new(steps: R, old: File, chunks: &'a [Chunk]) -> Self {
        Self { steps, old, chunks, step: Step::Next }
    }

    fn next_step(&mut self) -> io::Result<Step> {
        let [kind] = read_array(&mut self.steps)?;
        match kind {
            END => Ok(Step::End),
            COPY => {
                let (first, count) = (read_u32(&mut self.steps)? as usize, read_u32(&mut self.steps)? as usize);
                let end = first.checked_add(count).filter(|_| count > 0);
                let run = end
                    .and_then(|end| self.chunks.get(first..end))
                    .ok_or_else(|| invalid("a copy of chunks that are not there"))?;
                self.old.seek(SeekFrom::Start(run[0].offset))?;
                Ok(Step::Copy(run.iter().map(|chunk| u64::from(chunk.length)).sum()))
            }
            DATA => Ok(Step::Data(u64::from_be_bytes(read_array(&mut self.steps)?))),
            _ => Err(invalid("an unknown step")),
        }
    }
}

impl<R: Read> Read for Patched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (count, left) = match &mut self.step {
                Step::End => return Ok(0),
                Step::Next | Step::Copy(0) | Step::Data(0) => {
                    self.step = self.next_step()?;
                    continue;
                }
                Step::Copy(left) => ((&mut self.old).take(*left).read(buffer)?, left),
                Step::Data(left) => ((&mut self.steps).take(*left).read(buffer)?, left),
            };
            if count == 0 {
                return Err(invalid("a step that is longer than its source"));
            }
            *left -= count as u64;
            return Ok(count);
        }
    }
}

fn mark(chunk: &Chunk) -> Mark {
    let mut mark = [0; MARK];
    mark.copy_from_slice(&chunk.hash.as_bytes()[..MARK]);
    mark
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_u32(input: &mut impl Read) -> io::Result<u32> {
    read_array(input).map(u32::from_be_bytes)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stead_store::Store;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    }

    fn round(old: &[u8], new: &[u8]) -> (Vec<u8>, u64) {
        let chunks = Store::chunk(old).unwrap();
        let mut told = Vec::new();
        write_marks(&mut told, &chunks).unwrap();
        let marks = read_marks(&mut &told[..]).unwrap();
        let mut steps = Vec::new();
        let written = write_steps(&mut steps, &marks, &Store::chunk(new).unwrap(), new).unwrap();
        let mut result = Vec::new();
        Patched::new(&steps[..], file(old), &chunks).read_to_end(&mut result).unwrap();
        (result, written)
    }

    #[test]
    fn an_insertion_into_a_large_file_costs_a_few_chunks() {
        let old = noise(4 << 20);
        let mut new = old.clone();
        new.splice(1_000_000..1_000_000, b"inserted".iter().copied());
        let (result, written) = round(&old, &new);
        assert_eq!(result, new);
        assert!(written < 200_000, "{written}");
        assert_eq!(round(&old, &old), (old, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn any_file_is_rebuilt_from_any_other(
            length in 0_usize..200_000, cut in 0_usize..200_000, insert in proptest::collection::vec(any::<u8>(), 0..9_000)
        ) {
            let old = noise(length);
            let mut new = old[..cut.min(length)].to_vec();
            new.extend(&insert);
            new.extend(&old[cut.min(length) / 2..]);
            prop_assert_eq!(round(&old, &new).0, new);
        }

        #[test]
        fn arbitrary_steps_never_panic(steps in proptest::collection::vec(0_u8..4, 0..60)) {
            let old = noise(50_000);
            let chunks = Store::chunk(&old[..]).unwrap();
            let _ = Patched::new(&steps[..], file(&old), &chunks).take(1 << 20).read_to_end(&mut Vec::new());
            let _ = read_marks(&mut &steps[..]);
        }
    }
}
