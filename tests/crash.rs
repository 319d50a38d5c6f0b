//! The service is killed again and again while devices ask: each request gets one outcome.
//!
//! `LINESIDE_KILLS` sets how often, `LINESIDE_SEED` repeats the moments of an earlier run. What
//! SIGKILL shows is that the order of writing, acknowledging and replying is right; what the disk
//! loses with the power is the matter of `power_cut_service.rs`.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/load.rs"]
#[allow(dead_code, unreachable_pub)]
mod load;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::time::Duration;

use appliance::{Appliance, count};
use load::{Load, NO_LIMITS};
use mosquitto::{Mosquitto, Setup};
use serde_json::json;

const DEVICES: usize = 6;
const KILLS: u64 = 100;
/// Timelines that are looked at in the end.
const TRACED: usize = 200;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_gets_one_outcome_however_often_the_service_is_killed() {
    let kills = from_env("LINESIDE_KILLS").unwrap_or(KILLS);
    let seed = from_env("LINESIDE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("LINESIDE_SEED={seed} LINESIDE_KILLS={kills}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let broker = Mosquitto::start(&Setup {
        persistent: true,
        ..Setup::default()
    });
    let mut appliance = Appliance::at(broker.port, NO_LIMITS);
    appliance.start(); // its session with the broker begins before the first request
    let load = Load::start(broker.port, DEVICES, Duration::from_millis(15)).await;
    for _ in 0..kills {
        let at = Duration::from_millis(dice.u64(50..=400));
        tokio::time::sleep(at).await;
        appliance.kill();
        appliance.launch();
    }
    appliance.until(|status| status["state"] == "online");
    let ledger = load.finish().await;
    ledger.assert_whole();
    let early = kills + 1 - appliance.log().matches(": ready ").count() as u64;
    println!(
        "{kills} kills ({early} of them before the service was ready), {} requests, {} replies",
        ledger.asked.len(),
        ledger.copies()
    );
    assert!(ledger.asked.len() as u64 > kills, "nothing was at stake");

    let status = appliance.until(|status| status["open"] == 0 && status["outbox"] == 0);
    assert_eq!(count(&status, "undeliverable", "reply"), 0);
    assert_eq!(
        status["outcomes"].as_u64().unwrap(),
        ledger.asked.len() as u64
    );
    let ids: Vec<_> = ledger.asked.iter().collect();
    for _ in 0..TRACED {
        let id = ids[dice.usize(..ids.len())];
        let trace = appliance
            .command(&json!({ "cmd": "trace", "id": id }))
            .unwrap();
        let lives = trace.as_array().unwrap();
        assert_eq!(lives.len(), 1, "{id}: {trace}");
        let steps = lives[0]["steps"].as_array().unwrap();
        let accepted = steps.iter().filter(|step| step["what"] == "accepted");
        assert_eq!(accepted.count(), 1, "{id}: {trace}");
        let settled = steps
            .iter()
            .filter(|step| step["what"] == "refused: engine_unavailable");
        assert_eq!(settled.count(), 1, "{id}: {trace}");
    }
    assert!(appliance.stop().success());
}
