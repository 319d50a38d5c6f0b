//! The panel of the real service: page, health, metrics, review, and bad clients.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "panel/http.rs"]
#[allow(unreachable_pub)]
mod http;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use appliance::Appliance;
use device::{Ask, Device, Version};
use http::{Answer, Http};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};
use tokio_rustls::rustls;

const REPLIES: &str = "lineside/line-3/reply/+";
const TO_PERSONS: &str =
    "[review]\nremote = true\n[[route]]\nname = \"by-hand\"\nto = \"review\"\n";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn plant(more: &str) -> (Mosquitto, Appliance, Http) {
    plant_with("restricted = true", more)
}

/// A plant whose panel has this setting.
fn plant_with(setting: &str, more: &str) -> (Mosquitto, Appliance, Http) {
    let broker = Mosquitto::start(&Setup::default());
    let port = free_port();
    let panel = format!("[panel]\nlisten = \"127.0.0.1:{port}\"\n{setting}\n");
    let mut appliance = Appliance::at(broker.port, &format!("{panel}{more}"));
    appliance.start();
    (broker, appliance, Http(port))
}

fn question(id: &str, classification: &str) -> Ask {
    let json = json!({
        "id": id, "prompt": format!("what about {id}?"), "classification": classification,
    });
    Ask::new(json.to_string())
}

#[test]
fn the_page_brings_everything_with_it_and_nothing_may_be_added() {
    let (_broker, _appliance, http) = plant("");
    let mut bytes = 0;
    for (path, kind) in [
        ("/", "text/html"),
        ("/panel.js", "text/javascript"),
        ("/panel.css", "text/css"),
    ] {
        let file = http.get(path);
        assert_eq!(file.status, 200, "{path}");
        assert!(
            file.head.contains(&format!("content-type: {kind}")),
            "{file:?}"
        );
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
        ] {
            assert!(file.head.contains(line), "{path} {line} {}", file.head);
        }
        let foreign = file.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("://"), "{path} names a place elsewhere");
        for inline in ["style=", "onclick", "innerHTML"] {
            assert!(!file.body.contains(inline), "{path}: {inline}");
        }
        bytes += file.body.len();
    }
    assert!(bytes < 100_000, "{bytes}");
}

#[test]
fn health_and_readiness_follow_the_appliance() {
    let (_broker, mut appliance, http) = plant("");
    http.until("/healthz", |it| it.status == 200);
    // No model is set, and there is no cloud.
    let ready = http.until("/readyz", |it| it.body.contains("no model"));
    assert_eq!(ready.status, 503, "{ready:?}");
    appliance.command(&json!({"cmd": "maintenance", "action": "on"}));
    http.until("/readyz", |it| {
        it.status == 503 && it.body.contains("maintenance")
    });
    let state = http.until("/api/state", |it| it.body.contains("Maintenance"));
    assert_eq!(state.json()["status"]["state"], "maintenance");
    let end = appliance.stop();
    assert!(end.success(), "{end:?}");
}

/// The series of a scrape, without their values.
fn series(scrape: &Answer) -> BTreeSet<String> {
    let lines = scrape.body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_bring_no_series_of_their_own() {
    let refuse = "[[route]]\nname = \"closed\"\nto = \"refuse\"\n";
    let (broker, mut appliance, http) = plant(refuse);
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    let ask = |client: usize| {
        let json = json!({"id": "same", "prompt": "p", "client": format!("client-{client}")});
        Ask::new(json.to_string())
    };
    assert_eq!(device.ask(&ask(0)).await.code(), "policy");
    let counted =
        r#"lineside_requests_total{source="none",rule="closed",status="refused",reason="policy"}"#;
    let after = |n: usize| {
        let line = format!("{counted} {n}\n");
        http.until("/metrics", move |it| it.body.contains(&line))
    };
    let one = series(&after(1));
    for client in 1..1000 {
        device.publish(&ask(client)).await;
    }
    appliance.until(|status| status["open"] == 0 && status["outbox"] == 0);
    let thousand = after(1000);
    let more: Vec<_> = series(&thousand).difference(&one).cloned().collect();
    // What was not counted before, in words of the program.
    assert!(more.len() < 4, "{more:?}");
    assert!(!thousand.body.contains("client-"), "{}", thousand.body);
    assert!(one.len() < 600, "{}", one.len());
    assert!(thousand.body.ends_with("# EOF\n"));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(thousand.head.contains(kind), "{}", thousand.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_takes_the_metrics_and_knows_what_rules_and_dashboard_ask_for() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/monitoring");
    if std::process::Command::new("promtool")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: promtool is not installed (Debian: prometheus)");
        return;
    }
    let (broker, _appliance, http) = plant("[[route]]\nname = \"closed\"\nto = \"refuse\"\n");
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    assert_eq!(device.ask(&question("a", "public")).await.code(), "policy");
    http.until("/metrics", |it| {
        it.body.contains("lineside_requests_total{")
    });
    http.until("/healthz", |it| it.status == 200);
    let lines = ["Host: localhost", "Accept: text/plain"];
    let scrape = http.with("GET /metrics", &lines, "");
    assert!(
        scrape.head.contains("text/plain; version=0.0.4"),
        "{}",
        scrape.head
    );
    assert!(scrape.body.contains("le=\"+Inf\""), "quantiles need it");
    let dir = appliance::fresh_dir();
    std::fs::write(dir.join("scrape"), &scrape.body).unwrap();
    let told = std::process::Command::new(format!("{root}/check"))
        .arg(dir.join("scrape"))
        .output()
        .unwrap();
    let words = [told.stdout, told.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    assert!(told.status.success(), "{words}\n{}", scrape.body);
    let _ = std::fs::remove_dir_all(dir);
}

/// What waits, once so many items do.
fn items(http: Http, wanted: usize) -> Vec<Value> {
    let list = http.until("/api/review", |it| {
        it.status == 200 && it.json()["items"].as_array().unwrap().len() == wanted
    });
    list.json()["items"].as_array().unwrap().clone()
}

fn id_of(items: &[Value], request: &str) -> String {
    let item = items.iter().find(|item| item["request_id"] == request);
    item.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_the_page_gives_the_device_its_answer() {
    let (broker, _appliance, http) = plant(TO_PERSONS);
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    device.publish(&question("press7-1", "restricted")).await;
    let id = id_of(&items(http, 1), "press7-1");
    let deed = |action: &str, who: &str, text: Option<&str>| {
        let mut deed = json!({"action": action, "id": id, "reviewer": who});
        if let Some(text) = text {
            deed["text"] = text.into();
        }
        http.post("/api/review", &deed)
    };
    let sheet = deed("take", "anna", None);
    assert_eq!(sheet.json()["question"], "what about press7-1?");
    let held = deed("take", "ben", None);
    assert_eq!(
        (held.status, held.json()["error"]["code"].clone()),
        (409, "held".into())
    );
    assert_eq!(
        deed("approve", "anna", None).json()["error"]["code"],
        "no_draft"
    );
    assert_eq!(
        deed("correct", "anna", None).json()["error"]["code"],
        "empty"
    );
    assert_eq!(
        deed("correct", "anna", Some("stop the press")).json()["done"],
        "settled"
    );
    let reply = device.reply().await.json();
    assert_eq!(
        (&reply["source"], &reply["text"]),
        (&"human".into(), &"stop the press".into())
    );
    assert_eq!(
        deed("correct", "anna", Some("go on")).json()["error"]["code"],
        "settled"
    );
    let state = http.until("/metrics", |it| {
        it.body
            .contains(r#"lineside_answer_seconds_count{source="human"} 1"#)
    });
    assert!(!state.body.contains("stop the press"));
}

#[tokio::test(flavor = "multi_thread")]
async fn restricted_texts_are_for_viewers_at_the_appliance_alone() {
    let (broker, _appliance, http) = plant(TO_PERSONS);
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    device.publish(&question("secret-1", "restricted")).await;
    device.publish(&question("open-1", "public")).await;
    let here = items(http, 2);
    let (secret, open) = (id_of(&here, "secret-1"), id_of(&here, "open-1"));

    let list = http.get_elsewhere("/api/review").json();
    assert_eq!(list["viewer"], "elsewhere");
    assert_eq!(
        (
            list["total"].clone(),
            list["items"][0]["request_id"].clone()
        ),
        (1.into(), "open-1".into())
    );
    let shown = http.get_elsewhere(&format!("/api/review/{open}"));
    assert_eq!(shown.json()["question"], "what about open-1?");
    let hidden = http.get_elsewhere(&format!("/api/review/{secret}"));
    assert_eq!(
        (hidden.status, hidden.json()["error"]["code"].clone()),
        (404, "unknown_item".into())
    );
    for action in ["take", "release", "approve", "correct", "reject"] {
        let deed = json!({
            "action": action, "id": secret, "reviewer": "x", "text": "t", "reason": "r",
        });
        let lines = ["Host: localhost", "X-Lineside: 1", "Via: 1.1 proxy"];
        let told = http.with("POST /api/review", &lines, &deed.to_string());
        assert_eq!(told.json()["error"]["code"], "unknown_item", "{action}");
    }
    // Nothing of it stands anywhere that somebody elsewhere can look.
    let mut stream = http.connect();
    write!(
        stream,
        "GET /events HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 proxy\r\n\r\n"
    )
    .unwrap();
    let mut events = String::new();
    while !events.contains("secret-1") {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{events}");
        events.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert!(!events.contains("what about"), "{events}");
    for path in [
        "/api/state",
        "/api/track",
        "/metrics",
        "/api/review",
        "/readyz",
    ] {
        let told = http.get_elsewhere(path);
        assert!(!told.body.contains("what about secret-1"), "{path}");
    }
    // At the appliance it is there.
    let shown = http.get(&format!("/api/review/{secret}"));
    assert_eq!(shown.json()["question"], "what about secret-1?");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_sites_word_the_loopback_may_be_a_proxy() {
    let (broker, _appliance, http) = plant_with("", TO_PERSONS);
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    device.publish(&question("secret-1", "restricted")).await;
    device.publish(&question("open-1", "public")).await;
    let seen = items(http, 1);
    assert_eq!(seen[0]["request_id"], "open-1", "{seen:?}");
    let list = http.get("/api/review").json();
    assert_eq!(
        (list["viewer"].clone(), list["total"].clone()),
        ("elsewhere".into(), 1.into())
    );
}

#[test]
fn pages_elsewhere_can_neither_read_nor_write() {
    let (_broker, _appliance, http) = plant("");
    let evil = http.with("GET /api/state", &["Host: evil.example"], "");
    assert_eq!(evil.status, 421, "a name that was bent to this address");
    let deed = json!({"action": "take", "id": "0123456789ab", "reviewer": "x"}).to_string();
    let own = "X-Lineside: 1";
    for lines in [
        &["Host: localhost"] as &[&str],
        &["Host: localhost", own, "Origin: https://evil.example"],
        &["Host: localhost", own, "Sec-Fetch-Site: cross-site"],
        &["Host: localhost", "Content-Type: text/plain"],
    ] {
        assert_eq!(
            http.with("POST /api/review", lines, &deed).status,
            403,
            "{lines:?}"
        );
    }
    let program = http.with("POST /api/review", &["Host: localhost", own], &deed);
    assert_eq!(program.json()["error"]["code"], "unknown_item");
    // No other page is ever invited.
    assert!(!program.head.contains("access-control"), "{}", program.head);
}

#[test]
fn bad_requests_are_refused_and_the_panel_goes_on() {
    let (_broker, _appliance, http) = plant("");
    let long = "x".repeat(40_000);
    let many = "A: b\r\n".repeat(500);
    for (bytes, wanted) in [
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nLong: {long}\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
            431,
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            0,
        ),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n".into(), 421),
        ("\u{16}\u{3}\u{1}nonsense\r\n\r\n".into(), 400),
        (
            "TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".into(),
            403,
        ),
    ] {
        let told = http.raw(bytes.as_bytes());
        let refused = told.status == wanted || wanted == 0 && told.status >= 400;
        assert!(refused, "{wanted}: {told:?}");
    }
    let own = ["Host: localhost", "X-Lineside: 1"];
    assert_eq!(http.with("DELETE /api/review", &own, "").status, 405);
    assert_eq!(http.with("PUT /", &own, "").status, 405);
    assert_eq!(http.get("/../../etc/passwd").status, 404);
    for body in [
        "",
        "null",
        "{\"action\":\"take\"}",
        "{\"secret\":\"tokenless\"}",
    ] {
        let told = http.with("POST /api/review", &own, body);
        assert_eq!(
            (told.status, told.body.contains("tokenless")),
            (400, false),
            "{told:?}"
        );
    }
    let huge = "x".repeat(1 << 20);
    assert_eq!(http.with("POST /api/review", &own, &huge).status, 413);
    assert_eq!(http.get("/healthz").status, 200);
}

/// Asks for an event stream; the status, and the connection.
fn stream(http: Http) -> (u16, TcpStream) {
    let mut stream = http.connect();
    write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 256];
    let read = stream.read(&mut head).unwrap_or_default();
    let status = Answer::parse(&String::from_utf8_lossy(&head[..read])).status;
    (status, stream)
}

#[test]
fn ten_thousand_idle_event_streams_are_refused_at_the_limit() {
    let (_broker, _appliance, http) = plant("");
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..10_000 {
        match stream(http) {
            (200, stream) => held.push(stream),
            (503, _) => refused += 1,
            (status, _) => panic!("{status}"),
        }
    }
    assert_eq!(
        (held.len(), refused),
        (lineside::panel::MAX_STREAMS, 10_000 - held.len())
    );
    assert_eq!(http.get("/healthz").status, 200);
    let metrics = http.get("/metrics").body;
    let line = format!(r#"lineside_panel_refused_total{{reason="streams"}} {refused}"#);
    assert!(metrics.contains(&line), "{metrics}");
    drop(held);
    http.until("/metrics", |it| {
        it.body.contains("lineside_panel_streams 0.0\n")
    });
    assert_eq!(stream(http).0, 200, "their places are free again");
}

#[test]
fn clients_that_say_nothing_lose_their_places() {
    let (_broker, mut appliance, http) = plant("");
    http.until("/healthz", |it| it.status == 200);
    let mut silent: Vec<_> = (0..200).map(|_| http.connect()).collect();
    for (no, stream) in silent.iter_mut().enumerate() {
        if no % 2 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: loc"); // and never more
        }
    }
    // Requests go on whatever stands at the door.
    appliance.until(|status| status["state"] == "online");
    http.until("/healthz", |it| it.status == 200);
    let metrics = http.get("/metrics").body;
    let crowded = r#"lineside_panel_refused_total{reason="connections"} "#;
    let line = metrics
        .lines()
        .find(|line| line.starts_with(crowded))
        .unwrap();
    assert_ne!(line.rsplit_once(' ').unwrap().1, "0", "{line}");
}

#[test]
fn beyond_the_loopback_there_is_tls_and_a_token() {
    let broker = Mosquitto::start(&Setup::default());
    let dir = appliance::fresh_dir();
    let made = rcgen::generate_simple_self_signed(["line-3".to_owned()]).unwrap();
    std::fs::write(dir.join("panel.pem"), made.cert.pem()).unwrap();
    for (name, text) in [
        ("panel.key", made.signing_key.serialize_pem().as_str()),
        ("token", "correct horse battery"),
    ] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(dir.join(name), text).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.join(name), private).unwrap();
    }
    let port = free_port();
    let file = |name: &str| dir.join(name).display().to_string();
    let more = format!(
        "[panel]\nlisten = \"0.0.0.0:{port}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\ntoken_file = \"{}\"\n",
        file("panel.pem"),
        file("panel.key"),
        file("token"),
    );
    let mut appliance = Appliance::at(broker.port, &more);
    appliance.start();
    let roots = [made.cert.der().clone()];
    let get = |path: &str, line: &str| tls_get(port, &roots, path, line);
    assert_eq!(get("/healthz", "A: b").status, 200, "without a token");
    let denied = get("/metrics", "A: b");
    assert_eq!(denied.status, 401);
    assert!(
        denied.head.contains("www-authenticate: basic"),
        "{}",
        denied.head
    );
    assert_eq!(
        get("/metrics", "Authorization: Bearer correct horse batterY").status,
        401
    );
    assert_eq!(
        get("/metrics", "Authorization: Bearer correct horse battery").status,
        200
    );
    // In the clear there is nothing.
    let clear = Http(port).get("/healthz");
    assert_ne!(clear.status, 200, "{clear:?}");
    let _ = std::fs::remove_dir_all(dir);
}

fn tls_get(
    port: u16,
    roots: &[rustls::pki_types::CertificateDer<'static>],
    path: &str,
    line: &str,
) -> Answer {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = "line-3".try_into().unwrap();
    let mut talk = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = Http(port).connect();
    let mut tls = rustls::Stream::new(&mut talk, &mut stream);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: line-3\r\n{line}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).unwrap();
    Answer::read(tls)
}
