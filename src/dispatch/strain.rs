//! What the governor allows, and what that means for requests.
//!
//! | The edge's door | New requests of those who are shut out | Those that wait, or are being computed |
//! | --- | --- | --- |
//! | open | there are none | go on |
//! | shut for some, or for all | to a model elsewhere that can be reached now; else they wait, if their deadline is later than the forecast; else whoever else may, or a refusal that says when to come again | the same, once, when the door is shut |
//!
//! Nothing is refused only because it waits: what the engine has when it is paused stays there,
//! and goes on when it may.

use std::time::Duration;

use super::{Dispatch, engine};
use crate::clock::{Mono, Now, millis};
use crate::governor::{Allowance, Appetite, Cause, Taken};
use crate::intake::{Code, Priority, Request};
use crate::router::{Decision, Edge, Tier};
use crate::ticket::{State, TicketNo};

/// Between two requests that are looked at because the door was shut: each may read the disk.
const SIFT_PAUSE: Duration = Duration::from_millis(1);
/// Between two reports of a forecast that has moved, on the status topic.
const REPORT_PAUSE: Duration = Duration::from_mins(1);
/// Less than that is no news.
const REPORT_CELSIUS: f32 = 2.0;

/// What was last said of heat on the status topic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reported {
    at: Mono,
    celsius: Option<f32>,
}

impl Dispatch {
    /// The governor allows something else than before.
    pub fn on_allowance(&mut self, allowance: Allowance, now: Now) {
        let before = std::mem::replace(&mut self.allowance, allowance);
        self.hear_heat();
        let door = self.allowance.taken;
        if door > before.taken {
            self.sift(now);
        } else if door < before.taken {
            self.engine.pause = None;
        }
        let said = |it: &Allowance| (it.state, it.taken, it.cause);
        if said(&before) != said(&self.allowance) || self.has_news_of_heat(now) {
            self.report_strain(now);
        }
        self.work(now);
    }

    /// What was asked of the engine so far, and what it answered: the governor makes shares of it.
    pub fn appetite(&self) -> Appetite {
        self.appetite
    }

    /// A request wants the engine, let in or not.
    pub(super) fn wants_the_engine(&mut self, priority: Priority) {
        let wanted = match priority {
            Priority::High => &mut self.appetite.high,
            Priority::Normal => &mut self.appetite.normal,
            Priority::Low => &mut self.appetite.low,
        };
        *wanted += 1;
    }

    fn report_strain(&mut self, now: Now) {
        self.reported = Reported {
            at: now.mono,
            celsius: self.allowance.forecast.map(|it| it.celsius),
        };
        if self.is_online() {
            self.announce();
        }
    }

    fn has_news_of_heat(&self, now: Now) -> bool {
        let celsius = self.allowance.forecast.map(|it| it.celsius);
        let moved = match (celsius, self.reported.celsius) {
            (Some(now), Some(then)) => (now - then).abs() >= REPORT_CELSIUS,
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        moved && now.mono.since(self.reported.at) >= REPORT_PAUSE
    }

    /// Whether the edge takes a new request of this priority.
    pub(super) fn edge_for(&self, priority: Priority) -> Edge {
        match self.engine.state {
            engine::State::Absent => Edge::Shut(Code::EngineUnavailable),
            engine::State::Starting | engine::State::Ready { .. } => {
                match self.shut_out(priority) {
                    Some(code) => Edge::Shut(code),
                    None => Edge::Open,
                }
            }
        }
    }

    /// Why the edge takes nothing of this priority, if so.
    pub(super) fn shut_out(&self, priority: Priority) -> Option<Code> {
        let is_let_in = match self.allowance.taken {
            Taken::All => true,
            Taken::NormalAndHigh => priority <= Priority::Normal,
            Taken::High => priority <= Priority::High,
            Taken::Nobody => false,
        };
        (!is_let_in).then_some(match self.allowance.cause {
            Some(Cause::Memory) => Code::Memory,
            Some(Cause::Heat) | None => Code::Hot,
        })
    }

    /// Requests on the disk that the engine may have now.
    pub(super) fn queued_and_let_in(&self) -> u64 {
        if self.allowance.taken == Taken::All {
            return self.engine.queued;
        }
        let waiting = self
            .slips
            .values()
            .filter(|slip| slip.state == State::Waiting && self.shut_out(slip.priority).is_none());
        u64::try_from(waiting.count())
            .unwrap_or(u64::MAX)
            .min(self.engine.queued)
    }

    /// Where a new request goes, whom the edge may not take now.
    pub(super) fn route_shut_out(
        &mut self,
        request: &Request,
        topic: Option<&str>,
        code: Code,
        now: Now,
    ) -> Decision {
        let shut = self.route_with(request, topic, Edge::Shut(code), now);
        if self.goes_now(&shut) || !self.can_wait(now.mono.after(request.deadline), now) {
            return shut;
        }
        let mut open = self.route_with(request, topic, Edge::Open, now);
        if open.tier != Tier::Edge {
            return shut;
        }
        open.degraded = true;
        open.route.reasons.push(format!("waits ({})", code.word()));
        open
    }

    /// Whether a model elsewhere can take it at once.
    fn goes_now(&self, decision: &Decision) -> bool {
        match &decision.tier {
            Tier::Cloud(name) => self.is_in_reach(name),
            Tier::Edge | Tier::Review(_) | Tier::Refuse(_) => false,
        }
    }

    fn can_wait(&self, deadline: Mono, now: Now) -> bool {
        deadline > now.mono.after(self.allowance.retry_after)
    }

    /// When who is turned away for this reason may come again.
    pub(super) fn comes_again_ms(&self, code: Code) -> Option<u64> {
        matches!(code, Code::Hot | Code::Memory).then(|| millis(self.allowance.retry_after))
    }

    /// The door was shut: all that wait behind it, and all inside, are looked at, one by one.
    fn sift(&mut self, now: Now) {
        let inside = |state| matches!(state, State::Waiting | State::Running);
        let open = self.slips.iter().filter(|(_, slip)| inside(slip.state));
        let shut_out: Vec<_> = open
            .filter(|(_, slip)| self.shut_out(slip.priority).is_some())
            .map(|(no, slip)| (*no, slip.due))
            .collect();
        let mut at = now.mono;
        for (no, due) in shut_out {
            self.wake_at(no, at.min(due));
            at = at.after(SIFT_PAUSE);
        }
    }

    /// It is in memory, its deadline lies ahead, and the door may be shut before it.
    pub(super) fn sift_one(&mut self, no: TicketNo, now: Now) {
        let (Some(slip), Some(held)) = (self.slips.get(&no), self.held.get(&no)) else {
            return;
        };
        let (state, deadline) = (slip.state, slip.deadline);
        let Some(code) = self.shut_out(slip.priority) else {
            self.let_wait(no, state);
            return;
        };
        let (request, topic) = (held.request.clone(), held.topic.clone());
        let shut = self.route_with(&request, topic.as_deref(), Edge::Shut(code), now);
        if !self.goes_now(&shut) && self.can_wait(deadline, now) {
            self.let_wait(no, state);
            return;
        }
        match state {
            State::Running => {
                self.engine.running -= 1;
                self.out.engine.push(engine::Command::Cancel(no));
            }
            State::Waiting => self.engine.queued -= 1,
            State::Away
            | State::Asking
            | State::Pending
            | State::Settled
            | State::Delivered
            | State::Lost => return,
        }
        self.without_edge(no, code, shut_words(code), now);
    }

    fn let_wait(&mut self, no: TicketNo, state: State) {
        self.wind(no);
        if state == State::Waiting {
            self.forget_text(no);
        }
    }
}

/// What a device is told that was turned away.
pub(super) fn shut_words(code: Code) -> &'static str {
    if code == Code::Memory {
        "this appliance is short of memory"
    } else {
        "this appliance is too hot to compute"
    }
}
