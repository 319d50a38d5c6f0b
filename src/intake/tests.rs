//! Every limit at its edge and one beyond, every refusal with its code, its words and its address.

#![allow(clippy::result_large_err, reason = "as `read` itself returns it")]

mod addresses;
mod properties;
mod topics;

use super::wire::{MAX_FAULT_BYTES, USER_PROPERTY_BYTES};
use super::*;
use crate::clock::Wall;

const NOW: Wall = Wall(1_800_000_000_000);

fn site() -> Topics {
    Topics {
        prefix: "lineside".into(),
        appliance: "line-3".into(),
        pool: Some("press-shop".into()),
    }
}

fn limits() -> Limits {
    Limits {
        max_payload_bytes: 4096,
        max_prompt_bytes: 1000,
        deadlines: DeadlineLimits {
            default: Duration::from_secs(30),
            max: Duration::from_mins(10),
        },
        default_classification: Classification::Restricted,
        classification_by_topic: vec![
            ("lineside/+/request/cam".into(), Classification::Internal),
            ("lineside/+/request/+".into(), Classification::Public),
        ],
        reply_topics: vec!["lineside/#".into(), "devices/+/answers".into()],
    }
}

fn message(payload: &str) -> Message {
    Message {
        topic: "lineside/line-3/request".into(),
        payload: payload.into(),
        ..Message::default()
    }
}

fn read_message(message: &Message) -> Result<Request, Refusal> {
    read(message, &site(), &limits(), NOW)
}

fn read_json(payload: &str) -> Result<Request, Refusal> {
    read_message(&message(payload))
}

/// A request that is nothing but a prompt and these further fields.
fn with(fields: &str) -> Result<Request, Refusal> {
    read_json(&format!(r#"{{"prompt":"hi",{fields}}}"#))
}

#[track_caller]
fn assert_refused(result: Result<Request, Refusal>, code: Code, words: &str) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.code, code, "{}", refusal.message);
    assert!(refusal.message.contains(words), "{}", refusal.message);
}

#[test]
fn a_prompt_alone_is_a_request_with_the_sites_defaults() {
    let request = read_json(r#"{"prompt":"hi"}"#).unwrap();
    assert_eq!(request.ask, Ask::Prompt("hi".into()));
    assert_eq!(request.client, Client::Anonymous);
    assert_eq!(request.classification, Classification::Restricted);
    assert_eq!(request.priority, Priority::Normal);
    assert_eq!(request.deadline, Duration::from_secs(30));
    assert_eq!(
        (request.stream, request.detail),
        (Stream::No, Detail::Whole)
    );
    assert_eq!((request.risk, request.complexity), (None, None));
    assert_eq!((request.max_tokens, request.schema), (None, None));
    assert!(matches!(request.id, RequestId::Made(_)));
}

#[test]
fn every_field_is_read() {
    let request = read_json(
        r#"{"id":"press7-1","task":"triage","input":"9.8 mm/s","classification":"internal",
            "risk":100,"complexity":0.5,"priority":"high","deadline_ms":2000,"max_tokens":128,
            "schema": {"type":"object"},"stream":true,"logprobs":true,"reply_to":"devices/press7/answers",
            "client":"press7"}"#,
    )
    .unwrap();
    assert_eq!(request.id, RequestId::Given("press7-1".into()));
    assert_eq!(request.client, Client::Claimed("press7".into()));
    assert_eq!(request.ask.task(), Some("triage"));
    assert_eq!(request.ask.text(), "9.8 mm/s");
    assert_eq!(request.classification, Classification::Internal);
    assert_eq!(request.risk, Some(100));
    assert_eq!(request.complexity, Some(0.5));
    assert_eq!(request.priority, Priority::High);
    assert_eq!(request.deadline, Duration::from_secs(2));
    assert_eq!(request.max_tokens, Some(128));
    assert_eq!(request.schema.as_deref(), Some(r#"{"type":"object"}"#));
    assert_eq!(
        (request.stream, request.detail),
        (Stream::Yes, Detail::Tokens)
    );
    assert_eq!(
        request.reply,
        ReturnAddress::Topic {
            topic: "devices/press7/answers".into(),
            correlation: None,
            user_properties: Vec::new(),
        }
    );
}

#[test]
fn a_payload_at_the_limit_is_read_and_one_byte_more_is_too_large() {
    let mut payload = r#"{"prompt":"hi"}"#.to_owned();
    payload.push_str(&" ".repeat(limits().max_payload_bytes - payload.len()));
    assert!(read_json(&payload).is_ok());
    payload.push(' ');
    assert_refused(read_json(&payload), Code::TooLarge, "4097 bytes");
}

#[test]
fn a_prompt_or_input_at_the_limit_is_read_and_one_byte_more_is_too_large() {
    // Two bytes each: the limit counts bytes, not characters.
    let full = "ö".repeat(limits().max_prompt_bytes / 2);
    assert!(read_json(&format!(r#"{{"prompt":"{full}"}}"#)).is_ok());
    assert!(read_json(&format!(r#"{{"task":"t","input":"{full}"}}"#)).is_ok());
    for payload in [
        format!(r#"{{"prompt":"{full}."}}"#),
        format!(r#"{{"task":"t","input":"{full}."}}"#),
    ] {
        assert_refused(read_json(&payload), Code::TooLarge, "1001 bytes");
    }
}

#[test]
fn json_may_nest_to_the_limit_and_no_deeper() {
    // The request itself is one level, its schema another.
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        with(&format!(r#""schema":{{"a":{open}{close}}}"#))
    };
    assert!(nested(MAX_JSON_DEPTH - 2).is_ok());
    assert_refused(
        nested(MAX_JSON_DEPTH - 1),
        Code::TooLarge,
        "nested deeper than",
    );
}

#[test]
fn an_input_is_a_text_or_a_flat_object_in_one_form() {
    let input = |json: &str| read_json(&format!(r#"{{"task":"triage","input":{json}}}"#));
    let values = |json: &str| match input(json).unwrap().ask {
        Ask::Values { task, values } => {
            assert_eq!(task, "triage");
            values
        }
        other @ (Ask::Prompt(_) | Ask::Task { .. }) => panic!("{other:?}"),
    };
    let first =
        r#"{ "text": "ä \"hums\"", "asset":"A", "n": -3, "x": 1.50, "y": true, "z": null }"#;
    let other = r#"{"x":1.5,"y":true,"n":-3,"asset":"A","text":"\u00e4 \u0022hums\""}"#;
    assert_eq!(
        values(first),
        r#"{"asset":"A","n":-3,"text":"ä \"hums\"","x":1.5,"y":true}"#
    );
    assert_eq!(values(other), values(first));
    assert_eq!(input(other).unwrap().content, input(first).unwrap().content);
    // A text that reads like it is other content.
    let quoted = serde_json::Value::from(values(first)).to_string();
    let text = input(&quoted).unwrap();
    assert_eq!(text.ask.text(), values(first));
    assert_ne!(text.content, input(first).unwrap().content);

    for (json, words) in [
        ("{}", "no values"),
        (r#"{"a":null}"#, "no values"),
        (r#"{"a":1,"a":2}"#, "stands twice"),
        (r#"{"a":[1]}"#, "true or false as a value"),
        (r#"{"a":{"b":1}}"#, "true or false as a value"),
        ("[1]", "a text, or an object"),
        ("7", "a text, or an object"),
    ] {
        assert_refused(input(json), Code::Invalid, words);
    }
    let many = |count: usize| {
        let pairs: Vec<_> = (0..count).map(|at| format!(r#""v{at}":{at}"#)).collect();
        input(&format!("{{{}}}", pairs.join(",")))
    };
    assert!(many(MAX_VALUES).is_ok());
    assert_refused(many(MAX_VALUES + 1), Code::Invalid, "more than 32 values");
}

#[test]
fn brackets_inside_strings_are_no_nesting() {
    let brackets = "[{".repeat(MAX_JSON_DEPTH);
    let quoted = format!(r#"{{"prompt":"\"{brackets}\\"}}"#);
    assert_eq!(
        read_json(&quoted).unwrap().ask.text(),
        format!("\"{brackets}\\")
    );
}

#[test]
fn an_id_has_a_length_and_an_alphabet() {
    let id = |id: &str| with(&format!(r#""id":"{id}""#));
    let longest = "x".repeat(MAX_ID_BYTES);
    assert_eq!(id(&longest).unwrap().id.as_str(), longest);
    assert_refused(id(&format!("{longest}x")), Code::Invalid, "id must be 1 to");
    let alphabet = "AZaz09-_.:@~";
    assert_eq!(id(alphabet).unwrap().id.as_str(), alphabet);
    for bad in ["", "a b", "a/b", "a+", "#", "ö", "a\\u0000", "a\\n", "$x%"] {
        assert_refused(id(bad), Code::Invalid, "id must be 1 to");
    }
}

#[test]
fn the_names_of_clients_and_tasks_have_a_length_and_an_alphabet() {
    let client = |name: &str| with(&format!(r#""client":"{name}""#));
    let task = |name: &str| read_json(&format!(r#"{{"task":"{name}","input":"i"}}"#));
    let longest = "n".repeat(MAX_NAME_BYTES);
    assert_eq!(client(&longest).unwrap().client.name(), longest);
    assert_eq!(task(&longest).unwrap().ask.task(), Some(longest.as_str()));
    for bad in ["", "a b", "a/b", &format!("{longest}n")] {
        assert_refused(client(bad), Code::Invalid, "client must be 1 to");
        assert_refused(task(bad), Code::Invalid, "task must be 1 to");
    }
}

#[test]
fn an_id_comes_from_correlation_data_as_text_as_hex_or_as_a_digest() {
    let id = |data: &[u8]| {
        let message = Message {
            correlation: Some(data.to_vec()),
            ..message(r#"{"prompt":"hi"}"#)
        };
        read_message(&message).unwrap().id
    };
    assert_eq!(id(b"press7-1"), RequestId::Given("press7-1".into()));
    assert_eq!(id(&[0, 255]), RequestId::Given("00ff".into()));
    assert_eq!(id(b"a b"), RequestId::Given("612062".into()));
    let longest_hex = [0xAB; MAX_ID_BYTES / 2];
    assert_eq!(
        id(&longest_hex).as_str(),
        "ab".repeat(MAX_ID_BYTES / 2).as_str()
    );
    let digest = id(&[0xAB; MAX_ID_BYTES / 2 + 1]);
    assert_eq!(digest.as_str().len(), 32);
    assert_ne!(digest, id(&[0xAC; MAX_ID_BYTES / 2 + 1]));
    // Text that is too long for an id is not cut: two of them must not become one.
    assert_eq!(id(&[b'x'; MAX_ID_BYTES + 1]).as_str().len(), 32);
    assert!(matches!(id(b""), RequestId::Made(_)));
}

#[test]
fn correlation_data_and_user_properties_are_bounded_and_copied() {
    let sent = |correlation: Vec<u8>, user_properties: Vec<(String, String)>| {
        read_message(&Message {
            correlation: Some(correlation),
            user_properties,
            ..message(r#"{"prompt":"hi"}"#)
        })
    };
    let data = vec![7; MAX_CORRELATION_BYTES];
    let text = "v".repeat(MAX_USER_PROPERTIES_BYTES - USER_PROPERTY_BYTES - 1);
    let pairs = vec![("k".to_owned(), text.clone())];
    let ReturnAddress::Topic {
        correlation,
        user_properties,
        ..
    } = sent(data.clone(), pairs.clone()).unwrap().reply
    else {
        panic!("a reply over MQTT");
    };
    assert_eq!((correlation, user_properties), (Some(data), pairs));
    assert_refused(
        sent(vec![7; MAX_CORRELATION_BYTES + 1], Vec::new()),
        Code::TooLarge,
        "correlation data",
    );
    let longer = vec![("kk".to_owned(), text)];
    assert_refused(sent(Vec::new(), longer), Code::TooLarge, "user properties");
}

#[test]
fn even_empty_user_properties_are_counted() {
    let sent = |count| {
        read_message(&Message {
            user_properties: vec![(String::new(), String::new()); count],
            ..message(r#"{"prompt":"hi"}"#)
        })
    };
    let most = MAX_USER_PROPERTIES_BYTES / USER_PROPERTY_BYTES;
    assert!(sent(most).is_ok());
    assert_refused(sent(most + 1), Code::TooLarge, "user properties");
}

#[test]
fn a_content_type_other_than_json_is_refused() {
    let typed = |content_type: &str| {
        read_message(&Message {
            content_type: Some(content_type.into()),
            ..message(r#"{"prompt":"hi"}"#)
        })
    };
    for good in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "text/json",
    ] {
        assert!(typed(good).is_ok(), "{good}");
    }
    for bad in ["", "text/plain", "application/jsonx", "json"] {
        assert_refused(typed(bad), Code::Invalid, "requests are application/json");
    }
}

#[test]
fn a_retained_request_is_refused_whatever_it_says() {
    for payload in [r#"{"prompt":"hi"}"#, "rubbish"] {
        let retained = Message {
            retained: true,
            ..message(payload)
        };
        assert_refused(read_message(&retained), Code::Retained, "without retain");
    }
}

#[test]
fn a_client_is_proven_by_its_topic_or_claimed_in_the_payload() {
    let client = |topic: &str, fields: &str| {
        read_message(&Message {
            topic: topic.into(),
            ..message(&format!(r#"{{"prompt":"hi"{fields}}}"#))
        })
    };
    let (own, shared) = ("lineside/line-3/request/press7", "lineside/line-3/request");
    let claim = r#","client":"press7""#;
    let name = || "press7".to_owned();
    assert_eq!(client(own, "").unwrap().client, Client::Proven(name()));
    assert_eq!(client(own, claim).unwrap().client, Client::Proven(name()));
    let claimed = client(shared, claim).unwrap().client;
    assert_eq!(claimed, Client::Claimed(name()));
    assert_ne!(claimed.scope(), Client::Proven(name()).scope());
    let pool = "lineside/pool/press-shop/request";
    assert_eq!(client(pool, "").unwrap().client, Client::Anonymous);
    assert_refused(
        client(own, r#","client":"press8""#),
        Code::Invalid,
        "'press7', the payload says 'press8'",
    );
    for bad in ["", "a/b", "a b"] {
        let topic = format!("lineside/line-3/request/{bad}");
        assert_refused(client(&topic, ""), Code::Invalid, "client in the topic");
    }
}

#[test]
fn the_first_filter_that_matches_classifies_what_does_not_say_itself() {
    let class = |topic: &str, fields: &str| {
        let message = Message {
            topic: topic.into(),
            ..message(&format!(r#"{{"prompt":"hi"{fields}}}"#))
        };
        read_message(&message).unwrap().classification
    };
    let cam = "lineside/line-3/request/cam";
    assert_eq!(class(cam, ""), Classification::Internal);
    assert_eq!(
        class("lineside/line-3/request/press7", ""),
        Classification::Public
    );
    assert_eq!(
        class("lineside/line-3/request", ""),
        Classification::Restricted
    );
    let restricted = r#","classification":"restricted""#;
    assert_eq!(class(cam, restricted), Classification::Restricted);
    assert_refused(
        with(r#""classification":"secret""#),
        Code::Invalid,
        "unknown variant `secret`",
    );
}

#[test]
fn a_deadline_is_the_shortest_of_what_was_asked_the_expiry_and_the_sites_limit() {
    let deadline = |fields: &str, expiry_s: Option<u32>| {
        let message = Message {
            expiry_s,
            ..message(&format!(r#"{{"prompt":"hi"{fields}}}"#))
        };
        read_message(&message).map(|request| request.deadline.as_millis())
    };
    let asked = r#","deadline_ms":2000"#;
    assert_eq!(deadline("", None), Ok(30_000));
    assert_eq!(deadline(asked, None), Ok(2000));
    assert_eq!(deadline(asked, Some(1)), Ok(1000));
    assert_eq!(deadline(asked, Some(3)), Ok(2000));
    assert_eq!(deadline("", Some(u32::MAX)), Ok(30_000));
    assert_eq!(deadline("", Some(0)), Ok(0));
    assert_eq!(deadline(r#","deadline_ms":1"#, None), Ok(1));
    assert_eq!(deadline(r#","deadline_ms":600000"#, None), Ok(600_000));
    assert_eq!(deadline(r#","deadline_ms":600001"#, None), Ok(600_000));
    let most = format!(r#","deadline_ms":{}"#, i64::MAX);
    assert_eq!(deadline(&most, None), Ok(600_000));
    for bad in ["0", "-1", "-9223372036854775808"] {
        assert_refused(
            with(&format!(r#""deadline_ms":{bad}"#)),
            Code::Invalid,
            "1 or more",
        );
    }
}

#[test]
fn numbers_have_their_ranges() {
    let most_tokens = MAX_ANSWER_TOKENS.to_string();
    let beyond_tokens = (MAX_ANSWER_TOKENS + 1).to_string();
    for (key, good, bad) in [
        ("risk", ["0", "100"], ["-1", "101"]),
        ("complexity", ["0", "1"], ["-0.001", "1.001"]),
        ("max_tokens", ["1", &most_tokens], ["0", &beyond_tokens]),
    ] {
        for value in good {
            assert!(
                with(&format!(r#""{key}":{value}"#)).is_ok(),
                "{key} {value}"
            );
        }
        for value in bad {
            assert_refused(
                with(&format!(r#""{key}":{value}"#)),
                Code::Invalid,
                "must be from",
            );
        }
        for value in ["1e999", "99999999999999999999", "\"1\"", "NaN"] {
            assert_refused(with(&format!(r#""{key}":{value}"#)), Code::Invalid, "");
        }
    }
}

#[test]
fn one_thing_is_asked_and_it_is_not_empty() {
    for (payload, words) in [
        ("{}", "give a prompt, or a task and its input"),
        (r#"{"prompt":"a","task":"t","input":"i"}"#, "not both"),
        (r#"{"prompt":"a","task":"t"}"#, "not both"),
        (r#"{"prompt":"a","input":"i"}"#, "not both"),
        (r#"{"task":"t"}"#, "the task has no input"),
        (r#"{"input":"i"}"#, "the input has no task"),
        (r#"{"prompt":""}"#, "is empty"),
        (r#"{"prompt":" \n\t "}"#, "is empty"),
        (r#"{"task":"t","input":""}"#, "is empty"),
    ] {
        assert_refused(read_json(payload), Code::Invalid, words);
    }
}

#[test]
fn a_schema_is_an_object_and_stays_as_it_was_sent() {
    let schema = with(r#""schema": { "b":1, "a":2.50 } "#).unwrap().schema;
    assert_eq!(schema.as_deref(), Some(r#"{ "b":1, "a":2.50 }"#));
    assert_eq!(with(r#""schema":null"#).unwrap().schema, None);
    for bad in ["[]", "1", "true", "\"{}\""] {
        assert_refused(
            with(&format!(r#""schema":{bad}"#)),
            Code::Invalid,
            "schema must be",
        );
    }
}

#[test]
fn a_key_that_comes_twice_or_is_unknown_is_refused_by_name() {
    assert_refused(
        with(r#""prompt":"again""#),
        Code::Invalid,
        "duplicate field `prompt`",
    );
    assert_refused(
        with(r#""clasification":"restricted""#),
        Code::Invalid,
        "unknown field `clasification`",
    );
}

#[test]
fn what_is_no_json_object_in_utf_8_is_refused() {
    for payload in ["", "hi", "[]", "null", "\"hi\"", "{\"prompt\":\"hi\"} x"] {
        assert_refused(
            read_json(payload),
            Code::Invalid,
            "the payload is not a request",
        );
    }
    let latin = Message {
        payload: b"{\"prompt\":\"\xF6l\"}".to_vec(),
        ..Message::default()
    };
    assert_refused(
        read_message(&latin),
        Code::Invalid,
        "the payload is not UTF-8",
    );
}

#[test]
fn a_long_message_is_cut_between_characters() {
    for lead in 0..3 {
        let key = format!("{}{}", "x".repeat(lead), "語".repeat(200));
        let refusal = with(&format!(r#""{key}":1"#)).unwrap_err();
        let cut = refusal.message.strip_suffix('…').unwrap();
        assert!((MAX_FAULT_BYTES - 2..=MAX_FAULT_BYTES).contains(&cut.len()));
        assert!(cut.ends_with('語'), "{cut}");
    }
}

#[test]
fn the_same_question_has_the_same_content_however_it_was_sent() {
    let content = |fields: &str| with(fields).unwrap().content;
    let one = content(r#""id":"1","deadline_ms":5"#);
    assert_eq!(one, content(r#""id":"2","priority":"high","client":"c""#));
    for other in [
        r#""risk":1"#,
        r#""complexity":0.5"#,
        r#""max_tokens":9"#,
        r#""schema":{}"#,
        r#""classification":"public""#,
    ] {
        assert_ne!(one, content(other), "{other}");
    }
}

#[test]
fn someone_at_the_appliance_is_answered_there_and_refused_there() {
    let local = |payload: &str| super::read_local(payload.as_bytes(), &site(), &limits(), NOW);
    let request = local(r#"{"prompt":"hi","client":"press7","id":"x"}"#).unwrap();
    assert_eq!(request.client, Client::Local);
    assert_eq!(request.reply, ReturnAddress::Local);
    assert_eq!(local("{}").unwrap_err().reply, Some(ReturnAddress::Local));
}
