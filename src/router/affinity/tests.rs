//! Like questions get like tiers, memory is bounded, and a shift is told once.

use proptest::prelude::*;

use super::*;
use crate::clock::Wall;
use crate::intake::{Classification, Code, DeadlineLimits, Limits, Topics, read_local};
use crate::router::rule::{Bounds, Low};
use crate::router::{
    Accepts, Connectivity, Edge, Minute, Persons, Policy, Reach, Rule, Strain, To, Upstream, Ways,
    When,
};

fn at(seconds: u64) -> Mono {
    Mono(Duration::from_secs(seconds))
}

#[test]
fn an_estimate_that_wavers_about_a_threshold_gives_one_tier() {
    let mut affinity = Affinity::default();
    let mut tier = |estimate, second| affinity.steady("p:a", None, estimate, at(second)) > 0.72;
    assert!(!tier(0.70, 0));
    assert!(!tier(0.74, 1));
    assert!(!tier(0.71, 2));
    assert!(!tier(0.745, 3));
    assert!(tier(0.78, 4));
    assert!(tier(0.74, 5));
    assert!(!tier(0.72, 6));
}

#[test]
fn clients_and_tasks_have_anchors_of_their_own() {
    let mut affinity = Affinity::default();
    affinity.steady("p:a", Some("triage"), 0.5, at(0));
    for (client, task) in [
        ("p:b", Some("triage")),
        ("p:a", Some("guide")),
        ("p:a", None),
    ] {
        let seen = affinity.steady(client, task, 0.54, at(0));
        assert!((seen - 0.54).abs() < f32::EPSILON, "{client} {task:?}");
    }
    let seen = affinity.steady("p:a", Some("triage"), 0.54, at(0));
    assert!((seen - 0.5).abs() < f32::EPSILON);
}

#[test]
fn after_a_rest_the_next_question_is_a_new_matter() {
    let mut affinity = Affinity::default();
    let rest = MAX_REST.as_secs();
    let mut seen = |estimate, second| affinity.steady("p:a", None, estimate, at(second));
    seen(0.50, 0);
    assert!((seen(0.52, rest) - 0.50).abs() < f32::EPSILON);
    assert!((seen(0.52, 2 * rest + 1) - 0.52).abs() < f32::EPSILON);
}

#[test]
fn who_was_not_seen_for_the_longest_time_is_forgotten() {
    let mut affinity = Affinity::with_room(2);
    affinity.steady("a", None, 0.5, at(0));
    affinity.steady("b", None, 0.5, at(1));
    affinity.steady("a", None, 0.5, at(2));
    affinity.steady("c", None, 0.5, at(3));
    assert_eq!(affinity.len(), 2);
    let seen = affinity.steady("a", None, 0.52, at(4));
    assert!((seen - 0.5).abs() < f32::EPSILON);
    let seen = affinity.steady("b", None, 0.52, at(5));
    assert!((seen - 0.52).abs() < f32::EPSILON);
}

/// Requests of one client of which this share leaves the edge; how many shifts were told.
fn feed(drift: &mut Drift, random: &mut fastrand::Rng, count: u32, share: f64) -> Vec<Shift> {
    let went = |leaves| if leaves { Went::Onward } else { Went::Edge };
    (0..count)
        .filter_map(|_| drift.on_decision("p:a", went(random.f64() < share), at(0)))
        .collect()
}

#[test]
fn a_client_that_learns_its_way_to_the_cloud_is_told_of_once() {
    let mut drift = Drift::default();
    let mut random = fastrand::Rng::with_seed(5);
    assert_eq!(feed(&mut drift, &mut random, 2000, 0.05), []);
    let shifts = feed(&mut drift, &mut random, 150, 0.8);
    assert_eq!(shifts.len(), 1);
    assert!(shifts[0].now > shifts[0].before + 0.1);
    // It is the new normal after a while, and going back is another shift.
    assert_eq!(feed(&mut drift, &mut random, 4000, 0.8), []);
    let back = feed(&mut drift, &mut random, 150, 0.05);
    assert_eq!(back.len(), 1);
    assert!(back[0].now < back[0].before);
}

#[test]
fn a_steady_mix_is_never_told_of() {
    for (seed, share) in [(1, 0.0), (2, 0.03), (3, 0.2), (4, 0.5), (5, 0.9), (6, 1.0)] {
        let mut drift = Drift::default();
        let mut random = fastrand::Rng::with_seed(seed);
        assert_eq!(feed(&mut drift, &mut random, 100_000, share), [], "{share}");
    }
}

#[test]
fn shifts_are_told_no_oftener_than_the_mix_changes() {
    // The seeds are fixed, because chance alone does report a shift now and then.
    for seed in 0..50 {
        let mut drift = Drift::default();
        let mut random = fastrand::Rng::with_seed(seed);
        let shares: Vec<_> = (0..4).map(|_| random.f64()).collect();
        let told: usize = shares
            .iter()
            .map(|share| feed(&mut drift, &mut random, 5000, *share).len())
            .sum();
        assert!(told < shares.len(), "{told} of {shares:?}, seed {seed}");
    }
}

#[test]
fn nothing_is_said_of_a_client_that_hardly_asked() {
    let mut drift = Drift::default();
    let mut random = fastrand::Rng::with_seed(7);
    feed(&mut drift, &mut random, WARM_UP / 2, 0.0);
    assert_eq!(feed(&mut drift, &mut random, WARM_UP / 2 - 1, 1.0), []);
}

#[test]
fn one_client_s_shift_is_not_another_s() {
    let mut drift = Drift::default();
    let mut told = 0;
    for _ in 0..1000 {
        told += usize::from(drift.on_decision("p:a", Went::Edge, at(0)).is_some());
        told += usize::from(drift.on_decision("p:b", Went::Onward, at(0)).is_some());
    }
    assert_eq!(told, 0);
}

/// A public request of the appliance's own people.
fn request(fields: &str) -> Request {
    let payload = format!(r#"{{"classification":"public",{fields}}}"#);
    let topics = Topics {
        prefix: "lineside".into(),
        appliance: "line-3".into(),
        pool: None,
    };
    let limits = Limits {
        max_payload_bytes: 4096,
        max_prompt_bytes: 4096,
        deadlines: DeadlineLimits {
            default: Duration::from_secs(30),
            max: Duration::from_secs(30),
        },
        default_classification: Classification::Restricted,
        classification_by_topic: Vec::new(),
        reply_topics: Vec::new(),
    };
    read_local(payload.as_bytes(), &topics, &limits, Wall(0))
        .unwrap_or_else(|_| panic!("{payload}"))
}

const OPEN: Situation<'static> = Situation {
    topic: None,
    minute: Minute::MIDNIGHT,
    broker: Connectivity::Online,
    edge: Edge::Open,
    clouds: &[Reach::Open],
    review: Reach::Absent,
    strain: Strain::Nominal,
};

/// What is more complex than this goes to the cloud.
fn router(complexity: f32) -> Router {
    let complex = Rule {
        name: "complex".into(),
        when: When {
            complexity: Bounds {
                low: Some(Low::Above(complexity)),
                high: None,
            },
            ..When::default()
        },
        to: To::Cloud,
    };
    let ways = Ways {
        doubtful_review: true,
        upstreams: vec![Upstream {
            name: "main".into(),
            accepts: Accepts::of(&[Classification::Public]),
        }],
        ..Ways::default()
    };
    Router {
        policy: Policy::new(vec![complex], ways),
        ..Router::default()
    }
}

#[test]
fn like_questions_get_like_tiers_and_what_a_device_states_is_taken_as_it_is() {
    let one = request(r#""prompt":"spindle vibration 9.8 mm/s on CNC-07""#);
    let like = request(r#""prompt":"spindle vibration 9.8 mm/s on CNC-07, and 3""#);
    let estimate = |request| Router::default().estimator.estimate(request).complexity;
    let (low, high) = (estimate(&one), estimate(&like));
    assert!(low < high && high - low < BAND, "{low} {high}");
    let router = router(f32::midpoint(low, high));
    let mut habits = Habits::default();
    let mut tier = |request, now| habits.decide(&router, request, &OPEN, at(now)).tier;
    assert_eq!(router.admit(&like, &OPEN).tier, Tier::Cloud("main".into()));
    assert_eq!(tier(&one, 0), Tier::Edge);
    assert_eq!(tier(&like, 1), Tier::Edge);
    let stated = request(r#""prompt":"hm","complexity":0.99"#);
    assert_eq!(tier(&stated, 2), Tier::Cloud("main".into()));
    assert_eq!(tier(&one, 3), Tier::Edge, "and moves no anchor");
    let rested = 3 + MAX_REST.as_secs() + 1;
    assert_eq!(tier(&like, rested), Tier::Cloud("main".into()));
}

#[test]
fn what_a_rule_sends_onward_counts_at_once_and_the_rest_when_it_was_judged() {
    let onward = [
        Tier::Cloud("main".into()),
        Tier::Review(Persons::Here),
        Tier::Review(Persons::Everywhere),
    ];
    for tier in onward {
        assert_eq!(Went::by_rule(&tier), Some(Went::Onward), "{tier:?}");
    }
    for tier in [Tier::Edge, Tier::Refuse(Code::Policy)] {
        assert_eq!(Went::by_rule(&tier), None, "{tier:?}");
    }
    let mut habits = Habits::default();
    let asks = request(r#""prompt":"hm""#);
    let mut told = |went, count| {
        let told = (0..count).filter_map(|second| habits.went(&asks, went, at(second)));
        told.count()
    };
    assert_eq!(told(Went::Edge, 2 * u64::from(WARM_UP)), 0);
    assert_eq!(told(Went::Onward, 60), 1);
}

proptest! {
    #[test]
    fn what_the_rules_see_is_never_far_from_the_estimate_and_memory_is_bounded(
        asked in proptest::collection::vec((0..9u8, 0.0_f32..=1.0, 0..4000u64), 1..200),
        room in 1..5usize,
    ) {
        let mut affinity = Affinity::with_room(room);
        let mut now = 0;
        for (client, estimate, later) in asked {
            now += later;
            let seen = affinity.steady(&client.to_string(), None, estimate, at(now));
            prop_assert!((seen - estimate).abs() <= BAND);
            prop_assert!(affinity.len() <= room);
            prop_assert_eq!(affinity.anchors.order.len(), affinity.len());
        }
    }
}
