//! A certificate over the network: Enrolment over Secure Transport (RFC 7030, RFC 8951).
//!
//! ```text
//!  none, another key's, run out ──► cacerts ─► simpleenroll    shows name and password, birth certificate
//!  a third of its life is left  ──► cacerts ─► simplereenroll  shows the present certificate
//!  otherwise                    ──► nobody is asked
//! ```
//!
//! Purpose: ask a server to sign this device's key, and take what it answers if it is what was asked
//! for. The key itself goes nowhere; a renewal keeps it.
//!
//! Invariants: an answer is taken only if it is a bundle of certificates, exactly
//! one of which is of this device's key, and that one descends from an authority that the same server
//! named in the same conversation, and counts now. What is there stays until then, and is replaced
//! whole.
//!
//! How it fails: by [`Refusal`], which says what was asked and what came. A request that a person must
//! look at first ([`Enrolled::Later`]) is no failure; the same request is handed in again at the next run.
//!
//! Left out: attributes that a server would have requests carry (`csrattrs`), keys made by a server
//! (against the purpose), the link of a request to its connection (`tls-unique`, which TLS 1.3 no
//! longer has).

use std::time::Duration;

use super::bundle;
use super::certificate::Certificate;
use super::line::{Heard, Line};
use super::request;
use crate::broker::{Identity, Tls, tls};
use crate::clock::Wall;
use crate::config::Est;
use crate::ota::tuf::base64;

const AUTHORITIES: &str = "cacerts";
const FIRST: &str = "simpleenroll";
const AGAIN: &str = "simplereenroll";
/// How a request is announced, and how certificates must be.
const REQUEST_TYPE: &str = "application/pkcs10";
const BUNDLE_TYPE: &str = "application/pkcs7-mime";
/// How far an authority's clock may be ahead of this board's: what was signed a moment ago begins to count
/// by that clock. Boards without the right time by minutes are told, not believed.
const MAX_AHEAD: Duration = Duration::from_mins(5);
/// Signs of what a server says in words: enough for a sentence.
const MAX_WORDS: usize = 200;

/// What is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: the certificate lasts.
    Nothing,
    /// For a first certificate.
    First,
    /// For the same one anew.
    Again,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Enrolled {
    /// Certificates.
    Signed(Signed),
    /// Somebody has to look at it first.
    Later {
        /// When to ask again, in the server's words.
        after: String,
    },
}

/// Certificates that were taken, each in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// This device's, and those up to the authority's.
    pub(super) chain: Vec<Vec<u8>>,
    /// The authorities' own.
    pub(super) authorities: Vec<Vec<u8>>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Nobody can be asked.
    #[error("{0}")]
    Setup(#[from] super::line::SetupError),
    /// There is no answer.
    #[error("{0}")]
    Line(#[from] super::line::Fault),
    /// It wants to know who asks.
    #[error(
        "{what} was answered with status {status}: it does not know this device (see \
         provision.username and provision.cert_file){words}"
    )]
    Unknown {
        /// What was asked.
        what: &'static str,
        /// What came.
        status: u16,
        /// In its words.
        words: String,
    },
    /// It answers otherwise.
    #[error("{what} was answered with status {status}{words}")]
    Status {
        /// What was asked.
        what: &'static str,
        /// What came.
        status: u16,
        /// In its words.
        words: String,
    },
    /// It answers with something else.
    #[error("{what} was answered by another kind of content than {BUNDLE_TYPE}")]
    Kind {
        /// What was asked.
        what: &'static str,
    },
    /// What it answers cannot be read.
    #[error("{what} was answered by something that is no bundle of certificates")]
    Form {
        /// What was asked.
        what: &'static str,
    },
    /// None is this device's, or several are.
    #[error("of the certificates that came, {count} belong to this device's key; one must")]
    Others {
        /// How many do.
        count: usize,
    },
    /// It would convince nobody.
    #[error("the certificate that came would not be believed: {0}")]
    Unconvincing(String),
    /// The random numbers failed.
    #[error("the system gives no random numbers")]
    Random,
}

/// The device, as far as it is needed here.
pub(super) struct Device<'a> {
    /// Its key.
    pub(super) pair: &'a ring::signature::EcdsaKeyPair,
    /// The first request, in DER.
    pub(super) request: &'a [u8],
    /// Where certificate and key lie, for those who ask.
    pub(super) identity: &'a Identity,
    /// Its certificate, in DER, if it has one.
    pub(super) present: Option<&'a [u8]>,
}

impl Device<'_> {
    fn certificate(&self) -> Option<Certificate<'_>> {
        let own = request::public(self.pair);
        Certificate::read(self.present?).filter(|it| it.public == own)
    }

    /// What is to be asked at this moment. A board whose clock stands before the certificate begins
    /// to count cannot know, and asks nothing.
    pub(super) fn step(&self, now: Wall, is_forced: bool) -> Step {
        match self.certificate() {
            None => Step::First,
            Some(present) if present.until <= now => Step::First,
            Some(present) if present.due() <= now || is_forced => Step::Again,
            Some(_) => Step::Nothing,
        }
    }

    /// Asks for a first certificate.
    pub(super) fn enrol(&self, est: &Est, now: Wall) -> Result<Enrolled, Refusal> {
        let identity = est.birth.as_ref().map(|birth| Identity {
            cert_file: birth.cert_file.clone(),
            key_file: birth.key_file.clone(),
        });
        let line = line(est, identity)?;
        self.ask(&line, FIRST, self.request, now)
    }

    /// Asks for the present certificate anew, and shows it.
    pub(super) fn renew(&self, est: &Est, now: Wall) -> Result<Enrolled, Refusal> {
        let request = self
            .certificate()
            .and_then(|it| request::again(self.pair, &it));
        let line = line(est, Some(self.identity.clone()))?;
        self.ask(&line, AGAIN, &request.ok_or(Refusal::Random)?, now)
    }

    fn ask(
        &self,
        line: &Line,
        what: &'static str,
        request: &[u8],
        now: Wall,
    ) -> Result<Enrolled, Refusal> {
        let authorities = bundle_of(AUTHORITIES, &line.get(AUTHORITIES)?)?;
        let heard = line.post(what, REQUEST_TYPE, base64(request))?;
        if heard.status == 202 {
            let after = heard.retry_after.as_deref().unwrap_or("a while");
            let after = tidy(after.as_bytes());
            return Ok(Enrolled::Later { after });
        }
        let chain = bundle_of(what, &heard)?;
        let chain = self.own_first(chain)?;
        let from = Certificate::read(&chain[0]).map_or(now, |own| own.from);
        let is_ahead = from > now && from <= now.after(MAX_AHEAD);
        let at = if is_ahead { from } else { now };
        tls::is_believed(&authorities, &chain, at)
            .map_err(|why| Refusal::Unconvincing(why.to_string()))?;
        Ok(Enrolled::Signed(Signed { chain, authorities }))
    }

    /// This device's certificate in front of the others.
    fn own_first(&self, mut chain: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Refusal> {
        let own = request::public(self.pair);
        let is_own = |der: &Vec<u8>| Certificate::read(der).is_some_and(|it| it.public == own);
        match chain.iter().filter(|der| is_own(der)).count() {
            1 => {
                chain.sort_by_key(|der| !is_own(der));
                Ok(chain)
            }
            count => Err(Refusal::Others { count }),
        }
    }
}

fn line(est: &Est, identity: Option<Identity>) -> Result<Line, Refusal> {
    let tls = Tls {
        ca_file: est.ca_file.clone(),
        identity,
    };
    Ok(Line::new(est, &tls)?)
}

/// The certificates of an answer.
fn bundle_of(what: &'static str, heard: &Heard) -> Result<Vec<Vec<u8>>, Refusal> {
    let status = heard.status;
    match status {
        200 => {}
        401 | 403 => {
            let words = words(heard);
            return Err(Refusal::Unknown {
                what,
                status,
                words,
            });
        }
        _ => {
            let words = words(heard);
            return Err(Refusal::Status {
                what,
                status,
                words,
            });
        }
    }
    if !is_bundle(&heard.content_type) {
        return Err(Refusal::Kind { what });
    }
    bundle::certificates(&heard.body).ok_or(Refusal::Form { what })
}

/// Whether this announces certificates. The parameter may be left out (RFC 8951, section 3.2), but must
/// not say something else.
fn is_bundle(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    kind.eq_ignore_ascii_case(BUNDLE_TYPE)
        && parts.all(|part| match part.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("smime-type") => value
                .trim()
                .trim_matches('"')
                .eq_ignore_ascii_case("certs-only"),
            Some(_) | None => true,
        })
}

/// What a server says in words, if it says something.
fn words(heard: &Heard) -> String {
    let is_text = heard
        .content_type
        .to_ascii_lowercase()
        .starts_with("text/plain");
    let said = tidy(if is_text { &heard.body } else { &[] });
    if said.is_empty() {
        return String::new();
    }
    format!(": {said}")
}

/// Foreign words, fit for a terminal and a log.
fn tidy(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '?'
        }
    };
    text.trim().chars().take(MAX_WORDS).map(plain).collect()
}

#[cfg(test)]
mod tests;
