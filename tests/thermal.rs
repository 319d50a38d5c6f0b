//! The governor of heat on simulated boards, in virtual time.
//!
//! The boards are richer than its model, each has its own deviations, and none is told to it. All
//! figures here are exact repetitions of themselves, so goals can be asserted; `tools/bench
//! governor` runs the same for an hour on many seeds and prints the table.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "seconds of an hour"
)]

#[path = "thermal/boards.rs"]
mod boards;
#[path = "thermal/peers.rs"]
#[allow(dead_code)]
mod peers;
#[path = "thermal/plant.rs"]
mod plant;
#[path = "thermal/race.rs"]
#[allow(dead_code)]
mod race;

use std::time::Duration;

use boards::{BOARDS, Board, Hour, LIMIT_C};
use lineside::clock::Mono;
use lineside::governor::thermal::{
    Demand, Level, MAX_REST, Prior, Reading, Sample, Settings, Taken, Thermal, Verdict,
};
use peers::{Lineside, States, StepWise};
use plant::{Plant, STEPS_A_SECOND};
use race::{Outcome, oracle, run};

/// A short hour: long enough that every board reaches its limit.
const SHORT: usize = 1800;

fn board(name: &str) -> Board {
    *BOARDS.iter().find(|board| board.name == name).unwrap()
}

fn govern(hour: &Hour) -> (Outcome, Vec<Verdict>) {
    let mut verdicts = Vec::new();
    let outcome = run(hour, &mut Lineside::new(), |_, governor| {
        verdicts.push(governor.verdict().unwrap().clone());
    });
    (outcome, verdicts)
}

/// On two boards of the kind: never above the limit, and the goals against oracle and kernel.
fn goals(name: &str) {
    let (mut against_oracle, mut against_step_wise) = (Vec::new(), Vec::new());
    for seed in [0, 1] {
        let hour = Hour::new(board(name), seed, SHORT);
        let (outcome, _) = govern(&hour);
        assert!(
            outcome.above_s == 0.0,
            "seed {seed}: {:.2} °C",
            outcome.hottest_c
        );
        against_oracle.push(outcome.work / oracle(&hour).work);
        let mut kernel = StepWise::new(10.0, States::Time);
        against_step_wise.push(outcome.work / run(&hour, &mut kernel, |_, _| ()).work);
    }
    let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
    println!("{name}: {against_oracle:.4?} {against_step_wise:.3?}");
    assert!(
        mean(&against_oracle) >= 0.97,
        "of the oracle's: {against_oracle:.4?}"
    );
    assert!(
        mean(&against_step_wise) >= 1.08,
        "of step-wise: {against_step_wise:.4?}"
    );
}

#[test]
fn a_fanless_board_stays_below_its_limit_and_loses_little() {
    goals("fanless ARM");
}

#[test]
fn a_fanless_board_with_bursts_of_work_stays_below_its_limit_and_loses_little() {
    goals("fanless ARM, bursts");
}

#[test]
fn a_board_at_15_w_stays_below_its_limit_and_loses_little() {
    goals("Jetson at 15 W");
}

#[test]
fn a_board_at_25_w_stays_below_its_limit_and_loses_little() {
    goals("Jetson at 25 W");
}

#[test]
fn a_board_at_25_w_with_bursts_of_work_stays_below_its_limit_and_loses_little() {
    goals("Jetson at 25 W, bursts");
}

#[test]
fn a_cabinet_that_warms_up_is_followed() {
    goals("cabinet + 8 °C");
}

#[test]
fn a_firmware_cap_is_planned_with() {
    goals("frequency capped");
}

#[test]
fn a_fan_that_fails_never_lets_the_board_reach_its_limit() {
    // Against the kernel's law there is nothing to compare here: it leaves the limit behind.
    for seed in [0, 1] {
        let hour = Hour::new(board("fan fails"), seed, SHORT);
        let (outcome, _) = govern(&hour);
        assert!(
            outcome.above_s == 0.0,
            "seed {seed}: {:.2} °C",
            outcome.hottest_c
        );
        let ratio = outcome.work / oracle(&hour).work;
        assert!(ratio >= 0.96, "{ratio:.4}");
    }
}

#[test]
fn a_blocked_sensor_ends_in_a_pause_and_its_return_ends_it() {
    for seed in [0, 1] {
        let hour = Hour::new(board("sensor blocked"), seed, SHORT);
        let (outcome, verdicts) = govern(&hour);
        assert!(
            outcome.above_s == 0.0,
            "seed {seed}: {:.2} °C",
            outcome.hottest_c
        );
        let blocked: Vec<usize> = (0..SHORT)
            .filter(|second| hour.blocked(*second).is_some())
            .collect();
        let last = *blocked.last().unwrap();
        assert_eq!(verdicts[last].level, Level::Critical);
        assert_eq!(verdicts[last].taken, Taken::Nobody);
        assert!(verdicts[last].retry_after.is_some());
        assert!(
            verdicts[last + 60].level < Level::Critical,
            "{:?}",
            verdicts[last + 60]
        );
        assert!(
            verdicts[SHORT - 1].duty_permille > 300,
            "{:?}",
            verdicts[SHORT - 1]
        );
    }
}

#[test]
fn in_steady_state_nothing_oscillates() {
    for (name, seed) in [
        ("fanless ARM", 0),
        ("Jetson at 15 W", 1),
        ("Jetson at 25 W", 2),
    ] {
        let hour = Hour::new(board(name), seed, 3600);
        let (outcome, verdicts) = govern(&hour);
        let steady = 2400..3600;
        let shares = &outcome.share[steady.clone()];
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let square = |share: &f64| (share - mean) * (share - mean);
        let deviation = (shares.iter().map(square).sum::<f64>() / shares.len() as f64).sqrt();
        assert!(deviation < 0.04, "{name}: {deviation:.4} about {mean:.3}");
        let steps = shares.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        assert!(steps.fold(0.0, f64::max) < 0.06, "{name}");
        let changes = verdicts[steady]
            .iter()
            .filter(|v| v.change.is_some())
            .count();
        assert!(changes <= 2, "{name}: {changes} changes in twenty minutes");
    }
}

#[test]
fn rests_are_short_however_hot_it_is() {
    let hour = Hour::new(board("fan fails"), 3, SHORT);
    for pass_ms in [5, 60, 250] {
        let pass = Duration::from_millis(pass_ms);
        let mut governor = Lineside::new();
        governor.pass = Some(pass);
        let mut slowest = 1000;
        let outcome = run(&hour, &mut governor, |_, governor| {
            let verdict = governor.verdict().unwrap();
            if verdict.sequences_permille > 0 {
                assert!(
                    pass * u32::from(verdict.rest_permille) / 1000 <= MAX_REST,
                    "{verdict:?}"
                );
                assert!(
                    verdict.threads_permille > 0 && verdict.duty_permille > 0,
                    "{verdict:?}"
                );
                slowest = slowest.min(verdict.duty_permille);
            } else {
                assert_eq!(verdict.level, Level::Critical);
            }
        });
        assert!(
            outcome.above_s == 0.0,
            "{pass_ms} ms: {:.2} °C",
            outcome.hottest_c
        );
        assert!(slowest < 700, "the fan's failure must slow it: {slowest}");
    }
}

#[test]
fn a_cap_is_neither_paced_twice_nor_wound_up_against() {
    let hour = Hour::new(board("frequency capped"), 3, 3600);
    let (outcome, verdicts) = govern(&hour);
    let capped = |minute: usize| hour.around(minute * 60).cap < 1.0;
    assert!(!capped(19) && capped(21) && !capped(36));
    // What the cap leaves is cool enough to be used in full.
    let used: f64 = outcome.done[22 * 60..34 * 60].iter().sum();
    assert!(used / (12.0 * 60.0 * 0.6) > 0.97, "{used}");
    // When it goes, the share falls at once: nothing has been saved up.
    let after = &verdicts[35 * 60 + 60];
    assert!(
        after.duty_permille < verdicts[34 * 60].duty_permille,
        "{after:?}"
    );
    assert!(outcome.above_s == 0.0);
}

#[test]
fn a_prior_that_is_wrong_by_far_wastes_work_and_keeps_the_limit() {
    for (rise, span) in [(0.3, 1.0), (3.0, 1.0), (1.0, 0.3), (1.0, 3.0), (0.2, 3.0)] {
        let usual = Prior::default();
        let settings = Settings {
            prior: Prior {
                fast_rise_c: usual.fast_rise_c * rise,
                slow_rise_c: usual.slow_rise_c * rise,
                fast_s: usual.fast_s * span,
                slow_s: usual.slow_s * span,
                doubt: 0.2,
                full_w: usual.full_w,
            },
        };
        for name in ["fanless ARM, bursts", "Jetson at 25 W"] {
            let hour = Hour::new(board(name), 1, SHORT);
            let outcome = run(&hour, &mut Lineside::with(&settings), |_, _| ());
            let hottest = outcome.hottest_c;
            assert!(
                outcome.above_s == 0.0,
                "{name}, rise {rise}, span {span}: {hottest:.2} °C"
            );
        }
    }
}

/// A board under the governor, sampled when the test wants.
struct Bench {
    plant: Plant,
    hour: Hour,
    thermal: Thermal,
    at_s: f64,
    share: f64,
    hottest_c: f64,
    dice: fastrand::Rng,
}

impl Bench {
    fn new(name: &str, seed: u64) -> Self {
        let hour = Hour::new(board(name), seed, SHORT);
        Self {
            plant: hour.plant(),
            thermal: Thermal::new(&Settings::default()),
            at_s: 0.0,
            share: 0.0,
            hottest_c: 0.0,
            dice: fastrand::Rng::with_seed(seed),
            hour,
        }
    }

    /// So many steps at the present pace, with this share of it used; then a sample.
    fn sample(&mut self, steps: usize, used: f64, change: impl Fn(&mut Sample)) -> Verdict {
        let around = self.hour.around(0);
        for _ in 0..steps {
            self.plant.step(self.share * used, 1.0, &around);
            self.hottest_c = self.hottest_c.max(self.plant.hottest());
        }
        self.at_s += steps as f64 / STEPS_A_SECOND as f64;
        let mut sample = Sample {
            reading: Some(Reading {
                celsius: self.plant.hottest() + 0.3 * (self.dice.f64() - 0.5),
                limit_celsius: LIMIT_C,
                sound: true,
            }),
            load: self.share * used,
            watts: None,
            frequency: 1.0,
            pass: None,
            demand: None,
        };
        change(&mut sample);
        let now = Mono(Duration::from_secs_f64(self.at_s));
        let verdict = self.thermal.on_sample(&sample, now);
        let rest = f64::from(verdict.rest_permille) / 1000.0;
        self.share = f64::from(verdict.threads_permille) / 1000.0 / (1.0 + rest);
        if verdict.sequences_permille == 0 {
            self.share = 0.0;
        }
        verdict
    }

    fn run(&mut self, seconds: usize) -> Verdict {
        let mut last = None;
        for _ in 0..seconds {
            last = Some(self.sample(STEPS_A_SECOND, 1.0, |_| ()));
        }
        last.unwrap()
    }
}

#[test]
fn samples_that_come_late_or_in_bursts_or_without_a_reading_do_no_harm() {
    let mut bench = Bench::new("fanless ARM", 5);
    let mut order = fastrand::Rng::with_seed(5);
    while bench.at_s < 1500.0 {
        let steps = match order.u8(0..10) {
            0 => 0,
            1 | 2 => 1,
            3 => 40,
            4 => order.usize(5..25),
            _ => STEPS_A_SECOND,
        };
        let blind = order.u8(0..8) == 0;
        bench.sample(steps, 1.0, |sample| {
            if blind {
                sample.reading = None;
            }
        });
    }
    assert!(bench.hottest_c < LIMIT_C, "{:.2} °C", bench.hottest_c);
    assert!(
        bench.hottest_c > LIMIT_C - 3.0,
        "it was to come near: {:.2} °C",
        bench.hottest_c
    );
}

#[test]
fn one_reading_that_cannot_be_stops_nothing() {
    let mut bench = Bench::new("fanless ARM", 1);
    let before = bench.run(600);
    for wrong in [120.0, -40.0, f64::NAN] {
        let verdict = bench.sample(STEPS_A_SECOND, 1.0, |sample| {
            sample.reading.as_mut().unwrap().celsius = wrong;
        });
        assert!(verdict.level < Level::Critical, "{wrong}: {verdict:?}");
        bench.run(30);
    }
    let after = bench.run(1);
    let moved = i32::from(after.duty_permille) - i32::from(before.duty_permille);
    assert!(moved.abs() < 120, "{before:?} {after:?}");
    assert!(bench.hottest_c < LIMIT_C, "{:.2} °C", bench.hottest_c);
}

#[test]
fn a_board_that_is_too_hot_pauses_says_for_how_long_and_goes_on() {
    let mut bench = Bench::new("fanless ARM", 1);
    bench.run(900);
    // Something else on the board makes it hot.
    bench.plant.celsius = [LIMIT_C + 3.0, LIMIT_C + 2.0, LIMIT_C, LIMIT_C - 14.0];
    bench.run(5);
    let paused = bench.run(1);
    assert_eq!(paused.level, Level::Critical);
    assert_eq!(
        (paused.sequences_permille, paused.taken),
        (0, Taken::Nobody)
    );
    let promised = paused.retry_after.unwrap().as_secs_f64();
    let from = bench.at_s;
    let mut changes = 0;
    loop {
        let verdict = bench.run(1);
        changes += usize::from(verdict.change.is_some());
        if verdict.level < Level::Critical {
            assert_eq!(verdict.level, Level::Hot, "one level at a time");
            assert!(verdict.retry_after.is_none());
            break;
        }
        assert!(bench.at_s - from < 600.0, "it never came back");
    }
    let took = bench.at_s - from;
    assert!(
        took / promised < 2.5 && promised / took < 2.5,
        "{promised} s were {took} s"
    );
    assert!(
        bench.plant.hottest() <= LIMIT_C - 4.0,
        "hysteresis: {:?}",
        bench.plant.celsius
    );
    assert_eq!(changes, 1);
    // It comes back to work for good.
    let mut pauses = 0;
    for _ in 0..600 {
        pauses += usize::from(bench.run(1).level == Level::Critical);
    }
    assert_eq!(pauses, 0);
}

#[test]
fn without_any_reading_the_engine_slows_down_and_then_stands_still() {
    let mut bench = Bench::new("fanless ARM", 1);
    let before = bench.run(900);
    let blind = |sample: &mut Sample| sample.reading = None;
    let soon = bench.sample(STEPS_A_SECOND, 1.0, blind);
    assert!(
        soon.duty_permille + 60 >= before.duty_permille,
        "one gap is nothing"
    );
    let mut shares = vec![bench.share];
    for _ in 0..400 {
        bench.sample(STEPS_A_SECOND, 1.0, blind);
        shares.push(bench.share);
    }
    assert!(
        shares[30] < shares[0] && shares[60] < shares[30],
        "{:?}",
        &shares[..61]
    );
    assert!(shares[400] <= 0.0, "{}", shares[400]);
    assert!(bench.hottest_c < LIMIT_C);
}

#[test]
fn low_priority_is_shed_before_anything_is_slowed_where_that_is_enough() {
    let mut bench = Bench::new("fanless ARM", 1);
    let (mut shed, mut slowed, mut taken) = (0, 0, Taken::All);
    for _ in 0..2400 {
        // All of it is more than the board can carry; without low priority it is not.
        let low = if taken == Taken::All { 0.4 } else { 0.0 };
        let asked = 0.35 + low;
        let used = if bench.share > 0.0 {
            (asked / bench.share).min(1.0)
        } else {
            0.0
        };
        let verdict = bench.sample(STEPS_A_SECOND, used, |sample| {
            sample.demand = Some(Demand {
                high: 0.15,
                normal: 0.2,
                low: 0.4,
            });
        });
        taken = verdict.taken;
        assert!(
            verdict.taken <= Taken::NormalAndHigh,
            "normal and high priority have room"
        );
        shed += usize::from(verdict.taken == Taken::NormalAndHigh);
        slowed += usize::from(bench.share < asked - 0.01);
    }
    assert!(shed > 1000, "{shed}");
    assert!(
        slowed < 60,
        "{slowed} seconds in which those who stay were slowed"
    );
}
