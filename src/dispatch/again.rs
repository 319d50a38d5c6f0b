//! A request that came again: the recorded outcome, never a second run.
//!
//! ```text
//!  open,    in memory ────────────────────────────► join │ conflict
//!  open,    on disk   ──look: inbox record──────────► join │ conflict
//!  settled            ──look: outcome record────────► copy │ conflict
//! ```

use super::accept::trail_op;
use super::moves::read_home;
use super::refuse::refusal_of;
use super::store::{Again, Pending};
use super::{
    Also, Answer, Dispatch, Held, InboxRecord, MAX_ADDRESSES, MAX_QUESTIONS, STORE_RETRY_MS,
    SessionNo,
};
use crate::clock::Now;
use crate::intake::{Code, ReturnAddress};
use crate::spool::forms::Filed;
use crate::spool::{Op, Room, Tree};
use crate::ticket::{State, Step, TicketNo, What};

impl Dispatch {
    pub(super) fn again_open(&mut self, no: TicketNo, again: Again, now: Now) {
        if self
            .slips
            .get(&no)
            .is_some_and(|slip| slip.state == State::Settled)
        {
            self.again_settled(no, again); // read behind the outcome that is being written
            return;
        }
        let Some(held) = self.held.get_mut(&no) else {
            let (home, seq) = self.home(no);
            self.question(home, seq, again, |again| Pending::AgainOpen {
                no,
                home,
                again,
            });
            return;
        };
        if held.request.content != again.request.content {
            self.conflict(&again);
            return;
        }
        let first = held.request.reply.clone();
        let same = again.session.is_none() && first == again.request.reply;
        // Not on the disk yet, by itself or by the move that is to bring it there.
        if same && held.inbox != InboxRecord::Written {
            held.acks.extend(again.ack);
            self.count("requests", "duplicate");
            return;
        }
        self.join(no, &first, again, now);
    }

    pub(super) fn again_open_read(
        &mut self,
        no: TicketNo,
        home: Tree,
        again: Again,
        record: Option<crate::spool::Numbered>,
        now: Now,
    ) {
        let waiting = record.and_then(|(_, body)| read_home(home, &body).ok());
        let waiting = waiting.map(|(waiting, _)| waiting);
        let open = self
            .slips
            .get(&no)
            .is_some_and(|slip| slip.state != State::Settled);
        match waiting {
            Some(waiting) if open && waiting.request.content != again.request.content => {
                self.conflict(&again);
            }
            Some(waiting) if open => self.join(no, &waiting.request.reply, again, now),
            // Settled meanwhile: look again, there.
            Some(_) | None if !open => self.on_request(again, now),
            Some(_) | None => {
                self.refuse_again(&again, Code::Spool, "the record cannot be read");
            }
        }
    }

    /// The same request again, while it is open: its reply goes to the new address too.
    fn join(&mut self, no: TicketNo, first: &ReturnAddress, again: Again, now: Now) {
        let address = again.request.reply.clone();
        if let Some(session) = again.session {
            self.join_here(no, session, &again);
            return;
        }
        let also = self.addresses.get(&no).into_iter().flatten();
        let also = also.into_iter().find(|also| also.address == address);
        if *first == address || also.is_some_and(|also| also.written) {
            self.count("requests", "duplicate");
            self.acknowledge(again.ack);
            return;
        }
        let step = match also.map(|also| also.step) {
            Some(step) => step, // on its way; written once more, so that this message waits for it
            None if self.is_crowded(no) => {
                let why = "this request is already answered to as many addresses as it may be";
                self.refuse_again(&again, Code::Busy, why);
                return;
            }
            None => self.add_address(no, address.clone(), None),
        };
        self.count("requests", "duplicate");
        let record = Step {
            at: now.wall,
            what: What::AlsoTo(address),
        };
        let op = trail_op(no, step, &record);
        let pending = Pending::Join { no, step, again };
        self.commit(op.into_iter().collect(), pending);
    }

    /// The same for somebody at the appliance.
    pub(super) fn join_here(&mut self, no: TicketNo, session: SessionNo, again: &Again) {
        let callers = self.callers.entry(no).or_default();
        if callers.contains(&session) {
            return;
        }
        if callers.len() < MAX_ADDRESSES {
            callers.push(session);
            self.count("requests", "duplicate");
        } else {
            let why = "as many as may wait for this request's answer already";
            self.refuse_again(again, Code::Busy, why);
        }
    }

    /// No room for another address, or for it in the trail.
    fn is_crowded(&self, no: TicketNo) -> bool {
        let more = self.addresses.get(&no).map_or(0, Vec::len);
        let steps = self.slips.get(&no).map_or(0, |slip| u64::from(slip.steps));
        more + 1 >= MAX_ADDRESSES || steps + 1 >= crate::ticket::MAX_STEPS
    }

    fn add_address(&mut self, no: TicketNo, address: ReturnAddress, written: Option<u64>) -> u64 {
        let step = written.unwrap_or_else(|| self.next_step(no));
        self.addresses.entry(no).or_default().push(Also {
            address,
            step,
            written: written.is_some(),
        });
        step
    }

    /// A further address is on the disk.
    pub(super) fn joined(&mut self, no: TicketNo, step: u64, again: Again, now: Now) {
        let open = self.slips.get(&no).map(|slip| slip.state);
        let unaccepted = |held: &Held| held.inbox == InboxRecord::Unwritten;
        if self.held.get(&no).is_some_and(unaccepted) {
            self.again_settled(no, again); // the outcome, on its way, decides
            return;
        }
        let also = self.addresses.get_mut(&no).into_iter().flatten();
        match (open, also.into_iter().find(|also| also.step == step)) {
            (Some(_), Some(also)) => {
                also.written = true;
                self.acknowledge(again.ack);
            }
            // An earlier try failed and was refused; this one did not.
            (
                Some(
                    State::Waiting | State::Running | State::Away | State::Asking | State::Pending,
                ),
                None,
            ) => {
                self.add_address(no, again.request.reply.clone(), Some(step));
                self.acknowledge(again.ack);
            }
            (Some(State::Settled | State::Delivered | State::Lost), None) => {
                self.on_request(again, now);
            }
            (None, _) => {
                if !self.register.keeps_trail(no) {
                    let (tree, seq) = (Tree::Trail, no.trail_seq(step));
                    self.undo(vec![Op::Ack { tree, seq }]);
                }
                self.on_request(again, now);
            }
        }
    }

    pub(super) fn again_settled(&mut self, no: TicketNo, again: Again) {
        self.question(Tree::Outcomes, no.0, again, |again| Pending::AgainSettled {
            no,
            again,
        });
    }

    pub(super) fn again_settled_read(
        &mut self,
        no: TicketNo,
        again: Again,
        record: Option<crate::spool::Numbered>,
        now: Now,
    ) {
        // An outcome that failed to be written may lie there all the same, until it is removed.
        let counts = self.register.holds(no);
        let filed = record.and_then(|(_, body)| Filed::read(&body).ok());
        let Some(filed) = filed.filter(|_| counts) else {
            if !counts && !self.store.is_failing() {
                self.on_request(again, now); // it left the window while we looked
            } else {
                self.refuse_again(&again, Code::Spool, "the outcome cannot be read");
            }
            return;
        };
        if filed.content != again.request.content {
            self.conflict(&again);
            return;
        }
        self.count("requests", "duplicate");
        match (&again.request.reply, again.session) {
            (_, Some(session)) => self.out.answers.push((session, Answer::Reply(filed.reply))),
            (address, None) if self.post.carries(no, address) => {
                self.acknowledge(again.ack); // the reply is on its way there
            }
            (ReturnAddress::Topic { .. }, None) => {
                let letter = self.letter(
                    no,
                    &again.request.reply,
                    filed.reply,
                    crate::ticket::MAX_STEPS - 1,
                );
                let Some(letter) = letter else { return };
                let op = letter.op(Room::IfFree, now);
                self.commit(
                    vec![op],
                    Pending::Copy {
                        letter,
                        refuse: again,
                    },
                );
            }
            (ReturnAddress::Local, None) => {}
        }
    }

    fn question(
        &mut self,
        tree: Tree,
        seq: u64,
        again: Again,
        pending: impl FnOnce(Again) -> Pending,
    ) {
        if self.store.questions() >= MAX_QUESTIONS {
            self.refuse_again(&again, Code::Busy, "too many repeated requests at once");
        } else {
            self.ask(tree, seq, seq, 1, pending(again));
        }
    }

    fn conflict(&mut self, again: &Again) {
        let why = "this id was used for another request";
        let refusal = refusal_of(&again.request, Code::IdConflict, why, None);
        self.refuse(&refusal, again.ack, again.session, again.redelivered);
    }

    pub(super) fn refuse_again(&mut self, again: &Again, code: Code, why: &str) {
        let retry = Some(STORE_RETRY_MS);
        let refusal = refusal_of(&again.request, code, why, retry);
        self.refuse(&refusal, again.ack, again.session, again.redelivered);
    }
}
