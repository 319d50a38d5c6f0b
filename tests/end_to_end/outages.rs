//! Whoever is away for a while, the device, the broker or the appliance: nothing is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::appliance::{Appliance, PATIENCE, count};
use super::device::{Ask, Device, Memory, Reply, Version};
use super::mosquitto::{Mosquitto, Setup};
use super::{connections, lives, plant, redeliveries};

const FORGETFUL: Setup = Setup {
    persistent: false,
    tls: false,
    acl: None,
    user: None,
    more: "",
};
/// Writes its store at each change, so that it survives even SIGKILL.
const REMEMBERS: Setup = Setup {
    persistent: true,
    more: "autosave_on_changes true\nautosave_interval 1\n",
    ..FORGETFUL
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_while_the_appliance_was_down_is_answered_when_it_is_up() {
    let (broker, mut appliance) = plant("");
    assert!(appliance.stop().success());
    let mut devices = Vec::new();
    for (number, version) in [Version::V3, Version::V5].into_iter().enumerate() {
        let answers = format!("devices/d{number}/answers");
        let mut device = Device::start(version, broker.port, &[&answers]).await;
        for request in 0..100 {
            let id = format!("d{number}-{request}");
            let payload = json!({ "prompt": "p", "id": id, "reply_to": answers }).to_string();
            device.publish(&Ask::new(payload)).await;
        }
        devices.push(device);
    }
    appliance.start();
    for (number, device) in devices.iter_mut().enumerate() {
        let mut heard = Vec::new();
        for _ in 0..100 {
            let reply = device.reply().await;
            assert_eq!(reply.code(), "engine_unavailable");
            heard.push(reply.id());
        }
        heard.sort();
        let mut wanted: Vec<_> = (0..100).map(|n| format!("d{number}-{n}")).collect();
        wanted.sort();
        assert_eq!(heard, wanted);
        assert!(device.is_quiet().await);
    }
    assert_eq!(redeliveries(&broker), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_ran_out_at_the_broker_is_not_run() {
    let (broker, mut appliance) = plant("");
    let mut device = Device::start(Version::V5, broker.port, &["lineside/line-3/reply/+"]).await;
    assert!(appliance.stop().success());
    let expiring = |id: &str, expiry_s| {
        let mut ask = Ask::new(json!({ "prompt": "p", "id": id }).to_string());
        ask.properties.message_expiry_interval = Some(expiry_s);
        ask
    };
    device.publish(&expiring("short", 1)).await;
    device.publish(&expiring("long", 600)).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    appliance.start();
    assert_eq!(device.reply().await.id(), "long");
    assert!(device.is_quiet().await);
    assert!(lives(&appliance.trace("short")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_away_finds_its_reply_when_it_comes_back() {
    let (broker, mut appliance) = plant("");
    for (name, version) in [("press7", Version::V5), ("press8", Version::V3)] {
        let answers = format!("devices/{name}/answers");
        let filters = [answers.as_str()];
        let session = Memory::Session;
        let device = Device::named(name, version, session, broker.port, &filters).await;
        device.die().await;
        let mut other = Device::start(Version::V3, broker.port, &[]).await;
        let payload = json!({ "prompt": "p", "id": name, "reply_to": answers }).to_string();
        other.publish(&Ask::new(payload)).await;
        appliance
            .until(|status| status["outbox"] == 0 && count(status, "replies", "delivered") > 0);
        let mut device = Device::named(name, version, session, broker.port, &filters).await;
        let reply = device.reply().await;
        assert_eq!(
            (reply.id().as_str(), reply.code().as_str()),
            (name, "engine_unavailable")
        );
        assert!(device.is_quiet().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_ask_again_are_all_answered_through_a_broker_that_forgets_when_killed() {
    requests_flow_while_the_broker_dies(&FORGETFUL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_ask_again_are_all_answered_through_a_broker_that_remembers() {
    requests_flow_while_the_broker_dies(&REMEMBERS).await;
}

/// Devices ask under one id until they have a reply, as the manual tells them to.
async fn requests_flow_while_the_broker_dies(setup: &Setup) {
    let mut broker = Mosquitto::start(setup);
    let mut appliance = Appliance::at(broker.port, "");
    appliance.start();
    let mut devices = Vec::new();
    for number in 0..4 {
        let port = broker.port;
        devices.push(tokio::spawn(ask_until_answered(number, port)));
    }
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(300..900))).await;
        broker.kill();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..400))).await;
        broker.restart();
        appliance.until(|status| status["state"] == "online");
    }
    for device in devices {
        for (id, replies) in device.await.unwrap() {
            let first = &replies[0];
            assert!(
                replies.iter().all(|reply| reply.payload == first.payload),
                "{id}"
            );
            let lives = lives(&appliance.trace(&id));
            assert_eq!(lives.len(), 1, "{id}: {lives:?}");
        }
    }
    let status = appliance.until(|status| status["outbox"] == 0 && status["open"] == 0);
    assert_eq!(count(&status, "undeliverable", "reply"), 0);
    assert!(connections(&broker) >= 5);
}

async fn ask_until_answered(number: usize, port: u16) -> BTreeMap<String, Vec<Reply>> {
    let version = [Version::V3, Version::V5][number % 2];
    let answers = format!("devices/d{number}/answers");
    let name = format!("d{number}");
    let device = Device::named(&name, version, Memory::Session, port, &[&answers]).await;
    let mut device = device;
    let mut heard: BTreeMap<String, Vec<Reply>> = BTreeMap::new();
    for request in 0..40 {
        let id = format!("d{number}-{request}");
        let payload = json!({ "prompt": "p", "id": id, "reply_to": answers }).to_string();
        let begun = Instant::now();
        while !heard.contains_key(&id) {
            assert!(begun.elapsed() < PATIENCE, "{id} has no reply");
            device.send(&Ask::new(payload.clone()));
            let soon = Instant::now() + Duration::from_millis(500);
            while !heard.contains_key(&id) && Instant::now() < soon {
                let left = soon.saturating_duration_since(Instant::now());
                if let Some(reply) = device.reply_within(left).await {
                    heard.entry(reply.id()).or_default().push(reply);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    heard
}
