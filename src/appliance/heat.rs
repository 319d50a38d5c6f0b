//! The governor's thread and its task.
//!
//! ```text
//!  thread: reads sensors and memory ─► latest readings ─► task: governor ─┬─► engine: what may run
//!                                                                         └─► dispatcher
//! ```
//!
//! A driver may take its time, or never come back: then readings grow old while the task goes on
//! once a second, and old ones count as hotter. So the thread alone blocks, and nobody waits for it.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::inference::Reins;
use crate::clock::Clock;
use crate::config::Settings;
use crate::engine::process::{Processes, Running};
use crate::engine::protocol::{self, Guessing, Keeping};
use crate::governor::health::Rules;
use crate::governor::memory::SEQUENCES;
use crate::governor::memory::pressure::Death;
use crate::governor::sysfs::{MAX_PROCESSES, Reader, Readings, Roots};
use crate::governor::{
    self, Allowance, Appetite, Effects, Engine, Governor, Speculation, TICK, thermal,
};
use crate::service::Pulse;

/// The governor, at work.
pub(super) struct Governing {
    task: JoinHandle<()>,
}

impl Governing {
    /// Ends it. Its thread ends with its next look.
    pub(super) fn close(self) {
        self.task.abort();
    }
}

/// Starts it. What it allows is in the receiver; what is asked of the engine goes into the sender.
pub(super) fn start(
    settings: &Settings,
    reins: Reins,
    clock: Clock,
    pulse: Pulse,
) -> std::io::Result<(
    Governing,
    watch::Receiver<Allowance>,
    watch::Sender<Appetite>,
)> {
    let governor = Governor::new(governor::Settings {
        rules: Rules {
            limit_celsius: settings.heat.celsius,
            sensors: settings.heat.sensors.clone(),
        },
        thermal: thermal::Settings::default(),
        sequences: SEQUENCES,
    });
    let roots = Roots::new(&settings.roots.sysfs, &settings.roots.procfs);
    let (read, latest) = watch::channel(None);
    let processes = reins.processes.clone();
    std::thread::Builder::new()
        .name("sensors".into())
        .spawn(move || watch_sensors(roots, &processes, &read, clock))?;
    let (allow, allowance) = watch::channel(Allowance::default());
    let (appetite, asked) = watch::channel(Appetite::default());
    let most_threads = settings.engine.threads.unwrap_or_else(cores);
    let task = tokio::spawn(govern(Task {
        governor,
        latest,
        reins,
        asked,
        allow,
        most_threads,
        clock,
        pulse,
    }));
    Ok((Governing { task }, allowance, appetite))
}

fn cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Until nobody wants to know any more.
fn watch_sensors(
    roots: Roots,
    processes: &watch::Receiver<Processes>,
    read: &watch::Sender<Option<Readings>>,
    clock: Clock,
) {
    let mut reader = Reader::new(roots);
    while !read.is_closed() {
        let running = processes.borrow().running.clone();
        let begun = clock.now().mono;
        let mut readings = reader.read(begun, &[std::process::id()]);
        let engines = running.iter().filter_map(Running::seen);
        readings.processes.extend(engines.take(MAX_PROCESSES - 1));
        read.send_replace(Some(readings));
        let took = clock.now().mono.since(begun);
        std::thread::sleep(TICK.saturating_sub(took).max(Duration::from_millis(1)));
    }
}

struct Task {
    governor: Governor,
    latest: watch::Receiver<Option<Readings>>,
    reins: Reins,
    asked: watch::Receiver<Appetite>,
    allow: watch::Sender<Allowance>,
    most_threads: u16,
    clock: Clock,
    pulse: Pulse,
}

async fn govern(mut task: Task) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut killed = 0;
    loop {
        ticks.tick().await;
        let now = task.clock.now();
        task.pulse.beat(now);
        let processes = task.reins.processes.borrow().clone();
        for _ in killed..processes.killed {
            task.governor.on_engine_end(Death::Killed);
        }
        killed = processes.killed;
        if let Some(sequences) = *task.reins.planned.borrow() {
            task.governor.on_plan(sequences);
        }
        let asked = *task.asked.borrow();
        task.governor.on_appetite(asked);
        let engines: Vec<_> = processes.running.iter().map(engine).collect();
        let Some(readings) = task.latest.borrow().clone() else {
            continue; // the first look is not done
        };
        let effects = task.governor.on_readings(&readings, &engines, now.mono);
        task.carry_out(effects);
    }
}

impl Task {
    fn carry_out(&self, effects: Effects) {
        if let Some(replan) = effects.replan {
            tracing::warn!(reason = ?replan, "the engine is planned anew for its memory");
            let _ = self.reins.replans.try_send(replan); // full: that many are to be made
        }
        for change in &effects.sensors {
            tracing::warn!(
                sensor = &*change.sensor,
                state = %change.standing,
                celsius = change.celsius,
                "a temperature sensor"
            );
        }
        for change in &effects.changes {
            tracing::info!(reason = change, "governor");
        }
        let word = for_engine(&effects.allowance, self.most_threads);
        self.reins.allow.send_if_modified(|told| {
            let differs = *told != Some(word);
            *told = Some(word);
            differs
        });
        self.allow.send_replace(effects.allowance);
    }
}

fn engine(running: &Running) -> Engine {
    Engine {
        pid: running.pid,
        threads: running.threads,
    }
}

/// The word, as the engine's process understands it.
fn for_engine(allowance: &Allowance, most_threads: u16) -> protocol::Allowance {
    let threads = u32::from(most_threads) * u32::from(allowance.threads_permille) / 1000;
    protocol::Allowance {
        sequences: allowance.seats.unwrap_or(u16::MAX),
        threads: (allowance.threads_permille < 1000)
            .then(|| u16::try_from(threads.max(1)).unwrap_or(u16::MAX)),
        rest_permille: allowance.rest_permille,
        guessing: match allowance.speculation {
            Speculation::Free => Guessing::WherePaying,
            Speculation::Off => Guessing::Never,
        },
        keeping: if allowance.keeps_beginnings {
            Keeping::WithinLimits
        } else {
            Keeping::Nothing
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_threads_is_at_least_one() {
        let word = |threads_permille| {
            let allowance = Allowance {
                threads_permille,
                ..Allowance::default()
            };
            for_engine(&allowance, 4).threads
        };
        assert_eq!(word(1000), None);
        assert_eq!(word(500), Some(2));
        assert_eq!(word(10), Some(1));
    }

    #[test]
    fn an_allowance_without_seats_pauses_the_engine() {
        let allowance = Allowance {
            seats: Some(0),
            ..Allowance::default()
        };
        assert_eq!(for_engine(&allowance, 4).sequences, 0);
        assert_eq!(for_engine(&Allowance::default(), 4).sequences, u16::MAX);
    }
}
