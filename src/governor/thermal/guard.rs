//! How far below the limit a plan stays: as far as forecasts have been wrong.
//!
//! Each second a forecast is begun. It runs on with the heat that then was, and some seconds later
//! it is held against what the filter believes by then; the difference is what the model could not
//! know. Their running mean square, quick to rise and slow to fall, with the filter's own doubt
//! makes the guard. The guard is never below what a sensor cannot show.

use std::collections::VecDeque;

use super::model::{Heat, Mean};

/// How far ahead forecasts are judged: what a plan decides is put right within that time.
const AHEAD_S: f64 = 5.0;
/// Memory of errors while they grow, and while they shrink.
const RISE_S: f64 = 8.0;
const FALL_S: f64 = 120.0;
/// In the beginning, memory is this share of the seconds that have been judged.
const EARLY: f64 = 0.25;
/// Deviations that a plan stays below the limit.
pub(super) const DEVIATIONS: f64 = 1.8;
/// Forecasts under way at most: at one a second twice what is needed.
const MOST: usize = 16;
/// Error that is assumed as long as no forecast has been judged.
const ASSUMED_C: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Guard {
    under_way: VecDeque<(f64, Mean)>,
    square: f64,
    judged: u32,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            under_way: VecDeque::with_capacity(MOST),
            square: ASSUMED_C * ASSUMED_C,
            judged: 0,
        }
    }

    /// Some seconds of this heat have passed, and this is believed now.
    pub(super) fn judge(&mut self, heat: Heat, s: f64, now: &Mean) {
        for (age, mean) in &mut self.under_way {
            *age += s;
            *mean = mean.after(heat, s);
        }
        while let Some((age, mean)) = self.under_way.front()
            && *age >= AHEAD_S
        {
            // After a gap the forecast is older than what is judged; it is in proportion.
            let error = (now.celsius() - mean.celsius()) * (AHEAD_S / age).min(1.0);
            let square = error * error;
            // The first errors are those of a model that had seen nothing; they are soon forgotten.
            let fall = (f64::from(self.judged) * EARLY).clamp(RISE_S, FALL_S);
            let memory = if square > self.square { RISE_S } else { fall };
            self.square += (square - self.square) * (1.0 - (-s.min(AHEAD_S) / memory).exp());
            self.judged += 1;
            self.under_way.pop_front();
        }
        if self.under_way.len() < MOST {
            self.under_way.push_back((0.0, *now));
        }
    }

    /// Root of the mean square error.
    pub(super) fn error_c(&self) -> f64 {
        self.square.sqrt()
    }

    pub(super) fn judged(&self) -> u32 {
        self.judged
    }

    /// The distance to the limit that a forecast of this deviation needs.
    pub(super) fn distance_c(&self, deviation: f64, blind_c: f64) -> f64 {
        blind_c + (DEVIATIONS * deviation).hypot(DEVIATIONS * self.error_c())
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Model, Prior};
    use super::*;

    const HEAT: Heat = Heat {
        q: 0.5,
        capped: false,
    };

    /// A guard after so many seconds in which the board drifts off by so much a second.
    fn after(mut guard: Guard, seconds: u32, drift: f64) -> Guard {
        let mut model = Model::new(&Prior::default());
        model.read(50.0, 0.3);
        let mut mean = model.mean();
        for _ in 0..seconds {
            mean = mean.after(HEAT, 1.0).moved(drift);
            guard.judge(HEAT, 1.0, &mean);
        }
        guard
    }

    #[test]
    fn forecasts_that_come_true_shrink_it_and_errors_widen_it_quickly() {
        let calm = after(Guard::new(), 600, 0.0);
        assert!(calm.error_c() < 0.1, "{calm:?}");
        let wrong = after(calm.clone(), 30, 0.3);
        assert!(wrong.error_c() > 1.2, "{wrong:?}");
        assert!(wrong.distance_c(0.0, 0.2) > calm.distance_c(0.0, 0.2) + 1.5);
        let calm_again = after(wrong.clone(), 30, 0.0);
        assert!(
            calm_again.error_c() > wrong.error_c() * 0.7,
            "it is slow to forget"
        );
    }

    #[test]
    fn it_holds_a_bounded_number_of_forecasts() {
        let mut guard = after(Guard::new(), 100, 0.0);
        let mean = guard.under_way[0].1;
        for _ in 0..1000 {
            guard.judge(HEAT, 0.0, &mean);
        }
        assert!(guard.under_way.len() <= MOST);
    }
}
