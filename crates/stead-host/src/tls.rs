//! TLS, from the side of one who asks: a handshake within a time, and what the certificate is worth.
//!
//! Judges every certificate as a browser would (name, dates, chain), by the authorities that
//! browsers know and those that this machine trusts (`SSL_CERT_FILE`, else the system's own, see
//! `rustls-native-certs`), and by nothing else. Whether that verdict ends the conversation is the
//! caller's to say ([`Demand`]). Speaks TLS 1.2 and 1.3, sends no certificate, keeps no session.

use crate::certificate::Certificate;
use crate::probe::ProbeError;
use crate::timed::{Socket, Timed};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What a server's certificate has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Any certificate will do, and is told.
    Any,
    /// One that a browser would take.
    Trusted,
}

/// The authorities that are believed. They are read at the first certificate, and once.
#[derive(Debug, Default)]
pub struct Trust {
    verifier: OnceLock<Arc<WebPkiServerVerifier>>,
}

/// How a question is asked over TLS.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// The server's name: a host name or an address (IPv6 with or without brackets).
    pub name: &'a str,
    /// Who is believed.
    pub trust: &'a Trust,
    /// What the certificate has to be.
    pub demand: Demand,
}

impl Trust {
    /// Reads them now. Takes some milliseconds.
    pub fn read(&self) {
        self.verifier();
    }

    fn verifier(&self) -> Arc<WebPkiServerVerifier> {
        // Certificates of the machine that cannot be read are as good as absent.
        self.verifier.get_or_init(|| verifier(rustls_native_certs::load_native_certs().certs)).clone()
    }

    /// The public authorities and these.
    #[cfg(test)]
    pub(crate) fn and(own: Vec<CertificateDer<'static>>) -> Self {
        Self { verifier: OnceLock::from(verifier(own)) }
    }
}

fn verifier(own: Vec<CertificateDer<'static>>) -> Arc<WebPkiServerVerifier> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(own);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .expect("there are public authorities, and no revocation lists")
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Secured<S: Socket> {
    stream: StreamOwned<ClientConnection, Timed<S>>,
}

/// Shakes hands, and says what certificate the server has.
///
/// # Errors
/// When there is no handshake in time (`timeout` is for the words), or the certificate is not what is demanded.
pub(crate) fn secure<S: Socket>(
    mut socket: Timed<S>,
    tls: Tls<'_>,
    timeout: Duration,
) -> Result<(Secured<S>, Certificate), ProbeError> {
    let host = tls.name.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| ProbeError::Tls(format!("`{host}` cannot be the name of a server")))?;
    let look = Arc::new(Look {
        known: tls.trust.verifier(),
        demand: tls.demand,
        host: host.to_owned(),
        seen: Mutex::default(),
    });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(look.clone())
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| ProbeError::Tls(reason(&error)))?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            return Err(look.failure(&error, timeout));
        }
    }
    let seen = look.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let certificate = seen.ok_or_else(|| ProbeError::Tls("the server showed no certificate".to_owned()))?;
    Ok((Secured { stream: StreamOwned::new(connection, socket) }, certificate))
}

/// Why TLS itself failed, in words, if that is what this error says.
pub(crate) fn reason_of(error: &io::Error) -> Option<String> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()).map(reason)
}

fn reason(error: &TlsError) -> String {
    match error {
        TlsError::InvalidMessage(_) => format!("what answers there does not speak TLS ({error})"),
        _ => error.to_string(),
    }
}

/// Reads as a plain stream does, but that an end which the server did not announce is an error of the kind
/// [`ErrorKind::UnexpectedEof`] (RFC 8446, section 6.1: it may be a stranger's).
impl<S: Socket> Read for Secured<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).map_err(|error| match error.kind() {
            ErrorKind::ConnectionReset => ErrorKind::UnexpectedEof.into(),
            _ => error,
        })
    }
}

impl<S: Socket> Write for Secured<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Looks at the certificate of one handshake, keeps what it saw, and refuses what is not as demanded.
#[derive(Debug)]
struct Look {
    known: Arc<WebPkiServerVerifier>,
    demand: Demand,
    host: String,
    seen: Mutex<Option<Certificate>>,
}

impl Look {
    /// Why a handshake ended.
    fn failure(&self, error: &io::Error, timeout: Duration) -> ProbeError {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (seen, error.kind()) {
            (Some(certificate), ErrorKind::InvalidData)
                if self.demand == Demand::Trusted && certificate.fault.is_some() =>
            {
                ProbeError::Certificate(Box::new(certificate))
            }
            (_, ErrorKind::TimedOut) => ProbeError::Slow(timeout),
            (_, ErrorKind::UnexpectedEof) => ProbeError::Tls("it was closed before the handshake was over".to_owned()),
            _ => ProbeError::Tls(reason_of(error).unwrap_or_else(|| error.to_string())),
        }
    }

    /// Where any certificate will do, one whose kind of key is not known here will do too; one without its key will not.
    fn judged(&self, found: Result<HandshakeSignatureValid, TlsError>) -> Result<HandshakeSignatureValid, TlsError> {
        match found {
            Err(error)
                if self.demand == Demand::Any
                    && error != TlsError::InvalidCertificate(CertificateError::BadSignature) =>
            {
                Ok(HandshakeSignatureValid::assertion())
            }
            other => other,
        }
    }
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let found = self.known.verify_server_cert(leaf, between, name, ocsp, now);
        let certificate = Certificate::read(leaf, between.len(), &self.host, found.as_ref().err());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
        match self.demand {
            Demand::Any => Ok(ServerCertVerified::assertion()),
            Demand::Trusted => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = provider().signature_verification_algorithms;
        self.judged(verify_tls12_signature(message, leaf, signed, &algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = provider().signature_verification_algorithms;
        self.judged(verify_tls13_signature(message, leaf, signed, &algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = provider().signature_verification_algorithms.supported_schemes();
        if self.demand == Demand::Any {
            schemes.extend([SignatureScheme::ECDSA_NISTP521_SHA512, SignatureScheme::ED448]);
        }
        schemes
    }
}

#[cfg(test)]
mod tests;
