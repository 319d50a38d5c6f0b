//! What time does to a request.
//!
//! | Where it is | Its time is up |
//! | --- | --- |
//! | waits for the edge, or runs | refused; where the cloud is owed it and late answers are taken, passed on |
//! | was passed on, and is patient no more | a provisional reply, if there is an answer; else the edge stands in |
//! | was passed on, its deadline | its outcome: the best answer so far, or a refusal. Where late answers are taken: a provisional reply, and it stays |
//! | was passed on, and kept for long enough | its outcome |

use std::time::Duration;

use super::away::Last;
use super::cascade::Onward;
use super::moves::{Tell, read_home};
use super::store::Pending;
use super::strain::shut_words;
use super::{Dispatch, Held, InboxRecord, engine};
use crate::clock::{Mono, Now};
use crate::intake::{Code, Late};
use crate::spool::{Numbered, Tree};
use crate::ticket::{State, TicketNo, Why};

/// When a record that could not be looked at is looked at again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Records that are looked at at a time because their time is up: after a night without power
/// that may be all of them, and each is read into memory.
pub(super) const MAX_EXPIRING: usize = 64;
/// Looks without a finding after which a record counts as gone.
const MAX_MISSED: u8 = 3;

impl Dispatch {
    /// Requests whose time is up. Behind those that are being read the others wait for their turn,
    /// and go on as the answers come.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some((due, no)) = self.deadlines.first().copied() {
            if due > now.mono || self.store.expiring >= MAX_EXPIRING {
                break;
            }
            self.deadlines.remove(&(due, no));
            let held = self.held.get(&no);
            let passed = self.slips.get(&no).is_some_and(|slip| slip.trip.is_some());
            let on_its_way =
                |held: &Held| held.moving > 0 || passed && held.inbox != InboxRecord::Written;
            if held.is_some_and(on_its_way) {
                self.wake_at(no, now.mono.after(LOOK_AGAIN));
                continue;
            }
            let is_held = held.is_some();
            let is_early = self.is_early(no, now);
            match self.slips.get(&no).map(|slip| slip.state) {
                Some(State::Running | State::Waiting) if is_held && is_early => {
                    self.sift_one(no, now);
                }
                Some(State::Running) => {
                    self.engine.running -= 1;
                    self.engine.pause = None;
                    self.out.engine.push(engine::Command::Cancel(no));
                    self.hear_late();
                    self.edge_late(no, now);
                }
                Some(State::Waiting) if is_held => {
                    self.engine.queued -= 1;
                    self.edge_late(no, now);
                }
                Some(State::Away | State::Asking | State::Pending) if is_held => {
                    self.passed_alarm(no, now);
                }
                Some(State::Waiting | State::Away | State::Asking | State::Pending)
                    if self.store.is_failing() =>
                {
                    self.wake_at(no, now.mono.after(LOOK_AGAIN));
                }
                Some(State::Waiting | State::Away | State::Asking | State::Pending) => {
                    let (tree, seq) = self.home(no);
                    self.store.expiring += 1;
                    self.ask(tree, seq, seq, 1, Pending::Expire(no));
                }
                Some(State::Settled | State::Delivered | State::Lost) | None => {}
            }
        }
    }

    /// The edge did not answer in time. Where the cloud has the last word in any case and late
    /// answers are taken, it may still have it.
    fn edge_late(&mut self, no: TicketNo, now: Now) {
        let owed = self
            .held
            .get(&no)
            .is_some_and(|held| held.decision.owed.is_some() && held.request.late == Late::Yes);
        if owed {
            let onward = Onward {
                why: Why::EdgeShut,
                draft: None,
                tell: Tell::Later,
            };
            self.pass(no, onward, now);
        } else if let Some(code) = self.shut_out_since_it_waits(no) {
            let again = self.comes_again_ms(code);
            let why = format!("time was up, and {}", shut_words(code));
            self.settle_refused(no, code, &why, again, now);
        } else {
            self.settle_refused(no, Code::Deadline, "time was up", None, now);
        }
    }

    /// Why the edge has not answered, if that is the governor's doing.
    fn shut_out_since_it_waits(&self, no: TicketNo) -> Option<Code> {
        let slip = self.slips.get(&no)?;
        self.shut_out(slip.priority)
    }

    /// Whether it was woken before its deadline, which only a door that was shut does to those who
    /// are with the edge.
    fn is_early(&self, no: TicketNo, now: Now) -> bool {
        self.slips
            .get(&no)
            .is_some_and(|slip| slip.trip.is_none() && slip.deadline > now.mono)
    }

    /// The time of something that was passed on.
    fn passed_alarm(&mut self, no: TicketNo, now: Now) {
        let Some(slip) = self.slips.get_mut(&no) else {
            return;
        };
        let (deadline, late, state) = (slip.deadline, slip.late, slip.state);
        let Some(trip) = slip.trip.as_mut() else {
            return;
        };
        if trip.expires <= now.mono {
            self.passed_too_long(no, now);
            return;
        }
        if !trip.overdue && deadline <= now.mono {
            if late == Late::No {
                self.settle_with_draft(no, too_late(state), Code::Deadline, now);
                return;
            }
            trip.overdue = true;
            if !trip.told {
                self.tell(no, now);
            }
        } else if trip.patience.is_some_and(|at| at <= now.mono) {
            trip.patience = None;
            if trip.has_draft {
                self.tell(no, now);
            } else if state == State::Asking && self.may_stand_in(no, now) {
                self.cancel_errand(no);
                self.stand_in(no, "the cloud takes too long", Last::Cloud, now);
                return;
            }
        }
        self.wind(no);
        self.let_go(no);
    }

    /// Nobody answered in all the time that it was kept.
    fn passed_too_long(&mut self, no: TicketNo, now: Now) {
        match self.slips.get(&no).map(|slip| slip.state) {
            Some(State::Pending) => self.person_too_late(no, now),
            Some(
                State::Waiting
                | State::Running
                | State::Away
                | State::Asking
                | State::Settled
                | State::Delivered
                | State::Lost,
            )
            | None => {
                let why = "the cloud did not answer in the time that it was kept";
                self.settle_with_draft(no, why, Code::Expired, now);
            }
        }
    }

    /// Tells the device what there is, and that more will follow.
    pub(super) fn tell(&mut self, no: TicketNo, now: Now) {
        let home = self.home(no).0;
        if self.held.get(&no).is_some_and(|held| !held.told) {
            self.relocate(no, home, Tell::Now, now);
        }
    }

    fn look_again_at(&mut self, no: TicketNo, at: Mono) {
        self.wake_at(no, at);
    }

    pub(super) fn expired_read(&mut self, no: TicketNo, record: Option<Numbered>, now: Now) {
        let Some(slip) = self.slips.get(&no) else {
            return;
        };
        let (state, home) = (slip.state, slip.home);
        match state {
            State::Waiting | State::Away | State::Asking | State::Pending => {}
            State::Running => {
                // It was started while we looked; its time is up all the same.
                self.look_again_at(no, now.mono);
                self.expire(now);
                return;
            }
            State::Settled | State::Delivered | State::Lost => return,
        }
        if self.held.contains_key(&no) {
            // It came into memory while we looked.
            self.look_again_at(no, now.mono);
            self.expire(now);
            return;
        }
        if self.recall(no, home, record, now) {
            match state {
                State::Waiting if self.is_early(no, now) => self.sift_one(no, now),
                State::Waiting => {
                    self.engine.queued -= 1;
                    self.edge_late(no, now);
                }
                State::Away | State::Asking | State::Pending => self.passed_alarm(no, now),
                State::Running | State::Settled | State::Delivered | State::Lost => {}
            }
        }
    }

    /// Takes a record that was looked for into memory. False if it cannot be had: then it is
    /// looked for again, or lost.
    pub(super) fn recall(
        &mut self,
        no: TicketNo,
        home: Tree,
        record: Option<Numbered>,
        now: Now,
    ) -> bool {
        match record.map(|(_, body)| read_home(home, &body)) {
            Some(Ok((waiting, case))) => {
                self.hold(waiting, case, now);
                true
            }
            None if self.store.is_failing() => {
                self.look_again_at(no, now.mono.after(LOOK_AGAIN));
                false
            }
            // An empty answer may be the first sign of a store that fails. A transaction brings
            // that to light, even one without any operation; then it is looked for again.
            None if self.is_missed(no) => {
                self.commit(Vec::new(), Pending::Lazy(Vec::new()));
                self.look_again_at(no, now.mono.after(LOOK_AGAIN));
                false
            }
            Some(Err(_)) | None => {
                self.lose(no, now);
                false
            }
        }
    }

    fn is_missed(&mut self, no: TicketNo) -> bool {
        self.slips.get_mut(&no).is_some_and(|slip| {
            slip.missed += 1;
            slip.missed < MAX_MISSED
        })
    }
}

fn too_late(state: State) -> &'static str {
    match state {
        State::Pending => "the deadline passed before a person answered",
        State::Waiting
        | State::Running
        | State::Away
        | State::Asking
        | State::Settled
        | State::Delivered
        | State::Lost => "the deadline passed before the cloud answered",
    }
}
