//! The features are those that the weights were fitted for, and the estimates are within bounds.

use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::intake::{
    Ask, Classification, Client, Detail, Digest, Late, Priority, RequestId, ReturnAddress, Stream,
};

fn request(text: &str) -> Request {
    Request {
        id: RequestId::Given("a".into()),
        client: Client::Anonymous,
        ask: Ask::Prompt(text.into()),
        classification: Classification::Public,
        risk: None,
        complexity: None,
        priority: Priority::Normal,
        deadline: Duration::from_secs(1),
        late: Late::No,
        max_tokens: Some(1),
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    }
}

#[test]
fn numbers_units_words_and_marks_are_counted_as_a_reader_would() {
    let look = Look::at("CNC-07: spindle 9.8 mm/s, 45 °C und 3,5% — läuft heiß?\nSTOP");
    assert_eq!((look.numbers, look.units), (4, 3), "{look:?}");
    assert_eq!((look.questions, look.breaks), (1, 1));
    assert_eq!(look.digits, 2 + 2 + 2 + 2);
    // CNC 07 spindle 9.8 mm s 45 C und 3,5 läuft heiß STOP
    assert_eq!(look.words, 13);
    assert_eq!(look.others, 4);
    assert_eq!(look.capitals, 3 + 1 + 4);
}

#[test]
fn a_question_is_known_in_other_scripts() {
    for text in [
        "why?",
        "为什么？",
        "لماذا؟",
        "\u{BF}por qué?",
        "γιατί\u{37E}",
    ] {
        assert!(Look::at(text).questions >= 1, "{text}");
    }
    assert_eq!(Look::at("a; b").questions, 0);
}

#[test]
fn keys_of_a_schema_are_counted_on_all_levels() {
    assert_eq!(keys(r#"{"a":{"b":":"},"c":"\":"}"#), 3);
}

#[derive(Deserialize)]
struct Sample {
    text: String,
    schema: Option<String>,
    features: Vec<f64>,
    counts: Vec<f64>,
}

/// Written by the tool that fits the weights.
const SAMPLES: &str = include_str!("../../../tests/golden/estimate.jsonl");

#[test]
fn the_tool_that_fits_the_weights_measures_the_same() {
    let mut seen = 0;
    for line in SAMPLES.lines() {
        let sample: Sample = serde_json::from_str(line).unwrap();
        let look = Look::at(&sample.text);
        let measured = [
            (
                look.features(sample.schema.as_deref()).to_vec(),
                sample.features,
            ),
            (look.counts().to_vec(), sample.counts),
        ];
        for (ours, theirs) in measured {
            assert_eq!(ours.len(), theirs.len());
            for (index, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                assert!((a - b).abs() < 1e-6, "{:?}: {index}: {a} {b}", sample.text);
            }
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn tokens_are_those_of_text_frame_and_answer() {
    let weights = Estimate {
        tokens: [1.0, 0.0, 0.0, 0.0, 0.0],
        tasks: vec![TaskEstimate {
            name: "triage".into(),
            complexity: 9.0,
            frame_tokens: 10,
            risk: 55,
        }],
        ..Estimate::default()
    };
    let estimator = Estimator {
        weights,
        answers: vec![("triage".into(), 40)],
    };
    let asked = |max_tokens| Request {
        ask: Ask::Task {
            task: "triage".into(),
            input: "abcde".into(),
        },
        max_tokens,
        ..request("")
    };
    let of = |request: &Request| estimator.estimate(request);
    assert_eq!(of(&asked(None)).tokens, 5 + 10 + 40);
    assert_eq!(of(&asked(Some(3))).tokens, 5 + 10 + 3);
    assert_eq!(of(&asked(Some(100))).tokens, 5 + 10 + 40);
    assert_eq!(of(&asked(None)).risk, 55);
    assert!(of(&asked(None)).complexity > 0.9);
    let prompt = of(&request("abcde"));
    assert_eq!(
        (prompt.tokens, prompt.risk),
        (5 + USUAL_FRAME_TOKENS + 1, 0)
    );
}

#[test]
fn without_weights_a_short_message_is_easy_and_a_long_specification_is_not() {
    let estimator = Estimator::default();
    let easy = estimator.estimate(&request("CNC-07 spindle vibration 9.8 mm/s rising"));
    assert!(easy.complexity < 0.5, "{easy:?}");
    let long = "Torque 12.5 Nm at 1450 rpm, step 3 of 7, tolerance 0.02 mm\n".repeat(40);
    let hard = estimator.estimate(&request(&long));
    assert!(hard.complexity > 0.72, "{hard:?}");
}

proptest! {
    #[test]
    fn every_text_has_estimates_within_their_bounds(text in "\\PC{0,300}", weight in -100.0..100.0) {
        let weights = Estimate { complexity: [weight; FEATURES.len()], ..Estimate::default() };
        let estimator = Estimator { weights, ..Estimator::default() };
        let estimated = estimator.estimate(&request(&text));
        prop_assert!((0.0..=1.0).contains(&estimated.complexity));
        prop_assert!(estimated.risk <= 100);
        prop_assert!(estimated.tokens > 0);
    }
}
