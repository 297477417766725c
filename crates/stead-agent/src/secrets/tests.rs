//! Promises of secrets on the server, as far as no server is needed.

use super::*;
use std::time::Instant;
use stead_model::secret::Version;
use stead_secrets::key::PublicKey;

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn variable(text: &str) -> VariableName {
    text.parse().unwrap()
}

fn values(all: &[(&str, &[u8])]) -> Values {
    all.iter().map(|(text, value)| (name(text), Zeroizing::new(value.to_vec()))).collect()
}

fn environment(template: Template) -> SecretFile {
    let content = Content::Environment([(variable("KEY"), template)].into());
    SecretFile { option: "apps.web.environment".to_owned(), content, owner: None }
}

#[test]
fn an_environment_file_says_exactly_the_value() {
    let values = values(&[("a", b"p\"a$s`s\\w'ord\nnext\tx "), ("b", b"2")]);
    let template = vec![Part::Text("x-".into()), Part::Secret(name("a")), Part::Secret(name("b"))];
    let text = content(&environment(template), &values).unwrap();
    assert_eq!(String::from_utf8(text.to_vec()).unwrap(), "KEY=\"x-p\\\"a\\$s\\`s\\\\w'ord\nnext\tx 2\"\n");
}

#[test]
fn what_no_variable_can_hold_is_refused_and_not_shown() {
    let long = vec![b'x'; MAX_VARIABLE];
    for (value, problem) in [
        (&b"secret-\xff"[..], "not UTF-8"),
        (b"secret-\r\n", "control"),
        (b"secret-\0", "control"),
        ("secret-\u{fffe}".as_bytes(), "no character"),
        ("secret-\u{fdd0}".as_bytes(), "no character"),
        (&long, "longer"),
    ] {
        let error = content(&environment(vec![Part::Secret(name("a"))]), &values(&[("a", value)])).unwrap_err();
        let words = format!("{error} {error:?} {:?}", error.hint());
        assert!(words.contains(problem) && words.contains("apps.web.environment.KEY"), "{words}");
        assert!(!words.contains("secret-"), "{words}");
    }
    // A file takes any bytes.
    let file = SecretFile { content: Content::Text(vec![Part::Secret(name("a"))]), ..environment(Vec::new()) };
    assert_eq!(content(&file, &values(&[("a", b"\xff\0")])).unwrap().to_vec(), b"\xff\0");
}

/// An SSH key pair, made by `ssh-keygen(1)` as sshd's own are.
fn pair(folder: &Path) -> (PublicKey, Identity) {
    let file = folder.join("key");
    stead_host::run::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", file.to_str().unwrap()]).unwrap();
    let public = fs::read_to_string(folder.join("key.pub")).unwrap().parse().unwrap();
    let nobody: Asking = Arc::new(|_| None);
    (public, Identity::parse(&fs::read_to_string(&file).unwrap(), "key", &nobody).unwrap())
}

fn generation(folder: &Path, key: &PublicKey, count: u8) -> Generation {
    let mut generation = Generation::empty("one".parse().unwrap());
    fs::create_dir_all(folder.join("secrets")).unwrap();
    for number in 0..count {
        let (name, version) = (name(&format!("s{number}")), Version::from_bytes([number; 16]));
        let sealed = sealed::seal(format!("value {number}").as_bytes(), &[key], &version).unwrap();
        fs::write(folder.join(sealed_path(&name)), sealed).unwrap();
        generation.secrets.versions.insert(name, version);
    }
    generation
}

#[test]
fn all_secrets_open_with_the_host_key_or_the_one_that_does_not_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (public, identity) = pair(folder.path());
    let generation = generation(folder.path(), &public, 50);
    let began = Instant::now();
    let values = open_all(&generation, folder.path(), std::slice::from_ref(&identity)).unwrap();
    eprintln!("50 secrets were opened in {:?}", began.elapsed());
    assert_eq!(values.len(), 50);
    assert_eq!(values[&name("s7")].to_vec(), b"value 7");

    let other = tempfile::tempdir().unwrap();
    let (_, stranger) = pair(other.path());
    let error = open_all(&generation, folder.path(), &[stranger]).unwrap_err();
    assert!(error.to_string().contains("`s0` cannot be opened") && error.hint().unwrap().contains("rekey"), "{error}");

    let path = folder.path().join(sealed_path(&name("s3")));
    let mut text = fs::read_to_string(&path).unwrap();
    let place = text.len() - 60;
    let changed = if &text[place..=place] == "A" { "B" } else { "A" };
    text.replace_range(place..=place, changed);
    fs::write(&path, text).unwrap();
    let error = open_all(&generation, folder.path(), std::slice::from_ref(&identity)).unwrap_err();
    assert!(error.to_string().contains("`s3`"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = open_all(&generation, folder.path(), &[identity]).unwrap_err();
    assert!(error.to_string().contains("`s3` is not in the generation"), "{error}");
}
