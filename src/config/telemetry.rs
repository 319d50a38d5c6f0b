//! Figures over MQTT: the rules about `[telemetry]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checker;
use super::file::{Key, Kind};
use crate::intake::is_topic_name;

/// Bytes of a name that becomes part of topics: most of a topic belongs to what follows it.
const MAX_NAME_BYTES: usize = 64;

/// The keys of `telemetry.sparkplug`.
pub(super) const SPARKPLUG: &[Key] = &[
    Key {
        name: "group",
        kind: Kind::Text,
    },
    Key {
        name: "primary_host",
        kind: Kind::Text,
    },
];

/// Figures over MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Between two samples.
    pub every: Duration,
    /// Between two messages of a backlog.
    pub pause: Duration,
    /// Samples of a batch; none: no batches.
    pub samples: Option<usize>,
    /// Also as a node of Sparkplug B.
    pub sparkplug: Option<Sparkplug>,
    /// Where Home Assistant looks for what announces itself, if it is to be told.
    pub home_assistant: Option<String>,
}

/// A node of Sparkplug B; its name is the appliance's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparkplug {
    /// The group that it belongs to.
    pub group: String,
    /// The host without which it says nothing.
    pub primary_host: Option<String>,
}

/// The section as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) mqtt: bool,
    pub(super) every_s: u64,
    pub(super) batch_s: u64,
    pub(super) batches_per_s: u64,
    pub(super) sparkplug: Option<SparkplugTable>,
    pub(super) home_assistant: Option<String>,
}

/// A node as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SparkplugTable {
    pub(super) group: Option<String>,
    pub(super) primary_host: Option<String>,
}

/// What becomes of it; none after a fault.
pub(super) fn check(checker: &mut Checker<'_>, section: &Section) -> Option<Telemetry> {
    let sparkplug = section.sparkplug.as_ref();
    let sparkplug = sparkplug.map(|table| node(checker, table));
    let prefix = section.home_assistant.as_ref();
    let is_prefix = prefix.is_none_or(|it| it.len() <= MAX_NAME_BYTES && is_topic_name(it));
    if !is_prefix {
        let wanted = format!(
            "the beginning of topics, such as \"homeassistant\": at most {MAX_NAME_BYTES} bytes, \
             no '+', no '#'"
        );
        checker.fault("telemetry.home_assistant", wanted);
    }
    checker.rule(
        section.every_s <= section.batch_s,
        ["telemetry.every_s", "telemetry.batch_s"],
        format!("at most telemetry.batch_s ({})", section.batch_s),
    );
    let is_faulty = section.every_s > section.batch_s || !is_prefix;
    if is_faulty || sparkplug.as_ref().is_some_and(Option::is_none) {
        return None;
    }
    let samples = section.batch_s / section.every_s;
    Some(Telemetry {
        every: Duration::from_secs(section.every_s),
        pause: Duration::from_secs(1) / u32::try_from(section.batches_per_s).unwrap_or(u32::MAX),
        samples: (section.mqtt).then(|| usize::try_from(samples).unwrap_or(usize::MAX)),
        sparkplug: sparkplug.flatten(),
        home_assistant: prefix.cloned(),
    })
}

fn node(checker: &mut Checker<'_>, table: &SparkplugTable) -> Option<Sparkplug> {
    let wanted = format!(
        "a group, and a primary_host where there is one: each a single level of topics, at most \
         {MAX_NAME_BYTES} bytes, without '/', '+' or '#'"
    );
    let is_level =
        |it: &String| it.len() <= MAX_NAME_BYTES && !it.contains('/') && is_topic_name(it);
    let group = table.group.clone().filter(is_level);
    let is_host = table.primary_host.as_ref().is_none_or(is_level);
    if let (Some(group), true) = (group, is_host) {
        Some(Sparkplug {
            group,
            primary_host: table.primary_host.clone(),
        })
    } else {
        checker.fault("telemetry.sparkplug", wanted);
        None
    }
}
