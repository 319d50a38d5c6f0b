//! What has been learnt, as bytes for whoever stores it.
//!
//! A byte for the version, then postcard. The wire structs are private: postcard names no fields,
//! so their order is the format, and a change is a new [`VERSION`].

use serde::{Deserialize, Serialize};

use super::watch::Watch;
use super::{Change, HELD, HISTORY, Learnt, Verdict, Why};
use crate::clock::Wall;
use crate::package::features::TERMS;
use crate::package::{Blend, Calibration};

/// The version that is written, and the only one that was ever shipped.
const VERSION: u8 = 1;

/// Why stored bytes cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Written by a version unknown here, or nothing at all.
    #[error("what was learnt is of a version that is unknown here")]
    Version,
    /// Not what it should be.
    #[error("what was learnt does not decode")]
    Content,
}

#[derive(Serialize, Deserialize)]
struct WireCurve {
    weights: Option<[f64; TERMS]>,
    points: Vec<(f64, f64)>,
}

#[derive(Serialize, Deserialize)]
struct WireVerdict {
    raw: f64,
    told: f64,
    right: bool,
    reviewer: u64,
}

#[derive(Serialize, Deserialize)]
enum WireWhy {
    Verdicts(u64),
    Undone,
    Package,
}

#[derive(Serialize, Deserialize)]
struct WireChange {
    at_ms: u64,
    why: WireWhy,
    before: WireCurve,
    after: WireCurve,
}

#[derive(Serialize, Deserialize)]
struct WireWatch {
    coins: [f64; 3],
    seen: u64,
    wrong: u64,
    expected: f64,
    alarm: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct WireLearnt {
    base: WireCurve,
    current: WireCurve,
    verdicts: Vec<WireVerdict>,
    since: u64,
    history: Vec<WireChange>,
    watch: WireWatch,
}

impl Learnt {
    /// As bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let wire = WireLearnt {
            base: WireCurve::of(&self.base),
            current: WireCurve::of(&self.current),
            verdicts: self.verdicts.iter().map(WireVerdict::of).collect(),
            since: self.since as u64,
            history: self.history.iter().map(WireChange::of).collect(),
            watch: WireWatch::of(&self.watch),
        };
        postcard::to_extend(&wire, vec![VERSION]).expect("a Vec takes all")
    }

    /// From its bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, FormError> {
        let Some((&VERSION, body)) = bytes.split_first() else {
            return Err(FormError::Version);
        };
        let taken = postcard::take_from_bytes::<WireLearnt>(body);
        let (wire, rest) = taken.map_err(|_| FormError::Content)?;
        let bounded = wire.verdicts.len() <= HELD && wire.history.len() <= HISTORY;
        if !rest.is_empty() || !bounded {
            return Err(FormError::Content);
        }
        let history = wire.history.into_iter().map(WireChange::change);
        Ok(Self {
            base: wire.base.curve()?,
            current: wire.current.curve()?,
            verdicts: wire.verdicts.iter().map(WireVerdict::verdict).collect(),
            since: usize::try_from(wire.since).map_err(|_| FormError::Content)?,
            history: history.collect::<Result<_, _>>()?,
            watch: wire.watch.watch(),
        })
    }
}

impl WireCurve {
    fn of(curve: &Calibration) -> Self {
        Self {
            weights: curve.blend().map(|blend| *blend.weights()),
            points: curve.points().to_vec(),
        }
    }

    fn curve(self) -> Result<Calibration, FormError> {
        let curve = Calibration::new(self.points).map_err(|_| FormError::Content)?;
        let blend = self
            .weights
            .map(|it| Blend::new(it).ok_or(FormError::Content));
        Ok(curve.over(blend.transpose()?))
    }
}

impl WireVerdict {
    fn of(it: &Verdict) -> Self {
        Self {
            raw: it.raw,
            told: it.told,
            right: it.right,
            reviewer: it.reviewer,
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            raw: self.raw,
            told: self.told,
            right: self.right,
            reviewer: self.reviewer,
        }
    }
}

impl WireChange {
    fn of(it: &Change) -> Self {
        Self {
            at_ms: it.at.0,
            why: match it.why {
                Why::Verdicts(count) => WireWhy::Verdicts(count as u64),
                Why::Undone => WireWhy::Undone,
                Why::Package => WireWhy::Package,
            },
            before: WireCurve::of(&it.before),
            after: WireCurve::of(&it.after),
        }
    }

    fn change(self) -> Result<Change, FormError> {
        Ok(Change {
            at: Wall(self.at_ms),
            why: match self.why {
                WireWhy::Verdicts(count) => {
                    Why::Verdicts(usize::try_from(count).map_err(|_| FormError::Content)?)
                }
                WireWhy::Undone => Why::Undone,
                WireWhy::Package => Why::Package,
            },
            before: self.before.curve()?,
            after: self.after.curve()?,
        })
    }
}

impl WireWatch {
    fn of(it: &Watch) -> Self {
        Self {
            coins: it.coins,
            seen: it.seen,
            wrong: it.wrong,
            expected: it.expected,
            alarm: it.alarm,
        }
    }

    fn watch(&self) -> Watch {
        Watch {
            coins: self.coins,
            seen: self.seen,
            wrong: self.wrong,
            expected: self.expected,
            alarm: self.alarm,
        }
    }
}
