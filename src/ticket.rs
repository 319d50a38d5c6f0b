//! A request's life: the durable state machine, its timeline, and who is known.
//!
//! ```text
//!                 ┌──Requeued──┐
//!                 ▼            │
//!  ──Accepted─► Waiting ─Started─► Running
//!                 │   ▲            │
//!                 │   └──StoodIn───┼──── Away, Asking
//!                 ├──Passed────────┴──► Away ◄─Returned── Asking
//!                 │                       └────Asked──────►┘
//!                 └──ToPerson── Running, Away, Asking ──► Pending
//!
//!  Waiting, Running, Away, Asking, Pending ──Settled──► Settled ──Delivered────► Delivered
//!                                                         │                        │
//!                                                         └─Undeliverable─► Lost ◄─┘
//! ```
//!
//! `Provisional` leaves a ticket where it is, and so does a `LateAnswer` after its outcome.
//!
//!
//! `Provisional` leaves a ticket where it is, and so does a `LateAnswer` after its outcome.
//!
//! An edge is a [`What`]; [`State::after`] is the whole machine. Each edge is written to the
//! disk as a [`Step`] (the first and the `Settled` one stand in the inbox and the outcome
//! record themselves), so the timeline can be printed afterwards, also across restarts.
//!
//! [`Register`] answers the question that decides whether a request runs at all: is it new,
//! under way, or settled already?

mod register;

pub use register::{Known, Register, Retired, Window};

use std::fmt;

use crate::clock::Wall;
use crate::intake::{Client, Code, Digest, Priority, ReturnAddress};

/// A ticket's number: given at acceptance, never given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketNo(pub u64);

/// Steps that one ticket's trail may hold. A request that needs more was requeued without end,
/// and the two-crash rule ends that long before.
pub const MAX_STEPS: u64 = 32;
/// Steps after which what may happen again and again (`Started`, `Requeued: busy`, `Asked`,
/// `Returned`) is no longer written down: what is left of the trail belongs to steps that a restart
/// needs (second addresses, crashes), to the way through the tiers and to deliveries.
pub const ROUTINE_STEPS: u64 = 14;

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
    /// For a model elsewhere; not being asked about there.
    Away,
    /// Inside the uplink.
    Asking,
    /// A person is to answer.
    Pending,
    /// It has its outcome; the reply is on its way.
    Settled,
    /// The broker has the reply.
    Delivered,
    /// The broker will not take the reply; the outcome stays on record.
    Lost,
}

/// What happened to a ticket.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It was read, let in and made durable.
    Accepted,
    /// The same request came again and wants its reply elsewhere too.
    AlsoTo(ReturnAddress),
    /// The engine took it.
    Started,
    /// The engine gave it back.
    Requeued(Requeue),
    /// A model elsewhere is to answer.
    Passed(Why),
    /// It is being asked.
    Asked,
    /// It was not answered there, for the reason of this word.
    Returned(String),
    /// The model on this appliance is to answer meanwhile.
    StoodIn,
    /// A person is to answer.
    ToPerson(Why),
    /// The device was told something, and that more will follow.
    Provisional,
    /// An answer from elsewhere came after the outcome.
    LateAnswer,
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

/// Why a request does not stay where it was.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// A rule of this name sends it on.
    Rule(String),
    /// The answer before was not sure enough.
    Doubt {
        /// How sure it was.
        confidence: f32,
        /// How sure it had to be.
        threshold: f32,
    },
    /// There is no answer to be had on the edge.
    EdgeShut,
    /// The edge has answered; another is to check it.
    Verification,
    /// Whoever was asked before cannot answer it, for the reason of this word.
    Failed(String),
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
#[derive(Clone, Debug, PartialEq)]
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
            (Self::Waiting, What::Accepted | What::AlsoTo(_) | What::Provisional)
            | (Self::Running, What::Requeued(_))
            | (Self::Away | Self::Asking, What::StoodIn) => Ok(Self::Waiting),
            (Self::Waiting | Self::Running | Self::Asking, What::Passed(_))
            | (Self::Asking, What::Returned(_))
            | (Self::Away, What::AlsoTo(_) | What::Provisional) => Ok(Self::Away),
            (Self::Away, What::Asked) | (Self::Asking, What::AlsoTo(_) | What::Provisional) => {
                Ok(Self::Asking)
            }
            (Self::Waiting | Self::Running | Self::Away | Self::Asking, What::ToPerson(_))
            | (Self::Pending, What::AlsoTo(_) | What::Provisional) => Ok(Self::Pending),
            (
                Self::Waiting | Self::Running | Self::Away | Self::Asking | Self::Pending,
                What::Settled(_),
            )
            | (Self::Settled, What::LateAnswer) => Ok(Self::Settled),
            // A reply may go to several addresses; each may be taken or refused.
            (Self::Settled | Self::Delivered | Self::Lost, What::Delivered)
            | (Self::Delivered, What::Undeliverable | What::LateAnswer) => Ok(Self::Delivered),
            (Self::Settled | Self::Lost, What::Undeliverable) | (Self::Lost, What::LateAnswer) => {
                Ok(Self::Lost)
            }
            (
                from @ (Self::Waiting
                | Self::Running
                | Self::Away
                | Self::Asking
                | Self::Pending
                | Self::Settled
                | Self::Delivered
                | Self::Lost),
                _,
            ) => Err(NoSuchStep { from }),
        }
    }

    /// Whether it has no outcome yet.
    pub fn is_open(self) -> bool {
        match self {
            Self::Waiting | Self::Running | Self::Away | Self::Asking | Self::Pending => true,
            Self::Settled | Self::Delivered | Self::Lost => false,
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
            Self::Passed(_) => "passed to the cloud",
            Self::Asked => "cloud asked",
            Self::Returned(_) => "cloud",
            Self::StoodIn => "the edge stands in",
            Self::ToPerson(_) => "passed to a person",
            Self::Provisional => "provisional reply",
            Self::LateAnswer => "late answer",
            Self::Settled(Verdict::Answered) => "answered",
            Self::Settled(Verdict::Refused(_)) => "refused",
            Self::Delivered => "delivered",
            Self::Undeliverable => "undeliverable",
        }
    }

    /// The same with its reason, where it has one.
    pub fn told(&self) -> String {
        match self {
            Self::Passed(why) | Self::ToPerson(why) => format!("{}: {why}", self.word()),
            Self::Returned(word) => format!("{}: {}", self.word(), word.replace('_', " ")),
            Self::Accepted
            | Self::AlsoTo(_)
            | Self::Started
            | Self::Requeued(_)
            | Self::Asked
            | Self::StoodIn
            | Self::Provisional
            | Self::LateAnswer
            | Self::Settled(_)
            | Self::Delivered
            | Self::Undeliverable => self.word().into(),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "rule {rule}"),
            Self::Doubt {
                confidence,
                threshold,
            } => write!(f, "confidence {confidence:.2} < {threshold:.2}"),
            Self::EdgeShut => f.write_str("the edge cannot take it"),
            Self::Verification => f.write_str("to be verified"),
            Self::Failed(word) => f.write_str(&word.replace('_', " ")),
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
    fn every_tier_leads_to_an_outcome_and_only_what_is_away_is_asked() {
        let why = || Why::Verification;
        for state in [
            State::Waiting,
            State::Running,
            State::Away,
            State::Asking,
            State::Pending,
        ] {
            let settled = state.after(&What::Settled(Verdict::Answered));
            assert_eq!(settled, Ok(State::Settled), "{state:?}");
            let asked = state.after(&What::Asked).is_ok();
            assert_eq!(asked, state == State::Away, "{state:?}");
        }
        assert_eq!(State::Running.after(&What::Passed(why())), Ok(State::Away));
        assert!(State::Pending.after(&What::Passed(why())).is_err());
        assert!(State::Waiting.after(&What::LateAnswer).is_err());
    }

    #[test]
    fn a_step_between_the_tiers_tells_its_reason() {
        let doubt = Why::Doubt {
            confidence: 0.413,
            threshold: 0.65,
        };
        assert_eq!(
            What::Passed(doubt).told(),
            "passed to the cloud: confidence 0.41 < 0.65"
        );
        let limited = What::Returned("rate_limited".into());
        assert_eq!(limited.told(), "cloud: rate limited");
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
