//! Reviewers' verdicts bend a curve: a little, each time on record, and not for good.
//!
//! ```text
//!                  verdict (fewer than LEAST, or than EACH since)
//!                   ┌────┐
//!                   ▼    │         verdict: enough, and the curve moves
//!  Learnt::new ─► gathering ─────────────────────────────────────────► Change::Refit ─┐
//!                   ▲  ▲                                                              │
//!                   │  └──────────────────────────────────────────────────────────────┘
//!                   ├── undo: the curve before the last change;  verdicts so far are dropped
//!                   └── replaced: another package's curve;       verdicts so far are dropped
//!
//!  each verdict ─► Watch ─► alarm, until acknowledged
//! ```
//!
//! Purpose: one [`Learnt`] is what a device has learnt about one task of one variant. Its caller
//! stores it ([`Learnt::bytes`]) and asks it for the curve; it knows no clock and no disk.
//!
//! Invariants:
//!
//! - A curve never falls, and never lies further than [`MOST_STEP`] from the one before, nor than
//!   [`MOST_SHIFT`] from the package's own. So neither a bad day nor a bad reviewer undoes what
//!   the package knows.
//! - One reviewer's verdicts weigh no more than [`REVIEWER_WEIGHT`] labels, however many.
//! - Each change is on record with what was before and after it, when and why; of those the
//!   last [`HISTORY`] are kept, and the last can be undone.
//! - It holds no text of any request: a verdict here is two numbers, a truth value and a mark of
//!   who gave it.
//!
//! How it is reckoned: each point of the package's curve counts as [`PRIOR`] labels, beside them
//! the verdicts, and [`isotonic`](super::isotonic) makes the closest curve of both. It is reckoned anew from the
//! package's own each time, so no verdict is counted twice.
//!
//! How it fails: verdicts that no curve can be made of leave the curve as it is. Stored bytes of
//! an unknown version, or that are none, are a [`FormError`]; the device then starts again from
//! the package's curve.
//!
//! What it cannot know: reviewers mostly see answers of little confidence. Where they see none,
//! the package's points stand alone.

mod form;
mod watch;

use std::collections::{BTreeMap, VecDeque};

pub use form::FormError;
pub use watch::Watch;

use super::isotonic::{Block, pooled};
use super::share_of;
use crate::clock::Wall;
use crate::package::{Calibration, Features};

/// Verdicts below which nothing moves.
pub const LEAST: usize = 50;
/// Further verdicts before it moves again.
pub const EACH: usize = 25;
/// Verdicts that are held; the oldest leaves for a new one.
pub const HELD: usize = 500;
/// What the verdicts of one reviewer weigh at most, in labels.
pub const REVIEWER_WEIGHT: f64 = 50.0;
/// Labels that each point of the package's curve counts as: a block of its fit, at least.
pub const PRIOR: f64 = 20.0;
/// How far one change moves any point at most.
pub const MOST_STEP: f64 = 0.05;
/// How far all changes together do.
pub const MOST_SHIFT: f64 = 0.15;
/// Changes on record.
pub const HISTORY: usize = 16;
/// A movement below this is none: it would only fill the record.
const STILL: f64 = 0.001;

/// What a person said of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The raw confidence, as the calibration sees it: [`Calibration::raw`].
    pub raw: f64,
    /// The confidence that the answer was told with.
    pub told: f64,
    /// Whether it was right.
    pub right: bool,
    /// Who says so: any number that is the same for the same person.
    pub reviewer: u64,
}

/// Why a curve is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// So many verdicts.
    Verdicts(usize),
    /// A person took the last change back.
    Undone,
    /// The package came with another curve.
    Package,
}

/// A change of the curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When.
    pub at: Wall,
    /// Why.
    pub why: Why,
    /// The curve before.
    pub before: Calibration,
    /// The curve after.
    pub after: Calibration,
}

/// What a device has learnt about one task of one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// As the package has it.
    base: Calibration,
    current: Calibration,
    verdicts: VecDeque<Verdict>,
    /// Verdicts since the last change.
    since: usize,
    history: VecDeque<Change>,
    watch: Watch,
}

/// What a verdict did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was noted.
    Noted,
    /// The curve has moved.
    Moved,
}

impl Learnt {
    /// Nothing yet, beside what the package says.
    pub fn new(base: Calibration) -> Self {
        Self {
            current: base.clone(),
            base,
            verdicts: VecDeque::new(),
            since: 0,
            history: VecDeque::new(),
            watch: Watch::default(),
        }
    }

    /// The curve to go by.
    pub fn curve(&self) -> &Calibration {
        &self.current
    }

    /// The probability that an answer is right.
    pub fn confidence(&self, features: &Features) -> f64 {
        self.current.confidence(features)
    }

    /// The changes on record, the oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Change> {
        self.history.iter()
    }

    /// Verdicts that are held.
    pub fn held(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether more answers are wrong than confidence says.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// A person has seen the alarm.
    pub fn acknowledge(&mut self) {
        self.watch = Watch::default();
    }

    /// Takes a verdict. One whose numbers are none says nothing.
    pub fn verdict(&mut self, verdict: Verdict, at: Wall) -> Effect {
        if !verdict.raw.is_finite() || !verdict.told.is_finite() {
            return Effect::Noted;
        }
        self.watch.see(verdict.told, verdict.right);
        if self.verdicts.len() >= HELD {
            self.verdicts.pop_front();
        }
        self.verdicts.push_back(verdict);
        self.since += 1;
        if self.verdicts.len() < LEAST || self.since < EACH {
            return Effect::Noted;
        }
        let Some(next) = self.refitted() else {
            return Effect::Noted;
        };
        self.since = 0;
        if apart(&self.current, &next) < STILL {
            return Effect::Noted;
        }
        self.change_to(next, Why::Verdicts(self.verdicts.len()), at);
        Effect::Moved
    }

    /// Takes the last change back, if there is one on record; the verdicts that led to it are
    /// dropped, or they would lead to it again.
    pub fn undo(&mut self, at: Wall) -> bool {
        // What came before another package's curve is no curve for this one.
        let last = self.history.back();
        let Some(last) = last.filter(|last| last.why != Why::Package) else {
            return false;
        };
        let before = last.before.clone();
        self.forget();
        self.change_to(before, Why::Undone, at);
        true
    }

    /// The package came with another curve: what was learnt of the one before does not apply.
    pub fn replaced(&mut self, base: Calibration, at: Wall) {
        if base != self.base {
            self.begin_anew(base, at);
        }
    }

    /// Another package came, even if its curve looks the same. Whether anything was learnt that
    /// does not apply any more.
    pub fn begin_anew(&mut self, base: Calibration, at: Wall) -> bool {
        let any = self.current != self.base || !self.verdicts.is_empty();
        self.forget();
        self.base = base.clone();
        // Even where nothing moves: what is on record before must not be undone.
        if self.current != base || !self.history.is_empty() {
            self.change_to(base, Why::Package, at);
        }
        any
    }

    fn forget(&mut self) {
        self.verdicts.clear();
        self.since = 0;
        self.watch = Watch::default();
    }

    fn change_to(&mut self, next: Calibration, why: Why, at: Wall) {
        let before = std::mem::replace(&mut self.current, next);
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Change {
            at,
            why,
            before,
            after: self.current.clone(),
        });
    }

    /// The closest curve to package and verdicts, within its bounds.
    fn refitted(&self) -> Option<Calibration> {
        let points = self.base.points();
        let prior = points.iter().map(|(x, y)| Block {
            weight: PRIOR,
            at: *x,
            right: *y,
        });
        let labels = prior.chain(self.weighed()).collect();
        let blocks = pooled(labels);
        let said = |x: f64| level(&blocks, x);
        let mut floor = 0.0;
        let bounded = points.iter().map(|(x, y)| {
            // A line that rises, held between bounds that rise, rises but for a rounding.
            let now = self.current.probability(*x);
            let step = said(*x).clamp(now - MOST_STEP, now + MOST_STEP);
            let shift = step.clamp(y - MOST_SHIFT, y + MOST_SHIFT);
            floor = shift.clamp(floor, 1.0);
            (*x, floor)
        });
        let curve = Calibration::new(bounded.collect()).ok()?;
        Some(curve.over(self.base.blend().copied()))
    }

    /// The verdicts as labels, none of a reviewer who says more than others at full weight.
    fn weighed(&self) -> impl Iterator<Item = Block> {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for verdict in &self.verdicts {
            *counts.entry(verdict.reviewer).or_default() += 1;
        }
        self.verdicts.iter().map(move |verdict| {
            let count = counts.get(&verdict.reviewer).copied().unwrap_or(1);
            Block {
                weight: (REVIEWER_WEIGHT / share_of(count)).min(1.0),
                at: verdict.raw.clamp(0.0, 1.0),
                right: f64::from(u8::from(verdict.right)),
            }
        })
    }
}

/// What rising blocks say at a place: straight between their middles.
fn level(blocks: &[Block], x: f64) -> f64 {
    let behind = blocks.partition_point(|block| block.at <= x);
    match (behind.checked_sub(1), blocks.get(behind)) {
        (None, Some(first)) => first.right,
        (Some(last), None) => blocks[last].right,
        (Some(before), Some(after)) => {
            let before = blocks[before];
            let way = (x - before.at) / (after.at - before.at);
            before.right + way * (after.right - before.right)
        }
        (None, None) => 0.0, // a curve has points, so there are blocks
    }
}

/// The greatest distance of two curves.
pub fn apart(one: &Calibration, other: &Calibration) -> f64 {
    let places = one.points().iter().chain(other.points());
    let off = places.map(|(x, _)| (one.probability(*x) - other.probability(*x)).abs());
    off.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests;
