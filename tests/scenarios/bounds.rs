//! What must not grow, starve or run out, told one by one.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use lineside::broker::{self, Command, Session};
use lineside::clock::{Clock, Mono, Now, Wall};
use lineside::dispatch::shell::{self, Inlets, Outlet, Outlets};
use lineside::dispatch::{Dispatch, Recovered};
use lineside::engine;
use lineside::governor::{Allowance, Appetite};
use lineside::intake::{self, Code, Message};
use lineside::review::MAX_ITEMS;
use lineside::router::{Policy, Router, Rule, To, Ways, When};
use lineside::service::{Pulses, Stopper};
use lineside::spool::forms::{Passed, Waiting};
use lineside::spool::record::unseal;
use lineside::spool::shell::{Command as ToSpool, Event as FromSpool};
use lineside::spool::{Caps, Op, PerTree, Room, Spool, Tree};
use lineside::ticket::{TicketNo, Why};
use tokio::sync::{mpsc, watch};

use crate::devices::QOS_1;
use crate::disk::{Shared, SimDisk};
use crate::edges::{deliver_all, replies, world};
use crate::world::{Plan, World};

const TOPIC: &str = "devices/press/answers";
/// Records that may be read at a time because their time is up.
const READ_AT_A_TIME: usize = 64;
/// A boot without a battery, before the network tells the time.
const WALL_BEFORE_NTP_MS: u64 = 60_000;

fn request(id: &str, deadline_ms: u64) -> Message {
    Message {
        topic: "lineside/A/request/press".into(),
        payload: format!(r#"{{"id":"{id}","prompt":"bearing","deadline_ms":{deadline_ms}}}"#)
            .into_bytes(),
        response_topic: Some(TOPIC.into()),
        ack: QOS_1,
        ..Message::default()
    }
}

/// An engine that takes longer than anybody waits.
fn slow() -> Plan {
    let mut plan = Plan::calm();
    plan.slots = 1;
    plan.slow_ms = 10_000_000;
    plan
}

#[test]
fn after_a_night_without_power_what_expired_is_read_a_few_at_a_time() {
    let count = 3 * READ_AT_A_TIME;
    let mut plan = slow();
    plan.receive_max = count;
    plan.setup.gate.total = 1000;
    plan.setup.gate.per_client = 1000;
    let mut world = world(plan);
    world.moody = true;
    for n in 0..count {
        world.publish(request(&n.to_string(), 30_000));
    }
    while !world.to_spool.is_empty()
        || !world.broker.events.is_empty()
        || world.broker.can_deliver()
    {
        deliver_all(&mut world);
    }
    world.pass(Duration::from_hours(8));
    world.crash();
    world.turn(Dispatch::on_timeout);
    let reads = |world: &World| {
        let look = |it: &&ToSpool| matches!(it, ToSpool::Look { .. });
        world.to_spool.iter().filter(look).count()
    };
    assert_eq!(reads(&world), READ_AT_A_TIME);
    world.turn(Dispatch::on_timeout);
    assert_eq!(
        reads(&world),
        READ_AT_A_TIME,
        "and no more before an answer"
    );
    world.run_until_quiet();
    assert_eq!(replies(&world, TOPIC).len(), count);
}

#[test]
fn a_wall_clock_that_is_set_forward_forgets_no_outcome() {
    let mut world = world(Plan::calm());
    world.publish(request("1", 5000));
    deliver_all(&mut world);
    world.run_until_quiet();
    world.broker.connect(Session::Resumed);
    deliver_all(&mut world);
    world.set_wall_forward(Duration::from_hours(24 * 365 * 50));
    world.pass(Duration::from_mins(1));
    world.turn(Dispatch::on_timeout);
    deliver_all(&mut world);
    world.publish(request("1", 5000));
    deliver_all(&mut world);
    let disk = world.disk.borrow();
    let outcomes: Vec<_> = disk.durable.outcomes.keys().collect();
    assert_eq!(outcomes, [&TicketNo(1)]);
    assert!(disk.durable.inbox.is_empty(), "and no second run");
}

#[test]
fn what_was_accepted_before_the_clock_knew_the_time_is_not_too_old_after_a_restart() {
    let mut world = world(slow());
    world.moody = true;
    world.set_wall(Wall(WALL_BEFORE_NTP_MS));
    world.publish(request("1", 60_000));
    deliver_all(&mut world);
    world.set_wall_forward(Duration::from_hours(24 * 365 * 56));
    world.plan.slow_ms = 5;
    world.crash();
    world.engine.slow_ms = 5;
    world.run_until_quiet();
    let replies = replies(&world, TOPIC);
    assert!(replies[0].contains(r#""status":"answered""#), "{replies:?}");
}

#[test]
fn trails_stay_within_their_share_and_outcomes_outlive_them() {
    let mut plan = Plan::calm();
    plan.setup.gate.total = 1000;
    plan.setup.gate.per_client = 1000;
    plan.setup.window.trail_bytes = 2000;
    let mut world = world(plan);
    for n in 0..40 {
        world.publish(request(&n.to_string(), 5000));
        deliver_all(&mut world);
    }
    world.run_until_quiet();
    let live = world.spool.as_ref().unwrap().live();
    assert!(live.of(Tree::Trail) <= 2000, "{}", live.of(Tree::Trail));
    assert_eq!(world.disk.borrow().durable.outcomes.len(), 40);
    world.publish(request("0", 5000));
    world.run_until_quiet();
    assert_eq!(replies(&world, TOPIC).len(), 40);
}

/// A site where everything is for a person.
fn for_persons() -> Plan {
    let rule = Rule {
        name: "all".into(),
        when: When::default(),
        to: To::Review,
    };
    let ways = Ways {
        local_review: true,
        doubtful_review: true,
        ..Ways::default()
    };
    let mut plan = Plan::calm();
    plan.setup.router = Router {
        policy: Policy::new(vec![rule], ways),
        ..Router::default()
    };
    plan
}

#[test]
fn a_rule_sends_nothing_to_persons_for_whom_as_much_waits_as_may() {
    let setup = for_persons().setup;
    let now = Now {
        mono: Mono::default(),
        wall: Wall(1_700_000_000_000),
    };
    let read = intake::read(&request("1", 5000), &setup.topics, &setup.limits, now.wall);
    let request_of = read.unwrap();
    let mut bytes = PerTree::default();
    bytes.set(Tree::Review, u64::MAX);
    let caps = Caps {
        bytes,
        headroom_bytes: 0,
    };
    let mut spool = Spool::open(SimDisk(Shared::default()), caps).unwrap();
    let waiting = |no: u64| {
        let mut request = request_of.clone();
        request.id = intake::RequestId::Given(format!("old-{no}"));
        let passed = Passed {
            waiting: Waiting {
                no: TicketNo(no),
                accepted: now.wall,
                request,
                topic: None,
                course: None,
            },
            why: Why::EdgeShut,
            draft: None,
            since: now.wall,
            expires: now.wall.after(Duration::from_hours(24)),
        };
        vec![Op::Append {
            tree: Tree::Review,
            seq: TicketNo(no).inbox_seq(request_of.priority),
            record: passed.seal(),
            room: Room::Always,
            leased_until: None,
        }]
    };
    spool.commit((1..=MAX_ITEMS as u64).map(waiting).collect());
    let recovered = Recovered::read(&mut spool).unwrap();
    let mut dispatch = Dispatch::new(setup, recovered, now);
    assert_eq!(dispatch.open_tickets(), MAX_ITEMS);
    dispatch.take_effects(now);
    dispatch.on_broker(broker::Event::Message(request("1", 5000)), now);
    let effects = dispatch.take_effects(now);
    assert!(effects.spool.is_empty(), "nothing is written");
    let refused = effects.broker.iter().any(|command| match command {
        Command::Publish(parcel) => {
            String::from_utf8_lossy(&parcel.payload).contains(Code::Spool.word())
        }
        Command::Acknowledge(_) | Command::Close => false,
    });
    assert!(refused, "{:?}", effects.broker);
    assert_eq!(dispatch.in_flight(), 0);
}

/// Keeps everything, and says when there is an outcome.
fn write_all(commands: &Receiver<ToSpool>, events: &mpsc::Sender<FromSpool>) -> bool {
    let mut kept = BTreeMap::new();
    while let Ok(command) = commands.recv_timeout(Duration::from_secs(20)) {
        let (token, ops) = match command {
            ToSpool::Commit { token, ops } => (token, ops),
            ToSpool::Look {
                token, tree, from, ..
            } => {
                let found = kept.get(&(tree, from)).cloned();
                let records = found.map(|body| (from, body)).into_iter().collect();
                let answer = FromSpool::Records { token, records };
                events.blocking_send(answer).unwrap();
                continue;
            }
            ToSpool::Lease { .. } => continue,
        };
        for op in ops {
            if let Op::Append {
                tree, seq, record, ..
            } = op
            {
                kept.insert((tree, seq), unseal(&record).unwrap().to_vec());
            }
        }
        if kept.keys().any(|(tree, _)| *tree == Tree::Outcomes) {
            return true;
        }
        let live = PerTree::default();
        let written = FromSpool::Committed { token, live };
        events.blocking_send(written).unwrap();
    }
    false
}

#[test]
fn a_deadline_comes_although_an_inlet_is_never_empty() {
    const MANY: usize = 100_000;
    let clock = Clock::start();
    let (broker_in, broker) = mpsc::channel(16);
    let (spool_in, spool) = mpsc::channel(1000);
    let (engine_in, engine) = mpsc::channel(MANY);
    let (_uplink, uplink) = mpsc::channel(1);
    let (_allowance, allowance) = watch::channel(Allowance::default());
    let (_inquiries, inquiries) = mpsc::channel(1);
    let (_outfits, outfits) = mpsc::channel(1);
    let (_probes, probes) = mpsc::channel(1);
    let (_rollout, rollout) = watch::channel(Vec::new());
    let inlets = Inlets {
        broker,
        spool,
        engine,
        uplink,
        allowance,
        inquiries,
        outfits,
        probes,
        rollout,
    };
    let (to_broker, _broker_out) = mpsc::channel(1000);
    let (to_spool, commands) = channel();
    let (to_engine, _engine_out) = mpsc::channel(1000);
    let (to_uplink, _uplink_out) = mpsc::channel(1000);
    let (heard, _heard_out) = mpsc::channel(1000);
    let outlets = Outlets {
        broker: Outlet::new(to_broker),
        spool: to_spool,
        engine: Outlet::new(to_engine),
        uplink: Outlet::new(to_uplink),
        learnt: watch::channel(Vec::new()).0,
        appetite: watch::channel(Appetite::default()).0,
        heard: Outlet::new(heard),
        tap: None,
    };
    for _ in 0..MANY {
        let state = engine::Event::State(engine::State::Starting);
        engine_in.try_send(state).unwrap();
    }
    broker_in
        .try_send(broker::Event::Message(request("1", 10)))
        .unwrap();
    let _spool = spool_in.clone(); // it stays when all is written
    let disk = std::thread::spawn(move || write_all(&commands, &spool_in));
    let dispatch = Dispatch::new(Plan::calm().setup, Recovered::default(), clock.now());
    let (_stopper, stop) = Stopper::new();
    let pulse = Pulses::default().stage("dispatch", Duration::from_mins(1), clock.now());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let left = runtime.block_on(async {
        let running = shell::run(dispatch, inlets, outlets, clock, &pulse, stop);
        let watching = async {
            while !disk.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            MANY - engine_in.capacity()
        };
        tokio::select! {
            _ = running => unreachable!("nothing ends it"),
            left = watching => left,
        }
    });
    assert!(disk.join().unwrap(), "there is an outcome");
    assert!(
        left > 0,
        "and it came while there was always something else"
    );
}
