//! The `AsyncAPI` document and its schemas say what the service does: its examples are put to it, and
//! what comes back is held against them.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;
#[path = "serial_console/schema.rs"]
#[allow(dead_code, unreachable_pub)]
mod schema;

use std::fs;

use appliance::Appliance;
use device::{Ask, Device, Reply, Version};
use lineside::telemetry::batch::Batch;
use mosquitto::{Mosquitto, Setup};
use schema::Schema;
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/interface");
const REMOTE: &str = "[telemetry]\nevery_s = 1\nbatch_s = 1\nhome_assistant = \"home\"\n[review]\nremote = true\n\
                      [[route]]\nname = \"by-hand\"\nto = \"review\"\n";
const PREFIX: &str = "lineside/line-3";

fn document() -> Value {
    serde_json::from_str(&fs::read_to_string(format!("{FOLDER}/asyncapi.json")).unwrap()).unwrap()
}

fn schema(name: &str) -> Value {
    let text = fs::read_to_string(format!("{FOLDER}/schemas/{name}.json"));
    serde_json::from_str(&text.unwrap()).unwrap()
}

#[track_caller]
fn fits(name: &str, value: &Value) {
    let fits = Schema::of(schema(name)).holds(value);
    fits.unwrap_or_else(|why| panic!("{name}: {why}: {value}"));
}

fn examples(message: &str) -> Vec<Value> {
    let document = document();
    let examples = &document["components"]["messages"][message]["examples"];
    let examples = examples.as_array().unwrap().iter();
    examples.map(|it| it["payload"].clone()).collect()
}

#[test]
fn every_example_fits_its_schema() {
    let document = document();
    let messages = document["components"]["messages"].as_object().unwrap();
    let mut seen = 0;
    for (name, message) in messages {
        let file = message["payload"]["$ref"].as_str().unwrap();
        let file = file
            .strip_prefix("./schemas/")
            .unwrap()
            .strip_suffix(".json")
            .unwrap();
        for example in message["examples"].as_array().into_iter().flatten() {
            fits(file, &example["payload"]);
            seen += 1;
        }
        assert!(schema(file).is_object(), "{name}");
    }
    assert!(seen >= 6, "{seen}");
}

/// The names that a refusal of an unknown key lists, as far as it has room for them.
fn known_keys(message: &str) -> Vec<String> {
    let (_, list) = message.split_once("expected").unwrap();
    let whole = list.rsplit_once(',').unwrap().0;
    whole
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_understood_by_the_service_and_what_it_says_fits_the_schemas() {
    let broker = Mosquitto::start(&Setup::default());
    let everything = format!("{PREFIX}/#");
    let filters = [everything.as_str(), "home/#"];
    let mut device = Device::start(Version::V5, broker.port, &filters).await;
    let mut appliance = Appliance::at(broker.port, REMOTE);
    appliance.start();
    for example in examples("request") {
        device.publish(&Ask::new(example.to_string())).await;
    }
    let odd = json!({"id": "odd", "prompt": "p", "no such key": 1});
    device.publish(&Ask::new(odd.to_string())).await;
    let wanted = examples("request").len();
    appliance.until(|status| status["pending"] == wanted);
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    let mut ruled = 0;
    let verdict = examples("verdict").remove(0);
    while ruled < 2 || !kinds.contains_key("telemetry") || kinds.get("reply") < Some(&2) {
        let Reply { topic, payload, .. } = device.reply().await;
        if topic.ends_with("/echo") {
            continue; // the appliance's own test of the line
        }
        let kind = kind_of(&topic);
        let value = if kind == "telemetry" {
            serde_json::to_value(Batch::unpack(&payload).unwrap()).unwrap()
        } else {
            serde_json::from_slice(&payload).unwrap()
        };
        if value == odd {
            assert!(Schema::of(schema(kind)).holds(&value).is_err());
            continue;
        }
        fits(kind, &value);
        *kinds.entry(kind).or_default() += 1;
        if kind == "review-item" && value["state"] == "open" && ruled < 2 {
            // The example, about an item that is there.
            let mut verdict = verdict.clone();
            verdict["id"] = value["id"].clone();
            let mut ask = Ask::new(verdict.to_string());
            ask.topic = format!("{PREFIX}/review/verdict");
            device.publish(&ask).await;
            ruled += 1;
        }
        if kind == "reply" && value["error"]["code"] == "invalid" {
            let message = value["error"]["message"].as_str().unwrap();
            let properties = schema("request")["properties"].clone();
            let own: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
            assert!(message.contains("no such key"), "{message}");
            let known = known_keys(message);
            assert!(known.len() > 5, "{message}");
            assert!(
                known.iter().all(|key| own.contains(key)),
                "{known:?}: {own:?}"
            );
        }
    }
    for kind in [
        "status",
        "reply",
        "review-item",
        "telemetry",
        "request",
        "brief",
        "discovery",
    ] {
        assert!(kinds.contains_key(kind), "{kind}: {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_answers_fits_the_schema_and_says_which_package_answered_on_what() {
    let broker = Mosquitto::start(&Setup::default());
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
    let mut appliance = Appliance::at(
        broker.port,
        &format!("[model]\npackage = \"{package}\"\n[telemetry]\nevery_s = 1\nbatch_s = 1\n"),
    );
    appliance.start();
    appliance.until(|status| status["engine"] == "ready");
    let topics = [
        &format!("{PREFIX}/reply/#"),
        &format!("{PREFIX}/telemetry/#"),
    ];
    let mut device = Device::start(Version::V5, broker.port, &topics.map(String::as_str)).await;
    let ask = json!({"id": "x-1", "task": "triage", "input": "spindle hums"});
    device.publish(&Ask::new(ask.to_string())).await;
    let (mut answer, mut batch) = (None, None);
    while answer.is_none() || batch.is_none() {
        let Reply { topic, payload, .. } = device.reply().await;
        if kind_of(&topic) == "reply" {
            let value: Value = serde_json::from_slice(&payload).unwrap();
            fits("reply", &value);
            answer = Some(value);
        } else {
            let value = serde_json::to_value(Batch::unpack(&payload).unwrap()).unwrap();
            fits("telemetry", &value);
            batch = Some(value).filter(|it| it["serving"].is_object());
        }
    }
    let (answer, batch) = (answer.unwrap(), batch.unwrap());
    assert_eq!(answer["status"], "answered", "{answer}");
    assert_eq!(answer["model"]["variant"], "Q8_0", "{answer}");
    assert_eq!(batch["serving"]["package"], "factory-triage 2", "{batch}");
    for key in ["variant", "board"] {
        assert_eq!(
            batch["serving"][key], answer["model"][key],
            "{key}: {batch}"
        );
        assert!(answer["model"][key].is_string(), "{answer}");
    }
    let status = appliance.status();
    assert_eq!(
        status["standing"]["board"], answer["model"]["board"],
        "{status}"
    );
}

/// Which schema a topic's messages have.
fn kind_of(topic: &str) -> &'static str {
    if topic.starts_with("home/sensor/lineside_line-3/") {
        return "discovery";
    }
    let rest = topic.strip_prefix(PREFIX).unwrap();
    match rest {
        "/telemetry/brief" => "brief",
        "/status" => "status",
        "/ota/state" => "ota-state",
        "/request" => "request",
        "/review/item" => "review-item",
        "/review/verdict" => "verdict",
        "/review/verdict/result" => "verdict-result",
        _ if rest.starts_with("/telemetry/") => "telemetry",
        _ if rest.ends_with("/stream") => "piece",
        _ if rest.starts_with("/reply/") => "reply",
        _ => panic!("{topic} is not in the document"),
    }
}
