//! From a message to a ticket, a duplicate or a refusal.

use std::time::Duration;

use super::cascade::Onward;
use super::doors::{COME_AGAIN_MS, Doors};
use super::moves::Tell;
use super::refuse::refusal_of;
use super::store::{Again, Pending, Settling};
use super::{
    Answer, Dispatch, Held, InboxRecord, LEASE, Link, Phase, STORE_RETRY_MS, SessionNo, Slip,
};
use crate::clock::Now;
use crate::engine;
use crate::intake::{self, Code, Message, Request, RequestId};
use crate::router::affinity::Went;
use crate::router::{Edge, Tier};
use crate::spool::forms::Filed;
use crate::spool::{Op, Room, Tree};
use crate::ticket::{Key, Known, State, Step, TicketNo, What, Why};

impl Dispatch {
    pub(super) fn on_message(&mut self, message: &Message, now: Now) {
        if self.phase == Phase::Draining {
            // Not acknowledged: the broker keeps it for the next start, or for the pool.
            self.count("left_with_broker", "draining");
            return;
        }
        if message.retained && message.payload.is_empty() {
            self.acknowledge(message.ack); // a retained topic being cleared
            return;
        }
        let for_verdicts = message.topic == self.setup.topics.review_verdict();
        if for_verdicts && !self.setup.router.policy.ways().remote_review.is_nothing() {
            self.on_remote_verdict(message, now);
            return;
        }
        match intake::read(message, &self.setup.topics, &self.setup.limits, now.wall) {
            Ok(request) => {
                let again = Again {
                    request: Box::new(request),
                    ack: message.ack,
                    session: None,
                    redelivered: message.redelivered,
                    topic: Some(message.topic.clone()),
                };
                self.on_request(again, now);
            }
            Err(refusal) => self.refuse(&refusal, message.ack, None, message.redelivered),
        }
    }

    /// Somebody at the appliance asks.
    pub(super) fn on_local_ask(&mut self, session: SessionNo, payload: &[u8], now: Now) {
        let (topics, limits) = (&self.setup.topics, &self.setup.limits);
        match intake::read_local(payload, topics, limits, now.wall) {
            Ok(request) => {
                let again = Again {
                    request: Box::new(request),
                    ack: None,
                    session: Some(session),
                    redelivered: false,
                    topic: None,
                };
                if self.phase == Phase::Draining {
                    self.refuse_again(&again, Code::Draining, "the appliance is going down");
                } else {
                    self.on_request(again, now);
                }
            }
            Err(refusal) => self.refuse(&refusal, None, Some(session), false),
        }
    }

    pub(super) fn on_request(&mut self, mut again: Again, now: Now) {
        if self.store.is_failing() {
            self.refuse_again(&again, Code::Spool, "the store fails");
            return;
        }
        match self.find(&mut again) {
            Some(Known::Open(no)) if self.leaving.contains_key(&no) => {
                let why = "an earlier try with this id is being taken back";
                self.refuse_again(&again, Code::Spool, why);
            }
            Some(Known::Open(no)) => self.again_open(no, again, now),
            Some(Known::Settled(no)) => self.again_settled(no, again),
            None if self.doors == Doors::Shut => {
                let request = &again.request;
                let why = "somebody works on this appliance";
                let refusal = refusal_of(request, Code::Maintenance, why, Some(COME_AGAIN_MS));
                self.refuse(&refusal, again.ack, again.session, again.redelivered);
            }
            None => self.accept(again, now),
        }
    }

    /// Looks a request up. One without an id of its own is the same as an earlier one only if
    /// the broker says that it delivers it again; otherwise its made-up id is made unique.
    fn find(&self, again: &mut Again) -> Option<Known> {
        let request = &mut again.request;
        let find = |id: &str| self.register.find(Key::of(&request.client, id));
        match &request.id {
            RequestId::Given(id) => find(id),
            RequestId::Made(id) => {
                let also = Key::of_content(&request.client, request.content);
                if let (true, Some(known)) = (again.redelivered, self.register.find(also)) {
                    return Some(known);
                }
                // As many as may be known, and one more: one of these is free.
                let most = self.slips.len() + self.leaving.len() + self.register.settled_count();
                let unique = (2..most + 3)
                    .map(|n| format!("{id}-{n}"))
                    .find(|id| find(id).is_none());
                if let (Some(_), Some(unique)) = (find(id), unique) {
                    request.id = RequestId::Made(unique);
                }
                None
            }
        }
    }

    fn accept(&mut self, again: Again, now: Now) {
        if let Err(shut) = self.gate.enter(&again.request.client, now.mono) {
            let refusal = refusal_of(
                &again.request,
                shut.code,
                shut.why,
                Some(shut.retry_after_ms),
            );
            self.refuse(&refusal, again.ack, again.session, again.redelivered);
            return;
        }
        let decision = self.route(&again.request, again.topic.as_deref(), now);
        if matches!(decision.tier, Tier::Review(_)) && !self.persons.has_room() {
            self.gate.leave(&again.request.client);
            self.count("review", "desk full");
            self.refuse_again(&again, Code::Spool, "as much waits for persons as may");
            return;
        }
        let no = TicketNo(self.next_no);
        self.next_no += 1;
        let request = *again.request;
        let (tier, priority) = (decision.tier.clone(), request.priority);
        self.register.open(no, key(&request), also_key(&request));
        let due = now.mono.after(request.deadline);
        self.deadlines.insert((due, no));
        self.slips.insert(
            no,
            Slip {
                state: State::Waiting,
                priority: request.priority,
                home: Tree::Inbox,
                gated: true,
                crashes: 0,
                steps: 0,
                due,
                deadline: due,
                late: request.late,
                trip: None,
                missed: 0,
            },
        );
        if let Some(session) = again.session {
            self.callers.insert(no, vec![session]);
        }
        self.held.insert(
            no,
            Held {
                accepted: now.wall,
                waited: Duration::ZERO,
                since: now.mono,
                started: None,
                streamed: 0,
                inbox: InboxRecord::Unwritten,
                acks: again.ack.into_iter().collect(),
                topic: again.topic,
                request,
                decision,
                told: false,
                case: None,
                moving: 0,
                heard: None,
            },
        );
        self.count("requests", "accepted");
        if tier == Tier::Edge || self.shut_out(priority).is_some() {
            self.wants_the_engine(priority);
        }
        if let Some(went) = Went::by_rule(&tier) {
            self.went(no, went, now);
        }
        match tier {
            Tier::Refuse(code) => self.settle_by_rule(no, code, now),
            Tier::Edge => {
                let at_once = self.queued_and_let_in() == 0
                    && self.has_free_slot()
                    && self.edge_for(priority) == Edge::Open;
                self.write_first(no, at_once, now);
                if at_once {
                    self.start(no, now);
                } else {
                    self.engine.queued += 1;
                }
            }
            Tier::Cloud(_) => self.accept_elsewhere(no, Tree::Cloud, now),
            Tier::Review(_) => self.accept_elsewhere(no, Tree::Review, now),
        }
    }

    /// A rule sends it past the edge.
    fn accept_elsewhere(&mut self, no: TicketNo, home: Tree, now: Now) {
        let Some(held) = self.held.get(&no) else {
            return;
        };
        let decision = &held.decision;
        let why = match decision.stopgap {
            None if decision.degraded => Why::EdgeShut,
            Some(_) | None => Why::Rule(decision.route.rule.clone()),
        };
        let (what, keep) = if home == Tree::Cloud {
            (What::Passed(why.clone()), self.setup.patience.cloud_keep)
        } else {
            (What::ToPerson(why.clone()), self.setup.patience.review_keep)
        };
        if !self.step(no, what, now) {
            return;
        }
        let onward = Onward {
            why,
            draft: None,
            tell: Tell::Later,
        };
        self.take_along(no, onward, keep, now);
        if let Some(slip) = self.slips.get_mut(&no) {
            slip.home = home;
        }
        self.write_first(no, false, now);
    }

    fn write_first(&mut self, no: TicketNo, leased: bool, now: Now) {
        let (tree, seq) = self.home(no);
        let Some(held) = self.held.get_mut(&no) else {
            return;
        };
        held.inbox = InboxRecord::Writing;
        let op = Op::Append {
            tree,
            seq,
            record: held.record(no),
            room: Room::IfFree,
            leased_until: leased.then(|| now.mono.after(LEASE)),
        };
        self.commit(vec![op], Pending::Accept(no));
    }

    /// The acceptance is on the disk.
    pub(super) fn accepted(&mut self, no: TicketNo, now: Now) {
        let Some(held) = self.held.get_mut(&no) else {
            return;
        };
        held.inbox = InboxRecord::Written;
        let acks = std::mem::take(&mut held.acks);
        self.acknowledge_all(acks);
        self.engine.pause = None;
        match self.slips.get_mut(&no) {
            Some(slip) if slip.state == State::Waiting => {
                self.held.remove(&no); // from here on it waits on the disk alone
            }
            Some(slip) if matches!(slip.state, State::Away | State::Pending) => {
                let gated = std::mem::take(&mut slip.gated);
                if let Some(held) = self.held.get(&no).filter(|_| gated) {
                    self.gate.leave(&held.request.client);
                }
                self.arrived(no, now);
            }
            Some(_) | None => {}
        }
    }

    /// The acceptance failed. Where the outcome or a move is on its way already, that one decides:
    /// it carries all that is needed, and taking back half of it could leave a second outcome.
    pub(super) fn not_accepted(&mut self, no: TicketNo, why: &'static str) {
        let settling = self
            .slips
            .get(&no)
            .is_some_and(|slip| slip.state == State::Settled);
        match self.held.get_mut(&no) {
            Some(held) if settling || held.moving > 0 => held.inbox = InboxRecord::Unwritten,
            Some(_) | None => self.withdraw(no, why, Vec::new()),
        }
    }

    /// All traces of a request that was not accepted are gone.
    pub(super) fn withdrawn(&mut self, no: TicketNo) {
        if let Some((key, also)) = self.leaving.remove(&no) {
            self.register.forget(no, key, also);
        }
    }

    /// Nothing was accepted after all, whoever asked is told.
    ///
    /// Its keys stay taken until its possible traces are off the disk: a second ticket for the
    /// same request could otherwise overtake their removal, and a power cut would leave both.
    pub(super) fn withdraw(&mut self, no: TicketNo, why: &'static str, mut traces: Vec<Op>) {
        let (Some(slip), Some(held)) = (self.slips.remove(&no), self.held.remove(&no)) else {
            return;
        };
        match slip.state {
            State::Running => {
                self.engine.running -= 1;
                self.out.engine.push(engine::Command::Cancel(no));
            }
            State::Waiting if held.inbox != InboxRecord::Unwritten => self.engine.queued -= 1,
            State::Waiting
            | State::Away
            | State::Asking
            | State::Pending
            | State::Settled
            | State::Delivered
            | State::Lost => {}
        }
        let request = held.request;
        let seq = no.inbox_seq(request.priority);
        self.deadlines.remove(&(slip.due, no));
        self.away.forget(seq);
        if slip.gated {
            self.gate.leave(&request.client);
        }
        traces.push(Op::Ack {
            tree: Tree::Inbox,
            seq,
        });
        if slip.home != Tree::Inbox {
            traces.push(Op::Ack {
                tree: slip.home,
                seq,
            });
        }
        traces.extend((0..u64::from(slip.steps)).map(|step| Op::Ack {
            tree: Tree::Trail,
            seq: no.trail_seq(step),
        }));
        self.leaving.insert(no, (key(&request), also_key(&request)));
        self.decide(traces.clone(), Pending::Withdraw { no, ops: traces });
        self.engine.pause = None;
        self.count("requests", "withdrawn");
        // Each further address is on its own way to the disk, and dealt with when it arrives.
        self.addresses.remove(&no);
        let refusal = refusal_of(&request, Code::Spool, why, Some(STORE_RETRY_MS));
        let sessions = self.callers.remove(&no).unwrap_or_default();
        if sessions.is_empty() {
            self.refuse_all(&refusal, held.acks, false);
        }
        for session in sessions {
            self.refuse(&refusal, None, Some(session), false);
        }
    }

    /// Takes the next free step of a ticket's trail.
    pub(super) fn next_step(&mut self, no: TicketNo) -> u64 {
        let Some(slip) = self.slips.get_mut(&no) else {
            return crate::ticket::MAX_STEPS - 1;
        };
        let step = u64::from(slip.steps);
        slip.steps = slip.steps.saturating_add(1);
        step
    }

    /// Whether the broker is there, for the status.
    pub(super) fn is_online(&self) -> bool {
        self.link == Link::Up
    }

    /// An outcome is on the disk: the slip goes, the letters leave, whoever waits is told.
    pub(super) fn settled(&mut self, settling: Settling, now: Now) {
        let no = settling.no;
        self.ruled_durably(no, now);
        let (Some(slip), Some(held)) = (self.slips.remove(&no), self.held.remove(&no)) else {
            // Its acceptance failed before: what was written now is a trace.
            let traces = settling.ops.iter().filter_map(|op| match op {
                Op::Append { tree, seq, .. } => Some(Op::Ack {
                    tree: *tree,
                    seq: *seq,
                }),
                Op::Ack { .. } | Op::Extend { .. } | Op::Release { .. } => None,
            });
            self.undo(traces.collect());
            for letter in &settling.letters {
                self.post.give_up(letter.seq);
            }
            return;
        };
        let request = &held.request;
        self.addresses.remove(&no);
        self.deadlines.remove(&(slip.due, no));
        let (key, also) = (key(request), also_key(request));
        self.register
            .settle(no, key, also, (Duration::ZERO, now.mono), settling.steps);
        if slip.gated {
            self.gate.leave(&request.client);
        }
        self.acknowledge_all(held.acks);
        for letter in settling.letters {
            self.post_letter(letter);
        }
        let sessions = self.callers.remove(&no).unwrap_or_default();
        if let (false, Some(reply)) = (sessions.is_empty(), reply_of(&settling.ops)) {
            let answers = sessions
                .into_iter()
                .map(|session| (session, Answer::Reply(reply.clone())));
            self.out.answers.extend(answers);
        }
    }
}

/// The reply inside the outcome record that was just written.
fn reply_of(ops: &[Op]) -> Option<Vec<u8>> {
    ops.iter().find_map(|op| match op {
        Op::Append {
            tree: Tree::Outcomes,
            record,
            ..
        } => crate::spool::record::unseal(record)
            .and_then(Filed::read)
            .ok()
            .map(|filed| filed.reply),
        Op::Append { .. } | Op::Ack { .. } | Op::Extend { .. } | Op::Release { .. } => None,
    })
}

pub(super) fn key(request: &Request) -> Key {
    Key::of(&request.client, request.id.as_str())
}

/// The second key of a request whose id was made here.
pub(super) fn also_key(request: &Request) -> Option<Key> {
    match request.id {
        RequestId::Given(_) => None,
        RequestId::Made(_) => Some(Key::of_content(&request.client, request.content)),
    }
}

pub(super) fn trail_op(no: TicketNo, step: u64, record: &Step) -> Option<Op> {
    Some(Op::Append {
        tree: Tree::Trail,
        seq: no.trail_seq(step),
        record: crate::spool::forms::seal_step(record)?,
        room: Room::Always,
        leased_until: None,
    })
}
