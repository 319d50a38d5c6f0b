//! The governor: heat and memory as budgets.
//!
//! Purpose: an appliance in a closed cabinet must run for years without ever tripping on its own
//! heat or starving its machine of memory. Once a second the governor is shown what the sensors
//! say. It judges which of them can be believed, forecasts, and says what may run: the
//! [`Allowance`], which the engine paces itself by and the dispatcher decides by.
//!
//! ```text
//!  sysfs::Reader ─► Readings ─► on_readings ─► Allowance ─► engine: rests, threads, seats, guesses
//!                                │                     └──► dispatcher: whom the edge takes
//!                                ├─ health:  which sensor is believed, how hot it counts
//!                                ├─ thermal: forecast, share of the capacity, who is shed
//!  dispatcher ─► Appetite ───────┤ appetite: what is asked for, by priority
//!                                └─ memory:  what is given up before the kernel takes it
//! ```
//!
//! Owns nothing but its own memory of the last readings. Pure: the readings are handed in, with
//! the time; whoever reads the files and carries the word is the appliance's.
//!
//! Invariants: the word is the gravest of what heat and memory say; nothing is allowed that either
//! forbids; a machine without any sensor is governed by its memory alone, and one whose sensors
//! all fail ends at rest, not at full speed.
//!
//! How it fails: it cannot. Without readings nobody calls it, and the last word stands; the
//! watchdog of its task sees to that.

mod allowance;
mod appetite;
pub mod health;
pub mod memory;
pub mod sysfs;
pub mod thermal;

use std::time::Duration;

pub use allowance::{Allowance, Cause, Forecast, Speculation};
pub use appetite::Appetite;
pub use thermal::{Level, Taken};

use self::appetite::Meter;
use self::health::{Change, Health, Heat, Rules};
use self::memory::pressure::{
    Death, GroupReading, MemoryReading, Pressure, Relief, Replan, Stalls, Step,
};
use self::sysfs::Readings;
use self::sysfs::text::TICKS_PER_S;
use self::thermal::{Reading, Sample, Thermal, Verdict};
use crate::clock::Mono;

/// Between two looks at the sensors.
pub const TICK: Duration = Duration::from_secs(1);

/// What the site says, and what is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which sensors count, and the limit.
    pub rules: Rules,
    /// What is known of the board's heat beforehand.
    pub thermal: thermal::Settings,
    /// Conversations at a time, where nothing is short.
    pub sequences: u16,
}

/// A process of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its number.
    pub pid: u32,
    /// Threads that it computes with; none before it has said so.
    pub threads: Option<u16>,
}

/// What follows from a look at the sensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    /// What may run.
    pub allowance: Allowance,
    /// What is new about the sensors.
    pub sensors: Vec<Change>,
    /// What has changed in the word, a line for each, for the log.
    pub changes: Vec<String>,
    /// The engine is to be planned anew.
    pub replan: Option<Replan>,
}

/// The governor.
#[derive(Debug)]
pub struct Governor {
    health: Health,
    thermal: Thermal,
    pressure: Pressure,
    work: Work,
    /// What the dispatcher counted last, if it has counted at all.
    appetite: Option<Appetite>,
    meter: Meter,
    /// Why heat limits what may run, as long as it does.
    heat_words: String,
    step: Step,
}

impl Governor {
    /// Has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            health: Health::new(settings.rules),
            thermal: Thermal::new(&settings.thermal),
            pressure: Pressure::new(settings.sequences),
            work: Work::default(),
            appetite: None,
            meter: Meter::default(),
            heat_words: String::new(),
            step: Step::default(),
        }
    }

    /// The engine was planned anew.
    pub fn on_plan(&mut self, sequences: u16) {
        self.pressure.on_plan(sequences);
    }

    /// A process of the engine ended unasked.
    pub fn on_engine_end(&mut self, death: Death) {
        self.pressure.on_engine_end(death);
    }

    /// What is asked of the engine, as far as it was counted.
    pub fn on_appetite(&mut self, appetite: Appetite) {
        self.appetite = Some(appetite);
    }

    /// What the sensors say now. `engines` are the processes that `readings` tells of.
    pub fn on_readings(&mut self, readings: &Readings, engines: &[Engine], now: Mono) -> Effects {
        let seen = self.health.on_readings(readings, now);
        let sample = self.sample(&seen.heat, readings, engines, now);
        // Without any sensor there is no heat to govern, and nothing to learn.
        let verdict = match seen.heat {
            Heat::Unmeasured => None,
            Heat::Measured(_) | Heat::Lost(_) => Some(self.thermal.on_sample(&sample, now)),
        };
        let relief = self
            .pressure
            .on_reading(&memory_reading(readings, engines), now);
        let mut changes = Vec::new();
        if let Some(verdict) = &verdict {
            self.remember_words(verdict, &mut changes);
        }
        if relief.step != self.step {
            self.step = relief.step;
            changes.push(relief_words(&relief));
        }
        Effects {
            allowance: self.allowance(verdict.as_ref(), &relief, &seen.heat),
            sensors: seen.changes,
            changes,
            replan: relief.replan,
        }
    }

    fn sample(
        &mut self,
        heat: &Heat,
        readings: &Readings,
        engines: &[Engine],
        now: Mono,
    ) -> Sample {
        let sound = matches!(heat, Heat::Measured(_));
        let frequency = readings.clock_cap().unwrap_or(1.0);
        let busy = self.work.busy(readings, engines, now);
        let load = busy.max(readings.gpu_load().unwrap_or(0.0)) * frequency;
        let appetite = self.appetite;
        let demand = appetite.and_then(|appetite| self.meter.on_look(appetite, load, now));
        Sample {
            reading: heat.spot().map(|spot| Reading {
                celsius: spot.celsius,
                limit_celsius: spot.limit_celsius,
                sound: sound && spot.standing == health::Standing::Trusted,
            }),
            load,
            watts: readings.power_milliwatts().map(watts),
            frequency,
            pass: None,
            demand,
        }
    }

    fn remember_words(&mut self, verdict: &Verdict, changes: &mut Vec<String>) {
        if let Some(change) = &verdict.change {
            changes.push(change.clone());
            self.heat_words.clone_from(change);
        }
        if verdict.level == Level::Nominal && verdict.taken == Taken::All {
            self.heat_words.clear();
        }
    }

    fn allowance(&self, verdict: Option<&Verdict>, relief: &Relief, heat: &Heat) -> Allowance {
        let mut allowance = Allowance::default();
        if let Some(verdict) = verdict {
            allowance.state = verdict.level;
            allowance.taken = verdict.taken;
            allowance.cause = (verdict.taken != Taken::All).then_some(Cause::Heat);
            allowance.seats = (verdict.sequences_permille == 0).then_some(0);
            allowance.threads_permille = verdict.threads_permille;
            allowance.rest_permille = verdict.rest_permille;
            if !verdict.speculate {
                allowance.speculation = Speculation::Off;
            }
            allowance.retry_after = verdict.retry_after.unwrap_or_default();
            allowance.forecast = forecast(verdict, heat);
        }
        allowance.state = allowance.state.max(strain_of(relief.step));
        if let Some(retry_after) = relief.shut {
            allowance.taken = Taken::Nobody;
            allowance.cause = Some(Cause::Memory);
            allowance.retry_after = allowance.retry_after.max(retry_after);
        }
        if let Some(most) = relief.sequences {
            allowance.seats = Some(allowance.seats.map_or(most, |seats| seats.min(most)));
        }
        allowance.keeps_beginnings = relief.step == Step::Calm;
        let words = [Some(self.heat_words.as_str()), relief.why.as_deref()];
        let words = words.into_iter().flatten().filter(|it| !it.is_empty());
        allowance.why = words.collect::<Vec<_>>().join("; ");
        allowance
    }
}

/// What a step of relief means to those who decide by how near the limits are.
fn strain_of(step: Step) -> Level {
    match step {
        Step::Calm | Step::Evict => Level::Nominal,
        Step::FewerSequences => Level::Warm,
        Step::SmallerContext => Level::Hot,
        Step::Reroute => Level::Critical,
    }
}

fn relief_words(relief: &Relief) -> String {
    let what = match relief.step {
        Step::Calm => "all that the plan has is allowed again",
        Step::Evict => "what is kept to save time is let go of",
        Step::FewerSequences => "fewer conversations at a time",
        Step::SmallerContext => "a smaller context",
        Step::Reroute => "no request is taken",
    };
    match &relief.why {
        Some(why) => format!("memory: {what}, {why}"),
        None => format!("memory: {what}"),
    }
}

fn forecast(verdict: &Verdict, heat: &Heat) -> Option<Forecast> {
    let (spot, forecast) = (heat.spot()?, verdict.forecast?);
    Some(Forecast {
        celsius: narrow(spot.celsius),
        limit_celsius: narrow(spot.limit_celsius),
        ahead_celsius: narrow(forecast.soon_celsius),
        limit_in: forecast.to_limit,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a temperature has three digits"
)]
fn narrow(celsius: f64) -> f32 {
    celsius as f32
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a board draws less than 2^52 mW"
)]
fn watts(milliwatts: u64) -> f64 {
    milliwatts as f64 / 1000.0
}

fn memory_reading(readings: &Readings, engines: &[Engine]) -> MemoryReading {
    let group = readings.cgroup.as_ref();
    let pressure = group
        .and_then(|group| group.memory_pressure)
        .or(readings.memory_pressure);
    let is_engine = |pid: u32| engines.iter().any(|engine| engine.pid == pid);
    let resident = |wanted: bool| {
        let those = readings.processes.iter();
        let those = those.filter(|process| is_engine(process.pid) == wanted);
        those.filter_map(|process| process.resident.all_bytes).sum()
    };
    MemoryReading {
        total_bytes: readings.memory.total_bytes.unwrap_or(0),
        available_bytes: readings.memory.available_bytes.unwrap_or(0),
        group: group.and_then(|group| {
            Some(GroupReading {
                current_bytes: group.current_bytes?,
                high_bytes: group.high_bytes,
                max_bytes: group.max_bytes,
                oom_kills: group.events.map_or(0, |events| events.oom_kill),
            })
        }),
        stalls: pressure.map(|pressure| Stalls {
            some_percent: narrow(pressure.some.avg10),
            full_percent: narrow(pressure.full.map_or(0.0, |full| full.avg10)),
        }),
        own_bytes: resident(false),
        engine_bytes: resident(true),
    }
}

/// How busy the engine was between two looks.
#[derive(Debug, Default)]
struct Work {
    at: Mono,
    /// Number, start and processor time of each process, as it was at the last look.
    spent: Vec<(u32, sysfs::text::Spent)>,
}

impl Work {
    /// The engine's share of the time of its threads, from 0 to 1.
    fn busy(&mut self, readings: &Readings, engines: &[Engine], now: Mono) -> f64 {
        let span = now.since(self.at).as_secs_f64();
        let mut busy = 0.0_f64;
        let mut spent = Vec::new();
        for engine in engines {
            let mut processes = readings.processes.iter();
            let Some(process) = processes.find(|process| process.pid == engine.pid) else {
                continue;
            };
            let same = |(pid, before): &&(u32, sysfs::text::Spent)| {
                *pid == engine.pid && before.started_ticks == process.spent.started_ticks
            };
            if let (Some((_, before)), Some(threads)) =
                (self.spent.iter().find(same), engine.threads)
            {
                let ticks = process.spent.cpu_ticks.saturating_sub(before.cpu_ticks);
                #[expect(clippy::cast_precision_loss, reason = "ticks of some seconds")]
                let seconds = ticks as f64 / TICKS_PER_S as f64;
                busy += seconds / (span.max(1e-3) * f64::from(threads.max(1)));
            }
            spent.push((engine.pid, process.spent));
        }
        *self = Self { at: now, spent };
        busy.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests;
