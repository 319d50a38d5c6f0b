//! A server as a source, over HTTPS, or over HTTP where the site allows it for a mirror of its
//! own: what arrives is verified either way, and TLS only keeps others from looking on.
//!
//! Invariants:
//!
//! - An open file is one request, but for redirects, of which there are few, and none leads from
//!   TLS into the clear.
//! - The environment's proxy is not asked: a device reaches what its configuration names.
//! - Where a server marks its files, a range is asked for only of the file that was begun.
//! - Nothing is read beyond what was asked for, however much a server would send.
//!
//! The client is asynchronous and the download is not: each source drives its own connections,
//! while it is waited for. It must not be used within a runtime.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE,
};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};
use tokio::runtime::{Builder, Runtime};

use super::{Body, Fault, Opened, Piece, Source};
use crate::broker::Tls;
use crate::broker::tls::{TlsError, http_client_config, is_distrust};

/// The longest that a connection may take: a line over a mobile network has its delay.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest that a server may think before it answers: a mirror may wake its disks first.
const HEAD: Duration = Duration::from_secs(30);
/// Redirects for one file: a server to its mirrors, those to their storage, and one more.
const MAX_REDIRECTS: usize = 3;
/// Marks that are remembered: those of a package's models, and then some.
const MAX_MARKS: usize = 32;
/// How long an unused connection is kept: below the minute that most servers wait.
const IDLE: Duration = Duration::from_secs(30);

/// How servers are reached.
#[derive(Clone, Debug, Default)]
pub struct HttpSettings {
    /// Whom to believe.
    pub tls: Tls,
}

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("{0:?} must be http:// or https://, with a host, and without a user, ? and #")]
    Url(String),
    /// Its certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client cannot be made.
    #[error("no connection can be set up")]
    Client,
    /// Nothing can wait for a connection.
    #[error("no connection can be driven: {0}")]
    Runtime(std::io::Error),
}

/// A server.
pub struct Http {
    name: String,
    base: Url,
    client: reqwest::Client,
    runtime: Arc<Runtime>,
    /// How the server marks the files that were opened last.
    marks: VecDeque<(String, HeaderValue)>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Http {
    /// Sets up the way to a server; connects nothing.
    pub fn new(url: &str, settings: &HttpSettings) -> Result<Self, HttpError> {
        let base = address(url).ok_or_else(|| HttpError::Url(crate::fault::shortened(url)))?;
        let tls = http_client_config(base.scheme(), &settings.tls)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .redirect(Policy::custom(|attempt| {
                let before = attempt.previous();
                let was_tls = before.iter().any(|url| url.scheme() == "https");
                let clear = was_tls && attempt.url().scheme() != "https";
                if before.len() > MAX_REDIRECTS || clear {
                    attempt.error("elsewhere")
                } else {
                    attempt.follow()
                }
            }))
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|_| HttpError::Client)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            name: url.to_owned(),
            base,
            client,
            runtime: Arc::new(runtime.map_err(HttpError::Runtime)?),
            marks: VecDeque::new(),
        })
    }

    fn request(&self, path: &str) -> Result<reqwest::RequestBuilder, Fault> {
        // Paths are made of digests and names; the base ends with a slash.
        let url = self.base.join(path).map_err(|_| Fault::Missing)?;
        Ok(self.client.get(url).header(ACCEPT_ENCODING, "identity"))
    }

    /// What a server answers, without its body.
    fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, Fault> {
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(HEAD, request.send()).await });
        sent.map_err(|_| Fault::Slow)?
            .map_err(|error| fault_of(&error))
    }

    fn body(&self, response: Response) -> Box<dyn Body> {
        Box::new(Answer {
            response,
            runtime: Arc::clone(&self.runtime),
            piece: Vec::new(),
        })
    }

    /// How a file was marked.
    fn mark_of(&self, path: &str) -> Option<&HeaderValue> {
        let known = self.marks.iter().find(|(of, _)| of == path);
        known.map(|(_, mark)| mark)
    }

    /// Remembers it. Of the oldest nobody goes on with the download.
    fn remember(&mut self, path: &str, mark: Option<HeaderValue>) {
        self.marks.retain(|(of, _)| of != path);
        self.marks.extend(mark.map(|mark| (path.to_owned(), mark)));
        if self.marks.len() > MAX_MARKS {
            self.marks.pop_front();
        }
    }
}

impl Source for Http {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self, path: &str, from: u64, total: u64) -> Result<Opened, Fault> {
        let mut request = self.request(path)?;
        if from > 0 {
            let last = total.saturating_sub(1);
            request = request.header(RANGE, format!("bytes={from}-{last}"));
            if let Some(mark) = self.mark_of(path) {
                request = request.header(IF_RANGE, mark);
            }
        }
        let response = self.answer(request)?;
        let from = begins_at(&response, from, total)?;
        let mark = response.headers().get(ETAG);
        // A weak mark promises no equal bytes, and must not stand in If-Range.
        let mark = mark.filter(|mark| mark.as_bytes().starts_with(b"\""));
        let mark = mark.cloned();
        self.remember(path, mark);
        let body = self.body(response);
        Ok(Opened { from, body })
    }

    fn open_whole(&mut self, path: &str) -> Result<Box<dyn Body>, Fault> {
        let response = self.answer(self.request(path)?)?;
        plain(&response)?;
        match response.status() {
            StatusCode::OK => Ok(self.body(response)),
            other => Err(refusal(other)),
        }
    }
}

/// Nobody asked for an encoding.
fn plain(response: &Response) -> Result<(), Fault> {
    let encoding = response.headers().get(CONTENT_ENCODING);
    match encoding {
        Some(encoding) if encoding != "identity" => Err(Fault::Encoded),
        Some(_) | None => Ok(()),
    }
}

/// What a status means that brings no bytes.
fn refusal(status: StatusCode) -> Fault {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Fault::Missing,
        other if other.is_redirection() => Fault::Elsewhere,
        other => Fault::Status(other.as_u16()),
    }
}

/// Where the body of an answer begins in the file.
fn begins_at(response: &Response, from: u64, total: u64) -> Result<u64, Fault> {
    let wanted = total;
    plain(response)?;
    let said = response.content_length();
    match response.status() {
        StatusCode::OK => match said {
            Some(said) if said != total => Err(Fault::Length { said, wanted }),
            Some(_) | None => Ok(0),
        },
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(CONTENT_RANGE);
            let range = range.and_then(|it| content_range(it.to_str().ok()?));
            match range {
                Some((_, _, Some(said))) if said != total => Err(Fault::Length { said, wanted }),
                Some((first, last, _)) if first == from && last < total => {
                    let announced = last - first + 1;
                    match said {
                        Some(said) if said != announced => Err(Fault::Range),
                        Some(_) | None => Ok(from),
                    }
                }
                Some(_) | None => Err(Fault::Range),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Err(Fault::BehindEnd),
        other => Err(refusal(other)),
    }
}

/// `bytes FIRST-LAST/TOTAL`, where the total may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    (first <= last).then_some((first, last, total))
}

/// An answer whose body is on its way.
struct Answer {
    response: Response,
    runtime: Arc<Runtime>,
    piece: Vec<u8>,
}

impl Body for Answer {
    fn next(&mut self, wait: Duration) -> Result<Piece<'_>, Fault> {
        let next = self.response.chunk();
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(wait, next).await });
        match next {
            Err(_) => Ok(Piece::Nothing),
            Ok(Err(error)) => Err(fault_of(&error)),
            Ok(Ok(None)) => Ok(Piece::End),
            Ok(Ok(Some(piece))) if piece.is_empty() => Ok(Piece::Nothing),
            Ok(Ok(Some(piece))) => {
                self.piece.clear();
                self.piece.extend_from_slice(&piece);
                Ok(Piece::Bytes(&self.piece))
            }
        }
    }
}

/// An address below which files lie. A user in it would be sent and shown; a query would be lost.
fn address(url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    let bare = url.query().is_none() && url.fragment().is_none();
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    (plain && bare && matches!(url.scheme(), "http" | "https")).then_some(url)
}

/// What an error of the library means for us. Its text is left behind: it quotes addresses.
fn fault_of(error: &reqwest::Error) -> Fault {
    if is_distrust(error) {
        Fault::Untrusted
    } else if error.is_redirect() {
        Fault::Elsewhere
    } else if error.is_connect() {
        Fault::Unreachable
    } else if error.is_timeout() {
        Fault::Slow
    } else {
        Fault::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_only_if_it_is_one() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, 0, None)));
        for wrong in [
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-/10",
            "bytes +5-9/10",
            "items 5-9/10",
            "bytes 5-99999999999999999999/10",
            "bytes 5-9",
            "",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_carries_no_login_and_ends_like_a_folder() {
        let base = address("https://models.plant/lineside").unwrap();
        let url = base.join("objects/sha256/ab/cd").unwrap();
        assert_eq!(
            url.as_str(),
            "https://models.plant/lineside/objects/sha256/ab/cd"
        );
        for wrong in [
            "https://user@models.plant/",
            "https://u:p@models.plant/",
            "ftp://models.plant/",
            "https://models.plant/?a=b",
            "https://models.plant/#a",
            "models.plant",
        ] {
            assert!(address(wrong).is_none(), "{wrong}");
        }
    }
}
