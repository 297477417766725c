//! Every file of a lab's own, to tell what changed.

use crate::lab::Lab;
use std::collections::BTreeSet;

/// Every path that may hold something of the server's own: kind, mode, owner, target, and what is `@told@` of files. Left out: Stead's
/// own folder, and what any login or service of the server changes by itself.
const LIST: &str = r"
elsewhere='( -path /var/lib/stead -o -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp
    -o -path /var/tmp -o -path /var/log -o -path /var/lib/systemd -o -path /root/.cache ) -prune -o'
set -f
{ find / -xdev $elsewhere -printf '%y:%m:%u:%g:%l %p\n'; find / -xdev $elsewhere -type f @told@
find /var/lib/systemd/timers -name 'stamp-stead-*' -printf '%y %p\n'; } | sort";

/// Copies of the lists of users that the system's own programs keep (`passwd(5)`, `subuid(5)`).
pub const BACKUPS: [&str; 6] =
    ["/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/subgid-", "/etc/subuid-"];

/// What is on a lab's disk, a line for each thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(BTreeSet<String>);

impl Listing {
    /// As it is now, with the sum of each file's content.
    #[track_caller]
    pub fn of(lab: &Lab) -> Self {
        Self::telling(lab, "-exec cksum {} +")
    }

    /// The same with each file's size alone: an emulated processor takes minutes for the sums.
    #[track_caller]
    pub fn outline(lab: &Lab) -> Self {
        Self::telling(lab, r"-printf '%s %p\n'")
    }

    fn telling(lab: &Lab, told: &str) -> Self {
        Self(lab.run(&LIST.replace("@told@", told)).lines().map(str::to_owned).collect())
    }

    /// The paths of what another one has otherwise.
    pub fn changed(&self, other: &Self) -> BTreeSet<String> {
        let path = |line: &String| line.find('/').map(|start| line[start..].split(' ').next().unwrap_or("").to_owned());
        self.0.symmetric_difference(&other.0).filter_map(path).collect()
    }

    /// [`Listing::changed`] but for the [`BACKUPS`]: they differ when a user came and went.
    pub fn changed_by_hand(&self, other: &Self) -> BTreeSet<String> {
        self.changed(other).into_iter().filter(|path| !BACKUPS.contains(&path.as_str())).collect()
    }
}
