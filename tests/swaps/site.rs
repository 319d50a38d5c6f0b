//! A site: a broker, a publisher, an appliance that follows it, and devices that never stop asking.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lineside::appliance::plan;
use lineside::clock::Clock;
use lineside::config;
use lineside::ota::object::CHUNK_BYTES;
use lineside::ota::rollout::Rollout;
use lineside::package::Package;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::appliance::{Appliance, fresh_dir};
use crate::device::{Ask, Device, Version};
use crate::mosquitto::{Mosquitto, Setup};
use crate::publisher::Publisher;
use crate::variation::Variation;

/// For a gate of several hundred items twice, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_millis(50);
/// Between two requests.
const EVERY: Duration = Duration::from_millis(40);
/// How long the last answers may take.
const LAST: Duration = Duration::from_mins(1);
/// Between two budgets.
const STEP_BYTES: u64 = 256 << 10;
const NAME: &str = "factory-triage";
const RING: &str = "canary";

pub(crate) struct Site {
    pub(crate) broker: Mosquitto,
    pub(crate) appliance: Appliance,
    publisher: Publisher,
    made: PathBuf,
}

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

/// As much as one engine needs with such a package, and not two.
pub(crate) fn budget_for_one() -> u64 {
    let package = Package::open(&bundled()).unwrap();
    let engine = config::Engine::default();
    let fits = |bytes: &u64| {
        let chosen = plan::choose(&package, &plan::board_with(*bytes), &engine);
        chosen.is_ok_and(|it| it.variant.quantization == "Q8_0")
    };
    (20..400).map(|it| it * STEP_BYTES).find(fits).unwrap()
}

/// With this the larger variant does not fit, and the smaller does.
pub(crate) fn budget_for_the_smaller() -> u64 {
    budget_for_one() - 2 * STEP_BYTES
}

impl Site {
    /// One whose appliance serves the package with number 2, set by hand, with further lines of
    /// `[ota]`.
    pub(crate) fn new(more: &str) -> Self {
        let broker = Mosquitto::start(&Setup::default());
        let mut publisher = Publisher::new(&fresh_dir(), Clock::start().now().wall);
        publisher.publish();
        let made = fresh_dir();
        let first = Variation::new(&made, 2).package();
        let config = format!(
            "[model]\npackage = \"{}\"\n[ota]\nrepository = \"{}\"\nroot_file = \"{}\"\n\
             ring = \"{RING}\"\n{more}",
            first.folder().display(),
            publisher.root().display(),
            publisher.anchor().display()
        );
        Self {
            appliance: Appliance::at(broker.port, &config),
            broker,
            publisher,
            made,
        }
    }

    /// The files of the model that came over the air, each of so many bytes.
    pub(crate) fn fetched(&self, bytes: u64) -> Vec<PathBuf> {
        let mut folders = vec![self.appliance.dir.join("state/models")];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let kind = entry.metadata().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.len() == bytes {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Publishes a package that is as the bundled one but for this, for everybody, and has it looked
    /// for.
    pub(crate) fn publish(&mut self, seq: u64, change: impl FnOnce(&mut Variation)) {
        let mut made = Variation::new(&self.made, seq);
        change(&mut made);
        self.publisher.package(&made.package(), CHUNK_BYTES);
        self.open(seq);
    }

    /// The ring is to run this.
    pub(crate) fn open(&mut self, seq: u64) {
        self.roll(&Rollout::new(RING, NAME, seq, 1000).unwrap());
    }

    /// The ring is to run this, and begins nothing.
    pub(crate) fn halt(&mut self, seq: u64) {
        let mut rollout = Rollout::new(RING, NAME, seq, 1000).unwrap();
        rollout.halt = true;
        self.roll(&rollout);
    }

    fn roll(&mut self, rollout: &Rollout) {
        self.publisher.open(RING, rollout);
        self.publisher.publish();
        self.check();
    }

    /// Looks now.
    pub(crate) fn check(&mut self) {
        let begun = Instant::now();
        loop {
            let told = self.appliance.told("ota", &["check"]);
            if told.status.success() {
                return;
            }
            // A look of its own may be under way.
            assert!(begun.elapsed() < PATIENCE, "{told:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// Where the course stands.
    pub(crate) fn course(&self) -> Value {
        let told = self.appliance.command(&json!({ "cmd": "models" }));
        told.map_or(Value::Null, |it| it["air"]["course"].clone())
    }

    pub(crate) fn serving(&self) -> Value {
        self.course()["serving"].clone()
    }

    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let course = self.course();
            if wanted(&course) {
                return course;
            }
            assert!(begun.elapsed() < PATIENCE, "still {course}");
            std::thread::sleep(LOOK);
        }
    }

    pub(crate) fn until_state(&mut self, state: &str) -> Value {
        self.until(|course| course["state"] == state)
    }

    /// This package answers.
    pub(crate) fn until_serving(&mut self, package: &str) {
        let wanted = package.replacen("triage-", "triage ", 1);
        self.appliance.until_within(PATIENCE, |status| {
            status["engine"] == "ready" && status["package"] == wanted
        });
    }

    /// It is not tried again, for this reason, and what was committed before serves.
    pub(crate) fn until_taken_back(&mut self, package: &str, code: &str, why: &str) {
        let course = self.until(|it| it["package"] == package && it["state"] == "rolled_back");
        assert_eq!(course["code"], code, "{course}");
        assert!(course["reason"].as_str().unwrap().contains(why), "{course}");
        self.until_serving("factory-triage-3");
    }
}

pub(crate) fn named(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A device that asks without end.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Ledger>,
}

/// What became of everything that it asked.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sent: usize,
    pub(crate) answered: usize,
    pub(crate) refused: usize,
    /// Codes of refusals.
    pub(crate) codes: BTreeMap<String, usize>,
    /// Answers by the number of the package.
    pub(crate) packages: BTreeMap<u64, usize>,
    pub(crate) lost: usize,
    pub(crate) twice: usize,
}

impl Stream {
    pub(crate) async fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let device = Device::start(Version::V5, port, &["devices/press7/answers"]).await;
        let task = tokio::spawn(ask(device, Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Stops it, and waits for its last answers.
    pub(crate) async fn end(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn ask(mut device: Device, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut open = BTreeSet::new();
    let mut closed = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        ledger.sent += 1;
        let id = format!("q-{}", ledger.sent);
        let request = json!({
            "id": id, "task": "triage", "input": format!("pump {}: vibration 9 mm/s", ledger.sent),
            "deadline_ms": 120_000, "reply_to": "devices/press7/answers",
        });
        device.send(&Ask::new(request.to_string()).on("lineside/line-3/request/press7"));
        open.insert(id);
        while let Some(reply) = device.reply_within(EVERY).await {
            ledger.take(&reply.json(), &mut open, &mut closed);
        }
    }
    while !open.is_empty() {
        let Some(reply) = device.reply_within(LAST).await else {
            break;
        };
        ledger.take(&reply.json(), &mut open, &mut closed);
    }
    ledger.lost = open.len();
    ledger
}

impl Ledger {
    fn take(&mut self, reply: &Value, open: &mut BTreeSet<String>, closed: &mut BTreeSet<String>) {
        let id = named(&reply["id"]);
        if !open.remove(&id) {
            // A kill between publishing and its record repeats a reply: the same outcome again.
            self.twice += usize::from(!closed.contains(&id));
            return;
        }
        closed.insert(id);
        if reply["status"] == "answered" {
            self.answered += 1;
            let seq = reply["model"]["seq"].as_u64().unwrap();
            *self.packages.entry(seq).or_default() += 1;
        } else {
            self.refused += 1;
            let code = named(&reply["error"]["code"]);
            *self.codes.entry(code).or_default() += 1;
        }
    }
}

/// What a topic holds, once that is so.
pub(crate) async fn retained(port: u16, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let mut device = Device::start(Version::V5, port, &[topic]).await;
        let told = device
            .reply_within(LAST)
            .await
            .expect("a retained message")
            .json();
        if wanted(&told) {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "still {told}");
    }
}
