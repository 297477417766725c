//! Promises of secrets in a plan.

use crate::testing::{Fixture, everything, file, is_whole};
use crate::{Sealed, Standing};
use stead_model::name::{CredentialName, SecretName, VariableName};
use stead_model::secret::Version;

const KEY: &str = "/@stead/secrets/key/@";

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn variable(text: &str) -> VariableName {
    text.parse().unwrap()
}

fn credential(text: &str) -> CredentialName {
    text.parse().unwrap()
}

fn sealed(version: u8) -> Sealed {
    let content = format!("encrypted {version}").into_bytes();
    Sealed { content, version: Version::from_bytes([version; 16]), standing: Standing::Granted }
}

/// Two sites, whose app is given a key in a variable, and a file with two secrets.
fn with_secrets() -> Fixture {
    let mut fixture = Fixture::two_sites();
    fixture.secrets.insert(name("key"), sealed(1));
    fixture.secrets.insert(name("password"), sealed(2));
    fixture.secrets.insert(name("unused"), sealed(3));
    fixture.app().environment.insert(variable("SECRET_KEY_BASE"), KEY.to_owned());
    fixture.app().credentials.insert(credential("database"), format!("db://x:/@stead/secrets/password/@@{KEY}/y"));
    fixture
}

fn unit(fixture: &Fixture) -> String {
    file(&fixture.plan(), "units/stead-bill-tracker@", ".service")
}

#[test]
fn a_service_is_given_its_secrets_by_systemd_and_kept_out_of_disks() {
    let fixture = with_secrets();
    let unit = unit(&fixture);
    for line in ["EnvironmentFile=/run/stead/secrets/", "LoadCredential=database:/run/stead/secrets/"] {
        assert_eq!(unit.lines().filter(|found| found.starts_with(line)).count(), 1, "{unit}");
    }
    for line in
        ["MemorySwapMax=0", "LimitCORE=1", "Environment=ERL_CRASH_DUMP_SECONDS=0", "Wants=stead-secrets.service"]
    {
        assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
    }
    assert!(unit.lines().any(|line| line.starts_with("After=") && line.contains("stead-secrets.service")), "{unit}");
    let planned = fixture.plan();
    assert!(is_whole(&planned));
    let secrets = &planned.generation.secrets;
    assert_eq!(secrets.versions.keys().collect::<Vec<_>>(), [&name("key"), &name("password")]);
    assert_eq!(secrets.files.len(), 2);
    assert_eq!(file(&planned, "secrets/key", ".age"), "encrypted 1");
    assert!(!everything(&planned).contains("encrypted 3"), "what nobody uses is not sent");
    assert!(!everything(&planned).contains("/@stead/"));
}

#[test]
fn without_secrets_nothing_of_them_is_there() {
    let planned = Fixture::two_sites().plan();
    assert!(planned.generation.secrets.is_empty());
    assert!(!everything(&planned).contains("secrets"));
    assert!(!serde_json::to_string(&planned.generation).unwrap().contains("\"secrets\""));
}

#[test]
fn a_changed_secret_changes_exactly_the_units_that_use_it() {
    let names = |fixture: &Fixture| fixture.plan().generation.units.keys().map(ToString::to_string).collect::<Vec<_>>();
    let before = with_secrets();
    let differing = |changed: &Fixture| {
        let before = names(&before);
        names(changed).into_iter().filter(|name| !before.contains(name)).collect::<Vec<_>>()
    };
    let mut changed = with_secrets();
    changed.secrets.insert(name("key"), sealed(9));
    let different = differing(&changed);
    assert!(matches!(different.as_slice(), [one] if one.starts_with("stead-bill-tracker@")), "{different:?}");
    // Encrypted anew: another file, the same value.
    let mut rekeyed = with_secrets();
    rekeyed.secrets.get_mut("key").unwrap().content = b"for others".to_vec();
    assert!(differing(&rekeyed).is_empty());
    assert_ne!(rekeyed.plan().generation.id(), before.plan().generation.id());
    let mut unused = with_secrets();
    unused.secrets.insert(name("unused"), sealed(8));
    assert_eq!(unused.plan().generation.id(), before.plan().generation.id());
}

#[test]
fn nginx_reads_passwords_from_a_file_of_its_own() {
    let mut fixture = with_secrets();
    fixture.site("nick.example").basic_auth_file = Some(KEY.parse().unwrap());
    let planned = fixture.plan();
    let site = file(&planned, "nginx/sites/nick.example", ".conf");
    let (id, file) = planned.generation.secrets.files.iter().find(|(_, file)| file.owner.is_some()).unwrap();
    assert!(site.contains(&format!("auth_basic_user_file /run/stead/secrets/{id};")), "{site}");
    assert_eq!(file.owner.as_ref().unwrap().as_str(), "www-data");
    let mut changed = fixture.clone();
    changed.secrets.insert(name("key"), sealed(9));
    let nginx = |fixture: &Fixture| fixture.plan().generation.nginx.unwrap();
    assert_eq!(nginx(&changed).unit, nginx(&fixture).unit, "a changed password is a reload");
    assert_ne!(nginx(&changed).configuration, nginx(&fixture).configuration);
}

#[test]
fn what_is_missing_or_not_for_this_server_is_named_with_what_to_do() {
    let mut fixture = with_secrets();
    fixture.secrets.remove("key");
    assert_eq!(
        fixture.error(),
        "apps.bill-tracker.environment.SECRET_KEY_BASE: there is no secret `key`; make it with `stead secret set key`"
    );
    let mut fixture = with_secrets();
    fixture.secrets.get_mut("password").unwrap().standing = Standing::NotGranted;
    assert!(fixture.error().contains("apps.bill-tracker.credentials.database: the server"), "{}", fixture.error());
    assert!(fixture.error().contains("may not read the secret `password`"));
    let mut fixture = with_secrets();
    fixture.secrets.get_mut("password").unwrap().standing = Standing::NotKeyed;
    assert!(fixture.error().contains("stead secret rekey"), "{}", fixture.error());
}

#[test]
fn a_secret_stands_nowhere_where_it_could_be_read() {
    let mut fixture = with_secrets();
    fixture.app().exec = format!("bin/bill_tracker --key {KEY}");
    assert!(fixture.error().starts_with("apps.bill-tracker.exec: a secret would be readable"), "{}", fixture.error());
    let mut fixture = with_secrets();
    fixture.app().environment.insert(variable("X"), "/@stead/secrets/../@".to_owned());
    assert!(fixture.error().contains("not supported"), "{}", fixture.error());
}

#[test]
fn words_around_a_secret_are_places_on_the_server_too() {
    let mut fixture = with_secrets();
    let text = format!("/@stead/inputs/portfolio/ca.pem:{KEY}");
    fixture.app().environment.insert(variable("X"), text.clone());
    fixture.app().credentials.insert(credential("x"), text);
    let planned = fixture.plan();
    let written = serde_json::to_string(&planned.generation.secrets.files).unwrap();
    assert!(!written.contains("/@stead/") && written.contains("/var/lib/stead/trees/"), "{written}");
    assert!(unit(&fixture).contains("BindReadOnlyPaths=/var/lib/stead/trees/"), "what is named is bound");
}
