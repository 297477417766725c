//! The operator's half of a transfer.
//!
//! Promises to send nothing that the server has, as far as it says so, and to hold no file in memory
//! but small ones. Reads objects and packages only through [`Sources`].

use super::{
    CHUNKED_FROM, DESCRIPTIONS_LIMIT, EAGER_LIMIT, PREFIX_LIMIT, base_text, compressor, decompressor, delta, describe,
    described, objects,
};
use crate::cache::Base;
use crate::frame::{self, Connection};
use crate::message::{Failed, Offer, Ranges, Reply, Request};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use stead_model::generation::Generation;
use stead_model::hash::{Hash, Sha256};
use stead_model::tree::{Object, Tree};
use stead_store::Store;

/// Where the operator's side has what is sent.
pub trait Sources {
    /// The object's content from its beginning.
    fn object(&self, object: Object) -> io::Result<Box<dyn Read + Send>>;
    /// Told which packages the server lacks, before the first of them is asked for: the moment to
    /// download them together.
    fn prepare(&self, packages: &[Sha256]) -> io::Result<()> {
        let _ = packages;
        Ok(())
    }
    /// The file of a package.
    fn package(&self, sha256: Sha256) -> io::Result<PathBuf>;
}

/// What is to be on the server.
#[derive(Clone, Copy)]
pub struct Shipment<'a> {
    /// The generation.
    pub generation: &'a Generation,
    /// Every tree that it refers to.
    pub trees: &'a BTreeMap<Hash, Tree>,
    /// A generation that the server says it has, if the cache remembers one.
    pub base: Option<&'a Base>,
    /// Where everything is.
    pub sources: &'a dyn Sources,
}

/// How far a transfer is. In bytes as they will be on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are sent.
    pub done: u64,
    /// Bytes that are to be sent.
    pub total: u64,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Objects that came unasked, with the descriptions.
    pub eager: usize,
    /// Objects that were asked for.
    pub objects: usize,
    /// How many of those were sent as what differs from another file.
    pub chunked: usize,
    /// Packages.
    pub packages: usize,
    /// Bytes of all of them as they will be on the server, without what was copied there.
    pub bytes: u64,
}

/// Sends what the server lacks of a generation. Afterwards the agent's last word to the request,
/// `Staged` or `Failed`, is still to come. Blocks until everything is handed to the line.
///
/// # Errors
/// When the agent refuses, the line fails, or a source does not have what it should. After
/// [`SendError::Failed`] with nothing sent yet, the conversation can go on.
pub fn send<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    shipment: Shipment<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Sent, SendError> {
    let sending = Sending::new(shipment)?;
    let mut sent = match sending.offer(connection) {
        Err(error) => return Err(prefer_last_words(connection, error)),
        Ok(sent) => sent,
    };
    let need = sending.need(connection)?;
    match sending.deliver(connection, &need, &mut sent, progress) {
        Err(error) => Err(prefer_last_words(connection, error)),
        Ok(()) => Ok(sent),
    }
}

/// When the line broke while sending, the agent may have said why before.
fn prefer_last_words<R: Read, W: Write>(connection: &mut Connection<R, W>, error: SendError) -> SendError {
    if !matches!(&error, SendError::Line(frame::Error::Write(_))) {
        return error;
    }
    loop {
        match connection.receive::<Reply>() {
            Ok(Reply::Failed(failed)) => return SendError::Failed(failed),
            Ok(_) => {}
            Err(_) => return error,
        }
    }
}

struct Sending<'a> {
    shipment: Shipment<'a>,
    base: Option<&'a Base>,
    prefix: Vec<u8>,
    objects: Vec<Object>,
}

struct Need {
    objects: Vec<Object>,
    chunked: HashMap<Object, Vec<delta::Mark>>,
    packages: Vec<(Sha256, u64)>,
}

impl<'a> Sending<'a> {
    fn new(shipment: Shipment<'a>) -> Result<Self, SendError> {
        if let Some(id) = shipment.generation.trees.keys().find(|id| !shipment.trees.contains_key(*id)) {
            return Err(SendError::Undescribed { tree: *id });
        }
        let prefix = shipment.base.map_or_else(Vec::new, |base| base_text(&base.generation, &base.trees));
        let base = shipment.base.filter(|_| prefix.len() <= PREFIX_LIMIT);
        let prefix = if base.is_some() { prefix } else { Vec::new() };
        Ok(Self { shipment, base, prefix, objects: objects(shipment.generation, shipment.trees) })
    }

    /// The first breath: descriptions, and what the server cannot have yet.
    fn offer<R: Read, W: Write>(&self, connection: &mut Connection<R, W>) -> Result<Sent, SendError> {
        let generation = self.shipment.generation;
        let mut text = Vec::new();
        describe(&mut text, generation);
        for id in described(generation, self.base.map(|base| &base.generation)) {
            describe(&mut text, &self.shipment.trees[&id]);
        }
        if text.len() as u64 > DESCRIPTIONS_LIMIT {
            return Err(SendError::TooManyFiles { size: text.len() as u64, limit: DESCRIPTIONS_LIMIT });
        }
        let eager = self.eager();
        let offer = Offer {
            generation: generation.id(),
            base: self.base.map(|base| base.generation.id()),
            size: text.len() as u64,
            eager: Ranges::of(eager.places.iter().copied()),
            eager_basis: Ranges::of(eager.basis.iter().copied()),
        };
        let writer = &mut connection.writer;
        writer.message(&Request::Stage(offer))?;
        let level = if text.len() + self.prefix.len() < 1 << 20 { 12 } else { 5 };
        let mut stream = writer.stream();
        let mut out = compressor(&mut stream, &self.prefix, text.len() as u64, level).map_err(line)?;
        out.write_all(&text).and_then(|()| out.finish().map(drop)).map_err(line)?;
        stream.finish()?;
        let mut bytes = 0;
        if !eager.places.is_empty() {
            let chosen: Vec<Object> = eager.places.iter().map(|place| self.objects[*place as usize]).collect();
            bytes = chosen.iter().map(|object| object.size).sum();
            let mut stream = writer.stream();
            let mut out = compressor(&mut stream, &eager.prefix, bytes, 12).map_err(line)?;
            chosen.iter().try_for_each(|object| self.whole(*object, &mut out))?;
            out.finish().map_err(line)?;
            stream.finish()?;
        }
        writer.flush()?;
        Ok(Sent { eager: eager.places.len(), bytes, ..Sent::default() })
    }

    /// Small objects that the base does not have, and what they may be compressed against: small
    /// objects that only the base has.
    fn eager(&self) -> Eager {
        let Some(base) = self.base else { return Eager::default() };
        let old = objects(&base.generation, &base.trees);
        let (had, wanted): (HashSet<Object>, HashSet<Object>) =
            (old.iter().copied().collect(), self.objects.iter().copied().collect());
        let mut eager = Eager::default();
        let mut left = EAGER_LIMIT;
        for (place, object) in (0..).zip(&self.objects).filter(|(_, object)| !had.contains(object)) {
            if object.size < CHUNKED_FROM && object.size <= left {
                left -= object.size;
                eager.places.push(place);
            }
        }
        if !eager.places.is_empty() {
            for (place, object) in (0..).zip(&old).filter(|(_, object)| !wanted.contains(object)) {
                if let Some(content) = base.contents.get(&object.hash)
                    && content.len() as u64 == object.size
                    && eager.prefix.len() as u64 + object.size <= EAGER_LIMIT
                {
                    eager.basis.push(place);
                    eager.prefix.extend(content);
                }
            }
        }
        eager
    }

    /// The agent's answer, understood and checked.
    fn need<R: Read, W: Write>(&self, connection: &mut Connection<R, W>) -> Result<Need, SendError> {
        let (asked, chunked, asked_packages) = loop {
            match connection.receive()? {
                Reply::Need { objects, chunked, packages } => break (objects, chunked, packages),
                Reply::Failed(failed) => return Err(SendError::Failed(failed)),
                Reply::Event(_) => {}
                _ => return Err(SendError::Nonsense { what: "an answer to another question" }),
            }
        };
        let chosen = |ranges: &Ranges| -> Result<Vec<Object>, SendError> {
            let places =
                ranges.places(self.objects.len()).ok_or(SendError::Nonsense { what: "objects that are not there" })?;
            Ok(places.into_iter().map(|place| self.objects[place as usize]).collect())
        };
        let (objects, patched) = (chosen(&asked)?, chosen(&chunked)?);
        let mut marks = HashMap::new();
        if !patched.is_empty() {
            let mut stream = connection.reader.stream();
            let mut input = decompressor(BufReader::new(&mut stream), &[]).map_err(line)?;
            for object in patched {
                marks.insert(object, delta::read_marks(&mut input).map_err(line)?);
            }
            if input.read(&mut [0]).map_err(line)? != 0 {
                return Err(SendError::Nonsense { what: "more than it announced" });
            }
            drop(input);
            stream.finish(0)?;
        }
        let known = self.shipment.generation.packages();
        let size = |sha256: Sha256| known.get(&sha256).map(|package| (sha256, package.size));
        let packages = asked_packages.into_iter().map(size).collect::<Option<Vec<_>>>();
        let packages = packages.ok_or(SendError::Nonsense { what: "packages that are not of the generation" })?;
        Ok(Need { objects, chunked: marks, packages })
    }

    /// The second breath: what was asked for.
    fn deliver<R: Read, W: Write>(
        &self,
        connection: &mut Connection<R, W>,
        need: &Need,
        sent: &mut Sent,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), SendError> {
        let size: u64 = need.objects.iter().map(|object| object.size).sum();
        let total = size + need.packages.iter().map(|(_, size)| size).sum::<u64>();
        let mut done = 0;
        let mut advance = |more: u64| {
            done += more;
            progress(Progress { done, total });
        };
        let writer = &mut connection.writer;
        if !need.objects.is_empty() {
            let mut stream = writer.stream();
            let mut out = zstd::Encoder::new(&mut stream, 3).map_err(line)?;
            for object in &need.objects {
                match need.chunked.get(object) {
                    None => self.whole(*object, &mut out).map(|()| sent.bytes += object.size)?,
                    Some(marks) => {
                        sent.bytes += self.difference(*object, marks, &mut out)?;
                        sent.chunked += 1;
                    }
                }
                advance(object.size);
            }
            out.finish().map_err(line)?;
            stream.finish()?;
            sent.objects = need.objects.len();
        }
        if !need.packages.is_empty() {
            let wanted: Vec<Sha256> = need.packages.iter().map(|(sha256, _)| *sha256).collect();
            let prepared = self.shipment.sources.prepare(&wanted);
            prepared.map_err(|source| SendError::Source { what: "packages".to_owned(), source })?;
            let mut stream = writer.stream();
            for (sha256, size) in &need.packages {
                let name = || format!("package {sha256}");
                let path = self
                    .shipment
                    .sources
                    .package(*sha256)
                    .map_err(|source| SendError::Source { what: name(), source })?;
                let mut file = File::open(path).map_err(|source| SendError::Source { what: name(), source })?;
                pass(&mut file, *size, &mut stream, name)?;
                advance(*size);
            }
            stream.finish()?;
            sent.packages = need.packages.len();
            sent.bytes += need.packages.iter().map(|(_, size)| size).sum::<u64>();
        }
        Ok(writer.flush()?)
    }

    fn whole(&self, object: Object, out: &mut impl Write) -> Result<(), SendError> {
        pass(&mut self.open(object)?, object.size, out, || self.name(object))
    }

    fn difference(&self, object: Object, marks: &[delta::Mark], out: &mut impl Write) -> Result<u64, SendError> {
        let changed = |source| SendError::Source { what: self.name(object), source };
        let chunks = Store::chunk(self.open(object)?).map_err(changed)?;
        if chunks.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>() != object.size {
            return Err(SendError::Changed { what: self.name(object) });
        }
        let mut held = Vec::new();
        let mut out = Told { out, failed: &mut held };
        delta::write_steps(&mut out, marks, &chunks, self.open(object)?).map_err(|error| match held.pop() {
            Some(error) => line(error),
            None => changed(error),
        })
    }

    fn open(&self, object: Object) -> Result<Box<dyn Read + Send>, SendError> {
        self.shipment.sources.object(object).map_err(|source| SendError::Source { what: self.name(object), source })
    }

    /// The object for people: a path that has it.
    fn name(&self, object: Object) -> String {
        let generation = self.shipment.generation;
        let label = |id: &Hash| generation.trees.get(id).cloned().unwrap_or_default();
        let trees = self.shipment.trees.iter().map(|(id, tree)| (label(id), tree));
        let mut places = trees.chain([("generation".to_owned(), &generation.files)]).flat_map(|(label, tree)| {
            tree.entries
                .iter()
                .filter(|(_, entry)| matches!(entry, stead_model::tree::Entry::File(found) if *found == object))
                .map(move |(path, _)| format!("{label}: {path}"))
        });
        places.next().unwrap_or_else(|| object.hash.to_string())
    }
}

/// Tells failures of writing from failures of reading in a function that does both.
struct Told<'a, W> {
    out: &'a mut W,
    failed: &'a mut Vec<io::Error>,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| {
            let kind = error.kind();
            self.failed.push(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Copies a source of this size; tells a source that fails from one that changed, and both from the line.
fn pass(input: &mut impl Read, size: u64, out: &mut impl Write, name: impl Fn() -> String) -> Result<(), SendError> {
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    loop {
        match input.read(&mut buffer) {
            Ok(0) if left == 0 => return Ok(()),
            Ok(count) if count > 0 && count as u64 <= left => {
                out.write_all(&buffer[..count]).map_err(line)?;
                left -= count as u64;
            }
            Ok(_) => return Err(SendError::Changed { what: name() }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(SendError::Source { what: name(), source }),
        }
    }
}

fn line(error: io::Error) -> SendError {
    SendError::Line(frame::Error::from_io(error).unwrap_or_else(frame::Error::Write))
}

#[derive(Default)]
struct Eager {
    places: Vec<u32>,
    basis: Vec<u32>,
    prefix: Vec<u8>,
}

/// The generation did not get there.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The line failed.
    #[error("the transfer broke off")]
    Line(#[from] frame::Error),
    /// The agent refused.
    #[error("the server refused the transfer: {}", .0.what)]
    Failed(Failed),
    /// The agent asks for what it cannot need.
    #[error("the agent asks for {what}")]
    Nonsense {
        /// What it asks for.
        what: &'static str,
    },
    /// Something that is to be sent cannot be read.
    #[error("cannot read {what}")]
    Source {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is not what it was when it was hashed.
    #[error("{what} changed while it was being sent")]
    Changed {
        /// What.
        what: String,
    },
    /// A tree of the generation was not given.
    #[error("the description of tree {tree} is missing")]
    Undescribed {
        /// The tree.
        tree: Hash,
    },
    /// The descriptions are above what an agent takes.
    #[error("the trees have too many files: their descriptions take {size} bytes of at most {limit}")]
    TooManyFiles {
        /// Bytes of the descriptions.
        size: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
}
