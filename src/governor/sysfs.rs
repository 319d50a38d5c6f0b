//! What the kernel tells of the machine: heat, clocks, power, memory, time spent.
//!
//! A [`Reader`] knows which files there are and turns them into one plain [`Readings`]. It
//! judges nothing: a temperature stays the number that the kernel wrote, and whether to believe
//! it is the business of [`health`](super::health).
//!
//! ```text
//!            look                       read, once a second
//!   Roots ─────────► Plan (which files) ───────────────────► Readings
//!                     ▲                          │
//!                     └──────────────────────────┘
//!                 a file went, or it is time again
//! ```
//!
//! Invariants: nothing is read outside the [`Roots`], but for a cgroup hierarchy that the real
//! kernel mounts elsewhere. Each file is opened for one reading, without waiting for anything
//! that `open` or `read` could wait for in a pipe or a device, and no more of it is taken than a
//! page or so. There are limits to how many of everything are looked at. Names, limits and other
//! things that stay the same are read when looking, so that a reading is few files.
//!
//! How it fails: not at all. What cannot be read is absent; a temperature says why. One thing
//! cannot be had from here: a driver that hangs inside `read` holds up the caller, so the caller
//! reads on a thread of its own, and readings that stay away count as stale.

mod board;
mod cgroup;
mod file;
mod make;
mod process;
mod thermometer;

#[cfg(test)]
mod tests;
pub mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use cgroup::Cgroup;
pub use file::Unread;
pub use make::make;
pub use process::{MAX_PROCESSES, Process};
pub use text::{CpuTime, Memory, MemoryEvents, Pressure, Stall};
pub use thermometer::{Limits, MAX_THERMOMETERS, Thermometer};

use crate::clock::Mono;

/// After so long it is looked again which files there are: what is plugged in shows within that.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Not sooner than so long after the last time, even if a file went: a sensor that comes and
/// goes must not make each reading a search.
const LOOK_SOONEST: Duration = Duration::from_secs(5);

/// Where the kernel's file systems are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Usually `/sys`.
    pub sysfs: PathBuf,
    /// Usually `/proc`.
    pub procfs: PathBuf,
    /// Where the cgroup hierarchy (version 2) is mounted; none: found through procfs.
    pub cgroup: Option<PathBuf>,
}

impl Roots {
    /// With the cgroup hierarchy found through procfs.
    pub fn new(sysfs: impl Into<PathBuf>, procfs: impl Into<PathBuf>) -> Self {
        Self {
            sysfs: sysfs.into(),
            procfs: procfs.into(),
            cgroup: None,
        }
    }
}

/// Everything at one moment. What the machine does not have is absent or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// When it was read.
    pub taken: Mono,
    /// Thermal zones and the temperatures of chips, by their order in the kernel.
    pub thermometers: Vec<Thermometer>,
    /// One for each group of cores that share a clock.
    pub clocks: Vec<Clock>,
    /// What the kernel may do against heat, and how much of it it does.
    pub cooling: Vec<Cooling>,
    /// Supply lines with a meter.
    pub rails: Vec<Rail>,
    /// Graphics processors on the chip.
    pub gpus: Vec<Gpu>,
    /// The machine's memory.
    pub memory: Memory,
    /// The cgroup that this process is in.
    pub cgroup: Option<Cgroup>,
    /// How long work waited for memory, in the whole machine.
    pub memory_pressure: Option<Pressure>,
    /// How long work waited for a processor, in the whole machine.
    pub cpu_pressure: Option<Pressure>,
    /// What the machine's processors have done since it started.
    pub cpu: Option<CpuTime>,
    /// Those that were asked for and are there.
    pub processes: Vec<Process>,
}

impl Readings {
    /// The lowest cap on a processor's clock, as a share of what the hardware can do.
    pub fn clock_cap(&self) -> Option<f64> {
        let caps = self.clocks.iter().filter_map(Clock::cap);
        caps.min_by(f64::total_cmp)
    }

    /// How busy the graphics processor is, from 0 to 1; the busiest of several.
    pub fn gpu_load(&self) -> Option<f64> {
        let loads = self.gpus.iter().filter_map(|gpu| gpu.load);
        loads.max_by(f64::total_cmp)
    }

    /// What the board draws: its input's meter where one is known as such, else the sum of all.
    pub fn power_milliwatts(&self) -> Option<u64> {
        let input = self
            .rails
            .iter()
            .find(|rail| INPUT_RAILS.contains(&&*rail.name));
        if let Some(input) = input {
            return input.milliwatts;
        }
        let all = self.rails.iter().filter_map(|rail| rail.milliwatts);
        all.reduce(u64::saturating_add)
    }
}

/// Rails that everything else on the board hangs on: Jetson modules with a carrier's input meter,
/// newer and older.
const INPUT_RAILS: [&str; 2] = ["VDD_IN", "POM_5V_IN"];

/// The clock of a group of cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The group's number.
    pub policy: u32,
    /// How fast it runs.
    pub current_khz: Option<u64>,
    /// How fast it may run now.
    pub allowed_khz: Option<u64>,
    /// How fast the hardware can.
    pub hardware_khz: Option<u64>,
}

impl Clock {
    /// What is allowed as a share of what the hardware can do.
    pub fn cap(&self) -> Option<f64> {
        let (allowed, hardware) = (self.allowed_khz?, self.hardware_khz?);
        (hardware > 0).then(|| share(allowed, hardware))
    }
}

/// A share from 0 to 1.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more than 52 bits"
)]
fn share(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64).clamp(0.0, 1.0)
}

/// A fan, or a processor that can be slowed down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// What the kernel calls it.
    pub name: Arc<str>,
    /// 0: it does nothing.
    pub state: Option<u64>,
    /// The highest state.
    pub highest: Option<u64>,
}

/// A supply line with a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rail {
    /// What the board calls it.
    pub name: Arc<str>,
    /// Its voltage.
    pub millivolts: Option<u64>,
    /// The current through it.
    pub milliamperes: Option<u64>,
    /// What it carries: from the meter, else by voltage and current.
    pub milliwatts: Option<u64>,
}

/// A graphics processor on the chip.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// What the device tree calls it.
    pub name: Arc<str>,
    /// How busy it is, from 0 to 1.
    pub load: Option<f64>,
    /// How fast it runs.
    pub current_hz: Option<u64>,
    /// How fast it may run now.
    pub allowed_hz: Option<u64>,
    /// How fast the hardware can.
    pub hardware_hz: Option<u64>,
}

/// Reads the machine.
#[derive(Debug)]
pub struct Reader {
    roots: Roots,
    plan: Plan,
    looked: Option<Mono>,
    /// Thermometers that were missing when it was looked, and are now.
    missing: (usize, usize),
}

/// Which files there are.
#[derive(Debug, Default)]
struct Plan {
    thermometers: thermometer::Plan,
    board: board::Plan,
    cgroup: Option<cgroup::Plan>,
}

impl Plan {
    fn look(roots: &Roots) -> Self {
        Self {
            thermometers: thermometer::Plan::look(&roots.sysfs),
            board: board::Plan::look(&roots.sysfs),
            cgroup: cgroup::Plan::look(roots),
        }
    }
}

impl Reader {
    /// Reads nothing yet.
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            plan: Plan::default(),
            looked: None,
            missing: (0, 0),
        }
    }

    /// Reads everything, and of processes those with these numbers. Blocks for as long as the
    /// drivers take: microseconds for a chip's own sensors, milliseconds for a slow bus.
    pub fn read(&mut self, now: Mono, pids: &[u32]) -> Readings {
        let looks = self.should_look(now);
        if looks {
            self.plan = Plan::look(&self.roots);
            self.looked = Some(now);
        }
        let procfs = &self.roots.procfs;
        let mut readings = Readings {
            taken: now,
            thermometers: self.plan.thermometers.read(),
            memory: process::memory(procfs),
            cgroup: self.plan.cgroup.as_ref().map(cgroup::Plan::read),
            memory_pressure: process::pressure(&procfs.join("pressure/memory")),
            cpu_pressure: process::pressure(&procfs.join("pressure/cpu")),
            cpu: process::cpu(procfs),
            processes: process::processes(procfs, pids),
            ..Readings::default()
        };
        self.plan.board.read(&mut readings);
        let thermometers = readings.thermometers.iter();
        let missing = thermometers
            .filter(|thermometer| thermometer.raw == Err(Unread::Missing))
            .count();
        let before = if looks { missing } else { self.missing.0 };
        self.missing = (before, missing);
        readings
    }

    fn should_look(&self, now: Mono) -> bool {
        let Some(looked) = self.looked else {
            return true;
        };
        let since = now.since(looked);
        let (before, missing) = self.missing;
        since >= LOOK_EVERY || (missing > before && since >= LOOK_SOONEST)
    }
}
