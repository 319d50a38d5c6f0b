//! The supervisor: which engine processes there are, and what each of them is to do.
//!
//! Purpose: it stands between the dispatcher and the processes. Inputs are the `on_…` methods,
//! each with the time; outputs pile up as [`Effects`], which [`super::process`] carries out. No
//! clock, no process, no socket in here.
//!
//! ```text
//!   on_command   on_frame   on_exit   on_wanted   on_timeout
//!       │            │         │          │            │
//!  ┌────▼────────────▼─────────▼──────────▼────────────▼────┐
//!  │  pieces: work and who waits      memo: answers given   │
//!  │  successor ── ready ──► serving ── replaced ──► retiring│
//!  └────┬────────────┬─────────┬──────────────────┬─────────┘
//!       ▼            ▼         ▼                  ▼
//!     spawn       frames      kill, errands     events
//! ```
//!
//! Each of the three is a [`life::Life`]: its diagram says how a process starts, dies and comes
//! back. Normally there is only `serving`. A change of the active model starts `successor` beside
//! it; once that is ready it serves, and the old one finishes what it has and is ended. If the
//! new model cannot be loaded, the old one goes on. Where memory does not suffice for both
//! ([`Succession::InPlace`]), the old one is ended first, and what it had is as if it had waited.
//! Where the memory is needed for something else for a while ([`Wanted::Resting`]), nothing serves
//! and whatever comes waits.
//!
//! Invariants:
//!
//! - Every job ends in exactly one [`Event::Ended`], unless it is cancelled.
//! - A job is told `Crashed` only if its own computation was under way when the process failed;
//!   what waited in that process's queue is `Busy`, and as innocent as before.
//! - There are never more than three processes, and never more work than a small multiple of the
//!   slots; the dispatcher is told when there is no room.
//!
//! How it fails: a process that dies is started again after growing pauses; one that gives no
//! sign of life is killed first. A model that cannot be loaded makes the engine absent, with the
//! reason in the [`Report`], and is tried again slowly.

mod crew;
mod jobs;
mod life;
mod pieces;
mod stock;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use life::{FIRST_PAUSE, LOAD_LIMIT, MAX_PAUSE, MIN_SILENCE, RETRY_UNLOADABLE};

use self::life::{Life, Overdue, Phase};
use self::pieces::{Left, Pieces, Place};
use super::cage::Guard;
use super::handover::Sealed;
use super::memo::{self, Key, Memo};
use super::order::Book;
use super::protocol::{Allowance, FromEngine, Options, Piece, ToEngine};
use super::{Command, Event, LoadEnd, LoadNo, Report, State};
use crate::clock::Mono;

/// Which process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildNo(pub u64);

/// What is to be served.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// It is still being looked at.
    Coming,
    /// Nothing, for this reason.
    Nothing {
        /// For people.
        why: String,
    },
    /// Nothing for a while, for this reason: the memory is needed. Whatever comes waits.
    Resting {
        /// For people.
        why: String,
    },
    /// This.
    Model(Arc<ActiveModel>),
}

/// A model that was found good, and how it is run.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveModel {
    /// What it can be asked.
    pub book: Book,
    /// How it is run.
    pub options: Options,
    /// A smaller model that guesses ahead.
    pub draft: Option<PathBuf>,
    /// How it takes over from the one before.
    pub succession: Succession,
    /// Which load this is. The same model under another number is not loaded again.
    pub load: LoadNo,
}

/// How a model takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Succession {
    /// It is loaded beside the one that serves, which goes on until it is ready.
    #[default]
    Beside,
    /// The one that serves is ended first, for there is no memory for two. What it had is offered
    /// again; what comes waits.
    InPlace,
}

impl ActiveModel {
    /// Jobs at a time. No more than can stand in line: a burst is there before any of it is begun,
    /// and who is turned away waits longer than who stands at the back.
    fn slots(&self) -> u32 {
        u32::from(self.options.queue.max(1))
    }

    /// Whether both are the same but for their numbers, and how they take over.
    fn is_like(&self, other: &Self) -> bool {
        self.book == other.book && self.options == other.options && self.draft == other.draft
    }

    fn name(&self) -> String {
        let model = self.book.model();
        format!("{} {}", model.package, model.seq)
    }
}

/// What is to be done now, list after list.
#[derive(Debug, Default)]
pub struct Effects {
    /// Processes to start.
    pub spawn: Vec<ChildNo>,
    /// What of their models lies sealed, and is to be opened for them.
    pub sealed: Vec<(ChildNo, Sealed)>,
    /// What to say to them, in this order.
    pub frames: Vec<(ChildNo, ToEngine)>,
    /// Processes to end at once.
    pub kill: Vec<ChildNo>,
    /// For the stockroom.
    pub errands: Vec<Errand>,
    /// For the dispatcher.
    pub events: Vec<Event>,
}

/// What the stockroom is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Give this process, which starts, the beginnings that lie there; one for each instruction.
    Fetch(ChildNo, Vec<Key>),
    /// Write a piece of a beginning of this process.
    Put(ChildNo, Key, Piece),
    /// Let go of all but these.
    Keep(Vec<Key>),
}

/// What the stockroom says of an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// These lie there, and the process has been given them.
    Fetched(Vec<Key>),
    /// The piece was written, or could not be.
    Put(bool),
}

/// Whether there is a stockroom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginnings {
    /// There is: they are kept for the next start.
    Kept,
    /// There is none.
    Forgotten,
}

/// The supervisor.
#[derive(Debug)]
pub struct Supervisor {
    unload_after: Option<Duration>,
    beginnings: Beginnings,
    wanted: Wanted,
    serving: Option<Life>,
    successor: Option<Life>,
    retiring: Option<Life>,
    /// A model that was wanted and could not be loaded while another one served.
    declined: Option<(Arc<ActiveModel>, String)>,
    allowance: Option<Allowance>,
    pieces: Pieces,
    memo: Memo,
    idle_since: Option<Mono>,
    crashes: u64,
    unguarded: Vec<Guard>,
    last_child: u64,
    last_work: u64,
    /// The load that was last told to serve.
    switched: LoadNo,
    said: Option<State>,
    told: Option<Report>,
    /// Something may have to be announced: most turns change nothing that people want to hear.
    changed: bool,
    out: Effects,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Serving,
    Successor,
    Retiring,
}

const ROLES: [Role; 3] = [Role::Serving, Role::Successor, Role::Retiring];

impl Supervisor {
    /// One that waits to be told what to serve. `unload_after` is how long an engine may have
    /// nothing to do; none means for ever.
    pub fn new(unload_after: Option<Duration>, memo: memo::Limits) -> Self {
        Self {
            unload_after,
            beginnings: Beginnings::Forgotten,
            wanted: Wanted::Coming,
            serving: None,
            successor: None,
            retiring: None,
            declined: None,
            allowance: None,
            pieces: Pieces::default(),
            memo: Memo::new(memo),
            idle_since: None,
            crashes: 0,
            unguarded: Vec::new(),
            last_child: 0,
            last_work: 0,
            switched: LoadNo::default(),
            said: None,
            told: None,
            changed: true,
            out: Effects::default(),
        }
    }

    /// Told before anything else.
    #[must_use]
    pub fn with(mut self, beginnings: Beginnings) -> Self {
        self.beginnings = beginnings;
        self
    }

    /// The dispatcher wants something.
    pub fn on_command(&mut self, command: Command, now: Mono) {
        match command {
            Command::Start(job) => self.begin(&job, now),
            Command::Cancel(ticket) => match self.pieces.leave(ticket) {
                Some(Left::Unwanted(child, no)) => {
                    self.out.frames.push((child, ToEngine::Cancel(no)));
                }
                Some(Left::Wanted | Left::Gone) | None => {}
            },
        }
        self.settle_down(now);
    }

    /// A process says something.
    pub fn on_frame(&mut self, child: ChildNo, frame: FromEngine, now: Mono) {
        let Some(role) = self.role_of(child) else {
            return; // it was ended meanwhile
        };
        if let Some(life) = self.life(role) {
            life.heard(now);
        }
        match frame {
            FromEngine::Ready(facts) => self.loaded(role, &facts, now),
            FromEngine::Unloadable(why) => self.unloadable(role, child, why, now),
            FromEngine::Began(no) => {
                if let Some(piece) = self.pieces.get_mut(no)
                    && piece.place == Place::Queued(child)
                {
                    piece.place = Place::Begun(child);
                }
            }
            FromEngine::Tokens { no, text } => self.streamed(child, no, &text),
            FromEngine::Done(done) => self.done(role, child, *done, now),
            FromEngine::Failed { no, why } => self.failed(role, child, no, &why, now),
            FromEngine::Beat(beat) => {
                if let Some(life) = self.life(role) {
                    life.stock.on_beat(beat.warm, now);
                }
            }
            FromEngine::Prefix(piece) => {
                let stock = self.life(role).map(|life| &mut life.stock);
                if let Some(key) = stock.and_then(|stock| stock.told(&piece)) {
                    self.out.errands.push(Errand::Put(child, key, piece));
                }
            }
        }
        self.settle_down(now);
    }

    /// The stockroom has done something for a process.
    pub fn on_delivery(&mut self, child: ChildNo, delivery: Delivery, now: Mono) {
        let Some(role) = self.role_of(child) else {
            return; // it was ended meanwhile
        };
        let stock = self.life(role).map(|life| &mut life.stock);
        let next = match (stock, delivery) {
            (Some(stock), Delivery::Fetched(kept)) => {
                stock.fetched(&kept);
                None
            }
            (Some(stock), Delivery::Put(how)) => stock.written(how),
            (None, _) => None,
        };
        self.out.frames.extend(next.map(|frame| (child, frame)));
        self.settle_down(now);
    }

    /// A process is gone, or could not be started, or cannot be talked to.
    pub fn on_exit(&mut self, child: ChildNo, why: &str, now: Mono) {
        if let Some(role) = self.role_of(child) {
            self.lose(role, why, now);
        }
        self.settle_down(now);
    }

    /// Another model is to be served, or none.
    pub fn on_wanted(&mut self, wanted: Wanted, now: Mono) {
        self.wanted = wanted;
        self.declined = None;
        self.changed = true;
        self.settle_down(now);
    }

    /// So much may run from now on.
    pub fn on_allowance(&mut self, allowance: Allowance) {
        self.allowance = Some(allowance);
        for role in ROLES {
            if let Some(child) = self.life(role).and_then(|life| life.ready_child()) {
                self.out.frames.push((child, ToEngine::Allow(allowance)));
            }
        }
    }

    /// Time has passed; see [`Supervisor::deadline`].
    pub fn on_timeout(&mut self, now: Mono) {
        for role in ROLES {
            match self.life(role).and_then(|life| life.overdue(now)) {
                Some(Overdue::Loading) => self.give_up(role, "its model took too long", now),
                Some(Overdue::Silent) => self.give_up(role, "no sign of life", now),
                Some(Overdue::Start) => self.spawn(role, now),
                None => {}
            }
        }
        if self.unload_at().is_some_and(|at| at <= now) {
            self.unload();
        }
        self.settle_down(now);
    }

    /// When [`Supervisor::on_timeout`] wants to be called, and why.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        let lives = [&self.serving, &self.successor, &self.retiring];
        let lives = lives.into_iter().flatten().filter_map(Life::deadline);
        let unload = self.unload_at().map(|at| (at, "nothing to do"));
        lives.chain(unload).min()
    }

    /// Hands over what is to be done. Called after each turn.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.out)
    }

    fn life(&mut self, role: Role) -> Option<&mut Life> {
        match role {
            Role::Serving => self.serving.as_mut(),
            Role::Successor => self.successor.as_mut(),
            Role::Retiring => self.retiring.as_mut(),
        }
    }

    fn role_of(&mut self, child: ChildNo) -> Option<Role> {
        let mut roles = ROLES.into_iter();
        roles.find(|role| self.life(*role).and_then(|life| life.child()) == Some(child))
    }

    /// What follows from every input.
    fn settle_down(&mut self, now: Mono) {
        if let Some(child) = self.retiring.as_ref().and_then(Life::child)
            && !self.pieces.busy(child)
        {
            self.out.kill.push(child);
            self.retiring = None;
        }
        self.pursue(now);
        self.tell_of_switch();
        let ready = self.serving.as_ref().and_then(Life::ready_child);
        let idle = ready.is_some() && self.pieces.len() == 0;
        self.idle_since = idle.then(|| self.idle_since.unwrap_or(now));
        let rests = self.idle_since.map(|since| now.since(since));
        if let (Some(child), Some(life)) = (ready, &mut self.serving)
            && let Some(frame) = life.stock.due(rests, now)
        {
            self.out.frames.push((child, frame));
        }
        if self.changed {
            self.changed = false;
            self.announce();
        }
    }

    /// Told before any answer of the new model is.
    fn tell_of_switch(&mut self) {
        let Some(life) = &self.serving else {
            return;
        };
        let load = life.model.load;
        let serves = match life.phase {
            Phase::Unloaded | Phase::Ready(_) => true,
            Phase::Starting { .. } | Phase::BackOff { .. } | Phase::Unloadable { .. } => false,
        };
        let is_wanted = matches!(&self.wanted, Wanted::Model(model) if model.load == load);
        if serves && is_wanted && self.switched != load {
            self.switched = load;
            self.tell_of(load, LoadEnd::Serves);
        }
    }

    fn tell_of(&mut self, load: LoadNo, end: LoadEnd) {
        self.out.events.push(Event::Load { load, end });
    }

    fn announce(&mut self) {
        let (state, report) = (self.state(), self.report());
        if self.said != Some(state) {
            self.said = Some(state);
            self.out.events.push(Event::State(state));
        }
        if self.told.as_ref() != Some(&report) {
            self.told = Some(report.clone());
            self.out.events.push(Event::Report(report));
        }
    }

    fn state(&self) -> State {
        let Some(life) = &self.serving else {
            return match self.wanted {
                Wanted::Nothing { .. } => State::Absent,
                Wanted::Coming | Wanted::Resting { .. } | Wanted::Model(_) => State::Starting,
            };
        };
        match life.phase {
            // The next job starts the process, so there must be a next job.
            Phase::Unloaded | Phase::Ready(_) => State::Ready {
                slots: life.model.slots(),
            },
            Phase::Starting { .. } | Phase::BackOff { .. } => State::Starting,
            Phase::Unloadable { .. } => State::Absent,
        }
    }

    fn report(&self) -> Report {
        let declined = self.declined.as_ref();
        let declined = declined.map(|(it, why)| format!("{} is not served: {why}", it.name()));
        let (word, why) = match self.serving.as_ref().map(|life| &life.phase) {
            None => match &self.wanted {
                Wanted::Nothing { why } => ("absent", Some(why.clone())),
                Wanted::Resting { why } => ("paused", Some(why.clone())),
                Wanted::Coming | Wanted::Model(_) => ("starting", None),
            },
            Some(Phase::Unloaded) => ("unloaded", declined),
            Some(Phase::Starting { .. }) => ("starting", declined),
            Some(Phase::Ready(_)) => ("ready", declined),
            Some(Phase::BackOff { why, .. }) => ("restarting", Some(why.clone())),
            Some(Phase::Unloadable { why, .. }) => ("unloadable", Some(why.clone())),
        };
        Report {
            word,
            why,
            package: self.serving.as_ref().map(|life| life.model.name()),
            crashes: self.crashes,
            unguarded: self.unguarded.clone(),
        }
    }
}
