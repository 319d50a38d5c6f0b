//! The whole appliance with real parts: the real binary, a real broker, real devices.
//!
//! This build has no engine, so the one final outcome of an accepted request is
//! `engine_unavailable`; everything around it is what a plant gets.

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

#[path = "end_to_end/elsewhere.rs"]
mod elsewhere;
#[path = "end_to_end/local.rs"]
mod local;
#[path = "end_to_end/outages.rs"]
mod outages;
#[path = "end_to_end/refusals.rs"]
mod refusals;
#[path = "end_to_end/replies.rs"]
mod replies;
#[path = "end_to_end/service.rs"]
mod service;

use appliance::Appliance;
use mosquitto::{Mosquitto, Setup};
use serde_json::Value;

/// A broker, and an appliance that is online there.
fn plant(more: &str) -> (Mosquitto, Appliance) {
    let broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::at(broker.port, more);
    appliance.start();
    (broker, appliance)
}

/// What happened to an id, as `lineside trace` tells it: one list of steps for each acceptance.
fn lives(trace: &Value) -> Vec<Vec<String>> {
    let words = |life: &Value| {
        let steps = life["steps"].as_array().unwrap().iter();
        steps
            .map(|step| step["what"].as_str().unwrap().to_owned())
            .collect()
    };
    trace.as_array().unwrap().iter().map(words).collect()
}

/// How often the appliance has connected to this broker, as the broker tells it.
fn connections(broker: &Mosquitto) -> usize {
    let log = std::fs::read_to_string(broker.dir.join("log")).unwrap();
    let connected = |line: &&str| line.contains("New client connected") && is_appliance(line);
    log.lines().filter(connected).count()
}

/// How often the broker has delivered a request to it once more.
fn redeliveries(broker: &Mosquitto) -> usize {
    let log = std::fs::read_to_string(broker.dir.join("log")).unwrap();
    let again = |line: &&str| line.contains("Sending PUBLISH to lineside-line-3 (d1");
    log.lines().filter(again).count()
}

/// The self-test of the line uses a longer name.
fn is_appliance(line: &str) -> bool {
    line.contains(" as lineside-line-3 ")
}
