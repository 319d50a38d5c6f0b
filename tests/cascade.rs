//! The whole cascade with real parts: the real service and its engine with the bundled model, a
//! real broker, and a real HTTPS server as the cloud, which fails in every way it can.
//!
//! The bundled model knows nothing of free prompts and says so: where the site sets a threshold, an
//! answer to one is in doubt, so they are what goes to the cloud here.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/cloud.rs"]
#[allow(dead_code, unreachable_pub)]
mod cloud;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;
#[path = "support/mod.rs"]
mod support;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use appliance::{Appliance, count};
use cloud::{Cloud, Mode, Proof, make_certificates};
use device::{Ask, Device, Reply, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};
use support::TempDir;

const ANSWER: &str = "Tighten the coupling.";
/// Stands in no source but this one.
const CANARY: &str = "quetzalcoatlus";
const KEY: &str = "sk-xylophone-4711";
/// For a cloud that says nothing: short, so that the test is; long enough for one that speaks.
const CLOUD_TIMEOUT_MS: u32 = 700;

/// A broker, an appliance with its model loaded, and a device that hears its replies.
struct Plant {
    _broker: Mosquitto,
    appliance: Appliance,
    device: Device,
    certificates: TempDir,
}

impl Plant {
    /// Its cloud is said to be at this address.
    async fn start(cloud: SocketAddr, certificates: TempDir, more: &str) -> Self {
        let broker = Mosquitto::start(&Setup::default());
        let dir = certificates.path().display();
        let key = certificates.path().join("key");
        std::fs::write(&key, KEY).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
        let config = format!(
            "[model]\npackage = \"{package}\"\n[engine]\nthreads = 1\n[review]\nlocal = false\n\
             [confidence]\nthreshold = 0.65\n\
             [cloud]\nurl = \"https://localhost:{port}/v1/chat/completions\"\nmodel = \"large\"\n\
             ca_file = \"{dir}/ca.pem\"\napi_key_file = \"{dir}/key\"\naccepts = [\"public\"]\n\
             connect_timeout_ms = 500\ntimeout_ms = {CLOUD_TIMEOUT_MS}\n\
             threshold = 0.5\n{more}",
            port = cloud.port(),
        );
        let mut appliance = Appliance::at(broker.port, &config);
        appliance.start();
        appliance.until(|status| status["engine"] == "ready");
        let device = Device::start(Version::V5, broker.port, &["devices/press7/answers"]).await;
        Self {
            _broker: broker,
            appliance,
            device,
            certificates,
        }
    }

    fn send(&self, request: &Value) {
        let ask = Ask::new(request.to_string()).to("devices/press7/answers");
        self.device.send(&ask);
    }

    async fn reply(&mut self) -> Value {
        self.device.reply().await.json()
    }
}

fn certificates() -> TempDir {
    let dir = TempDir::new("cascade");
    make_certificates(dir.path());
    dir
}

fn proof(dir: &TempDir, name: &str) -> Proof {
    let file = |kind: &str| dir.path().join(format!("{name}.{kind}"));
    Proof::Certificate(file("pem"), file("key"))
}

/// A cloud that does this, and a plant that knows it.
async fn plant(mode: Mode, more: &str) -> (Cloud, Plant) {
    let certificates = certificates();
    let cloud = Cloud::start(&proof(&certificates, "good"), [mode]).await;
    let plant = Plant::start(cloud.address, certificates, more).await;
    (cloud, plant)
}

/// An address where nobody listens, and nobody else will.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn public(id: &str) -> Value {
    json!({"id": id, "prompt": "The spindle hums. What now?", "classification": "public",
           "max_tokens": 8})
}

#[track_caller]
fn is_provisional(reply: &Value, id: &str) {
    let told = (&reply["id"], &reply["status"], &reply["final"]);
    assert_eq!(
        told,
        (&json!(id), &json!("provisional"), &json!(false)),
        "{reply}"
    );
    assert_eq!(reply["source"], "edge", "{reply}");
    assert_eq!(reply["degraded"], true, "{reply}");
    assert!(reply["text"].is_string(), "{reply}");
}

#[track_caller]
fn is_from_the_cloud(reply: &Value, id: &str) {
    let told = (&reply["id"], &reply["status"], &reply["final"]);
    assert_eq!(
        told,
        (&json!(id), &json!("answered"), &json!(true)),
        "{reply}"
    );
    assert_eq!(
        (&reply["source"], &reply["text"]),
        (&json!("cloud"), &json!(ANSWER)),
        "{reply}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_doubt_is_given_by_the_cloud_and_one_that_is_sure_by_the_edge() {
    let (cloud, mut plant) = plant(Mode::Say(ANSWER), "").await;
    plant.send(&public("doubt"));
    let reply = plant.reply().await;
    is_from_the_cloud(&reply, "doubt");
    assert_eq!(reply["degraded"], false, "{reply}");
    let reasons = reply["route"]["reasons"].to_string();
    assert!(reasons.contains("confidence"), "{reply}");
    assert_eq!(
        cloud.seen()[0].headers["authorization"],
        format!("Bearer {KEY}")
    );
    let sure = "LATHE-66 printer 70 offline";
    let ask = json!({"id": "sure", "task": "classify-department", "input": sure,
                     "classification": "public", "complexity": 0.1});
    plant.send(&ask);
    let reply = plant.reply().await;
    assert_eq!(
        (&reply["source"], &reply["final"]),
        (&json!("edge"), &json!(true)),
        "{reply}"
    );
    assert_eq!(cloud.seen().len(), 1, "{reply}");
    assert!(!plant.appliance.log().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restricted_stays_whatever_it_says_and_however_unsure_the_edge_is() {
    let (cloud, mut plant) = plant(Mode::Say(ANSWER), "").await;
    let prompt = format!("The {CANARY} hums. What now?");
    for (id, label) in [
        ("labelled", Some("restricted")),
        ("unlabelled", None),
        ("inside", Some("internal")),
    ] {
        let mut ask = json!({"id": id, "prompt": prompt, "max_tokens": 8, "complexity": 0.9});
        if let Some(label) = label {
            ask["classification"] = label.into();
        }
        plant.send(&ask);
        let reply = plant.reply().await;
        assert_eq!(
            (&reply["id"], &reply["final"]),
            (&json!(id), &json!(true)),
            "{reply}"
        );
        assert_eq!(reply["source"], "edge", "{reply}");
    }
    plant.send(&public("free"));
    is_from_the_cloud(&plant.reply().await, "free");
    let seen: Vec<_> = cloud
        .seen()
        .into_iter()
        .map(|seen| seen.body.to_string())
        .collect();
    assert_eq!(seen.len(), 1, "only the public one: {seen:?}");
    assert!(!seen[0].contains(CANARY));
    assert!(!plant.appliance.log().contains(CANARY));
    assert!(!plant.appliance.status().to_string().contains(CANARY));
    assert!(
        !plant
            .appliance
            .trace("labelled")
            .to_string()
            .contains(CANARY)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn however_the_cloud_fails_the_edge_answers_at_once_and_the_cloud_in_the_end() {
    let (cloud, mut plant) = plant(Mode::Say(ANSWER), "").await;
    let error = r#"{"error":{"message":"no","type":"overloaded"}}"#;
    let ways = [
        ("reset", Mode::Reset),
        ("failing", Mode::Status(500, &[])),
        ("limited", Mode::Status(429, &[("retry-after", "1")])),
        ("no-json", Mode::Body("application/json", "{\"choices\":[{")),
        ("error-in-success", Mode::Body("application/json", error)),
        ("black-hole", Mode::BlackHole),
        ("drip", Mode::Drip),
        ("endless", Mode::Endless),
    ];
    for (id, mode) in ways {
        cloud.then(mode);
        plant.send(&public(id));
        is_provisional(&plant.reply().await, id);
        cloud.then(Mode::Say(ANSWER));
        is_from_the_cloud(&plant.reply().await, id);
        let trace = plant.appliance.trace(id).to_string();
        assert!(trace.contains("provisional"), "{trace}");
    }
    let status = plant.appliance.status();
    assert_eq!(count(&status, "settled", "answered"), 8, "{status}");
    assert!(plant.device.is_quiet().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_while_no_cloud_could_be_reached_gets_its_answer_when_one_can() {
    let certificates = certificates();
    let address = nobody();
    let good = proof(&certificates, "good");
    let mut plant = Plant::start(address, certificates, "").await;
    for id in ["a", "b", "c"] {
        plant.send(&public(id));
        is_provisional(&plant.reply().await, id);
    }
    let status = plant.appliance.until(|status| status["away"] == 3);
    assert_eq!(status["open"], 3, "{status}");
    let _cloud = Cloud::at(address, &good, [Mode::Say(ANSWER)]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let reply = plant.reply().await;
        let id = reply["id"].as_str().unwrap().to_owned();
        is_from_the_cloud(&reply, &id);
        ids.push(id);
    }
    ids.sort();
    assert_eq!(ids, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_told_to_the_operator_and_nothing_is_sent() {
    let certificates = certificates();
    let cloud = Cloud::start(&proof(&certificates, "expired"), [Mode::Say(ANSWER)]).await;
    let mut plant = Plant::start(cloud.address, certificates, "").await;
    plant.send(&public("x"));
    is_provisional(&plant.reply().await, "x");
    assert_eq!(cloud.seen().len(), 0);
    let log = plant.appliance.log();
    assert!(log.contains("certificate"), "{log}");
    assert!(plant.certificates.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_deadline_a_request_that_takes_no_late_answer_gets_the_best_there_is() {
    let (cloud, mut plant) = plant(Mode::BlackHole, "").await;
    let mut ask = public("hurried");
    ask["deadline_ms"] = 2000.into();
    plant.send(&ask);
    let mut replies = vec![plant.reply().await];
    if replies[0]["final"] == false {
        is_provisional(&replies[0], "hurried");
        replies.push(plant.reply().await);
    }
    let last = replies.last().unwrap();
    assert_eq!(
        (&last["status"], &last["source"]),
        (&json!("answered"), &json!("edge")),
        "{last}"
    );
    assert_eq!(
        (&last["final"], &last["degraded"]),
        (&json!(true), &json!(true)),
        "{last}"
    );
    cloud.then(Mode::Say(ANSWER));
    assert!(plant.device.is_quiet().await, "there is one final reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_while_the_cloud_is_asked_gives_its_answer_once_afterwards() {
    let (cloud, mut plant) = plant(Mode::BlackHole, "").await;
    for id in ["a", "b"] {
        plant.send(&public(id));
    }
    let mut provisional = Vec::new();
    while provisional.len() < 2 {
        let reply = plant.reply().await;
        let id = reply["id"].as_str().unwrap().to_owned();
        is_provisional(&reply, &id);
        provisional.push(id);
    }
    plant.appliance.kill();
    cloud.then(Mode::Say(ANSWER));
    plant.appliance.start();
    let mut finals = Vec::new();
    while finals.len() < 2 {
        let reply: Reply = plant.device.reply().await;
        let reply = reply.json();
        if reply["final"] == true {
            let id = reply["id"].as_str().unwrap().to_owned();
            is_from_the_cloud(&reply, &id);
            finals.push(id);
        }
    }
    finals.sort();
    assert_eq!(finals, ["a", "b"]);
    assert!(
        plant
            .device
            .reply_within(Duration::from_secs(1))
            .await
            .is_none()
    );
    let keys: Vec<_> = cloud
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    let unique: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(
        unique.len(),
        2,
        "each try of a question has the question's key: {keys:?}"
    );
}
