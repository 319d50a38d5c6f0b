//! What `[[route]]`, `[cloud]`, `[review]` and `[confidence]` promise to those who write them.

use super::*;
use crate::router::{Accepts, Ways};

const CLOUD: &str = "[cloud]\nurl = 'https://api.example/v1/chat/completions'\nmodel = 'large'\n\
                     accepts = ['public']\n";
const PLANT: &str = "[[cloud.more]]\nname = 'plant'\nurl = 'https://llm.plant:8443/v1'\n\
                     model = 'own'\naccepts = ['public', 'internal']\ntimeout_ms = 5000\n";
const STAYS: &str =
    "[[route]]\nname = 'stays'\nwhen = { classification = 'restricted' }\nto = 'edge'\n";
const REST: &str = "[[route]]\nname = 'rest'\nto = 'edge'\n";

/// A rule of this condition and place.
fn rule(when: &str, to: &str) -> String {
    format!("[[route]]\nname = 'rule'\nwhen = {{ {when} }}\nto = '{to}'\n")
}

/// Rule 2 of 3, where nothing restricted comes and something is left for the last.
fn amid(when: &str, to: &str) -> String {
    format!("{CLOUD}{PLANT}{STAYS}{}{REST}", rule(when, to))
}

/// The one fault of a configuration: key and what would be right.
#[track_caller]
fn fault(text: &str) -> (String, String) {
    let faults = faults_of(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.into_iter().next().unwrap()
}

#[test]
fn without_a_rule_the_reference_holds() {
    let policy = settings_of("").unwrap().policy;
    let ways = Ways {
        local_review: true,
        ..Ways::default()
    };
    assert_eq!(policy, crate::router::Policy::reference(ways));
}

#[test]
fn the_reference_rules_can_be_written_and_are_the_same() {
    let rule = |name: &str, when: &str, to: &str| {
        format!("[[route]]\nname = '{name}'\nwhen = {{ {when} }}\nto = '{to}'\n")
    };
    let text = [
        rule("restricted-stays", "classification = 'restricted'", "edge"),
        rule("too-long", "tokens_above = 'context'", "cloud"),
        rule("high-risk", "risk_at_least = 80", "review"),
        rule("complex", "complexity_above = 0.72", "cloud"),
        rule("default", "", "edge"),
    ];
    let written = settings_of(&text.concat()).unwrap();
    assert_eq!(written.policy, settings_of("").unwrap().policy);
    // And what is shown of it is a configuration again.
    let shown = settings_of(written.effective_toml()).unwrap();
    assert_eq!(shown.policy, written.policy);
}

#[test]
fn every_condition_is_taken() {
    for when in [
        "classification = ['public']",
        "task = 'triage'",
        "task = ['classify-*', '(none)']",
        "topic = 'lineside/+/request/press7'",
        "client = ['press*', 'anonymous']",
        "risk_above = 10, risk_at_most = 90",
        "complexity_at_least = 0.5, complexity_below = 1",
        "tokens_at_least = 100, tokens_at_most = 'context'",
        "words = ['feuer', 'emergency stop'], fragments = '火'",
        "time = '22:00-06:00'",
        "broker = 'offline', cloud = 'online'",
        "allowance = ['hot', 'critical']",
    ] {
        let text = amid(when, "cloud:plant");
        let settings = settings_of(&text);
        assert!(settings.is_ok(), "{when}: {:?}", settings.err());
    }
}

#[test]
fn what_is_wrong_with_a_condition_is_told_with_its_line() {
    let head = amid("", "edge").find("name = 'rule'").unwrap();
    let line = amid("", "edge")[..head].matches('\n').count() + 1;
    for (when, key, wanted) in [
        (
            "clasification = 'public'",
            "when.clasification",
            "did you mean classification?",
        ),
        (
            "classification = 'secret'",
            "when.classification",
            "one of \"public\"",
        ),
        ("risk_at_least = 101", "when.risk_at_least", "from 0 to 100"),
        (
            "risk_at_least = 5, risk_above = 5",
            "when.risk_above",
            "not both",
        ),
        (
            "complexity_above = 1.5",
            "when.complexity_above",
            "a number from 0 to 1",
        ),
        (
            "tokens_above = 'all'",
            "when.tokens_above",
            "\"context\", or a whole number",
        ),
        ("task = 'a*b'", "when.task", "'*' at the end, or \"(none)\""),
        ("client = '(none)'", "when.client", "\"anonymous\""),
        ("topic = 'a/#/b'", "when.topic", "a topic filter"),
        ("words = '--'", "when.words", "with a letter or a digit"),
        ("time = '6:00-22:00'", "when.time", "two times of day"),
        (
            "broker = 'up'",
            "when.broker",
            "one of \"online\", \"offline\"",
        ),
        ("allowance = []", "when.allowance", "one of \"nominal\""),
        ("task = 7", "when.task", "a text in quotes, or a list"),
    ] {
        let faults = settings_of(&amid(when, "edge")).unwrap_err();
        assert_eq!(faults.0.len(), 1, "{when}: {faults}");
        let fault = &faults.0[0];
        assert_eq!(fault.key, format!("route[2].{key}"), "{when}");
        assert!(fault.wanted.contains(wanted), "{when}: {fault}");
        let place = fault.place.as_ref().unwrap();
        assert!(
            (line - 1..=line + 2).contains(&place.line),
            "{when}: {fault}"
        );
    }
}

#[test]
fn names_of_rules_are_their_own_and_places_exist() {
    let twice = format!("{STAYS}{STAYS}");
    assert_eq!(fault(&twice).0, "route[2].name");
    for to in ["cloud:", "moon", "cloud: a"] {
        assert_eq!(fault(&amid("", to)).0, "route[2].to", "{to}");
    }
    let (key, wanted) = fault(&amid("risk_above = 5", "cloud:moon"));
    assert_eq!(key, "route[2].to");
    assert!(wanted.contains("cloud:main, cloud:plant"), "{wanted}");
    assert_eq!(keys_at_fault("[[route]]\nname = 'x'\n"), ["route[1].to"]);
    assert_eq!(keys_at_fault("[route]\nname = 'x'\n"), ["route"]);
}

#[test]
fn a_rule_that_can_never_match_is_a_fault() {
    let (key, wanted) = fault(&amid("risk_above = 50, risk_below = 51", "edge"));
    assert_eq!(key, "route[2].when");
    assert!(wanted.contains("none has such risk"), "{wanted}");
    let (key, wanted) = fault(&amid("classification = 'restricted'", "review"));
    assert_eq!(key, "route[2].when");
    assert!(wanted.contains("taken before, by stays"), "{wanted}");
}

#[test]
fn a_rule_that_would_send_restricted_data_out_is_a_fault() {
    for to in ["cloud", "cloud:plant"] {
        let text = format!("{CLOUD}{PLANT}{}{REST}", rule("risk_above = 50", to));
        let (key, wanted) = fault(&text);
        assert_eq!(key, "route[1].to");
        assert!(wanted.contains("they never leave"), "{wanted}");
    }
    let accepted = fault(&amid("risk_above = 50", "cloud:main"));
    assert!(
        accepted.1.contains("an upstream that accepts internal"),
        "{accepted:?}"
    );
    let remote = "[review]\nlocal = false\nremote = true\n";
    let (key, wanted) = fault(&format!(
        "{remote}{}{REST}",
        rule("risk_above = 50", "review")
    ));
    assert_eq!(key, "route[1].to");
    assert!(wanted.contains("review.local = true"), "{wanted}");
}

#[test]
fn an_upstream_takes_its_limits_from_the_section_and_its_place_from_the_order() {
    let clouds = settings_of(&format!("{CLOUD}timeout_ms = 3000\n{PLANT}"));
    let clouds = clouds.unwrap().clouds;
    let names: Vec<_> = clouds.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["main", "plant"]);
    let ms: Vec<_> = clouds.iter().map(|it| it.timeout.as_millis()).collect();
    assert_eq!(ms, [3000, 5000]);
    assert_eq!(clouds[1].requests_per_hour, 600);
    assert_eq!(clouds[0].accepts, Accepts::of(&[Classification::Public]));
}

#[test]
fn what_is_restricted_is_accepted_nowhere() {
    for (text, key) in [
        (
            CLOUD.replace("'public'", "'public', 'restricted'"),
            "cloud.accepts",
        ),
        (
            format!("{CLOUD}{}", PLANT.replace("'internal'", "'restricted'")),
            "cloud.more[1].accepts",
        ),
        (
            "[review]\nremote = true\naccepts = ['restricted']\n".into(),
            "review.accepts",
        ),
    ] {
        let (at, wanted) = fault(&text);
        assert_eq!(at, key);
        assert!(wanted.contains("never leaves"), "{wanted}");
    }
}

#[test]
fn what_is_wrong_with_an_upstream_is_told() {
    let folder = Folder::new();
    folder.write("key", "hunter2\n", 0o644);
    for (line, key, wanted) in [
        ("url = 'http://api.example/v1'", "cloud.url", "in the clear"),
        ("url = 'ftp://api.example'", "cloud.url", "https://HOST"),
        (
            "url = 'https://u:hunter2@api.example'",
            "cloud.url",
            "without a login",
        ),
        ("proxy = 'socks'", "cloud.proxy", "\"system\""),
        (
            "connect_timeout_ms = 3000",
            "cloud.connect_timeout_ms",
            "at most timeout_ms",
        ),
        ("api_key_file = 'key'", "cloud.api_key_file", "chmod 640"),
        ("ca_file = 'missing.pem'", "cloud.ca_file", "can be read"),
        ("name = 'my cloud'", "cloud.name", "a rule may name it"),
        (
            "accepts = ['all']",
            "cloud.accepts",
            "\"public\", \"internal\" or both",
        ),
    ] {
        let name = line.split_once(" = ").unwrap().0;
        let rest = CLOUD
            .lines()
            .filter(|own| !own.starts_with(&format!("{name} ")));
        let text = format!("{}\n{line}\n", rest.collect::<Vec<_>>().join("\n"));
        folder.write("config.toml", &text, 0o644);
        let faults = folder.load().unwrap_err();
        let told = faults.to_string();
        assert_eq!(faults.0.len(), 1, "{line}: {told}");
        assert_eq!(faults.0[0].key, key, "{told}");
        assert!(told.contains(wanted), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let local = CLOUD.replace("https://api.example", "http://127.0.0.1:8080");
    assert!(settings_of(&local).is_ok());
    assert_eq!(keys_at_fault("[cloud]\nmodel = 'large'\n"), ["cloud.model"]);
    let twice = format!("{CLOUD}{}", PLANT.replace("'plant'", "'main'"));
    assert_eq!(keys_at_fault(&twice), ["cloud.more[1].name"]);
    let (at, _) = fault(&format!(
        "{CLOUD}[[cloud.more]]\nname = 'b'\nurl = 'https://b'\nmodel = 'm'\n"
    ));
    assert_eq!(at, "cloud.more[1].accepts");
}

#[test]
fn a_threshold_or_a_target_but_not_both() {
    let both = "[confidence]\nthreshold = 0.7\nrisk_target = 0.05\n";
    assert_eq!(keys_at_fault(both), ["confidence.risk_target"]);
    assert_eq!(
        keys_at_fault("[confidence]\nrisk_target = 0\n"),
        ["confidence.risk_target"]
    );
    assert_eq!(
        keys_at_fault("[confidence]\nthreshold = 2\n"),
        ["confidence.threshold"]
    );
    let settings = settings_of("[confidence]\nrisk_target = 0.05\n").unwrap();
    assert_eq!(settings.confidence.risk_target, Some(0.05));
}
