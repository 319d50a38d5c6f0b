//! The uplink: questions to models that are not on this appliance.
//!
//! An [`Errand`] goes in, a [`CloudAnswer`] or a [`Fault`] comes out, and [`State`] says how many
//! errands may be under way and which upstream can be reached. The dispatcher defines nothing
//! more of the cloud than this, so a simulated one stands in for it in the scenarios.
//!
//! ```text
//!  dispatcher ── Command ──► desk ─── Call ──► shell ──► openai ══ HTTPS ══► upstream
//!             ◄─── Event ──  (line: breaker, ledger)  ◄── chat ◄─────── what was heard
//!                              └── marks ──► keep (STATE_DIR)
//! ```
//!
//! [`desk`] decides: which errand goes next, which way, when again. A *line* is one upstream with
//! all that stands between it and an errand: its [`breaker`], its budget in the [`ledger`], its
//! pace. [`chat`] makes an answer or a fault of what came back, [`fits`](crate::engine::fits) holds it against what
//! was wanted, [`shell`] moves, [`openai`] speaks the protocol.
//!
//! What waits, waits in the spool. In here are only errands that can go now or in a moment: what
//! cannot is given back at once with a fault that says when it is worth another try
//! ([`Fault::worth`]), and [`State`] tells when that has come.
//!
//! Invariants:
//!
//! - An errand ends exactly once: by [`Event::Ended`], or by [`Command::Cancel`].
//! - Content leaves only to an upstream that a [`Clearance`] of this very errand names, and never
//!   if it is restricted (invariant 3 of the appliance).
//! - No upstream gets more than its budget, restarts and wrong clocks included; see [`ledger`].
//! - Every try of an errand, also after a restart, carries the same key, so that an upstream can
//!   tell a repetition from a second question.
//! - Nothing that an upstream said stands in a fault or a log line: it may quote the request.
//!
//! How it fails: by [`Fault`], and never otherwise. An upstream that is wrong, slow, expensive or
//! absurd costs bounded time, memory and money.

mod breaker;
mod brief;
pub mod chat;
pub mod desk;
pub mod keep;
mod ledger;
mod line;
pub mod openai;
mod settings;
pub mod shell;

pub use brief::Briefs;
pub use ledger::{Cost, Marks, Spending};
pub use line::Billed;
pub use settings::{Allotment, Budget, Limits, Price, Proxy, Settings, Upstream};

use std::time::Duration;

use crate::clock::{Mono, Wall};
use crate::engine::protocol::Rule;
use crate::engine::{Form, Tokens};
use crate::intake::{Classification, Digest, Priority};
use crate::router::{Clearance, Cleared, ToCloud};
use crate::ticket::TicketNo;

/// Errands inside at a time, those under way included: the rest waits in the spool.
pub const MAX_ERRANDS: usize = 64;
/// Ways that one errand may have: more upstreams than a plant has.
pub const MAX_WAYS: usize = 16;

/// One question, on its way to somebody else.
#[derive(Debug)]
pub struct Errand {
    ways: Vec<Clearance<ToCloud>>,
    /// The same for each try of the same question.
    pub key: IdempotencyKey,
    /// What is asked.
    pub question: Question,
    /// Where its content may go. The clearances have been given by it; it is held against each
    /// upstream once more before anything leaves.
    pub classification: Classification,
    /// Who goes first.
    pub urgency: Priority,
    /// When it was accepted: among equally urgent ones the oldest goes first.
    pub accepted: Wall,
    /// Until when an answer is of use.
    pub until: Mono,
}

impl Errand {
    /// An errand of what was cleared, to where it was cleared for. The question is worded from
    /// that very request; see [`Briefs`].
    pub fn new(cleared: Cleared<ToCloud>, question: Question, until: Mono) -> Self {
        let (escalation, clearance) = cleared.into_parts();
        let request = escalation.request;
        let scope = request.client.scope();
        Self {
            ways: vec![clearance],
            key: IdempotencyKey::of(&scope, request.id.as_str(), request.content),
            question,
            classification: request.classification,
            urgency: request.priority,
            accepted: Wall::default(),
            until,
        }
    }

    /// Also there, where the ways before it lead nowhere. A clearance for another request opens
    /// no way.
    #[must_use]
    pub fn or(mut self, clearance: Clearance<ToCloud>) -> Self {
        let same = clearance.ticket() == self.ticket() && clearance.content() == self.content();
        if same && self.ways.len() < MAX_WAYS {
            self.ways.push(clearance);
        }
        self
    }

    /// Whose it is; comes back with the result.
    pub fn ticket(&self) -> TicketNo {
        self.first().ticket()
    }

    fn content(&self) -> Digest {
        self.first().content()
    }

    /// The ways it may go, the best first.
    pub fn ways(&self) -> &[Clearance<ToCloud>] {
        &self.ways
    }

    fn first(&self) -> &Clearance<ToCloud> {
        self.ways.first().expect("an errand begins with one way")
    }
}

/// What tells an upstream that two requests are one and the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of a request: of its client's scope, its id and its content. It does not depend on
    /// the ticket, on time or on the process, and tells an upstream nothing of either.
    pub fn of(scope: &str, id: &str, content: Digest) -> Self {
        let parts: [&[u8]; 5] = [
            b"uplink",
            scope.as_bytes(),
            b"\0",
            id.as_bytes(),
            &content.0,
        ];
        let digest = Digest::of(&parts);
        let hex = digest.0.iter().map(|byte| format!("{byte:02x}"));
        Self(format!("lineside-{}", hex.collect::<String>()))
    }

    /// The key as it goes out.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked, and what an answer may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What to do, in the task's words.
    pub instruction: String,
    /// What to do it with.
    pub input: String,
    /// What an answer may be.
    pub rule: Rule,
    /// What kind of text that is.
    pub form: Form,
    /// Tokens of the answer at most.
    pub max_tokens: u32,
}

/// An answer from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudAnswer {
    /// Which upstream gave it.
    pub upstream: String,
    /// What the upstream calls its model.
    pub model: String,
    /// What it says, held against the question's rule.
    pub text: String,
    /// What kind of text that is.
    pub form: Form,
    /// The product of the probabilities of its tokens, where the upstream told them. Not
    /// calibrated; all tokens count, because nobody tells which of them were free.
    pub confidence: Option<f32>,
    /// Tokens that it cost, as far as the upstream told them.
    pub tokens: Tokens,
    /// From the start of the call that brought it to its end.
    pub took_ms: f32,
    /// Calls that it took, this one included.
    pub tries: u32,
}

/// What the uplink can take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Errands at a time; none while nothing can be reached.
    pub slots: u32,
    /// How each upstream is, in the order of the settings. Empty where there is none.
    pub upstreams: Vec<Standing>,
}

/// How an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Whether it can be asked.
    pub reach: Reach,
}

/// Whether an upstream can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It can.
    Open,
    /// It failed or asked for a rest: no sooner than then.
    Resting {
        /// When it is tried again.
        until: Mono,
    },
    /// Its budget is used up, until then.
    Spent {
        /// When there is a new one.
        until: Mono,
    },
}

impl Reach {
    /// The word in the status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resting { .. } => "resting",
            Self::Spent { .. } => "spent",
        }
    }
}

/// Why an errand brought no answer. Each is a value to act on; see [`Fault::worth`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No upstream of this appliance may have it.
    #[error("no upstream may have it")]
    Uncleared,
    /// There are too many errands inside.
    #[error("too many errands at a time")]
    Busy,
    /// Every upstream that may have it rests.
    #[error("every upstream that may have it rests after failures")]
    Resting {
        /// The shortest of the rests that are left.
        after: Duration,
    },
    /// The budget of every upstream that may have it is used up.
    #[error("the cloud's budget is used up")]
    Budget {
        /// When there is a new one.
        after: Duration,
    },
    /// It could cost more than a whole budget.
    #[error("one question that could cost more than a whole budget")]
    TooDear,
    /// No connection: refused, no route, no such name.
    #[error("no connection")]
    Unreachable,
    /// The upstream's certificate does not convince.
    #[error("the certificate does not convince")]
    Untrusted,
    /// The connection broke before the answer was whole.
    #[error("the connection broke")]
    Broken,
    /// No whole answer within the upstream's time limit.
    #[error("no answer within the time limit")]
    Slow,
    /// The errand's own time was up.
    #[error("its time was up")]
    Late,
    /// Too many requests, says the upstream.
    #[error("the upstream wants fewer requests")]
    Limited {
        /// When it wants the next one, where it said so.
        after: Option<Duration>,
    },
    /// The upstream fails, with this status.
    #[error("the upstream fails with status {0}")]
    Failing(u16),
    /// The upstream will not have us, with this status: the key, the address or the model is
    /// wrong.
    #[error("the upstream refuses access with status {0}")]
    Denied(u16),
    /// The upstream points elsewhere. Content and key do not follow.
    #[error("the upstream points to another address")]
    Elsewhere,
    /// The upstream will not have this request, with this status.
    #[error("the upstream refuses the request with status {0}")]
    Rejected(u16),
    /// What came is no answer of the protocol.
    #[error("no answer of the protocol: {0}")]
    Garbled(Garble),
    /// What came is an answer, but none to this question.
    #[error("no answer to the question: {0}")]
    Misfit(Misfit),
}

/// Why something is no answer of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garble {
    /// It does not even claim to be JSON.
    #[error("another content type")]
    ContentType,
    /// It is not JSON, or not of this protocol.
    #[error("not the protocol's JSON")]
    Json,
    /// It is a success that tells of an error.
    #[error("an error under a status of success")]
    Error,
    /// It does not end.
    #[error("too large")]
    TooLarge,
}

/// Why an answer is none to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It says nothing.
    #[error("empty")]
    Empty,
    /// It was cut off at the limit of its tokens.
    #[error("cut off")]
    Truncated,
    /// It goes on where the limit of its tokens should have cut it off.
    #[error("too long")]
    TooLong,
    /// The upstream's filter or model declined.
    #[error("declined")]
    Declined,
    /// It is not of the form that was asked for.
    #[error("of another form")]
    Form,
}

/// Whether the same errand is worth another try, for whoever keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Once that time is over and [`State`] has a slot.
    Later(Duration),
    /// No: on to the next tier.
    Never,
}

impl Fault {
    /// Whether the same errand is worth another try. It rests for no longer than its upstream
    /// may: a header may ask for a day, and a clock that stands wrong makes years of a date.
    pub fn worth(&self) -> Worth {
        match self {
            Self::Resting { after }
            | Self::Budget { after }
            | Self::Limited { after: Some(after) } => {
                Worth::Later((*after).min(breaker::LONGEST_ASKED))
            }
            Self::Busy
            | Self::Unreachable
            | Self::Untrusted
            | Self::Broken
            | Self::Slow
            | Self::Limited { after: None }
            | Self::Failing(_)
            | Self::Denied(_)
            | Self::Elsewhere
            | Self::Garbled(_) => Worth::Later(Duration::ZERO),
            Self::Uncleared | Self::TooDear | Self::Late | Self::Rejected(_) | Self::Misfit(_) => {
                Worth::Never
            }
        }
    }

    /// The word in logs, counters and timelines.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Uncleared => "uncleared",
            Self::Busy => "busy",
            Self::Resting { .. } => "resting",
            Self::Budget { .. } => "budget",
            Self::TooDear => "too_dear",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Broken => "broken",
            Self::Slow => "slow",
            Self::Late => "late",
            Self::Limited { .. } => "rate_limited",
            Self::Failing(_) => "failing",
            Self::Denied(_) => "denied",
            Self::Elsewhere => "redirected",
            Self::Rejected(_) => "rejected",
            Self::Garbled(_) => "garbled",
            Self::Misfit(_) => "misfit",
        }
    }
}

/// What the uplink reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It can take more, less or nothing now, or an upstream came or went.
    State(State),
    /// An errand ended.
    Ended {
        /// Which.
        ticket: TicketNo,
        /// How.
        result: Result<CloudAnswer, Fault>,
    },
}

/// What the dispatcher asks of the uplink.
#[derive(Debug)]
pub enum Command {
    /// Ask this.
    Send(Errand),
    /// The answer is no longer wanted. Nothing more is said of it.
    Cancel(TicketNo),
}

#[cfg(test)]
mod tests;
