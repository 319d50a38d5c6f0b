//! The four levels, and whose requests are taken at each.
//!
//! ```text
//!           ahead, pacing            little left               at the limit, no pace is slow enough
//!  Nominal ───────────────► Warm ───────────────► Hot ───────────────► Critical
//!     ▲                    │    ▲                │  ▲                     │
//!     └── neither, a while ┘    └─ more, a while ┘  └── cooled to resume ─┘
//! ```
//!
//! Up goes what two samples in a row say; down what has held for [`CALM`]. A request's priority
//! decides who is shed, by one rule: *whoever comes first is not to be slowed for those who come
//! after, if sending those away is enough.* So low priority is shed as soon as all that is asked
//! for is more than the board can carry for long, and normal priority when high alone needs nearly
//! all of it. Where nobody has said what is asked for, low priority is shed from `Hot` on.

use std::time::Duration;

use super::Demand;
use crate::clock::Mono;

/// A level is left for a better one after so long without reason to keep it.
pub(super) const CALM: Duration = Duration::from_secs(20);
/// Those who were shed are taken again after so long without reason to shed them.
pub(super) const CALM_AFTER_SHEDDING: Duration = Duration::from_mins(1);
/// Samples in a row that a worse level takes.
const TWICE: u32 = 2;
/// Below this share of capacity little is left; and again enough from the second on.
const HOT_BELOW: f64 = 0.45;
const WARM_FROM: f64 = 0.55;
/// Nothing is slowed; and surely not from the second on.
const FULL_FROM: f64 = 0.985;
/// High priority that needs so much of what can be carried leaves nothing for others.
const NEARLY_ALL: f64 = 0.8;
/// Who was shed comes back when everything would fit into that much of what can be carried.
const FITS_AGAIN: f64 = 0.9;

/// How hot it is, in the only terms that matter: what may still be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing is slowed, and nothing is in sight.
    #[default]
    Nominal,
    /// The engine is paced, or would soon have to be.
    Warm,
    /// Less than half of the capacity is left.
    Hot,
    /// The engine stands still.
    Critical,
}

impl Level {
    /// As the log and the rules write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nominal => "nominal",
            Self::Warm => "warm",
            Self::Hot => "hot",
            Self::Critical => "critical",
        }
    }
}

/// Whose requests the engine takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Taken {
    /// Everybody's.
    #[default]
    All,
    /// Those of normal and high priority.
    NormalAndHigh,
    /// Those of high priority.
    High,
    /// Nobody's.
    Nobody,
}

/// What decides about the level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Share of the capacity that may be used now.
    pub(super) share: f64,
    /// What could be used for ever.
    pub(super) sustained: f64,
    /// The limit would come near soon if the engine ran without a rest.
    pub(super) ahead: bool,
    /// The reading is at the limit, or no pace is slow enough.
    pub(super) too_hot: bool,
    /// Cool enough to begin again.
    pub(super) cooled: bool,
    pub(super) demand: Option<Demand>,
}

/// What is said, and since when something else would have been better.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels {
    level: Level,
    taken: Taken,
    worse: u32,
    better_since: Option<Mono>,
    more_since: Option<Mono>,
}

impl Levels {
    pub(super) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn taken(&self) -> Taken {
        self.taken
    }

    /// How things stand now.
    pub(super) fn on(&mut self, at: &Situation, now: Mono) {
        let next = self.next(at);
        if next > self.level {
            self.better_since = None;
            self.worse += 1;
            if self.worse >= TWICE {
                self.level = next;
                self.worse = 0;
            }
        } else {
            self.worse = 0;
            let since = (next < self.level).then(|| *self.better_since.get_or_insert(now));
            match since {
                // The pause ends at once when it is cool enough: that is what it waited for.
                Some(_) if self.level == Level::Critical => self.improve(Level::Hot),
                Some(since) if now.since(since) >= CALM => self.improve(next),
                Some(_) => {}
                None => self.better_since = None,
            }
        }
        self.shed(at, now);
    }

    fn improve(&mut self, level: Level) {
        self.level = level;
        self.better_since = None;
    }

    fn next(&self, at: &Situation) -> Level {
        if at.too_hot || (self.level == Level::Critical && !at.cooled) {
            return Level::Critical;
        }
        let hot = if self.level >= Level::Hot {
            WARM_FROM
        } else {
            HOT_BELOW
        };
        if at.share < hot {
            Level::Hot
        } else if at.share < FULL_FROM || at.ahead {
            Level::Warm
        } else {
            Level::Nominal
        }
    }

    fn shed(&mut self, at: &Situation, now: Mono) {
        let next = self.wanted(at);
        let at_once = next == Taken::Nobody || self.taken == Taken::Nobody;
        if at_once || next > self.taken {
            self.taken = next;
            self.more_since = None;
        } else if next < self.taken {
            let since = *self.more_since.get_or_insert(now);
            if now.since(since) >= CALM_AFTER_SHEDDING {
                self.taken = next;
                self.more_since = None;
            }
        } else {
            self.more_since = None;
        }
    }

    fn wanted(&self, at: &Situation) -> Taken {
        if self.level == Level::Critical {
            return Taken::Nobody;
        }
        let Some(demand) = at.demand else {
            return if self.level == Level::Hot {
                Taken::NormalAndHigh
            } else {
                Taken::All
            };
        };
        if self.level == Level::Nominal {
            return Taken::All;
        }
        let room = |shed: bool| if shed { FITS_AGAIN } else { 1.0 } * at.sustained;
        if demand.high > NEARLY_ALL * room(self.taken >= Taken::High) {
            Taken::High
        } else if demand.total() > room(self.taken >= Taken::NormalAndHigh) {
            Taken::NormalAndHigh
        } else {
            Taken::All
        }
    }
}

#[cfg(test)]
mod tests;
