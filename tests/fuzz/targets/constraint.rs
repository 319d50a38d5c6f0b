//! Whatever a rule says, compiling it ends in a fault or in an answer that can be followed: what
//! is forced is allowed, what the mask allows is taken, and an answer to a schema is JSON.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use lineside::engine::constraint::{Compiler, Pieces, Vocabulary};
use lineside::engine::protocol::Rule;

/// Between the kind of the rule, the rule, and which tokens are taken.
const NEXT: &str = "\n----\n";
/// The end token; the others are the bytes, and some pairs.
const END: u32 = 256;
const PAIRS: [&[u8; 2]; 6] = [b"\":", b"{\"", b"\"}", b"ab", b",\"", b"aa"];

fn vocabulary() -> Vocabulary {
    let mut bytes: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    bytes.push(Vec::new());
    bytes.extend(PAIRS.map(|pair| pair.to_vec()));
    Vocabulary::new(Pieces {
        bytes,
        end: END,
        tokenize: Box::new(tokenize),
    })
    .expect("it is a vocabulary")
}

/// Pairs from the left; a byte-pair tokenizer whose pairs do not overlap would do the same.
fn tokenize(mut text: &[u8]) -> Vec<u32> {
    let mut tokens = Vec::new();
    while let [first, rest @ ..] = text {
        let pair = PAIRS.iter().position(|pair| text.starts_with(&pair[..]));
        let (token, rest) = match pair {
            Some(place) => (
                END + 1 + u32::try_from(place).expect("they are few"),
                &rest[1..],
            ),
            None => (u32::from(*first), rest),
        };
        tokens.push(token);
        text = rest;
    }
    tokens
}

thread_local! {
    static COMPILER: RefCell<Compiler> = RefCell::new(Compiler::new(vocabulary()));
}

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, NEXT);
    let mut part = || parts.next().unwrap_or_default();
    let (kind, text, way) = (part(), part().to_owned(), part());
    let rule = match kind {
        "choices" => Rule::Choices(text.split('\n').map(str::to_owned).collect()),
        "schema" => Rule::Schema(text),
        "regex" => Rule::Regex(text),
        _ => Rule::Grammar(text),
    };
    let compiled = COMPILER.with_borrow_mut(|compiler| compiler.compile(&rule));
    let mut constraint = match compiled {
        Ok(constraint) => constraint,
        Err(fault) => return assert!(!fault.to_string().is_empty()),
    };
    let mut answer: Vec<u8> = Vec::new();
    for choice in way.bytes() {
        let forced = constraint.forced();
        assert_eq!(constraint.allowed_ahead(&forced), forced.len());
        let Ok(mask) = constraint.mask() else { return };
        let all: Vec<u32> = mask.iter().collect();
        let token = all[usize::from(choice) % all.len()];
        if constraint.advance(token).is_err() {
            return;
        }
        match token {
            END => {
                assert!(constraint.is_over());
                let text = std::str::from_utf8(&answer).expect("rules are about characters");
                if matches!(rule, Rule::Schema(_)) {
                    let json: Result<serde_json::Value, _> = serde_json::from_str(text);
                    assert!(json.is_ok(), "{text}");
                }
                return;
            }
            byte @ 0..END => answer.extend(u8::try_from(byte)),
            pair => answer.extend(PAIRS[(pair - END - 1) as usize]),
        }
    }
});
