//! A `.deb` becomes a tree.
//!
//! The archive (`deb(5)`: `ar` around `data.tar`) is streamed once from beginning to end; no file
//! of it is ever whole in memory. What comes out cannot leave the tree, is owned by nobody, has no
//! set-id bit and is no device. Paths are those of a merged `/usr` (`bin/x` → `usr/bin/x`); what a
//! runtime has no use for is left out ([`layout::LEFT_OUT`]). No maintainer script runs.

pub mod control;
pub mod layout;

use crate::download;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use stead_model::lock::LockedPackage;
use stead_model::path::RelativePath;
use stead_model::tree::{Entry, Object, Tree};

/// Memory that unpacking xz may take: enough for the largest dictionary of `xz -9`.
const XZ_MEMORY: u64 = 80 << 20;
/// Entries that a package may have, against archives that never end (Debian's largest have some 50,000).
const MOST_ENTRIES: usize = 1_000_000;
/// Bytes that a package may unpack to (Debian's largest have some 3 GB).
const MOST_BYTES: u64 = 16 << 30;

/// Where the contents of files go to, and come from again.
pub trait Objects {
    /// Keeps these bytes; returns what they are kept under. Reads `content` to its end.
    fn put(&mut self, executable: bool, content: &mut dyn Read) -> io::Result<Object>;

    /// The bytes of what was put before.
    fn read(&self, object: Object) -> io::Result<Vec<u8>>;
}

/// The tree of a package's file, after its size and SHA-256 were compared with the pin, and what the pin
/// calls it with what it calls itself.
pub fn unpack_file(path: &Path, package: &LockedPackage, objects: &mut dyn Objects) -> Result<Tree, Error> {
    download::verify(path, package)
        .map_err(|source| Error::Pin { package: package.name.to_string(), source: Box::new(source) })?;
    control::compare(path, package)?;
    let mut file = BufReader::with_capacity(
        128 << 10,
        File::open(path).map_err(|source| Error::Read { what: path.display().to_string(), source })?,
    );
    unpack(package.name.as_str(), &mut file, objects)
}

/// The tree of the `.deb` that is read from `deb`. `name` is for messages.
pub fn unpack(name: &str, deb: &mut dyn Read, objects: &mut dyn Objects) -> Result<Tree, Error> {
    let read = |source| Error::Read { what: format!("the package {name}"), source };
    let mut archive = ar::Archive::new(deb);
    let mut first = true;
    while let Some(member) = archive.next_entry() {
        let mut member = member.map_err(read)?;
        let identifier = String::from_utf8_lossy(member.header().identifier()).trim_end_matches('/').to_owned();
        if first {
            let mut version = String::new();
            (&mut member).take(16).read_to_string(&mut version).map_err(read)?;
            if identifier != "debian-binary" || !version.starts_with("2.") {
                return Err(Error::NotADeb { package: name.to_owned() });
            }
            first = false;
            continue;
        }
        if let Some(compression) = identifier.strip_prefix("data.tar") {
            let mut data = decompressed(name, compression, member)?;
            let mut unpacking =
                Unpacking { package: name, objects, tree: Tree::default(), left_out: BTreeSet::new(), bytes: 0 };
            unpacking.all(&mut data)?;
            return Ok(unpacking.finish());
        }
    }
    Err(Error::NotADeb { package: name.to_owned() })
}

/// A member of the archive, by what follows `.tar` in its name.
fn decompressed<'a>(name: &str, compression: &str, member: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let read = |source| Error::Read { what: format!("the package {name}"), source };
    Ok(match compression {
        "" => Box::new(member),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(member)),
        ".xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED);
            Box::new(liblzma::read::XzDecoder::new_stream(member, stream.map_err(|error| read(error.into()))?))
        }
        ".zst" => Box::new(zstd::Decoder::new(member).map_err(read)?),
        other => return Err(Error::Compression { package: name.to_owned(), found: other.to_owned() }),
    })
}

struct Unpacking<'a> {
    package: &'a str,
    objects: &'a mut dyn Objects,
    tree: Tree,
    left_out: BTreeSet<RelativePath>,
    bytes: u64,
}

impl Unpacking<'_> {
    fn all(&mut self, data: &mut dyn Read) -> Result<(), Error> {
        let read = |source| Error::Read { what: format!("the package {}", self.package), source };
        let mut archive = tar::Archive::new(data);
        let entries = archive.entries().map_err(read)?;
        for (number, entry) in entries.enumerate() {
            let entry =
                entry.map_err(|source| Error::Read { what: format!("the package {}", self.package), source })?;
            if number >= MOST_ENTRIES {
                return Err(Error::TooLarge { package: self.package.to_owned() });
            }
            self.entry(entry)?;
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: tar::Entry<'_, &mut dyn Read>) -> Result<(), Error> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let Some(original) = self.path(&entry.path_bytes())? else { return Ok(()) };
        let place = layout::merged(&original);
        if layout::is_left_out(&place) {
            self.left_out.insert(place);
            return Ok(());
        }
        let made = match kind {
            tar::EntryType::Directory => return self.folder(place),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.file(&place, &mut entry)?
            }
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = self.path(&target)?.map(|target| layout::merged(&target));
                match target.as_ref().and_then(|target| self.tree.entries.get(target)) {
                    Some(Entry::File(object)) => Entry::File(*object),
                    _ if target.as_ref().is_some_and(|target| self.left_out.contains(target)) => return Ok(()),
                    _ => return Err(Error::HardLink { package: self.package.to_owned(), path: place }),
                }
            }
            tar::EntryType::Symlink => {
                if layout::is_merged_link(&original) {
                    return Ok(());
                }
                let target = entry.link_name_bytes().unwrap_or_default();
                let target =
                    std::str::from_utf8(&target).ok().and_then(|target| layout::link_target(&original, target));
                Entry::Link(
                    target
                        .ok_or_else(|| Error::LinkLeaves { package: self.package.to_owned(), path: place.clone() })?,
                )
            }
            _ => return Err(Error::Kind { package: self.package.to_owned(), path: place }),
        };
        match self.tree.entries.insert(place.clone(), made) {
            None => Ok(()),
            Some(_) => Err(Error::Twice { package: self.package.to_owned(), path: place }),
        }
    }

    /// A normal path below the tree's root; `None` for the root itself.
    fn path(&self, bytes: &[u8]) -> Result<Option<RelativePath>, Error> {
        let refused = || Error::Path {
            package: self.package.to_owned(),
            path: String::from_utf8_lossy(bytes).chars().take(200).collect(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
        let text = text.strip_prefix("./").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() || text == "." {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| refused())
    }

    fn folder(&mut self, place: RelativePath) -> Result<(), Error> {
        match self.tree.entries.insert(place.clone(), Entry::Folder) {
            None | Some(Entry::Folder) => Ok(()),
            Some(_) => Err(Error::Twice { package: self.package.to_owned(), path: place }),
        }
    }

    fn file(&mut self, place: &RelativePath, entry: &mut tar::Entry<'_, &mut dyn Read>) -> Result<Entry, Error> {
        let read = |source| Error::Read { what: format!("{place} of the package {}", self.package), source };
        let executable = entry.header().mode().map_err(read)? & 0o100 != 0;
        let size = entry.size();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MOST_BYTES {
            return Err(Error::TooLarge { package: self.package.to_owned() });
        }
        let object = self.objects.put(executable, entry).map_err(read)?;
        if object.size != size {
            return Err(Error::Cut { package: self.package.to_owned(), path: place.clone() });
        }
        Ok(Entry::File(object))
    }

    fn finish(mut self) -> Tree {
        layout::drop_implied_folders(&mut self.tree);
        self.tree
    }
}

/// Why a package does not become a tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not the pinned package.
    #[error("the package {package} is not what is pinned")]
    Pin {
        /// The package.
        package: String,
        /// Why.
        #[source]
        source: Box<download::Error>,
    },
    /// It cannot be read, or its content cannot be kept.
    #[error("cannot unpack {what}")]
    Read {
        /// The package, or a file of it.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It calls itself something else than its pin does.
    #[error("the package {package} is pinned as {field} `{pinned}`, but calls itself `{found}`")]
    Misnamed {
        /// The package, by its pin.
        package: String,
        /// What differs: `name`, `version` or `architecture`.
        field: &'static str,
        /// The pin's.
        pinned: String,
        /// The package's own.
        found: String,
    },
    /// Not in the format of `deb(5)`.
    #[error("the package {package} is not a Debian package")]
    NotADeb {
        /// The package.
        package: String,
    },
    /// Its data is compressed in a way that Debian does not use.
    #[error("the data of the package {package} is compressed as `{found}`, which is not known")]
    Compression {
        /// The package.
        package: String,
        /// What follows `data.tar`.
        found: String,
    },
    /// Larger than any package can be.
    #[error("the package {package} has more files or bytes than any package of Debian")]
    TooLarge {
        /// The package.
        package: String,
    },
    /// A path that would leave the tree.
    #[error("the package {package} has a file at `{path}`, which is no path inside a tree")]
    Path {
        /// The package.
        package: String,
        /// The path, as far as it can be shown.
        path: String,
    },
    /// A link that would leave the tree.
    #[error("in the package {package}, the link {path} leads out of the tree")]
    LinkLeaves {
        /// The package.
        package: String,
        /// The link.
        path: RelativePath,
    },
    /// A hard link to nothing.
    #[error("in the package {package}, {path} is a hard link to no file of the package")]
    HardLink {
        /// The package.
        package: String,
        /// The link.
        path: RelativePath,
    },
    /// A device, pipe or something unknown.
    #[error("in the package {package}, {path} is neither file, folder nor link")]
    Kind {
        /// The package.
        package: String,
        /// The entry.
        path: RelativePath,
    },
    /// Two entries at one place.
    #[error("the package {package} has {path} twice")]
    Twice {
        /// The package.
        package: String,
        /// The place.
        path: RelativePath,
    },
    /// A file that is shorter than announced.
    #[error("in the package {package}, {path} is cut off")]
    Cut {
        /// The package.
        package: String,
        /// The file.
        path: RelativePath,
    },
}
