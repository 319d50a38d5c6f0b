//! What is known of the board, and what follows from it: plans and forecasts.
//!
//! Owns the model, the guard and the map from load to watts. A plan is the largest share of the
//! capacity for which the forecast, at each of the moments in [`HOLD_S`], stays below the limit
//! less the guard. It is found by bisection, for a forecast rises with the share.

use std::time::Duration;

use super::guard::Guard;
use super::model::{Heat, Mean, Model, Prior};
use super::power::Power;
use super::{Forecast, Reading, Sample};

/// Moments at which a plan must be below the limit, in seconds from now.
const HOLD_S: [f64; 5] = [1.0, 2.0, 4.0, 7.0, 10.0];
/// What a sensor cannot show, however well the model knows the board.
const BLIND_C: f64 = 0.15;
/// Deviation of a sensor's noise that is assumed.
const NOISE_C: f64 = 0.25;
/// A sensor's steps count as no larger.
const COARSEST_C: f64 = 2.0;
/// The plain law gives nothing at this distance from the limit …
const PLAIN_NONE_C: f64 = 2.0;
/// … and everything so much further below.
const PLAIN_BAND_C: f64 = 10.0;
/// Forecasts that must have been judged before the model alone decides.
const PROVEN_AFTER: u32 = 45;
/// Forecasts wrong by more than this are no ground to plan on.
const PROVEN_C: f64 = 1.5;
/// So many seconds without a reading are nothing.
const UNSEEN_S: f64 = 3.0;
/// Then the board counts as hotter by so much a second.
const UNSEEN_C_PER_S: f64 = 0.1;
/// A frequency below this share of the highest counts as capped.
pub(super) const CAPPED_BELOW: f64 = 0.98;
/// How long a cap's end may go unnoticed.
const CAP_UNNOTICED_S: f64 = 1.5;
/// Bisections: to a thousandth of the capacity.
const HALVINGS: u32 = 11;
/// The furthest that "until" is looked for, and in what steps.
const FURTHEST_S: f64 = 900.0;
const STEP_S: f64 = 5.0;

#[derive(Clone, Debug)]
pub(super) struct Board {
    model: Model,
    guard: Guard,
    power: Power,
    /// A rail has been seen.
    rail: bool,
    /// The smallest step that the sensor has shown.
    quantum_c: f64,
    shown_c: Option<f64>,
    limit_c: Option<f64>,
    /// By how much the board counts as hotter than the model believes.
    doubt_c: f64,
    unseen_s: f64,
}

impl Board {
    pub(super) fn new(prior: &Prior) -> Self {
        Self {
            model: Model::new(prior),
            guard: Guard::new(),
            power: Power::new(prior.full_w),
            rail: false,
            quantum_c: 1.0,
            shown_c: None,
            limit_c: None,
            doubt_c: 0.0,
            unseen_s: 0.0,
        }
    }

    /// Some seconds have passed like this.
    pub(super) fn on_sample(&mut self, sample: &Sample, s: f64) {
        let capped = sample.frequency < CAPPED_BELOW;
        let heat = if let Some(watts) = sample.watts {
            self.rail = true;
            if s > 0.0 {
                self.power.learn(watts, sample.load, capped, s);
            }
            Heat {
                q: self.power.share(watts),
                capped: false,
            }
        } else {
            self.heat(sample.load, capped)
        };
        self.model.pass(heat, s);
        self.unseen_s += s;
        self.doubt_c = (self.unseen_s - UNSEEN_S).max(0.0) * UNSEEN_C_PER_S;
        if let Some(reading) = sample.reading {
            self.limit_c = Some(reading.limit_celsius);
            self.read(&reading);
        }
        self.guard.judge(heat, s, &self.model.mean());
    }

    fn read(&mut self, reading: &Reading) {
        if !reading.sound {
            // It limits, and teaches nothing; that it limits is also all it can do.
            let above = reading.celsius - self.model.mean().celsius();
            self.doubt_c = self.doubt_c.max(above).max(0.0);
            return;
        }
        self.unseen_s = 0.0;
        self.doubt_c = 0.0;
        if let Some(shown) = self.shown_c {
            let step = (reading.celsius - shown).abs();
            if step > 1e-3 {
                self.quantum_c = self.quantum_c.min(step);
            }
        }
        self.shown_c = Some(reading.celsius);
        let steps = self.quantum_c.min(COARSEST_C);
        self.model
            .read(reading.celsius, NOISE_C.hypot(steps / 12f64.sqrt()));
    }

    /// The heat that a load makes.
    fn heat(&self, load: f64, capped: bool) -> Heat {
        if self.rail {
            self.power.heat(load, capped)
        } else {
            Heat { q: load, capped }
        }
    }

    /// Degrees between what counts as the temperature and the limit.
    pub(super) fn distance_c(&self, sample: &Sample) -> f64 {
        let shown = sample.reading.map_or(f64::NEG_INFINITY, |r| r.celsius);
        self.limit_c
            .map_or(f64::INFINITY, |limit| limit - self.now_c().max(shown))
    }

    /// What is believed is at the limit, or what is shown is beyond it by more than the sensor's
    /// noise and half a step.
    pub(super) fn is_at_limit(&self, sample: &Sample) -> bool {
        let beyond = sample.reading.is_some_and(|r| {
            r.celsius > r.limit_celsius + self.quantum_c.min(COARSEST_C) / 2.0 + 2.0 * NOISE_C
        });
        beyond || self.limit_c.is_some_and(|limit| self.now_c() >= limit)
    }

    fn now_c(&self) -> f64 {
        self.model.mean().celsius() + self.doubt_c
    }

    /// The largest share of the capacity, at the present frequency, that stays below the limit.
    pub(super) fn share(&self, sample: &Sample) -> f64 {
        let Some(limit) = self.limit_c else {
            return 1.0; // no sensor has ever spoken: `Levels` has the say
        };
        let mut share = if self.stays_below(limit, 1.0, sample.frequency) {
            1.0
        } else {
            let (mut fits, mut exceeds) = (0.0, 1.0);
            for _ in 0..HALVINGS {
                let half = f64::midpoint(fits, exceeds);
                if self.stays_below(limit, half, sample.frequency) {
                    fits = half;
                } else {
                    exceeds = half;
                }
            }
            fits
        };
        if !self.is_proven() {
            share = share.min(self.plain(sample));
        }
        share
    }

    /// Whether the model's forecasts are good enough to do without the plain law.
    fn is_proven(&self) -> bool {
        self.guard.judged() >= PROVEN_AFTER && self.guard.error_c() <= PROVEN_C
    }

    /// In proportion to the distance from the limit: keeps it on any board, and wastes some.
    fn plain(&self, sample: &Sample) -> f64 {
        ((self.distance_c(sample) - PLAIN_NONE_C) / PLAIN_BAND_C).clamp(0.0, 1.0)
    }

    fn stays_below(&self, limit: f64, share: f64, frequency: f64) -> bool {
        let capped = frequency < CAPPED_BELOW;
        let heat = self.heat(share * frequency, capped);
        let fits = |heat: Heat, s: f64| {
            let guard = self
                .guard
                .distance_c(self.model.deviation(heat, s), BLIND_C);
            self.model.mean().after(heat, s).celsius() + self.doubt_c + guard <= limit
        };
        let held = HOLD_S.iter().all(|s| fits(heat, *s));
        // The firmware may lift its cap at any moment, and the share then makes full heat.
        held && (!capped || fits(self.heat(share, false), CAP_UNNOTICED_S))
    }

    /// The share that could be kept up for ever.
    pub(super) fn sustained(&self, sample: &Sample) -> f64 {
        let Some(limit) = self.limit_c else {
            return 1.0;
        };
        let mean = self.model.mean();
        let capped = sample.frequency < CAPPED_BELOW;
        let at = |share: f64| mean.settled(self.heat(share * sample.frequency, capped));
        let (idle, full) = (at(0.0), at(1.0));
        let room = limit - self.guard_c(self.heat(0.5, capped)) - self.doubt_c - idle;
        (room / (full - idle).max(0.1)).clamp(0.0, 1.0)
    }

    /// The distance from the limit that is kept at this heat.
    fn guard_c(&self, heat: Heat) -> f64 {
        self.guard.distance_c(
            self.model.deviation(heat, HOLD_S[HOLD_S.len() - 1]),
            BLIND_C,
        )
    }

    /// When the limit would be reached with this share of the capacity.
    pub(super) fn seconds_to_limit(&self, sample: &Sample, share: f64) -> Option<f64> {
        let limit = self.limit_c? - self.doubt_c;
        let capped = sample.frequency < CAPPED_BELOW;
        let heat = self.heat(share * sample.frequency, capped);
        self.seconds_until(heat, |celsius| celsius >= limit)
    }

    fn seconds_until(&self, heat: Heat, reached: impl Fn(f64) -> bool) -> Option<f64> {
        let mut mean = self.model.mean();
        let mut s = 0.0;
        while !reached(mean.celsius()) {
            if s >= FURTHEST_S {
                return None;
            }
            mean = mean.after(heat, STEP_S);
            s += STEP_S;
        }
        Some(s)
    }

    /// When the board will be so far below the limit if the engine stands still.
    pub(super) fn cool_in(&self, sample: &Sample, below_c: f64) -> Duration {
        let limit = self.limit_c.unwrap_or(f64::INFINITY) - self.doubt_c - below_c;
        let capped = sample.frequency < CAPPED_BELOW;
        let s = self.seconds_until(self.heat(0.0, capped), |celsius| celsius <= limit);
        Duration::from_secs_f64(s.unwrap_or(FURTHEST_S).max(1.0))
    }

    /// What is to be expected with this share of the capacity.
    pub(super) fn forecast(&self, sample: &Sample, share: f64) -> Option<Forecast> {
        self.limit_c?;
        let capped = sample.frequency < CAPPED_BELOW;
        let heat = self.heat(share * sample.frequency, capped);
        let mean: Mean = self.model.mean();
        Some(Forecast {
            soon_celsius: mean.after(heat, Forecast::IN.as_secs_f64()).celsius() + self.doubt_c,
            steady_celsius: mean.settled(heat) + self.doubt_c,
            to_limit: self
                .seconds_to_limit(sample, share)
                .map(Duration::from_secs_f64),
            guard_celsius: self.guard_c(heat),
        })
    }
}

#[cfg(test)]
mod tests;
