//! What the tests of this crate share: a web server for challenges, declarations, and a small authority of their own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use stead_model::certificate::{Authority, Certificate, KeyType, Source};
use stead_model::name::Domain;
use time::{Duration, OffsetDateTime};

/// Domains, which are valid.
pub(crate) fn domains(names: &[&str]) -> Vec<Domain> {
    names.iter().map(|name| name.parse().expect("a domain")).collect()
}

/// A declared certificate.
pub(crate) fn declared(names: &[&str], authority: &Authority) -> Certificate {
    Certificate { names: domains(names), source: Source::Authority(authority.clone()) }
}

/// A declared authority.
pub(crate) fn authority(directory: &str, roots: &str) -> Authority {
    Authority {
        directory: directory.to_owned(),
        roots: Some(roots.to_owned()),
        email: Some("operator@example.org".to_owned()),
        key_type: KeyType::Ec256,
        valid_min_days: 30,
    }
}

/// Serves files below a folder over HTTP, until the process ends. Returns its port.
pub(crate) fn serve(folder: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines();
                let request = lines.next().and_then(Result::ok).unwrap_or_default();
                while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
                let (status, body) = match fs::read(folder.join(path)) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", b"there is nothing".to_vec()),
                };
                let mut stream = &stream;
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            });
        }
    });
    port
}

/// A pair as files hold it.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// PEM, the leaf first.
    pub(crate) chain: String,
    /// PEM.
    pub(crate) key: String,
}

/// An authority that signs what it is told, with one certificate between it and its leaves.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Signer {
    /// A new one.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name.push(DnType::OrganizationName, "Authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A leaf for these names with this key, valid from and until so many days from now.
    pub(crate) fn sign(&self, names: &[&str], key: &KeyPair, from: i64, until: i64) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(until);
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer).expect("a certificate").pem();
        Pair { chain: format!("{leaf}{}", self.pem), key: key.serialize_pem() }
    }

    /// A leaf with a new key, valid for three months.
    pub(crate) fn issue(&self, names: &[&str]) -> Pair {
        self.sign(names, &KeyPair::generate().expect("a key"), -1, 90)
    }
}
