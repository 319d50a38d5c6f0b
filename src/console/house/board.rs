//! What the board says of itself: heat and memory, read anew for whoever asks.
//!
//! The dispatcher is not needed for it, nor the governor's own look. A driver that hangs is not
//! waited for, and while one hangs no second look is begun.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::{Fault, House};
use crate::clock::Mono;
use crate::config;
use crate::dispatch::{Governed, StatusReport};
use crate::governor::memory::room;
use crate::governor::sysfs::{Reader, Readings, Roots, Thermometer};

/// How long the drivers may take: a slow bus needs milliseconds for each sensor.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the sensors say.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(in crate::console) struct Thermals {
    /// What the governor makes of it; none where the dispatcher does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    governor: Option<Governed>,
    sensors: Vec<Sensor>,
    cooling: Vec<Cooling>,
    /// How fast the slowest group of cores may run, of what it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliwatts: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Sensor {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    celsius: Option<f64>,
    /// Where the machine is slowed down, or switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    passive_celsius: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    critical_celsius: Option<f64>,
    /// Why it tells nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Cooling {
    name: String,
    state: u64,
    highest: u64,
}

/// What there is of memory.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(in crate::console) struct Memory {
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_free_bytes: Option<u64>,
    /// The limit of the control group, and what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_used_bytes: Option<u64>,
    /// Processes of the control group that the kernel has killed for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    killed: Option<u64>,
    /// How much of the last minute work stood still for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled_percent: Option<f64>,
    /// What the service has.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_bytes: Option<u64>,
    /// What the processes have that it started: the engine.
    engine_bytes: u64,
    /// What a plan for service and engine together would go by now, and what limits it.
    room_bytes: u64,
    limited_by: &'static str,
}

impl House {
    /// The temperatures.
    pub(in crate::console) async fn thermals(
        &self,
        status: Option<&StatusReport>,
    ) -> Result<Thermals, Fault> {
        let readings = self.look(|roots| read(roots, &[])).await?;
        Ok(Thermals {
            governor: status.map(|it| it.governor.clone()),
            ..Thermals::of(&readings)
        })
    }

    /// The memory.
    pub(in crate::console) async fn memory(&self) -> Result<Memory, Fault> {
        let budget = self.facts.memory_budget_bytes;
        let processes = self.processes.as_ref().map(|it| it.borrow().clone());
        self.look(move |roots| {
            let own = std::process::id();
            // Engines by what is open of them: where the processes of others are hidden, they cannot
            // be looked for.
            let running = processes.into_iter().flat_map(|it| it.running);
            let engines: Vec<_> = running.filter_map(|it| it.seen()).collect();
            let mut pids = started_by_us(&roots.procfs);
            pids.retain(|pid| engines.iter().all(|it| it.pid != *pid));
            pids.insert(0, own);
            let room = room::read(&roots.procfs, &roots.sysfs, budget);
            let mut readings = read(roots, &pids);
            readings.processes.extend(engines);
            Memory::of(&readings, own, &room)
        })
        .await
    }

    /// Looks in a thread of its own, and not for ever.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&config::Roots) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let hangs = || Fault::Unavailable("a sensor's driver does not answer".into());
        let facts = Arc::clone(&self.facts);
        let turn = Arc::clone(&self.looking).try_lock_owned();
        let turn = match turn {
            Ok(turn) => turn,
            // Somebody looks; one that does not hang is done in a moment.
            Err(_) => timeout(PATIENCE, Arc::clone(&self.looking).lock_owned())
                .await
                .map_err(|_| hangs())?,
        };
        let looking = tokio::task::spawn_blocking(move || {
            let seen = look(&facts.roots);
            drop(turn);
            seen
        });
        match timeout(PATIENCE, looking).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_)) | Err(_) => Err(hangs()),
        }
    }
}

fn read(roots: &config::Roots, pids: &[u32]) -> Readings {
    Reader::new(Roots::new(&roots.sysfs, &roots.procfs)).read(Mono::default(), pids)
}

/// The processes that this one has started, by every thread's list of children.
fn started_by_us(procfs: &Path) -> Vec<u32> {
    let threads = std::fs::read_dir(procfs.join("self/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists = threads.filter_map(|it| std::fs::read_to_string(it.path().join("children")).ok());
    let words = |list: String| {
        let words = list.split_whitespace();
        words
            .filter_map(|word| word.parse().ok())
            .collect::<Vec<u32>>()
    };
    lists.flat_map(words).collect()
}

/// Thousandths of a degree, as the kernel's documentation has it. What is beyond all sense is
/// shown as none.
fn celsius(thousandths: i64) -> Option<f64> {
    let thousandths = i32::try_from(thousandths).ok()?;
    Some(f64::from(thousandths) / 1000.0)
}

/// A share from 0 to 1, in whole percent.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn percent(share: f64) -> u8 {
    (share * 100.0).round().clamp(0.0, 100.0) as u8
}

impl Sensor {
    fn of(thermometer: &Thermometer) -> Self {
        let limits = &thermometer.limits;
        Self {
            name: thermometer.name.to_string(),
            celsius: thermometer.raw.ok().and_then(celsius),
            passive_celsius: limits.passive.and_then(celsius),
            critical_celsius: limits.critical.and_then(celsius),
            why: thermometer.raw.err().map(|why| why.to_string()),
        }
    }
}

impl Thermals {
    fn of(readings: &Readings) -> Self {
        let cooling = readings.cooling.iter().filter_map(|it| {
            Some(Cooling {
                name: it.name.to_string(),
                state: it.state?,
                highest: it.highest?,
            })
        });
        Self {
            governor: None,
            sensors: readings.thermometers.iter().map(Sensor::of).collect(),
            cooling: cooling.collect(),
            clock_percent: readings.clock_cap().map(percent),
            gpu_percent: readings.gpu_load().map(percent),
            milliwatts: readings.power_milliwatts(),
        }
    }
}

impl Memory {
    fn of(readings: &Readings, own: u32, room: &room::Room) -> Self {
        let (machine, group) = (&readings.memory, &readings.cgroup);
        let resident = |is_own: bool| {
            let processes = readings.processes.iter();
            let those = processes.filter(move |it| (it.pid == own) == is_own);
            those.filter_map(|it| it.resident.all_bytes)
        };
        Self {
            total_bytes: machine.total_bytes,
            available_bytes: machine.available_bytes,
            swap_free_bytes: machine.swap_free_bytes,
            group_limit_bytes: group.and_then(|it| it.max_bytes),
            group_used_bytes: group.and_then(|it| it.current_bytes),
            killed: group.and_then(|it| it.events).map(|it| it.oom_kill),
            stalled_percent: readings.memory_pressure.map(|it| it.some.avg60),
            service_bytes: resident(true).next(),
            engine_bytes: resident(false).sum(),
            room_bytes: room.ram_bytes,
            limited_by: room.limited_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governor::sysfs::{Limits, Unread};

    #[test]
    fn a_sensor_is_told_in_degrees_or_with_the_reason() {
        let thermometer = |raw| Thermometer {
            name: "cpu-thermal".into(),
            raw,
            limits: Limits {
                passive: Some(85_000),
                critical: Some(i64::MAX),
                ..Limits::default()
            },
        };
        let well = Sensor::of(&thermometer(Ok(61_250)));
        assert_eq!(
            (well.celsius, well.passive_celsius),
            (Some(61.25), Some(85.0))
        );
        assert_eq!((well.critical_celsius, well.why), (None, None));
        let ill = Sensor::of(&thermometer(Err(Unread::Broken)));
        assert_eq!(ill.celsius, None);
        assert!(ill.why.is_some_and(|why| why.contains("EIO")));
    }

    #[test]
    fn shares_are_whole_percents() {
        assert_eq!([percent(0.0), percent(0.804), percent(7.0)], [0, 80, 100]);
    }

    #[tokio::test]
    async fn while_one_look_hangs_no_second_is_begun() {
        let house = House::default();
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let hangs = |seen: Result<bool, Fault>| {
            assert!(matches!(seen, Err(Fault::Unavailable(why)) if why.contains("driver")));
        };
        hangs(house.look(move |_| hold.recv().is_ok()).await);
        hangs(house.look(|_| panic!("a second one was begun")).await);
        release.send(()).unwrap();
        let seen = house.look(|_| 7).await;
        assert_eq!(seen, Ok(7), "the driver has come back");
    }
}
