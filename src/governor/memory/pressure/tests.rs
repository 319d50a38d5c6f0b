use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A board of 4 GiB with so much left.
fn left(mib: u64) -> MemoryReading {
    MemoryReading {
        total_bytes: 4 * GIB,
        available_bytes: mib * MIB,
        ..MemoryReading::default()
    }
}

/// A group of 512 MiB in a machine with plenty.
fn group(current_mib: u64, oom_kills: u64) -> MemoryReading {
    MemoryReading {
        group: Some(GroupReading {
            current_bytes: current_mib * MIB,
            high_bytes: None,
            max_bytes: Some(512 * MIB),
            oom_kills,
        }),
        ..left(2048)
    }
}

/// A world in which a second passes between two readings.
struct World {
    pressure: Pressure,
    now: Mono,
}

impl World {
    fn new() -> Self {
        Self {
            pressure: Pressure::new(8),
            now: Mono(Duration::from_secs(100)),
        }
    }

    fn read(&mut self, reading: &MemoryReading) -> Relief {
        self.now = self.now.after(Duration::from_secs(1));
        self.pressure.on_reading(reading, self.now)
    }

    /// The same reading for so long; the last relief.
    fn hold(&mut self, reading: &MemoryReading, span: Duration) -> Relief {
        let until = self.now.after(span);
        let mut relief = self.read(reading);
        while self.now < until {
            relief = self.read(reading);
        }
        relief
    }

    /// All steps that it goes through, with the new plans that are asked for.
    fn steps(&mut self, reading: &MemoryReading, span: Duration) -> (Vec<Step>, Vec<Replan>) {
        let until = self.now.after(span);
        let (mut steps, mut replans) = (vec![self.pressure.step()], Vec::new());
        while self.now < until {
            let relief = self.read(reading);
            replans.extend(relief.replan);
            if steps.last() != Some(&relief.step) {
                steps.push(relief.step);
            }
        }
        (steps, replans)
    }
}

#[test]
fn with_enough_memory_nothing_is_given_up() {
    let mut world = World::new();
    let relief = world.hold(&left(2000), CALM);
    assert_eq!(relief.step, Step::Calm);
    assert_eq!((relief.evict, relief.sequences), (false, None));
    assert_eq!((relief.replan, relief.shut, relief.why), (None, None, None));
}

#[test]
fn shortage_goes_down_step_by_step_and_no_further_than_the_figure_asks() {
    let mut world = World::new();
    let (steps, replans) = world.steps(&left(45), Duration::from_mins(1));
    let expected = [
        Step::Calm,
        Step::Evict,
        Step::FewerSequences,
        Step::SmallerContext,
    ];
    assert_eq!(steps, expected);
    assert_eq!(replans, [Replan::Smaller]);
    let relief = world.read(&left(45));
    assert_eq!((relief.sequences, relief.shut), (Some(2), None));
    assert_eq!(relief.why.as_deref(), Some("45 MiB of memory are left"));
    assert!(!relief.evict, "once is enough");
}

#[test]
fn each_step_has_time_to_take_effect() {
    let mut world = World::new();
    assert_eq!(world.read(&left(80)).step, Step::Evict);
    assert_eq!(world.read(&left(80)).step, Step::Evict);
    assert_eq!(world.read(&left(80)).step, Step::FewerSequences);
    // It has taken effect.
    assert_eq!(world.read(&left(120)).step, Step::FewerSequences);
    assert_eq!(world.hold(&left(120), CALM / 2).step, Step::FewerSequences);
}

#[test]
fn when_memory_is_about_to_end_the_edge_is_shut_at_once() {
    let mut world = World::new();
    let relief = world.read(&left(10));
    assert_eq!(relief.step, Step::Reroute);
    assert!(relief.evict);
    assert_eq!(relief.shut, Some(RETRY_AFTER));
    assert_eq!(relief.replan, Some(Replan::Smaller));
}

#[test]
fn the_way_back_is_one_step_at_a_time_and_slow_where_the_engine_restarts() {
    let mut world = World::new();
    world.read(&left(10));
    let (steps, replans) = world.steps(&left(2000), CALM.saturating_mul(3));
    assert_eq!(steps, [Step::Reroute, Step::SmallerContext]);
    assert_eq!(replans, []);
    let (steps, replans) = world.steps(&left(2000), LONG_CALM.saturating_add(CALM * 3));
    let expected = [
        Step::SmallerContext,
        Step::FewerSequences,
        Step::Evict,
        Step::Calm,
    ];
    assert_eq!(steps, expected);
    assert_eq!(replans, [Replan::Whole]);
}

#[test]
fn a_figure_at_a_mark_makes_nothing_swing() {
    let mut world = World::new();
    let mark = (4 * GIB / 1000 * 25).min(96 * MIB) / MIB;
    world.hold(&left(mark - 1), Duration::from_secs(10));
    assert_eq!(world.pressure.step(), Step::FewerSequences);
    for _ in 0..300 {
        let up = world.read(&left(mark + 2));
        let down = world.read(&left(mark - 1));
        assert_eq!(
            (up.step, down.step),
            (Step::FewerSequences, Step::FewerSequences)
        );
    }
    // Calm that is interrupted begins anew.
    for _ in 0..5 {
        world.hold(&left(2000), CALM / 2);
        assert_eq!(world.read(&left(mark - 1)).step, Step::FewerSequences);
    }
}

#[test]
fn tasks_that_wait_for_memory_count_as_much_as_what_is_left() {
    let stalls = |some_percent, full_percent| MemoryReading {
        stalls: Some(Stalls {
            some_percent,
            full_percent,
        }),
        ..left(2000)
    };
    let after = |reading: &MemoryReading| {
        let mut world = World::new();
        world.hold(reading, Duration::from_secs(20)).step
    };
    assert_eq!(after(&stalls(5.0, 1.0)), Step::Calm);
    assert_eq!(after(&stalls(12.0, 1.0)), Step::Evict);
    assert_eq!(after(&stalls(12.0, 9.0)), Step::FewerSequences);
    assert_eq!(after(&stalls(60.0, 25.0)), Step::SmallerContext);
    assert_eq!(after(&stalls(90.0, 50.0)), Step::Reroute);
    assert_eq!(after(&stalls(f32::NAN, f32::NAN)), Step::Calm);
}

#[test]
fn the_control_group_counts_where_the_machine_has_plenty() {
    let mut world = World::new();
    assert_eq!(world.read(&group(400, 0)).step, Step::Calm);
    let relief = world.hold(&group(500, 0), Duration::from_secs(10));
    assert_eq!(relief.step, Step::FewerSequences);
    let why = relief.why.as_deref();
    assert_eq!(why, Some("12 MiB are left in the control group"));
    // More in use than there is: none is left.
    assert_eq!(world.read(&group(600, 0)).step, Step::Reroute);
    let mut high = group(400, 0);
    if let Some(group) = &mut high.group {
        group.high_bytes = Some(390 * MIB);
    }
    let relief = World::new().read(&high);
    assert_eq!(relief.step, Step::Evict);
    let why = relief.why.as_deref();
    assert_eq!(why, Some("the control group is at its high mark"));
}

#[test]
fn a_kill_by_the_kernel_is_told_once_by_its_counter() {
    let mut world = World::new();
    // Kills before the service was there are nobody's.
    assert_eq!(world.read(&group(100, 3)).replan, None);
    world.pressure.on_engine_end(Death::Killed);
    assert_eq!(
        world.read(&group(100, 3)).replan,
        None,
        "somebody else's kill"
    );
    world.pressure.on_engine_end(Death::Killed);
    assert_eq!(world.read(&group(100, 4)).replan, Some(Replan::Killed));
    assert_eq!(world.read(&group(100, 4)).replan, None);
}

#[test]
fn without_a_counter_a_kill_counts_only_while_memory_is_short() {
    let mut world = World::new();
    world.pressure.on_engine_end(Death::Killed);
    assert_eq!(world.read(&left(2000)).replan, None);
    world.pressure.on_engine_end(Death::Killed);
    assert_eq!(world.read(&left(80)).replan, Some(Replan::Killed));
    world.pressure.on_engine_end(Death::Other);
    assert_eq!(world.read(&left(80)).replan, None);
}

#[test]
fn a_machine_that_says_nothing_is_calm() {
    let mut world = World::new();
    let relief = world.hold(&MemoryReading::default(), CALM);
    assert_eq!(relief.step, Step::Calm);
}

#[test]
fn whatever_is_read_steps_and_plans_stay_in_order() {
    let mut dice = fastrand::Rng::with_seed(7);
    for _ in 0..50 {
        let mut world = World::new();
        let mut before = Step::Calm;
        for _ in 0..400 {
            let reading = match dice.u8(0..4) {
                0 => left(dice.u64(0..300)),
                1 => left(dice.u64(0..4096)),
                2 => group(dice.u64(0..600), 0),
                _ => left(3000),
            };
            let relief = world.read(&reading);
            let jumped = relief.step != before.above() && relief.step > before;
            assert!(!jumped || relief.step == Step::Reroute);
            assert!(relief.step >= before.below(), "two steps back");
            assert_eq!(relief.evict, relief.step > before);
            assert_eq!(relief.shut.is_some(), relief.step == Step::Reroute);
            assert!(relief.step == Step::Calm || relief.why.is_some());
            let crossed = (before >= Step::SmallerContext) != (relief.step >= Step::SmallerContext);
            assert_eq!(relief.replan.is_some(), crossed);
            before = relief.step;
        }
    }
}
