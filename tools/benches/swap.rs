//! What a swap costs those who ask meanwhile: the real service, broker and engines, one device that
//! asks at a steady pace, and one good package after the other.
//!
//! | Figure | What |
//! | --- | --- |
//! | gap | around a switch, the longest time without an answer, less the device's own pace; the median and the worst over all switches. With memory for one engine the gate's pause is part of it |
//! | latency | of a request, median and 99 %: with nothing under way, during the gate, around the switch, and after the commit |
//! | memory | of the service and its engines together: while nothing is under way, and at most during a swap |
//! | lost | requests without an answer |
//!
//! Once with memory for two engines, so that the next one is loaded beside the one that serves; once
//! with memory for one, so that it rests for the gate and makes room. `tools/bench swap [--quick]`
//! prints the table, and writes figures and a picture of the latency of each request beside it.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    reason = "figures are far below 2^52"
)]

#[path = "../../tests/support/appliance.rs"]
#[allow(dead_code)]
mod appliance;
#[path = "../../tests/support/device.rs"]
#[allow(dead_code)]
mod device;
#[path = "../../tests/support/mosquitto.rs"]
#[allow(dead_code)]
mod mosquitto;
#[path = "../../tests/support/publisher.rs"]
#[allow(dead_code)]
mod publisher;
#[path = "../../tests/swaps/site.rs"]
#[allow(dead_code)]
mod site;
#[path = "../../tests/support/variation.rs"]
#[allow(dead_code)]
mod variation;

#[path = "swap/draw.rs"]
mod draw;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use device::{Ask, Device, Version};
use site::Site;

/// The device's pace.
const PACE: Duration = Duration::from_millis(15);
/// Around a switch: what is looked at before and after it.
const AROUND: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(1500));
/// Nothing is under way for so long, before the first swap.
const CALM: Duration = Duration::from_secs(5);
/// Between two looks at memory.
const LOOK: Duration = Duration::from_millis(20);

/// A request that was answered: when it was asked, and how long it took.
type Answered = (Duration, Duration);

/// When the parts of a swap were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    gate: Duration,
    trial: Duration,
    switched: Duration,
    committed: Duration,
}

fn main() -> Result<()> {
    let mut swaps = 7;
    for word in std::env::args().skip(1).filter(|word| word != "--bench") {
        match word.as_str() {
            "--quick" => swaps = 2,
            other => bail!("there is no option {other}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/swap.json".into(), PathBuf::from);
    let folder = file.parent().context("figures need a folder")?.to_owned();
    fs::create_dir_all(&folder)?;
    let mut figures = BTreeMap::new();
    let budget = format!(
        "[governor]\nmemory_budget_bytes = {}\n",
        site::budget_for_one()
    );
    for (name, title, more) in [
        ("beside", "memory for two engines", ""),
        ("in-place", "memory for one engine", budget.as_str()),
    ] {
        println!("\n{title}");
        let seen = runtime.block_on(watch(more, swaps))?;
        figures.insert(name, told(&seen));
        let picture = draw::svg(&format!("Swaps with {title}"), &seen.answered, &seen.marks);
        fs::write(folder.join(format!("swap-{name}.svg")), picture)?;
    }
    fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    Ok(())
}

/// What was seen of some swaps.
struct Seen {
    answered: Vec<Answered>,
    lost: usize,
    marks: Vec<Marks>,
    /// Bytes while nothing was under way, and at most.
    memory: (u64, u64),
}

async fn watch(more: &str, swaps: u64) -> Result<Seen> {
    // Whoever waits is in flight.
    let intake = "[intake]\nmax_in_flight = 100000\nmax_in_flight_per_client = 100000\n\
                  requests_per_client_per_s = 1000\n";
    let ota = "trial_requests = 100\ntrial_s = 2\nwatch_every_s = \"never\"\n";
    let mut site = Site::new(&format!("{ota}{intake}{more}"));
    site.appliance.start();
    site.until_serving("factory-triage-2");
    let begun = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let device = Device::start(Version::V5, site.broker.port, &["devices/press7/answers"]).await;
    let asking = tokio::spawn(ask(device, begun, Arc::clone(&stop)));
    let peak = Arc::new(AtomicU64::new(0));
    let own = site.appliance.pid().as_raw_nonzero().get();
    let weighing = {
        let (peak, stop) = (Arc::clone(&peak), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                peak.fetch_max(weight(own), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        })
    };
    tokio::time::sleep(CALM).await;
    let calm = peak.swap(0, Ordering::Relaxed);
    let mut marks = Vec::new();
    for seq in 3..3 + swaps {
        site.publish(seq, |_| {});
        let at = |site: &mut Site, state: &str| {
            site.until(|course| course["state"] == state && course["seq"] == seq);
            begun.elapsed()
        };
        let gate = at(&mut site, "gate");
        let trial = at(&mut site, "trial");
        site.until(|course| course["is_loading"] == false);
        let switched = begun.elapsed();
        let committed = at(&mut site, "committed");
        marks.push(Marks {
            gate,
            trial,
            switched,
            committed,
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (answered, lost) = asking.await?;
    weighing.join().expect("it only looks");
    Ok(Seen {
        answered,
        lost,
        marks,
        memory: (calm, peak.load(Ordering::Relaxed)),
    })
}

/// Asks at its pace until it is told to stop, whatever comes back.
async fn ask(mut device: Device, begun: Instant, stop: Arc<AtomicBool>) -> (Vec<Answered>, usize) {
    let open = Mutex::new(BTreeMap::new());
    let mut answered = Vec::new();
    let mut take = |reply: &device::Reply, open: &Mutex<BTreeMap<String, Duration>>| {
        if let Some(asked) = open.lock().unwrap().remove(&reply.id()) {
            answered.push((asked, begun.elapsed().saturating_sub(asked)));
        }
    };
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let id = format!("q-{number}");
        let request = json!({
            "id": id, "task": "triage", "input": format!("press {number}: oil at 71 C, vibration 4 mm/s"),
            "deadline_ms": 600_000, "reply_to": "devices/press7/answers",
        });
        open.lock().unwrap().insert(id, begun.elapsed());
        device.send(&Ask::new(request.to_string()).on("lineside/line-3/request/press7"));
        let next = tokio::time::Instant::now() + PACE;
        while let Ok(Some(reply)) =
            tokio::time::timeout_at(next, device.reply_within(Duration::from_mins(1))).await
        {
            take(&reply, &open);
        }
    }
    while !open.lock().unwrap().is_empty() {
        let Some(reply) = device.reply_within(Duration::from_mins(1)).await else {
            break;
        };
        take(&reply, &open);
    }
    let lost = open.lock().unwrap().len();
    (answered, lost)
}

/// Bytes that a process and its children hold.
fn weight(pid: i32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut all = vec![pid];
    for task in fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|it| it.parse::<i32>().ok()),
        );
    }
    drop(children);
    all.into_iter().map(resident).sum()
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Median and 99 % in milliseconds.
fn quantiles(mut spans: Vec<Duration>) -> [f64; 2] {
    spans.sort_unstable();
    let at = |share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (spans.len() as f64 * share) as usize;
        let span = spans.get(place.min(spans.len().saturating_sub(1)));
        span.map_or(0.0, |it| it.as_secs_f64() * 1000.0)
    };
    [at(0.5), at(0.99)]
}

/// The longest time without an answer around a switch, less the pace.
fn gap(seen: &Seen, marks: &Marks) -> Duration {
    let (from, to) = (
        marks.trial.saturating_sub(AROUND.0),
        marks.switched + AROUND.1,
    );
    let mut ends: Vec<_> = (seen.answered.iter().map(|(asked, took)| *asked + *took)).collect();
    ends.sort_unstable();
    // One that begins before, with the pause of the gate, counts whole.
    let inside = ends.windows(2).filter(|two| (from..to).contains(&two[1]));
    let gaps = inside.map(|two| two[1].saturating_sub(two[0]));
    gaps.max()
        .unwrap_or(to.saturating_sub(from))
        .saturating_sub(PACE)
}

fn told(seen: &Seen) -> serde_json::Value {
    let during = |from: &dyn Fn(&Marks) -> Duration, to: &dyn Fn(&Marks) -> Duration| {
        let inside = |asked: Duration| {
            let mut marks = seen.marks.iter();
            marks.any(|it| (from(it)..to(it)).contains(&asked))
        };
        let spans = seen.answered.iter().filter(|(asked, _)| inside(*asked));
        quantiles(spans.map(|(_, took)| *took).collect())
    };
    let calm = seen.answered.iter().filter(|(asked, _)| *asked < CALM);
    let calm = quantiles(calm.map(|(_, took)| *took).collect());
    let gate = during(&|it| it.gate, &|it| it.trial);
    let switch = during(&|it| it.trial, &|it| it.switched + AROUND.1);
    let after = during(&|it| it.committed, &|it| {
        it.committed + Duration::from_secs(1)
    });
    let gaps = quantiles(seen.marks.iter().map(|marks| gap(seen, marks)).collect());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "  swaps                                {:>8}",
        seen.marks.len()
    );
    println!(
        "  requests, lost                       {:>8} {:>8}",
        seen.answered.len(),
        seen.lost
    );
    println!(
        "  gap in service, median and worst     {:>8.1} {:>8.1} ms",
        gaps[0], gaps[1]
    );
    for (what, [median, most]) in [
        ("calm", calm),
        ("during the gate", gate),
        ("around the switch", switch),
        ("after the commit", after),
    ] {
        println!("  latency {what:<20} p50, p99  {median:>8.1} {most:>8.1} ms");
    }
    let (usual, most) = (mib(seen.memory.0), mib(seen.memory.1));
    println!("  memory, calm and at most             {usual:>8.1} {most:>8.1} MiB");
    json!({
        "swaps": seen.marks.len(), "requests": seen.answered.len(), "lost": seen.lost,
        "gap_ms": gaps, "calm_ms": calm, "gate_ms": gate, "switch_ms": switch, "after_ms": after,
        "memory_mib": [usual, most],
    })
}
