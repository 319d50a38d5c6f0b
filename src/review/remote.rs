//! Reviewers who are not at the appliance: what they are sent, and what they send.
//!
//! | Topic | Message |
//! | --- | --- |
//! | `…/review/item` | an item that waits (`"state":"open"`), or one that waits no more (`"withdrawn"`) |
//! | `…/review/verdict` | what a reviewer says of one |
//! | `…/review/verdict/result` | what became of that |
//!
//! An open item is made of nothing but what the policy cleared for reviewers. It is told again
//! after each reconnect; its id says that it is the same one.
//!
//! How it fails: bytes that are no verdict become a [`Garble`]. It says where the fault is and never
//! quotes what was sent.

use serde::{Deserialize, Serialize};

use super::desk::Seen;
use super::form::Wanted;
use super::sheet::{Answer, Draft, Row, Sheet};
use super::{ItemId, MAX_TEXT_BYTES, Named, Refusal, Reviewer, Verdict};
use crate::clock::Now;
use crate::router::{Cleared, ToReviewers};

/// The version of these messages.
pub const VERSION: u32 = 1;
/// Bytes of a verdict's message: the longest text, escaped in the longest way, and the rest.
pub const MAX_PAYLOAD_BYTES: usize = 6 * MAX_TEXT_BYTES + 4096;

#[derive(Serialize)]
struct WireItem<'a> {
    v: u32,
    state: &'static str,
    #[serde(flatten)]
    sheet: &'a Sheet,
}

#[derive(Serialize)]
struct WireWithdrawn {
    v: u32,
    state: &'static str,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireVerdict {
    v: u32,
    id: String,
    reviewer: String,
    verdict: WireWord,
    text: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireWord {
    Approve,
    Correct,
    Reject,
}

#[derive(Serialize)]
struct WireResult<'a> {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<WireError<'a>>,
}

#[derive(Serialize)]
struct WireError<'a> {
    code: &'a str,
    message: String,
}

/// A verdict from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicted {
    /// Of which item.
    pub id: ItemId,
    /// Whose.
    pub reviewer: Reviewer,
    /// What.
    pub verdict: Verdict,
}

/// Why a message is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garble {
    /// More bytes than a verdict can have.
    #[error("more than {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
    /// Not the JSON of a verdict.
    #[error(
        "not a verdict: it has v, id, reviewer, verdict (approve, correct or reject), and text or \
         reason where that says so (line {line}, column {column})"
    )]
    Json {
        /// Where the fault is.
        line: usize,
        /// In that line.
        column: usize,
    },
    /// A version that is not spoken here.
    #[error("v must be {VERSION}")]
    Version,
    /// A text where none belongs, or none where one does.
    #[error("{0}")]
    Parts(&'static str),
    /// A part that is not within its limits.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Garble {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Json { .. } | Self::Version | Self::Parts(_) => "invalid",
            Self::Refused(refusal) => refusal.code(),
        }
    }
}

/// The message of an open item. What was cleared for another ticket is not told under this one.
pub fn open(
    cleared: &Cleared<ToReviewers>,
    seen: &Seen,
    wanted: &Wanted,
    now: Now,
) -> Option<Vec<u8>> {
    let sheet = sheet(cleared, seen, wanted, now)?;
    let wire = WireItem {
        v: VERSION,
        state: "open",
        sheet: &sheet,
    };
    Some(serde_json::to_vec(&wire).expect("texts and numbers always serialize"))
}

/// What a reviewer elsewhere sees of an item.
pub fn sheet(
    cleared: &Cleared<ToReviewers>,
    seen: &Seen,
    wanted: &Wanted,
    now: Now,
) -> Option<Sheet> {
    let escalation = cleared.escalation();
    let own = cleared.clearance().ticket() == seen.head.no;
    own.then(|| Sheet {
        row: Row::of(seen, now),
        question: escalation.request.ask.text().to_owned(),
        answer: Answer::of(wanted),
        draft: (escalation.draft.as_ref()).map(|(source, it)| Draft::of(source, it)),
        why: escalation.why.to_string(),
    })
}

/// The message that an item waits no more.
pub fn withdrawn(id: ItemId) -> Vec<u8> {
    let wire = WireWithdrawn {
        v: VERSION,
        state: "withdrawn",
        id: id.to_string(),
    };
    serde_json::to_vec(&wire).expect("texts and numbers always serialize")
}

/// What became of a verdict.
pub fn result(id: Option<ItemId>, outcome: Result<(), (&'static str, String)>) -> Vec<u8> {
    let wire = WireResult {
        v: VERSION,
        id: id.map(|id| id.to_string()),
        ok: outcome.is_ok(),
        error: outcome
            .err()
            .map(|(code, message)| WireError { code, message }),
    };
    serde_json::to_vec(&wire).expect("texts and numbers always serialize")
}

/// Reads a verdict. An id must be given whole.
pub fn read(payload: &[u8]) -> Result<Verdicted, Garble> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Garble::TooLarge);
    }
    let wire: WireVerdict = serde_json::from_slice(payload).map_err(|error| Garble::Json {
        line: error.line(),
        column: error.column(),
    })?;
    if wire.v != VERSION {
        return Err(Garble::Version);
    }
    let named: Named = wire.id.parse()?;
    let verdict = match (wire.verdict, wire.text, wire.reason) {
        (WireWord::Approve, None, None) => Verdict::Approve,
        (WireWord::Correct, Some(text), None) => Verdict::Correct(text),
        (WireWord::Reject, None, Some(reason)) => Verdict::Reject(reason),
        (WireWord::Approve, _, _) => {
            return Err(Garble::Parts("approve has no text and no reason"));
        }
        (WireWord::Correct, _, _) => return Err(Garble::Parts("correct has a text and no reason")),
        (WireWord::Reject, _, _) => return Err(Garble::Parts("reject has a reason and no text")),
    };
    verdict.check()?;
    Ok(Verdicted {
        id: named.whole().ok_or(Refusal::BadId)?,
        reviewer: Reviewer::named(&wire.reviewer)?,
        verdict,
    })
}

#[cfg(test)]
mod tests;
