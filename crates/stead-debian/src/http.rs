//! HTTP for archives: plain GETs that cannot hang.
//!
//! Promises that a mirror which does not connect, stops sending or only trickles ends in an error
//! that names the address, within the [`Limits`]. Never decides whether the bytes are the right
//! ones: whoever asked for them checks sizes and hashes. Reads the environment only when told to
//! by [`Proxies::Environment`].

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// How long a mirror may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For name resolution and connecting, each.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// Time over which the speed is measured.
    pub window: Duration,
    /// Bytes that have to arrive within one window.
    pub slowest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            window: Duration::from_secs(30),
            slowest: 60 << 10,
        }
    }
}

/// Whether a proxy stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// Connections are direct.
    Direct,
    /// As `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say.
    Environment,
}

/// Makes requests; keeps connections open in between. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    limits: Limits,
}

/// The body and what is said about it.
pub(crate) struct Answer {
    /// 200, 206 or 304; every other status is an error.
    pub(crate) status: u16,
    /// Bytes that this answer announces to carry.
    pub(crate) length: Option<u64>,
    /// `ETag`.
    pub(crate) etag: Option<String>,
    /// `Last-Modified`.
    pub(crate) modified: Option<String>,
    body: ureq::BodyReader<'static>,
    url: String,
    limits: Limits,
    window: Instant,
    arrived: u64,
}

/// What is asked for besides the address.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Conditions<'a> {
    /// First byte that is wanted.
    pub(crate) offset: u64,
    /// Answer 304 if this is still its `ETag`.
    pub(crate) etag: Option<&'a str>,
    /// Answer 304 if it was not modified since.
    pub(crate) modified: Option<&'a str>,
}

impl Client {
    /// A client with these limits.
    pub fn new(limits: Limits, proxies: Proxies) -> Self {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.stall))
            .timeout_recv_response(Some(limits.stall + limits.connect))
            .user_agent(concat!("stead/", env!("CARGO_PKG_VERSION")));
        if proxies == Proxies::Direct {
            config = config.proxy(None);
        }
        let resolver = Remembering::default();
        Self { agent: ureq::Agent::with_parts(config.build(), DefaultConnector::new(), resolver), limits }
    }

    /// Asks for `url`. Anything but 200, 206 (after an offset) and 304 (after a condition) is an error.
    pub(crate) fn get(&self, url: &str, conditions: Conditions<'_>) -> Result<Answer, Error> {
        let mut request = self.agent.get(url);
        if conditions.offset > 0 {
            request = request.header("Range", format!("bytes={}-", conditions.offset));
        }
        if let Some(etag) = conditions.etag {
            request = request.header("If-None-Match", etag);
        }
        if let Some(modified) = conditions.modified {
            request = request.header("If-Modified-Since", modified);
        }
        let response = request.call().map_err(|source| Error::of(url, source, &self.limits))?;
        let status = response.status().as_u16();
        let conditional = conditions.etag.is_some() || conditions.modified.is_some();
        let expected = status == 200 || status == 206 && conditions.offset > 0 || status == 304 && conditional;
        if !expected {
            return Err(Error::Status { url: url.to_owned(), status });
        }
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (etag, modified) = (header("etag"), header("last-modified"));
        let body = response.into_body();
        let length = body.content_length();
        Ok(Answer {
            status,
            length,
            etag,
            modified,
            body: body.into_reader(),
            url: url.to_owned(),
            limits: self.limits,
            window: Instant::now(),
            arrived: 0,
        })
    }

    /// All of a small file. `most` bytes are read; a longer answer is an error.
    pub(crate) fn get_bytes(&self, url: &str, most: u64) -> Result<Vec<u8>, Error> {
        self.get(url, Conditions::default())?.bytes(most)
    }
}

impl Answer {
    /// The next bytes; 0 at the end. Fails when the mirror stalls, trickles or breaks off.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let read = self.body.read(buffer).map_err(|source| Error::of_read(&self.url, source, &self.limits))?;
        self.arrived += read as u64;
        if read > 0 && self.window.elapsed() >= self.limits.window {
            if self.arrived < self.limits.slowest {
                return Err(Error::TooSlow {
                    url: self.url.clone(),
                    bytes: self.arrived,
                    seconds: self.window.elapsed().as_secs(),
                });
            }
            self.window = Instant::now();
            self.arrived = 0;
        }
        Ok(read)
    }

    /// The whole body, at most `most` bytes.
    pub(crate) fn bytes(mut self, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.read(&mut buffer)?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..read]);
            if bytes.len() as u64 > most {
                return Err(Error::TooLong { url: self.url, most });
            }
        }
    }
}

/// How long an address is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long it is remembered that there is none.
const FORGIVEN: Duration = Duration::from_secs(5);

/// Looks up each host once, not once a request: some resolvers answer nothing, for seconds, when
/// they are asked a hundred times at once.
#[derive(Debug, Default)]
struct Remembering {
    inner: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, Option<ResolvedSocketAddrs>)>>,
}

impl Resolver for Remembering {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let place = format!("{:?} {:?}", uri.scheme(), uri.authority());
        // Held while asking, so that whoever comes meanwhile waits for the same answer.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&place) {
            Some((since, Some(addresses))) if since.elapsed() < REMEMBERED => return Ok(addresses.clone()),
            Some((since, None)) if since.elapsed() < FORGIVEN => return Err(ureq::Error::HostNotFound),
            _ => {}
        }
        let resolved = self.inner.resolve(uri, config, timeout);
        known.insert(place, (Instant::now(), resolved.as_ref().ok().cloned()));
        resolved
    }
}

/// Why a mirror did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// It stopped sending.
    #[error("{url}: nothing arrived for {seconds} s")]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It sends, but hardly.
    #[error("{url}: only {bytes} bytes arrived in {seconds} s")]
    TooSlow {
        /// What was asked for.
        url: String,
        /// What came.
        bytes: u64,
        /// In which time.
        seconds: u64,
    },
    /// It answered something else than the file.
    #[error("{url}: the mirror answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// It sends more than the file can have.
    #[error("{url}: the mirror sends more than {most} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// What was expected at most.
        most: u64,
    },
    /// The connection broke in the middle.
    #[error("{url}: the connection broke")]
    Broken {
        /// What was asked for.
        url: String,
        /// How.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not HTTP, or not for this client.
    #[error("{url}: the mirror's answer is not understood")]
    Protocol {
        /// What was asked for.
        url: String,
        /// How.
        #[source]
        source: Box<ureq::Error>,
    },
}

impl Error {
    fn of(url: &str, source: ureq::Error, limits: &Limits) -> Self {
        let url = url.to_owned();
        match source {
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Io(_) => Self::Unreachable { url, source: Box::new(source) },
            ureq::Error::Timeout(_) => Self::Stalled { url, seconds: limits.stall.as_secs() },
            source => Self::Protocol { url, source: Box::new(source) },
        }
    }

    fn of_read(url: &str, source: std::io::Error, limits: &Limits) -> Self {
        let timeout = source.kind() == std::io::ErrorKind::TimedOut
            || source
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<ureq::Error>())
                .is_some_and(|inner| matches!(inner, ureq::Error::Timeout(_)));
        if timeout {
            Self::Stalled { url: url.to_owned(), seconds: limits.stall.as_secs() }
        } else {
            Self::Broken { url: url.to_owned(), source }
        }
    }

    /// How often a request that fails like this is made in all: it may succeed a moment later, but
    /// nobody should wait for the same long time again and again.
    pub(crate) fn tries(&self) -> u32 {
        match self {
            Self::Broken { .. } => 4,
            Self::Status { status, .. } if *status >= 500 || *status == 429 => 4,
            Self::Unreachable { source, .. } if matches!(**source, ureq::Error::Io(_)) => 3,
            Self::Stalled { .. } => 2,
            _ => 1,
        }
    }
}
