//! The edges, one by one: what the seeds find by chance is told here as stories.

use std::time::Duration;

use lineside::broker::Session;
use lineside::dispatch::{Doors, Inquiry};
use lineside::engine::State;
use lineside::intake::{Code, Message};

use crate::broker::Fate;
use crate::devices::QOS_1;
use crate::invariants::place;
use crate::world::{Plan, World};

fn request(id: &str, text: &str, deadline_ms: u64) -> Message {
    let id = match id {
        "" => String::new(),
        id => format!(r#""id":"{id}","#),
    };
    Message {
        topic: "lineside/A/request/press".into(),
        payload: format!(r#"{{{id}"prompt":"{text}","deadline_ms":{deadline_ms}}}"#).into_bytes(),
        response_topic: Some("devices/press/answers".into()),
        ack: QOS_1,
        ..Message::default()
    }
}

/// Calm, connected and with nothing to do.
pub(crate) fn world(plan: Plan) -> World {
    let mut world = World::new(1, plan, false);
    world.moody = false;
    world.broker.connect(Session::Resumed);
    world.pass(Duration::from_secs(1));
    world.drain_queues();
    world
}

/// Everything that was received on the devices' topic.
pub(crate) fn replies(world: &World, topic: &str) -> Vec<String> {
    let all = world.books.received.get(&place(topic, None));
    let all = all.into_iter().flatten();
    all.map(|json| String::from_utf8_lossy(json).into_owned())
        .collect()
}

pub(crate) fn deliver_all(world: &mut World) {
    while world.broker.can_deliver() {
        world.broker.deliver();
    }
    for _ in 0..4 {
        world.drain_queues();
    }
}

#[test]
fn a_duplicate_of_an_open_request_is_answered_to_its_own_address_too_and_runs_once() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "bearing", 5000));
    deliver_all(&mut world);
    world.publish(Message {
        response_topic: Some("devices/hmi/answers".into()),
        ..request("1", "bearing", 5000)
    });
    deliver_all(&mut world);
    world.run_until_quiet();
    let (first, second) = (
        replies(&world, "devices/press/answers"),
        replies(&world, "devices/hmi/answers"),
    );
    assert_eq!(first.len(), 1);
    assert_eq!(first, second);
}

#[test]
fn a_second_address_survives_a_power_cut() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "bearing", 60_000));
    world.publish(Message {
        response_topic: Some("devices/hmi/answers".into()),
        ..request("1", "bearing", 60_000)
    });
    deliver_all(&mut world);
    world.crash();
    world.run_until_quiet();
    assert_eq!(replies(&world, "devices/hmi/answers").len(), 1);
}

#[test]
fn a_duplicate_after_the_outcome_gets_the_recorded_bytes() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "bearing", 5000));
    deliver_all(&mut world);
    world.run_until_quiet();
    world.publish(request("1", "bearing", 5000));
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    assert_eq!(replies.len(), 1, "{replies:?}");
}

#[test]
fn the_same_id_with_other_content_is_a_conflict() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "bearing", 5000));
    deliver_all(&mut world);
    world.publish(request("1", "belt", 5000));
    world.run_until_quiet();
    let count = ("refused", Code::IdConflict.word());
    let counts = world.counts_before_end();
    assert_eq!(counts.get(&count), Some(&1));
}

#[test]
fn a_deadline_that_passes_while_waiting_or_running_is_an_outcome() {
    let mut plan = Plan::calm();
    plan.slots = 1;
    plan.slow_ms = 100_000;
    let mut world = world(plan);
    world.moody = true; // the engine takes its time
    world.publish(request("running", "bearing", 1000));
    world.publish(request("waiting", "bearing", 1000));
    deliver_all(&mut world);
    world.pass(Duration::from_millis(1500));
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    assert_eq!(replies.len(), 2);
    assert!(
        replies
            .iter()
            .any(|reply| reply.contains(r#""code":"deadline""#))
    );
}

#[test]
fn the_model_s_choices_are_told_to_whom_asked_for_them_and_to_nobody_else() {
    let mut world = world(Plan::calm());
    let text = br#"{"id":"2","prompt":"bearing","deadline_ms":5000,"logprobs":true}"#;
    world.publish(request("1", "bearing", 5000));
    world.publish(Message {
        payload: text.to_vec(),
        ..request("2", "bearing", 5000)
    });
    deliver_all(&mut world);
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    let told = |reply: &&String| reply.contains(r#""logprobs":[[-0.25,0.5]]"#);
    let asked = |reply: &&String| reply.contains(r#""id":"2""#);
    assert_eq!(replies.len(), 2, "{replies:?}");
    assert_eq!(replies.iter().filter(told).count(), 1, "{replies:?}");
    assert!(
        replies.iter().filter(asked).all(|it| told(&it)),
        "{replies:?}"
    );
}

#[test]
fn a_power_cut_between_the_outcome_and_its_delivery_repeats_the_same_bytes() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "bearing", 5000));
    deliver_all(&mut world);
    world.pass(Duration::from_millis(200));
    deliver_all(&mut world);
    world.broker_turn(Fate::TakenButNotSaid);
    world.broker_turn(Fate::TakenButNotSaid);
    world.crash();
    world.run_until_quiet();
    assert_eq!(replies(&world, "devices/press/answers").len(), 1);
}

#[test]
fn an_answer_that_the_failing_store_did_not_take_is_written_when_it_is_back() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "bearing", 5000));
    deliver_all(&mut world);
    world.disk.borrow_mut().fail_sync = true;
    world.pass(Duration::from_millis(200));
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    assert!(replies[0].contains(r#""status":"answered""#), "{replies:?}");
}

#[test]
fn a_drain_leaves_waiting_requests_on_the_disk_for_the_next_start() {
    let mut plan = Plan::calm();
    plan.slots = 1;
    let mut world = world(plan);
    for id in ["1", "2", "3"] {
        world.publish(request(id, "bearing", 60_000));
    }
    deliver_all(&mut world);
    world.draining = true;
    world.turn(|dispatch, _| dispatch.on_drain());
    world.pass(Duration::from_secs(1));
    deliver_all(&mut world);
    assert!(world.disk.borrow().durable.inbox.len() >= 2);
    world.run_until_quiet();
    assert_eq!(replies(&world, "devices/press/answers").len(), 3);
}

#[test]
fn a_request_that_kills_the_engine_twice_is_refused_and_not_tried_again() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "poison", 60_000));
    deliver_all(&mut world);
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    assert!(
        replies[0].contains(r#""code":"engine_failed""#),
        "{replies:?}"
    );
}

#[test]
fn what_the_engine_refuses_is_refused_at_once_with_its_reason() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "endless", 60_000));
    deliver_all(&mut world);
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    let expected = r#""error":{"code":"over_context","message":"it does not fit"}"#;
    assert!(replies[0].contains(expected), "{replies:?}");
}

#[test]
fn time_on_the_disk_counts_towards_the_deadline() {
    let mut plan = Plan::calm();
    plan.slots = 1;
    plan.slow_ms = 100_000;
    let mut world = world(plan);
    world.moody = true;
    world.publish(request("1", "bearing", 30_000));
    deliver_all(&mut world);
    world.pass(Duration::from_secs(20));
    world.crash();
    world.engine.crash(world.at + Duration::from_secs(15)); // no engine until it is too late
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    assert!(replies[0].contains(r#""code":"deadline""#), "{replies:?}");
}

#[test]
fn a_redelivered_message_without_an_id_is_not_run_twice() {
    let mut world = world(Plan::calm());
    world.publish(request("", "bearing", 5000));
    world.broker.deliver();
    world.deliver_broker();
    world.spool_turn();
    world.crash(); // durable, not acknowledged: the broker brings it again
    world.run_until_quiet();
    let outcomes = world.disk.borrow().durable.ever.len();
    assert_eq!(outcomes, 1);
}

#[test]
fn without_an_engine_a_request_is_refused_honestly_and_on_record() {
    let mut plan = Plan::calm();
    plan.engine = State::Absent;
    let mut world = world(plan);
    world.publish(request("1", "bearing", 5000));
    world.run_until_quiet();
    let replies = replies(&world, "devices/press/answers");
    assert!(replies[0].contains("engine_unavailable"), "{replies:?}");
}

#[test]
fn two_people_who_ask_the_same_both_get_the_answer() {
    let mut world = world(Plan::calm());
    let ask = || Inquiry::Ask(br#"{"id":"l-1","prompt":"why"}"#.to_vec());
    world.inquire(ask());
    world.inquire(ask());
    world.run_until_quiet();
    assert!(world.books.asked.is_empty());
}

#[test]
fn the_text_of_a_request_stands_in_no_refusal_code() {
    let mut world = world(Plan::calm());
    world.publish(request("1", "the secret recipe", 5000));
    world.publish(request("1", "another secret recipe", 5000));
    world.run_until_quiet();
    for ((what, why), _) in world.counts_before_end() {
        assert!(!what.contains("secret") && !why.contains("secret"));
    }
    for reply in replies(&world, "devices/press/answers") {
        assert!(!reply.contains("secret recipe"), "{reply}");
    }
}

#[test]
fn maintenance_finishes_what_is_here_and_refuses_what_is_new() {
    let mut world = world(Plan::calm());
    world.publish(request("here", "bearing", 5000));
    deliver_all(&mut world);
    world.inquire(Inquiry::Maintenance(Some(Doors::Shut)));
    world.publish(request("new", "bearing", 5000));
    world.publish(request("here", "bearing", 5000));
    deliver_all(&mut world);
    world.inquire(Inquiry::Maintenance(Some(Doors::Open)));
    world.publish(request("after", "bearing", 5000));
    world.run_until_quiet();
    let told = replies(&world, "devices/press/answers");
    let answered = |id: &str| {
        let id = format!("\"id\":\"{id}\"");
        let mut of = told.iter().filter(|reply| reply.contains(&id));
        of.any(|reply| reply.contains("\"status\":\"answered\""))
    };
    assert!(answered("here") && answered("after"), "{told:?}");
    assert_eq!(
        told.len(),
        2,
        "the duplicate got the recorded outcome: {told:?}"
    );
    let count = ("refused", Code::Maintenance.word());
    assert_eq!(world.counts_before_end().get(&count), Some(&1));
}
