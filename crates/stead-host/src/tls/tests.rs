//! Promises of TLS, against real servers with every kind of certificate, and against ones that mean no good.

use super::*;
use crate::probe::{self, Answer, Need, Question};
use crate::testing::{Authority, GOOD, Shown, Talk, accept, say, say_all, self_signed, serve, well};
use std::io::BufRead;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

const LONG: Duration = Duration::from_secs(20);

fn question<'a>(trust: &'a Trust, demand: Demand) -> Question<'a> {
    let tls = Tls { name: "a.example", trust, demand };
    Question { host: "a.example", path: "/", timeout: LONG, need: Need::Whole, tls: Some(tls) }
}

fn ask(address: SocketAddr, trust: &Trust, demand: Demand) -> Result<Answer, ProbeError> {
    probe::get(address, question(trust, demand))
}

/// The way and words of a refusal, and what is told where any will do.
fn both(shown: Shown, trust: &Trust) -> (String, String, String) {
    let address = serve(shown, well);
    let error = ask(address, trust, Demand::Trusted).unwrap_err();
    let answer = ask(address, trust, Demand::Any).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "all is well"));
    (error.way().to_owned(), error.to_string(), answer.certificate.unwrap().told())
}

#[test]
fn a_good_certificate_is_taken_and_told_by_its_issuer_and_end() {
    let authority = Authority::new();
    let address = serve(authority.leaf(&["a.example"], GOOD), well);
    for demand in [Demand::Any, Demand::Trusted] {
        let answer = ask(address, &authority.trust(), demand).unwrap();
        let certificate = answer.certificate.unwrap();
        assert_eq!((answer.body.as_str(), &certificate.fault), ("all is well", &None));
        let until = certificate.until.to_string();
        assert_eq!(certificate.told(), format!("certificate of Tests Honest Root until {until}"));
        assert!(until.len() == 10 && until.starts_with("20"), "{until}");
        assert_eq!((certificate.days_left(), certificate.names), (60, vec!["a.example".to_owned()]));
    }
}

#[test]
fn each_fault_of_a_certificate_is_refused_in_its_way_or_told_beside_the_answer() {
    let authority = Authority::new();
    let trust = authority.trust();

    let (way, words, told) = both(authority.leaf(&["a.example"], (-90, -2)), &trust);
    assert_eq!(way, "an expired certificate");
    assert!(words.contains("it was valid until 20") && words.contains("issued by Tests Honest Root"), "{words}");
    assert!(told.starts_with("with an expired certificate: it was valid until 20"), "{told}");

    let (way, words, told) = both(authority.leaf(&["a.example"], (2, 9)), &trust);
    assert_eq!(way, "a certificate that is not valid yet");
    assert!(words.contains("it is valid from 20"), "{words}");
    assert!(told.starts_with("with a certificate that is not valid yet"), "{told}");

    let many = ["b.example", "c.example", "d.example", "e.example", "f.example", "g.example", "h.example"];
    let (way, words, told) = both(authority.leaf(&many, GOOD), &trust);
    assert_eq!(way, "a certificate of another name");
    let names = "it is for b.example, c.example, d.example, e.example, f.example and 2 more, not for a.example";
    assert!(words.contains(names), "{words}");
    assert_eq!(told, format!("with a certificate of another name: {names}"));

    let (way, words, told) = both(self_signed(&["a.example"]), &trust);
    assert_eq!(way, "an untrusted certificate");
    assert!(words.contains("self-signed; issued by a leaf for a.example, from 20"), "{words}");
    assert_eq!(told, "with a certificate that nobody trusts: self-signed");

    let (way, words, told) = both(Authority::named("Stranger").leaf(&["a.example"], GOOD), &trust);
    assert_eq!(way, "an untrusted certificate");
    assert!(words.contains("its issuer Tests Stranger is no authority that is known here"), "{words}");
    assert!(told.starts_with("with a certificate that nobody trusts: its issuer"), "{told}");

    let (way, words, _) = both(Authority::new().leaf(&["a.example"], GOOD), &trust);
    assert_eq!(way, "an untrusted certificate");
    assert!(words.contains("the authority of its issuer's name that is known here did not sign it"), "{words}");
}

#[test]
fn a_chain_without_the_certificate_between_is_told_as_such() {
    let authority = Authority::new();
    let between = authority.between();
    let (way, words, _) = both(between.leaf(&["a.example"], GOOD), &authority.trust());
    assert_eq!(way, "an untrusted certificate");
    assert!(words.contains("Honest Between") && words.contains("shows no certificate between"), "{words}");

    let mut whole = between.leaf(&["a.example"], GOOD);
    whole.chain.push(between.der());
    let answer = ask(serve(whole, well), &authority.trust(), Demand::Trusted).unwrap();
    assert_eq!(answer.certificate.unwrap().issuer, "Tests Honest Between");
}

#[test]
fn what_cannot_be_read_as_a_certificate_is_told_as_such() {
    let mut shown = self_signed(&["a.example"]);
    shown.chain = vec![CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x2a])];
    let (way, words, told) = both(shown, &Trust::and(Vec::new()));
    assert_eq!(way, "an untrusted certificate");
    assert_eq!(words, "an untrusted certificate: it cannot be read");
    assert_eq!(told, "with a certificate that nobody trusts: it cannot be read");
}

#[test]
fn an_address_is_a_name_like_any_other() {
    let authority = Authority::new();
    let trust = authority.trust();
    let address = serve(authority.leaf(&["127.0.0.1", "::1"], GOOD), well);
    for (name, is_taken) in [("127.0.0.1", true), ("[::1]", true), ("127.0.0.2", false)] {
        let tls = Tls { name, trust: &trust, demand: Demand::Trusted };
        let answer = probe::get(address, Question { tls: Some(tls), ..question(&trust, Demand::Trusted) });
        assert_eq!(answer.is_ok(), is_taken, "{name}: {answer:?}");
        if let Err(error) = answer {
            assert!(error.to_string().contains("it is for 127.0.0.1, ::1, not for 127.0.0.2"), "{error}");
        }
    }
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_refused_even_where_any_will_do() {
    let mut shown = self_signed(&["a.example"]);
    shown.key = self_signed(&["a.example"]).key;
    let error = ask(serve(shown, well), &Trust::and(Vec::new()), Demand::Any).unwrap_err();
    assert_eq!(error.way(), "no TLS");
    assert!(error.to_string().contains("BadSignature"), "{error}");
}

#[test]
fn a_handshake_that_never_ends_is_slow_however_it_does_that() {
    let silent = accept(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    // The head of a record of 16 KiB, and then a byte of it now and then.
    let dripping = accept(|mut stream| {
        let mut begin: &[u8] = &[0x16, 0x03, 0x03, 0x40, 0x00, 0x02, 0x00, 0x3f, 0xf0];
        while stream.write_all(begin).is_ok() {
            begin = &[0];
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let trust = Trust::and(Vec::new());
    for address in [silent, dripping] {
        let question = Question { timeout: Duration::from_millis(200), ..question(&trust, Demand::Any) };
        let error = probe::get(address, question).unwrap_err();
        assert!(matches!(error, ProbeError::Slow(_)), "{error}");
    }
}

#[test]
fn what_breaks_off_or_answers_in_clear_has_no_tls() {
    let trust = Trust::and(Vec::new());
    let closing = accept(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&[0x16, 0x03, 0x03, 0x00, 0x50, 0x02]);
    });
    let error = ask(closing, &trust, Demand::Any).unwrap_err();
    assert_eq!((error.way(), error.to_string().contains("before the handshake was over")), ("no TLS", true), "{error}");

    let in_clear = accept(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\nno TLS here");
    });
    let error = ask(in_clear, &trust, Demand::Any).unwrap_err();
    assert_eq!((error.way(), error.to_string().contains("does not speak TLS")), ("no TLS", true), "{error}");

    let alarmed = accept(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 112]);
    });
    let error = ask(alarmed, &trust, Demand::Any).unwrap_err();
    assert_eq!((error.way(), error.to_string().contains("UnrecognisedName")), ("no TLS", true), "{error}");
}

#[test]
fn an_answer_of_endless_bytes_is_bounded_and_failed() {
    let trust = Trust::and(Vec::new());
    let endless: fn(&str, &mut Talk) = |_, talk| {
        say(talk, "HTTP/1.1 200 OK\r\n\r\n");
        while talk.write_all(&[b'x'; 4096]).is_ok() {}
    };
    let address = serve(self_signed(&["a.example"]), endless);
    let error = ask(address, &trust, Demand::Any).unwrap_err();
    assert!(matches!(error, ProbeError::Endless { status: 200, .. }), "{error}");
    let status = probe::get(address, Question { need: Need::Status, ..question(&trust, Demand::Any) });
    assert_eq!(status.unwrap().status, 200);
}

#[test]
fn an_answer_that_trickles_over_tls_is_slow() {
    let address = serve(self_signed(&["a.example"]), |_, talk| {
        say(talk, "HTTP/1.1 200 OK\r\n\r\n");
        while talk.write_all(b"x").and_then(|()| talk.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let trust = Trust::and(Vec::new());
    let question = Question { timeout: Duration::from_millis(300), ..question(&trust, Demand::Any) };
    let error = probe::get(address, question).unwrap_err();
    assert!(matches!(error, ProbeError::Slow(_)), "{error}");
}

#[test]
fn an_end_that_tls_does_not_announce_is_a_cut_unless_the_answer_said_its_length() {
    let trust = Trust::and(Vec::new());
    let served = |behaviour| serve(self_signed(&["a.example"]), behaviour);

    let whole = served(|_, talk| say(talk, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
    assert_eq!(ask(whole, &trust, Demand::Any).unwrap().body, "hi");

    let without_length = served(|_, talk| say(talk, "HTTP/1.1 200 OK\r\n\r\nhi"));
    let error = ask(without_length, &trust, Demand::Any).unwrap_err();
    assert_eq!(error.way(), "half an answer");
    assert!(error.to_string().contains("after 2 bytes: the connection ended without TLS saying so"), "{error}");
    let status = probe::get(without_length, Question { need: Need::Status, ..question(&trust, Demand::Any) });
    assert_eq!(status.unwrap().status, 200);

    let half = served(|_, talk| say_all(talk, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"));
    let error = ask(half, &trust, Demand::Any).unwrap_err();
    assert!(matches!(error, ProbeError::Cut { status: 200, read: 2, length: Some(9) }), "{error}");

    let nothing = served(|_, talk| say_all(talk, ""));
    assert_eq!(ask(nothing, &trust, Demand::Any).unwrap_err().way(), "broken connection");
}

/// A server of OpenSSL's on a port of its own; it ends with the value.
struct OpenSsl {
    process: std::process::Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl OpenSsl {
    fn new(key: &[&str], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [key_file, certificate] = ["key", "certificate"].map(|name| folder.path().join(name));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-nodes", "-subj", "/CN=a.example", "-days", "9", "-newkey"]).args(key);
        let made = make.arg("-keyout").arg(&key_file).arg("-out").arg(&certificate).stderr(Stdio::null()).status();
        assert!(made.expect("this test needs `openssl`: apt install openssl").success(), "openssl makes a certificate");
        let mut serve = Command::new("openssl");
        serve.args(["s_server", "-www", "-accept", "127.0.0.1:0", "-key"]).arg(&key_file);
        let serve = serve.arg("-cert").arg(&certificate).args(options).stdin(Stdio::null()).stderr(Stdio::null());
        let mut process = serve.stdout(Stdio::piped()).spawn().expect("openssl starts");
        let output = std::io::BufReader::new(process.stdout.take().expect("its output"));
        let mut lines = output.lines().map_while(Result::ok);
        let line = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok());
        // Reads on, so that it can write on.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: line.expect("openssl says where it listens"), _folder: folder }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_server_that_speaks_only_an_old_tls_has_none() {
    let server = OpenSsl::new(&["rsa:2048"], &["-tls1", "-cipher", "ALL:@SECLEVEL=0"]);
    let error = ask(server.address, &Trust::and(Vec::new()), Demand::Any).unwrap_err();
    assert_eq!(error.way(), "no TLS", "{error}");
}

#[test]
fn a_key_of_a_kind_that_is_not_known_here_serves_where_any_will_do() {
    let trust = Trust::and(Vec::new());
    let server = OpenSsl::new(&["ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"], &["-tls1_3"]);
    let question = Question { need: Need::Status, ..question(&trust, Demand::Any) };
    let answer = probe::get(server.address, question).unwrap();
    assert_eq!(answer.certificate.unwrap().told(), "with a certificate that nobody trusts: self-signed");
    assert_eq!(ask(server.address, &trust, Demand::Trusted).unwrap_err().way(), "no TLS");
}

/// The variable that tells a second process of this test where to ask.
const ADDRESS: &str = "STEAD_TEST_ADDRESS";

#[test]
fn an_authority_of_the_asking_machine_is_believed() {
    if let Ok(address) = std::env::var(ADDRESS) {
        let answer = ask(address.parse().unwrap(), &Trust::default(), Demand::Trusted);
        assert!(answer.is_ok(), "{answer:?}");
        return;
    }
    let authority = Authority::new();
    let address = serve(authority.leaf(&["a.example"], GOOD), well);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), Authority::named("Stranger").pem()).unwrap();
    for (file, is_believed) in [(file, true), (other, false)] {
        let test = "tls::tests::an_authority_of_the_asking_machine_is_believed";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.args(["--exact", test]).env(ADDRESS, address.to_string());
        let output = command.env("SSL_CERT_FILE", file.path()).env_remove("SSL_CERT_DIR").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("running 1 test") && output.status.success() == is_believed, "{text}");
        assert!(is_believed || text.contains("UnknownIssuer"), "it failed for another reason: {text}");
    }
}
