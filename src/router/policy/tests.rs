//! What the policy promises: the first rule that fits decides, the cascade is the same for all,
//! and what is restricted stays.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::intake::{
    Ask, Client, Detail, Digest, Late, Priority, Request, RequestId, ReturnAddress, Stream,
    digest_of,
};
use crate::reply::Connectivity;
use crate::router::Router;
use crate::router::facts::Strain;
use crate::router::pattern::{Keywords, Minute, NamePattern, Window};
use crate::router::rule::{Aspect, Bounds, High, Low, Tokens, When};
use crate::ticket::TicketNo;

pub(in crate::router) fn request(classification: Classification) -> Request {
    sealed(Request {
        id: RequestId::Given("press7-1".into()),
        client: Client::Proven("press7".into()),
        ask: Ask::Task {
            task: "triage".into(),
            input: "spindle vibration 9.8 mm/s".into(),
        },
        classification,
        risk: Some(0),
        complexity: Some(0.0),
        priority: Priority::Normal,
        deadline: Duration::from_secs(2),
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    })
}

/// The request as intake would have accepted it.
pub(in crate::router) fn sealed(request: Request) -> Request {
    let content = digest_of(
        &request.ask,
        request.classification,
        request.risk,
        request.complexity,
        request.max_tokens,
        request.schema.as_deref(),
    );
    Request { content, ..request }
}

fn escalation(classification: Classification) -> Escalation {
    Escalation {
        ticket: TicketNo(7),
        request: request(classification),
        draft: None,
        why: Why::Rule("complex".into()),
    }
}

/// An appliance with everything there is: a public cloud, one in the plant, persons everywhere.
pub(in crate::router) fn ways() -> Ways {
    Ways {
        upstreams: vec![
            Upstream {
                name: "main".into(),
                accepts: Accepts::of(&[Classification::Public]),
            },
            Upstream {
                name: "plant".into(),
                accepts: Accepts::of(&[Classification::Public, Classification::Internal]),
            },
        ],
        local_review: true,
        remote_review: Accepts::of(&[Classification::Public]),
    }
}

pub(in crate::router) const ALL_OPEN: Situation<'static> = Situation {
    topic: None,
    minute: Minute::MIDNIGHT,
    broker: Connectivity::Online,
    edge: Edge::Open,
    clouds: &[Reach::Open, Reach::Open],
    review: Reach::Open,
    strain: Strain::Nominal,
};

fn cloud(name: &str) -> Tier {
    Tier::Cloud(name.into())
}

fn reference() -> Router {
    Router {
        policy: Policy::reference(ways()),
        context_tokens: 512,
        ..Router::default()
    }
}

/// The rule and the tier by the reference table.
fn by_reference(
    classification: Classification,
    risk: u8,
    complexity: f32,
    tokens: u32,
) -> (String, Tier) {
    let router = reference();
    let request = request(classification);
    let facts = Facts {
        risk,
        complexity,
        tokens,
        ..router.facts(&request, &ALL_OPEN)
    };
    let decision = router.policy.decide(&facts, &ALL_OPEN);
    (decision.route.rule, decision.tier)
}

#[test]
fn the_reference_rules_hold_at_each_of_their_boundaries() {
    let public = Classification::Public;
    let rule = |risk, complexity, tokens| by_reference(public, risk, complexity, tokens).0;
    assert_eq!(rule(0, 0.0, 512), "default");
    assert_eq!(rule(0, 0.0, 513), "too-long");
    assert_eq!(rule(79, 0.0, 1), "default");
    assert_eq!(rule(80, 0.0, 1), "high-risk");
    assert_eq!(rule(100, 0.0, 1), "high-risk");
    assert_eq!(rule(0, 0.72, 1), "default");
    assert_eq!(rule(0, 0.72_f32.next_up(), 1), "complex");
    assert_eq!(rule(0, 1.0, 1), "complex");
    // Their order: too long before risk, risk before complexity.
    assert_eq!(rule(80, 1.0, 513), "too-long");
    assert_eq!(rule(80, 1.0, 512), "high-risk");
    let restricted = by_reference(Classification::Restricted, 100, 1.0, 100_000);
    assert_eq!(restricted, ("restricted-stays".into(), Tier::Edge));
    let person = by_reference(public, 80, 0.0, 1).1;
    assert_eq!(person, Tier::Review(Persons::Everywhere));
    let internal = by_reference(Classification::Internal, 80, 0.0, 1).1;
    assert_eq!(internal, Tier::Review(Persons::Here));
}

#[test]
fn a_complexity_that_a_device_writes_as_the_threshold_is_not_above_it() {
    // Both come from decimal text; each is rounded to the same number.
    let written: f64 = "0.72".parse().unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let read = written as f32;
    assert_eq!(
        by_reference(Classification::Public, 0, read, 1).0,
        "default"
    );
}

#[test]
fn a_cloud_is_taken_in_the_order_of_the_configuration_and_by_what_it_accepts() {
    let tier = |class, situation: &Situation<'_>| {
        let cascade = Cascade {
            ways: &ways(),
            situation,
            classification: class,
        };
        cascade.follow(&To::Cloud).tier
    };
    let shut = Situation {
        clouds: &[Reach::Shut, Reach::Open],
        ..ALL_OPEN
    };
    assert_eq!(tier(Classification::Public, &ALL_OPEN), cloud("main"));
    assert_eq!(tier(Classification::Public, &shut), cloud("plant"));
    assert_eq!(tier(Classification::Internal, &ALL_OPEN), cloud("plant"));
    assert_eq!(tier(Classification::Restricted, &ALL_OPEN), Tier::Edge);
}

/// Where a rule leads on an appliance like this.
fn follow(to: &To, class: Classification, ways: &Ways, situation: &Situation<'_>) -> Decision {
    let cascade = Cascade {
        ways,
        situation,
        classification: class,
    };
    cascade.follow(to)
}

#[test]
fn a_named_cloud_is_not_replaced_by_another() {
    let shut = Situation {
        clouds: &[Reach::Shut, Reach::Open],
        ..ALL_OPEN
    };
    let to = To::CloudAt("main".into());
    let decision = follow(&to, Classification::Public, &ways(), &shut);
    assert_eq!(decision.tier, Tier::Edge);
    assert_eq!(decision.owed, Some(cloud("main")));
    assert!(decision.degraded);
}

#[test]
fn the_edge_stands_in_for_a_cloud_out_of_reach_and_owes_it_the_last_word() {
    let offline = Situation {
        clouds: &[Reach::Shut, Reach::Shut],
        ..ALL_OPEN
    };
    let decision = follow(&To::Cloud, Classification::Public, &ways(), &offline);
    assert_eq!(decision.tier, Tier::Edge);
    assert_eq!(decision.owed, Some(cloud("main")));
    assert!(decision.degraded);
    // Within reach, the edge is only the stopgap.
    let online = follow(&To::Cloud, Classification::Public, &ways(), &ALL_OPEN);
    assert_eq!(online.stopgap, Some(Tier::Edge));
    assert!(!online.degraded);
}

#[test]
fn without_a_cloud_or_a_person_the_edge_answers_and_owes_nobody() {
    let alone = Situation {
        clouds: &[],
        review: Reach::Absent,
        ..ALL_OPEN
    };
    for to in [To::Cloud, To::Review] {
        let decision = follow(&to, Classification::Public, &Ways::default(), &alone);
        assert_eq!(decision.tier, Tier::Edge, "{to}");
        assert_eq!(decision.owed, None, "{to}");
        assert_eq!(decision.onward, [], "{to}");
        assert!(decision.degraded, "{to}");
        assert!(!decision.route.reasons.is_empty(), "{to}");
    }
    let edge = follow(&To::Edge, Classification::Public, &Ways::default(), &alone);
    assert_eq!((edge.tier, edge.degraded), (Tier::Edge, false));
}

#[test]
fn what_the_edge_cannot_take_goes_on_unless_it_is_restricted() {
    let shut = Situation {
        edge: Edge::Shut(Code::EngineUnavailable),
        ..ALL_OPEN
    };
    let tier = |class, situation: &Situation<'_>| {
        let decision = follow(&To::Edge, class, &ways(), situation);
        assert!(decision.degraded);
        decision.tier
    };
    assert_eq!(tier(Classification::Public, &shut), cloud("main"));
    assert_eq!(tier(Classification::Internal, &shut), cloud("plant"));
    let refused = Tier::Refuse(Code::EngineUnavailable);
    assert_eq!(tier(Classification::Restricted, &shut), refused);
    let offline = Situation {
        clouds: &[Reach::Shut, Reach::Shut],
        ..shut.clone()
    };
    let person = Tier::Review(Persons::Everywhere);
    assert_eq!(tier(Classification::Public, &offline), person);
    let nobody = Situation {
        review: Reach::Absent,
        ..offline
    };
    assert_eq!(tier(Classification::Public, &nobody), cloud("main"));
}

#[test]
fn doubt_goes_to_the_clouds_that_accept_it_and_then_to_a_person() {
    let onward = |class| follow(&To::Edge, class, &ways(), &ALL_OPEN).onward;
    let everywhere = Tier::Review(Persons::Everywhere);
    let here = || Tier::Review(Persons::Here);
    assert_eq!(
        onward(Classification::Public),
        [cloud("main"), cloud("plant"), everywhere]
    );
    assert_eq!(onward(Classification::Internal), [cloud("plant"), here()]);
    assert_eq!(onward(Classification::Restricted), [here()]);
}

#[test]
fn a_rule_may_refuse_and_the_reply_says_which() {
    let rule = Rule {
        name: "no-prompts".into(),
        when: When {
            task: Some(vec![NamePattern::Absent]),
            ..When::default()
        },
        to: To::Refuse,
    };
    let router = Router {
        policy: Policy::new(vec![rule], ways()),
        ..Router::default()
    };
    let prompt = Request {
        ask: Ask::Prompt("tell me a joke".into()),
        ..request(Classification::Public)
    };
    let decision = router.admit(&prompt, &ALL_OPEN);
    assert_eq!(decision.tier, Tier::Refuse(Code::Policy));
    assert_eq!(decision.route.rule, "no-prompts");
    let task = router.admit(&request(Classification::Public), &ALL_OPEN);
    assert_eq!(task.route.rule, DEFAULT_RULE);
}

#[test]
fn only_what_a_place_accepts_is_cleared_for_it() {
    let policy = reference().policy;
    let denied = |class, upstream: &str| {
        let cleared = policy.clear_for_cloud(escalation(class), upstream);
        cleared.map(drop).map_err(|(_, denied)| denied)
    };
    assert_eq!(denied(Classification::Public, "main"), Ok(()));
    assert_eq!(
        denied(Classification::Internal, "main"),
        Err(Denied::NotAccepted)
    );
    assert_eq!(denied(Classification::Internal, "plant"), Ok(()));
    assert_eq!(
        denied(Classification::Restricted, "plant"),
        Err(Denied::Restricted)
    );
    assert_eq!(
        denied(Classification::Public, "moon"),
        Err(Denied::NoSuchPlace)
    );
    let cleared = policy.clear_for_cloud(escalation(Classification::Public), "plant");
    let clearance = cleared.unwrap().into_parts().1;
    assert_eq!(clearance.place().upstream, "plant");
    assert_eq!(clearance.ticket(), TicketNo(7));
    assert_eq!(clearance.content(), request(Classification::Public).content);
    let reviewers = |class| policy.clear_for_reviewers(escalation(class)).is_ok();
    assert!(reviewers(Classification::Public));
    assert!(!reviewers(Classification::Internal));
    assert!(!reviewers(Classification::Restricted));
}

#[test]
fn a_request_that_was_relabelled_on_the_way_is_not_cleared() {
    let policy = reference().policy;
    let relabelled = Escalation {
        request: Request {
            classification: Classification::Public,
            ..request(Classification::Restricted)
        },
        ..escalation(Classification::Public)
    };
    let (back, denied) = policy.clear_for_cloud(relabelled, "plant").unwrap_err();
    assert_eq!(denied, Denied::Altered);
    assert_eq!(
        policy.clear_for_reviewers(back).unwrap_err().1,
        Denied::Altered
    );
}

fn classifications() -> impl Strategy<Value = Classification> + Clone {
    prop_oneof![
        Just(Classification::Public),
        Just(Classification::Internal),
        Just(Classification::Restricted),
    ]
}

fn lines() -> impl Strategy<Value = Connectivity> {
    prop_oneof![Just(Connectivity::Online), Just(Connectivity::Offline)]
}

fn reaches() -> impl Strategy<Value = Reach> {
    prop_oneof![Just(Reach::Open), Just(Reach::Shut), Just(Reach::Absent)]
}

/// Few values, so that rules and requests meet.
fn risks() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(20), Just(79), Just(80), Just(81), Just(100)]
}

fn complexities() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(0.0),
        Just(0.5),
        Just(0.72),
        Just(0.72_f32.next_up()),
        0.0_f32..1.0
    ]
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(1),
        Just(100),
        Just(511),
        Just(512),
        Just(513),
        1..2000u32
    ]
}

fn bounds<T: Clone + std::fmt::Debug + 'static>(
    marks: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Bounds<T>> {
    let low = prop_oneof![
        2 => Just(None),
        1 => marks.clone().prop_map(|mark| Some(Low::AtLeast(mark))),
        1 => marks.clone().prop_map(|mark| Some(Low::Above(mark))),
    ];
    let high = prop_oneof![
        2 => Just(None),
        1 => marks.clone().prop_map(|mark| Some(High::AtMost(mark))),
        1 => marks.prop_map(|mark| Some(High::Below(mark))),
    ];
    (low, high).prop_map(|(low, high)| Bounds { low, high })
}

fn seldom<T: std::fmt::Debug + Clone + 'static>(
    values: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![3 => Just(None), 1 => values.prop_map(Some)]
}

fn names() -> impl Strategy<Value = Vec<NamePattern>> {
    let one = prop_oneof![
        Just(NamePattern::Is("triage".into())),
        Just(NamePattern::Begins("press".into())),
        Just(NamePattern::Is("press7".into())),
        Just(NamePattern::Absent),
    ];
    proptest::collection::vec(one, 1..3)
}

fn whens() -> impl Strategy<Value = When> {
    let tokens = prop_oneof![counts().prop_map(Tokens::Count), Just(Tokens::Context)];
    let marks = (
        bounds(risks().boxed()),
        bounds(complexities().boxed()),
        bounds(tokens.boxed()),
    );
    let names = (seldom(names()), seldom(names()));
    let filter = prop_oneof![
        Just("a/+".to_owned()),
        Just("a/b".to_owned()),
        Just("#".to_owned())
    ];
    let window = (0..1440u16, 1..1440u16).prop_map(|(from, length)| Window {
        from: Minute::new(from).unwrap(),
        until: Minute::new((from + length) % Minute::DAY).unwrap(),
    });
    let words = Just(Keywords::new(vec!["spindle".into()], vec!["brat".into()]));
    let strains = proptest::sample::subsequence(Strain::ALL.to_vec(), 1..4);
    let classes = proptest::collection::vec(classifications(), 1..3);
    let rest = (
        seldom(proptest::collection::vec(filter, 1..2)),
        seldom(window),
        seldom(lines()),
        seldom(lines()),
        seldom(strains),
        seldom(words),
        seldom(classes),
    );
    (marks, names, rest).prop_map(|(marks, names, rest)| When {
        risk: marks.0,
        complexity: marks.1,
        tokens: marks.2,
        task: names.0,
        client: names.1,
        topic: rest.0,
        time: rest.1,
        broker: rest.2,
        cloud: rest.3,
        allowance: rest.4,
        text: rest.5,
        classification: rest.6,
    })
}

pub(in crate::router) fn tables() -> impl Strategy<Value = Vec<Rule>> {
    let to = prop_oneof![
        Just(To::Edge),
        Just(To::Cloud),
        Just(To::CloudAt("plant".into())),
        Just(To::Review),
        Just(To::Refuse),
    ];
    let rules = proptest::collection::vec((whens(), to), 0..8);
    rules.prop_map(|rules| {
        let named = rules.into_iter().enumerate();
        let rule = |(index, (when, to))| Rule {
            name: format!("rule-{index}"),
            when,
            to,
        };
        named.map(rule).collect()
    })
}

fn some_ways() -> impl Strategy<Value = Ways> {
    let accepts = proptest::collection::vec(classifications(), 0..4);
    let all = (accepts.clone(), accepts.clone(), any::<bool>(), accepts);
    all.prop_map(|(main, plant, local_review, remote)| Ways {
        upstreams: [("main", main), ("plant", plant)]
            .map(|(name, accepts)| Upstream {
                name: name.into(),
                accepts: Accepts::of(&accepts),
            })
            .into(),
        local_review,
        remote_review: Accepts::of(&remote),
    })
}

prop_compose! {
    fn requests()(
        classification in classifications(),
        risk in proptest::option::of(risks()),
        complexity in proptest::option::of(complexities()),
        client in prop_oneof![
            Just(Client::Proven("press7".into())),
            Just(Client::Claimed("press".into())),
            Just(Client::Anonymous),
        ],
        ask in prop_oneof![
            "[a-z ]{0,20}(spindle|vibration)?".prop_map(Ask::Prompt),
            "[a-z ]{0,20}(spindle|vibration)?".prop_map(|input| Ask::Task {
                task: "triage".into(),
                input,
            }),
        ],
        max_tokens in proptest::option::of(1..600u32),
    ) -> Request {
        sealed(Request { client, ask, risk, complexity, max_tokens, ..request(classification) })
    }
}

prop_compose! {
    fn situations()(
        topic in proptest::option::of(prop_oneof![Just("a/b"), Just("a/c"), Just("d")]),
        minute in (0..1440u16).prop_map(|minute| Minute::new(minute).unwrap()),
        broker in lines(),
        edge in prop_oneof![Just(Edge::Open), Just(Edge::Shut(Code::EngineUnavailable))],
        clouds in [reaches(), reaches()],
        review in reaches(),
        strain in proptest::sample::select(Strain::ALL.to_vec()),
    ) -> Situation<'static> {
        // Two states of two lines: a handful of leaked bytes for each case.
        Situation { topic, minute, broker, edge, clouds: clouds.to_vec().leak(), review, strain }
    }
}

/// Whether a request leaves the appliance there.
fn is_outside(tier: &Tier) -> bool {
    match tier {
        Tier::Cloud(_) | Tier::Review(Persons::Elsewhere | Persons::Everywhere) => true,
        Tier::Edge | Tier::Review(Persons::Here) | Tier::Refuse(_) => false,
    }
}

proptest! {
    #[test]
    fn the_first_rule_that_fits_is_the_one_that_decides(
        rules in tables(), request in requests(), situation in situations(),
    ) {
        let router = Router {
            policy: Policy::new(rules, ways()),
            context_tokens: 512,
            ..Router::default()
        };
        let facts = router.facts(&request, &situation);
        let decided = router.policy.rule_for(&facts).map(|(place, _)| place);
        let rules = router.policy.rules();
        for (place, rule) in rules.iter().enumerate() {
            // Held against the request the long way, aspect by aspect.
            let fits = Aspect::ALL.iter().filter(|it| rule.when.fits(**it, &facts)).count();
            let all = fits == Aspect::ALL.len();
            prop_assert!(decided.is_none_or(|decided| place > decided || all == (place == decided)));
            prop_assert!(decided.is_some() || !all);
        }
        let decision = router.admit(&request, &situation);
        let name = decided.map_or(DEFAULT_RULE, |place| rules[place].name.as_str());
        prop_assert_eq!(decision.route.rule, name);
    }

    #[test]
    fn the_reference_table_is_this_chain_of_conditions(
        class in classifications(),
        risk in 0..=100u8,
        complexity in complexities(),
        tokens in counts(),
    ) {
        let expected = if class == Classification::Restricted {
            ("restricted-stays", Tier::Edge)
        } else if tokens > 512 {
            ("too-long", cloud(if class == Classification::Public { "main" } else { "plant" }))
        } else if risk >= 80 {
            let all = class == Classification::Public;
            ("high-risk", Tier::Review(if all { Persons::Everywhere } else { Persons::Here }))
        } else if complexity > 0.72 {
            ("complex", cloud(if class == Classification::Public { "main" } else { "plant" }))
        } else {
            ("default", Tier::Edge)
        };
        let (rule, tier) = by_reference(class, risk, complexity, tokens);
        prop_assert_eq!((rule.as_str(), tier), expected);
    }

    #[test]
    fn what_is_restricted_goes_nowhere_and_is_never_cleared(
        rules in tables(),
        ways in some_ways(),
        request in requests(),
        situation in situations(),
    ) {
        let request = sealed(Request { classification: Classification::Restricted, ..request });
        let router = Router {
            policy: Policy::new(rules, ways),
            context_tokens: 512,
            ..Router::default()
        };
        let decision = router.admit(&request, &situation);
        let named = [Some(decision.tier), decision.stopgap, decision.owed];
        for tier in named.iter().flatten().chain(&decision.onward) {
            prop_assert!(!is_outside(tier), "{tier:?}");
        }
        let escalation = || Escalation { request: request.clone(), ..escalation(request.classification) };
        for upstream in ["main", "plant", ""] {
            prop_assert!(router.policy.clear_for_cloud(escalation(), upstream).is_err());
        }
        prop_assert!(router.policy.clear_for_reviewers(escalation()).is_err());
    }

    #[test]
    fn whoever_a_decision_names_accepts_the_request(
        rules in tables(),
        ways in some_ways(),
        request in requests(),
        situation in situations(),
    ) {
        let router = Router { policy: Policy::new(rules, ways), ..Router::default() };
        let decision = router.admit(&request, &situation);
        let named = [Some(decision.tier), decision.stopgap, decision.owed];
        for tier in named.iter().flatten().chain(&decision.onward) {
            let escalation = Escalation { request: request.clone(), ..escalation(request.classification) };
            let cleared = match tier {
                Tier::Cloud(name) => router.policy.clear_for_cloud(escalation, name).is_ok(),
                Tier::Review(Persons::Elsewhere | Persons::Everywhere) => {
                    router.policy.clear_for_reviewers(escalation).is_ok()
                }
                Tier::Edge | Tier::Review(Persons::Here) | Tier::Refuse(_) => true,
            };
            prop_assert!(cleared, "{tier:?}");
        }
    }

    #[test]
    fn an_appliance_alone_answers_or_refuses_everything_itself(
        rules in tables(), request in requests(), situation in situations(),
    ) {
        let router = Router { policy: Policy::new(rules, Ways::default()), ..Router::default() };
        let alone = Situation { clouds: &[], review: Reach::Absent, ..situation };
        let decision = router.admit(&request, &alone);
        prop_assert!(matches!(decision.tier, Tier::Edge | Tier::Refuse(_)));
        prop_assert!(decision.owed.is_none() && decision.onward.is_empty());
    }
}
