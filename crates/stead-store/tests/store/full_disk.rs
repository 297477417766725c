//! A disk that is full in the middle of receiving or staging.
//!
//! The disk is a small tmpfs in a mount namespace of a child process, reached through `/proc`. This
//! needs root, and fails loudly without.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use stead_model::generation::Generation;
use stead_model::tree::{Entry, Object, Tree};
use stead_store::{Kind, Store, disk, object, realise};

/// A tmpfs of its own; gone when dropped.
struct SmallDisk {
    child: Child,
    path: PathBuf,
}

impl SmallDisk {
    fn new(options: &str) -> Self {
        let script = format!("mount -t tmpfs -o {options} none /mnt && echo ready && read -r end");
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs unshare(1)");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "this test needs root, to mount a small file system");
        let path = PathBuf::from(format!("/proc/{}/root/mnt", child.id()));
        Self { child, path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its end of input is its end.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn files_in(store: &Store) -> usize {
    let files = walkdir::WalkDir::new(store.root()).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.filter(|entry| entry.file_name() != "unsynced" && entry.file_name() != "format").count()
}

#[test]
fn a_full_disk_while_receiving_is_its_own_error_and_leaves_no_half_object() {
    let small = SmallDisk::new("size=1m");
    let store = Store::open(&small.path.join("stead")).unwrap();
    let kept = store.put(false, &mut &b"kept"[..]).unwrap();
    let error = store.put(false, &mut io::repeat(1).take(4 << 20)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let big = Object { size: 4 << 20, ..Object::of(b"some other hash") };
    let error = store.put_expected(big, &mut io::repeat(1)).unwrap_err();
    assert!(matches!(&error, object::Error::Disk(error) if error.is_full()), "{error}");
    assert_eq!(files_in(&store), 1);
    store.put(false, &mut &b"there is room again"[..]).unwrap();
    assert_eq!(store.read_object(kept).unwrap(), b"kept");
    assert!(store.space().unwrap() > 0);
}

#[test]
fn a_full_disk_while_staging_leaves_no_half_tree_and_a_collection_still_works() {
    // Inodes run out before bytes do: each folder of the tree takes one.
    let small = SmallDisk::new("size=8m,nr_inodes=60");
    let store = Store::open(&small.path.join("stead")).unwrap();
    let guard = Store::lock(&small.path.join("lock")).unwrap().unwrap();
    let object = store.put(false, &mut &b"1"[..]).unwrap();
    let entries = (0..100).map(|number| (format!("{number}/a").parse().unwrap(), Entry::File(object)));
    let wide = Tree { entries: entries.collect() };
    let error = store.realise(Kind::Tree, &wide.id(), &wide).unwrap_err();
    assert!(matches!(&error, realise::Error::Disk(disk::Error::Full { .. })), "{error}");
    assert!(!store.is_realised(Kind::Tree, &wide.id()));
    assert_eq!(std::fs::read_dir(store.root().join("trees")).unwrap().count(), 0);

    let mut stray = 0_u32;
    while store.put(false, &mut &stray.to_be_bytes()[..]).is_ok() {
        stray += 1;
    }
    let collected = store.collect(&guard, &[].into(), false).unwrap();
    assert_eq!(collected.objects, u64::from(stray) + 1);
    store.publish(&guard, &Generation::empty("server".parse().unwrap())).unwrap();
    assert_eq!(store.verify().unwrap(), []);
}
