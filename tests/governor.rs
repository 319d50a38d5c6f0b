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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use appliance::{Appliance, PATIENCE, count, fresh_dir};
use device::{Ask, Device, Version};
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};

const LIMIT_C: f64 = 85.0;
/// A fanless board in a warm cabinet: watts of an engine that never rests, and of all the rest.
const ENGINE_W: f64 = 9.0;
const REST_W: f64 = 2.0;
/// From die to sink, and from there to the air: kelvin for a watt, and joules for a kelvin.
const DIE: (f64, f64) = (1.2, 6.0);
const SINK: (f64, f64) = (2.0, 25.0);
/// Between two steps of its heat.
const STEP: Duration = Duration::from_millis(100);
/// Requests of that device at a time.
const IN_FLIGHT: u32 = 8;
/// How long a device keeps the engine busy at least.
const HOT_WORK: Duration = Duration::from_mins(1);

/// From an oven to nominal: the governor has to learn that the air is cool again, and only a board
/// that computes shows it.
const COOLING: Duration = Duration::from_mins(5);

/// A board whose one sensor is a file, and whose heat is the work of a real process.
struct Board {
    root: PathBuf,
    air_millicelsius: Arc<AtomicI64>,
    /// The hottest that its die has been.
    peak_millicelsius: Arc<AtomicI64>,
    /// Whether its sensor can be read.
    has_sensor: Arc<AtomicBool>,
    /// Whose work heats it; 0 before there is anybody.
    engine: Arc<AtomicU32>,
}

impl Board {
    /// In air of so many degrees, in which it has been long enough.
    fn start(air_c: f64) -> Self {
        let root = fresh_dir().join("sys");
        let zone = root.join("class/thermal/thermal_zone0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("type"), "cpu-thermal\n").unwrap();
        let board = Self {
            root,
            air_millicelsius: Arc::new(AtomicI64::new(milli(air_c))),
            peak_millicelsius: Arc::default(),
            has_sensor: Arc::new(AtomicBool::new(true)),
            engine: Arc::default(),
        };
        let mut sink_c = air_c + REST_W * SINK.0;
        let mut die_c = sink_c + REST_W * DIE.0;
        show(&zone, die_c);
        let [air, peak] = [&board.air_millicelsius, &board.peak_millicelsius].map(Arc::downgrade);
        let (has_sensor, engine) = (Arc::clone(&board.has_sensor), Arc::clone(&board.engine));
        std::thread::spawn(move || {
            let (mut at, mut worked) = (Instant::now(), 0.0);
            // Until the board is gone.
            while let (Some(air), Some(peak)) = (air.upgrade(), peak.upgrade()) {
                std::thread::sleep(STEP);
                let span_s = at.elapsed().as_secs_f64();
                at = Instant::now();
                let now = processor_s(engine.load(Ordering::Relaxed)).unwrap_or(worked);
                let load = ((now - worked).max(0.0) / span_s).min(1.0);
                worked = now;
                let flow_w = (die_c - sink_c) / DIE.0;
                die_c += (REST_W + ENGINE_W * load - flow_w) * span_s / DIE.1;
                let away_w = (sink_c - celsius(air.load(Ordering::Relaxed))) / SINK.0;
                sink_c += (flow_w - away_w) * span_s / SINK.1;
                peak.fetch_max(milli(die_c), Ordering::Relaxed);
                if has_sensor.load(Ordering::Relaxed) {
                    show(&zone, die_c);
                } else {
                    let _ = fs::remove_file(zone.join("temp")); // it may be gone already
                }
            }
        });
        board
    }

    fn air_is(&self, air_c: f64) {
        self.air_millicelsius.store(milli(air_c), Ordering::Relaxed);
    }

    fn peak_c(&self) -> f64 {
        celsius(self.peak_millicelsius.load(Ordering::Relaxed))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.root.parent().unwrap_or(&self.root));
    }
}

/// As the kernel does: there is never half a number.
fn show(zone: &Path, die_c: f64) {
    let new = zone.join("temp.new");
    let text = format!("{}\n", milli(die_c));
    if fs::write(&new, text).is_ok() {
        let _ = fs::rename(new, zone.join("temp")); // the board may be gone
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a temperature")]
fn milli(celsius: f64) -> i64 {
    (celsius * 1000.0) as i64
}

#[allow(clippy::cast_precision_loss, reason = "a temperature")]
fn celsius(milli: i64) -> f64 {
    milli as f64 / 1000.0
}

/// Processor time of a process so far.
fn processor_s(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|it| it.parse::<f64>().ok()).sum();
    Some(ticks / 100.0)
}

struct Plant {
    _broker: Mosquitto,
    appliance: Appliance,
    device: Device,
    board: Board,
    asked: u32,
}

impl Plant {
    /// In air of so many degrees.
    async fn start(air_c: f64) -> Self {
        let broker = Mosquitto::start(&Setup::default());
        let board = Board::start(air_c);
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/models/factory-triage");
        let config = format!(
            "[model]\npackage = \"{package}\"\n[engine]\nthreads = 1\n\
             [intake]\nrequests_per_client_per_s = 10000\n\
             [governor]\nlimit_celsius = {LIMIT_C:.1}\nsysfs_root = \"{}\"\n",
            board.root.display()
        );
        let mut appliance = Appliance::at(broker.port, &config);
        appliance.start();
        appliance.until(|status| {
            status["engine"] == "ready" && status["governor"]["celsius"].is_number()
        });
        let pid = appliance.engine_pid();
        let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap();
        board.engine.store(pid, Ordering::Relaxed);
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

fn celsius_of(status: &Value) -> f64 {
    status["governor"]["celsius"].as_f64().unwrap()
}

fn rest_permille(status: &Value) -> u64 {
    status["governor"]["rest_permille"].as_u64().unwrap()
}

fn state(status: &Value) -> &str {
    status["governor"]["state"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_slows_before_the_limit_cascades_at_it_and_comes_back() {
    // Without a governor the die would settle at 57 + 2 × 11 + 1.2 × 11 = 92 °C.
    let mut plant = Plant::start(57.0).await;
    let reply = plant.ask(10_000).await;
    assert_eq!(reply["status"], "answered", "{reply}");
    assert_eq!(reply["degraded"], false, "{reply}");

    // A device that never rests: the engine is paced, and the limit is not reached.
    let begun = Instant::now();
    let mut paced = false;
    while begun.elapsed() < HOT_WORK || !paced {
        assert!(begun.elapsed() < PATIENCE * 3, "it is never paced");
        // Some at a time, so that the engine always has one.
        for _ in 0..IN_FLIGHT {
            let question = plant.question(60_000);
            plant.device.publish(&question).await;
        }
        for _ in 0..IN_FLIGHT {
            let reply = plant.device.reply().await.json();
            let hot = reply["error"]["code"] == "hot";
            assert!(reply["status"] == "answered" || hot, "{reply}");
        }
        paced |= rest_permille(&plant.appliance.status()) > 0;
    }
    let peak_c = plant.board.peak_c();
    assert!(peak_c < LIMIT_C, "{peak_c}");
    assert!(peak_c > LIMIT_C - 20.0, "it never became warm: {peak_c}");

    // The cabinet becomes an oven: nothing is computed, and who has no time is told when to come.
    plant.board.air_is(150.0);
    let status = plant.appliance.until(|status| state(status) == "critical");
    assert_eq!(status["governor"]["short"], "hot", "{status}");
    let missing = status["reduced"].as_array().unwrap();
    assert!(missing.contains(&json!("engine")), "{status}");
    let reply = plant.ask(300).await;
    assert_eq!(reply["error"]["code"], "hot", "{reply}");
    let retry_after_ms = reply["error"]["retry_after_ms"].as_u64();
    assert!(retry_after_ms.is_some_and(|it| it > 0), "{reply}");

    // Who has time waits, and is answered here when it has cooled down.
    plant.board.air_is(30.0);
    let reply = plant.ask(20 * 60_000).await;
    assert_eq!(reply["status"], "answered", "{reply}");
    assert_eq!(reply["source"], "edge", "{reply}");
    let cooled = Instant::now();
    let is_well = |status: &Value| state(status) == "nominal" && rest_permille(status) == 0;
    while !is_well(&plant.appliance.status()) {
        assert!(cooled.elapsed() < COOLING, "{}", plant.appliance.status());
        let reply = plant.ask(60_000).await;
        assert_eq!(reply["status"], "answered", "{reply}");
    }
    let status = plant.appliance.until(|status| status["open"] == 0);
    assert_eq!(status["engine_crashes"], 0, "{status}");
    let settled = count(&status, "settled", "answered") + count(&status, "settled", "hot");
    assert_eq!(settled, u64::from(plant.asked), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_that_goes_missing_counts_as_hotter_with_time_until_work_stops() {
    let mut plant = Plant::start(65.0).await;
    let at_first = celsius_of(&plant.appliance.status());
    plant.board.has_sensor.store(false, Ordering::Relaxed);
    plant
        .appliance
        .until(|status| celsius_of(status) > at_first + 2.0);
    let status = plant.appliance.until(|status| state(status) == "critical");
    assert_eq!(status["engine_crashes"], 0, "{status}");
    let told = plant.appliance.log();
    assert!(told.contains("sensor=cpu-thermal"), "{told}");
    // It is there again, and so is the work.
    plant.board.has_sensor.store(true, Ordering::Relaxed);
    let reply = plant.ask(20 * 60_000).await;
    assert_eq!(reply["status"], "answered", "{reply}");
    plant.appliance.until(|status| state(status) != "critical");
}
