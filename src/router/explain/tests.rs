//! An explanation says what the decision does, and its changes really change it.

use proptest::prelude::*;

use super::*;
use crate::router::pattern::Keywords;
use crate::router::policy::Ways;
use crate::router::rule::{Bounds, Low, When};
use crate::router::{Edge, Reach};

fn situation() -> Situation<'static> {
    Situation {
        topic: None,
        minute: Minute::MIDNIGHT,
        broker: Connectivity::Online,
        edge: Edge::Open,
        clouds: &[],
        review: Reach::Absent,
        strain: Strain::Nominal,
    }
}

/// The changes of one aspect, as `value -> to by rule`.
fn told(policy: &Policy, facts: &Facts<'_>, aspect: Aspect) -> Vec<String> {
    let changes = explain(policy, facts, &situation()).changes;
    let own = changes.iter().filter(|change| change.aspect == aspect);
    own.map(|it| format!("{} -> {} by {}", it.value, it.to, it.rule))
        .collect()
}

#[test]
fn the_nearest_change_is_told_in_each_direction() {
    let policy = Policy::reference(Ways::default());
    let facts = Facts {
        risk: 20,
        complexity: 0.31,
        tokens: 96,
        context_tokens: 512,
        ..Facts::blank(policy.lexicon())
    };
    let explanation = explain(&policy, &facts, &situation());
    assert_eq!(explanation.rule.rule, "default");
    let passed: Vec<_> = explanation
        .before
        .iter()
        .map(|it| it.rule.as_str())
        .collect();
    assert_eq!(
        passed,
        ["restricted-stays", "too-long", "high-risk", "complex"]
    );
    let missed = &explanation.before[1].about[0];
    assert_eq!(missed.value, "96 (edge context 512)");
    assert_eq!(missed.wanted, "above the edge context");
    let told = |aspect| told(&policy, &facts, aspect);
    assert_eq!(told(Aspect::Risk), ["80 or more -> review by high-risk"]);
    assert_eq!(told(Aspect::Complexity), ["above 0.72 -> cloud by complex"]);
    assert_eq!(told(Aspect::Tokens), ["513 or more -> cloud by too-long"]);
    assert_eq!(
        told(Aspect::Classification),
        ["restricted -> edge by restricted-stays"]
    );
    assert_eq!(told(Aspect::Time), Vec::<String>::new());
    let high = Facts { risk: 90, ..facts };
    let changes = explain(&policy, &high, &situation()).changes;
    let less = changes.iter().find(|it| it.aspect == Aspect::Risk).unwrap();
    assert_eq!(
        (less.value.as_str(), less.rule.as_str()),
        ("79 or less", "default")
    );
}

#[test]
fn a_rule_by_words_is_told_without_the_text() {
    let words = Keywords::new(vec!["fire".into()], vec![]);
    let rule = Rule {
        name: "alarm".into(),
        when: When {
            text: Some(words),
            ..When::default()
        },
        to: To::Review,
    };
    let policy = Policy::new(vec![rule], Ways::default());
    let facts = |text| Facts {
        text,
        ..Facts::blank(policy.lexicon())
    };
    let without = facts("all is well at CANARY");
    assert_eq!(
        told(&policy, &without, Aspect::Text),
        ["one of the words \"fire\" -> review by alarm"]
    );
    let with = facts("Fire at CANARY");
    assert_eq!(
        told(&policy, &with, Aspect::Text),
        ["none of the rules' words -> edge by default"]
    );
    for facts in [without, with] {
        let shown = format!("{:?}", explain(&policy, &facts, &situation()));
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

#[test]
fn names_and_filters_of_rules_are_offered() {
    let rule = |name: &str, when| Rule {
        name: name.into(),
        when,
        to: To::Refuse,
    };
    let named = |name: &str| Some(vec![NamePattern::Begins(name.into())]);
    let policy = Policy::new(
        vec![
            rule(
                "a",
                When {
                    task: named("press"),
                    ..When::default()
                },
            ),
            rule(
                "b",
                When {
                    client: named("old"),
                    ..When::default()
                },
            ),
            rule(
                "c",
                When {
                    topic: Some(vec!["x/+".into()]),
                    ..When::default()
                },
            ),
        ],
        Ways::default(),
    );
    let facts = Facts {
        client: "old-7",
        ..Facts::blank(policy.lexicon())
    };
    assert_eq!(
        told(&policy, &facts, Aspect::Task),
        ["press* -> refuse by a"]
    );
    assert_eq!(
        told(&policy, &facts, Aspect::Client),
        ["any other -> edge by default"]
    );
    assert_eq!(told(&policy, &facts, Aspect::Topic), Vec::<String>::new());
    let facts = Facts {
        client: "new",
        ..facts
    };
    assert_eq!(told(&policy, &facts, Aspect::Topic), ["x/+ -> refuse by c"]);
}

#[test]
fn the_next_time_of_day_that_matters_is_told() {
    let night = Rule {
        name: "night".into(),
        when: When {
            time: crate::router::Window::parse("22:00-06:00"),
            ..When::default()
        },
        to: To::Review,
    };
    let policy = Policy::new(vec![night], Ways::default());
    let at = |minute: &str| Facts {
        minute: Minute::parse(minute).unwrap(),
        ..Facts::blank(policy.lexicon())
    };
    let told = |minute| told(&policy, &at(minute), Aspect::Time);
    assert_eq!(told("12:00"), ["from 22:00 on -> review by night"]);
    assert_eq!(told("23:00"), ["from 06:00 on -> edge by default"]);
}

#[test]
fn a_rule_that_a_change_would_only_hand_to_an_earlier_one_is_not_named() {
    let over = |mark| When {
        risk: Bounds {
            low: Some(Low::Above(mark)),
            high: None,
        },
        ..When::default()
    };
    let rule = |name: &str, when| Rule {
        name: name.into(),
        when,
        to: To::Review,
    };
    let both = Policy::new(
        vec![rule("first", over(50)), rule("second", over(60))],
        Ways::default(),
    );
    let facts = Facts::blank(both.lexicon());
    assert_eq!(
        told(&both, &facts, Aspect::Risk),
        ["51 or more -> review by first"]
    );
}

proptest! {
    #[test]
    fn an_explanation_agrees_with_the_decision(
        rules in super::super::policy::tests::tables(),
        risk in 0..=100u8,
        complexity in 0.0_f32..=1.0,
        tokens in 1..2000u32,
    ) {
        let policy = Policy::new(rules, Ways::default());
        let facts = Facts {
            risk,
            complexity,
            tokens,
            context_tokens: 512,
            client: "press7",
            text: "spindle",
            ..Facts::blank(policy.lexicon())
        };
        let explanation = explain(&policy, &facts, &situation());
        prop_assert_eq!(&explanation.rule.rule, &explanation.decision.route.rule);
        // Each rule before it missed by something, and no change leads back to the same rule.
        prop_assert!(explanation.before.iter().all(|seen| !seen.about.is_empty()));
        prop_assert!(explanation.changes.iter().all(|it| it.rule != explanation.rule.rule));
    }
}
