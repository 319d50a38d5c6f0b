//! What goes out is what was cleared; what comes in is a verdict or a fault that quotes nothing.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::{Mono, Wall};
use crate::engine::{Completion, Model};
use crate::intake::{Classification, Priority};
use crate::reply::Source;
use crate::review::Forms;
use crate::review::desk::{Elsewhere, Head};
use crate::review::tests::request;
use crate::router::{Accepts, Escalation, Policy, Ways, Why};
use crate::ticket::TicketNo;

const NOW: Now = Now {
    mono: Mono(Duration::ZERO),
    wall: Wall(60_000),
};

fn id() -> ItemId {
    ItemId::of(&request("press7", "a-1", "hums"))
}

fn seen(no: u64) -> Seen {
    Seen {
        head: Head {
            no: TicketNo(no),
            id: id(),
            request: "a-1".into(),
            client: "press7".into(),
            task: None,
            priority: Priority::High,
            classification: Classification::Public,
            accepted: Wall(50_000),
            expires: Wall(90_000),
            elsewhere: Elsewhere::Allowed,
        },
        held: None,
    }
}

fn cleared(no: u64) -> Cleared<ToReviewers> {
    let policy = Policy::new(
        Vec::new(),
        Ways {
            remote_review: Accepts::of(&[Classification::Public]),
            ..Ways::default()
        },
    );
    let escalation = Escalation {
        ticket: TicketNo(no),
        request: request("press7", "a-1", "hums"),
        draft: Some((
            Source::Edge,
            Completion {
                text: "go on".into(),
                confidence: 0.41,
                model: Model {
                    package: "triage".into(),
                    seq: 7,
                    ..Model::default()
                },
                ..Completion::default()
            },
        )),
        why: Why::Doubt {
            confidence: 0.41,
            threshold: 0.65,
        },
    };
    policy.clear_for_reviewers(escalation).unwrap()
}

#[test]
fn an_open_item_says_what_is_asked_and_what_was_answered() {
    let wanted = Forms::default()
        .wanted(&request("press7", "a-1", "hums"))
        .into_owned();
    let json = open(&cleared(1), &seen(1), &wanted, NOW).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        json,
        json!({
            "v": 1, "state": "open", "id": id().to_string(), "request_id": "a-1",
            "client": "press7", "priority": "high", "classification": "public",
            "accepted_ms": 50_000, "expires_ms": 90_000, "age_ms": 10_000,
            "question": "hums", "answer": {"kind": "text"},
            "draft": {
                "text": "go on", "source": "edge", "model": "triage-7",
                "confidence": json["draft"]["confidence"],
            },
            "why": "confidence 0.41 < 0.65",
        })
    );
    assert!(open(&cleared(1), &seen(2), &wanted, NOW).is_none());
}

#[test]
fn a_withdrawn_item_has_a_name_and_nothing_else() {
    let json: Value = serde_json::from_slice(&withdrawn(id())).unwrap();
    assert_eq!(
        json,
        json!({"v": 1, "state": "withdrawn", "id": id().to_string()})
    );
}

#[test]
fn a_result_says_which_item_and_what_was_wrong() {
    let good: Value = serde_json::from_slice(&result(Some(id()), Ok(()))).unwrap();
    assert_eq!(good, json!({"v": 1, "id": id().to_string(), "ok": true}));
    let refused = Err(("held", "held by anna".to_owned()));
    let bad: Value = serde_json::from_slice(&result(None, refused)).unwrap();
    assert_eq!(
        bad,
        json!({"v": 1, "ok": false, "error": {"code": "held", "message": "held by anna"}})
    );
}

fn verdict(more: Value) -> Vec<u8> {
    let mut all = json!({"v": 1, "id": id().to_string(), "reviewer": "anna"});
    let more = more.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    all.to_string().into_bytes()
}

#[test]
fn each_kind_of_verdict_is_read() {
    let read = |more| read(&verdict(more)).unwrap();
    let told = read(json!({"verdict": "approve"}));
    assert_eq!((told.id, told.reviewer.as_str()), (id(), "anna"));
    assert_eq!(told.verdict, Verdict::Approve);
    let told = read(json!({"verdict": "correct", "text": "stop"}));
    assert_eq!(told.verdict, Verdict::Correct("stop".into()));
    let told = read(json!({"verdict": "reject", "reason": "no picture"}));
    assert_eq!(told.verdict, Verdict::Reject("no picture".into()));
}

#[test]
fn what_is_no_verdict_is_refused_by_a_stable_word_that_quotes_nothing() {
    for (more, code) in [
        (json!({}), "invalid"),
        (json!({"verdict": "CANARY"}), "invalid"),
        (json!({"verdict": "approve", "text": "CANARY"}), "invalid"),
        (json!({"verdict": "correct"}), "invalid"),
        (json!({"verdict": "correct", "text": " "}), "empty"),
        (
            json!({"verdict": "correct", "text": "x", "reason": "CANARY"}),
            "invalid",
        ),
        (json!({"verdict": "reject", "text": "CANARY"}), "invalid"),
        (json!({"verdict": "approve", "CANARY": 1}), "invalid"),
        (json!({"verdict": "approve", "v": 2}), "invalid"),
        (json!({"verdict": "approve", "id": "CANARY"}), "bad_id"),
        (
            json!({"verdict": "approve", "id": &id().to_string()[..12]}),
            "bad_id",
        ),
        (json!({"verdict": "approve", "reviewer": "CANARY\n"}), "ok"),
        (
            json!({"verdict": "approve", "reviewer": "CAN\nARY"}),
            "bad_reviewer",
        ),
        (
            json!({"verdict": "correct", "text": "CANARY".repeat(MAX_TEXT_BYTES / 5)}),
            "too_long",
        ),
    ] {
        let got = read(&verdict(more.clone()));
        if code == "ok" {
            assert!(got.is_ok(), "{more}");
            continue;
        }
        let garble = got.unwrap_err();
        assert!(!garble.to_string().contains("CANARY"), "{garble}");
        assert_eq!(garble.code(), code, "{garble}");
    }
    assert_eq!(read(b"\xff\xfe").unwrap_err().code(), "invalid");
    assert_eq!(read(b"").unwrap_err().code(), "invalid");
    assert_eq!(
        read(&vec![b' '; MAX_PAYLOAD_BYTES + 1]).unwrap_err(),
        Garble::TooLarge
    );
}

#[test]
fn the_longest_text_fits_into_a_message_however_it_is_escaped() {
    let text = "\u{1}".repeat(MAX_TEXT_BYTES);
    let payload = verdict(json!({"verdict": "correct", "text": text}));
    assert!(read(&payload).is_ok(), "{}", payload.len());
}

proptest! {
    #[test]
    fn whatever_comes_is_a_verdict_within_limits_or_a_fault(payload: Vec<u8>) {
        if let Ok(told) = read(&payload) {
            prop_assert!(told.verdict.check().is_ok());
        }
    }
}
