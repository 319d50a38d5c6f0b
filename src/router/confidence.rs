//! How far to believe an answer, and how that is found out.
//!
//! ```text
//!  free choices ─► Features ─► product or Blend ─► curve ─► confidence ─► threshold ─► stays, or
//!    (engine)      (package)   └── Calibration (package) ──┘              (risk)       escalates
//!                                        ▲
//!  gate suite, right or wrong ──► fit ───┤
//!  reviewers' verdicts ──► refit: bends what the curve gives ──► alarm
//! ```
//!
//! Purpose: a confidence of 0.9 is to mean that nine of ten such answers are right. What an
//! answer goes through in service is [`Calibration`], which the package brings along for each
//! variant and task, and which the engine's side applies; here stands what finds it ([`fit`]),
//! tells how good it is ([`figures`]), turns a share of errors that a site can bear into a
//! threshold ([`risk`], [`thresholds`]), and lets reviewers' verdicts bend it ([`refit`],
//! [`learning`]).
//!
//! Invariants: all of it is pure but for one file ([`learning::keep`]); the same labels give the same curve; a curve never falls; no
//! figure is taken of the labels that it was fitted on, where it is told as evidence.
//!
//! How it fails: with too few labels there is no curve and no threshold, and the reason says how
//! many there are and how many it takes.
//!
//! [`Calibration`]: crate::package::Calibration

pub mod blend;
pub mod figures;
pub mod fit;
pub mod isotonic;
pub mod learning;
mod logistic;
pub mod refit;
pub mod risk;
pub mod thresholds;

use crate::engine::Completion;
use crate::package::Features;

/// An answer, and whether it was right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How sure the model was.
    pub features: Features,
    /// Whether it was right.
    pub right: bool,
}

impl Sample {
    /// Of an answer that somebody judged.
    pub fn of(completion: &Completion, right: bool) -> Self {
        Self {
            features: features(completion),
            right,
        }
    }
}

/// What an answer shows of how sure the model was.
pub fn features(completion: &Completion) -> Features {
    let free = completion.free.iter();
    let free = free.map(|free| (free.logprob, free.entropy));
    let alternatives = completion.choices.iter().map(|choice| choice.logprob);
    Features::of(free, alternatives)
}

/// What was said of an answer, and whether it was right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// The confidence, from 0 to 1.
    pub sure: f64,
    /// Whether it was right.
    pub right: bool,
}

/// Too few labels for what was wanted of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} labels are too few: it takes {need}")]
pub struct TooFew {
    /// How many there are.
    pub have: usize,
    /// How many it takes.
    pub need: usize,
}

/// A count as a number to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "labels are counted in thousands"
)]
fn share_of(count: usize) -> f64 {
    count as f64
}
