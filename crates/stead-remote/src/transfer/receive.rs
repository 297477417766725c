//! The agent's half of a transfer.
//!
//! Promises that nothing gets a name in the store before its hash was checked, that memory stays bounded
//! whatever arrives, and that a line which drops leaves only whole objects. Changes nothing that runs.

use super::{
    CHUNKED_FROM, DESCRIPTIONS_LIMIT, EAGER_LIMIT, PREFIX_LIMIT, base_text, decompressor, delta, described, objects,
};
use crate::frame::{self, Connection, Stream};
use crate::message::{Failed, Failure, Offer, Ranges, Reply};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::io::{self, BufReader, Read, Write};
use stead_model::generation::Generation;
use stead_model::hash::{Hash, Sha256};
use stead_model::tree::{Entry, Object, Tree};
use stead_store::chunk::Chunk;
use stead_store::{Guard, Kind, Store, object, package};

/// Takes in what an offer announces, after `Request::Stage(offer)` was read. Afterwards every object,
/// every realised tree and every package that `lacking` named is in the store; runtimes are not made
/// and nothing is published, so nothing of it survives a power cut yet. The caller says the last word.
///
/// `active` is what runs: large files are compared with its files if the offer has no base. `lacking`
/// tells which packages have to come from the operator; it may fetch others by itself first.
///
/// # Errors
/// [`ReceiveError::Refused`]: to be told, and the conversation goes on. [`ReceiveError::Broken`]: to be told, and
/// the conversation ends, because the client is in the middle of a stream. [`ReceiveError::Line`]: nobody to tell.
pub fn receive<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    offer: &Offer,
    store: &Store,
    _guard: &Guard,
    active: Option<&Hash>,
    lacking: &mut dyn FnMut(&Generation) -> Result<Vec<Sha256>, Failed>,
) -> Result<Generation, ReceiveError> {
    let offered = match first_breath(connection, offer, store)? {
        Ok(offered) => offered,
        Err(failed) => return Err(ReceiveError::Refused(failed)),
    };
    let known = offered.base.or_else(|| active.and_then(|id| base(store, id).ok()));
    let receiving = Receiving { store, generation: offered.generation, trees: offered.trees, objects: offered.objects };
    let missing: HashSet<Object> = store.missing(receiving.objects.iter().copied()).into_iter().collect();
    let packages = lacking(&receiving.generation).map_err(ReceiveError::Refused)?;
    receiving.room(&missing, &packages).map_err(ReceiveError::Refused)?;
    let replaced = receiving.replaced(known.as_ref(), &missing).map_err(ReceiveError::Refused)?;
    drop(known);
    receiving.ask(connection, &missing, &replaced, &packages)?;
    if !missing.is_empty() {
        let mut stream = connection.reader.stream();
        receiving.objects(&mut stream, &missing, &replaced)?;
        stream.finish(0)?;
    }
    if !packages.is_empty() {
        let mut stream = connection.reader.stream();
        receiving.packages(&mut stream, &packages)?;
        stream.finish(0)?;
    }
    for (id, tree) in &receiving.trees {
        let told = |error| ReceiveError::Refused(unrealised(&error));
        store.realise(Kind::Tree, id, tree).map_err(told)?;
    }
    Ok(receiving.generation)
}

/// The packages that a generation's runtimes still need: those of which there is neither the file nor
/// what the generation's own rules made of it, unless the whole runtime is there.
pub fn lacking_packages(store: &Store, generation: &Generation) -> Vec<Sha256> {
    let mut lacking = BTreeMap::new();
    for (id, recipe) in &generation.runtimes {
        if !store.is_realised(Kind::Runtime, id) {
            for package in &recipe.packages {
                let there = store.has_package(package.sha256, package.size)
                    || store.package_tree(package.sha256, recipe.rules).is_some();
                if !there {
                    lacking.insert(package.sha256, ());
                }
            }
        }
    }
    lacking.into_keys().collect()
}

type Base = (Generation, BTreeMap<Hash, Tree>);

struct Offered {
    base: Option<Base>,
    generation: Generation,
    trees: BTreeMap<Hash, Tree>,
    objects: Vec<Object>,
}

/// Reads all of the first breath, whatever it holds, so that a refusal leaves the conversation in step.
fn first_breath<R: Read, W: Write>(
    connection: &mut Connection<R, W>,
    offer: &Offer,
    store: &Store,
) -> Result<Result<Offered, Failed>, ReceiveError> {
    let mut stream = connection.reader.stream();
    let described = descriptions(&mut stream, offer, store);
    stream.finish(DESCRIPTIONS_LIMIT)?;
    if offer.eager.is_empty() {
        return Ok(described);
    }
    let mut stream = connection.reader.stream();
    let taken = match &described {
        Ok(offered) => eager(&mut stream, offer, offered, store),
        Err(_) => Ok(()),
    };
    stream.finish(2 * EAGER_LIMIT)?;
    Ok(described.and_then(|offered| taken.map(|()| offered)))
}

/// The generation and its trees, each of which is what its id says.
fn descriptions<R: Read>(stream: &mut Stream<'_, R>, offer: &Offer, store: &Store) -> Result<Offered, Failed> {
    if offer.size > DESCRIPTIONS_LIMIT {
        return Err(mismatch(format!("descriptions of {} bytes, where {DESCRIPTIONS_LIMIT} are allowed", offer.size)));
    }
    let base = offer.base.as_ref().map(|id| base(store, id)).transpose()?;
    let prefix = base.as_ref().map_or_else(Vec::new, |(generation, trees)| base_text(generation, trees));
    if prefix.len() > PREFIX_LIMIT {
        return Err(mismatch("the base is too large to compress against".to_owned()));
    }
    let read = |error: &dyn Error| mismatch(format!("the descriptions cannot be read: {}", chain(error)));
    let input = decompressor(BufReader::new(stream), &prefix).map_err(|error| read(&error))?;
    let mut values = serde_json::Deserializer::from_reader(BufReader::new(input.take(offer.size)));
    let generation = Generation::deserialize(&mut values).map_err(|error| read(&error))?;
    if generation.id() != offer.generation {
        return Err(mismatch(format!(
            "the description is of generation {}, not {}",
            generation.id(),
            offer.generation
        )));
    }
    let mut trees = BTreeMap::new();
    for id in described(&generation, base.as_ref().map(|(generation, _)| generation)) {
        let tree = Tree::deserialize(&mut values).map_err(|error| read(&error))?;
        if tree.id() != id {
            return Err(mismatch(format!("the description is of tree {}, not {id}", tree.id())));
        }
        trees.insert(id, tree);
    }
    values.end().map_err(|error| read(&error))?;
    if let Some((_, known)) = &base {
        for id in generation.trees.keys().filter(|id| !trees.contains_key(id)).collect::<Vec<_>>() {
            trees.insert(*id, known[id].clone());
        }
    }
    let objects = objects(&generation, &trees);
    Ok(Offered { base, generation, trees, objects })
}

/// A generation of the store and its trees.
fn base(store: &Store, id: &Hash) -> Result<Base, Failed> {
    let damaged = |what: String| Failed {
        kind: Failure::Damaged,
        what,
        hint: Some("`stead verify` tells what is damaged".to_owned()),
    };
    let generation = store.generation(id).map_err(|error| damaged(chain(&error)))?;
    let generation = generation.ok_or_else(|| damaged(format!("generation {id} is not on the server")))?;
    let mut trees = BTreeMap::new();
    for id in generation.trees.keys() {
        let tree = store.description(Kind::Tree, id).map_err(|error| damaged(chain(&error)))?;
        trees.insert(*id, tree.ok_or_else(|| damaged(format!("the description of tree {id} is missing")))?);
    }
    Ok((generation, trees))
}

/// Takes in objects that were not asked for.
fn eager<R: Read>(stream: &mut Stream<'_, R>, offer: &Offer, offered: &Offered, store: &Store) -> Result<(), Failed> {
    let places = |ranges: &Ranges, objects: &[Object]| -> Result<Vec<Object>, Failed> {
        let places =
            ranges.places(objects.len()).ok_or_else(|| mismatch("eager objects that are not there".to_owned()))?;
        let chosen: Vec<Object> = places.into_iter().map(|place| objects[place as usize]).collect();
        match chosen.iter().map(|object| object.size).fold(0, u64::saturating_add) {
            0..=EAGER_LIMIT => Ok(chosen),
            _ => Err(mismatch("more eager objects than are allowed".to_owned())),
        }
    };
    let wanted = places(&offer.eager, &offered.objects)?;
    let old = offered.base.as_ref().map_or_else(Vec::new, |(generation, trees)| objects(generation, trees));
    let mut prefix = Vec::new();
    for object in places(&offer.eager_basis, &old)? {
        let content = store.read_object(object).map_err(|error| server(&error))?;
        if Hash::of(&content) != object.hash {
            let what = format!("object {} is altered on the server", object.hash);
            let hint = Some("`stead verify` tells what is damaged".to_owned());
            return Err(Failed { kind: Failure::Damaged, what, hint });
        }
        prefix.extend(content);
    }
    let mut input = decompressor(BufReader::new(stream), &prefix).map_err(|error| server(&error))?;
    for object in wanted {
        store.put_expected(object, &mut (&mut input).take(object.size)).map_err(unstored)?;
    }
    match input.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(mismatch(SURPLUS.to_owned())),
        Err(error) => Err(mismatch(chain(&error))),
    }
}

struct Receiving<'a> {
    store: &'a Store,
    generation: Generation,
    trees: BTreeMap<Hash, Tree>,
    objects: Vec<Object>,
}

/// For each object, the one that it replaces and that one's chunks.
type Replaced = HashMap<Object, (Object, Vec<Chunk>)>;

impl Receiving<'_> {
    /// Refuses what cannot fit, before it is sent.
    fn room(&self, missing: &HashSet<Object>, packages: &[Sha256]) -> Result<(), Failed> {
        let known = self.generation.packages();
        let mut sizes: Vec<u64> = missing.iter().map(|object| object.size).collect();
        for sha256 in packages {
            let package =
                known.get(sha256).ok_or_else(|| server_says(format!("package {sha256} is not of the generation")))?;
            sizes.push(package.size);
        }
        let wanted = sizes.into_iter().fold(0, u64::saturating_add);
        let free = self.store.space().map_err(|error| server(&error))?;
        if wanted <= free {
            return Ok(());
        }
        let what = format!("the disk is full: {wanted} bytes are to come, and {free} are free");
        Err(Failed { kind: Failure::FullDisk, what, hint: Some("make room; `stead gc` may help".to_owned()) })
    }

    /// Large files that are missing and stand where `known` has a large file too.
    fn replaced(&self, known: Option<&Base>, missing: &HashSet<Object>) -> Result<Replaced, Failed> {
        let mut replaced = Replaced::new();
        let Some((old_generation, old_trees)) = known else { return Ok(replaced) };
        let large = |entry: &Entry| match entry {
            Entry::File(object) if object.size >= CHUNKED_FROM => Some(*object),
            _ => None,
        };
        for (id, label) in &self.generation.trees {
            let alike =
                || old_generation.trees.iter().filter(|(_, old)| *old == label).filter_map(|(id, _)| old_trees.get(id));
            for (path, entry) in &self.trees[id].entries {
                let Some(object) =
                    large(entry).filter(|object| missing.contains(object) && !replaced.contains_key(object))
                else {
                    continue;
                };
                let old = alike().filter_map(|tree| tree.entries.get(path)).find_map(large);
                if let Some(old) = old.filter(|old| self.store.contains(*old)) {
                    let file = self.store.open_object(old).map_err(|error| server(&error))?;
                    let chunks = Store::chunk(file).map_err(|error| server(&error))?;
                    replaced.insert(object, (old, chunks));
                }
            }
        }
        Ok(replaced)
    }

    /// Tells what is missing.
    fn ask<R: Read, W: Write>(
        &self,
        connection: &mut Connection<R, W>,
        missing: &HashSet<Object>,
        replaced: &Replaced,
        packages: &[Sha256],
    ) -> Result<(), ReceiveError> {
        let places = |wanted: &dyn Fn(&Object) -> bool| {
            Ranges::of((0..).zip(&self.objects).filter(|(_, object)| wanted(object)).map(|(place, _)| place))
        };
        let writer = &mut connection.writer;
        writer.message(&Reply::Need {
            objects: places(&|object| missing.contains(object)),
            chunked: places(&|object| replaced.contains_key(object)),
            packages: packages.to_vec(),
        })?;
        if !replaced.is_empty() {
            let line = |error| frame::Error::from_io(error).unwrap_or_else(frame::Error::Write);
            let mut stream = writer.stream();
            let mut out = zstd::Encoder::new(&mut stream, 1).map_err(line)?;
            for (_, chunks) in self.objects.iter().filter_map(|object| replaced.get(object)) {
                delta::write_marks(&mut out, chunks).map_err(line)?;
            }
            out.finish().map_err(line)?;
            stream.finish()?;
        }
        Ok(writer.flush()?)
    }

    fn objects<R: Read>(
        &self,
        stream: &mut Stream<'_, R>,
        missing: &HashSet<Object>,
        replaced: &Replaced,
    ) -> Result<(), ReceiveError> {
        let mut input =
            decompressor(BufReader::new(stream), &[]).map_err(|error| ReceiveError::Broken(server(&error)))?;
        for object in self.objects.iter().filter(|object| missing.contains(object)) {
            let stored = match replaced.get(object) {
                None => self.store.put_expected(*object, &mut (&mut input).take(object.size)),
                Some((old, chunks)) => {
                    let old = self.store.open_object(*old).map_err(|error| ReceiveError::Broken(server(&error)))?;
                    self.store.put_expected(*object, &mut delta::Patched::new(&mut input, old, chunks))
                }
            };
            stored.map_err(|error| {
                ReceiveError::of(error, unstored, |error| match error {
                    object::Error::Source(error) => Ok(error),
                    other => Err(other),
                })
            })?;
        }
        match input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(ReceiveError::Broken(mismatch(SURPLUS.to_owned()))),
            Err(error) => Err(ReceiveError::source(error)),
        }
    }

    fn packages<R: Read>(&self, stream: &mut Stream<'_, R>, packages: &[Sha256]) -> Result<(), ReceiveError> {
        let known = self.generation.packages();
        for sha256 in packages {
            let size = known[sha256].size;
            self.store.put_package(*sha256, size, &mut (&mut *stream).take(size)).map_err(|error| {
                ReceiveError::of(error, unstored_package, |error| match error {
                    package::Error::Source(error) => Ok(error),
                    other => Err(other),
                })
            })?;
        }
        Ok(())
    }
}

const SURPLUS: &str = "more came than was announced";

fn unstored(error: object::Error) -> Failed {
    match &error {
        object::Error::Disk(disk) if disk.is_full() => full(&error),
        object::Error::Disk(_) => server(&error),
        object::Error::Altered { .. } | object::Error::Source(_) => mismatch(chain(&error)),
    }
}

fn unstored_package(error: package::Error) -> Failed {
    match &error {
        package::Error::Disk(disk) if disk.is_full() => full(&error),
        package::Error::Disk(_) => server(&error),
        package::Error::Altered { .. } | package::Error::Source(_) => mismatch(chain(&error)),
    }
}

fn unrealised(error: &stead_store::realise::Error) -> Failed {
    use stead_store::{description, realise};
    match error {
        realise::Error::Disk(disk) | realise::Error::Description(description::Error::Disk(disk)) if disk.is_full() => {
            full(error)
        }
        realise::Error::Identity { .. } | realise::Error::Flawed(_) => mismatch(chain(error)),
        _ => server(error),
    }
}

fn full(error: &dyn Error) -> Failed {
    Failed { kind: Failure::FullDisk, what: chain(error), hint: Some("make room; `stead gc` may help".to_owned()) }
}

fn mismatch(what: String) -> Failed {
    Failed { kind: Failure::Mismatch, what, hint: Some("deploy again".to_owned()) }
}

fn server(error: &dyn Error) -> Failed {
    server_says(chain(error))
}

fn server_says(what: String) -> Failed {
    Failed { kind: Failure::Server, what, hint: None }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A generation did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is refused; the conversation is in step.
    #[error("{}", .0.what)]
    Refused(Failed),
    /// It failed in the middle of a stream; the conversation has to end.
    #[error("{}", .0.what)]
    Broken(Failed),
    /// The line failed.
    #[error("the transfer broke off")]
    Line(#[from] frame::Error),
}

impl ReceiveError {
    /// What a store's error means: the line's own, if it only could not read from there.
    fn of<E>(error: E, told: impl Fn(E) -> Failed, source: impl Fn(E) -> Result<io::Error, E>) -> Self {
        match source(error) {
            Err(error) => ReceiveError::Broken(told(error)),
            Ok(error) => Self::source(error),
        }
    }

    /// What it means that a stream cannot be read.
    fn source(error: io::Error) -> Self {
        match frame::Error::from_io(error) {
            Ok(error @ (frame::Error::Closed | frame::Error::Dropped | frame::Error::Read(_))) => {
                ReceiveError::Line(error)
            }
            Ok(error) => ReceiveError::Broken(mismatch(error.to_string())),
            Err(error) => ReceiveError::Broken(mismatch(error.to_string())),
        }
    }
}
