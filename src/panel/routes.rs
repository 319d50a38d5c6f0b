//! The routes: what there is to fetch, and the headers that everything goes with.
//!
//! | Path | What |
//! | --- | --- |
//! | `/`, `/panel.js`, `/panel.css` | the page |
//! | `/healthz` | 200 while the dispatcher answers, else 503 |
//! | `/readyz` | 200 while requests are taken, else 503 with the reason |
//! | `/metrics` | OpenMetrics |
//! | `/api/state`, `/api/track` | the facts and the curves, as JSON |
//! | `/events` | the facts, each time that they are new (server-sent events) |
//! | `/api/review`, `/api/review/ID` | the inbox, and one item; `POST /api/review` settles |

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::door::Peer;
use super::facts::Seen;
use super::guard::Denied;
use super::{House, metrics, pages, review, wellness};

/// An event stream ends after this, and the browser opens another: so a client that is gone without
/// a word does not hold a place for ever.
const STREAM_LIFE: Duration = Duration::from_hours(1);
/// A look older than this is no sign of life.
const STALE: Duration = Duration::from_secs(15);
/// Who shows a wrong token waits: guessing takes time.
const WRONG_TOKEN: Duration = Duration::from_secs(1);

/// Everything that is sent goes with these.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, pages::POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

pub(super) fn all(house: Arc<House>) -> Router {
    Router::new()
        .route("/", get(pages::html))
        .route("/panel.js", get(pages::script))
        .route("/panel.css", get(pages::style))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/api/state", get(state))
        .route("/api/track", get(track))
        .route("/events", get(events))
        .route("/api/review", get(review::list).post(review::act))
        .route("/api/review/:id", get(review::show))
        .fallback(nowhere)
        .layer(from_fn_with_state(Arc::clone(&house), watched))
        .with_state(house)
}

/// The guard before everything, the headers after it.
async fn watched(
    State(house): State<Arc<House>>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let admitted = (house.guard).admit(peer, request.method(), path, request.headers());
    let mut response = match admitted {
        Ok(viewer) => {
            request.extensions_mut().insert(viewer);
            next.run(request).await
        }
        Err(denied) => {
            house.traffic.denied.fetch_add(1, Ordering::Relaxed);
            if denied == Denied::BadToken {
                sleep(WRONG_TOKEN).await;
            }
            denied.into_response()
        }
    };
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Host => (StatusCode::MISDIRECTED_REQUEST, "host"),
            Self::NoToken | Self::BadToken => (StatusCode::UNAUTHORIZED, "token"),
            Self::Foreign => (StatusCode::FORBIDDEN, "foreign"),
        };
        let mut response = refused(status, code, &self.to_string());
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        if status == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"lineside\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        response
    }
}

async fn nowhere() -> Response {
    refused(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

/// JSON, as it is sent.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    let text = serde_json::to_string(value).expect("words and numbers always serialize");
    json_text(text)
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// A refusal, in the form that all surfaces have.
pub(super) fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    #[derive(Serialize)]
    struct Refused<'a> {
        error: Fault<'a>,
    }
    #[derive(Serialize)]
    struct Fault<'a> {
        code: &'a str,
        message: &'a str,
    }
    let error = Fault { code, message };
    (status, json(&Refused { error })).into_response()
}

/// The last look, if it is a sign of life.
fn alive(house: &House) -> Option<Arc<Seen>> {
    let seen = Arc::clone(&house.seen.borrow());
    let age = house.clock.now().mono.since(seen.at.mono);
    (age < STALE && seen.status.is_some()).then_some(seen)
}

async fn healthz(State(house): State<Arc<House>>) -> Response {
    match alive(&house) {
        Some(_) => "ok\n".into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the dispatcher does not answer\n",
        )
            .into_response(),
    }
}

async fn readyz(State(house): State<Arc<House>>) -> Response {
    let seen = alive(&house);
    match wellness::is_ready(seen.as_ref().and_then(|it| it.status.as_ref())) {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics_text(State(house): State<Arc<House>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    let format = metrics::Format::wanted(accept);
    let figures = metrics::Figures {
        seen: Arc::clone(&house.seen.borrow()),
        alive: alive(&house).is_some(),
        meters: Arc::clone(&house.sources.meters),
        limits: house.limits.clone(),
        traffic: Arc::clone(&house.traffic),
        streams: super::MAX_STREAMS - house.streams.available_permits(),
        tally: house.sources.tally.borrow().clone(),
        spent: house.sources.spent.borrow().clone(),
        node: house.sources.node.as_ref().map(|it| *it.borrow()),
    };
    let kind = [(header::CONTENT_TYPE, format.kind())];
    (kind, metrics::text(figures, format)).into_response()
}

async fn state(State(house): State<Arc<House>>) -> Response {
    let seen = Arc::clone(&house.seen.borrow());
    if seen.json.is_empty() {
        let message = "nobody has looked yet";
        return refused(StatusCode::SERVICE_UNAVAILABLE, "not_yet", message);
    }
    json_text(seen.json.clone())
}

async fn track(State(house): State<Arc<House>>) -> Response {
    let track = Arc::clone(&house.track.borrow());
    json_text(if track.is_empty() {
        "{}".into()
    } else {
        track.to_string()
    })
}

async fn events(State(house): State<Arc<House>>) -> Response {
    let Ok(place) = Arc::clone(&house.streams).try_acquire_owned() else {
        house.traffic.streams_full.fetch_add(1, Ordering::Relaxed);
        let message = "as many windows as there may be are open; this one tries again";
        let full = refused(StatusCode::SERVICE_UNAVAILABLE, "streams_full", message);
        // Its connection must not hold a place either.
        let headers = [(header::RETRY_AFTER, "10"), (header::CONNECTION, "close")];
        return (headers, full).into_response();
    };
    house.hurry.notify_one();
    let (words, heard) = mpsc::channel(1);
    tokio::spawn(tell(house.seen.subscribe(), words));
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    let stream = Stream {
        heard,
        _place: place,
    };
    (kind, Body::new(stream)).into_response()
}

/// Sends the facts until the other end is gone. What is too much for it is left out: only the last
/// of them counts.
async fn tell(mut seen: watch::Receiver<Arc<Seen>>, words: mpsc::Sender<Bytes>) {
    let telling = async {
        if words
            .send(Bytes::from_static(b"retry: 5000\n\n"))
            .await
            .is_err()
        {
            return;
        }
        loop {
            let now = Arc::clone(&seen.borrow_and_update());
            let event = format!("event: facts\ndata: {}\n\n", now.json);
            if !now.json.is_empty() && words.send(event.into()).await.is_err() {
                return;
            }
            tokio::select! {
                changed = seen.changed() => if changed.is_err() { return },
                () = words.closed() => return,
            }
        }
    };
    let _ = timeout(STREAM_LIFE, telling).await; // see there
}

/// The body of an event stream; its place is free when the connection lets go of it.
struct Stream {
    heard: mpsc::Receiver<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.heard
            .poll_recv(cx)
            .map(|words| words.map(|it| Ok(Frame::data(it))))
    }
}
