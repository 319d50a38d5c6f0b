//! The watch after the commit: is the package still what its gate found?
//!
//! ```text
//!              next, where the device is idle       on_item
//!   recorded ─────────────────────────────► asked ─────────► score ──► Alarm, once
//!   figures        ▲                                          │
//!                  └──────────────── every_ms ────────────────┘
//! ```
//!
//! Purpose: a changed kernel, a sick memory or a wrong fan can make a model worse without anybody
//! noticing. In idle time [`Watch`] has items of the gate suite asked again, one at a time, each
//! once before any comes twice, in an order that is another on each device. It holds the answers
//! against what the gate recorded on this very device for the same suite.
//!
//! # The test
//!
//! A one-sided CUSUM: each answer adds the logarithm of how much likelier it is if the task has got
//! worse (its share of wrong answers grew by [`DROP`] of what was right) than if it has not; below
//! zero the score begins again. An alarm is a score of `ln(`[`ITEMS_TO_FALSE_ALARM`]`)`. Started at
//! any one item, the product of such ratios is a martingale as long as nothing has changed, so it
//! reaches a factor of `A` with a chance of at most `1 / A`; over `m` items there are `m` starts,
//! so within `m` items the chance of a false alarm is at most `m / A`. This holds for any suite and
//! any mix of tasks, needs no simulation, and is on the safe side twice: the recorded share is that
//! of the suite itself and not an estimate, and items do not come twice within a round.
//!
//! Owns the score and the order. Invariants: nothing of it is durable, for a restart may only make
//! an alarm later; one alarm is told once. How it fails: an item whose task has no figures is
//! passed over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::verdict::Findings;
use crate::clock::Mono;

/// What part of its right answers a task must lose before it counts as worse. Less is what
/// conversations that share a pass do to each other in a coarse quantization.
pub const DROP: f64 = 0.1;
/// Items without an alarm that is none, on average at least. At one a minute, day and night, two
/// years.
pub const ITEMS_TO_FALSE_ALARM: f64 = 1_000_000.0;

/// A task of the suite.
#[derive(Clone, Copy, Debug)]
struct Task {
    /// What a wrong answer adds to the score.
    wrong: f64,
    /// What a right one adds; below zero.
    right: f64,
}

/// What serves got worse than was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Alarm {
    /// Items since the score last began.
    pub items: u32,
    /// How many of these were wrong.
    pub wrong: u32,
    /// How many wrong ones the recorded figures let expect.
    pub expected: f64,
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of the last {} items of the gate suite were answered wrong, and {:.1} were to be \
             expected",
            self.wrong, self.items, self.expected
        )
    }
}

/// See the module. One is made for each load of a committed package.
#[derive(Debug)]
pub struct Watch {
    /// The task of each item, as a place in `tasks`; none where nothing was recorded.
    items: Vec<Option<usize>>,
    tasks: Vec<(Task, f64)>,
    every: Duration,
    last: Option<Mono>,
    order: fastrand::Rng,
    /// Items that this round has yet to come to.
    left: Vec<usize>,
    score: f64,
    since: Alarm,
    is_told: bool,
}

impl Watch {
    /// A watch over a suite, given the task of each item and what the gate found. `seed` is the
    /// device's.
    pub fn new<'a>(
        suite: impl Iterator<Item = &'a str>,
        recorded: &Findings,
        every: Duration,
        seed: u64,
    ) -> Self {
        let mut places = BTreeMap::new();
        let mut tasks = Vec::new();
        for (task, count) in &recorded.tasks {
            if count.1 > 0 {
                places.insert(task.as_str(), tasks.len());
                tasks.push(weights(*count));
            }
        }
        Self {
            items: suite.map(|task| places.get(task).copied()).collect(),
            tasks,
            every,
            last: None,
            order: fastrand::Rng::with_seed(seed),
            left: Vec::new(),
            score: 0.0,
            since: quiet(),
            is_told: false,
        }
    }

    /// The item to be asked now, if the device is idle; none if it is not yet time.
    pub fn next(&mut self, now: Mono) -> Option<usize> {
        // A reading before the last one is no reason to wait for ever.
        let waits = |last: Mono| now >= last && now.since(last) < self.every;
        if self.last.is_some_and(waits) {
            return None;
        }
        if self.left.is_empty() {
            let known = |(place, task): (usize, &Option<usize>)| task.map(|_| place);
            self.left = self.items.iter().enumerate().filter_map(known).collect();
            self.order.shuffle(&mut self.left);
        }
        let item = self.left.pop()?;
        self.last = Some(now);
        Some(item)
    }

    /// An item was answered. One that had to give way to a request is not: it is asked in the next
    /// round.
    pub fn on_item(&mut self, item: usize, is_right: bool) -> Option<Alarm> {
        let place = self.items.get(item).copied().flatten()?;
        let (task, expected) = self.tasks[place];
        self.score += if is_right { task.right } else { task.wrong };
        self.since.items = self.since.items.saturating_add(1);
        self.since.wrong = self.since.wrong.saturating_add(u32::from(!is_right));
        self.since.expected += expected;
        if self.score <= 0.0 {
            self.score = 0.0;
            self.since = quiet();
            return None;
        }
        if self.score < ITEMS_TO_FALSE_ALARM.ln() || self.is_told {
            return None;
        }
        self.is_told = true;
        Some(self.since.clone())
    }
}

fn quiet() -> Alarm {
    Alarm {
        items: 0,
        wrong: 0,
        expected: 0.0,
    }
}

/// What answers of a task are worth, and its share of wrong ones. A task without a single wrong
/// one counts as if half an item had been: a flawless record is no promise.
fn weights((right, of): (usize, usize)) -> (Task, f64) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of items, far below 2^52"
    )]
    let (right, of) = (right.min(of) as f64, of as f64);
    let wrong = ((of - right).max(0.5) / of).min(1.0);
    let worse = wrong + DROP * (1.0 - wrong);
    let task = Task {
        wrong: (worse / wrong).ln(),
        // Where all were wrong, one that is right says nothing.
        right: if wrong < 1.0 { (1.0 - DROP).ln() } else { 0.0 },
    };
    (task, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_mins(1);

    fn recorded(tasks: &[(&str, usize, usize)]) -> Findings {
        let tasks = tasks.iter();
        Findings {
            tasks: tasks
                .map(|(task, right, of)| ((*task).to_owned(), (*right, *of)))
                .collect(),
            ..Findings::default()
        }
    }

    fn suite(findings: &Findings) -> Vec<&str> {
        let tasks = findings.tasks.iter();
        tasks
            .flat_map(|(task, count)| std::iter::repeat_n(task.as_str(), count.1))
            .collect()
    }

    fn watch(findings: &Findings, seed: u64) -> Watch {
        Watch::new(suite(findings).into_iter(), findings, EVERY, seed)
    }

    /// Watches a device whose answers are right with these chances by task; when it alarms.
    fn until_alarm(
        findings: &Findings,
        right: &[(&str, f64)],
        most: u32,
        seed: u64,
    ) -> Option<u32> {
        let mut watch = watch(findings, seed);
        let suite = suite(findings);
        let mut rng = fastrand::Rng::with_seed(seed + 1000);
        let chance: BTreeMap<_, _> = right.iter().copied().collect();
        (1..=most).find(|n| {
            let item = watch.next(Mono(EVERY * *n)).unwrap();
            let is_right = rng.f64() < chance[suite[item]];
            watch.on_item(item, is_right).is_some()
        })
    }

    #[test]
    fn each_item_comes_once_in_a_round_in_an_order_of_the_devices_own() {
        let findings = recorded(&[("a", 30, 40), ("b", 9, 10)]);
        let round = |watch: &mut Watch, from: u32| -> Vec<_> {
            (from..from + 50)
                .map(|n| watch.next(Mono(EVERY * n)).unwrap())
                .collect()
        };
        let mut one = watch(&findings, 1);
        let first = round(&mut one, 0);
        let second = round(&mut one, 50);
        let other = round(&mut watch(&findings, 2), 0);
        assert!(first != second && first != other);
        for mut items in [first, second, other] {
            items.sort_unstable();
            assert_eq!(items, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn items_come_no_more_often_than_the_site_says_and_no_clock_blocks_them() {
        let findings = recorded(&[("a", 30, 40)]);
        let mut watch = watch(&findings, 1);
        assert!(watch.next(Mono(EVERY)).is_some());
        assert!(watch.next(Mono(EVERY + EVERY / 2)).is_none());
        assert!(watch.next(Mono(EVERY * 2)).is_some());
        assert!(watch.next(Mono(Duration::ZERO)).is_some());
        assert!(watch.next(Mono(EVERY / 2)).is_none());
    }

    #[test]
    fn what_was_not_recorded_is_not_asked() {
        let findings = recorded(&[("a", 1, 1)]);
        let mut watch = Watch::new(["x", "a", "x"].into_iter(), &findings, EVERY, 1);
        let items: Vec<_> = (0..4).filter_map(|n| watch.next(Mono(EVERY * n))).collect();
        assert_eq!(items, [1; 4]);
        assert_eq!(watch.on_item(0, false), None);
        let mut nothing = Watch::new([].into_iter(), &findings, EVERY, 1);
        assert_eq!(nothing.next(Mono(EVERY)), None);
    }

    #[test]
    fn a_package_that_is_what_it_was_alarms_as_rarely_as_was_promised() {
        // 400 devices, 20,000 items each: by the bound, eight alarms at most on average.
        let findings = recorded(&[("a", 90, 100), ("b", 150, 300), ("c", 50, 50)]);
        let right = [("a", 0.9), ("b", 0.5), ("c", 0.99)];
        let alarms = (0..400)
            .filter(|seed| until_alarm(&findings, &right, 20_000, *seed).is_some())
            .count();
        assert!(alarms <= 8, "{alarms}");
    }

    #[test]
    fn a_martingale_holds_for_each_task() {
        // What the bound rests on: on average an answer multiplies the odds by no more than one.
        for count in [(0, 9), (1, 9), (150, 300), (299, 300), (300, 300)] {
            let (task, wrong) = weights(count);
            let mean = wrong * task.wrong.exp() + (1.0 - wrong) * task.right.exp();
            assert!(mean <= 1.0 + 1e-12, "{count:?}: {mean}");
        }
    }

    #[test]
    fn a_package_that_got_worse_is_found_the_sooner_the_worse() {
        let findings = recorded(&[("a", 270, 300)]);
        let delay = |right: f64| {
            let delays = (0..60).map(|seed| {
                let found = until_alarm(&findings, &[("a", right)], 20_000, seed);
                found.expect("a drop is found")
            });
            delays.sum::<u32>() / 60
        };
        let (broken, half, tenth) = (delay(0.0), delay(0.45), delay(0.81));
        assert!(broken < half && half < tenth, "{broken} {half} {tenth}");
        assert!(
            broken <= 25 && half <= 60 && tenth <= 600,
            "{broken} {half} {tenth}"
        );
    }

    #[test]
    fn one_task_that_breaks_is_found_among_others_and_told_once() {
        let findings = recorded(&[("a", 270, 300), ("b", 28, 30)]);
        let right = [("a", 0.9), ("b", 0.0)];
        let found = until_alarm(&findings, &right, 20_000, 3).unwrap();
        assert!(found <= 3000, "{found}");
        let mut watch = watch(&findings, 3);
        let alarms: Vec<_> = (0..500).filter_map(|_| watch.on_item(310, false)).collect();
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].items, alarms[0].wrong);
        let told = alarms[0].to_string();
        assert!(
            told.contains("of the gate suite were answered wrong"),
            "{told}"
        );
    }
}
