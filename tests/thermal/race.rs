//! One controller on one board for one hour.

use super::boards::{Hour, LIMIT_C};
use super::peers::{Controller, Oracle, Seen, Truth};
use super::plant::{STEP_S, STEPS_A_SECOND};

/// Seconds after which a sensor that sticks is found out.
const FOUND_OUT_S: usize = 10;
/// From then on it counts as hotter by so much a second.
const HOTTER_C_PER_S: f64 = 0.1;

/// Seconds that oracles hold a share for.
const HOLDS: [usize; 3] = [1, 2, 4];

/// How it went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Seconds in which the junction was above the limit.
    pub(crate) above_s: f64,
    pub(crate) hottest_c: f64,
    /// Work done: seconds of the whole engine.
    pub(crate) work: f64,
    /// Per second: highest temperature of the junction, work done.
    pub(crate) celsius: Vec<f64>,
    pub(crate) done: Vec<f64>,
    /// What was wanted, per second.
    pub(crate) share: Vec<f64>,
}

pub(crate) fn run(
    hour: &Hour,
    controller: &mut dyn Controller,
    mut each: impl FnMut(usize, &dyn Controller),
) -> Outcome {
    let mut plant = hour.plant();
    let mut sensor = hour.sensor(plant.hottest());
    let mut dice = fastrand::Rng::with_seed(hour.seed);
    let mut outcome = Outcome {
        hottest_c: f64::NEG_INFINITY,
        ..Outcome::default()
    };
    let (mut load, mut watts, mut backlog) = (0.0, None, 0.0f64);
    let mut stuck = sensor.shows(&mut dice);
    for second in 0..hour.seconds {
        let around = hour.around(second);
        backlog = hour.waiting(backlog, second);
        let shown = sensor.shows(&mut dice);
        let (celsius, sound) = match hour.blocked(second) {
            None => {
                stuck = shown;
                (shown, true)
            }
            Some(since) => {
                let blind = if hour.sticks() { FOUND_OUT_S } else { 0 };
                let doubt = since.saturating_sub(blind) as f64 * HOTTER_C_PER_S;
                (stuck + doubt, since < blind)
            }
        };
        let seen = Seen {
            second,
            celsius,
            sound,
            load,
            watts,
            cap: around.cap,
        };
        let truth = Truth {
            plant: &plant,
            hour,
            waiting: backlog,
        };
        let wants = controller.decide(&seen, &truth);
        each(second, controller);
        let frequency = wants.frequency.min(around.cap);
        let work = (wants.share * frequency).min(backlog);
        backlog -= work;
        let (mut most, mut energy) = (f64::NEG_INFINITY, 0.0);
        for _ in 0..STEPS_A_SECOND {
            energy += plant.step(work, frequency, &around) * STEP_S;
            sensor.step(plant.hottest());
            most = most.max(plant.hottest());
            if plant.hottest() > LIMIT_C + 1e-6 {
                outcome.above_s += STEP_S;
            }
        }
        load = work;
        watts = hour
            .board
            .rail
            .then(|| energy * (1.0 + 0.04 * (dice.f64() - 0.5)));
        outcome.hottest_c = outcome.hottest_c.max(most);
        outcome.work += work;
        outcome.celsius.push(most);
        outcome.done.push(work);
        outcome.share.push(wants.share);
    }
    outcome
}

/// The most that anybody who sees everything does: the best of several oracles.
pub(crate) fn oracle(hour: &Hour) -> Outcome {
    let outcomes = HOLDS.map(|hold| run(hour, &mut Oracle { hold }, |_, _| ()));
    let best = outcomes
        .into_iter()
        .max_by(|a, b| a.work.total_cmp(&b.work));
    best.unwrap_or_default()
}
