//! Both halves of a transfer, against each other, over pipes and real stores.

#[cfg(test)]
#[path = "support/pipes.rs"]
mod pipes;
#[cfg(test)]
mod support;

#[cfg(test)]
mod tests {
    use crate::pipes::*;
    use crate::support::*;
    use proptest::prelude::*;
    use std::io::Read;
    use std::path::Path;
    use stead_model::generation::{Generation, RuntimeRecipe};
    use stead_model::hash::{Hash, Sha256};
    use stead_model::lock::LockedPackage;
    use stead_model::tree::{Entry, Object};
    use stead_remote::cache::{Cache, KEPT};
    use stead_remote::frame::Connection;
    use stead_remote::message::{Failure, Reply};
    use stead_remote::transfer::{ReceiveError, SendError, Sent};
    use stead_store::{Kind, Store};

    fn small_site() -> Operator {
        let files = [("index.html", page(300, 1)), ("a/b.css", page(120, 2)), ("p.jpg", noise(60, 3))];
        Operator::with_site(&files.map(|(path, bytes)| (path.to_owned(), bytes)))
    }

    fn stage(root: &Path, operator: &Operator, base: Option<&Operator>) -> (Sent, u64) {
        let base = base.map(|base| base.base(64 << 10));
        let outcome = exchange(root, operator.shipment(base.as_ref()));
        let id = operator.generation.id();
        assert!(matches!(outcome.last, Ok(Reply::Staged { generation }) if generation == id), "{:?}", outcome.last);
        assert_eq!(outcome.received.unwrap(), operator.generation);
        (outcome.sent.unwrap(), outcome.bytes)
    }

    fn content(root: &Path, operator: &Operator, path: &str) -> Vec<u8> {
        let store = Store::open(&root.join("state")).unwrap();
        let tree = operator.trees.keys().next().unwrap();
        std::fs::read(store.realised_path(Kind::Tree, tree).join(path)).unwrap()
    }

    fn damage(root: &Path) -> String {
        format!("{:?}", Store::open(&root.join("state")).unwrap().verify().unwrap())
    }

    #[test]
    fn a_first_transfer_brings_everything_and_the_same_again_brings_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let operator = Operator::with_site(&site());
        let (sent, bytes) = stage(folder.path(), &operator, None);
        assert_eq!((sent.eager, sent.objects), (0, 201));
        assert!(bytes < sent.bytes, "{bytes} bytes for {}", sent.bytes);
        assert_eq!(content(folder.path(), &operator, "blog/007/index.html"), page(4_077, 7));
        assert_eq!(damage(folder.path()), "[]");
        let (sent, bytes) = stage(folder.path(), &operator, Some(&operator));
        assert_eq!(sent, Sent::default());
        assert!(bytes < 400, "{bytes}");
    }

    /// For the same change `rsync -az` (3.2.7) sends 6.7 kB: the list of 200 files is most of it.
    #[test]
    fn one_changed_page_costs_less_than_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let before = Operator::with_site(&site());
        stage(folder.path(), &before, None);
        let mut files = site();
        files[90].1.splice(2_000..2_010, b"another sentence".iter().copied());
        let after = Operator::with_site(&files);
        let (sent, bytes) = stage(folder.path(), &after, Some(&before));
        assert_eq!((sent.eager, sent.objects), (2, 0));
        assert!(bytes < 1_200, "{bytes}");
        assert_eq!(content(folder.path(), &after, &files[90].0), files[90].1);

        // A page that is new from end to end: the page, packed, and the same few hundred bytes.
        let mut files = site();
        files[90].1 = page(5_000, 77_777);
        let packed = zstd::encode_all(&files[90].1[..], 12).unwrap().len() as u64;
        let newer = Operator::with_site(&files);
        let (_, bytes) = stage(folder.path(), &newer, Some(&after));
        assert!(bytes < packed + 1_200, "{bytes} where the page takes {packed}");
    }

    #[test]
    fn a_client_that_remembers_nothing_sends_only_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        stage(folder.path(), &Operator::with_site(&site()), None);
        let mut files = site();
        files[3].1 = page(5_000, 9_999);
        let (sent, bytes) = stage(folder.path(), &Operator::with_site(&files), None);
        assert_eq!((sent.eager, sent.objects), (0, 2));
        assert!(bytes < 25_000, "{bytes}");
    }

    #[test]
    fn a_large_file_that_changed_is_sent_as_what_changed() {
        for remembers in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let film = noise(6 << 20, 5);
            let before = Operator::with_site(&[("film.mp4".to_owned(), film.clone())]);
            stage(folder.path(), &before, None);
            let mut changed = film;
            changed.splice(3_000_000..3_000_100, b"a new scene".iter().copied());
            let after = Operator::with_site(&[("film.mp4".to_owned(), changed.clone())]);
            let (sent, bytes) = stage(folder.path(), &after, remembers.then_some(&before));
            assert_eq!(sent.chunked, 1);
            assert!(bytes < 150_000, "{bytes}");
            assert_eq!(content(folder.path(), &after, "film.mp4"), changed);
        }
    }

    #[test]
    fn packages_come_from_the_operator_and_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let mut operator = small_site();
        operator.packages = folder.path().join("cache");
        std::fs::create_dir(&operator.packages).unwrap();
        let package = noise(300_000, 8);
        let sha256 = Sha256::of(&package);
        let path = operator.packages.join(sha256.to_string());
        std::fs::write(&path, &package).unwrap();
        let locked = LockedPackage {
            name: "nginx".parse().unwrap(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            size: package.len() as u64,
            sha256,
            path: String::new(),
            suite: "bookworm".to_owned(),
        };
        let recipe = RuntimeRecipe {
            label: "nginx".to_owned(),
            rules: 1,
            packages: vec![locked],
            mount_folders: Default::default(),
            mount_files: Default::default(),
        };
        operator.generation.runtimes.insert(recipe.id(), recipe);
        std::fs::write(&path, noise(300_000, 9)).unwrap();
        let outcome = exchange(folder.path(), operator.shipment(None));
        assert!(matches!(&outcome.received, Err(ReceiveError::Broken(failed)) if failed.kind == Failure::Mismatch));
        std::fs::write(&path, &package[1..]).unwrap();
        let outcome = exchange(folder.path(), operator.shipment(None));
        assert!(matches!(outcome.sent, Err(SendError::Changed { .. })), "{:?}", outcome.sent);
        std::fs::write(&path, &package).unwrap();
        let (sent, _) = stage(folder.path(), &operator, None);
        assert_eq!((sent.objects, sent.packages), (0, 1));
        let store = Store::open(&folder.path().join("state")).unwrap();
        assert_eq!(std::fs::read(store.package_path(sha256)).unwrap(), package);
        assert_eq!(stage(folder.path(), &operator, None).0.packages, 0);
    }

    #[test]
    fn an_object_that_is_not_what_its_hash_says_is_refused_with_words() {
        let folder = tempfile::tempdir().unwrap();
        let operator = small_site();
        let mut tampered = operator.clone();
        let victim = Hash::of(&page(300, 1));
        tampered.contents.insert(victim, page(300, 4));
        let outcome = exchange(folder.path(), tampered.shipment(None));
        assert!(
            matches!(&outcome.last, Ok(Reply::Failed(failed)) if failed.kind == Failure::Mismatch),
            "{:?}",
            outcome.last
        );
        let store = Store::open(&folder.path().join("state")).unwrap();
        assert!(!store.contains(Object::of(&page(300, 1))) && !store.contains(Object::of(&page(300, 4))));
        assert_eq!(damage(folder.path()), "[]");
        stage(folder.path(), &operator, None);
    }

    #[test]
    fn a_file_that_changes_or_vanishes_while_it_is_sent_is_named() {
        for (change, expected) in [
            (Some(page(400, 1)), "input portfolio: index.html changed"),
            (None, "cannot read input portfolio: index.html"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut operator = small_site();
            operator.contents.remove(&Hash::of(&page(300, 1)));
            if let Some(change) = change {
                operator.contents.insert(Hash::of(&page(300, 1)), change);
            }
            let outcome = exchange(folder.path(), operator.shipment(None));
            let error = outcome.sent.unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(matches!(outcome.received, Err(ReceiveError::Line(_))));
        }
    }

    #[test]
    fn what_cannot_fit_on_the_disk_is_refused_before_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut operator = small_site();
        let huge = Object { hash: Hash::of(b"huge"), size: 1 << 60, executable: false };
        operator.generation.files.entries.insert("huge".parse().unwrap(), Entry::File(huge));
        let outcome = exchange(folder.path(), operator.shipment(None));
        assert!(matches!(outcome.sent, Err(SendError::Failed(failed)) if failed.kind == Failure::FullDisk));
        assert!(matches!(outcome.received, Err(ReceiveError::Refused(_))));
    }

    #[test]
    fn a_base_that_the_server_does_not_have_is_refused_and_the_conversation_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (Operator::with_site(&site()), small_site());
        let base = before.base(64 << 10);
        let outcome = exchange(folder.path(), after.shipment(Some(&base)));
        assert!(matches!(outcome.sent, Err(SendError::Failed(failed)) if failed.kind == Failure::Damaged));
        assert!(matches!(outcome.received, Err(ReceiveError::Refused(_))));
    }

    #[test]
    fn a_line_that_drops_at_any_byte_is_an_error_and_leaves_no_half_object() {
        let operator = small_site();
        let bytes = record(operator.shipment(None));
        let folder = tempfile::tempdir().unwrap();
        for cut in 0..bytes.len() {
            let root = folder.path().join(cut.to_string());
            let result = agent(&mut Connection::new(&bytes[..cut], Vec::new()), &root);
            assert!(matches!(result, Err(ReceiveError::Line(_))), "{cut}: {result:?}");
            assert_eq!(damage(&root), "[]", "{cut}");
        }
        // What arrived before is used: the rest comes on top of it.
        let last = folder.path().join((bytes.len() - 1).to_string());
        assert_eq!(stage(&last, &operator, None).0.objects, 0);
    }

    #[test]
    fn any_altered_byte_is_refused_or_without_effect() {
        let operator = small_site();
        let bytes = record(operator.shipment(None));
        let folder = tempfile::tempdir().unwrap();
        for place in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[place] ^= 1 << (place % 8);
            let root = folder.path().join(place.to_string());
            let result = std::panic::catch_unwind(|| agent(&mut Connection::new(&altered[..], Vec::new()), &root));
            // Another known request than the one to stage is the one thing that the helper does not take.
            if let Ok(Ok(generation)) = result {
                assert_eq!(generation, operator.generation);
            }
            assert_eq!(damage(&root), "[]", "{place}");
        }
    }

    #[test]
    fn only_the_newest_generations_are_remembered_and_damage_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(&folder.path().join("cache"));
        let operator = small_site();
        cache.remember(&operator.generation, &operator.trees, &operator).unwrap();
        let id = operator.generation.id();
        assert_eq!(cache.recall(&id).unwrap(), operator.base(64 << 10));
        let path = folder.path().join("cache").join(id.to_string());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.recall(&id), None);
        for number in 0..KEPT + 3 {
            let generation = Generation::empty(format!("server-{number}").parse().unwrap());
            cache.remember(&generation, &Default::default(), &operator).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path().join("cache")).unwrap().count(), KEPT);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_is_changed_arrives(
            changes in proptest::collection::vec((0_usize..40, 0_usize..30_000, any::<u64>()), 0..12),
            removed in 0_usize..40,
            remembers in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut files: Vec<_> = site().into_iter().step_by(5).collect();
            let before = Operator::with_site(&files);
            stage(folder.path(), &before, None);
            for (file, length, seed) in changes {
                files[file].1 = page(length, seed);
            }
            files.remove(removed);
            let after = Operator::with_site(&files);
            stage(folder.path(), &after, remembers.then_some(&before));
            for (path, bytes) in &files {
                prop_assert_eq!(&content(folder.path(), &after, path), bytes);
            }
            prop_assert_eq!(damage(folder.path()), "[]");
        }

        #[test]
        fn arbitrary_bytes_after_an_offer_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..400) {
            let folder = tempfile::tempdir().unwrap();
            let recorded = record(small_site().shipment(None));
            let mut start = recorded[..cut.min(recorded.len())].to_vec();
            start.extend(&bytes);
            let mut connection = Connection::new((&start[..]).chain(&b""[..]), Vec::new());
            if cut > 250 {
                let _ = agent(&mut connection, folder.path());
            }
        }
    }
}
