//! HTTPS to an upstream through reqwest.
//!
//! Purpose: [`Client::carry`] takes one request body there and brings back what was
//! [`Heard`], within the upstream's limits. What the bytes mean, [`chat`](super::chat) knows.
//!
//! Invariants:
//!
//! - One call is one request: no retry and no redirect happens below this line. Repetitions are
//!   the desk's, with the same key.
//! - A connection goes to the upstream's own address or through the proxy that the settings name;
//!   the environment is asked only where they say so.
//! - No more than [`MAX_BODY_BYTES`] of an answer are taken into memory, and of an error none.
//! - The key is in the header and nowhere else: not in an error, not in a `Debug` output.
//!
//! How it fails: settings that cannot work are a [`SetupError`] before anything is connected;
//! everything else is a [`Fault`].

use std::fmt;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};

use super::chat::Heard;
use super::settings::{Proxy, Settings, Upstream};
use super::{Fault, Garble};
use crate::broker::tls::{TlsError, http_client_config, is_distrust};

/// Bytes of an answer: the longest allowed one with all its log-probabilities has a quarter.
pub const MAX_BODY_BYTES: usize = 4 << 20;
/// How long an unused connection is kept: below the minute that most servers wait.
const IDLE: Duration = Duration::from_secs(30);
/// By this an upstream tells a repetition from a second question.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why an upstream's settings cannot work. Names the upstream, never its key.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is none.
    #[error(
        "upstream {upstream}: the url must be http:// or https://, with a host and without a user"
    )]
    Url {
        /// Whose.
        upstream: String,
    },
    /// The key cannot stand in a header.
    #[error("upstream {upstream}: the key has characters that no header can carry")]
    Key {
        /// Whose.
        upstream: String,
    },
    /// The proxy's address is none.
    #[error("upstream {upstream}: the proxy must be http://host:port or https://host:port")]
    Proxy {
        /// Whose.
        upstream: String,
    },
    /// Its certificates cannot be used.
    #[error("upstream {upstream}: {why}")]
    Tls {
        /// Whose.
        upstream: String,
        /// In the reader's words.
        why: TlsError,
    },
    /// The client cannot be made.
    #[error("upstream {upstream}: no connection can be set up")]
    Client {
        /// Whose.
        upstream: String,
    },
}

/// Whether all upstreams can be set up, before anything is connected.
pub fn check(settings: &Settings) -> Result<(), SetupError> {
    settings
        .upstreams
        .iter()
        .try_for_each(|it| Client::new(it).map(|_| ()))
}

/// The way to one upstream. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    model: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The library's own output would show headers.
        f.debug_struct("Client")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Sets up the way; connects nothing.
    pub fn new(upstream: &Upstream) -> Result<Self, SetupError> {
        let name = || upstream.name.clone();
        let url = address(&upstream.url).ok_or_else(|| SetupError::Url { upstream: name() })?;
        let tls =
            http_client_config(url.scheme(), &upstream.tls).map_err(|why| SetupError::Tls {
                upstream: name(),
                why,
            })?;
        let limits = upstream.limits;
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .default_headers(headers(upstream)?)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(limits.connect)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(limits.concurrent as usize);
        let builder = match &upstream.proxy {
            Proxy::None => builder.no_proxy(),
            Proxy::Environment => builder,
            Proxy::Url { url, login } => {
                let bad = || SetupError::Proxy { upstream: name() };
                let url = address(url).ok_or_else(bad)?;
                let mut proxy = reqwest::Proxy::all(url).map_err(|_| bad())?;
                if let Some((user, password)) = login {
                    proxy = proxy.basic_auth(user, password.reveal());
                }
                builder.no_proxy().proxy(proxy)
            }
        };
        let http = builder
            .build()
            .map_err(|_| SetupError::Client { upstream: name() })?;
        Ok(Self {
            http,
            url,
            model: upstream.model.clone(),
        })
    }

    /// What the model is called there.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Takes a request there and brings back what was heard, all within the limit.
    pub async fn carry(&self, key: &str, body: Vec<u8>, limit: Duration) -> Result<Heard, Fault> {
        let exchange = self.exchange(key, body);
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(Fault::Slow))
    }

    async fn exchange(&self, key: &str, body: Vec<u8>) -> Result<Heard, Fault> {
        let request = self
            .http
            .post(self.url.clone())
            .header(IDEMPOTENCY_KEY, key);
        let response = request
            .body(body)
            .send()
            .await
            .map_err(|error| fault_of(&error))?;
        let text = |name| {
            let value = response.headers().get(name)?;
            // A header that is no text is there all the same.
            Some(value.to_str().unwrap_or_default().to_owned())
        };
        let mut heard = Heard {
            status: response.status().as_u16(),
            content_type: text(CONTENT_TYPE),
            retry_after: text(RETRY_AFTER),
            body: Vec::new(),
        };
        if response.status().is_success() {
            heard.body = whole_body(response).await?;
        }
        Ok(heard)
    }
}

async fn whole_body(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| fault_of(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(Fault::Garbled(Garble::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An address that a connection can be made to. A user in it would be sent and shown.
fn address(url: &str) -> Option<Url> {
    let url = Url::parse(url).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    (plain && matches!(url.scheme(), "http" | "https")).then_some(url)
}

fn headers(upstream: &Upstream) -> Result<HeaderMap, SetupError> {
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json.clone()), (ACCEPT, json)]);
    if let Some(key) = &upstream.key {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", key.reveal()));
        let mut bearer = bearer.map_err(|_| SetupError::Key {
            upstream: upstream.name.clone(),
        })?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// What an error of the library means for us. Its text is left behind: it quotes addresses.
fn fault_of(error: &reqwest::Error) -> Fault {
    if is_distrust(error) {
        Fault::Untrusted
    } else if error.is_connect() {
        Fault::Unreachable // refused, no route, no name, or not within the limit for it
    } else if error.is_timeout() {
        Fault::Slow
    } else {
        Fault::Broken
    }
}
