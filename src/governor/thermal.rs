//! Heat: how much of the engine's capacity may be used so that the limit is never reached.
//!
//! Each second comes a [`Sample`]: the reading that governs with its limit, the load that the
//! engine has put on the board (or the watts that a rail has shown), the firmware's cap on the
//! frequency. Out goes a [`Verdict`]: how long the engine rests after each pass, on how many
//! threads it computes, whose requests it takes, and what is to be expected.
//!
//! ```text
//!  sample ─► model: learn ─► guard: how wrong were forecasts ─► plan: the largest share of the
//!                                                               capacity whose forecast stays
//!  verdict ◄─ pacing: rests, threads ◄─ levels: who is taken ◄─ below limit less guard
//! ```
//!
//! The plan looks [some seconds](board) ahead, not minutes: what the sink can still swallow is
//! used, and when it is full the share has long followed it down, a little each second. As long
//! as forecasts have not proved themselves, a plain law on the reading alone holds as well; it
//! keeps the limit by itself.
//!
//! Invariants: the share planned never forecasts more than the limit less the guard; without a
//! reading that can be believed, the board counts as hotter with each second; a rest is never
//! longer than [`MAX_REST`], except at [`Level::Critical`], where the engine stands still. No
//! clock and no sensor in here: a simulated board can be governed as well (`tests/thermal.rs`).

mod board;
mod guard;
mod level;
mod model;
mod pacing;
mod power;

use std::fmt::Write as _;
use std::time::Duration;

use board::Board;
pub use level::{Level, Taken};
use level::{Levels, Situation};
pub use model::Prior;
pub use pacing::MAX_REST;
use pacing::{Pacing, least_share};

use crate::clock::Mono;

/// The engine begins again so far below the limit.
const RESUME_C: f64 = 5.0;
/// A share is raised by so much a second, once the engine is paced.
const RISE_PER_S: f64 = 0.05;
/// Changes of the share smaller than this are not worth a message.
const STILL: f64 = 0.004;
/// The limit "in sight": that long from now, if the engine ran without a rest.
const AHEAD_S: f64 = 90.0;
/// Samples closer together than this are counted as one.
const SHORTEST: Duration = Duration::from_millis(250);
/// Readings in a row at the limit that stop the engine: one alone may be a flaw of the sensor.
const TWICE: u32 = 2;
/// A share that is less than the slowest pace by this factor stops the engine; to begin again,
/// there must be so much more than the slowest pace.
const TOO_SLOW: f64 = 0.8;
const ROOM_TO_BEGIN: f64 = 1.5;

/// What is known of the board beforehand.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What is assumed of its heat before it has shown anything.
    pub prior: Prior,
}

/// The sensor that is nearest to its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What it shows; more than that where it is in doubt.
    pub celsius: f64,
    /// What it must not exceed.
    pub limit_celsius: f64,
    /// It is fresh and moves as sensors do. What is not sound limits, and teaches nothing.
    pub sound: bool,
}

/// What is asked of the engine, by priority: the share of its full time, threads and frequency
/// that the requests of the last minute or so would need. May be above one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// By requests of high priority.
    pub high: f64,
    /// By those of normal priority.
    pub normal: f64,
    /// By those of low priority, taken or not.
    pub low: f64,
}

impl Demand {
    pub(super) fn total(self) -> f64 {
        self.high + self.normal + self.low
    }
}

/// How it was since the last sample, and is now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// None where there was nothing to read.
    pub reading: Option<Reading>,
    /// Mean since the last sample: the engine's share of time at work, times the share of its
    /// threads, times [`Sample::frequency`]; 0 to 1.
    pub load: f64,
    /// Mean of the board's power rail since the last sample, where there is one.
    pub watts: Option<f64>,
    /// The highest frequency that the firmware allows, as a share of the highest there is.
    pub frequency: f64,
    /// How long the engine's longer passes take, where that is known.
    pub pass: Option<Duration>,
    /// None where nobody has counted.
    pub demand: Option<Demand>,
}

/// What is to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The temperature in [`Forecast::IN`], if the engine uses what it may.
    pub soon_celsius: f64,
    /// Where it would settle if nothing changed.
    pub steady_celsius: f64,
    /// How long until the limit, if nothing changed: the pace does change before.
    pub to_limit: Option<Duration>,
    /// What plans stay below the limit, from how wrong forecasts have been.
    pub guard_celsius: f64,
}

impl Forecast {
    /// How far ahead "soon" is.
    pub const IN: Duration = Duration::from_mins(1);
}

/// What the engine may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How hot it is.
    pub level: Level,
    /// Share of the time in which the engine may compute, in thousandths.
    pub duty_permille: u16,
    /// The same as rest after each pass, in thousandths of what the pass took.
    pub rest_permille: u16,
    /// Share of the configured threads, in thousandths; at least one thread computes.
    pub threads_permille: u16,
    /// Share of the configured conversations at a time, in thousandths; none pauses the engine.
    /// There is nothing in between: heat comes from time at work, and fewer conversations would
    /// cost throughput and spare none.
    pub sequences_permille: u16,
    /// Whether guessing ahead is worth its heat.
    pub speculate: bool,
    /// Whose requests are taken.
    pub taken: Taken,
    /// None before the first reading.
    pub forecast: Option<Forecast>,
    /// When the engine will work again, while it stands still.
    pub retry_after: Option<Duration>,
    /// One line for the log, if this differs from what was said before.
    pub change: Option<String>,
}

/// The governor of heat.
#[derive(Clone, Debug)]
pub struct Thermal {
    board: Board,
    levels: Levels,
    pacing: Pacing,
    /// Share of the capacity at the present frequency that may be used.
    share: f64,
    last: Option<Mono>,
    /// Readings in a row at the limit.
    over: u32,
    said: (Level, Taken),
}

impl Thermal {
    /// Knows nothing of the board but what is assumed.
    pub fn new(settings: &Settings) -> Self {
        Self {
            board: Board::new(&settings.prior),
            levels: Levels::default(),
            pacing: Pacing::FULL,
            share: 1.0,
            last: None,
            over: 0,
            said: (Level::Nominal, Taken::All),
        }
    }

    /// Some time has passed like this. What may be done from now on?
    pub fn on_sample(&mut self, sample: &Sample, now: Mono) -> Verdict {
        let sample = sane(sample);
        let span = self.last.map_or(Duration::ZERO, |last| now.since(last));
        if self.last.is_none() || span >= SHORTEST {
            self.last = Some(now);
            self.board.on_sample(&sample, span.as_secs_f64());
            let plan = self.board.share(&sample);
            self.follow(plan, span.as_secs_f64());
        }
        self.over = if self.board.is_at_limit(&sample) {
            self.over + 1
        } else {
            0
        };
        self.levels.on(&self.situation(&sample), now);
        self.pacing = match self.levels.level() {
            Level::Critical => Pacing::NONE,
            Level::Nominal | Level::Warm | Level::Hot => {
                Pacing::of(self.share, sample.pass, self.pacing)
            }
        };
        self.verdict(&sample)
    }

    /// Down at once, up step by step, and not at all for next to nothing.
    fn follow(&mut self, plan: f64, s: f64) {
        if plan < self.share - STILL || plan <= 0.0 {
            self.share = plan;
        } else if plan > self.share + STILL || plan >= 1.0 {
            self.share = plan.min(self.share + RISE_PER_S * s);
        }
    }

    fn situation(&self, sample: &Sample) -> Situation {
        let least = least_share(sample.pass);
        let stopped = self.levels.level() == Level::Critical;
        let far = self.board.distance_c(sample);
        Situation {
            share: self.share,
            sustained: self.board.sustained(sample),
            ahead: self
                .board
                .seconds_to_limit(sample, 1.0)
                .is_some_and(|s| s < AHEAD_S),
            too_hot: self.over >= TWICE || self.share < least * TOO_SLOW,
            cooled: stopped && far >= RESUME_C && self.share >= least * ROOM_TO_BEGIN,
            demand: sample.demand,
        }
    }

    fn verdict(&mut self, sample: &Sample) -> Verdict {
        let (level, taken) = (self.levels.level(), self.levels.taken());
        let stopped = level == Level::Critical;
        let Pacing {
            threads_permille,
            duty_permille,
            rest_permille,
        } = self.pacing;
        let share = if stopped { 0.0 } else { self.share };
        let change = ((level, taken) != self.said).then(|| self.words(sample));
        self.said = (level, taken);
        Verdict {
            level,
            duty_permille,
            rest_permille,
            threads_permille,
            sequences_permille: if stopped { 0 } else { 1000 },
            speculate: level < Level::Hot,
            taken,
            forecast: self.board.forecast(sample, share),
            retry_after: stopped.then(|| self.board.cool_in(sample, RESUME_C)),
            change,
        }
    }

    /// Writing to a `String` cannot fail.
    fn words(&self, sample: &Sample) -> String {
        let (level, taken) = (self.levels.level(), self.levels.taken());
        let (before, shed) = self.said;
        let mut line = if level == before {
            format!("heat: still {}", level.name())
        } else {
            format!("heat: {} after {}", level.name(), before.name())
        };
        if let Some(reading) = sample.reading {
            let doubt = if reading.sound { "" } else { " (in doubt)" };
            let _ = write!(
                line,
                "; {:.1} of {:.1} °C{doubt}",
                reading.celsius, reading.limit_celsius
            );
        } else {
            line += "; no reading";
        }
        let _ = match level {
            Level::Critical => write!(
                line,
                ", the engine stands still for about {} s",
                self.board.cool_in(sample, RESUME_C).as_secs()
            ),
            Level::Nominal | Level::Warm | Level::Hot => {
                write!(line, ", {:.0} % of the capacity", self.share * 100.0)
            }
        };
        if sample.frequency < board::CAPPED_BELOW {
            let _ = write!(
                line,
                ", frequency capped to {:.0} %",
                sample.frequency * 100.0
            );
        }
        if taken != shed {
            line += match taken {
                Taken::All => ", all requests are taken",
                Taken::NormalAndHigh => ", low priority is not taken",
                Taken::High => ", high priority alone is taken",
                Taken::Nobody => ", no request is taken",
            };
        }
        line
    }
}

/// What cannot be is not believed: a reading that is no number is none.
fn sane(sample: &Sample) -> Sample {
    let share = |value: f64, least: f64| {
        if value.is_finite() {
            value.clamp(least, 1.0)
        } else {
            1.0
        }
    };
    Sample {
        reading: sample
            .reading
            .filter(|r| r.celsius.is_finite() && r.limit_celsius.is_finite()),
        load: share(sample.load, 0.0),
        watts: sample
            .watts
            .filter(|watts| watts.is_finite() && *watts >= 0.0),
        frequency: share(sample.frequency, 0.05),
        pass: sample.pass,
        demand: sample.demand.filter(|d| d.total().is_finite()),
    }
}
