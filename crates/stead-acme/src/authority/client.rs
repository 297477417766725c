//! HTTPS to an authority, blocking: what the ACME library speaks through.
//!
//! Promises that every request ends within its time and that all of them together do, that nothing but HTTPS is spoken, and
//! that a refusal keeps the authority's words and its `Retry-After`. Reads no environment.

use super::Refused;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use stead_model::certificate::Authority;
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// For one request, connecting included.
const REQUEST: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// How often a request is made again that got no answer, or "later" as one.
const AGAIN: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longer than this an authority is not waited for: the caller comes again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// No answer of an authority is longer.
const MOST: u64 = 1 << 20;

const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// Why there is no answer that the library could read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{url}: {source}")]
    Transport { url: String, source: ureq::Error },
    #[error("{problem}")]
    Problem { problem: Problem, retry_after: Option<Timestamp> },
    #[error("{url} answered {status}")]
    Status { url: String, status: u16, retry_after: Option<Timestamp> },
    #[error("the time is over")]
    OutOfTime,
}

/// A conversation with one authority. Clones share its time and connections.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    agent: ureq::Agent,
    deadline: Instant,
    /// What the last answer asked to wait.
    wait: Arc<Mutex<Option<Duration>>>,
}

/// What a future of the library comes to: with [`Http`] beneath, it never waits for anything else.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// Does something again when the authority refused the nonce, which it may at any time (RFC 8555, section 6.5). The library
/// tries three times itself.
pub(crate) fn again<T>(mut act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut left = AGAIN;
    loop {
        match act() {
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(BAD_NONCE) && left > 0 => left -= 1,
            other => return other,
        }
    }
}

impl Http {
    /// A conversation that ends `within` this time.
    pub(crate) fn new(authority: &Authority, within: Duration) -> Result<Self, Refused> {
        let mut tls = TlsConfig::builder();
        if let Some(roots) = &authority.roots {
            let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(roots.as_bytes()).collect();
            let roots = roots.map_err(|error| Refused::Roots(crate::check::pem_words(&error)))?;
            if roots.is_empty() {
                return Err(Refused::Roots("there is no certificate in it".to_owned()));
            }
            let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned());
            tls = tls.root_certs(RootCerts::from(roots));
        }
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .proxy(None)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("stead/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build());
        Ok(Self { agent: config.build().into(), deadline: Instant::now() + within, wait: Arc::default() })
    }

    /// What is left of the time.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Waits as the last answer asked, or else for `otherwise`. `false` when the time is not enough.
    pub(crate) fn pause(&self, otherwise: Duration) -> bool {
        let asked = self.wait.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pause = asked.unwrap_or(otherwise);
        if pause >= self.left() {
            return false;
        }
        thread::sleep(pause);
        true
    }

    fn answer(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Failure> {
        let (parts, body) = request.into_parts();
        let Ok(body) = wait(body.collect()).map(Collected::to_bytes);
        let url = parts.uri.to_string();
        let mut pause = FIRST_PAUSE;
        for turn in 1.. {
            let answer = self.send(&parts, &body, &url);
            let wait = match &answer {
                Err(Failure::Transport { source, .. }) if may_come_again(source) => Some(pause),
                Err(Failure::Status { status: 503, retry_after, .. }) => until(*retry_after),
                Err(Failure::Problem { problem, retry_after }) if problem.status == Some(503) => until(*retry_after),
                _ => None,
            };
            match wait.filter(|wait| turn < AGAIN && *wait <= LONGEST_PAUSE && *wait < self.left()) {
                Some(wait) => thread::sleep(wait),
                None => return answer,
            }
            pause *= 2;
        }
        Err(Failure::OutOfTime)
    }

    fn send(&self, parts: &ureq::http::request::Parts, body: &Bytes, url: &str) -> Result<BytesResponse, Failure> {
        let left = self.left().min(REQUEST);
        if left.is_zero() {
            return Err(Failure::OutOfTime);
        }
        let transport = |source| Failure::Transport { url: url.to_owned(), source };
        let response = if parts.method == Method::POST {
            let request = Request::from_parts(parts.clone(), body.to_vec());
            let request = self.agent.configure_request(request).timeout_global(Some(left)).build();
            self.agent.run(request)
        } else {
            let request = Request::from_parts(parts.clone(), ());
            let request = self.agent.configure_request(request).timeout_global(Some(left)).build();
            self.agent.run(request)
        };
        let (parts, body) = response.map_err(transport)?.into_parts();
        let body = body.into_with_config().limit(MOST).read_to_vec().map_err(transport)?;
        let asked = parts.headers.get("retry-after").and_then(|value| retry_after(value.to_str().ok()?));
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        if !parts.status.is_client_error() && !parts.status.is_server_error() {
            return Ok(BytesResponse::from(Response::from_parts(parts, BodyWrapper::from(body))));
        }
        let retry_after = asked.and_then(|wait| Timestamp::try_from(SystemTime::now() + wait).ok());
        match serde_json::from_slice::<Problem>(&body) {
            // The library knows what to do about this one.
            Ok(problem) if problem.r#type.as_deref() == Some(BAD_NONCE) => {
                Ok(BytesResponse::from(Response::from_parts(parts, BodyWrapper::from(body))))
            }
            Ok(problem) if problem.r#type.is_some() || problem.detail.is_some() => {
                let status = problem.status.or(Some(parts.status.as_u16()));
                Err(Failure::Problem { problem: Problem { status, ..problem }, retry_after })
            }
            _ => Err(Failure::Status { url: url.to_owned(), status: parts.status.as_u16(), retry_after }),
        }
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answer = self.answer(request).map_err(|failure| Error::Other(Box::new(failure)));
        Box::pin(std::future::ready(answer))
    }
}

/// Whether the next attempt may end in another way.
fn may_come_again(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::HostNotFound)
}

fn until(time: Option<Timestamp>) -> Option<Duration> {
    Some(Duration::try_from(time?.duration_since(Timestamp::now())).unwrap_or_default())
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(Timestamp::now())).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Wed, 31 Dec 2098 23:59:59 GMT").unwrap() > Duration::from_secs(1_000_000));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-5"), None);
    }
}
