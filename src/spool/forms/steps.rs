//! Steps of a request's life: what lies in the trail.

use serde::{Deserialize, Serialize};

use super::{WireAddress, decode, encode};
use crate::clock::Wall;
use crate::spool::record::Damage;
use crate::ticket::{Requeue, Step, What, Why};

/// The sealed record of a step of the trail. `Accepted` and `Settled` have none: they stand in
/// [`Waiting`] and [`Filed`].
pub fn seal_step(step: &Step) -> Option<Vec<u8>> {
    let what = match &step.what {
        What::Accepted | What::Settled(_) => return None,
        What::AlsoTo(address) => WireWhat::AlsoTo(WireAddress::of(address)),
        What::Started => WireWhat::Started,
        What::Requeued(Requeue::Busy) => WireWhat::RequeuedBusy,
        What::Requeued(Requeue::Crashed) => WireWhat::RequeuedCrashed,
        What::Delivered => WireWhat::Delivered,
        What::Undeliverable => WireWhat::Undeliverable,
        What::Passed(why) => WireWhat::Passed(WireWhy::of(why)),
        What::Asked => WireWhat::Asked,
        What::Returned(word) => WireWhat::Returned(word.clone()),
        What::StoodIn => WireWhat::StoodIn,
        What::ToPerson(why) => WireWhat::ToPerson(WireWhy::of(why)),
        What::Provisional => WireWhat::Provisional,
        What::LateAnswer => WireWhat::LateAnswer,
    };
    Some(encode(&WireStep {
        at_ms: step.at.0,
        what,
    }))
}

/// A step of the trail, from the body of a sealed record.
pub fn read_step(body: &[u8]) -> Result<Step, Damage> {
    let wire: WireStep = decode(body)?;
    Ok(Step {
        at: Wall(wire.at_ms),
        what: match wire.what {
            WireWhat::AlsoTo(address) => What::AlsoTo(address.into()),
            WireWhat::Started => What::Started,
            WireWhat::RequeuedBusy => What::Requeued(Requeue::Busy),
            WireWhat::RequeuedCrashed => What::Requeued(Requeue::Crashed),
            WireWhat::Delivered => What::Delivered,
            WireWhat::Undeliverable => What::Undeliverable,
            WireWhat::Passed(why) => What::Passed(why.into()),
            WireWhat::Asked => What::Asked,
            WireWhat::Returned(word) => What::Returned(word),
            WireWhat::StoodIn => What::StoodIn,
            WireWhat::ToPerson(why) => What::ToPerson(why.into()),
            WireWhat::Provisional => What::Provisional,
            WireWhat::LateAnswer => What::LateAnswer,
        },
    })
}

#[derive(Serialize, Deserialize)]
struct WireStep {
    at_ms: u64,
    what: WireWhat,
}

#[derive(Serialize, Deserialize)]
enum WireWhat {
    AlsoTo(WireAddress),
    Started,
    RequeuedBusy,
    RequeuedCrashed,
    Delivered,
    Undeliverable,
    /// From here on behind the others: records of before them read as they did.
    Passed(WireWhy),
    Asked,
    Returned(String),
    StoodIn,
    ToPerson(WireWhy),
    Provisional,
    LateAnswer,
}

#[derive(Serialize, Deserialize)]
pub(super) enum WireWhy {
    Rule(String),
    Doubt { confidence: f32, threshold: f32 },
    EdgeShut,
    Verification,
    Failed(String),
}

impl WireWhy {
    pub(super) fn of(why: &Why) -> Self {
        match why.clone() {
            Why::Rule(rule) => Self::Rule(rule),
            Why::Doubt {
                confidence,
                threshold,
            } => Self::Doubt {
                confidence,
                threshold,
            },
            Why::EdgeShut => Self::EdgeShut,
            Why::Verification => Self::Verification,
            Why::Failed(word) => Self::Failed(word),
        }
    }
}

impl From<WireWhy> for Why {
    fn from(wire: WireWhy) -> Self {
        match wire {
            WireWhy::Rule(rule) => Self::Rule(rule),
            WireWhy::Doubt {
                confidence,
                threshold,
            } => Self::Doubt {
                confidence,
                threshold,
            },
            WireWhy::EdgeShut => Self::EdgeShut,
            WireWhy::Verification => Self::Verification,
            WireWhy::Failed(word) => Self::Failed(word),
        }
    }
}
