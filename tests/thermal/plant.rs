//! A board's physics: richer than the governor's model on purpose.
//!
//! Four nodes in a row (junction, package, sink, enclosure), each with a heat capacity, and the air
//! outside. Leakage grows with the junction's temperature; a fan turns faster as the sink warms up;
//! lower frequencies need less voltage. The sensor lags, is noisy, and shows whole steps.

/// Seconds of a step of the simulation: well below the quickest node's time constant.
pub(crate) const STEP_S: f64 = 1.0 / STEPS_A_SECOND as f64;
pub(crate) const STEPS_A_SECOND: usize = 10;

/// What a board is made of. Watts, kelvins, seconds.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// Heat capacities of junction, package, sink and enclosure, in J/K.
    pub(crate) capacity: [f64; 4],
    /// Thermal resistance from each to the next, the last to the air, in K/W.
    pub(crate) resistance: [f64; 4],
    /// What it draws doing nothing.
    pub(crate) idle_w: f64,
    /// What work adds at full load and full frequency.
    pub(crate) work_w: f64,
    /// Leakage at 60 °C; it grows e-fold in 35 K.
    pub(crate) leak_w: f64,
    /// How much better the sink gets rid of heat at the fan's full speed.
    pub(crate) fan: f64,
}

/// What happens around it at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) air_c: f64,
    /// The fan turns.
    pub(crate) fan: bool,
    /// The highest frequency that the firmware allows.
    pub(crate) cap: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Plant {
    pub(crate) parts: Parts,
    /// Junction, package, sink, enclosure.
    pub(crate) celsius: [f64; 4],
    /// Without its fan a sink that was made for one is that much worse.
    still: f64,
}

/// Voltage squared at this share of the highest frequency, against that at the highest.
pub(crate) fn voltage(frequency: f64) -> f64 {
    (0.65 + 0.35 * frequency).powi(2)
}

impl Plant {
    /// In balance with the air, idle for long.
    pub(crate) fn idle(parts: Parts, around: &Around) -> Self {
        let still = if parts.fan > 0.0 { 2.2 } else { 1.0 };
        let mut plant = Self {
            parts,
            celsius: [around.air_c; 4],
            still,
        };
        for _ in 0..60 {
            let w = plant.watts(0.0, 1.0);
            let mut at = around.air_c;
            for i in (0..4).rev() {
                at += w * plant.resistance(i, around);
                plant.celsius[i] = at;
            }
        }
        plant
    }

    /// The junction: what must not exceed the limit.
    pub(crate) fn hottest(&self) -> f64 {
        self.celsius[0]
    }

    /// Electrical power with so much work at this frequency.
    pub(crate) fn watts(&self, work: f64, frequency: f64) -> f64 {
        let leak = self.parts.leak_w * ((self.celsius[0] - 60.0) / 35.0).exp();
        self.parts.idle_w + leak + self.parts.work_w * work * voltage(frequency)
    }

    fn resistance(&self, i: usize, around: &Around) -> f64 {
        let r = self.parts.resistance[i];
        if i != 2 {
            r
        } else if around.fan {
            let speed = ((self.celsius[2] - 45.0) / 25.0).clamp(0.0, 1.0);
            r / (1.0 + self.parts.fan * speed)
        } else {
            r * self.still
        }
    }

    /// One step with so much work (share of full time, threads and frequency) at this frequency.
    pub(crate) fn step(&mut self, work: f64, frequency: f64, around: &Around) -> f64 {
        let watts = self.watts(work, frequency);
        let mut flow = [watts, 0.0, 0.0, 0.0, 0.0];
        for i in 0..4 {
            let next = if i < 3 {
                self.celsius[i + 1]
            } else {
                around.air_c
            };
            flow[i + 1] = (self.celsius[i] - next) / self.resistance(i, around);
        }
        for i in 0..4 {
            self.celsius[i] += (flow[i] - flow[i + 1]) / self.parts.capacity[i] * STEP_S;
        }
        watts
    }
}

/// A sensor on the junction.
#[derive(Clone, Debug)]
pub(crate) struct Sensor {
    lag_s: f64,
    noise_c: f64,
    quantum_c: f64,
    celsius: f64,
}

impl Sensor {
    pub(crate) fn new(lag_s: f64, noise_c: f64, quantum_c: f64, celsius: f64) -> Self {
        Self {
            lag_s,
            noise_c,
            quantum_c,
            celsius,
        }
    }

    pub(crate) fn step(&mut self, celsius: f64) {
        self.celsius += (celsius - self.celsius) * (1.0 - (-STEP_S / self.lag_s).exp());
    }

    /// What it shows: noise about normal, then whole steps.
    pub(crate) fn shows(&self, dice: &mut fastrand::Rng) -> f64 {
        let sum: f64 = (0..12).map(|_| dice.f64()).sum();
        let noisy = self.celsius + (sum - 6.0) * self.noise_c;
        (noisy / self.quantum_c).round() * self.quantum_c
    }
}
