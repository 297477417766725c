//! What a package calls itself: the `control` file of its `control.tar` (`deb-control(5)`).
//!
//! A pin's SHA-256 says which bytes are meant; its version is only what people read. This keeps the
//! two together. Reads nothing of the package's data, and runs none of its scripts.

use super::{Error, decompressed};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use stead_model::lock::LockedPackage;

/// Most bytes of a `control` file (Debian's largest have some 100 KB, for long lists of dependencies).
const MOST_BYTES: u64 = 4 << 20;

/// That the package's file calls itself what its pin calls it: name, version and architecture.
///
/// # Errors
/// When it does not, or cannot be read.
pub fn compare(path: &Path, package: &LockedPackage) -> Result<(), Error> {
    let file = File::open(path).map_err(|source| Error::Read { what: path.display().to_string(), source })?;
    let text = read(package.name.as_str(), &mut BufReader::new(file))?;
    let malformed = |what: String| Error::Read {
        what: format!("what the package {} says of itself", package.name),
        source: io::Error::new(io::ErrorKind::InvalidData, what),
    };
    let paragraphs = deb822_fast::borrowed::parse_borrowed(&text).map_err(|error| malformed(error.to_string()))?;
    let own = paragraphs.first().ok_or_else(|| malformed("it is empty".to_owned()))?;
    let pinned = [
        ("name", "Package", package.name.as_str()),
        ("version", "Version", package.version.as_str()),
        ("architecture", "Architecture", package.architecture.as_str()),
    ];
    for (field, key, pinned) in pinned {
        let found = own.get_single(key).unwrap_or_default().trim();
        if found != pinned {
            let (package, pinned) = (package.name.to_string(), pinned.to_owned());
            return Err(Error::Misnamed { package, field, pinned, found: found.chars().take(200).collect() });
        }
    }
    Ok(())
}

/// The text of `control`.
fn read(name: &str, deb: &mut dyn Read) -> Result<String, Error> {
    let failed = |source| Error::Read { what: format!("the package {name}"), source };
    let mut archive = ar::Archive::new(deb);
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(failed)?;
        let identifier = String::from_utf8_lossy(member.header().identifier()).trim_end_matches('/').to_owned();
        let Some(compression) = identifier.strip_prefix("control.tar") else { continue };
        let mut files = tar::Archive::new(decompressed(name, compression, member)?);
        for file in files.entries().map_err(failed)? {
            let file = file.map_err(failed)?;
            let path = file.path_bytes();
            if path.strip_prefix(b"./").unwrap_or(&path) == b"control" {
                let mut text = String::new();
                file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
                return Ok(text);
            }
        }
    }
    Err(Error::NotADeb { package: name.to_owned() })
}
