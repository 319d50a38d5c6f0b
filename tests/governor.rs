//! The governor with real parts: the real service and its engine with the bundled model, a real
//! broker, and a board whose sensors are files that a test heats up and cools down.

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

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance::{Appliance, count, fresh_dir};
use device::{Ask, Device, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Far below the limit, and at it.
const COOL: f64 = 45.0;
const LIMIT: f64 = 85.0;

/// A board's sensor.
struct Board {
    root: PathBuf,
}

impl Board {
    fn new() -> Self {
        let root = fresh_dir().join("sys");
        let zone = root.join("class/thermal/thermal_zone0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("type"), "cpu-thermal\n").unwrap();
        let board = Self { root };
        board.is_at(COOL);
        board
    }

    fn is_at(&self, celsius: f64) {
        let temp = self.root.join("class/thermal/thermal_zone0/temp");
        // As the kernel does: there is never half a number.
        let new = temp.with_extension("new");
        fs::write(&new, format!("{:.0}\n", celsius * 1000.0)).unwrap();
        fs::rename(new, temp).unwrap();
    }

    fn loses_its_sensor(&self) {
        fs::remove_file(self.root.join("class/thermal/thermal_zone0/temp")).unwrap();
    }

    /// In steps as a heatsink would, not in a jump, which no sensor that works shows.
    async fn goes(&self, from: f64, to: f64, celsius_per_s: f64) {
        let steps = ((to - from).abs() / celsius_per_s * 4.0).ceil();
        let mut step = 0.0;
        while step < steps {
            step += 1.0;
            self.is_at(from + (to - from) * step / steps);
            sleep(Duration::from_millis(250)).await;
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.root.parent().unwrap_or(Path::new(&self.root)));
    }
}

struct Plant {
    _broker: Mosquitto,
    appliance: Appliance,
    device: Device,
    board: Board,
    asked: u32,
}

impl Plant {
    async fn start() -> Self {
        let broker = Mosquitto::start(&Setup::default());
        let board = Board::new();
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
        let config = format!(
            "[model]\npackage = \"{package}\"\n[engine]\nthreads = 1\n\
             [governor]\nlimit_celsius = {LIMIT:.1}\nsysfs_root = \"{}\"\n",
            board.root.display()
        );
        let mut appliance = Appliance::at(broker.port, &config);
        appliance.start();
        appliance.until(|status| {
            status["engine"] == "ready" && status["governor"]["celsius"].is_number()
        });
        let device = Device::start(Version::V5, broker.port, &["devices/press7/answers"]).await;
        Self {
            _broker: broker,
            appliance,
            device,
            board,
            asked: 0,
        }
    }

    /// A question that nobody has asked before.
    fn question(&mut self, deadline_ms: u64) -> Ask {
        self.asked += 1;
        let input = format!(
            "CNC-{:02} spindle vibration 9.{} mm/s",
            self.asked, self.asked
        );
        let request = json!({
            "id": format!("q-{}", self.asked), "task": "triage", "input": input,
            "deadline_ms": deadline_ms, "late": false, "reply_to": "devices/press7/answers",
        });
        Ask::new(request.to_string()).on("lineside/line-3/request/press7")
    }

    async fn ask(&mut self, deadline_ms: u64) -> Value {
        let question = self.question(deadline_ms);
        self.device.ask(&question).await.json()
    }
}

fn celsius(status: &Value) -> f64 {
    status["governor"]["celsius"].as_f64().unwrap()
}

fn rest_permille(status: &Value) -> u64 {
    status["governor"]["rest_permille"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_slows_before_the_limit_cascades_at_it_and_comes_back() {
    let mut plant = Plant::start().await;
    let reply = plant.ask(10_000).await;
    assert_eq!(reply["status"], "answered", "{reply}");
    assert_eq!(reply["degraded"], false, "{reply}");
    assert_eq!(rest_permille(&plant.appliance.status()), 0);

    // Paced before the limit, and requests are answered all the same.
    plant.board.goes(COOL, LIMIT - 2.0, 4.0).await;
    let status = plant.appliance.until(|status| rest_permille(status) > 0);
    assert!(celsius(&status) < LIMIT, "{status}");
    assert_ne!(status["governor"]["state"], "nominal", "{status}");
    let reply = plant.ask(10_000).await;
    assert_eq!(reply["status"], "answered", "{reply}");

    // At the limit nothing is computed; who has no time is told when to come again.
    plant.board.goes(LIMIT - 2.0, LIMIT + 1.0, 4.0).await;
    let status = plant
        .appliance
        .until(|status| status["governor"]["state"] == "critical");
    assert_eq!(status["governor"]["short"], "hot", "{status}");
    assert!(
        status["reduced"]
            .as_array()
            .unwrap()
            .contains(&json!("engine"))
    );
    let reply = plant.ask(300).await;
    assert_eq!(reply["error"]["code"], "hot", "{reply}");
    assert!(
        reply["error"]["retry_after_ms"].as_u64().unwrap() > 0,
        "{reply}"
    );

    // Who has time waits, and is answered here when it has cooled down.
    let patient = plant.question(120_000);
    plant.device.publish(&patient).await;
    plant.board.goes(LIMIT + 1.0, COOL, 8.0).await;
    let reply = plant.device.reply().await.json();
    assert_eq!(reply["status"], "answered", "{reply}");
    assert_eq!(reply["source"], "edge", "{reply}");
    assert_eq!(reply["degraded"], true, "{reply}");
    let reasons = reply["route"]["reasons"].to_string();
    assert!(reasons.contains("hot"), "{reply}");
    let status = plant
        .appliance
        .until(|status| status["governor"]["state"] == "nominal" && rest_permille(status) == 0);
    assert_eq!(status["open"], 0, "{status}");
    assert_eq!(status["engine_crashes"], 0, "{status}");
    let settled = count(&status, "settled", "answered") + count(&status, "settled", "hot");
    assert_eq!(settled, u64::from(plant.asked), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_that_goes_missing_counts_as_hotter_with_time_until_work_stops() {
    let mut plant = Plant::start().await;
    plant.board.goes(COOL, LIMIT - 10.0, 8.0).await;
    plant.board.loses_its_sensor();
    plant
        .appliance
        .until(|status| celsius(status) > LIMIT - 8.0);
    let status = plant
        .appliance
        .until(|status| status["governor"]["state"] == "critical");
    assert_eq!(status["engine_crashes"], 0, "{status}");
    let told = plant.appliance.log();
    assert!(told.contains("cpu-thermal"), "{told}");
    // It is there again.
    plant.board.is_at(COOL);
    plant
        .appliance
        .until(|status| status["governor"]["state"] != "critical");
    let reply = plant.ask(60_000).await;
    assert_eq!(reply["status"], "answered", "{reply}");
}
