//! What is in memory of a request: a slip of every open one, and the whole of those that something
//! is being done with.

use std::time::Duration;

use super::MAX_REASONS;
use crate::clock::{Mono, Wall};
use crate::intake::{AckToken, Late, Request, ReturnAddress};
use crate::router::Decision;
use crate::spool::Tree;
use crate::spool::forms::{Course, Draft, Passed, Waiting};
use crate::ticket::{State, TicketNo, Why};
use crate::uplink::{CloudAnswer, Fault};

/// All that stays in memory of an open ticket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slip {
    pub(super) state: State,
    pub(super) priority: crate::intake::Priority,
    /// The tree in which its record lies, or is about to.
    pub(super) home: Tree,
    /// Whether it counts against what its client may have in flight.
    pub(super) gated: bool,
    pub(super) crashes: u8,
    pub(super) steps: u8,
    /// When time does something to it.
    pub(super) due: Mono,
    /// How long the device waits.
    pub(super) deadline: Mono,
    /// Whether an answer is of use after that.
    pub(super) late: Late,
    /// Where it was passed on.
    pub(super) trip: Option<Trip>,
    /// How often its record was looked for and not found.
    pub(super) missed: u8,
}

/// What stays in memory of a ticket that was passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trip {
    /// How long it is kept.
    pub(super) expires: Mono,
    /// Whether there is an answer that may have to do.
    pub(super) has_draft: bool,
    /// Whether the device has a provisional reply.
    pub(super) told: bool,
    /// Whether the device's deadline has passed.
    pub(super) overdue: bool,
    /// When the device is to be told something although nobody has answered.
    pub(super) patience: Option<Mono>,
    /// Errands in a row that brought nothing.
    pub(super) failures: u8,
}

/// A further address for an open request's reply.
#[derive(Debug)]
pub(super) struct Also {
    pub(super) address: ReturnAddress,
    /// Where it stands in the trail.
    pub(super) step: u64,
    /// Whether it is on the disk.
    pub(super) written: bool,
}

/// A request that is in memory, because something is being done with it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) request: Request,
    pub(super) accepted: Wall,
    /// How long it had waited when it came into memory, and since when it is there.
    pub(super) waited: Duration,
    pub(super) since: Mono,
    pub(super) started: Option<Mono>,
    /// Pieces of the answer that were sent ahead.
    pub(super) streamed: u32,
    pub(super) inbox: InboxRecord,
    /// To acknowledge when the acceptance is durable.
    pub(super) acks: Vec<AckToken>,
    /// On which topic it came.
    pub(super) topic: Option<String>,
    /// Where it goes. Made when it is accepted, and kept with its record.
    pub(super) decision: Decision,
    /// Whether the device has a provisional reply.
    pub(super) told: bool,
    /// What goes with it to another tier.
    pub(super) case: Option<Box<Case>>,
    /// Moves of its record that are on their way to the disk.
    pub(super) moving: u8,
    /// What the cloud said meanwhile.
    pub(super) heard: Option<Result<CloudAnswer, Fault>>,
}

/// What goes with a request to another tier.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) why: Why,
    /// The best answer so far.
    pub(super) draft: Option<Draft>,
    pub(super) since: Wall,
    pub(super) expires: Wall,
}

/// How far the record of a held request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InboxRecord {
    /// Not asked for yet.
    Unwritten,
    /// On its way.
    Writing,
    /// On the disk.
    Written,
}

impl Held {
    /// The sealed record that it has in its tree.
    pub(super) fn record(&self, no: TicketNo) -> Vec<u8> {
        let waiting = Waiting {
            no,
            accepted: self.accepted,
            request: self.request.clone(),
            topic: self.topic.clone(),
            course: Some(Course {
                route: self.decision.route.clone(),
                degraded: self.decision.degraded,
                owed: self.decision.owed.is_some(),
                told: self.told,
            }),
        };
        match self.case.as_deref() {
            None => waiting.seal(),
            Some(case) => Passed {
                waiting,
                why: case.why.clone(),
                draft: case.draft.clone(),
                since: case.since,
                expires: case.expires,
            }
            .seal(),
        }
    }

    /// The best answer so far.
    pub(super) fn draft(&self) -> Option<&Draft> {
        self.case.as_ref()?.draft.as_ref()
    }

    /// Adds to what the reply tells of the way.
    pub(super) fn because(&mut self, reason: String) {
        let reasons = &mut self.decision.route.reasons;
        if reasons.len() < MAX_REASONS && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
}

impl Slip {
    /// When time does something to it next.
    pub(super) fn alarm(&self) -> Mono {
        let Some(trip) = &self.trip else {
            return self.deadline;
        };
        let end = if trip.overdue {
            trip.expires
        } else {
            self.deadline.min(trip.expires)
        };
        match trip.patience {
            Some(patience) if !trip.told => end.min(patience),
            Some(_) | None => end,
        }
    }
}
