//! Whatever a broker delivers, intake answers with a request within every limit or a refusal.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lineside::clock::Wall;
use lineside::intake::{
    self, Classification, DeadlineLimits, Limits, Message, Request, ReturnAddress, Topics,
};

/// The payload stands last and takes the rest, so that a seed ends in readable JSON.
#[derive(Arbitrary, Debug)]
struct Delivery<'a> {
    topic: Published<'a>,
    response_topic: Option<&'a str>,
    correlation: Option<&'a [u8]>,
    expiry_s: Option<u32>,
    content_type: Option<ContentType<'a>>,
    user_properties: Vec<(&'a str, &'a str)>,
    retained: bool,
    payload: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Published<'a> {
    Shared,
    OfClient(&'a str),
    OfPool,
    Anywhere(&'a str),
}

#[derive(Arbitrary, Debug)]
enum ContentType<'a> {
    Json,
    Other(&'a str),
}

impl Delivery<'_> {
    fn message(&self) -> Message {
        Message {
            topic: match self.topic {
                Published::Shared => "lineside/a/request".into(),
                Published::OfClient(client) => format!("lineside/a/request/{client}"),
                Published::OfPool => "lineside/pool/g/request".into(),
                Published::Anywhere(topic) => topic.into(),
            },
            payload: self.payload.into(),
            response_topic: self.response_topic.map(str::to_owned),
            correlation: self.correlation.map(<[u8]>::to_vec),
            expiry_s: self.expiry_s,
            content_type: self.content_type.as_ref().map(|kind| match kind {
                ContentType::Json => "application/json".into(),
                ContentType::Other(kind) => (*kind).into(),
            }),
            user_properties: self
                .user_properties
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            retained: self.retained,
            redelivered: false,
            ack: None,
        }
    }
}

fn topics() -> Topics {
    Topics {
        prefix: "lineside".into(),
        appliance: "a".into(),
        pool: Some("g".into()),
    }
}

fn limits() -> Limits {
    Limits {
        max_payload_bytes: 2048,
        max_prompt_bytes: 256,
        deadlines: DeadlineLimits {
            default: Duration::from_secs(30),
            max: Duration::from_secs(600),
        },
        default_classification: Classification::Restricted,
        classification_by_topic: vec![("lineside/+/request/#".into(), Classification::Public)],
        reply_topics: vec!["lineside/#".into(), "devices/+/answers".into()],
    }
}

fn check(request: &Request, limits: &Limits) {
    assert!(request.ask.text().len() <= limits.max_prompt_bytes);
    assert!((1..=intake::MAX_ID_BYTES).contains(&request.id.as_str().len()));
    assert!(request.client.name().len() <= intake::MAX_NAME_BYTES);
    assert!(request.deadline <= limits.deadlines.max);
    assert!(request.risk.is_none_or(|risk| risk <= 100));
    assert!(
        request
            .complexity
            .is_none_or(|it| (0.0..=1.0).contains(&it))
    );
    assert!(
        request
            .max_tokens
            .is_none_or(|it| (1..=intake::MAX_ANSWER_TOKENS).contains(&it))
    );
    check_address(&request.reply);
}

fn check_address(reply: &ReturnAddress) {
    let ReturnAddress::Topic {
        topic, correlation, ..
    } = reply
    else {
        return;
    };
    assert!(intake::is_topic_name(topic), "{topic:?}");
    assert!(!topics().is_reserved(topic), "{topic:?}");
    let length = correlation.as_ref().map_or(0, Vec::len);
    assert!(length <= intake::MAX_CORRELATION_BYTES);
}

fuzz_target!(|delivery: Delivery<'_>| {
    let (topics, limits) = (topics(), limits());
    let now = Wall(1_800_000_000_000);
    match intake::read(&delivery.message(), &topics, &limits, now) {
        Ok(request) => check(&request, &limits),
        Err(refusal) => refusal.reply.iter().for_each(check_address),
    }
    if let Ok(request) = intake::read_local(delivery.payload, &topics, &limits, now) {
        assert_eq!(request.reply, ReturnAddress::Local);
        check(&request, &limits);
    }
});
