//! One upstream with all that stands between it and an errand: breaker, budget, pace.
//!
//! Pace: calls begin at least [`Limits::start_every`](super::Limits) apart in the long run, and
//! as many as may run at a time may begin at once. An upstream that comes back finds that reserve
//! used up, so what has waited for it arrives in a trickle and not as a flood.

use std::time::Duration;

use super::breaker::{Breaker, Gate, Moved};
use super::desk::CallNo;
use super::ledger::{Amount, Booking, Ledger, Marks, Short, Spending};
use super::settings::Upstream;
use super::{Fault, Reach};
use crate::clock::{Mono, Now};
use crate::intake::Classification;

/// Whether a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Now.
    Now,
    /// When a call ends.
    Full,
    /// Then.
    At(Mono),
    /// Not for a while: it rests.
    Resting(Mono),
    /// Not for a while: its budget is used up.
    Spent(Mono),
    /// Never: more than a whole budget.
    TooDear,
}

/// What a call was billed, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billed {
    /// It never reached the upstream.
    Unsent,
    /// The upstream turned it away before any work.
    TurnedAway,
    /// So many tokens.
    Tokens {
        /// Of the prompt.
        prompt: u64,
        /// Of the answer.
        completion: u64,
    },
    /// Nobody knows: it counts as the worst case.
    Unknown,
}

/// What an upstream's end of a call says of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// It works.
    Nobody,
    /// It fails.
    Upstream,
    /// A person has to put something right.
    Person,
    /// It wants to be left alone for so long.
    Asks(Duration),
    /// Nothing.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) upstream: Upstream,
    breaker: Breaker,
    ledger: Ledger,
    running: u32,
    /// When the next call would begin if calls were spread out evenly.
    even: Mono,
}

impl Line {
    pub(super) fn new(upstream: Upstream, marks: Option<Marks>, seed: u64, now: Now) -> Self {
        Self {
            ledger: Ledger::new(upstream.budget, marks, now),
            breaker: Breaker::new(seed),
            running: 0,
            even: now.mono,
            upstream,
        }
    }

    /// The most that a call can cost: an upstream cannot make more tokens of a text than it has
    /// bytes.
    pub(super) fn worst(&self, prompt_bytes: u64, max_tokens: u32) -> Amount {
        Amount::of(prompt_bytes, max_tokens.into(), self.upstream.budget.price)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Now) {
        self.breaker.tick(now.mono);
        self.ledger.tick(now);
    }

    /// What its budget looks like.
    pub(super) fn spending(&self, now: Now) -> impl Iterator<Item = Spending> {
        self.ledger.spending(now)
    }

    /// Whether content of this classification may go there.
    pub(super) fn accepts(&self, classification: Classification) -> bool {
        self.upstream.accepts.takes(classification)
    }

    /// Whether a call may begin.
    pub(super) fn ask(&self, worst: Amount, now: Now) -> Answer {
        let gate = self.breaker.gate();
        if let Gate::Shut(until) = gate {
            return Answer::Resting(until);
        }
        match self.ledger.has(worst, now) {
            Err(Short::TooDear) => return Answer::TooDear,
            Err(Short::For(span)) => return Answer::Spent(now.mono.after(span)),
            Err(Short::Held) => return Answer::Full,
            Ok(()) => {}
        }
        if gate == Gate::Probed || self.running >= self.upstream.limits.concurrent {
            return Answer::Full;
        }
        let earliest = Mono(self.even.0.saturating_sub(self.reserve()));
        if gate == Gate::Open && now.mono < earliest {
            return Answer::At(earliest);
        }
        Answer::Now
    }

    /// Begins a call.
    pub(super) fn begin(&mut self, call: CallNo, worst: Amount, now: Now) -> Booking {
        self.running += 1;
        self.even = self
            .even
            .max(now.mono)
            .after(self.upstream.limits.start_every);
        self.breaker.began(call);
        self.ledger.book(worst)
    }

    /// A call has ended like this.
    pub(super) fn end(
        &mut self,
        call: CallNo,
        booking: Booking,
        (billed, fault): (Billed, Option<&Fault>),
        now: Now,
    ) -> Moved {
        self.running -= 1;
        self.settle(booking, billed);
        let moved = match fault.map_or(Blame::Nobody, blame) {
            Blame::Nobody => self.breaker.succeeded(call),
            Blame::Upstream => self.breaker.failed(call, now.mono),
            Blame::Person => self.breaker.condemned(call, now.mono),
            Blame::Asks(span) => self.breaker.rest(call, span, now.mono),
            Blame::Unknown => {
                self.breaker.gone(call);
                Moved::No
            }
        };
        if moved == Moved::Closed {
            self.even = self.even.max(now.mono.after(self.reserve()));
        }
        moved
    }

    fn settle(&mut self, booking: Booking, billed: Billed) {
        let price = self.upstream.budget.price;
        let used = match billed {
            Billed::Unsent => Amount::default(),
            Billed::TurnedAway => Amount::of(0, 0, price),
            Billed::Tokens { prompt, completion } => Amount::of(prompt, completion, price),
            Billed::Unknown => booking.worst(),
        };
        self.ledger.settle(booking, used);
    }

    /// How far calls may run ahead of the even pace.
    fn reserve(&self) -> Duration {
        let ahead = self.upstream.limits.concurrent.saturating_sub(1);
        self.upstream.limits.start_every.saturating_mul(ahead)
    }

    /// Errands at a time.
    pub(super) fn slots(&self, now: Now) -> u32 {
        match (self.reach(now), self.breaker.gate()) {
            (Reach::Resting { .. } | Reach::Spent { .. }, _) => 0,
            (Reach::Open, Gate::Probing | Gate::Probed) => 1,
            (Reach::Open, Gate::Open | Gate::Shut(_)) => self.upstream.limits.concurrent,
        }
    }

    /// Whether it can be asked.
    pub(super) fn reach(&self, now: Now) -> Reach {
        match (self.breaker.gate(), self.ledger.spent(now)) {
            (Gate::Shut(until), _) => Reach::Resting { until },
            (_, Some(span)) => Reach::Spent {
                until: now.mono.after(span),
            },
            (Gate::Open | Gate::Probing | Gate::Probed, None) => Reach::Open,
        }
    }

    pub(super) fn marks(&self) -> Marks {
        self.ledger.marks()
    }

    pub(super) fn closing(&self) -> Marks {
        self.ledger.closing()
    }
}

fn blame(fault: &Fault) -> Blame {
    match fault {
        Fault::Unreachable
        | Fault::Broken
        | Fault::Slow
        | Fault::Failing(_)
        | Fault::Garbled(_)
        | Fault::Limited { after: None } => Blame::Upstream,
        Fault::Limited { after: Some(span) } => Blame::Asks(*span),
        Fault::Untrusted | Fault::Denied(_) | Fault::Elsewhere => Blame::Person,
        Fault::Rejected(_) | Fault::Misfit(_) => Blame::Nobody,
        Fault::Late
        | Fault::Uncleared
        | Fault::Busy
        | Fault::Resting { .. }
        | Fault::Budget { .. }
        | Fault::TooDear => Blame::Unknown,
    }
}
