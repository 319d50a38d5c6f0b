//! What the governor allows, and what becomes of requests meanwhile.

use std::time::Duration;

use lineside::broker::Session;
use lineside::governor::{Allowance, Appetite, Cause, Forecast, Level, Taken};
use lineside::intake::{Classification, Message, Priority};
use lineside::router::{Accepts, Policy, Router, Upstream, Ways};
use serde_json::Value;

use crate::devices::QOS_1;
use crate::invariants::place;
use crate::world::{Plan, World};

const DOORS: [Taken; 4] = [Taken::All, Taken::NormalAndHigh, Taken::High, Taken::Nobody];

fn allowance(door: Taken, cause: Cause, retry_after: Duration) -> Allowance {
    Allowance {
        state: match door {
            Taken::All => Level::Nominal,
            Taken::NormalAndHigh => Level::Warm,
            Taken::High => Level::Hot,
            Taken::Nobody => Level::Critical,
        },
        cause: (door != Taken::All).then_some(cause),
        taken: door,
        retry_after,
        ..Allowance::default()
    }
}

impl World {
    /// The governor says what may run.
    pub(crate) fn allow(&mut self, allowance: Allowance) {
        self.note(|| format!("governor: {:?} {:?}", allowance.taken, allowance.cause));
        self.door = allowance.taken;
        self.turn(|dispatch, now| dispatch.on_allowance(allowance, now));
    }

    pub(crate) fn random_heat(&mut self) {
        let door = DOORS[self.rng.usize(0..DOORS.len())];
        let cause = [Cause::Heat, Cause::Memory][self.rng.usize(0..2)];
        let retry_after = Duration::from_millis([10, 500, 20_000][self.rng.usize(0..3)]);
        self.allow(allowance(door, cause, retry_after));
    }

    /// Invariant 5: nothing is begun for whom the governor shuts out.
    pub(crate) fn check_let_in(&self, priority: Priority) {
        let let_in = match self.door {
            Taken::All => true,
            Taken::NormalAndHigh => priority != Priority::Low,
            Taken::High => priority == Priority::High,
            Taken::Nobody => false,
        };
        if !let_in {
            self.fail("(5) something is begun that the governor does not allow");
        }
    }
}

const TOPIC: &str = "devices/press/answers";
const RETRY: Duration = Duration::from_secs(3);

/// With a model elsewhere for what is public, or alone.
fn world(with_cloud: bool) -> World {
    let mut plan = Plan::calm();
    let upstream = Upstream {
        name: "main".into(),
        accepts: Accepts::of(&[Classification::Public]),
    };
    let ways = Ways {
        upstreams: with_cloud.then_some(upstream).into_iter().collect(),
        ..Ways::default()
    };
    plan.setup.router = Router {
        policy: Policy::reference(ways),
        ..Router::default()
    };
    let mut world = World::new(3, plan, false);
    world.moody = false;
    world.broker.connect(Session::Resumed);
    world.pass(Duration::from_secs(1));
    world.drain_queues();
    world
}

fn request(id: &str, classification: &str, priority: &str, deadline_ms: u64) -> Message {
    let payload = format!(
        r#"{{"id":"{id}","prompt":"bearing","classification":"{classification}","priority":"{priority}","risk":0,"complexity":0,"deadline_ms":{deadline_ms}}}"#
    );
    Message {
        topic: "lineside/A/request/press".into(),
        payload: payload.into_bytes(),
        response_topic: Some(TOPIC.into()),
        ack: QOS_1,
        ..Message::default()
    }
}

fn run_for(world: &mut World, span: Duration) {
    let end = world.at + span;
    while world.at < end {
        world.fair_round();
        world.pass(Duration::from_millis(20));
    }
    world.fair_round();
}

fn replies(world: &World) -> Vec<Value> {
    let all = world.books.received.get(&place(TOPIC, None));
    let all = all.into_iter().flatten();
    all.map(|json| serde_json::from_slice(json).unwrap())
        .collect()
}

fn shut(world: &mut World, cause: Cause) {
    world.allow(allowance(Taken::Nobody, cause, RETRY));
}

fn open(world: &mut World) {
    world.allow(Allowance::default());
}

#[test]
fn what_comes_when_it_is_too_hot_goes_to_the_cloud_that_can_be_reached() {
    let mut world = world(true);
    shut(&mut world, Cause::Heat);
    world.publish(request("1", "public", "normal", 10_000));
    run_for(&mut world, Duration::from_secs(1));
    let reply = &replies(&world)[0];
    assert_eq!(
        (&reply["source"], &reply["degraded"]),
        (&"cloud".into(), &true.into()),
        "{reply}"
    );
    let reasons = reply["route"]["reasons"].to_string();
    assert!(reasons.contains("hot"), "{reply}");
    open(&mut world);
    world.run_until_quiet();
}

#[test]
fn with_nobody_else_it_waits_where_its_deadline_lets_it_and_is_answered_here() {
    let mut world = world(false);
    shut(&mut world, Cause::Heat);
    world.publish(request("1", "public", "normal", 10_000));
    run_for(&mut world, RETRY);
    assert!(replies(&world).is_empty());
    open(&mut world);
    run_for(&mut world, Duration::from_secs(1));
    let reply = &replies(&world)[0];
    assert_eq!(
        (&reply["source"], &reply["status"]),
        (&"edge".into(), &"answered".into()),
        "{reply}"
    );
    assert!(
        reply["route"]["reasons"]
            .to_string()
            .contains("waits (hot)")
    );
    world.run_until_quiet();
}

#[test]
fn with_nobody_else_and_no_time_it_is_refused_and_told_when_to_come_again() {
    for (cause, code) in [(Cause::Heat, "hot"), (Cause::Memory, "memory")] {
        let mut world = world(false);
        shut(&mut world, cause);
        world.publish(request("1", "public", "high", 2000));
        run_for(&mut world, Duration::from_millis(500));
        let error = &replies(&world)[0]["error"];
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["retry_after_ms"], 3000, "{error}");
        world.run_until_quiet();
    }
}

#[test]
fn what_is_restricted_never_goes_elsewhere_for_heat() {
    let mut world = world(true);
    shut(&mut world, Cause::Heat);
    world.publish(request("1", "restricted", "normal", 2000));
    run_for(&mut world, Duration::from_secs(1));
    assert_eq!(replies(&world)[0]["error"]["code"], "hot");
    assert!(world.cloud.asked.is_empty());
    world.run_until_quiet();
}

#[test]
fn while_only_the_urgent_are_let_in_the_others_wait_behind_them() {
    let mut world = world(false);
    world.allow(allowance(Taken::High, Cause::Heat, RETRY));
    for (id, priority) in [("1", "low"), ("2", "normal"), ("3", "high")] {
        world.publish(request(id, "restricted", priority, 30_000));
    }
    run_for(&mut world, Duration::from_secs(2));
    let ids = |world: &World| -> Vec<String> {
        let all = replies(world).into_iter();
        let mut all: Vec<_> = all
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    };
    assert_eq!(ids(&world), ["3"]);
    world.allow(allowance(Taken::NormalAndHigh, Cause::Heat, RETRY));
    run_for(&mut world, Duration::from_secs(2));
    assert_eq!(ids(&world), ["2", "3"]);
    open(&mut world);
    run_for(&mut world, Duration::from_secs(2));
    assert_eq!(ids(&world), ["1", "2", "3"]);
    world.run_until_quiet();
}

#[test]
fn what_waits_when_the_door_is_shut_goes_elsewhere_too_and_so_does_what_is_being_computed() {
    let mut world = world(true);
    world.engine.slow_ms = 60_000;
    for id in 1..=6 {
        world.publish(request(&id.to_string(), "public", "normal", 20_000));
    }
    while world.broker.can_deliver() {
        world.broker.deliver();
    }
    while !world.broker.events.is_empty() {
        world.deliver_broker();
    }
    let at = world.at;
    while !world.engine.commands.is_empty() {
        world.engine.take_command(at, &mut world.rng, true); // it takes its time
    }
    assert!(!world.engine.is_idle());
    shut(&mut world, Cause::Heat);
    run_for(&mut world, Duration::from_secs(4));
    let replies = replies(&world);
    let from_cloud = replies.iter().filter(|it| it["source"] == "cloud").count();
    assert_eq!(replies.len(), 6, "{replies:?}");
    assert_eq!(from_cloud, 6, "{replies:?}");
    open(&mut world);
    world.run_until_quiet();
}

#[test]
fn a_deadline_that_passes_meanwhile_says_that_it_was_the_heat() {
    let mut world = world(false);
    shut(&mut world, Cause::Heat);
    world.publish(request("1", "restricted", "normal", 5000));
    run_for(&mut world, Duration::from_secs(6));
    let error = &replies(&world)[0]["error"];
    assert_eq!(error["code"], "hot", "{error}");
    assert!(error["message"].as_str().unwrap().contains("time was up"));
    world.run_until_quiet();
}

#[test]
fn what_is_asked_of_the_engine_is_counted_whether_it_is_let_in_or_not() {
    let mut world = world(false);
    open(&mut world);
    world.publish(request("1", "restricted", "high", 5000));
    run_for(&mut world, Duration::from_secs(2));
    shut(&mut world, Cause::Heat);
    world.publish(request("2", "restricted", "low", 1000));
    run_for(&mut world, Duration::from_secs(2));
    let mut asked = Appetite::default();
    world.turn(|dispatch, _| asked = dispatch.appetite());
    let expected = Appetite {
        high: 1,
        normal: 0,
        low: 1,
        answered: 1,
    };
    assert_eq!(asked, expected);
    world.run_until_quiet();
}

#[test]
fn the_status_topic_tells_state_forecast_and_time_to_limit() {
    let mut world = world(false);
    world.allow(Allowance {
        forecast: Some(Forecast {
            celsius: 80.5,
            limit_celsius: 85.0,
            ahead_celsius: 84.0,
            limit_in: Some(Duration::from_secs(140)),
        }),
        why: "resting a third of the time".into(),
        rest_permille: 500,
        ..allowance(Taken::NormalAndHigh, Cause::Heat, RETRY)
    });
    world.drain_queues();
    let status: Value = serde_json::from_str(&world.broker.last_status).unwrap();
    let expected = serde_json::json!({
        "state": "warm", "short": "hot", "celsius": 80.5, "limit_celsius": 85.0,
        "ahead_celsius": 84.0, "limit_in_s": 140, "rest_permille": 500,
        "why": "resting a third of the time",
    });
    assert_eq!(status["governor"], expected);
    world.run_until_quiet();
}
