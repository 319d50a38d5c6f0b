//! A model elsewhere: a real service, a real HTTP server, and no engine on the appliance.

use std::time::{Duration, Instant};

use super::appliance::{Appliance, PATIENCE};
use super::cloud::{Cloud, Mode, Proof};
use super::device::{Ask, Device, Version};
use super::mosquitto::Mosquitto;
use super::{lives, plant};

const REPLIES: &str = "lineside/line-3/reply/+";

async fn plant_with(
    modes: impl IntoIterator<Item = Mode>,
) -> (Mosquitto, Appliance, Cloud, Device) {
    let cloud = Cloud::start(&Proof::None, modes).await;
    let more = format!(
        "[cloud]\nurl = \"{}\"\nmodel = \"large\"\naccepts = [\"public\"]\n\
         timeout_ms = 1000\nconnect_timeout_ms = 500\n[review]\nlocal = false\n",
        cloud.http()
    );
    let (broker, mut appliance) = plant(&more);
    appliance.until(|status| status["cloud"][0][1] == "open");
    let device = Device::start(Version::V5, broker.port, &[REPLIES]).await;
    (broker, appliance, cloud, device)
}

fn public(id: &str, more: &str) -> Ask {
    Ask::new(format!(
        r#"{{"id":"{id}","prompt":"why","classification":"public"{more}}}"#
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_edge_cannot_the_cloud_answers_and_what_is_restricted_never_gets_there() {
    let (_broker, appliance, cloud, mut device) = plant_with([Mode::Say("because")]).await;
    let reply = device.ask(&public("1", "")).await.json();
    assert_eq!(
        (&reply["source"], &reply["text"]),
        (&"cloud".into(), &"because".into())
    );
    assert_eq!(
        (&reply["final"], &reply["degraded"]),
        (&true.into(), &true.into())
    );
    assert_eq!(reply["model"]["upstream"], "main");
    let trace = lives(&appliance.trace("1"));
    assert!(
        trace[0]
            .iter()
            .any(|step| step.starts_with("passed to the cloud")),
        "{trace:?}"
    );
    let unlabelled = Ask::new(r#"{"id":"2","prompt":"a secret"}"#);
    assert_eq!(device.ask(&unlabelled).await.code(), "engine_unavailable");
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_fails_in_every_way_is_asked_again_and_answers_in_the_end() {
    let modes = [
        Mode::Status(500, &[]),
        Mode::Reset,
        Mode::Body("application/json", "{\"error\":"),
        Mode::Say("because"),
    ];
    let (_broker, _appliance, cloud, mut device) = plant_with(modes).await;
    let reply = device.ask(&public("1", "")).await.json();
    assert_eq!(
        (&reply["final"], &reply["text"]),
        (&true.into(), &"because".into())
    );
    let keys: Vec<_> = cloud
        .seen()
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert!(
        keys.len() >= 4 && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_cloud_never_likes_is_refused_with_the_reason() {
    let (_broker, _appliance, _cloud, mut device) = plant_with([Mode::Status(400, &[])]).await;
    let reply = device.ask(&public("1", "")).await;
    assert_eq!(reply.code(), "cloud_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_when_the_power_goes_is_asked_once_more_under_the_same_key() {
    let modes = [Mode::BlackHole, Mode::Say("because")];
    let (_broker, mut appliance, cloud, mut device) = plant_with(modes).await;
    device.publish(&public("1", "")).await;
    let begun = Instant::now();
    while cloud.seen().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it was never asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    appliance.kill();
    appliance.start();
    let reply = device.reply().await.json();
    assert_eq!(
        (&reply["final"], &reply["text"]),
        (&true.into(), &"because".into())
    );
    let seen = cloud.seen();
    assert_eq!(seen.len(), 2);
    let key = |at: usize| &seen[at].headers["idempotency-key"];
    assert_eq!(key(0), key(1));
    appliance.until(|status| status["away"] == 0 && status["open"] == 0);
}
