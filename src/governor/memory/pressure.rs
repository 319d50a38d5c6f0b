//! Memory pressure: what is given up, step by step, before the kernel takes it.
//!
//! ```text
//!          on_reading: short of memory for SETTLE              on_reading: critical
//!   Calm ──► Evict ──► FewerSequences ──► SmallerContext ──► Reroute ◄── from anywhere, at once
//!     ◄────────  ◄───────────────  ◄───────────────────  ◄──────
//!          on_reading: enough for CALM (a smaller context: for LONG_CALM)
//! ```
//!
//! Purpose: from a reading of the kernel's figures it says how far relief has to go. Three signs
//! count, the gravest decides: what is left to be had, in the machine or in the control group; the
//! share of time in which tasks waited for memory (PSI); and that the group is over its `high`
//! mark, where the kernel slows it down.
//!
//! Owns the current [`Step`]. Pure: time comes with the reading.
//!
//! Invariants: it goes down one step at a time, each with time to take effect, unless memory is
//! about to end; it comes back one step at a time, and only where there is clearly enough, so that
//! no figure at a mark makes it swing; a smaller plan is asked for once on each way down and once
//! for each kill; while it reroutes, it says when to ask again.
//!
//! How it fails: it cannot. Figures that contradict each other (more in use than there is) count
//! as none left. Who gets no reading for a while keeps the last relief.

use std::time::Duration;

use crate::clock::Mono;

/// How long a step has to take effect before the next one follows.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How long there must be enough before a step is taken back.
pub const CALM: Duration = Duration::from_secs(30);
/// The same for the smaller context, whose end costs a restart of the engine.
pub const LONG_CALM: Duration = Duration::from_mins(10);
/// When a device may ask again while the edge is shut.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Thousandths of all memory that are left, below which each step begins. They lie below a plan's
/// margin, so that a plan that just fits does not begin with relief.
const LEFT_PERMILLE: [(Step, u64); 4] = [
    (Step::Reroute, 10),
    (Step::SmallerContext, 16),
    (Step::FewerSequences, 25),
    (Step::Evict, 40),
];
/// The same in bytes, which is what counts on a large machine: nobody needs a part of 64 GiB.
const LEFT_BYTES: [(Step, u64); 4] = [
    (Step::Reroute, 24 << 20),
    (Step::SmallerContext, 48 << 20),
    (Step::FewerSequences, 96 << 20),
    (Step::Evict, 192 << 20),
];
/// Per cent of the last ten seconds in which some tasks waited for memory.
const SOME_PERCENT: [(Step, f32); 2] = [(Step::FewerSequences, 40.0), (Step::Evict, 10.0)];
/// And in which all of them did.
const FULL_PERCENT: [(Step, f32); 4] = [
    (Step::Reroute, 40.0),
    (Step::SmallerContext, 20.0),
    (Step::FewerSequences, 8.0),
    (Step::Evict, 2.0),
];
/// A step is taken back once the share of waiting is below its mark by this factor; once half as
/// much again as at its mark is left, by the same.
const BETTER: f32 = 1.5;
/// Below `high` the group must be by one part in so many.
const BELOW_HIGH_SHARE: u64 = 20;
/// Conversations are cut to one part in so many.
const FEWER_SHARE: u16 = 4;

/// The kernel's figures at one moment. What is not there is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryReading {
    /// Bytes of the machine.
    pub total_bytes: u64,
    /// Bytes that may be had without swapping.
    pub available_bytes: u64,
    /// The control group that service and engine are in.
    pub group: Option<GroupReading>,
    /// Pressure stall information, of the group or of the machine.
    pub stalls: Option<Stalls>,
    /// Bytes of the service's process.
    pub own_bytes: u64,
    /// Bytes of the engine's.
    pub engine_bytes: u64,
}

/// `memory.*` of a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupReading {
    /// Bytes in use, page cache that can be dropped taken off.
    pub current_bytes: u64,
    /// Where the kernel begins to slow it down.
    pub high_bytes: Option<u64>,
    /// Where it begins to kill.
    pub max_bytes: Option<u64>,
    /// Processes killed so far (`oom_kill` in `memory.events`).
    pub oom_kills: u64,
}

/// Per cent of the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stalls {
    /// Some tasks waited for memory.
    pub some_percent: f32,
    /// All of them did.
    pub full_percent: f32,
}

/// How far relief goes; each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Nothing is given up.
    #[default]
    Calm,
    /// Beginnings that nobody uses now.
    Evict,
    /// Most conversations at a time.
    FewerSequences,
    /// The context: the engine is started anew by a smaller plan.
    SmallerContext,
    /// The edge: requests go elsewhere or are refused until there is memory again.
    Reroute,
}

impl Step {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Evict => "evict",
            Self::FewerSequences => "fewer_sequences",
            Self::SmallerContext => "smaller_context",
            Self::Reroute => "reroute",
        }
    }

    fn below(self) -> Self {
        match self {
            Self::Calm | Self::Evict => Self::Calm,
            Self::FewerSequences => Self::Evict,
            Self::SmallerContext => Self::FewerSequences,
            Self::Reroute => Self::SmallerContext,
        }
    }

    fn above(self) -> Self {
        match self {
            Self::Calm => Self::Evict,
            Self::Evict => Self::FewerSequences,
            Self::FewerSequences => Self::SmallerContext,
            Self::SmallerContext | Self::Reroute => Self::Reroute,
        }
    }
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub struct Relief {
    /// How far it goes.
    pub step: Step,
    /// Beginnings that nobody uses are to be let go of, now.
    pub evict: bool,
    /// Conversations at a time at most.
    pub sequences: Option<u16>,
    /// The engine is to be planned anew, for this reason.
    pub replan: Option<Replan>,
    /// The edge is shut; ask again after that.
    pub shut: Option<Duration>,
    /// The figure that decided; none while all is calm.
    pub why: Option<String>,
}

/// Why a new plan is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replan {
    /// Memory is short: a smaller one.
    Smaller,
    /// The kernel killed the engine: a smaller one, and it is to be remembered.
    Killed,
    /// There is enough again: as at the start.
    Whole,
}

/// How an engine ended, as far as memory is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By SIGKILL from somebody else than its own service.
    Killed,
    /// In any other way.
    Other,
}

/// The state of pressure.
#[derive(Clone, Debug)]
pub struct Pressure {
    /// Conversations at a time by the plan.
    sequences: u16,
    step: Step,
    /// Since when it is this step.
    since: Mono,
    /// Since when there was enough for one step less.
    better_since: Option<Mono>,
    oom_kills: Option<u64>,
    /// An engine was killed, and no reading has shown by whom.
    killed: bool,
}

impl Pressure {
    /// All is calm. `sequences` is what the plan allows.
    pub fn new(sequences: u16) -> Self {
        Self {
            sequences,
            step: Step::Calm,
            since: Mono::default(),
            better_since: None,
            oom_kills: None,
            killed: false,
        }
    }

    /// How far relief goes now.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Another plan is in force.
    pub fn on_plan(&mut self, sequences: u16) {
        self.sequences = sequences;
    }

    /// The engine ended. Whether that was the kernel, for its memory, the next reading shows.
    pub fn on_engine_end(&mut self, death: Death) {
        self.killed |= death == Death::Killed;
    }

    /// The kernel's figures.
    pub fn on_reading(&mut self, reading: &MemoryReading, now: Mono) -> Relief {
        let oom = self.saw_oom(reading);
        let before = self.step;
        let (wanted, why) = asked(reading, Look::Marks);
        let (kept, _) = asked(reading, Look::ClearlyBetter);
        if wanted > self.step {
            self.better_since = None;
            if wanted == Step::Reroute {
                self.go(wanted, now);
            } else if self.step == Step::Calm || now.since(self.since) >= SETTLE {
                self.go(self.step.above(), now);
            }
        } else if kept < self.step {
            self.recover(now);
        } else {
            self.better_since = None;
        }
        self.relief(before, oom, why)
    }

    /// A kill that the counter shows and a SIGKILL explains, or that the counter shows alone: a
    /// group holds nothing but service and engine.
    fn saw_oom(&mut self, reading: &MemoryReading) -> bool {
        let Some(group) = reading.group else {
            // Without a counter, a kill while memory was nearly gone is taken for one.
            let nearly_gone = asked(reading, Look::Marks).0 >= Step::FewerSequences;
            return std::mem::take(&mut self.killed) && nearly_gone;
        };
        let known = self.oom_kills.replace(group.oom_kills);
        self.killed = false;
        known.is_some_and(|known| group.oom_kills > known)
    }

    fn go(&mut self, step: Step, now: Mono) {
        self.step = step;
        self.since = now;
        self.better_since = None;
    }

    fn recover(&mut self, now: Mono) {
        let since = *self.better_since.get_or_insert(now);
        let needed = match self.step {
            Step::SmallerContext => LONG_CALM,
            Step::Calm | Step::Evict | Step::FewerSequences | Step::Reroute => CALM,
        };
        if now.since(since) >= needed {
            self.go(self.step.below(), now);
        }
    }

    fn relief(&self, before: Step, oom: bool, why: Option<String>) -> Relief {
        let smaller = Step::SmallerContext;
        let replan = if oom {
            Some(Replan::Killed)
        } else if before < smaller && self.step >= smaller {
            Some(Replan::Smaller)
        } else if before >= smaller && self.step < smaller {
            Some(Replan::Whole)
        } else {
            None
        };
        Relief {
            step: self.step,
            evict: self.step > before,
            sequences: (self.step >= Step::FewerSequences)
                .then(|| (self.sequences / FEWER_SHARE).max(1)),
            replan,
            shut: (self.step == Step::Reroute).then_some(RETRY_AFTER),
            why: match why {
                Some(why) => Some(why),
                None if self.step > Step::Calm => Some("memory was short a moment ago".into()),
                None => None,
            },
        }
    }
}

/// How closely figures are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Against the marks: whether to go down.
    Marks,
    /// Against marks that are clearly better: whether to come back.
    ClearlyBetter,
}

/// The step that a reading asks for, and the figure that does.
fn asked(reading: &MemoryReading, look: Look) -> (Step, Option<String>) {
    let mut gravest = (Step::Calm, None);
    let mut hear = |step: Option<Step>, why: &dyn Fn() -> String| {
        if let Some(step) = step.filter(|step| *step > gravest.0) {
            gravest = (step, Some(why()));
        }
    };
    if reading.total_bytes > 0 {
        let left = reading.available_bytes;
        hear(of_left(left, reading.total_bytes, look), &|| {
            format!("{} MiB of memory are left", left >> 20)
        });
    }
    if let Some(group) = reading.group {
        let current = group.current_bytes;
        if let Some(max) = group.max_bytes {
            let left = max.saturating_sub(current);
            hear(of_left(left, max, look), &|| {
                format!("{} MiB are left in the control group", left >> 20)
            });
        }
        let mark = group.high_bytes.map(|high| match look {
            Look::Marks => high,
            Look::ClearlyBetter => high - high / BELOW_HIGH_SHARE,
        });
        let over = mark.is_some_and(|mark| current >= mark);
        hear(over.then_some(Step::Evict), &|| {
            "the control group is at its high mark".into()
        });
    }
    if let Some(stalls) = reading.stalls {
        let (some, full) = (stalls.some_percent, stalls.full_percent);
        hear(of_waiting(some, &SOME_PERCENT, look), &|| {
            format!("some tasks waited for memory {some:.0} % of the time")
        });
        hear(of_waiting(full, &FULL_PERCENT, look), &|| {
            format!("all tasks waited for memory {full:.0} % of the time")
        });
    }
    gravest
}

/// By the smaller of the two marks.
fn of_left(left: u64, total: u64, look: Look) -> Option<Step> {
    let marks = LEFT_PERMILLE.iter().zip(&LEFT_BYTES);
    let mut marks = marks.map(|((step, permille), (_, bytes))| {
        let mark = (total / 1000).saturating_mul(*permille).min(*bytes);
        let mark = match look {
            Look::Marks => mark,
            Look::ClearlyBetter => mark.saturating_add(mark / 2), // as BETTER
        };
        (*step, mark)
    });
    marks.find(|(_, mark)| left < *mark).map(|(step, _)| step)
}

fn of_waiting(percent: f32, marks: &[(Step, f32)], look: Look) -> Option<Step> {
    let factor = match look {
        Look::Marks => 1.0,
        Look::ClearlyBetter => BETTER,
    };
    let reached = |(_, mark): &&(Step, f32)| percent * factor >= *mark;
    marks.iter().find(reached).map(|(step, _)| *step)
}

#[cfg(test)]
mod tests;
