use std::sync::Arc;

use super::sysfs::text::{Resident, Spent};
use super::sysfs::{Cgroup, Limits, Memory, Process, Thermometer};
use super::*;

const GIB: u64 = 1 << 30;
const PID: u32 = 42;

fn governor() -> Governor {
    Governor::new(Settings {
        rules: Rules {
            limit_celsius: 85.0,
            sensors: Vec::new(),
        },
        thermal: thermal::Settings::default(),
        sequences: 8,
    })
}

/// A board at this temperature, with this much memory left.
fn readings(celsius: Option<f64>, available_bytes: u64, taken: Mono) -> Readings {
    #[expect(clippy::cast_possible_truncation, reason = "a temperature")]
    let raw = |celsius: f64| (celsius * 1000.0) as i64;
    let thermometer = |celsius| Thermometer {
        name: Arc::from("cpu-thermal"),
        raw: Ok(raw(celsius)),
        limits: Limits::default(),
    };
    Readings {
        taken,
        thermometers: celsius.map(thermometer).into_iter().collect(),
        memory: Memory {
            total_bytes: Some(4 * GIB),
            available_bytes: Some(available_bytes),
            ..Memory::default()
        },
        ..Readings::default()
    }
}

/// A second after the other.
struct Bench {
    governor: Governor,
    now: Mono,
}

impl Bench {
    fn new() -> Self {
        Self {
            governor: governor(),
            now: Mono::default(),
        }
    }

    fn second(&mut self, celsius: Option<f64>, available_bytes: u64) -> Effects {
        self.now = self.now.after(TICK);
        let readings = readings(celsius, available_bytes, self.now);
        self.governor.on_readings(&readings, &[], self.now)
    }

    fn seconds(&mut self, count: u32, celsius: Option<f64>, available_bytes: u64) -> Effects {
        let mut last = self.second(celsius, available_bytes);
        for _ in 1..count {
            last = self.second(celsius, available_bytes);
        }
        last
    }
}

#[test]
fn a_cool_board_with_memory_allows_everything_and_says_nothing() {
    let effects = Bench::new().seconds(30, Some(45.0), 2 * GIB);
    assert_eq!(effects.allowance.state, Level::Nominal);
    assert_eq!(effects.allowance.taken, Taken::All);
    assert_eq!(effects.allowance.rest_permille, 0);
    assert_eq!(effects.allowance.seats, None);
    assert!(effects.allowance.keeps_beginnings);
    assert!(effects.changes.is_empty() && effects.allowance.why.is_empty());
    let forecast = effects.allowance.forecast.expect("there is a sensor");
    assert!((forecast.celsius - 45.0).abs() < 0.1, "{forecast:?}");
    assert!((forecast.limit_celsius - 85.0).abs() < 0.1, "{forecast:?}");
}

#[test]
fn at_the_limit_the_engine_is_paused_and_who_comes_is_told_that_it_is_the_heat() {
    let mut bench = Bench::new();
    bench.seconds(20, Some(84.0), 2 * GIB);
    let effects = bench.seconds(5, Some(86.0), 2 * GIB);
    let allowance = effects.allowance;
    assert_eq!(allowance.state, Level::Critical);
    assert_eq!(
        (allowance.taken, allowance.cause),
        (Taken::Nobody, Some(Cause::Heat))
    );
    assert_eq!(allowance.seats, Some(0));
    assert!(allowance.retry_after > Duration::ZERO);
    assert!(allowance.why.contains("critical"), "{}", allowance.why);
}

#[test]
fn a_machine_without_sensors_is_governed_by_its_memory_alone() {
    let mut bench = Bench::new();
    let effects = bench.seconds(10, None, 2 * GIB);
    assert_eq!(effects.allowance, Allowance::default());
    let effects = bench.seconds(30, None, 8 << 20);
    let allowance = effects.allowance;
    assert_eq!(
        (allowance.taken, allowance.cause),
        (Taken::Nobody, Some(Cause::Memory))
    );
    assert_eq!(allowance.state, Level::Critical);
    assert!(!allowance.keeps_beginnings);
    assert!(allowance.why.contains("memory"), "{}", allowance.why);
}

#[test]
fn memory_that_runs_short_gives_up_step_by_step_and_each_step_is_one_line() {
    let mut bench = Bench::new();
    bench.seconds(5, Some(45.0), 2 * GIB);
    let mut lines = Vec::new();
    for _ in 0..60 {
        lines.extend(bench.second(Some(45.0), 80 << 20).changes);
    }
    assert!((1..=4).contains(&lines.len()), "{lines:?}");
    assert!(
        lines.iter().all(|line| line.starts_with("memory: ")),
        "{lines:?}"
    );
}

#[test]
fn readings_that_grow_old_count_as_hotter_until_nothing_runs() {
    let mut bench = Bench::new();
    bench.seconds(10, Some(70.0), 2 * GIB);
    let old = readings(Some(70.0), 2 * GIB, bench.now);
    let mut last = None;
    for _ in 0..600 {
        bench.now = bench.now.after(TICK);
        last = Some(bench.governor.on_readings(&old, &[], bench.now));
    }
    let allowance = last.expect("ten minutes have seconds").allowance;
    assert_eq!(allowance.taken, Taken::Nobody, "{allowance:?}");
}

#[test]
fn the_engines_share_of_its_threads_is_told_from_its_processor_time() {
    let mut work = Work::default();
    let engines = [Engine {
        pid: PID,
        threads: Some(2),
    }];
    let spent = |cpu_ticks| Readings {
        processes: vec![Process {
            pid: PID,
            spent: Spent {
                cpu_ticks,
                started_ticks: 7,
            },
            resident: Resident::default(),
        }],
        ..Readings::default()
    };
    let at = |seconds| Mono(Duration::from_secs(seconds));
    assert!(
        work.busy(&spent(0), &engines, at(1)).abs() < 1e-9,
        "nothing to compare with"
    );
    // One second of processor time in two, of two threads.
    let busy = work.busy(&spent(TICKS_PER_S), &engines, at(3));
    assert!((busy - 0.25).abs() < 1e-9, "{busy}");
    let other = Engine {
        pid: PID,
        threads: None,
    };
    assert!(work.busy(&spent(2 * TICKS_PER_S), &[other], at(4)).abs() < 1e-9);
}

#[test]
fn what_others_take_in_the_group_counts_as_well() {
    let group = Cgroup {
        max_bytes: Some(GIB),
        current_bytes: Some(GIB - (1 << 20)),
        ..Cgroup::default()
    };
    let mut governor = governor();
    let mut last = Allowance::default();
    for second in 1..30 {
        let now = Mono(Duration::from_secs(second));
        let readings = Readings {
            cgroup: Some(group),
            ..readings(None, 2 * GIB, now)
        };
        last = governor.on_readings(&readings, &[], now).allowance;
    }
    assert_eq!(last.cause, Some(Cause::Memory), "{last:?}");
}
