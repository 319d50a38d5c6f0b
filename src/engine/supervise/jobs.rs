//! What is asked of the supervisor, and what becomes of it.

use std::sync::Arc;

use super::life::{Life, Phase};
use super::pieces::{Piece, Place, Waiter};
use super::{ChildNo, Role, Supervisor};
use crate::clock::{Mono, millis};
use crate::engine::order::Book;
use crate::engine::protocol::{Done, Failure, ToEngine, WorkNo};
use crate::engine::{Completion, Event, Fault, Job, LoadNo, MAX_TEXT_BYTES, Origin};
use crate::ticket::TicketNo;

/// Work known to a process against its slots: what was cancelled is known until the process
/// has confirmed that.
const WORK_FACTOR: usize = 2;
/// Passes that may go wrong in a row before the process is ended: it will not get well.
pub(super) const MAX_SICK: u32 = 3;

impl Supervisor {
    pub(super) fn begin(&mut self, job: &Job, now: Mono) {
        let ticket = job.ticket;
        let loadable = self.serving.as_ref().filter(|life| match life.phase {
            Phase::Unloaded | Phase::Starting { .. } | Phase::Ready(_) | Phase::BackOff { .. } => {
                true
            }
            Phase::Unloadable { .. } => false,
        });
        let Some(model) = loadable.map(|life| Arc::clone(&life.model)) else {
            // The dispatcher hears the reason next.
            self.end(ticket, Err(Fault::Busy), LoadNo::default());
            return;
        };
        let load = model.load;
        if job.due <= now {
            self.end(ticket, Err(Book::fault(&Failure::Late)), load);
            return;
        }
        let no = self.next_work();
        let ordered = model.book.work(no, &job.request, due_ms(job.due, now));
        let (work, asked) = match ordered {
            Ok(ordered) => ordered,
            Err(fault) => return self.end(ticket, Err(fault), load),
        };
        let key = model.book.key(&job.request, &work, asked);
        if let Some(done) = self.memo.find(key, now).filter(|_| !job.fresh) {
            let completion = model.book.completion(asked, done.clone(), Origin::Cache);
            self.end(ticket, Ok(completion), load);
            return;
        }
        let waiter = |origin| Waiter {
            ticket,
            due: job.due,
            origin,
        };
        // Words as they come are for one listener.
        let joins = !work.stream && !job.fresh;
        if joins
            && self
                .pieces
                .join(key, work.priority, waiter(Origin::Duplicate))
        {
            return;
        }
        if self.pieces.len() >= WORK_FACTOR * model.slots() as usize {
            self.end(ticket, Err(Fault::Busy), load);
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
    pub(super) fn hand_out(&mut self, no: WorkNo, now: Mono) {
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

    pub(super) fn streamed(&mut self, child: ChildNo, no: WorkNo, text: &str) {
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

    pub(super) fn done(&mut self, role: Role, child: ChildNo, done: Done, now: Mono) {
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
            let model = &piece.model;
            let completion = model
                .book
                .completion(piece.asked, done.clone(), waiter.origin);
            self.end(waiter.ticket, Ok(completion), model.load);
        }
        self.memo.keep(piece.key, done, now);
    }

    pub(super) fn failed(
        &mut self,
        role: Role,
        child: ChildNo,
        no: WorkNo,
        why: &Failure,
        now: Mono,
    ) {
        let Some(mut piece) = self.take_from(child, no) else {
            return;
        };
        match why {
            Failure::Late => {
                // Who joined later may have time left: for them it is begun once more.
                let late = |waiter: &Waiter| waiter.due <= piece.due;
                let (late, rest): (Vec<_>, Vec<_>) = piece.waiters.drain(..).partition(late);
                for waiter in late {
                    self.end(waiter.ticket, Err(Book::fault(why)), piece.model.load);
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

    pub(super) fn begin_again(&mut self, mut piece: Piece, now: Mono) {
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

    pub(super) fn take_from(&mut self, child: ChildNo, no: WorkNo) -> Option<Piece> {
        let on = self.pieces.get_mut(no)?.place.child();
        (on == Some(child)).then(|| self.pieces.take(no))?
    }

    pub(super) fn fail(&mut self, piece: &Piece, fault: &Fault) {
        for waiter in &piece.waiters {
            self.end(waiter.ticket, Err(fault.clone()), piece.model.load);
        }
    }

    pub(super) fn fail_held(&mut self) {
        for piece in self.pieces.take_all(|piece| piece.place == Place::Held) {
            self.fail(&piece, &Fault::Busy);
        }
    }

    pub(super) fn end(
        &mut self,
        ticket: TicketNo,
        result: Result<Completion, Fault>,
        load: LoadNo,
    ) {
        self.out.events.push(Event::Ended {
            ticket,
            result,
            load,
        });
    }

    pub(super) fn next_work(&mut self) -> WorkNo {
        self.last_work += 1;
        WorkNo(self.last_work)
    }
}

fn due_ms(due: Mono, now: Mono) -> u32 {
    u32::try_from(millis(due.since(now))).unwrap_or(u32::MAX)
}
