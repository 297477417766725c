//! Reading files to hash them, with as many threads as there are cores.
//!
//! Promises that a hash belongs to one state of the file: its stat is the same before and after
//! the reading. Never follows a link that took the place of a file meanwhile.

use super::Error;
use super::index::Stat;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use stead_model::hash::Hash;
use stead_model::path::RelativePath;
use stead_model::tree::Object;

/// How often a file that changes under our hands is read again.
const ATTEMPTS: usize = 3;
/// Files below this number are not worth a second thread.
const WORTH_A_THREAD: usize = 32;

/// A file to be read.
pub(super) struct Job {
    pub(super) path: RelativePath,
    pub(super) file: PathBuf,
    pub(super) executable: bool,
}

/// A file that was read.
pub(super) struct Done {
    pub(super) path: RelativePath,
    pub(super) stat: Stat,
    pub(super) object: Object,
}

/// Reads all of them; the first failure in the order of the jobs is returned.
pub(super) fn hash_all(jobs: Vec<Job>) -> Result<Vec<Done>, Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(jobs.len().div_ceil(WORTH_A_THREAD));
    if threads <= 1 {
        let mut buffer = vec![0; 128 * 1024];
        return jobs.iter().map(|job| hash(job, &mut buffer)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; 128 * 1024];
        let mut done = Vec::new();
        while let Some((place, job)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, jobs.get(at)?)))
        {
            done.push((place, hash(job, &mut buffer)));
        }
        done
    };
    let mut all: Vec<(usize, Result<Done, Error>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("hashing does not panic")).collect()
    });
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, done)| done).collect()
}

fn hash(job: &Job, buffer: &mut [u8]) -> Result<Done, Error> {
    let failed = |source: io::Error| Error::Read { path: job.file.clone(), source };
    for _ in 0..ATTEMPTS {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).expect("open flags are small");
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(&job.file).map_err(failed)?;
        let before = Stat::of(&file.metadata().map_err(failed)?);
        let (hash, size) = read(&mut file, buffer).map_err(failed)?;
        let stat = Stat::of(&file.metadata().map_err(failed)?);
        if stat == before && stat.size == size {
            let object = Object { hash, size, executable: job.executable };
            return Ok(Done { path: job.path.clone(), stat, object });
        }
    }
    Err(Error::Changing { path: job.file.clone() })
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<(Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        let count = match file.read(buffer) {
            Ok(0) => return Ok((Hash::from_bytes(*hasher.finalize().as_bytes()), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
