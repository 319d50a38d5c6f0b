//! What a course hears and says.

use std::fmt;

use super::super::store::PackageId;
use super::super::verdict::Findings;
use super::Report;
use super::memory::{MAX_REASON_BYTES, Named};
use super::trial::Jump;

/// The word for a package that does not load.
pub(super) const UNLOADABLE: &str = "unloadable";

/// The number of a load or a gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct No(pub u64);

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Run the gate of this package, beside what serves or in a pause. Answer with
    /// [`on_gate`](super::Course::on_gate).
    Gate {
        /// Its number.
        no: No,
        /// Which package.
        package: Named,
        /// What the serving package's own gate found here, if it had one.
        serving: Option<Findings>,
    },
    /// End that gate; nobody waits for its verdict any more.
    StopGate(No),
    /// Load this and let it serve; none is the configuration's package. It takes the place of any
    /// load before it. Answer with [`on_switched`](super::Course::on_switched) or [`on_switch_failed`](super::Course::on_switch_failed).
    Serve {
        /// Its number, which whatever happens under this load bears.
        no: No,
        /// What.
        package: Option<Named>,
        /// It is a trial's load, which was counted.
        is_trial: bool,
    },
    /// `current` is this one, and all but those held may go from the disk.
    Settle {
        /// What is committed.
        current: Option<PackageId>,
        /// What stays.
        held: Vec<PackageId>,
    },
    /// Tell people and programs. Nobody waits for it.
    Tell(Report),
}

/// How a gate ended.
#[derive(Clone, Debug, PartialEq)]
pub enum GateEnd {
    /// Every bar was reached.
    Passed(Findings),
    /// Some were not: each in words.
    Failed(Vec<String>),
    /// The engine would not load it, or ended. It does not fit this device.
    Broken(String),
    /// Something else needed the board. It is not counted.
    Interrupted,
}

/// What the ring says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// Packages go their way.
    Open,
    /// Nothing new begins.
    Halted,
}

/// Why a package does not go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Bars that it missed.
    Gate(Vec<String>),
    /// The gate's engine.
    GateBroken(String),
    /// Each of its gates ended with the process.
    Gates,
    /// Each of its trials ended with the process.
    Attempts,
    /// It does not load. What is committed is only set aside for it.
    Unloadable(String),
    /// Its engine ended.
    Crash(String),
    /// The board got too hot.
    Hot,
    /// Something happens more often than before.
    Jump(Jump),
    /// The watch after the commit.
    Alarm(String),
    /// A person.
    ByHand(String),
    /// The ring was halted. Withdrawn.
    Halted,
    /// A person chose another. Withdrawn.
    Pinned,
}

/// Why an order is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration's package serves, and nothing is on its way.
    #[error("the package of the configuration serves: there is nothing to take back")]
    Nothing,
    /// It failed here.
    #[error("package {package} was taken back here and is not tried again: {reason}")]
    TakenBack {
        /// Which.
        package: PackageId,
        /// Why it was.
        reason: String,
    },
}

impl Reason {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gate(_) => "gate",
            Self::GateBroken(_) => "gate_broken",
            Self::Gates => "gate_attempts",
            Self::Attempts => "attempts",
            Self::Unloadable(_) => UNLOADABLE,
            Self::Crash(_) => "crash",
            Self::Hot => "hot",
            Self::Jump(_) => "jump",
            Self::Alarm(_) => "alarm",
            Self::ByHand(_) => "by_hand",
            Self::Halted => "halted",
            Self::Pinned => "pinned",
        }
    }

    /// Whether the package is not tried again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Halted | Self::Pinned)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Gate(missed) => missed.join("; "),
            Self::GateBroken(why) => format!("its engine did not get through the gate: {why}"),
            Self::Gates => "the appliance was restarted in each of its gates".into(),
            Self::Attempts => "the appliance was restarted in each of its trials".into(),
            Self::Unloadable(why) => format!("it does not load: {why}"),
            Self::Crash(why) => format!("its engine ended: {why}"),
            Self::Hot => "the board got too hot".into(),
            Self::Jump(jump) => jump.to_string(),
            Self::Alarm(why) => why.clone(),
            Self::ByHand(why) => format!("by hand: {why}"),
            Self::Halted => "the ring was halted".into(),
            Self::Pinned => "another package was chosen by hand".into(),
        };
        let end = words.floor_char_boundary(MAX_REASON_BYTES);
        f.write_str(&words[..end])
    }
}
