//! Requests that are for a model elsewhere: which of them is asked about next, and what a fault
//! means.
//!
//! Their records lie on the disk; in memory is an index of them. As long as the uplink has room
//! they are read one by one, the most urgent first and among those the oldest, and sent as errands.
//! What brings no answer is offered again later or goes on, as the fault says.
//!
//! | Fault | What becomes of the request |
//! | --- | --- |
//! | busy | offered again in a moment |
//! | resting, limited, unreachable, broken, slow, failing, garbled | kept, offered again later; the device is told what the edge says |
//! | untrusted, denied, redirected | the same, and the operator is told: nothing of it mends by itself |
//! | budget | kept until there is a new one |
//! | rejected, misfit, too dear, uncleared | on to a person, or the best answer so far |
//! | late | its time is up |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::accept::trail_op;
use super::alarm::LOOK_AGAIN;
use super::cascade::Onward;
use super::moves::Tell;
use super::store::Pending;
use super::{ASK_AGAIN, Dispatch, Phase};
use crate::clock::{Mono, Now};
use crate::intake::Late;
use crate::router::{Cleared, Escalation, Tier, ToCloud};
use crate::spool::{Numbered, Tree};
use crate::ticket::{State, Step, TicketNo, What, Why};
use crate::uplink::{self, CloudAnswer, Errand, Fault, Worth};

/// The longest that a request waits after a fault that says nothing of it: a line that is back
/// should not stay unused for longer.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The requests that are for a model elsewhere.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// As the uplink last said.
    pub state: uplink::State,
    /// May be asked about now; in the order of the records.
    ready: BTreeSet<u64>,
    /// May be asked about then.
    resting: BTreeSet<(Mono, u64)>,
    /// Being read.
    fetching: BTreeSet<TicketNo>,
    /// Inside the uplink.
    errands: BTreeSet<TicketNo>,
    /// Inside the uplink, and of no use any more: with the step of the trail that the answer is.
    late: BTreeMap<TicketNo, u64>,
    /// Faults that the operator was told of.
    reported: BTreeSet<&'static str>,
    /// Nothing could be reached, and nobody has answered since. Between two tries an upstream is
    /// open; that it is tried again does not yet mean that it is back.
    pub unproven: bool,
}

impl Away {
    /// The uplink says how the upstreams are.
    pub(super) fn learn(&mut self, state: uplink::State) {
        let reaches = || state.upstreams.iter().map(|it| it.reach);
        let resting = reaches().any(|it| matches!(it, uplink::Reach::Resting { .. }));
        self.unproven |= resting && reaches().all(|it| it != uplink::Reach::Open);
        self.state = state;
    }

    /// Whose rest is over.
    pub(super) fn wake(&mut self, now: Now) {
        while let Some((at, seq)) = self.resting.first().copied() {
            if at > now.mono {
                break;
            }
            self.resting.remove(&(at, seq));
            self.ready.insert(seq);
        }
    }

    /// When the next rest is over.
    pub(super) fn wakes(&self) -> Option<Mono> {
        self.resting.first().map(|(at, _)| *at)
    }

    pub(super) fn forget(&mut self, seq: u64) {
        self.ready.remove(&seq);
        self.resting.retain(|(_, other)| *other != seq);
    }

    /// Inside the uplink, as far as is known.
    pub(super) fn asking(&self) -> usize {
        self.errands.len()
    }

    /// Inside the uplink, whoever waits for them.
    pub(super) fn inside(&self) -> usize {
        self.errands.len() + self.late.len()
    }

    fn free(&self) -> usize {
        let taken = self.inside() + self.fetching.len();
        (self.state.slots as usize).saturating_sub(taken)
    }

    /// Whether this ticket is somewhere in the index.
    pub(super) fn knows(&self, no: TicketNo, seq: u64) -> bool {
        self.ready.contains(&seq)
            || self.resting.iter().any(|(_, other)| *other == seq)
            || self.fetching.contains(&no)
    }

    pub(super) fn is_asking(&self, no: TicketNo) -> bool {
        self.errands.contains(&no)
    }
}

impl Dispatch {
    /// A request that waits for the cloud may be asked about; one that rests goes on resting.
    pub(super) fn offer(&mut self, no: TicketNo, now: Now) {
        let (_, seq) = self.home(no);
        if !self.away.knows(no, seq) {
            self.away.ready.insert(seq);
        }
        self.pump_cloud(now);
    }

    /// Sends what may be sent.
    pub(super) fn pump_cloud(&mut self, now: Now) {
        let room = self.store.live.of(Tree::Outbox) < self.setup.outbox_bytes;
        if self.phase != Phase::Serving || !room {
            return;
        }
        while self.away.free() > 0 {
            let Some(seq) = self.away.ready.first().copied() else {
                return;
            };
            let no = TicketNo::from_inbox_seq(seq);
            if self.held.contains_key(&no) {
                self.away.ready.remove(&seq);
                self.send_errand(no, now);
            } else if self.store.is_failing() {
                return;
            } else {
                self.away.ready.remove(&seq);
                self.away.fetching.insert(no);
                self.ask(Tree::Cloud, seq, seq, 1, Pending::Errand(no));
            }
        }
    }

    pub(super) fn errand_read(&mut self, no: TicketNo, record: Option<Numbered>, now: Now) {
        self.away.fetching.remove(&no);
        if self.slips.get(&no).map(|slip| slip.state) != Some(State::Away) {
            return;
        }
        if !self.held.contains_key(&no) && !self.recall(no, Tree::Cloud, record, now) {
            if self.slips.contains_key(&no) {
                self.rest(no, now.mono.after(LOOK_AGAIN));
            }
            return;
        }
        self.send_errand(no, now);
    }

    fn send_errand(&mut self, no: TicketNo, now: Now) {
        let (Some(slip), Some(held)) = (self.slips.get(&no), self.held.get(&no)) else {
            return;
        };
        let (Some(trip), State::Away, 0) = (slip.trip, slip.state, held.moving) else {
            return;
        };
        let until = match slip.late {
            Late::No => slip.deadline,
            Late::Yes => trip.expires,
        };
        let mut ways = self.cleared(no).into_iter();
        let question = self.setup.briefs.question(&held.request);
        let (Some(first), Some(question)) = (ways.next(), question.clone()) else {
            let word = if question.is_none() {
                "unknown_task"
            } else {
                Fault::Uncleared.word()
            };
            self.without_cloud(no, word, now);
            return;
        };
        let errand = Errand::new(first, question, until);
        let mut errand = ways.fold(errand, |errand, way| errand.or(way.into_parts().1));
        errand.accepted = held.accepted;
        if !self.step(no, What::Asked, now) {
            return;
        }
        let patient = trip.has_draft || self.may_stand_in(no, now);
        if let Some(trip) = self.trip_mut(no) {
            trip.patience = None;
        }
        if patient && !trip.told {
            let at = now.mono.after(self.setup.patience.cloud);
            if let Some(trip) = self.trip_mut(no) {
                trip.patience = Some(at);
            }
        }
        self.wind(no);
        self.away.errands.insert(no);
        self.out.uplink.push(uplink::Command::Send(errand));
    }

    /// Everywhere that a request may go, in order.
    fn cleared(&self, no: TicketNo) -> Vec<Cleared<ToCloud>> {
        let Some(held) = self.held.get(&no) else {
            return Vec::new();
        };
        let why = held.case.as_ref().map(|case| case.why.clone());
        let escalation = || Escalation {
            ticket: no,
            request: held.request.clone(),
            draft: None,
            why: why.clone().unwrap_or(Why::EdgeShut),
        };
        let router = &self.setup.router;
        let names = router.upstreams(&held.decision.route.rule).into_iter();
        names
            .filter_map(|name| router.policy.clear_for_cloud(escalation(), name).ok())
            .collect()
    }

    /// An errand ended, one way or the other.
    pub(super) fn on_errand_ended(
        &mut self,
        no: TicketNo,
        result: Result<CloudAnswer, Fault>,
        now: Now,
    ) {
        if let Some(step) = self.away.late.remove(&no) {
            if result.is_ok() {
                self.late_answer(no, step, now);
            }
            return;
        }
        if !self.away.errands.contains(&no) {
            return; // cancelled meanwhile
        }
        // One thing after the other: what is sent again after a failure of the store must not
        // come behind what followed it.
        if let Some(held) = self.held.get_mut(&no).filter(|held| held.moving > 0) {
            held.heard = Some(result);
            return;
        }
        self.away.errands.remove(&no);
        match result {
            Ok(answer) => {
                self.away.reported.clear();
                self.away.unproven = false;
                self.count("cloud", "answered");
                self.cloud_answered(no, answer, now);
            }
            Err(fault) => self.errand_failed(no, &fault, now),
        }
    }

    /// What came after the outcome is recorded, and that is all.
    fn late_answer(&mut self, no: TicketNo, step: u64, now: Now) {
        self.count("cloud", "late answer");
        if !self.register.keeps_trail(no) && !self.slips.contains_key(&no) {
            return; // its trail has gone, with its outcome or before
        }
        let record = Step {
            at: now.wall,
            what: What::LateAnswer,
        };
        if let Some(op) = trail_op(no, step, &record) {
            self.lazily(op, now);
        }
    }

    fn errand_failed(&mut self, no: TicketNo, fault: &Fault, now: Now) {
        self.count("cloud", fault.word());
        if !self.step(no, What::Returned(fault.word().into()), now) {
            return;
        }
        self.report(fault);
        if matches!(fault, Fault::Rejected(_) | Fault::Misfit(_)) {
            self.away.unproven = false; // that was an answer, though of no use
        }
        let after = match fault.worth() {
            Worth::Later(after) => after,
            Worth::Never if *fault == Fault::Late => {
                self.rest(no, now.mono.after(ASK_AGAIN));
                self.wake_at(no, now.mono);
                self.expire(now);
                return;
            }
            Worth::Never => {
                self.without_cloud(no, fault.word(), now);
                return;
            }
        };
        let Some(trip) = self.trip_mut(no) else {
            return;
        };
        trip.patience = None;
        let pause = ASK_AGAIN * (1 << trip.failures.min(5));
        trip.failures = trip.failures.saturating_add(1);
        self.rest(no, now.mono.after(after.max(pause.min(LONGEST_REST))));
        if *fault != Fault::Busy {
            if self.may_stand_in(no, now) {
                let why = format!("the cloud is out of reach: {}", fault.word());
                self.stand_in(no, &why.replace('_', " "), Last::Cloud, now);
                return;
            }
            let has_draft = self
                .held
                .get(&no)
                .is_some_and(|held| held.draft().is_some());
            if has_draft {
                self.degrade(no);
                self.tell(no, now);
            }
        }
        self.wind(no);
        self.let_go(no);
    }

    /// The operator hears once of what does not mend by itself, until something works again.
    fn report(&mut self, fault: &Fault) {
        let word = match fault {
            Fault::Untrusted | Fault::Denied(_) | Fault::Elsewhere => fault.word(),
            Fault::Uncleared
            | Fault::Busy
            | Fault::Resting { .. }
            | Fault::Budget { .. }
            | Fault::TooDear
            | Fault::Unreachable
            | Fault::Broken
            | Fault::Slow
            | Fault::Late
            | Fault::Limited { .. }
            | Fault::Failing(_)
            | Fault::Rejected(_)
            | Fault::Garbled(_)
            | Fault::Misfit(_) => return,
        };
        if self.away.reported.insert(word) {
            tracing::error!(
                reason = word,
                error = %fault,
                "the cloud will not work until somebody changes something"
            );
        }
    }

    fn rest(&mut self, no: TicketNo, until: Mono) {
        let (_, seq) = self.home(no);
        self.away.forget(seq);
        self.away.resting.insert((until, seq));
    }

    /// The edge is to answer what the cloud does not: its record goes back to the inbox.
    pub(super) fn stand_in(&mut self, no: TicketNo, why: &str, last: Last, now: Now) {
        if !self.step(no, What::StoodIn, now) {
            return;
        }
        self.leave_index(no);
        self.engine.queued += 1;
        let (Some(slip), Some(held)) = (self.slips.get_mut(&no), self.held.get_mut(&no)) else {
            return;
        };
        slip.trip = None;
        held.case = None;
        held.decision.degraded = true;
        held.decision.owed = match last {
            Last::Cloud => Some(Tier::Cloud(String::new())),
            Last::Edge => None,
        };
        held.because(why.into());
        self.relocate(no, Tree::Inbox, Tell::Later, now);
        self.wind(no);
    }

    /// It could not stand in after all: the cloud is waited for.
    pub(super) fn back_away(&mut self, no: TicketNo, now: Now) {
        self.engine.queued -= 1;
        let why = Why::EdgeShut;
        if !self.step(no, What::Passed(why.clone()), now) {
            return;
        }
        let onward = Onward {
            why,
            draft: None,
            tell: Tell::Later,
        };
        self.take_along(no, onward, self.setup.patience.cloud_keep, now);
        self.rest(no, now.mono.after(ASK_AGAIN));
        self.let_go(no);
    }

    /// Its errand is of no use any more.
    pub(super) fn cancel_errand(&mut self, no: TicketNo) {
        if self.away.errands.remove(&no) {
            self.out.uplink.push(uplink::Command::Cancel(no));
        }
    }

    /// It has its outcome. An errand under way goes on: what it costs is spent, and what it
    /// brings is recorded.
    pub(super) fn leave_cloud(&mut self, no: TicketNo) {
        self.leave_index(no);
        if self.away.errands.remove(&no) {
            let step = self.next_step(no);
            self.away.late.insert(no, step);
        }
    }

    pub(super) fn leave_index(&mut self, no: TicketNo) {
        let (_, seq) = self.home(no);
        self.away.forget(seq);
    }
}

/// Who has the last word on what the edge stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// The cloud, as soon as it can.
    Cloud,
    /// The edge: the cloud cannot.
    Edge,
}
