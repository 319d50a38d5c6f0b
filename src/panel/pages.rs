//! The page: three files inside the program, without anything from elsewhere.

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

/// The whole page may weigh so much: a radio link at the far end of the plant loads it in a second.
pub(super) const MAX_BYTES: usize = 100_000;

const HTML: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/panel.js");
const STYLE: &str = include_str!("page/panel.css");
const _: () = assert!(HTML.len() + SCRIPT.len() + STYLE.len() < MAX_BYTES);

/// No inline script or style, nothing from elsewhere, no frame around it, no form that leads away.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

fn file(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, kind)], text)
}

pub(super) async fn html() -> impl IntoResponse {
    file("text/html; charset=utf-8", HTML)
}

pub(super) async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", STYLE)
}
