//! Persons rule: what counts, when it is heard, and what reviewers elsewhere are shown.

use std::time::Duration;

use lineside::broker::Session;
use lineside::intake::{Classification, Message};
use lineside::review::{Fallback, Verdict};
use lineside::router::{Accepts, Bars, Policy, Router, Rule, To, Ways, When};
use serde_json::Value;

use crate::devices::QOS_1;
use crate::invariants::place;
use crate::world::{Plan, World};

const TOPIC: &str = "devices/press/answers";

/// Everything that the edge is not sure of goes to persons, here and elsewhere.
fn plan() -> Plan {
    let ways = Ways {
        doubtful_review: true,
        local_review: true,
        remote_review: Accepts::of(&[Classification::Public]),
        ..Ways::default()
    };
    let rule = Rule {
        name: "all".into(),
        when: When::default(),
        to: To::Edge,
    };
    let mut plan = Plan::calm();
    plan.setup.router = Router {
        policy: Policy::new(vec![rule], ways),
        bars: Bars {
            site: Some(0.65),
            ..Bars::default()
        },
        ..Router::default()
    };
    plan
}

fn world_of(plan: Plan) -> World {
    let mut world = World::new(3, plan, false);
    world.moody = false;
    world.rules_at_rest = false;
    world.broker.connect(Session::Resumed);
    world.pass(Duration::from_secs(1));
    world.drain_queues();
    world
}

/// A doubtful request that takes late answers, until it waits for a person.
fn waits(world: &mut World, id: &str, classification: &str) {
    let payload = format!(
        r#"{{"id":"{id}","prompt":"perhaps a bearing","classification":"{classification}",
           "late":true,"deadline_ms":5000}}"#
    );
    world.publish(Message {
        topic: "lineside/A/request/press".into(),
        payload: payload.into_bytes(),
        response_topic: Some(TOPIC.into()),
        ack: QOS_1,
        ..Message::default()
    });
    let before = world.disk.borrow().durable.review.len();
    for _ in 0..50 {
        world.pass(Duration::from_millis(20));
        world.fair_round();
    }
    assert_eq!(world.disk.borrow().durable.review.len(), before + 1);
}

fn ends(world: &World) -> Vec<Value> {
    let all = world.books.received.get(&place(TOPIC, None));
    let all = all.into_iter().flatten();
    let all = all.map(|json| serde_json::from_slice::<Value>(json).unwrap());
    all.filter(|it| it["final"] == true).collect()
}

/// What reviewers elsewhere got: state and classification of each item.
fn shown(world: &World) -> Vec<(String, String)> {
    let item = |payload: &Vec<u8>| {
        let json: Value = serde_json::from_slice(payload).unwrap();
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        (word("state"), word("classification"))
    };
    world.books.shown.iter().map(item).collect()
}

fn open(classification: &str) -> (String, String) {
    ("open".to_owned(), classification.to_owned())
}

fn withdrawn() -> (String, String) {
    ("withdrawn".to_owned(), String::new())
}

#[test]
fn a_site_may_refuse_what_nobody_ruled_on() {
    let mut plan = plan();
    plan.setup.review.at_expiry = Fallback::Refuse;
    let mut world = world_of(plan);
    waits(&mut world, "1", "public");
    world.pass(Duration::from_mins(11));
    world.run_until_quiet();
    let [end] = &ends(&world)[..] else {
        panic!("{:?}", ends(&world))
    };
    assert_eq!(end["error"]["code"], "expired");
}

#[test]
fn a_verdict_is_heard_when_it_is_durable_and_not_before() {
    let mut world = world_of(plan());
    waits(&mut world, "1", "public");
    world.rule(Verdict::Approve);
    world.spool_turn(); // the record is read
    world.deliver_spool();
    assert_eq!(
        world.books.asked.len(),
        1,
        "the outcome is on its way to the disk"
    );
    world.crash();
    assert_eq!(world.disk.borrow().durable.review.len(), 1);
    world.drain_queues();
    world.rule(Verdict::Correct("by hand".into()));
    world.spool_turn();
    world.deliver_spool();
    world.spool_turn(); // the outcome is written
    while !world.from_spool.is_empty() {
        world.deliver_spool();
    }
    assert!(world.books.asked.is_empty(), "the reviewer has heard");
    world.crash();
    world.run_until_quiet();
    let [end] = &ends(&world)[..] else {
        panic!("{:?}", ends(&world))
    };
    assert_eq!(
        (&end["text"], &end["source"]),
        (&"by hand".into(), &"human".into())
    );
}

#[test]
fn of_two_verdicts_at_once_the_first_counts_and_both_are_answered() {
    let mut world = world_of(plan());
    waits(&mut world, "1", "public");
    world.rule(Verdict::Correct("first".into()));
    world.rule(Verdict::Reject("second".into()));
    world.run_until_quiet();
    let [end] = &ends(&world)[..] else {
        panic!("{:?}", ends(&world))
    };
    assert_eq!(end["text"], "first");
    assert!(world.books.asked.is_empty());
}

#[test]
fn reviewers_elsewhere_are_shown_what_may_leave_after_each_reconnect_and_what_is_settled() {
    let mut world = world_of(plan());
    waits(&mut world, "1", "public");
    waits(&mut world, "2", "restricted");
    waits(&mut world, "3", "internal");
    assert_eq!(shown(&world), [open("public")]);

    world.broker.drop_connection();
    world.drain_queues();
    world.rule(Verdict::Approve);
    for _ in 0..5 {
        world.drain_queues();
    }
    assert!(world.books.asked.is_empty(), "it is settled");
    assert_eq!(shown(&world).len(), 1, "there is no line to say it");
    waits(&mut world, "4", "public");
    let all = [open("public"), withdrawn(), open("public")];
    assert_eq!(shown(&world), all);

    world.broker.drop_connection();
    for _ in 0..5 {
        world.fair_round();
    }
    assert_eq!(
        shown(&world)[3..],
        [open("public")],
        "once more, and nothing else"
    );
    world.crash();
    for _ in 0..5 {
        world.fair_round();
    }
    assert_eq!(shown(&world)[4..], [open("public")], "from the disk alone");
}
