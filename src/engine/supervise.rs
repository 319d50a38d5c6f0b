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
//!     spawn       frames      kill              events
//! ```
//!
//! Each of the three is a [`life::Life`]: its diagram says how a process starts, dies and comes
//! back. Normally there is only `serving`. A change of the active model starts `successor` beside
//! it; once that is ready it serves, and the old one finishes what it has and is ended. If the
//! new model cannot be loaded, the old one goes on.
//!
//! Invariants:
//!
//! - Every job ends in exactly one [`Event::Ended`], unless it is cancelled.
//! - A job is told `Crashed` only if its own computation was under way when the process failed;
//!   what waited in that process's queue is `Busy`, and as innocent as before.
//! - There are never more than three processes, and never more work than [`WORK_FACTOR`] times
//!   the slots; the dispatcher is told when there is none.
//!
//! How it fails: a process that dies is started again after growing pauses; one that gives no
//! sign of life is killed first. A model that cannot be loaded makes the engine absent, with the
//! reason in the [`Report`], and is tried again slowly.

mod life;
mod pieces;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use life::{FIRST_PAUSE, LOAD_LIMIT, MAX_PAUSE, MIN_SILENCE, RETRY_UNLOADABLE};

use self::life::{Life, Overdue, Phase};
use self::pieces::{Left, Piece, Pieces, Place, Waiter};
use super::memo::{self, Memo};
use super::order::Book;
use super::protocol::{Allowance, Done, Facts, Failure, FromEngine, Options, ToEngine, WorkNo};
use super::{Command, Event, Fault, Job, Origin, Report, State};
use crate::clock::{Mono, millis};
use crate::ticket::TicketNo;

/// Work known to a process against its slots: what was cancelled is known until the process
/// has confirmed that.
const WORK_FACTOR: usize = 2;
/// Passes that may go wrong in a row before the process is ended: it will not get well.
const MAX_SICK: u32 = 3;
/// Bytes of an answer: far above what the largest number of tokens spells.
const MAX_TEXT_BYTES: usize = 1 << 20;

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
}

impl ActiveModel {
    /// Jobs at a time: those being computed and those next in line.
    fn slots(&self) -> u32 {
        u32::from(self.options.sequences) + u32::from(self.options.queue)
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
    /// What to say to them, in this order.
    pub frames: Vec<(ChildNo, ToEngine)>,
    /// Processes to end at once.
    pub kill: Vec<ChildNo>,
    /// For the dispatcher.
    pub events: Vec<Event>,
}

/// The supervisor.
#[derive(Debug)]
pub struct Supervisor {
    unload_after: Option<Duration>,
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
    last_child: u64,
    last_work: u64,
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
        let mut supervisor = Self {
            unload_after,
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
            last_child: 0,
            last_work: 0,
            said: None,
            told: None,
            changed: true,
            out: Effects::default(),
        };
        supervisor.announce();
        supervisor
    }

    /// The dispatcher wants something.
    pub fn on_command(&mut self, command: Command, now: Mono) {
        match command {
            Command::Start(job) => self.begin(job, now),
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
            FromEngine::Beat(_) | FromEngine::Prefix(_) => {}
        }
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

    // Jobs.

    fn begin(&mut self, job: Job, now: Mono) {
        let ticket = job.ticket;
        let loadable = self.serving.as_ref().filter(|life| match life.phase {
            Phase::Unloaded | Phase::Starting { .. } | Phase::Ready(_) | Phase::BackOff { .. } => {
                true
            }
            Phase::Unloadable { .. } => false,
        });
        let Some(model) = loadable.map(|life| Arc::clone(&life.model)) else {
            self.end(ticket, Err(Fault::Busy)); // the dispatcher hears the reason next
            return;
        };
        if job.due <= now {
            self.end(ticket, Err(Book::fault(&Failure::Late)));
            return;
        }
        let no = self.next_work();
        let ordered = model.book.work(no, &job.request, due_ms(job.due, now));
        let (work, asked) = match ordered {
            Ok(ordered) => ordered,
            Err(fault) => return self.end(ticket, Err(fault)),
        };
        let key = model.book.key(&job.request, &work, asked);
        if let Some(done) = self.memo.find(key, now) {
            let completion = model.book.completion(asked, done.clone(), Origin::Cache);
            self.end(ticket, Ok(completion));
            return;
        }
        let waiter = |origin| Waiter {
            ticket,
            due: job.due,
            origin,
        };
        // Words as they come are for one listener.
        let joins = !work.stream;
        if joins
            && self
                .pieces
                .join(key, work.priority, waiter(Origin::Duplicate))
        {
            return;
        }
        if self.pieces.len() >= WORK_FACTOR * model.slots() as usize {
            self.end(ticket, Err(Fault::Busy));
            return;
        }
        let piece = Piece {
            key,
            asked,
            model,
            work,
            due: job.due,
            place: Place::Held,
            waiters: vec![waiter(Origin::Model)],
        };
        self.pieces.add(no, piece);
        self.hand_out(no, now);
    }

    /// Gives a held piece to the process that serves; one that is unloaded is started for it.
    fn hand_out(&mut self, no: WorkNo, now: Mono) {
        let Some(life) = &self.serving else {
            return;
        };
        match (&life.phase, self.pieces.get_mut(no)) {
            (Phase::Ready(ready), Some(piece)) => {
                piece.place = Place::Queued(ready.child);
                piece.work.due_ms = due_ms(piece.due, now);
                let work = Box::new(piece.work.clone());
                self.out.frames.push((ready.child, ToEngine::Start(work)));
            }
            (Phase::Unloaded, Some(_)) => self.spawn(Role::Serving, now),
            (Phase::Starting { .. } | Phase::BackOff { .. } | Phase::Unloadable { .. }, _)
            | (_, None) => {}
        }
    }

    fn streamed(&mut self, child: ChildNo, no: WorkNo, text: &str) {
        let Some(piece) = self.pieces.get_mut(no) else {
            return;
        };
        if piece.place.child() != Some(child) || !piece.work.stream {
            return;
        }
        let asked = piece.waiters.iter().find(|it| it.origin == Origin::Model);
        let events = asked.map(|waiter| Event::Tokens {
            ticket: waiter.ticket,
            text: text.to_owned(),
        });
        self.out.events.extend(events);
    }

    fn done(&mut self, role: Role, child: ChildNo, done: Done, now: Mono) {
        let Some(piece) = self.take_from(child, done.no) else {
            return;
        };
        if done.text.len() > MAX_TEXT_BYTES {
            self.fail(&piece, &Fault::Crashed);
            return;
        }
        if let Some(life) = self.life(role) {
            life.answered();
        }
        for waiter in &piece.waiters {
            let book = &piece.model.book;
            let completion = book.completion(piece.asked, done.clone(), waiter.origin);
            self.end(waiter.ticket, Ok(completion));
        }
        self.memo.keep(piece.key, done, now);
    }

    fn failed(&mut self, role: Role, child: ChildNo, no: WorkNo, why: &Failure, now: Mono) {
        let Some(mut piece) = self.take_from(child, no) else {
            return;
        };
        match why {
            Failure::Late => {
                // Who joined later may have time left: for them it is begun once more.
                let late = |waiter: &Waiter| waiter.due <= piece.due;
                let (late, rest): (Vec<_>, Vec<_>) = piece.waiters.drain(..).partition(late);
                for waiter in late {
                    self.end(waiter.ticket, Err(Book::fault(why)));
                }
                piece.waiters = rest;
                self.begin_again(piece, now);
            }
            Failure::Sick(_) => {
                self.fail(&piece, &Fault::Crashed);
                let sick = self.life(role).map_or(0, Life::sick);
                if sick >= MAX_SICK {
                    self.give_up(role, "its passes go wrong", now);
                }
            }
            Failure::Full
            | Failure::Overflow { .. }
            | Failure::Rule(_)
            | Failure::Unknown
            | Failure::Cancelled => self.fail(&piece, &Book::fault(why)),
        }
    }

    fn begin_again(&mut self, mut piece: Piece, now: Mono) {
        let Some(due) = piece.waiters.iter().map(|waiter| waiter.due).max() else {
            return;
        };
        let serves = self.serving.as_ref().map(|life| &life.model);
        if serves.is_none_or(|model| !Arc::ptr_eq(model, &piece.model)) {
            self.fail(&piece, &Fault::Busy); // another model answers now
            return;
        }
        let no = self.next_work();
        piece.work.no = no;
        piece.work.stream = false;
        piece.due = due;
        piece.place = Place::Held;
        self.pieces.add(no, piece);
        self.hand_out(no, now);
    }

    fn take_from(&mut self, child: ChildNo, no: WorkNo) -> Option<Piece> {
        let on = self.pieces.get_mut(no)?.place.child();
        (on == Some(child)).then(|| self.pieces.take(no))?
    }

    fn fail(&mut self, piece: &Piece, fault: &Fault) {
        for waiter in &piece.waiters {
            self.end(waiter.ticket, Err(fault.clone()));
        }
    }

    fn fail_held(&mut self) {
        for piece in self.pieces.take_all(|piece| piece.place == Place::Held) {
            self.fail(&piece, &Fault::Busy);
        }
    }

    fn end(&mut self, ticket: TicketNo, result: Result<super::Completion, Fault>) {
        self.out.events.push(Event::Ended { ticket, result });
    }

    fn next_work(&mut self) -> WorkNo {
        self.last_work += 1;
        WorkNo(self.last_work)
    }

    // Processes.

    fn spawn(&mut self, role: Role, now: Mono) {
        self.changed = true;
        self.last_child += 1;
        let child = ChildNo(self.last_child);
        if let Some(life) = self.life(role) {
            life.start(child, now);
            let model = Arc::clone(&life.model);
            let load = model.book.load(&model.options, model.draft.as_deref());
            self.out.spawn.push(child);
            self.out
                .frames
                .push((child, ToEngine::Load(Box::new(load))));
        }
    }

    fn loaded(&mut self, role: Role, facts: &Facts, now: Mono) {
        let Some(life) = self.life(role) else {
            return;
        };
        if !life.ready(facts, now) {
            return;
        }
        self.changed = true;
        let life = self.life(role);
        if let (Some(child), Some(allowance)) = (life.and_then(|life| life.child()), self.allowance)
        {
            self.out.frames.push((child, ToEngine::Allow(allowance)));
        }
        match role {
            Role::Successor => self.promote(),
            Role::Serving => {
                for no in self.pieces.held() {
                    self.hand_out(no, now);
                }
            }
            Role::Retiring => {}
        }
    }

    /// The successor serves from now on; the old one finishes what it has.
    fn promote(&mut self) {
        self.fail_held(); // its work is worded for the old model
        let old = std::mem::replace(&mut self.serving, self.successor.take());
        if let Some(old) = old
            && let Some(child) = old.child()
        {
            if self.pieces.busy(child) {
                self.retiring = Some(old);
            } else {
                self.out.kill.push(child);
            }
        }
    }

    fn unloadable(&mut self, role: Role, child: ChildNo, why: String, now: Mono) {
        let starting = |life: &Life| matches!(life.phase, Phase::Starting { .. });
        let Some(life) = self.life(role).filter(|life| starting(life)) else {
            self.give_up(role, "it spoke out of turn", now);
            return;
        };
        life.refuse(why, now);
        self.changed = true;
        self.out.kill.push(child); // it ends by itself; it must not be in the way until then
        self.look_at_refusal(role);
    }

    /// Ends a process that is not as it should be.
    fn give_up(&mut self, role: Role, why: &str, now: Mono) {
        if let Some(child) = self.life(role).and_then(|life| life.child()) {
            self.out.kill.push(child);
        }
        self.lose(role, why, now);
    }

    /// A process is gone, with all that it had.
    fn lose(&mut self, role: Role, why: &str, now: Mono) {
        let Some(life) = self.life(role) else {
            return;
        };
        let child = life.child();
        life.died(why, now);
        self.crashes += 1;
        self.changed = true;
        let lost = self
            .pieces
            .take_all(|piece| child.is_some() && piece.place.child() == child);
        for piece in lost {
            let fault = match piece.place {
                Place::Begun(_) => Fault::Crashed,
                Place::Queued(_) | Place::Held => Fault::Busy,
            };
            self.fail(&piece, &fault);
        }
        if role == Role::Retiring {
            self.retiring = None;
        }
        self.look_at_refusal(role);
    }

    /// What follows if a model cannot be loaded after all.
    fn look_at_refusal(&mut self, role: Role) {
        let Some(life) = self.life(role) else {
            return;
        };
        let Phase::Unloadable { why, .. } = &life.phase else {
            return;
        };
        let why = why.clone();
        match role {
            Role::Serving => self.fail_held(),
            Role::Successor => {
                self.declined = self.successor.take().map(|life| (life.model, why));
            }
            Role::Retiring => {}
        }
    }

    fn unload_at(&self) -> Option<Mono> {
        Some(self.idle_since?.after(self.unload_after?))
    }

    /// Nothing of weights or of what was asked stays in memory.
    fn unload(&mut self) {
        if let Some(life) = &mut self.serving
            && let Some(child) = life.ready_child()
        {
            self.out.kill.push(child);
            life.unload();
            self.changed = true;
            self.memo.clear();
        }
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
        let ready = self.serving.as_ref().and_then(Life::ready_child);
        let idle = ready.is_some() && self.pieces.len() == 0;
        self.idle_since = idle.then(|| self.idle_since.unwrap_or(now));
        if self.changed {
            self.changed = false;
            self.announce();
        }
    }

    /// Takes the next step towards what is wanted.
    fn pursue(&mut self, now: Mono) {
        let model = match &self.wanted {
            Wanted::Coming => return,
            Wanted::Nothing { .. } => return self.take_down(),
            Wanted::Model(model) => Arc::clone(model),
        };
        let is = |life: &Option<Life>| life.as_ref().is_some_and(|it| same(&it.model, &model));
        let declined = self.declined.as_ref();
        let declined = declined.is_some_and(|(it, _)| same(it, &model));
        if is(&self.successor) || (declined && self.successor.is_none()) {
            return;
        }
        if let Some(child) = self.successor.take().and_then(|life| life.child()) {
            self.out.kill.push(child);
        }
        if is(&self.serving) || self.retiring.is_some() {
            return; // as it should be, or one after the other
        }
        let life = Some(Life::new(model));
        match self.serving.as_ref().map(|life| &life.phase) {
            None | Some(Phase::Unloadable { .. }) => {
                self.serving = life;
                self.spawn(Role::Serving, now);
            }
            Some(
                Phase::Unloaded | Phase::Starting { .. } | Phase::Ready(_) | Phase::BackOff { .. },
            ) => {
                self.successor = life;
                self.spawn(Role::Successor, now);
            }
        }
    }

    fn take_down(&mut self) {
        for role in ROLES {
            let child = self.life(role).and_then(|life| life.child());
            self.out.kill.extend(child);
        }
        (self.serving, self.successor, self.retiring) = (None, None, None);
        for piece in self.pieces.take_all(|_| true) {
            self.fail(&piece, &Fault::Busy);
        }
        self.memo.clear();
    }

    // What others are told.

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
                Wanted::Coming | Wanted::Model(_) => State::Starting,
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
        }
    }
}

/// Whether two models are one; they are compared in full only if they may be two.
fn same(one: &Arc<ActiveModel>, other: &Arc<ActiveModel>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

fn due_ms(due: Mono, now: Mono) -> u32 {
    u32::try_from(millis(due.since(now))).unwrap_or(u32::MAX)
}
