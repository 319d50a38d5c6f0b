//! The suite of the gate.

use super::super::gate::{Item, MAX_ID_BYTES, MAX_ITEMS, MAX_TEXT_BYTES};
use super::*;

/// The faults of a suite for the tasks of the good package.
fn suite_faults(text: &str) -> Vec<String> {
    let tasks = changed("seq = 1\n", "seq = 1\n").unwrap().manifest.tasks;
    match Gate::read(text, Path::new("gate.jsonl"), &tasks) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.list.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_suite_tries_every_task_with_answers_of_its_form() {
    let good = suite(1);
    assert_eq!(suite_faults(&good), [""; 0]);
    for (line, wants) in [
        (
            r#"{"id":"x","task":"triage","input":"i","expect":"hm"}"#,
            "JSON",
        ),
        (
            r#"{"id":"x","task":"classify","input":"i","expect":"saw"}"#,
            "choices of task classify",
        ),
        (
            r#"{"id":"x","task":"tirage","input":"i","expect":"a"}"#,
            "the name of a task",
        ),
        (
            r#"{"id":"t-0","task":"classify","input":"i","expect":"lathe"}"#,
            "no item before",
        ),
        (
            r#"{"id":"","task":"classify","input":"i","expect":"lathe"}"#,
            "1 to 128 bytes",
        ),
        (
            r#"{"id":"x","task":"classify","input":"","expect":"lathe"}"#,
            "bytes",
        ),
        (
            r#"{"id":"x","task":"classify","input":"i","expect":"lathe","kind":"a b"}"#,
            "a word",
        ),
        (
            r#"{"id":"x","task":"classify","input":"i","expect":"lathe","extra":1}"#,
            "extra",
        ),
        (r#"{"id":"x","task":"classify","input":"i"}"#, "expect"),
        ("", "a JSON object"),
    ] {
        let faults = suite_faults(&format!("{good}{line}\n"));
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].starts_with("gate.jsonl:3: "), "{faults:?}");
        assert!(faults[0].contains(wants), "{faults:?}");
    }
    let only_one = good.lines().next().unwrap();
    assert!(suite_faults(only_one)[0].contains("classify has none"));
    let without_field = good.replace("needs_human", "needs_nobody");
    assert!(suite_faults(&without_field)[0].contains("the field needs_human"));
}

#[test]
fn a_suite_ends_at_its_limits() {
    let long = |key: &str, bytes: usize| {
        let item = r#"{"id":"x","task":"classify","input":"i","expect":"lathe"}"#;
        let from = format!("\"{key}\":\"{}\"", if key == "id" { "x" } else { "i" });
        let to = format!("\"{key}\":\"{}\"", "i".repeat(bytes));
        suite_faults(&format!("{}{}", suite(1), item.replace(&from, &to))).len()
    };
    assert_eq!(long("input", MAX_TEXT_BYTES), 0);
    assert_eq!(long("input", MAX_TEXT_BYTES + 1), 1);
    assert_eq!(long("id", MAX_ID_BYTES), 0);
    assert_eq!(long("id", MAX_ID_BYTES + 1), 1);
    assert_eq!(suite_faults(&suite(MAX_ITEMS / 2)).len(), 0);
    let one_more = r#"{"id":"x","task":"classify","input":"i","expect":"lathe"}"#;
    let faults = suite_faults(&format!("{}{one_more}", suite(MAX_ITEMS / 2)));
    assert!(faults[0].contains("20000 at most"), "{faults:?}");
}

#[test]
fn a_right_answer_is_the_same_text_or_the_same_json() {
    let item = Item {
        id: "x".into(),
        task: "t".into(),
        input: "i".into(),
        expect: r#"{"a":1,"b":[2]}"#.into(),
        kind: None,
    };
    let json = Answer::Grammar(FilePath::parse("g").unwrap());
    assert!(item.is_right(&json, r#"{"a":1,"b":[2]}"#));
    assert!(item.is_right(&json, r#"{ "b": [2], "a": 1 }"#));
    assert!(!item.is_right(&json, r#"{"a":1,"b":[3]}"#));
    assert!(!item.is_right(&json, "{"));
    assert!(!item.is_right(&Answer::Text, r#"{ "b": [2], "a": 1 }"#));
}
