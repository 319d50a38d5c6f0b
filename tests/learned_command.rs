//! `lineside calibrate --learned`: the real service with the real model, and a person who corrects
//! what it answers.

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

use std::path::{Path, PathBuf};

use appliance::Appliance;
use device::{Ask, Device, Version};
use lineside::clock::Wall;
use lineside::engine::Model;
use lineside::package::{Features, Package};
use lineside::router::confidence::learning::{Judged, Learning, keep};
use lineside::router::confidence::refit::LEAST;
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};

const REPLIES: &str = "lineside/line-3/reply/+";
/// `EX_USAGE` of sysexits.h.
const USAGE: i32 = 64;

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

/// What a device learnt of so many reviewers' verdicts on the bundled model's triage: that it is
/// wrong more often than it says.
fn learnt(verdicts: usize) -> Learning {
    let package = Package::open(&bundled()).unwrap();
    let manifest = package.manifest();
    let (variant, _) = package.variants().next().unwrap();
    let model = Model {
        package: manifest.name.clone(),
        seq: manifest.seq,
        digest: format!("sha256:{}", variant.file.sha256),
        prompt_version: "1".into(),
        standing: None,
    };
    let mut learning = Learning::of(manifest, variant);
    for at in 0..verdicts {
        let judged = Judged {
            task: "triage",
            model: &model,
            features: &Features::of([(-0.001, 0.01)], []),
            right: false,
            reviewer: &format!("reviewer-{}", at % 5),
        };
        learning.on_verdict(&judged, Wall(1_800_000_000_000));
    }
    learning
}

fn triage(appliance: &Appliance) -> Value {
    let told = appliance.told_json("calibrate", &["--learned"]);
    let tasks = told["tasks"].as_array().unwrap();
    let own = tasks.iter().find(|it| it["task"] == "triage");
    own.unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_bends_confidence_over_restarts_until_somebody_takes_it_back() {
    let broker = Mosquitto::start(&Setup::default());
    // Nothing is sure enough here, so that a person sees every answer.
    let more = format!(
        "[model]\npackage = \"{}\"\n[confidence]\nthreshold = 1.0\n[review]\ndoubtful = true\n",
        bundled().display()
    );
    let mut appliance = Appliance::at(broker.port, &more);
    let file = keep::path_in(&appliance.dir.join("state"));
    keep::store(&file, &learnt(LEAST - 1).bytes()).unwrap();
    appliance.start();
    appliance.until(|status| status["engine"] == "ready");
    let before = triage(&appliance);
    assert_eq!(before["verdicts"], LEAST - 1);
    assert_eq!(before["changes"], json!([]));

    let mut device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    let ask = |id: &str| {
        let request =
            json!({"id": id, "task": "triage", "input": "CNC-07 spindle 9.8 mm/s rising"});
        Ask::new(request.to_string())
    };
    device.publish(&ask("press7-1")).await;
    let draft = device.reply().await.json();
    assert_eq!(draft["status"], "provisional", "{draft}");
    let sure = draft["confidence"].as_f64().unwrap();
    appliance.until(|status| status["pending"] == 1);
    let list = appliance.told_json("review", &["list"]);
    let id = list[0]["id"].as_str().unwrap();
    let other = draft["text"]
        .as_str()
        .unwrap()
        .replace("warning", "info")
        .replace("critical", "info");
    let ruled = appliance.told("review", &["correct", id, "--text", &other, "--as", "anna"]);
    assert!(ruled.status.success(), "{ruled:?}");
    assert_eq!(device.reply().await.json()["source"], "human");

    let bent = triage(&appliance);
    assert_eq!(bent["verdicts"], LEAST);
    assert_eq!(bent["changes"][0]["why"], "verdicts");
    assert_eq!(bent["changes"][0]["verdicts"], LEAST);
    device.publish(&ask("press7-2")).await;
    let told = device.reply().await.json()["confidence"].as_f64().unwrap();
    assert!(told < sure - 0.01, "{told} {sure}");

    assert!(appliance.stop().success());
    appliance.start();
    assert_eq!(triage(&appliance), bent, "a restart forgets nothing");
    let words = appliance.told("calibrate", &["--learned", "--undo", "triage"]);
    assert!(words.status.success(), "{words:?}");
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("taken back"), "{words}");
    assert!(appliance.stop().success());
    appliance.start();
    let after = triage(&appliance);
    assert_eq!(
        (&after["verdicts"], &after["changes"][1]["why"]),
        (&json!(0), &json!("undone"))
    );
    let nothing = appliance.told("calibrate", &["--learned", "--undo", "guide"]);
    assert_eq!(nothing.status.code(), Some(USAGE), "{nothing:?}");
}
