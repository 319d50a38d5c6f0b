//! A record's way from one tree to another, with the provisional reply that may go with it.
//!
//! ```text
//!  Inbox ──pass──► Cloud ──person──► Review        one transaction each: Append there, Ack here,
//!    │ ▲             │ ▲ │                         letters of the provisional reply
//!    │ └──stand in───┘ └─┘ tell
//!    └──person──────────────────────► Review
//! ```
//!
//! Invariant: a request lies in exactly one tree. While its record is moving the request stays in
//! memory, nobody else is asked about it, and time waits for the move to end.
//!
//! How it fails: a tree that is full leaves the request where it was; it then gets what answer
//! there is. A store that fails keeps the move until it is back, as everything that was decided.

use super::store::Pending;
use super::{Dispatch, Held, InboxRecord, Trip};
use crate::clock::{Mono, Now};
use crate::intake::{Code, ReturnAddress};
use crate::reply::{Finality, Outcome, Reply};
use crate::spool::forms::{Passed, Waiting};
use crate::spool::record::Damage;
use crate::spool::{Op, Room, Tree};
use crate::ticket::{MAX_STEPS, State, TicketNo, What};

use super::post::Envelope;

/// A record on its way.
#[derive(Debug)]
pub(super) struct Moving {
    pub no: TicketNo,
    pub from: Tree,
    pub letters: Vec<Envelope>,
    pub ops: Vec<Op>,
}

/// Whether the device is told something with a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// At once.
    Now,
    /// Perhaps later.
    Later,
}

impl Dispatch {
    /// Writes a held request's record into `to`, and removes it where it was.
    pub(super) fn relocate(&mut self, no: TicketNo, to: Tree, tell: Tell, now: Now) {
        let letters = match tell {
            Tell::Now => self.provisional(no, now),
            Tell::Later => Vec::new(),
        };
        let (Some(slip), Some(held)) = (self.slips.get_mut(&no), self.held.get_mut(&no)) else {
            return;
        };
        let (from, seq) = (slip.home, no.inbox_seq(slip.priority));
        slip.home = to;
        held.moving = held.moving.saturating_add(1);
        let mut ops = vec![Op::Append {
            tree: to,
            seq,
            record: held.record(no),
            room: if from == to {
                Room::Always
            } else {
                Room::IfFree
            },
            leased_until: None,
        }];
        if from != to {
            ops.push(Op::Ack { tree: from, seq });
        }
        ops.extend(letters.iter().map(|letter| letter.op(Room::Always, now)));
        let moving = Moving {
            no,
            from,
            letters,
            ops: ops.clone(),
        };
        self.decide(ops, Pending::Move(moving));
    }

    /// The letters of a provisional reply, and that there was one.
    fn provisional(&mut self, no: TicketNo, now: Now) -> Vec<Envelope> {
        let mut condition = self.condition();
        let Some(held) = self.held.get_mut(&no).filter(|held| !held.told) else {
            return Vec::new();
        };
        held.told = true;
        condition.degraded |= held.decision.degraded;
        let reply = Reply {
            id: Some(held.request.id.as_str().into()),
            outcome: match held.draft() {
                Some(draft) => Outcome::Answered {
                    source: draft.source.clone(),
                    completion: draft.completion.clone(),
                },
                None => Outcome::Awaited,
            },
            finality: Finality::Provisional,
            condition,
            route: held.decision.route.clone(),
            timing: held.timing(None, now),
        };
        let payload = reply.to_json();
        let first = held.request.reply.clone();
        let letters: Vec<_> = std::iter::once(first)
            .chain(self.also_to(no))
            .filter(|address| *address != ReturnAddress::Local)
            .collect();
        // Its delivery is no step of the trail: that a reply was delivered is said of the last.
        let letters: Vec<_> = letters
            .iter()
            .filter_map(|address| self.letter(no, address, payload.clone(), MAX_STEPS - 1))
            .collect();
        if !letters.is_empty() {
            self.step(no, What::Provisional, now);
            self.count("replies", "provisional");
        }
        if let Some(trip) = self.trip_mut(no) {
            trip.told = true;
        }
        letters
    }

    pub(super) fn trip_mut(&mut self, no: TicketNo) -> Option<&mut Trip> {
        self.slips.get_mut(&no)?.trip.as_mut()
    }

    /// A move is on the disk.
    pub(super) fn moved(&mut self, moving: Moving, now: Now) {
        let no = moving.no;
        let (Some(slip), Some(held)) = (self.slips.get_mut(&no), self.held.get_mut(&no)) else {
            // Its acceptance failed before: what was written now is a trace.
            self.undo(
                moving
                    .ops
                    .iter()
                    .filter_map(super::store::taken_back)
                    .collect(),
            );
            for letter in &moving.letters {
                self.post.give_up(letter.seq);
            }
            return;
        };
        held.inbox = InboxRecord::Written;
        held.moving = held.moving.saturating_sub(1);
        let acks = std::mem::take(&mut held.acks);
        if std::mem::take(&mut slip.gated) {
            self.gate.leave(&held.request.client);
        }
        self.acknowledge_all(acks);
        for letter in moving.letters {
            self.post_letter(letter);
        }
        self.arrived(no, now);
    }

    /// A request's record lies where it is to lie: on from there.
    pub(super) fn arrived(&mut self, no: TicketNo, now: Now) {
        if self.held.get(&no).is_none_or(|held| held.moving > 0) {
            return;
        }
        match self.slips.get(&no).map(|slip| slip.state) {
            Some(State::Waiting) => {
                self.engine.pause = None;
                self.held.remove(&no);
            }
            Some(State::Away) => {
                self.offer(no, now);
                self.let_go(no);
            }
            Some(State::Pending) => {
                self.remember_person(no, now);
                self.held.remove(&no);
            }
            Some(State::Asking) => {
                let heard = self.held.get_mut(&no).and_then(|held| held.heard.take());
                if let Some(result) = heard {
                    self.on_errand_ended(no, result, now);
                }
            }
            Some(State::Running | State::Settled | State::Delivered | State::Lost) | None => {}
        }
        self.wind(no);
    }

    /// Drops what waits for the cloud from memory, if the disk has it and nobody asks about it.
    pub(super) fn let_go(&mut self, no: TicketNo) {
        let state = self.slips.get(&no).map(|slip| slip.state);
        let still = |held: &Held| held.moving == 0 && held.inbox == InboxRecord::Written;
        let waits = matches!(state, Some(State::Away | State::Pending));
        if waits && self.held.get(&no).is_some_and(still) {
            self.held.remove(&no);
        }
    }

    /// There was no room where it was to go.
    pub(super) fn move_refused(&mut self, moving: &Moving, why: &'static str, now: Now) {
        let no = moving.no;
        for letter in &moving.letters {
            self.post.give_up(letter.seq);
        }
        let (Some(slip), Some(held)) = (self.slips.get_mut(&no), self.held.get_mut(&no)) else {
            return;
        };
        held.moving = held.moving.saturating_sub(1);
        slip.home = moving.from;
        if held.inbox == InboxRecord::Unwritten {
            let traces = moving.ops.iter().filter_map(super::store::taken_back);
            self.withdraw(no, why, traces.collect());
            return;
        }
        self.count("moves", "no room");
        match self.slips.get(&no).map(|slip| slip.state) {
            // The edge was to stand in: it does not, and the cloud is waited for.
            Some(State::Waiting) => self.back_away(no, now),
            Some(State::Away | State::Asking | State::Pending) => {
                self.settle_with_draft(no, why, Code::Spool, now);
            }
            Some(State::Running | State::Settled | State::Delivered | State::Lost) | None => {}
        }
    }

    /// Sets the alarm of a ticket to what is next.
    pub(super) fn wind(&mut self, no: TicketNo) {
        if let Some(slip) = self.slips.get(&no) {
            let at = slip.alarm();
            if slip.state.is_open() {
                self.wake_at(no, at);
            }
        }
    }

    pub(super) fn wake_at(&mut self, no: TicketNo, at: Mono) {
        if let Some(slip) = self.slips.get_mut(&no) {
            self.deadlines.remove(&(slip.due, no));
            slip.due = at;
            self.deadlines.insert((at, no));
        }
    }
}

/// What a record says, whatever tree it lies in.
pub(super) fn read_home(home: Tree, body: &[u8]) -> Result<(Waiting, Option<super::Case>), Damage> {
    match home {
        Tree::Cloud | Tree::Review => {
            let passed = Passed::read(body)?;
            let case = super::Case {
                why: passed.why,
                draft: passed.draft,
                since: passed.since,
                expires: passed.expires,
            };
            Ok((passed.waiting, Some(case)))
        }
        Tree::Inbox
        | Tree::Outbox
        | Tree::Telemetry
        | Tree::Outcomes
        | Tree::Trail
        | Tree::Aside => Ok((Waiting::read(body)?, None)),
    }
}
