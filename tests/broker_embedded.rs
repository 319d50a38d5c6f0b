//! The broker inside the process: devices of both protocol versions meet the appliance on one port.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use lineside::broker::embedded::{Embedded, start};
use lineside::broker::mqtt;
use lineside::broker::{Command, Event, Link, Role};
use lineside::clock::Clock;
use rumqttc::{AsyncClient, MqttOptions, QoS};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_device_of_the_old_protocol_reaches_an_appliance_of_the_new_one() {
    let settings = Embedded {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_packet_bytes: 262_144,
    };
    let address = start(settings).await.unwrap();
    let link = Link {
        host: address.ip().to_string(),
        port: address.port(),
        tls: None,
        username: None,
        password: None,
        client_id: "a".into(),
        keep_alive: Duration::from_secs(30),
        max_packet_bytes: 262_144,
        receive_maximum: 32,
        session_expiry_s: 3600,
        subscriptions: vec!["in/#".into()],
        will: None,
        role: Role::Owner,
    };
    let echo = mqtt::probe(&link, "lineside/a/echo", Clock::start(), PATIENCE)
        .await
        .unwrap();
    assert!(echo.round_trip > Duration::ZERO);
    let (commands, for_link) = mpsc::channel(64);
    let (to_us, mut events) = mpsc::channel(64);
    tokio::spawn(mqtt::run(link, for_link, to_us, Clock::start(), 1, || {}));
    let up = timeout(PATIENCE, events.recv()).await.unwrap();
    assert!(matches!(up, Some(Event::Up(_))), "{up:?}");

    let mut options = MqttOptions::new("device", address.ip().to_string(), address.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (device, mut socket) = AsyncClient::new(options, 16);
    tokio::spawn(async move { while socket.poll().await.is_ok() {} });
    device
        .publish("in/1", QoS::AtLeastOnce, false, "hello")
        .await
        .unwrap();
    let event = timeout(PATIENCE, events.recv()).await.unwrap();
    match event {
        Some(Event::Message(message)) => {
            assert_eq!(message.payload, b"hello");
            let token = message.ack.unwrap();
            commands.send(Command::Acknowledge(token)).await.unwrap();
        }
        other => panic!("{other:?}"),
    }
}
