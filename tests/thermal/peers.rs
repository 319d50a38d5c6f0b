//! Who governs a board: lineside's governor, the laws that others use, and an oracle.

use std::time::Duration;

use lineside::clock::Mono;
use lineside::governor::thermal::{Reading, Sample, Settings, Thermal, Verdict};

use super::boards::{Hour, LIMIT_C};
use super::plant::{Plant, STEPS_A_SECOND};

/// What a controller can know, once a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) second: usize,
    /// What the sensor shows; while it is blocked, its last value and the doubt.
    pub(crate) celsius: f64,
    pub(crate) sound: bool,
    /// Work done in the last second.
    pub(crate) load: f64,
    pub(crate) watts: Option<f64>,
    pub(crate) cap: f64,
}

/// What it wants for the next second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wants {
    /// Share of time and threads.
    pub(crate) share: f64,
    /// Its own bound on the frequency.
    pub(crate) frequency: f64,
}

pub(crate) trait Controller {
    fn decide(&mut self, seen: &Seen, truth: &Truth<'_>) -> Wants;
    /// What lineside's governor said last; nobody else says anything.
    fn verdict(&self) -> Option<&Verdict> {
        None
    }
}

/// What only an oracle may look at.
pub(crate) struct Truth<'a> {
    pub(crate) plant: &'a Plant,
    pub(crate) hour: &'a Hour,
    /// Work that is there to be done in the next second.
    pub(crate) waiting: f64,
}

/// lineside's governor.
pub(crate) struct Lineside {
    thermal: Thermal,
    verdict: Option<Verdict>,
    pub(crate) pass: Option<Duration>,
}

impl Lineside {
    /// Told nothing about the board.
    pub(crate) fn new() -> Self {
        Self::with(&Settings::default())
    }

    pub(crate) fn with(settings: &Settings) -> Self {
        Self {
            thermal: Thermal::new(settings),
            verdict: None,
            pass: Some(Duration::from_millis(60)),
        }
    }
}

impl Controller for Lineside {
    fn decide(&mut self, seen: &Seen, _: &Truth<'_>) -> Wants {
        let sample = Sample {
            reading: Some(Reading {
                celsius: seen.celsius,
                limit_celsius: LIMIT_C,
                sound: seen.sound,
            }),
            load: seen.load,
            watts: seen.watts,
            frequency: seen.cap,
            pass: self.pass,
            demand: None,
        };
        let now = Mono(Duration::from_secs(seen.second as u64));
        let verdict = self.thermal.on_sample(&sample, now);
        let share = if verdict.sequences_permille == 0 {
            0.0
        } else {
            // As the engine does it: a pass, then its rest.
            let rest = f64::from(verdict.rest_permille) / 1000.0;
            f64::from(verdict.threads_permille) / 1000.0 / (1.0 + rest)
        };
        self.verdict = Some(verdict);
        Wants {
            share,
            frequency: 1.0,
        }
    }

    fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }
}

/// On and off: off at one temperature, on again at another.
pub(crate) struct OnOff {
    off_at_c: f64,
    on_at_c: f64,
    on: bool,
}

impl OnOff {
    /// Trips at the limit, and runs again a degree below.
    pub(crate) fn trip() -> Self {
        Self {
            off_at_c: LIMIT_C,
            on_at_c: LIMIT_C - 1.0,
            on: true,
        }
    }

    /// The usual margin: rests from 5 °C below the limit down to 15 °C below.
    pub(crate) fn hysteresis() -> Self {
        Self {
            off_at_c: LIMIT_C - 5.0,
            on_at_c: LIMIT_C - 15.0,
            on: true,
        }
    }
}

impl Controller for OnOff {
    fn decide(&mut self, seen: &Seen, _: &Truth<'_>) -> Wants {
        if seen.celsius >= self.off_at_c {
            self.on = false;
        } else if seen.celsius <= self.on_at_c {
            self.on = true;
        }
        Wants {
            share: f64::from(u8::from(self.on)),
            frequency: 1.0,
        }
    }
}

/// What a state of a cooling device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum States {
    /// Work and heat fall alike, as they do when time is taken away.
    Time,
    /// The frequency falls, and the voltage with it: heat falls more than work.
    Frequency,
}

/// The kernel's `step_wise`: one state more while it is above the trip and rising, one state less
/// while it is below and falling.
pub(crate) struct StepWise {
    trip_c: f64,
    states: States,
    state: i32,
    last_c: Option<f64>,
}

/// States of a cooling device, as a processor with eight frequencies has them: down to 0.3.
const DEEPEST: i32 = 7;

impl StepWise {
    pub(crate) fn new(below_c: f64, states: States) -> Self {
        Self {
            trip_c: LIMIT_C - below_c,
            states,
            state: 0,
            last_c: None,
        }
    }
}

impl Controller for StepWise {
    fn decide(&mut self, seen: &Seen, _: &Truth<'_>) -> Wants {
        let last = self.last_c.replace(seen.celsius).unwrap_or(seen.celsius);
        let throttle = seen.celsius >= self.trip_c;
        if throttle && seen.celsius > last {
            self.state = (self.state + 1).min(DEEPEST);
        } else if !throttle && seen.celsius < last {
            self.state = (self.state - 1).max(0);
        }
        slowed(1.0 - 0.1 * f64::from(self.state), self.states)
    }
}

fn slowed(share: f64, states: States) -> Wants {
    match states {
        States::Time => Wants {
            share,
            frequency: 1.0,
        },
        States::Frequency => Wants {
            share: 1.0,
            frequency: share,
        },
    }
}

/// The kernel's `power_allocator`: a PI controller about a sustainable power, its integral cut off
/// above the trip, its proportional gain twice as high below as above. It is told the sustainable
/// power of the board's kind, as a device tree would.
pub(crate) struct Allocator {
    control_c: f64,
    states: States,
    integral: f64,
}

/// Share of capacity that a device tree would call sustainable.
const SUSTAINABLE: f64 = 0.6;
/// Degrees between switching on and the temperature that is controlled.
const SWITCH_ON_C: f64 = 10.0;

impl Allocator {
    pub(crate) fn new(below_c: f64, states: States) -> Self {
        Self {
            control_c: LIMIT_C - below_c,
            states,
            integral: 0.0,
        }
    }
}

impl Controller for Allocator {
    fn decide(&mut self, seen: &Seen, _: &Truth<'_>) -> Wants {
        let error = self.control_c - seen.celsius;
        if error > SWITCH_ON_C {
            self.integral = 0.0;
            return slowed(1.0, self.states);
        }
        let above = SUSTAINABLE / SWITCH_ON_C;
        let gain = if error < 0.0 { above } else { 2.0 * above };
        if error < 0.0 || self.integral < 0.0 {
            self.integral = (self.integral + above / 10.0 * error).clamp(-1.0, 1.0);
        }
        let share = SUSTAINABLE + gain * error + self.integral;
        // The frequency nearest below that needs no more.
        slowed(((share * 10.0).floor() / 10.0).clamp(0.3, 1.0), self.states)
    }
}

/// Knows the true board with its state, the air, the fan, the cap and the work of the seconds to
/// come, without noise, and picks the largest share that, held for some seconds, stays at or below
/// the limit throughout. It is greedy: where the junction is the hottest node that is the best
/// there is but for leakage, because warming up later gives nothing back. How many seconds are
/// best differs; the race counts the best of several.
pub(crate) struct Oracle {
    /// For how many seconds a share is held when it is judged.
    pub(crate) hold: usize,
}

impl Controller for Oracle {
    fn decide(&mut self, seen: &Seen, truth: &Truth<'_>) -> Wants {
        let exceeds = |share: f64| {
            let mut plant = truth.plant.clone();
            let mut waiting = truth.waiting;
            let mut most = f64::NEG_INFINITY;
            for second in seen.second..(seen.second + self.hold).min(truth.hour.seconds) {
                let around = truth.hour.around(second);
                if second > seen.second {
                    waiting = truth.hour.waiting(waiting, second);
                }
                let work = (share * around.cap).min(waiting);
                waiting -= work;
                for _ in 0..STEPS_A_SECOND {
                    plant.step(work, around.cap, &around);
                    most = most.max(plant.hottest());
                }
            }
            most - LIMIT_C
        };
        let share = if exceeds(1.0) <= 0.0 {
            1.0
        } else {
            // Nearly a straight line between two points: regula falsi, then halves.
            let (mut fits, mut over) = ((0.0, exceeds(0.0)), (1.0, exceeds(1.0)));
            for i in 0..10 {
                let half = f64::midpoint(fits.0, over.0);
                let line = fits.0 + (over.0 - fits.0) * fits.1 / (fits.1 - over.1);
                let next = if i % 2 == 0 && fits.1 < 0.0 {
                    line
                } else {
                    half
                };
                match exceeds(next) {
                    above if above > 0.0 => over = (next, above),
                    above => fits = (next, above),
                }
                if fits.1 > -1e-3 || over.0 - fits.0 < 5e-4 {
                    break;
                }
            }
            fits.0
        };
        Wants {
            share,
            frequency: 1.0,
        }
    }
}
