//! Forced tokens are those that the canonical tokens of the whole answer have, whatever follows.

use proptest::prelude::*;

use super::*;

/// Rules in which much is forced, with seams of all kinds.
fn rules() -> Vec<Rule> {
    let grammars = [
        r#"root ::= "{\"severity\":" ("\"info\"" | "\"warning\"" | "\"critical\"") ",\"needs_human\":" ("true" | "false") "}""#,
        r#"root ::= "{\"asset\":\"" [A-Z]{2,4} "-" [0-9]{2} "\",\"value\":" "-"? [0-9]{1,3} ("." [0-9]{1,2})? "}""#,
        r#"root ::= "aa" ("a" | "b" root)"#,
        r#"root ::= "maint" ("enance" | "ain") " quality"*"#,
        r#"root ::= "{\"a\":\"" ("ä" | "å") "\"}" "#,
        r#"root ::= "[" (root ("," root)*)? "]""#,
    ];
    let mut all: Vec<Rule> = grammars.iter().map(|it| grammar(it)).collect();
    all.push(Rule::Choices(
        ["abab", "ababa", "abc", "b"].map(str::to_owned).to_vec(),
    ));
    all.push(Rule::Regex("(abab|aab){2}c?".to_owned()));
    all.push(Rule::Schema(
        r#"{"type":"object","properties":{"action":{"enum":["none","stop_pump","stop_cell"]},
            "needs_human":{"type":"boolean"},"value":{"type":["integer","null"]}},
            "required":["action","needs_human"]}"#
            .to_owned(),
    ));
    all
}

/// Takes an answer token by token, and holds what is forced on the way against what comes.
fn follow(mut constraint: Constraint, answer: &[u32]) -> usize {
    let mut wanted = answer.to_vec();
    wanted.push(END);
    let mut jumped = 0;
    for place in 0..wanted.len() {
        let forced = constraint.forced();
        assert!(
            wanted[place..].starts_with(&forced),
            "forced {:?} behind {:?}, but the answer is {:?}",
            String::from_utf8_lossy(&text_of(&constraint.vocabulary, &forced)),
            String::from_utf8_lossy(&text_of(&constraint.vocabulary, &wanted[..place])),
            String::from_utf8_lossy(&text_of(&constraint.vocabulary, answer)),
        );
        assert_eq!(constraint.allowed_ahead(&forced), forced.len());
        jumped += usize::from(!forced.is_empty());
        constraint.advance(wanted[place]).unwrap();
    }
    assert!(constraint.forced().is_empty());
    jumped
}

#[test]
fn forced_tokens_are_those_of_the_whole_answer() {
    for merges in [0, 20, 80, 200] {
        let vocabulary = Merges::learned(CORPUS, merges).vocabulary();
        let mut compiler = Compiler::new(vocabulary.clone());
        let mut jumped = 0;
        for rule in rules() {
            let constraint = compiler.compile(&rule).unwrap();
            for seed in 0..40 {
                let Some(tokens) = walk(&constraint, seed, 60) else {
                    continue;
                };
                let text = text_of(&vocabulary, &tokens);
                jumped += follow(constraint.clone(), &vocabulary.tokenize(&text).unwrap());
            }
        }
        assert!(jumped > 500, "{jumped} with {merges} merges");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The same for vocabularies that were learned from anything: merges at every seam.
    #[test]
    fn forced_tokens_are_canonical_whatever_the_merges(
        corpus in proptest::collection::vec("[ab]{1,12}", 4..8),
        merges in 1..40_usize,
        fixed in "[ab]{1,8}",
        words in proptest::collection::vec("[ab]{1,4}", 1..4),
        then in "[ab]{0,5}",
    ) {
        let corpus: Vec<&str> = corpus.iter().map(String::as_str).collect();
        let vocabulary = Merges::learned(&corpus, merges).vocabulary();
        let words: Vec<String> = words.iter().map(|it| format!("{it:?}")).collect();
        let text = format!("root ::= {fixed:?} ({}) {then:?}", words.join(" | "));
        let constraint = under(&vocabulary, &grammar(&text));
        for seed in 0..8 {
            if let Some(tokens) = walk(&constraint, seed, 60) {
                let text = text_of(&vocabulary, &tokens);
                follow(constraint.clone(), &vocabulary.tokenize(&text).unwrap());
            }
        }
    }
}

#[test]
fn behind_tokens_that_are_not_canonical_what_is_forced_still_fits() {
    let vocabulary = vocabulary();
    let mut compiler = Compiler::new(vocabulary.clone());
    for rule in rules() {
        let constraint = compiler.compile(&rule).unwrap();
        for seed in 0..40 {
            let Some(tokens) = walk(&constraint, seed, 60) else {
                continue;
            };
            let mut constraint = constraint.clone();
            for token in tokens {
                let forced = constraint.forced();
                assert_eq!(constraint.allowed_ahead(&forced), forced.len());
                constraint.advance(token).unwrap();
            }
        }
    }
}

#[test]
fn a_tokenizer_that_spells_something_else_forces_nothing() {
    let bytes = vec![Vec::new(), b"a".to_vec(), b"b".to_vec(), b" ".to_vec()];
    for wrong in [vec![3, 1, 2], vec![1], vec![1, 0, 2], vec![9]] {
        let tokens = wrong.clone();
        let vocabulary = Vocabulary::new(Pieces {
            bytes: bytes.clone(),
            end: 0,
            tokenize: Box::new(move |_| tokens.clone()),
        });
        let mut constraint = under(&vocabulary.unwrap(), &Rule::Regex("ab".to_owned()));
        assert_eq!(constraint.forced(), [0_u32; 0]);
        assert_eq!(constraint.mask().unwrap().only(), Some(1));
    }
}
