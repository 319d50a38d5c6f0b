//! What one upstream may still cost: calls, tokens and money, in an hour and in a month.
//!
//! ```text
//!            book (the worst case)             settle (what it was)
//!   free ───────────────────────────► held ──────────────────────────► used
//!                                                                        │ roll: the next hour
//!                                                                        ▼ or month
//!                                                                       free
//! ```
//!
//! A call is booked before it begins, with the most that it can cost, and settled when it has
//! ended. So the sum of what is used and held is never above the limit, as long as an upstream
//! does not bill more tokens than a question has bytes and an answer was allowed.
//!
//! Over a restart: the [`Marks`] say what counts as used if the process ends now. They run ahead
//! of the truth in steps, so that a file with them is written a bounded number of times an hour
//! and yet never says too little: a crash costs up to a step and what was held, never a budget
//! exceeded.
//!
//! Clocks that are wrong: hours and months only go forward. A clock that went back gets no second
//! budget for the time that it shows again; if it stays behind, the next budget comes when a
//! whole hour, or the longest month, has really passed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::{Allotment, Budget, Price};
use crate::clock::{DAY_MS, Mono, Now, Wall};

/// Steps of a limit in which its mark advances. It bounds both how often a file is written and
/// what a crash can cost.
const STEPS: u64 = 64;
const HOUR_MS: u64 = 3_600_000;
/// A [`Cost`] counts so many for one of the currency's unit.
const PARTS_OF_A_UNIT: f64 = 1e12;

/// Money, in millionths of a millionth of the currency's unit: a price per million tokens in
/// millionths, times tokens, without any rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cost(pub u64);

/// What a call costs, or calls together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amount {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    pub(super) cost: Cost,
}

impl Amount {
    /// One call with these tokens.
    pub(super) fn of(prompt: u64, completion: u64, price: Price) -> Self {
        let part = |tokens: u64, price| tokens.saturating_mul(price);
        Self {
            requests: 1,
            tokens: prompt.saturating_add(completion),
            cost: Cost(
                part(prompt, price.prompt).saturating_add(part(completion, price.completion)),
            ),
        }
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            requests: with(self.requests, other.requests),
            tokens: with(self.tokens, other.tokens),
            cost: Cost(with(self.cost.0, other.cost.0)),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn minus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    fn fits(self, limit: Self) -> bool {
        self.requests <= limit.requests && self.tokens <= limit.tokens && self.cost <= limit.cost
    }
}

impl Allotment {
    /// As an amount; what is not limited is more than anybody can use.
    fn limit(self) -> Amount {
        Amount {
            requests: self.requests.unwrap_or(u64::MAX),
            tokens: self.tokens.unwrap_or(u64::MAX),
            cost: self.cost.unwrap_or(Cost(u64::MAX)),
        }
    }
}

/// What counts as used if the process ends now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    hour: Mark,
    month: Mark,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// Hours since 1970, or months since the year 0.
    number: u64,
    used: Amount,
}

/// What a budget looks like from outside, in its own unit: calls, tokens, or the currency's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spending {
    /// `hour` or `month`.
    pub span: &'static str,
    /// `requests`, `tokens` or `cost`.
    pub what: &'static str,
    /// Used, and held for calls under way.
    pub spent: f64,
    /// What is left; none where there is no limit.
    pub left: Option<f64>,
}

/// Why a call cannot be booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// It is more than a whole budget.
    TooDear,
    /// Calls under way may leave enough.
    Held,
    /// There is a new budget after that time.
    For(Duration),
}

/// A call that was booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Booking {
    worst: Amount,
    hour: u64,
    month: u64,
}

impl Booking {
    /// What was booked.
    pub(super) fn worst(self) -> Amount {
        self.worst
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    hour: Window,
    month: Window,
}

impl Ledger {
    /// A ledger that goes on where the marks say.
    pub(super) fn new(budget: Budget, marks: Option<Marks>, now: Now) -> Self {
        let marks = marks.unwrap_or_default();
        let mut ledger = Self {
            hour: Window::new(Span::Hour, budget.hour, marks.hour),
            month: Window::new(Span::Month, budget.month, marks.month),
        };
        ledger.tick(now);
        ledger
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Now) {
        self.hour.roll(now);
        self.month.roll(now);
    }

    /// Whether so much can be booked.
    pub(super) fn has(&self, worst: Amount, now: Now) -> Result<(), Short> {
        match (self.hour.has(worst, now), self.month.has(worst, now)) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(Short::TooDear), _) | (_, Err(Short::TooDear)) => Err(Short::TooDear),
            (Err(Short::For(hour)), Err(Short::For(month))) => Err(Short::For(hour.max(month))),
            (Err(Short::For(span)), _) | (_, Err(Short::For(span))) => Err(Short::For(span)),
            (Err(Short::Held), _) | (_, Err(Short::Held)) => Err(Short::Held),
        }
    }

    /// Books what [`Ledger::has`] said is there.
    pub(super) fn book(&mut self, worst: Amount) -> Booking {
        Booking {
            worst,
            hour: self.hour.hold(worst),
            month: self.month.hold(worst),
        }
    }

    /// A call has ended and cost so much. In a new hour the old one's calls count no more.
    pub(super) fn settle(&mut self, booking: Booking, used: Amount) {
        for (window, number) in [
            (&mut self.hour, booking.hour),
            (&mut self.month, booking.month),
        ] {
            if window.number == number {
                window.held = window.held.minus(booking.worst);
                window.used = window.used.plus(used);
                window.advance_mark();
            }
        }
    }

    /// For how long there is next to nothing left, if so.
    pub(super) fn spent(&self, now: Now) -> Option<Duration> {
        let spans = [&self.hour, &self.month].map(|window| window.spent(now));
        spans.into_iter().flatten().max()
    }

    /// What is spent and what is left, also where time has passed since the last tick.
    pub(super) fn spending(&self, now: Now) -> impl Iterator<Item = Spending> {
        let windows = [("hour", &self.hour), ("month", &self.month)];
        windows
            .into_iter()
            .flat_map(move |(span, window)| window.spending(span, now))
    }

    /// What counts as used if the process ends now.
    pub(super) fn marks(&self) -> Marks {
        let of = |window: &Window| Mark {
            number: window.number,
            used: window.mark,
        };
        Marks {
            hour: of(&self.hour),
            month: of(&self.month),
        }
    }

    /// The same at an orderly end: the truth, and what is held in full.
    pub(super) fn closing(&self) -> Marks {
        let of = |window: &Window| Mark {
            number: window.number,
            used: window.used.plus(window.held),
        };
        Marks {
            hour: of(&self.hour),
            month: of(&self.month),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people and graphs")]
fn real(value: u64) -> f64 {
    value as f64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Hour,
    Month,
}

impl Span {
    /// Which one it is.
    fn number(self, at: Wall) -> u64 {
        match self {
            Self::Hour => at.0 / HOUR_MS,
            Self::Month => {
                let (year, month, _) = at.date();
                year * 12 + month - 1
            }
        }
    }

    /// Until the next one begins.
    fn left(self, at: Wall) -> Duration {
        let end = match self {
            Self::Hour => (at.0 / HOUR_MS + 1) * HOUR_MS,
            Self::Month => {
                let (_, _, day) = at.date();
                let first = at.0 / DAY_MS + 1 - day;
                let days = (28..=31).find(|days| Wall((first + days) * DAY_MS).date().2 == 1);
                (first + days.unwrap_or(31)) * DAY_MS
            }
        };
        Wall(end).since(at)
    }

    /// The longest that one can be.
    fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_millis(HOUR_MS),
            Self::Month => Duration::from_millis(31 * DAY_MS),
        }
    }
}

#[derive(Debug)]
struct Window {
    span: Span,
    limit: Amount,
    number: u64,
    used: Amount,
    held: Amount,
    mark: Amount,
    /// Since when the clock shows a time before this window.
    behind: Option<Mono>,
}

impl Window {
    fn new(span: Span, allotment: Allotment, mark: Mark) -> Self {
        Self {
            span,
            limit: allotment.limit(),
            number: mark.number,
            used: mark.used,
            held: Amount::default(),
            mark: mark.used,
            behind: None,
        }
    }

    fn roll(&mut self, now: Now) {
        let number = self.span.number(now.wall);
        if number < self.number {
            let since = *self.behind.get_or_insert(now.mono);
            if now.mono.since(since) < self.span.length() {
                return;
            }
        } else if number == self.number {
            self.behind = None;
            return;
        }
        *self = Self {
            number,
            used: Amount::default(),
            held: Amount::default(),
            mark: Amount::default(),
            behind: None,
            ..*self
        };
    }

    fn spending(&self, span: &'static str, now: Now) -> [Spending; 3] {
        let is_over = self.span.number(now.wall) > self.number;
        let spent = if is_over {
            Amount::default()
        } else {
            self.used.plus(self.held)
        };
        let of = |what, spent: u64, limit: u64, unit: f64| Spending {
            span,
            what,
            spent: real(spent) / unit,
            left: (limit < u64::MAX).then(|| real(limit.saturating_sub(spent)) / unit),
        };
        let limit = self.limit;
        [
            of("requests", spent.requests, limit.requests, 1.0),
            of("tokens", spent.tokens, limit.tokens, 1.0),
            of("cost", spent.cost.0, limit.cost.0, PARTS_OF_A_UNIT),
        ]
    }

    fn left(&self, now: Now) -> Duration {
        match self.behind {
            None => self.span.left(now.wall),
            Some(since) => self.span.length().saturating_sub(now.mono.since(since)),
        }
    }

    fn has(&self, worst: Amount, now: Now) -> Result<(), Short> {
        if self.used.plus(self.held).plus(worst).fits(self.limit) {
            Ok(())
        } else if !worst.fits(self.limit) {
            Err(Short::TooDear)
        } else if self.used.plus(worst).fits(self.limit) {
            Err(Short::Held)
        } else {
            Err(Short::For(self.left(now)))
        }
    }

    fn hold(&mut self, worst: Amount) -> u64 {
        self.held = self.held.plus(worst);
        self.advance_mark();
        self.number
    }

    fn spent(&self, now: Now) -> Option<Duration> {
        let step = self.limit.zip(self.limit, |limit, _| step(limit));
        let next = self.used.plus(step);
        (!next.fits(self.limit)).then(|| self.left(now))
    }

    /// Lifts the mark over what is used and held, by whole steps. What is not limited needs none.
    fn advance_mark(&mut self) {
        let needed = self.used.plus(self.held).zip(self.limit, |needed, limit| {
            if limit == u64::MAX {
                return 0;
            }
            needed.div_ceil(step(limit)).saturating_mul(step(limit))
        });
        self.mark = self.mark.zip(needed, u64::max);
    }
}

fn step(limit: u64) -> u64 {
    if limit == u64::MAX {
        return 0;
    }
    (limit / STEPS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noon of 21 November 2026.
    const NOON: u64 = 1_795_262_400_000;

    fn at(mono_s: u64, wall_ms: u64) -> Now {
        Now {
            mono: Mono(Duration::from_secs(mono_s)),
            wall: Wall(wall_ms),
        }
    }

    fn tokens(tokens: u64) -> Amount {
        Amount::of(tokens, 0, Price::default())
    }

    fn hourly(tokens: u64) -> Budget {
        Budget {
            hour: Allotment {
                tokens: Some(tokens),
                ..Allotment::default()
            },
            ..Budget::default()
        }
    }

    #[test]
    fn what_is_held_is_not_there_for_others_and_what_was_not_used_is_again() {
        let now = at(0, NOON);
        let mut ledger = Ledger::new(hourly(100), None, now);
        let booking = ledger.book(tokens(60));
        assert_eq!(ledger.has(tokens(41), now), Err(Short::Held));
        ledger.settle(booking, tokens(50));
        assert_eq!(ledger.has(tokens(50), now), Ok(()));
        let left = Duration::from_hours(1);
        assert_eq!(ledger.has(tokens(51), now), Err(Short::For(left)));
        assert_eq!(ledger.has(tokens(101), now), Err(Short::TooDear));
    }

    #[test]
    fn what_is_spent_and_left_adds_up_and_begins_anew_with_the_hour() {
        let price = Price {
            prompt: 2_500_000,
            completion: 0,
        };
        let budget = Budget {
            price,
            month: Allotment {
                cost: Some(Cost(10_000_000_000_000)),
                ..Allotment::default()
            },
            ..hourly(100)
        };
        let now = at(0, NOON);
        let mut ledger = Ledger::new(budget, None, now);
        let booking = ledger.book(Amount::of(60, 0, price));
        let told = |ledger: &Ledger, span, what, now| {
            let mut all = ledger.spending(now);
            let it = all.find(|it| (it.span, it.what) == (span, what)).unwrap();
            (it.spent, it.left)
        };
        assert_eq!(told(&ledger, "hour", "tokens", now), (60.0, Some(40.0)));
        ledger.settle(booking, Amount::of(40, 0, price));
        assert_eq!(told(&ledger, "hour", "tokens", now), (40.0, Some(60.0)));
        assert_eq!(told(&ledger, "hour", "requests", now), (1.0, None));
        // 40 tokens at 2.50 for a million.
        assert_eq!(told(&ledger, "month", "cost", now), (0.0001, Some(9.9999)));
        let later = at(3600, NOON + HOUR_MS);
        assert_eq!(told(&ledger, "hour", "tokens", later), (0.0, Some(100.0)));
        assert_eq!(told(&ledger, "month", "tokens", later), (40.0, None));
    }

    #[test]
    fn an_hour_ends_on_the_hour_and_a_month_with_its_last_day() {
        let month = Budget {
            month: Allotment {
                requests: Some(1),
                ..Allotment::default()
            },
            ..hourly(10)
        };
        let now = at(0, NOON + 60_000);
        let mut ledger = Ledger::new(month, None, now);
        let booking = ledger.book(tokens(10));
        ledger.settle(booking, tokens(10));
        // From 12:01 on the 21st to the first of December.
        let left = Duration::from_hours(9 * 24 + 12) - Duration::from_mins(1);
        assert_eq!(ledger.has(tokens(1), now), Err(Short::For(left)));
        assert_eq!(ledger.spent(now), Some(left));
        let next_hour = at(1, NOON + HOUR_MS);
        ledger.tick(next_hour);
        assert!(matches!(
            ledger.has(tokens(10), next_hour),
            Err(Short::For(_))
        ));
        let december = at(2, NOON + HOUR_MS * (9 * 24 + 12));
        ledger.tick(december);
        assert_eq!(ledger.has(tokens(10), december), Ok(()));
    }

    #[test]
    fn money_is_counted_by_the_price_of_each_kind_of_token() {
        let price = Price {
            prompt: 2_500_000,
            completion: 10_000_000,
        };
        // 1000 prompt tokens at 2.50 and 100 answer tokens at 10.00 a million: 0.0035.
        let cost = Amount::of(1000, 100, price).cost;
        assert_eq!(cost, Cost(3_500_000_000));
    }

    #[test]
    fn a_restart_brings_no_second_budget() {
        let now = at(0, NOON);
        let mut ledger = Ledger::new(hourly(6400), None, now);
        let booking = ledger.book(tokens(1000));
        let crashed = ledger.marks();
        ledger.settle(booking, tokens(10));
        let closed = ledger.closing();
        let ledger = Ledger::new(hourly(6400), Some(crashed), at(0, NOON + 5));
        assert_eq!(ledger.hour.used.tokens, 1000, "at least what was held");
        let ledger = Ledger::new(hourly(6400), Some(closed), at(0, NOON + 5));
        assert_eq!(
            ledger.hour.used.tokens, 10,
            "the truth after an orderly end"
        );
    }

    #[test]
    fn marks_advance_in_few_steps() {
        let now = at(0, NOON);
        let mut ledger = Ledger::new(hourly(6400), None, now);
        let mut seen = Vec::new();
        for _ in 0..6400 {
            let booking = ledger.book(tokens(1));
            ledger.settle(booking, tokens(1));
            if seen.last() != Some(&ledger.marks()) {
                seen.push(ledger.marks());
            }
        }
        assert_eq!(seen.len() as u64, STEPS);
        assert_eq!(ledger.marks().hour.used.tokens, 6400);
    }

    #[test]
    fn a_clock_that_goes_back_and_forth_brings_no_second_budget() {
        let mut ledger = Ledger::new(hourly(100), None, at(0, NOON));
        let booking = ledger.book(tokens(100));
        ledger.settle(booking, tokens(100));
        let restarted = at(0, 0); // a board without a battery, before it learns the time
        let mut ledger = Ledger::new(hourly(100), Some(ledger.closing()), restarted);
        assert!(matches!(
            ledger.has(tokens(1), restarted),
            Err(Short::For(_))
        ));
        let learnt = at(60, NOON + 90_000);
        ledger.tick(learnt);
        assert!(matches!(ledger.has(tokens(1), learnt), Err(Short::For(_))));
    }

    #[test]
    fn a_clock_that_stays_behind_gets_its_next_budget_after_a_real_hour() {
        let mut ledger = Ledger::new(hourly(100), None, at(0, NOON));
        let booking = ledger.book(tokens(100));
        ledger.settle(booking, tokens(100));
        ledger.tick(at(10, 0));
        let almost = at(10 + 3599, 0);
        ledger.tick(almost);
        assert_eq!(
            ledger.has(tokens(1), almost),
            Err(Short::For(Duration::from_secs(1)))
        );
        let then = at(10 + 3600, 0);
        ledger.tick(then);
        assert_eq!(ledger.has(tokens(100), then), Ok(()));
    }
}
