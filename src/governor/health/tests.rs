use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::sysfs::{CpuTime, Limits, Readings, Thermometer, Unread};
use super::sensor::GROWTH_CELSIUS_PER_S;
use super::*;

/// Sensors whose numbers a test sets, read once a second.
struct World {
    health: Health,
    readings: Readings,
    now: Mono,
    changes: Vec<Change>,
    load: f64,
    busy: f64,
}

impl World {
    fn new(sensors: &[(&str, i64)]) -> Self {
        Self::listed(sensors, &[])
    }

    fn listed(sensors: &[(&str, i64)], listed: &[&str]) -> Self {
        let rules = Rules {
            limit_celsius: 85.0,
            sensors: listed.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut world = Self {
            health: Health::new(rules),
            readings: Readings::default(),
            now: Mono(Duration::from_secs(50)),
            changes: Vec::new(),
            load: 0.1,
            busy: 0.0,
        };
        for (name, raw) in sensors {
            world.set(name, Ok(*raw));
        }
        world
    }

    fn sensor(&mut self, name: &str) -> &mut Thermometer {
        let sensors = &mut self.readings.thermometers;
        let at = sensors.iter().position(|sensor| &*sensor.name == name);
        let at = at.unwrap_or_else(|| {
            sensors.push(Thermometer {
                name: name.into(),
                raw: Ok(0),
                limits: Limits::default(),
            });
            sensors.len() - 1
        });
        &mut sensors[at]
    }

    fn set(&mut self, name: &str, raw: Result<i64, Unread>) {
        self.sensor(name).raw = raw;
    }

    fn remove(&mut self, name: &str) {
        self.readings
            .thermometers
            .retain(|sensor| &*sensor.name != name);
    }

    /// One second later.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small"
    )]
    fn tick(&mut self) -> Heat {
        self.now = self.now.after(Duration::from_secs(1));
        self.busy += self.load * 100.0;
        self.readings.taken = self.now;
        self.readings.cpu = Some(CpuTime {
            busy_ticks: self.busy as u64,
            total_ticks: self.now.0.as_secs() * 100,
        });
        self.judge()
    }

    /// A second in which nobody read anything.
    fn tick_unread(&mut self) -> Heat {
        self.now = self.now.after(Duration::from_secs(1));
        self.judge()
    }

    fn judge(&mut self) -> Heat {
        let effects = self.health.on_readings(&self.readings, self.now);
        self.changes.extend(effects.changes);
        effects.heat
    }

    fn ticks(&mut self, seconds: u32) -> Heat {
        for _ in 1..seconds {
            self.tick();
        }
        self.tick()
    }

    /// Seconds in which these sensors move by a little each second, back and forth.
    fn ticks_with(&mut self, seconds: u32, moving: &[(&str, i64, i64)]) -> Heat {
        for second in 1..=i64::from(seconds) {
            for (name, raw, step) in moving {
                self.set(name, Ok(raw + step * (second % 20)));
            }
            self.tick();
        }
        self.judge()
    }

    fn spot(&self, name: &str) -> Spot {
        let mut spots = self.health.spots(self.now).into_iter();
        spots.find(|spot| &*spot.sensor == name).unwrap()
    }

    fn standing(&self, name: &str) -> Standing {
        self.spot(name).standing
    }

    fn told(&self) -> Vec<(&str, Standing)> {
        self.changes
            .iter()
            .map(|change| (&*change.sensor, change.standing))
            .collect()
    }
}

fn celsius(heat: &Heat) -> f64 {
    heat.spot().unwrap().celsius
}

fn about(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn a_machine_without_sensors_is_unmeasured_and_stays_so() {
    let mut world = World::new(&[]);
    assert_eq!(world.ticks(100), Heat::Unmeasured);
    let mut world = World::new(&[("BAT0", 31_000), ("nvme Composite", 70_000)]);
    assert_eq!(world.ticks(100), Heat::Unmeasured);
    assert!(world.changes.is_empty());
}

#[test]
fn the_sensor_nearest_to_its_limit_governs() {
    let mut world = World::new(&[("cpu-thermal", 61_000), ("gpu-thermal", 64_000)]);
    let Heat::Measured(spot) = world.tick() else {
        panic!("measured");
    };
    assert_eq!(
        (&*spot.sensor, spot.margin_celsius()),
        ("gpu-thermal", 21.0)
    );
    world.sensor("cpu-thermal").limits.passive = Some(70_000);
    let Heat::Measured(spot) = world.tick() else {
        panic!("measured");
    };
    assert_eq!((&*spot.sensor, spot.margin_celsius()), ("cpu-thermal", 9.0));
    assert!(world.changes.is_empty(), "a trusted sensor is no news");
}

#[test]
fn a_limit_is_the_lowest_of_the_sites_and_the_sensors_own() {
    let limit_of = |limits: Limits| {
        let mut world = World::new(&[("cpu-thermal", 50_000)]);
        world.sensor("cpu-thermal").limits = limits;
        world.tick();
        world.spot("cpu-thermal").limit_celsius
    };
    let of = |set: fn(&mut Limits)| {
        let mut limits = Limits::default();
        set(&mut limits);
        limit_of(limits)
    };
    assert!(about(of(|_| ()), 85.0));
    assert!(about(of(|own| own.passive = Some(99_000)), 85.0));
    assert!(about(of(|own| own.passive = Some(70_000)), 70.0));
    assert!(about(of(|own| own.passive = Some(70)), 70.0), "degrees");
    assert!(about(of(|own| own.max = Some(60_000)), 60.0));
    assert!(about(of(|own| own.hot = Some(80_000)), 75.0));
    assert!(about(of(|own| own.critical = Some(90_000)), 80.0));
    assert!(about(of(|own| own.critical = Some(0)), 85.0), "none");
}

#[test]
fn a_lost_sensor_alone_counts_as_hotter_each_second_until_its_limit() {
    let mut world = World::new(&[("cpu-thermal", 60_000)]);
    world.tick();
    world.set("cpu-thermal", Err(Unread::Broken));
    let heat = world.ticks(10);
    assert!(matches!(heat, Heat::Lost(_)));
    assert!(about(celsius(&heat), 60.0 + 10.0 * GROWTH_CELSIUS_PER_S));
    let heat = world.ticks(1000);
    assert!(about(heat.spot().unwrap().margin_celsius(), 0.0));
    let lost = Standing::Lost(Fault::Unreadable(Unread::Broken));
    assert_eq!(world.told(), [("cpu-thermal", lost)], "told once");
    world.set("cpu-thermal", Ok(55_000));
    assert!(about(celsius(&world.tick()), 85.0), "not at the first word");
    assert!(about(celsius(&world.ticks(2)), 55.0));
    world.ticks(8);
    assert_eq!(
        world.told().last(),
        Some(&("cpu-thermal", Standing::Trusted))
    );
}

#[test]
fn whatever_is_lost_ends_at_the_limit() {
    for loss in 0..4 {
        let mut world = World::new(&[("cpu-thermal", 50_000), ("Tboard_tegra", 40_000)]);
        world.ticks(5);
        for name in ["cpu-thermal", "Tboard_tegra"] {
            match loss {
                0 => world.remove(name),
                1 => world.set(name, Err(Unread::Denied)),
                2 => world.set(name, Ok(-274_000)),
                _ => {}
            }
        }
        let mut heat = world.judge();
        for _ in 0..200 {
            heat = if loss == 3 {
                world.tick_unread()
            } else {
                world.tick()
            };
        }
        assert!(matches!(heat, Heat::Lost(_)), "{heat:?}");
        assert!(
            about(heat.spot().unwrap().margin_celsius(), 0.0),
            "{heat:?}"
        );
    }
}

#[test]
fn one_bad_reading_is_no_news_and_hardly_warms() {
    let mut world = World::new(&[("cpu-thermal", 60_000)]);
    world.ticks(5);
    world.set("cpu-thermal", Err(Unread::Busy));
    assert!(celsius(&world.tick()) <= 60.0 + GROWTH_CELSIUS_PER_S);
    world.set("cpu-thermal", Ok(60_100));
    world.ticks(10);
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
    assert!(world.changes.is_empty());
}

#[test]
fn a_restless_sensor_is_told_of_once_a_minute_at_most() {
    let mut world = World::new(&[("cpu-thermal", 60_000)]);
    world.ticks(5);
    for _ in 0..60 {
        world.set("cpu-thermal", Err(Unread::Busy));
        world.ticks(8);
        world.set("cpu-thermal", Ok(60_000));
        world.ticks(10);
    }
    assert!(
        (9..=18).contains(&world.changes.len()),
        "{}",
        world.changes.len()
    );
}

#[test]
fn neighbours_bound_a_lost_sensor_by_what_it_used_to_be_hotter() {
    let mut world = World::new(&[("cpu-thermal", 60_000), ("gpu-thermal", 68_000)]);
    world.ticks(5);
    world.set("gpu-thermal", Err(Unread::Busy));
    world.ticks(300);
    let gpu = world.spot("gpu-thermal");
    assert!(
        about(gpu.celsius, 60.0 + 8.0 + NEIGHBOUR_CELSIUS),
        "{gpu:?}"
    );
    assert!(gpu.counts);
    // The machine cools down, and so does what is presumed of the lost one.
    world.set("cpu-thermal", Ok(45_000));
    world.tick();
    assert!(about(world.spot("gpu-thermal").celsius, 58.0));
}

#[test]
fn the_board_does_not_bound_a_processor_but_the_processor_the_board() {
    let sensors = [("cpu-thermal", 60_000), ("Tboard_tegra", 40_000)];
    let mut world = World::new(&sensors);
    world.ticks(5);
    world.set("Tboard_tegra", Err(Unread::NoData));
    let heat = world.ticks(300);
    assert!(about(celsius(&heat), 65.0), "{heat:?}");
    let mut world = World::new(&sensors);
    world.ticks(5);
    world.remove("cpu-thermal");
    let heat = world.ticks(300);
    assert!(matches!(heat, Heat::Measured(_)), "the board is");
    assert!(about(celsius(&heat), 85.0), "{heat:?}");
    assert_eq!(
        world.told(),
        [("cpu-thermal", Standing::Lost(Fault::Missing))]
    );
}

#[test]
fn parts_that_the_board_does_not_have_do_not_count() {
    let mut world = World::new(&[("cpu-thermal", 50_000)]);
    for name in ["cv0-thermal", "cv1-thermal", "Tdiode_tegra"] {
        world.set(name, Err(Unread::Busy));
    }
    let heat = world.ticks(500);
    assert!(about(celsius(&heat), 50.0), "{heat:?}");
    assert!(!world.spot("cv0-thermal").counts);
    assert_eq!(world.changes.len(), 3, "told all the same");
}

#[test]
fn silent_processors_count_where_no_other_is_trusted() {
    let mut world = World::new(&[("Tboard_tegra", 40_000)]);
    world.set("cpu-thermal", Err(Unread::Broken));
    let heat = world.ticks(500);
    assert!(about(celsius(&heat), 85.0), "{heat:?}");
    let mut world = World::new(&[]);
    world.set("cpu-thermal", Err(Unread::Broken));
    let heat = world.tick();
    assert!(matches!(heat, Heat::Lost(_)), "there is a sensor: {heat:?}");
    assert!(about(heat.spot().unwrap().margin_celsius(), 25.0));
    assert!(about(
        world.ticks(500).spot().unwrap().margin_celsius(),
        0.0
    ));
}

#[test]
fn a_card_that_is_switched_off_is_not_hot() {
    let mut world = World::new(&[("k10temp Tctl", 50_000), ("amdgpu edge", 45_000)]);
    world.ticks(5);
    world.set("amdgpu edge", Err(Unread::Denied));
    assert!(about(celsius(&world.ticks(300)), 50.0));
    world.set("amdgpu edge", Err(Unread::Broken));
    assert!(about(celsius(&world.ticks(300)), 85.0));
}

#[test]
fn absurd_numbers_are_not_believed() {
    let absurd = [-274_000, -41_000, 151_000, 255_875, i64::MAX, i64::MIN];
    for raw in absurd {
        let mut world = World::new(&[("cpu-thermal", 50_000), ("lm75 temp1", 40_000)]);
        world.ticks(5);
        world.set("cpu-thermal", Ok(raw));
        world.ticks(5);
        let standing = world.standing("cpu-thermal");
        assert!(
            matches!(
                standing,
                Standing::Lost(Fault::TooCold(_) | Fault::TooHot(_))
            ),
            "{raw}: {standing:?}"
        );
    }
    let mut world = World::new(&[("cpu-thermal", -5_000), ("lm75 temp1", -8_000)]);
    assert!(matches!(world.tick(), Heat::Measured(_)), "a cold store");
}

#[test]
fn a_processor_that_freezes_among_warm_ones_is_not_believed() {
    let sensors = [
        ("cpu-thermal", 0),
        ("gpu-thermal", 50_000),
        ("soc0-thermal", 51_000),
    ];
    let mut world = World::new(&sensors);
    let heat = world.ticks(5);
    assert!(about(celsius(&heat), 51.0), "{heat:?}");
    assert!(matches!(
        world.standing("cpu-thermal"),
        Standing::Silent(Fault::ColdAmongWarm(_))
    ));
    let mut world = World::new(&[("cpu-thermal", 50_000), ("lm75 temp1", 1_000)]);
    world.ticks(5);
    assert_eq!(
        world.standing("lm75 temp1"),
        Standing::Trusted,
        "a cold cabinet"
    );
}

#[test]
fn a_jump_is_believed_once_it_lasts() {
    let mut world = World::new(&[("cpu-thermal", 30_000)]);
    world.ticks(5);
    world.set("cpu-thermal", Ok(127_000));
    world.ticks(2);
    let jumped = Standing::Lost(Fault::Jumped {
        from: 30.0,
        to: 127.0,
    });
    assert_eq!(world.standing("cpu-thermal"), jumped);
    world.set("cpu-thermal", Ok(31_000));
    assert!(about(celsius(&world.tick()), 31.0), "it was a slip");
    world.set("cpu-thermal", Ok(120_000));
    assert!(celsius(&world.ticks(2)) < 40.0);
    assert!(about(celsius(&world.tick()), 120.0), "it is so");
    // A chip under sudden load is no jump.
    let mut world = World::new(&[("coretemp Core 0", 42_000)]);
    world.ticks(5);
    world.set("coretemp Core 0", Ok(93_000));
    assert!(about(celsius(&world.tick()), 93.0));
}

#[test]
fn degrees_and_tenths_are_understood() {
    let sensors = [
        ("cpu-thermal", 62_000),
        ("gpu-thermal", 71),
        ("soc0-thermal", 655),
    ];
    let mut world = World::new(&sensors);
    let heat = world.tick();
    assert!(about(celsius(&heat), 71.0), "{heat:?}");
    assert!(about(world.spot("soc0-thermal").celsius, 65.5));
    let mut world = World::new(&[("cpu-thermal", 71)]);
    assert!(about(celsius(&world.tick()), 71.0), "alone");
}

/// Runs for so long with load that comes and goes every four minutes.
fn with_changing_load(world: &mut World, minutes: u32, moving: &[(&str, i64, i64)]) -> Heat {
    for minute in 0..minutes {
        world.load = if minute % 4 < 2 { 0.95 } else { 0.05 };
        world.ticks_with(60, moving);
    }
    world.judge()
}

#[test]
fn a_sensor_that_stands_still_while_load_and_neighbours_move_is_stuck() {
    let mut world = World::new(&[("cpu-thermal", 60_000), ("gpu-thermal", 50_000)]);
    let both = [("cpu-thermal", 60_000, 100), ("gpu-thermal", 50_000, 500)];
    world.ticks_with(30, &both);
    world.set("cpu-thermal", Ok(60_000));
    let heat = with_changing_load(&mut world, 10, &both[1..]);
    assert_eq!(world.standing("cpu-thermal"), Standing::Lost(Fault::Stuck));
    assert!(celsius(&heat) > 60.0, "{heat:?}");
    world.set("cpu-thermal", Ok(61_000));
    world.tick();
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
}

#[test]
fn a_stuck_sensor_that_fails_for_a_while_is_stuck_still() {
    let mut world = World::new(&[("cpu-thermal", 60_000), ("gpu-thermal", 50_000)]);
    let moving = [("gpu-thermal", 50_000, 500)];
    world.ticks_with(30, &[("cpu-thermal", 60_000, 100)]);
    world.set("cpu-thermal", Ok(60_000));
    with_changing_load(&mut world, 10, &moving);
    world.set("cpu-thermal", Err(Unread::Broken));
    world.ticks(10);
    world.set("cpu-thermal", Ok(60_000));
    world.ticks(10);
    assert_eq!(world.standing("cpu-thermal"), Standing::Lost(Fault::Stuck));
    // One that was not stuck may come back with the number that it left with.
    world.set("cpu-thermal", Ok(61_000));
    world.ticks(10);
    world.set("cpu-thermal", Err(Unread::Busy));
    with_changing_load(&mut world, 10, &moving);
    world.set("cpu-thermal", Ok(61_000));
    world.ticks_with(60, &moving);
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
}

#[test]
fn a_sensor_gone_wild_is_never_believed_for_its_persistence() {
    let mut world = World::new(&[("cpu-thermal", 30_000)]);
    world.ticks(5);
    for _ in 0..300 {
        world.set("cpu-thermal", Ok(140_000));
        world.tick();
        world.set("cpu-thermal", Ok(400_000));
        world.tick();
    }
    assert!(matches!(
        world.standing("cpu-thermal"),
        Standing::Lost(Fault::TooHot(_))
    ));
}

#[test]
fn a_sensor_that_stands_still_at_steady_load_is_not_stuck() {
    let mut world = World::new(&[("cpu-thermal", 60_000), ("gpu-thermal", 50_000)]);
    world.load = 0.9;
    world.ticks_with(3600, &[("gpu-thermal", 50_000, 500)]);
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
    // Nor while the others stand still too.
    let mut world = World::new(&[("cpu-thermal", 60_000), ("gpu-thermal", 50_000)]);
    with_changing_load(&mut world, 60, &[]);
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
}

#[test]
fn the_only_sensor_is_found_stuck_by_the_load_alone_but_later() {
    let mut world = World::new(&[("cpu-thermal", 60_000)]);
    world.ticks_with(30, &[("cpu-thermal", 60_000, 100)]);
    world.set("cpu-thermal", Ok(60_000));
    with_changing_load(&mut world, 8, &[]);
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
    let heat = with_changing_load(&mut world, 8, &[]);
    assert!(matches!(heat, Heat::Lost(_)), "{heat:?}");
    assert!(about(celsius(&heat), 85.0), "{heat:?}");
}

#[test]
fn a_sensor_that_never_moved_takes_no_part_once_it_is_found_out() {
    let mut world = World::new(&[("acpitz", 27_800), ("coretemp Core 0", 50_000)]);
    let heat = with_changing_load(&mut world, 30, &[("coretemp Core 0", 50_000, 500)]);
    assert!(!world.spot("acpitz").counts);
    assert_eq!(&*heat.spot().unwrap().sensor, "coretemp Core 0");
    assert_eq!(world.told(), [("acpitz", Standing::Lost(Fault::Stuck))]);
}

#[test]
fn readings_that_stay_away_make_everything_stale() {
    let mut world = World::new(&[("cpu-thermal", 60_000)]);
    world.ticks(5);
    for _ in 0..STALE_AFTER.as_secs() {
        assert!(matches!(world.tick_unread(), Heat::Measured(_)));
    }
    assert!(matches!(world.tick_unread(), Heat::Lost(_)));
    assert_eq!(world.standing("cpu-thermal"), Standing::Lost(Fault::Stale));
    world.ticks(3);
    assert_eq!(world.standing("cpu-thermal"), Standing::Trusted);
}

#[test]
fn a_sensor_that_the_site_lists_is_missed_from_the_start() {
    let sensors = [("cpu-thermal", 50_000), ("nvme Composite", 70_000)];
    let mut world = World::listed(&sensors, &["nvme *", "rack-inlet"]);
    world.ticks(10);
    assert!(about(world.spot("nvme Composite").celsius, 70.0));
    let missing = Standing::Silent(Fault::Missing);
    assert_eq!(world.told(), [("rack-inlet", missing)]);
    assert!(
        about(celsius(&world.ticks(500)), 85.0),
        "fails towards heat"
    );
    world.set("rack-inlet", Ok(30_000));
    assert!(about(celsius(&world.ticks(3)), 70.0));
}

#[test]
fn names_that_come_and_go_never_crowd_out_a_sensor() {
    let mut world = World::new(&[("cpu-thermal", 50_000)]);
    for number in 0..3 * MAX_THERMOMETERS {
        let name = format!("stick temp{number}");
        world.set(&name, Ok(40_000));
        world.tick();
        world.remove(&name);
        world.tick();
        assert!(world.health.spots(world.now).len() <= MAX_THERMOMETERS);
    }
    world.set("late-thermal", Ok(70_000));
    world.tick();
    let late = world.spot("late-thermal");
    assert_eq!((late.standing, late.celsius), (Standing::Trusted, 70.0));
    assert!(world.spot("cpu-thermal").counts);
}

/// What a sensor may say, sense and nonsense.
fn said() -> impl Strategy<Value = Option<Result<i64, Unread>>> {
    prop_oneof![
        Just(None),
        (20_000i64..90_000).prop_map(|raw| Some(Ok(raw))),
        (20i64..900).prop_map(|raw| Some(Ok(raw))),
        any::<i64>().prop_map(|raw| Some(Ok(raw))),
        Just(Some(Err(Unread::Missing))),
        Just(Some(Err(Unread::Busy))),
        Just(Some(Err(Unread::Other(7)))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_sensors_say_heat_is_finite_and_never_above_reason(
        script in proptest::collection::vec((0usize..3, said(), 0u64..20), 1..200)
    ) {
        let names: [Arc<str>; 3] = ["cpu-thermal".into(), "gpu-thermal".into(), "lm75 temp1".into()];
        let mut world = World::new(&[]);
        let mut was_seen = false;
        for (at, said, pause) in script {
            match said {
                Some(raw) => world.set(&names[at], raw),
                None => world.remove(&names[at]),
            }
            world.now = world.now.after(Duration::from_secs(pause));
            let heat = world.tick();
            was_seen |= said.is_some();
            prop_assert_eq!(was_seen, heat != Heat::Unmeasured);
            for spot in world.health.spots(world.now) {
                prop_assert!((-41.0..=151.0).contains(&spot.celsius), "{:?}", spot);
                if spot.standing != Standing::Trusted {
                    prop_assert!(!matches!(heat, Heat::Lost(_)) || spot.margin_celsius() <= 125.0);
                }
            }
        }
        // With nothing to be believed any more, the way ends at the limit.
        for name in &names {
            world.set(name, Err(Unread::Broken));
        }
        let heat = world.ticks(400);
        prop_assert!(matches!(heat, Heat::Lost(_)));
        prop_assert!(heat.spot().unwrap().margin_celsius() <= 1e-9);
    }
}
