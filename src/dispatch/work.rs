//! Between the inbox and the engine: start, requeue, settle, and what time does.

use super::accept::trail_op;
use super::store::{Pending, Settling};
use super::{ASK_AGAIN, Dispatch, Held, InboxRecord, LEASE, MAX_CRASHES, Phase, engine};
use crate::clock::{Mono, Now};
use crate::engine::{Completion, Fault, Job};
use crate::intake::{Code, Detail, ReturnAddress};
use crate::reply::{Finality, Outcome, Reply, Source, Timing};
use crate::spool::forms::{Filed, Waiting};
use crate::spool::{Numbered, Op, Room, Tree};
use crate::ticket::{ROUTINE_STEPS, Requeue, State, Step, TicketNo, What};

/// Outcomes retired in one turn: bounds the transaction.
const MAX_RETIRED: usize = 256;
/// When a record that could not be looked at is looked at again.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// Looks without a finding after which a record counts as gone.
const MAX_MISSED: u8 = 3;

impl Dispatch {
    /// Whatever can go on now, goes on: letters, and jobs for free slots.
    pub(super) fn work(&mut self, now: Now) {
        self.pump(now);
        self.retire_if_crowded(now);
        let wants = self.engine.queued > 0 && !self.engine.leasing && self.engine.pause.is_none();
        if self.engine.state == engine::State::Absent && wants {
            self.lease_inbox(MAX_RETIRED, now);
        } else if wants && self.has_free_slot() && self.phase == Phase::Serving {
            let engine::State::Ready { slots } = self.engine.state else {
                return;
            };
            self.lease_inbox((slots - self.engine.running) as usize, now);
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
            match (state, waiting) {
                (Some(State::Waiting), Ok(waiting)) => {
                    self.hold(waiting, now);
                    if self.engine.state == engine::State::Absent {
                        self.engine.queued -= 1;
                        self.settle_without_engine(no, now);
                    } else if self.has_free_slot() && self.phase == Phase::Serving {
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
                // Being settled, or gone: its end is on the way to the disk.
                (
                    Some(State::Running | State::Settled | State::Delivered | State::Lost) | None,
                    _,
                ) => {}
            }
        }
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
    fn forget_text(&mut self, no: TicketNo) {
        if self
            .held
            .get(&no)
            .is_some_and(|held| held.inbox == InboxRecord::Written)
        {
            self.held.remove(&no);
        }
    }

    /// Takes a request from the disk into memory.
    fn hold(&mut self, waiting: Waiting, now: Now) {
        let decision = self.route(&waiting.request, None, now);
        self.held.entry(waiting.no).or_insert(Held {
            accepted: waiting.accepted,
            waited: now.wall.since(waiting.accepted),
            since: now.mono,
            started: None,
            streamed: 0,
            inbox: InboxRecord::Written,
            acks: Vec::new(),
            request: waiting.request,
            decision,
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
            due: self.slips.get(&no).map_or(now.mono, |slip| slip.due),
        };
        self.engine.running += 1;
        self.out.engine.push(engine::Command::Start(job));
    }

    /// Takes an edge of the ticket's state machine and writes it to the trail. False if the
    /// machine has no such edge, which is a defect that must not touch the ticket.
    fn step(&mut self, no: TicketNo, what: What, now: Now) -> bool {
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
            What::Started | What::Requeued(Requeue::Busy) if crowded => return true,
            What::AlsoTo(_)
            | What::Started
            | What::Requeued(_)
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
    pub(super) fn on_ended(&mut self, no: TicketNo, result: Result<Completion, Fault>, now: Now) {
        if self
            .slips
            .get(&no)
            .is_none_or(|slip| slip.state != State::Running)
        {
            self.engine.pause = None; // cancelled meanwhile; now its slot is really free
            return;
        }
        self.engine.running -= 1;
        match result {
            Ok(completion) => {
                self.engine.pause = None;
                self.settle_answered(no, completion, now);
            }
            Err(Fault::Busy) => {
                self.requeue(no, Requeue::Busy, now);
                self.pause(now);
            }
            Err(Fault::Refused { code, message }) => {
                self.engine.pause = None;
                self.settle_refused(no, code, &message, None, now);
            }
            Err(Fault::Crashed) => {
                let crashes = self.slips.get_mut(&no).map_or(0, |slip| {
                    slip.crashes = slip.crashes.saturating_add(1);
                    slip.crashes
                });
                if crashes >= MAX_CRASHES {
                    let why = "the engine died on this request more than once";
                    self.settle_refused(no, Code::EngineFailed, why, None, now);
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

    fn settle_answered(&mut self, no: TicketNo, mut completion: Completion, now: Now) {
        let request = self.held.get(&no).map(|held| &held.request);
        if request.is_none_or(|request| request.detail == Detail::Whole) {
            completion.free.clear();
        }
        let first_token_ms = f64::from(completion.first_token_ms);
        let outcome = Outcome::Answered {
            source: Source::Edge,
            completion,
        };
        self.settle(no, outcome, Some(first_token_ms), now);
    }

    pub(super) fn settle_without_engine(&mut self, no: TicketNo, now: Now) {
        let why = "this appliance has no engine that could answer";
        self.settle_refused(no, Code::EngineUnavailable, why, None, now);
    }

    /// The router sends it nowhere.
    pub(super) fn settle_by_rule(&mut self, no: TicketNo, code: Code, now: Now) {
        if code != Code::Policy {
            self.settle_without_engine(no, now);
            return;
        }
        let rule = self.held.get(&no).map(|held| &held.decision.route.rule);
        let rule = rule.map_or("", String::as_str);
        let why = format!("rule {rule} of this appliance refuses it");
        self.settle_refused(no, code, &why, None, now);
    }

    fn settle_refused(
        &mut self,
        no: TicketNo,
        code: Code,
        why: &str,
        retry_after_ms: Option<u64>,
        now: Now,
    ) {
        let outcome = Outcome::Refused {
            code,
            message: why.into(),
            retry_after_ms,
        };
        self.settle(no, outcome, None, now);
    }

    /// Gives a ticket its outcome: outcome record, letters and the end of the inbox record in
    /// one transaction.
    fn settle(&mut self, no: TicketNo, outcome: Outcome, first_token: Option<f64>, now: Now) {
        let verdict = match &outcome {
            Outcome::Answered { .. } => crate::ticket::Verdict::Answered,
            Outcome::Refused { code, .. } => crate::ticket::Verdict::Refused(*code),
        };
        if !self.held.contains_key(&no) || !self.step(no, What::Settled(verdict), now) {
            return;
        }
        let mut condition = self.condition();
        let Some(held) = self.held.get(&no) else {
            return;
        };
        let word = verdict.word();
        condition.degraded |= held.decision.degraded;
        let route = held.decision.route.clone();
        let (id, client) = (held.request.id.clone(), held.request.client.clone());
        tracing::info!(
            request_id = id.as_str(),
            client = client.name(),
            ticket = no.0,
            rule = route.rule,
            source = if word == "answered" { "edge" } else { "none" },
            outcome = word,
            "settled"
        );
        let reply = Reply {
            id: Some(id.as_str().into()),
            outcome,
            finality: Finality::Final,
            condition,
            timing: held.timing(first_token, now),
            route: route.clone(),
        };
        let first = held.request.reply.clone();
        let (content, accepted, inbox) = (held.request.content, held.accepted, held.inbox);
        let payload = reply.to_json();
        let letters: Vec<_> = std::iter::once(first)
            .chain(self.also_to(no))
            .filter(|address| *address != ReturnAddress::Local)
            .collect::<Vec<_>>()
            .iter()
            .filter_map(|address| {
                let step = self.next_step(no);
                self.letter(no, address, payload.clone(), step)
            })
            .collect();
        let steps = self.slips.get(&no).map_or(0, |slip| u64::from(slip.steps));
        let filed = Filed {
            no,
            scope: client.scope(),
            id,
            content,
            accepted,
            settled: now.wall,
            verdict: word.into(),
            rule: route.rule,
            steps,
            reply: payload,
        };
        // What was never promised may be refused; what was, has its room.
        let room = match inbox {
            InboxRecord::Unwritten => Room::IfFree,
            InboxRecord::Writing | InboxRecord::Written => Room::Always,
        };
        let mut ops = vec![Op::Append {
            tree: Tree::Outcomes,
            seq: no.0,
            record: filed.seal(),
            room: Room::Always,
            leased_until: None,
        }];
        ops.extend(letters.iter().map(|letter| letter.op(room, now)));
        if inbox != InboxRecord::Unwritten {
            ops.push(Op::Ack {
                tree: Tree::Inbox,
                seq: self.inbox_seq(no),
            });
        }
        self.count("settled", word);
        let settling = Settling {
            no,
            letters,
            steps,
            ops: ops.clone(),
        };
        self.decide(ops, Pending::Settle(settling));
    }

    /// Requests whose time is up.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some((due, no)) = self.deadlines.first().copied() {
            if due > now.mono {
                break;
            }
            self.deadlines.remove(&(due, no));
            match self.slips.get(&no).map(|slip| slip.state) {
                Some(State::Running) => {
                    self.engine.running -= 1;
                    self.engine.pause = None;
                    self.out.engine.push(engine::Command::Cancel(no));
                    self.settle_late(no, now);
                }
                Some(State::Waiting) if self.held.contains_key(&no) => {
                    self.engine.queued -= 1;
                    self.settle_late(no, now);
                }
                Some(State::Waiting) if self.store.is_failing() => {
                    self.look_again_at(no, now.mono.after(LOOK_AGAIN));
                }
                Some(State::Waiting) => {
                    let seq = self.inbox_seq(no);
                    self.ask(Tree::Inbox, seq, seq, 1, Pending::Expire(no));
                }
                Some(State::Settled | State::Delivered | State::Lost) | None => {}
            }
        }
    }

    fn settle_late(&mut self, no: TicketNo, now: Now) {
        self.settle_refused(no, Code::Deadline, "time was up", None, now);
    }

    fn look_again_at(&mut self, no: TicketNo, at: Mono) {
        if let Some(slip) = self.slips.get_mut(&no) {
            slip.due = at;
            self.deadlines.insert((at, no));
        }
    }

    pub(super) fn expired_read(&mut self, no: TicketNo, record: Option<Numbered>, now: Now) {
        match self.slips.get(&no).map(|slip| slip.state) {
            Some(State::Waiting) => {}
            Some(State::Running) => {
                // It was started while we looked; its time is up all the same.
                self.look_again_at(no, now.mono);
                self.expire(now);
                return;
            }
            Some(State::Settled | State::Delivered | State::Lost) | None => return,
        }
        match record.map(|(_, body)| Waiting::read(&body)) {
            Some(Ok(waiting)) => {
                self.hold(waiting, now);
                self.engine.queued -= 1;
                self.settle_late(no, now);
            }
            None if self.store.is_failing() => self.look_again_at(no, now.mono.after(LOOK_AGAIN)),
            // An empty answer may be the first sign of a store that fails. A transaction brings
            // that to light, even one without any operation; then it is looked for again.
            None if self.is_missed(no) => {
                self.commit(Vec::new(), Pending::Lazy(Vec::new()));
                self.look_again_at(no, now.mono.after(LOOK_AGAIN));
            }
            Some(Err(_)) | None => self.lose(no, now),
        }
    }

    fn is_missed(&mut self, no: TicketNo) -> bool {
        self.slips.get_mut(&no).is_some_and(|slip| {
            slip.missed += 1;
            slip.missed < MAX_MISSED
        })
    }

    fn also_to(&self, no: TicketNo) -> Vec<ReturnAddress> {
        let also = self.addresses.get(&no).into_iter().flatten();
        also.map(|also| also.address.clone()).collect()
    }

    /// A request whose record is damaged can neither be answered nor refused, for nobody knows
    /// any more whose it was. It is set aside by the spool; here it stops being open.
    fn lose(&mut self, no: TicketNo, _now: Now) {
        tracing::error!(
            ticket = no.0,
            "an accepted request was lost to a damaged record"
        );
        self.count("lost", "damaged request");
        if let Some(slip) = self.slips.remove(&no) {
            self.deadlines.remove(&(slip.due, no));
            self.gate.lose();
            self.engine.queued -= 1;
        }
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
            .retire(now.wall, bytes, MAX_RETIRED, |no| post.concerns(no));
        if gone.is_empty() {
            return;
        }
        let mut ops = Vec::new();
        for old in &gone {
            ops.push(Op::Ack {
                tree: Tree::Outcomes,
                seq: old.no.0,
            });
            let last = crate::ticket::MAX_STEPS - 1;
            ops.extend((0..old.steps.min(last)).chain([last]).map(|step| Op::Ack {
                tree: Tree::Trail,
                seq: old.no.trail_seq(step),
            }));
        }
        self.store.retiring(true);
        self.commit(ops.clone(), Pending::Retire(ops));
    }
}

impl Held {
    fn timing(&self, first_token: Option<f64>, now: Now) -> Timing {
        let ms = |span: std::time::Duration| span.as_secs_f64() * 1000.0;
        let total = self.waited + now.mono.since(self.since);
        let computing = self.started.map(|started| now.mono.since(started));
        Timing {
            queued: ms(total.saturating_sub(computing.unwrap_or_default())),
            first_token,
            total: ms(total),
        }
    }
}

impl crate::ticket::Verdict {
    /// The word in records, logs and timelines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused(code) => code.word(),
        }
    }
}
