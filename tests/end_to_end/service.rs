//! The appliance as a service: it says how it is, stops when told, and stays alone.

use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use super::appliance::{Appliance, PATIENCE, count};
use super::device::{Ask, Device, Memory, Version};
use super::mosquitto::{Mosquitto, Setup};
use super::plant;

#[tokio::test(flavor = "multi_thread")]
async fn the_status_topic_tells_the_truth_through_every_end() {
    let broker = Mosquitto::start(&Setup::default());
    let mut watcher = Device::start(Version::V5, broker.port, &["lineside/line-3/status"]).await;
    let mut appliance = Appliance::at(broker.port, "");
    appliance.start();
    let online = watcher.reply().await.json();
    assert_eq!(online["state"], "online");
    assert_eq!(online["appliance"], "line-3");
    assert_eq!(online["engine"], "absent");
    let mut late = Device::start(Version::V3, broker.port, &["lineside/line-3/status"]).await;
    let kept = late.reply().await;
    assert!(kept.retained);
    assert_eq!(kept.json()["state"], "online");

    appliance.kill();
    assert_eq!(watcher.reply().await.json()["state"], "offline");
    let mut late = Device::start(Version::V5, broker.port, &["lineside/line-3/status"]).await;
    assert_eq!(late.reply().await.json()["state"], "offline");

    appliance.start();
    assert_eq!(watcher.reply().await.json()["state"], "online");
    assert!(appliance.stop().success());
    assert_eq!(watcher.reply().await.json()["state"], "draining");
    assert_eq!(watcher.reply().await.json()["state"], "offline");
    assert!(
        watcher.is_quiet().await,
        "a last will after a proper goodbye"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_under_load_it_ends_well_and_loses_nothing() {
    // A broker may hand over more at once than it was told to, and all are of one client.
    let (broker, mut appliance) = plant("[intake]\nmax_in_flight_per_client = 1024\n");
    let answers = "devices/d/answers";
    let session = Memory::Session;
    let mut device = Device::named("d", Version::V5, session, broker.port, &[answers]).await;
    let mut asked = 0;
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        for _ in 0..60 {
            let payload = json!({ "prompt": "p", "id": format!("s-{asked}"), "reply_to": answers });
            device.send(&Ask::new(payload.to_string()));
            asked += 1;
        }
        for _ in 0..30 {
            device.acked().await;
        }
        appliance.signal(signal);
        let ended = appliance.ended();
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        appliance.start();
        for _ in 0..30 {
            device.acked().await;
        }
    }
    let log = appliance.log();
    assert!(
        !log.contains("not everything was finished in time"),
        "{log}"
    );
    assert_eq!(log.matches("stopped").count(), 3, "{log}");
    let mut heard = std::collections::BTreeMap::new();
    let begun = Instant::now();
    while heard.len() < asked {
        assert!(begun.elapsed() < PATIENCE, "{} of {asked}", heard.len());
        let reply = device.reply().await;
        assert_eq!(reply.code(), "engine_unavailable");
        let first = heard.entry(reply.id()).or_insert(reply.payload.clone());
        assert_eq!(*first, reply.payload);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_as_well_without_a_broker() {
    let (mut broker, mut appliance) = plant("");
    broker.kill();
    appliance.until(|status| status["state"] == "offline");
    assert_eq!(appliance.stop().code(), Some(0));

    broker.restart();
    appliance.start();
    broker.freeze(); // the sockets stay open and nothing answers
    assert_eq!(appliance.stop().code(), Some(0));
    broker.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_on_the_same_state_refuses_and_leaves_the_first_alone() {
    let (broker, appliance) = plant("");
    let second = appliance.told("run", &["--config", "config.toml"]);
    // clap takes --config once.
    assert_eq!(second.status.code(), Some(64));
    let second = appliance.told("run", &[]);
    assert_ne!(second.status.code(), Some(0), "{second:?}");
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains("another lineside is running"), "{text}");
    let mut device = Device::start(Version::V3, broker.port, &["lineside/line-3/reply/+"]).await;
    let reply = device.ask(&Ask::new(r#"{"prompt":"p","id":"x"}"#)).await;
    assert_eq!(reply.code(), "engine_unavailable");
    assert_eq!(count(&appliance.status(), "requests", "accepted"), 1);
    assert_eq!(super::connections(&broker), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_ready_the_watchdog_and_stopping() {
    let broker = Mosquitto::start(&Setup::default());
    let mut appliance = Appliance::at(broker.port, "");
    let path = appliance.dir.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = path.display().to_string();
    appliance.env.push(("NOTIFY_SOCKET".into(), socket));
    appliance
        .env
        .push(("WATCHDOG_USEC".into(), "200000".into()));
    appliance.launch();
    let hear = || {
        let mut bytes = [0; 4096];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let until = |word: &str| {
        let mut heard = Vec::new();
        while !heard
            .last()
            .is_some_and(|said: &String| said.contains(word))
        {
            heard.push(hear());
            assert!(heard.len() < 10_000, "no {word}");
        }
        heard
    };
    until("READY=1");
    for _ in 0..5 {
        until("WATCHDOG=1");
    }
    assert!(appliance.command(&json!({ "cmd": "status" })).is_some());
    appliance.signal(Signal::TERM);
    until("STOPPING=1");
    assert_eq!(appliance.ended().code(), Some(0));
}
