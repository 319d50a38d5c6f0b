//! The appliance shows up in Home Assistant by itself, and goes when it is told to: over a real
//! broker, with what Home Assistant reads of it.

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

use std::collections::BTreeMap;
use std::fs;

use appliance::Appliance;
use device::{Device, Memory, Reply, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::Value;

const ON: &str = "[telemetry]\nmqtt = false\nevery_s = 1\nhome_assistant = \"homeassistant\"\n";
const OFF: &str = "[telemetry]\nmqtt = false\nevery_s = 1\n";
const SENSORS: [&str; 5] = ["answered", "celsius", "open", "package", "state"];
/// What the broker keeps for whoever comes later, of what is of interest here.
const KEPT: [&str; 3] = [
    "homeassistant/#",
    "lineside/line-3/telemetry/#",
    "lineside/line-3/status",
];

/// Listens until `wanted` says that it is enough; the last payload of each topic.
async fn heard(
    port: u16,
    wanted: impl Fn(&BTreeMap<String, Vec<u8>>) -> bool,
) -> BTreeMap<String, Vec<u8>> {
    let mut device = Device::start(Version::V3, port, &KEPT).await;
    let mut all = BTreeMap::new();
    while !wanted(&all) {
        let Reply { topic, payload, .. } = device.reply().await;
        all.insert(topic, payload);
    }
    all
}

fn sensors(all: &BTreeMap<String, Vec<u8>>) -> Vec<&String> {
    let topics = all.iter().filter(|(_, payload)| !payload.is_empty());
    let topics = topics.map(|(topic, _)| topic);
    topics
        .filter(|topic| topic.starts_with("homeassistant/"))
        .collect()
}

/// What a sensor's template finds in the message that its topic keeps.
fn value_of(sensor: &Value, all: &BTreeMap<String, Vec<u8>>) -> Value {
    let topic = sensor["state_topic"].as_str().unwrap();
    let message: Value = serde_json::from_slice(&all[topic]).unwrap();
    let template = sensor["value_template"].as_str().unwrap();
    let path = template.strip_prefix("{{ value_json.").unwrap();
    let path = path.strip_suffix(" }}").unwrap();
    message
        .get(path)
        .cloned()
        .unwrap_or_else(|| panic!("{path}: {message}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_are_announced_for_good_and_taken_back_when_switched_off() {
    let broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::at(broker.port, ON);
    appliance.start();
    let all = heard(broker.port, |all| {
        sensors(all).len() == SENSORS.len() && all.len() == SENSORS.len() + 2
    })
    .await;
    for key in SENSORS {
        let topic = format!("homeassistant/sensor/lineside_line-3/{key}/config");
        let sensor: Value = serde_json::from_slice(&all[&topic]).unwrap();
        let value = value_of(&sensor, &all);
        match key {
            "state" => assert_eq!(value, "online"),
            "open" | "answered" => assert_eq!(value, 0),
            _ => assert!(value.is_null(), "no sensor, no package: {key} {value}"),
        }
        assert_eq!(sensor["availability_topic"], "lineside/line-3/status");
        assert_eq!(sensor["device"]["name"], "line-3");
    }

    assert!(appliance.stop().success());
    fs::write(appliance.dir.join("conf.d/more.toml"), OFF).unwrap();
    let remembered = appliance.dir.join("state/home-assistant");
    assert_eq!(fs::read_to_string(&remembered).unwrap(), "homeassistant");
    appliance.start();
    appliance.until(|_| fs::read_to_string(&remembered).unwrap().is_empty());
    let mut late = Device::named("late", Version::V3, Memory::None, broker.port, &KEPT).await;
    let status = late.reply().await;
    assert_eq!(status.topic, "lineside/line-3/status");
    assert!(late.is_quiet().await, "nothing else is kept");
}
