//! The life of one model's process, and of those that follow it when it dies.
//!
//! ```text
//!                 start                    ready
//!   Unloaded ───────────────► Starting ───────────────► Ready
//!      ▲                        ▲  │ │                   │ │
//!      │              start     │  │ └─ refuse ──┐       │ │
//!      │     ┌──────────────────┘  │             ▼       │ │
//!      │     │        ▲          died        Unloadable  │ │
//!      │     │        │            ▼             ▲  │    │ │
//!      │     │        └─────── BackOff ◄─────────┼──┼─died │
//!      │     └───────────────────────────────────┼──┘      │
//!      │               too often while loading ──┘         │
//!      └───────────────────────── unload ──────────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::stock::Stock;
use super::{ActiveModel, ChildNo};
use crate::clock::Mono;
use crate::engine::memo::Key;
use crate::engine::protocol::Facts;
use crate::engine::worker::BEAT;

/// How long loading may take: the largest model that a board can hold, from its slowest card.
pub const LOAD_LIMIT: Duration = Duration::from_mins(5);
/// Silence after which an engine counts as stuck, where one pass takes next to no time: thirty
/// signs of life. Short enough that devices hardly notice, long enough for a crowded machine.
pub const MIN_SILENCE: Duration = BEAT.saturating_mul(30);
/// The same for the slowest model: nobody waits longer for a sign of life.
pub(super) const MAX_SILENCE: Duration = Duration::from_mins(1);
/// How much longer than the engine's own measurement says a pass may take: heat and neighbours
/// slow it down.
const SLOWNESS: u32 = 4;
/// The pause before the first restart: the kernel has to take back what the dead one held.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: a fault that comes and goes is tried twice a minute.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);
/// What a process must have lived, with an answer given, for its death to count as the first.
pub(super) const GOOD_LIFE: Duration = Duration::from_secs(10);
/// Deaths in a row while loading, after which the model counts as one that cannot be loaded:
/// native code that aborts on a file will do so again.
pub(super) const MAX_LOAD_DEATHS: u32 = 3;
/// When a model that could not be loaded is tried again: somebody may have put the file right.
pub const RETRY_UNLOADABLE: Duration = Duration::from_mins(5);

/// One model, and where its process stands.
#[derive(Debug)]
pub(super) struct Life {
    pub model: Arc<ActiveModel>,
    pub phase: Phase,
    /// Of the process that is there, or was there last.
    pub stock: Stock,
    /// Deaths since it last did good work.
    deaths: u32,
    load_deaths: u32,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// No process, and none is wanted until a job comes.
    Unloaded,
    /// The process reads its model.
    Starting { child: ChildNo, since: Mono },
    /// It computes.
    Ready(Box<Ready>),
    /// It died; the next one is started then.
    BackOff { until: Mono, why: String },
    /// Its model cannot be loaded.
    Unloadable { retry: Mono, why: String },
}

#[derive(Debug)]
pub(super) struct Ready {
    pub child: ChildNo,
    since: Mono,
    heard: Mono,
    /// How long it may be silent.
    patience: Duration,
    /// It was overdue when nobody had looked for a while: it gets one more term.
    excused: bool,
    answered: bool,
    /// Failures without an answer in between.
    pub sick: u32,
}

/// What a look at the clock showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It takes too long to load.
    Loading,
    /// It gives no sign of life.
    Silent,
    /// It is time for a process.
    Start,
}

impl Life {
    pub(super) fn new(model: Arc<ActiveModel>) -> Self {
        Self {
            model,
            phase: Phase::Unloaded,
            stock: Stock::new(Vec::new()),
            deaths: 0,
            load_deaths: 0,
        }
    }

    /// The process, if there is one.
    pub(super) fn child(&self) -> Option<ChildNo> {
        match &self.phase {
            Phase::Starting { child, .. } => Some(*child),
            Phase::Ready(ready) => Some(ready.child),
            Phase::Unloaded | Phase::BackOff { .. } | Phase::Unloadable { .. } => None,
        }
    }

    /// The process that takes work, if there is one.
    pub(super) fn ready_child(&self) -> Option<ChildNo> {
        match &self.phase {
            Phase::Ready(ready) => Some(ready.child),
            Phase::Starting { .. }
            | Phase::Unloaded
            | Phase::BackOff { .. }
            | Phase::Unloadable { .. } => None,
        }
    }

    pub(super) fn start(&mut self, child: ChildNo, keys: Vec<Key>, now: Mono) {
        self.stock = Stock::new(keys);
        self.phase = Phase::Starting { child, since: now };
    }

    /// The model is loaded. False if that is news out of turn.
    pub(super) fn ready(&mut self, facts: &Facts, now: Mono) -> bool {
        let Phase::Starting { child, .. } = self.phase else {
            return false;
        };
        self.load_deaths = 0;
        self.phase = Phase::Ready(Box::new(Ready {
            child,
            since: now,
            heard: now,
            patience: patience(facts, self.model.options.batch_tokens),
            excused: false,
            answered: false,
            sick: 0,
        }));
        true
    }

    /// A sign of life.
    pub(super) fn heard(&mut self, now: Mono) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.heard = now;
            ready.excused = false;
        }
    }

    pub(super) fn answered(&mut self) {
        if let Phase::Ready(ready) = &mut self.phase {
            ready.answered = true;
            ready.sick = 0;
        }
    }

    /// A pass went wrong, how many times in a row?
    pub(super) fn sick(&mut self) -> u32 {
        match &mut self.phase {
            Phase::Ready(ready) => {
                ready.sick += 1;
                ready.sick
            }
            Phase::Starting { .. }
            | Phase::Unloaded
            | Phase::BackOff { .. }
            | Phase::Unloadable { .. } => 0,
        }
    }

    /// Its process is gone, or as good as.
    pub(super) fn died(&mut self, why: &str, now: Mono) {
        match &self.phase {
            Phase::Starting { .. } => {
                self.load_deaths += 1;
                if self.load_deaths >= MAX_LOAD_DEATHS {
                    let why = format!("it died {} times while loading: {why}", self.load_deaths);
                    self.refuse(why, now);
                    return;
                }
            }
            Phase::Ready(ready) if ready.answered && now.since(ready.since) >= GOOD_LIFE => {
                self.deaths = 0;
            }
            Phase::Ready(_) => {}
            Phase::Unloaded | Phase::BackOff { .. } | Phase::Unloadable { .. } => return,
        }
        let until = now.after(pause(self.deaths));
        self.deaths = self.deaths.saturating_add(1);
        let why = why.to_owned();
        self.phase = Phase::BackOff { until, why };
    }

    /// Its model cannot be loaded.
    pub(super) fn refuse(&mut self, why: String, now: Mono) {
        let retry = now.after(RETRY_UNLOADABLE);
        self.load_deaths = 0;
        self.phase = Phase::Unloadable { retry, why };
    }

    pub(super) fn unload(&mut self) {
        self.phase = Phase::Unloaded;
    }

    /// When time alone changes something.
    pub(super) fn deadline(&self) -> Option<(Mono, &'static str)> {
        match &self.phase {
            Phase::Unloaded => None,
            Phase::Starting { since, .. } => {
                Some((since.after(LOAD_LIMIT), "a model to be loaded at last"))
            }
            Phase::Ready(ready) => Some((
                ready.heard.after(ready.patience),
                "a sign of life from the engine",
            )),
            Phase::BackOff { until, .. } => Some((*until, "the engine to be started again")),
            Phase::Unloadable { retry, .. } => Some((*retry, "the model to be tried again")),
        }
    }

    /// What is due. An engine that is overdue only because nobody looked is excused once: a
    /// service that was stopped itself must not blame its engine.
    pub(super) fn overdue(&mut self, now: Mono) -> Option<Overdue> {
        let (at, _) = self.deadline()?;
        if now < at {
            return None;
        }
        match &mut self.phase {
            Phase::Starting { .. } => Some(Overdue::Loading),
            Phase::Ready(ready) if now.since(at) > ready.patience && !ready.excused => {
                ready.excused = true;
                ready.heard = now;
                None
            }
            Phase::Ready(_) => Some(Overdue::Silent),
            Phase::BackOff { .. } | Phase::Unloadable { .. } => Some(Overdue::Start),
            Phase::Unloaded => None,
        }
    }
}

/// How long an engine of this pace may be silent: a pass over a whole batch takes no longer than
/// its tokens one by one.
fn patience(facts: &Facts, batch_tokens: u32) -> Duration {
    let seconds = f64::from(batch_tokens) / f64::from(facts.tokens_per_s);
    let pass = Duration::try_from_secs_f64(seconds).unwrap_or(MAX_SILENCE);
    let pass = pass.saturating_mul(SLOWNESS);
    MIN_SILENCE.saturating_add(pass).min(MAX_SILENCE)
}

/// The pause before the restart after so many deaths in a row.
fn pause(deaths: u32) -> Duration {
    let doubled = 1_u32.checked_shl(deaths).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!(pause(0), FIRST_PAUSE);
        assert_eq!(pause(1), FIRST_PAUSE * 2);
        assert_eq!(pause(3), FIRST_PAUSE * 8);
        for deaths in [20, 31, 32, 40, u32::MAX] {
            assert_eq!(pause(deaths), MAX_PAUSE, "{deaths}");
        }
    }

    #[test]
    fn a_slow_model_may_be_silent_for_longer_but_not_for_ever() {
        let at = |tokens_per_s| {
            let facts = Facts {
                tokens_per_s,
                ..Facts::default()
            };
            patience(&facts, 512)
        };
        assert!(at(9000.0) < MIN_SILENCE + Duration::from_secs(1));
        assert!(at(64.0) > Duration::from_secs(30));
        for strange in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            let patience = at(strange);
            assert!((MIN_SILENCE..=MAX_SILENCE).contains(&patience), "{strange}");
        }
    }
}
