use super::*;
use std::fs;
use std::path::Path;

fn package() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/factory-triage")
}

#[test]
fn every_expected_answer_of_the_bundled_package_is_accepted_by_its_grammar() {
    let vocabulary = vocabulary();
    let mut compiler = Compiler::new(vocabulary.clone());
    let mut answers = 0;
    for name in ["triage", "extract"] {
        let text = fs::read_to_string(package().join(format!("grammars/{name}.gbnf"))).unwrap();
        let rule = grammar(&text);
        for line in fs::read_to_string(package().join("gate.jsonl"))
            .unwrap()
            .lines()
        {
            let item: serde_json::Value = serde_json::from_str(line).unwrap();
            if item["task"] != name {
                continue;
            }
            answers += 1;
            let expected = item["expect"].as_str().unwrap();
            let constraint = compiler.compile(&rule).unwrap();
            assert!(accepts(&constraint, expected), "{expected}");
            assert!(takes(
                &constraint,
                &vocabulary.tokenize(expected.as_bytes()).unwrap()
            ));
            assert!(!accepts(&constraint, &expected[1..]));
            assert!(!accepts(&constraint, &expected[..expected.len() - 1]));
            assert!(!accepts(&constraint, &format!("{expected} ")));
        }
    }
    assert!(answers >= 100, "{answers}");
}

#[test]
fn an_answer_jumps_over_what_the_grammar_forces_and_asks_where_it_does_not() {
    let vocabulary = vocabulary();
    let text = fs::read_to_string(package().join("grammars/triage.gbnf")).unwrap();
    let mut constraint = under(&vocabulary, &grammar(&text));
    let wanted = r#"{"severity":"info","category":"normal","action":"none","needs_human":true}"#;
    let wanted = vocabulary.tokenize(wanted.as_bytes()).unwrap();
    let (mut taken, mut asked) = (Vec::new(), 0);
    loop {
        let forced = constraint.forced();
        if forced.is_empty() {
            asked += 1;
            let next = wanted[taken.len()];
            assert!(constraint.mask().unwrap().allows(next));
            constraint.advance(next).unwrap();
            taken.push(next);
        }
        for token in forced {
            assert!(constraint.mask().unwrap().allows(token));
            constraint.advance(token).unwrap();
            taken.push(token);
        }
        if taken.last() == Some(&END) {
            break;
        }
    }
    assert_eq!(taken[..taken.len() - 1], wanted);
    assert!(asked <= 8, "{asked} of {}", taken.len());
    assert!(constraint.is_over());
}

#[test]
fn choices_are_byte_exact_whatever_stands_in_them() {
    let odd = ["a.b", "a\"b\\n", "[x]*", "ä€𝄞", "a", "{}|", "%(1)"];
    let rule = Rule::Choices(odd.iter().map(|&it| it.to_owned()).collect());
    let constraint = under(&vocabulary(), &rule);
    for choice in odd {
        assert!(accepts(&constraint, choice), "{choice}");
    }
    for other in ["axb", "ab", "x", "", "b", "ä€", "{}"] {
        assert!(!accepts(&constraint, other), "{other}");
    }
}

#[test]
fn control_tokens_are_never_allowed_and_the_end_only_where_the_answer_may_end() {
    for rule in [Rule::Text, Rule::Regex("a+".to_owned())] {
        let mut constraint = under(&vocabulary(), &rule);
        let ends_at_once = rule == Rule::Text;
        let mask = constraint.mask().unwrap();
        assert_eq!(mask.allows(END), ends_at_once);
        for control in [0, 1, 3] {
            assert!(!mask.allows(control));
            assert_eq!(
                constraint.advance(control),
                Err(RuleFault::NotAllowed(control))
            );
        }
        constraint.advance(token_of(b'a')).unwrap();
        assert!(constraint.mask().unwrap().allows(END));
        assert!(!constraint.is_over());
        constraint.advance(END).unwrap();
        assert!(constraint.is_over());
        assert_eq!(constraint.mask().unwrap().only(), Some(END));
        assert!(constraint.advance(END).is_err());
    }
}

#[test]
fn guesses_are_counted_and_taken_back() {
    let vocabulary = vocabulary();
    let mut constraint = under(&vocabulary, &Rule::Regex("(ab)*c".to_owned()));
    let tokens = |text: &str| -> Vec<u32> { text.bytes().map(token_of).collect() };
    let mut guess = tokens("ababc");
    guess.extend([END, 7]);
    assert_eq!(constraint.allowed_ahead(&guess), 6);
    assert_eq!(constraint.allowed_ahead(&tokens("abb")), 2);
    let before = constraint.mask().unwrap();
    for token in tokens("ab") {
        constraint.advance(token).unwrap();
    }
    constraint.rollback(1).unwrap();
    assert!(accepts(&constraint, "bc"));
    constraint.rollback(1).unwrap();
    assert_eq!(constraint.mask().unwrap(), before);
    assert_eq!(
        constraint.rollback(1),
        Err(RuleFault::Rollback {
            wanted: 1,
            there: 0
        })
    );
}

#[test]
fn a_mask_makes_what_it_does_not_allow_impossible() {
    let mut constraint = under(&vocabulary(), &Rule::Regex("[ab]".to_owned()));
    let mask = constraint.mask().unwrap();
    let mut logits = vec![1.0; 700];
    mask.apply(&mut logits);
    for (token, &logit) in (0..).zip(&logits) {
        assert_eq!(logit > f32::NEG_INFINITY, mask.allows(token));
    }
    assert_eq!(mask.iter().count(), mask.count() as usize);
    assert_eq!(mask.count(), 2);
    assert!(mask.is_free() && mask.only().is_none());
}
