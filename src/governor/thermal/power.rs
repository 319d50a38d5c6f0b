//! What heat the engine's work makes, where a power rail is measured.
//!
//! The rail says how warm the board is being made now; a plan needs to know what it would say at
//! another load. So this learns `heat = idle + work · load`, and by how much less heat a unit of
//! work makes while the firmware caps the frequency. Three numbers in a Kalman filter with a slow
//! random walk: a chip that leaks more as it warms up is followed. Bounded: neither goes below
//! nothing. Where there is no rail, load itself counts as heat and this is not used.

use super::model::Heat;

/// Deviation of a rail's reading about its mean over a second, as a share of full heat.
const NOISE: f64 = 0.05;
/// Random walk of the three numbers, per square root of a second.
const WALK: f64 = 0.003;
/// No number is more doubtful than that, however long the load stays the same.
const MOST_DOUBT: f64 = 0.09;

#[derive(Clone, Debug)]
pub(super) struct Power {
    full_w: f64,
    /// Idle, work, and work under a cap.
    x: [f64; 3],
    doubt: [[f64; 3]; 3],
}

impl Power {
    pub(super) fn new(full_w: f64) -> Self {
        Self {
            full_w: full_w.max(0.1),
            x: [0.25, 0.75, 0.65],
            doubt: [[0.02, 0.0, 0.0], [0.0, 0.06, 0.0], [0.0, 0.0, 0.06]],
        }
    }

    /// Watts as a share of full heat.
    pub(super) fn share(&self, watts: f64) -> f64 {
        watts / self.full_w
    }

    /// The heat of this load.
    pub(super) fn heat(&self, load: f64, capped: bool) -> Heat {
        let work = if capped { self.x[2] } else { self.x[1] };
        Heat {
            q: self.x[0] + work * load,
            capped: false,
        }
    }

    /// The rail showed so many watts under this load.
    pub(super) fn learn(&mut self, watts: f64, load: f64, capped: bool, s: f64) {
        for i in 0..3 {
            self.doubt[i][i] = (self.doubt[i][i] + WALK * WALK * s).min(MOST_DOUBT);
        }
        let sees = if capped {
            [1.0, 0.0, load]
        } else {
            [1.0, load, 0.0]
        };
        let gain: [f64; 3] =
            std::array::from_fn(|i| (0..3).map(|j| self.doubt[i][j] * sees[j]).sum());
        let expected: f64 = (0..3).map(|i| self.x[i] * sees[i]).sum();
        let spread: f64 = (0..3).map(|i| gain[i] * sees[i]).sum::<f64>() + NOISE * NOISE;
        let edge = 4.0 * spread.sqrt();
        let surprise = (self.share(watts) - expected).clamp(-edge, edge);
        for i in 0..3 {
            self.x[i] = (self.x[i] + gain[i] / spread * surprise).clamp(0.0, 5.0);
            for j in 0..3 {
                self.doubt[i][j] -= gain[i] * gain[j] / spread;
            }
        }
        self.x[1] = self.x[1].max(0.05);
        self.x[2] = self.x[2].max(0.05);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_work_are_told_apart_and_a_cap_is_learned_beside_them() {
        let mut power = Power::new(20.0);
        let mut dice = fastrand::Rng::with_seed(1);
        for second in 0..900 {
            let capped = second >= 600;
            let load = dice.f64() * if capped { 0.6 } else { 1.0 };
            let work = if capped { 9.0 } else { 12.0 };
            power.learn(3.0 + work * load + dice.f64() - 0.5, load, capped, 1.0);
        }
        let watts = |load, capped| power.heat(load, capped).q * 20.0;
        assert!((watts(0.0, false) - 3.0).abs() < 0.5, "{power:?}");
        assert!((watts(1.0, false) - 15.0).abs() < 0.7, "{power:?}");
        assert!((watts(0.6, true) - 8.4).abs() < 0.5, "{power:?}");
    }

    #[test]
    fn a_rail_that_shows_nonsense_keeps_every_number_in_its_bounds() {
        let mut power = Power::new(20.0);
        for i in 0..1000 {
            power.learn(if i % 2 == 0 { 0.0 } else { 1e6 }, 0.5, i % 3 == 0, 1.0);
            assert!(power.x.iter().all(|x| (0.0..=5.0).contains(x)), "{power:?}");
        }
    }
}
