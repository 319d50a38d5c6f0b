//! The cascade, edge by edge: edge, cloud, person, and what the device hears of it.

use std::collections::VecDeque;
use std::time::Duration;

use lineside::broker::Session;
use lineside::dispatch::Inquiry;
use lineside::engine::State;
use lineside::intake::{Classification, Message};
use lineside::review::Verdict;
use lineside::router::{Accepts, Bars, Policy, Router, Rule, TaskBar, To, Upstream, Ways, When};
use lineside::spool::forms::read_step;
use lineside::ticket::TicketNo;
use lineside::uplink::{Fault, Garble, Misfit};
use serde_json::Value;

use crate::cloud::Said;
use crate::devices::QOS_1;
use crate::invariants::place;
use crate::world::{Plan, World};

const SOON: Duration = Duration::from_millis(100);
const TOPIC: &str = "devices/press/answers";

/// Who is there besides the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Cloud,
    Persons,
    Both,
    Nobody,
}

fn router(others: Others, to: To) -> Router {
    let everything = Accepts::of(&[Classification::Public, Classification::Internal]);
    let upstream = |name: &str| Upstream {
        name: name.into(),
        accepts: everything,
    };
    let cloud = matches!(others, Others::Cloud | Others::Both);
    let ways = Ways {
        doubtful_review: true,
        upstreams: cloud.then(|| upstream("main")).into_iter().collect(),
        local_review: matches!(others, Others::Persons | Others::Both),
        remote_review: Accepts::default(),
    };
    let rule = Rule {
        name: "all".into(),
        when: When::default(),
        to,
    };
    let bar = |threshold, verify| TaskBar { threshold, verify };
    Router {
        policy: Policy::new(vec![rule], ways),
        bars: Bars {
            site: Some(0.65),
            cloud: None,
            tasks: [("extract".to_owned(), bar(0.65, true))].into(),
        },
        ..Router::default()
    }
}

fn plan(others: Others, to: To) -> Plan {
    let mut plan = Plan::calm();
    plan.setup.router = router(others, to);
    plan.setup.patience.cloud = Duration::from_millis(500);
    plan
}

fn world(others: Others, to: To) -> World {
    world_of(plan(others, to))
}

fn world_of(plan: Plan) -> World {
    let mut world = World::new(2, plan, false);
    world.moody = false;
    world.rules_at_rest = false;
    world.broker.connect(Session::Resumed);
    world.pass(Duration::from_secs(1));
    world.drain_queues();
    world
}

/// A request of which the edge is sure or not, with more keys.
fn request(text: &str, more: &str) -> Message {
    let payload = format!(r#"{{"id":"1","classification":"public",{text}{more}}}"#);
    Message {
        topic: "lineside/A/request/press".into(),
        payload: payload.into_bytes(),
        response_topic: Some(TOPIC.into()),
        ack: QOS_1,
        ..Message::default()
    }
}

const SURE: &str = r#""prompt":"bearing""#;
const UNSURE: &str = r#""prompt":"perhaps a bearing""#;
const TOO_LONG: &str = r#""prompt":"endless bearing""#;
const DEADLY: &str = r#""prompt":"poison""#;
const VERIFIED: &str = r#""task":"extract","input":"bearing""#;
const WAITS: &str = r#","deadline_ms":5000,"late":true"#;
const HURRIED: &str = r#","deadline_ms":5000"#;

fn ask(world: &mut World, message: Message) {
    world.publish(message);
    run_for(world, SOON);
}

/// Lets everything move for so long, in small steps.
fn run_for(world: &mut World, span: Duration) {
    let end = world.at + span;
    loop {
        world.fair_round();
        world.fair_round();
        if world.at >= end {
            return;
        }
        world.pass(Duration::from_millis(20));
    }
}

fn script(world: &mut World, results: impl IntoIterator<Item = Result<Said, Fault>>) {
    let soon = Duration::from_millis(10);
    world.cloud.script = results.into_iter().map(|it| (soon, it)).collect();
}

fn replies(world: &World) -> Vec<Value> {
    let all = world.books.received.get(&place(TOPIC, None));
    let all = all.into_iter().flatten();
    all.map(|json| serde_json::from_slice(json).unwrap())
        .collect()
}

fn provisional(world: &World) -> Vec<Value> {
    let all = replies(world);
    all.into_iter().filter(|it| it["final"] == false).collect()
}

/// The one final reply.
#[track_caller]
fn outcome(world: &World) -> Value {
    let all = replies(world);
    let mut ends = all.into_iter().filter(|it| it["final"] == true);
    let end = ends.next().expect("no final reply");
    assert!(ends.next().is_none(), "two final replies");
    end
}

#[track_caller]
fn assert_open(world: &World) {
    assert!(replies(world).iter().all(|it| it["final"] == false));
}

/// What the trail says, in words.
fn trail(world: &World) -> Vec<String> {
    let steps = world.disk.borrow().steps(TicketNo(1));
    let steps = steps.iter().map(|body| read_step(body).unwrap());
    steps.map(|step| step.what.told()).collect()
}

fn reasons(reply: &Value) -> String {
    reply["route"]["reasons"].to_string()
}

#[test]
fn what_the_edge_is_sure_of_stays_and_says_so() {
    let mut world = world(Others::Both, To::Edge);
    ask(&mut world, request(SURE, HURRIED));
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["status"]),
        (&"edge".into(), &"answered".into())
    );
    assert!(reasons(&end).contains("confidence 0.90 >= 0.65"), "{end}");
    assert!(world.cloud.asked.is_empty() && provisional(&world).is_empty());
    world.run_until_quiet();
}

#[test]
fn what_the_edge_doubts_the_cloud_answers_and_the_device_hears_one_reply() {
    let mut world = world(Others::Both, To::Edge);
    script(&mut world, [Ok(("large", Some(0.9)))]);
    ask(&mut world, request(UNSURE, HURRIED));
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["text"]),
        (&"cloud".into(), &"large".into())
    );
    assert_eq!(end["model"]["upstream"], "main");
    assert!(reasons(&end).contains("confidence 0.30 < 0.65"), "{end}");
    assert!(provisional(&world).is_empty());
    world.run_until_quiet();
    let trail = trail(&world);
    let passed = "passed to the cloud: confidence 0.30 < 0.65";
    assert!(trail.iter().any(|step| step == passed), "{trail:?}");
    assert!(trail.iter().any(|step| step == "cloud asked"), "{trail:?}");
}

#[test]
fn a_cloud_that_takes_its_time_is_preceded_by_what_the_edge_says() {
    let mut world = world(Others::Cloud, To::Edge);
    let late = Duration::from_millis(1500);
    world.cloud.script = VecDeque::from([(late, Ok(("large", None)))]);
    ask(&mut world, request(UNSURE, WAITS));
    assert!(replies(&world).is_empty());
    run_for(&mut world, Duration::from_secs(1));
    let first = &provisional(&world)[0];
    assert_eq!(
        (&first["source"], &first["status"]),
        (&"edge".into(), &"provisional".into())
    );
    run_for(&mut world, Duration::from_secs(1));
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["text"]),
        (&"cloud".into(), &"large".into())
    );
    assert!(end.get("confidence").is_none(), "{end}");
    world.run_until_quiet();
}

#[test]
fn without_a_line_the_edge_s_best_goes_out_at_once_and_the_cloud_s_answer_follows() {
    let mut world = world(Others::Cloud, To::Edge);
    world.cloud.set_up(false);
    world.drain_queues();
    ask(&mut world, request(UNSURE, WAITS));
    let first = &provisional(&world)[0];
    assert_eq!(
        (&first["degraded"], &first["source"]),
        (&true.into(), &"edge".into())
    );
    run_for(&mut world, Duration::from_mins(1));
    assert_open(&world);
    world.crash();
    world.cloud.set_up(true);
    script(&mut world, [Ok(("large", None))]);
    run_for(&mut world, SOON);
    assert_eq!(outcome(&world)["text"], "large");
    assert_eq!(provisional(&world).len(), 1);
    world.run_until_quiet();
}

#[test]
fn at_its_deadline_a_hurried_request_gets_the_best_there_is_and_a_late_answer_is_recorded() {
    let mut world = world(Others::Cloud, To::Edge);
    let late = Duration::from_secs(9);
    world.cloud.script = VecDeque::from([(late, Ok(("too late", None)))]);
    ask(&mut world, request(UNSURE, HURRIED));
    run_for(&mut world, Duration::from_secs(6));
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["degraded"]),
        (&"edge".into(), &true.into())
    );
    assert!(reasons(&end).contains("the deadline passed before the cloud answered"));
    run_for(&mut world, Duration::from_secs(5));
    assert_eq!(outcome(&world), end, "it is not delivered");
    world.run_until_quiet();
    assert!(trail(&world).iter().any(|step| step == "late answer"));
    let counts = world.counts_before_end();
    assert_eq!(counts.get(&("cloud", "late answer")), Some(&1));
}

#[test]
fn at_its_deadline_a_hurried_request_without_any_answer_is_refused() {
    let mut world = world(Others::Cloud, To::Cloud);
    world.engine.state = State::Absent;
    world.crash();
    let late = Duration::from_secs(9);
    world.cloud.script = VecDeque::from([(late, Ok(("too late", None)))]);
    ask(&mut world, request(SURE, HURRIED));
    run_for(&mut world, Duration::from_secs(6));
    assert_eq!(outcome(&world)["error"]["code"], "deadline");
    world.run_until_quiet();
}

#[test]
fn at_its_deadline_a_patient_request_hears_that_more_will_follow() {
    let mut world = world(Others::Cloud, To::Cloud);
    world.engine.state = State::Absent;
    world.crash();
    let late = Duration::from_secs(9);
    world.cloud.script = VecDeque::from([(late, Ok(("at last", None)))]);
    ask(&mut world, request(SURE, WAITS));
    run_for(&mut world, Duration::from_secs(6));
    let first = &provisional(&world)[0];
    assert_eq!(
        (&first["status"], first.get("text")),
        (&"provisional".into(), None)
    );
    run_for(&mut world, Duration::from_secs(5));
    assert_eq!(outcome(&world)["text"], "at last");
    world.run_until_quiet();
}

#[test]
fn a_fault_that_may_pass_keeps_the_request_and_the_device_hears_the_edge_meanwhile() {
    let after = Duration::from_secs(3);
    for fault in [
        Fault::Resting { after },
        Fault::Budget { after },
        Fault::Limited { after: Some(after) },
        Fault::Limited { after: None },
        Fault::Unreachable,
        Fault::Untrusted,
        Fault::Broken,
        Fault::Slow,
        Fault::Failing(503),
        Fault::Denied(401),
        Fault::Elsewhere,
        Fault::Garbled(Garble::Json),
    ] {
        let mut world = world(Others::Both, To::Edge);
        script(&mut world, [Err(fault.clone()), Ok(("large", None))]);
        ask(&mut world, request(UNSURE, WAITS));
        let first = provisional(&world);
        assert_eq!(first.len(), 1, "{fault}");
        assert_eq!(first[0]["degraded"], true, "{fault}");
        assert_open(&world);
        run_for(&mut world, Duration::from_secs(4));
        assert_eq!(outcome(&world)["text"], "large", "{fault}");
        world.run_until_quiet();
        let said = format!("cloud: {}", fault.word().replace('_', " "));
        assert!(trail(&world).contains(&said), "{:?}", trail(&world));
    }
}

#[test]
fn a_busy_uplink_is_asked_again_and_the_device_hears_nothing_of_it() {
    let mut world = world(Others::Cloud, To::Edge);
    script(&mut world, [Err(Fault::Busy), Ok(("large", None))]);
    ask(&mut world, request(UNSURE, WAITS));
    assert!(replies(&world).is_empty());
    run_for(&mut world, Duration::from_secs(2));
    assert_eq!(outcome(&world)["text"], "large");
    world.run_until_quiet();
}

#[test]
fn a_request_without_budget_is_not_offered_before_there_is_one() {
    let mut world = world(Others::Cloud, To::Edge);
    let after = Duration::from_mins(3);
    script(
        &mut world,
        [Err(Fault::Budget { after }), Ok(("large", None))],
    );
    ask(&mut world, request(UNSURE, WAITS));
    run_for(&mut world, Duration::from_mins(2));
    assert_eq!(world.cloud.asked.len(), 1);
    run_for(&mut world, Duration::from_mins(2));
    assert_eq!(world.cloud.asked.len(), 2);
    assert_eq!(
        world.cloud.asked[0], world.cloud.asked[1],
        "one key for both"
    );
    assert_eq!(outcome(&world)["text"], "large");
    world.run_until_quiet();
}

#[test]
fn what_the_cloud_can_never_answer_goes_to_a_person_or_ends_with_what_there_is() {
    for fault in [
        Fault::Rejected(400),
        Fault::Misfit(Misfit::Truncated),
        Fault::TooDear,
        Fault::Uncleared,
    ] {
        let mut alone = world(Others::Cloud, To::Edge);
        script(&mut alone, [Err(fault.clone())]);
        ask(&mut alone, request(UNSURE, WAITS));
        let end = outcome(&alone);
        assert_eq!(
            (&end["source"], &end["degraded"]),
            (&"edge".into(), &true.into())
        );
        alone.run_until_quiet();

        let mut both = world(Others::Both, To::Edge);
        script(&mut both, [Err(fault.clone())]);
        ask(&mut both, request(UNSURE, WAITS));
        assert_eq!(provisional(&both).len(), 1, "{fault}");
        assert_eq!(both.disk.borrow().durable.review.len(), 1, "{fault}");
        both.rule(Verdict::Correct("by hand".into()));
        run_for(&mut both, SOON);
        let end = outcome(&both);
        assert_eq!(
            (&end["source"], &end["text"]),
            (&"human".into(), &"by hand".into())
        );
        both.run_until_quiet();
    }
}

#[test]
fn what_a_rule_sends_to_the_cloud_the_edge_answers_first_where_the_cloud_does_not() {
    let mut world = world(Others::Cloud, To::Cloud);
    script(&mut world, [Err(Fault::Unreachable), Ok(("large", None))]);
    ask(&mut world, request(SURE, WAITS));
    let first = &provisional(&world)[0];
    assert_eq!(
        (&first["source"], &first["degraded"]),
        (&"edge".into(), &true.into())
    );
    run_for(&mut world, Duration::from_secs(3));
    assert_eq!(outcome(&world)["text"], "large");
    world.run_until_quiet();
    assert!(
        trail(&world)
            .iter()
            .any(|step| step == "the edge stands in")
    );
}

#[test]
fn the_edge_stands_in_too_where_the_cloud_only_takes_too_long() {
    let mut world = world(Others::Cloud, To::Cloud);
    let late = Duration::from_mins(1);
    world.cloud.script = VecDeque::from([(late, Ok(("never", None)))]);
    ask(&mut world, request(SURE, WAITS));
    run_for(&mut world, Duration::from_secs(1));
    let first = &provisional(&world)[0];
    assert_eq!(first["source"], "edge");
    run_for(&mut world, Duration::from_secs(3));
    assert_eq!(outcome(&world)["source"], "cloud");
    world.run_until_quiet();
}

#[test]
fn what_the_edge_cannot_the_cloud_may() {
    for text in [TOO_LONG, DEADLY] {
        let mut world = world(Others::Cloud, To::Edge);
        script(&mut world, [Ok(("large", None))]);
        ask(&mut world, request(text, WAITS));
        run_for(&mut world, Duration::from_secs(3));
        assert_eq!(outcome(&world)["text"], "large", "{text}");
        world.run_until_quiet();
    }
    let mut world = world(Others::Cloud, To::Edge);
    world.engine.state = State::Absent;
    world.crash();
    script(&mut world, [Ok(("large", None))]);
    ask(&mut world, request(SURE, WAITS));
    assert_eq!(outcome(&world)["text"], "large");
    world.run_until_quiet();
}

#[test]
fn restricted_content_stays_and_is_refused_where_the_edge_cannot() {
    for text in [TOO_LONG, DEADLY] {
        let mut world = world(Others::Cloud, To::Edge);
        let message = request(text, WAITS);
        let json = String::from_utf8(message.payload.clone()).unwrap();
        let payload = json.replace("public", "restricted").into_bytes();
        ask(&mut world, Message { payload, ..message });
        run_for(&mut world, Duration::from_secs(3));
        assert_eq!(outcome(&world)["status"], "refused", "{text}");
        assert!(world.cloud.asked.is_empty());
        world.run_until_quiet();
    }
}

#[test]
fn a_doubtful_restricted_answer_is_a_matter_for_the_persons_here() {
    let mut world = world(Others::Both, To::Edge);
    let message = request(UNSURE, WAITS);
    let json = String::from_utf8(message.payload.clone()).unwrap();
    let payload = json.replace("public", "restricted").into_bytes();
    ask(&mut world, Message { payload, ..message });
    assert!(world.cloud.asked.is_empty());
    assert_eq!(world.disk.borrow().durable.review.len(), 1);
    world.rule(Verdict::Approve);
    run_for(&mut world, SOON);
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["status"]),
        (&"human".into(), &"answered".into())
    );
    world.run_until_quiet();
}

#[test]
fn what_the_cloud_agrees_to_is_confirmed_and_what_it_does_not_is_corrected() {
    for (said, source) in [("answer 1", "edge"), ("another", "cloud")] {
        let mut world = world(Others::Cloud, To::Edge);
        script(&mut world, [Ok((said, Some(0.9)))]);
        ask(&mut world, request(VERIFIED, WAITS));
        let first = &provisional(&world)[0];
        assert_eq!(
            (&first["text"], &first["degraded"]),
            (&"answer 1".into(), &false.into())
        );
        let end = outcome(&world);
        assert_eq!(
            (&end["source"], &end["text"]),
            (&source.into(), &said.into())
        );
        world.run_until_quiet();
    }
}

#[test]
fn a_doubtful_answer_of_the_cloud_goes_to_a_person_and_without_one_it_is_the_last_word() {
    let mut alone = world(Others::Cloud, To::Edge);
    script(&mut alone, [Ok(("hardly", Some(0.2)))]);
    ask(&mut alone, request(UNSURE, WAITS));
    assert_eq!(outcome(&alone)["text"], "hardly");
    alone.run_until_quiet();

    let mut both = world(Others::Both, To::Edge);
    script(&mut both, [Ok(("hardly", Some(0.2)))]);
    ask(&mut both, request(UNSURE, WAITS));
    assert_eq!(provisional(&both)[0]["text"], "hardly");
    both.rule(Verdict::Reject("not to be answered".into()));
    run_for(&mut both, SOON);
    assert_eq!(outcome(&both)["error"]["code"], "rejected");
    both.run_until_quiet();
}

#[test]
fn what_nobody_rules_on_ends_with_what_there_is() {
    let mut world = world(Others::Persons, To::Edge);
    ask(&mut world, request(UNSURE, WAITS));
    assert_open(&world);
    run_for(&mut world, Duration::from_mins(11));
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["degraded"]),
        (&"edge".into(), &true.into())
    );
    world.run_until_quiet();

    let mut world = self::world(Others::Persons, To::Review);
    ask(&mut world, request(UNSURE, WAITS));
    run_for(&mut world, Duration::from_mins(11));
    assert_eq!(outcome(&world)["error"]["code"], "expired");
    world.run_until_quiet();
}

#[test]
fn a_crash_while_an_errand_is_out_asks_once_more_under_the_same_key() {
    let mut world = world(Others::Cloud, To::Edge);
    let late = Duration::from_secs(2);
    world.cloud.script = VecDeque::from([(late, Ok(("lost", None)))]);
    ask(&mut world, request(UNSURE, WAITS));
    assert_eq!(world.cloud.asked.len(), 1);
    world.crash();
    script(&mut world, [Ok(("large", None))]);
    run_for(&mut world, Duration::from_secs(1));
    assert_eq!(world.cloud.asked.len(), 2);
    assert_eq!(world.cloud.asked[0], world.cloud.asked[1]);
    assert_eq!(outcome(&world)["text"], "large");
    world.run_until_quiet();
}

#[test]
fn a_duplicate_of_what_is_away_gets_its_outcome_too() {
    let mut world = world(Others::Cloud, To::Edge);
    world.cloud.set_up(false);
    ask(&mut world, request(UNSURE, WAITS));
    let elsewhere = "devices/hmi/answers";
    let message = Message {
        response_topic: Some(elsewhere.into()),
        ..request(UNSURE, WAITS)
    };
    ask(&mut world, message);
    world.cloud.set_up(true);
    script(&mut world, [Ok(("large", None))]);
    run_for(&mut world, Duration::from_secs(1));
    let other = world.books.received.get(&place(elsewhere, None)).unwrap();
    let other: Value = serde_json::from_slice(other.first().unwrap()).unwrap();
    assert_eq!(other, outcome(&world));
    world.run_until_quiet();
}

#[test]
fn whoever_asks_at_the_appliance_has_one_answer_by_the_deadline() {
    let mut world = world(Others::Persons, To::Edge);
    let json = br#"{"id":"l-1","prompt":"perhaps"}"#.to_vec();
    world.inquire(Inquiry::Ask(json));
    run_for(&mut world, Duration::from_secs(31));
    assert!(world.books.asked.is_empty());
    world.run_until_quiet();
}

#[test]
fn what_is_missing_is_told_when_it_begins_and_when_it_ends() {
    let mut world = world(Others::Cloud, To::Edge);
    let reduced = |world: &World| world.dispatch.as_ref().unwrap().status().reduced;
    run_for(&mut world, SOON);
    assert!(reduced(&world).is_empty());
    world.cloud.set_up(false);
    run_for(&mut world, SOON);
    assert_eq!(reduced(&world), ["cloud"]);
    let last = |world: &World| world.broker.last_status.clone();
    assert!(
        last(&world).contains(r#""reduced":["cloud"]"#),
        "{}",
        last(&world)
    );
    // Between two tries it may be asked; that does not mean that it answers.
    world.cloud.set_up(true);
    run_for(&mut world, SOON);
    assert_eq!(reduced(&world), ["cloud"]);
    script(&mut world, [Ok(("from elsewhere", Some(0.9)))]);
    ask(&mut world, request(UNSURE, WAITS));
    assert!(reduced(&world).is_empty());
    assert!(!last(&world).contains("reduced"), "{}", last(&world));
    world.run_until_quiet();
}

#[test]
fn a_full_tree_for_the_cloud_leaves_the_device_with_what_there_is() {
    let mut plan = plan(Others::Cloud, To::Edge);
    plan.caps.bytes.set(lineside::spool::Tree::Cloud, 10);
    let mut world = world_of(plan);
    ask(&mut world, request(UNSURE, WAITS));
    let end = outcome(&world);
    assert_eq!(
        (&end["source"], &end["degraded"]),
        (&"edge".into(), &true.into())
    );
    world.run_until_quiet();
}

#[test]
fn with_nobody_else_a_doubtful_answer_is_final_and_tells_its_doubt() {
    let mut world = world(Others::Nobody, To::Edge);
    ask(&mut world, request(UNSURE, WAITS));
    let end = outcome(&world);
    assert!(reasons(&end).contains("confidence 0.30 < 0.65"), "{end}");
    assert_eq!(end["degraded"], false);
    world.run_until_quiet();
}
