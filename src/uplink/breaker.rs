//! The circuit breaker of one upstream: when it is left alone, and who tries it again.
//!
//! ```text
//!             failed (often enough), condemned, rest
//!   Closed ──────────────────────────────────────────► Open ◄──────────────┐
//!     ▲ ▲                                               │                  │ failed,
//!     │ └─ succeeded (the count of failures is 0 again) │ tick             │ condemned, rest:
//!     │                                                 ▼                  │ for longer
//!     └──────────── succeeded (the probe) ─────────── HalfOpen ────────────┘
//!                                                       │  ▲
//!                                                 began └──┘ gone (nobody knows how it was)
//! ```
//!
//! Invariants: while it is half open, one call at most is under way that began since it opened,
//! the probe, and only the probe's end moves it. Each rest is drawn by full jitter under a
//! ceiling that doubles with each failed probe, so that a hall of appliances does not knock in
//! step.

use std::time::Duration;

use super::desk::CallNo;
use crate::clock::Mono;

/// Failures in a row after which an upstream rests: one or two happen to the best.
pub(super) const TRIPS_AT: u32 = 3;
/// No rest is shorter, unless the upstream asked for it.
const SHORTEST: Duration = Duration::from_millis(500);
/// No rest is longer: an upstream that came back is found within that time.
const LONGEST: Duration = Duration::from_mins(5);
/// No rest that an upstream asks for is longer: a wrong header must not shut it out for a day.
pub(super) const LONGEST_ASKED: Duration = Duration::from_mins(15);

/// Whether a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// One may, to see how things are.
    Probing,
    /// That one is under way.
    Probed,
    /// None may until then.
    Shut(Mono),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Mono, round: u32 },
    HalfOpen { round: u32, probe: Option<CallNo> },
}

/// What a call's end did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing that anybody would notice.
    No,
    /// The upstream rests now.
    Opened,
    /// The upstream is back.
    Closed,
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    dice: fastrand::Rng,
}

impl Breaker {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            state: State::Closed { failures: 0 },
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether a call may begin now.
    pub(super) fn gate(&self) -> Gate {
        match self.state {
            State::Closed { .. } => Gate::Open,
            State::Open { until, .. } => Gate::Shut(until),
            State::HalfOpen { probe: None, .. } => Gate::Probing,
            State::HalfOpen { probe: Some(_), .. } => Gate::Probed,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Mono) {
        if let State::Open { until, round } = self.state
            && until <= now
        {
            self.state = State::HalfOpen { round, probe: None };
        }
    }

    /// A call begins.
    pub(super) fn began(&mut self, call: CallNo) {
        if let State::HalfOpen { probe, .. } = &mut self.state {
            debug_assert!(probe.is_none(), "one probe at a time");
            *probe = Some(call);
        }
    }

    /// A call ended, and nothing follows from how.
    pub(super) fn gone(&mut self, call: CallNo) {
        if let State::HalfOpen { probe, .. } = &mut self.state
            && *probe == Some(call)
        {
            *probe = None;
        }
    }

    /// A call showed that the upstream works.
    pub(super) fn succeeded(&mut self, call: CallNo) -> Moved {
        match self.state {
            State::HalfOpen { probe, .. } if probe == Some(call) => {
                self.state = State::Closed { failures: 0 };
                Moved::Closed
            }
            State::Closed { .. } => {
                self.state = State::Closed { failures: 0 };
                Moved::No
            }
            // It began before the upstream failed, so it tells of the time before.
            State::Open { .. } | State::HalfOpen { .. } => Moved::No,
        }
    }

    /// A call showed that the upstream does not work.
    pub(super) fn failed(&mut self, call: CallNo, now: Mono) -> Moved {
        match self.state {
            State::Closed { failures } if failures + 1 < TRIPS_AT => {
                let failures = failures + 1;
                self.state = State::Closed { failures };
                Moved::No
            }
            State::Closed { .. } => self.open(0, now),
            State::HalfOpen { round, probe } if probe == Some(call) => {
                self.open(round.saturating_add(1), now)
            }
            State::Open { .. } | State::HalfOpen { .. } => Moved::No,
        }
    }

    /// A call showed something that a person has to put right.
    pub(super) fn condemned(&mut self, call: CallNo, now: Mono) -> Moved {
        if !self.is_moved_by(call) {
            return Moved::No;
        }
        let until = now.after(between(&mut self.dice, LONGEST / 2, LONGEST));
        let round = u32::MAX;
        self.state = State::Open { until, round };
        Moved::Opened
    }

    /// The upstream asked to be left alone for so long.
    pub(super) fn rest(&mut self, call: CallNo, span: Duration, now: Mono) -> Moved {
        let asked = now.after(span.min(LONGEST_ASKED));
        match self.state {
            // The longer of two wishes counts.
            State::Open { until, round } => {
                let until = until.max(asked);
                self.state = State::Open { until, round };
                Moved::No
            }
            State::Closed { .. } => {
                self.state = State::Open {
                    until: asked,
                    round: 0,
                };
                Moved::Opened
            }
            State::HalfOpen { round, probe } if probe == Some(call) => {
                self.state = State::Open {
                    until: asked,
                    round,
                };
                Moved::Opened
            }
            State::HalfOpen { .. } => Moved::No,
        }
    }

    fn is_moved_by(&self, call: CallNo) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { .. } => false,
            State::HalfOpen { probe, .. } => probe == Some(call),
        }
    }

    fn open(&mut self, round: u32, now: Mono) -> Moved {
        let until = now.after(pause(&mut self.dice, SHORTEST, round, LONGEST));
        self.state = State::Open { until, round };
        Moved::Opened
    }
}

/// A pause by full jitter: from the shortest to a ceiling that doubles each round.
pub(super) fn pause(
    dice: &mut fastrand::Rng,
    shortest: Duration,
    round: u32,
    longest: Duration,
) -> Duration {
    let factor = 2u32.saturating_pow(round.saturating_add(1));
    let ceiling = shortest.saturating_mul(factor).min(longest);
    between(dice, shortest, ceiling)
}

fn between(dice: &mut fastrand::Rng, low: Duration, high: Duration) -> Duration {
    low + high.saturating_sub(low).mul_f64(dice.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Mono = Mono(Duration::from_secs(100));

    fn tripped() -> (Breaker, Mono) {
        let mut breaker = Breaker::new(7);
        for call in 0..u64::from(TRIPS_AT) {
            breaker.failed(CallNo(call), T0);
        }
        let Gate::Shut(until) = breaker.gate() else {
            panic!("it should rest: {breaker:?}");
        };
        (breaker, until)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let mut breaker = Breaker::new(7);
        for call in 1..u64::from(TRIPS_AT) {
            assert_eq!(breaker.failed(CallNo(call), T0), Moved::No);
        }
        breaker.succeeded(CallNo(9));
        for call in 1..u64::from(TRIPS_AT) {
            assert_eq!(breaker.failed(CallNo(10 + call), T0), Moved::No);
        }
        assert_eq!(breaker.gate(), Gate::Open);
        assert_eq!(breaker.failed(CallNo(20), T0), Moved::Opened);
    }

    #[test]
    fn after_its_rest_it_lets_one_probe_through() {
        let (mut breaker, until) = tripped();
        breaker.tick(until);
        assert_eq!(breaker.gate(), Gate::Probing);
        breaker.began(CallNo(10));
        assert_eq!(breaker.gate(), Gate::Probed);
        assert_eq!(breaker.succeeded(CallNo(1)), Moved::No, "an old call");
        assert_eq!(breaker.failed(CallNo(2), until), Moved::No, "an old call");
        assert_eq!(breaker.gate(), Gate::Probed);
        assert_eq!(breaker.succeeded(CallNo(10)), Moved::Closed);
        assert_eq!(breaker.gate(), Gate::Open);
    }

    #[test]
    fn a_probe_that_nobody_waits_for_leaves_room_for_the_next() {
        let (mut breaker, until) = tripped();
        breaker.tick(until);
        breaker.began(CallNo(10));
        breaker.gone(CallNo(10));
        assert_eq!(breaker.gate(), Gate::Probing);
    }

    #[test]
    fn rests_grow_with_each_failed_probe_and_stay_within_bounds() {
        let (mut breaker, mut until) = tripped();
        let mut rests = Vec::new();
        for call in 100..160 {
            breaker.tick(until);
            breaker.began(CallNo(call));
            breaker.failed(CallNo(call), until);
            let Gate::Shut(next) = breaker.gate() else {
                panic!("a failed probe opens it again");
            };
            rests.push(next.since(until));
            until = next;
        }
        assert!(rests.iter().all(|rest| (SHORTEST..=LONGEST).contains(rest)));
        assert!(rests[0] <= SHORTEST * 4);
        assert!(rests[20..].iter().any(|rest| *rest > LONGEST / 2));
        assert!(
            rests[20..].iter().any(|rest| *rest < LONGEST / 4),
            "full jitter"
        );
    }

    #[test]
    fn a_rest_that_is_asked_for_is_kept_but_not_for_ever() {
        let mut breaker = Breaker::new(7);
        breaker.rest(CallNo(1), Duration::from_secs(7), T0);
        assert_eq!(breaker.gate(), Gate::Shut(T0.after(Duration::from_secs(7))));
        breaker.rest(CallNo(2), Duration::from_secs(3), T0);
        assert_eq!(
            breaker.gate(),
            Gate::Shut(T0.after(Duration::from_secs(7))),
            "the longer"
        );
        breaker.rest(CallNo(3), Duration::MAX, T0);
        assert_eq!(breaker.gate(), Gate::Shut(T0.after(LONGEST_ASKED)));
    }

    #[test]
    fn what_a_person_must_put_right_is_not_tried_soon() {
        let mut breaker = Breaker::new(7);
        breaker.condemned(CallNo(1), T0);
        let Gate::Shut(until) = breaker.gate() else {
            panic!("it should rest");
        };
        assert!(until.since(T0) >= LONGEST / 2);
    }
}
