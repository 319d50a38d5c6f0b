//! What is asked of the engine, by priority, as a share of what it can compute.
//!
//! ```text
//!  dispatcher: requests so far, answers so far ─┐
//!                                               ├─► Meter::on_look ─► Demand
//!  governor: how busy the engine was ───────────┘
//! ```
//!
//! What a request costs is measured, not guessed: the work of the last minute over the answers of
//! that minute. So whoever is turned away counts by what those cost who were not. Before there was
//! an answer nobody knows, and nothing is said.

use std::collections::VecDeque;
use std::time::Duration;

use super::thermal::Demand;
use crate::clock::Mono;

/// Over which what is asked for is measured: longer than a burst, shorter than a shift.
const WINDOW: Duration = Duration::from_mins(1);
/// Answers that make a cost. Below, one long answer would speak for all.
const ENOUGH_ANSWERS: u64 = 4;

/// Requests that wanted the engine since the start, turned away or not, and its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appetite {
    /// Requests of high priority.
    pub high: u64,
    /// Of normal priority.
    pub normal: u64,
    /// Of low priority.
    pub low: u64,
    /// Answers of the engine.
    pub answered: u64,
}

/// One look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Mono,
    appetite: Appetite,
    /// Seconds of full work since the start.
    worked_s: f64,
}

/// Makes shares of counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// Oldest first; the first is as old as the window, once there is one.
    looks: VecDeque<Look>,
    worked_s: f64,
    /// Seconds of full work for an answer, as last known.
    cost_s: Option<f64>,
}

impl Meter {
    /// The counts as they are now; `load` is the engine's share of full work since the last look.
    pub(super) fn on_look(&mut self, appetite: Appetite, load: f64, now: Mono) -> Option<Demand> {
        let span = self.looks.back().map(|last| now.since(last.at));
        self.worked_s += load * span.unwrap_or_default().as_secs_f64();
        self.looks.push_back(Look {
            at: now,
            appetite,
            worked_s: self.worked_s,
        });
        while (self.looks.get(1)).is_some_and(|second| now.since(second.at) >= WINDOW) {
            self.looks.pop_front();
        }
        let first = *self.looks.front()?;
        let answers = appetite.answered.saturating_sub(first.appetite.answered);
        if answers >= ENOUGH_ANSWERS {
            let cost = (self.worked_s - first.worked_s) / count(answers);
            self.cost_s = Some(cost);
        }
        let cost = self.cost_s?;
        // Two requests in the first second are no flood.
        let span_s = now.since(first.at).max(WINDOW).as_secs_f64();
        let share = |asked: u64, before: u64| count(asked.saturating_sub(before)) * cost / span_s;
        Some(Demand {
            high: share(appetite.high, first.appetite.high),
            normal: share(appetite.normal, first.appetite.normal),
            low: share(appetite.low, first.appetite.low),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "requests of a minute are far below 2^52"
)]
fn count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Mono {
        Mono(Duration::from_secs(second))
    }

    /// A second's load of a device that asks so often, where the engine keeps up with some.
    fn run(meter: &mut Meter, seconds: std::ops::Range<u64>, low: u64, answered: u64) -> Demand {
        let mut last = None;
        for second in seconds {
            let appetite = Appetite {
                high: second,
                low: second * low,
                answered: second * answered,
                ..Appetite::default()
            };
            // An answer takes a tenth of a second.
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let load = answered as f64 * 0.1;
            last = meter.on_look(appetite, load, at(second));
        }
        last.unwrap()
    }

    #[test]
    fn a_share_is_what_was_asked_for_at_the_price_of_what_was_answered() {
        let mut meter = Meter::default();
        let demand = run(&mut meter, 0..200, 4, 5);
        assert!((demand.high - 0.1).abs() < 0.01, "{demand:?}");
        assert!((demand.low - 0.4).abs() < 0.02, "{demand:?}");
        assert!(demand.normal.abs() < f64::EPSILON, "{demand:?}");
    }

    #[test]
    fn who_is_turned_away_counts_too() {
        let mut meter = Meter::default();
        // Twenty ask in a second, one is answered.
        let demand = run(&mut meter, 0..200, 20, 1);
        assert!((demand.low - 2.0).abs() < 0.1, "{demand:?}");
    }

    #[test]
    fn before_an_answer_nothing_is_known_and_afterwards_the_price_is_kept() {
        let mut meter = Meter::default();
        let appetite = Appetite {
            low: 100,
            ..Appetite::default()
        };
        assert_eq!(meter.on_look(Appetite::default(), 0.0, at(0)), None);
        assert_eq!(meter.on_look(appetite, 1.0, at(1)), None);
        let mut meter = Meter::default();
        run(&mut meter, 0..100, 4, 5);
        // The engine is paused: nobody is answered, and all still ask.
        let mut demand = None;
        for second in 100..300 {
            let appetite = Appetite {
                high: second,
                low: second * 4,
                answered: 99 * 5,
                ..Appetite::default()
            };
            demand = meter.on_look(appetite, 0.0, at(second));
        }
        assert!((demand.unwrap().low - 0.4).abs() < 0.02, "{demand:?}");
    }

    #[test]
    fn what_was_asked_for_long_ago_is_forgotten() {
        let mut meter = Meter::default();
        run(&mut meter, 0..100, 4, 5);
        let appetite = Appetite {
            high: 99,
            low: 99 * 4,
            answered: 99 * 5,
            ..Appetite::default()
        };
        let mut demand = None;
        for second in 100..170 {
            demand = meter.on_look(appetite, 0.0, at(second));
        }
        let demand = demand.unwrap();
        assert!(demand.total() < 0.01, "{demand:?}");
        assert!(meter.looks.len() < 70, "{}", meter.looks.len());
    }
}
