//! Whatever the kernel's files hold, a value comes out that is no larger than it may be, or none;
//! and whatever sensors say, heat is a temperature that can be.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use lineside::clock::Mono;
use lineside::governor::health::{Health, Heat, Rules};
use lineside::governor::sysfs::text::{self, Hierarchy};
use lineside::governor::sysfs::{Limits, Readings, Thermometer, Unread};

/// A file's content through everything that reads one.
fn read(bytes: &[u8]) {
    if let Some(name) = text::name(bytes) {
        assert!((1..=text::MAX_NAME_CHARS).contains(&name.chars().count()));
        assert!(!name.contains(char::is_control));
    }
    if let Some(load) = text::gpu_load(bytes) {
        assert!((0.0..=1.0).contains(&load));
    }
    if let Some(pressure) = text::pressure(bytes) {
        let some = pressure.some;
        for percent in [some.avg10, some.avg60, some.avg300] {
            assert!((0.0..=100.0).contains(&percent));
        }
    }
    if let Some(time) = text::cpu_time(bytes) {
        assert!(time.busy_ticks <= time.total_ticks);
        assert!(time.load_since(&time).is_none(), "no time has passed");
    }
    for hierarchy in [Hierarchy::Unified, Hierarchy::Memory] {
        if let Some(path) = text::own_cgroup(bytes, hierarchy) {
            assert!(path.is_relative() && !path.starts_with(".."));
        }
        if let Some(mounted) = text::cgroup_mount(bytes, hierarchy) {
            assert!(mounted.part.is_relative() && !mounted.part.starts_with(".."));
        }
    }
    let _ = text::bound(bytes);
    let _ = text::number(bytes);
    let _ = text::memory(bytes);
    let _ = text::resident(bytes);
    let _ = text::spent(bytes);
    let _ = text::memory_events(bytes);
    let _ = text::highest(bytes);
}

/// Each line is what a sensor said in one second: a number, or that it could not be read.
fn judge(bytes: &[u8]) {
    let mut health = Health::new(Rules {
        limit_celsius: 85.0,
        sensors: Vec::new(),
    });
    let mut readings = Readings::default();
    for name in ["cpu-thermal", "gpu-thermal", "lm75 temp1"] {
        readings.thermometers.push(Thermometer {
            name: name.into(),
            raw: Err(Unread::Busy),
            limits: Limits::default(),
        });
    }
    for (second, line) in (1u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        let sensor = &mut readings.thermometers[line.len() % 3];
        sensor.raw = text::number(line).ok_or(Unread::Garbled);
        let now = Mono(Duration::from_secs(second));
        readings.taken = now;
        let effects = health.on_readings(&readings, now);
        assert_ne!(effects.heat, Heat::Unmeasured, "there are sensors");
        for spot in health.spots(now) {
            assert!((-41.0..=151.0).contains(&spot.celsius), "{spot:?}");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    judge(bytes);
});
