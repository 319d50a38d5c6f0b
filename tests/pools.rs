//! Pools with real parts: two real appliances, a real broker, one of them killed with requests in
//! its hands.

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

use std::collections::{BTreeMap, BTreeSet};

use appliance::Appliance;
use device::{Ask, Device, Version};
use mosquitto::{Mosquitto, Setup};
use rustix::process::Signal;

/// More than one receive window would hide; enough that both members get some.
const REQUESTS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_member_held_and_its_share_from_then_on_are_answered_by_another() {
    let broker = Mosquitto::start(&Setup::default());
    let mut dying = member(&broker, "a");
    let mut living = member(&broker, "b");
    let mut device = Device::start(Version::V5, broker.port, &["lineside/+/reply/#"]).await;
    until_both_answer(&mut device).await;

    // Frozen, it takes its share into its hands and acknowledges nothing.
    dying.signal(Signal::STOP);
    let held = publish(&device, "held");
    dying.kill();
    let answered = answers(&mut device, &held).await;
    assert_eq!(
        answered.keys().collect::<BTreeSet<_>>(),
        held.iter().collect()
    );
    assert!(answered.values().all(|by| by == "b"), "{answered:?}");

    let later = publish(&device, "later");
    let answered = answers(&mut device, &later).await;
    assert!(answered.values().all(|by| by == "b"), "{answered:?}");

    // Back, it has its share again.
    dying.start();
    until_both_answer(&mut device).await;
    assert!(dying.stop().success());
    assert!(living.stop().success());
}

fn member(broker: &Mosquitto, name: &str) -> Appliance {
    let more = format!("[appliance]\nname = \"{name}\"\n[broker]\npool = \"press\"\n");
    let mut member = Appliance::at(broker.port, &more);
    member.start();
    member
}

fn ask(id: &str) -> Ask {
    Ask::new(format!(r#"{{"id":"{id}","prompt":"who answers?"}}"#))
        .on("lineside/pool/press/request")
}

/// Asks until an answer has come from each: both have joined.
async fn until_both_answer(device: &mut Device) {
    let mut by = BTreeSet::new();
    while by.len() < 2 {
        let id = format!("probe-{}", fastrand::u64(..));
        device.send(&ask(&id));
        if let Some(reply) = device
            .reply_within(std::time::Duration::from_millis(500))
            .await
        {
            by.insert(answered_by(&reply.topic));
        }
    }
    while device
        .reply_within(std::time::Duration::from_millis(300))
        .await
        .is_some()
    {}
}

fn publish(device: &Device, word: &str) -> BTreeSet<String> {
    let ids: BTreeSet<String> = (0..REQUESTS).map(|n| format!("{word}-{n}")).collect();
    for id in &ids {
        device.send(&ask(id));
    }
    ids
}

/// Who answered what, once everything is answered.
async fn answers(device: &mut Device, ids: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut answered = BTreeMap::new();
    while answered.len() < ids.len() {
        let reply = device.reply().await;
        if ids.contains(&reply.id()) {
            answered.insert(reply.id(), answered_by(&reply.topic));
        }
    }
    answered
}

fn answered_by(topic: &str) -> String {
    topic.split('/').nth(1).unwrap().to_owned()
}
