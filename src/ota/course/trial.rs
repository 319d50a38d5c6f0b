//! What a trial has seen, and whether that is a jump.
//!
//! # The test
//!
//! The trial's share of answers that are none (refused, failed), and its share of those that went
//! to the cloud, are each held against the serving package's own by Fisher's exact test: it is
//! valid for any counts, and needs no guess at what a site's usual share is.
//!
//! Whoever looks after each answer until something shows will see something. So the looks come at
//! fixed counts, each about a quarter later than the one before, and the `j`-th may err with no
//! more than `1 / (j (j + 1))` of a share's half of [`FALSE_ALARM`]; these add up to less than all
//! of it, however long the trial lasts. The counts are fixed beforehand because a look that came
//! when the trial happens to suit would not be worth its chance. So at the most a fifth of the
//! answers, the latest, were not looked at when a trial is committed.
//!
//! Where too little is known of the serving package, only a majority that gets no answer counts.

use serde::{Deserialize, Serialize};

use super::super::odds::{binomial_tail, fisher_tail};

/// The chance that a package which is no worse is taken back by a whole trial's looks. It is not
/// tried again, so of a thousand devices one may lose a good package until its next number.
pub const FALSE_ALARM: f64 = 0.001;
/// The first look: fewer can show nothing at that chance.
const FIRST_LOOK: u32 = 4;
/// Shares that are looked at.
const SHARES: f64 = 2.0;
/// A share that is higher by less is no jump, however sure: what a line sends changes that much
/// from one shift to the next.
pub const SMALLEST_JUMP: f64 = 0.02;
/// Answers of the serving package below which its share is not known.
pub(super) const KNOWN_FROM: u32 = 20;
/// The share of no answers that no package may have where nothing else is known.
const MAJORITY: f64 = 0.5;
/// Answers that are remembered of the serving package. Beyond, all counts are halved, so that
/// what was long ago weighs less.
pub(super) const REMEMBERED: u32 = 4096;

/// How a request of the model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was answered here.
    Good,
    /// It was refused for what the model or its engine could not do; a request that was none is
    /// not counted.
    Refused,
    /// It went to the cloud.
    Escalated,
    /// The engine gave no answer.
    Failed,
}

/// Answers by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Answered here.
    pub good: u32,
    /// Refused or failed.
    pub none: u32,
    /// Gone to the cloud.
    pub escalated: u32,
}

impl Tally {
    /// All of them.
    pub fn all(self) -> u32 {
        self.good
            .saturating_add(self.none)
            .saturating_add(self.escalated)
    }

    /// Counts one more.
    pub fn add(&mut self, answer: Answer) {
        let count = match answer {
            Answer::Good => &mut self.good,
            Answer::Refused | Answer::Failed => &mut self.none,
            Answer::Escalated => &mut self.escalated,
        };
        *count = count.saturating_add(1);
    }

    /// Counts one more, and forgets slowly.
    pub fn remember(&mut self, answer: Answer) {
        self.add(answer);
        if self.all() >= REMEMBERED {
            self.good /= 2;
            self.none /= 2;
            self.escalated /= 2;
        }
    }
}

/// A share that jumped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jump {
    /// Of what.
    pub what: &'static str,
    /// Of the trial: how many, of how many.
    pub trial: (u32, u32),
    /// Of the serving package.
    pub before: (u32, u32),
    /// The chance of that by luck.
    pub chance: f64,
}

/// The looks of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    next: u32,
    number: f64,
    false_alarm: f64,
}

impl Default for Looks {
    fn default() -> Self {
        Self::with(FALSE_ALARM)
    }
}

impl Looks {
    fn with(false_alarm: f64) -> Self {
        Self {
            next: FIRST_LOOK,
            number: 1.0,
            false_alarm,
        }
    }

    /// Looks, if it is time to.
    pub fn look(&mut self, trial: Tally, before: Tally) -> Option<Jump> {
        if trial.all() < self.next {
            return None;
        }
        let limit = self.false_alarm / SHARES / (self.number * (self.number + 1.0));
        self.next = self.next.saturating_add((self.next / 4).max(1));
        self.number += 1.0;
        let none = shares("requests without an answer", trial, before, |it| it.none);
        let escalated = shares("requests to the cloud", trial, before, |it| it.escalated);
        let jump = none.held(true, limit);
        jump.or_else(|| escalated.held(false, limit))
    }
}

struct Shares {
    what: &'static str,
    trial: (u32, u32),
    before: (u32, u32),
}

fn shares(what: &'static str, trial: Tally, before: Tally, part: fn(Tally) -> u32) -> Shares {
    Shares {
        what,
        trial: (part(trial), trial.all()),
        before: (part(before), before.all()),
    }
}

impl Shares {
    fn held(self, majority_counts: bool, limit: f64) -> Option<Jump> {
        let ((hits, of), (base_hits, base_of)) = (self.trial, self.before);
        let share = |(hits, of): (u32, u32)| f64::from(hits) / f64::from(of.max(1));
        let (chance, jumps) = if base_of >= KNOWN_FROM {
            let jumps = share(self.trial) >= share(self.before) + SMALLEST_JUMP;
            (fisher_tail(hits, of, base_hits, base_of), jumps)
        } else {
            (binomial_tail(hits, of, MAJORITY), majority_counts)
        };
        (jumps && chance <= limit).then_some(Jump {
            what: self.what,
            trial: self.trial,
            before: self.before,
            chance,
        })
    }
}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((hits, of), (base_hits, base_of)) = (self.trial, self.before);
        write!(
            f,
            "{}: {hits} of {of} in the trial, {base_hits} of {base_of} before it",
            self.what
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(rng: &mut fastrand::Rng, none: f64, escalated: f64) -> Answer {
        let chance = rng.f64();
        if chance < none {
            Answer::Refused
        } else if chance < none + escalated {
            Answer::Escalated
        } else {
            Answer::Good
        }
    }

    /// Runs a trial; how many answers it took to find a jump.
    fn trial(
        rng: &mut fastrand::Rng,
        mut looks: Looks,
        base: (u32, f64, f64),
        own: (f64, f64),
    ) -> Option<u32> {
        let (of, none, escalated) = base;
        let mut before = Tally::default();
        (0..of).for_each(|_| before.add(draw(rng, none, escalated)));
        let mut seen = Tally::default();
        (1..=250).find(|_| {
            seen.add(draw(rng, own.0, own.1));
            looks.look(seen, before).is_some()
        })
    }

    #[test]
    fn a_package_that_is_no_worse_is_taken_back_no_more_often_than_promised() {
        // At a chance that a few thousand trials can measure; the limits scale with it.
        let (promised, trials) = (0.05, 400_u32);
        let mut rng = fastrand::Rng::with_seed(8);
        for base in [20, 300] {
            for (none, escalated) in [(0.0, 0.0), (0.02, 0.1), (0.3, 0.3), (0.05, 0.9)] {
                let run = |_: &u32| {
                    let looks = Looks::with(promised);
                    let base = (base, none, escalated);
                    trial(&mut rng, looks, base, (none, escalated)).is_some()
                };
                let alarms = (0..trials).filter(run).count();
                // Three deviations above what was promised is no luck.
                let most = promised * f64::from(trials);
                let most = most + 3.0 * (most * (1.0 - promised)).sqrt();
                assert!(
                    f64::from(u32::try_from(alarms).unwrap()) <= most,
                    "{alarms} of {trials}, base {base}, {none} {escalated}"
                );
            }
        }
    }

    #[test]
    fn looks_after_each_answer_would_break_the_promise() {
        // What the fixed looks are for: the same test, asked each time at the whole chance.
        let mut rng = fastrand::Rng::with_seed(8);
        let mut alarms = 0;
        for _ in 0..100 {
            let mut before = Tally::default();
            (0..1000).for_each(|_| before.add(draw(&mut rng, 0.3, 0.0)));
            let mut seen = Tally::default();
            alarms += u32::from((0..400).any(|_| {
                seen.add(draw(&mut rng, 0.3, 0.0));
                fisher_tail(seen.none, seen.all(), before.none, before.all()) <= 0.05
            }));
        }
        assert!(alarms > 15, "{alarms} of 100");
    }

    #[test]
    fn a_jump_is_found_within_few_answers() {
        let mut rng = fastrand::Rng::with_seed(9);
        for (base, own, within) in [
            ((200, 0.0, 0.0), (1.0, 0.0), 4),
            ((200, 0.01, 0.1), (0.0, 1.0), 18),
            ((1000, 0.02, 0.1), (0.4, 0.1), 97),
            ((1000, 0.02, 0.1), (0.02, 0.5), 97),
            ((0, 0.0, 0.0), (1.0, 0.0), 33),
        ] {
            for _ in 0..50 {
                let found = trial(&mut rng, Looks::default(), base, own);
                assert!(
                    found.is_some_and(|it| it <= within),
                    "{base:?} {own:?} {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_step_that_is_sure_and_small_is_no_jump() {
        let before = Tally {
            good: 4000,
            ..Tally::default()
        };
        let seen = Tally {
            good: 3940,
            none: 60,
            escalated: 0,
        };
        assert!(fisher_tail(60, 4000, 0, 4000) < 1e-9);
        assert_eq!(Looks::default().look(seen, before), None);
    }

    #[test]
    fn what_was_long_ago_weighs_less() {
        let mut tally = Tally::default();
        (0..REMEMBERED).for_each(|_| tally.remember(Answer::Failed));
        (0..REMEMBERED).for_each(|_| tally.remember(Answer::Good));
        assert!(tally.all() < REMEMBERED);
        assert!(tally.good > 2 * tally.none, "{tally:?}");
    }
}
