//! Certificates on disk: pairs that change together, broken ones put aside, crashes at every place.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use proptest::prelude::*;
use proptest::sample::Index;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use stead_acme::files::{self, Synced};
use stead_acme::store::{self, BROKEN, CHAIN, KEY, LIVE, OCSP};
use stead_acme::{Certificates, Ensured, Found, Unfit};
use stead_model::certificate::Files;
use stead_model::name::Domain;
use support::{Pair, Signer, domains};
use tempfile::TempDir;

struct Scene {
    folder: TempDir,
    certificates: Certificates,
    name: Domain,
    names: Vec<Domain>,
    signer: Signer,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let certificates = Certificates::open(folder.path(), None).expect("a folder");
        let names = domains(&["site.test", "www.site.test"]);
        Self { folder, certificates, name: names[0].clone(), names, signer: Signer::new() }
    }

    fn pair(&self) -> Pair {
        self.signer.issue(&["site.test", "www.site.test"])
    }

    fn install(&self, pair: &Pair) -> Result<(), store::Error> {
        let (chain, key) = (pair.chain.as_bytes(), pair.key.as_bytes());
        self.certificates.install(&self.name, &self.names, chain, key).map(|_| ())
    }

    fn ensure(&self) -> Ensured {
        self.certificates.ensure(&self.name, &self.names).expect("a stand-in")
    }

    fn look(&self) -> Found {
        self.certificates.look(&self.name)
    }

    fn own(&self) -> PathBuf {
        self.certificates.folder(&self.name)
    }

    fn live(&self, file: &str) -> PathBuf {
        self.own().join(LIVE).join(file)
    }

    fn is_live(&self, pair: &Pair) -> bool {
        let read = |file| fs::read_to_string(self.live(file)).expect("a file");
        read(CHAIN) == pair.chain && read(KEY) == pair.key
    }

    /// What is in the certificate's folder, sorted.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.own()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    }
}

/// Every file below a folder with its bytes; links with where they lead.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("an entry");
        if metadata.is_symlink() {
            found.insert(path.clone(), fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes());
        } else if metadata.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

#[test]
fn where_nothing_is_a_stand_in_is_put_and_told_apart() {
    let scene = Scene::new();
    assert_eq!(scene.look(), Found::Missing);
    assert_eq!(scene.ensure(), Ensured::Made);
    let found = scene.look();
    let Found::StandIn(details) = &found else { panic!("{found:?}") };
    assert!(details.covers(&scene.names));
    assert_eq!(scene.ensure(), Ensured::Kept);
    assert_eq!(scene.entries(), ["1", LIVE]);
    let more = domains(&["site.test", "new.site.test"]);
    assert_eq!(scene.certificates.ensure(&scene.name, &more).unwrap(), Ensured::Made);
    assert!(matches!(scene.look(), Found::StandIn(details) if details.covers(&more)));
    assert_eq!(scene.certificates.names().unwrap(), scene.names[..1]);
}

#[test]
fn an_issued_certificate_takes_the_place_of_the_stand_in() {
    let scene = Scene::new();
    scene.ensure();
    let pair = scene.pair();
    scene.install(&pair).unwrap();
    assert!(scene.is_live(&pair));
    assert!(matches!(scene.look(), Found::Issued(_)));
    assert_eq!(scene.ensure(), Ensured::Kept);
    assert_eq!(fs::read_link(scene.own().join(LIVE)).unwrap(), Path::new("2"), "the link is relative");
}

#[test]
fn a_certificate_signed_by_itself_is_no_stand_in() {
    let scene = Scene::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["site.test".into(), "www.site.test".into()]).unwrap();
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(30);
    let pair = Pair { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    scene.install(&pair).unwrap();
    assert!(matches!(scene.look(), Found::Issued(details) if details.is_self_signed));
}

#[test]
fn only_the_owner_reads_keys_and_root_alone_changes_the_folders() {
    let is_root = rustix::process::geteuid().is_root();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = if is_root { (4242, 4343) } else { own };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("stead-acme");
    let certificates = Certificates::open(&root, Some(owner)).unwrap();
    let names = domains(&["site.test"]);
    certificates.ensure(&names[0], &names).unwrap();
    let own_folder = certificates.folder(&names[0]);
    let expected = [
        (root.clone(), 0o711, own),
        (root.join("certificates"), 0o711, own),
        (own_folder.clone(), 0o711, own),
        (own_folder.join("1"), 0o700, owner),
        (own_folder.join("1").join(CHAIN), 0o600, owner),
        (own_folder.join("1").join(KEY), 0o600, owner),
    ];
    for (path, mode, owner) in expected {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{}", path.display());
        assert_eq!((metadata.uid(), metadata.gid()), owner, "{}", path.display());
    }
}

#[test]
fn whatever_is_broken_is_put_aside_and_replaced_by_a_stand_in() {
    type Breaking = fn(&Scene);
    let breakings: [(&str, Breaking); 9] = [
        ("chain is cut off", |scene| cut(&scene.live(CHAIN))),
        ("key is cut off", |scene| cut(&scene.live(KEY))),
        ("chain is empty", |scene| fs::write(scene.live(CHAIN), "").unwrap()),
        ("key is empty", |scene| fs::write(scene.live(KEY), "").unwrap()),
        ("key is another one's", |scene| fs::write(scene.live(KEY), scene.pair().key).unwrap()),
        ("key is gone", |scene| fs::remove_file(scene.live(KEY)).unwrap()),
        ("chain is a link", |scene| {
            fs::remove_file(scene.live(CHAIN)).unwrap();
            symlink("/etc/passwd", scene.live(CHAIN)).unwrap();
        }),
        ("chain is a folder", |scene| {
            fs::remove_file(scene.live(CHAIN)).unwrap();
            fs::create_dir(scene.live(CHAIN)).unwrap();
        }),
        ("key is a pipe", |scene| {
            fs::remove_file(scene.live(KEY)).unwrap();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, scene.live(KEY), kind, mode, 0).unwrap();
        }),
    ];
    for (what, breaking) in breakings {
        let scene = Scene::new();
        scene.install(&scene.pair()).unwrap();
        breaking(&scene);
        let found = scene.look();
        let Found::Broken(words) = &found else { panic!("{what}: {found:?}") };
        assert!(!words.is_empty());
        let ensured = scene.ensure();
        assert_eq!(ensured, Ensured::Replaced { words: words.clone() }, "{what}");
        assert!(matches!(scene.look(), Found::StandIn(_)), "{what}");
        assert_eq!(scene.entries(), ["2", BROKEN, LIVE], "{what}");
        // A second one takes the first one's place.
        cut(&scene.live(CHAIN));
        let broken = fs::read(scene.live(CHAIN)).unwrap();
        scene.ensure();
        assert_eq!(fs::read(scene.own().join(BROKEN).join(CHAIN)).unwrap(), broken, "{what}");
        // And what is issued then is served.
        let pair = scene.pair();
        scene.install(&pair).unwrap();
        assert!(scene.is_live(&pair), "{what}");
    }
}

fn cut(path: &Path) {
    let bytes = fs::read(path).expect("a file");
    fs::write(path, &bytes[..bytes.len() / 4]).expect("a file");
}

#[test]
fn a_folder_or_a_dangling_link_in_the_place_of_live_is_replaced() {
    let scene = Scene::new();
    fs::create_dir_all(scene.own().join(LIVE)).unwrap();
    fs::write(scene.live(CHAIN), "mine").unwrap();
    assert!(matches!(scene.ensure(), Ensured::Replaced { .. }));
    assert!(matches!(scene.look(), Found::StandIn(_)));
    assert_eq!(fs::read_to_string(scene.own().join(BROKEN).join(CHAIN)).unwrap(), "mine");
    fs::remove_file(scene.own().join(LIVE)).unwrap();
    symlink("9", scene.own().join(LIVE)).unwrap();
    assert_eq!(scene.look(), Found::Missing);
    scene.ensure();
    assert!(matches!(scene.look(), Found::StandIn(_)));
}

#[test]
fn an_expired_certificate_stays_until_there_is_a_better_one() {
    let scene = Scene::new();
    let expired = scene.signer.sign(&["site.test"], &KeyPair::generate().unwrap(), -10, -1);
    scene.install(&scene.pair()).unwrap();
    fs::write(scene.live(CHAIN), &expired.chain).unwrap();
    fs::write(scene.live(KEY), &expired.key).unwrap();
    // As if it had been installed before it expired.
    let digest = Sha256::new().chain_update(&expired.chain).chain_update([0]).chain_update(&expired.key).finalize();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(scene.live("digest"), digest).unwrap();
    assert!(matches!(scene.look(), Found::Issued(_)));
    assert_eq!(scene.ensure(), Ensured::Kept);
    assert!(scene.is_live(&expired));
}

#[test]
fn what_is_not_fit_changes_nothing() {
    let scene = Scene::new();
    let good = scene.pair();
    scene.install(&good).unwrap();
    let before = everything(scene.folder.path());
    let other = scene.pair();
    let expired = scene.signer.sign(&["site.test", "www.site.test"], &KeyPair::generate().unwrap(), -10, -1);
    let unfit = [
        Pair { key: other.key.clone(), ..good.clone() },
        Pair { chain: other.chain[..other.chain.len() - 40].to_owned(), ..other.clone() },
        Pair { chain: String::new(), ..other.clone() },
        Pair { key: String::new(), ..other },
        expired,
        scene.signer.issue(&["site.test"]),
    ];
    for pair in &unfit {
        assert!(matches!(scene.install(pair), Err(store::Error::Unfit(_))));
    }
    assert_eq!(before, everything(scene.folder.path()));
}

#[test]
fn the_pair_before_can_be_taken_up_again() {
    let scene = Scene::new();
    assert!(!scene.certificates.go_back(&scene.name).unwrap(), "there is nothing");
    let (old, new) = (scene.pair(), scene.pair());
    scene.install(&old).unwrap();
    assert!(!scene.certificates.go_back(&scene.name).unwrap(), "there is nothing before");
    scene.install(&new).unwrap();
    assert!(scene.certificates.go_back(&scene.name).unwrap());
    assert!(scene.is_live(&old));
    assert_eq!(fs::read_to_string(scene.own().join(BROKEN).join(CHAIN)).unwrap(), new.chain);
    assert!(!scene.certificates.go_back(&scene.name).unwrap());
    scene.install(&new).unwrap();
    assert!(scene.is_live(&new));
}

#[test]
fn pairs_are_written_as_openssl_writes_them() {
    let scene = Scene::new();
    let with = "-newkey rsa:2048 -nodes -days 30 -subj /CN=site.test";
    let names = "subjectAltName=DNS:site.test,DNS:www.site.test";
    let arguments = format!("req -x509 {with} -addext {names} -keyout key.pem -out chain.pem");
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(scene.folder.path()).output();
    assert!(output.expect("openssl is not there: apt-get install openssl").status.success());
    let read = |name: &str| fs::read_to_string(scene.folder.path().join(name)).unwrap();
    let pair = Pair { chain: read("chain.pem"), key: read("key.pem") };
    // What stands around it, and how lines end, is the operator's.
    let decorated = Pair { chain: format!("Bag Attributes\n\n{}", pair.chain), key: pair.key.replace('\n', "\r\n") };
    scene.install(&decorated).unwrap();
    assert!(scene.is_live(&pair));
    assert!(matches!(scene.look(), Found::Issued(_)));
}

#[test]
fn the_last_two_versions_are_kept() {
    let scene = Scene::new();
    for _ in 0..5 {
        scene.install(&scene.pair()).unwrap();
    }
    assert_eq!(scene.entries(), ["4", "5", LIVE]);
}

#[test]
fn a_crash_anywhere_leaves_the_old_pair_and_the_next_one_cleans_up() {
    let scene = Scene::new();
    let old = scene.pair();
    scene.install(&old).unwrap();
    let half = scene.pair();
    // While the new pair was being written.
    let temporary = scene.own().join(".new-abcdef");
    fs::create_dir(&temporary).unwrap();
    fs::write(temporary.join(CHAIN), &half.chain[..100]).unwrap();
    assert!(scene.is_live(&old));
    assert_eq!(scene.ensure(), Ensured::Kept);
    // After it was named, before the link was replaced; and while the link was being made.
    fs::create_dir(scene.own().join("2")).unwrap();
    fs::write(scene.own().join("2").join(CHAIN), &half.chain).unwrap();
    fs::write(scene.own().join("2").join(KEY), &half.key).unwrap();
    symlink("2", scene.own().join(".new-live")).unwrap();
    assert!(scene.is_live(&old));
    assert_eq!(scene.ensure(), Ensured::Kept);
    let new = scene.pair();
    scene.install(&new).unwrap();
    assert!(scene.is_live(&new));
    assert_eq!(scene.entries(), ["1", "3", LIVE], "the pair before is kept, what the crash left is gone");
}

#[test]
fn chain_and_key_are_replaced_together() {
    let scene = Scene::new();
    scene.install(&scene.pair()).unwrap();
    let pairs: Vec<Pair> = (0..20).map(|_| scene.pair()).collect();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                // As a web server does: the folder is resolved once.
                let Ok(version) = fs::read_link(scene.own().join(LIVE)) else { panic!("live is gone") };
                let folder = scene.own().join(version);
                let read = |file| fs::read(folder.join(file));
                if let (Ok(chain), Ok(key)) = (read(CHAIN), read(KEY)) {
                    let fit = stead_acme::check(&chain, &key, &scene.names, jiff::Timestamp::now());
                    assert!(fit.is_ok(), "{fit:?}");
                    looks += 1;
                }
            }
            looks
        });
        for pair in &pairs {
            scene.install(pair).unwrap();
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn stapling_is_for_certificates_that_name_a_responder() {
    let scene = Scene::new();
    scene.install(&scene.pair()).unwrap();
    assert!(!scene.live(OCSP).exists());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["site.test".into(), "www.site.test".into()]).unwrap();
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(30);
    // AuthorityInfoAccess (RFC 5280, section 4.2.2.1) with one OCSP responder, `http://o.test`.
    let access = [
        &[0x30, 0x1b, 0x30, 0x19, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x86, 0x0d][..],
        b"http://o.test",
    ]
    .concat();
    params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
    let pair = Pair { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
    scene.install(&pair).unwrap();
    let directives = fs::read_to_string(scene.live(OCSP)).unwrap();
    assert_eq!(directives, "ssl_stapling on;\nssl_stapling_verify off;\n");
}

#[test]
fn files_of_an_operator_are_copied_when_they_changed_and_fit() {
    let scene = Scene::new();
    let place = |name: &str| scene.folder.path().join(name);
    let declared = Files {
        certificate: place("mine.pem").to_str().unwrap().parse().unwrap(),
        key: place("mine.key").to_str().unwrap().parse().unwrap(),
        site: "site.test".into(),
    };
    let sync = || files::sync(&scene.certificates, &scene.name, &scene.names, &declared);
    let write = |pair: &Pair| {
        fs::write(place("mine.pem"), &pair.chain).unwrap();
        fs::write(place("mine.key"), &pair.key).unwrap();
    };
    let missing = sync().unwrap_err();
    assert!(matches!(missing, files::Error::Read(_)));
    assert!(missing.to_string().contains("mine.pem"), "{missing}");
    let pair = scene.pair();
    write(&pair);
    assert!(matches!(sync().unwrap(), Synced::Installed(_)));
    assert_eq!(sync().unwrap(), Synced::Unchanged);
    assert_eq!(scene.entries(), ["1", LIVE]);
    fs::write(place("mine.key"), scene.pair().key).unwrap();
    let unfit = sync().unwrap_err();
    assert!(matches!(&unfit, files::Error::Unfit { unfit: Unfit::Mismatch, .. }));
    assert!(unfit.to_string().ends_with("mine.key: the key does not belong to the certificate"), "{unfit}");
    assert!(scene.is_live(&pair));
    let next = scene.pair();
    write(&next);
    assert!(matches!(sync().unwrap(), Synced::Installed(_)));
    assert!(scene.is_live(&next));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn wherever_a_file_is_cut_off_there_is_a_pair_to_load_afterwards(place in any::<Index>(), in_key in any::<bool>()) {
        let scene = Scene::new();
        scene.install(&scene.pair()).unwrap();
        let path = scene.live(if in_key { KEY } else { CHAIN });
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..place.index(bytes.len())]).unwrap();
        scene.ensure();
        let (chain, key) = (fs::read(scene.live(CHAIN)).unwrap(), fs::read(scene.live(KEY)).unwrap());
        let fit = stead_acme::check(&chain, &key, &scene.names, jiff::Timestamp::now());
        prop_assert!(fit.is_ok(), "{:?}", fit);
    }

    #[test]
    fn no_changed_byte_is_overlooked(place in any::<Index>(), byte in any::<u8>(), in_key in any::<bool>()) {
        let scene = Scene::new();
        scene.install(&scene.pair()).unwrap();
        let path = scene.live(if in_key { KEY } else { CHAIN });
        let mut bytes = fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        fs::write(&path, &bytes).unwrap();
        prop_assert!(matches!(scene.look(), Found::Broken(_)), "byte {place} is {byte:#x} now");
    }
}
