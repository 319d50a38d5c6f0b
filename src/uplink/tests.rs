//! The desk, driven by hand and at random.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chat::Reading;
use super::desk::{Call, CallNo, Desk, Outcome};
use super::*;
use crate::broker::Tls;
use crate::clock::Now;
use crate::intake::{
    Ask, Client, Detail, Late, Request, RequestId, ReturnAddress, Stream, digest_of,
};
use crate::router::{self, Accepts, Escalation, Policy, Ways, Why};

mod budgets;
mod properties;

const SECOND: Duration = Duration::from_secs(1);
/// Noon of 21 November 2026.
const NOON: u64 = 1_795_262_400_000;

fn upstream(name: &str) -> Upstream {
    Upstream {
        name: name.into(),
        url: "https://localhost/v1/chat/completions".into(),
        model: "large".into(),
        key: None,
        tls: Tls::default(),
        proxy: Proxy::None,
        accepts: Accepts::of(&[Classification::Public, Classification::Internal]),
        limits: Limits {
            start_every: Duration::ZERO,
            ..Limits::default()
        },
        budget: Budget::default(),
    }
}

fn question() -> Question {
    Question {
        instruction: "Say how urgent it is.".into(),
        input: "spindle vibration rising".into(),
        rule: Rule::Choices(vec!["now".into(), "later".into()]),
        form: Form::Text,
        max_tokens: 8,
    }
}

fn cleared_first(ticket: u64, upstream: &str) -> Cleared<ToCloud> {
    cleared(ticket, "spindle vibration rising", upstream)
}

fn clearance(ticket: u64, upstream: &str) -> Clearance<ToCloud> {
    cleared_first(ticket, upstream).into_parts().1
}

/// What the policy gives for a request with this text.
fn cleared(ticket: u64, text: &str, upstream: &str) -> Cleared<ToCloud> {
    let ways = Ways {
        doubtful_review: true,
        upstreams: vec![router::Upstream {
            name: upstream.into(),
            accepts: Accepts::of(&[Classification::Internal]),
        }],
        ..Ways::default()
    };
    let (ask, classification) = (Ask::Prompt(text.into()), Classification::Internal);
    let request = Request {
        id: RequestId::Given(ticket.to_string()),
        client: Client::Proven("press7".into()),
        content: digest_of(&ask, classification, None, None, None, None),
        ask,
        classification,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: SECOND,
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
    };
    let escalation = Escalation {
        ticket: TicketNo(ticket),
        request,
        draft: None,
        why: Why::EdgeShut,
    };
    let policy = Policy::reference(ways);
    policy.clear_for_cloud(escalation, upstream).unwrap()
}

fn errand(ticket: u64, ways: &[&str], until: Mono) -> Errand {
    let errand = Errand::new(cleared_first(ticket, ways[0]), question(), until);
    ways[1..]
        .iter()
        .fold(errand, |errand, way| errand.or(clearance(ticket, way)))
}

fn answer() -> Outcome {
    Outcome {
        result: Ok(Reading {
            text: "now".into(),
            model: "large-1".into(),
            confidence: Some(0.9),
            tokens: Tokens::default(),
        }),
        billed: Billed::Tokens {
            prompt: 20,
            completion: 1,
        },
    }
}

fn fails(fault: Fault) -> Outcome {
    Outcome {
        result: Err(fault),
        billed: Billed::Unknown,
    }
}

/// A desk, and everything that it said.
struct World {
    desk: Desk,
    now: Now,
    calls: Vec<Call>,
    aborts: Vec<CallNo>,
    ended: Vec<(u64, Result<CloudAnswer, Fault>)>,
    states: Vec<State>,
    marks: Vec<BTreeMap<String, Marks>>,
}

impl World {
    fn new(upstreams: Vec<Upstream>) -> Self {
        Self::going_on(upstreams, BTreeMap::new(), NOON)
    }

    fn going_on(upstreams: Vec<Upstream>, kept: BTreeMap<String, Marks>, wall: u64) -> Self {
        let now = Now {
            mono: Mono(SECOND),
            wall: Wall(wall),
        };
        let settings = Settings {
            upstreams,
            tries: 4,
            kept_in: "unused".into(),
        };
        let mut world = Self {
            desk: Desk::new(settings, kept, 11, now),
            now,
            calls: Vec::new(),
            aborts: Vec::new(),
            ended: Vec::new(),
            states: Vec::new(),
            marks: Vec::new(),
        };
        world.collect();
        world
    }

    fn collect(&mut self) {
        let effects = self.desk.take_effects();
        self.marks.extend(effects.marks);
        self.calls.extend(effects.calls);
        for no in effects.aborts {
            self.calls.retain(|call| call.no != no);
            self.aborts.push(no);
        }
        for event in effects.events {
            match event {
                Event::State(state) => self.states.push(state),
                Event::Ended { ticket, result } => self.ended.push((ticket.0, result)),
            }
        }
    }

    fn send(&mut self, ticket: u64, ways: &[&str]) {
        let until = self.now.mono.after(60 * SECOND);
        self.send_until(ticket, ways, until);
    }

    fn send_until(&mut self, ticket: u64, ways: &[&str], until: Mono) {
        self.give(Command::Send(errand(ticket, ways, until)));
    }

    fn give(&mut self, command: Command) {
        self.desk.on_command(command, self.now);
        self.collect();
    }

    /// Ends the oldest call under way.
    fn end(&mut self, outcome: Outcome) -> Call {
        let call = self.calls.remove(0);
        self.end_call(call.no, outcome);
        call
    }

    fn end_call(&mut self, no: CallNo, outcome: Outcome) {
        self.desk.on_outcome(no, outcome, self.now);
        self.collect();
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono.after(span);
        self.now.wall = self.now.wall.after(span);
        self.desk.on_timeout(self.now);
        self.collect();
    }

    /// Lets time pass until the desk wants to be woken.
    fn wake(&mut self) {
        let (at, _) = self
            .desk
            .deadline()
            .expect("there is something to wait for");
        self.pass(at.since(self.now.mono));
    }

    fn slots(&self) -> u32 {
        self.states.last().expect("it is told at once").slots
    }

    fn last_fault(&self) -> &Fault {
        let (_, result) = self.ended.last().expect("one has ended");
        result.as_ref().expect_err("it failed")
    }

    /// Fails an upstream with a single slot until it rests.
    fn trip(&mut self, way: &str) {
        for ticket in 900..900 + u64::from(super::breaker::TRIPS_AT) {
            self.send(ticket, &[way]);
            self.end(fails(Fault::Failing(500)));
            self.give(Command::Cancel(TicketNo(ticket)));
        }
    }
}

#[test]
fn an_errand_brings_its_answer_and_says_who_gave_it() {
    let mut world = World::new(vec![upstream("a")]);
    assert_eq!(world.slots(), 4);
    world.send(1, &["a"]);
    world.pass(SECOND);
    world.end(answer());
    let (ticket, result) = &world.ended[0];
    let answer = result.as_ref().unwrap();
    assert_eq!(
        (*ticket, answer.upstream.as_str(), answer.tries),
        (1, "a", 1)
    );
    assert_eq!(answer.text, "now");
    assert!(
        (answer.took_ms - 1000.0).abs() < 1.0,
        "by the clock that was handed in"
    );
    assert_eq!(world.ended.len(), 1);
}

#[test]
fn without_an_upstream_it_says_so_and_takes_nothing() {
    let mut world = World::new(Vec::new());
    assert_eq!(world.states, [State::default()]);
    world.send(1, &["a"]);
    assert_eq!(world.ended, [(1, Err(Fault::Uncleared))]);
}

#[test]
fn what_is_restricted_or_not_accepted_never_leaves() {
    let mut public = upstream("a");
    public.accepts = Accepts::of(&[Classification::Public, Classification::Restricted]);
    let mut world = World::new(vec![public]);
    world.send(1, &["a"]);
    let mut restricted = errand(2, &["a"], world.now.mono.after(SECOND));
    restricted.classification = Classification::Restricted;
    world.give(Command::Send(restricted));
    assert_eq!(
        world.ended,
        [(1, Err(Fault::Uncleared)), (2, Err(Fault::Uncleared))]
    );
    assert!(world.calls.is_empty());
}

#[test]
fn a_clearance_for_another_request_opens_no_way() {
    let errand = errand(1, &["a"], Mono(SECOND)).or(clearance(2, "b"));
    assert_eq!(errand.ways().len(), 1);
    let other = cleared(1, "something else", "b").into_parts().1;
    assert_eq!(errand.or(other).ways().len(), 1);
}

#[test]
fn the_key_depends_on_who_asked_what_and_on_nothing_else() {
    let key = |scope: &str, id: &str, content| IdempotencyKey::of(scope, id, Digest([content; 16]));
    assert_eq!(key("p:a", "1", 1), key("p:a", "1", 1));
    let others = [
        key("p:b", "1", 1),
        key("p:a", "2", 1),
        key("p:a", "1", 2),
        key("p:a1", "", 1),
    ];
    for other in others {
        assert_ne!(key("p:a", "1", 1), other);
    }
    assert!(
        !key("p:secret-client", "secret-id", 1)
            .as_str()
            .contains("secret")
    );
}

#[test]
fn a_fault_is_tried_again_with_the_same_key_and_a_growing_pause() {
    let mut one = upstream("a");
    one.limits.concurrent = 1;
    let mut world = World::new(vec![one, upstream("b")]);
    world.send(1, &["a"]);
    let first = world.end(fails(Fault::Broken));
    assert!(world.calls.is_empty(), "not at once");
    world.wake();
    let second = world.end(fails(Fault::Broken));
    assert_eq!(first.key, second.key);
    assert_ne!(first.no, second.no);
    world.wake();
    world.end(answer());
    let tries = world.ended[0].1.as_ref().unwrap().tries;
    assert_eq!((world.ended.len(), tries), (1, 3));
}

#[test]
fn the_next_way_takes_over_at_once() {
    let mut world = World::new(vec![upstream("a"), upstream("b")]);
    world.send(1, &["b", "a"]);
    assert_eq!(world.end(fails(Fault::Slow)).upstream, 1);
    assert_eq!(world.end(answer()).upstream, 0);
    assert_eq!(world.ended[0].1.as_ref().unwrap().upstream, "a");
}

#[test]
fn the_order_begins_with_the_upstream_that_a_rule_names() {
    let settings = Settings {
        upstreams: ["a", "b", "c"].map(upstream).into(),
        ..Settings::default()
    };
    let order = |named| settings.order(named).collect::<Vec<_>>();
    assert_eq!(order(Some("b")), ["b", "a", "c"]);
    assert_eq!(order(None), ["a", "b", "c"]);
    assert_eq!(order(Some("x")), ["a", "b", "c"]);
}

#[test]
fn an_answer_that_does_not_fit_is_not_asked_for_twice_at_the_same_place() {
    let misfit = || fails(Fault::Misfit(Misfit::Form));
    let mut world = World::new(vec![upstream("a"), upstream("b")]);
    world.send(1, &["a", "b"]);
    world.end(misfit());
    world.end(misfit());
    assert_eq!(*world.last_fault(), Fault::Misfit(Misfit::Form));
    assert_eq!(world.slots(), 8, "both upstreams work");
}

#[test]
fn after_failures_in_a_row_it_rests_and_then_one_probe_goes() {
    let mut world = World::new(vec![upstream("a")]);
    world.trip("a");
    assert_eq!(world.slots(), 0);
    world.send(1, &["a"]);
    let Fault::Resting { after } = *world.last_fault() else {
        panic!("{:?}", world.ended);
    };
    world.pass(after);
    assert_eq!(world.slots(), 1, "as many as may try");
    world.send(2, &["a"]);
    world.send(3, &["a"]);
    assert_eq!(
        world.calls.len(),
        1,
        "the other waits for what becomes of it"
    );
    world.end(answer());
    assert_eq!(world.slots(), 4);
    assert_eq!(world.calls.len(), 1, "now it goes");
}

#[test]
fn a_failed_probe_gives_back_those_who_waited_for_it() {
    let mut world = World::new(vec![upstream("a")]);
    world.trip("a");
    world.wake();
    world.ended.clear();
    world.send(2, &["a"]);
    world.send(3, &["a"]);
    world.end(fails(Fault::Unreachable));
    let tickets: Vec<_> = world.ended.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [2, 3]);
    assert_eq!(world.slots(), 0);
}

#[test]
fn a_rest_that_the_upstream_asks_for_is_kept() {
    let mut world = World::new(vec![upstream("a")]);
    world.send(1, &["a"]);
    let after = Some(7 * SECOND);
    world.end(fails(Fault::Limited { after }));
    assert_eq!(world.ended[0].1, Err(Fault::Limited { after }));
    world.pass(6 * SECOND);
    assert_eq!(world.slots(), 0);
    world.pass(SECOND);
    assert_eq!(world.slots(), 1);
}

#[test]
fn a_rest_that_nobody_would_ask_for_keeps_neither_upstream_nor_request_for_longer_than_any() {
    let mut world = World::new(vec![upstream("a")]);
    world.send(1, &["a"]);
    let after = Some(Duration::from_hours(24));
    world.end(fails(Fault::Limited { after }));
    let Worth::Later(rest) = world.last_fault().worth() else {
        panic!("it is worth another try");
    };
    assert_eq!(rest, Duration::from_mins(15));
    world.pass(rest);
    assert_eq!(world.slots(), 1, "and then there is somebody to ask");
}

#[test]
fn the_most_urgent_goes_first_and_among_equals_the_oldest() {
    let mut one = upstream("a");
    one.limits.concurrent = 1;
    let mut world = World::new(vec![one]);
    world.send(1, &["a"]);
    let until = world.now.mono.after(60 * SECOND);
    for (ticket, urgency, accepted) in [
        (2, Priority::Low, 1),
        (3, Priority::Normal, 9),
        (4, Priority::Normal, 5),
        (5, Priority::High, 8),
    ] {
        let mut errand = errand(ticket, &["a"], until);
        errand.urgency = urgency;
        errand.accepted = Wall(accepted);
        world.give(Command::Send(errand));
    }
    while !world.calls.is_empty() {
        world.end(answer());
    }
    let order: Vec<_> = world.ended.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(order, [1, 5, 4, 3, 2]);
}

#[test]
fn what_waited_for_an_upstream_arrives_in_a_trickle() {
    let mut paced = upstream("a");
    paced.limits.start_every = SECOND;
    let mut world = World::new(vec![paced]);
    for ticket in 1..=5 {
        world.send(ticket, &["a"]);
    }
    assert_eq!(
        world.calls.len(),
        4,
        "as many as may run at a time begin at once"
    );
    for _ in 0..4 {
        world.end(fails(Fault::Unreachable));
    }
    // However long that was, and however well paced everything has been.
    world.pass(Duration::from_hours(1));
    assert_eq!(world.slots(), 1);
    for ticket in 11..=14 {
        world.send(ticket, &["a"]);
    }
    assert_eq!(world.calls.len(), 1, "the probe");
    world.end(answer());
    let began = world.now.mono;
    let mut starts = Vec::new();
    while starts.len() < 3 {
        if world.calls.is_empty() {
            world.wake();
        } else {
            starts.push(world.now.mono.since(began));
            world.end(answer());
        }
    }
    assert!(
        starts
            .windows(2)
            .all(|pair| pair[1].saturating_sub(pair[0]) >= SECOND),
        "{starts:?}"
    );
}

#[test]
fn an_errand_whose_time_is_up_ends_late_and_its_call_is_broken_off() {
    let mut world = World::new(vec![upstream("a")]);
    let until = world.now.mono.after(SECOND);
    world.send_until(1, &["a"], until);
    assert_eq!(world.calls[0].limit, SECOND, "no longer than it is of use");
    world.wake();
    assert_eq!(world.ended, [(1, Err(Fault::Late))]);
    assert_eq!(world.aborts.len(), 1);
    world.end_call(CallNo(0), answer());
    assert_eq!(
        world.ended.len(),
        1,
        "an answer that comes all the same is none"
    );
}

#[test]
fn of_a_cancelled_errand_nothing_more_is_said_and_its_ticket_may_come_again() {
    let mut world = World::new(vec![upstream("a")]);
    world.send(1, &["a"]);
    world.give(Command::Cancel(TicketNo(1)));
    assert_eq!(world.aborts, [CallNo(0)]);
    world.end_call(CallNo(0), answer());
    assert!(world.ended.is_empty());
    world.send(1, &["a"]);
    world.end(answer());
    assert_eq!(world.ended.len(), 1);
}

#[test]
fn more_than_fit_are_given_back() {
    let mut world = World::new(vec![upstream("a")]);
    for ticket in 0..=MAX_ERRANDS as u64 {
        world.send(ticket, &["a"]);
    }
    assert_eq!(world.ended, [(MAX_ERRANDS as u64, Err(Fault::Busy))]);
}

fn with_tokens(name: &str, tokens: u64) -> Upstream {
    let mut budgeted = upstream(name);
    budgeted.budget.hour.tokens = Some(tokens);
    budgeted
}

fn worst() -> u64 {
    super::chat::worst_prompt_tokens(&question()) + u64::from(question().max_tokens)
}

#[test]
fn what_a_person_must_put_right_shuts_an_upstream_for_long() {
    for fault in [Fault::Denied(401), Fault::Untrusted, Fault::Elsewhere] {
        let mut world = World::new(vec![upstream("a")]);
        world.send(1, &["a"]);
        world.end(fails(fault.clone()));
        assert_eq!(*world.last_fault(), fault);
        world.pass(Duration::from_mins(2));
        assert_eq!(world.slots(), 0);
        world.pass(Duration::from_mins(3));
        assert_eq!(world.slots(), 1);
    }
}
