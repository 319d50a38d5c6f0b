//! How warm it will be: two nodes of heat and the air around them, fitted as the board runs.
//!
//! ```text
//!            q heat                       T = air + fast + slow
//!            │
//!        ┌───┴──┐  fast: r₁, τ₁   ┌──────┐  slow: r₂, τ₂
//!        │ chip ├────────────────►│ sink ├───────────────► air (drifts by a trend that fades)
//!        └──────┘                 └──────┘
//! ```
//!
//! What the reading is above the air is the sum of two lags of the heat: the chip over its sink,
//! and the sink over the air. Both temperatures, the air with its trend, and the four parameters'
//! logarithms are the state of one extended Kalman filter, one reading after the other. A ninth
//! state says how much less heat a unit of work makes while the firmware caps the frequency (the
//! voltage falls with it), so that a cap teaches the other parameters nothing wrong.
//!
//! Bounded and regular by construction: parameters drift back to what was assumed at first, with a
//! memory of hours, so that a time without change in the load neither inflates the doubt nor
//! carries them away; each has hard bounds; a reading far from what was expected counts as one at
//! the edge of what is believable, and only several of them in a row move the air.

/// Numbers in the state.
const N: usize = 9;
const FAST: usize = 0;
const SLOW: usize = 1;
const AIR: usize = 2;
const TREND: usize = 3;
const R_FAST: usize = 4;
const R_SLOW: usize = 5;
const T_FAST: usize = 6;
const T_SLOW: usize = 7;
const CAPPED: usize = 8;

/// A trend of the air fades with this time constant: what rises now will not rise for ever.
const TREND_S: f64 = 90.0;
/// Parameters drift back to what was assumed with this memory.
const MEMORY_S: f64 = 4.0 * 3600.0;
/// Readings this many deviations off are cut to that.
const BELIEVABLE: f64 = 4.0;
/// So many unbelievable readings in a row, all on one side, and the air is looked for anew.
const STUBBORN: u32 = 4;
/// Random walk of each state, per square root of a second.
const WALK: [f64; N] = [0.05, 0.02, 0.01, 0.002, 0.0, 0.0, 0.0, 0.0, 0.0];
/// A parameter lies within this factor of what was assumed.
const WIDEST: f64 = 5.0;

/// What is assumed of a board before it has shown anything, at full load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Rise of the chip over its sink in °C.
    pub fast_rise_c: f64,
    /// Rise of the sink over the air in °C.
    pub slow_rise_c: f64,
    /// Time constant of the chip in seconds, with the sensor's lag.
    pub fast_s: f64,
    /// Time constant of the sink in seconds.
    pub slow_s: f64,
    /// Deviation of the natural logarithms of these four: one is "within a factor of three".
    pub doubt: f64,
    /// Heat at full load in watts, where the heat is measured in watts.
    pub full_w: f64,
}

impl Default for Prior {
    fn default() -> Self {
        Self {
            fast_rise_c: 18.0,
            slow_rise_c: 32.0,
            fast_s: 4.0,
            slow_s: 250.0,
            doubt: 0.5,
            full_w: 15.0,
        }
    }
}

type Vector = [f64; N];
type Matrix = [[f64; N]; N];

/// The state of a filter without its doubt: enough to forecast from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean(Vector);

impl Mean {
    fn fast_s(&self) -> f64 {
        self.0[T_FAST].exp()
    }

    fn slow_s(&self) -> f64 {
        self.0[T_SLOW].exp()
    }

    fn rises(&self) -> (f64, f64) {
        (self.0[R_FAST].exp(), self.0[R_SLOW].exp())
    }

    /// What the sensor shows.
    pub(super) fn celsius(&self) -> f64 {
        self.0[FAST] + self.0[SLOW] + self.0[AIR]
    }

    /// After `s` seconds of this heat.
    pub(super) fn after(&self, heat: Heat, s: f64) -> Self {
        let mut x = self.0;
        let (r_fast, r_slow) = self.rises();
        let q = self.effective(heat);
        let fade = |span: f64| (-s / span).exp();
        let (fast, slow) = (fade(self.fast_s()), fade(self.slow_s()));
        x[FAST] = fast * x[FAST] + (1.0 - fast) * r_fast * q;
        x[SLOW] = slow * x[SLOW] + (1.0 - slow) * r_slow * q;
        x[AIR] += x[TREND] * TREND_S * (1.0 - fade(TREND_S));
        x[TREND] *= fade(TREND_S);
        Self(x)
    }

    /// Where it settles under this heat.
    pub(super) fn settled(&self, heat: Heat) -> f64 {
        let (r_fast, r_slow) = self.rises();
        self.0[AIR] + self.0[TREND] * TREND_S + (r_fast + r_slow) * self.effective(heat)
    }

    /// The same, with warmer air: what no model foresees.
    #[cfg(test)]
    pub(super) fn moved(mut self, celsius: f64) -> Self {
        self.0[AIR] += celsius;
        self
    }

    fn effective(&self, heat: Heat) -> f64 {
        if heat.capped {
            heat.q * self.0[CAPPED].exp()
        } else {
            heat.q
        }
    }
}

/// Heat as a share of that at full load, and whether work makes less of it than usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heat {
    pub(super) q: f64,
    pub(super) capped: bool,
}

/// The filter.
#[derive(Clone, Debug)]
pub(super) struct Model {
    x: Mean,
    doubt: Matrix,
    prior: Vector,
    variance: Vector,
    started: bool,
    off: i32,
}

/// What a reading did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Learned {
    /// Reading less what was expected.
    pub(super) surprise: f64,
}

impl Model {
    pub(super) fn new(prior: &Prior) -> Self {
        let mut x = [0.0; N];
        x[R_FAST] = prior.fast_rise_c.max(0.1).ln();
        x[R_SLOW] = prior.slow_rise_c.max(0.1).ln();
        x[T_FAST] = prior.fast_s.max(0.5).ln();
        x[T_SLOW] = prior.slow_s.max(10.0).ln();
        x[CAPPED] = -0.15;
        let p = prior.doubt * prior.doubt;
        // The air is where the first reading is, less what the sink may hold already.
        let variance = [9.0, 100.0, 100.0, 4e-4, p, p, p, p, 0.04];
        let mut doubt = [[0.0; N]; N];
        for (i, v) in variance.iter().enumerate() {
            doubt[i][i] = *v;
        }
        Self {
            x: Mean(x),
            doubt,
            prior: x,
            variance,
            started: false,
            off: 0,
        }
    }

    pub(super) fn mean(&self) -> Mean {
        self.x
    }

    /// Time passed with this heat, and nothing was read.
    #[expect(
        clippy::needless_range_loop,
        reason = "products of matrices read by their indices"
    )]
    pub(super) fn pass(&mut self, heat: Heat, s: f64) {
        if !self.started || s <= 0.0 {
            return;
        }
        let f = self.transition(heat, s);
        self.x = self.x.after(heat, s);
        let mut half = [[0.0; N]; N];
        for i in 0..N {
            for j in 0..N {
                half[i][j] = (0..N).map(|k| f[i][k] * self.doubt[k][j]).sum();
            }
        }
        for i in 0..N {
            for j in 0..=i {
                let cell: f64 = (0..N).map(|k| half[i][k] * f[j][k]).sum();
                self.doubt[i][j] = cell;
                self.doubt[j][i] = cell;
            }
        }
        for i in 0..N {
            self.doubt[i][i] += WALK[i] * WALK[i] * s;
        }
        // Back to what was assumed, mean and doubt alike (an Ornstein-Uhlenbeck process).
        let keep = (-s / MEMORY_S).exp();
        for i in R_FAST..N {
            self.x.0[i] = self.prior[i] + keep * (self.x.0[i] - self.prior[i]);
            for j in 0..N {
                self.doubt[i][j] *= keep;
                self.doubt[j][i] *= keep;
            }
            self.doubt[i][i] += (1.0 - keep * keep) * self.variance[i];
        }
    }

    fn transition(&self, heat: Heat, s: f64) -> Matrix {
        let x = &self.x.0;
        let (r_fast, r_slow) = self.x.rises();
        let q = self.x.effective(heat);
        let mut f = [[0.0; N]; N];
        for (i, row) in f.iter_mut().enumerate() {
            row[i] = 1.0;
        }
        for (node, rise, r, t, span) in [
            (FAST, R_FAST, r_fast, T_FAST, self.x.fast_s()),
            (SLOW, R_SLOW, r_slow, T_SLOW, self.x.slow_s()),
        ] {
            let fade = (-s / span).exp();
            f[node][node] = fade;
            f[node][rise] = (1.0 - fade) * r * q;
            f[node][t] = (x[node] - r * q) * fade * s / span;
            if heat.capped {
                f[node][CAPPED] = (1.0 - fade) * r * q;
            }
        }
        let fade = (-s / TREND_S).exp();
        f[AIR][TREND] = TREND_S * (1.0 - fade);
        f[TREND][TREND] = fade;
        f
    }

    /// The sensor shows this, with this deviation of its own.
    pub(super) fn read(&mut self, celsius: f64, noise_c: f64) -> Learned {
        if !self.started {
            self.started = true;
            self.x.0[AIR] = celsius;
            // Where the heat sits is not known, only the sum.
            let shared = self.doubt[SLOW][SLOW];
            self.doubt[SLOW][AIR] = -shared;
            self.doubt[AIR][SLOW] = -shared;
            self.doubt[AIR][AIR] = shared + noise_c * noise_c;
            return Learned { surprise: 0.0 };
        }
        let surprise = celsius - self.x.celsius();
        let sees: Vector =
            std::array::from_fn(|i| self.doubt[i][FAST] + self.doubt[i][SLOW] + self.doubt[i][AIR]);
        let spread = sees[FAST] + sees[SLOW] + sees[AIR] + noise_c * noise_c;
        let edge = BELIEVABLE * spread.sqrt();
        if surprise.abs() > edge {
            let side = if surprise > 0.0 { 1 } else { -1 };
            self.off = if self.off.signum() == side {
                self.off + side
            } else {
                side
            };
            if self.off.unsigned_abs() >= STUBBORN {
                self.move_air(surprise);
                return Learned { surprise };
            }
        } else {
            self.off = 0;
        }
        let counted = surprise.clamp(-edge, edge);
        for (x, seen) in self.x.0.iter_mut().zip(sees) {
            *x += seen / spread * counted;
        }
        for i in 0..N {
            for j in 0..N {
                self.doubt[i][j] -= sees[i] * sees[j] / spread;
            }
        }
        self.bound();
        Learned { surprise }
    }

    /// Something else is the case: another sensor governs, a door was opened.
    fn move_air(&mut self, surprise: f64) {
        self.x.0[AIR] += surprise;
        self.x.0[TREND] = 0.0;
        self.doubt[AIR][AIR] += 9.0;
        self.off = 0;
    }

    fn bound(&mut self) {
        for i in R_FAST..CAPPED {
            let wide = WIDEST.ln();
            self.x.0[i] = self.x.0[i].clamp(self.prior[i] - wide, self.prior[i] + wide);
        }
        self.x.0[CAPPED] = self.x.0[CAPPED].clamp(-1.2, 0.2);
        self.x.0[T_FAST] = self.x.0[T_FAST].max(0.0);
        self.x.0[T_SLOW] = self.x.0[T_SLOW].max(self.x.0[T_FAST] + 1.6);
        self.x.0[TREND] = self.x.0[TREND].clamp(-0.5, 0.5);
        for i in 0..N {
            self.doubt[i][i] = self.doubt[i][i].max(1e-9);
        }
    }

    /// Deviation of the forecast after `s` seconds of this heat, from the filter's own doubt.
    pub(super) fn deviation(&self, heat: Heat, s: f64) -> f64 {
        let f = self.transition(heat, s);
        let g: Vector = std::array::from_fn(|k| f[FAST][k] + f[SLOW][k] + f[AIR][k]);
        let mut sum = 0.0;
        for i in 0..N {
            for j in 0..N {
                sum += g[i] * self.doubt[i][j] * g[j];
            }
        }
        sum.max(0.0).sqrt()
    }
}

#[cfg(test)]
mod tests;
