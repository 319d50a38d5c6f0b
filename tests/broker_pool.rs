//! Appliances that share a queue on a real broker: what a dead one had not acknowledged goes to
//! another.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/line.rs"]
#[allow(dead_code, unreachable_pub)]
mod line;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::collections::HashSet;

use line::{Appliance, Device, PATIENCE, link};
use lineside::broker::{End, Session};
use mosquitto::{Mosquitto, Setup};
use tokio::time::timeout;

#[tokio::test]
async fn a_dead_pool_members_unacknowledged_requests_go_to_its_stand_in() {
    const SHARED: &str = "$share/press/pool/press/request";
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &[]).await;
    let mut dying = Appliance::start(link(&broker, "pool-a", &[SHARED]));
    dying.up().await;
    let own = link(&broker, "pool-b", &[SHARED]);
    let mut living = Appliance::start(own.clone());
    living.up().await;
    for number in 0..10 {
        device
            .publish("pool/press/request", &format!("m{number}"))
            .await;
    }
    let mut held = HashSet::new();
    for _ in 0..5 {
        held.insert(dying.message().await.payload);
        let message = living.message().await;
        living.acknowledge(&message).await;
    }
    dying.die().await;
    assert!(
        living.is_quiet().await,
        "the broker hands nothing over by itself"
    );

    // More of the dead one's share comes while it is away.
    for number in 10..16 {
        device
            .publish("pool/press/request", &format!("m{number}"))
            .await;
    }
    let mut all = HashSet::new();
    for _ in 0..3 {
        let message = living.message().await;
        all.insert(message.payload.clone());
        living.acknowledge(&message).await;
    }
    let mut stand_in = Appliance::start(own.stand_in("pool-a".into()));
    let mut taken = HashSet::new();
    let mut redelivered = HashSet::new();
    while taken.len() < 8 {
        let message = stand_in.message().await;
        if message.redelivered {
            redelivered.insert(message.payload.clone());
        }
        taken.insert(message.payload.clone());
        stand_in.acknowledge(&message).await;
    }
    assert_eq!(redelivered, held, "all that was unacknowledged");
    all.extend(taken.difference(&held).cloned());
    assert_eq!(all.len(), 6, "and all that was queued for it");

    assert!(
        stand_in.is_quiet().await,
        "its acknowledgements are through"
    );

    // The owner comes back: the stand-in leaves, and nothing comes twice.
    let mut back = Appliance::start(link(&broker, "pool-a", &[SHARED]));
    assert_eq!(back.up().await, Session::Resumed);
    let end = timeout(PATIENCE, stand_in.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(end, End::Lost);
    assert!(back.is_quiet().await);
    device.publish("pool/press/request", "new").await;
    device.publish("pool/press/request", "new").await;
    assert_eq!(back.message().await.payload, b"new");
}

#[tokio::test]
async fn a_stand_in_for_a_member_without_a_session_ends_and_does_no_harm() {
    let broker = Mosquitto::start(&Setup::default());
    let mut device = Device::start(&broker, &[]).await;
    let owner = link(&broker, "pool-a", &["$share/g/t"]);
    let stand_in = Appliance::start(owner.stand_in("pool-a".into()));
    let end = timeout(PATIENCE, stand_in.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(end, End::NoSession);
    // The empty session that it left behind does not make the owner deaf.
    let mut owner = Appliance::start(owner);
    owner.up().await;
    device.publish("t", "x").await;
    assert_eq!(owner.message().await.payload, b"x");
}
