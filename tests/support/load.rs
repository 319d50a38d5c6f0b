//! Devices that keep asking, and a ledger of what became of each request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;

use super::device::{Ask, Device, Memory, Reply, Version};

/// Limits that stand in nobody's way: what is tested is not the gate.
pub const NO_LIMITS: &str = "[intake]\nmax_in_flight = 100000\nmax_in_flight_per_client = 100000\n\
    requests_per_client_per_s = 10000\nrequests_per_client_burst = 100000\n\
    [spool]\nballast_bytes = 1048576\nheadroom_bytes = 4194304\n";
/// Between two looks at whether it is enough.
const LOOK: Duration = Duration::from_millis(50);
/// A reply that has not come after this is lost.
const LOST_AFTER: Duration = Duration::from_secs(90);

/// What a device was promised and what it got.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The broker has acknowledged these requests.
    pub asked: BTreeSet<String>,
    /// Every copy of every reply.
    pub heard: BTreeMap<String, Vec<Reply>>,
}

/// A plant at work.
pub struct Load {
    enough: Arc<AtomicBool>,
    devices: Vec<JoinHandle<Ledger>>,
}

impl Load {
    /// `devices` of them, in turn with MQTT 3.1.1 and 5, each with a pause after each request.
    pub async fn start(port: u16, devices: usize, pause: Duration) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for number in 0..devices {
            let version = [Version::V3, Version::V5][number % 2];
            let name = format!("d{number}");
            let answers = answers(number);
            let session = Memory::Session;
            let device = Device::named(&name, version, session, port, &[&answers]).await;
            let enough = Arc::clone(&enough);
            tasks.push(tokio::spawn(work(number, device, enough, pause)));
        }
        Self {
            enough,
            devices: tasks,
        }
    }

    /// No more requests; waits until each has its reply and no more copies come.
    pub async fn finish(self) -> Ledger {
        self.enough.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for device in self.devices {
            let ledger = device.await.unwrap();
            all.asked.extend(ledger.asked);
            all.heard.extend(ledger.heard);
        }
        all
    }
}

impl Ledger {
    /// Each request has one outcome, however many copies of it came.
    pub fn assert_whole(&self) {
        let lost: Vec<_> = self
            .asked
            .iter()
            .filter(|id| !self.heard.contains_key(*id))
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} lost: {lost:?}",
            lost.len(),
            self.asked.len()
        );
        for (id, copies) in &self.heard {
            assert!(self.asked.contains(id), "{id} was never asked");
            assert_eq!(copies[0].code(), "engine_unavailable", "{id}");
            for copy in copies {
                let (first, other) = (&copies[0].payload, &copy.payload);
                assert_eq!(
                    String::from_utf8_lossy(first),
                    String::from_utf8_lossy(other),
                    "{id} has two outcomes"
                );
            }
        }
    }

    pub fn copies(&self) -> usize {
        self.heard.values().map(Vec::len).sum()
    }
}

fn answers(number: usize) -> String {
    format!("devices/d{number}/answers")
}

async fn work(
    number: usize,
    mut device: Device,
    enough: Arc<AtomicBool>,
    pause: Duration,
) -> Ledger {
    let mut ledger = Ledger::default();
    for request in 0.. {
        if enough.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("d{number}-{request}");
        let payload = json!({ "prompt": id, "id": id, "reply_to": answers(number) }).to_string();
        device.publish(&Ask::new(payload)).await;
        ledger.asked.insert(id);
        let next = Instant::now() + pause;
        while let Some(reply) = device.reply_within(next - Instant::now()).await {
            ledger.hear(reply);
            if Instant::now() >= next {
                break;
            }
        }
    }
    let mut last = Instant::now();
    while ledger.heard.len() < ledger.asked.len() && last.elapsed() < LOST_AFTER {
        if let Some(reply) = device.reply_within(LOOK).await {
            ledger.hear(reply);
            last = Instant::now();
        }
    }
    while let Some(reply) = device.reply_within(super::device::QUIET).await {
        ledger.hear(reply);
    }
    ledger
}

impl Ledger {
    fn hear(&mut self, reply: Reply) {
        self.heard.entry(reply.id()).or_default().push(reply);
    }
}
