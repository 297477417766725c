//! Servers that speak TLS, for tests: authorities, certificates of every kind, and what is answered with them. Loopback only.

use crate::tls::Trust;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Who vouches for certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server shows: a chain, and a key.
pub(crate) struct Shown {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// One conversation, from the server's side.
pub(crate) type Talk = StreamOwned<ServerConnection, TcpStream>;

/// Its days, counted from today.
pub(crate) type Days = (i64, i64);

/// Valid now.
pub(crate) const GOOD: Days = (-1, 60);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Honest Root")
    }

    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(authority(name), key).expect("an authority"))
    }

    /// Another authority, for which this one vouches.
    pub(crate) fn between(&self) -> Self {
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::signed_by(authority("Honest Between"), key, &self.0).expect("an authority"))
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The public authorities and this one.
    pub(crate) fn trust(&self) -> Trust {
        Trust::and(vec![self.der()])
    }

    /// A certificate of these names.
    pub(crate) fn leaf(&self, names: &[&str], days: Days) -> Shown {
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        let key = KeyPair::generate().expect("a key");
        let leaf = of(names, days).signed_by(&key, issuer).expect("a certificate");
        Shown { chain: vec![leaf.into()], key: key.into() }
    }
}

/// A certificate that vouches for itself.
pub(crate) fn self_signed(names: &[&str]) -> Shown {
    let key = KeyPair::generate().expect("a key");
    let leaf = of(names, GOOD).self_signed(&key).expect("a certificate");
    Shown { chain: vec![leaf.into()], key: key.into() }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = of(&[], (-1, 60));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::OrganizationName, "Tests\u{7}");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn of(names: &[&str], (from, until): Days) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a leaf");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    // An hour more, so that a day is whole however long the test takes.
    let at = |days: i64| {
        let seconds = u64::try_from(i64::try_from(now).expect("seconds") + days * 86_400 + 3600).expect("after 1970");
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    params
}

/// A server that does this with each request, by its path.
pub(crate) fn serve(shown: Shown, behaviour: fn(&str, &mut Talk)) -> SocketAddr {
    let key = ring::sign::any_supported_type(&shown.key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(shown.chain, key))));
    let config = Arc::new(config);
    accept(move |stream| {
        let connection = ServerConnection::new(config.clone()).expect("a connection");
        let mut talk = StreamOwned::new(connection, stream);
        let mut request = [0; 2048];
        if let Ok(read) = talk.read(&mut request) {
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            behaviour(text.split(' ').nth(1).unwrap_or_default(), &mut talk);
        }
    })
}

/// A server that does this with each connection.
pub(crate) fn accept(behaviour: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    let address = listener.local_addr().expect("an address");
    let behaviour = Arc::new(behaviour);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behaviour = behaviour.clone();
            std::thread::spawn(move || behaviour(stream));
        }
    });
    address
}

/// Says it, and nothing more.
pub(crate) fn say(talk: &mut Talk, text: &str) {
    let _ = talk.write_all(text.as_bytes()).and_then(|()| talk.flush());
}

/// Says it, and that this is the end.
pub(crate) fn say_all(talk: &mut Talk, text: &str) {
    say(talk, text);
    talk.conn.send_close_notify();
    let _ = talk.flush();
}

/// A good answer.
pub(crate) fn well(_path: &str, talk: &mut Talk) {
    say_all(talk, "HTTP/1.1 200 OK\r\n\r\nall is well");
}
