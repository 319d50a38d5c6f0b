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

/// Within the limit of requests in flight, because a broker may hand all of them over at once.
const BACKLOG: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_while_the_appliance_was_down_is_answered_when_it_is_up() {
    let (broker, mut appliance) = plant("");
    assert!(appliance.stop().success());
    let mut devices = Vec::new();
    for (number, version) in [Version::V3, Version::V5].into_iter().enumerate() {
        devices.push(ask_and_wait(number, version, broker.port, BACKLOG).await);
    }
    appliance.start();
    for (number, device) in devices.iter_mut().enumerate() {
        for (id, code) in answers(number, device, BACKLOG).await {
            assert_eq!(code, "engine_unavailable", "{id}");
        }
    }
    assert_eq!(redeliveries(&broker), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_beyond_every_limit_is_refused_and_not_forgotten() {
    let (broker, mut appliance) = plant("");
    assert!(appliance.stop().success());
    let mut device = ask_and_wait(0, Version::V5, broker.port, 500).await;
    appliance.start();
    for (id, code) in answers(0, &mut device, 500).await {
        let known = ["engine_unavailable", "busy", "rate_limited"];
        assert!(known.contains(&code.as_str()), "{id}: {code}");
    }
    assert_eq!(redeliveries(&broker), 0);
}

/// A device that has asked on its own topic.
async fn ask_and_wait(number: usize, version: Version, port: u16, requests: usize) -> Device {
    let answers = format!("devices/d{number}/answers");
    let mut device = Device::start(version, port, &[&answers]).await;
    for request in 0..requests {
        let id = format!("d{number}-{request:03}");
        let payload = json!({ "prompt": "p", "id": id, "reply_to": answers }).to_string();
        let topic = format!("lineside/line-3/request/d{number}");
        device.publish(&Ask::new(payload).on(&topic)).await;
    }
    device
}

/// Exactly one reply for each request: its id and its code.
async fn answers(number: usize, device: &mut Device, requests: usize) -> BTreeMap<String, String> {
    let mut heard = BTreeMap::new();
    for _ in 0..requests {
        let reply = device.reply().await;
        heard.insert(reply.id(), reply.code());
    }
    let wanted: Vec<_> = (0..requests).map(|n| format!("d{number}-{n:03}")).collect();
    assert_eq!(heard.keys().cloned().collect::<Vec<_>>(), wanted);
    assert!(device.is_quiet().await);
    heard
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
