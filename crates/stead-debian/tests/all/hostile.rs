//! An archive made for the test, with keys of its own, on a mirror that lies, stalls or is gone.

use crate::deb::{self, Item};
use crate::folder::Folder;
use crate::server::{Manner, Server};
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::ser::Serialize;
use pgp::types::Password;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use stead_debian::archive::{self, Contents, Expiry, Fetcher};
use stead_debian::download::{self, Downloader};
use stead_debian::http::{Client, Limits, Proxies};
use stead_debian::keyring::Keyring;
use stead_debian::mirror::Archive;
use stead_debian::reporter::Silent;
use stead_debian::{package, resolve};
use stead_model::hash::Sha256;
use stead_model::lock::LockedPackage;

const RELEASE: &str = "/debian/dists/bookworm/InRelease";
const PACKAGES: &str = "/debian/dists/bookworm/main/binary-amd64/Packages.xz";
const POOL: &str = "/debian/pool/main/t/tool/tool_1_amd64.deb";
/// Sat, 21 Nov 2026 12:00:00 UTC
const NOON: i64 = 1_795_262_400;

/// A key that certifies and a subkey that signs, as Debian's have.
fn new_key() -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .can_encrypt(EncryptionCaps::None)
        .build()
        .unwrap();
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(false)
        .can_encrypt(EncryptionCaps::None)
        .primary_user_id("Archive <archive@example.org>".into())
        .subkeys(vec![subkey])
        .build()
        .unwrap()
        .generate(rand::thread_rng())
        .unwrap()
}

fn key() -> &'static SignedSecretKey {
    static KEY: OnceLock<SignedSecretKey> = OnceLock::new();
    KEY.get_or_init(new_key)
}

fn sign(text: &str, key: &SignedSecretKey) -> Vec<u8> {
    let message =
        CleartextSignedMessage::sign(rand::thread_rng(), text, &key.secret_subkeys[0].key, &Password::empty()).unwrap();
    message.to_armored_bytes(ArmorOptions::default()).unwrap()
}

fn release(suite: &str, date: &str, packages: &[u8]) -> String {
    format!(
        "Origin: Test\nCodename: {suite}\nDate: {date}\nValid-Until: Sat, 28 Nov 2026 12:00:00 UTC\nSHA256:\n {} {} main/binary-amd64/Packages.xz\n",
        Sha256::of(packages),
        packages.len()
    )
}

/// An honest archive with one package, and everything that reads it.
struct Site {
    server: Server,
    archive: Archive,
    cache: tempfile::TempDir,
    client: Client,
    now: i64,
}

impl Site {
    fn new() -> Self {
        let server = Server::start();
        let deb = deb::package(&[Item::file("./usr/bin/tool", 0o755, &noise(300_000))]);
        let packages = format!(
            "Package: tool\nVersion: 1\nArchitecture: amd64\nDepends: debconf\nFilename: {}\nSize: {}\nSHA256: {}\nDescription: a tool\n of sorts\n\n",
            POOL.trim_start_matches("/debian/"),
            deb.len(),
            Sha256::of(&deb)
        );
        server.put(POOL, deb);
        server.put(PACKAGES, deb::xz(packages.as_bytes()));
        let empty = deb::xz(b"");
        for (root, suite) in [("debian", "bookworm-updates"), ("debian-security", "bookworm-security")] {
            server.put(&format!("/{root}/dists/{suite}/main/binary-amd64/Packages.xz"), empty.clone());
            server.put(
                &format!("/{root}/dists/{suite}/InRelease"),
                sign(&release(suite, "Sat, 21 Nov 2026 00:00:00 UTC", &empty), key()),
            );
        }
        let archive = Archive::at(&format!("{}/debian", server.address)).unwrap();
        let limits = Limits {
            connect: Duration::from_secs(2),
            stall: Duration::from_millis(400),
            window: Duration::from_millis(600),
            slowest: 10_000,
        };
        let site = Self {
            server,
            archive,
            cache: tempfile::tempdir().unwrap(),
            client: Client::new(limits, Proxies::Direct),
            now: NOON,
        };
        site.publish("Sat, 21 Nov 2026 00:00:00 UTC");
        site
    }

    /// Signs the index of the base suite as it is on the server.
    fn publish(&self, date: &str) {
        self.server.put(RELEASE, sign(&release("bookworm", date, &self.server.get(PACKAGES)), key()));
    }

    fn contents(&self) -> Result<Contents, archive::Error> {
        let mut bytes = Vec::new();
        SignedPublicKey::from(key().clone()).to_writer(&mut bytes).unwrap();
        let keyring = Keyring::parse(&bytes, Path::new("test.gpg")).unwrap();
        let cache = self.cache.path();
        let fetcher = Fetcher {
            client: &self.client,
            keyring: &keyring,
            cache,
            now: self.now,
            expiry: Expiry::Refused,
            reporter: &Silent,
        };
        fetcher.fetch(&self.archive, "bookworm", "amd64")
    }

    /// The whole refusal, with its causes, as the program shows it.
    fn refusal(&self) -> String {
        whole(&self.contents().expect_err("this archive is not to be believed"))
    }

    fn pins(&self) -> Vec<LockedPackage> {
        resolve::resolve(&self.contents().unwrap().index, "amd64", &["tool".parse().unwrap()]).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("packages")
    }

    fn download(&self, pins: &[LockedPackage]) -> Result<Vec<PathBuf>, download::Error> {
        Downloader { client: &self.client, archive: &self.archive, folder: &self.folder(), reporter: &Silent }
            .fetch(pins)
    }

    fn failed_download(&self, pins: &[LockedPackage]) -> String {
        let message = whole(&self.download(pins).expect_err("this package is not to be kept"));
        assert!(!download::file(&self.folder(), &pins[0]).exists(), "a refused package is not kept");
        message
    }
}

fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Bytes that do not compress, the same every time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn an_honest_archive_is_believed_and_its_package_becomes_a_tree() {
    let site = Site::new();
    let contents = site.contents().unwrap();
    assert_eq!(contents.suites["bookworm"].date, "Sat, 21 Nov 2026 00:00:00 UTC");
    assert_eq!(contents.suites["bookworm"].sha256, Sha256::of(&site.server.get(RELEASE)));
    let pins = site.pins();
    assert_eq!(
        (pins.len(), pins[0].path.as_str(), pins[0].suite.as_str()),
        (1, POOL.trim_start_matches("/debian/"), "bookworm")
    );
    let files = site.download(&pins).unwrap();
    let objects = tempfile::tempdir().unwrap();
    let tree = package::unpack_file(&files[0], &pins[0], &mut Folder(objects.path().to_owned())).unwrap();
    assert!(tree.get("usr/bin/tool").is_some());
    site.server.asked();
    site.download(&pins).unwrap();
    assert_eq!(site.server.asked(), [], "what is kept is not fetched again");
}

#[test]
fn an_unchanged_index_is_not_sent_again() {
    let site = Site::new();
    site.contents().unwrap();
    site.server.asked();
    let again = site.contents().unwrap();
    let asked: Vec<String> = site.server.asked().into_iter().map(|(path, _)| path).collect();
    assert!(asked.iter().all(|path| path.ends_with("InRelease")) && asked.len() == 3, "{asked:?}");
    assert_eq!(again.index.len(), 1);
}

#[test]
fn a_replaced_package_index_leaves_nothing_in_the_cache() {
    let site = Site::new();
    let reduced = || {
        let files = std::fs::read_dir(site.cache.path().join("indexes")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "zst")).count()
    };
    site.contents().unwrap();
    let before = reduced();
    site.server.put(PACKAGES, deb::xz(b""));
    site.publish("Sat, 21 Nov 2026 06:00:00 UTC");
    assert_eq!(site.contents().unwrap().index.len(), 0);
    // The suites without packages share one.
    assert_eq!((before, reduced()), (2, 1));
}

#[test]
fn a_tampered_index_is_not_believed() {
    let site = Site::new();
    let honest = String::from_utf8(site.server.get(RELEASE)).unwrap();
    site.server.put(RELEASE, honest.replace("Origin: Test", "Origin: Best").into_bytes());
    assert!(site.refusal().contains("does not belong to this text: it was altered"), "{}", site.refusal());
    site.server.put(RELEASE, format!("Origin: Evil\n\n{honest}").into_bytes());
    assert!(site.refusal().contains("is not a signed index"), "{}", site.refusal());
    site.server
        .put(RELEASE, release("bookworm", "Sat, 21 Nov 2026 00:00:00 UTC", &site.server.get(PACKAGES)).into_bytes());
    assert!(site.refusal().contains("is not a signed index"), "{}", site.refusal());
}

#[test]
fn a_strangers_signature_does_not_count() {
    let site = Site::new();
    site.server.put(
        RELEASE,
        sign(&release("bookworm", "Sat, 21 Nov 2026 00:00:00 UTC", &site.server.get(PACKAGES)), &new_key()),
    );
    let message = site.refusal();
    assert!(message.contains("not among the keys in test.gpg"), "{message}");
}

#[test]
fn a_tampered_package_index_is_not_believed() {
    let site = Site::new();
    let mut packages = site.server.get(PACKAGES);
    *packages.last_mut().unwrap() ^= 1;
    site.server.put(PACKAGES, packages);
    let message = site.refusal();
    assert!(message.contains("Packages.xz was altered: the signed index says SHA-256"), "{message}");
}

#[test]
fn another_suites_or_an_expired_or_a_future_index_is_not_used() {
    let mut site = Site::new();
    site.server
        .put(RELEASE, sign(&release("trixie", "Sat, 21 Nov 2026 00:00:00 UTC", &site.server.get(PACKAGES)), key()));
    assert!(site.refusal().contains("it is the index of `trixie`"), "{}", site.refusal());
    site.publish("Mon, 23 Nov 2026 00:00:00 UTC");
    assert!(site.refusal().contains("in the future"), "{}", site.refusal());
    site.publish("Sat, 21 Nov 2026 00:00:00 UTC");
    site.now += 8 * 86_400;
    assert!(site.refusal().contains("valid until Sat, 28 Nov 2026"), "{}", site.refusal());
}

#[test]
fn an_older_index_does_not_replace_a_newer_one() {
    let site = Site::new();
    site.contents().unwrap();
    site.publish("Fri, 20 Nov 2026 00:00:00 UTC");
    assert_eq!(site.contents().unwrap().suites["bookworm"].date, "Sat, 21 Nov 2026 00:00:00 UTC");
    site.publish("Sat, 21 Nov 2026 06:00:00 UTC");
    assert_eq!(site.contents().unwrap().suites["bookworm"].date, "Sat, 21 Nov 2026 06:00:00 UTC");
}

#[test]
fn an_altered_cache_is_fetched_again() {
    let site = Site::new();
    let pins = site.pins();
    site.download(&pins).unwrap();
    let mut altered = 0;
    for folder in ["indexes", "packages"] {
        for entry in std::fs::read_dir(site.cache.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            std::fs::write(&path, bytes).unwrap();
            altered += 1;
        }
    }
    assert!(altered >= 9, "{altered} files");
    assert_eq!(site.pins(), pins);
    let files = site.download(&pins).unwrap();
    download::verify(&files[0], &pins[0]).unwrap();
}

#[test]
fn a_tampered_package_is_not_kept_and_a_later_honest_one_is() {
    let site = Site::new();
    let pins = site.pins();
    let honest = site.server.get(POOL);
    let mut tampered = honest.clone();
    tampered[1000] ^= 1;
    site.server.put(POOL, tampered);
    assert!(site.failed_download(&pins).contains("the package tool was altered: its SHA-256 is"));
    site.server.put(POOL, honest);
    site.download(&pins).unwrap();
}

#[test]
fn a_kept_package_that_was_altered_is_refused_when_it_is_unpacked() {
    let site = Site::new();
    let pins = site.pins();
    let files = site.download(&pins).unwrap();
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    let objects = tempfile::tempdir().unwrap();
    let error = package::unpack_file(&files[0], &pins[0], &mut Folder(objects.path().to_owned())).unwrap_err();
    assert!(whole(&error).starts_with("the package tool is not what is pinned: "), "{}", whole(&error));
    assert_eq!(std::fs::read_dir(objects.path()).unwrap().count(), 0, "nothing of it is kept");
}

#[test]
fn a_mirror_that_is_down_is_named_at_once() {
    let mut site = Site::new();
    let pins = site.pins();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.archive = Archive::at(&format!("http://{closed}/debian")).unwrap();
    let started = Instant::now();
    let message = site.refusal();
    assert!(
        message.starts_with("cannot fetch the signed index of bookworm: cannot reach http://127.0.0.1:"),
        "{message}"
    );
    let message = site.failed_download(&pins);
    assert!(message.starts_with("cannot download the package tool: cannot reach http://127.0.0.1:"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_mirror_that_stalls_or_trickles_does_not_hang() {
    let site = Site::new();
    let pins = site.pins();
    site.server.behave(POOL, Manner::Stall(1000));
    let message = site.failed_download(&pins);
    assert!(message.contains("nothing arrived for"), "{message}");
    site.server.behave(POOL, Manner::Trickle);
    let message = site.failed_download(&pins);
    assert!(message.contains("bytes arrived in"), "{message}");
    site.publish("Sat, 21 Nov 2026 06:00:00 UTC");
    site.server.behave(RELEASE, Manner::Stall(0));
    let message = site.refusal();
    assert!(message.contains("InRelease: nothing arrived for"), "{message}");
}

#[test]
fn a_mirror_that_lies_about_sizes_is_found_out() {
    let site = Site::new();
    let pins = site.pins();
    site.server.behave(POOL, Manner::Announce(5));
    let message = site.failed_download(&pins);
    assert!(message.contains(&format!("has {} bytes, but here are {}", pins[0].size, pins[0].size + 5)), "{message}");
    site.server.behave(POOL, Manner::Endless);
    let message = site.failed_download(&pins);
    assert!(message.contains(&format!("has {} bytes, but here are", pins[0].size)), "{message}");
    let part = download::file(&site.folder(), &pins[0]).with_extension("deb.part");
    assert_eq!(std::fs::metadata(part).unwrap().len(), 0, "and nothing of it fills the disk");
    site.publish("Sat, 21 Nov 2026 06:00:00 UTC");
    site.server.behave(RELEASE, Manner::Endless);
    let message = site.refusal();
    assert!(message.contains("sends more than"), "{message}");
}

#[test]
fn a_package_index_longer_than_signed_is_cut_off() {
    let site = Site::new();
    site.server.behave(PACKAGES, Manner::Endless);
    let message = site.refusal();
    assert!(message.contains("Packages.xz: the mirror sends more than"), "{message}");
}

#[test]
fn an_interrupted_download_is_continued_where_it_broke() {
    let site = Site::new();
    let pins = site.pins();
    site.server.behave(POOL, Manner::CutOnce(200_000));
    site.server.asked();
    site.download(&pins).unwrap();
    assert_eq!(site.server.asked(), [(POOL.to_owned(), None), (POOL.to_owned(), Some(200_000))]);
}

#[test]
fn two_who_want_the_same_package_fetch_it_once() {
    let site = Site::new();
    let pins = site.pins();
    site.server.asked();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| site.download(&pins).unwrap())).collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
    assert_eq!(site.server.asked(), [(POOL.to_owned(), None)]);
}

#[test]
fn a_beginning_of_something_else_does_not_spoil_the_package() {
    let site = Site::new();
    let pins = site.pins();
    let part = download::file(&site.folder(), &pins[0]).with_extension("deb.part");
    std::fs::create_dir_all(site.folder()).unwrap();
    for length in [1000, pins[0].size as usize, pins[0].size as usize + 7] {
        std::fs::write(&part, vec![1; length]).unwrap();
        let files = site.download(&pins).unwrap();
        download::verify(&files[0], &pins[0]).unwrap();
        std::fs::remove_file(&files[0]).unwrap();
    }
}

#[test]
fn a_mirror_with_a_moments_trouble_is_asked_again() {
    let site = Site::new();
    site.server.behave(RELEASE, Manner::StatusOnce(503));
    site.server.behave(PACKAGES, Manner::CutOnce(20));
    let pins = site.pins();
    site.publish("Sat, 21 Nov 2026 06:00:00 UTC");
    site.server.behave(RELEASE, Manner::CutOnce(100));
    assert_eq!(site.pins(), pins);
    site.server.behave(POOL, Manner::StatusOnce(500));
    site.download(&pins).unwrap();
}

#[test]
fn a_superseded_package_comes_from_the_snapshot_archive_or_the_error_says_so() {
    let mut site = Site::new();
    let pins = site.pins();
    let deb = site.server.get(POOL);
    site.server.remove(POOL);
    assert_eq!(
        site.failed_download(&pins),
        "tool 1 is no longer on the mirror, and no snapshot archive is configured: run `stead update`"
    );
    site.archive = site.archive.with_snapshot(&format!("{}/snapshot/debian/2026", site.server.address)).unwrap();
    assert_eq!(
        site.failed_download(&pins),
        "tool 1 is no longer on the mirror, nor in the snapshot archive: run `stead update`"
    );
    site.server.put(&POOL.replace("/debian/", "/snapshot/debian/2026/"), deb);
    site.download(&pins).unwrap();
}

#[test]
fn a_pin_that_points_elsewhere_is_refused() {
    let site = Site::new();
    let mut pins = site.pins();
    pins[0].path = "../../secret".to_owned();
    assert_eq!(
        site.failed_download(&pins),
        "the package tool is pinned to `../../secret`, which is no place on a mirror"
    );
}

#[test]
fn an_architecture_that_is_not_there_is_named() {
    let site = Site::new();
    let mut bytes = Vec::new();
    SignedPublicKey::from(key().clone()).to_writer(&mut bytes).unwrap();
    let keyring = Keyring::parse(&bytes, Path::new("test.gpg")).unwrap();
    let fetcher = Fetcher {
        client: &site.client,
        keyring: &keyring,
        cache: site.cache.path(),
        now: NOON,
        expiry: Expiry::Refused,
        reporter: &Silent,
    };
    let error = fetcher.fetch(&site.archive, "bookworm", "sparc").unwrap_err();
    assert_eq!(error.to_string(), "bookworm has no packages for the architecture `sparc`");
    assert!(fetcher.fetch(&site.archive, "../x", "amd64").unwrap_err().source().is_none());
}

#[test]
fn a_package_that_is_not_what_its_pin_calls_it_is_refused_though_its_bytes_are_right() {
    let site = Site::new();
    let pins = site.pins();
    let files = site.download(&pins).unwrap();
    let refusal = |pin: LockedPackage| {
        let objects = tempfile::tempdir().unwrap();
        package::unpack_file(&files[0], &pin, &mut Folder(objects.path().to_owned())).unwrap_err().to_string()
    };
    let renamed = LockedPackage { version: "2".to_owned(), ..pins[0].clone() };
    assert_eq!(refusal(renamed), "the package tool is pinned as version `2`, but calls itself `1`");
    let renamed = LockedPackage { name: "hammer".parse().unwrap(), ..pins[0].clone() };
    assert_eq!(refusal(renamed), "the package hammer is pinned as name `hammer`, but calls itself `tool`");
    let renamed = LockedPackage { architecture: "arm64".to_owned(), ..pins[0].clone() };
    assert_eq!(refusal(renamed), "the package tool is pinned as architecture `arm64`, but calls itself `amd64`");
}
