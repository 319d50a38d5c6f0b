//! From a device's request to its reply, through a real broker and the durable spool, against a
//! script that a plant would write itself (`peer.py`) in front of `llama-server`.
//!
//! Both hear the same messages at the same broker in turn; no message comes twice, so no cache of
//! answers helps anybody. A device has one request under way at a time. The appliance forces each
//! request and each outcome to the disk before it says so; the script keeps nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::WARM_UP;
use crate::device::{Device, Version};
use crate::figures::{Goal, Sheet, median, quantiles_us};
use crate::peer::Peer;
use crate::plant::{Messages, Plant, REQUESTS, answered, memory_of, request};
use crate::probe::Probe;
use crate::system;

/// Devices that ask at the same time.
const CROWDS: [usize; 2] = [8, 32];

/// How much of everything.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Messages of one device alone.
    pub(crate) alone: usize,
    /// Rounds of a crowd, and messages in each.
    pub(crate) rounds: usize,
    pub(crate) messages: usize,
}

impl Effort {
    /// How many messages [`measure`] takes.
    pub(crate) fn all(self) -> usize {
        self.alone + WARM_UP + CROWDS.len() * (self.rounds * self.messages + WARM_UP)
    }
}

/// One that answers triage.
struct Target {
    topic: &'static str,
    /// Its processes.
    pids: [(&'static str, u32); 2],
    /// One device alone.
    spans: Vec<Duration>,
    /// From acceptance to outcome, as the appliance tells it.
    inside_ms: Vec<f64>,
    texts: Vec<String>,
}

impl Target {
    fn new(topic: &'static str, pids: [(&'static str, u32); 2]) -> Self {
        Self {
            topic,
            pids,
            spans: Vec::new(),
            inside_ms: Vec::new(),
            texts: Vec::new(),
        }
    }

    fn busy(&self) -> Result<[Duration; 2]> {
        let [(_, first), (_, second)] = self.pids;
        Ok([system::busy(first)?, system::busy(second)?])
    }
}

pub(crate) async fn measure(
    plant: &Plant,
    peer: Option<&Peer>,
    task: &str,
    messages: &mut Messages,
    effort: Effort,
    sheet: &mut Sheet,
) -> Result<Value> {
    let ours = [("service", plant.service()?), ("engine", plant.engine()?)];
    let mut targets = vec![Target::new(REQUESTS, ours)];
    targets.extend(peer.map(|peer| Target::new("peer/request", peer.pids())));
    let alone = alone(plant, &mut targets, task, messages, effort, sheet).await?;
    let mut crowds = serde_json::Map::new();
    for devices in CROWDS {
        let figures = crowd(plant, &targets, devices, task, messages, effort, sheet).await?;
        crowds.insert(devices.to_string(), figures);
    }
    let pids: Vec<_> = targets.iter().flat_map(|target| target.pids).collect();
    let memory = memory_of(&pids, sheet)?;
    Ok(json!({ "alone": alone, "crowds": crowds, "memory_kb": memory }))
}

/// One device: each message to both, in turn.
async fn alone(
    plant: &Plant,
    targets: &mut [Target],
    task: &str,
    messages: &mut Messages,
    effort: Effort,
    sheet: &mut Sheet,
) -> Result<Value> {
    let answers = "devices/alone/answers";
    let mut device = Device::start(Version::V5, plant.broker.port, &[answers]).await;
    let mut probe = Probe::at(plant.disk().join("probe-dir"));
    for (number, text) in messages.take(effort.alone + WARM_UP)?.iter().enumerate() {
        if number % 2 == 1 {
            targets.reverse();
        }
        for target in &mut *targets {
            let ask = request(target.topic, "alone", task, number, text).to(answers);
            let begun = Instant::now();
            device.send(&ask);
            let reply = device.reply().await;
            let span = begun.elapsed();
            device.acked().await;
            let reply = answered(&reply)?;
            let text = reply["text"].as_str().context("an answer has a text")?;
            target.texts.push(text.to_owned());
            if number >= WARM_UP {
                target.spans.push(span);
                target
                    .inside_ms
                    .extend(reply["timing_ms"]["total"].as_f64());
            }
        }
        probe.sync();
        if number % 2 == 1 {
            targets.reverse();
        }
    }
    let ours = &targets[0];
    let ours_us = quantiles_us(&ours.spans);
    let inside_ms = median(ours.inside_ms.clone());
    let sync_us = probe.median_us();
    sheet.row("one device: appliance, p50", ours_us[0], "us", Goal::Open);
    sheet.row("  p99", ours_us[1], "us", Goal::Open);
    sheet.row(
        "  from acceptance to outcome, p50",
        inside_ms,
        "ms",
        Goal::Open,
    );
    sheet.row(
        "  one fdatasync of 4 KiB there, p50",
        sync_us,
        "us",
        Goal::Open,
    );
    let mut figures = json!({
        "messages": ours.spans.len(),
        "appliance_us": { "p50": ours_us[0], "p99": ours_us[1] },
        "inside_p50_ms": inside_ms,
        "fdatasync_p50_us": sync_us,
    });
    if let Some(theirs) = targets.get(1) {
        let theirs_us = quantiles_us(&theirs.spans);
        let ratio = ours_us[0] / theirs_us[0];
        let pairs = ours.texts.iter().zip(&theirs.texts);
        let same = pairs.filter(|(ours, theirs)| ours == theirs).count();
        let same = 100.0 * same as f64 / ours.texts.len() as f64;
        sheet.row("one device: script, p50", theirs_us[0], "us", Goal::Open);
        sheet.row("  p99", theirs_us[1], "us", Goal::Open);
        sheet.row(
            "  appliance / script at the median",
            ratio,
            "",
            Goal::AtMost(0.6),
        );
        sheet.row("  the same answer from both", same, "%", Goal::Open);
        figures["script_us"] = json!({ "p50": theirs_us[0], "p99": theirs_us[1] });
        figures["ratio"] = json!(ratio);
        figures["same_percent"] = json!(same);
    }
    Ok(figures)
}

/// Many devices, each with one request under way: rounds of the same messages, in turn.
async fn crowd(
    plant: &Plant,
    targets: &[Target],
    devices: usize,
    task: &str,
    messages: &mut Messages,
    effort: Effort,
    sheet: &mut Sheet,
) -> Result<Value> {
    let mut crowd = Crowd::gather(plant.broker.port, devices, task).await;
    let warm_up = messages.take(WARM_UP)?;
    for target in targets {
        crowd.round(target.topic, &warm_up).await?;
    }
    let mut rates = vec![Vec::new(); targets.len()];
    let mut spans = vec![Vec::new(); targets.len()];
    let mut busy = vec![[Duration::ZERO; 2]; targets.len()];
    for round in 0..effort.rounds {
        let texts = messages.take(effort.messages)?;
        for turn in 0..targets.len() {
            let index = (round + turn) % targets.len();
            let before = targets[index].busy()?;
            let begun = Instant::now();
            spans[index].extend(crowd.round(targets[index].topic, &texts).await?);
            rates[index].push(texts.len() as f64 / begun.elapsed().as_secs_f64());
            let after = targets[index].busy()?;
            for (sum, (after, before)) in busy[index].iter_mut().zip(after.iter().zip(before)) {
                *sum += after.saturating_sub(before);
            }
        }
    }
    let mut figures = serde_json::Map::new();
    for (index, name) in ["appliance", "script"]
        .iter()
        .enumerate()
        .take(targets.len())
    {
        let rate = median(rates[index].clone());
        let us = quantiles_us(&spans[index]);
        let what = format!("{devices} devices: {name}");
        sheet.row(&what, rate, "per s", Goal::Open);
        sheet.row("  p50", us[0], "us", Goal::Open);
        let mut figure = json!({ "per_s": rate, "p50_us": us[0], "p99_us": us[1] });
        for ((part, _), busy) in targets[index].pids.iter().zip(busy[index]) {
            let each = busy.as_secs_f64() * 1e6 / spans[index].len() as f64;
            let what = format!("  computing time of the {part} for each");
            sheet.row(&what, each, "us", Goal::Open);
            figure[format!("{part}_busy_us")] = json!(each);
        }
        figures.insert((*name).into(), figure);
    }
    if let [ours, theirs] = &rates[..] {
        let pairs = ours.iter().zip(theirs);
        let ratio = median(pairs.map(|(ours, theirs)| ours / theirs).collect());
        let goal = match devices {
            32 => Goal::AtLeast(3.0),
            _ => Goal::Open,
        };
        let what = format!("{devices} devices: answers a second, appliance / script");
        sheet.row(&what, ratio, "", goal);
        figures.insert("ratio".into(), json!(ratio));
    }
    Ok(figures.into())
}

/// Devices that stay connected between rounds.
struct Crowd {
    devices: Vec<Device>,
    task: String,
    /// Number of the next message, so that no id comes twice.
    next: usize,
}

impl Crowd {
    async fn gather(port: u16, count: usize, task: &str) -> Self {
        let mut devices = Vec::new();
        for number in 0..count {
            let answers = answers(count, number);
            devices.push(Device::start(Version::V5, port, &[&answers]).await);
        }
        Self {
            devices,
            task: task.into(),
            next: 0,
        }
    }

    /// Each device takes the next message as soon as it has its reply, until none is left.
    async fn round(&mut self, topic: &'static str, texts: &[String]) -> Result<Vec<Duration>> {
        let texts: Arc<[String]> = texts.into();
        let taken = Arc::new(AtomicUsize::new(0));
        let (first, count) = (self.next, self.devices.len());
        self.next += texts.len();
        let mut tasks = Vec::new();
        for (number, mut device) in self.devices.drain(..).enumerate() {
            let (texts, taken, task) = (texts.clone(), taken.clone(), self.task.clone());
            tasks.push(tokio::spawn(async move {
                let (client, answers) = (format!("c{count}-{number}"), answers(count, number));
                let mut spans = Vec::new();
                loop {
                    let index = taken.fetch_add(1, Ordering::Relaxed);
                    let Some(text) = texts.get(index) else {
                        return Ok::<_, anyhow::Error>((device, spans));
                    };
                    let ask = request(topic, &client, &task, first + index, text);
                    let begun = Instant::now();
                    device.send(&ask.to(&answers));
                    let reply = device.reply().await;
                    spans.push(begun.elapsed());
                    device.acked().await;
                    answered(&reply)?;
                }
            }));
        }
        let mut spans = Vec::new();
        for task in tasks {
            let (device, own) = task.await??;
            self.devices.push(device);
            spans.extend(own);
        }
        Ok(spans)
    }
}

/// Where a device of a crowd hears its replies.
fn answers(count: usize, number: usize) -> String {
    format!("devices/c{count}-{number}/answers")
}
