//! An authority that answers what a test tells it to, over HTTPS: for what pebble never does.
//!
//! Its contract is RFC 8555: nonces (section 6.5), problem documents with `Retry-After` (section 6.6), the directory (section 7.1.1).

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// An answer: the status, headers, and JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(status: u16, body: impl ToString) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// One that runs until the process ends.
pub(crate) struct Fake {
    pub(crate) address: String,
    pub(crate) roots: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Answers by `answer`, which is told the method, the path, and where the authority is. `/nonce` and `/account` answer as they should.
    pub(crate) fn start(answer: impl Fn(&str, &str, &str) -> Answer + Send + Sync + 'static) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let roots = certificate.pem();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let (config, answer, asked) = (Arc::new(config), Arc::new(answer), Arc::<Mutex<Vec<String>>>::default());
        let (here, log) = (address.clone(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answer, here, log) = (config.clone(), answer.clone(), here.clone(), log.clone());
                thread::spawn(move || serve(stream, config, &log, |method, path| answer(method, path, &here)));
            }
        });
        Self { address, roots, asked }
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/dir", self.address)
    }

    /// How often this was asked: `POST /order`.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|asked| *asked == request).count()
    }
}

/// What a directory says that is at this address.
pub(crate) fn directory(here: &str) -> serde_json::Value {
    serde_json::json!({
        "newNonce": format!("{here}/nonce"),
        "newAccount": format!("{here}/account"),
        "newOrder": format!("{here}/order"),
        "renewalInfo": format!("{here}/renewal"),
    })
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    log: &Mutex<Vec<String>>,
    answer: impl Fn(&str, &str) -> Answer,
) -> Option<()> {
    let connection = ServerConnection::new(config).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_ascii_lowercase());
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        stream.read_exact(&mut vec![0; length.unwrap_or(0)]).ok()?;
        let mut request = lines.first()?.split(' ').map(str::to_owned);
        let (method, path) = (request.next()?.to_ascii_uppercase(), request.next()?);
        log.lock().expect("no panic").push(format!("{method} {path}"));
        let here = answer(&method, &path);
        let mut head = format!(
            "HTTP/1.1 {} Said\r\nContent-Length: {}\r\nReplay-Nonce: n{}\r\nContent-Type: application/json\r\n",
            here.status,
            here.body.len(),
            log.lock().expect("no panic").len(),
        );
        for (name, value) in &here.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if method == "HEAD" { "" } else { &here.body };
        stream.get_mut().write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
        stream.get_mut().flush().ok()?;
    }
}
