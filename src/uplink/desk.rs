//! The decisions of the uplink: which errand goes next, which way, and when it is given back.
//!
//! ```text
//!                    a line says Now              the call's answer
//!   Send ──► Waiting ─────────────────► Calling ─────────────────────► Ended
//!               ▲  │                     │  │  └── Cancel ──► (gone)
//!               │  │ no way is left,     │  │
//!               │  │ or its time is up   │  └─ its time is up, no way or try is left ─► Ended
//!               │  └────────► Ended      │
//!               └────────────────────────┘ a fault, and another way or try is left
//! ```
//!
//! What it owns: the errands inside, the calls under way, the lines. A plain struct: inputs are
//! the `on_…` methods, each with the time; outputs pile up as [`Effects`], which the
//! [`shell`](super::shell) carries out.
//!
//! Order: the most urgent first, among those the oldest. Each errand goes its ways in their
//! order; where one fails, the next that is free takes over at once, and after all of them the
//! errand pauses, longer each time (full jitter), before it begins at the first again. An errand
//! never waits in here for a line that rests or has no budget: it is given back.

mod work;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::chat;
use super::ledger::{Booking, Marks, Spending};
use super::line::{Answer, Billed, Line};
use super::{
    Command, Errand, Event, Fault, MAX_ERRANDS, Question, Reach, Settings, Standing, State,
};
use crate::clock::{Mono, Now, Wall};
use crate::intake::Priority;
use crate::ticket::TicketNo;

/// No pause of an errand is shorter: what failed just now rarely works at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// No pause of an errand is longer; what waits for longer waits in the spool.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A spent budget is looked at again within this: the wall clock says when there is a new one, and
/// it may be set meanwhile.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_mins(1);

/// Names a call among all that this process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallNo(pub u64);

/// One request to one upstream.
#[derive(Clone, Debug)]
pub struct Call {
    /// Comes back with the result.
    pub no: CallNo,
    /// Which upstream, by its place in the settings.
    pub upstream: usize,
    /// The errand's key.
    pub key: String,
    /// What is asked.
    pub question: Arc<Question>,
    /// How long it may take as a whole.
    pub limit: Duration,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What it brought.
    pub result: Result<chat::Reading, Fault>,
    /// What it was billed.
    pub billed: Billed,
}

/// What is to be done now: marks are to be on the disk before a call begins.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be kept over a restart, by the upstreams' names.
    pub marks: Option<BTreeMap<String, Marks>>,
    /// To begin.
    pub calls: Vec<Call>,
    /// To break off. Nothing more is to be said of them.
    pub aborts: Vec<CallNo>,
    /// For the dispatcher.
    pub events: Vec<Event>,
}

/// The decisions of the uplink.
#[derive(Debug)]
pub struct Desk {
    lines: Vec<Line>,
    tries: u32,
    errands: BTreeMap<TicketNo, Held>,
    calls: HashMap<CallNo, Under>,
    next_call: u64,
    dice: fastrand::Rng,
    told: Option<State>,
    kept: BTreeMap<String, Marks>,
    wake: Option<(Mono, &'static str)>,
    out: Effects,
}

/// An errand inside.
#[derive(Debug)]
struct Held {
    key: String,
    question: Arc<Question>,
    /// Bytes of the whole request: what it can cost at most in tokens of a prompt.
    bytes: u64,
    urgency: Priority,
    accepted: Wall,
    until: Mono,
    /// Places of the lines that may have it, the best first.
    ways: Vec<Way>,
    tries: u32,
    stage: Stage,
    last: Option<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    line: usize,
    /// Whether it was tried since the last pause.
    tried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting { from: Mono },
    Calling(CallNo),
}

/// A call under way.
#[derive(Debug)]
struct Under {
    ticket: TicketNo,
    line: usize,
    booking: Booking,
    began: Mono,
    /// Whether the errand's own time is shorter than the upstream's.
    hurried: bool,
}

impl Desk {
    /// Goes on where the marks say. `seed` is for the jitter of the pauses.
    pub fn new(settings: Settings, kept: BTreeMap<String, Marks>, seed: u64, now: Now) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut lines = Vec::new();
        for upstream in settings.upstreams {
            let marks = kept.get(&upstream.name).copied();
            lines.push(Line::new(upstream, marks, dice.u64(..), now));
        }
        let mut desk = Self {
            lines,
            tries: settings.tries.max(1),
            errands: BTreeMap::new(),
            calls: HashMap::new(),
            next_call: 0,
            dice,
            told: None,
            kept,
            wake: None,
            out: Effects::default(),
        };
        desk.work(now);
        desk
    }

    /// The dispatcher wants something.
    pub fn on_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Send(errand) => self.take(errand, now),
            Command::Cancel(ticket) => {
                if let Some(held) = self.errands.remove(&ticket) {
                    self.break_off(held.stage, now);
                }
            }
        }
        self.work(now);
    }

    /// A call ended.
    pub fn on_outcome(&mut self, no: CallNo, outcome: Outcome, now: Now) {
        // Broken off meanwhile: it was settled then.
        if let Some(under) = self.calls.remove(&no) {
            self.ended(no, &under, outcome, now);
        }
        self.work(now);
    }

    /// Time has passed; see [`Desk::deadline`].
    pub fn on_timeout(&mut self, now: Now) {
        self.work(now);
    }

    /// When [`Desk::on_timeout`] wants to be called, and why.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        self.wake
    }

    /// Hands over what is to be done. Called once after each turn.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.out)
    }

    /// What is to be kept when the process ends orderly: what is really used.
    pub fn closing(&self) -> BTreeMap<String, Marks> {
        self.by_name(Line::closing)
    }

    /// What each upstream's budget looks like, by its name.
    pub fn spending(&self, now: Now) -> Vec<(String, Spending)> {
        let named = |line: &Line| {
            let name = line.upstream.name.clone();
            line.spending(now)
                .map(move |it| (name.clone(), it))
                .collect::<Vec<_>>()
        };
        self.lines.iter().flat_map(named).collect()
    }

    fn by_name(&self, marks: impl Fn(&Line) -> Marks) -> BTreeMap<String, Marks> {
        let named = |line: &Line| (line.upstream.name.clone(), marks(line));
        self.lines.iter().map(named).collect()
    }

    fn take(&mut self, errand: Errand, now: Now) {
        let ticket = errand.ticket();
        if self.errands.contains_key(&ticket) {
            tracing::error!(ticket = ticket.0, "an errand came twice; the first goes on");
            return;
        }
        let place = |name: &str| {
            self.lines
                .iter()
                .position(|line| line.upstream.name == name)
        };
        let ways: Vec<Way> = errand
            .ways()
            .iter()
            .filter_map(|clearance| place(&clearance.place().upstream))
            .filter(|&line| self.lines[line].accepts(errand.classification))
            .map(|line| Way { line, tried: false })
            .collect();
        if ways.is_empty() {
            return self.tell_end(ticket, Err(Fault::Uncleared));
        }
        if self.errands.len() >= MAX_ERRANDS {
            return self.tell_end(ticket, Err(Fault::Busy));
        }
        let held = Held {
            key: errand.key.as_str().to_owned(),
            bytes: chat::worst_prompt_tokens(&errand.question),
            question: Arc::new(errand.question),
            urgency: errand.urgency,
            accepted: errand.accepted,
            until: errand.until,
            ways,
            tries: 0,
            stage: Stage::Waiting { from: now.mono },
            last: None,
        };
        self.errands.insert(ticket, held);
    }

    /// Whatever can go on now, goes on.
    fn work(&mut self, now: Now) {
        for line in &mut self.lines {
            line.tick(now);
        }
        self.expire(now);
        for ticket in self.due(now) {
            self.go(ticket, now);
        }
        self.tell_state(now);
        self.tell_marks();
        self.wake = self.next_wake(now);
    }

    fn tell_state(&mut self, now: Now) {
        let slots = self.lines.iter().map(|line| line.slots(now));
        let most = u32::try_from(MAX_ERRANDS).unwrap_or(u32::MAX);
        let standing = |line: &Line| Standing {
            name: line.upstream.name.clone(),
            reach: line.reach(now),
        };
        let state = State {
            slots: slots.fold(0, u32::saturating_add).min(most),
            upstreams: self.lines.iter().map(standing).collect(),
        };
        if self
            .told
            .as_ref()
            .is_none_or(|told| !is_alike(told, &state))
        {
            self.told = Some(state.clone());
            self.out.events.push(Event::State(state));
        }
    }

    fn tell_marks(&mut self) {
        let marks = self.by_name(Line::marks);
        let is_new = |(name, marks): (&String, &Marks)| self.kept.get(name) != Some(marks);
        if marks.iter().any(is_new) {
            self.kept.clone_from(&marks);
            self.out.marks = Some(marks);
        }
    }

    fn next_wake(&self, now: Now) -> Option<(Mono, &'static str)> {
        let mut wakes = Vec::new();
        for held in self.errands.values() {
            wakes.push((held.until, "an errand's time is up"));
            match held.stage {
                Stage::Waiting { from } if from > now.mono => {
                    wakes.push((from, "an errand's pause is over"));
                }
                Stage::Waiting { .. } => {
                    for way in held.ways.iter().filter(|way| !way.tried) {
                        if let Answer::At(at) = self.asked(held, way.line, now) {
                            wakes.push((at, "a call may begin"));
                        }
                    }
                }
                Stage::Calling(_) => {}
            }
        }
        for line in &self.lines {
            match line.reach(now) {
                Reach::Open => {}
                Reach::Resting { until } => wakes.push((until, "an upstream has rested")),
                Reach::Spent { until } => {
                    let until = until.min(now.mono.after(LOOK_AT_THE_CLOCK));
                    wakes.push((until, "there may be a new budget"));
                }
            }
        }
        wakes.into_iter().min_by_key(|(at, _)| *at)
    }
}

/// Whether two states differ in nothing but moments.
fn is_alike(a: &State, b: &State) -> bool {
    let kind = |standing: &Standing| std::mem::discriminant(&standing.reach);
    a.slots == b.slots
        && a.upstreams
            .iter()
            .map(kind)
            .eq(b.upstreams.iter().map(kind))
}
