//! The agent's program: this very program, for the server.
//!
//! Promises that an agent is known by the hash of its file, on both sides. Writes only the packed
//! form beside nothing else, where it is told to.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use stead_model::hash::Hash;

/// A program that can be sent to a server as its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentBinary {
    /// The file: static, for the server's architecture.
    pub path: PathBuf,
    /// BLAKE3 of the file.
    pub hash: Hash,
    /// The architecture that it runs on, as `uname -m` says: `x86_64`, `aarch64`.
    pub machine: String,
    /// A folder for its packed form, which takes about a second to make; `None`: it is made each time it is sent.
    pub cache: Option<PathBuf>,
}

impl AgentBinary {
    /// The running program itself.
    pub fn own(cache: Option<PathBuf>) -> io::Result<Self> {
        let machine = std::env::consts::ARCH.to_owned();
        Ok(Self { path: own_file()?, hash: own_hash()?, machine, cache })
    }

    /// The program in this file.
    pub fn in_file(path: &Path, machine: &str, cache: Option<PathBuf>) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), hash: hash_file(&mut File::open(path)?)?, machine: machine.to_owned(), cache })
    }

    /// The file, packed by gzip, which every Debian can unpack. From the cache, or made and kept there.
    pub fn packed(&self) -> io::Result<Vec<u8>> {
        let kept = self.cache.as_ref().map(|folder| folder.join(format!("agent-{}.gz", self.hash)));
        if let Some(kept) = &kept
            && let Ok(bytes) = std::fs::read(kept)
        {
            return Ok(bytes);
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::new(6));
        io::copy(&mut File::open(&self.path)?, &mut packer)?;
        let bytes = packer.finish()?;
        if let (Some(folder), Some(kept)) = (&self.cache, &kept) {
            std::fs::create_dir_all(folder)?;
            let temporary = folder.join(format!(".agent-{}-{}", self.hash.short(), std::process::id()));
            File::create(&temporary)?.write_all(&bytes)?;
            std::fs::rename(&temporary, kept)?;
        }
        Ok(bytes)
    }
}

/// BLAKE3 of the running program's file: what an agent says in its hello. Read, never assumed, so
/// that a file which was altered on the server is found out.
pub fn own_hash() -> io::Result<Hash> {
    // The link leads to the running file even when another one has taken its name.
    let link = Path::new("/proc/self/exe");
    hash_file(&mut File::open(if link.exists() { link.to_owned() } else { own_file()? })?)
}

fn own_file() -> io::Result<PathBuf> {
    std::env::current_exe()
}

fn hash_file(file: &mut File) -> io::Result<Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hash::from_bytes(*hasher.finalize().as_bytes())),
            count => hasher.update(&buffer[..count]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_form_unpacks_to_the_same_file_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, [5; 100_000]).unwrap();
        let cache = folder.path().join("cache");
        let agent = AgentBinary::in_file(&path, "x86_64", Some(cache.clone())).unwrap();
        assert_eq!(agent.hash, Hash::of(&[5; 100_000]));
        let packed = agent.packed().unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, [5; 100_000]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(agent.packed().unwrap(), packed);
        assert_eq!(std::fs::read_dir(cache).unwrap().count(), 1);
    }

    #[test]
    fn a_program_knows_its_own_hash() {
        let own = AgentBinary::own(None).unwrap();
        assert_eq!(own.hash, hash_file(&mut File::open(own.path).unwrap()).unwrap());
    }
}
