//! The way to a server that signs certificates: HTTPS, one question at a time, within limits.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response};
use tokio::runtime::{Builder, Runtime};

use crate::broker::Tls;
use crate::broker::tls::{TlsError, client_config, is_distrust};
use crate::config::{Est, Login};

/// The longest that a connection may take: a line over a mobile network has its delay.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest that an answer may take, whole: an authority may ask a module that signs slowly.
const ANSWER: Duration = Duration::from_mins(1);
/// Bytes of an answer: sixteen certificates with large keys take half of it.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No connection comes about.
    #[error("cannot be reached")]
    Unreachable,
    /// It does not prove who it is.
    #[error(
        "its certificate does not convince (see provision.ca_file, and whether this board's clock is \
         right)"
    )]
    Untrusted,
    /// It answers too late.
    #[error("gave no whole answer within {} seconds", ANSWER.as_secs())]
    Slow,
    /// The connection broke; a server that wants another certificate breaks it, too.
    #[error("the connection broke")]
    Cut,
    /// It says too much.
    #[error("its answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client cannot be made.
    #[error("no connection can be set up")]
    Client,
    /// Nothing can wait for a connection.
    #[error("no connection can be driven: {0}")]
    Runtime(std::io::Error),
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) retry_after: Option<String>,
    pub(super) body: Vec<u8>,
}

/// The way to one server.
pub(super) struct Line {
    base: String,
    login: Option<Login>,
    client: reqwest::Client,
    runtime: Runtime,
}

impl Line {
    /// Sets up the way; connects nothing.
    pub(super) fn new(est: &Est, tls: &Tls) -> Result<Self, SetupError> {
        let tls = client_config(tls)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            // Who signs is who was named; and a password goes nowhere else.
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .https_only(true)
            .connect_timeout(CONNECT)
            .build()
            .map_err(|_| SetupError::Client)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            base: est.url.clone(),
            login: est.login.clone(),
            client,
            runtime: runtime.map_err(SetupError::Runtime)?,
        })
    }

    /// Asks for what everybody may know: no password goes along.
    pub(super) fn get(&self, what: &str) -> Result<Heard, Fault> {
        self.carry(self.client.get(self.address(what)))
    }

    /// Hands in a request.
    pub(super) fn post(&self, what: &str, kind: &str, body: String) -> Result<Heard, Fault> {
        let mut request = self.client.post(self.address(what));
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.username, Some(login.password.reveal()));
        }
        self.carry(request.header(CONTENT_TYPE, kind).body(body))
    }

    fn address(&self, what: &str) -> String {
        format!("{}/{what}", self.base)
    }

    fn carry(&self, request: RequestBuilder) -> Result<Heard, Fault> {
        let request = request.header(ACCEPT_ENCODING, "identity");
        let exchange = async {
            let response = request.send().await.map_err(|error| fault_of(&error))?;
            heard(response).await
        };
        self.runtime
            .block_on(async { tokio::time::timeout(ANSWER, exchange).await })
            .unwrap_or(Err(Fault::Slow))
    }
}

async fn heard(mut response: Response) -> Result<Heard, Fault> {
    let text = |name: HeaderName| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let mut heard = Heard {
        status: response.status().as_u16(),
        content_type: text(CONTENT_TYPE).unwrap_or_default(),
        retry_after: text(RETRY_AFTER),
        body: Vec::new(),
    };
    while let Some(piece) = response.chunk().await.map_err(|error| fault_of(&error))? {
        if heard.body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(Fault::TooLong);
        }
        heard.body.extend_from_slice(&piece);
    }
    Ok(heard)
}

/// What an error of the library means for us. Its text is left behind: it quotes addresses.
fn fault_of(error: &reqwest::Error) -> Fault {
    if is_distrust(error) {
        Fault::Untrusted
    } else if error.is_connect() {
        Fault::Unreachable
    } else if error.is_timeout() {
        Fault::Slow
    } else {
        Fault::Cut
    }
}
