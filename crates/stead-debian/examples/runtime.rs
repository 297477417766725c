//! Makes a runtime from the mirror of this machine's apt sources, and tells what it cost:
//! `cargo run -p stead-debian --example runtime -- bookworm /tmp/runtime nginx`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example for people who try things")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};
use stead_debian::archive::{Expiry, Fetcher};
use stead_debian::download::Downloader;
use stead_debian::http::{Client, Limits, Proxies};
use stead_debian::keyring::{DEBIAN_KEYRING, Keyring};
use stead_debian::package::{self, Objects};
use stead_debian::reporter::Silent;
use stead_debian::{mirror, resolve, runtime};
use stead_model::generation::RuntimeRecipe;
use stead_model::hash::Hash;
use stead_model::tree::{Entry, Object};

/// Objects as files, written as they stream by.
struct Folder(PathBuf);

impl Folder {
    fn place(&self, object: Object) -> PathBuf {
        self.0.join(format!("{}.{}", object.hash, u8::from(object.executable)))
    }
}

impl Objects for Folder {
    fn put(&mut self, executable: bool, content: &mut dyn Read) -> std::io::Result<Object> {
        let temporary = self.0.join("incoming");
        let (mut file, mut hasher, mut size) = (File::create(&temporary)?, blake3::Hasher::new(), 0);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = content.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read])?;
            size += read as u64;
        }
        file.set_permissions(std::fs::Permissions::from_mode(if executable { 0o555 } else { 0o444 }))?;
        let object = Object { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size, executable };
        std::fs::rename(temporary, self.place(object))?;
        Ok(object)
    }

    fn read(&self, object: Object) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.place(object))
    }
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [release, folder, names @ ..] = arguments.as_slice() else { panic!("runtime RELEASE FOLDER PACKAGE…") };
    let folder = Path::new(folder);
    let archive = mirror::from_apt_sources(Path::new("/etc/apt")).unwrap();
    let client = Client::new(Limits::default(), Proxies::Environment);
    let keyring = Keyring::read(Path::new(DEBIAN_KEYRING)).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();

    let started = Instant::now();
    let fetcher =
        Fetcher { client: &client, keyring: &keyring, cache: folder, now, expiry: Expiry::Refused, reporter: &Silent };
    let contents = fetcher.fetch(&archive, release, "amd64").unwrap();
    println!("indexes: {:?}", started.elapsed());
    let started = Instant::now();
    let packages = resolve::resolve(&contents.index, "amd64", &names).unwrap_or_else(|error| panic!("{error}"));
    drop(contents);
    println!("resolution: {:?}", started.elapsed());
    for package in &packages {
        println!("  {} {} ({})", package.name, package.version, package.suite);
    }
    let started = Instant::now();
    let kept = folder.join("packages");
    let files =
        Downloader { client: &client, archive: &archive, folder: &kept, reporter: &Silent }.fetch(&packages).unwrap();
    println!("download: {:?}; peak memory so far {}", started.elapsed(), peak());
    // Linux forgets the peak when asked to (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let mut objects = Folder(folder.join("objects"));
    std::fs::create_dir_all(&objects.0).unwrap();
    let started = Instant::now();
    let trees: Vec<_> = packages
        .iter()
        .zip(&files)
        .map(|(pin, file)| (pin.clone(), package::unpack_file(file, pin, &mut objects).unwrap()))
        .collect();
    let recipe = RuntimeRecipe {
        label: "example".to_owned(),
        rules: runtime::RULES,
        packages,
        mount_folders: [].into(),
        mount_files: [].into(),
    };
    let tree = runtime::compose(&trees, &recipe, &mut objects).unwrap_or_else(|error| panic!("{error}"));
    println!("unpacking: {:?}; peak memory {}", started.elapsed(), peak());
    let root = folder.join("root");
    for (path, entry) in &tree.entries {
        let place = root.join(path.as_str());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        match entry {
            Entry::File(object) => std::fs::hard_link(objects.place(*object), &place).unwrap(),
            Entry::Link(target) => symlink(target, &place).unwrap(),
            Entry::Folder => std::fs::create_dir_all(&place).unwrap(),
        }
    }
    println!("{} entries, {} bytes in {}", tree.entries.len(), tree.size(), root.display());
}
