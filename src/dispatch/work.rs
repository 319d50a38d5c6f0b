//! Between the inbox and the engine: start, requeue, and what keeps both in order.

use super::accept::trail_op;
use super::store::Pending;
use super::{ASK_AGAIN, Case, Dispatch, Held, InboxRecord, LEASE, MAX_CRASHES, Phase, engine};
use crate::clock::Now;
use crate::engine::{Completion, Fault, Job, LoadNo};
use crate::governor::Taken;
use crate::intake::Code;
use crate::router::{Decision, Tier};
use crate::spool::forms::Waiting;
use crate::spool::{Numbered, Op, Tree};
use crate::ticket::{MAX_STEPS, ROUTINE_STEPS, Requeue, Retired, State, Step, TicketNo, What};

/// Outcomes retired in one turn: bounds the transaction.
const MAX_RETIRED: usize = 256;

impl Dispatch {
    /// Whatever can go on now, goes on: letters, and jobs for free slots.
    pub(super) fn work(&mut self, now: Now) {
        self.pump(now);
        self.pump_cloud(now);
        self.pump_items();
        self.retire_if_crowded(now);
        self.disclose();
        let wants = self.engine.queued > 0 && !self.engine.leasing && self.engine.pause.is_none();
        if self.engine.state == engine::State::Absent && wants {
            self.lease_inbox(MAX_RETIRED, now);
        } else if wants && self.has_free_slot() && self.phase == Phase::Serving {
            let engine::State::Ready { slots } = self.engine.state else {
                return;
            };
            let free = u64::from(slots - self.engine.running);
            // The most urgent come first, so that nobody comes whom the governor shuts out.
            let most = free.min(self.queued_and_let_in());
            if most > 0 {
                self.lease_inbox(usize::try_from(most).unwrap_or(usize::MAX), now);
            }
        }
    }

    fn lease_inbox(&mut self, max: usize, now: Now) {
        if self.store.is_failing() {
            return;
        }
        self.engine.leasing = true;
        let until = now.mono.after(LEASE);
        self.ask_lease(Tree::Inbox, until, max, Pending::LeaseInbox);
    }

    /// Room in the engine, and room for the reply.
    pub(super) fn has_free_slot(&self) -> bool {
        let engine::State::Ready { slots } = self.engine.state else {
            return false;
        };
        self.engine.running < slots
            && self.allowance.taken != Taken::Nobody
            && self.engine.pause.is_none()
            && self.store.live.of(Tree::Outbox) < self.setup.outbox_bytes
    }

    /// Waiting tickets came from the disk.
    pub(super) fn leased(&mut self, records: Vec<Numbered>, now: Now) {
        self.engine.leasing = false;
        if records.is_empty() {
            self.pause(now);
        }
        for (seq, body) in records {
            let no = TicketNo::from_inbox_seq(seq);
            let state = self.slips.get(&no).map(|slip| slip.state);
            let waiting = Waiting::read(&body);
            let moving = self.held.get(&no).is_some_and(|held| held.moving > 0);
            match (state, waiting) {
                // Its move here is to be sent again: it is not to be overtaken.
                (Some(State::Waiting), Ok(_)) if moving => {
                    let tree = Tree::Inbox;
                    self.lazily(Op::Release { tree, seq }, now);
                    self.pause(now);
                }
                (Some(State::Waiting), Ok(waiting)) => {
                    self.hold(waiting, None, now);
                    if self.engine.state == engine::State::Absent {
                        self.engine.queued -= 1;
                        let why = "this appliance has no engine that could answer";
                        self.without_edge(no, Code::EngineUnavailable, why, now);
                    } else if self.has_free_slot()
                        && self.is_let_in(no)
                        && self.phase == Phase::Serving
                    {
                        self.engine.queued -= 1;
                        self.start(no, now);
                    } else {
                        self.put_back(no, seq, now);
                    }
                }
                (Some(State::Waiting), Err(damage)) => {
                    tracing::error!(ticket = no.0, error = %damage, "a request cannot be read");
                    self.lose(no, now);
                }
                // Being settled, passed on, or gone: its end here is on the way to the disk.
                (
                    Some(
                        State::Running
                        | State::Away
                        | State::Asking
                        | State::Pending
                        | State::Settled
                        | State::Delivered
                        | State::Lost,
                    )
                    | None,
                    _,
                ) => {}
            }
        }
    }

    fn is_let_in(&self, no: TicketNo) -> bool {
        let slip = self.slips.get(&no);
        slip.is_some_and(|slip| self.shut_out(slip.priority).is_none())
    }

    /// Asking again at once would bring the same: wait for news, or a little.
    fn pause(&mut self, now: Now) {
        self.engine.pause = Some(now.mono.after(ASK_AGAIN));
    }

    fn put_back(&mut self, no: TicketNo, seq: u64, now: Now) {
        self.forget_text(no);
        let tree = Tree::Inbox;
        self.lazily(Op::Release { tree, seq }, now);
    }

    /// Drops a waiting request from memory, if the disk has it.
    pub(super) fn forget_text(&mut self, no: TicketNo) {
        if self
            .held
            .get(&no)
            .is_some_and(|held| held.inbox == InboxRecord::Written)
        {
            self.held.remove(&no);
        }
    }

    /// Takes a request from the disk into memory.
    pub(super) fn hold(&mut self, waiting: Waiting, case: Option<Case>, now: Now) {
        let told = waiting.course.as_ref().is_some_and(|course| course.told);
        let decision = match waiting.course {
            Some(course) => Decision {
                tier: Tier::Edge,
                stopgap: None,
                owed: course.owed.then(|| Tier::Cloud(String::new())),
                onward: Vec::new(),
                degraded: course.degraded,
                route: course.route,
            },
            // A record of before that was kept.
            None => self.route(&waiting.request, waiting.topic.as_deref(), now),
        };
        self.held.entry(waiting.no).or_insert(Held {
            accepted: waiting.accepted,
            waited: now.wall.time_since(waiting.accepted),
            since: now.mono,
            started: None,
            streamed: 0,
            inbox: InboxRecord::Written,
            acks: Vec::new(),
            topic: waiting.topic,
            request: waiting.request,
            decision,
            told,
            case: case.map(Box::new),
            moving: 0,
            heard: None,
        });
    }

    pub(super) fn start(&mut self, no: TicketNo, now: Now) {
        if !self.step(no, What::Started, now) {
            return;
        }
        let Some(held) = self.held.get_mut(&no) else {
            return;
        };
        held.started = Some(now.mono);
        let job = Job {
            ticket: no,
            request: held.request.clone(),
            due: self.slips.get(&no).map_or(now.mono, |slip| slip.deadline),
            fresh: false,
        };
        self.engine.running += 1;
        self.out.engine.push(engine::Command::Start(job));
    }

    /// Takes an edge of the ticket's state machine and writes it to the trail. False if the
    /// machine has no such edge, which is a defect that must not touch the ticket.
    pub(super) fn step(&mut self, no: TicketNo, what: What, now: Now) -> bool {
        let Some(slip) = self.slips.get_mut(&no) else {
            return false;
        };
        let crowded = u64::from(slip.steps) >= ROUTINE_STEPS;
        match slip.state.after(&what) {
            Ok(state) => slip.state = state,
            Err(error) => {
                debug_assert!(false, "{error}");
                tracing::error!(ticket = no.0, %error, "a step was refused");
                return false;
            }
        }
        let index = match what {
            What::Accepted | What::Settled(_) => return true,
            What::Started | What::Requeued(Requeue::Busy) | What::Asked | What::Returned(_)
                if crowded =>
            {
                return true;
            }
            What::AlsoTo(_)
            | What::Started
            | What::Requeued(_)
            | What::Passed(_)
            | What::Asked
            | What::Returned(_)
            | What::StoodIn
            | What::ToPerson(_)
            | What::Provisional
            | What::LateAnswer
            | What::Delivered
            | What::Undeliverable => self.next_step(no),
        };
        let step = Step { at: now.wall, what };
        if let Some(op) = trail_op(no, index, &step) {
            self.lazily(op, now);
        }
        true
    }

    /// The engine is done with a job, one way or the other.
    pub(super) fn on_ended(
        &mut self,
        no: TicketNo,
        result: Result<Completion, Fault>,
        load: LoadNo,
        now: Now,
    ) {
        if self.is_probe(no, &result) {
            return;
        }
        if self
            .slips
            .get(&no)
            .is_none_or(|slip| slip.state != State::Running)
        {
            self.engine.pause = None; // cancelled meanwhile; now its slot is really free
            return;
        }
        self.engine.running -= 1;
        if let Err(fault) = &result {
            self.hear_fault(load, fault);
        }
        match result {
            Ok(completion) => {
                self.engine.pause = None;
                self.edge_answered(no, completion, load, now);
            }
            Err(Fault::Busy) => {
                self.requeue(no, Requeue::Busy, now);
                self.pause(now);
            }
            Err(Fault::Refused { code, message }) => {
                self.engine.pause = None;
                if code == Code::OverContext {
                    self.without_edge(no, code, &message, now);
                } else {
                    self.settle_refused(no, code, &message, None, now);
                }
            }
            Err(Fault::Crashed) => {
                let crashes = self.slips.get_mut(&no).map_or(0, |slip| {
                    slip.crashes = slip.crashes.saturating_add(1);
                    slip.crashes
                });
                if crashes >= MAX_CRASHES {
                    let why = "the engine died on this request more than once";
                    self.without_edge(no, Code::EngineFailed, why, now);
                } else {
                    self.requeue(no, Requeue::Crashed, now);
                }
            }
        }
    }

    fn requeue(&mut self, no: TicketNo, why: Requeue, now: Now) {
        if !self.step(no, What::Requeued(why), now) {
            return;
        }
        self.engine.queued += 1;
        let seq = self.inbox_seq(no);
        self.forget_text(no);
        let tree = Tree::Inbox;
        self.lazily(Op::Release { tree, seq }, now);
    }

    fn inbox_seq(&self, no: TicketNo) -> u64 {
        let priority = self.slips.get(&no).map(|slip| slip.priority);
        no.inbox_seq(priority.unwrap_or_default())
    }

    /// A request whose record is damaged can neither be answered nor refused, for nobody knows
    /// any more whose it was. It is set aside by the spool; here it stops being open.
    pub(super) fn lose(&mut self, no: TicketNo, _now: Now) {
        tracing::error!(
            ticket = no.0,
            "an accepted request was lost to a damaged record"
        );
        self.count("lost", "damaged request");
        if let Some(slip) = self.slips.remove(&no) {
            self.deadlines.remove(&(slip.due, no));
            if slip.gated {
                self.gate.lose();
            }
            if slip.state == State::Waiting {
                self.engine.queued -= 1;
            }
            self.away.forget(no.inbox_seq(slip.priority));
        }
        self.forget_person(no);
        self.register.lose(no);
        self.held.remove(&no);
        self.addresses.remove(&no);
        self.callers.remove(&no);
    }

    /// Keeps the leases of everything under way.
    pub(super) fn renew(&mut self, now: Now) {
        if now.mono < self.renew_at {
            return;
        }
        self.renew_at = now.mono.after(LEASE / 3);
        let until = now.mono.after(LEASE);
        let jobs = self
            .slips
            .iter()
            .filter(|(_, slip)| slip.state == State::Running)
            .map(|(no, slip)| (Tree::Inbox, no.inbox_seq(slip.priority)));
        let letters = self
            .letters_to_renew()
            .into_iter()
            .map(|seq| (Tree::Outbox, seq));
        let ops: Vec<Op> = jobs
            .chain(letters)
            .map(|(tree, seq)| Op::Extend { tree, seq, until })
            .collect();
        if !ops.is_empty() && !self.store.is_failing() {
            self.commit(ops.clone(), Pending::Lazy(ops));
        }
    }

    fn retire_if_crowded(&mut self, now: Now) {
        let full = self.register.settled_count() > self.setup.window.count
            || self.store.live.of(Tree::Outcomes) > self.setup.window.bytes;
        if full && !self.store.is_retiring() {
            self.retire(now);
        }
        let crowded = self.store.live.of(Tree::Trail) > self.setup.window.trail_bytes;
        if crowded && !self.store.is_retiring() && !self.store.is_failing() {
            let bare = self.register.strip(MAX_RETIRED);
            let ops: Vec<Op> = bare.iter().flat_map(steps_of).collect();
            if !ops.is_empty() {
                self.store.retiring(true);
                self.commit(ops.clone(), Pending::Retire(ops));
            }
        }
    }

    /// Outcomes beyond the window go, with their trails.
    pub(super) fn retire(&mut self, now: Now) {
        if self.store.is_failing() || self.store.is_retiring() {
            return;
        }
        let bytes = self.store.live.of(Tree::Outcomes);
        let post = &self.post;
        let gone = self
            .register
            .retire(now.mono, bytes, MAX_RETIRED, |no| post.concerns(no));
        if gone.is_empty() {
            return;
        }
        let mut ops = Vec::new();
        for old in &gone {
            ops.push(Op::Ack {
                tree: Tree::Outcomes,
                seq: old.no.0,
            });
            ops.extend(steps_of(old));
        }
        self.store.retiring(true);
        self.commit(ops.clone(), Pending::Retire(ops));
    }
}

/// The end of a trail.
fn steps_of(old: &Retired) -> impl Iterator<Item = Op> + use<> {
    let (no, last) = (old.no, MAX_STEPS - 1);
    let steps = (0..old.steps.min(last)).chain([last]);
    steps.map(move |step| Op::Ack {
        tree: Tree::Trail,
        seq: no.trail_seq(step),
    })
}
