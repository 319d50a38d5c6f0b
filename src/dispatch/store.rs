//! Transactions under way: what waits for them, and what happens when the store fails.
//!
//! Every write is keyed by numbers that the dispatcher chose, so sending it again is harmless.
//! That makes failure simple: what was decided (an outcome, a delivery) is kept in `redo` and
//! sent again when the store is back; what was only wished (an acceptance) is refused, and its
//! possible traces on the disk are removed by another entry in `redo`.
//!
//! Order: operations reach the spool in the order in which they were decided; a transaction takes
//! the lazy ones before it along. `redo` keeps that order by the tokens. One thing escapes it:
//! what was under way when the store failed may be carried out after the repair, ahead of what is
//! sent again. Hence two rules: removals that were under way are sent again in their place
//! whatever became of them, and letters leased in that time are put back unread.

use std::collections::{BTreeMap, HashMap};

use super::moves::Moving;
use super::persons::{Looker, Ruling};
use super::{Dispatch, LAZY, SessionNo, post::Envelope};
use crate::clock::{Mono, Now};
use crate::intake::{AckToken, Code, Request};
use crate::spool::shell::{Command, Token};
use crate::spool::{Numbered, Op, PerTree, Tree};
use crate::ticket::{State, TicketNo};

/// Lazy operations that are not waited with any longer.
const MAX_LAZY_OPS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Store {
    pending: HashMap<Token, Pending>,
    next_token: u64,
    health: Health,
    redo: BTreeMap<Token, (Pending, Vec<Op>)>,
    /// How often the store failed; tells leases from before a failure.
    failures: u64,
    lazy: Vec<Op>,
    lazy_since: Option<Mono>,
    questions: usize,
    /// Those of them that are about records whose time is up.
    pub(super) expiring: usize,
    retiring: bool,
    pub(super) live: PerTree,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Well,
    Failing,
}

/// What goes on when an answer comes.
#[derive(Debug)]
pub(super) enum Pending {
    /// A request becomes durable.
    Accept(TicketNo),
    /// An outcome becomes durable (and, where it came at once, the acceptance with it).
    Settle(Settling),
    /// A record moves to another tree, or says more than before.
    Move(Moving),
    /// A second address becomes durable.
    Join {
        no: TicketNo,
        step: u64,
        again: Again,
    },
    /// A copy of a recorded reply becomes durable.
    Copy { letter: Envelope, refuse: Again },
    /// Steps that nobody waits for.
    Lazy(Vec<Op>),
    /// Traces of what was not accepted after all.
    Undo(Vec<Op>),
    /// Traces of a request that was not accepted after all.
    Withdraw { no: TicketNo, ops: Vec<Op> },
    /// Outcomes that leave the window.
    Retire(Vec<Op>),
    /// Waiting tickets for the engine.
    LeaseInbox,
    /// Letters for the broker, and how many were asked for; after so many failures.
    LeaseOutbox { max: usize, failures: u64 },
    /// The record of an open request that came again.
    AgainOpen {
        no: TicketNo,
        home: Tree,
        again: Again,
    },
    /// The outcome of a settled request that came again.
    AgainSettled { no: TicketNo, again: Again },
    /// The record of a request whose time is up.
    Expire(TicketNo),
    /// The record of a request that the cloud is to be asked about.
    Errand(TicketNo),
    /// The record of a request that a person ruled on.
    Rule { no: TicketNo, ruling: Ruling },
    /// The record of an item that somebody looks at.
    Show { no: TicketNo, looker: Looker },
    /// The record of an item that reviewers elsewhere are to see.
    Publish(TicketNo),
    /// A part of a timeline.
    Trace {
        draft: u64,
        part: super::inquiry::Part,
    },
    /// A record for a listing.
    Latest { listing: u64, tree: Tree },
}

/// An outcome on its way to the disk.
#[derive(Debug)]
pub(super) struct Settling {
    pub no: TicketNo,
    pub letters: Vec<Envelope>,
    pub steps: u64,
    pub ops: Vec<Op>,
}

/// A request that came again, and what to acknowledge when it was dealt with.
#[derive(Debug)]
pub(super) struct Again {
    pub request: Box<Request>,
    pub ack: Option<AckToken>,
    pub session: Option<SessionNo>,
    pub redelivered: bool,
    /// On which topic it came.
    pub topic: Option<String>,
}

impl Store {
    pub(super) fn is_failing(&self) -> bool {
        self.health == Health::Failing
    }

    /// Nothing under way, nothing kept back.
    pub(super) fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.redo.is_empty() && self.lazy.is_empty()
    }

    pub(super) fn lazy_due(&self) -> Option<Mono> {
        self.lazy_since.map(|since| since.after(LAZY))
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.retiring
    }

    pub(super) fn retiring(&mut self, yes: bool) {
        self.retiring = yes;
    }

    /// A letter that is not leased yet is being written.
    pub(super) fn has_letters_coming(&self) -> bool {
        self.pending.values().any(|pending| {
            matches!(
                pending,
                Pending::Settle(_) | Pending::Move(_) | Pending::Copy { .. }
            )
        }) || !self.redo.is_empty()
    }

    pub(super) fn questions(&self) -> usize {
        self.questions
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// What waits for an answer, or for the store to be back.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Pending> {
        let kept = self.redo.values().map(|(pending, _)| pending);
        self.pending.values().chain(kept)
    }
}

impl Dispatch {
    fn token(&mut self) -> Token {
        self.store.next_token += 1;
        Token(self.store.next_token)
    }

    pub(super) fn commit(&mut self, ops: Vec<Op>, pending: Pending) {
        self.flush_lazy();
        self.send(ops, pending);
    }

    fn send(&mut self, ops: Vec<Op>, pending: Pending) {
        let token = self.token();
        self.store.pending.insert(token, pending);
        self.out.spool.push(Command::Commit { token, ops });
    }

    /// Keeps a transaction until the store is back.
    fn keep(&mut self, ops: Vec<Op>, pending: Pending) {
        let token = self.token();
        self.store.redo.insert(token, (pending, ops));
    }

    pub(super) fn ask_lease(&mut self, tree: Tree, until: Mono, max: usize, pending: Pending) {
        let released = |op: &Op| matches!(op, Op::Release { .. });
        if self.store.lazy.iter().any(released) {
            self.flush_lazy(); // what was put back is to be found
        }
        let token = self.token();
        self.store.pending.insert(token, pending);
        self.out.spool.push(Command::Lease {
            token,
            tree,
            until,
            max,
        });
    }

    pub(super) fn ask(&mut self, tree: Tree, from: u64, to: u64, max: usize, pending: Pending) {
        let token = self.token();
        self.store.questions += 1;
        self.store.pending.insert(token, pending);
        self.out.spool.push(Command::Look {
            token,
            tree,
            from,
            to,
            max,
        });
    }

    /// Writes this some time soon.
    pub(super) fn lazily(&mut self, op: Op, now: Now) {
        self.store.lazy_since.get_or_insert(now.mono);
        self.store.lazy.push(op);
    }

    pub(super) fn flush_lazy_if_due(&mut self, now: Now) {
        if self.store.lazy_due().is_some_and(|due| due <= now.mono) {
            self.flush_lazy();
        }
    }

    /// Where a transaction goes out anyway, the lazy ones ride along in the same group.
    pub(super) fn ride_along(&mut self, now: Now) {
        let commits = self
            .out
            .spool
            .iter()
            .any(|command| matches!(command, Command::Commit { .. }));
        if commits || self.store.lazy.len() > MAX_LAZY_OPS {
            self.flush_lazy();
        } else {
            self.flush_lazy_if_due(now);
        }
    }

    pub(super) fn flush_lazy(&mut self) {
        self.store.lazy_since = None;
        let ops = std::mem::take(&mut self.store.lazy);
        if ops.is_empty() {
            return;
        }
        if self.store.is_failing() {
            self.keep(ops, Pending::Lazy(Vec::new()));
        } else {
            self.send(ops.clone(), Pending::Lazy(ops));
        }
    }

    pub(super) fn on_committed(&mut self, token: Token, now: Now) {
        let Some(pending) = self.store.pending.remove(&token) else {
            return;
        };
        match pending {
            Pending::Accept(no) => self.accepted(no, now),
            Pending::Settle(settling) => self.settled(settling, now),
            Pending::Move(moving) => self.moved(moving, now),
            Pending::Join { no, step, again } => self.joined(no, step, again, now),
            Pending::Copy { letter, refuse } => {
                self.acknowledge(refuse.ack);
                self.post_letter(letter);
            }
            Pending::Lazy(ops) => self.post.written(&ops),
            Pending::Undo(_) => {}
            Pending::Withdraw { no, .. } => self.withdrawn(no),
            Pending::Retire(_) => self.store.retiring = false,
            Pending::LeaseInbox
            | Pending::LeaseOutbox { .. }
            | Pending::AgainOpen { .. }
            | Pending::AgainSettled { .. }
            | Pending::Expire(_)
            | Pending::Errand(_)
            | Pending::Rule { .. }
            | Pending::Show { .. }
            | Pending::Publish(_)
            | Pending::Trace { .. }
            | Pending::Latest { .. } => unreachable_answer("a question was answered by a commit"),
        }
    }

    pub(super) fn on_full(&mut self, token: Token, tree: Tree, now: Now) {
        let why = match tree {
            Tree::Inbox => "the disk's share for waiting requests is used up",
            Tree::Outbox => "the disk's share for replies is used up",
            Tree::Cloud => "the disk's share for what waits for the cloud is used up",
            Tree::Review => "the disk's share for what waits for a person is used up",
            Tree::Telemetry | Tree::Outcomes | Tree::Trail | Tree::Aside => {
                "the disk's share is used up"
            }
        };
        if let Some(pending) = self.store.pending.remove(&token) {
            self.came_to_nothing(pending, why, now);
        }
    }

    pub(super) fn on_failed(&mut self, token: Token, now: Now) {
        if self.store.health == Health::Well {
            tracing::error!("the store fails: new requests are refused until it is back");
            self.store.health = Health::Failing;
            self.store.failures += 1;
            self.repeat_removals();
        }
        self.count("store", "failed");
        if self.is_question(token) {
            self.on_records(token, Vec::new(), now);
            return;
        }
        let Some(pending) = self.store.pending.remove(&token) else {
            return;
        };
        match pending {
            Pending::Settle(settling) if self.slips.contains_key(&settling.no) => {
                let ops = settling.ops.clone();
                let came_at_once = self.is_unaccepted(settling.no);
                if came_at_once {
                    self.came_to_nothing(Pending::Settle(settling), STORE_FAILS, now);
                } else {
                    let redo = &mut self.store.redo;
                    redo.insert(token, (Pending::Settle(settling), ops));
                }
            }
            Pending::Move(moving) if self.is_kept(moving.no) => {
                let ops = moving.ops.clone();
                self.store.redo.insert(token, (Pending::Move(moving), ops));
            }
            Pending::Lazy(ops) => {
                self.store
                    .redo
                    .insert(token, (Pending::Lazy(Vec::new()), ops));
            }
            Pending::Undo(ops) => {
                self.store
                    .redo
                    .insert(token, (Pending::Undo(Vec::new()), ops));
            }
            Pending::Withdraw { no, ops } => {
                let pending = Pending::Withdraw {
                    no,
                    ops: ops.clone(),
                };
                self.store.redo.insert(token, (pending, ops));
            }
            Pending::Retire(ops) => {
                self.store.retiring = false;
                self.store
                    .redo
                    .insert(token, (Pending::Undo(Vec::new()), ops));
            }
            pending @ (Pending::Settle(_)
            | Pending::Move(_)
            | Pending::Accept(_)
            | Pending::Join { .. }
            | Pending::Copy { .. }
            | Pending::LeaseInbox
            | Pending::LeaseOutbox { .. }
            | Pending::AgainOpen { .. }
            | Pending::AgainSettled { .. }
            | Pending::Expire(_)
            | Pending::Errand(_)
            | Pending::Rule { .. }
            | Pending::Show { .. }
            | Pending::Publish(_)
            | Pending::Trace { .. }
            | Pending::Latest { .. }) => self.came_to_nothing(pending, STORE_FAILS, now),
        }
    }

    /// A wish that was not granted: whoever waits is told, traces are removed.
    fn came_to_nothing(&mut self, pending: Pending, why: &'static str, now: Now) {
        match pending {
            Pending::Move(moving) => self.move_refused(&moving, why, now),
            Pending::Accept(no) => self.not_accepted(no, why),
            Pending::Settle(settling) => {
                for letter in &settling.letters {
                    self.post.give_up(letter.seq);
                }
                let traces = settling.ops.iter().filter_map(taken_back).collect();
                self.withdraw(settling.no, why, traces);
            }
            Pending::Withdraw { no, ops } => {
                self.decide(ops.clone(), Pending::Withdraw { no, ops });
            }
            // Its trace in the trail stays: the same message may come again and mean it.
            Pending::Join { no, step, again } => {
                if let Some(addresses) = self.addresses.get_mut(&no) {
                    addresses.retain(|also| also.step != step || also.written);
                }
                self.refuse_again(&again, Code::Spool, why);
            }
            Pending::Copy { letter, refuse } => {
                self.post.give_up(letter.seq);
                self.undo(vec![Op::Ack {
                    tree: Tree::Outbox,
                    seq: letter.seq,
                }]);
                self.refuse_again(&refuse, Code::Spool, why);
            }
            Pending::Lazy(ops) | Pending::Undo(ops) | Pending::Retire(ops) => self.undo(ops),
            Pending::LeaseInbox
            | Pending::LeaseOutbox { .. }
            | Pending::AgainOpen { .. }
            | Pending::AgainSettled { .. }
            | Pending::Expire(_)
            | Pending::Errand(_)
            | Pending::Rule { .. }
            | Pending::Show { .. }
            | Pending::Publish(_)
            | Pending::Trace { .. }
            | Pending::Latest { .. } => unreachable_answer("a question was refused"),
        }
    }

    /// Operations that must happen, now or when the store is back.
    pub(super) fn undo(&mut self, ops: Vec<Op>) {
        if !ops.is_empty() {
            self.decide(ops.clone(), Pending::Undo(ops));
        }
    }

    /// A decided transaction: sent now, or when the store is back.
    pub(super) fn decide(&mut self, ops: Vec<Op>, pending: Pending) {
        if self.store.is_failing() {
            self.flush_lazy();
            self.keep(ops, pending);
        } else {
            self.commit(ops, pending);
        }
    }

    pub(super) fn on_restored(&mut self) {
        tracing::warn!("the store is back");
        self.store.health = Health::Well;
        self.engine.pause = None;
        self.post.look_again();
        for slip in self.slips.values_mut() {
            slip.missed = 0;
        }
        self.count("store", "restored");
        for (_, (pending, ops)) in std::mem::take(&mut self.store.redo) {
            let pending = if let Pending::Lazy(_) = pending {
                Pending::Lazy(ops.clone())
            } else if let Pending::Undo(_) = pending {
                Pending::Undo(ops.clone())
            } else {
                pending
            };
            self.commit(ops, pending);
        }
    }

    pub(super) fn on_records(&mut self, token: Token, records: Vec<Numbered>, now: Now) {
        let Some(pending) = self.store.pending.remove(&token) else {
            return;
        };
        if pending.is_counted() {
            self.store.questions -= 1;
        }
        let first = |records: Vec<Numbered>| records.into_iter().next();
        match pending {
            Pending::LeaseInbox => self.leased(records, now),
            Pending::LeaseOutbox { max, failures } if failures == self.store.failures => {
                self.letters_leased(records, max, now);
            }
            Pending::LeaseOutbox { .. } => self.letters_put_back(&records, now),
            Pending::AgainOpen { no, home, again } => {
                self.again_open_read(no, home, again, first(records), now);
            }
            Pending::AgainSettled { no, again } => {
                self.again_settled_read(no, again, first(records), now);
            }
            Pending::Expire(no) => {
                self.store.expiring -= 1;
                self.expired_read(no, first(records), now);
                self.expire(now); // those behind it
            }
            Pending::Errand(no) => self.errand_read(no, first(records), now),
            Pending::Rule { no, ruling } => self.ruled_read(no, ruling, first(records), now),
            Pending::Show { no, looker } => self.shown_read(no, looker, first(records), now),
            Pending::Publish(no) => self.publish_read(no, first(records), now),
            Pending::Trace { draft, part } => self.trace_part(draft, part, &records),
            Pending::Latest { listing, tree } => self.latest_part(listing, tree, &records),
            Pending::Accept(_)
            | Pending::Settle(_)
            | Pending::Move(_)
            | Pending::Join { .. }
            | Pending::Copy { .. }
            | Pending::Lazy(_)
            | Pending::Undo(_)
            | Pending::Withdraw { .. }
            | Pending::Retire(_) => unreachable_answer("a commit was answered by records"),
        }
    }

    /// What was to be removed while the store began to fail may overtake what is sent again
    /// after it; so it is sent again too, in its place.
    fn repeat_removals(&mut self) {
        let removals = self.store.pending.iter().filter_map(|(token, pending)| {
            let (Pending::Undo(ops) | Pending::Retire(ops) | Pending::Withdraw { ops, .. }) =
                pending
            else {
                return None;
            };
            Some((*token, (Pending::Undo(Vec::new()), ops.clone())))
        });
        self.store.redo.extend(removals.collect::<Vec<_>>());
    }

    fn is_question(&self, token: Token) -> bool {
        match self.store.pending.get(&token) {
            Some(pending) => pending.is_question(),
            None => false,
        }
    }

    /// Whether what becomes of this ticket's record must be written, however often it takes.
    fn is_kept(&self, no: TicketNo) -> bool {
        let accepted = |held: &super::Held| held.inbox != super::InboxRecord::Unwritten;
        self.held.get(&no).is_some_and(accepted)
    }

    fn is_unaccepted(&self, no: TicketNo) -> bool {
        self.slips
            .get(&no)
            .is_some_and(|slip| slip.state == State::Settled)
            && self
                .held
                .get(&no)
                .is_some_and(|held| held.inbox == super::InboxRecord::Unwritten)
    }
}

const STORE_FAILS: &str = "the store fails";

impl Pending {
    /// Whether it counts against [`super::MAX_QUESTIONS`]: a question that is no lease.
    pub(super) fn is_counted(&self) -> bool {
        self.is_question() && !matches!(self, Self::LeaseInbox | Self::LeaseOutbox { .. })
    }

    /// Whether records are the answer.
    pub(super) fn is_question(&self) -> bool {
        match self {
            Self::LeaseInbox
            | Self::LeaseOutbox { .. }
            | Self::AgainOpen { .. }
            | Self::AgainSettled { .. }
            | Self::Expire(_)
            | Self::Errand(_)
            | Self::Rule { .. }
            | Self::Show { .. }
            | Self::Publish(_)
            | Self::Trace { .. }
            | Self::Latest { .. } => true,
            Self::Accept(_)
            | Self::Settle(_)
            | Self::Move(_)
            | Self::Join { .. }
            | Self::Copy { .. }
            | Self::Lazy(_)
            | Self::Undo(_)
            | Self::Withdraw { .. }
            | Self::Retire(_) => false,
        }
    }
}

/// The operation that removes what `op` may have left.
pub(super) fn taken_back(op: &Op) -> Option<Op> {
    match op {
        Op::Append { tree, seq, .. } => Some(Op::Ack {
            tree: *tree,
            seq: *seq,
        }),
        Op::Ack { .. } | Op::Extend { .. } | Op::Release { .. } => None,
    }
}

/// The spool answers a commit by a verdict and a question by records; the port says so.
fn unreachable_answer(what: &'static str) {
    debug_assert!(false, "{what}");
    tracing::error!(reason = what, "the spool broke its contract");
}
