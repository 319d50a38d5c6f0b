//! What the check of a table finds, and that it agrees with the decision.

use proptest::prelude::*;

use super::*;
use crate::router::pattern::{Keywords, Window};
use crate::router::policy::{Upstream, Ways};
use crate::router::rule::{Bounds, High, Low};

fn topics() -> Topics {
    Topics {
        prefix: "lineside".into(),
        appliance: "line-3".into(),
        pool: None,
    }
}

fn ways() -> Ways {
    Ways {
        doubtful_review: true,
        upstreams: vec![Upstream {
            name: "main".into(),
            accepts: Accepts::of(&[Classification::Public]),
        }],
        local_review: true,
        remote_review: Accepts::default(),
    }
}

fn rule(when: When, to: To) -> Rule {
    let name = String::new();
    Rule { name, when, to }
}

fn findings(rules: Vec<Rule>) -> Vec<(Option<usize>, What)> {
    findings_among(rules, ways())
}

fn findings_among(rules: Vec<Rule>, ways: Ways) -> Vec<(Option<usize>, What)> {
    let found = look_through(&Policy::new(rules, ways), &topics());
    found.into_iter().map(|it| (it.rule, it.what)).collect()
}

fn risk(low: Option<Low<u8>>, high: Option<High<u8>>) -> When {
    When {
        risk: Bounds { low, high },
        ..When::default()
    }
}

fn task(names: &[&str]) -> When {
    let parse = |name: &&str| NamePattern::parse(name, |_| true).unwrap();
    When {
        task: Some(names.iter().map(parse).collect()),
        ..When::default()
    }
}

fn topic(filters: &[&str]) -> When {
    When {
        topic: Some(filters.iter().map(|it| (*it).to_owned()).collect()),
        ..When::default()
    }
}

fn time(windows: &str) -> When {
    When {
        time: Window::parse(windows),
        ..When::default()
    }
}

fn words(words: &[&str], fragments: &[&str]) -> When {
    let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
    When {
        text: Some(Keywords::new(owned(words), owned(fragments))),
        ..When::default()
    }
}

/// Whether the second rule is left nothing by the first.
fn shadowed(first: When, second: When) -> bool {
    let rules = vec![
        rule(first, To::Edge),
        rule(second, To::Edge),
        rule(When::default(), To::Edge),
    ];
    let found = findings(rules);
    let strange = |what: &What| !matches!(what, What::Shadowed(_));
    assert!(!found.iter().any(|(_, what)| strange(what)), "{found:?}");
    found.contains(&(Some(1), What::Shadowed(vec![0])))
}

#[test]
fn the_reference_table_is_in_order() {
    let policy = Policy::reference(ways());
    assert_eq!(look_through(&policy, &topics()), []);
    // Without a cloud it is in order too; that nobody is there is worth knowing.
    let alone = Policy::reference(Ways::default());
    let found = look_through(&alone, &topics());
    let whats: Vec<_> = found.iter().map(|it| &it.what).collect();
    assert_eq!(whats, [&What::NoCloud, &What::NoCloud]);
    assert!(found.iter().all(|it| !it.what.is_fault()));
}

#[test]
fn an_interval_inside_another_is_shadowed_to_the_last_value() {
    let over = |mark| risk(Some(Low::Above(mark)), None);
    let from = |mark| risk(Some(Low::AtLeast(mark)), None);
    assert!(shadowed(over(79), from(80)));
    assert!(!shadowed(over(80), from(80)));
    assert!(shadowed(from(80), over(79)));
    assert!(!shadowed(from(81), over(79)));
    assert!(shadowed(When::default(), from(1)));
}

#[test]
fn several_rules_together_may_leave_nothing() {
    let below = |mark| risk(None, Some(High::Below(mark)));
    let from = |mark| risk(Some(Low::AtLeast(mark)), None);
    let rules = |gap: u8| {
        vec![
            rule(below(50), To::Edge),
            rule(from(50 + gap), To::Edge),
            rule(time("06:00-22:00"), To::Edge),
            rule(When::default(), To::Review),
        ]
    };
    let found = findings(rules(0));
    assert_eq!(found[0], (Some(2), What::Shadowed(vec![0, 1])));
    assert_eq!(found[1], (Some(3), What::Shadowed(vec![0, 1, 2])));
    assert_eq!(findings(rules(1)), []);
}

#[test]
fn a_rule_that_contradicts_itself_is_found() {
    let never = risk(Some(Low::AtLeast(80)), Some(High::Below(80)));
    let found = findings(vec![rule(never, To::Edge), rule(When::default(), To::Edge)]);
    assert_eq!(found, [(Some(0), What::Contradiction(vec![Aspect::Risk]))]);
    let too_much = risk(Some(Low::Above(100)), None);
    let found = findings(vec![
        rule(too_much, To::Edge),
        rule(When::default(), To::Edge),
    ]);
    assert_eq!(found, [(Some(0), What::Contradiction(vec![Aspect::Risk]))]);
    let strange = topic(&["lineside/line-3/reply/#"]);
    let found = findings(vec![
        rule(strange, To::Edge),
        rule(When::default(), To::Edge),
    ]);
    assert_eq!(found, [(Some(0), What::Contradiction(vec![Aspect::Topic]))]);
}

#[test]
fn names_beginnings_and_free_prompts_are_told_apart() {
    assert!(shadowed(task(&["press*"]), task(&["press7", "press-x*"])));
    assert!(!shadowed(task(&["press7"]), task(&["press*"])));
    assert!(!shadowed(task(&["*"]), task(&["(none)"])));
    let rules = vec![
        rule(task(&["*"]), To::Edge),
        rule(task(&["(none)"]), To::Edge),
    ];
    assert_eq!(findings(rules), []); // the two take everything
}

#[test]
fn topics_are_those_on_which_requests_come() {
    assert!(shadowed(
        topic(&["lineside/+/request/#"]),
        topic(&["lineside/line-3/request/x"])
    ));
    assert!(shadowed(topic(&["#"]), topic(&["+/+/request"])));
    assert!(!shadowed(
        topic(&["lineside/+/request/+"]),
        topic(&["lineside/+/request"])
    ));
    // A configuration may be shared: another appliance's name is no fault.
    assert!(!shadowed(
        topic(&["lineside/line-3/#"]),
        topic(&["lineside/line-9/request/x"])
    ));
    assert!(shadowed(
        topic(&["lineside/+/request/x"]),
        topic(&["lineside/line-9/request/x"])
    ));
    // What is asked at the appliance has no topic.
    let rules = vec![rule(topic(&["#"]), To::Edge)];
    assert_eq!(findings(rules), [(None, What::NoCatchAll)]);
}

#[test]
fn times_of_day_are_shadowed_over_midnight_too() {
    assert!(shadowed(time("22:00-06:00"), time("23:00-01:00")));
    assert!(!shadowed(time("22:00-06:00"), time("23:00-06:01")));
    assert!(shadowed(time("06:00-05:59"), time("22:00-05:00")));
}

#[test]
fn a_word_that_always_brings_another_is_shadowed_by_it() {
    assert!(shadowed(
        words(&["stop"], &[]),
        words(&["emergency stop"], &[])
    ));
    assert!(shadowed(
        words(&[], &["fire"]),
        words(&["firewall", "FIRE"], &[])
    ));
    assert!(!shadowed(words(&["fire"], &[]), words(&[], &["fire"])));
    assert!(!shadowed(
        words(&["stop"], &[]),
        words(&["stop", "halt"], &[])
    ));
    assert!(!shadowed(
        words(&["emergency stop"], &[]),
        words(&["stop"], &[])
    ));
}

#[test]
fn numbers_of_tokens_and_the_context_are_two_things() {
    let tokens = |low| When {
        tokens: Bounds {
            low: Some(low),
            high: None,
        },
        ..When::default()
    };
    let over = |mark| tokens(Low::Above(mark));
    assert!(!shadowed(over(Tokens::Context), over(Tokens::Count(1000))));
    assert!(!shadowed(over(Tokens::Count(1000)), over(Tokens::Context)));
    assert!(shadowed(
        tokens(Low::AtLeast(Tokens::Context)),
        over(Tokens::Context)
    ));
    assert!(!shadowed(
        over(Tokens::Context),
        tokens(Low::AtLeast(Tokens::Context))
    ));
    assert!(shadowed(
        over(Tokens::Count(9)),
        tokens(Low::AtLeast(Tokens::Count(10)))
    ));
}

fn only(class: Classification) -> When {
    When {
        classification: Some(vec![class]),
        ..When::default()
    }
}

#[test]
fn a_rule_that_would_send_restricted_data_out_is_a_fault_unless_those_before_take_it_all() {
    let cloud = || rule(risk(Some(Low::AtLeast(50)), None), To::Cloud);
    let rest = || rule(When::default(), To::Edge);
    let out = (Some(0), What::SendsRestrictedOut);
    assert_eq!(findings(vec![cloud(), rest()]), [out]);
    let stays = || rule(only(Classification::Restricted), To::Edge);
    assert_eq!(findings(vec![stays(), cloud(), rest()]), []);
    // Half of it is not all.
    let half = When {
        risk: risk(Some(Low::Above(50)), None).risk,
        ..only(Classification::Restricted)
    };
    let out = (Some(1), What::SendsRestrictedOut);
    assert_eq!(findings(vec![rule(half, To::Edge), cloud(), rest()]), [out]);
    // Where a rule takes it is not asked here: a person at the appliance is as good as the edge.
    let person = rule(only(Classification::Restricted), To::Review);
    assert_eq!(findings(vec![person, cloud(), rest()]), []);
}

#[test]
fn an_upstream_must_exist_and_accept_what_the_rule_gets() {
    let at = |name: &str| To::CloudAt(name.into());
    let found = |when, to| findings(vec![rule(when, to), rule(When::default(), To::Edge)]);
    let unknown = found(only(Classification::Public), at("moon"));
    assert_eq!(unknown, [(Some(0), What::NoSuchUpstream)]);
    let internal = found(only(Classification::Internal), at("main"));
    let refused = What::NotAccepted(vec![Classification::Internal]);
    assert_eq!(internal, [(Some(0), refused)]);
    assert_eq!(found(only(Classification::Public), at("main")), []);
}

#[test]
fn restricted_requests_need_a_person_at_the_appliance() {
    let remote_only = Ways {
        doubtful_review: true,
        local_review: false,
        remote_review: Accepts::of(&[Classification::Public]),
        ..ways()
    };
    let rules = vec![rule(When::default(), To::Review)];
    let found = findings_among(rules.clone(), remote_only);
    assert_eq!(found, [(Some(0), What::NobodyHere)]);
    assert_eq!(findings_among(rules, ways()), []);
}

#[test]
fn a_table_that_leaves_something_says_so_without_being_wrong() {
    let rules = vec![rule(only(Classification::Restricted), To::Edge)];
    let found = look_through(&Policy::new(rules, ways()), &topics());
    let whats: Vec<_> = found
        .iter()
        .map(|it| (&it.what, it.what.is_fault()))
        .collect();
    assert_eq!(whats, [(&What::NoCatchAll, false)]);
    assert_eq!(findings(Vec::new()), [(None, What::NoCatchAll)]);
}

#[test]
fn more_patterns_than_can_be_held_against_each_other_are_refused() {
    let filters: Vec<_> = (0..80)
        .map(|n| format!("lineside/a{n}/request/c{n}"))
        .collect();
    let names: Vec<_> = filters.iter().map(String::as_str).collect();
    let found = findings(vec![rule(topic(&names), To::Edge)]);
    assert_eq!(found, [(None, What::TooManyPatterns(Aspect::Topic))]);
}

#[test]
fn a_long_table_of_awkward_rules_is_looked_through_within_its_bound() {
    let awkward = |n: u8| When {
        risk: risk(Some(Low::AtLeast(n % 100)), Some(High::AtMost(n % 100))).risk,
        classification: Some(vec![match n % 3 {
            0 => Classification::Public,
            1 => Classification::Internal,
            _ => Classification::Restricted,
        }]),
        time: Window::parse(&format!("{:02}:00-{:02}:30", n % 24, (n + 5) % 24)),
        ..words(&[["stop", "fire", "leak"][usize::from(n % 3)]], &[])
    };
    let mut rules: Vec<_> = (0..200).map(|n| rule(awkward(n), To::Edge)).collect();
    rules.push(rule(When::default(), To::Edge));
    let faults = findings(rules).len();
    assert!(faults < 200, "{faults}");
}

proptest! {
    #[test]
    fn a_rule_that_decides_on_anything_is_not_called_dead(
        rules in super::super::policy::tests::tables(),
        seed in any::<u64>(),
    ) {
        let mut rules = rules;
        for (place, rule) in rules.iter_mut().enumerate() {
            rule.name = place.to_string();
        }
        let policy = Policy::new(rules, ways());
        let found = look_through(&policy, &topics());
        let dead: Vec<_> = found
            .iter()
            .filter(|it| matches!(it.what, What::Contradiction(_) | What::Shadowed(_)))
            .filter_map(|it| it.rule)
            .collect();
        // Requests made of the samples, in any combination.
        let kinds = Kinds::of(policy.rules(), policy.lexicon(), &topics()).unwrap();
        let regions: Vec<_> = policy.rules().iter().map(|rule| kinds.of_rule(&rule.when)).collect();
        let all_taken = left(&kinds.all(), &regions) == Left::Nothing;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let mut facts = Facts::blank(policy.lexicon());
            let chosen: Vec<_> = kinds
                .samples
                .iter()
                .map(|samples| random.choice(samples).unwrap())
                .collect();
            for sample in &chosen {
                facts = sample.put_into(facts);
            }
            let decided = policy.rule_for(&facts).map(|(place, _)| place);
            prop_assert!(decided.is_none_or(|place| !dead.contains(&place)));
            prop_assert!(decided.is_some() || !all_taken);
        }
    }
}
