//! The boards that are simulated, and what befalls them in an hour.

use super::plant::{Around, Parts, Plant, Sensor};

/// The junction must never be hotter.
pub(crate) const LIMIT_C: f64 = 85.0;

/// How work arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Always more than can be done.
    Saturating,
    /// In bursts of some seconds to some minutes, with pauses between.
    Bursts,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The cabinet warms up by 8 °C within a quarter of an hour.
    WarmCabinet,
    /// The fan stops for good.
    FanFails,
    /// The sensor sticks, or is gone, for five minutes.
    SensorBlocked,
    /// The firmware caps the frequency for a quarter of an hour.
    FrequencyCapped,
}

/// A kind of board in a kind of hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board {
    pub(crate) name: &'static str,
    parts: fn() -> Parts,
    air_c: f64,
    /// Its power can be read.
    pub(crate) rail: bool,
    pub(crate) load: Load,
    pub(crate) trouble: Trouble,
}

fn fanless() -> Parts {
    Parts {
        capacity: [1.5, 10.0, 110.0, 350.0],
        resistance: [1.6, 1.0, 3.5, 1.5],
        idle_w: 1.2,
        work_w: 6.5,
        leak_w: 0.5,
        fan: 0.0,
    }
}

fn jetson_15w() -> Parts {
    Parts {
        capacity: [3.0, 30.0, 160.0, 900.0],
        resistance: [0.6, 0.35, 2.4, 0.5],
        idle_w: 3.0,
        work_w: 11.0,
        leak_w: 0.8,
        fan: 0.25,
    }
}

fn jetson_25w() -> Parts {
    Parts {
        capacity: [4.0, 35.0, 250.0, 1200.0],
        resistance: [0.5, 0.25, 1.6, 0.3],
        idle_w: 4.0,
        work_w: 20.0,
        leak_w: 1.2,
        fan: 0.3,
    }
}

const fn board(name: &'static str, parts: fn() -> Parts, air_c: f64, rail: bool) -> Board {
    Board {
        name,
        parts,
        air_c,
        rail,
        load: Load::Saturating,
        trouble: Trouble::None,
    }
}

pub(crate) const BOARDS: [Board; 9] = [
    board("fanless ARM", fanless, 38.0, false),
    Board {
        load: Load::Bursts,
        ..board("fanless ARM, bursts", fanless, 42.0, false)
    },
    board("Jetson at 15 W", jetson_15w, 45.0, true),
    board("Jetson at 25 W", jetson_25w, 40.0, true),
    Board {
        load: Load::Bursts,
        ..board("Jetson at 25 W, bursts", jetson_25w, 45.0, true)
    },
    Board {
        trouble: Trouble::WarmCabinet,
        ..board("cabinet + 8 °C", jetson_15w, 40.0, true)
    },
    Board {
        trouble: Trouble::FanFails,
        ..board("fan fails", jetson_25w, 40.0, true)
    },
    Board {
        trouble: Trouble::FrequencyCapped,
        ..board("frequency capped", fanless, 42.0, false)
    },
    Board {
        trouble: Trouble::SensorBlocked,
        ..board("sensor blocked", fanless, 38.0, false)
    },
];

/// One board of its kind, with its own deviations, and its hour.
#[derive(Clone, Debug)]
pub(crate) struct Hour {
    pub(crate) board: Board,
    pub(crate) seed: u64,
    pub(crate) seconds: usize,
    parts: Parts,
    air_c: f64,
    quantum_c: f64,
    lag_s: f64,
    /// Work that arrives in each second; the engine does one in a second at its best.
    arrivals: Vec<f64>,
}

/// How far each part of a board is from its kind.
pub(crate) const DEVIATION: f64 = 0.25;

impl Hour {
    pub(crate) fn new(board: Board, seed: u64, seconds: usize) -> Self {
        let mut dice = fastrand::Rng::with_seed(0x5eed_0000 + seed);
        let mut vary = |value: f64| value * (1.0 + DEVIATION * (2.0 * dice.f64() - 1.0));
        let kind = (board.parts)();
        let parts = Parts {
            capacity: kind.capacity.map(&mut vary),
            resistance: kind.resistance.map(&mut vary),
            idle_w: vary(kind.idle_w),
            work_w: vary(kind.work_w),
            leak_w: vary(kind.leak_w),
            fan: vary(kind.fan),
        };
        let lag_s = vary(1.0);
        let air_c = board.air_c + 2.0 * (2.0 * dice.f64() - 1.0);
        let arrivals = match board.load {
            Load::Saturating => Vec::new(),
            Load::Bursts => bursts(seconds, &mut dice),
        };
        let quantum_c = if seed.is_multiple_of(2) { 1.0 } else { 0.1 };
        Self {
            board,
            seed,
            seconds,
            parts,
            air_c,
            quantum_c,
            lag_s,
            arrivals,
        }
    }

    /// Work that is there in this second, with what was left over.
    pub(crate) fn waiting(&self, left: f64, second: usize) -> f64 {
        match self.board.load {
            Load::Saturating => 2.0,
            Load::Bursts => left + self.arrivals[second],
        }
    }

    pub(crate) fn around(&self, second: usize) -> Around {
        let minutes = second as f64 / self.seconds as f64 * 60.0;
        let warmed = if self.board.trouble == Trouble::WarmCabinet {
            8.0 * ((minutes - 20.0) / 15.0).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let capped = (20.0..35.0).contains(&minutes);
        Around {
            // A hall breathes a little.
            air_c: self.air_c + warmed + 0.5 * (second as f64 / 200.0).sin(),
            fan: !(self.board.trouble == Trouble::FanFails && minutes >= 25.0),
            cap: if self.board.trouble == Trouble::FrequencyCapped && capped {
                0.6
            } else {
                1.0
            },
        }
    }

    /// Since when the sensor has been blocked, in seconds.
    pub(crate) fn blocked(&self, second: usize) -> Option<usize> {
        let from = self.seconds * 25 / 60;
        let blocked = self.board.trouble == Trouble::SensorBlocked;
        (blocked && (from..from + 300).contains(&second)).then(|| second - from)
    }

    /// The sensor sticks at its last value; or else it is gone.
    pub(crate) fn sticks(&self) -> bool {
        self.seed.is_multiple_of(3)
    }

    pub(crate) fn plant(&self) -> Plant {
        Plant::idle(self.parts.clone(), &self.around(0))
    }

    pub(crate) fn sensor(&self, celsius: f64) -> Sensor {
        Sensor::new(self.lag_s, 0.2, self.quantum_c, celsius)
    }
}

fn bursts(seconds: usize, dice: &mut fastrand::Rng) -> Vec<f64> {
    let mut arrivals = Vec::with_capacity(seconds);
    while arrivals.len() < seconds {
        let long = -(1.0 - dice.f64()).ln();
        let (busy, rate) = ((8.0 + 60.0 * long) as usize, 0.5 + 0.9 * dice.f64());
        arrivals.extend(std::iter::repeat_n(rate, busy));
        let pause = 4.0 - 30.0 * (1.0 - dice.f64()).ln();
        arrivals.extend(std::iter::repeat_n(0.0, pause as usize));
    }
    arrivals.truncate(seconds);
    arrivals
}
