//! The watchdog: the service manager is told that all is well only while every stage moves.
//!
//! A stage gets a [`Pulse`] and beats it each time round its loop. A loop that waits for input
//! also wakes on a timer, well within the silence it is allowed; so an idle stage beats and a
//! hung one does not.
//!
//! ```text
//!             every pulse young                   a pulse older than allowed
//!   feeding ────────────────────► feeding   feeding ──────────────────────► stalled
//!                                           stalled ──────────────────────► feeding
//!                                              every pulse young again
//! ```
//!
//! While stalled nothing is fed, and the service manager ends the process after its own time
//! limit. The stage is named in the log once, and once more when it moves again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Notifier;
use crate::clock::{Clock, Mono, Now, millis};

/// The service manager's limit holds this many looks, so that one lost datagram is no death.
const LOOKS_PER_LIMIT: u32 = 3;
/// How often to look where no service manager asks: stalls are still worth a line in the log.
const LOOK_WITHOUT_MANAGER: Duration = Duration::from_secs(5);

/// One stage's sign of life.
#[derive(Debug)]
pub struct Pulse(Arc<Stage>);

impl Pulse {
    /// The stage went round its loop. Costs one atomic write.
    pub fn beat(&self, now: Now) {
        self.0
            .last_ms
            .fetch_max(millis(now.mono.0), Ordering::Relaxed);
    }

    /// The stage ends as it was asked to and will not beat again.
    ///
    /// Dropping a pulse does not do this: a stage that was lost counts as silent.
    pub fn retire(self) {
        self.0.retired.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    allowed: Duration,
    last_ms: AtomicU64,
    retired: AtomicBool,
}

/// The stages that the watchdog looks after.
#[derive(Debug, Default)]
pub struct Pulses(Vec<Arc<Stage>>);

impl Pulses {
    /// Registers a stage, which counts as having just beaten.
    pub fn stage(&mut self, name: &'static str, allowed_silence: Duration, now: Now) -> Pulse {
        let stage = Arc::new(Stage {
            name,
            allowed: allowed_silence,
            last_ms: AtomicU64::new(millis(now.mono.0)),
            retired: AtomicBool::new(false),
        });
        self.0.push(Arc::clone(&stage));
        Pulse(stage)
    }
}

/// Whether the service manager may be told that all is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every stage has beaten in time.
    Feed,
    /// At least one has not; this is the one that is most overdue.
    Stalled {
        /// Its name.
        stage: &'static str,
        /// How long it has been silent.
        silent: Duration,
    },
}

/// What has changed since the last look, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This stage has just become too silent.
    Stalled {
        /// Its name.
        stage: &'static str,
        /// How long it has been silent.
        silent: Duration,
    },
    /// This stage had stalled and moves again.
    MovesAgain {
        /// Its name.
        stage: &'static str,
    },
}

/// Looks at the pulses and decides.
#[derive(Debug)]
pub struct Watchdog {
    /// Each stage, and whether it was reported as stalled.
    stages: Vec<(Arc<Stage>, bool)>,
    news: Vec<News>,
}

impl Watchdog {
    /// Looks after these stages.
    pub fn new(pulses: Pulses) -> Self {
        Self {
            stages: pulses.0.into_iter().map(|stage| (stage, false)).collect(),
            news: Vec::new(),
        }
    }

    /// Looks at every stage once.
    pub fn on_tick(&mut self, now: Mono) -> Verdict {
        let mut worst: Option<(Duration, &'static str, Duration)> = None;
        for (stage, reported) in &mut self.stages {
            let last = Duration::from_millis(stage.last_ms.load(Ordering::Relaxed));
            let silent = now.since(Mono(last));
            let overdue = silent.saturating_sub(stage.allowed);
            let stalled = !overdue.is_zero() && !stage.retired.load(Ordering::Relaxed);
            let stage = stage.name;
            if stalled && worst.is_none_or(|(most, ..)| overdue > most) {
                worst = Some((overdue, stage, silent));
            }
            match (stalled, *reported) {
                (true, false) => self.news.push(News::Stalled { stage, silent }),
                (false, true) => self.news.push(News::MovesAgain { stage }),
                (true, true) | (false, false) => {}
            }
            *reported = stalled;
        }
        match worst {
            None => Verdict::Feed,
            Some((_, stage, silent)) => Verdict::Stalled { stage, silent },
        }
    }

    /// What the looks since the last call brought to light; each change comes once.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

/// Looks and feeds until it is dropped; let it run until the drain is over.
pub async fn watch(mut watchdog: Watchdog, notifier: Notifier, clock: Clock) {
    let pause = notifier
        .watchdog()
        .map_or(LOOK_WITHOUT_MANAGER, |limit| limit / LOOKS_PER_LIMIT);
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let verdict = watchdog.on_tick(clock.now().mono);
        for news in watchdog.take_news() {
            report(news);
        }
        match verdict {
            Verdict::Feed => {
                if let Err(error) = notifier.feed() {
                    tracing::debug!(%error, "the service manager took no sign of life");
                }
            }
            Verdict::Stalled { .. } => {}
        }
    }
}

fn report(news: News) {
    match news {
        News::Stalled { stage, silent } => {
            tracing::error!(stage, silent_ms = millis(silent), "a stage has stalled");
        }
        News::MovesAgain { stage } => tracing::info!(stage, "a stage moves again"),
    }
}

#[cfg(test)]
mod tests;
