//! Certificates from a real authority: pebble, with its random rejections of nonces left on.
//!
//! Every test has its own pebble, DNS and web server, on loopback.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use jiff::Timestamp;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use stead_acme::{Accounts, Certificates, Due, Found, Issued, Refused, WebRoot, check, due, obtain};
use stead_model::certificate::{Authority, KeyType};
use support::{authority, declared, domains};
use tempfile::TempDir;
use xtask::pebble::{Options, Pebble};

const WITHIN: Duration = Duration::from_secs(60);

/// A server's folder, its web server, and an authority.
struct Scene {
    pebble: Pebble,
    folder: TempDir,
    accounts: Accounts,
    web_root: WebRoot,
}

impl Scene {
    fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let web_root = WebRoot(folder.path().join("challenges"));
        let http_port = match options.http_port {
            0 => support::serve(web_root.0.clone()),
            port => port,
        };
        let pebble = Pebble::start(Options { http_port, ..options });
        let accounts = Accounts::open(folder.path()).expect("a folder");
        Self { pebble, folder, accounts, web_root }
    }

    fn authority(&self) -> Authority {
        authority(&self.pebble.directory(), self.pebble.roots())
    }

    fn obtain(&self, names: &[&str]) -> Result<Issued, Refused> {
        self.obtain_from(names, &self.authority())
    }

    fn obtain_from(&self, names: &[&str], authority: &Authority) -> Result<Issued, Refused> {
        obtain(&declared(names, authority), authority, &self.accounts, &self.web_root, None, WITHIN)
    }

    /// The files of accounts, with what is in them.
    fn accounts(&self) -> Vec<(PathBuf, String)> {
        let mut files: Vec<_> = fs::read_dir(self.folder.path().join("accounts"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| (path.clone(), fs::read_to_string(path).expect("a file")))
            .collect();
        files.sort();
        files
    }

    fn answers(&self) -> usize {
        let folder = self.web_root.0.join(".well-known/acme-challenge");
        fs::read_dir(folder).map_or(0, Iterator::count)
    }
}

#[test]
fn a_certificate_is_issued_and_installed() {
    let scene = Scene::new(Options::default());
    let issued = scene.obtain(&["site.test"]).unwrap();
    let certificates = Certificates::open(scene.folder.path(), None).unwrap();
    let names = domains(&["site.test"]);
    certificates.install(&names[0], &names, issued.chain.as_bytes(), issued.key.as_bytes()).unwrap();
    let found = certificates.look(&names[0]);
    let Found::Issued(details) = &found else { panic!("{found:?}") };
    assert_eq!(details.names, ["site.test"]);
    assert!(details.issuer.contains("Pebble"), "{}", details.issuer);
    assert_eq!(due(&found, &declared(&["site.test"], &scene.authority()), Timestamp::now(), None), None);
    assert_eq!(scene.answers(), 0, "answers are taken away");
}

#[test]
fn one_certificate_is_for_several_names() {
    let scene = Scene::new(Options::default());
    let names = ["site.test", "www.site.test", "alias.test", "xn--bcher-kva.test"];
    let issued = scene.obtain(&names).unwrap();
    let details = check(issued.chain.as_bytes(), issued.key.as_bytes(), &domains(&names), Timestamp::now()).unwrap();
    assert_eq!(details.names.len(), 4);
    assert_eq!(scene.answers(), 0);
}

#[test]
fn every_kind_of_key_is_issued_for() {
    let scene = Scene::new(Options::default());
    for kind in [KeyType::Ec256, KeyType::Ec384, KeyType::Rsa2048, KeyType::Rsa4096] {
        let authority = Authority { key_type: kind, ..scene.authority() };
        let issued = scene.obtain_from(&["site.test"], &authority).unwrap();
        let details =
            check(issued.chain.as_bytes(), issued.key.as_bytes(), &domains(&["site.test"]), Timestamp::now()).unwrap();
        assert_eq!(details.key_type, Some(kind));
    }
}

#[test]
fn an_account_is_made_once_and_readable_for_its_owner_only() {
    let scene = Scene::new(Options::default());
    scene.obtain(&["a.test"]).unwrap();
    let before = scene.accounts();
    scene.obtain(&["b.test"]).unwrap();
    assert_eq!(before, scene.accounts());
    assert_eq!(before.len(), 1);
    assert_eq!(fs::metadata(&before[0].0).unwrap().permissions().mode() & 0o777, 0o600);
    let other = Authority { email: None, ..scene.authority() };
    scene.obtain_from(&["c.test"], &other).unwrap();
    assert_eq!(scene.accounts().len(), 2, "another address is another account");
}

#[test]
fn an_account_that_the_authority_does_not_know_is_made_anew() {
    let mut scene = Scene::new(Options::default());
    scene.obtain(&["a.test"]).unwrap();
    let before = scene.accounts();
    scene.pebble.restart();
    scene.obtain(&["a.test"]).unwrap();
    let after = scene.accounts();
    assert_eq!(after.len(), 1);
    assert_ne!(before, after);
}

#[test]
fn an_account_that_was_deactivated_is_made_anew() {
    let scene = Scene::new(Options::default());
    scene.obtain(&["a.test"]).unwrap();
    let before = scene.accounts();
    stead_acme::authority::deactivate(&scene.authority(), &scene.accounts, WITHIN).unwrap();
    assert_eq!(before, scene.accounts(), "the file is still there");
    scene.obtain(&["a.test"]).unwrap();
    assert_ne!(before, scene.accounts());
}

#[test]
fn an_account_file_that_is_damaged_is_put_aside() {
    let scene = Scene::new(Options::default());
    scene.obtain(&["a.test"]).unwrap();
    fs::write(&scene.accounts()[0].0, "{\"directory\":").unwrap();
    scene.obtain(&["a.test"]).unwrap();
    let names: Vec<_> = scene.accounts().iter().map(|(path, _)| path.extension().unwrap().to_owned()).collect();
    assert_eq!(names, ["broken", "json"]);
}

#[test]
fn an_authority_that_is_down_is_unreachable() {
    let mut scene = Scene::new(Options::default());
    let authority = scene.authority();
    scene.pebble.stop();
    let refused = scene.obtain_from(&["a.test"], &authority).unwrap_err();
    assert!(
        matches!(&refused, Refused::Unreachable { directory, .. } if *directory == authority.directory),
        "{refused:?}"
    );
    assert_eq!(scene.accounts().len(), 0);
}

#[test]
fn an_authority_whose_https_is_not_trusted_is_unreachable() {
    let scene = Scene::new(Options::default());
    let authority = Authority { roots: Some(support::Signer::new().pem().to_owned()), ..scene.authority() };
    let refused = scene.obtain_from(&["a.test"], &authority).unwrap_err();
    assert!(matches!(refused, Refused::Unreachable { .. }), "{refused:?}");
    let authority = Authority { roots: Some("no certificate".into()), ..scene.authority() };
    let refused = scene.obtain_from(&["a.test"], &authority).unwrap_err();
    assert!(matches!(refused, Refused::Roots(_)), "{refused:?}");
    let directory = scene.pebble.directory().replace("https://", "http://");
    let refused = scene.obtain_from(&["a.test"], &Authority { directory, ..scene.authority() }).unwrap_err();
    assert!(matches!(refused, Refused::Unreachable { .. }), "{refused:?}");
}

#[test]
fn a_name_without_dns_is_refused_in_the_authority_s_words() {
    let scene = Scene::new(Options::default());
    scene.pebble.fail_dns("nowhere.test");
    let refused = scene.obtain(&["site.test", "nowhere.test"]).unwrap_err();
    let Refused::Validation { failed } = &refused else { panic!("{refused:?}") };
    let failed: Vec<_> = failed.iter().filter(|one| one.name == "nowhere.test").collect();
    assert_eq!(failed.len(), 1, "{refused}");
    assert!(failed[0].words.contains("nowhere.test"), "{refused}");
    assert_eq!(scene.answers(), 0);
}

#[test]
fn a_name_that_leads_elsewhere_is_refused_in_the_authority_s_words() {
    let scene = Scene::new(Options::default());
    scene.pebble.resolve("elsewhere.test", &[Ipv4Addr::new(127, 0, 0, 2)]);
    let refused = scene.obtain(&["elsewhere.test"]).unwrap_err();
    let Refused::Validation { failed } = &refused else { panic!("{refused:?}") };
    assert_eq!(failed[0].name, "elsewhere.test");
    assert!(failed[0].words.contains("127.0.0.2"), "{refused}");
}

#[test]
fn a_site_that_does_not_answer_is_refused_in_the_authority_s_words() {
    let empty = tempfile::tempdir().unwrap();
    let port = support::serve(empty.path().to_owned());
    let scene = Scene::new(Options { http_port: port, ..Options::default() });
    let refused = scene.obtain(&["site.test"]).unwrap_err();
    let Refused::Validation { failed } = &refused else { panic!("{refused:?}") };
    assert_eq!(failed[0].name, "site.test");
    assert!(failed[0].words.contains("404"), "{refused}");
    assert_eq!(scene.answers(), 0);
}

#[test]
fn an_address_that_the_authority_refuses_is_told() {
    let scene = Scene::new(Options::default());
    let authority = Authority { email: Some("not an address".into()), ..scene.authority() };
    let refused = scene.obtain_from(&["site.test"], &authority).unwrap_err();
    assert!(matches!(&refused, Refused::Account(words) if !words.is_empty()), "{refused:?}");
    assert_eq!(scene.accounts().len(), 0);
}

#[test]
fn a_short_lived_certificate_is_due_in_time_and_renewed() {
    let scene = Scene::new(Options { validity: 3600, ..Options::default() });
    let certificates = Certificates::open(scene.folder.path(), None).unwrap();
    let (names, declared) = (domains(&["site.test"]), declared(&["site.test"], &scene.authority()));
    let issued = scene.obtain(&["site.test"]).unwrap();
    certificates.install(&names[0], &names, issued.chain.as_bytes(), issued.key.as_bytes()).unwrap();
    let found = certificates.look(&names[0]);
    let now = Timestamp::now();
    assert_eq!(due(&found, &declared, now, None), None);
    let later = Timestamp::from_second(now.as_second() + 2500).unwrap();
    assert_eq!(due(&found, &declared, later, None), Some(Due::Days(0)));
    let replaces = certificates.chain(&names[0]).unwrap();
    let authority = scene.authority();
    let renewed = obtain(&declared, &authority, &scene.accounts, &scene.web_root, replaces.as_deref(), WITHIN).unwrap();
    assert_ne!(issued.chain, renewed.chain);
    assert_ne!(issued.key, renewed.key, "every certificate has a new key");
}

#[test]
fn many_certificates_side_by_side_share_one_account() {
    let scene = Scene::new(Options::default());
    let names: Vec<String> = (0..20).map(|number| format!("site-{number}.test")).collect();
    let (queue, scene) = (std::sync::Mutex::new(names.iter()), &scene);
    let issued = thread::scope(|scope| {
        let work = || {
            let mut issued = 0;
            while let Some(name) = { queue.lock().unwrap().next() } {
                scene.obtain(&[name]).unwrap_or_else(|refused| panic!("{name}: {refused:?}\n{}", scene.pebble.log()));
                issued += 1;
            }
            issued
        };
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>()
    });
    assert_eq!(issued, 20);
    assert_eq!(scene.accounts().len(), 1);
    let log = scene.pebble.log();
    assert!(log.contains("There are now 1 accounts"), "{log}");
    assert!(!log.contains("There are now 2 accounts"), "{log}");
    assert_eq!(scene.answers(), 0);
}

#[test]
fn a_certificate_is_issued_however_often_nonces_are_refused() {
    let environment = vec![("PEBBLE_WFE_NONCEREJECT", "30".to_owned())];
    let scene = Scene::new(Options { environment, ..Options::default() });
    for name in ["a.test", "b.test", "c.test", "d.test"] {
        scene.obtain(&[name, "shared.test"]).unwrap();
    }
}

#[test]
fn it_ends_within_its_time() {
    let scene = Scene::new(Options::default());
    let authority = scene.authority();
    let declared = declared(&["site.test"], &authority);
    let nothing = Duration::ZERO;
    let refused = obtain(&declared, &authority, &scene.accounts, &scene.web_root, None, nothing).unwrap_err();
    assert!(matches!(refused, Refused::TimedOut(_)), "{refused:?}");
}
