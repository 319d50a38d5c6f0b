//! What a request may be, and how many may come: the rules about `[intake]`.

use std::time::Duration;

use crate::intake::{Classification, DeadlineLimits, GateLimits, Limits, Topics};

use super::check::Checker;
use super::file::{self, File};
use super::{keys, topic_rules};

/// Bytes of a packet besides the payload: topic, response topic, correlation data, user
/// properties and their headers.
const ENVELOPE_BYTES: u32 = 2048;

/// Bytes of a payload besides the prompt: the other fields.
const FIELDS_BYTES: u32 = 1024;

/// What a single request may be.
pub(super) fn limits(checker: &mut Checker<'_>, file: &File, topics: &Topics) -> Option<Limits> {
    let (intake, packet) = (&file.intake, file.broker.max_packet_bytes);
    let needed = intake.max_prompt_bytes + ENVELOPE_BYTES + FIELDS_BYTES;
    checker.rule(
        packet >= needed,
        ["intake.max_prompt_bytes", "broker.max_packet_bytes"],
        format!(
            "at most broker.max_packet_bytes ({packet}) less {} for the rest of a request",
            ENVELOPE_BYTES + FIELDS_BYTES
        ),
    );
    checker.rule(
        intake.default_deadline_ms <= intake.max_deadline_ms,
        ["intake.default_deadline_ms", "intake.max_deadline_ms"],
        format!(
            "at most intake.max_deadline_ms ({})",
            intake.max_deadline_ms
        ),
    );
    let reply_topics = reply_topics(checker, intake.reply_topics.as_deref(), topics);
    let classification_by_topic = exceptions(checker, &intake.classification, topics);
    Some(Limits {
        max_payload_bytes: (packet - ENVELOPE_BYTES) as usize,
        max_prompt_bytes: intake.max_prompt_bytes as usize,
        deadlines: DeadlineLimits {
            default: Duration::from_millis(intake.default_deadline_ms),
            max: Duration::from_millis(intake.max_deadline_ms),
        },
        default_classification: classification(&file.appliance.default_classification),
        classification_by_topic: classification_by_topic?,
        reply_topics: reply_topics?,
    })
}

fn reply_topics(
    checker: &mut Checker<'_>,
    given: Option<&[String]>,
    topics: &Topics,
) -> Option<Vec<String>> {
    let key = "intake.reply_topics";
    let Some(given) = given else {
        let filters = vec![format!("{}/#", topics.prefix), "devices/+/answers".into()];
        checker
            .layers
            .derive(key, filters.clone(), "from broker.prefix");
        return Some(filters);
    };
    let mut good = true;
    for filter in given {
        if let Some(wanted) = topic_rules::reply_filter_fault(filter, topics) {
            let mut fault = checker.layers.fault(key, wanted);
            fault.value = keys::short(&toml::Value::String(filter.clone()));
            checker.faults.add(fault);
            good = false;
        }
    }
    good.then(|| given.to_vec())
}

fn exceptions(
    checker: &mut Checker<'_>,
    given: &[file::Exception],
    topics: &Topics,
) -> Option<Vec<(String, Classification)>> {
    let mut good = true;
    for entry in given {
        if let Some(wanted) = topic_rules::classification_filter_fault(&entry.topic, topics) {
            let mut fault = checker.layers.fault("intake.classification", wanted);
            fault.key.push_str(".topic");
            fault.value = keys::short(&toml::Value::String(entry.topic.clone()));
            checker.faults.add(fault);
            good = false;
        }
    }
    let meant =
        |entry: &file::Exception| (entry.topic.clone(), classification(&entry.classification));
    good.then(|| given.iter().map(meant).collect())
}

/// How many requests, and how fast.
pub(super) fn gate(checker: &mut Checker<'_>, intake: &file::Intake) -> GateLimits {
    checker.rule(
        intake.max_in_flight_per_client <= intake.max_in_flight,
        ["intake.max_in_flight_per_client", "intake.max_in_flight"],
        format!("at most intake.max_in_flight ({})", intake.max_in_flight),
    );
    GateLimits {
        total: intake.max_in_flight,
        per_client: intake.max_in_flight_per_client,
        rate_per_s: intake.requests_per_client_per_s.into(),
        burst: intake.requests_per_client_burst.into(),
    }
}

/// A classification's word; the table of keys let no other through, and the strictest would be
/// the only safe reading of one.
fn classification(word: &str) -> Classification {
    [Classification::Public, Classification::Internal]
        .into_iter()
        .find(|known| known.word() == word)
        .unwrap_or(Classification::Restricted)
}
