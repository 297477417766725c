//! HTTPS as strangers see it: Mozilla's profile by sslyze, openssl, a WebSocket client that keeps quiet for long.

#![expect(clippy::unwrap_used, reason = "in a test, a panic with the error is the report")]

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stead_e2e::authority::Authority;
use stead_e2e::lab::Machine;
use stead_e2e::{Outcome, Small, Stage, place, wait};
use tungstenite::{Message, WebSocket};

const TLS: &str = "enableACME = true, forceSSL = true";
/// nginx's own limit for a connection that says nothing is 60 seconds.
const QUIET: Duration = Duration::from_secs(65);

struct Clients {
    stage: Stage,
    authority: Authority,
}

impl Clients {
    /// `openssl s_client` with these words, told nothing but one request.
    fn openssl(&self, name: &str, words: &[&str]) -> Outcome {
        let request = format!("printf 'HEAD / HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n'");
        let client = format!(
            "openssl s_client -connect {} -servername {name} -CAfile '{}' -verify_return_error -ign_eof {}",
            self.stage.lab.port(443),
            self.authority.root().display(),
            words.join(" ")
        );
        let output = Command::new("sh").args(["-c", &format!("{request} | {client} 2>&1")]).output();
        Outcome::new(client, &output.expect("openssl is on this machine"))
    }

    fn tls_is_modern_and_resumed(&self) {
        for (version, words) in [("1.0", "-tls1"), ("1.1", "-tls1_1")] {
            let refused = self.openssl("site.small", &[words, "-cipher", "ALL:@SECLEVEL=0"]);
            assert!(refused.status != 0 && refused.stdout.contains("protocol version"), "{version}\n{refused}");
        }
        for (version, words) in [("TLSv1.2", "-tls1_2"), ("TLSv1.3", "-tls1_3")] {
            let file = self.stage.lab.folder().join(words);
            let file = file.to_str().unwrap();
            let first = self.openssl("site.small", &[words, "-sess_out", file]).well();
            assert!(first.stdout.contains(&format!("New, {version}")), "{first}");
            let again = self.openssl("site.small", &[words, "-sess_in", file]).well();
            assert!(again.stdout.contains(&format!("Reused, {version}")), "{again}");
        }
        let offered = self.openssl("site.small", &["-alpn", "h2,http/1.1", "-no_ign_eof"]);
        assert!(offered.stdout.contains("ALPN protocol: h2"), "{offered}");
        let stranger = self.openssl("other.small", &[]);
        assert!(stranger.status != 0 && stranger.stdout.contains("no peer certificate available"), "{stranger}");
    }

    /// What sslyze says of a site, by Mozilla's profile.
    fn sslyze(&self, name: &str) -> Outcome {
        let place = format!("{name}:443{{{}}}", self.stage.lab.address());
        let mut sslyze = Command::new(place::tool("sslyze"));
        sslyze.arg("--mozilla_config=intermediate").arg("--certinfo_ca_file").arg(self.authority.root()).arg(place);
        let output = sslyze.output().expect("sslyze is there: `cargo xtask setup` installs it");
        Outcome::new(format!("sslyze {name}"), &output)
    }

    /// Opens a WebSocket as browsers do: over a connection of its own, by HTTP/1.1.
    fn web_socket(&self, name: &str, path: &str) -> WebSocket<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority.root()).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        let stream = TcpStream::connect(self.stage.lab.port(443)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (socket, answer) =
            tungstenite::client(format!("wss://{name}{path}"), StreamOwned::new(tls, stream)).unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(socket.get_ref().conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
        socket
    }

    fn serial(&self, name: &str) -> String {
        let shown = self.openssl(name, &[]).well();
        shown.stdout.split("-----END CERTIFICATE-----").next().unwrap_or_default().to_owned()
    }
}

#[test]
fn tls_is_what_mozilla_says_and_a_quiet_web_socket_outlives_idling_a_deploy_and_a_renewal() {
    let stage = Stage::new(Machine::bookworm());
    // In the last third of this life they are renewed.
    let authority = Authority::beside(&stage.lab, 90);
    let extra = format!(
        "services.nginx.virtualHosts.\"site.small\" = {{ {TLS} }},
         services.nginx.virtualHosts.\"app.small\" = {{ {TLS} }},
         security.acme = {{ {} }},",
        authority.declared(&stage.project)
    );
    let mut small = Small { extra, ..Small::default() };
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    let clients = Clients { stage, authority };
    let (stage, authority) = (&clients.stage, &clients.authority);

    let opened = Instant::now();
    let mut quiet = clients.web_socket("app.small", "/quiet");
    let first = clients.serial("app.small");
    let mut ticking = clients.web_socket("app.small", "/ws");
    assert_eq!(ticking.read().unwrap(), Message::text("tick"));
    assert_eq!(authority.curl("https://app.small/", &[]).well().stdout, "one\n200  h2");

    small.page = "page two\n".into();
    small.write(&stage.project);
    stage.stead(&["up"]).well();
    assert_eq!(authority.curl("https://site.small/", &[]).well().stdout, "page two\n\n200  h2");

    clients.tls_is_modern_and_resumed();
    let said = clients.sslyze("site.small").well();
    assert!(said.stdout.contains("site.small:443: OK - Compliant."), "{said}");

    wait::until("the certificate was due and renewed", Duration::from_secs(120), || {
        stage.lab.run("systemctl start stead-certificates-renew.service");
        (clients.serial("app.small") != first).then_some(())
    });
    // Nothing has been said since it was opened, and nothing comes for as long as is still missing.
    let missing = QUIET.saturating_sub(opened.elapsed()).max(Duration::from_millis(1));
    quiet.get_ref().sock.set_read_timeout(Some(missing)).unwrap();
    match quiet.read() {
        Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
        other => panic!("the quiet socket was told {other:?}"),
    }
    assert!(opened.elapsed() >= QUIET);
    quiet.get_ref().sock.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    quiet.send(Message::text("still here?")).unwrap();
    assert_eq!(quiet.read().unwrap(), Message::text("still here?"));
    assert_eq!(ticking.read().unwrap(), Message::text("tick"));
}
