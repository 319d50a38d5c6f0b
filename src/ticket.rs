//! A request's life: the durable state machine, its timeline, and who is known.
//!
//! ```text
//!                       Requeued
//!                  ┌───────────────┐
//!                  ▼               │
//!  ──Accepted──► Waiting ─Started─► Running
//!                  │               │
//!                  └───Settled─────┴──Settled──► Settled ──Delivered────► Delivered
//!                                                   │                        │
//!                                                   └─Undeliverable─► Lost ◄─┘
//! ```
//!
//! An edge is a [`What`]; [`State::after`] is the whole machine. Each edge is written to the
//! disk as a [`Step`] (the first and the `Settled` one stand in the inbox and the outcome
//! record themselves), so the timeline can be printed afterwards, also across restarts.
//!
//! [`Register`] answers the question that decides whether a request runs at all: is it new,
//! under way, or settled already?

mod register;

pub use register::{Known, Register, Retired, Window};

use crate::clock::Wall;
use crate::intake::{Client, Code, Digest, Priority, ReturnAddress};

/// A ticket's number: given at acceptance, never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketNo(pub u64);

/// Steps that one ticket's trail may hold. A request that needs more was requeued without end,
/// and the two-crash rule ends that long before.
pub const MAX_STEPS: u64 = 32;
/// Steps after which `Started` and `Requeued: busy` are no longer written down: what is left of
/// the trail belongs to steps that a restart needs (second addresses, crashes) and to deliveries.
pub const ROUTINE_STEPS: u64 = 20;

impl TicketNo {
    /// Where the record of the waiting request lies: the inbox is read in this order, so a
    /// higher priority goes first and within one the older goes first.
    pub fn inbox_seq(self, priority: Priority) -> u64 {
        let rank: u64 = match priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        rank << PRIORITY_SHIFT | self.0
    }

    /// The ticket whose record lies at `seq` of the inbox.
    pub fn from_inbox_seq(seq: u64) -> Self {
        Self(seq & ((1 << PRIORITY_SHIFT) - 1))
    }

    /// Where step `index` of the trail lies.
    pub fn trail_seq(self, index: u64) -> u64 {
        self.0 * MAX_STEPS + index.min(MAX_STEPS - 1)
    }

    /// The ticket to which a record of the trail belongs.
    pub fn from_trail_seq(seq: u64) -> Self {
        Self(seq / MAX_STEPS)
    }
}

/// Two bits of priority above 2^56 tickets: at a thousand a second, two million years.
const PRIORITY_SHIFT: u32 = 56;

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Accepted, not being computed.
    Waiting,
    /// Inside the engine.
    Running,
    /// It has its outcome; the reply is on its way.
    Settled,
    /// The broker has the reply.
    Delivered,
    /// The broker will not take the reply; the outcome stays on record.
    Lost,
}

/// What happened to a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was read, let in and made durable.
    Accepted,
    /// The same request came again and wants its reply elsewhere too.
    AlsoTo(ReturnAddress),
    /// The engine took it.
    Started,
    /// The engine gave it back.
    Requeued(Requeue),
    /// It has its outcome.
    Settled(Verdict),
    /// The broker took the reply.
    Delivered,
    /// The broker refused the reply for good.
    Undeliverable,
}

/// Why the engine gave a job back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// It had no room after all.
    Busy,
    /// It died.
    Crashed,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With an answer.
    Answered,
    /// Without, for this reason.
    Refused(Code),
}

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Wall,
    /// What.
    pub what: What,
}

/// A step that the machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such step from {from:?}")]
pub struct NoSuchStep {
    /// Where the ticket stands.
    pub from: State,
}

impl State {
    /// The state after `what`, if the machine has that edge.
    pub fn after(self, what: &What) -> Result<Self, NoSuchStep> {
        match (self, what) {
            (Self::Waiting, What::Started) | (Self::Running, What::AlsoTo(_)) => Ok(Self::Running),
            (Self::Waiting, What::Accepted | What::AlsoTo(_))
            | (Self::Running, What::Requeued(_)) => Ok(Self::Waiting),
            (Self::Waiting | Self::Running, What::Settled(_)) => Ok(Self::Settled),
            // A reply may go to several addresses; each may be taken or refused.
            (Self::Settled | Self::Delivered | Self::Lost, What::Delivered)
            | (Self::Delivered, What::Undeliverable) => Ok(Self::Delivered),
            (Self::Settled | Self::Lost, What::Undeliverable) => Ok(Self::Lost),
            (
                from @ (Self::Waiting
                | Self::Running
                | Self::Settled
                | Self::Delivered
                | Self::Lost),
                _,
            ) => Err(NoSuchStep { from }),
        }
    }
}

impl What {
    /// The word in a timeline.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlsoTo(_) => "asked again",
            Self::Started => "started",
            Self::Requeued(Requeue::Busy) => "requeued: engine busy",
            Self::Requeued(Requeue::Crashed) => "requeued: engine crashed",
            Self::Settled(Verdict::Answered) => "answered",
            Self::Settled(Verdict::Refused(_)) => "refused",
            Self::Delivered => "delivered",
            Self::Undeliverable => "undeliverable",
        }
    }
}

/// What a ticket's key is made of: 8 bytes of the id alone, 8 bytes of client and id. Equal ids
/// lie side by side, so that an id can be looked up without its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a client's request id.
    pub fn of(client: &Client, id: &str) -> Self {
        Self::in_scope(&client.scope(), id)
    }

    /// The same, from the client's scope as it stands in records.
    pub fn in_scope(scope: &str, id: &str) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&Digest::of(&[id.as_bytes()]).0[..8]);
        key[8..].copy_from_slice(&Digest::of(&[scope.as_bytes(), id.as_bytes()]).0[..8]);
        Self(key)
    }

    /// The key under which a request without an id is found again when the broker delivers it
    /// a second time.
    pub fn of_content(client: &Client, content: Digest) -> Self {
        Self::of_content_in_scope(&client.scope(), content)
    }

    /// The same, from the client's scope as it stands in records.
    pub fn of_content_in_scope(scope: &str, content: Digest) -> Self {
        Self(Digest::of(&[b"content", scope.as_bytes(), &content.0]).0)
    }

    /// The key that these bytes are.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The range of keys of one id, whoever the client.
    fn range_of(id: &str) -> std::ops::RangeInclusive<Self> {
        let (mut low, mut high) = ([0; 16], [u8::MAX; 16]);
        let half = Digest::of(&[id.as_bytes()]);
        low[..8].copy_from_slice(&half.0[..8]);
        high[..8].copy_from_slice(&half.0[..8]);
        Self(low)..=Self(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_is_read_by_priority_and_then_by_age() {
        let seq = |no, priority| TicketNo(no).inbox_seq(priority);
        let mut order = [
            seq(1, Priority::Low),
            seq(2, Priority::Normal),
            seq(4, Priority::High),
            seq(3, Priority::High),
        ];
        order.sort_unstable();
        assert_eq!(
            order.map(|seq| TicketNo::from_inbox_seq(seq).0),
            [3, 4, 2, 1]
        );
    }

    #[test]
    fn a_settled_ticket_is_never_started_or_settled_again() {
        for state in [State::Settled, State::Delivered, State::Lost] {
            assert!(state.after(&What::Started).is_err());
            assert!(state.after(&What::Settled(Verdict::Answered)).is_err());
            assert!(state.after(&What::Requeued(Requeue::Busy)).is_err());
        }
    }

    #[test]
    fn an_id_is_found_without_its_client_and_told_apart_with_it() {
        let (a, b) = (Client::Claimed("a".into()), Client::Proven("a".into()));
        let (key_a, key_b) = (Key::of(&a, "x-1"), Key::of(&b, "x-1"));
        assert_ne!(key_a, key_b);
        assert!(Key::range_of("x-1").contains(&key_a));
        assert!(Key::range_of("x-1").contains(&key_b));
        assert!(!Key::range_of("x-2").contains(&key_a));
    }
}
