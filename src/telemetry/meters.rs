//! Counters and histograms that cost next to nothing to write.
//!
//! Each is an atomic number; a request's end costs a dozen relaxed additions, no lock and no memory.
//! All places are made at the start: one for each rule and outcome. So readers may see a request's
//! count a moment before its time, and never anything torn or going back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::Tokens;
use crate::intake::Code;

/// The upper limits of the classes of a duration, in microseconds. A percentile read from them is
/// right to the width of a class: at most half as much again.
pub const CLASSES_US: [u64; 30] = [
    500,
    1_000,
    2_000,
    3_000,
    5_000,
    7_000,
    10_000,
    15_000,
    20_000,
    30_000,
    50_000,
    70_000,
    100_000,
    150_000,
    200_000,
    300_000,
    500_000,
    700_000,
    1_000_000,
    1_500_000,
    2_000_000,
    3_000_000,
    5_000_000,
    7_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];

/// Rules with figures of their own; a site's table has a dozen. What is beyond counts as [`OTHER`].
pub const MAX_RULES: usize = 32;
/// The rule of requests that were refused before any rule was asked.
pub const INTAKE: &str = "intake";
/// Every rule without a place of its own.
pub const OTHER: &str = "other";

/// Every reason of a refusal.
const CODES: [Code; 22] = [
    Code::Invalid,
    Code::TooLarge,
    Code::IdConflict,
    Code::Retained,
    Code::ReplyTopic,
    Code::RateLimited,
    Code::Busy,
    Code::Spool,
    Code::EngineUnavailable,
    Code::Deadline,
    Code::Draining,
    Code::EngineFailed,
    Code::OverContext,
    Code::UnknownTask,
    Code::Schema,
    Code::Policy,
    Code::CloudFailed,
    Code::Expired,
    Code::Rejected,
    Code::Hot,
    Code::Memory,
    Code::Maintenance,
];
const OUTCOMES: usize = By::ALL.len() + CODES.len();

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The local model.
    Edge,
    /// A model elsewhere.
    Cloud,
    /// A person.
    Human,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Edge, Self::Cloud, Self::Human];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Cloud => "cloud",
            Self::Human => "human",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By an answer.
    Answered(By),
    /// By a refusal.
    Refused(Code),
}

impl Outcome {
    fn place(self) -> usize {
        match self {
            Self::Answered(by) => by as usize,
            Self::Refused(code) => {
                let known = CODES.iter().position(|it| *it == code);
                By::ALL.len() + known.unwrap_or_default()
            }
        }
    }

    fn at(place: usize) -> Self {
        match By::ALL.get(place) {
            Some(by) => Self::Answered(*by),
            None => Self::Refused(CODES[place - By::ALL.len()]),
        }
    }
}

/// Durations by class.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; CLASSES_US.len()],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

/// What a [`Histogram`] held at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How many in each class of [`CLASSES_US`].
    pub counts: [u64; CLASSES_US.len()],
    /// How many took longer than the last.
    pub beyond: u64,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// One more.
    pub fn note(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = CLASSES_US.partition_point(|limit| *limit < us);
        let count = self.counts.get(class).unwrap_or(&self.beyond);
        count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How it is now.
    pub fn shape(&self) -> Shape {
        Shape {
            counts: std::array::from_fn(|class| self.counts[class].load(Ordering::Relaxed)),
            beyond: self.beyond.load(Ordering::Relaxed),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl Shape {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Those that came after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|it| self.counts[it].saturating_sub(before.counts[it])),
            beyond: self.beyond.saturating_sub(before.beyond),
            sum_us: self.sum_us.saturating_sub(before.sum_us),
        }
    }

    /// These and those.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|it| self.counts[it] + more.counts[it]),
            beyond: self.beyond + more.beyond,
            sum_us: self.sum_us.saturating_add(more.sum_us),
        }
    }

    /// The duration that so many of a thousand do not exceed, as the upper limit of its class, in
    /// milliseconds; none where there are none.
    pub fn permille_ms(&self, permille: u64) -> Option<f64> {
        let count = self.count();
        let wanted = (count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let class = self.counts.iter().position(|in_class| {
            seen += in_class;
            seen >= wanted
        });
        let last = CLASSES_US[CLASSES_US.len() - 1];
        let us = class.map_or(last, |class| CLASSES_US[class]);
        #[expect(
            clippy::cast_precision_loss,
            reason = "an hour in microseconds is far below 2^52"
        )]
        (count > 0).then_some(us as f64 / 1000.0)
    }
}

/// What is counted and timed on the path of a request.
#[derive(Debug)]
pub struct Meters {
    rules: Vec<String>,
    /// For each rule, each outcome.
    requests: Vec<[AtomicU64; OUTCOMES]>,
    answers: [Histogram; By::ALL.len()],
    first_token: Histogram,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    writes: Histogram,
    syncs: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl Meters {
    /// Meters for these rules of the site.
    pub fn new(rules: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = rules.into_iter().take(MAX_RULES).collect();
        names.extend([INTAKE.into(), OTHER.into()]);
        Self {
            requests: names
                .iter()
                .map(|_| std::array::from_fn(|_| AtomicU64::new(0)))
                .collect(),
            rules: names,
            answers: Default::default(),
            first_token: Histogram::default(),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            writes: Histogram::default(),
            syncs: Histogram::default(),
        }
    }

    /// A request has its outcome.
    pub fn ended(&self, rule: &str, outcome: Outcome) {
        let place = self.rules.iter().position(|it| it == rule);
        let place = place.unwrap_or(self.rules.len() - 1);
        self.requests[place][outcome.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// An answer took so long, from acceptance to outcome.
    pub fn answered(&self, by: By, total: Duration) {
        self.answers[by as usize].note(total);
    }

    /// The model here has computed an answer.
    pub fn computed(&self, tokens: Tokens, first_token: Duration) {
        for (counter, more) in [
            (&self.prompt_tokens, tokens.prompt),
            (&self.cached_tokens, tokens.cached),
            (&self.completion_tokens, tokens.completion),
        ] {
            counter.fetch_add(u64::from(more), Ordering::Relaxed);
        }
        self.first_token.note(first_token);
    }

    /// Records were handed to the store.
    pub fn written(&self, took: Duration) {
        self.writes.note(took);
    }

    /// The store's files are safe from a power cut.
    pub fn synced(&self, took: Duration) {
        self.syncs.note(took);
    }

    /// How many requests ended how, by rule; only those that there were.
    pub fn requests(&self) -> impl Iterator<Item = (&str, Outcome, u64)> {
        let rules = self.rules.iter().zip(&self.requests);
        rules.flat_map(|(rule, outcomes)| {
            let counted = outcomes.iter().enumerate();
            let counted = counted.map(|(place, it)| (place, it.load(Ordering::Relaxed)));
            let counted = counted.filter(|(_, count)| *count > 0);
            counted.map(|(place, count)| (rule.as_str(), Outcome::at(place), count))
        })
    }

    /// How long answers took.
    pub fn answers(&self, by: By) -> Shape {
        self.answers[by as usize].shape()
    }

    /// How long the model here took to its first token.
    pub fn first_token(&self) -> Shape {
        self.first_token.shape()
    }

    /// Tokens of the model here.
    pub fn tokens(&self) -> [(&'static str, u64); 3] {
        [
            ("prompt", &self.prompt_tokens),
            ("cached", &self.cached_tokens),
            ("completion", &self.completion_tokens),
        ]
        .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }

    /// How long writes into the store took.
    pub fn writes(&self) -> Shape {
        self.writes.shape()
    }

    /// How long its syncs took.
    pub fn syncs(&self) -> Shape {
        self.syncs.shape()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_its_rule_and_its_outcome() {
        let meters = Meters::new(["night".into(), "default".into()]);
        meters.ended("night", Outcome::Answered(By::Cloud));
        meters.ended("night", Outcome::Answered(By::Cloud));
        meters.ended(INTAKE, Outcome::Refused(Code::Invalid));
        meters.ended("long gone", Outcome::Refused(Code::Maintenance));
        let seen: Vec<_> = meters.requests().collect();
        assert_eq!(
            seen,
            [
                ("night", Outcome::Answered(By::Cloud), 2),
                (INTAKE, Outcome::Refused(Code::Invalid), 1),
                (OTHER, Outcome::Refused(Code::Maintenance), 1),
            ]
        );
    }

    #[test]
    fn however_many_rules_there_are_the_places_have_a_limit() {
        let meters = Meters::new((0..1000).map(|n| format!("rule {n}")));
        for n in 0..1000 {
            meters.ended(&format!("rule {n}"), Outcome::Answered(By::Edge));
        }
        let seen: Vec<_> = meters.requests().collect();
        assert_eq!(seen.len(), MAX_RULES + 1);
        assert_eq!(seen.iter().map(|(_, _, count)| count).sum::<u64>(), 1000);
    }

    #[test]
    fn each_reason_of_a_refusal_has_a_place_of_its_own() {
        for (place, code) in CODES.iter().enumerate() {
            assert_eq!(
                *code as usize, place,
                "{code:?} is missing or out of its order"
            );
            let outcome = Outcome::Refused(*code);
            assert_eq!(Outcome::at(outcome.place()), outcome);
        }
        // One more than the last would be a reason that is not listed.
        assert_eq!(Code::Maintenance as usize + 1, CODES.len());
    }

    #[test]
    fn a_percentile_is_the_limit_of_its_class() {
        let histogram = Histogram::default();
        assert_eq!(histogram.shape().permille_ms(500), None);
        for ms in 1..=100 {
            histogram.note(Duration::from_millis(ms));
        }
        let shape = histogram.shape();
        assert_eq!((shape.count(), shape.sum_us), (100, 5_050_000));
        assert_eq!(shape.permille_ms(500), Some(50.0));
        assert_eq!(shape.permille_ms(990), Some(100.0));
        assert_eq!(shape.permille_ms(1), Some(1.0));
        histogram.note(Duration::from_hours(9));
        let since = histogram.shape().since(&shape);
        assert_eq!((since.count(), since.beyond), (1, 1));
        assert_eq!(since.permille_ms(500), Some(3_600_000.0));
        assert_eq!(shape.and(&since), histogram.shape());
    }
}
