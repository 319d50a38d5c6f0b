//! One sensor: what it said, whether that can be, and how hot it counts.

use std::time::Duration;

use super::super::sysfs::{Limits, Unread};
use super::scale::{Scale, of_limit};
use super::watch::Part;
use super::{Fault, Standing};
use crate::clock::Mono;

/// Nothing here is colder: it is the lowest temperature that industrial chips are made for.
const COLDEST_CELSIUS: f64 = -40.0;
/// Nothing here is hotter: chips switch themselves off at 125 °C at the latest.
const HOTTEST_CELSIUS: f64 = 150.0;
/// A processor at work is not colder than this...
const FREEZING_CELSIUS: f64 = 2.0;
/// ...where its neighbours are warmer than this.
const WARM_CELSIUS: f64 = 25.0;
/// A change that a small chip under sudden load shows at once...
const JUMP_CELSIUS: f64 = 40.0;
/// ...and what comes on top with each second.
const JUMP_CELSIUS_PER_S: f64 = 20.0;
/// So many readings in a row make what looked like a jump the truth, and a lost sensor trusted.
const BELIEVED_BY: u8 = 3;

/// How much hotter a lost sensor counts with each second. A board under a heat sink is slower
/// once it is warm; a minute and a half leads from a warm processor to its limit.
pub(super) const GROWTH_CELSIUS_PER_S: f64 = 0.5;
/// A sensor that never told anything counts as so far below its limit when it was first seen.
const UNKNOWN_BELOW_CELSIUS: f64 = 25.0;
/// How fast it is forgotten that a sensor was hotter than its neighbours.
const LEAD_MEMORY: Duration = Duration::from_mins(10);

/// A sensor that does not move for so long is stuck, if others moved and the load did.
const STUCK_AFTER: Duration = Duration::from_mins(2);
/// The same where there is no other to compare with: some read in steps of a degree.
const STUCK_ALONE_AFTER: Duration = Duration::from_mins(10);
/// The load changed considerably: by this share of the whole, smoothed.
const LOAD_MOVED: f64 = 0.35;
/// Another sensor moved: by so many degrees.
const OTHER_MOVED_CELSIUS: f64 = 3.0;

/// A critical trip point or chip limit is kept clear of by so much: there the machine dies.
const BELOW_CRITICAL_CELSIUS: f64 = 10.0;
/// A hot trip point is kept clear of by so much.
const BELOW_HOT_CELSIUS: f64 = 5.0;
/// A limit below this is none: drivers fill in zero, and fans start at warm temperatures.
const LOWEST_LIMIT_CELSIUS: f64 = 40.0;

/// A change of standing is told once it has lasted so long: one bad reading is no news, and what
/// it takes to be trusted again is neither.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// No sensor is told of more often.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// What is around a sensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// How warm the others say it is.
    pub(super) warmth: Option<f64>,
    /// How much the machine works, from 0 to 1.
    pub(super) load: Option<f64>,
    /// The last movement of a trusted other began then; none if there is no other.
    pub(super) others_moved: Option<Mono>,
}

#[derive(Debug)]
pub(super) struct Sensor {
    part: Part,
    limit_celsius: f64,
    scale: Scale,
    standing: Standing,
    /// Since when it has been that.
    since: Mono,
    /// What was last told, and when.
    told: Standing,
    told_at: Option<Mono>,
    first_seen: Mono,
    /// What was last believed.
    believed: Option<(f64, Mono)>,
    /// Plausible readings in a row while it is not trusted, and the last of them.
    again: Option<(f64, u8)>,
    /// A jump that was seen, how often in a row.
    jumped: Option<(f64, Mono, u8)>,
    held: Option<Held>,
    /// The number that it was found stuck at.
    stuck_at: Option<i64>,
    /// Its number has changed at least once.
    moves: bool,
    travel: Option<Travel>,
    /// How much hotter than the hottest neighbour, of late.
    lead: Option<(f64, Mono)>,
}

/// A number that stays the same.
#[derive(Clone, Copy, Debug)]
struct Held {
    raw: i64,
    since: Mono,
    least_load: f64,
    most_load: f64,
}

/// How a sensor moves: from the last resting point, and when the last full step began.
#[derive(Clone, Copy, Debug)]
struct Travel {
    from: f64,
    at: Mono,
    step_began: Option<Mono>,
}

impl Sensor {
    pub(super) fn new(part: Part, now: Mono) -> Self {
        Self {
            part,
            limit_celsius: f64::INFINITY,
            scale: Scale::default(),
            standing: Standing::Silent(Fault::Missing),
            since: now,
            told: Standing::Trusted,
            told_at: None,
            first_seen: now,
            believed: None,
            again: None,
            jumped: None,
            held: None,
            stuck_at: None,
            moves: false,
            travel: None,
            lead: None,
        }
    }

    pub(super) fn part(&self) -> Part {
        self.part
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn limit_celsius(&self) -> f64 {
        self.limit_celsius
    }

    /// The site's limit, or the sensor's own where that is lower.
    pub(super) fn limit(&mut self, own: &Limits, site_celsius: f64) {
        let own = [
            (own.passive, 0.0),
            (own.max, 0.0),
            (own.hot, BELOW_HOT_CELSIUS),
            (own.critical, BELOW_CRITICAL_CELSIUS),
        ];
        self.limit_celsius = own
            .into_iter()
            .filter_map(|(raw, below)| Some(of_limit(raw?) - below))
            .filter(|limit| *limit >= LOWEST_LIMIT_CELSIUS)
            .fold(site_celsius, f64::min);
    }

    /// It said something.
    pub(super) fn hear(&mut self, raw: i64, around: &Surroundings, now: Mono) {
        let celsius = self.scale.celsius(raw, around.warmth);
        let has_moved = self.hold(raw, around, now);
        if let Some(fault) = self.absurd(celsius, around.warmth, now) {
            self.lose(fault, now);
        } else if !has_moved && self.is_stuck(around, now) {
            self.stuck_at = Some(raw);
            self.lose(Fault::Stuck, now);
        } else {
            self.accept(celsius, now);
        }
    }

    /// Whether the number differs from the last one.
    fn hold(&mut self, raw: i64, around: &Surroundings, now: Mono) -> bool {
        let load = around.load;
        match &mut self.held {
            Some(held) if held.raw == raw => {
                if let Some(load) = load {
                    held.least_load = held.least_load.min(load);
                    held.most_load = held.most_load.max(load);
                }
                false
            }
            held => {
                let has_moved = held.is_some();
                self.moves |= has_moved;
                *held = Some(Held {
                    raw,
                    since: now,
                    least_load: load.unwrap_or(f64::INFINITY),
                    most_load: load.unwrap_or(f64::NEG_INFINITY),
                });
                has_moved
            }
        }
    }

    fn is_stuck(&self, around: &Surroundings, now: Mono) -> bool {
        let Some(held) = self.held else {
            return false;
        };
        if self.stuck_at == Some(held.raw) {
            return true; // until it moves
        }
        let held_for = now.since(held.since);
        let others_moved = match around.others_moved {
            Some(began) => held_for >= STUCK_AFTER && began >= held.since,
            None => held_for >= STUCK_ALONE_AFTER,
        };
        others_moved && held.most_load - held.least_load >= LOAD_MOVED
    }

    fn absurd(&mut self, celsius: f64, warmth: Option<f64>, now: Mono) -> Option<Fault> {
        if celsius < COLDEST_CELSIUS {
            return Some(Fault::TooCold(celsius));
        }
        if celsius > HOTTEST_CELSIUS {
            return Some(Fault::TooHot(celsius));
        }
        let among_warm = warmth.is_some_and(|warmth| warmth > WARM_CELSIUS);
        if self.part == Part::Processor && celsius < FREEZING_CELSIUS && among_warm {
            return Some(Fault::ColdAmongWarm(celsius));
        }
        let (from, at) = self.believed?;
        if !is_jump(from, celsius, now.since(at)) {
            self.jumped = None;
            return None;
        }
        let times = match self.jumped {
            Some((last, then, times)) if !is_jump(last, celsius, now.since(then)) => {
                times.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        self.jumped = Some((celsius, now, times));
        (times < BELIEVED_BY).then_some(Fault::Jumped { from, to: celsius })
    }

    /// What it said can be.
    fn accept(&mut self, celsius: f64, now: Mono) {
        let times = match self.again {
            Some((_, times)) => times.saturating_add(1),
            None => 1,
        };
        let is_back = match self.standing {
            Standing::Trusted | Standing::Silent(_) => true,
            // A stuck one moved; after a jump it has been heard as often already.
            Standing::Lost(fault) => {
                matches!(fault, Fault::Stuck | Fault::Jumped { .. }) || times >= BELIEVED_BY
            }
        };
        if !is_back {
            self.again = Some((celsius, times));
            return;
        }
        self.again = None;
        self.jumped = None;
        self.stuck_at = None;
        self.believed = Some((celsius, now));
        self.stand(Standing::Trusted, now);
        self.travel(celsius, now);
    }

    fn travel(&mut self, celsius: f64, now: Mono) {
        let travel = self.travel.get_or_insert(Travel {
            from: celsius,
            at: now,
            step_began: None,
        });
        if (celsius - travel.from).abs() >= OTHER_MOVED_CELSIUS {
            *travel = Travel {
                from: celsius,
                at: now,
                step_began: Some(travel.at),
            };
        }
    }

    /// When its last movement worth the name began; the beginning of time if it never moved.
    pub(super) fn moved_since(&self) -> Mono {
        let step = self.travel.and_then(|travel| travel.step_began);
        step.unwrap_or_default()
    }

    /// It said nothing that can be believed.
    pub(super) fn lose(&mut self, fault: Fault, now: Mono) {
        self.again = None;
        if matches!(fault, Fault::Missing | Fault::Unreadable(_) | Fault::Stale) {
            self.held = None; // how long a number stands still is not known across a gap
        }
        let standing = if self.believed.is_some() {
            Standing::Lost(fault)
        } else {
            Standing::Silent(fault)
        };
        self.stand(standing, now);
    }

    fn stand(&mut self, standing: Standing, now: Mono) {
        if !self.standing.is_like(standing) {
            self.since = now;
        }
        self.standing = standing;
    }

    /// Whether it tells, or has told, anything about heat.
    pub(super) fn tells(&self) -> bool {
        match self.standing {
            // Of one that never moved nothing was ever known.
            Standing::Lost(Fault::Stuck) => self.moves,
            // A card that is switched off cannot be read, and is not hot.
            Standing::Lost(Fault::Unreadable(Unread::Busy | Unread::Denied)) => {
                self.part != Part::Card
            }
            Standing::Trusted | Standing::Lost(_) => true,
            Standing::Silent(_) => false,
        }
    }

    /// Since when it is missing.
    pub(super) fn gone_since(&self) -> Option<Mono> {
        match self.standing {
            Standing::Lost(Fault::Missing) | Standing::Silent(Fault::Missing) => Some(self.since),
            Standing::Trusted | Standing::Lost(_) | Standing::Silent(_) => None,
        }
    }

    /// The temperature, if it is trusted.
    pub(super) fn measured(&self) -> Option<f64> {
        match self.standing {
            Standing::Trusted => self.believed.map(|(celsius, _)| celsius),
            Standing::Lost(_) | Standing::Silent(_) => None,
        }
    }

    /// How hot it counts, where it cannot be hotter than the bound that trusted neighbours set.
    pub(super) fn celsius(&self, bound: Option<f64>, now: Mono) -> f64 {
        if let Some(measured) = self.measured() {
            return measured;
        }
        let (last, at) = self
            .believed
            .unwrap_or((self.limit_celsius - UNKNOWN_BELOW_CELSIUS, self.first_seen));
        let grown = last + GROWTH_CELSIUS_PER_S * now.since(at).as_secs_f64();
        let presumed = grown.min(self.limit_celsius.max(last));
        let bounded = bound.map_or(presumed, |bound| presumed.min(bound));
        // What it says while it is on its way back counts if it is hotter.
        self.again
            .map_or(bounded, |(celsius, _)| bounded.max(celsius))
    }

    /// It is so much hotter than its neighbours now.
    pub(super) fn learn_lead(&mut self, lead: f64, now: Mono) {
        if lead >= self.lead_at(now) {
            self.lead = Some((lead, now));
        }
    }

    fn lead_at(&self, now: Mono) -> f64 {
        let Some((lead, at)) = self.lead else {
            return 0.0;
        };
        lead * (-now.since(at).as_secs_f64() / LEAD_MEMORY.as_secs_f64()).exp()
    }

    /// How much hotter than the hottest neighbour it may be. A lost one keeps what it had.
    pub(super) fn lead(&self) -> f64 {
        self.believed.map_or(0.0, |(_, at)| self.lead_at(at))
    }

    /// Whether there is news of its standing, which then counts as told. That it is trusted from
    /// the first is none.
    pub(super) fn tell(&mut self, now: Mono) -> bool {
        let is_news = !self.told.is_like(self.standing);
        let lasts = now.since(self.since) >= TOLD_AFTER;
        let is_restless = self.told_at.is_some_and(|at| now.since(at) < TOLD_EVERY);
        let tells = is_news && lasts && !is_restless;
        if tells {
            self.told = self.standing;
            self.told_at = Some(now);
        }
        tells
    }
}

fn is_jump(from: f64, to: f64, span: Duration) -> bool {
    (to - from).abs() > JUMP_CELSIUS + JUMP_CELSIUS_PER_S * span.as_secs_f64()
}
