//! A golden transcript of each command, and whether a person is told what a program is.

use super::*;
use crate::console::table::{Nature, TABLE};
use crate::console::words;

/// What a program is told and a person is not, or in another form: moments, sizes, and what another
/// word of the page says already.
const OTHERWISE: [&str; 33] = [
    "at_ms",
    "looked_ms",
    "next_ms",
    "accepted_ms",
    "settled_ms",
    "expires_ms",
    "age_ms",
    "retry_after_ms",
    "bytes",
    "total_bytes",
    "available_bytes",
    "swap_free_bytes",
    "group_limit_bytes",
    "group_used_bytes",
    "service_bytes",
    "engine_bytes",
    "room_bytes",
    "confirm_is",
    "ticket",
    "no",
    "newest",
    "looked_at",
    "status",
    "kind",
    "broker_why",
    "topic",
    "request_id",
    "bend",
    "next",
    "verdicts",
    "most",
    "rest_permille",
    "served_ms",
];

fn fixtures() -> Vec<Value> {
    serde_json::from_str(include_str!("fixtures.json")).unwrap()
}

fn transcript(fixture: &Value) -> (&'static str, String) {
    let line = fixture["line"].as_str().unwrap();
    let call = words::understand(line).unwrap().unwrap();
    (
        call.command,
        page(call.command, &call.json, &fixture["data"]),
    )
}

#[test]
fn each_command_has_its_golden_transcript_in_eighty_columns() {
    let mut all = String::new();
    for fixture in fixtures() {
        all = format!("{all}line-3> {}\n", fixture["line"].as_str().unwrap());
        for line in fold(&transcript(&fixture).1, 79) {
            assert!(line.chars().count() <= 79, "{line}");
            assert!(!line.contains('\u{1b}'), "{line:?}");
            all = format!("{all}{line}\n");
        }
    }
    let golden = include_str!("golden.txt");
    assert!(all == golden, "the transcripts are now:\n{all}");
}

#[test]
fn no_command_is_without_a_transcript() {
    let told: Vec<_> = fixtures().iter().map(|it| transcript(it).0).collect();
    for command in TABLE.iter().filter(|it| it.nature != Nature::Session) {
        assert!(told.contains(&command.name), "{}", command.name);
    }
}

#[test]
fn no_form_of_a_command_is_without_one() {
    let calls: Vec<_> = fixtures()
        .iter()
        .map(|it| {
            words::understand(it["line"].as_str().unwrap())
                .unwrap()
                .unwrap()
        })
        .collect();
    for command in TABLE.iter().filter(|it| it.nature != Nature::Session) {
        for form in command.forms {
            let shown = calls.iter().any(|call| {
                let action = call.json["action"].as_str().unwrap_or_default();
                call.command == command.name && action == form.action
            });
            assert!(shown, "{} {}", command.name, form.action);
        }
    }
}

#[test]
fn a_person_is_told_the_facts_that_a_program_is() {
    for fixture in fixtures() {
        let (command, page) = transcript(&fixture);
        let mut facts = Vec::new();
        collect("", &fixture["data"], &mut facts);
        for fact in facts {
            // A verdict says that it is settled.
            let told = fact == "settled" && command == "requests";
            assert!(
                told || page.contains(&fact),
                "{command}: {fact} is not in\n{page}"
            );
        }
    }
}

/// Every word and number, but for those that are told otherwise.
fn collect(key: &str, value: &Value, facts: &mut Vec<String>) {
    if OTHERWISE.contains(&key) {
        return;
    }
    match value {
        Value::String(text) => facts.extend(text.lines().map(clean)),
        Value::Number(number) => facts.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| collect("", item, facts)),
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(key, value, facts);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let page = refusal("no_answer", "the appliance did not answer");
    assert!(
        page.starts_with("error       the appliance did not answer (no_answer)\ndo "),
        "{page}"
    );
    let page = refusal("no_store", "the store does not answer");
    assert!(page.contains("`check` tell of the disk"), "{page}");
    assert!(!refusal("syntax", "x").contains("do "));
}
