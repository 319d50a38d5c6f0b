//! What holds for any message at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Every code; the match stops compiling when one is added, so that it is added here too.
fn codes() -> Vec<Code> {
    let after = |code: Code| match code {
        Code::Invalid => Some(Code::TooLarge),
        Code::TooLarge => Some(Code::IdConflict),
        Code::IdConflict => Some(Code::Retained),
        Code::Retained => Some(Code::ReplyTopic),
        Code::ReplyTopic => Some(Code::RateLimited),
        Code::RateLimited => Some(Code::Busy),
        Code::Busy => Some(Code::Spool),
        Code::Spool => Some(Code::EngineUnavailable),
        Code::EngineUnavailable => Some(Code::Deadline),
        Code::Deadline => Some(Code::Draining),
        Code::Draining => Some(Code::EngineFailed),
        Code::EngineFailed => Some(Code::OverContext),
        Code::OverContext => Some(Code::UnknownTask),
        Code::UnknownTask => Some(Code::Schema),
        Code::Schema => Some(Code::Policy),
        Code::Policy => Some(Code::CloudFailed),
        Code::CloudFailed => Some(Code::Expired),
        Code::Expired => Some(Code::Rejected),
        Code::Rejected => Some(Code::Hot),
        Code::Hot => Some(Code::Memory),
        Code::Memory => Some(Code::Maintenance),
        Code::Maintenance => None,
    };
    std::iter::successors(Some(Code::Invalid), |code| after(*code)).collect()
}

#[test]
fn no_two_codes_share_a_word() {
    let words: BTreeSet<_> = codes().into_iter().map(Code::word).collect();
    assert_eq!(words.len(), codes().len());
    let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(words.iter().all(plain), "{words:?}");
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![
        "(lineside|devices)(/(line-3|pool|reply|request|answers|x|\\PC|\\+|#|\\x01)){0,4}",
        "\\PC{0,20}",
        "lineside/a/reply/x{250,330}",
    ]
}

/// The values that a device may write, right and wrong ones.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-1i64..130).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        "[a-z.:~ /]{0,140}".prop_map(|text| format!("\"{text}\"")),
        topic().prop_map(|text| serde_json::Value::from(text).to_string()),
        prop::sample::select(vec![
            "null",
            "true",
            "{}",
            "[]",
            "\"public\"",
            "\"high\"",
            "{\"a\":[1]}",
            "\"\\ud800\"",
        ])
        .prop_map(str::to_owned),
    ]
}

/// Fields of a request, each at most once.
fn fields() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    let key = prop::sample::select(vec![
        "id",
        "task",
        "input",
        "prompt",
        "classification",
        "risk",
        "complexity",
        "priority",
        "deadline_ms",
        "max_tokens",
        "schema",
        "stream",
        "logprobs",
        "reply_to",
        "client",
        "other",
    ]);
    prop::collection::btree_map(key, value(), 0..5)
}

fn json(fields: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let fields = fields
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes()
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => "[\\[{}\\]\",:\\\\a1]{0,200}".prop_map(String::into_bytes),
        3 => fields().prop_map(|fields| json(&fields)),
        // With a good prompt, so that many are accepted.
        3 => fields().prop_map(|mut fields| {
            fields.retain(|key, _| !["task", "input", "other"].contains(key));
            fields.insert("prompt", "\"hi\"".into());
            json(&fields)
        }),
    ]
}

prop_compose! {
    fn any_message()(
        topic in prop_oneof![
            Just("lineside/line-3/request".to_owned()),
            "lineside/line-3/request/[a-z/]{0,70}",
            topic(),
        ],
        payload in payload(),
        response_topic in prop::option::of(topic()),
        correlation in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        expiry_s in any::<Option<u32>>(),
        content_type in prop::option::weighted(0.2, "application/json|\\PC{0,300}"),
        user_properties in prop::collection::vec(("\\PC{0,9}", "\\PC{0,99}"), 0..9),
        retained in prop::bool::weighted(0.1),
    ) -> Message {
        Message {
            topic, payload, response_topic, correlation, expiry_s, content_type, user_properties,
            retained, redelivered: false, ack: None,
        }
    }
}

fn assert_good(address: &ReturnAddress) {
    let ReturnAddress::Topic {
        topic, correlation, ..
    } = address
    else {
        return;
    };
    assert!(is_topic_name(topic), "{topic:?}");
    assert!(!site().is_reserved(topic), "{topic:?}");
    let allowed = &limits().reply_topics;
    assert!(
        allowed.iter().any(|filter| filter_matches(filter, topic)),
        "{topic:?}"
    );
    assert!(correlation.as_ref().map_or(0, Vec::len) <= MAX_CORRELATION_BYTES);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_arrives_is_a_request_within_every_limit_or_a_refusal(message in any_message()) {
        match read_message(&message) {
            Ok(request) => {
                let (id, text) = (request.id.as_str(), request.ask.text());
                assert!((1..=MAX_ID_BYTES).contains(&id.len()));
                assert!((1..=limits().max_prompt_bytes).contains(&text.len()));
                assert!(request.client.name().len() <= MAX_NAME_BYTES);
                assert!(request.ask.task().is_none_or(|task| task.len() <= MAX_NAME_BYTES));
                assert!(request.deadline <= limits().deadlines.max);
                assert!(request.risk.is_none_or(|risk| risk <= 100));
                assert!(request.complexity.is_none_or(|it| (0.0..=1.0).contains(&it)));
                assert!(request.max_tokens.is_none_or(|it| (1..=MAX_ANSWER_TOKENS).contains(&it)));
                assert!(request.schema.is_none_or(|schema| schema.starts_with('{')));
                assert!(!message.retained);
                assert_good(&request.reply);
            }
            Err(refusal) => {
                assert!(refusal.message.len() <= MAX_FAULT_BYTES + '…'.len_utf8());
                assert!(!refusal.message.is_empty());
                assert!(refusal.id.is_none_or(|id| (1..=MAX_ID_BYTES).contains(&id.len())));
                refusal.reply.iter().for_each(assert_good);
            }
        }
    }

    #[test]
    fn the_same_message_is_read_the_same_way_again(message in any_message()) {
        prop_assert_eq!(read_message(&message), read_message(&message));
    }
}
