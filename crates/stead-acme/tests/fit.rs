//! What is fit for a web server, and in which words it is told what is not: rcgen's and OpenSSL's certificates and keys.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use jiff::Timestamp;
use proptest::prelude::*;
use rcgen::KeyPair;
use std::fs;
use std::process::Command;
use stead_acme::{Details, Unfit, check};
use stead_model::certificate::KeyType;
use support::{Pair, Signer, domains};

fn checked(pair: &Pair, names: &[&str]) -> Result<Details, Unfit> {
    check(pair.chain.as_bytes(), pair.key.as_bytes(), &domains(names), Timestamp::now())
}

fn words(pair: &Pair, names: &[&str]) -> String {
    checked(pair, names).expect_err("it is not fit").to_string()
}

/// Runs OpenSSL in a folder.
fn openssl(folder: &tempfile::TempDir, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output();
    let output = output.expect("openssl is not there: apt-get install openssl");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_fitting_pair_tells_what_it_is() {
    let pair = Signer::new().issue(&["site.test", "*.site.test"]);
    let details = checked(&pair, &["site.test", "www.site.test"]).unwrap();
    assert_eq!(details.names, ["site.test", "*.site.test"]);
    assert_eq!(details.key_type, Some(KeyType::Ec256));
    assert!((89..=90).contains(&details.days_left(Timestamp::now())));
    assert!(details.issuer.contains("Authority of a test"));
    assert!(!details.is_self_signed && !details.has_ocsp);
}

#[test]
fn a_star_stands_for_one_label() {
    let pair = Signer::new().issue(&["*.site.test"]);
    assert!(checked(&pair, &["www.site.test"]).is_ok());
    assert_eq!(
        words(&pair, &["site.test", "a.b.site.test", "www.site.test"]),
        "the certificate is not for site.test, a.b.site.test, only for *.site.test"
    );
}

#[test]
fn a_key_of_another_certificate_does_not_fit() {
    let signer = Signer::new();
    let pair = Pair { key: signer.issue(&["site.test"]).key, ..signer.issue(&["site.test"]) };
    assert_eq!(words(&pair, &["site.test"]), "the key does not belong to the certificate");
}

#[test]
fn the_dates_of_a_certificate_are_told() {
    let (signer, key) = (Signer::new(), KeyPair::generate().unwrap());
    let now = Timestamp::now();
    let yesterday = Timestamp::from_second(now.as_second() - 24 * 60 * 60).unwrap().strftime("%Y-%m-%d").to_string();
    let expired = signer.sign(&["site.test"], &key, -10, -1);
    assert_eq!(words(&expired, &["site.test"]), format!("the certificate expired on {yesterday}"));
    let early = signer.sign(&["site.test"], &key, 2, 10);
    assert!(words(&early, &["site.test"]).starts_with("the certificate is not valid before 20"));
}

#[test]
fn the_order_of_the_chain_is_checked() {
    let (signer, other) = (Signer::new(), Signer::new());
    let pair = signer.issue(&["site.test"]);
    let leaf = pair.chain.strip_suffix(signer.pem()).unwrap();
    let turned = Pair { chain: format!("{}{leaf}", signer.pem()), ..pair.clone() };
    assert_eq!(
        words(&turned, &["site.test"]),
        "the chain is in the wrong order: the site's own certificate must come first, it is number 2"
    );
    // The same name, another key.
    let foreign = Pair { chain: format!("{leaf}{}", other.pem()), ..pair.clone() };
    assert_eq!(
        words(&foreign, &["site.test"]),
        "the chain is in the wrong order: certificate number 2 did not sign number 1"
    );
    let alone = Pair { chain: leaf.to_owned(), ..pair };
    assert!(checked(&alone, &["site.test"]).is_ok(), "a chain may end before its root");
}

#[test]
fn what_is_no_certificate_or_key_is_told() {
    let pair = Signer::new().issue(&["site.test"]);
    let with_chain = |chain: &str| words(&Pair { chain: chain.into(), ..pair.clone() }, &["site.test"]);
    let with_key = |key: &str| words(&Pair { key: key.into(), ..pair.clone() }, &["site.test"]);
    assert!(with_chain("").starts_with("there is no certificate in it"));
    assert!(with_chain(&pair.key).starts_with("there is no certificate in it"));
    assert_eq!(
        with_chain(&pair.chain[..pair.chain.len() - 30]),
        "the certificate cannot be read: its end is missing, it was cut off"
    );
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(with_chain(garbage).starts_with("certificate number 1 cannot be read"), "{}", with_chain(garbage));
    let later = with_chain(&format!("{}{garbage}", pair.chain));
    assert!(later.starts_with("certificate number 3 cannot be read"), "{later}");
    assert!(with_key("").starts_with("there is no private key in it"));
    assert!(with_key(&pair.chain).starts_with("there is no private key in it"));
    assert_eq!(
        with_key(&pair.key[..pair.key.len() - 30]),
        "the private key cannot be read: its end is missing, it was cut off"
    );
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(with_key(garbage).starts_with("the private key cannot be read"), "{}", with_key(garbage));
}

#[test]
fn keys_as_openssl_writes_them_fit() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let with = "-nodes -days 30 -subj /CN=site.test -addext subjectAltName=DNS:site.test";
    openssl(&folder, &format!("req -x509 -newkey rsa:2048 -keyout rsa8.pem -out rsa.crt {with}"));
    openssl(&folder, "rsa -traditional -in rsa8.pem -out rsa1.pem");
    openssl(&folder, "rsa -traditional -aes128 -passout pass:secret -in rsa8.pem -out rsa1-encrypted.pem");
    openssl(&folder, "pkcs8 -topk8 -passout pass:secret -in rsa8.pem -out rsa8-encrypted.pem");
    openssl(&folder, "ecparam -name secp384r1 -genkey -out ec1.pem");
    openssl(&folder, &format!("req -x509 -key ec1.pem -out ec.crt {with}"));
    openssl(&folder, "pkcs8 -topk8 -nocrypt -in ec1.pem -out ec8.pem");
    for (chain, key, kind, begin) in [
        ("rsa.crt", "rsa8.pem", KeyType::Rsa2048, "-----BEGIN PRIVATE KEY-----"),
        ("rsa.crt", "rsa1.pem", KeyType::Rsa2048, "-----BEGIN RSA PRIVATE KEY-----"),
        ("ec.crt", "ec8.pem", KeyType::Ec384, "-----BEGIN PRIVATE KEY-----"),
        ("ec.crt", "ec1.pem", KeyType::Ec384, "-----BEGIN EC PARAMETERS-----"),
    ] {
        let pair = Pair { chain: read(chain), key: read(key) };
        assert!(pair.key.starts_with(begin), "{key}");
        let details = checked(&pair, &["site.test"]).unwrap_or_else(|unfit| panic!("{key}: {unfit}"));
        assert_eq!(details.key_type, Some(kind));
        assert!(details.is_self_signed);
    }
    for key in ["rsa1-encrypted.pem", "rsa8-encrypted.pem"] {
        let pair = Pair { chain: read("rsa.crt"), key: read(key) };
        assert_eq!(checked(&pair, &["site.test"]).unwrap_err(), Unfit::EncryptedKey);
    }
    let pair = Pair { chain: read("rsa.crt"), key: read("ec8.pem") };
    assert_eq!(checked(&pair, &["site.test"]).unwrap_err(), Unfit::Mismatch);
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_there_is_an_answer(chain in any::<Vec<u8>>(), key in any::<Vec<u8>>()) {
        prop_assert!(check(&chain, &key, &[], Timestamp::now()).is_err());
    }

    #[test]
    fn a_changed_byte_never_makes_a_panic(place in any::<prop::sample::Index>(), byte in any::<u8>(), in_key in any::<bool>()) {
        let pair = Signer::new().issue(&["site.test"]);
        let (mut chain, mut key) = (pair.chain.into_bytes(), pair.key.into_bytes());
        let changed = if in_key { &mut key } else { &mut chain };
        let place = place.index(changed.len());
        changed[place] = byte;
        let names = domains(&["site.test"]);
        if let Ok(details) = check(&chain, &key, &names, Timestamp::now()) {
            prop_assert!(details.covers(&names));
        }
    }
}
