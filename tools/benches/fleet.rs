//! A fleet through its rings, in virtual time: what the server is asked, how far a bad package
//! gets, and how those catch up that were away.
//!
//! When a device looks is decided by [`Rounds`], and whether a package is meant for it by
//! [`Rollout`], as on a device; gate and trial take a fixed time. The operator opens one share after
//! the other, each [`STEP_S`] after the last, and halts a ring when more of its devices took the
//! package back than [`BAD_SHARE`].
//!
//! | Figure | What |
//! | --- | --- |
//! | plan | requests per second if looks, and what an opened share takes, were dealt out evenly over the longest time between two looks |
//! | peak | the fullest minute against the plan of that minute |
//! | tried | devices that had the bad package in a trial, and their share of all |
//! | caught up | of those that were away while their share opened: minutes from power to commit |
//!
//! Plants are switched on and off as a whole, so devices do not start apart. `tools/bench fleet
//! [--quick] [--write]`; with `--write` table and picture go into tools/benches/fleet/.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "seconds of some days, counts of devices"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use lineside::clock::Wall;
use lineside::ota::rollout::{Rollout, Turn};
use lineside::ota::rounds::{Ended, Rounds};

const HOUR_S: usize = 3600;
/// Why the smallest fleet is the farthest from its plan.
const NOISE: &str = "\
A minute is short beside the looks of a small fleet: ten thousand devices that look once an hour, each
at a moment of its own, are 167 looks a minute with a standard deviation of 13, and the fullest of 2,400
such minutes lies at about 1.3 of the plan by chance alone. It is four requests a second.
";
/// The interval between looks.
const EVERY: Duration = Duration::from_hours(1);
/// What is simulated.
const END_S: usize = 40 * HOUR_S;
/// Between two steps of the operator.
const STEP_S: usize = 3 * HOUR_S;
/// Devices of a plant, which is switched on as a whole.
const PLANT: usize = 40;
/// Devices that are away, and for how long at most.
const AWAY_SHARE: f64 = 0.05;
const AWAY_S: usize = 24 * HOUR_S;
/// Requests of a look with nothing new, of new metadata, and of a package.
const LOOK: u32 = 1;
const METADATA: u32 = 3;
const PACKAGE: u32 = 12;
/// Gate and trial.
const TRIAL_S: usize = 20 * 60;
/// The share of devices that took a package back at which a ring is halted.
const BAD_SHARE: f64 = 0.02;
/// The rings, and each one's part of a thousand devices.
const RINGS: [(&str, usize); 3] = [("canary", 10), ("early", 90), ("stable", 900)];
/// What the operator opens, one after the other: ring and share.
const STEPS: [(usize, u16); 6] = [(0, 1000), (1, 100), (1, 1000), (2, 10), (2, 100), (2, 1000)];
/// Of the share of a thousand that a ring needs before its trouble can be told from one device's.
const TOLD_FROM: usize = 5;

struct Device {
    rounds: Rounds,
    ring: u8,
    /// The number that serves.
    seq: u8,
    /// A trial and when it ends.
    trial: Option<(u8, u32)>,
    refused: u8,
    /// The version of the metadata that it has seen.
    seen: u32,
    /// Away from, to.
    away: (u32, u32),
    /// It has been away, and has not looked since.
    is_back: bool,
    next_look: u32,
}

#[derive(Default)]
struct Outcome {
    requests: Vec<u32>,
    planned: Vec<f64>,
    tried: usize,
    committed: usize,
    halted: Option<String>,
    catching_up: Vec<usize>,
}

struct Fleet {
    devices: Vec<Device>,
    names: Vec<String>,
    /// Who looks in a second.
    looks: Vec<Vec<u32>>,
    rings: Vec<Rollout>,
    version: u32,
    rng: fastrand::Rng,
    bad_seq: Option<u8>,
    out: Outcome,
}

impl Fleet {
    fn new(count: usize, bad_seq: Option<u8>) -> Self {
        let mut rng = fastrand::Rng::with_seed(count as u64);
        let mut devices = Vec::with_capacity(count);
        let mut looks = vec![Vec::new(); END_S];
        let mut on_s = 0;
        for index in 0..count {
            if index % PLANT == 0 {
                on_s = rng.usize(0..HOUR_S);
            }
            let place = rng.usize(0..1000);
            let ring = match place {
                0..10 => 0,
                10..100 => 1,
                _ => 2,
            };
            let away = if rng.f64() < AWAY_SHARE {
                let from = rng.usize(2 * HOUR_S..END_S / 2);
                (from as u32, (from + rng.usize(HOUR_S..AWAY_S)) as u32)
            } else {
                (u32::MAX, 0)
            };
            let rounds = Rounds::new(EVERY);
            let first = on_s + rounds.first(rng.f64()).as_secs() as usize;
            looks[first].push(index as u32);
            devices.push(Device {
                rounds,
                ring,
                seq: 1,
                trial: None,
                refused: 0,
                seen: 0,
                away,
                is_back: false,
                next_look: first as u32,
            });
        }
        let rollout = |(ring, _): &(&str, usize)| Rollout::new(ring, "triage", 1, 1000).unwrap();
        Self {
            devices,
            names: (0..count).map(|index| format!("line-{index}")).collect(),
            looks,
            rings: RINGS.iter().map(rollout).collect(),
            version: 1,
            rng,
            bad_seq,
            out: Outcome {
                requests: vec![0; END_S],
                planned: vec![0.0; END_S],
                ..Outcome::default()
            },
        }
    }

    fn run(mut self) -> Outcome {
        let mut step = 0;
        // From the second interval on, so that the start is behind everybody.
        let mut next_step_s = 2 * HOUR_S;
        for second in 0..END_S {
            if second == next_step_s && step < STEPS.len() && self.out.halted.is_none() {
                self.open(step, second);
                step += 1;
                next_step_s += STEP_S;
            }
            if second.is_multiple_of(60) {
                self.oversee(second);
            }
            for device in std::mem::take(&mut self.looks[second]) {
                self.look(device as usize, second);
            }
        }
        let seq = 2;
        self.out.committed = self.devices.iter().filter(|it| it.seq == seq).count();
        for second in 0..END_S {
            self.out.planned[second] += self.devices.len() as f64 / HOUR_S as f64 * f64::from(LOOK);
        }
        self.out
    }

    fn open(&mut self, step: usize, second: usize) {
        let (ring, permille) = STEPS[step];
        let before = match self.rings[ring].seq {
            1 => 0,
            _ => self.rings[ring].permille,
        };
        let name = RINGS[ring].0;
        self.rings[ring] = Rollout::new(name, "triage", 2, permille).unwrap();
        self.version += 1;
        // Everybody fetches new metadata at the next look, and the new share its package. Two
        // looks are up to a tenth more than the interval apart.
        let within = HOUR_S * 11 / 10;
        let share = f64::from(permille - before) / 1000.0 * RINGS[ring].1 as f64 / 1000.0;
        let all = self.devices.len() as f64;
        let more = all * (f64::from(METADATA) + share * f64::from(PACKAGE)) / within as f64;
        for planned in &mut self.out.planned[second..(second + within).min(END_S)] {
            *planned += more;
        }
    }

    /// What the operator's eyes do: a ring in which the package is taken back is halted.
    fn oversee(&mut self, second: usize) {
        if self.bad_seq.is_none() || self.out.halted.is_some() {
            return;
        }
        let mut counts = [(0_usize, 0_usize); RINGS.len()];
        for device in &self.devices {
            let (tried, bad) = &mut counts[usize::from(device.ring)];
            *tried += usize::from(device.refused == 2 || device.seq == 2);
            *bad += usize::from(device.refused == 2);
        }
        for (ring, (tried, bad)) in counts.into_iter().enumerate() {
            if bad >= TOLD_FROM && bad as f64 > BAD_SHARE * tried as f64 {
                self.rings[ring].halt = true;
                self.version += 1;
                self.out.halted = Some(format!("{}, {} min", RINGS[ring].0, second / 60 - 120));
            }
        }
    }

    fn look(&mut self, index: usize, second: usize) {
        let chance = self.rng.f64();
        let device = &mut self.devices[index];
        let now = second as u32;
        if (device.away.0..device.away.1).contains(&now) {
            // It is switched on again with its plant: its first look comes soon.
            device.rounds = Rounds::new(EVERY);
            device.is_back = true;
            let pause = device.rounds.first(chance).as_secs() as u32;
            device.next_look = device.away.1 + pause;
            let next = device.next_look as usize;
            self.later(index, next);
            return;
        }
        self.end_trial(index, now);
        let device = &mut self.devices[index];
        if now < device.next_look {
            let next = device.next_look as usize;
            self.later(index, next);
            return;
        }
        let mut asked = LOOK;
        if device.seen != self.version {
            device.seen = self.version;
            asked += METADATA;
        }
        let rollout = &self.rings[usize::from(device.ring)];
        let wall = Wall(second as u64 * 1000);
        let turn = rollout.turn(&self.names[index], wall);
        let seq = rollout.seq as u8;
        let is_new = seq > device.seq && device.refused != seq && device.trial.is_none();
        let pause = device.rounds.after(Ended::Well, chance).as_secs() as usize;
        device.next_look = (second + pause) as u32;
        if turn == Turn::Now && is_new {
            asked += PACKAGE;
            device.trial = Some((seq, now + TRIAL_S as u32));
            self.out.tried += 1;
        } else {
            device.is_back = false;
        }
        let trial_ends = device.trial.map_or(u32::MAX, |(_, until)| until);
        let next = device.next_look.min(trial_ends) as usize;
        self.out.requests[second] += asked;
        self.later(index, next);
    }

    fn end_trial(&mut self, index: usize, now: u32) {
        let device = &mut self.devices[index];
        let Some((seq, until)) = device.trial.filter(|(_, until)| now >= *until) else {
            return;
        };
        device.trial = None;
        if self.bad_seq == Some(seq) {
            device.refused = seq;
            return;
        }
        device.seq = seq;
        if std::mem::take(&mut device.is_back) {
            let late = until.saturating_sub(device.away.1) as usize / 60;
            self.out.catching_up.push(late);
        }
    }

    fn later(&mut self, index: usize, second: usize) {
        if let Some(looks) = self.looks.get_mut(second) {
            looks.push(index as u32);
        }
    }
}

struct Row {
    devices: usize,
    plan: f64,
    peak: f64,
    peak_ratio: f64,
    committed: usize,
    late_min: (usize, usize),
    tried: usize,
    halted: String,
}

fn per_minute(outcome: &Outcome) -> Vec<(f64, f64)> {
    let requests = outcome.requests.chunks(60);
    let planned = outcome.planned.chunks(60);
    let mean = |(asked, planned): (&[u32], &[f64])| {
        let seconds = asked.len() as f64;
        let asked: u32 = asked.iter().sum();
        (
            f64::from(asked) / seconds,
            planned.iter().sum::<f64>() / seconds,
        )
    };
    requests.zip(planned).map(mean).collect()
}

fn measure(devices: usize) -> (Row, Outcome) {
    let mut good = Fleet::new(devices, None).run();
    let bad = Fleet::new(devices, Some(2)).run();
    // The first interval is the start, which no operator plans.
    let minutes = &per_minute(&good)[120..];
    let fullest = minutes
        .iter()
        .copied()
        .max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)))
        .unwrap_or((0.0, 1.0));
    good.catching_up.sort_unstable();
    let at = |share: usize| {
        let last = good.catching_up.len().saturating_sub(1);
        good.catching_up
            .get(last * share / 100)
            .copied()
            .unwrap_or(0)
    };
    let row = Row {
        devices,
        plan: fullest.1,
        peak: fullest.0,
        peak_ratio: fullest.0 / fullest.1,
        committed: good.committed,
        late_min: (at(50), at(99)),
        tried: bad.tried,
        halted: bad.halted.clone().unwrap_or_else(|| "never".into()),
    };
    (row, good)
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| devices | plan, req/s | peak, req/s | peak/plan | on the new package | caught up, \
         median and 99 % | bad package: halted in | tried it |\n| ---: | ---: | ---: | ---: | ---: \
         | ---: | --- | ---: |\n",
    );
    for it in rows {
        let share = |count: usize| 100.0 * count as f64 / it.devices as f64;
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.2} | {:.2} % | {} min, {} min | {} | {} ({:.2} %) |",
            it.devices,
            it.plan,
            it.peak,
            it.peak_ratio,
            share(it.committed),
            it.late_min.0,
            it.late_min.1,
            it.halted,
            it.tried,
            share(it.tried),
        );
    }
    out
}

/// Requests and plan over time.
fn svg(devices: usize, outcome: &Outcome) -> String {
    let minutes = per_minute(outcome);
    let highest = minutes.iter().map(|it| it.0.max(it.1)).fold(1.0, f64::max);
    let (left, right, top, bottom) = (64.0, 840.0, 40.0, 300.0);
    let x = |minute: usize| left + (right - left) * minute as f64 / minutes.len() as f64;
    let y = |rate: f64| bottom - (bottom - top) * rate / highest;
    let path = |rate: &dyn Fn(&(f64, f64)) -> f64| {
        let mut out = String::new();
        for (minute, it) in minutes.iter().enumerate() {
            let sign = if minute == 0 { 'M' } else { 'L' };
            let _ = write!(out, "{sign}{:.1} {:.1}", x(minute), y(rate(it)));
        }
        out
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 340\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"860\" height=\"340\" fill=\"#ffffff\"/>\n\
         <text x=\"{left}\" y=\"22\" font-size=\"15\">{devices} devices: requests per second at the \
         server, by minute (blue), and plan (orange)</text>\n\
         <path d=\"M{left} {bottom}H{right}M{left} {bottom}V{top}\" stroke=\"#888\" fill=\"none\"/>\n"
    );
    for part in [0.0, 0.5, 1.0] {
        let (rate, at) = (part * highest, y(part * highest));
        let _ = writeln!(out, "<text x=\"8\" y=\"{at:.0}\">{rate:.0}</text>");
    }
    for hour in (0..=minutes.len() / 60).step_by(4) {
        let at = x(hour * 60);
        let _ = writeln!(out, "<text x=\"{at:.0}\" y=\"318\">{hour} h</text>");
    }
    let (asked, planned) = (path(&|it| it.0), path(&|it| it.1));
    let _ = writeln!(
        out,
        "<path d=\"{asked}\" stroke=\"#1f5fd0\" fill=\"none\"/>\n\
         <path d=\"{planned}\" stroke=\"#e08214\" fill=\"none\"/>\n</svg>"
    );
    out
}

fn main() -> Result<()> {
    let (mut sizes, mut keep) = (vec![10_000, 100_000, 1_000_000], false);
    // Cargo adds `--bench` to what it runs.
    for word in std::env::args().skip(1).filter(|word| word != "--bench") {
        match word.as_str() {
            "--quick" => sizes.truncate(2),
            "--write" => keep = true,
            other => bail!("there is no option {other}"),
        }
    }
    let file = std::env::var_os("LINESIDE_BENCH_JSON")
        .map_or_else(|| "target/bench/fleet.json".into(), PathBuf::from);
    let folder = file.parent().context("figures need a folder")?.to_owned();
    fs::create_dir_all(&folder)?;
    let mut rows = Vec::new();
    let mut picture = String::new();
    for size in sizes {
        let (row, outcome) = measure(size);
        rows.push(row);
        picture = svg(size, &outcome);
    }
    let table = table(&rows);
    print!("{table}");
    let figures: Vec<_> = rows
        .iter()
        .map(|it| {
            serde_json::json!({
                "devices": it.devices, "plan": it.plan, "peak": it.peak,
                "peak_ratio": it.peak_ratio, "committed": it.committed,
                "caught_up_min": it.late_min, "tried_bad": it.tried, "halted": it.halted,
            })
        })
        .collect();
    fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    let mut folders = vec![folder];
    if keep {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/benches/fleet");
        let text = format!(
            "# A fleet through its rings\n\nWritten by `tools/bench fleet --write`; what is \
             simulated stands in [fleet.rs](../fleet.rs).\n\n{table}\n{NOISE}\n![requests and \
             plan](fleet.svg)\n"
        );
        fs::write(kept.join("README.md"), text)?;
        folders.push(kept);
    }
    for folder in folders {
        fs::write(folder.join("fleet.svg"), &picture)?;
    }
    Ok(())
}
