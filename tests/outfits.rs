//! What goes with a model, at the moment of its switch: no answer is judged by another's bars, and
//! whoever decides what serves hears of each answer under the load that gave it.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

#[path = "redaction/world.rs"]
#[allow(dead_code)]
mod world;

use lineside::dispatch::{Heard, Outfit, Probe};
use lineside::engine::{self, Fault, LoadEnd, LoadNo, Standing, State};
use lineside::intake::{
    Ask, Classification, Client, Code, Detail, Digest, Late, Message, Priority, Request, RequestId,
    ReturnAddress, Stream,
};
use lineside::ota::course::Answer;
use lineside::review::Forms;
use lineside::router::confidence::learning::Learning;
use lineside::router::{Accepts, Bars, Policy, Router, Rule, To, Upstream, Ways, When};
use lineside::uplink::Briefs;

use world::World;

const OLD: LoadNo = LoadNo(1);
const NEW: LoadNo = LoadNo(2);

/// The edge first, and a cloud for what is less sure than this.
fn router(threshold: f32) -> Router {
    let all = Accepts::of(&[Classification::Public]);
    let ways = Ways {
        upstreams: vec![Upstream {
            name: "main".into(),
            accepts: all,
        }],
        ..Ways::default()
    };
    let rule = Rule {
        name: "all".into(),
        when: When::default(),
        to: To::Edge,
    };
    Router {
        policy: Policy::new(vec![rule], ways),
        bars: Bars {
            site: Some(threshold),
            ..Bars::default()
        },
        ..Router::default()
    }
}

fn outfit(load: LoadNo, seq: u64, threshold: f32) -> Outfit {
    Outfit {
        load,
        package: ("p".into(), seq),
        standing: Standing {
            variant: "Q8_0".into(),
            board: "a board".into(),
            ring: Some("canary".into()),
            gate: Some((9, 10)),
        },
        router: router(threshold),
        forms: Forms::default(),
        briefs: Briefs::default(),
        learning: Learning::default(),
    }
}

fn asked(id: &str) -> Message {
    let payload = format!(r#"{{"prompt":"what now","id":"{id}","classification":"public"}}"#);
    Message {
        topic: "lineside/line-3/request".into(),
        payload: payload.into(),
        response_topic: Some("devices/press7/answers".into()),
        ..Message::default()
    }
}

/// An appliance whose first load serves, with these bars.
fn serving(world: &mut World, threshold: f32) {
    world.cloud_is_up(&["main"]);
    world.outfit(outfit(OLD, 1, threshold));
    world.load(OLD, LoadEnd::Serves);
    world.engine(State::Ready { slots: 4 });
}

fn answers(heard: &[Heard]) -> Vec<(LoadNo, Answer)> {
    let answers = heard.iter().filter_map(|it| match it {
        Heard::Answer(load, answer) => Some((*load, *answer)),
        _ => None,
    });
    answers.collect()
}

#[test]
fn an_answer_is_judged_by_the_bars_of_the_load_that_computed_it() {
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.message(asked("before"));
        world.outfit(outfit(NEW, 2, 0.95));
        world.load(NEW, LoadEnd::Serves);
        // The engine that retires ends what it had.
        world.complete_under(OLD, "by the old one", 0.9);
        world.message(asked("after"));
        world.complete_under(NEW, "by the new one", 0.9);
    });
    assert!(told.replies_quote("by the old one"));
    assert!(!told.replies_quote("by the new one"), "it is in doubt");
    assert_eq!(told.errands.len(), 1);
    let wanted = [(OLD, Answer::Good), (NEW, Answer::Escalated)];
    assert_eq!(answers(&told.heard), wanted);
}

#[test]
fn an_outfit_is_worn_when_its_load_serves_whichever_of_the_two_comes_first() {
    for outfit_first in [true, false] {
        let told = World::live_by(router(0.1), |world| {
            serving(world, 0.5);
            let new = outfit(NEW, 2, 0.95);
            if outfit_first {
                world.outfit(new);
                world.message(asked("between"));
                world.complete_under(OLD, "still the old one", 0.9);
                world.load(NEW, LoadEnd::Serves);
            } else {
                world.load(NEW, LoadEnd::Serves);
                world.outfit(new);
            }
            world.message(asked("after"));
            world.complete_under(NEW, "by the new one", 0.9);
        });
        assert_eq!(told.replies_quote("still the old one"), outfit_first);
        assert!(!told.replies_quote("by the new one"), "{outfit_first}");
    }
}

#[test]
fn a_load_that_came_to_nothing_leaves_everything_as_it_was() {
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.outfit(outfit(NEW, 2, 0.95));
        world.load(NEW, LoadEnd::Failed("no such file".into()));
        world.message(asked("after"));
        world.complete_under(OLD, "by the old one", 0.9);
    });
    assert!(told.replies_quote("by the old one"));
    let failed = Heard::Load(NEW, LoadEnd::Failed("no such file".into()));
    assert!(told.heard.contains(&failed), "{:?}", told.heard);
}

#[test]
fn each_end_of_a_request_is_heard_for_what_it_says_of_the_model() {
    let refused = |code| Fault::Refused {
        code,
        message: "no".into(),
    };
    for (fault, heard) in [
        (Fault::Crashed, Some(Answer::Failed)),
        (refused(Code::Deadline), Some(Answer::Failed)),
        (refused(Code::OverContext), Some(Answer::Refused)),
        (refused(Code::UnknownTask), Some(Answer::Refused)),
        (refused(Code::Invalid), None),
        (Fault::Busy, None),
    ] {
        let told = World::live_by(router(0.1), |world| {
            serving(world, 0.5);
            world.message(asked("x"));
            world.fail(fault.clone());
        });
        let wanted: Vec<_> = heard.map(|it| (OLD, it)).into_iter().collect();
        assert_eq!(answers(&told.heard), wanted, "{fault:?}");
    }
    // Time was up while the engine had it.
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.message(asked("x"));
        world.pass_ms(120_000);
    });
    assert_eq!(answers(&told.heard), [(OLD, Answer::Failed)]);
}

#[test]
fn a_reply_says_how_its_model_came_to_serve() {
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.message(asked("x"));
        world.complete_under(OLD, "go on", 0.9);
    });
    let wanted = r#""variant":"Q8_0","board":"a board","ring":"canary","gate":[9,10]"#;
    assert!(told.replies_quote(wanted), "{:?}", told.parcels);
}

fn item() -> Request {
    Request {
        id: RequestId::Given("gate-1".into()),
        client: Client::Anonymous,
        ask: Ask::Prompt("what now".into()),
        classification: Classification::Restricted,
        risk: None,
        complexity: None,
        priority: Priority::Low,
        deadline: std::time::Duration::from_mins(1),
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    }
}

fn probe(load: LoadNo, after_work: bool) -> Probe {
    Probe {
        load,
        item: 7,
        request: item(),
        after_work,
    }
}

/// What became of the probes, in order.
fn marks(heard: &[Heard]) -> Vec<Option<&str>> {
    let marks = heard.iter().filter_map(|it| match it {
        Heard::Mark { item: 7, text, .. } => Some(text.as_deref()),
        _ => None,
    });
    marks.collect()
}

#[test]
fn a_probe_is_asked_while_nothing_else_is_and_is_nobodys_request() {
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.probe(probe(OLD, false));
        assert!(world.is_running());
        world.complete_under(OLD, "as at the gate", 0.9);
        // One of a load that no longer serves, and one beside work, give way.
        world.probe(probe(LoadNo(9), false));
        world.message(asked("x"));
        world.probe(probe(OLD, false));
        world.complete_under(OLD, "for the device", 0.9);
        world.probe(probe(OLD, false));
        world.fail(Fault::Crashed);
    });
    assert_eq!(
        marks(&told.heard),
        [Some("as at the gate"), None, None, None]
    );
    assert!(!told.replies_quote("as at the gate"));
    assert_eq!(answers(&told.heard), [(OLD, Answer::Good)]);
}

#[test]
fn where_an_engine_is_to_be_ended_when_idle_a_probe_comes_after_work_only() {
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.probe(probe(OLD, true));
        assert!(!world.is_running());
        world.message(asked("x"));
        world.complete_under(OLD, "for the device", 0.9);
        world.probe(probe(OLD, true));
        world.complete_under(OLD, "as at the gate", 0.9);
        world.probe(probe(OLD, true));
        assert!(!world.is_running());
    });
    assert_eq!(marks(&told.heard), [None, Some("as at the gate"), None]);
}

/// What a load is told to be must not wait behind answers.
#[test]
fn a_switch_is_heard_before_the_first_answer_of_what_was_switched_to() {
    let told = World::live_by(router(0.1), |world| {
        serving(world, 0.5);
        world.outfit(outfit(NEW, 2, 0.5));
        world.load(NEW, LoadEnd::Serves);
        world.message(asked("x"));
        world.complete_under(NEW, "go on", 0.9);
    });
    let place = |wanted: &Heard| told.heard.iter().position(|it| it == wanted).unwrap();
    let switched = place(&Heard::Load(NEW, LoadEnd::Serves));
    let answered = place(&Heard::Answer(NEW, Answer::Good));
    assert!(switched < answered, "{:?}", told.heard);
    assert_eq!(engine::LoadNo::default(), LoadNo(0), "no load has it");
}
