use axum::http::{HeaderName, HeaderValue};

use super::*;

const TOKEN: &str = "a long enough token";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(line).collect()
}

fn asked(
    guard: &Guard,
    peer: &str,
    method: &Method,
    lines: &[(&str, &str)],
) -> Result<Viewer, Denied> {
    let peer = SocketAddr::new(peer.parse().unwrap(), 50_000);
    guard.admit(peer, method, "/", &headers(lines))
}

fn guard(token: Option<&str>) -> Guard {
    Guard::new("Line-3", &["panel.plant".into()], token, true)
}

#[test]
fn only_our_own_names_are_answered_to() {
    let guard = guard(None);
    for host in [
        "localhost",
        "LOCALHOST:9470",
        "127.0.0.1:9470",
        "[::1]:9470",
        "10.0.0.7:9470",
        "line-3",
        "panel.plant:443",
    ] {
        let told = asked(&guard, "127.0.0.1", &Method::GET, &[("host", host)]);
        assert!(told.is_ok(), "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "",
        ":9470",
        "[::1",
    ] {
        let told = asked(&guard, "127.0.0.1", &Method::GET, &[("host", host)]);
        assert_eq!(told, Err(Denied::Host), "{host}");
    }
    let none = asked(&guard, "127.0.0.1", &Method::GET, &[]);
    assert_eq!(none, Err(Denied::Host));
    let two = [("host", "localhost"), ("host", "evil.example")];
    let mut twice = HeaderMap::new();
    for (_, value) in two {
        twice.append("host", HeaderValue::from_static(value));
    }
    let peer = "127.0.0.1:1".parse().unwrap();
    assert_eq!(
        guard.admit(peer, &Method::GET, "/", &twice),
        Err(Denied::Host)
    );
}

#[test]
fn here_is_who_comes_from_the_loopback_and_was_not_passed_on() {
    let guard = guard(None);
    let local = ("host", "localhost:9470");
    let at = |peer, lines: &[_]| asked(&guard, peer, &Method::GET, lines).unwrap();
    assert_eq!(at("127.0.0.1", &[local]), Viewer::Here);
    assert_eq!(at("::1", &[local]), Viewer::Here);
    assert_eq!(at("::ffff:127.0.0.1", &[local]), Viewer::Here);
    assert_eq!(at("10.0.0.9", &[local]), Viewer::Elsewhere);
    assert_eq!(
        at("127.0.0.1", &[("host", "panel.plant")]),
        Viewer::Elsewhere
    );
    assert_eq!(at("127.0.0.1", &[("host", "10.0.0.7")]), Viewer::Elsewhere);
    for name in PASSED_ON {
        let lines = [local, (name, "10.0.0.9")];
        assert_eq!(at("127.0.0.1", &lines), Viewer::Elsewhere, "{name}");
    }
}

#[test]
fn where_a_proxy_may_stand_nobody_is_here() {
    // What nginx sends without further settings, byte for byte that of a browser at the appliance.
    let guard = Guard::new("Line-3", &[], None, false);
    let lines = [("host", "127.0.0.1:9470"), ("connection", "close")];
    let told = asked(&guard, "127.0.0.1", &Method::GET, &lines);
    assert_eq!(told, Ok(Viewer::Elsewhere));
}

#[test]
fn where_there_is_a_token_it_is_asked_for() {
    let guard = guard(Some(TOKEN));
    let with = |authorization: &str| {
        let lines = [("host", "localhost"), ("authorization", authorization)];
        asked(&guard, "127.0.0.1", &Method::GET, &lines)
    };
    assert_eq!(with(&format!("Bearer {TOKEN}")), Ok(Viewer::Here));
    // "anybody:a long enough token"
    let basic = "Basic YW55Ym9keTphIGxvbmcgZW5vdWdoIHRva2Vu";
    assert_eq!(with(basic), Ok(Viewer::Here));
    assert_eq!(with("Bearer something else"), Err(Denied::BadToken));
    for odd in ["Basic %%%", "Basic", "Digest x", "Basic YW55Ym9keQ=="] {
        assert_eq!(with(odd), Err(Denied::NoToken), "{odd}");
    }
    let none = asked(&guard, "127.0.0.1", &Method::GET, &[("host", "localhost")]);
    assert_eq!(none, Err(Denied::NoToken));
    let peer = "10.0.0.9:1".parse().unwrap();
    let health = guard.admit(
        peer,
        &Method::GET,
        "/healthz",
        &headers(&[("host", "10.0.0.7")]),
    );
    assert_eq!(health, Ok(Viewer::Elsewhere));
}

#[test]
fn a_change_comes_from_our_own_page_or_from_a_program() {
    let guard = guard(None);
    let post = |more: &[(&'static str, &'static str)]| {
        let lines = [&[("host", "localhost:9470")], more].concat();
        asked(&guard, "127.0.0.1", &Method::POST, &lines)
    };
    let own = ("x-lineside", "1");
    assert!(post(&[own]).is_ok());
    let ours = ("origin", "http://localhost:9470");
    assert!(post(&[own, ours, ("sec-fetch-site", "same-origin")]).is_ok());
    for foreign in [
        &[] as &[_],
        &[ours],
        &[own, ("origin", "https://evil.example")],
        &[own, ("origin", "http://localhost:8080")],
        &[own, ("origin", "null")],
        &[own, ("sec-fetch-site", "cross-site")],
        &[own, ("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(post(foreign), Err(Denied::Foreign), "{foreign:?}");
    }
}
