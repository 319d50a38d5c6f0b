//! What a device has learnt of its reviewers about the answers of its model.
//!
//! ```text
//!  engine: calibrated confidence ─► sure: bent by verdicts ─► threshold
//!                                    ▲
//!  verdict ─► on_verdict ─► Learnt of its task ─► News: moved, alarm ─► log, telemetry
//!                                    │
//!                                    └─► bytes ─► keep: a file, replaced as a whole
//! ```
//!
//! Purpose: for each task of the variant that is served, one [`Learnt`] bends the confidence that
//! the package's own curve gives: what is told as 0.9 may turn out to be 0.86 on this line. How
//! far verdicts may bend it, how many it takes, and what is on record, stands in
//! [`refit`](super::refit).
//!
//! Invariants:
//!
//! - What was learnt belongs to one model, one wording and one curve: a [`Mark`] of these stands
//!   beside it. With another package it starts anew, and that is on record.
//! - A verdict on an answer of another package teaches nothing.
//! - No text of a request or an answer is in here, nor a reviewer's name; only a mark of it.
//!
//! How it fails: bytes that are damaged, or of a version unknown here, are none, and say why; the
//! device then goes by the package's own curves, as at first.

mod form;
pub mod keep;

use std::collections::BTreeMap;

pub use form::FormError;

use super::refit::{Change, Effect, Learnt, Verdict};
use crate::clock::Wall;
use crate::engine::Model;
use crate::package::{Calibration, Digest, Features, Manifest, Task, Variant};

/// Where the bend of a confidence is held: finer near certainty, where most answers are. Each
/// place counts as some labels that say the package is right.
const PLACES: [f64; 13] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0,
];

/// What all that was learnt about a task hangs on.
pub(super) type Mark = Digest;

/// An answer that a person has judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The task that was asked for.
    pub task: &'a str,
    /// Who answered.
    pub model: &'a Model,
    /// How sure it was.
    pub features: &'a Features,
    /// Whether it was right.
    pub right: bool,
    /// Who says so: any name that is the same for the same person.
    pub reviewer: &'a str,
}

/// What a verdict led to.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Confidence is bent otherwise from now on.
    Moved(Change),
    /// More answers are wrong than confidence says, beyond chance. Told once.
    Alarm {
        /// Verdicts since the start, or since the alarm before was acknowledged.
        seen: u64,
        /// Wrong answers among them.
        wrong: u64,
        /// How many there should have been.
        expected: f64,
    },
}

/// What was learnt about all tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learning {
    package: String,
    seq: u64,
    model: String,
    tasks: BTreeMap<String, Bend>,
}

#[derive(Clone, Debug, PartialEq)]
struct Bend {
    mark: Mark,
    /// The package's own curve; without one, confidence is raw.
    curve: Option<Calibration>,
    learnt: Learnt,
}

impl Learning {
    /// Nothing yet, of a variant of a package.
    pub fn of(manifest: &Manifest, variant: &Variant) -> Self {
        let tasks = manifest.tasks.iter().map(|task| {
            let curve = manifest.calibration(&task.name, &variant.quantization);
            let bend = Bend {
                mark: mark(manifest, variant, task, curve),
                curve: curve.cloned(),
                learnt: Learnt::new(straight()),
            };
            (task.name.clone(), bend)
        });
        Self {
            package: manifest.name.clone(),
            seq: manifest.seq,
            model: format!("sha256:{}", variant.file.sha256),
            tasks: tasks.collect(),
        }
    }

    /// Takes up what was learnt before, as far as it is about the same thing. Of the rest the
    /// record is kept, and says that another package came. Returns for how many tasks that is so.
    pub fn resume(&mut self, bytes: &[u8], now: Wall) -> Result<usize, FormError> {
        let mut kept = form::read(bytes)?;
        let mut anew = 0;
        for (task, bend) in &mut self.tasks {
            let Some((mark, mut learnt)) = kept.remove(task) else {
                continue;
            };
            if mark == bend.mark {
                learnt.replaced(straight(), now); // a later version may hold it at other places
            } else {
                anew += usize::from(learnt.begin_anew(straight(), now));
            }
            bend.learnt = learnt;
        }
        Ok(anew)
    }

    /// What a calibrated confidence is worth on this line. No task is a free prompt, or one with
    /// a schema of its own: nothing is learnt about these.
    pub fn sure(&self, task: Option<&str>, calibrated: f32) -> f32 {
        let bend = task.and_then(|task| self.tasks.get(task));
        bend.map_or(calibrated, |bend| narrow(bend.sure(f64::from(calibrated))))
    }

    /// A person has judged an answer.
    pub fn on_verdict(&mut self, judged: &Judged<'_>, now: Wall) -> Vec<News> {
        let same = judged.model.package == self.package
            && judged.model.seq == self.seq
            && judged.model.digest == self.model;
        let Some(bend) = self.tasks.get_mut(judged.task).filter(|_| same) else {
            return Vec::new();
        };
        let curve = bend.curve.as_ref();
        let raw = curve.map_or_else(
            || judged.features.product(),
            |curve| curve.confidence(judged.features),
        );
        let verdict = Verdict {
            raw,
            told: bend.sure(raw),
            right: judged.right,
            reviewer: reviewer(judged.reviewer),
        };
        let learnt = &mut bend.learnt;
        let was_quiet = learnt.watch().alarm().is_none();
        let effect = learnt.verdict(verdict, now);
        let mut news = Vec::new();
        if effect == Effect::Moved {
            news.extend(learnt.history().last().cloned().map(News::Moved));
        }
        if was_quiet && learnt.watch().alarm().is_some() {
            let (wrong, expected) = learnt.watch().wrong();
            news.push(News::Alarm {
                seen: learnt.watch().seen(),
                wrong,
                expected,
            });
        }
        news
    }

    /// Takes the last change of a task back; the change that does so, if there was one to undo.
    pub fn undo(&mut self, task: &str, now: Wall) -> Option<&Change> {
        let learnt = &mut self.tasks.get_mut(task)?.learnt;
        if !learnt.undo(now) {
            return None;
        }
        learnt.history().last()
    }

    /// A person has seen the alarm of a task; whether there was one.
    pub fn acknowledge(&mut self, task: &str) -> bool {
        let bend = self.tasks.get_mut(task);
        let Some(bend) = bend.filter(|bend| bend.learnt.watch().alarm().is_some()) else {
            return false;
        };
        bend.learnt.acknowledge();
        true
    }

    /// What was learnt, task by task.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = (&str, &Learnt)> {
        let tasks = self.tasks.iter();
        tasks.map(|(task, bend)| (task.as_str(), &bend.learnt))
    }

    /// As bytes for whoever stores it.
    pub fn bytes(&self) -> Vec<u8> {
        let tasks = self.tasks.iter();
        form::bytes(tasks.map(|(task, bend)| (task.as_str(), &bend.mark, &bend.learnt)))
    }
}

impl Bend {
    fn sure(&self, calibrated: f64) -> f64 {
        match self.learnt.curve() {
            curve if *curve == straight() => calibrated, // without the rounding of the way there
            curve => curve.probability(calibrated),
        }
    }
}

/// The bend that bends nothing.
fn straight() -> Calibration {
    let points = PLACES.map(|at| (at, at)).to_vec();
    Calibration::new(points).expect("the places rise from 0 to 1")
}

/// Of everything that a verdict on an answer is about.
fn mark(manifest: &Manifest, variant: &Variant, task: &Task, curve: Option<&Calibration>) -> Mark {
    let mut about = variant.file.sha256.0.to_vec();
    if let Some(adapter) = &manifest.adapter {
        about.extend(adapter.file.sha256.0);
        about.extend(adapter.scale.to_le_bytes());
    }
    for text in [&task.name, &task.prompt_version, &task.system] {
        about.extend(text.as_bytes());
        about.push(0); // no text has one, so that two of them never read like another two
    }
    if let Some(curve) = curve {
        let weights = curve.blend().map(|blend| blend.weights().to_vec());
        let points = curve.points().iter().flat_map(|(x, y)| [*x, *y]);
        let numbers = weights.into_iter().flatten().chain(points);
        about.extend(numbers.flat_map(f64::to_le_bytes));
    }
    Digest::of(&about)
}

/// A number that is the same for the same name and does not give it away at a glance.
fn reviewer(name: &str) -> u64 {
    let digest = Digest::of(name.as_bytes()).0;
    digest[..8]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "people take no more of a share"
)]
fn narrow(share: f64) -> f32 {
    share as f32
}

#[cfg(test)]
mod tests;
