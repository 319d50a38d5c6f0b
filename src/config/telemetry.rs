//! Figures over MQTT: the rules about `[telemetry]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checker;

/// Figures over MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Between two samples.
    pub every: Duration,
    /// Samples of a batch.
    pub samples: usize,
    /// Between two batches of a backlog.
    pub pause: Duration,
}

/// The section as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) mqtt: bool,
    pub(super) every_s: u64,
    pub(super) batch_s: u64,
    pub(super) batches_per_s: u64,
}

/// What becomes of it; the inner `None` is no telemetry, the outer one a fault.
#[allow(clippy::option_option, reason = "as every part: none after a fault")]
pub(super) fn check(checker: &mut Checker<'_>, section: &Section) -> Option<Option<Telemetry>> {
    checker.rule(
        section.every_s <= section.batch_s,
        ["telemetry.every_s", "telemetry.batch_s"],
        format!("at most telemetry.batch_s ({})", section.batch_s),
    );
    if section.every_s > section.batch_s {
        return None;
    }
    let samples = section.batch_s / section.every_s;
    Some(section.mqtt.then(|| Telemetry {
        every: Duration::from_secs(section.every_s),
        samples: usize::try_from(samples).unwrap_or(usize::MAX),
        pause: Duration::from_secs(1) / u32::try_from(section.batches_per_s).unwrap_or(u32::MAX),
    }))
}
