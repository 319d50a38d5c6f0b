//! What a reviewer sees of an item: the rows of the list, and the sheet with its texts.
//!
//! These are wire structs: the control socket, the remote items and the command line speak them, so
//! all surfaces show the same. A [`Row`] holds no text of the request, a [`Sheet`] does.

use serde::{Deserialize, Serialize};

use super::desk::Seen;
use super::form::Wanted;
use crate::clock::{Now, millis};
use crate::engine::Completion;
use crate::intake::Priority;
use crate::reply::Source;

/// One line of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The item's name.
    pub id: String,
    /// The request's id, for `lineside trace`.
    pub request_id: String,
    /// Who asked.
    pub client: String,
    /// For which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// `high`, `normal` or `low`.
    pub priority: String,
    /// `public`, `internal` or `restricted`.
    pub classification: String,
    /// When the request was accepted: milliseconds since 1970.
    pub accepted_ms: u64,
    /// When nobody is waited for any more.
    pub expires_ms: u64,
    /// How long it has waited since it was accepted.
    pub age_ms: u64,
    /// Who has taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until_ms: Option<u64>,
}

/// One item with its texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    /// What the list says of it.
    #[serde(flatten)]
    pub row: Row,
    /// What was asked, as it was sent.
    pub question: String,
    /// What an answer must be.
    pub answer: Answer,
    /// The best answer so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<Draft>,
    /// Why a person is asked.
    pub why: String,
}

/// What an answer must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// `text`, `json` or `choice`.
    pub kind: String,
    /// The answers to choose from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// An answer that was not sure enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// What it says.
    pub text: String,
    /// `edge` or `cloud`.
    pub source: String,
    /// Which model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How sure it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f32>,
}

impl Row {
    /// The line of an item.
    pub fn of(seen: &Seen, now: Now) -> Self {
        let head = &seen.head;
        let held = seen.held.as_ref();
        Self {
            id: head.id.to_string(),
            request_id: head.request.clone(),
            client: head.client.clone(),
            task: head.task.clone(),
            priority: priority_word(head.priority).into(),
            classification: head.classification.word().into(),
            accepted_ms: head.accepted.0,
            expires_ms: head.expires.0,
            age_ms: millis(now.wall.since(head.accepted)),
            held_by: held.map(|(by, _)| by.as_str().to_owned()),
            held_until_ms: held.map(|(_, until)| until.0),
        }
    }
}

impl Answer {
    /// In the words of the wire.
    pub fn of(wanted: &Wanted) -> Self {
        Self {
            kind: wanted.kind().into(),
            choices: wanted.choices().to_vec(),
        }
    }
}

impl Draft {
    /// An answer as a reviewer sees it.
    pub fn of(source: &Source, completion: &Completion) -> Self {
        let own = &completion.model;
        let (model, confidence) = match source {
            Source::Edge => {
                let model = format!("{}-{}", own.package, own.seq);
                (Some(model), Some(completion.confidence))
            }
            Source::Cloud(elsewhere) => {
                let model = format!("{} ({})", elsewhere.upstream, elsewhere.model);
                (Some(model), elsewhere.confidence)
            }
            Source::Human => (None, None),
        };
        Self {
            text: completion.text.clone(),
            source: source.word().into(),
            model,
            confidence,
        }
    }
}

/// The word in requests and lists.
fn priority_word(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}
