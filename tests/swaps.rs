//! Swaps with the real service, broker and models, under a stream of requests: what is good is
//! committed, and whatever is wrong with another ends on the last good package, with the reason told
//! and every request accounted for.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;
#[path = "support/publisher.rs"]
#[allow(dead_code, unreachable_pub)]
mod publisher;
#[path = "swaps/site.rs"]
mod site;
#[path = "support/variation.rs"]
#[allow(dead_code, unreachable_pub)]
mod variation;

use std::fs;
use std::path::{Path, PathBuf};

use device::{Ask, Device, Version};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use site::{Site, Stream};

/// Its engine aborts over this: no number of that kind is below zero.
const CRASHES: (&str, usize, [u8; 4]) = ("attention.layer_norm_rms_epsilon", 4, [0, 0, 0x80, 0xbf]);

const ANSWERS: &str = "devices/press7/answers";
/// Of so many bytes of weights, one is another.
const SICK_BYTES: usize = 97;

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

/// One thing after the other is wrong with what comes, and requests never stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_a_package_the_last_good_one_serves_and_nothing_is_lost() {
    let mut site = Site::new("trial_requests = 20\ntrial_s = 3\n");
    site.appliance.start();
    let stream = Stream::start(site.broker.port).await;
    site.until_serving("factory-triage-2");

    // A good one passes, serves on trial, and stays.
    site.publish(3, |_| {});
    let state = site.until_state("committed");
    assert_eq!(state["package"], "factory-triage-3", "{state}");
    site.until_serving("factory-triage-3");

    // Valid answers, too many of them wrong.
    let harmed = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/variants/harmed-Q4_K_M.gguf");
    let harmed = fs::read(harmed).unwrap();
    site.publish(4, |it| it.model(&harmed));
    site.until_taken_back("factory-triage-4", "gate", "accuracy of summary");

    // Its engine aborts.
    let (key, after, bytes) = CRASHES;
    site.publish(5, |it| it.patched(key, after, &bytes));
    site.until_taken_back("factory-triage-5", "gate_broken", "the engine ended");

    // The same without a suite to find it out: the trial does.
    site.publish(6, |it| {
        it.patched(key, after, &bytes);
        it.without_suite();
    });
    site.until_taken_back("factory-triage-6", "crash", "its engine ended");

    // Too slow for its own bar, also with the board to itself.
    site.publish(7, |it| {
        it.bars().insert("latency_ms".into(), 1.into());
    });
    site.until_taken_back("factory-triage-7", "gate", "median time: ");

    // One task's prompt is broken; the bar for it is gone, but what serves does it better.
    site.publish(8, |it| {
        let task = it.task("classify-machine");
        task.insert("system".into(), "classify: now, today, later".into());
        it.forget(&["bars", "task"], "name", "classify-machine");
    });
    let told = "accuracy of classify-machine against what serves";
    site.until_taken_back("factory-triage-8", "gate", told);

    // It does well whatever its suite asks, and not what this line asks.
    site.publish(9, |it| {
        it.suite(|item| item["task"] != "triage");
        it.forget(&["task"], "name", "triage");
        it.forget(&["calibration"], "task", "triage");
        it.forget(&["risk"], "task", "triage");
        it.forget(&["bars", "task"], "name", "triage");
        it.forget(&["estimate", "task"], "name", "triage");
    });
    site.until_taken_back("factory-triage-9", "jump", "requests without an answer");

    // The ring is halted in the middle of a good one's trial, and opened again later.
    site.publish(10, |_| {});
    site.until_state("trial");
    site.halt(10);
    let state = site.until_state("withdrawn");
    assert_eq!(state["code"], "halted", "{state}");
    site.until_serving("factory-triage-3");
    site.open(10);
    site.until_state("committed");
    site.until_serving("factory-triage-10");

    let ledger = stream.end().await;
    assert!(ledger.sent > 100, "{ledger:?}");
    assert_eq!(ledger.lost, 0, "{ledger:?}");
    assert_eq!(ledger.twice, 0, "{ledger:?}");
    assert_eq!(ledger.answered + ledger.refused, ledger.sent, "{ledger:?}");
    // Only the package that did not know the task refused.
    assert_eq!(ledger.codes.keys().collect::<Vec<_>>(), ["unknown_task"]);
    // Each answer says which package gave it, and those that never passed gave none.
    for seq in ledger.packages.keys() {
        assert!([2, 3, 9, 10].contains(seq), "{ledger:?}");
    }
    let listed = site.appliance.told("models", &["list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for line in [
        "served      factory-triage 10",
        "factory-triage-3   before",
        "factory-triage-10  serving",
        "factory-triage-4   taken_back",
    ] {
        assert!(listed.contains(line), "{line}:\n{listed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_takes_back_and_chooses_and_the_ring_decides_again() {
    let mut site = Site::new("trial_requests = 1\ntrial_s = 0\n");
    site.appliance.start();
    let stream = Stream::start(site.broker.port).await;
    site.until_serving("factory-triage-2");
    // Nothing came over the air: there is nothing to take back.
    let refused = site.appliance.told("models", &["rollback"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    site.publish(3, |_| {});
    site.until_state("committed");
    site.publish(4, |_| {});
    site.until_serving("factory-triage-4");
    site.until_state("committed");
    // A tick of time is enough for one that was committed before.
    let done = site.appliance.told(
        "models",
        &["rollback", "--reason", "the night shift says so"],
    );
    assert!(done.status.success(), "{done:?}");
    site.until_serving("factory-triage-3");
    let state = site.until_state("rolled_back");
    assert_eq!(
        state["reason"], "by hand: the night shift says so",
        "{state}"
    );
    // The ring still means it, and it does not come back by itself.
    site.check();
    site.until_serving("factory-triage-3");
    let pinned = site.appliance.told("models", &["pin", "factory-triage-4"]);
    assert!(pinned.status.success(), "{pinned:?}");
    site.until_serving("factory-triage-4");
    site.until_state("committed");
    site.publish(5, |_| {});
    site.until(|course| course["pinned"] == "factory-triage-4");
    assert_eq!(site.serving(), json!("factory-triage-4"));
    assert!(site.appliance.told("models", &["unpin"]).status.success());
    site.check();
    site.until_serving("factory-triage-5");
    let verified = site
        .appliance
        .told("models", &["verify", "factory-triage-4"]);
    assert!(verified.status.success(), "{verified:?}");
    let missing = site.appliance.told("models", &["pin", "factory-triage-9"]);
    let told = String::from_utf8([missing.stdout, missing.stderr].concat()).unwrap();
    assert!(told.contains("is not here"), "{told}");
    let ledger = stream.end().await;
    assert_eq!(
        (ledger.lost, ledger.twice, ledger.refused),
        (0, 0, 0),
        "{ledger:?}"
    );
}

/// Where there is memory for one engine only, what serves rests for the gate and makes room for the
/// next, and requests wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_memory_for_one_engine_requests_wait_and_none_is_lost() {
    let budget = site::budget_for_one();
    let ota = "trial_requests = 5\ntrial_s = 1\n";
    // Whoever waits is in flight.
    let intake = "[intake]\nmax_in_flight = 10000\nmax_in_flight_per_client = 10000\n";
    let governor = format!("[governor]\nmemory_budget_bytes = {budget}\n");
    let mut site = Site::new(&format!("{ota}{intake}{governor}"));
    site.appliance.start();
    let stream = Stream::start(site.broker.port).await;
    site.until_serving("factory-triage-2");
    site.publish(3, |_| {});
    site.until_state("committed");
    site.until_serving("factory-triage-3");
    let ledger = stream.end().await;
    assert_eq!(
        (ledger.lost, ledger.twice, ledger.refused),
        (0, 0, 0),
        "{ledger:?}"
    );
    assert_eq!(ledger.packages.keys().copied().collect::<Vec<_>>(), [2, 3]);
}

/// What does not fit into this board's memory does not come to serve, and who follows the board is told
/// by how much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_does_not_fit_the_memory_plan_ends_on_the_last_good_one_with_the_reason_told()
 {
    let budget = site::budget_for_the_smaller();
    let intake = "[intake]\nmax_in_flight = 10000\nmax_in_flight_per_client = 10000\n";
    let governor = format!("[governor]\nmemory_budget_bytes = {budget}\n");
    let mut site = Site::new(&format!(
        "trial_requests = 5\ntrial_s = 1\n{intake}{governor}"
    ));
    site.appliance.start();
    let stream = Stream::start(site.broker.port).await;
    site.until_serving("factory-triage-2");
    site.publish(3, |_| {});
    site.until_state("committed");
    site.publish(4, variation::Variation::larger);
    let why = "the model does not fit into memory; Q8_0 needs";
    site.until_taken_back("factory-triage-4", "gate_broken", why);
    // It is no fault of the package that comes after it.
    site.publish(5, |_| {});
    site.until(|it| it["package"] == "factory-triage-5" && it["state"] == "committed");
    let ledger = stream.end().await;
    assert_eq!(
        (ledger.lost, ledger.twice, ledger.refused),
        (0, 0, 0),
        "{ledger:?}"
    );
    assert_eq!(
        ledger.packages.keys().copied().collect::<Vec<_>>(),
        [2, 3, 5]
    );
}

/// A disk that gives back other bytes than it was given, long after the gate: the next engine loads
/// them, and the watch finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_worse_after_its_commit_raises_an_alarm_and_is_taken_back() {
    let mut site =
        Site::new("trial_requests = 1\ntrial_s = 0\nwatch_every_s = 1\non_alarm = \"roll_back\"\n");
    site.appliance.start();
    site.until_serving("factory-triage-2");
    let mut device = Device::start(Version::V5, site.broker.port, &[ANSWERS]).await;
    site.publish(3, |_| {});
    site.until_state("trial");
    let mut pump = 0;
    while site.course()["state"] != "committed" {
        pump += 1;
        assert_eq!(asked(&mut device, pump).await["status"], "answered");
    }
    let model = bundled().join("factory-triage-2-Q4_K_M.gguf");
    let mut bytes = fs::read(model).unwrap();
    let files = site.fetched(bytes.len() as u64);
    assert!(!files.is_empty());
    // A hundredth of the weights, in small pieces; the file stays one that can be loaded.
    let weights = bytes.len() / 2;
    for byte in bytes[weights..].iter_mut().step_by(SICK_BYTES) {
        *byte ^= 0x55;
    }
    for file in files {
        fs::write(file, &bytes).unwrap();
    }
    kill_process(site.appliance.engine_pid(), Signal::KILL).unwrap();
    let course = site.until_state("rolled_back");
    assert_eq!(course["package"], "factory-triage-3", "{course}");
    assert_eq!(course["code"], "alarm", "{course}");
    let why = course["reason"].as_str().unwrap();
    assert!(
        why.contains("of the gate suite were answered wrong"),
        "{course}"
    );
    site.until_serving("factory-triage-2");
    let answer = asked(&mut device, 0).await;
    assert_eq!(answer["model"]["seq"], 2, "{answer}");
}

/// The answer about a pump: what was answered before says nothing of another model.
async fn asked(device: &mut Device, pump: u32) -> Value {
    let request = json!({
        "task": "triage", "input": format!("pump {pump}: vibration 9 mm/s"), "reply_to": ANSWERS,
    });
    let ask = Ask::new(request.to_string()).on("lineside/line-3/request/press7");
    device.ask(&ask).await.json()
}

/// A kill in each state of a swap: what was committed last serves at once, and the swap completes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_each_state_of_a_swap_leaves_a_package_that_serves_and_the_swap_completes() {
    let mut site = Site::new("trial_requests = 10\ntrial_s = 2\n");
    site.appliance.start();
    let stream = Stream::start(site.broker.port).await;
    site.until_serving("factory-triage-2");
    site.publish(3, |_| {});
    for state in ["gate", "gate", "trial", "trial", "committed", "committed"] {
        site.until_state(state);
        site.appliance.kill();
        site.appliance.start();
        let course = site.course();
        let serves = if state == "gate" {
            Value::Null
        } else {
            json!("factory-triage-3")
        };
        assert_eq!(course["serving"], serves, "{course}");
    }
    site.until_serving("factory-triage-3");
    // Each of its gates or trials may be what takes the board down, and it has three of each.
    site.publish(4, |_| {});
    for _ in 0..3 {
        site.until_state("gate");
        site.appliance.kill();
        site.appliance.start();
    }
    let why = "the appliance was restarted in each of its gates";
    site.until_taken_back("factory-triage-4", "gate_attempts", why);
    let ledger = stream.end().await;
    assert_eq!((ledger.lost, ledger.twice), (0, 0), "{ledger:?}");
}

/// What is told on the topic is retained, and the same as the command says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_says_where_packages_stand() {
    let mut site = Site::new("trial_requests = 1\ntrial_s = 0\n");
    site.appliance.start();
    let stream = Stream::start(site.broker.port).await;
    site.until_serving("factory-triage-2");
    site.publish(3, |_| {});
    site.until_state("committed");
    let told = site::retained(site.broker.port, "lineside/line-3/ota/state", |it| {
        it["state"] == "committed"
    })
    .await;
    assert_eq!(told["package"], "factory-triage-3", "{told}");
    assert_eq!(told["seq"], 3, "{told}");
    assert_eq!(told["serving"], "factory-triage-3", "{told}");
    assert_eq!(told["ring"], "canary", "{told}");
    assert_eq!(told["reason"], Value::Null, "{told}");
    stream.end().await;
}
