//! What a device says goes back to that device and nowhere else: a word that no other text
//! contains is sent in every place of a request, through every refusal and every outcome, and
//! then looked for in the log, the status, the traces and all that is published.

#![allow(clippy::unwrap_used)]

#[path = "redaction/world.rs"]
#[allow(dead_code, reason = "others use it, too")]
mod world;

use lineside::engine::{self, Fault};
use lineside::intake::{Classification, Code, Message};

use lineside::router::{Accepts, Bars, Policy, Router, Rule, To, Upstream, Ways, When};
use lineside::uplink;
use world::{Told, World};

/// Stands in no source but this one.
const CANARY: &str = "quetzalcoatlus";

const REPLY_TOPIC: &str = "devices/press7/answers";
/// Where the words of an answer come ahead of it.
const STREAM_TOPIC: &str = "devices/press7/answers/stream";

fn message(payload: &str) -> Message {
    Message {
        topic: "lineside/line-3/request".into(),
        payload: payload.replace("CANARY", CANARY).into(),
        response_topic: Some(REPLY_TOPIC.into()),
        ..Message::default()
    }
}

/// Runs `life`, then holds everything that was told to anyone against the canary. Returns it.
#[track_caller]
fn nothing_leaks(life: impl FnOnce(&mut World)) -> Told {
    nothing_leaks_by(Router::default(), life)
}

#[track_caller]
fn nothing_leaks_by(router: Router, life: impl FnOnce(&mut World)) -> Told {
    let told = World::live_by(router, |world| {
        life(world);
        world.ask_status();
        for id in ["x", "y", "z"] {
            world.ask_trace(id);
        }
    });
    assert!(!told.log.is_empty(), "the log was not captured");
    assert!(!told.log.contains(CANARY), "{}", told.log);
    assert!(!told.reports.is_empty(), "nobody answered");
    for report in &told.reports {
        assert!(!report.contains(CANARY), "{report}");
    }
    for parcel in &told.parcels {
        let payload = String::from_utf8_lossy(&parcel.payload);
        assert!(
            [REPLY_TOPIC, STREAM_TOPIC].contains(&parcel.topic.as_str())
                || !format!("{parcel:?}{payload}").contains(CANARY),
            "to {}: {payload}",
            parcel.topic
        );
    }
    told
}

#[test]
fn what_a_refusal_quotes_goes_to_its_sender_only() {
    for (payload, code) in [
        (r#"{"prompt":"p","id":"x","CANARY":1}"#, "invalid"),
        (
            r#"{"prompt":"p","id":"x","classification":"CANARY"}"#,
            "invalid",
        ),
        (r#"{"prompt":"p","id":"x","risk":"CANARY"}"#, "invalid"),
        (r#"{"prompt":"p","id":"x","priority":"CANARY"}"#, "invalid"),
    ] {
        let told = nothing_leaks(|world| world.message(message(payload)));
        assert_eq!(told.codes(), [code]);
        assert!(told.replies_quote(CANARY), "{payload}: nothing was quoted");
    }
}

#[test]
fn a_refusal_for_the_envelope_keeps_its_words_to_its_sender() {
    let plain = || message(r#"{"prompt":"CANARY","id":"x"}"#);
    for (message, code) in [
        (
            Message {
                content_type: Some(format!("text/{CANARY}")),
                ..plain()
            },
            "invalid",
        ),
        (
            Message {
                response_topic: Some(format!("{CANARY}/answers")),
                ..plain()
            },
            "reply_topic",
        ),
        (
            Message {
                user_properties: vec![("k".into(), CANARY.repeat(200))],
                ..plain()
            },
            "too_large",
        ),
        (
            Message {
                correlation: Some(CANARY.repeat(200).into()),
                ..plain()
            },
            "too_large",
        ),
        (
            Message {
                retained: true,
                ..plain()
            },
            "retained",
        ),
    ] {
        let told = World::live(|world| {
            world.message(message);
            world.ask_status();
            world.ask_trace("x");
        });
        assert_eq!(told.codes(), [code]);
        assert!(!told.log.contains(CANARY), "{}", told.log);
        assert!(!told.reports.concat().contains(CANARY));
        let sender = [REPLY_TOPIC, "lineside/line-3/reply/x"];
        for parcel in &told.parcels {
            let quotes = String::from_utf8_lossy(&parcel.payload).contains(CANARY);
            assert!(!quotes || sender.contains(&parcel.topic.as_str()));
        }
    }
}

#[test]
fn content_that_is_refused_unread_is_told_to_nobody() {
    for (payload, code) in [
        ("CANARY", "invalid"),
        (r#"{"prompt":"CANARY","prompt":"CANARY"}"#, "invalid"),
        (r#"{"prompt":"CANARY","id":"CANARY /"}"#, "invalid"),
        (r#"{"prompt":"CANARY","input":"CANARY"}"#, "invalid"),
        (r#"{"task":"CANARY /","input":"CANARY"}"#, "invalid"),
        (r#"{"prompt":"CANARY","schema":"CANARY"}"#, "invalid"),
        (r#"{"prompt":"CANARY","deadline_ms":-1}"#, "invalid"),
    ] {
        let told = nothing_leaks(|world| world.message(message(payload)));
        assert_eq!(told.codes(), [code]);
    }
    let long = message(&format!(r#"{{"prompt":"{}"}}"#, "CANARY ".repeat(200)));
    let told = nothing_leaks(|world| world.message(long));
    assert_eq!(told.codes(), ["too_large"]);
    assert!(!told.replies_quote(CANARY));
}

#[test]
fn an_answer_goes_to_its_device_only() {
    let told = nothing_leaks(|world| {
        world.engine(engine::State::Ready { slots: 1 });
        world.message(message(
            r#"{"task":"triage","input":"CANARY","id":"x","schema":{"title":"CANARY"}}"#,
        ));
        world.complete(&format!("{CANARY} it is"));
        // Again, from the record; and another question under the same id.
        world.message(message(
            r#"{"task":"triage","input":"CANARY","id":"x","schema":{"title":"CANARY"}}"#,
        ));
        world.message(message(r#"{"prompt":"CANARY","id":"x"}"#));
    });
    assert_eq!(told.codes(), ["id_conflict"]);
    let answers = told.replies().filter(|reply| reply.contains(CANARY));
    assert_eq!(answers.count(), 2);
}

#[test]
fn words_as_they_come_go_to_their_device_only_and_only_if_it_wants_them() {
    let told = nothing_leaks(|world| {
        world.engine(engine::State::Ready { slots: 1 });
        world.message(message(r#"{"prompt":"CANARY","id":"x","stream":true}"#));
        world.say(CANARY);
        world.say(" it is");
        world.complete(&format!("{CANARY} it is"));
        world.message(message(r#"{"prompt":"CANARY","id":"y"}"#));
        world.say(CANARY);
        world.complete(CANARY);
        world.message(message(r#"{"prompt":"CANARY","id":"z","stream":true}"#));
        world.lose_the_line();
        world.say(CANARY);
        world.complete(CANARY);
    });
    let pieces: Vec<serde_json::Value> = told
        .parcels
        .iter()
        .filter(|parcel| parcel.topic == STREAM_TOPIC)
        .map(|parcel| serde_json::from_slice(&parcel.payload).unwrap())
        .collect();
    let piece = |text: &str, n: u32| serde_json::json!({"id": "x", "text": text, "n": n});
    assert_eq!(pieces, [piece(CANARY, 1), piece(" it is", 2)]);
}

#[test]
fn what_the_engine_says_of_a_request_goes_to_its_sender_only() {
    let told = nothing_leaks(|world| {
        world.engine(engine::State::Ready { slots: 1 });
        world.message(message(r#"{"prompt":"p","id":"x","schema":{}}"#));
        world.fail(Fault::Refused {
            code: Code::Schema,
            message: format!("no such word: {CANARY}"),
        });
    });
    assert_eq!(told.codes(), ["schema"]);
    assert!(told.replies_quote(CANARY));
}

type Life = fn(&mut World, Message);

#[test]
fn every_other_outcome_tells_nothing_of_the_question() {
    let question = || message(r#"{"prompt":"CANARY","id":"x","deadline_ms":1000}"#);
    let lives: [(Life, &str); 5] = [
        (
            |world, question| {
                world.engine(engine::State::Absent);
                world.message(question);
            },
            "engine_unavailable",
        ),
        (
            |world, question| {
                world.message(question);
                world.pass_ms(2000);
            },
            "deadline",
        ),
        (
            |world, question| {
                world.engine(engine::State::Ready { slots: 1 });
                world.message(question);
                world.fail(Fault::Crashed);
                world.pass_ms(200); // until it is queued again
                world.engine(engine::State::Ready { slots: 1 });
                world.fail(Fault::Crashed);
            },
            "engine_failed",
        ),
        (
            |world, question| {
                world.fill_the_disk();
                world.message(question);
            },
            "spool_full",
        ),
        (
            |world, question| {
                world.fail_the_disk();
                world.message(question.clone());
                world.message(question);
            },
            "spool_full",
        ),
    ];
    for (life, code) in lives {
        let told = nothing_leaks(|world| life(world, question()));
        assert_eq!(told.codes().first().map(String::as_str), Some(code));
        assert!(!told.replies_quote(CANARY), "{code}");
    }
}

#[test]
fn a_reply_that_the_broker_refuses_stays_untold() {
    let told = nothing_leaks(|world| {
        world.engine(engine::State::Ready { slots: 1 });
        world.refuse_parcels();
        world.message(message(r#"{"prompt":"CANARY","id":"x"}"#));
        world.complete(CANARY);
    });
    assert!(told.log.contains("the broker refused a reply"));
}

#[test]
fn someone_at_the_appliance_is_the_only_one_to_read_the_reply() {
    let told = nothing_leaks(|world| {
        world.engine(engine::State::Ready { slots: 1 });
        world.ask(&format!(r#"{{"prompt":"{CANARY}","id":"x"}}"#));
        world.complete(CANARY);
        world.ask(&format!(r#"{{"prompt":"p","id":"y","{CANARY}":1}}"#));
        world.drain();
        world.ask(&format!(r#"{{"prompt":"{CANARY}","id":"z"}}"#));
    });
    assert_eq!(told.answers.len(), 3);
    assert!(told.answers[0].contains(CANARY) && told.answers[1].contains(CANARY));
    assert!(!told.answers[2].contains(CANARY));
}

/// Everybody is there: a cloud, persons here and elsewhere. This decides who goes first.
fn everybody(to: To) -> Router {
    let all = Accepts::of(&[
        Classification::Public,
        Classification::Internal,
        Classification::Restricted,
    ]);
    let ways = Ways {
        doubtful_review: true,
        upstreams: vec![Upstream {
            name: "main".into(),
            accepts: all,
        }],
        local_review: true,
        remote_review: all,
    };
    let rule = Rule {
        name: "all".into(),
        when: When::default(),
        to,
    };
    Router {
        policy: Policy::new(vec![rule], ways),
        bars: Bars {
            site: Some(0.65),
            ..Bars::default()
        },
        ..Router::default()
    }
}

fn labelled(classification: &str) -> Message {
    message(&format!(
        r#"{{"prompt":"CANARY","id":"x","classification":"{classification}"}}"#
    ))
}

/// All the ways through the tiers, whatever a rule wants and whatever fails.
const WAYS: [fn(&mut World); 6] = [
    |world| {
        world.engine(engine::State::Ready { slots: 1 });
    },
    |world| world.complete_with(&format!("{CANARY} perhaps"), 0.2),
    |world| world.fail(Fault::Crashed),
    |world| {
        world.fail(Fault::Refused {
            code: Code::OverContext,
            message: CANARY.into(),
        });
    },
    |world| world.engine(engine::State::Absent),
    |world| world.pass_ms(40_000),
];

#[test]
fn restricted_content_reaches_neither_the_cloud_nor_reviewers_elsewhere_whatever_fails() {
    for to in [To::Edge, To::Cloud, To::CloudAt("main".into()), To::Review] {
        for way in WAYS {
            let told = nothing_leaks_by(everybody(to.clone()), |world| {
                world.cloud_is_up(&["main"]);
                world.engine(engine::State::Ready { slots: 1 });
                world.message(labelled("restricted"));
                if world.is_running() {
                    way(world);
                }
                world.pass_ms(40_000);
                world.lose_the_line();
                world.pass_ms(90_000_000);
            });
            assert!(told.errands.is_empty(), "{to:?}: {:?}", told.errands);
        }
    }
}

#[test]
fn what_goes_to_the_cloud_goes_nowhere_else_on_the_way() {
    let faults = [
        uplink::Fault::Unreachable,
        uplink::Fault::Denied(401),
        uplink::Fault::Rejected(400),
        uplink::Fault::Late,
        uplink::Fault::Misfit(uplink::Misfit::Declined),
    ];
    for fault in faults {
        let told = World::live_by(everybody(To::Cloud), |world| {
            world.cloud_is_up(&["main"]);
            world.message(labelled("internal"));
            world.cloud(Err(fault.clone()));
            world.ask_status();
            world.ask_trace("x");
        });
        assert!(told.errands[0].contains(CANARY));
        assert!(!told.log.contains(CANARY), "{}", told.log);
        assert!(!told.reports.concat().contains(CANARY));
    }
    let told = World::live_by(everybody(To::Cloud), |world| {
        world.cloud_is_up(&["main"]);
        world.message(labelled("public"));
        world.cloud(Ok(CANARY)); // hardly sure: a person is to look
        world.ask_status();
        world.ask_trace("x");
    });
    assert!(!told.log.contains(CANARY), "{}", told.log);
    assert!(!told.reports.concat().contains(CANARY));
    let reviewers = |topic: &str| topic.ends_with("/review/item");
    for parcel in &told.parcels {
        let quotes = String::from_utf8_lossy(&parcel.payload).contains(CANARY);
        let may = parcel.topic == REPLY_TOPIC || reviewers(&parcel.topic);
        assert!(!quotes || may, "to {}", parcel.topic);
    }
    assert!(told.parcels.iter().any(|it| reviewers(&it.topic)));
}
