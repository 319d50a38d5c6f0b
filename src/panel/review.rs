//! The review inbox over HTTP: the port of [`crate::review`], for the viewer that the guard named.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, body};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::House;
use super::guard::Viewer;
use super::routes::{json, refused};
use crate::dispatch::{Answer, Inquiry};
use crate::review::{
    Asked, MAX_PAGE, MAX_TEXT_BYTES, Named, Refusal, Reviewer, Row, Told, Verdict,
};

/// Bytes of a verdict: the longest text, escaped in the longest way, and the rest.
const MAX_BODY_BYTES: usize = 6 * MAX_TEXT_BYTES + 4096;
/// How long it may take to arrive.
const BODY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// What somebody does with an item.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    action: Action,
    id: String,
    reviewer: String,
    text: Option<String>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Take,
    Release,
    Approve,
    Correct,
    Reject,
}

#[derive(Serialize)]
struct Listed {
    items: Vec<Row>,
    total: usize,
    /// Whether what is restricted is among them.
    viewer: &'static str,
}

/// What waits.
pub(super) async fn list(
    State(house): State<Arc<House>>,
    Extension(viewer): Extension<Viewer>,
) -> Response {
    let asked = Asked::List {
        after: None,
        max: MAX_PAGE,
    };
    put(&house, viewer, asked).await
}

/// One item with its texts.
pub(super) async fn show(
    State(house): State<Arc<House>>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    match id.parse::<Named>() {
        Ok(named) => put(&house, viewer, Asked::Show(named)).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// A verdict, or a hand on an item.
pub(super) async fn act(
    State(house): State<Arc<House>>,
    Extension(viewer): Extension<Viewer>,
    body: body::Body,
) -> Response {
    let Ok(bytes) = timeout(BODY_PATIENCE, body::to_bytes(body, MAX_BODY_BYTES)).await else {
        let status = StatusCode::REQUEST_TIMEOUT;
        return refused(status, "timeout", "the body did not come in time");
    };
    let Ok(bytes) = bytes else {
        let message = format!("more than {MAX_BODY_BYTES} bytes, or cut off");
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message);
    };
    let deed = match serde_json::from_slice::<Deed>(&bytes) {
        Ok(deed) => deed,
        Err(error) => {
            // Where, and not what: it may quote a text.
            let (line, column) = (error.line(), error.column());
            let message = format!(
                "not {{action, id, reviewer, text or reason}} (line {line}, column {column})"
            );
            return refused(StatusCode::BAD_REQUEST, "syntax", &message);
        }
    };
    match deed.asked() {
        Ok(asked) => put(&house, viewer, asked).await,
        Err(refusal) => refusal.into_response(),
    }
}

impl Deed {
    fn asked(self) -> Result<Asked, Refusal> {
        let named = self.id.parse()?;
        let reviewer = Reviewer::named(&self.reviewer)?;
        let verdict = match self.action {
            Action::Take => return Ok(Asked::Take(named, reviewer)),
            Action::Release => return Ok(Asked::GiveBack(named, reviewer)),
            Action::Approve => Verdict::Approve,
            Action::Correct => Verdict::Correct(self.text.unwrap_or_default()),
            Action::Reject => Verdict::Reject(self.reason.unwrap_or_default()),
        };
        verdict.check()?;
        Ok(Asked::Rule(named, reviewer, verdict))
    }
}

async fn put(house: &House, viewer: Viewer, asked: Asked) -> Response {
    let inquiry = match viewer {
        Viewer::Here => Inquiry::Review(asked),
        Viewer::Elsewhere => Inquiry::ReviewElsewhere(asked),
    };
    let Ok(_place) = house.inquiries.acquire().await else {
        return no_answer();
    };
    match house.sources.counter.inquire(inquiry).await {
        Some(Answer::Review(Ok(told))) => shown(told, viewer),
        Some(Answer::Review(Err(refusal))) => refusal.into_response(),
        Some(
            Answer::Reply(_)
            | Answer::Status(_)
            | Answer::Trace(_)
            | Answer::Learned(_)
            | Answer::Latest(_)
            | Answer::Maintenance(_),
        )
        | None => no_answer(),
    }
}

fn no_answer() -> Response {
    let message = "the appliance did not answer";
    refused(StatusCode::SERVICE_UNAVAILABLE, "no_answer", message)
}

fn shown(told: Told, viewer: Viewer) -> Response {
    #[derive(Serialize)]
    struct Done {
        id: String,
        done: &'static str,
    }
    let done = |id: String, done| json(&Done { id, done });
    match told {
        Told::Listed { rows, total, .. } => json(&Listed {
            items: rows,
            total,
            viewer: match viewer {
                Viewer::Here => "here",
                Viewer::Elsewhere => "elsewhere",
            },
        }),
        Told::Sheet(sheet) => json(&sheet),
        Told::GivenBack(id) => done(id.to_string(), "released"),
        Told::Ruled(id) => done(id.to_string(), "settled"),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Settled | Self::Held { .. } | Self::NotHeld | Self::Ambiguous { .. } => {
                StatusCode::CONFLICT
            }
            Self::Store => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoDraft
            | Self::Empty { .. }
            | Self::TooLong { .. }
            | Self::Form { .. }
            | Self::BadId
            | Self::BadCursor
            | Self::BadReviewer => StatusCode::UNPROCESSABLE_ENTITY,
        };
        refused(status, self.code(), &self.to_string())
    }
}
