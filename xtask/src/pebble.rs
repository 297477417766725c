//! A real authority for tests: `pebble` with `pebble-challtestsrv` as its DNS, both from Debian's package `pebble`.
//!
//! Promises a directory that answers over HTTPS with a root of its own, on free ports, until the value is dropped. Its
//! random rejections of nonces are left on.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a pebble is run. Ports that are 0 are chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it, its management and its DNS listen.
    pub listen: IpAddr,
    /// Where its directory is.
    pub port: u16,
    /// Where it looks for answers to HTTP-01, on the addresses that its DNS says.
    pub http_port: u16,
    /// Where it looks for answers to TLS-ALPN-01.
    pub tls_port: u16,
    /// Names and addresses under which clients reach it, besides `localhost` and where it listens.
    pub names: Vec<String>,
    /// What every name resolves to.
    pub address: Ipv4Addr,
    /// How long certificates are valid, in seconds; 0 for its own default (5 years).
    pub validity: u64,
    /// A folder where the root of its own HTTPS is kept from one start to the next; `None`: a new one each time.
    pub identity: Option<PathBuf>,
    /// More variables of its environment, such as `PEBBLE_AUTHZREUSE`.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            http_port: 0,
            tls_port: 0,
            names: Vec::new(),
            address: Ipv4Addr::LOCALHOST,
            validity: 0,
            identity: None,
            environment: Vec::new(),
        }
    }
}

/// A running pebble with its DNS. Both end when it is dropped.
pub struct Pebble {
    options: Options,
    management: u16,
    dns: u16,
    dns_management: u16,
    roots: String,
    pebble: Option<Running>,
    _challtestsrv: Running,
    folder: TempDir,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pebble {
    /// Starts one and waits until its directory answers.
    pub fn start(options: Options) -> Self {
        let mut refusals = Vec::new();
        // Another process may take a port between the choice and the start.
        for _ in 0..5 {
            match Self::try_start(options.clone()) {
                Ok(pebble) => return pebble,
                Err(refusal) => refusals.push(refusal),
            }
        }
        panic!("pebble does not start: {}", refusals.join("\n"));
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.here(self.options.port))
    }

    /// The port of its directory, whose path is `/dir`.
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// PEM of the root that its own HTTPS is trusted by.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// PEM of the root of what it issues. Another one after each [`Pebble::restart`].
    pub fn issuing_root(&self) -> String {
        let address = self.here(self.management);
        self.agent()
            .get(&format!("https://{address}/roots/0"))
            .call()
            .expect("pebble's management answers")
            .body_mut()
            .read_to_string()
            .expect("a certificate")
    }

    /// Ends it, leaving its DNS.
    pub fn stop(&mut self) {
        self.pebble = None;
    }

    /// Starts it anew at the same place: it has forgotten all accounts and orders.
    pub fn restart(&mut self) {
        self.stop();
        self.pebble = Some(self.run_pebble().expect("pebble starts again"));
    }

    /// Makes a name resolve to these addresses only.
    pub fn resolve(&self, name: &str, addresses: &[Ipv4Addr]) {
        let host = format!("{name}.");
        self.tell_dns("clear-a", &json!({ "host": host }));
        self.tell_dns("add-a", &json!({ "host": host, "addresses": addresses }));
    }

    /// Makes the DNS fail for a name.
    pub fn fail_dns(&self, name: &str) {
        self.tell_dns("set-servfail", &json!({ "host": format!("{name}.") }));
    }

    /// What it and its DNS wrote.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("pebble.log") + &read("challtestsrv.log")
    }

    fn tell_dns(&self, what: &str, value: &serde_json::Value) {
        let address = self.here(self.dns_management);
        let answer = ureq::post(&format!("http://{address}/{what}")).send(value.to_string());
        answer.expect("pebble-challtestsrv answers");
    }

    fn try_start(mut options: Options) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for port in [&mut options.port, &mut options.http_port, &mut options.tls_port] {
            if *port == 0 {
                *port = free_port(options.listen);
            }
        }
        let (management, dns_management) = (free_port(options.listen), free_port(options.listen));
        let dns = free_port_of_both(options.listen);
        let roots = write_identity(folder.path(), &options);
        let challtestsrv = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .args(["-defaultIPv4", &options.address.to_string()])
            .args(["-dns01", &SocketAddr::new(options.listen, dns).to_string()])
            .args(["-management", &SocketAddr::new(options.listen, dns_management).to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("challtestsrv.log")).expect("a log"))
            .stderr(Stdio::null())
            .spawn();
        let mut challtestsrv = Running(challtestsrv.expect(MISSING));
        let is_there = || TcpStream::connect(here(options.listen, dns_management)).is_ok();
        await_start(&mut challtestsrv, is_there)?;
        let mut this =
            Self { options, management, dns, dns_management, roots, pebble: None, _challtestsrv: challtestsrv, folder };
        this.pebble = Some(this.run_pebble().map_err(|error| format!("{error}\n{}", this.log()))?);
        Ok(this)
    }

    fn run_pebble(&self) -> Result<Running, String> {
        let (options, folder) = (&self.options, self.folder.path());
        let mut pebble = json!({
            "listenAddress": SocketAddr::new(options.listen, options.port),
            "managementListenAddress": SocketAddr::new(options.listen, self.management),
            "certificate": folder.join("cert.pem"),
            "privateKey": folder.join("key.pem"),
            "httpPort": options.http_port,
            "tlsPort": options.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        });
        if options.validity > 0 {
            pebble["certificateValidityPeriod"] = options.validity.into();
        }
        let configuration = folder.join("pebble.json");
        fs::write(&configuration, json!({ "pebble": pebble }).to_string()).expect("a configuration");
        let log = File::create(folder.join("pebble.log")).expect("a log");
        let pebble = Command::new("pebble")
            .arg("-config")
            .arg(&configuration)
            .args(["-dnsserver", &self.here(self.dns).to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        let mut pebble = Running(pebble.expect(MISSING));
        let (agent, directory) = (self.agent(), self.directory());
        await_start(&mut pebble, || agent.get(&directory).call().is_ok())?;
        Ok(pebble)
    }

    fn here(&self, port: u16) -> SocketAddr {
        here(self.options.listen, port)
    }

    fn agent(&self) -> ureq::Agent {
        let root = ureq::tls::Certificate::from_pem(self.roots.as_bytes()).expect("a root");
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::from([root]));
        ureq::Agent::config_builder().tls_config(tls.build()).proxy(None).build().into()
    }
}

const MISSING: &str = "pebble and pebble-challtestsrv are not there: apt-get install pebble";

fn await_start(running: &mut Running, mut is_there: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_there() {
        if let Some(status) = running.0.try_wait().expect("a child of ours") {
            return Err(format!("it ended with {status}"));
        }
        if Instant::now() > deadline {
            return Err("it does not answer within 30 seconds".to_owned());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Where this process reaches what listens there.
fn here(listen: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(if listen.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen }, port)
}

fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).and_then(|socket| socket.local_addr()).expect("a free port").port()
}

fn free_port_of_both(address: IpAddr) -> u16 {
    loop {
        let port = free_port(address);
        if UdpSocket::bind((address, port)).is_ok() {
            return port;
        }
    }
}

/// A root, and with it a certificate for where pebble listens: the kept ones if they fit, else new ones. Returns the root.
fn write_identity(folder: &Path, options: &Options) -> String {
    const FILES: [&str; 4] = ["cert.pem", "key.pem", "root.pem", "names"];
    let Some(kept) = &options.identity else { return new_identity(folder, options) };
    let names = format!("{} {}", here(options.listen, 0).ip(), options.names.join(" "));
    let copy =
        |from: &Path, to: &Path| FILES.iter().try_for_each(|file| fs::copy(from.join(file), to.join(file)).map(drop));
    let fits = fs::read_to_string(kept.join("names")).is_ok_and(|known| known == names);
    if fits && copy(kept, folder).is_ok() {
        return fs::read_to_string(folder.join("root.pem")).expect("a root");
    }
    let root = new_identity(folder, options);
    fs::write(folder.join("root.pem"), &root).expect("a file");
    fs::write(folder.join("names"), names).expect("a file");
    fs::create_dir_all(kept).and_then(|()| copy(folder, kept)).expect("a folder for what is kept");
    root
}

fn new_identity(folder: &Path, options: &Options) -> String {
    let mut root = CertificateParams::new(Vec::<String>::new()).expect("no names");
    root.distinguished_name.push(DnType::CommonName, "Root of a test");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_key = KeyPair::generate().expect("a key");
    let root_pem = root.self_signed(&root_key).expect("a root").pem();
    let mut names = vec!["localhost".to_owned(), here(options.listen, 0).ip().to_string()];
    names.extend(options.names.iter().cloned());
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(names).expect("names");
    let certificate = params.signed_by(&key, &Issuer::new(root, root_key)).expect("a certificate");
    fs::write(folder.join("cert.pem"), certificate.pem()).expect("a file");
    fs::write(folder.join("key.pem"), key.serialize_pem()).expect("a file");
    root_pem
}
