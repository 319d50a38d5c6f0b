//! Persons answer: the real service and broker, `lineside review`, and reviewers over MQTT.
//!
//! In all but one of these there is no engine and a rule sends requests to persons, so that whatever
//! is answered was answered by one.

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

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use appliance::{Appliance, count};
use device::{Ask, Device, Memory, Reply, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};

/// Everything goes to a person.
const TO_PERSONS: &str = "[[route]]\nname = \"by-hand\"\nto = \"review\"\n";
/// Also to persons elsewhere, where it may.
const REMOTE: &str = "[[route]]\nname = \"by-hand\"\nto = \"review\"\n[review]\nremote = true\n";
const REPLIES: &str = "lineside/line-3/reply/+";
const ITEMS: &str = "lineside/line-3/review/item";
const RESULTS: &str = "lineside/line-3/review/verdict/result";
/// `EX_USAGE` and `EX_UNAVAILABLE` of sysexits.h.
const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;
/// The appliance says no.
const REFUSED: i32 = 1;

fn plant(more: &str) -> (Mosquitto, Appliance) {
    let broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::at(broker.port, more);
    appliance.start();
    (broker, appliance)
}

/// What waits, once so many items do.
fn waiting(appliance: &mut Appliance, wanted: usize) -> Vec<Value> {
    appliance.until(|status| status["open"] == wanted);
    loop {
        let list = appliance.told_json("review", &["list"]);
        let rows = list.as_array().unwrap();
        if rows.len() == wanted {
            return rows.clone();
        }
    }
}

fn id_of<'a>(rows: &'a [Value], request: &str) -> &'a str {
    let row = rows.iter().find(|row| row["request_id"] == request);
    row.unwrap()["id"].as_str().unwrap()
}

fn question(id: &str, classification: &str) -> Ask {
    let json = json!({
        "id": id, "prompt": format!("what about {id}?"), "classification": classification,
    });
    Ask::new(json.to_string())
}

#[track_caller]
fn refused(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(REFUSED), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(words), "{words}: {text}");
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_reviewers_do_not_collide_and_the_device_gets_the_correction() {
    let (broker, mut appliance) = plant(TO_PERSONS);
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    device.publish(&question("press7-1", "restricted")).await;
    let rows = waiting(&mut appliance, 1);
    let id = id_of(&rows, "press7-1");
    assert_eq!(rows[0]["classification"], "restricted");
    assert!(!rows[0].to_string().contains("what about"), "{rows:?}");

    let as_anna = |args: &[&str]| appliance.told("review", &[args, &["--as", "anna"]].concat());
    let as_ben = |args: &[&str]| appliance.told("review", &[args, &["--as", "ben"]].concat());
    let text = done(&as_anna(&["take", &id[..12]]));
    for words in [
        "what about press7-1?",
        "held by   anna",
        "no draft",
        "by-hand",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    refused(&as_ben(&["take", id]), "held by anna until ");
    refused(
        &as_ben(&["correct", id, "--text", "no"]),
        "held by anna until ",
    );
    refused(&as_ben(&["release", id]), "held by anna until ");
    refused(&as_anna(&["approve", id]), "no_draft");
    let list = done(&as_ben(&["list"]));
    assert!(list.contains("anna"), "{list}");
    assert!(device.is_quiet().await);

    let text = done(&as_anna(&["correct", id, "--text", "stop the press"]));
    assert!(text.contains("settled"), "{text}");
    let reply = device.reply().await.json();
    assert_eq!(reply["status"], "answered");
    assert_eq!(reply["final"], true);
    assert_eq!(reply["source"], "human");
    assert_eq!(reply["text"], "stop the press");
    assert_eq!(reply["route"]["rule"], "by-hand");
    refused(&as_anna(&["correct", id, "--text", "go on"]), "settled");
    refused(&as_ben(&["show", id]), "settled");
    assert!(done(&as_ben(&["list"])).contains("nothing waits"));
    assert!(device.is_quiet().await, "one outcome");
    let log = appliance.log();
    assert!(!log.contains("what about") && !log.contains("stop the press"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_from_standard_input_and_a_rejection_tells_its_reason() {
    let (broker, mut appliance) = plant(TO_PERSONS);
    let mut device = Device::start(Version::V3, broker.port, &[REPLIES]).await;
    device.publish(&question("a", "internal")).await;
    device.publish(&question("b", "internal")).await;
    let rows = waiting(&mut appliance, 2);
    let mut typing = appliance.subcommand("review");
    typing.args(["correct", id_of(&rows, "a"), "--as", "anna"]);
    typing.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut typing = typing.spawn().unwrap();
    let mut input = typing.stdin.take().unwrap();
    input.write_all("two lines\nof text\n".as_bytes()).unwrap();
    drop(input);
    done(&typing.wait_with_output().unwrap());
    assert_eq!(device.reply().await.json()["text"], "two lines\nof text");

    let id = id_of(&rows, "b");
    let args = [
        "reject",
        id,
        "--reason",
        "the picture is blurred",
        "--as",
        "anna",
    ];
    done(&appliance.told("review", &args));
    let reply = device.reply().await.json();
    assert_eq!(reply["error"]["code"], "rejected");
    assert_eq!(reply["error"]["message"], "the picture is blurred");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_said_before_anything_is_done() {
    let (broker, mut appliance) = plant(TO_PERSONS);
    let mut device = Device::start(Version::V3, broker.port, &[REPLIES]).await;
    device.publish(&question("a", "internal")).await;
    let rows = waiting(&mut appliance, 1);
    let id = id_of(&rows, "a");
    let told = |args: &[&str]| appliance.told("review", args);
    refused(&told(&["show", "feedfacefeed"]), "unknown_item");
    refused(&told(&["show", "abc"]), "bad_id");
    refused(&told(&["take", id, "--as", ""]), "bad_reviewer");
    refused(&told(&["correct", id, "--text", " ", "--as", "a"]), "empty");
    let long = "x".repeat(501);
    let long = ["reject", id, "--reason", &long, "--as", "a"];
    refused(&told(&long), "too_long");
    assert_eq!(told(&["reject", id]).status.code(), Some(USAGE));
    let missing = told(&["import", "no-such-file.json"]);
    assert_eq!(missing.status.code(), Some(USAGE), "{missing:?}");
    let mut nameless = appliance.subcommand("review");
    nameless.env_remove("USER").env_remove("LOGNAME");
    let nameless = nameless.args(["take", id]).output().unwrap();
    assert_eq!(nameless.status.code(), Some(USAGE), "{nameless:?}");
    assert_eq!(id_of(&waiting(&mut appliance, 1), "a"), id);
    appliance.stop();
    assert_eq!(
        appliance.told("review", &["list"]).status.code(),
        Some(UNAVAILABLE)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn items_and_verdicts_survive_a_kill() {
    let (broker, mut appliance) = plant(TO_PERSONS);
    let memory = Memory::Session;
    let mut device = Device::named("press7", Version::V5, memory, broker.port, &[REPLIES]).await;
    device.publish(&question("a", "internal")).await;
    device.publish(&question("b", "internal")).await;
    let rows = waiting(&mut appliance, 2);
    let (a, b) = (id_of(&rows, "a"), id_of(&rows, "b"));
    done(&appliance.told("review", &["take", a, "--as", "anna"]));
    appliance.kill();

    appliance.start();
    let again = waiting(&mut appliance, 2);
    assert_eq!((id_of(&again, "a"), id_of(&again, "b")), (a, b));
    let correct = ["correct", a, "--text", "stop", "--as", "ben"];
    done(&appliance.told("review", &correct)); // a restart ends all leases
    appliance.kill();

    appliance.start();
    let rows = waiting(&mut appliance, 1);
    assert_eq!(rows[0]["request_id"], "b");
    refused(&appliance.told("review", &correct), "settled");
    let reply = device.reply().await.json();
    assert_eq!(
        (&reply["id"], &reply["text"]),
        (&json!("a"), &json!("stop"))
    );
    done(&appliance.told("review", &["correct", b, "--text", "go on", "--as", "ben"]));
    // The reply to "a" may come twice over the kill; whatever comes says the same.
    let mut reply = device.reply().await.json();
    while reply["id"] == "a" {
        assert_eq!(reply["text"], "stop");
        reply = device.reply().await.json();
    }
    assert_eq!(
        (&reply["id"], &reply["text"]),
        (&json!("b"), &json!("go on"))
    );
    let trace = appliance.trace("b");
    assert!(trace.to_string().contains("passed to a person"), "{trace}");
}

/// The export with this annotation of each task.
fn annotated(export: &str, result: &Value) -> Value {
    let mut tasks: Value = serde_json::from_str(export).unwrap();
    for task in tasks.as_array_mut().unwrap() {
        task["annotations"] = json!([{"id": 1, "was_cancelled": false, "result": result}]);
    }
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_is_imported_once_and_restricted_items_stay() {
    let (broker, mut appliance) = plant(TO_PERSONS);
    let mut device = Device::start(Version::V3, broker.port, &[REPLIES]).await;
    device.publish(&question("a", "internal")).await;
    device.publish(&question("secret", "restricted")).await;
    waiting(&mut appliance, 2);
    let export = appliance.told("review", &["export"]);
    let notes = String::from_utf8_lossy(&export.stderr).into_owned();
    assert!(notes.contains("1 restricted items are left out"), "{notes}");
    let export = done(&export);
    assert!(export.contains("what about a?") && !export.contains("secret"));
    let config = done(&appliance.told("review", &["export", "--format", "label-studio-config"]));
    assert!(config.starts_with("<View>"), "{config}");

    let result = json!([
        {"from_name": "verdict", "type": "choices", "value": {"choices": ["correct"]}},
        {"from_name": "answer", "type": "textarea", "value": {"text": ["go on"]}},
    ]);
    let file = appliance.dir.join("export.json");
    fs::write(&file, annotated(&export, &result).to_string()).unwrap();
    let import = |appliance: &Appliance| {
        let file = file.to_str().unwrap();
        let output = appliance.told("review", &["--json", "import", file, "--as", "studio"]);
        serde_json::from_str::<Value>(&done(&output)).unwrap()
    };
    let report = import(&appliance);
    assert_eq!(
        (&report["carried_out"], &report["settled"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(device.reply().await.json()["text"], "go on");
    let report = import(&appliance);
    assert_eq!(
        (&report["carried_out"], &report["settled"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(waiting(&mut appliance, 1)[0]["request_id"], "secret");
    assert!(device.is_quiet().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_is_not_sure_of_is_approved_or_corrected_in_the_form_of_its_task() {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
    let config = format!(
        "[model]\npackage = \"{package}\"\n[confidence]\nthreshold = 1.0\n[review]\ndoubtful = true\n"
    );
    let (broker, mut appliance) = plant(&config);
    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    let ask = |id: &str| {
        let json = json!({
            "id": id, "task": "classify-urgency", "classification": "internal",
            "input": "press 4: the guard door switch is loose, the line still runs",
        });
        Ask::new(json.to_string())
    };
    device.publish(&ask("a")).await;
    let first = device.reply().await.json();
    assert_eq!(
        (&first["status"], &first["final"]),
        (&json!("provisional"), &json!(false))
    );
    assert_eq!(first["source"], "edge");
    device.publish(&ask("b")).await;
    device.reply().await;
    let rows = waiting(&mut appliance, 2);
    let (a, b) = (id_of(&rows, "a"), id_of(&rows, "b"));
    let sheet = appliance.told_json("review", &["show", a]);
    assert_eq!(sheet["draft"]["text"], first["text"]);
    assert_eq!(sheet["answer"]["kind"], "choice");
    assert!(
        sheet["why"].as_str().unwrap().starts_with("confidence "),
        "{sheet}"
    );

    done(&appliance.told("review", &["approve", a, "--as", "anna"]));
    let last = device.reply().await.json();
    assert_eq!(
        (&last["status"], &last["final"]),
        (&json!("answered"), &json!(true))
    );
    assert_eq!(
        (&last["source"], &last["text"]),
        (&json!("human"), &first["text"])
    );

    let correct = |text| appliance.told("review", &["correct", b, "--text", text, "--as", "anna"]);
    refused(&correct("CANARY"), "must be one of: now, today, later");
    done(&correct(" Later."));
    assert_eq!(device.reply().await.json()["text"], "later");
    assert!(!appliance.log().contains("guard door"));
}

/// What a reviewer elsewhere publishes.
fn verdict(id: &str, more: &Value) -> Ask {
    let mut verdict = json!({"v": 1, "id": id, "reviewer": "carla"});
    let more = more.as_object().unwrap().clone();
    verdict.as_object_mut().unwrap().extend(more);
    Ask::new(verdict.to_string()).on("lineside/line-3/review/verdict")
}

fn state(reply: &Reply) -> (String, String) {
    let json = reply.json();
    let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    (word("id"), word("state"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_elsewhere_sees_what_may_leave_and_settles_it() {
    let (broker, mut appliance) = plant(REMOTE);
    let mut carla = Device::start(Version::V5, broker.port, &[ITEMS]).await;
    let mut results = Device::start(Version::V5, broker.port, &[RESULTS]).await;
    let mut device = Device::start(Version::V3, broker.port, &[REPLIES]).await;
    device.publish(&question("secret", "restricted")).await;
    device.publish(&question("a", "internal")).await;
    let rows = waiting(&mut appliance, 2);
    let (a, secret) = (id_of(&rows, "a"), id_of(&rows, "secret"));

    let item = carla.reply().await;
    assert_eq!(state(&item), (a.to_owned(), "open".to_owned()));
    assert_eq!(item.json()["question"], "what about a?");
    assert_eq!(item.json()["v"], 1);
    assert!(
        carla.is_quiet().await,
        "what is restricted is not published"
    );

    // For her there is no restricted item, and a garbled verdict is no verdict.
    let correct = json!({"verdict": "correct", "text": "stop"});
    carla.publish(&verdict(secret, &correct)).await;
    let result = results.reply().await.json();
    assert_eq!(result["error"]["code"], "unknown_item");
    let garbled = Ask::new("{\"v\":1").on("lineside/line-3/review/verdict");
    carla.publish(&garbled).await;
    assert_eq!(results.reply().await.json()["error"]["code"], "invalid");

    // Who is at the appliance has taken it.
    done(&appliance.told("review", &["take", a, "--as", "anna"]));
    carla
        .publish(&verdict(a, &correct).correlated(b"c-1"))
        .await;
    let result = results.reply().await;
    assert_eq!(result.correlation.as_deref(), Some(&b"c-1"[..]));
    assert_eq!(result.json()["error"]["code"], "held");
    done(&appliance.told("review", &["release", a, "--as", "anna"]));

    carla.publish(&verdict(a, &correct)).await;
    assert_eq!(results.reply().await.json()["ok"], true);
    let reply = device.reply().await.json();
    assert_eq!(
        (&reply["text"], &reply["source"]),
        (&json!("stop"), &json!("human"))
    );
    let item = carla.reply().await;
    assert_eq!(state(&item), (a.to_owned(), "withdrawn".to_owned()));
    carla.publish(&verdict(a, &correct)).await;
    let result = results.reply().await.json();
    assert_eq!(result["error"]["code"], "settled");
    assert_eq!(waiting(&mut appliance, 1)[0]["request_id"], "secret");
    let status = appliance.status();
    assert_eq!(count(&status, "settled", "answered"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_shown_again_after_a_restart_and_nothing_restricted_with_it() {
    let (broker, mut appliance) = plant(REMOTE);
    let mut device = Device::start(Version::V3, broker.port, &[REPLIES]).await;
    device.publish(&question("secret", "restricted")).await;
    device.publish(&question("a", "public")).await;
    let rows = waiting(&mut appliance, 2);
    appliance.kill();
    let mut carla = Device::start(Version::V5, broker.port, &["lineside/line-3/review/#"]).await;
    appliance.start();
    let item = carla.reply().await;
    assert_eq!(
        state(&item),
        (id_of(&rows, "a").to_owned(), "open".to_owned())
    );
    assert!(carla.is_quiet().await);
    let settle = ["correct", id_of(&rows, "a"), "--text", "x", "--as", "anna"];
    done(&appliance.told("review", &settle));
    let item = carla.reply().await;
    assert_eq!(
        state(&item).1,
        "withdrawn",
        "it was settled at the appliance"
    );
    assert!(carla.is_quiet().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_reviewers_elsewhere_nothing_is_published_and_no_verdict_is_heard() {
    let (broker, mut appliance) = plant(TO_PERSONS);
    let mut carla = Device::start(Version::V5, broker.port, &["lineside/line-3/review/#"]).await;
    let mut device = Device::start(Version::V3, broker.port, &[REPLIES]).await;
    device.publish(&question("a", "public")).await;
    let rows = waiting(&mut appliance, 1);
    let sent = verdict(
        id_of(&rows, "a"),
        &json!({"verdict": "correct", "text": "x"}),
    );
    carla.publish(&sent).await;
    assert_eq!(carla.reply().await.payload, sent.payload, "her own words");
    assert!(carla.is_quiet().await);
    assert_eq!(waiting(&mut appliance, 1).len(), 1);
}
