//! A service with the bundled package at a real broker, its spool on a real disk; what two of its
//! promises cost: that nothing is computed twice, and that the service is small beside its engine.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::appliance::Appliance;
use crate::device::{Ask, Device, Reply, Version};
use crate::figures::{Goal, Sheet, median};
use crate::mosquitto::{Mosquitto, Setup};
use crate::system;

/// Limits that stand in nobody's way: what is measured is not the gate.
const NO_LIMITS: &str = "[intake]\nmax_in_flight = 100000\nmax_in_flight_per_client = 100000\n\
    requests_per_client_per_s = 10000\nrequests_per_client_burst = 100000\n";
/// Where the appliance takes requests; the client's name follows.
pub(crate) const REQUESTS: &str = "lineside/line-3/request";
/// Identical requests at once.
const IDENTICAL: usize = 32;

/// Gone with all that it wrote when dropped.
pub(crate) struct Plant {
    pub(crate) broker: Mosquitto,
    appliance: Appliance,
}

impl Plant {
    /// Online, its model loaded.
    pub(crate) fn start(package: &Path, threads: u16) -> Result<Self> {
        let broker = Mosquitto::start(&Setup {
            more: "log_type none\n",
            ..Setup::default()
        });
        let work = std::env::var_os("LINESIDE_BENCH_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/work"),
            PathBuf::from,
        );
        let dir = work.join(format!("plant-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        let more = format!(
            "{NO_LIMITS}[model]\npackage = \"{}\"\n[engine]\nthreads = {threads}\n",
            package.display()
        );
        let state = dir.join("state");
        let mut appliance = Appliance::with_state(dir, &state, broker.port, &more);
        appliance.start();
        appliance.until(|status| status["engine"] == "ready");
        Ok(Self { broker, appliance })
    }

    /// A directory on the disk on which its spool lies.
    pub(crate) fn disk(&self) -> &Path {
        &self.appliance.dir
    }

    /// As the service manager does it; the engine goes with it.
    pub(crate) fn stop(&mut self) {
        assert!(self.appliance.stop().success());
    }

    pub(crate) fn service(&self) -> Result<u32> {
        Ok(u32::try_from(self.appliance.pid().as_raw_nonzero().get())?)
    }

    /// The engine's process.
    pub(crate) fn engine(&self) -> Result<u32> {
        let children = system::children(self.service()?)?;
        let [engine] = children[..] else {
            bail!("a service has one engine, not {}", children.len());
        };
        Ok(engine)
    }
}

/// Messages of a factory floor, no two alike, so that nobody's cache helps.
pub(crate) struct Messages(std::vec::IntoIter<String>);

impl Messages {
    /// From the generator of the training data, out of what was never trained on.
    pub(crate) fn generated(task: &str, count: usize) -> Result<Self> {
        /// Of a thousand messages some repeat an earlier one.
        const MORE: usize = 20;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let made = (count + count / MORE + MORE).to_string();
        let output = Command::new("python3")
            .args(["-m", "factory", "test", &made, "--task", task])
            .current_dir(root.join("tools/train"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .context("running python3")?;
        ensure!(
            output.status.success(),
            "the generator: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (mut seen, mut all) = (HashSet::new(), Vec::new());
        for line in String::from_utf8(output.stdout)?.lines() {
            let example: Value = serde_json::from_str(line)?;
            let input = example["input"].as_str().context("it has an input")?;
            if seen.insert(input.to_owned()) {
                all.push(input.to_owned());
            }
        }
        ensure!(all.len() >= count, "too many messages are alike");
        Ok(Self(all.into_iter()))
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<String>> {
        let taken: Vec<_> = self.0.by_ref().take(count).collect();
        ensure!(taken.len() == count, "the messages have run out");
        Ok(taken)
    }

    /// How many [`duplicates`] takes.
    pub(crate) fn for_duplicates(rounds: usize) -> usize {
        rounds * (IDENTICAL + 2)
    }
}

/// Many identical requests at once, against one alone and as many different ones. Two witnesses:
/// what the replies say of their origin, and the time that the engine was on a core.
pub(crate) async fn duplicates(
    plant: &Plant,
    task: &str,
    messages: &mut Messages,
    rounds: usize,
    sheet: &mut Sheet,
) -> Result<Value> {
    let answers = "devices/twin/answers";
    let device = Device::start(Version::V5, plant.broker.port, &[answers]).await;
    let mut asker = Asker {
        device,
        task,
        answers,
        number: 0,
        engine: plant.engine()?,
    };
    let (mut computed, mut again) = (0, 0);
    let (mut same, mut different, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let alone = asker.ask(&messages.take(1)?).await?.busy;
        let text = messages.take(1)?.remove(0);
        let identical = vec![text; IDENTICAL];
        let at_once = asker.ask(&identical).await?;
        computed += at_once.computed;
        let later = asker.ask(&identical).await?;
        again += later.computed;
        let distinct = asker.ask(&messages.take(IDENTICAL)?).await?;
        ensure!(distinct.computed == IDENTICAL, "two messages were alike");
        for (list, busy) in [
            (&mut same, at_once.busy),
            (&mut repeated, later.busy),
            (&mut different, distinct.busy),
        ] {
            list.push(busy.as_secs_f64() / alone.as_secs_f64());
        }
    }
    let [same, repeated, different] = [same, repeated, different].map(median);
    let each = |count: usize| count as f64 / rounds as f64;
    let (computed, again) = (each(computed), each(again));
    let what = format!("{IDENTICAL} identical requests at once: computed");
    sheet.row(&what, computed, "times", Goal::AtMost(1.0));
    sheet.row("  engine's time / for one alone", same, "", Goal::Open);
    sheet.row(
        "the same once more: computed",
        again,
        "times",
        Goal::AtMost(0.0),
    );
    sheet.row("  engine's time / for one alone", repeated, "", Goal::Open);
    let what = format!("{IDENTICAL} different ones: engine's time / for one alone");
    sheet.row(&what, different, "", Goal::Open);
    Ok(json!({
        "requests": IDENTICAL,
        "rounds": rounds,
        "computed": computed,
        "computed_later": again,
        "engine_time_to_one": { "identical": same, "later": repeated, "different": different },
    }))
}

/// A device that asks for several things at once and looks at the engine meanwhile.
struct Asker<'a> {
    device: Device,
    task: &'a str,
    answers: &'a str,
    number: usize,
    engine: u32,
}

/// What a batch of answers cost.
struct Cost {
    /// Answers that were nobody else's.
    computed: usize,
    busy: Duration,
}

impl Asker<'_> {
    async fn ask(&mut self, texts: &[String]) -> Result<Cost> {
        let before = system::busy(self.engine)?;
        for text in texts {
            self.number += 1;
            let ask = request(REQUESTS, "twin", self.task, self.number, text);
            self.device.send(&ask.to(self.answers));
        }
        let mut computed = 0;
        for _ in texts {
            let reply = self.device.reply().await;
            let reply = answered(&reply)?;
            computed += usize::from(reply["answered_from"] == "model");
        }
        let busy = system::busy(self.engine)?.saturating_sub(before);
        Ok(Cost { computed, busy })
    }
}

/// A request, as a device publishes it.
pub(crate) fn request(topic: &str, client: &str, task: &str, number: usize, text: &str) -> Ask {
    let payload = json!({ "id": format!("b-{number}"), "task": task, "input": text });
    Ask::new(payload.to_string()).on(&format!("{topic}/{client}"))
}

/// The reply, which must be an answer.
pub(crate) fn answered(reply: &Reply) -> Result<Value> {
    let json = reply.json();
    ensure!(json["status"] == "answered", "no answer: {json}");
    Ok(json)
}

/// Memory of both processes, once they have answered and settled.
pub(crate) fn memory(plant: &Plant, sheet: &mut Sheet) -> Result<Value> {
    let pids = [("service", plant.service()?), ("engine", plant.engine()?)];
    memory_of(&pids, sheet)
}

/// The same of any processes.
pub(crate) fn memory_of(pids: &[(&str, u32)], sheet: &mut Sheet) -> Result<Value> {
    std::thread::sleep(Duration::from_secs(2));
    let mut figures = serde_json::Map::new();
    for (name, pid) in pids {
        let kb = system::rss_kb(*pid)?;
        let shown = u32::try_from(kb).map_or(f64::MAX, f64::from);
        let what = format!("memory of the {name}, having answered");
        sheet.row(&what, shown, "kB", Goal::Open);
        figures.insert(format!("{}_kb", name.replace(' ', "_")), kb.into());
    }
    Ok(figures.into())
}
