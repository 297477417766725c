//! Limits from outside: a control group and a CPU set around everything that a lab runs.
//!
//! Inside a container limits are not enforced everywhere (v1, read-only), so they are set here, on
//! groups below the keeper's own. What could not be set is told, never silently left out.
//! Understands control groups v1, the hybrid layout and v2 (`cgroups(7)`).

use crate::error::{Error, io_error};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// The control groups of a lab, one in each hierarchy that matters.
#[derive(Debug)]
pub(crate) struct Groups {
    name: String,
    /// In each hierarchy, the keeper's group at its start; the lab's is `name` below it.
    parents: Vec<PathBuf>,
    /// In each hierarchy, where the keeper is when it does not start something for the lab.
    homes: Vec<PathBuf>,
    /// What could not be made, and why.
    pub(crate) missing: Vec<String>,
}

impl Groups {
    /// Makes the groups, without limits.
    pub(crate) fn create(name: &str) -> Self {
        let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let parents = ["name=systemd", "memory", "cpuacct", ""].iter().filter_map(|c| hierarchy(c, &groups, &mounts));
        let mut parents: Vec<PathBuf> = parents.collect();
        parents.dedup(); // Several controllers may be mounted together.
        let mut groups = Self { name: name.to_owned(), homes: parents.clone(), parents, missing: Vec::new() };
        remove(&groups.paths());
        for group in groups.paths() {
            if let Err(error) = fs::create_dir(&group)
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                groups.missing.push(format!("no control group {}: {error}", group.display()));
            }
        }
        if let Err(reason) = groups.delegate() {
            groups.missing.push(format!("memory: {reason}"));
        }
        groups
    }

    /// The lab's groups.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.parents.iter().map(|parent| parent.join(&self.name)).collect()
    }

    /// Moves this process into the groups; what it starts from now on is in them.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        self.paths().iter().filter(|group| group.exists()).try_for_each(|group| join(group))
    }

    /// Moves this process back to where it was.
    pub(crate) fn leave(&self) -> Result<(), Error> {
        self.homes.iter().filter(|group| group.exists()).try_for_each(|group| join(group))
    }

    /// Removes the groups below the lab's own: those that its last boot made.
    pub(crate) fn empty(&self) {
        // What stays is used again.
        self.paths().iter().for_each(|group| drop(remove_below(group)));
    }

    /// Removes the groups.
    pub(crate) fn remove(&self) {
        remove(&self.paths());
    }

    /// In v2 a group with processes cannot limit the groups below it (`cgroups(7)`, "no internal
    /// processes"), so the keeper moves aside and hands its controllers down.
    fn delegate(&mut self) -> Result<(), String> {
        let only = |parents: &[PathBuf]| match parents {
            [one] if one.join("cgroup.controllers").exists() => Some(one.clone()),
            _ => None,
        };
        let Some(parent) = only(&self.parents) else { return Ok(()) };
        let keeper = parent.join("keeper");
        let describe = |error: io::Error| format!("{}: {error}", parent.display());
        if !keeper.exists() {
            fs::create_dir(&keeper).map_err(describe)?;
        }
        fs::write(keeper.join("cgroup.procs"), "0").map_err(describe)?;
        self.homes = vec![keeper];
        fs::write(parent.join("cgroup.subtree_control"), "+memory +cpu +pids").map_err(describe)
    }
}

/// Limits the memory of everything in these groups together; swap does not add to it. The error
/// says why it cannot be, such as that more is in use already.
pub(crate) fn limit_memory(groups: &[PathBuf], memory_mib: u32) -> Result<(), String> {
    let bytes = u64::from(memory_mib) << 20;
    let limit = |file: &str| groups.iter().map(|group| group.join(file)).find(|path| path.exists());
    let write = |(path, value): &(PathBuf, u64)| {
        fs::write(path, value.to_string()).map_err(|error| format!("memory: {}: {error}", path.display()))
    };
    match (limit("memory.limit_in_bytes"), limit("memory.max")) {
        (Some(memory), _) => {
            let both: Vec<_> = [Some(memory), limit("memory.memsw.limit_in_bytes")].into_iter().flatten().collect();
            let both: Vec<_> = both.into_iter().map(|path| (path, bytes)).collect();
            // In v1 the second may never be below the first: a larger limit has to be set in the other order.
            let smaller = both.iter().try_for_each(write);
            smaller.or_else(|_| both.iter().rev().try_for_each(write))
        }
        (None, Some(memory)) => {
            write(&(memory, bytes))?;
            limit("memory.swap.max").map_or(Ok(()), |swap| write(&(swap, 0)))
        }
        (None, None) => Err("memory: this machine has no memory controller for the lab's control group".to_owned()),
    }
}

/// The CPUs that this process may use.
pub(crate) fn allowed_cpus() -> io::Result<CpuSet> {
    Ok(sched_getaffinity(None)?)
}

/// Restricts this thread, and what it starts, to so many of these CPUs. The index spreads labs over them.
pub(crate) fn restrict_cpus(allowed: &CpuSet, count: u32, index: u16) -> io::Result<()> {
    Ok(sched_setaffinity(None, &chosen(allowed, count, index))?)
}

/// Restricts everything that runs in these groups now, and what it will start.
pub(crate) fn restrict_cpus_of(groups: &[PathBuf], allowed: &CpuSet, count: u32, index: u16) -> io::Result<()> {
    let chosen = chosen(allowed, count, index);
    // Twice: what was started by one that was not reached yet.
    for group in groups.iter().chain(groups) {
        for thread in threads(group) {
            match sched_setaffinity(Pid::from_raw(thread), &chosen) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn chosen(allowed: &CpuSet, count: u32, index: u16) -> CpuSet {
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let mut chosen = CpuSet::new();
    for offset in 0..usable.len().min(count as usize) {
        chosen.set(usable[(usize::from(index) + offset) % usable.len()]);
    }
    chosen
}

/// The threads in this group and those below it.
fn threads(group: &Path) -> Vec<i32> {
    let numbers = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let processes = read(&group.join("cgroup.procs").to_string_lossy());
    let own = processes.lines().flat_map(|process| numbers(PathBuf::from(format!("/proc/{process}/task"))));
    let mut all: Vec<i32> = own.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect();
    for below in numbers(group.to_owned()).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        all.extend(threads(&below.path()));
    }
    all
}

/// CPU time that everything in these groups used so far.
pub(crate) fn cpu_time(groups: &[PathBuf]) -> Option<Duration> {
    let v1 = groups.iter().find_map(|group| fs::read_to_string(group.join("cpuacct.usage")).ok());
    if let Some(nanoseconds) = v1.and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_nanos(nanoseconds));
    }
    let text = groups.iter().find_map(|group| fs::read_to_string(group.join("cpu.stat")).ok())?;
    let microseconds = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Duration::from_micros(microseconds.parse().ok()?))
}

/// Removes a lab's groups with everything below them, once their last processes are gone: killed
/// ones take a moment to leave. What does not become empty in time stays, and the next lab uses it.
pub(crate) fn remove(groups: &[PathBuf]) {
    let deadline = Instant::now() + Duration::from_secs(3);
    for group in groups {
        while remove_below(group)
            .and_then(|()| fs::remove_dir(group))
            .is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline)
        {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn remove_below(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
            fs::remove_dir(entry.path())?;
        }
    }
    Ok(())
}

fn join(group: &Path) -> Result<(), Error> {
    let file = group.join("cgroup.procs");
    fs::write(&file, "0").map_err(io_error("join", &file))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The folder of this process's group in the hierarchy of a v1 controller, or of v2 (`""`).
fn hierarchy(controller: &str, groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })?;
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (kind, options) = (right.split(' ').next()?, right.rsplit(' ').next()?);
        let right_one = if controller.is_empty() {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|name| name == controller)
        };
        let mut fields = left.split(' ').skip(3);
        right_one.then_some((fields.next()?, fields.next()?))
    })?;
    let (root, point) = mount;
    let below = path.strip_prefix(root).unwrap_or(path);
    Some(Path::new(point).join(below.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_GROUPS: &str = "9:name=systemd:/\n4:memory:/some/session\n1:cpu,cpuacct:/\n0::/\n";
    const HYBRID_MOUNTS: &str = "\
        30 29 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        31 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        32 29 0:28 / /sys/fs/cgroup/systemd rw,relatime shared:5 - cgroup cgroup rw,xattr,name=systemd\n\
        33 29 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn groups_are_found_in_the_hybrid_layout() {
        let find = |controller| hierarchy(controller, HYBRID_GROUPS, HYBRID_MOUNTS).unwrap();
        assert_eq!(find("memory"), Path::new("/sys/fs/cgroup/memory/some/session"));
        assert_eq!(find("cpuacct"), Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(find("name=systemd"), Path::new("/sys/fs/cgroup/systemd"));
        assert_eq!(find(""), Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn groups_are_found_in_version_2() {
        let mounts = "28 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let groups = "0::/system.slice/stead-lab-1.scope\n";
        let expected = Path::new("/sys/fs/cgroup/system.slice/stead-lab-1.scope");
        assert_eq!(hierarchy("", groups, mounts).as_deref(), Some(expected));
        assert_eq!(hierarchy("memory", groups, mounts), None);
    }
}
