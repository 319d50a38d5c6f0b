//! The warm start of a whole appliance: what its engine had read of its instructions survives the
//! process, and changes nothing but the time. A file that is not as it was is as if it were not
//! there.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/appliance.rs"]
#[allow(dead_code, unreachable_pub)]
mod appliance;
#[path = "support/device.rs"]
#[allow(dead_code, unreachable_pub)]
mod device;
#[path = "support/mosquitto.rs"]
#[allow(dead_code, unreachable_pub)]
mod mosquitto;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use appliance::Appliance;
use device::{Ask, Device, Version};
use lineside::package::Package;
use mosquitto::{Mosquitto, Setup};
use serde_json::{Value, json};

const ANSWERS: &str = "devices/press7/answers";
const MESSAGES: [&str; 3] = [
    "CNC-07 spindle vibration 9.8 mm/s rising",
    "forklift blocks the emergency exit at gate 4",
    "label printer out of paper",
];

/// An appliance with the bundled model, its broker and a device.
struct Plant {
    _broker: Mosquitto,
    appliance: Appliance,
    device: Device,
    tasks: Vec<String>,
    asked: u32,
}

impl Plant {
    async fn new(more: &str) -> Self {
        let broker = Mosquitto::start(&Setup::default());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage");
        let config = format!("[model]\npackage = \"{}\"\n{more}", folder.display());
        let mut appliance = Appliance::at(broker.port, &config);
        appliance.start();
        let device = Device::start(Version::V5, broker.port, &[ANSWERS]).await;
        let package = Package::open(&folder).unwrap();
        let tasks = package.manifest().tasks.iter();
        Self {
            tasks: tasks.map(|task| task.name.clone()).collect(),
            _broker: broker,
            appliance,
            device,
            asked: 0,
        }
    }

    async fn ask(&mut self, task: &str, input: &str) -> Value {
        self.asked += 1;
        let ask = json!({
            "id": format!("w-{}", self.asked), "task": task, "input": input, "reply_to": ANSWERS,
        });
        let reply = self.device.ask(&Ask::new(ask.to_string())).await.json();
        assert_eq!(reply["status"], "answered", "{reply}");
        reply
    }

    /// Each task with each message: what the answers say, and what the first to each task found
    /// computed.
    async fn ask_all(&mut self) -> (Vec<Value>, Vec<u64>) {
        let (mut answers, mut cached) = (Vec::new(), Vec::new());
        for task in self.tasks.clone() {
            for (at, message) in MESSAGES.into_iter().enumerate() {
                let reply = self.ask(&task, message).await;
                if at == 0 {
                    cached.push(reply["tokens"]["cached"].as_u64().unwrap());
                }
                answers.push(json!([reply["text"], reply["json"], reply["confidence"]]));
            }
        }
        (answers, cached)
    }

    fn folder(&self) -> PathBuf {
        self.appliance.dir.join("state/engine/beginnings")
    }

    /// All whole files.
    fn files(&self) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(self.folder()).unwrap().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == "state"))
            .collect()
    }

    /// Waits until so many beginnings lie on the disk.
    fn until_saved(&self, count: usize) -> Vec<PathBuf> {
        let begun = Instant::now();
        loop {
            let files = self.files();
            if files.len() == count {
                return files.into_iter().collect();
            }
            assert!(begun.elapsed() < appliance::PATIENCE, "{files:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill_and_start(&mut self) {
        self.appliance.kill();
        self.appliance.start();
    }

    fn told(&self, words: &str) -> usize {
        self.appliance.log().matches(words).count()
    }
}

const UNUSED: &str = "a kept beginning is not used";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_engine_has_its_instructions_and_answers_as_before() {
    let mut plant = Plant::new("").await;
    let count = plant.tasks.len();
    let (fresh, cold) = plant.ask_all().await;
    assert_eq!(cold, vec![0; count]);
    plant.until_saved(count);
    plant.kill_and_start();
    let (restored, warm) = plant.ask_all().await;
    assert_eq!(restored, fresh);
    assert!(warm.iter().all(|tokens| *tokens > 0), "{warm:?}");
    assert_eq!(plant.told(UNUSED), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_as_it_was_is_removed_and_its_beginning_computed() {
    let mut plant = Plant::new("").await;
    let count = plant.tasks.len();
    let (fresh, _) = plant.ask_all().await;
    let files = plant.until_saved(count);
    assert!(files.len() >= 4, "{files:?}");
    plant.appliance.kill();
    let change = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    change(&files[0], &|bytes| *bytes.last_mut().unwrap() ^= 1);
    change(&files[1], &|bytes| bytes.truncate(bytes.len() / 2));
    let other = fs::read(&files[3]).unwrap();
    change(&files[2], &|bytes| *bytes = other.clone());
    let stranger = plant.folder().join(format!("{:064x}.state", 7));
    fs::copy(&files[3], &stranger).unwrap();
    fs::write(plant.folder().join("half.part"), "torn").unwrap();
    plant.appliance.start();
    let (answers, cached) = plant.ask_all().await;
    assert_eq!(answers, fresh);
    let cold = cached.iter().filter(|tokens| **tokens == 0).count();
    assert_eq!(cold, 3, "{cached:?}");
    assert_eq!(plant.told(UNUSED), 3);
    // They are computed, so they are saved anew; what belongs to nobody is gone.
    assert_eq!(plant.until_saved(count), files);
    assert_eq!(fs::read_dir(plant.folder()).unwrap().count(), count);
    plant.kill_and_start();
    let (_, warm) = plant.ask_all().await;
    assert!(warm.iter().all(|tokens| *tokens > 0), "{warm:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_was_unloaded_starts_warm_for_the_next_request() {
    let mut plant = Plant::new("[engine]\nunload_after_idle_s = 1\n").await;
    let first = plant.ask("triage", MESSAGES[0]).await;
    assert_eq!(first["tokens"]["cached"], 0);
    for message in MESSAGES {
        let unloaded = |status: &Value| status["engine"] == "unloaded";
        plant.appliance.until(unloaded);
        let reply = plant.ask("triage", message).await;
        assert!(reply["tokens"]["cached"].as_u64().unwrap() > 0, "{reply}");
        assert_eq!(plant.files().len(), 1);
    }
}

/// Another way to run the model is another state.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_in_another_way_is_not_brought_back() {
    let mut plant = Plant::new("").await;
    plant.ask("triage", MESSAGES[0]).await;
    let before = plant.until_saved(1);
    plant.appliance.kill();
    let more = plant.appliance.dir.join("conf.d/more.toml");
    let text = fs::read_to_string(&more).unwrap() + "[engine]\nkv_type = \"q8_0\"\n";
    fs::write(&more, text).unwrap();
    plant.appliance.start();
    let reply = plant.ask("triage", MESSAGES[0]).await;
    assert_eq!(reply["tokens"]["cached"], 0);
    let after = plant.until_saved(1);
    assert_ne!(before, after);
}
