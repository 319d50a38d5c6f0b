//! Where replies and refusals go.

use super::*;

fn topic_of(reply: &ReturnAddress) -> &str {
    match reply {
        ReturnAddress::Topic { topic, .. } => topic,
        ReturnAddress::Local => "",
    }
}

fn to(response_topic: Option<&str>, payload: &str) -> Result<Request, Refusal> {
    read_message(&Message {
        response_topic: response_topic.map(str::to_owned),
        ..message(payload)
    })
}

#[test]
fn the_response_topic_goes_before_reply_to_and_that_before_the_topic_of_the_id() {
    let asked = r#"{"prompt":"hi","id":"x","reply_to":"devices/a/answers"}"#;
    let reply = |request: Request| topic_of(&request.reply).to_owned();
    assert_eq!(
        to(Some("devices/b/answers"), asked).map(reply),
        Ok("devices/b/answers".into())
    );
    assert_eq!(to(None, asked).map(reply), Ok("devices/a/answers".into()));
    let plain = r#"{"prompt":"hi","id":"x"}"#;
    assert_eq!(
        to(None, plain).map(reply),
        Ok("lineside/line-3/reply/x".into())
    );
}

#[test]
fn a_reply_topic_is_one_that_the_site_allows_and_no_appliance_uses() {
    for good in [
        "devices/press7/answers",
        "lineside/line-3/reply/press7",
        "lineside/other/reply/anything/below",
    ] {
        assert!(to(Some(good), r#"{"prompt":"hi"}"#).is_ok(), "{good}");
    }
    for bad in [
        "",
        "devices/press7",
        "devices/press7/answers/more",
        "elsewhere",
        "devices/+/answers",
        "lineside/#",
        "$SYS/answers",
        "$share/g/devices/a/answers",
        "lineside/line-3/request",
        "lineside/line-3/request/press7",
        "lineside/other/request",
        "lineside/line-3/status",
        "lineside/line-3/echo",
        "lineside/line-3/review/verdict",
        "lineside/line-3/ota/offer",
        "lineside/pool/press-shop/request",
        "lineside/pool/reply/x",
    ] {
        for result in [
            to(Some(bad), r#"{"prompt":"hi"}"#),
            with(&format!(r#""reply_to":"{bad}""#)),
        ] {
            assert_refused(result, Code::ReplyTopic, "see intake.reply_topics");
        }
    }
}

#[test]
fn a_reply_topic_has_no_character_for_which_a_broker_hangs_up() {
    for bad in [
        '\0',
        '\u{1}',
        '\n',
        '\u{7f}',
        '\u{85}',
        '\u{fdd0}',
        '\u{fffe}',
        '\u{1ffff}',
    ] {
        let result = to(
            Some(&format!("devices/{bad}/answers")),
            r#"{"prompt":"hi"}"#,
        );
        assert_refused(result, Code::ReplyTopic, "");
    }
    for good in ['ö', '語', '\u{fffd}', ' '] {
        let topic = format!("devices/{good}/answers");
        assert!(to(Some(&topic), r#"{"prompt":"hi"}"#).is_ok(), "{topic}");
    }
}

#[test]
fn a_reply_topic_at_the_limit_is_allowed_and_one_byte_more_is_not() {
    let topic = |bytes: usize| format!("lineside/a/reply/{}", "x".repeat(bytes - 17));
    assert!(to(Some(&topic(MAX_TOPIC_BYTES)), r#"{"prompt":"hi"}"#).is_ok());
    let longer = to(Some(&topic(MAX_TOPIC_BYTES + 1)), r#"{"prompt":"hi"}"#);
    assert_refused(longer, Code::ReplyTopic, "");
}

#[test]
fn the_longest_id_has_a_reply_topic_at_the_longest_name_and_prefix() {
    let id = "i".repeat(MAX_ID_BYTES);
    let payload = format!(r#"{{"prompt":"hi","id":"{id}"}}"#);
    let read_at = |prefix_bytes: usize| {
        let topics = Topics {
            prefix: "p".repeat(prefix_bytes),
            appliance: "a".repeat(64),
            pool: None,
        };
        read(&message(&payload), &topics, &limits(), NOW)
    };
    let request = read_at(64).unwrap();
    assert!(is_topic_name(topic_of(&request.reply)));
    // Beyond what a configuration may say, the answer is a refusal, not a reply to nowhere.
    let refusal = read_at(200).unwrap_err();
    assert_eq!(refusal.code, Code::Invalid);
    assert_eq!(refusal.reply, None);
}

#[test]
fn a_refusal_goes_where_the_reply_would_have_gone() {
    let refused = |message: Message| {
        let reply = read_message(&message).unwrap_err().reply;
        reply.map(|reply| topic_of(&reply).to_owned())
    };
    let bad = |fields: &str| message(&format!(r#"{{"prompt":""{fields}}}"#));
    let response = Message {
        response_topic: Some("devices/b/answers".into()),
        ..bad(r#","reply_to":"devices/a/answers","id":"x""#)
    };
    assert_eq!(refused(response).unwrap(), "devices/b/answers");
    let reply_to = bad(r#","reply_to":"devices/a/answers","id":"x""#);
    assert_eq!(refused(reply_to).unwrap(), "devices/a/answers");
    let by_id = bad(r#","id":"x""#);
    assert_eq!(refused(by_id).unwrap(), "lineside/line-3/reply/x");
    let forbidden = bad(r#","id":"x","reply_to":"lineside/line-3/request""#);
    assert_eq!(refused(forbidden).unwrap(), "lineside/line-3/reply/x");
    let by_correlation = Message {
        correlation: Some(vec![1, 2]),
        ..message("rubbish")
    };
    assert_eq!(
        refused(by_correlation).unwrap(),
        "lineside/line-3/reply/0102"
    );
}

#[test]
fn a_refusal_without_an_address_is_for_nobody() {
    for payload in ["rubbish", "{}", r#"{"id":"a/b"}"#, r#"{"id":7}"#] {
        let refusal = read_json(payload).unwrap_err();
        assert_eq!((refusal.id, refusal.reply), (None, None), "{payload}");
    }
}

#[test]
fn of_a_payload_beyond_its_limits_only_the_envelope_says_whom_to_tell() {
    let padding = " ".repeat(limits().max_payload_bytes);
    let too_large = Message {
        response_topic: Some("devices/b/answers".into()),
        ..message(&format!(r#"{{"prompt":"hi","id":"x"}}{padding}"#))
    };
    let refusal = read_message(&too_large).unwrap_err();
    assert_eq!(refusal.id, None);
    assert_eq!(topic_of(&refusal.reply.unwrap()), "devices/b/answers");
    let deep = format!(r#"{{"id":"x","schema":{}"#, "[".repeat(MAX_JSON_DEPTH));
    assert_eq!(read_json(&deep).unwrap_err().reply, None);
}

#[test]
fn a_refusal_copies_correlation_data_within_the_limit_and_no_user_properties() {
    let correlated = |bytes: usize| {
        let refusal = read_message(&Message {
            correlation: Some(vec![7; bytes]),
            response_topic: Some("devices/b/answers".into()),
            user_properties: vec![("k".into(), "v".into())],
            ..message("{}")
        })
        .unwrap_err();
        match refusal.reply {
            Some(ReturnAddress::Topic {
                correlation,
                user_properties,
                ..
            }) => (correlation.map(|data| data.len()), user_properties.len()),
            Some(ReturnAddress::Local) | None => panic!("no address"),
        }
    };
    let most = MAX_CORRELATION_BYTES;
    assert_eq!(correlated(most), (Some(most), 0));
    assert_eq!(correlated(most + 1), (None, 0));
}
